//! Finding groups: made in the background, listed, told, decided on, exported.

use std::sync::Arc;

use gumshoe_api::{
    common::v1::{EntityKey, EntityType, ErrorReason, TimeRange},
    convert::entity_to_proto,
    graph::v1::{EntityProfile, FindingSummary},
    investigation::v1::{self as api, finding_group_member::Member, indicator::Detail},
};
use gumshoe_model::time::{MICROS_PER_DAY, MICROS_PER_HOUR};
use gumshoe_runtime::{Clock as _, SystemClock, status};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    graph::{FakeGraph, list, operation, seen, time},
    harness::{ANN, GRAPH, OTHER, Service, World, eventually, refused},
};

const READ: &str = "detective:SearchGraph";
const DECIDE: &str = "gumshoe:UpdateFindingGroupStatus";
const SESSION: &str = "role_session:AROA1:deploy";
const ATTACKER: &str = "ip_address:203.0.113.9";
const OFFICE: &str = "ip_address:198.51.100.1";
const MISSING: &str = "00000000-0000-7000-8000-000000000009";

fn ann() -> String {
    format!("user:{ANN}")
}

/// Two days ago, on the hour.
fn begin() -> i64 {
    let now = SystemClock.now().0;
    now - now.rem_euclid(MICROS_PER_HOUR) - 48 * MICROS_PER_HOUR
}

fn finding(id: &str, finding_type: &str, severity: f64, hour: i64, entities: &[&str]) -> FindingSummary {
    let at = begin() + hour * MICROS_PER_HOUR;
    FindingSummary {
        id: id.to_owned(),
        r#type: finding_type.to_owned(),
        product: "GuardDuty".to_owned(),
        title: format!("About {id}"),
        severity,
        account_id: "111111111111".to_owned(),
        region: "us-east-1".to_owned(),
        count: 1,
        first_time: time(at),
        last_time: time(at + MICROS_PER_HOUR / 2),
        entities: entities.iter().map(|entity| entity_to_proto(&entity.parse().unwrap())).collect(),
        ..FindingSummary::default()
    }
}

/// Two incidents of one office, and a finding alone.
fn incidents() -> Vec<FindingSummary> {
    vec![
        finding("a1", "Recon:IAMUser/TorIPCaller", 5.0, 0, &[&ann(), ATTACKER, OFFICE]),
        finding("a2", "Persistence:IAMUser/AnomalousBehavior", 8.0, 1, &[&ann(), ATTACKER, OFFICE]),
        finding("b1", "PrivilegeEscalation:IAMUser/AnomalousBehavior", 5.0, 2, &[SESSION, OFFICE]),
        finding("b2", "Exfiltration:S3/AnomalousBehavior", 5.0, 4, &[SESSION, OFFICE, "s3_bucket:customers"]),
        finding("alone", "Impact:EC2/PortSweep", 9.0, 3, &["ec2_instance:i-1", OFFICE]),
    ]
}

/// Tells the graph's findings, as a commit does.
fn tell(graph: &FakeGraph, findings: Vec<FindingSummary>) {
    let mut told = graph.told();
    told.findings = findings;
    told.actors.insert("198.51.100.1".to_owned(), 300);
    *told.versions.entry(GRAPH.to_owned()).or_default() += 1;
}

async fn listed(service: &Service, request: api::ListFindingGroupsRequest) -> Vec<api::FindingGroup> {
    let request = api::ListFindingGroupsRequest { graph_arn: GRAPH.to_owned(), ..request };
    service.groups(READ, GRAPH).list_finding_groups(request).await.unwrap().into_inner().groups
}

async fn got(service: &Service, id: &str) -> Result<api::GetFindingGroupResponse, Status> {
    let request = api::GetFindingGroupRequest { graph_arn: GRAPH.to_owned(), group_id: id.to_owned() };
    Ok(service.groups(READ, GRAPH).get_finding_group(request).await?.into_inner())
}

/// The groups once there are so many findings in them.
async fn grouped(service: &Service, sizes: &[u32]) -> Vec<api::FindingGroup> {
    let settled = async || {
        Some(listed(service, api::ListFindingGroupsRequest::default()).await)
            .filter(|groups| groups.iter().map(|group| group.findings).eq(sizes.iter().copied()))
    };
    eventually(&format!("groups of {sizes:?} findings"), settled).await
}

