//! The internal principal token: a short-lived Ed25519 JWT that says for whom one service calls another.

use std::{collections::HashMap, fmt, io, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ed25519_dalek::{
    SigningKey, VerifyingKey,
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _},
};
use gumshoe_model::GraphArn;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use tonic::{Request, Status};

use crate::{
    clock::{Clock, SystemClock},
    status,
};

/// The metadata key under which the token travels.
pub const HEADER: &str = "gumshoe-principal-token";

/// The metadata key of the outside request that a call belongs to, as one service tells another.
pub const REQUEST_ID: &str = "x-request-id";

/// How long a token lives.
pub const LIFETIME_SECONDS: i64 = 60;

/// How long a token is given out again to the same caller for the same audience: signing costs more than most calls.
const REUSED_SECONDS: i64 = 10;

/// How much of tokens that were verified is remembered, in bytes.
const REMEMBERED_BYTES: u64 = 8 << 20;

/// Callers whose token is remembered by who signs.
const REMEMBERED_CALLERS: u64 = 10_000;

/// The longest id of a request that is taken over.
const MAX_REQUEST_ID: usize = 128;

/// How far the clocks of two machines may differ.
const LEEWAY_SECONDS: i64 = 5;

/// A token can carry an ARN of 2,048 characters thrice; anything longer is not ours.
const MAX_TOKEN_BYTES: usize = 16_384;

/// What precedes the 32 bytes of a key in DER: RFC 8410, sections 4 and 7.
const PUBLIC_KEY_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE_KEY_PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A token that cannot be used; the text is safe to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The call carries no token, or more than one.
    #[error("the principal token is missing")]
    Missing,
    /// Not a token, or signed by nobody we trust, or for another service.
    #[error("the principal token is not valid")]
    Invalid,
    /// It was valid once.
    #[error("the principal token has expired")]
    Expired,
}

/// A signing or trusted key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not an Ed25519 key in PEM (PKCS#8 private, SPKI public).
    #[error("the key of issuer `{0}` is not an Ed25519 key in PEM form")]
    Malformed(String),
    /// The folder or file of keys cannot be read.
    #[error("keys in `{path}` cannot be read")]
    Unreadable {
        /// The folder or file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The folder of trusted keys holds none.
    #[error("no `ISSUER.pem` in `{0}`")]
    NoKeys(String),
    /// The token could not be signed.
    #[error("cannot sign a principal token")]
    Sign(#[source] jsonwebtoken::errors::Error),
    /// The token cannot be a header.
    #[error("a principal token cannot be a header")]
    Header,
}

/// Who calls, as vouched for by the service that passes the call on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The service that signed the token: `gateway`, `ingest`. Set by the verifier; ignored when signing.
    pub issuer: String,
    /// The principal's ARN, or `service:NAME` when a service acts for itself.
    pub principal: String,
    /// The principal's account, 12 digits; empty for a service.
    pub account: String,
    /// The IAM action that was allowed, such as `detective:SearchGraph`.
    pub action: String,
    /// The graph that was allowed, if the action has one.
    pub graph: Option<GraphArn>,
    /// The outside request that this call belongs to: told beside the token, since it decides nothing.
    pub request_id: String,
}

impl Caller {
    /// A principal allowed to do `action`, with a fresh request id.
    #[must_use]
    pub fn new(principal: impl Into<String>, account: impl Into<String>, action: impl Into<String>) -> Self {
        Self { issuer: String::new(), principal: principal.into(), account: account.into(), action: action.into(), graph: None, request_id: new_request_id() }
    }

    /// A service that acts for itself.
    #[must_use]
    pub fn service(name: &str, action: impl Into<String>) -> Self {
        Self::new(format!("service:{name}"), "", action)
    }

    /// The same caller, held to one graph.
    #[must_use]
    pub fn with_graph(mut self, graph: GraphArn) -> Self {
        self.graph = Some(graph);
        self
    }

