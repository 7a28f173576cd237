//! A circuit breaker: a store that fails is left alone for a while.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Failures in a row after which the store is left alone.
const THRESHOLD: u32 = 3;
/// How long it is left alone before one call tries it again.
const PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    closed_until: Option<Instant>,
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<State>);

impl Breaker {
    /// Whether a call may go to the store now. After a pause one caller gets through; the others follow if it succeeds.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.closed_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.closed_until = Some(now + PAUSE);
                true
            }
            None => true,
        }
    }

    /// Notes a call that worked; true if the store was thought to be down.
    pub(crate) fn success(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = 0;
        state.closed_until.take().is_some()
    }

    /// Notes a call that failed; true if the store is left alone from now on, but was not before.
    pub(crate) fn failure(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures < THRESHOLD {
            return false;
        }
        state.closed_until.replace(now + PAUSE).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_after_failures_in_a_row_and_probes_once_after_the_pause() {
        let breaker = Breaker::default();
        let start = Instant::now();
        assert!(!breaker.failure(start));
        assert!(!breaker.failure(start));
        assert!(!breaker.success(), "a success in between forgives");
        assert!(!breaker.failure(start));
        assert!(!breaker.failure(start));
        assert!(breaker.allows(start));
        assert!(breaker.failure(start), "the third in a row opens");
        assert!(!breaker.allows(start));
        assert!(!breaker.allows(start + PAUSE - Duration::from_millis(1)));
        let later = start + PAUSE;
        assert!(breaker.allows(later), "one probe");
        assert!(!breaker.allows(later), "only one");
        assert!(breaker.success());
        assert!(breaker.allows(later));
    }
}
