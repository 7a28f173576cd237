//! Laws of parsing and matching: no text makes it panic, every problem says where it is, and several events are told in any order that
//! ingest may give them.
#![expect(clippy::panic, reason = "tests")]

use std::{fs, sync::Arc};

use gumshoe_detections::{Correlated, Correlations, LoadError, Problem, RuleSet, Rules};
use gumshoe_model::{EntityRef, EntityType, Event, RecordKind, Timestamp};
use proptest::prelude::*;

const ID: &str = "5c7b4b0e-6f0d-4c8a-9d0e-0b8d5c1f7a01";

/// A rule on CloudTrail with this detection.
fn rule(detection: &str) -> String {
    format!("title: T\nid: {ID}\nlogsource: {{product: aws, service: cloudtrail}}\ndetection:\n{detection}\n")
}

fn problems(text: &str) -> Vec<Problem> {
    match RuleSet::parse(&[("rule.yml", text)]) {
        Err(LoadError::Wrong(problems)) => problems,
        other => panic!("{other:?} of {text}"),
    }
}

fn matches(text: &str, record: &str) -> bool {
    let rules = RuleSet::parse(&[("rule.yml", text)]).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut event = Event::new(RecordKind::CloudTrail, Timestamp(0), record);
    event.service = "s3.amazonaws.com".into();
    event.operation = "PutObject".into();
    event.account = "111122223333".into();
    event.address = "198.51.100.7".into();
    rules.matches(&event).count() == 1
}

#[test]
fn problems_name_file_field_and_reason() {
    let selection = "  selection: {eventName: X}\n";
    for (text, field, reason) in [
        (rule("  selection: {eventName: X}\n  condition: other"), "detection.condition", "there is no selection `other`"),
        (rule("  selection: {eventName: X}\n  condition: 3 of selection*"), "detection.condition", "`3 of selection*`: there are only 1"),
        (
            rule(&format!("{selection}  condition: selection | count() > 5")),
            "detection.condition",
            "aggregations with `|` are not supported: use a correlation rule",
        ),
        (rule("  selection: {eventName|has: X}\n  condition: selection"), "detection.selection.eventName|has", "`has` is not a modifier"),
        (rule("  selection: {'a.b|re': '('}\n  condition: selection"), "detection.selection.a.b|re", "not a regular expression: error: unclosed group"),
        (
            rule("  selection: {'a|cidr': '10.0.0.0/99'}\n  condition: selection"),
            "detection.selection.a|cidr",
            "`10.0.0.0/99` is not a network: expected `10.0.0.0/8`",
        ),
        (
            rule("  selection: {'a|base64': x}\n  condition: selection"),
            "detection.selection.a|base64",
            "the modifier `base64` is not supported: no record here has such values",
        ),
        (rule("  selection: {event.nothing: x}\n  condition: selection"), "detection.selection.event.nothing", "`event.nothing` is not a part of an event"),
        (rule("  selection: {'a[any]': {b|gt: x}}\n  condition: selection"), "detection.selection.a[any].b|gt", "expected a number"),
        (rule("  selection: {a: []}\n  condition: selection"), "detection.selection.a", "the list of values is empty"),
        (rule("  selection: {a: x}\n  timeframe: 5m\n  condition: selection"), "detection.timeframe", "is not supported: use a correlation rule"),
        (
            format!("title: T\nid: {ID}\nlogsource: {{product: windows}}\ndetection: {{}}"),
            "logsource",
            "product `windows` and service ``: expected aws with cloudtrail, vpcflow, guardduty or securityhub, or kubernetes with audit",
        ),
        ("title: T\nid: 7".to_owned(), "id", "expected text"),
        ("title: T\nid: seven".to_owned(), "id", "`seven`: expected a UUID"),
        (
            rule("  selection: {a: x}\n  condition: selection").replace("title: T", "title: T\ntags: [attack.evasion]"),
            "tags",
            "`attack.evasion` is not a tactic of ATT&CK",
        ),
        (
            rule("  selection: {a: x}\n  condition: selection").replace("title: T", "title: T\nlevel: urgent"),
            "level",
            "level `urgent` is not valid: expected informational, low, medium, high or critical",
        ),
        (
            rule("  selection: {a: x}\n  condition: selection").replace("title: T", "title: T\ngumshoe: {only_if: true}"),
            "gumshoe.only_if",
            "is not known: expected only_if_new or cases",
        ),
        ("- a list".to_owned(), "", "expected a map"),
        (String::new(), "", "holds no rule"),
    ] {
        let expected = Problem { file: "rule.yml".to_owned(), field: field.to_owned(), reason: reason.to_owned() };
        assert_eq!(problems(&text), [expected], "{text}");
    }
    assert!(problems("title: T\ntitle: again")[0].reason.starts_with("line 2: not YAML"), "{:?}", problems("title: T\ntitle: again"));
    let twice = rule("  selection: {a: x}\n  condition: selection");
    let error = RuleSet::parse(&[("a.yml", &twice), ("b.yml", &twice)]).unwrap_err();
    assert_eq!(error.to_string(), format!("1 problems in rules: b.yml: `id`: `{ID}` is that of a rule in a.yml"));
}

