//! TTP_OBSERVED: calls that are a technique of MITRE ATT&CK, by operation and address.

use std::{cmp::Reverse, collections::BTreeMap};

use gumshoe_model::{TimeWindow, time::MICROS_PER_DAY};

use crate::{
    facts::{Facts, Habits, Seen},
    indicator::Indicator,
    severity::tactic_points,
    techniques::{self, Technique, When},
};

/// A burst calls an operation so many times as often, a day, as the baseline does.
const BURST_FACTOR: u128 = 10;

/// An operation whose calls are to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The service, such as `iam.amazonaws.com`.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// Whether what the calls asked for matters, so that their records are needed.
    pub records: bool,
}

/// Whether it must be known how often operations were called in the baseline.
#[must_use]
pub fn asks_for_baseline(habits: &Habits) -> bool {
    let asks = |seen: &Seen| techniques::of(&seen.service, &seen.name).any(|row| matches!(row.when, When::Burst(calls) if seen.count >= calls && !seen.new));
    !habits.in_training() && habits.operations.iter().any(asks)
}

/// The operations whose calls [`detect`] wants to see.
#[must_use]
pub fn wanted(scope: TimeWindow, habits: &Habits, before: &Habits) -> Vec<Wanted> {
    let want = |seen: &Seen| {
        let mut rows = techniques::of(&seen.service, &seen.name).filter(|row| may_apply(row, seen, scope, habits, before)).peekable();
        rows.peek()?;
        let records = rows.any(|row| matches!(row.when, When::If(_)));
        Some(Wanted { service: seen.service.clone(), operation: seen.name.clone(), records })
    };
    habits.operations.iter().filter_map(want).collect()
}

/// Whether a row applies to calls of an operation; for [`When::If`], the single call decides.
fn may_apply(row: &Technique, seen: &Seen, scope: TimeWindow, habits: &Habits, before: &Habits) -> bool {
    match row.when {
        When::Always | When::If(_) => true,
        // In training, everything is new.
        When::New => seen.new && !habits.in_training(),
        When::Burst(calls) => seen.count >= calls && !habits.in_training() && (seen.new || is_burst(seen, scope, habits, before)),
    }
}

fn is_burst(seen: &Seen, scope: TimeWindow, habits: &Habits, before: &Habits) -> bool {
    let micros = |micros: i64| u128::try_from(micros).unwrap_or_default();
    let now = u128::from(seen.count) * u128::from(habits.baseline_days) * micros(MICROS_PER_DAY);
    let usual = u128::from(before.calls_of(&seen.service, &seen.name)) * micros(scope.end().0 - scope.start().0);
    now >= BURST_FACTOR * usual
}

