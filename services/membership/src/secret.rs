//! Secrets that must be had back: sealed under the installation's envelope key, and the keys that are derived from them.

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use crate::access_key::AccessKeyId;

const NONCE_BYTES: usize = 12;
const KEY_ID_BYTES: usize = 8;
/// 40 characters of base64, as long as AWS's secrets.
const SESSION_SECRET_BYTES: usize = 30;
/// The version of session tokens.
const VERSION: u8 = 1;
/// What every session token says beside its content.
const SESSION: &[u8] = b"gumshoe session token";

/// A key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 random bytes in base64")]
pub struct NoKey;

/// The cipher failed, which it never does with a sound key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cipher failed")]
pub struct CipherFailed;

/// A secret that does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Locked {
    /// The key that it is sealed under is not configured.
    #[error("the key that the secret is sealed under is not configured")]
    UnknownKey,
    /// It was changed, or belongs to another access key.
    #[error("the sealed secret is damaged")]
    Damaged,
}

/// A secret as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Names the key that it is sealed under, 16 hexadecimal digits.
    pub key_id: String,
    /// Nonce, ciphertext and tag, base64.
    pub ciphertext: String,
}

/// The envelope keys: the present one seals, the previous ones still open.
pub struct Keyring {
    current: Key,
    previous: Vec<Key>,
}

impl Keyring {
    /// A ring of keys, each 32 bytes in base64.
    ///
    /// # Errors
    /// [`NoKey`] when one of them is anything else.
    pub fn new(current: &SecretString, previous: &[SecretString]) -> Result<Self, NoKey> {
        Ok(Self { current: Key::new(current)?, previous: previous.iter().map(Key::new).collect::<Result<_, _>>()? })
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn key_id(&self) -> String {
        hex::encode(self.current.id)
    }

    /// Seals the secret of an access key.
    ///
    /// # Errors
    /// [`CipherFailed`].
    pub fn seal(&self, id: &AccessKeyId, secret: &SecretString) -> Result<Sealed, CipherFailed> {
        let bytes = seal(&self.current.secrets, secret.expose_secret().as_bytes(), id.as_str().as_bytes())?;
        Ok(Sealed { key_id: self.key_id(), ciphertext: STANDARD.encode(bytes) })
    }

    /// Opens the secret of an access key.
    ///
    /// # Errors
    /// [`Locked`].
    pub fn unseal(&self, id: &AccessKeyId, sealed: &Sealed) -> Result<SecretString, Locked> {
        let key = self.keys().find(|key| hex::encode(key.id) == sealed.key_id).ok_or(Locked::UnknownKey)?;
        let bytes = STANDARD.decode(&sealed.ciphertext).map_err(|_| Locked::Damaged)?;
        let secret = open(&key.secrets, &bytes, id.as_str().as_bytes()).ok_or(Locked::Damaged)?;
        String::from_utf8(secret).map(SecretString::from).map_err(|_| Locked::Damaged)
    }

    /// A token that holds `content`, and the secret that goes with it.
    ///
    /// # Errors
    /// [`CipherFailed`].
    pub fn seal_session(&self, content: &[u8]) -> Result<(SecretString, SecretString), CipherFailed> {
        let mut token = vec![VERSION];
        token.extend_from_slice(&self.current.id);
        token.extend_from_slice(&seal(&self.current.tokens, content, SESSION)?);
        Ok((SecretString::from(URL_SAFE_NO_PAD.encode(token)), self.current.session_secret(content)))
    }

    /// What a token holds, and the secret that goes with it; `None` if it is not one of ours.
    #[must_use]
    pub fn open_session(&self, token: &str) -> Option<(Vec<u8>, SecretString)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>()?;
        let key = self.keys().find(|key| key.id == *id).filter(|_| *version == VERSION)?;
        let content = open(&key.tokens, rest, SESSION)?;
        let secret = key.session_secret(&content);
        Some((content, secret))
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.current).chain(&self.previous)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Keyring").field("key_id", &self.key_id()).finish_non_exhaustive()
    }
}

/// One envelope key; each use has a key of its own that is derived from it.
struct Key {
    id: [u8; KEY_ID_BYTES],
    secrets: Aes256Gcm,
    tokens: Aes256Gcm,
    session_secrets: [u8; 32],
}

impl Key {
    fn new(text: &SecretString) -> Result<Self, NoKey> {
        let master: [u8; 32] = STANDARD.decode(text.expose_secret().trim()).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NoKey)?;
        let [.., a, b, c, d, e, f, g, h] = mac(&master, b"gumshoe key id");
        let cipher = |use_: &[u8]| Aes256Gcm::new(&mac(&master, use_).into());
        Ok(Self {
            id: [a, b, c, d, e, f, g, h],
            secrets: cipher(b"gumshoe access key secrets"),
            tokens: cipher(b"gumshoe session tokens"),
            session_secrets: mac(&master, b"gumshoe session secrets"),
        })
    }

    fn session_secret(&self, content: &[u8]) -> SecretString {
        let bytes = mac(&self.session_secrets, content);
        SecretString::from(STANDARD.encode(bytes.get(..SESSION_SECRET_BYTES).unwrap_or(&bytes)))
    }
}

