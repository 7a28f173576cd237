//! How much of something in an hour is usual: by hour of the week, robust, and with the many hours of nothing on their own.
//!
//! An entity's counts by hour are a mixture (a zero-inflated distribution): with some chance there is nothing, else an amount. For
//! each of the 168 hours of the week, with the same over all hours as a prior that weighs as much as two weeks:
//!
//! ```text
//! active = (hours with anything + 2 · active of all hours) / (hours + 2)
//! level  = (n · median of ln(1 + x) + 2 · median of all) / (n + 2)             n: hours with anything
//! spread = √((1.4826 · MAD of ln(1 + x) from its level)² + 1 / (1 + e^level))  the second term: counting noise
//! P(X ≥ x) = active · 1 / (1 + e^((ln(1 + x) − level) / (0.5513 · spread)))   for x ≥ 1
//! ```
//!
//! The tail is logistic, which is heavier than normal. `−ln P` is the surprise in nats. Medians make that an attack of some hours
//! in the baseline hardly moves it.

use std::collections::BTreeMap;

use gumshoe_model::Hour;

use crate::{
    anomaly::{Anomaly, of_surprise},
    newness::TRAINING_DAYS,
    robust::{deviation, quantile, sorted},
};

/// Hours of a week.
const WEEK: i64 = 168;
/// What the prior weighs, in weeks.
const PRIOR: f64 = 2.0;
/// The standard deviation of a normal distribution for one of MAD, and the scale of a logistic one for one of standard deviation.
const NORMAL: f64 = 1.4826;
const LOGISTIC: f64 = 0.5513;
/// Most that a volume scores.
const MOST: f64 = 80.0;
/// The least spread of `ln(1 + x)`: nobody is steadier.
const LEAST_SPREAD: f64 = 0.2;

/// Amounts by hour. Adding and merging is commutative and associative.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    hours: BTreeMap<Hour, u64>,
}

impl History {
    /// Adds an amount to an hour.
    pub fn add(&mut self, hour: Hour, amount: u64) {
        let sum = self.hours.entry(hour).or_default();
        *sum = sum.saturating_add(amount);
    }

    /// Adds all of another history.
    pub fn merge(&mut self, other: &Self) {
        for (hour, amount) in &other.hours {
            self.add(*hour, *amount);
        }
    }

    /// What is usual, by the hours from `start` to before `end`. Hours without an amount had nothing.
    #[must_use]
    pub fn usual(&self, start: Hour, end: Hour) -> Volume {
        let hours = (end.0 - start.0).max(0);
        let seen: Vec<(usize, f64)> = self
            .hours
            .range(start..)
            .take_while(|(hour, _)| **hour < end)
            .filter(|(_, amount)| **amount > 0)
            .map(|(hour, amount)| (slot(*hour), ln_1p(*amount)))
            .collect();
        let median = |values: Vec<f64>| quantile(&sorted(values), 0.5);
        let level_of_all = median(seen.iter().map(|(_, value)| *value).collect());
        let active_of_all = (seen.len() as f64 + 0.5) / (hours as f64 + 1.0);
        let mut by_slot = vec![Vec::new(); WEEK as usize];
        for (slot, value) in &seen {
            if let Some(values) = by_slot.get_mut(*slot) {
                values.push(*value);
            }
        }
        let first = slot(start);
        let slots: Vec<Slot> = by_slot
            .into_iter()
            .enumerate()
            .map(|(index, values)| {
                // How often this hour of the week was in the window.
                let offset = (index as i64 - first as i64).rem_euclid(WEEK);
                let weeks = if offset < hours { (hours - offset - 1) / WEEK + 1 } else { 0 };
                let (active, count) = (values.len() as u32, values.len() as f64);
                let chance = (count + PRIOR * active_of_all) / (weeks as f64 + PRIOR);
                Slot { weeks: weeks as u32, active, chance, level: (count * median(values) + PRIOR * level_of_all) / (count + PRIOR) }
            })
            .collect();
        let residuals: Vec<f64> = seen.iter().filter_map(|(slot, value)| Some(value - slots.get(*slot)?.level)).collect();
        let spread = (NORMAL * deviation(&residuals, 0.0)).max(LEAST_SPREAD);
        Volume { slots, spread, days: (hours / 24) as u32 }
    }
}

fn ln_1p(amount: u64) -> f64 {
    (amount as f64).ln_1p()
}

/// The hour of the week, 0 for Monday's first. The epoch was a Thursday.
fn slot(hour: Hour) -> usize {
    (hour.0 + 72).rem_euclid(WEEK) as usize
}

/// What is known of one hour of the week.
#[derive(Debug, Clone, Copy)]
struct Slot {
    weeks: u32,
    active: u32,
    chance: f64,
    level: f64,
}

/// What is usual for an entity.
#[derive(Debug, Clone)]
pub struct Volume {
    slots: Vec<Slot>,
    spread: f64,
    days: u32,
}

impl Volume {
    /// The surprise of an amount in an hour, in nats: that there is anything, and that it is so much.
    fn surprise(&self, hour: Hour, amount: u64) -> (f64, f64) {
        match self.slots.get(slot(hour)) {
            Some(slot) if amount > 0 => {
                let spread = (self.spread.powi(2) + 1.0 / (1.0 + slot.level.exp())).sqrt();
                let distance = (ln_1p(amount) - slot.level) / (LOGISTIC * spread);
                // ln(1 + e^d), without overflow.
                let much = distance.max(0.0) + (-distance.abs()).exp().ln_1p();
                (-slot.chance.ln(), much)
            }
            _ => (0.0, 0.0),
        }
    }