fn members_of(group: &str, kind: api::FindingGroupMemberType, page_size: i32) -> api::ListFindingGroupMembersRequest {
    api::ListFindingGroupMembersRequest { graph_arn: GRAPH.to_owned(), group_id: group.to_owned(), r#type: kind.into(), page_size, page_token: String::new() }
}

async fn members(service: &Service, mut request: api::ListFindingGroupMembersRequest) -> Vec<Member> {
    let mut found = Vec::new();
    loop {
        let page = service.groups(READ, GRAPH).list_finding_group_members(request.clone()).await.unwrap().into_inner();
        assert!(page.members.len() <= usize::try_from(request.page_size).unwrap());
        found.extend(page.members.into_iter().map(|member| member.member.unwrap()));
        if page.next_page_token.is_empty() {
            return found;
        }
        request.page_token = page.next_page_token;
    }
}

async fn finding_ids(service: &Service, group: &str) -> Vec<String> {
    let id = |member: Member| match member {
        Member::Finding(grouped) => grouped.finding.unwrap().id,
        Member::Entity(_) => "an entity".to_owned(),
    };
    members(service, members_of(group, api::FindingGroupMemberType::Finding, 2)).await.into_iter().map(id).collect()
}

async fn decide(service: &Service, id: &str, status: api::FindingGroupStatus, note: &str) -> Result<api::FindingGroup, Status> {
    let request = api::UpdateFindingGroupStatusRequest { graph_arn: GRAPH.to_owned(), group_id: id.to_owned(), status: status.into(), note: note.to_owned() };
    Ok(service.groups(DECIDE, GRAPH).update_finding_group_status(request).await?.into_inner().group.unwrap())
}

async fn exported(service: &Service, id: &str, format: api::FindingGroupFormat) -> Result<String, Status> {
    let request = api::ExportFindingGroupRequest { graph_arn: GRAPH.to_owned(), group_id: id.to_owned(), format: format.into() };
    let mut pieces = service.groups(READ, GRAPH).export_finding_group(request).await?.into_inner();
    let mut document = Vec::new();
    while let Some(piece) = pieces.message().await? {
        document.extend(piece.data);
    }
    Ok(String::from_utf8(document).unwrap())
}

#[track_caller]
fn field_refused<T: std::fmt::Debug>(outcome: Result<T, Status>, field: &str) {
    let status = refused(outcome, Code::InvalidArgument, ErrorReason::InvalidField);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.first().unwrap().field, field);
}

#[tokio::test]
async fn incidents_become_groups_and_an_office_joins_none() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    let worst = &groups[0];
    assert_eq!((worst.severity, worst.severity_label.as_str(), worst.status()), (8.0, "HIGH", api::FindingGroupStatus::Open));
    assert!(worst.title.ends_with(": user ann, address 203.0.113.9"), "{}", worst.title);
    assert!(worst.tactics.contains(&"Persistence".to_owned()), "{:?}", worst.tactics);
    assert_eq!(worst.score, worst.score_parts.iter().map(|part| part.points).sum::<u32>());
    assert_eq!((worst.first_time, worst.last_time), (time(begin()), time(begin() + MICROS_PER_HOUR + MICROS_PER_HOUR / 2)));
    assert_eq!(
        (finding_ids(&service, &worst.id).await, finding_ids(&service, &groups[1].id).await),
        (vec!["a1".into(), "a2".into()], vec!["b1".into(), "b2".into()])
    );

    let entities = members(&service, members_of(&worst.id, api::FindingGroupMemberType::Entity, 1)).await;
    let office = entities.iter().find_map(|member| match member {
        Member::Entity(grouped) if grouped.entity.as_ref().unwrap().id == "198.51.100.1" => Some(grouped.clone()),
        _ => None,
    });
    assert_eq!(office.map(|office| (office.findings, office.degree, office.hub, office.ties)), Some((2, 300, true, false)));
    let Some(Member::Finding(second)) = members(&service, members_of(&worst.id, api::FindingGroupMemberType::Unspecified, 50)).await.pop() else { panic!() };
    assert_eq!((second.ties[0].finding_id.as_str(), second.ties[0].entities[0].id.as_str(), second.verdict), ("a1", ANN, None));

    let told = got(&service, &worst.id).await.unwrap();
    assert!(told.summary.iter().all(|sentence| !sentence.finding_ids.is_empty() || !sentence.entities.is_empty()));
    assert!(told.summary.iter().any(|sentence| sentence.text.contains("198.51.100.1, which ties nothing")), "{:?}", told.summary);
    assert_eq!(told.timeline.iter().map(|event| event.finding_id.as_str()).collect::<Vec<_>>(), ["a1", "a1", "a2", "a2"]);
    service.stop().await;
}

