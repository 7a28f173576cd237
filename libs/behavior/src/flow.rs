//! What hourly sums of flows tell: beacons, scans, and data going out.
//!
//! The graph keeps flows as sums by hour, pair and port, so intervals of seconds are not known; what is said here can be said
//! from the sums alone.

use gumshoe_model::{Hour, Measures, time::MICROS_PER_HOUR};

use crate::{
    anomaly::{Anomaly, of_surprise},
    robust::{evenness, quantile, sorted},
    volume::Volume,
};

/// Fewest hours with connections from which a beacon is told.
const BEACON_HOURS: usize = 12;
/// From how many hours with connections out of all on counts by hour are compared, and not the hours between.
const DENSE: f64 = 0.75;
/// Bytes in an hour below which nothing is said about data going out.
pub const LEAST_BYTES: u64 = 10_000_000;

/// How many local sides talk to a remote one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prevalence {
    /// Those that do.
    pub some: u64,
    /// All.
    pub of: u64,
}

/// How much the connections of one local side with one remote address and port are like those of a machine that calls home.
///
/// Four parts make a quarter each, as in RITA, here by hours:
///
/// | part | 1 where |
/// |---|---|
/// | rhythm | connections an hour, or, if three quarters of the hours have none, the hours between, are all alike ([`evenness`]) |
/// | size | bytes out for each connection are all alike |
/// | persistence | every hour from the first to the last has connections, or half of them in a row |
/// | all day | connections are spread over the quarters of the day: one less the coefficient of variation, not below 0 |
///
/// The score is 100 times their mean, 15 more if at most 2% of the local sides talk to the remote one, 15 less if at least half do.
/// None with fewer than 12 hours of connections. `hours` are the sums by hour, in any order.
#[must_use]
pub fn beacon(hours: &[(Hour, Measures)], prevalence: Prevalence) -> Option<Anomaly> {
    let mut seen: Vec<&(Hour, Measures)> = hours.iter().filter(|(_, measures)| measures.count > 0).collect();
    seen.sort_by_key(|(hour, _)| *hour);
    let (first, last) = (seen.first()?.0, seen.last()?.0);
    if seen.len() < BEACON_HOURS {
        return None;
    }
    let span = (last.0 - first.0 + 1) as f64;
    let coverage = seen.len() as f64 / span;
    let counts: Vec<f64> = seen.iter().map(|(_, measures)| measures.count as f64).collect();
    let gaps: Vec<f64> = seen.windows(2).filter_map(|pair| Some((pair.last()?.0.0 - pair.first()?.0.0) as f64)).collect();
    let rhythm = if coverage >= DENSE { evenness(&counts) } else { evenness(&gaps) };
    let sizes: Vec<f64> = seen.iter().map(|(_, measures)| measures.bytes_out as f64 / measures.count as f64).collect();
    let size = evenness(&sizes);
    let longest = gaps.split(|gap| *gap > 1.0).map(<[f64]>::len).max().unwrap_or_default() + 1;
    let persistence = coverage.max((2.0 * longest as f64 / span).min(1.0));
    let mut quarters = [0.0; 4];
    for (hour, measures) in &seen {
        if let Some(sum) = quarters.get_mut(hour.0.rem_euclid(24) as usize / 6) {
            *sum += measures.count as f64;
        }
    }
    let mean = quarters.iter().sum::<f64>() / 4.0;
    let variation = (quarters.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / 4.0).sqrt() / mean;
    let all_day = (1.0 - variation).max(0.0);
    let parts = [rhythm, size, persistence, all_day];
    let share = prevalence.some as f64 / (prevalence.of as f64).max(1.0);
    let modifier = match share {
        _ if prevalence.of == 0 => 0.0,
        share if share <= 0.02 => 15.0,
        share if share >= 0.5 => -15.0,
        _ => 0.0,
    };
    let score = (25.0 * parts.iter().sum::<f64>() + modifier).clamp(0.0, 100.0);
    let typical = quantile(&sorted(counts), 0.5);
    let every = quantile(&sorted(gaps), 0.5);
    let label = if coverage >= DENSE {
        format!("about {typical:.0} connections an hour in {} of {span:.0} hours", seen.len())
    } else {
        format!("connections every {every:.0} hours, {} times in {span:.0} hours", seen.len())
    };
    let baseline = format!("{} of {} local sides talk to it", prevalence.some, prevalence.of);
    let names = ["rhythm", "size of what is sent", "persistence", "spread over the day"];
    let mut weights: Vec<(String, f64)> = names.iter().zip(parts).map(|(name, part)| (format!("{name}: {:.0}%", part * 100.0), 25.0 * part)).collect();
    if modifier > 0.0 {
        weights.push((baseline.clone(), modifier));
    }
    Some(Anomaly::new(score, label, baseline, weights))
}