#[test]
fn values_and_modifiers() {
    let record = r#"{
        "requestParameters": {
            "bucketName": "Logs", "count": 12, "flag": true, "empty": "", "nothing": null, "a.b": "dotted",
            "list": [{"port": 22, "from": ["10.0.0.0/8"]}, {"port": 443, "from": ["0.0.0.0/0"]}],
            "policy": "{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":[\"arn:aws:iam::999988887777:root\"]}}}"
        },
        "userIdentity": {"userName": "logs", "accountId": "111122223333"}
    }"#;
    for (selection, expected) in [
        ("requestParameters.bucketName: logs", true),
        ("requestParameters.bucketName|cased: logs", false),
        ("RequestParameters.BucketName: logs", true),
        ("requestParameters.bucketName|re: ^L.*s$", true),
        ("requestParameters.bucketName|re: ^l", false),
        ("requestParameters.bucketName|re|i: ^l", true),
        ("requestParameters.bucketName: [x, 'l*']", true),
        ("requestParameters.bucketName|contains|all: [lo, gs]", true),
        ("requestParameters.bucketName|contains|all: [lo, xx]", false),
        ("requestParameters.bucketName|contains: [xx, yy, OG, zz]", true),
        ("requestParameters.bucketName|contains: [xx, yy, zz]", false),
        ("requestParameters.bucketName|contains: [xx, ogx]", false),
        ("requestParameters.bucketName|fieldref: userIdentity.userName", true),
        ("requestParameters.bucketName|fieldref: userIdentity.accountId", false),
        ("requestParameters.count: 12", true),
        ("requestParameters.count: '12'", true),
        ("requestParameters.count|gte: 12", true),
        ("requestParameters.count|lt: 12", false),
        ("requestParameters.flag: true", true),
        ("requestParameters.empty: null", true),
        ("requestParameters.nothing: null", true),
        ("requestParameters.missing: null", true),
        ("requestParameters.missing: ''", true),
        ("requestParameters.bucketName: null", false),
        ("requestParameters: null", false),
        ("requestParameters.list: null", false),
        ("requestParameters.nothing|exists: false", true),
        ("requestParameters.empty|exists: true", true),
        ("requestParameters.list|exists: true", true),
        ("requestParameters.a.b: dotted", true),
        ("requestParameters.list.port: 443", true),
        ("requestParameters.list[any]: {port: 22, from: 10.0.0.0/8}", true),
        ("requestParameters.list[any]: {port: 22, from: 0.0.0.0/0}", false),
        ("requestParameters.list[any]: [{port: 1}, {port: 443, from|endswith: /0}]", true),
        ("requestParameters.policy.Statement.Principal.AWS|outsider: true", true),
        ("requestParameters.policy.Statement[any]: {Effect: Allow, Principal.AWS|outsider: true}", true),
        ("userIdentity.accountId|outsider: true", false),
        ("sourceIPAddress|cidr: [10.0.0.0/8, 198.51.100.0/24]", true),
        ("sourceIPAddress|cidr: 198.51.100.8", false),
        ("event.operation: putobject", true),
        ("event.port|exists: true", false),
    ] {
        assert_eq!(matches(&rule(&format!("  selection:\n    {selection}\n  condition: selection")), record), expected, "{selection}");
    }
    assert!(matches(&rule("  words: ['\"bucketName\": \"Logs\"', nowhere]\n  condition: words"), record));
    assert!(matches(
        &rule("  a: {eventName: X}\n  b: [{eventName: PutObject}, {eventName: Y}]\n  _c: {eventName: Z}\n  condition: 1 of them and not (a or _c)"),
        record
    ));
    assert!(!matches(&rule("  a: {requestParameters.bucketName: logs}\n  condition: a"), "not JSON"));
    let deep = format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000));
    assert!(!matches(&rule("  a: {a.a.a: 1}\n  condition: a"), &deep));
}