#[tokio::test]
async fn a_late_finding_merges_two_groups_and_both_old_ids_resolve() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let before = grouped(&service, &[2, 2]).await;
    for group in &before {
        decide(&service, &group.id, api::FindingGroupStatus::Closed, "seen").await.unwrap();
    }
    let mut findings = incidents();
    findings.insert(0, finding("late", "UnauthorizedAccess:IAMUser/ConsoleLoginSuccess.B", 5.0, 2, &[&ann(), SESSION]));
    tell(&service.world.graph, findings);
    let merged = grouped(&service, &[5]).await.remove(0);
    let mut old: Vec<String> = before.iter().map(|group| group.id.clone()).collect();
    for id in &old {
        assert_eq!(got(&service, id).await.unwrap().group.unwrap().id, merged.id);
        assert_eq!(finding_ids(&service, id).await.len(), 5);
    }
    old.sort();
    assert_eq!((&merged.id, &merged.merged_group_ids[..]), (&old[0], &old[1..]), "the older one stays");
    assert_eq!(merged.status(), api::FindingGroupStatus::Open, "it has something new");
    let decisions = got(&service, &merged.id).await.unwrap().decisions;
    let authors: Vec<_> = decisions.iter().map(|decision| (decision.author_arn.as_str(), decision.note.as_str())).collect();
    assert_eq!(authors, [("service:investigation", "it got a new finding"), (ANN, "seen"), (ANN, "seen")]);

    // When the graph forgets it they fall apart again: one part keeps the id and what was forgotten, the other says where it was.
    tell(&service.world.graph, incidents());
    let apart = grouped(&service, &[3, 2]).await;
    assert!(apart.iter().any(|group| group.id == merged.id));
    assert!(apart.iter().any(|group| group.split_from_group_id == merged.id));
    service.stop().await;
}

