//! The shipped rules: each is well-formed, and tried on records that it must and must not match.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeSet, HashSet};

use gumshoe_detections::{Rule, RuleSet, rule::Case};
use gumshoe_model::{DeadLetter, Event, Level, RecordKind};
use gumshoe_records::{Options, Sink, Stop, read};
use serde_json::{Value, json};

/// A part of a record, made whole.
fn whole(kind: RecordKind, record: &Value) -> String {
    Case { name: String::new(), matches: true, record: record.clone() }.text(kind)
}

struct Each<F>(F);

impl<F: FnMut(&Event<'_>)> Sink for Each<F> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        (self.0)(event);
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        panic!("{}: {}", letter.reason, letter.raw);
    }
}

fn with_event(text: &str, mut then: impl FnMut(&Event<'_>)) {
    let summary = read(text.as_bytes(), &Options::default(), &mut Each(|event: &Event<'_>| then(event))).unwrap();
    assert_eq!(summary.events, 1, "{text}");
}

fn ids<'r>(rules: impl Iterator<Item = &'r std::sync::Arc<Rule>>) -> BTreeSet<&'r str> {
    rules.map(|rule| rule.id.as_str()).collect()
}

#[test]
fn every_rule_matches_what_it_must_and_nothing_else() {
    let rules = RuleSet::shipped().unwrap();
    let mut wrong = Vec::new();
    for rule in rules.single() {
        assert!(rule.cases.iter().any(|case| case.matches), "{}: no record that matches", rule.source);
        assert!(rule.cases.iter().any(|case| !case.matches), "{}: no record that does not match", rule.source);
        for case in &rule.cases {
            with_event(&whole(rule.kind, &case.record), |event| {
                assert_eq!(event.kind, rule.kind, "{}: {}", rule.source, case.name);
                if rule.matches(event) != case.matches {
                    wrong.push(format!("{}: `{}` must {}match", rule.source, case.name, if case.matches { "" } else { "not " }));
                }
            });
        }
    }
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn attempts_count_a_level_lower() {
    let rules = RuleSet::shipped().unwrap();
    for (record, level) in [
        (json!({ "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging" }), Level::High),
        (json!({ "eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "errorCode": "AccessDenied" }), Level::Medium),
        (
            json!({
                "eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin", "errorMessage": "Failed authentication",
                "responseElements": { "ConsoleLogin": "Failure" }, "userIdentity": { "type": "Root", "arn": "arn:aws:iam::111122223333:root" }
            }),
            Level::High,
        ),
    ] {
        with_event(&whole(RecordKind::CloudTrail, &record), |event| {
            assert_eq!(rules.matches(event).map(|rule| rule.level_of(event)).max(), Some(level), "{record}");
        });
    }
}

#[test]
fn the_index_finds_what_trying_every_rule_finds() {
    let rules = RuleSet::shipped().unwrap();
    let parts: HashSet<&str> =
        rules.single().map(|rule| rule.id.as_str()).collect::<HashSet<_>>().difference(&rules.iter().map(|rule| rule.id.as_str()).collect()).copied().collect();
    let mut tried = 0;
    for rule in rules.single() {
        for case in &rule.cases {
            with_event(&whole(rule.kind, &case.record), |event| {
                let all = ids(rules.single().filter(|rule| rule.matches(event) && !parts.contains(rule.id.as_str())));
                assert_eq!(ids(rules.matches(event)), all, "{}: {}", rule.source, case.name);
                let every: Vec<&str> = rules.single().filter(|rule| rule.matches(event)).map(|rule| rule.id.as_str()).collect();
                let mut marks = "of the event before".to_owned();
                rules.mark(event, &mut marks);
                assert_eq!(marks, every.join(" "), "{}: {}", rule.source, case.name);
                tried += 1;
            });
        }
    }
    assert!(tried > 400, "{tried}");
}

#[test]
fn every_rule_says_what_it_has_to_say() {
    let rules = RuleSet::shipped().unwrap();
    let mut titles = HashSet::new();
    for rule in rules.iter() {
        let about = &rule.source;
        assert!(titles.insert(rule.title.clone()), "{about}: the title is that of another");
        assert!(!rule.tactics.is_empty() && !rule.techniques.is_empty(), "{about}: no tactic or technique");
        assert!(rule.description.len() > 10 && rule.description.ends_with('.'), "{about}: no description");
        assert!(!rule.title.ends_with('.') && rule.title.starts_with(char::is_uppercase), "{about}: {}", rule.title);
        assert!(!rule.false_positives.is_empty(), "{about}: does not say when it is wrong");
        assert!(!rule.only_if_new || rule.level <= Level::Medium, "{about}: what many do is not graver than medium");
    }
    let shipped = rules.len();
    assert!((150..1_000).contains(&shipped), "{shipped}");
}

#[test]
fn rules_name_behaviour_and_no_samples() {
    for rule in RuleSet::shipped().unwrap().single() {
        let file = std::fs::read_to_string(format!("{}/rules/{}", env!("CARGO_MANIFEST_DIR"), rule.source)).unwrap();
        for name in ["stratus", "red-team", "christophe", "panther", "invictus", "traildiscover"] {
            assert!(!file.to_ascii_lowercase().contains(name), "{}: {name}", rule.source);
        }
    }
}
