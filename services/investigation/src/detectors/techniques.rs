//! TTP_OBSERVED: calls that detection rules matched, by technique, operation and address.

use std::{cmp::Reverse, collections::BTreeMap};

use crate::{
    facts::{Call, Facts, Habits},
    indicator::Indicator,
    severity::tactic_points,
    techniques::Technique,
};

/// Whether a rule's match counts. In training, everything is new and newness says nothing; of an operation that the profile does not
/// list, nothing is known.
fn counts(technique: &Technique, call: &Call, habits: &Habits) -> bool {
    let is_new = || habits.operations.iter().any(|seen| seen.service == call.service && seen.name == call.operation && seen.new);
    !technique.only_if_new || (!habits.in_training() && is_new())
}

/// The techniques of a call, each once: by the rule that matters most, then by name.
fn of_call<'c>(call: &'c Call, habits: &Habits) -> BTreeMap<&'c str, &'c Technique> {
    let mut found: BTreeMap<&str, &Technique> = BTreeMap::new();
    for technique in call.techniques.iter().filter(|technique| counts(technique, call, habits)) {
        let weight = |technique: &Technique| (technique.level, Reverse(technique.procedure.clone()));
        let known = found.entry(&technique.id).or_insert(technique);
        if weight(technique) > weight(known) {
            *known = technique;
        }
    }
    found
}

/// Calls of one operation and address that a rule matched.
#[derive(Debug)]
struct Seen<'f> {
    technique: &'f Technique,
    operation: &'f str,
    address: &'f str,
    successes: u64,
    failures: u64,
}

/// Finds techniques: the gravest first, then those of most calls.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    let mut found: BTreeMap<_, Seen<'_>> = BTreeMap::new();
    for call in &facts.calls {
        let (operation, address) = (call.operation.as_str(), call.address.as_str());
        for (id, technique) in of_call(call, &facts.habits) {
            let key = (id, operation, technique.procedure.as_str(), address);
            let seen = found.entry(key).or_insert(Seen { technique, operation, address, successes: 0, failures: 0 });
            *(if call.failed { &mut seen.failures } else { &mut seen.successes }) += 1;
        }
    }
    let mut found: Vec<Seen<'_>> = found.into_values().collect();
    found.sort_by_key(|seen| Reverse((tactic_points(seen.technique.tactic), seen.successes, seen.failures)));
    let indicator = |seen: &Seen<'_>, technique: &str, further: bool| Indicator::TtpObserved {
        tactic: seen.technique.tactic,
        technique: technique.to_owned(),
        further,
        procedure: seen.technique.procedure.clone(),
        address: seen.address.to_owned(),
        operation: seen.operation.to_owned(),
        successes: seen.successes,
        failures: seen.failures,
    };
    // What else the rules name comes last, as there is a limit.
    let first = found.iter().map(|seen| indicator(seen, &seen.technique.id, false));
    let further = found.iter().flat_map(|seen| seen.technique.others.iter().map(move |other| indicator(seen, other, true)));
    first.chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        detectors::tests::{call, quiet},
        facts::Seen as Activity,
        techniques::Tactic,
    };

    fn operation(service: &str, name: &str, new: bool) -> Activity {
        Activity { name: name.to_owned(), service: format!("{service}.amazonaws.com"), count: 1, new, ..Activity::default() }
    }

    fn rule(tactic: Tactic, id: &str, level: usize, procedure: &str) -> Technique {
        Technique { level, tactic, id: id.to_owned(), others: Vec::new(), procedure: procedure.to_owned(), only_if_new: false }
    }

    fn evasion() -> Technique {
        rule(Tactic::DefenseEvasion, "T1562.008", 3, "A trail was stopped")
    }

    fn user_made() -> Technique {
        Technique { only_if_new: true, ..rule(Tactic::Persistence, "T1136.003", 1, "A user was made") }
    }

    fn seen_in(indicators: &[Indicator]) -> Vec<(&str, &str, &str, &str, u64, u64)> {
        let part = |indicator| match indicator {
            &Indicator::TtpObserved { ref technique, ref procedure, ref operation, ref address, successes, failures, .. } => {
                (technique.as_str(), procedure.as_str(), operation.as_str(), address.as_str(), successes, failures)
            }
            other => panic!("{other:?}"),
        };
        indicators.iter().map(part).collect()
    }

    #[test]
    fn calls_are_counted_by_operation_and_address() {
        let mut facts = quiet();
        facts.habits.operations = vec![operation("iam", "CreateUser", true)];
        let made = |seconds, failed, address| Call { failed, techniques: vec![user_made()], ..call(seconds, "iam", "CreateUser", address) };
        facts.calls = vec![
            made(1, false, "203.0.113.9"),
            made(2, false, "203.0.113.9"),
            made(3, true, "203.0.113.9"),
            made(4, true, "198.51.100.1"),
            call(5, "iam", "CreateRole", "203.0.113.9"),
            Call { techniques: vec![evasion()], ..call(6, "cloudtrail", "StopLogging", "") },
        ];
        let expected = [
            ("T1562.008", "A trail was stopped", "StopLogging", "", 1, 0),
            ("T1136.003", "A user was made", "CreateUser", "203.0.113.9", 2, 1),
            ("T1136.003", "A user was made", "CreateUser", "198.51.100.1", 0, 1),
        ];
        assert_eq!(seen_in(&detect(&facts)), expected);
    }

    #[test]
    fn what_many_do_counts_only_where_it_is_new() {
        let mut facts = quiet();
        facts.calls = vec![Call { techniques: vec![user_made(), evasion()], ..call(1, "iam", "CreateUser", "203.0.113.9") }];
        let ids = |facts: &Facts| seen_in(&detect(facts)).into_iter().map(|(id, ..)| id.to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&facts), ["T1562.008"], "of an operation that is not listed, nothing is known");
        facts.habits.operations = vec![operation("iam", "CreateUser", false), operation("ec2", "CreateUser", true)];
        assert_eq!(ids(&facts), ["T1562.008"]);
        facts.habits.operations = vec![operation("iam", "CreateUser", true)];
        assert_eq!(ids(&facts), ["T1562.008", "T1136.003"]);
        facts.habits.baseline_days = 13;
        assert_eq!(ids(&facts), ["T1562.008"], "in training");
    }

    #[test]
    fn of_rules_of_one_technique_the_one_that_matters_most_takes_a_call() {
        let mut facts = quiet();
        let own = Technique { only_if_new: true, ..rule(Tactic::Persistence, "T1098.001", 1, "A key was made") };
        let of_another = rule(Tactic::Persistence, "T1098.001", 2, "A key was made for another user");
        facts.calls = vec![
            Call { techniques: vec![own.clone(), of_another.clone()], ..call(1, "iam", "CreateAccessKey", "203.0.113.9") },
            Call { techniques: vec![own], ..call(2, "iam", "CreateAccessKey", "203.0.113.9") },
        ];
        assert_eq!(seen_in(&detect(&facts)), [("T1098.001", "A key was made for another user", "CreateAccessKey", "203.0.113.9", 1, 0)], "its own key is none");
        facts.habits.operations = vec![operation("iam", "CreateAccessKey", true)];
        assert_eq!(detect(&facts).len(), 2, "but for the first time");
    }
}