    /// The same caller under a given request id.
    #[must_use]
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = request_id.into();
        self
    }

    /// The caller that the server verified for `request`.
    ///
    /// # Errors
    /// UNAUTHENTICATED when the request did not come through the server's layer.
    pub fn of<T>(request: &Request<T>) -> Result<&Self, Status> {
        request.extensions().get::<Self>().ok_or_else(|| status::unauthenticated(TokenError::Missing.to_string()).into())
    }

    /// The graph of the call: the body must name the one that the token was issued for.
    ///
    /// # Errors
    /// PERMISSION_DENIED for every other value, well formed or not, so that an answer tells nothing about other graphs.
    pub fn require_graph(&self, arn_in_body: &str) -> Result<GraphArn, Status> {
        match &self.graph {
            Some(graph) if graph.to_string() == arn_in_body => Ok(graph.clone()),
            _ => Err(status::permission_denied("the caller is not allowed to use this graph").into()),
        }
    }

    /// Refuses calls passed on by any service but these.
    ///
    /// # Errors
    /// PERMISSION_DENIED.
    pub fn require_issuer(&self, issuers: &[&str]) -> Result<(), Status> {
        if issuers.contains(&self.issuer.as_str()) {
            Ok(())
        } else {
            Err(status::permission_denied("the calling service is not allowed to make this call").into())
        }
    }
}

/// A UUID of version 7.
#[must_use]
pub fn new_request_id() -> String {
    let milliseconds = u64::try_from(SystemClock.now().0 / 1_000).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid().to_string()
}

/// The request that headers name, or a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    sent.filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len())).map_or_else(new_request_id, str::to_owned)
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    iat: i64,
    exp: i64,
    account: String,
    action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    graph: Option<String>,
}

/// Signs tokens as one issuer.
#[derive(Clone)]
pub struct TokenSigner {
    issuer: String,
    key: SigningKey,
    encoding: EncodingKey,
    clock: Arc<dyn Clock>,
    /// Tokens by audience and caller, with the second that each was signed in.
    signed: Cache<String, (HeaderValue, i64)>,
}

impl TokenSigner {
    /// A signer with a new key, and the public key (SPKI, PEM) to give to those who should trust it.
    #[must_use]
    pub fn generate(issuer: &str) -> (Self, String) {
        let signer = Self::from_key(issuer, SigningKey::generate(&mut rand::rng()));
        let public = signer.public_pem();
        (signer, public)
    }

