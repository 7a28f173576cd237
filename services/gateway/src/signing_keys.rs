//! Keys that signatures are verified with: asked of membership, kept for a short while, with whose they are.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use gumshoe_api::{
    convert::time_from_proto,
    membership::v1::{GetSigningKeyRequest, GetSigningKeyResponse},
};
use gumshoe_iam::Policy;
use gumshoe_model::Timestamp;
use gumshoe_runtime::Clock;
use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tonic::{Code, Status};

use crate::{identity::Identity, policies::MembershipSource, sigv4::Signed};

/// How late the removal of a key takes effect.
const KNOWN: Duration = Duration::from_secs(30);
/// How long a key that was just made may still be unknown to whoever tried it before.
const UNKNOWN: Duration = Duration::from_secs(5);
const MAX_KEYS: u64 = 10_000;

/// The key of one scope, and whose it is.
pub struct SigningKey {
    /// HMAC-SHA256 key.
    pub key: [u8; 32],
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// When the session ends.
    expire_time: Option<Timestamp>,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoKey {
    /// No such key, or not with this session token; which of these is not told.
    Unknown,
    /// The session has ended.
    Expired,
    /// Membership does not answer.
    Unavailable,
}

/// Where keys come from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The key of a scope.
    async fn fetch(&self, request: GetSigningKeyRequest) -> Result<GetSigningKeyResponse, Status>;
}

#[async_trait]
impl Source for MembershipSource {
    async fn fetch(&self, request: GetSigningKeyRequest) -> Result<GetSigningKeyResponse, Status> {
        Ok(self.client("gumshoe:GetSigningKey").get_signing_key(request).await?.into_inner())
    }
}

/// Keys by all that they depend on.
pub struct SigningKeys {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    known: Cache<[u8; 32], Arc<SigningKey>>,
    refused: Cache<[u8; 32], NoKey>,
}

impl SigningKeys {
    /// None yet.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, clock: Arc<dyn Clock>) -> Self {
        let known = Cache::builder().max_capacity(MAX_KEYS).time_to_live(KNOWN).build();
        let refused = Cache::builder().max_capacity(MAX_KEYS).time_to_live(UNKNOWN).build();
        Self { source, clock, known, refused }
    }

    /// The key that a request must have been signed with, if it is kept.
    pub async fn known(&self, signed: &Signed<'_>) -> Option<Arc<SigningKey>> {
        self.known.get(&digest(&request(signed))).await.filter(|key| key.expire_time.is_none_or(|end| end > self.clock.now()))
    }

    /// The key that a request must have been signed with, asked for if it is not kept.
    ///
    /// # Errors
    /// [`NoKey`].
    pub async fn get(&self, signed: &Signed<'_>) -> Result<Arc<SigningKey>, NoKey> {
        self.find(request(signed)).await
    }

    async fn find(&self, request: GetSigningKeyRequest) -> Result<Arc<SigningKey>, NoKey> {
        let id = digest(&request);
        if let Some(refused) = self.refused.get(&id).await {
            return Err(refused);
        }
        let found = self.known.try_get_with(id, self.fetch(request)).await.map_err(|refused| (*refused).clone());
        match found {
            Ok(key) if key.expire_time.is_some_and(|end| end <= self.clock.now()) => Err(NoKey::Expired),
            Ok(key) => Ok(key),
            Err(NoKey::Unavailable) => Err(NoKey::Unavailable),
            Err(refused) => {
                self.refused.insert(id, refused.clone()).await;
                Err(refused)
            }
        }
    }

    async fn fetch(&self, request: GetSigningKeyRequest) -> Result<Arc<SigningKey>, NoKey> {
        match self.source.fetch(request).await {
            Ok(response) => signing_key(response).map(Arc::new),
            // Membership has one reason for all of these; that a session has ended is in its words.
            Err(status) if status.code() == Code::Unauthenticated && status.message().starts_with("expired") => Err(NoKey::Expired),
            Err(status) if matches!(status.code(), Code::Unauthenticated | Code::InvalidArgument | Code::NotFound) => {
                tracing::info!(target: "gumshoe_gateway::audit", reason = status.message(), "a signature's key was refused");
                Err(NoKey::Unknown)
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "a signing key cannot be fetched");
                Err(NoKey::Unavailable)
            }
        }
    }
}

