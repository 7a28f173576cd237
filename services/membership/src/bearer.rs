//! Bearer tokens: EdDSA JWTs that principals get for an access key and show to the gateway.

use std::{fmt, path::Path, time::Duration};

use gumshoe_model::{AccountId, Timestamp};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, ThumbprintHash},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::{config::Bearer, principal::PrincipalArn};

/// The shortest life of a token.
pub const MIN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// The longest life of a token.
pub const MAX_LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// The life of a token when none is asked for.
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(3_600);

/// A signing key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// The file cannot be read.
    #[error("the bearer token key cannot be read")]
    Unreadable(#[source] std::io::Error),
    /// Not an Ed25519 key in PKCS#8 PEM.
    #[error("the bearer token key is not an Ed25519 key in PEM form")]
    Malformed(#[source] jsonwebtoken::errors::Error),
    /// The token could not be signed.
    #[error("cannot sign a bearer token")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    account: &'a str,
    iat: i64,
    exp: i64,
    jti: &'a str,
}

/// Signs bearer tokens with the installation's key.
pub struct BearerSigner {
    key: EncodingKey,
    key_id: String,
    issuer: String,
    audience: String,
}

impl BearerSigner {
    /// The signer of this configuration.
    ///
    /// # Errors
    /// [`BearerError::Unreadable`] and [`BearerError::Malformed`].
    pub fn open(config: &Bearer) -> Result<Self, BearerError> {
        Self::from_pem(&read(&config.private_key)?, &config.issuer, &config.audience)
    }

    /// A signer with a key given as text.
    ///
    /// # Errors
    /// [`BearerError::Malformed`].
    pub fn from_pem(pem: &SecretString, issuer: &str, audience: &str) -> Result<Self, BearerError> {
        let key = EncodingKey::from_ed_pem(pem.expose_secret().as_bytes()).map_err(BearerError::Malformed)?;
        // The thumbprint (RFC 7638) names the key, so that several can be trusted while one is changed for another.
        let key_id = Jwk::from_encoding_key(&key, Algorithm::EdDSA).and_then(|jwk| jwk.thumbprint(ThumbprintHash::SHA256)).map_err(BearerError::Malformed)?;
        Ok(Self { key, key_id, issuer: issuer.to_owned(), audience: audience.to_owned() })
    }

    /// A token for a principal, and when it ends: whole seconds, `lifetime` after `now`.
    ///
    /// # Errors
    /// [`BearerError::Sign`], which a sound key never gives.
    pub fn sign(&self, account: &AccountId, principal: &PrincipalArn, now: Timestamp, lifetime: Duration) -> Result<(String, Timestamp), BearerError> {
        let issued = now.0.div_euclid(1_000_000);
        let expiry = issued.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(0));
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: &principal.to_string(),
            account: account.as_str(),
            iat: issued,
            exp: expiry,
            jti: &uuid::Uuid::now_v7().to_string(),
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::EdDSA) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).map_err(BearerError::Sign)?;
        Ok((token, Timestamp(expiry.saturating_mul(1_000_000))))
    }
}

impl fmt::Debug for BearerSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BearerSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<SecretString, BearerError> {
    std::fs::read_to_string(path).map(SecretString::from).map_err(BearerError::Unreadable)
}
