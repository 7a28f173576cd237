//! Detection rules: who has which, what they match, and what becomes of it.

use std::{collections::BTreeSet, future::Future, sync::Arc, time::Duration};

use gumshoe_api::{
    convert::{time_to_proto, window_to_proto},
    graph::v1::{
        CreateRuleRequest, DeleteRuleRequest, Event, EventFilter, FindingSummary, GetRuleRequest, HuntRuleRequest, HuntRuleResponse, ListEventsRequest,
        ListFindingsRequest, ListRulesRequest, ListRulesResponse, Rule, RuleOrigin, SweepGraphRequest, TestRuleRequest, UpdateRuleRequest, hunt_rule_request,
    },
};
use gumshoe_detections::RuleSet;
use gumshoe_model::GraphArn;
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    fixture::{Call, Fixture, Who, entity, name, role_arn, session_id, time, user_arn, window},
    refuse::refused,
};

const ONE: &str = "11111111-0000-4000-8000-000000000001";
const TWO: &str = "11111111-0000-4000-8000-000000000002";

fn rule(id: &str, title: &str, operation: &str) -> String {
    format!(
        "title: {title}\nid: {id}\ntags: [attack.collection, attack.t1530]\nlogsource: {{product: aws, service: cloudtrail}}\ndetection:\n  one:\n    \
         eventName: {operation}\n    requestParameters.bucketName: secret-*\n  condition: one\nlevel: high\n"
    )
}

/// At least two matches of a rule within an hour.
fn twice(id: &str, part: &str) -> String {
    format!(
        "title: Twice\nid: {id}\nlevel: high\ncorrelation:\n  type: event_count\n  rules: [{part}]\n  group-by: [event.actor]\n  timespan: 1h\n  \
         condition: {{gte: 2}}\n"
    )
}

fn read(id: &str, time: &str, bucket: &str) -> Call {
    Call { operation: "GetObject", request: json!({ "bucketName": bucket }), ..Call::new(id, time, Who::Session("reader", "s1", None)) }
}

