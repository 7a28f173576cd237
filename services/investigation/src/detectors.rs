//! Detectors: from what is known of a subject to indicators. Each is a pure function; a new one joins the list.

use crate::{facts::Facts, indicator::Indicator};

pub mod findings;
pub mod groups;
pub mod newness;
pub mod techniques;
pub mod threats;
pub mod travel;

/// The most indicators that one detector gives.
const MAX_INDICATORS: usize = 200;

/// A detector: its indicators, those that matter most first.
type Detector = fn(&Facts) -> Vec<Indicator>;

/// Every detector, in the order of the kinds of indicators.
const DETECTORS: &[Detector] = &[
    techniques::detect,
    travel::detect,
    threats::detect,
    newness::detect_places,
    newness::detect_networks,
    newness::detect_user_agents,
    findings::detect,
    groups::detect,
];

/// What all detectors find, by kind.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    DETECTORS.iter().flat_map(|detector| detector(facts).into_iter().take(MAX_INDICATORS)).collect()
}

/// Of what detectors have found, at most so many of each kind.
pub fn cut(indicators: &mut Vec<Indicator>, most: usize) {
    let (mut kind, mut count) = (None, 0);
    indicators.retain(|indicator| {
        count = if kind == Some(indicator.kind()) { count + 1 } else { 1 };
        kind = Some(indicator.kind());
        count <= most
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use gumshoe_model::{TimeWindow, Timestamp, time::MICROS_PER_DAY};

    use super::*;
    use crate::{
        facts::{Call, Habits, RelatedFinding, Seen},
        techniques::{Tactic, Technique},
    };

    pub(crate) const START: i64 = 1_700_000_000_000_000;

    /// A user in a scope time of two days, with a full baseline, who did nothing.
    pub(crate) fn quiet() -> Facts {
        let scope = TimeWindow::new(Timestamp(START), Timestamp(START + 2 * MICROS_PER_DAY)).unwrap();
        let trained = Habits { baseline_days: 45, ..Habits::default() };
        let none = Facts::none("arn:aws:iam::111122223333:user/ann".parse().unwrap(), scope);
        Facts { habits: trained.clone(), account: trained, ..none }
    }

    pub(crate) fn seen(name: &str, new: bool) -> Seen {
        Seen { name: name.to_owned(), count: 1, new, ..Seen::default() }
    }

    /// A successful call so many seconds after the start.
    pub(crate) fn call(seconds: i64, service: &str, operation: &str, address: &str) -> Call {
        Call {
            time: Timestamp(START + seconds * 1_000_000),
            actor: "user:arn:aws:iam::111122223333:user/ann".to_owned(),
            service: format!("{service}.amazonaws.com"),
            operation: operation.to_owned(),
            failed: false,
            address: address.to_owned(),
            techniques: Vec::new(),
        }
    }

    #[test]
    fn nothing_known_means_nothing_found() {
        assert_eq!(detect(&quiet()), []);
        let facts = quiet();
        assert_eq!(detect(&Facts::none(facts.subject, facts.scope)), []);
    }

    #[test]
    fn indicators_come_by_kind_and_are_bounded() {
        let mut facts = quiet();
        let technique = Technique {
            level: 3,
            tactic: Tactic::DefenseEvasion,
            id: "T1562.008".to_owned(),
            others: Vec::new(),
            procedure: "x".to_owned(),
            only_if_new: false,
        };
        facts.calls = vec![Call { techniques: vec![technique], ..call(0, "cloudtrail", "StopLogging", "203.0.113.9") }];
        facts.habits.user_agents = (0..1_000).map(|number| seen(&format!("agent/{number}"), true)).collect();
        facts.habits.networks = vec![seen("Example", true)];
        facts.findings = vec![RelatedFinding { id: "f".to_owned(), finding_type: "t".to_owned(), address: String::new() }];
        let found = detect(&facts);
        assert!(found.is_sorted_by_key(Indicator::kind), "{found:?}");
        assert_eq!(found.len(), 1 + 1 + MAX_INDICATORS + 1);
    }
}