    /// How unusual an amount in an hour is: `80 · (1 − e^(−surprise / 10))`, and in the first 14 days of a baseline that part of it.
    /// `what` are the things counted, in words: `calls`.
    #[must_use]
    pub fn anomaly(&self, hour: Hour, amount: u64, what: &str) -> Anomaly {
        let (anything, much) = self.surprise(hour, amount);
        let trust = f64::from(self.days.min(TRAINING_DAYS)) / f64::from(TRAINING_DAYS);
        let time = hour.start().to_chrono().format("%a %H:00");
        let slot = self.slots.get(slot(hour));
        let (weeks, active, level) = slot.map_or((0, 0, 0.0), |slot| (slot.weeks, slot.active, slot.level.exp_m1()));
        let training = if self.days < TRAINING_DAYS { format!(", training: {} of {TRAINING_DAYS} days", self.days) } else { String::new() };
        Anomaly::new(
            of_surprise(anything + much, MOST) * trust,
            format!("{amount} {what} in the hour {time}"),
            format!("usual at that hour: about {level:.0} in {active} of {weeks} weeks{training}"),
            vec![(format!("{amount} {what}, usual {level:.0}"), much), (format!("active in {active} of {weeks} weeks"), anything)],
        )
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_model::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// Monday, 2024-01-01.
    fn start() -> Hour {
        Timestamp::parse("2024-01-01T00:00:00Z").unwrap().hour()
    }

    fn hour(day: i64, hour: i64) -> Hour {
        Hour(start().0 + day * 24 + hour)
    }

    const DAYS: i64 = 45;

    /// Office hours of a person: about 40 calls an hour, nothing else.
    fn office() -> History {
        let mut history = History::default();
        for day in (0..DAYS).filter(|day| day % 7 < 5) {
            for at in 9..17 {
                history.add(hour(day, at), 30 + ((day * 7 + at * 5) % 21) as u64);
            }
        }
        history
    }

    fn usual(history: &History) -> Volume {
        history.usual(start(), hour(DAYS, 0))
    }

    #[test]
    fn nights_and_floods_stand_out_and_office_hours_do_not() {
        let usual = usual(&office());
        // The 45th day after is a Thursday, the 47th a Saturday.
        let score = |day: i64, at: i64, amount: u64| usual.anomaly(hour(day, at), amount, "calls").score;
        assert!(score(45, 10, 45) < 15.0, "{}", score(45, 10, 45));
        assert!(score(45, 10, 2_000) > 50.0, "{}", score(45, 10, 2_000));
        assert!(score(45, 3, 40) > 15.0, "{}", score(45, 3, 40));
        assert!(score(47, 11, 400) > score(45, 11, 400));
        assert_eq!(score(45, 3, 0), 0.0);
    }

    #[test]
    fn the_reasons_are_told() {
        let anomaly = usual(&office()).anomaly(hour(47, 3), 500, "calls");
        assert_eq!(anomaly.label, "500 calls in the hour Sat 03:00");
        assert_eq!(anomaly.baseline, "usual at that hour: about 40 in 0 of 6 weeks");
        assert_eq!(anomaly.parts.len(), 2);
        assert!(anomaly.parts.iter().any(|part| part.what == "active in 0 of 6 weeks" && part.by > 5.0), "{anomaly:?}");
    }

    #[test]
    fn some_odd_hours_in_the_baseline_change_little() {
        let clean = usual(&office()).anomaly(hour(45, 10), 5_000, "calls").score;
        let mut history = office();
        for day in [2, 11, 24] {
            history.add(hour(day, 10), 5_000);
        }
        let stained = usual(&history).anomaly(hour(45, 10), 5_000, "calls").score;
        assert!(stained > clean * 0.9, "{stained} of {clean}");
    }

    #[test]
    fn training_damps() {
        let history = office();
        let week = history.usual(start(), hour(7, 0)).anomaly(hour(7, 3), 500, "calls");
        assert!(week.baseline.ends_with("training: 7 of 14 days"), "{}", week.baseline);
        assert!(week.score < usual(&history).anomaly(hour(49, 3), 500, "calls").score);
        assert_eq!(history.usual(start(), start()).anomaly(hour(0, 3), 500, "calls").score, 0.0);
        assert_eq!(history.usual(start(), Hour(0)).anomaly(Hour(1), u64::MAX, "calls").score, 0.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn more_is_never_less_unusual(counts in prop::collection::vec((0..1_080_i64, 0..5_000_u64), 0..300), at in 0..168_i64, amount in 0..100_000_u64, more in 1..100_000_u64) {
            let mut history = History::default();
            for (hour, count) in counts {
                history.add(Hour(start().0 + hour), count);
            }
            let usual = usual(&history);
            let score = |amount: u64| usual.anomaly(hour(45, at), amount, "calls").score;
            prop_assert!((0.0..=MOST).contains(&score(amount)));
            prop_assert!(score(amount + more) >= score(amount) - 1e-9);
            let anomaly = usual.anomaly(hour(45, at), amount, "calls");
            prop_assert!((anomaly.parts.iter().map(|part| part.by).sum::<f64>() - anomaly.score).abs() < 1e-9);
        }

        #[test]
        fn merging_is_adding(counts in prop::collection::vec((0..1_080_i64, 0..5_000_u64), 0..200), cut in 0..200_usize) {
            let mut halves = [History::default(), History::default()];
            let mut whole = History::default();
            for (index, (hour, count)) in counts.iter().enumerate() {
                halves[usize::from(index < cut)].add(Hour(*hour), *count);
                whole.add(Hour(*hour), *count);
            }
            let [mut left, right] = halves;
            let mut turned = right.clone();
            turned.merge(&left);
            left.merge(&right);
            prop_assert_eq!(&left, &whole);
            prop_assert_eq!(&turned, &whole);
        }
    }
}
