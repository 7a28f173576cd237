//! Who calls: principals, and the bearer tokens (JWT) that prove them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use gumshoe_iam::{Policy, Principal};
use gumshoe_runtime::{Clock, Failure, status};
use http::{HeaderMap, header::AUTHORIZATION};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{config, keys::KeyStore};

/// How far the clocks of issuer and gateway may differ.
const LEEWAY_SECONDS: u64 = 30;
/// Tokens of OpenID providers with many groups are a few KiB.
const MAX_TOKEN_BYTES: usize = 8 << 10;
/// Verified tokens are remembered this long: how late the removal of a key takes effect.
const REMEMBERED: Duration = Duration::from_secs(30);
const MAX_REMEMBERED: u64 = 10_000;

/// A principal that has proved itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who calls, as services and messages name it: a user, a role, or a session of a role.
    pub principal: Principal,
    /// Whose policies apply: the role of a session, else the principal itself.
    pub policies_of: String,
    /// Its account, 12 digits.
    pub account: String,
    /// Its unique id, `AIDA…` or `AROA…:SESSION`; none if it is not known.
    pub user_id: Option<String>,
    /// When the token or the session was issued, RFC 3339, if that is known.
    pub issue_time: Option<String>,
    /// What narrows the session.
    pub session_policy: Option<Arc<Policy>>,
    /// When the bearer token ends, seconds since the epoch.
    expiry: i64,
}

impl Identity {
    /// A user or role.
    #[must_use]
    pub fn permanent(arn: &str, account: &str) -> Self {
        Self::session(arn, arn, account)
    }

    /// A session of a role.
    #[must_use]
    pub fn session(arn: &str, role: &str, account: &str) -> Self {
        Self {
            principal: Principal::parse(arn),
            policies_of: role.to_owned(),
            account: account.to_owned(),
            user_id: None,
            issue_time: None,
            session_policy: None,
            expiry: i64::MAX,
        }
    }

    /// Whether it is a session of a role.
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.principal.arn() != self.policies_of
    }
}

/// The bearer of an OpenID token, before it assumes a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentity {
    /// The issuer without `https://`, as trust policies name it.
    pub provider: String,
    /// Claim `sub`.
    pub subject: String,
    /// The audience that the token was accepted for.
    pub audience: String,
}

/// Why an OpenID token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenRefused {
    /// It was good once.
    Expired,
    /// Anything else.
    Invalid,
}

/// Verifies bearer tokens.
pub struct Authenticator {
    issuers: HashMap<String, Issuer>,
    remembered: Cache<[u8; 32], Arc<Identity>>,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    keys: Arc<KeyStore>,
    audience: String,
    name: String,
    subject_claim: String,
    account: Option<String>,
}

/// Why a token is refused; the caller learns less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Missing,
    Malformed,
    UnknownIssuer,
    UnknownKey,
    Algorithm,
    Signature,
    Expired,
    NotYet,
    Audience,
    Claims,
    Subject,
}

impl Fault {
    fn failure(self) -> Failure {
        tracing::info!(target: "gumshoe_gateway::audit", reason = ?self, "authentication failed");
        match self {
            Self::Missing => status::unauthenticated("a bearer token is required"),
            Self::Expired => status::unauthenticated("the bearer token has expired"),
            _ => status::unauthenticated("the bearer token is not valid"),
        }
    }
}

impl Authenticator {
    /// Trusts the issuers of the configuration.
    ///
    /// # Errors
    /// When the HTTP client that reads key sets cannot be built.
    pub fn new(issuers: &[config::Issuer], clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let issuers = issuers
            .iter()
            .map(|issuer| {
                let trusted = Issuer {
                    keys: Arc::new(KeyStore::new(&issuer.keys, clock.clone())?),
                    audience: issuer.audience.clone(),
                    name: issuer.issuer.clone(),
                    subject_claim: issuer.subject_claim.clone(),
                    account: issuer.account.clone(),
                };
                Ok((issuer.issuer.clone(), trusted))
            })
            .collect::<Result<_, reqwest::Error>>()?;
        Ok(Self { issuers, remembered: Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(REMEMBERED).build(), clock })
    }

    /// Reads the keys of issuers that have none yet. Ready is whoever can verify one issuer's tokens.
    pub async fn is_ready(&self) -> bool {
        let mut ready = false;
        for issuer in self.issuers.values() {
            if !issuer.keys.is_ready() {
                issuer.keys.refresh().await;
            }
            ready |= issuer.keys.is_ready();
        }
        ready
    }

