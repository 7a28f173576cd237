//! IMPOSSIBLE_TRAVEL: successful calls of one principal or session from two countries within three hours.
//!
//! Places are known by country, not by coordinates, so the rule is about time alone. Neighbouring countries can be reached
//! in less, and so can a VPN's exit: an indicator is a question, not an answer. Private addresses and AWS services that act
//! for the subject have no place and are passed over; sessions of a role are told apart, because different people can have
//! one at the same time.

use std::collections::{BTreeMap, HashMap};

use gumshoe_model::{TimeWindow, Timestamp, time::MICROS_PER_HOUR};

use crate::{
    facts::{Call, Facts, Habits},
    indicator::Indicator,
};

/// Calls from two countries in less than this are impossible for one traveller.
const LIMIT: i64 = 3 * MICROS_PER_HOUR;

/// The time whose calls [`detect`] wants to see: around those that came from another country than most. `None` if there
/// are none.
#[must_use]
pub fn window(scope: TimeWindow, habits: &Habits) -> Option<TimeWindow> {
    let mut calls: BTreeMap<&str, u64> = BTreeMap::new();
    let placed = || habits.addresses.iter().filter(|seen| !seen.country.is_empty());
    for seen in placed() {
        *calls.entry(&seen.country).or_default() += seen.count;
    }
    let (home, _) = calls.into_iter().max_by_key(|(_, count)| *count)?;
    let abroad = || placed().filter(|seen| seen.country != home);
    let first = abroad().map(|seen| seen.first).min()?;
    let last = abroad().map(|seen| seen.last).max()?;
    let start = Timestamp((first.0 - LIMIT).max(scope.start().0));
    let end = Timestamp((last.0 + LIMIT).min(scope.end().0));
    TimeWindow::new(start, end).ok()
}

/// Finds travels: of each pair of countries the fastest, that first.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    let places = facts.habits.places();
    let mut calls: Vec<(&Call, &str)> =
        facts.travels.iter().filter(|call| !call.failed).filter_map(|call| Some((call, *places.get(call.address.as_str())?))).collect();
    calls.sort_by_key(|(call, _)| call.time);
    let mut before: HashMap<&str, (&Call, &str)> = HashMap::new();
    let mut fastest: BTreeMap<(&str, &str), (i64, &Call, &Call)> = BTreeMap::new();
    for (call, place) in calls {
        if let Some((from, from_place)) = before.insert(&call.actor, (call, place)) {
            let time = call.time.0 - from.time.0;
            let known = fastest.get(&(from_place, place)).map_or(i64::MAX, |(time, ..)| *time);
            if from_place != place && time < LIMIT.min(known) {
                fastest.insert((from_place, place), (time, from, call));
            }
        }
    }
    let mut travels: Vec<_> = fastest.into_iter().collect();
    travels.sort_by_key(|(_, (time, ..))| *time);
    let indicator = |((from_place, place), (time, from, to)): ((&str, &str), (i64, &Call, &Call))| Indicator::ImpossibleTravel {
        start_address: from.address.clone(),
        end_address: to.address.clone(),
        start_place: from_place.to_owned(),
        end_place: place.to_owned(),
        hours: i32::try_from(time / MICROS_PER_HOUR).unwrap_or(i32::MAX),
    };
    travels.into_iter().map(indicator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detectors::tests::{START, call, quiet},
        facts::Seen,
    };

    const HOME: &str = "198.51.100.1";
    const ABROAD: &str = "203.0.113.9";
    const HOUR: i64 = 3_600;

    fn from(seconds: i64, address: &str) -> Call {
        call(seconds, "s3", "ListBuckets", address)
    }

    fn facts(travels: Vec<Call>) -> Facts {
        let mut facts = quiet();
        let seen = |name: &str, country: &str, count: u64, first: i64, last: i64| Seen {
            name: name.to_owned(),
            country: country.to_owned(),
            count,
            first: Timestamp(START + first * 1_000_000),
            last: Timestamp(START + last * 1_000_000),
            ..Seen::default()
        };
        facts.habits.addresses = vec![
            seen(HOME, "DE", 90, 0, 40 * HOUR),
            seen(ABROAD, "BR", 5, 10 * HOUR, 11 * HOUR),
            seen("10.0.0.1", "", 100, 0, 47 * HOUR),
            seen("ec2.amazonaws.com", "", 100, 0, 47 * HOUR),
        ];
        facts.travels = travels;
        facts
    }

    fn travel(start: &str, end: &str, start_place: &str, end_place: &str, hours: i32) -> Indicator {
        let text = |text: &str| text.to_owned();
        Indicator::ImpossibleTravel { start_address: text(start), end_address: text(end), start_place: text(start_place), end_place: text(end_place), hours }
    }

    #[test]
    fn calls_are_wanted_around_those_from_abroad() {
        let facts = facts(Vec::new());
        let window = window(facts.scope, &facts.habits).unwrap();
        assert_eq!((window.start().0 - START, window.end().0 - START), (7 * HOUR * 1_000_000, 14 * HOUR * 1_000_000));
        let mut at_home = facts.habits.clone();
        at_home.addresses.retain(|seen| seen.name != ABROAD);
        assert_eq!(super::window(facts.scope, &at_home), None);
        assert_eq!(super::window(facts.scope, &Habits::default()), None);
    }

    #[test]
    fn two_countries_in_too_short_a_time_are_told_each_way() {
        let there = from(11 * HOUR - 1, ABROAD);
        let travels = vec![from(10 * HOUR, ABROAD), from(8 * HOUR, HOME), there, from(11 * HOUR, HOME), from(11 * HOUR + 1, ABROAD)];
        // The fastest of each pair, whatever the order in which calls come.
        assert_eq!(detect(&facts(travels)), [travel(ABROAD, HOME, "BR", "DE", 0), travel(HOME, ABROAD, "DE", "BR", 0)]);
        assert_eq!(detect(&facts(vec![from(8 * HOUR, HOME), from(10 * HOUR + 1, ABROAD)])), [travel(HOME, ABROAD, "DE", "BR", 2)]);
    }

    #[test]
    fn slow_failed_and_placeless_calls_are_no_travel() {
        let failed = Call { failed: true, ..from(8 * HOUR, ABROAD) };
        let other = Call { actor: "role_session:AROAEXAMPLE:bob".to_owned(), ..from(8 * HOUR, ABROAD) };
        for innocent in
            [from(7 * HOUR + 3 * HOUR, ABROAD), failed, other, from(8 * HOUR, "10.0.0.1"), from(8 * HOUR, "ec2.amazonaws.com"), from(8 * HOUR, HOME)]
        {
            assert_eq!(detect(&facts(vec![from(7 * HOUR, HOME), innocent.clone()])), [], "{innocent:?}");
        }
    }

    #[test]
    fn a_call_without_a_place_between_two_changes_nothing() {
        let travels = vec![from(7 * HOUR, HOME), from(8 * HOUR, "ec2.amazonaws.com"), from(9 * HOUR, ABROAD)];
        assert_eq!(detect(&facts(travels)), [travel(HOME, ABROAD, "DE", "BR", 2)]);
    }
}
