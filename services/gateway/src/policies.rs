//! What principals may do: fetched from membership, compiled once, kept for seconds.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use gumshoe_api::membership::v1::{GetPrincipalPoliciesRequest, GetPrincipalPoliciesResponse, credential_service_client::CredentialServiceClient};
use gumshoe_iam::{Policy, PolicySets};
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Caller, Clock, Failure, PrincipalChannel, Signed, TokenSigner, status};
use moka::sync::Cache;
use tokio::sync::Mutex;
use tonic::{Code, Status};

use crate::{SERVICE, age::is_younger, config};

/// A principal's policies, ready for decisions, and its account's graphs.
#[derive(Debug)]
pub struct Grants {
    /// The policies.
    pub policies: PolicySets,
    /// ARNs of the graphs that the principal's account administers.
    pub graphs: Vec<String>,
    /// The graphs' tags, values by key, by ARN.
    pub tags: HashMap<String, HashMap<String, String>>,
}

/// Where grants come from.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The policies of a principal; `None` if there is no such principal.
    async fn fetch(&self, principal: &str) -> Result<Option<GetPrincipalPoliciesResponse>, Status>;
}

/// Membership's answers to what only the gateway asks.
#[derive(Clone)]
pub struct MembershipSource {
    channel: PrincipalChannel,
    signer: Arc<TokenSigner>,
}

impl MembershipSource {
    /// Asks through `channel` in the gateway's own name.
    #[must_use]
    pub fn new(channel: PrincipalChannel, signer: Arc<TokenSigner>) -> Self {
        Self { channel, signer }
    }

    /// A client whose calls are for `action`.
    pub(crate) fn client(&self, action: &str) -> CredentialServiceClient<Signed> {
        CredentialServiceClient::new(self.channel.signed(self.signer.clone(), Caller::service(SERVICE, action)))
    }
}

#[async_trait]
impl Source for MembershipSource {
    async fn fetch(&self, principal: &str) -> Result<Option<GetPrincipalPoliciesResponse>, Status> {
        let request = GetPrincipalPoliciesRequest { principal_arn: principal.to_owned() };
        match self.client("gumshoe:GetPrincipalPolicies").get_principal_policies(request).await {
            Ok(response) => Ok(Some(response.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }
}

/// Grants by principal, kept for a while.
pub struct PolicyCache {
    source: Arc<dyn Source>,
    clock: Arc<dyn Clock>,
    entries: Cache<String, Arc<Entry>>,
    max_age: Duration,
    max_stale: Duration,
}

#[derive(Default)]
struct Entry {
    current: RwLock<Option<Fetched>>,
    /// Held while the grants are fetched, so that concurrent calls fetch once.
    fetching: Mutex<()>,
}

#[derive(Clone)]
struct Fetched {
    grants: Option<Arc<Grants>>,
    at: Timestamp,
}

impl PolicyCache {
    /// An empty cache.
    #[must_use]
    pub fn new(source: Arc<dyn Source>, clock: Arc<dyn Clock>, config: &config::Policies) -> Self {
        let (max_age, max_stale) = (Duration::from_secs(config.max_age_seconds), Duration::from_secs(config.max_stale_seconds));
        Self { source, clock, entries: Cache::builder().max_capacity(config.principals).time_to_idle(max_age + max_stale).build(), max_age, max_stale }
    }

    /// What `principal` may do; `None` if there is no such principal.
    ///
    /// # Errors
    /// UNAVAILABLE when membership does not answer and what is kept is too old.
    pub async fn get(&self, principal: &str) -> Result<Option<Arc<Grants>>, Failure> {
        self.get_younger_than(principal, self.max_age).await
    }

    /// The same, fetched at that time or later.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn get_since(&self, principal: &str, time: Timestamp) -> Result<Option<Arc<Grants>>, Failure> {
        let age = Duration::from_micros(u64::try_from(self.clock.now().0.saturating_sub(time.0)).unwrap_or(0));
        self.get_younger_than(principal, age.min(self.max_age)).await
    }

    async fn get_younger_than(&self, principal: &str, age: Duration) -> Result<Option<Arc<Grants>>, Failure> {
        let entry = match self.entries.get(principal) {
            Some(entry) => entry,
            None => self.entries.get_with(principal.to_owned(), Arc::default),
        };
        if let Some(fetched) = entry.fetched_within(&*self.clock, age) {
            return Ok(fetched.grants);
        }
        let _fetching = entry.fetching.lock().await;
        if let Some(fetched) = entry.fetched_within(&*self.clock, age) {
            return Ok(fetched.grants);
        }
        match self.source.fetch(principal).await {
            Ok(response) => {
                let fetched = Fetched { grants: response.map(|response| Arc::new(compile(principal, response))), at: self.clock.now() };
                *entry.current.write().unwrap_or_else(PoisonError::into_inner) = Some(fetched.clone());
                Ok(fetched.grants)
            }
            Err(error) => {
                tracing::warn!(code = ?error.code(), reason = error.message(), "policies cannot be fetched");
                // Who was refused stays refused; who was known stays known for a while.
                match entry.fetched_within(&*self.clock, self.max_age + self.max_stale) {
                    Some(fetched) => Ok(fetched.grants),
                    None => Err(status::unavailable("the membership service")),
                }
            }
        }
    }
}

impl Entry {
    fn fetched_within(&self, clock: &dyn Clock, age: Duration) -> Option<Fetched> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|fetched| is_younger(clock, fetched.at, age))
    }
}