/// Finds techniques: the gravest first, then those of most calls.
#[must_use]
pub fn detect(facts: &Facts) -> Vec<Indicator> {
    let Facts { subject, scope, habits, before, .. } = facts;
    // Calls may lie outside of what the profile lists; then nothing is known of their past.
    let unlisted = Seen::default();
    let mut found: BTreeMap<(&str, &str, &str), (&Technique, u64, u64)> = BTreeMap::new();
    for call in &facts.calls {
        let seen = habits.operations.iter().find(|seen| seen.service == call.service && seen.name == call.operation).unwrap_or(&unlisted);
        let takes = |row: &&Technique| match row.when {
            When::If(condition) => condition(subject, &call.record),
            _ => may_apply(row, seen, *scope, habits, before),
        };
        let Some(row) = techniques::of(&call.service, &call.operation).find(takes) else { continue };
        let (_, successes, failures) = found.entry((row.operation, row.procedure, &call.address)).or_insert((row, 0, 0));
        *(if call.failed { failures } else { successes }) += 1;
    }
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(_, (row, successes, failures))| Reverse((tactic_points(row.tactic), *successes, *failures)));
    let indicator = |((operation, procedure, address), (row, successes, failures)): ((&str, &str, &str), (&Technique, u64, u64))| Indicator::TtpObserved {
        tactic: row.tactic,
        technique: row.id.to_owned(),
        procedure: procedure.to_owned(),
        address: address.to_owned(),
        operation: operation.to_owned(),
        successes,
        failures,
    };
    found.into_iter().map(indicator).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        detectors::tests::{call, quiet},
        facts::Call,
    };

    fn operation(service: &str, name: &str, count: u64, new: bool) -> Seen {
        Seen { name: name.to_owned(), service: format!("{service}.amazonaws.com"), count, new, ..Seen::default() }
    }

    fn names(wanted: &[Wanted]) -> Vec<(&str, bool)> {
        wanted.iter().map(|wanted| (wanted.operation.as_str(), wanted.records)).collect()
    }

    fn seen_in(indicators: &[Indicator]) -> Vec<(&str, &str, &str, u64, u64)> {
        let part = |indicator| match indicator {
            &Indicator::TtpObserved { ref technique, ref operation, ref address, successes, failures, .. } => {
                (technique.as_str(), operation.as_str(), address.as_str(), successes, failures)
            }
            other => panic!("{other:?}"),
        };
        indicators.iter().map(part).collect()
    }

    #[test]
    fn sensitive_operations_and_new_ones_are_looked_at() {
        let mut facts = quiet();
        facts.habits.operations = vec![
            operation("cloudtrail", "StopLogging", 1, false),
            operation("iam", "CreateUser", 1, true),
            operation("iam", "CreateRole", 1, false),
            operation("iam", "CreateAccessKey", 1, false),
            operation("s3", "GetObject", 99, true),
            operation("s3", "NobodyKnows", 1, true),
        ];
        assert_eq!(names(&wanted(facts.scope, &facts.habits, &facts.before)), [("StopLogging", false), ("CreateUser", false), ("CreateAccessKey", true)]);
        facts.habits.baseline_days = 13;
        assert_eq!(names(&wanted(facts.scope, &facts.habits, &facts.before)), [("StopLogging", false), ("CreateAccessKey", true)], "in training");
    }

    #[test]
    fn a_burst_is_measured_against_the_baseline() {
        let mut facts = quiet();
        // 40 in two days, against 45 days of baseline: ten times as many as 90.
        facts.habits.operations = vec![operation("secretsmanager", "GetSecretValue", 40, false)];
        assert!(asks_for_baseline(&facts.habits));
        for (usual, burst) in [(90, true), (91, false)] {
            facts.before.operations = vec![operation("secretsmanager", "GetSecretValue", usual, false)];
            assert_eq!(!wanted(facts.scope, &facts.habits, &facts.before).is_empty(), burst, "{usual}");
        }
        facts.habits.operations = vec![operation("secretsmanager", "GetSecretValue", 9, false), operation("iam", "CreateUser", 1, true)];
        assert!(!asks_for_baseline(&facts.habits));
        facts.habits.operations = vec![operation("s3", "GetObject", 100, true)];
        assert!(!asks_for_baseline(&facts.habits) && !wanted(facts.scope, &facts.habits, &facts.before).is_empty());
    }

    #[test]
    fn calls_are_counted_by_operation_and_address() {
        let mut facts = quiet();
        facts.habits.operations = vec![operation("iam", "CreateUser", 4, true), operation("iam", "CreateRole", 4, false)];
        let failed = |call: Call| Call { failed: true, ..call };
        facts.calls = vec![
            call(1, "iam", "CreateUser", "203.0.113.9"),
            call(2, "iam", "CreateUser", "203.0.113.9"),
            failed(call(3, "iam", "CreateUser", "203.0.113.9")),
            failed(call(4, "iam", "CreateUser", "198.51.100.1")),
            call(5, "iam", "CreateRole", "203.0.113.9"),
            call(6, "cloudtrail", "DeleteTrail", ""),
        ];
        let found = detect(&facts);
        assert_eq!(
            seen_in(&found),
            [("T1562.008", "DeleteTrail", "", 1, 0), ("T1136.003", "CreateUser", "203.0.113.9", 2, 1), ("T1136.003", "CreateUser", "198.51.100.1", 0, 1),]
        );
    }

    #[test]
    fn what_a_call_asked_for_decides() {
        let mut facts = quiet();
        facts.habits.operations = vec![operation("iam", "CreateAccessKey", 2, false)];
        let for_user = |seconds: i64, user: &str| Call {
            record: json!({ "requestParameters": { "userName": user } }),
            ..call(seconds, "iam", "CreateAccessKey", "203.0.113.9")
        };
        facts.calls = vec![for_user(1, "ann"), for_user(2, "bob")];
        let found = detect(&facts);
        assert_eq!(seen_in(&found), [("T1098.001", "CreateAccessKey", "203.0.113.9", 1, 0)], "its own key is none");
        facts.habits.operations = vec![operation("iam", "CreateAccessKey", 2, true)];
        assert_eq!(detect(&facts).len(), 2, "but for the first time");
    }
}