fn seal(cipher: &Aes256Gcm, content: &[u8], context: &[u8]) -> Result<Vec<u8>, CipherFailed> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let sealed = cipher.encrypt(&nonce.into(), Payload { msg: content, aad: context }).map_err(|_| CipherFailed)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn open(cipher: &Aes256Gcm, bytes: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = bytes.split_first_chunk::<NONCE_BYTES>()?;
    cipher.decrypt(&(*nonce).into(), Payload { msg: sealed, aad: context }).ok()
}

/// The key that one day's requests to one service in one region are signed with.
///
/// Source: AWS Signature Version 4, "Create a signing key".
#[must_use]
pub fn signing_key(secret: &SecretString, date: &str, region: &str, service: &str) -> [u8; 32] {
    let start = SecretString::from(format!("AWS4{}", secret.expose_secret()));
    let day = mac(start.expose_secret().as_bytes(), date.as_bytes());
    mac(&mac(&mac(&day, region.as_bytes()), service.as_bytes()), b"aws4_request")
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // A key of exactly one block is the one length that cannot fail; padding and hashing are HMAC's own rules.
    let mut block = [0_u8; 64];
    let hashed: [u8; 32] = Sha256::digest(key).into();
    let key = if key.len() > block.len() { hashed.as_slice() } else { key };
    block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    Hmac::<Sha256>::new(&block.into()).chain_update(message).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretString {
        SecretString::from(STANDARD.encode([byte; 32]))
    }

    #[test]
    fn the_signing_key_is_that_of_the_documentation() {
        let secret = SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let derived = signing_key(&secret, "20120215", "us-east-1", "iam");
        assert_eq!(hex::encode(derived), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    #[test]
    fn long_keys_are_hashed() {
        // RFC 4231, test case 6.
        let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(hex::encode(mac(&[0xaa; 131], message)), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn secrets_open_under_their_own_id_and_key_only() {
        let (id, other) = (AccessKeyId::random(), AccessKeyId::random());
        let old = Keyring::new(&key(1), &[]).unwrap();
        let sealed = old.seal(&id, &SecretString::from("secret")).unwrap();
        assert!(!sealed.ciphertext.contains("secret"));
        assert_eq!(old.unseal(&id, &sealed).unwrap().expose_secret(), "secret");
        assert_eq!(old.unseal(&other, &sealed).unwrap_err(), Locked::Damaged);
        let new = Keyring::new(&key(2), &[key(1)]).unwrap();
        assert_ne!(new.key_id(), old.key_id());
        assert_eq!(new.unseal(&id, &sealed).unwrap().expose_secret(), "secret", "a previous key still opens");
        assert_eq!(Keyring::new(&key(2), &[]).unwrap().unseal(&id, &sealed).unwrap_err(), Locked::UnknownKey);
        let again = old.seal(&id, &SecretString::from("secret")).unwrap();
        assert_ne!(again.ciphertext, sealed.ciphertext, "a nonce is used once");
    }

    #[test]
    fn session_tokens_cannot_be_made_or_changed_outside() {
        let ring = Keyring::new(&key(1), &[]).unwrap();
        let (token, secret) = ring.seal_session(b"content").unwrap();
        assert_eq!(secret.expose_secret().len(), 40);
        let (content, same) = ring.open_session(token.expose_secret()).unwrap();
        assert_eq!((content.as_slice(), same.expose_secret()), (b"content".as_slice(), secret.expose_secret()));
        assert!(Keyring::new(&key(2), &[]).unwrap().open_session(token.expose_secret()).is_none());
        assert!(Keyring::new(&key(2), &[key(1)]).unwrap().open_session(token.expose_secret()).is_some());
        let bytes = URL_SAFE_NO_PAD.decode(token.expose_secret()).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            if let Some(byte) = changed.get_mut(index) {
                *byte ^= 1;
            }
            assert!(ring.open_session(&URL_SAFE_NO_PAD.encode(&changed)).is_none(), "byte {index}");
            assert!(ring.open_session(&URL_SAFE_NO_PAD.encode(bytes.get(..index).unwrap())).is_none(), "cut at {index}");
        }
    }

    #[test]
    fn keys_have_32_bytes() {
        for bad in ["", "short", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33]), "!"] {
            assert_eq!(Keyring::new(&SecretString::from(bad), &[]).unwrap_err(), NoKey, "{bad}");
        }
        assert!(Keyring::new(&SecretString::from(format!("{}\n", STANDARD.encode([7; 32]))), &[]).is_ok(), "files end with a line feed");
    }
}
