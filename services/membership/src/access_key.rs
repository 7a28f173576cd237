//! Access keys: ids and secrets from the system's random source, kept as a digest and, under an envelope key, encrypted.

use std::{fmt, str::FromStr};

use gumshoe_model::{AccountId, Invalid, Timestamp};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{principal::PrincipalName, secret::Sealed};

/// Access keys that a principal can have, so that one can be changed for another without a gap.
pub const MAX_KEYS: usize = 2;

const PREFIX: &str = "AKIA";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `AKIA` and 16 characters of base32.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// A new random id.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{PREFIX}{}", random_text::<16, 32>(BASE32)))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for AccessKeyId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        match value.strip_prefix(PREFIX) {
            Some(rest) if rest.len() == 16 && rest.bytes().all(|byte| BASE32.contains(&byte)) => Ok(Self(value.to_owned())),
            _ => Err(Invalid::new("access key id", value, "expected `AKIA` and 16 of `A-Z2-7`")),
        }
    }
}

/// The id of a new temporary key: `ASIA` and 16 characters of base32.
pub(crate) fn session_key_id() -> String {
    format!("ASIA{}", random_text::<16, 32>(BASE32))
}

/// One character of base32 for each byte.
pub(crate) fn base32(bytes: impl Iterator<Item = u8>) -> String {
    bytes.filter_map(|byte| BASE32.get(usize::from(byte) % BASE32.len())).map(|byte| char::from(*byte)).collect()
}

/// A new secret: 40 characters of base64, 240 random bits.
#[must_use]
pub fn random_secret() -> SecretString {
    SecretString::from(random_text::<40, 64>(BASE64))
}

/// `LENGTH` characters, each drawn evenly from an alphabet whose size divides 256.
fn random_text<const LENGTH: usize, const SIZE: usize>(alphabet: &[u8; SIZE]) -> String {
    const { assert!(256 % SIZE == 0) };
    rand::random::<[u8; LENGTH]>().iter().filter_map(|byte| alphabet.get(usize::from(*byte) % SIZE)).map(|byte| char::from(*byte)).collect()
}

/// SHA-256 of a secret. A plain hash is enough: with 240 random bits there is nothing to guess.
#[derive(Clone)]
pub struct SecretDigest([u8; 32]);

impl SecretDigest {
    /// The digest of `secret`.
    #[must_use]
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// In hexadecimal digits, for storing.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// As stored; `None` if it is anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        hex::decode(text).ok()?.try_into().ok().map(Self)
    }

    /// Whether `secret` is the one, in a time that does not tell how much of it is right.
    #[must_use]
    pub fn matches(&self, secret: &str) -> bool {
        self.0.ct_eq(&Self::of(secret).0).into()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SecretDigest")
    }
}

/// An access key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id.
    pub id: AccessKeyId,
    /// Whose it is.
    pub principal: PrincipalName,
    /// Whether it can be used.
    pub active: bool,
    /// When it was made.
    pub create_time: Timestamp,
    /// The hour in which it was last used.
    pub last_used_time: Option<Timestamp>,
}

/// What it takes to check a secret.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The account of the key.
    pub account: AccountId,
    /// The key.
    pub key: AccessKey,
    /// Its secret.
    pub secret: StoredSecret,
}

/// A secret as it is stored.
#[derive(Debug, Clone)]
pub struct StoredSecret {
    /// What tells whether a secret is the right one.
    pub digest: SecretDigest,
    /// What it can be had back from; `None` for keys that were made without an envelope key: they cannot sign requests.
    pub sealed: Option<Sealed>,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn keys_have_the_form_of_aws_and_never_repeat() {
        let ids: HashSet<_> = (0..1_000).map(|_| AccessKeyId::random()).collect();
        assert_eq!(ids.len(), 1_000);
        for id in &ids {
            assert_eq!(id.as_str().parse::<AccessKeyId>().as_ref(), Ok(id));
        }
        let secret = random_secret();
        assert_eq!(secret.expose_secret().len(), 40);
        assert_ne!(secret.expose_secret(), random_secret().expose_secret());
        for bad in ["", "AKIA", "AKIAIOSFODNN7EXAMPL1", "ASIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLEX", "akiaIOSFODNN7EXAMPLE"] {
            assert!(bad.parse::<AccessKeyId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_knows_its_secret_only() {
        let digest = SecretDigest::from_hex(&SecretDigest::of("secret").to_hex()).unwrap();
        assert!(digest.matches("secret"));
        assert!(!digest.matches("secret "));
        assert!(!digest.matches(""));
        assert!(SecretDigest::from_hex("00").is_none());
        assert!(SecretDigest::from_hex("zz").is_none());
    }
}