fn compile(principal: &str, response: GetPrincipalPoliciesResponse) -> Grants {
    let mut policies = Vec::with_capacity(response.policies.len());
    let mut unreadable = false;
    for policy in response.policies {
        match Policy::parse(&policy.document) {
            Ok(parsed) => policies.push(Arc::new(parsed.named(policy.name))),
            Err(error) => {
                unreadable = true;
                tracing::error!(principal, policy = policy.name, %error, "a stored policy cannot be read");
            }
        }
    }
    // INVARIANT: a Deny that cannot be read must not be forgotten, so then nothing is allowed.
    if unreadable {
        policies.clear();
    }
    let tags = response.graph_tags.into_iter().map(|graph| (graph.graph_arn, graph.tags)).collect();
    Grants { policies: PolicySets { identity: policies, ..PolicySets::default() }, graphs: response.graph_arns, tags }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use gumshoe_api::membership::v1::PrincipalPolicy;
    use gumshoe_runtime::FixedClock;

    use super::*;

    #[derive(Default)]
    struct Counting {
        calls: AtomicUsize,
        down: AtomicBool,
    }

    #[async_trait]
    impl Source for Counting {
        async fn fetch(&self, principal: &str) -> Result<Option<GetPrincipalPoliciesResponse>, Status> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if self.down.load(Ordering::SeqCst) {
                return Err(Status::unavailable("down"));
            }
            Ok((principal != "nobody").then(GetPrincipalPoliciesResponse::default))
        }
    }

    fn cache() -> (Arc<Counting>, Arc<PolicyCache>, Arc<FixedClock>) {
        let source = Arc::new(Counting::default());
        let clock = Arc::new(FixedClock::new(Timestamp(0)));
        (source.clone(), Arc::new(PolicyCache::new(source, clock.clone(), &config::Policies::default())), clock)
    }

    #[tokio::test]
    async fn concurrent_calls_fetch_once_and_again_when_old() {
        let (source, cache, clock) = cache();
        let calls = (0..20).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("a").await.unwrap().is_some() })
        });
        assert!(futures::future::join_all(calls).await.into_iter().all(|known| known.unwrap()));
        assert_eq!(source.calls.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_secs(10));
        cache.get("a").await.unwrap();
        assert_eq!(source.calls.load(Ordering::SeqCst), 1);
        clock.advance(Duration::from_millis(1));
        cache.get("a").await.unwrap();
        assert_eq!(source.calls.load(Ordering::SeqCst), 2);
        cache.get_since("a", clock.now()).await.unwrap();
        assert_eq!(source.calls.load(Ordering::SeqCst), 2, "fetched at that very time");
        clock.advance(Duration::from_millis(1));
        cache.get_since("a", clock.now()).await.unwrap();
        assert_eq!(source.calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn known_principals_outlast_a_short_outage() {
        let (source, cache, clock) = cache();
        assert!(cache.get("a").await.unwrap().is_some());
        assert!(cache.get("nobody").await.unwrap().is_none());
        source.down.store(true, Ordering::SeqCst);
        clock.advance(Duration::from_secs(69));
        assert!(cache.get("a").await.unwrap().is_some());
        assert!(cache.get("nobody").await.unwrap().is_none());
        assert_eq!(cache.get("b").await.unwrap_err().code, Code::Unavailable);
        clock.advance(Duration::from_secs(2));
        assert_eq!(cache.get("a").await.unwrap_err().code, Code::Unavailable);
    }

    #[test]
    fn a_policy_that_cannot_be_read_takes_all_permissions_away() {
        let policy = |document: &str| PrincipalPolicy { name: "p".to_owned(), document: document.to_owned(), update_time: None };
        let allow = policy(r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"detective:*","Resource":"*"}}"#);
        let response = |policies| GetPrincipalPoliciesResponse { policies, ..GetPrincipalPoliciesResponse::default() };
        assert_eq!(compile("a", response(vec![allow.clone()])).policies.identity.len(), 1);
        assert!(compile("a", response(vec![allow, policy("{")])).policies.identity.is_empty());
    }
}
