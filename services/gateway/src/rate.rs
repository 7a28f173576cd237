//! Token buckets: for calls without credentials by client, for operations by account.

use std::{
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gumshoe_iam::actions;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Clock, Failure, status};
use moka::sync::Cache;

use crate::config::Limits;

/// Clients remembered at most; beyond, those not seen for longest start anew.
const MAX_CLIENTS: u64 = 100_000;
/// After this a bucket is full again and need not be remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// The one operation that keeps the services busy for long.
const START_INVESTIGATION: &str = "StartInvestigation";

/// Limits each of many to a number of calls in a time.
pub struct RateLimit<K> {
    per_second: f64,
    burst: f64,
    clock: Arc<dyn Clock>,
    clients: Cache<K, Arc<Mutex<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> RateLimit<K> {
    /// At most so many calls a minute, a minute's worth at once.
    #[must_use]
    pub fn per_minute(calls: u32, clock: Arc<dyn Clock>) -> Self {
        Self::new(f64::from(calls) / 60.0, f64::from(calls), clock)
    }

    /// At most so many calls a second, two seconds' worth at once.
    #[must_use]
    pub fn per_second(calls: u32, clock: Arc<dyn Clock>) -> Self {
        Self::new(f64::from(calls), f64::from(calls) * 2.0, clock)
    }

    fn new(per_second: f64, burst: f64, clock: Arc<dyn Clock>) -> Self {
        Self { per_second, burst, clock, clients: Cache::builder().max_capacity(MAX_CLIENTS).time_to_idle(REMEMBERED).build() }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, client: K) -> Result<(), Duration> {
        self.draw(client, 1.0)
    }

    /// Whether there is a token, which is left where it is.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn check(&self, client: K) -> Result<(), Duration> {
        self.draw(client, 0.0)
    }

    fn draw(&self, client: K, tokens: f64) -> Result<(), Duration> {
        let now = self.clock.now();
        let bucket = self.clients.get_with(client, || Arc::new(Mutex::new(Bucket { tokens: self.burst, filled: now })));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back fills nothing.
        let passed = Duration::from_micros(u64::try_from(now.0.saturating_sub(bucket.filled.0)).unwrap_or(0));
        bucket.tokens = (bucket.tokens + passed.as_secs_f64() * self.per_second).min(self.burst);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= tokens;
        Ok(())
    }
}

/// How often an account may call the operations of the Amazon Detective API, whichever way. Other actions, such as those
/// that ask for risks thousands of times a second, are not limited.
pub struct OperationLimits {
    reads: RateLimit<String>,
    writes: RateLimit<String>,
    investigations: RateLimit<String>,
}

impl OperationLimits {
    /// The limits of the configuration.
    #[must_use]
    pub fn new(limits: &Limits, clock: &Arc<dyn Clock>) -> Self {
        Self {
            reads: RateLimit::per_second(limits.reads_per_second, clock.clone()),
            writes: RateLimit::per_second(limits.writes_per_second, clock.clone()),
            investigations: RateLimit::per_second(limits.investigations_per_second, clock.clone()),
        }
    }

    /// Counts a call of `account` that was allowed to do `action`.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED.
    pub fn take(&self, account: &str, action: &str) -> Result<(), Failure> {
        let Some(operation) = actions::find(action).and_then(|action| action.operation) else { return Ok(()) };
        let limit = if operation == START_INVESTIGATION {
            &self.investigations
        } else if ["BatchGet", "Describe", "Get", "List"].iter().any(|prefix| operation.starts_with(prefix)) {
            &self.reads
        } else {
            &self.writes
        };
        limit.take(account.to_owned()).map_err(|delay| status::resource_exhausted("the account calls too often", delay))
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_runtime::FixedClock;

    use super::*;

    #[test]
    fn a_client_gets_its_share_and_no_more() {
        let clock = Arc::new(FixedClock::new(Timestamp(0)));
        let limit = RateLimit::per_minute(6, clock.clone());
        let (one, other) = ("one", "other");
        for _ in 0..6 {
            assert_eq!(limit.take(one), Ok(()));
        }
        assert_eq!(limit.take(one), Err(Duration::from_secs(10)));
        assert_eq!(limit.take(other), Ok(()), "another client has its own");
        clock.advance(Duration::from_secs(11));
        assert_eq!(limit.take(one), Ok(()));
        assert!(limit.take(one).is_err());
        clock.advance(Duration::from_secs(3_600));
        for _ in 0..6 {
            assert_eq!(limit.check(one), Ok(()));
            assert_eq!(limit.take(one), Ok(()), "no more than a minute's worth is saved up");
        }
        assert!(limit.check(one).is_err());
        assert!(limit.take(one).is_err());
    }

    #[test]
    fn classes_of_operations_are_counted_apart_and_others_not_at_all() {
        let clock: Arc<dyn Clock> = Arc::new(FixedClock::new(Timestamp(0)));
        let limits = OperationLimits::new(&Limits { reads_per_second: 3, writes_per_second: 2, investigations_per_second: 1, ..Limits::default() }, &clock);
        let allowed = |account: &str, action: &str| (0..10).take_while(|_| limits.take(account, action).is_ok()).count();
        assert_eq!(allowed("a", "detective:ListMembers"), 6);
        assert_eq!(allowed("a", "detective:BatchGetGraphMemberDatasources"), 0, "all reads share");
        assert_eq!(allowed("a", "detective:CreateMembers"), 4);
        assert_eq!(allowed("a", "detective:StartInvestigation"), 2);
        assert_eq!(allowed("b", "detective:ListMembers"), 6, "another account has its own");
        for free in ["detective:SearchGraph", "gumshoe:PutRecords"] {
            assert_eq!(allowed("a", free), 10);
        }
    }
}