/// First contacts of a side with others, each an address and port. Merging is adding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contacts {
    /// Those that were rejected or got no answer.
    pub failed: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Different addresses among them.
    pub addresses: u64,
    /// Different ports among them.
    pub ports: u64,
}

/// The chances that a first contact of a benign side and of a scanner is answered.
const BENIGN: f64 = 0.8;
const SCANNER: f64 = 0.2;
/// The odds from which on a side is called a scanner: detection 99%, false alarms 1%.
pub const SCAN_ODDS: f64 = 99.0;

/// How much contacts speak for a scan, by a sequential hypothesis test (Jung, Paxson, Berger, Balakrishnan: "Fast Portscan Detection
/// Using Sequential Hypothesis Testing", 2004).
///
/// A benign side is answered with chance 0.8, a scanner with 0.2, so each contact moves the logarithm of the odds by `ln 4` up or
/// down. The score is `100 · (1 − e^(−odds / 10))` of that logarithm; none below odds of 99, which four more failures than answers
/// make.
#[must_use]
pub fn scan(contacts: Contacts) -> Option<Anomaly> {
    let Contacts { failed, answered, addresses, ports } = contacts;
    let odds = failed as f64 * ((1.0 - SCANNER) / (1.0 - BENIGN)).ln() + answered as f64 * (SCANNER / BENIGN).ln();
    if odds < SCAN_ODDS.ln() {
        return None;
    }
    let shape = match (addresses, ports) {
        (0..=1, _) => "ports of one address",
        (_, 0..=1) => "addresses on one port",
        _ => "addresses and ports",
    };
    let all = failed + answered;
    let label = format!("{failed} of {all} contacts failed, over {addresses} addresses and {ports} ports ({shape})");
    let baseline = format!("of a side that does not scan {:.0}% fail", (1.0 - BENIGN) * 100.0);
    Some(Anomaly::new(of_surprise(odds, 100.0), label, baseline, vec![(format!("{failed} failed contacts"), 1.0)]))
}

/// Data that went from a local side to a remote one in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Which hour.
    pub hour: Hour,
    /// Bytes to the remote side.
    pub out: u64,
    /// Bytes from it.
    pub back: u64,
    /// Whether the local side never talked to it in the baseline.
    pub new: bool,
}

/// How much data going out is unusual. None for less than 10 MB, or not more than came back.
///
/// ```text
/// score = volume · (out − back) / (out + back) · (1 if the remote side is new, else 0.6)
/// ```
///
/// with `volume` the score of so many bytes out in that hour, all remote sides together being usual (see [`crate::volume`]),
/// scaled to 100.
#[must_use]
pub fn exfiltration(sent: Sent, usual: &Volume) -> Option<Anomaly> {
    let Sent { hour, out, back, new } = sent;
    if out < LEAST_BYTES || out <= back {
        return None;
    }
    let volume = usual.anomaly(hour, out, "bytes out");
    let (out_bytes, back_bytes) = (out as f64, back as f64);
    let one_way = (out_bytes - back_bytes) / (out_bytes + back_bytes);
    let score = volume.score / 0.8 * one_way * if new { 1.0 } else { 0.6 };
    let place = if new { "a remote side never seen before" } else { "a known remote side" };
    let label = format!("{:.0} MB out and {:.0} MB back to {place}", out_bytes / 1e6, back_bytes / 1e6);
    let mut weights: Vec<(String, f64)> = volume.parts.into_iter().map(|part| (part.what, part.by)).collect();
    if new {
        weights.push((place.to_owned(), volume.score * 0.4));
    }
    Some(Anomaly::new(score, label, volume.baseline, weights))
}

