//! Opaque page tokens: signed, bound to the call they continue, good for 24 hours.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gumshoe_api::common::v1::ErrorReason;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256, Sha512};
use tonic::Code;

use crate::{
    clock::{Clock, SystemClock},
    status::Failure,
};

const VERSION: u8 = 1;
const LIFETIME_SECONDS: i64 = 24 * 3_600;
const MAX_TOKEN_BYTES: usize = 4_096;
const MAC_BYTES: usize = 32;

/// Which call a token belongs to: method, graph and everything else in the request but the page fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope([u8; 32]);

impl Scope {
    /// `method` is the RPC's name, `graph` the graph's ARN or the account, `filter` the bytes that tell two listings apart.
    #[must_use]
    pub fn new(method: &str, graph: &str, filter: impl AsRef<[u8]>) -> Self {
        let mut hash = Sha256::new();
        for part in [method.as_bytes(), graph.as_bytes(), filter.as_ref()] {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

/// Seals cursors into page tokens and opens them again.
///
/// A token is base64url of version, expiry (seconds, big endian), cursor (JSON) and an HMAC-SHA-256 over these and the
/// scope. It is signed, not encrypted: a cursor holds nothing that the page it ends did not show.
#[derive(Clone)]
pub struct PageTokens {
    key: Hmac<Sha256>,
    clock: Arc<dyn Clock>,
}

impl PageTokens {
    /// Tokens under `key`, which all replicas of a service share. Any length; 32 random bytes are best.
    #[must_use]
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        // SHA-512 gives exactly one block of SHA-256, the key length that cannot fail.
        let key: [u8; 64] = Sha512::digest(key.as_ref()).into();
        Self { key: Hmac::new(&key.into()).chain_update(b"gumshoe page token"), clock: Arc::new(SystemClock) }
    }

    /// Tokens under a key of this process alone: they do not outlive it.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self::new(rand::random::<[u8; 32]>())
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The token that continues after `cursor`.
    ///
    /// # Errors
    /// INTERNAL when the cursor cannot be written as JSON.
    pub fn seal<T: Serialize>(&self, cursor: &T, scope: &Scope) -> Result<String, Failure> {
        let expiry = self.now_seconds().saturating_add(LIFETIME_SECONDS);
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&expiry.to_be_bytes());
        serde_json::to_writer(&mut bytes, cursor).map_err(|error| crate::status::internal(&error))?;
        let mac = self.mac(&bytes, scope).finalize().into_bytes();
        bytes.extend_from_slice(&mac);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The cursor inside `token`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT on `page_token` when the token is damaged, has expired or belongs to another call; which of
    /// these is not told.
    pub fn open<T: DeserializeOwned>(&self, token: &str, scope: &Scope) -> Result<T, Failure> {
        self.read(token, scope).ok_or_else(invalid)
    }

    /// As [`Self::open`], with `None` for the empty token of a first page.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn resume<T: DeserializeOwned>(&self, token: &str, scope: &Scope) -> Result<Option<T>, Failure> {
        if token.is_empty() { Ok(None) } else { self.open(token, scope).map(Some) }
    }

    fn read<T: DeserializeOwned>(&self, token: &str, scope: &Scope) -> Option<T> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (signed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        self.mac(signed, scope).verify_slice(mac).ok()?;
        let (version, rest) = signed.split_first()?;
        let (expiry, cursor) = rest.split_first_chunk::<8>()?;
        if *version != VERSION || i64::from_be_bytes(*expiry) < self.now_seconds() {
            return None;
        }
        serde_json::from_slice(cursor).ok()
    }

    fn mac(&self, signed: &[u8], scope: &Scope) -> Hmac<Sha256> {
        self.key.clone().chain_update(scope.0).chain_update(signed)
    }

    fn now_seconds(&self) -> i64 {
        self.clock.now().0.div_euclid(1_000_000)
    }
}

fn invalid() -> Failure {
    let reason = "damaged, expired or from another call; start again without it";
    Failure::new(Code::InvalidArgument, ErrorReason::InvalidPageToken, format!("`page_token`: {reason}")).with_field("page_token", reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gumshoe_model::Timestamp;

    use super::*;
    use crate::clock::FixedClock;

    type Cursor = (i64, String);

    fn fixture() -> (PageTokens, Arc<FixedClock>, Scope) {
        let clock = Arc::new(FixedClock::new(Timestamp::parse("2024-07-30T21:31:10Z").unwrap()));
        (PageTokens::new("key").with_clock(clock.clone()), clock, Scope::new("ListFindings", "arn", "filter"))
    }

    fn assert_refused(tokens: &PageTokens, token: &str, scope: &Scope) {
        let failure = tokens.open::<Cursor>(token, scope).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument);
        assert_eq!(failure.reason, ErrorReason::InvalidPageToken);
        assert_eq!(failure.field_violations[0].0, "page_token");
    }

    #[test]
    fn token_opens_in_its_own_scope_only() {
        let (tokens, _, scope) = fixture();
        let cursor: Cursor = (7, "i-1".to_owned());
        let token = tokens.seal(&cursor, &scope).unwrap();
        assert_eq!(tokens.open::<Cursor>(&token, &scope).unwrap(), cursor);
        assert_eq!(tokens.resume::<Cursor>(&token, &scope).unwrap(), Some(cursor));
        assert_eq!(tokens.resume::<Cursor>("", &scope).unwrap(), None);
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
        for other in [
            Scope::new("ListEntities", "arn", "filter"),
            Scope::new("ListFindings", "arn2", "filter"),
            Scope::new("ListFindings", "arn", "filter2"),
            Scope::new("ListFindings", "arnf", "ilter"),
        ] {
            assert_refused(&tokens, &token, &other);
        }
        assert_refused(&PageTokens::new("other key"), &token, &scope);
    }

    #[test]
    fn refuses_every_changed_byte_and_every_cut() {
        let (tokens, _, scope) = fixture();
        let token = tokens.seal(&(7, "i-1".to_owned()), &scope).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert_refused(&tokens, &URL_SAFE_NO_PAD.encode(&changed), &scope);
            assert_refused(&tokens, &URL_SAFE_NO_PAD.encode(&bytes[..index]), &scope);
        }
        for bad in ["", "x", "!!!!", &"A".repeat(100_000)] {
            assert_refused(&tokens, bad, &scope);
        }
    }

    #[test]
    fn refuses_expired_token() {
        let (tokens, clock, scope) = fixture();
        let token = tokens.seal(&(7, String::new()), &scope).unwrap();
        clock.advance(Duration::from_secs(24 * 3_600));
        assert!(tokens.open::<Cursor>(&token, &scope).is_ok());
        clock.advance(Duration::from_secs(1));
        assert_refused(&tokens, &token, &scope);
    }
}
