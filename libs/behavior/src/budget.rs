//! An alert budget: about one alert an hour, the ones that matter most, instead of all that could be one.
//!
//! A candidate becomes an alert if
//!
//! 1. its score is at least the **bar**: the lowest of the highest scores of the last 7 days that would have fitted into these days'
//!    budget, so `7 · 24 · rate` of them; while there were fewer candidates, the least score that is ever an alert;
//! 2. its entity had no alert of that kind for 24 hours: what comes again is **repeated**, and counted on the alert that is there;
//! 3. there is **budget** left: it grows by `rate` an hour, up to a day's, so that an incident may take a day's alerts at once.
//!
//! Nothing is lost by it: every candidate keeps its score in the entity's risk, and how many were held back is told. What is at
//! or above 95 is an alert always, unless it is a repetition.

use std::collections::{BTreeMap, HashMap};

use gumshoe_model::{Timestamp, time::MICROS_PER_HOUR};

use crate::bytes::{Reader, Writer};

/// Hours of candidates that the bar is made of, and hours of budget that may be saved up.
const LOOK_BACK: i64 = 7 * 24;
const SAVED: f64 = 24.0;
/// Hours in which the same is a repetition.
const REPEATED: i64 = 24;
/// Scores that no budget holds back.
const ALWAYS: f64 = 95.0;
/// Scores from 0 to 100 in tenths.
const SCORES: usize = 1_001;
/// Most entities and kinds of which the last alert is known; beyond, the oldest are forgotten.
const MAX_KNOWN: usize = 100_000;

/// What becomes of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// An alert.
    Raise,
    /// Part of an alert that its entity already has.
    Repeat,
    /// No alert: too low for the budget.
    Hold,
}

/// The budget of one organisation.
#[derive(Debug, Clone)]
pub struct Budget {
    rate: f64,
    least: f64,
    left: f64,
    /// The latest time seen; an earlier one counts as it.
    now: Option<Timestamp>,
    /// How many candidates had a score, in tenths: in each hour, and in all of them.
    hours: BTreeMap<i64, BTreeMap<usize, u32>>,
    scores: Vec<u32>,
    raised: HashMap<u64, Timestamp>,
    held: u64,
}

impl Budget {
    /// A budget of `rate` alerts an hour, none of them below a score of `least`.
    #[must_use]
    pub fn new(rate: f64, least: f64) -> Self {
        let rate = if rate.is_finite() { rate.clamp(0.0, 1e4) } else { 1.0 };
        Self { rate, least, left: rate * SAVED, now: None, hours: BTreeMap::new(), scores: vec![0; SCORES], raised: HashMap::new(), held: 0 }
    }

    /// What it remembers.
    pub fn encode(&self, to: &mut Writer) {
        to.f64(self.left);
        to.list(self.now.iter(), |to, now| to.i64(now.0));
        to.list(self.hours.iter(), |to, (hour, scores)| {
            to.i64(*hour);
            to.list(scores.iter(), |to, (tenths, count)| {
                to.u32(u32::try_from(*tenths).unwrap_or_default());
                to.u32(*count);
            });
        });
        to.list(self.raised.iter(), |to, (what, time)| {
            to.u64(*what);
            to.i64(time.0);
        });
        to.u64(self.held);
    }

    /// A budget of `rate` and `least`, which may have changed, that remembers that; `None` if it is not what [`Self::encode`] wrote.
    #[must_use]
    pub fn decode(from: &mut Reader<'_>, rate: f64, least: f64) -> Option<Self> {
        let mut budget = Self::new(rate, least);
        budget.left = from.f64()?.min((budget.rate * SAVED).max(1.0));
        budget.now = from.list(Reader::i64)?.pop().map(Timestamp);
        let hours = from.list(|from| Some((from.i64()?, from.list(|from| Some((from.u32()? as usize, from.u32()?)))?)))?;
        budget.hours = hours.into_iter().map(|(hour, scores)| (hour, scores.into_iter().collect())).collect();
        for (tenths, count) in budget.hours.values().flatten() {
            let sum = budget.scores.get_mut(*tenths)?;
            *sum = sum.checked_add(*count)?;
        }
        budget.raised = from.list(|from| Some((from.u64()?, Timestamp(from.i64()?))))?.into_iter().collect();
        budget.held = from.u64()?;
        Some(budget)
    }

    /// Decides on a candidate. `what` is a hash of entity and kind: what repeats if it comes again.
    pub fn offer(&mut self, score: f64, what: u64, time: Timestamp) -> Decision {
        if score.is_nan() || score < self.least {
            return Decision::Hold;
        }
        self.advance(time);
        let time = self.now.unwrap_or(time);
        if self.raised.get(&what).is_some_and(|raised| time.0 - raised.0 < REPEATED * MICROS_PER_HOUR) {
            return Decision::Repeat;
        }
        let bar = self.bar();
        let tenths = (score.clamp(0.0, 100.0) * 10.0) as usize;
        *self.hours.entry(time.hour().0).or_default().entry(tenths).or_default() += 1;
        if let Some(count) = self.scores.get_mut(tenths) {
            *count += 1;
        }
        if score < ALWAYS && (score < bar || self.left < 1.0) {
            self.held += 1;
            return Decision::Hold;
        }
        self.left = (self.left - 1.0).max(0.0);
        self.remember(what, time);
        Decision::Raise
    }