    /// A signer with a stored key (PKCS#8, PEM).
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when it is anything else.
    pub fn from_pem(issuer: &str, pem: &SecretString) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(pem.expose_secret()).map_err(|_| KeyError::Malformed(issuer.to_owned()))?;
        Ok(Self::from_key(issuer, key))
    }

    /// A signer with the key in a file.
    ///
    /// # Errors
    /// [`KeyError`] when the file cannot be read or holds no such key.
    pub fn from_file(issuer: &str, path: &Path) -> Result<Self, KeyError> {
        let pem = std::fs::read_to_string(path).map_err(|source| KeyError::Unreadable { path: path.display().to_string(), source })?;
        Self::from_pem(issuer, &SecretString::from(pem))
    }

    fn from_key(issuer: &str, key: SigningKey) -> Self {
        Self { issuer: issuer.to_owned(), encoding: EncodingKey::from_ed_der(&private_der(&key)), key, clock: Arc::new(SystemClock), signed: signed() }
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.signed = signed();
        self
    }

    /// The name that this signer signs as.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token for the service `audience`, as a header that is not shown in logs. The same caller gets the same one again for ten
    /// seconds.
    ///
    /// # Errors
    /// [`KeyError::Sign`], which a sound key never gives.
    pub fn header(&self, audience: &str, caller: &Caller) -> Result<HeaderValue, KeyError> {
        let now = seconds(&*self.clock);
        let graph = caller.graph.as_ref().map(ToString::to_string).unwrap_or_default();
        let parts = [audience, &caller.principal, &caller.account, &caller.action, &graph];
        // INVARIANT: two callers never have one name.
        let name = if parts.iter().any(|part| part.contains('\n')) { None } else { Some(parts.join("\n")) };
        if let Some((token, at)) = name.as_ref().and_then(|name| self.signed.get(name))
            && (0..REUSED_SECONDS).contains(&(now - at))
        {
            return Ok(token);
        }
        let mut token = HeaderValue::try_from(self.sign(audience, caller)?).map_err(|_| KeyError::Header)?;
        token.set_sensitive(true);
        if let Some(name) = name {
            self.signed.insert(name, (token.clone(), now));
        }
        Ok(token)
    }

    /// A token for the service `audience`, good for [`LIFETIME_SECONDS`].
    ///
    /// # Errors
    /// [`KeyError::Sign`], which a sound key never gives.
    pub fn sign(&self, audience: &str, caller: &Caller) -> Result<String, KeyError> {
        let now = seconds(&*self.clock);
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: audience.to_owned(),
            sub: caller.principal.clone(),
            iat: now,
            exp: now + LIFETIME_SECONDS,
            account: caller.account.clone(),
            action: caller.action.clone(),
            graph: caller.graph.as_ref().map(ToString::to_string),
        };
        let header = Header { kid: Some(self.issuer.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(KeyError::Sign)
    }

    /// The public key, SPKI in PEM.
    #[must_use]
    pub fn public_pem(&self) -> String {
        let mut der = PUBLIC_KEY_PREFIX.to_vec();
        der.extend_from_slice(self.key.verifying_key().as_bytes());
        pem("PUBLIC KEY", &der)
    }

    /// The private key, PKCS#8 in PEM, for storing.
    #[must_use]
    pub fn private_pem(&self) -> SecretString {
        SecretString::from(pem("PRIVATE KEY", &private_der(&self.key)))
    }
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TokenSigner").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Checks tokens addressed to one service against the keys of the issuers it trusts.
#[derive(Clone)]
pub struct TokenVerifier {
    audience: String,
    keys: HashMap<String, Vec<DecodingKey>>,
    clock: Arc<dyn Clock>,
    /// What tokens were found to say, by the whole of their text.
    verified: Cache<String, Arc<Verified>>,
}

/// What a token says whose signature is good.
#[derive(Debug)]
struct Verified {
    caller: Caller,
    issued: i64,
    expires: i64,
}

impl TokenVerifier {
    /// Trusts `keys`: pairs of issuer and PEM text with one or more public keys, so that a key can be changed for
    /// another without a gap.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] when a text holds no key or one that is not Ed25519.
    pub fn new(audience: &str, keys: impl IntoIterator<Item = (String, String)>) -> Result<Self, KeyError> {
        let mut trusted: HashMap<String, Vec<DecodingKey>> = HashMap::new();
        for (issuer, pem) in keys {
            let parsed = public_keys(&pem).ok_or_else(|| KeyError::Malformed(issuer.clone()))?;
            trusted.entry(issuer).or_default().extend(parsed);
        }
        Ok(Self { audience: audience.to_owned(), keys: trusted, clock: Arc::new(SystemClock), verified: verified() })
    }

    /// Trusts every `ISSUER.pem` in a folder.
    ///
    /// # Errors
    /// [`KeyError`] when the folder cannot be read, holds no such file, or one of them is not a key.
    pub fn from_directory(audience: &str, directory: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Unreadable { path: directory.display().to_string(), source };
        let mut keys = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            if path.extension().is_some_and(|extension| extension == "pem")
                && let Some(issuer) = path.file_stem().and_then(|stem| stem.to_str())
            {
                keys.push((issuer.to_owned(), std::fs::read_to_string(&path).map_err(unreadable)?));
            }
        }
        if keys.is_empty() {
            return Err(KeyError::NoKeys(directory.display().to_string()));
        }
        Self::new(audience, keys)
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self.verified = verified();
        self
    }

    /// The caller that `token` vouches for, without a request.
    ///
    /// # Errors
    /// [`TokenError`] when it is not an EdDSA token by a trusted issuer for this audience, or is past its time.
    pub fn verify(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Invalid);
        }
        let verified = match self.verified.get(token) {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.read(token)?);
                self.verified.insert(token.to_owned(), Arc::clone(&verified));
                verified
            }
        };
        let now = seconds(&*self.clock);
        if verified.issued > now.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Invalid);
        }
        if verified.expires.saturating_add(LEEWAY_SECONDS) < now {
            return Err(TokenError::Expired);
        }
        Ok(verified.caller.clone())
    }

    /// What a token says, once all is checked but the time.
    fn read(&self, token: &str) -> Result<Verified, TokenError> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        let issuer = header.kid.ok_or(TokenError::Invalid)?;
        let keys = self.keys.get(&issuer).ok_or(TokenError::Invalid)?;

        // INVARIANT: the algorithm is ours, never the header's: `none` and HMAC under a public key stay outside.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are checked at every call, against our clock.
        validation.validate_exp = false;

        let claims = keys.iter().find_map(|key| jsonwebtoken::decode::<Claims>(token, key, &validation).ok()).ok_or(TokenError::Invalid)?.claims;
        let lifetime = claims.exp.checked_sub(claims.iat).ok_or(TokenError::Invalid)?;
        if !(0..=LIFETIME_SECONDS).contains(&lifetime) {
            return Err(TokenError::Invalid);
        }
        let graph = claims.graph.map(|arn| arn.parse()).transpose().map_err(|_| TokenError::Invalid)?;
        let caller = Caller { issuer, principal: claims.sub, account: claims.account, action: claims.action, graph, request_id: String::new() };
        Ok(Verified { caller, issued: claims.iat, expires: claims.exp })
    }
}