#[test]
fn a_folder_is_loaded_over_the_shipped_rules_and_again() {
    let folder = tempfile::tempdir().unwrap();
    let rules = Rules::open(Some(folder.path().to_owned())).unwrap();
    let shipped = rules.current();
    fs::create_dir(folder.path().join("ours")).unwrap();
    fs::write(folder.path().join("ours/one.yaml"), rule("  selection: {eventName: X}\n  condition: selection")).unwrap();
    fs::write(folder.path().join("notes.txt"), "not a rule").unwrap();
    assert_eq!(rules.reload().unwrap().len(), shipped.len() + 1);
    // Another meaning for a shipped one, then none.
    let other = shipped.iter().find(|rule| rule.title == "A trail was stopped or deleted").unwrap();
    let text = rule("  selection: {eventName: Y}\n  condition: selection").replace(ID, &other.id);
    fs::write(folder.path().join("other.yml"), &text).unwrap();
    let now = rules.reload().unwrap();
    assert_eq!(now.len(), shipped.len() + 1);
    assert!(now.iter().any(|rule| rule.id == other.id && rule.title == "T" && rule.source == "other.yml"));
    fs::write(folder.path().join("other.yml"), format!("{text}status: unsupported\n")).unwrap();
    assert!(rules.reload().unwrap().iter().all(|rule| rule.id != other.id));
    // What is wrong leaves the rules as they are.
    fs::write(folder.path().join("other.yml"), "title: [").unwrap();
    assert!(rules.reload().is_err());
    assert_eq!(rules.current().len(), shipped.len());
    assert_eq!(shipped.iter().filter(|rule| rule.id == other.id).count(), 1, "who took them before still has them");
    assert!(matches!(Rules::open(Some(folder.path().join("nowhere"))), Err(LoadError::Unreadable { .. })));
}

/// A call of an actor, so many seconds after the start.
fn call(id: usize, second: i64, actor: &str, operation: &str) -> Event<'static> {
    let mut event = Event::new(RecordKind::CloudTrail, Timestamp(1_700_000_000_000_000 + second * 1_000_000), "{}");
    event.id = id.to_string().into();
    event.actor = Some(EntityRef::new(EntityType::User, actor.to_owned()));
    event.operation = operation.to_owned().into();
    event
}

/// Two rules and what is said of them together.
fn several(correlation: &str) -> RuleSet {
    let part = |name: &str, number: u32| {
        let text = rule(&format!("  selection: {{eventName|startswith: {name}}}\n  condition: selection"));
        text.replace(ID, &format!("00000000-0000-4000-8000-{number:012}")).replace("title: T", &format!("title: T\nname: {name}"))
    };
    let text = format!("{}---\n{}---\ntitle: Several\nid: {ID}\nlevel: high\ncorrelation:\n{correlation}", part("List", 1), part("Get", 2));
    RuleSet::parse(&[("several.yml", text)]).unwrap_or_else(|error| panic!("{error}"))
}