    /// The score from which on a candidate is an alert now, if there is budget left.
    #[must_use]
    pub fn bar(&self) -> f64 {
        let fits = (self.rate * LOOK_BACK as f64) as u32;
        let mut above = 0_u32;
        for (tenths, count) in self.scores.iter().enumerate().rev() {
            above = above.saturating_add(*count);
            if fits > 0 && above >= fits {
                return self.least.max(tenths as f64 / 10.0);
            }
        }
        self.least
    }

    /// Candidates that were held back since the beginning, those below the least score left out.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    fn advance(&mut self, time: Timestamp) {
        let before = self.now.unwrap_or(time);
        let now = before.max(time);
        self.now = Some(now);
        let hours = (now.0 - before.0) as f64 / MICROS_PER_HOUR as f64;
        self.left = (self.left + hours * self.rate).min((self.rate * SAVED).max(1.0));
        while let Some(hour) = self.hours.first_entry().filter(|hour| *hour.key() < now.hour().0 - LOOK_BACK) {
            for (tenths, gone) in hour.remove() {
                if let Some(count) = self.scores.get_mut(tenths) {
                    *count -= gone;
                }
            }
        }
    }

    fn remember(&mut self, what: u64, time: Timestamp) {
        if self.raised.len() >= MAX_KNOWN {
            self.raised.retain(|_, raised| time.0 - raised.0 < REPEATED * MICROS_PER_HOUR);
        }
        if self.raised.len() < MAX_KNOWN {
            self.raised.insert(what, time);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::Random;

    fn at(hours: f64) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + (hours * MICROS_PER_HOUR as f64) as i64)
    }

    #[test]
    fn about_one_an_hour_of_the_highest() {
        let mut random = Random::new(4);
        let mut budget = Budget::new(1.0, 20.0);
        let (mut raised, mut held) = (Vec::new(), Vec::new());
        for index in 0..60_000_u64 {
            // A hundred an hour, for 25 days.
            let score = 20.0 + 75.0 * random.unit().powi(3);
            match budget.offer(score, index, at(index as f64 / 100.0)) {
                Decision::Raise if index > 20_000 => raised.push(score),
                Decision::Hold if index > 20_000 => held.push(score),
                _ => {}
            }
        }
        assert!((200..=450).contains(&raised.len()), "{} in 400 hours", raised.len());
        let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
        assert!(mean(&raised) > 90.0 && mean(&held) < 45.0, "{} {}", mean(&raised), mean(&held));
        assert!(budget.bar() > 85.0 && budget.held() > 50_000);
    }

    #[test]
    fn what_comes_again_is_a_repetition_for_a_day() {
        let mut budget = Budget::new(1.0, 20.0);
        let told: Vec<Decision> = [0.0, 1.0, 23.9, 24.1].into_iter().map(|hours| budget.offer(80.0, 7, at(hours))).collect();
        assert_eq!(told, [Decision::Raise, Decision::Repeat, Decision::Repeat, Decision::Raise]);
        assert_eq!(budget.offer(80.0, 8, at(24.2)), Decision::Raise, "another entity");
        assert_eq!(budget.offer(19.9, 9, at(24.2)), Decision::Hold);
    }

    #[test]
    fn an_incident_may_take_a_days_alerts_and_the_gravest_always_come() {
        let mut budget = Budget::new(1.0, 20.0);
        let raised = (0..100).filter(|index| budget.offer(80.0, *index, at(0.0)) == Decision::Raise).count();
        assert_eq!(raised, 24);
        assert_eq!(budget.offer(95.0, 1_000, at(0.0)), Decision::Raise);
        assert_eq!(budget.offer(80.0, 1_001, at(0.9)), Decision::Hold);
        assert_eq!(budget.offer(80.0, 1_002, at(1.1)), Decision::Raise);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_the_rate_is_kept(offers in prop::collection::vec((0.0..100.0_f64, 0..1_000_u64, 0..50_u32), 0..2_000), rate in 0.0..3.0_f64) {
            let mut budget = Budget::new(rate, 10.0);
            let (mut hours, mut raised) = (0.0, 0.0);
            for (score, what, minutes) in offers {
                hours += f64::from(minutes) / 60.0;
                raised += f64::from(u8::from(budget.offer(score, what, at(hours)) == Decision::Raise && score < ALWAYS));
            }
            prop_assert!(raised <= rate * (hours + SAVED) + 1.0, "{raised} in {hours} hours");
            prop_assert!(budget.hours.len() <= LOOK_BACK as usize + 1);
        }
    }
}