/// Waits until `condition` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl Fixture {
    async fn create_rule(&self, document: &str) -> Result<Rule, Status> {
        let request = CreateRuleRequest { graph_arn: self.arn(), document: document.to_owned() };
        Ok(self.rule_service(&self.arn).create_rule(request).await?.into_inner().rule.unwrap())
    }

    async fn update_rule(&self, document: &str) -> Result<Rule, Status> {
        let request = UpdateRuleRequest { graph_arn: self.arn(), document: document.to_owned() };
        Ok(self.rule_service(&self.arn).update_rule(request).await?.into_inner().rule.unwrap())
    }

    async fn list_rules(&self, text: &str) -> ListRulesResponse {
        let request = ListRulesRequest { graph_arn: self.arn(), text: text.to_owned(), page_size: 1_000, ..Default::default() };
        self.rule_service(&self.arn).list_rules(request).await.unwrap().into_inner()
    }

    async fn findings(&self) -> Vec<FindingSummary> {
        let request = ListFindingsRequest { graph_arn: self.arn(), ..Default::default() };
        self.reader.clone().list_findings(request).await.unwrap().into_inner().findings
    }

    async fn list_events(&self, filter: EventFilter) -> Vec<Event> {
        let request = ListEventsRequest { graph_arn: self.arn(), filter: Some(filter), ..Default::default() };
        self.reader.clone().list_events(request).await.unwrap().into_inner().events
    }

    async fn hunt(&self, rule: hunt_rule_request::Rule, max_matches: i32) -> Result<Vec<HuntRuleResponse>, Status> {
        let scope = Some(window_to_proto(window("2024-06-29T00:00:00Z", "2024-07-02T12:00:00Z")));
        let request = HuntRuleRequest { graph_arn: self.arn(), rule: Some(rule), scope, max_matches };
        let mut stream = self.rule_service(&self.arn).hunt_rule(request).await?.into_inner();
        let mut messages = Vec::new();
        while let Some(message) = stream.message().await? {
            messages.push(message);
        }
        Ok(messages)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_a_graph_are_written_read_and_removed() {
    let fixture = Fixture::start().await;
    let shipped = RuleSet::shipped().unwrap();
    let before = fixture.list_rules("").await;
    assert!(before.rules.len() >= shipped.len() && before.rules.iter().all(|rule| rule.enabled && rule.origin() == RuleOrigin::Shipped));
    assert_eq!((before.problems, before.next_page_token.as_str()), (Vec::new(), ""));
    assert!(before.rules.iter().any(|rule| rule.part) && before.rules.iter().any(|rule| rule.correlation));

    let created = fixture.create_rule(&rule(ONE, "Secrets were read", "GetObject")).await.unwrap();
    assert_eq!((created.id.as_str(), created.title.as_str(), created.level.as_str(), created.enabled), (ONE, "Secrets were read", "high", true));
    assert_eq!((created.origin(), created.techniques.clone(), created.tactics[0].name.as_str()), (RuleOrigin::Graph, vec!["T1530".to_owned()], "Collection"));
    assert_eq!(created.author, "arn:aws:iam::111122223333:user/analyst");
    refused(&fixture.create_rule(&rule(ONE, "Again", "GetObject")).await.unwrap_err(), Code::AlreadyExists, "ALREADY_EXISTS", &[]);
    refused(&fixture.update_rule(&rule(TWO, "None", "GetObject")).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    let updated = fixture.update_rule(&rule(ONE, "Our zebras were looked at", "HeadObject")).await.unwrap();
    assert_eq!((updated.title.as_str(), updated.create_time), ("Our zebras were looked at", created.create_time));
    let get = |id: &str| GetRuleRequest { graph_arn: fixture.arn(), id: id.to_owned() };
    let found = fixture.rule_service(&fixture.arn).get_rule(get(ONE)).await.unwrap().into_inner();
    assert_eq!((found.rule, found.document), (Some(updated), rule(ONE, "Our zebras were looked at", "HeadObject")));
    assert_eq!(fixture.list_rules("ZEBRAS were").await.rules.len(), 1);
    assert!(fixture.list_rules("t1562.008").await.rules.len() > 3);

    // A shipped rule is switched off, is written anew, and comes back.
    let trail = shipped.iter().find(|rule| rule.title == "A trail was stopped or deleted").unwrap();
    let off = fixture.create_rule(&format!("id: {}\nstatus: unsupported\n", trail.id)).await.unwrap();
    assert_eq!((off.enabled, off.title.as_str(), off.origin()), (false, trail.title.as_str(), RuleOrigin::Graph));
    assert!(!fixture.list_rules(&trail.id).await.rules[0].enabled);
    let own = fixture.update_rule(&rule(&trail.id, "Ours", "StopLogging")).await.unwrap();
    assert_eq!((own.enabled, own.title.as_str()), (true, "Ours"));
    let delete = |id: &str| DeleteRuleRequest { graph_arn: fixture.arn(), id: id.to_owned() };
    for id in [trail.id.as_str(), ONE] {
        fixture.rule_service(&fixture.arn).delete_rule(delete(id)).await.unwrap();
        refused(&fixture.rule_service(&fixture.arn).delete_rule(delete(id)).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    }
    refused(&fixture.rule_service(&fixture.arn).get_rule(get(ONE)).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    assert_eq!(fixture.list_rules("").await.rules, before.rules);

    // Page by page.
    let (mut walked, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListRulesRequest { graph_arn: fixture.arn(), page_size: 50, page_token, ..Default::default() };
        let page = fixture.rule_service(&fixture.arn).list_rules(request).await.unwrap().into_inner();
        walked.extend(page.rules);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(walked, before.rules);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_rule_is_told_by_field() {
    let fixture = Fixture::start().await;
    let good = rule(ONE, "x", "GetObject");
    let invalid = [
        (String::new(), "document"),
        ("a".repeat((64 << 10) + 1), "document"),
        ("[".to_owned(), "document"),
        (format!("{good}---\n{}", rule(TWO, "other", "GetObject")), "document"),
        (good.replace("level: high", "level: urgent"), "document.level"),
        (good.replace("id: 1", "id: x"), "document.id"),
        (good.replace("condition: one", "condition: two"), "document.detection.condition"),
        (good.replace("service: cloudtrail", "service: nothing"), "document.logsource"),
        (twice(TWO, "nobody"), "document.correlation.rules"),
    ];
    for (document, field) in &invalid {
        refused(&fixture.create_rule(document).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &[field]);
    }
    // What other rules are made of stays.
    fixture.create_rule(&good.replace("title: x", "title: x\nname: mine")).await.unwrap();
    assert!(fixture.create_rule(&twice(TWO, "mine")).await.unwrap().correlation);
    refused(&fixture.update_rule(&good).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["document"]);
    let delete = DeleteRuleRequest { graph_arn: fixture.arn(), id: ONE.to_owned() };
    refused(&fixture.rule_service(&fixture.arn).delete_rule(delete).await.unwrap_err(), Code::FailedPrecondition, "CONFLICT", &[]);
    assert!(fixture.list_rules(ONE).await.rules[0].part);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_tried_before_they_are_kept() {
    let fixture = Fixture::start().await;
    let cases = "gumshoe:\n  cases:\n    - name: right\n      matches: true\n      record: {eventName: GetObject, requestParameters: {bucketName: secret-1}}\n    \
                 - name: wrong\n      matches: true\n      record: {eventName: PutObject}\n";
    let records = [read("1", "2024-06-30T10:00:00Z", "public"), read("2", "2024-06-30T10:00:00Z", "secret-1")];
    let records: String = records.iter().map(|call| format!("{}\n", call.json())).collect();
    let request = |document: String| TestRuleRequest { graph_arn: fixture.arn(), document, records: records.clone().into_bytes() };
    let found = fixture.rule_service(&fixture.arn).test_rule(request(rule(ONE, "x", "GetObject") + cases)).await.unwrap().into_inner();
    assert_eq!((found.rule.unwrap().title.as_str(), found.problems.len(), found.cases), ("x", 0, 2));
    assert_eq!(found.failed_cases.iter().map(|case| case.name.as_str()).collect::<Vec<_>>(), ["wrong"]);
    assert_eq!((found.records, found.matched_records, found.unreadable_records), (2, vec![1], 0));
    let found = fixture.rule_service(&fixture.arn).test_rule(request("title: x\n".to_owned())).await.unwrap().into_inner();
    assert_eq!((found.rule, found.problems[0].field.as_str()), (None, "id"));
    assert_eq!(fixture.list_rules(ONE).await.rules, []);
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graphs_rules_are_nobody_elses() {
    let fixture = Fixture::start().await;
    let other: GraphArn = format!("arn:aws:detective:us-east-1:444455556666:graph:{:032x}", 7).parse().unwrap();
    fixture.create_rule(&rule(ONE, "x", "GetObject")).await.unwrap();
    let request = |graph: &GraphArn| ListRulesRequest { graph_arn: graph.to_string(), text: ONE.to_owned(), ..Default::default() };
    assert_eq!(fixture.rule_service(&other).list_rules(request(&other)).await.unwrap().into_inner().rules, []);
    refused(&fixture.rule_service(&other).list_rules(request(&fixture.arn)).await.unwrap_err(), Code::PermissionDenied, "ACCESS_DENIED", &[]);
    let delete = DeleteRuleRequest { graph_arn: other.to_string(), id: ONE.to_owned() };
    refused(&fixture.rule_service(&other).delete_rule(delete).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    // Another replica has the rule, too.
    let replica = fixture.replica().await;
    assert_eq!(replica.list_rules(ONE).await.rules.len(), 1);
    replica.stop().await;
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_directory_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ours.yml");
    std::fs::write(&file, rule(ONE, "First", "GetObject")).unwrap();
    let fixture = Fixture::with(|config| config.detections.directory = Some(folder.path().to_owned())).await;
    let first = fixture.list_rules(ONE).await;
    assert_eq!((first.rules[0].title.as_str(), first.rules[0].origin(), first.rules[0].file.as_str()), ("First", RuleOrigin::Directory, "directory/ours.yml"));

    std::fs::write(&file, rule(ONE, "Second", "GetObject")).unwrap();
    eventually("the new text is in use", || async { (fixture.list_rules(ONE).await.rules[0].title == "Second").then_some(()) }).await;
    std::fs::write(folder.path().join("bad.yml"), "title: x\n").unwrap();
    let problems = eventually("what is wrong is told", || async { Some(fixture.list_rules(ONE).await).filter(|list| !list.problems.is_empty()) }).await;
    assert_eq!((problems.problems[0].file.as_str(), problems.problems[0].field.as_str()), ("directory/bad.yml", "id"));
    assert_eq!(problems.rules[0].title, "Second", "the rules before stay in use");

    // A graph's rule goes before the operator's.
    assert_eq!(fixture.create_rule(&rule(ONE, "The graph's", "GetObject")).await.unwrap().origin(), RuleOrigin::Graph);
    std::fs::remove_file(folder.path().join("bad.yml")).unwrap();
    std::fs::remove_file(&file).unwrap();
    let list = eventually("the directory is right again", || async { Some(fixture.list_rules(ONE).await).filter(|list| list.problems.is_empty()) }).await;
    assert_eq!(list.rules[0].title, "The graph's");
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matches_become_findings_and_marks() {
    let mut fixture = Fixture::start().await;
    let rules = [(ONE, rule(ONE, "Secrets were read", "GetObject")), (TWO, rule(TWO, "Also seen", "GetObject").replace("level: high", "level: low"))];
    for (_, document) in &rules {
        fixture.create_rule(document).await.unwrap();
    }
    fixture.rules = Some(Arc::new(RuleSet::parse(&rules).unwrap()));
    let calls = [
        read("1", "2024-06-30T10:00:00Z", "secret-1"),
        Call { address: "203.0.113.9".to_owned(), ..read("2", "2024-06-30T12:00:00Z", "secret-2") },
        Call { error: "AccessDenied", ..read("3", "2024-06-30T11:00:00Z", "secret-1") },
        read("4", "2024-07-01T09:00:00Z", "secret-1"),
        read("5", "2024-06-30T10:30:00Z", "public"),
        Call { who: Who::User("bob"), error: "AccessDenied", ..read("6", "2024-06-30T10:30:00Z", "secret-1") },
    ];
    let records: Vec<_> = calls.iter().map(Call::json).collect();
    fixture.commit_calls("a", &records[..2]).await;
    fixture.commit_calls("b", &records[1..]).await;

    let found = fixture.findings().await;
    let told: Vec<_> =
        found.iter().map(|finding| (finding.title.as_str(), finding.severity_label.as_str(), finding.count, finding.last_time.unwrap().seconds)).collect();
    let at = |text: &str| time(text).0 / 1_000_000;
    let expected = [("HIGH", 1, "2024-07-01T09:00:00Z"), ("HIGH", 3, "2024-06-30T12:00:00Z"), ("MEDIUM", 1, "2024-06-30T10:30:00Z")];
    assert_eq!(told, expected.map(|(severity, count, last)| ("Secrets were read", severity, count, at(last))));
    let session = &found[1];
    assert_eq!((session.product.as_str(), session.r#type.as_str()), ("Gumshoe", "Collection:CloudTrail/SecretsWereRead"));
    assert_eq!(session.first_time.unwrap().seconds, at("2024-06-30T10:00:00Z"));
    let entities: Vec<_> = session.entities.iter().map(|entity| name(Some(entity))).collect();
    let role_session = format!("role_session:{}", session_id("reader", "s1"));
    assert_eq!(entities[0], role_session);
    for named in [format!("role:{}", role_arn("reader")), "ip_address:203.0.113.9".to_owned(), "s3_bucket:secret-1".to_owned(), "s3_bucket:secret-2".to_owned()]
    {
        assert!(entities.contains(&named), "{named}: {entities:?}");
    }

    // They show with whom they are about.
    for (who, number) in [(role_session, 2), (format!("user:{}", user_arn("bob")), 1), ("s3_bucket:secret-2".to_owned(), 1), ("s3_bucket:public".to_owned(), 0)]
    {
        let request = ListFindingsRequest { graph_arn: fixture.arn(), entity: entity(&who), ..Default::default() };
        assert_eq!(fixture.reader.clone().list_findings(request).await.unwrap().into_inner().findings.len(), number, "{who}");
    }

    // The events of a finding, and the rules of events.
    let listed = fixture.list_events(EventFilter { entity: entity(&format!("finding:{}", session.id)), ..EventFilter::default() }).await;
    assert_eq!(listed.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["2", "3", "1"]);
    let rules: Vec<_> = listed[1].rules.iter().map(|rule| (rule.title.as_str(), rule.level.as_str())).collect();
    assert_eq!(rules, [("Secrets were read", "medium"), ("Also seen", "informational")], "an attempt counts a level lower");
    let request =
        ListEventsRequest { filter: Some(EventFilter { rule_id: "1".to_owned(), ..EventFilter::default() }), graph_arn: fixture.arn(), ..Default::default() };
    refused(&fixture.reader.clone().list_events(request).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["filter.rule_id"]);
    for (rule_id, expected) in [("*", 5), (TWO, 5), ("11111111-0000-4000-8000-000000000009", 0)] {
        assert_eq!(fixture.list_events(EventFilter { rule_id: rule_id.to_owned(), ..EventFilter::default() }).await.len(), expected, "{rule_id}");
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_events_together_become_a_finding() {
    let mut fixture = Fixture::start().await;
    let part = rule(ONE, "Secrets were read", "GetObject").replace("title:", "name: mine\ntitle:");
    let rules = [(ONE, part), (TWO, twice(TWO, "mine"))];
    for (_, document) in &rules {
        fixture.create_rule(document).await.unwrap();
    }
    fixture.rules = Some(Arc::new(RuleSet::parse(&rules).unwrap()));
    let calls = [
        read("1", "2024-06-30T10:55:00Z", "secret-1"),
        Call { address: "203.0.113.9".to_owned(), ..read("2", "2024-06-30T11:05:00Z", "secret-2") },
        Call { who: Who::User("bob"), ..read("3", "2024-06-30T11:05:00Z", "secret-2") },
        read("4", "2024-06-30T14:00:00Z", "secret-2"),
        Call { who: Who::User("bob"), ..read("5", "2024-06-30T12:30:00Z", "secret-2") },
    ];
    fixture.commit_calls("a", &calls.iter().map(Call::json).collect::<Vec<_>>()).await;
    assert_eq!(fixture.findings().await, [], "the part is not told by itself");
    assert!(fixture.list_events(EventFilter::default()).await.iter().all(|event| event.rules.is_empty()));

    let sweep = |from: Option<&str>| SweepGraphRequest { graph_arn: fixture.arn(), from_time: from.map(|from| time_to_proto(time(from))) };
    for from in [None, Some("2024-06-30T00:00:00Z")] {
        fixture.behavior().sweep_graph(sweep(from)).await.unwrap();
        let found: Vec<_> = fixture.findings().await.into_iter().filter(|finding| finding.title == "Twice").collect();
        assert_eq!(found.len(), 1, "{found:?}");
        let finding = &found[0];
        assert_eq!((finding.severity_label.as_str(), finding.count, finding.product.as_str()), ("HIGH", 2, "Gumshoe"));
        let seconds = |time: Option<prost_types::Timestamp>| time.unwrap().seconds * 1_000_000;
        assert_eq!(seconds(finding.first_time), time("2024-06-30T10:55:00Z").0, "across the hour");
        assert_eq!(seconds(finding.last_time), time("2024-06-30T11:05:00Z").0);
        let entities: Vec<_> = finding.entities.iter().map(|entity| name(Some(entity))).collect();
        assert_eq!(
            entities,
            [
                format!("role_session:{}", session_id("reader", "s1")),
                format!("role:{}", role_arn("reader")),
                "ip_address:198.51.100.1".to_owned(),
                "ip_address:203.0.113.9".to_owned(),
            ]
        );
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_hunted_for_what_nobody_knew_then() {
    let fixture = Fixture::start().await;
    let call = |number: usize| {
        let day = ["2024-06-29T10:00", "2024-06-30T10:00", "2024-07-01T00:00"][number % 3];
        read(&format!("e{number:02}"), &format!("{day}:{number:02}Z"), if number.is_multiple_of(2) { "secret-1" } else { "public" }).json()
    };
    fixture.commit_calls("a", &(0..30).map(call).collect::<Vec<_>>()).await;
    let document = hunt_rule_request::Rule::Document(rule(ONE, "x", "GetObject"));
    let found = fixture.hunt(document.clone(), 0).await.unwrap();
    let ids: Vec<&str> = found.iter().flat_map(|message| &message.matches).map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), 15);
    assert_eq!(ids[..5].iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(["e02", "e08", "e14", "e20", "e26"]), "the latest day first");
    let last = found.last().unwrap();
    assert_eq!((last.events_read, last.matches_found, last.days_read, last.days, last.limited), (30, 15, 4, 4, false));
    assert!(found.iter().flat_map(|message| &message.matches).all(|event| event.raw.contains("secret-1")), "with their text");

    // Bounded, and by id once it is kept.
    fixture.create_rule(&rule(ONE, "x", "GetObject")).await.unwrap();
    let found = fixture.hunt(hunt_rule_request::Rule::Id(ONE.to_owned()), 3).await.unwrap();
    assert_eq!((found.iter().map(|message| message.matches.len()).sum::<usize>(), found.last().unwrap().limited), (3, true));
    refused(&fixture.hunt(hunt_rule_request::Rule::Id(TWO.to_owned()), 0).await.unwrap_err(), Code::NotFound, "NOT_FOUND", &[]);
    refused(&fixture.hunt(document, -1).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["max_matches"]);
    let unset = HuntRuleRequest { graph_arn: fixture.arn(), ..Default::default() };
    refused(&fixture.rule_service(&fixture.arn).hunt_rule(unset).await.unwrap_err(), Code::InvalidArgument, "INVALID_FIELD", &["scope"]);
    fixture.stop().await;
}