impl fmt::Debug for TokenVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.keys.keys().collect();
        formatter.debug_struct("TokenVerifier").field("audience", &self.audience).field("issuers", &issuers).finish_non_exhaustive()
    }
}

fn signed() -> Cache<String, (HeaderValue, i64)> {
    Cache::builder().max_capacity(REMEMBERED_CALLERS).time_to_live(lifetime()).build()
}

fn verified() -> Cache<String, Arc<Verified>> {
    let weigh = |token: &String, _: &Arc<Verified>| u32::try_from(token.len() * 2 + 256).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(REMEMBERED_BYTES).weigher(weigh).time_to_live(lifetime()).build()
}

const fn lifetime() -> Duration {
    Duration::from_secs(LIFETIME_SECONDS.unsigned_abs())
}

fn public_keys(pem: &str) -> Option<Vec<DecodingKey>> {
    const END: &str = "-----END PUBLIC KEY-----";
    let keys: Vec<_> = pem
        .split_inclusive(END)
        .filter(|block| block.contains(END))
        .map(|block| {
            let key = VerifyingKey::from_public_key_pem(block.trim_start()).ok().filter(|key| !key.is_weak())?;
            Some(DecodingKey::from_ed_der(key.as_bytes()))
        })
        .collect::<Option<_>>()?;
    Some(keys).filter(|keys| !keys.is_empty())
}

fn private_der(key: &SigningKey) -> Vec<u8> {
    let mut der = PRIVATE_KEY_PREFIX.to_vec();
    der.extend_from_slice(key.as_bytes());
    der
}

/// An Ed25519 key in base64 fits one line of PEM, at most 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn seconds(clock: &dyn Clock) -> i64 {
    clock.now().0.div_euclid(1_000_000)
}

#[cfg(test)]
#[path = "token/tests.rs"]
mod tests;