fn told(rules: &RuleSet, events: &[Event<'_>]) -> Vec<(usize, Vec<String>, i64)> {
    let of =
        |found: Vec<Correlated>| found.into_iter().map(|found| (found.count, found.events, (found.last.0 - found.first.0) / 1_000_000)).collect::<Vec<_>>();
    let mut correlations = Correlations::new();
    let found: Vec<_> = events.iter().flat_map(|event| of(correlations.observe(rules, event))).collect();
    // With marks, nothing is matched again, and the same is found.
    let (mut correlations, mut marks) = (Correlations::new(), String::new());
    let marked = events.iter().flat_map(|event| {
        rules.mark(event, &mut marks);
        of(correlations.observe_marked(rules, event, &marks))
    });
    assert_eq!(marked.collect::<Vec<_>>(), found);
    found
}

#[test]
fn events_are_counted_by_group_within_the_time() {
    let rules = several("  type: event_count\n  rules: [List]\n  group-by: [event.actor]\n  timespan: 1m\n  condition: {gte: 3}\n");
    assert_eq!((rules.len(), rules.single().count()), (2, 2), "a part is not reported by itself");
    let calls = |seconds: &[i64]| seconds.iter().enumerate().map(|(id, second)| call(id, *second, "ann", "ListX")).collect::<Vec<_>>();
    assert_eq!(told(&rules, &calls(&[0, 10, 60])), [(3, vec!["0".to_owned(), "1".to_owned(), "2".to_owned()], 60)]);
    assert_eq!(told(&rules, &calls(&[0, 10, 71, 80])), []);
    assert_eq!(told(&rules, &calls(&[0, 20, 10, 70, 30, 40])).len(), 2, "late ones count, and it begins again");
    let mixed: Vec<Event<'_>> = ["ann", "bob", "ann", "bob"].iter().enumerate().map(|(id, actor)| call(id, id as i64, actor, "ListX")).collect();
    assert_eq!(told(&rules, &mixed), []);
    assert_eq!(told(&rules, &[call(0, 0, "ann", "GetX"), call(1, 1, "ann", "ListX"), call(2, 2, "ann", "ListX")]), []);
}

#[test]
fn different_values_are_counted() {
    let rules = several(
        "  type: value_count\n  rules: [List, Get]\n  group-by: [event.actor]\n  timespan: 1h\n  condition: {field: event.operation, gte: 3}\n  generate: true\n",
    );
    assert_eq!(rules.len(), 3);
    let calls = |operations: &[&str]| operations.iter().enumerate().map(|(id, operation)| call(id, id as i64, "ann", operation)).collect::<Vec<_>>();
    assert_eq!(told(&rules, &calls(&["ListA", "ListA", "ListA", "GetB"])), []);
    assert_eq!(told(&rules, &calls(&["ListA", "ListA", "GetB", "GetC"])).len(), 1);
}

#[test]
fn all_of_some_rules_and_in_order() {
    let any = several("  type: temporal\n  rules: [List, Get]\n  group-by: [event.actor]\n  timespan: 10s\n");
    let ordered = several("  type: temporal_ordered\n  rules: [List, Get]\n  group-by: [event.actor]\n  timespan: 10s\n");
    let calls = |calls: &[(i64, &str)]| calls.iter().enumerate().map(|(id, (second, operation))| call(id, *second, "ann", operation)).collect::<Vec<_>>();
    for (events, unordered, in_order) in [
        (calls(&[(0, "ListA"), (5, "GetA")]), 1, 1),
        (calls(&[(0, "GetA"), (5, "ListA")]), 1, 0),
        (calls(&[(0, "ListA"), (11, "GetA")]), 0, 0),
        (calls(&[(0, "ListA"), (8, "ListA"), (15, "GetA")]), 1, 1),
    ] {
        assert_eq!((told(&any, &events).len(), told(&ordered, &events).len()), (unordered, in_order), "{events:?}");
    }
}

#[test]
fn what_is_wrong_with_a_correlation_is_said() {
    for (correlation, field, reason) in [
        (
            "type: event_count\n  rules: [List]\n  timespan: 1m\n  condition: {lt: 3}",
            "correlation.condition",
            "expected `gte` or `gt` with a number up to 10000",
        ),
        ("type: event_count\n  rules: [List]\n  timespan: soon\n  condition: {gte: 3}", "correlation.timespan", "expected a number with s, m, h or d"),
        ("type: value_count\n  rules: [List]\n  timespan: 1m\n  condition: {gte: 3}", "correlation.condition.field", "is missing, or no text"),
        ("type: sum\n  rules: [List]\n  timespan: 1m", "correlation.type", "`sum`: expected event_count, value_count, temporal or temporal_ordered"),
        ("type: temporal\n  rules: [List]\n  timespan: 1m", "correlation.rules", "there is no rule `List`"),
        ("type: temporal\n  timespan: 1m", "correlation.rules", "is missing or empty"),
    ] {
        let text = format!("title: S\nid: {ID}\ncorrelation:\n  {correlation}\n");
        assert_eq!(problems(&text), [Problem { file: "rule.yml".to_owned(), field: field.to_owned(), reason: reason.to_owned() }], "{text}");
    }
}

#[test]
fn groups_of_rules_that_are_gone_are_forgotten() {
    let rules = several("  type: event_count\n  rules: [List]\n  group-by: [event.actor]\n  timespan: 1m\n  condition: {gte: 2}\n");
    let mut correlations = Correlations::new();
    correlations.observe(&rules, &call(0, 0, "ann", "ListX"));
    correlations.forget(&rules, Timestamp(1_700_000_000_000_000 + 59_000_000));
    assert_eq!(correlations.observe(&rules, &call(1, 60, "ann", "ListX")).len(), 1);
    correlations.observe(&rules, &call(2, 61, "ann", "ListX"));
    correlations.forget(&RuleSet::default(), Timestamp(0));
    assert!(correlations.observe(&rules, &call(3, 62, "ann", "ListX")).is_empty());
    assert_eq!(correlations.left_out(), 0);
}

/// Pieces of rules that make trouble when they meet.
fn fragment() -> impl Strategy<Value = String> {
    let fixed = [
        "title: T\n",
        "id: 5c7b4b0e-6f0d-4c8a-9d0e-0b8d5c1f7a01\n",
        "logsource: {product: aws, service: cloudtrail}\n",
        "detection:\n",
        "  selection:\n",
        "    eventName: X\n",
        "    a.b|contains|all: [x, y]\n",
        "    a|re: '(a|b)*c'\n",
        "    a[any]: {b: c}\n",
        "  condition: selection\n",
        "  condition: 1 of sel* and not (a or b)\n",
        "level: high\n",
        "tags: [attack.t1098]\n",
        "correlation: {type: temporal, rules: [x], timespan: 5m}\n",
        "---\n",
        "gumshoe: {cases: [{name: n, matches: true, record: {}}]}\n",
        "&a",
        "*a",
        "[",
        "{",
        "}",
        "]",
        "\"",
        "'",
        ": ",
        "- ",
        "|\n",
        "\t",
        "\u{0}",
        "é",
        "9e999",
        "~",
        "!!binary x\n",
        "<<: *a\n",
    ];
    prop_oneof![6 => proptest::sample::select(fixed.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_text_makes_the_parser_panic(pieces in prop::collection::vec(fragment(), 0..40), record in ".{0,200}") {
        let text = pieces.concat();
        match RuleSet::parse(&[("x.yml", &text)]) {
            Ok(rules) => {
                let mut event = Event::new(RecordKind::CloudTrail, Timestamp(0), record);
                event.operation = "X".into();
                for rule in rules.matches(&event) {
                    prop_assert!(rule.matches(&event));
                }
            }
            Err(LoadError::Wrong(problems)) => prop_assert!(problems.iter().all(|problem| problem.file == "x.yml" && !problem.reason.is_empty())),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_condition_makes_the_parser_panic(condition in "[a-z0-9_*() ]{0,80}|(not |\\(|a and |1 of |or |them|\\) ){0,40}") {
        let _ = RuleSet::parse(&[("x.yml", rule(&format!("  a: {{eventName: X}}\n  condition: '{condition}'")))]);
    }

    #[test]
    fn counting_does_not_depend_on_order_within_the_time(mut seconds in prop::collection::vec(0..50_i64, 3..4), seed in any::<prop::sample::Index>()) {
        let rules = several("  type: event_count\n  rules: [List]\n  group-by: [event.actor]\n  timespan: 1m\n  condition: {gte: 3}\n");
        let rules = Arc::new(rules);
        let turn = seed.index(seconds.len());
        seconds.rotate_left(turn);
        let events: Vec<Event<'_>> = seconds.iter().enumerate().map(|(id, second)| call(id, *second, "ann", "ListX")).collect();
        prop_assert_eq!(told(&rules, &events).len(), 1);
    }
}
