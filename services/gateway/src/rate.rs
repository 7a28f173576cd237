//! A token bucket for each client, for calls without credentials.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gumshoe_model::Timestamp;
use gumshoe_runtime::Clock;
use moka::sync::Cache;

/// Clients remembered at most; beyond, those not seen for longest start anew.
const MAX_CLIENTS: u64 = 100_000;

/// Limits each client to a number of calls a minute, a minute's worth at once.
pub struct RateLimit {
    per_minute: u32,
    clock: Arc<dyn Clock>,
    clients: Cache<IpAddr, Arc<Mutex<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Timestamp,
}

impl RateLimit {
    /// At most `per_minute` calls.
    #[must_use]
    pub fn new(per_minute: u32, clock: Arc<dyn Clock>) -> Self {
        // After a minute a bucket is full again and need not be remembered.
        let clients = Cache::builder().max_capacity(MAX_CLIENTS).time_to_idle(Duration::from_secs(60)).build();
        Self { per_minute, clock, clients }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one.
    pub fn take(&self, client: IpAddr) -> Result<(), Duration> {
        let capacity = f64::from(self.per_minute);
        let per_second = capacity / 60.0;
        let now = self.clock.now();
        let bucket = self.clients.get_with(client, || Arc::new(Mutex::new(Bucket { tokens: capacity, filled: now })));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back fills nothing.
        let passed = Duration::from_micros(u64::try_from(now.0.saturating_sub(bucket.filled.0)).unwrap_or(0));
        bucket.tokens = (bucket.tokens + passed.as_secs_f64() * per_second).min(capacity);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_runtime::FixedClock;

    use super::*;

    #[test]
    fn a_client_gets_its_share_and_no_more() {
        let clock = Arc::new(FixedClock::new(Timestamp(0)));
        let limit = RateLimit::new(6, clock.clone());
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
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
            assert_eq!(limit.take(one), Ok(()), "no more than a minute's worth is saved up");
        }
        assert!(limit.take(one).is_err());
    }
}