    /// The principal whose bearer token the headers carry.
    ///
    /// # Errors
    /// UNAUTHENTICATED.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Identity>, Failure> {
        let token = bearer(headers).map_err(Fault::failure)?;
        // The whole token is in the key, so a changed signature is another token.
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(identity) = self.remembered.get(&digest) {
            let now = self.clock.now().0.div_euclid(1_000_000);
            let leeway = i64::try_from(LEEWAY_SECONDS).unwrap_or(0);
            return if identity.expiry.saturating_add(leeway) < now { Err(Fault::Expired.failure()) } else { Ok(identity) };
        }
        let identity = Arc::new(self.verify(token).await.map_err(Fault::failure)?);
        self.remembered.insert(digest, identity.clone());
        Ok(identity)
    }

    /// The bearer of an OpenID token of one of the issuers.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub async fn web_identity(&self, token: &str) -> Result<WebIdentity, TokenRefused> {
        let verified = if token.len() > MAX_TOKEN_BYTES { Err(Fault::Malformed) } else { self.verified(token).await };
        let identity = verified.and_then(|(issuer, claims)| {
            let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty()).ok_or(Fault::Subject)?;
            let provider = issuer.name.strip_prefix("https://").unwrap_or(&issuer.name).to_owned();
            Ok(WebIdentity { provider, subject: subject.to_owned(), audience: issuer.audience.clone() })
        });
        identity.map_err(|fault| {
            tracing::info!(target: "gumshoe_gateway::audit", reason = ?fault, "a web identity was refused");
            if fault == Fault::Expired { TokenRefused::Expired } else { TokenRefused::Invalid }
        })
    }

    async fn verify(&self, token: &str) -> Result<Identity, Fault> {
        let (issuer, claims) = self.verified(token).await?;
        issuer.identity(&claims)
    }

    /// The token's issuer and claims, once all is checked but whom it names.
    async fn verified(&self, token: &str) -> Result<(&Issuer, Map<String, Value>), Fault> {
        #[derive(Deserialize)]
        struct Unverified {
            iss: String,
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| Fault::Malformed)?;
        if header.crit.is_some() {
            return Err(Fault::Malformed);
        }
        // Only chooses the keys; the verified claims are checked against it below.
        let claimed: Unverified = jsonwebtoken::dangerous::insecure_decode_claims(token).map_err(|_| Fault::Malformed)?;
        let issuer = self.issuers.get(&claimed.iss).ok_or(Fault::UnknownIssuer)?;
        let keys = issuer.keys.find(header.kid.as_deref()).await;
        let mut fault = Fault::UnknownKey;
        for key in keys {
            match jsonwebtoken::decode::<Map<String, Value>>(token, &key.decoding, &issuer.validation(key.algorithm)) {
                Ok(verified) => return Ok((issuer, verified.claims)),
                Err(error) => fault = fault_of(error.kind()),
            }
            if !matches!(fault, Fault::Signature | Fault::Algorithm) {
                break;
            }
        }
        Err(fault)
    }
}

impl Issuer {
    fn validation(&self, algorithm: Algorithm) -> Validation {
        // INVARIANT: the algorithm is the key's own, never the token's.
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.name]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, Fault> {
        let subject = claims.get(&self.subject_claim).and_then(Value::as_str).ok_or(Fault::Subject)?;
        let arn = match &self.account {
            Some(account) => format!("arn:aws:iam::{account}:user/{subject}"),
            None => subject.to_owned(),
        };
        let account = principal_account(&arn).ok_or(Fault::Subject)?;
        let seconds = |name: &str| claims.get(name).and_then(|value| value.as_i64().or_else(|| value.as_f64().map(|number| number as i64)));
        Ok(Identity {
            issue_time: seconds("iat").and_then(gumshoe_model::Timestamp::from_seconds).map(|time| time.to_string()),
            expiry: seconds("exp").ok_or(Fault::Claims)?,
            ..Identity::permanent(&arn, account)
        })
    }
}

/// The account of a user's or role's ARN; no other principal can call, least of all the root user, whom no policy binds.
fn principal_account(arn: &str) -> Option<&str> {
    let (account, name) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = name.strip_prefix("user/").or_else(|| name.strip_prefix("role/"))?;
    let valid = account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte));
    valid.then_some(account)
}

fn bearer(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Fault::Missing)?;
    if values.next().is_some() {
        return Err(Fault::Malformed);
    }
    let (scheme, token) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Fault::Malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > MAX_TOKEN_BYTES {
        return Err(Fault::Malformed);
    }
    Ok(token.trim())
}

fn fault_of(kind: &ErrorKind) -> Fault {
    match kind {
        ErrorKind::InvalidSignature => Fault::Signature,
        ErrorKind::InvalidAlgorithm => Fault::Algorithm,
        ErrorKind::ExpiredSignature => Fault::Expired,
        ErrorKind::ImmatureSignature => Fault::NotYet,
        ErrorKind::InvalidAudience => Fault::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::InvalidIssuer => Fault::Claims,
        _ => Fault::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_and_roles_can_call() {
        assert_eq!(principal_account("arn:aws:iam::123456789012:user/a.b@example.com"), Some("123456789012"));
        assert_eq!(principal_account("arn:aws:iam::123456789012:role/Reader"), Some("123456789012"));
        for bad in [
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:user/a/b",
            "arn:aws:iam::123456789012:user/a:b",
            "arn:aws:iam::12345678901x:user/a",
            "arn:aws:sts::123456789012:assumed-role/a/b",
            "*",
            "",
        ] {
            assert_eq!(principal_account(bad), None, "{bad}");
        }
    }

    #[test]
    fn one_bearer_header_is_read() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer a.b.c"])), Ok("a.b.c"));
        assert_eq!(bearer(&headers(&["bearer a.b.c"])), Ok("a.b.c"));
        assert_eq!(bearer(&headers(&[])), Err(Fault::Missing));
        for bad in [&["Basic a"][..], &["Bearer"], &["Bearer a", "Bearer b"], &[&format!("Bearer {}", "a".repeat(10_000))]] {
            assert_eq!(bearer(&headers(bad)), Err(Fault::Malformed));
        }
    }
}