fn request(signed: &Signed<'_>) -> GetSigningKeyRequest {
    GetSigningKeyRequest {
        access_key_id: signed.access_key_id.to_owned(),
        date: signed.date.to_owned(),
        region: signed.region.to_owned(),
        service: signed.service.to_owned(),
        session_token: signed.session_token.to_owned(),
    }
}

fn digest(request: &GetSigningKeyRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [&request.access_key_id, &request.date, &request.region, &request.service, &request.session_token] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn signing_key(response: GetSigningKeyResponse) -> Result<SigningKey, NoKey> {
    let unreadable = |what: &str| {
        tracing::error!(principal = response.principal_arn, what, "membership's signing key cannot be used");
        NoKey::Unavailable
    };
    let key = response.signing_key.as_slice().try_into().map_err(|_| unreadable("key"))?;
    let time = |time: &Option<_>| time.as_ref().map(|time| time_from_proto("time", time)).transpose().map_err(|_| unreadable("time"));
    let (issue_time, expire_time) = (time(&response.issue_time)?, time(&response.expire_time)?);
    let (arn, account) = (response.principal_arn.as_str(), response.account_id.as_str());
    let mut identity = if response.session_arn.is_empty() { Identity::permanent(arn, account) } else { Identity::session(&response.session_arn, arn, account) };
    identity.user_id = Some(if response.user_id.is_empty() { user_id(arn) } else { response.user_id });
    identity.issue_time = issue_time.map(|time| time.to_string());
    if !response.session_policy.is_empty() {
        // INVARIANT: a policy that cannot be read must not be forgotten, so then there is no session.
        let policy = Policy::parse(&response.session_policy).map_err(|_| unreadable("session policy"))?;
        identity.session_policy = Some(Arc::new(policy.named("session")));
    }
    Ok(SigningKey { key, identity: Arc::new(identity), expire_time })
}

/// `AIDA…` of a user: the same for the same ARN.
fn user_id(arn: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = Sha256::digest(arn);
    let letters: String = digest.iter().take(16).filter_map(|byte| ALPHABET.get(usize::from(byte & 31))).map(|letter| char::from(*letter)).collect();
    format!("AIDA{letters}")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use gumshoe_api::convert::time_to_proto;
    use gumshoe_runtime::FixedClock;

    use super::*;

    struct Told {
        asked: AtomicUsize,
        answer: Mutex<Result<GetSigningKeyResponse, Status>>,
    }

    #[async_trait]
    impl Source for Told {
        async fn fetch(&self, _: GetSigningKeyRequest) -> Result<GetSigningKeyResponse, Status> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            self.answer.lock().unwrap().clone()
        }
    }

    fn keys(answer: Result<GetSigningKeyResponse, Status>) -> (Arc<Told>, Arc<SigningKeys>, Arc<FixedClock>) {
        let source = Arc::new(Told { asked: AtomicUsize::new(0), answer: Mutex::new(answer) });
        let clock = Arc::new(FixedClock::new(Timestamp(1_000_000)));
        (source.clone(), Arc::new(SigningKeys::new(source, clock.clone())), clock)
    }

    fn permanent() -> GetSigningKeyResponse {
        GetSigningKeyResponse {
            signing_key: vec![7; 32],
            principal_arn: "arn:aws:iam::111111111111:user/ann".to_owned(),
            account_id: "111111111111".to_owned(),
            ..GetSigningKeyResponse::default()
        }
    }

    fn session(policy: &str) -> GetSigningKeyResponse {
        GetSigningKeyResponse {
            principal_arn: "arn:aws:iam::111111111111:role/Reader".to_owned(),
            session_arn: "arn:aws:sts::111111111111:assumed-role/Reader/ann".to_owned(),
            issue_time: Some(time_to_proto(Timestamp(0))),
            expire_time: Some(time_to_proto(Timestamp(5_000_000))),
            user_id: "AROAEXAMPLE:ann".to_owned(),
            session_policy: policy.to_owned(),
            ..permanent()
        }
    }

    fn asked(id: &str) -> GetSigningKeyRequest {
        GetSigningKeyRequest { access_key_id: id.to_owned(), ..GetSigningKeyRequest::default() }
    }

    #[tokio::test]
    async fn a_key_is_asked_for_once_and_one_for_each_scope() {
        let (source, keys, _) = keys(Ok(permanent()));
        let calls = (0..20).map(|_| {
            let keys = keys.clone();
            tokio::spawn(async move { keys.find(asked("a")).await.is_ok() })
        });
        assert!(futures::future::join_all(calls).await.into_iter().all(|found| found.unwrap()));
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
        let identity = keys.find(asked("a")).await.unwrap().identity.clone();
        assert_eq!((identity.policies_of.as_str(), identity.account.as_str()), ("arn:aws:iam::111111111111:user/ann", "111111111111"));
        assert!(!identity.is_session() && identity.user_id.as_ref().unwrap().starts_with("AIDA"));
        let others = [
            asked("b"),
            GetSigningKeyRequest { date: "1".to_owned(), ..asked("a") },
            GetSigningKeyRequest { region: "1".to_owned(), ..asked("a") },
            GetSigningKeyRequest { service: "1".to_owned(), ..asked("a") },
            GetSigningKeyRequest { session_token: "1".to_owned(), ..asked("a") },
            asked("a1"),
        ];
        for other in others {
            keys.find(other).await.unwrap();
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 7);
    }

    #[tokio::test]
    async fn refusals_are_remembered_and_outages_are_not() {
        let (source, keys, _) = keys(Err(Status::unauthenticated("unknown access key")));
        for _ in 0..3 {
            assert_eq!(keys.find(asked("a")).await.err(), Some(NoKey::Unknown));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 1);
        *source.answer.lock().unwrap() = Err(Status::unauthenticated("expired session token"));
        assert_eq!(keys.find(asked("b")).await.err(), Some(NoKey::Expired));
        *source.answer.lock().unwrap() = Err(Status::unavailable("down"));
        for _ in 0..3 {
            assert_eq!(keys.find(asked("c")).await.err(), Some(NoKey::Unavailable));
        }
        assert_eq!(source.asked.load(Ordering::SeqCst), 5);
        *source.answer.lock().unwrap() = Ok(permanent());
        assert!(keys.find(asked("c")).await.is_ok());
        assert_eq!(keys.find(asked("a")).await.err(), Some(NoKey::Unknown));
    }

    #[tokio::test]
    async fn a_session_is_its_roles_and_ends() {
        let narrow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"detective:List*","Resource":"*"}}"#;
        let (_, keys, clock) = keys(Ok(session(narrow)));
        let identity = keys.find(asked("a")).await.unwrap().identity.clone();
        assert_eq!(identity.principal.arn(), "arn:aws:sts::111111111111:assumed-role/Reader/ann");
        assert_eq!(identity.policies_of, "arn:aws:iam::111111111111:role/Reader");
        assert_eq!(identity.issue_time.as_deref(), Some("1970-01-01T00:00:00Z"));
        assert!(identity.is_session() && identity.session_policy.is_some());
        assert_eq!(identity.user_id.as_deref(), Some("AROAEXAMPLE:ann"));
        clock.advance(Duration::from_secs(4));
        assert_eq!(keys.find(asked("a")).await.err(), Some(NoKey::Expired), "it is still kept, but has ended");
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_no_key() {
        for answer in [session("{"), GetSigningKeyResponse { signing_key: vec![7; 31], ..permanent() }] {
            let (_, keys, _) = keys(Ok(answer));
            assert_eq!(keys.find(asked("a")).await.err(), Some(NoKey::Unavailable));
        }
    }
}