#[tokio::test]
async fn groups_are_filtered_and_paged() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    let request = || api::ListFindingGroupsRequest { graph_arn: GRAPH.to_owned(), page_size: 1, ..api::ListFindingGroupsRequest::default() };
    let mut client = service.groups(READ, GRAPH);
    let first = client.list_finding_groups(request()).await.unwrap().into_inner();
    let next = api::ListFindingGroupsRequest { page_token: first.next_page_token.clone(), ..request() };
    let second = client.list_finding_groups(next.clone()).await.unwrap().into_inner();
    assert_eq!([&first.groups[..], &second.groups[..]].concat(), groups);
    assert_eq!(second.next_page_token, "");
    let other = api::ListFindingGroupsRequest { min_severity: 1.0, ..next };
    refused(client.list_finding_groups(other).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);

    let ids = async |request: api::ListFindingGroupsRequest| listed(&service, request).await.into_iter().map(|group| group.id).collect::<Vec<_>>();
    let key = |kind: EntityType, id: &str| Some(EntityKey { r#type: kind.into(), id: id.to_owned() });
    let range = |from: i64, to: i64| Some(TimeRange { start_time: time(begin() + from * MICROS_PER_HOUR), end_time: time(begin() + to * MICROS_PER_HOUR) });
    let (one, two) = (vec![groups[0].id.clone()], vec![groups[1].id.clone()]);
    let default = api::ListFindingGroupsRequest::default;
    assert_eq!(ids(api::ListFindingGroupsRequest { min_severity: 7.0, ..default() }).await, one);
    assert_eq!(ids(api::ListFindingGroupsRequest { max_severity: Some(7.0), ..default() }).await, two);
    assert_eq!(ids(api::ListFindingGroupsRequest { entity: key(EntityType::S3Bucket, "customers"), ..default() }).await, two);
    assert_eq!(ids(api::ListFindingGroupsRequest { finding_id: "a2".to_owned(), ..default() }).await, one);
    assert_eq!(ids(api::ListFindingGroupsRequest { scope: range(3, 9), ..default() }).await, two);
    assert_eq!(ids(api::ListFindingGroupsRequest { account_id: "111111111111".to_owned(), ..default() }).await.len(), 2);
    assert_eq!(ids(api::ListFindingGroupsRequest { account_id: "222222222222".to_owned(), ..default() }).await.len(), 0);
    decide(&service, &one[0], api::FindingGroupStatus::Closed, "").await.unwrap();
    let closed = vec![api::FindingGroupStatus::Closed.into()];
    assert_eq!(ids(api::ListFindingGroupsRequest { statuses: closed, ..default() }).await, one);
    assert_eq!(ids(default()).await.len(), 2, "open and closed ones");
    service.stop().await;
}

#[tokio::test]
async fn documents_tell_the_whole_group() {
    let service = Service::start().await;
    // More than fits into one message.
    let many: Vec<String> = (0..40).map(|number| format!("user_agent:{}", format!("{number:02} <b>agent</b> ").repeat(60))).collect();
    let mut findings = incidents();
    findings[0].entities.extend(many.iter().map(|entity| entity_to_proto(&entity.parse().unwrap())));
    for number in 0..40 {
        findings.push(finding(&format!("more{number:02}"), "Discovery:S3/AnomalousBehavior", 2.0, 1, &[&ann(), ATTACKER]));
    }
    tell(&service.world.graph, findings);
    let groups = grouped(&service, &[42, 2]).await;
    let id = &groups[0].id;
    let json: serde_json::Value = serde_json::from_str(&exported(&service, id, api::FindingGroupFormat::Json).await.unwrap()).unwrap();
    assert_eq!((json["id"].as_str(), json["findings"].as_array().unwrap().len()), (Some(id.as_str()), 42));
    let stix: serde_json::Value = serde_json::from_str(&exported(&service, id, api::FindingGroupFormat::Stix).await.unwrap()).unwrap();
    assert_eq!(stix["objects"].as_array().unwrap().iter().filter(|object| object["type"] == "observed-data").count(), 42);
    let html = exported(&service, id, api::FindingGroupFormat::Html).await.unwrap();
    assert!(html.len() > 64 << 10 && html.ends_with("</html>\n") && !html.contains("<b>"));
    let markdown = exported(&service, id, api::FindingGroupFormat::Markdown).await.unwrap();
    assert!(markdown.contains("| F42 | ") && markdown.contains("more39"));
    field_refused(exported(&service, id, api::FindingGroupFormat::Unspecified).await, "format");
    refused(exported(&service, MISSING, api::FindingGroupFormat::Html).await, Code::NotFound, ErrorReason::NotFound);
    service.stop().await;
}

#[tokio::test]
async fn what_was_dismissed_makes_no_group_grave() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let before = grouped(&service, &[2, 2]).await.remove(0);
    let judge = async |finding: &str, kind: api::VerdictKind| {
        let request = api::CreateVerdictRequest { graph_arn: GRAPH.to_owned(), finding_id: finding.to_owned(), kind: kind.into(), ..Default::default() };
        service.client("gumshoe:CreateVerdict", GRAPH).create_verdict(request).await.unwrap();
    };
    let once = async |dismissed: u32| {
        let followed = async || Some(got(&service, &before.id).await.unwrap()).filter(|told| told.group.as_ref().unwrap().dismissed_findings == dismissed);
        eventually(&format!("{dismissed} dismissed findings"), followed).await
    };
    judge("a2", api::VerdictKind::FalsePositive).await;
    let told = once(1).await;
    let group = told.group.clone().unwrap();
    assert_eq!((group.severity, group.severity_label.as_str(), group.findings), (5.0, "MEDIUM", 2));
    assert!(before.tactics.contains(&"Persistence".to_owned()) && !group.tactics.contains(&"Persistence".to_owned()), "{:?}", group.tactics);
    assert!(group.score < before.score);
    let judged = told.summary.iter().find(|sentence| sentence.text == "One of them was judged false positive or benign.").unwrap();
    assert_eq!(judged.finding_ids, ["a2"]);
    let json: serde_json::Value = serde_json::from_str(&exported(&service, &group.id, api::FindingGroupFormat::Json).await.unwrap()).unwrap();
    assert_eq!(
        (&json["dismissed_findings"], &json["findings"][0]["verdict"], &json["findings"][1]["verdict"]),
        (&1.into(), &().into(), &"FALSE_POSITIVE".into())
    );
    let stix: serde_json::Value = serde_json::from_str(&exported(&service, &group.id, api::FindingGroupFormat::Stix).await.unwrap()).unwrap();
    let objects = stix["objects"].as_array().unwrap();
    assert!(!objects.iter().any(|object| object["name"] == "Persistence"), "{objects:?}");
    assert!(objects.iter().any(|object| object["labels"][0] == "verdict:false-positive"), "{objects:?}");
    let markdown = exported(&service, &group.id, api::FindingGroupFormat::Markdown).await.unwrap();
    assert!(markdown.contains("| false positive | `a2` |") && markdown.contains("| Dismissed | 1 of 2 findings |"), "{markdown}");

    judge("a1", api::VerdictKind::Benign).await;
    let told = once(2).await;
    let group = told.group.unwrap();
    assert_eq!((group.severity, group.severity_label.as_str(), group.score, group.tactics.len()), (0.0, "INFORMATIONAL", 0, 0));
    assert!(group.title.starts_with("2 findings, all dismissed: user ann"), "{}", group.title);
    assert!(told.summary.iter().any(|sentence| sentence.text == "All of them were judged false positive or benign."), "{:?}", told.summary);
    assert_eq!(listed(&service, api::ListFindingGroupsRequest::default()).await.pop().unwrap().id, before.id, "the least");

    // Taken back, they count as before.
    judge("a1", api::VerdictKind::Reopened).await;
    judge("a2", api::VerdictKind::TruePositive).await;
    let group = once(0).await.group.unwrap();
    assert_eq!((group.severity, group.score, &group.tactics), (before.severity, before.score, &before.tactics));
    service.stop().await;
}

