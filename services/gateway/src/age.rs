//! How old a thing that is kept may be.

use std::time::Duration;

use gumshoe_model::Timestamp;
use gumshoe_runtime::Clock;

/// Whether no more than `age` has passed since `time`. What lies in the future is too old: the clock was set back, and
/// nobody knows how long ago it was.
pub(crate) fn is_younger(clock: &dyn Clock, time: Timestamp, age: Duration) -> bool {
    let passed = clock.now().0.saturating_sub(time.0);
    u128::try_from(passed).is_ok_and(|passed| passed <= age.as_micros())
}

#[cfg(test)]
mod tests {
    use gumshoe_runtime::FixedClock;

    use super::*;

    #[test]
    fn the_future_is_too_old() {
        let clock = FixedClock::new(Timestamp(10_000_000));
        let second = Duration::from_secs(1);
        assert!(is_younger(&clock, Timestamp(10_000_000), second));
        assert!(is_younger(&clock, Timestamp(9_000_000), second));
        assert!(!is_younger(&clock, Timestamp(8_999_999), second));
        assert!(!is_younger(&clock, Timestamp(10_000_001), second));
    }
}