/// Minutes that connections of an hour were spread over, from the first to the last: 0 to 60.
#[must_use]
pub fn minutes(measures: &Measures) -> f64 {
    let span = measures.last.0.saturating_sub(measures.first.0).clamp(0, MICROS_PER_HOUR);
    span as f64 / 60e6
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{random::Random, volume::History};

    const RARE: Prevalence = Prevalence { some: 1, of: 200 };
    const START: i64 = 473_352;

    fn sums(count: u64, bytes: u64) -> Measures {
        Measures { count, bytes_out: bytes, ..Measures::ZERO }
    }

    /// Sums by hour, where there is a connection.
    fn week(count: impl Fn(i64) -> u64, bytes: impl Fn(i64) -> u64) -> Vec<(Hour, Measures)> {
        (0..168).map(|hour| (Hour(START + hour), sums(count(hour), count(hour) * bytes(hour)))).filter(|(_, sums)| sums.count > 0).collect()
    }

    fn score(hours: &[(Hour, Measures)]) -> f64 {
        beacon(hours, RARE).map_or(0.0, |anomaly| anomaly.score)
    }

    #[test]
    fn beacons_are_told_from_people_and_downloads() {
        let every_minute = week(|_| 60, |_| 320);
        let jittered = week(|hour| 55 + (hour * 7 % 11) as u64, |hour| 300 + (hour * 13 % 40) as u64);
        let slow = week(|hour| u64::from(hour % 4 == 0), |_| 320);
        for (name, hours) in [("every minute", &every_minute), ("jittered", &jittered), ("every four hours", &slow)] {
            assert!(score(hours) >= 80.0, "{name}: {}", score(hours));
        }
        let person = week(|hour| if (9..17).contains(&(hour % 24)) { (hour * 37 % 19) as u64 } else { 0 }, |hour| 500 + (hour * hour * 7_919 % 90_000) as u64);
        let mut random = Random::new(1);
        let noise: Vec<u64> = (0..168).map(|_| random.next() % 5 * (random.next() % 3)).collect();
        let random = week(|hour| noise[hour as usize], |hour| 100 + noise[(hour as usize * 7) % 168] * 5_000);
        for (name, hours) in [("person", &person), ("random", &random)] {
            assert!(score(hours) < 75.0, "{name}: {}", score(hours));
        }
        assert_eq!(beacon(&every_minute[..11], RARE), None);
        assert_eq!(beacon(&[], RARE), None);
    }

    #[test]
    fn what_everybody_talks_to_is_less_of_a_beacon() {
        let hours = week(|_| 60, |_| 320);
        let at = |some: u64| beacon(&hours, Prevalence { some, of: 200 }).unwrap();
        assert_eq!(at(200).score, at(20).score - 15.0);
        assert_eq!(at(4).score, 100.0);
        assert_eq!(at(4).label, "about 60 connections an hour in 168 of 168 hours");
        assert!(at(4).parts.iter().any(|part| part.what == "4 of 200 local sides talk to it"));
        let slow = beacon(&week(|hour| u64::from(hour % 4 == 0), |_| 320), RARE).unwrap();
        assert_eq!(slow.label, "connections every 4 hours, 42 times in 165 hours");
    }

    #[test]
    fn scans_take_failures_and_few_answers() {
        let of = |failed: u64, answered: u64| scan(Contacts { failed, answered, addresses: failed + answered, ports: 1 });
        assert_eq!(of(3, 0), None);
        assert!(of(4, 0).is_some_and(|anomaly| anomaly.score > 30.0));
        assert!(of(40, 0).unwrap().score > 99.0);
        // A busy server with some that fail.
        assert_eq!(of(300, 1_000), None);
        assert!(of(40, 3).unwrap().label.ends_with("43 addresses and 1 ports (addresses on one port)"));
    }

    #[test]
    fn much_data_to_a_new_place_stands_out() {
        let mut history = History::default();
        for hour in 0..45 * 24 {
            history.add(Hour(START + hour), 40_000_000 + (hour * 7_919 % 20_000_000) as u64);
        }
        let usual = history.usual(Hour(START), Hour(START + 45 * 24));
        let hour = Hour(START + 45 * 24 + 3);
        let of = |out: u64, back: u64, new: bool| exfiltration(Sent { hour, out, back, new }, &usual).map_or(0.0, |anomaly| anomaly.score);
        assert!(of(50_000_000, 1_000_000, true) < 15.0);
        assert!(of(20_000_000_000, 1_000_000, true) > 80.0, "{}", of(20_000_000_000, 1_000_000, true));
        assert!(of(20_000_000_000, 1_000_000, false) < of(20_000_000_000, 1_000_000, true));
        // A download, a backup that is usual, and little.
        assert_eq!([of(20_000_000, 9_000_000_000, true), of(9_999_999, 0, true)], [0.0, 0.0]);
        let anomaly = exfiltration(Sent { hour, out: 20_000_000_000, back: 0, new: true }, &usual).unwrap();
        assert_eq!(anomaly.label, "20000 MB out and 0 MB back to a remote side never seen before");
        assert!(anomaly.baseline.starts_with("usual at that hour: about 4"), "{}", anomaly.baseline);
    }

    #[test]
    fn an_hour_is_spread_over_minutes() {
        let at = |minute: i64| gumshoe_model::Timestamp(minute * 60_000_000);
        assert_eq!(minutes(&Measures { first: at(3), last: at(33), ..sums(2, 0) }), 30.0);
        assert_eq!(minutes(&Measures::ZERO), 0.0);
    }

    proptest! {
        #[test]
        fn scores_are_bounded_and_order_does_not_matter(hours in prop::collection::vec((0..2_000_i64, 0..1_000_u64, 0..1_000_000_u64), 0..200), some in 0..10_u64, of in 0..10_u64) {
            let hours: std::collections::BTreeMap<i64, (u64, u64)> = hours.into_iter().map(|(hour, count, bytes)| (hour, (count, bytes))).collect();
            let mut hours: Vec<(Hour, Measures)> = hours.into_iter().map(|(hour, (count, bytes))| (Hour(hour), sums(count, bytes))).collect();
            let found = beacon(&hours, Prevalence { some, of });
            if let Some(anomaly) = &found {
                prop_assert!((0.0..=100.0).contains(&anomaly.score), "{anomaly:?}");
                prop_assert!((anomaly.parts.iter().map(|part| part.by).sum::<f64>() - anomaly.score).abs() < 1e-9);
            }
            hours.reverse();
            prop_assert_eq!(beacon(&hours, Prevalence { some, of }), found);
        }

        #[test]
        fn failures_raise_a_scan_and_answers_lower_it(failed in 0..1_000_u64, answered in 0..1_000_u64, more in 1..100_u64) {
            let of = |failed: u64, answered: u64| scan(Contacts { failed, answered, addresses: 9, ports: 9 }).map_or(0.0, |anomaly| anomaly.score);
            prop_assert!((0.0..=100.0).contains(&of(failed, answered)));
            prop_assert!(of(failed + more, answered) >= of(failed, answered));
            prop_assert!(of(failed, answered + more) <= of(failed, answered));
        }

        #[test]
        fn more_data_out_is_never_less_unusual(out in LEAST_BYTES..u64::MAX / 4, back in 0..u64::MAX / 4, more in 0..u64::MAX / 4, new in any::<bool>()) {
            let usual = History::default().usual(Hour(0), Hour(1_080));
            let of = |out: u64| exfiltration(Sent { hour: Hour(1_081), out, back, new }, &usual).map_or(0.0, |anomaly| anomaly.score);
            prop_assert!((0.0..=100.0).contains(&of(out)));
            prop_assert!(of(out + more) >= of(out) - 1e-6);
        }
    }
}