#[tokio::test]
async fn principals_news_are_told_beside_the_findings() {
    let service = Service::start().await;
    let profile = EntityProfile {
        baseline_days: 45,
        operations: list(vec![operation("iam", "CreateUser", 2, true), operation("s3", "ListBuckets", 9, false)]),
        countries: list(vec![seen("BR", 3, true)]),
        ..EntityProfile::default()
    };
    service.world.graph.told().profiles.insert(ANN.to_owned(), profile);
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    let told = got(&service, &groups[0].id).await.unwrap();
    let news: Vec<_> = told.timeline.iter().filter(|event| event.finding_id.is_empty()).map(|event| (event.kind(), event.entity.clone().unwrap().id)).collect();
    let expected = |kind: api::FindingGroupEventKind| (kind, ANN.to_owned());
    assert_eq!(news, [expected(api::FindingGroupEventKind::NewOperation), expected(api::FindingGroupEventKind::NewCountry)]);
    assert!(told.summary.iter().any(|sentence| sentence.text.contains("called: iam.amazonaws.com:CreateUser.")), "{:?}", told.summary);
    service.stop().await;
}

#[tokio::test]
async fn an_investigation_names_the_groups_of_its_subject() {
    let service = Service::start().await;
    service.world.graph.told().profiles.insert(ANN.to_owned(), EntityProfile::default());
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    let start = api::StartInvestigationRequest {
        graph_arn: GRAPH.to_owned(),
        entity_arn: ANN.to_owned(),
        scope: Some(TimeRange { start_time: time(begin()), end_time: time(begin() + MICROS_PER_DAY) }),
        ..api::StartInvestigationRequest::default()
    };
    let related = async || {
        let id = service.client("detective:StartInvestigation", GRAPH).start_investigation(start.clone()).await.unwrap().into_inner().investigation_id;
        service.finished(&id).await;
        let indicators = service.indicators(&id).await;
        let group = |indicator: api::Indicator| match indicator.detail {
            Some(Detail::RelatedFindingGroup(detail)) => Some(detail.id),
            _ => None,
        };
        indicators.into_iter().filter_map(group).collect::<Vec<_>>()
    };
    assert_eq!(related().await, [groups[0].id.clone()]);
    decide(&service, &groups[0].id, api::FindingGroupStatus::Closed, "").await.unwrap();
    assert_eq!(related().await, Vec::<String>::new());
    service.stop().await;
}

#[tokio::test]
async fn grouping_goes_on_after_failures_and_restarts() {
    let world = Arc::new(World::new().await);
    world.graph.told().failure = Some(status::unavailable("the lake").into());
    tell(&world.graph, incidents());
    let service = world.serve(|_| {}).await;
    assert_eq!(listed(&service, api::ListFindingGroupsRequest::default()).await, []);
    world.graph.told().failure = None;
    let before = grouped(&service, &[2, 2]).await;
    service.crash().await;
    // What had the lease is gone: another goes on once it has ended, here at once.
    let service = world.serve(|_| {}).await;
    assert_eq!(grouped(&service, &[2, 2]).await, before, "nothing has changed");
    let mut findings = incidents();
    findings.push(finding("b3", "Impact:S3/AnomalousBehavior.Delete", 9.0, 5, &[SESSION]));
    tell(&world.graph, findings);
    let after = grouped(&service, &[3, 2]).await;
    assert_eq!((&after[0].id, &after[1]), (&before[1].id, &before[0]));
    service.stop().await;
}

#[tokio::test]
async fn requests_are_checked_and_held_to_their_graph() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    let id = &groups[0].id;
    field_refused(got(&service, "x").await, "group_id");
    refused(got(&service, MISSING).await, Code::NotFound, ErrorReason::NotFound);
    let bad: [(&str, api::ListFindingGroupsRequest); 6] = [
        ("min_severity", api::ListFindingGroupsRequest { min_severity: f64::NAN, ..Default::default() }),
        ("max_severity", api::ListFindingGroupsRequest { min_severity: 5.0, max_severity: Some(4.0), ..Default::default() }),
        ("statuses[0]", api::ListFindingGroupsRequest { statuses: vec![0], ..Default::default() }),
        ("account_id", api::ListFindingGroupsRequest { account_id: "1".to_owned(), ..Default::default() }),
        ("finding_id", api::ListFindingGroupsRequest { finding_id: "x".repeat(2_049), ..Default::default() }),
        ("page_size", api::ListFindingGroupsRequest { page_size: 201, ..Default::default() }),
    ];
    for (field, request) in bad {
        let request = api::ListFindingGroupsRequest { graph_arn: GRAPH.to_owned(), ..request };
        field_refused(service.groups(READ, GRAPH).list_finding_groups(request).await, field);
    }
    let unknown = api::ListFindingGroupMembersRequest { r#type: 9, ..members_of(id, api::FindingGroupMemberType::Finding, 1) };
    field_refused(service.groups(READ, GRAPH).list_finding_group_members(unknown).await, "type");
    for status in [api::FindingGroupStatus::Unspecified, api::FindingGroupStatus::Dissolved] {
        field_refused(decide(&service, id, status, "").await, "status");
    }
    field_refused(decide(&service, id, api::FindingGroupStatus::Closed, &"x".repeat(4_097)).await, "note");

    // Another graph's caller sees nothing of it, and an action allows itself only.
    let request = api::GetFindingGroupRequest { graph_arn: OTHER.to_owned(), group_id: id.clone() };
    refused(service.groups(READ, OTHER).get_finding_group(request).await, Code::NotFound, ErrorReason::NotFound);
    let here = api::GetFindingGroupRequest { graph_arn: GRAPH.to_owned(), group_id: id.clone() };
    assert_eq!(service.groups(READ, OTHER).get_finding_group(here.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(service.groups(DECIDE, GRAPH).get_finding_group(here).await.unwrap_err().code(), Code::PermissionDenied);
    let request = api::UpdateFindingGroupStatusRequest { graph_arn: GRAPH.to_owned(), group_id: id.clone(), status: 2, note: String::new() };
    assert_eq!(service.groups(READ, GRAPH).update_finding_group_status(request).await.unwrap_err().code(), Code::PermissionDenied);
    service.stop().await;
}

#[tokio::test]
async fn what_is_not_tied_any_more_dissolves() {
    let service = Service::start().await;
    tell(&service.world.graph, incidents());
    let groups = grouped(&service, &[2, 2]).await;
    // The session turns out to be shared by many.
    service.world.graph.told().actors.insert("AROA1:deploy".to_owned(), 400);
    tell(&service.world.graph, incidents());
    let left = grouped(&service, &[2]).await;
    assert_eq!(left[0].id, groups[0].id);
    let dissolved = got(&service, &groups[1].id).await.unwrap().group.unwrap();
    assert_eq!((dissolved.status(), dissolved.findings), (api::FindingGroupStatus::Dissolved, 2));
    let statuses = vec![api::FindingGroupStatus::Dissolved.into()];
    assert_eq!(listed(&service, api::ListFindingGroupsRequest { statuses, ..Default::default() }).await.len(), 1);
    refused(decide(&service, &groups[1].id, api::FindingGroupStatus::Closed, "").await, Code::FailedPrecondition, ErrorReason::Conflict);
    service.stop().await;
}
