//! Investigations of findings, access keys, accounts and whole graphs: whom they look at, and what they say of each.

use gumshoe_api::{
    common::v1::{EntityKey, EntityType, ErrorReason, Relation},
    graph::v1::{Direction, EntitySummary, FindingSummary},
    investigation::v1 as api,
};
use gumshoe_model::time::{MICROS_PER_DAY, MICROS_PER_HOUR};
use tonic::Code;

use crate::{
    graph::{Told, finding, time},
    harness::{ANN, GRAPH, Service, World, eventually, refused},
    work::{begin, start_of, tell_attack},
};

const BOB: &str = "arn:aws:iam::111111111111:user/bob";
const DEPLOY: &str = "arn:aws:iam::111111111111:role/deploy";
const OTHER_ACCOUNT: &str = "arn:aws:iam::222222222222:user/eve";
const START: &str = "detective:StartInvestigation";

fn key(kind: EntityType, id: &str) -> EntityKey {
    EntityKey { r#type: kind.into(), id: id.to_owned() }
}

fn of(kind: EntityType, id: &str) -> api::StartInvestigationRequest {
    api::StartInvestigationRequest { entity: Some(key(kind, id)), ..api::StartInvestigationRequest::default() }
}

fn whole() -> api::StartInvestigationRequest {
    api::StartInvestigationRequest { whole_graph: true, ..api::StartInvestigationRequest::default() }
}

/// Starts an investigation, and gives it once it is done, with the ids of whom it looked at.
async fn investigated(service: &Service, begin: i64, request: api::StartInvestigationRequest) -> (api::GetInvestigationResponse, Vec<String>) {
    let id = start_of(service, begin, request).await;
    let found = service.finished(&id).await;
    assert_eq!(found.status(), api::InvestigationStatus::Successful);
    assert_eq!(found.principals_done, found.principals_total);
    let explained = service.explained(&id).await;
    assert_eq!(explained.principals.len(), usize::try_from(found.principals_total).unwrap());
    let looked_at = explained.principals.iter().map(|principal| principal.entity.clone().unwrap().id).collect();
    (explained, looked_at)
}

fn known(kind: EntityType, id: &str, (first, last): (i64, i64)) -> EntitySummary {
    EntitySummary { entity: Some(key(kind, id)), first_time: time(first), last_time: time(last), ..EntitySummary::default() }
}

/// Six principals of two accounts: one of them was active before the scope time only.
fn tell_principals(told: &mut Told, begin: i64) {
    let inside = (begin - MICROS_PER_DAY, begin + MICROS_PER_HOUR);
    told.known = vec![
        known(EntityType::User, BOB, inside),
        known(EntityType::Role, DEPLOY, inside),
        known(EntityType::User, ANN, inside),
        known(EntityType::User, "arn:aws:iam::111111111111:user/gone", (begin - MICROS_PER_DAY, begin - 1)),
        known(EntityType::User, OTHER_ACCOUNT, inside),
        known(EntityType::Root, "arn:aws:iam::222222222222:root", inside),
    ];
    told.risks.extend([(BOB.to_owned(), 10.0), (ANN.to_owned(), 70.0)]);
}

#[tokio::test]
async fn an_account_is_its_most_suspicious_principals() {
    let world = std::sync::Arc::new(World::new().await);
    let service = world.serve(|config| config.investigations.principals = 2).await;
    let begin = begin();
    {
        let mut told = service.world.graph.told();
        tell_attack(&mut told, begin);
        tell_principals(&mut told, begin);
    }
    let (explained, looked_at) = investigated(&service, begin, of(EntityType::Account, "111111111111")).await;
    // Of three that were active, the one of the least risk is left out.
    assert_eq!(looked_at, [ANN, BOB]);
    let found = explained.investigation.unwrap();
    assert_eq!((found.principals_total, found.principals_left_out, found.severity()), (2, 1, api::InvestigationSeverity::Critical));
    assert_eq!((found.entity_type(), found.entity_arn.as_str()), (EntityType::Account, ""));
    let [of_ann, of_bob] = explained.principals.try_into().unwrap();
    assert_eq!((of_ann.severity(), of_ann.points, &of_ann.reasons), (api::InvestigationSeverity::Critical, explained.points, &explained.reasons));
    assert_eq!((of_bob.severity(), of_bob.points), (api::InvestigationSeverity::Informational, 0));
    let indicators = service.indicators(&found.id).await;
    assert!(!indicators.is_empty() && indicators.iter().all(|indicator| indicator.principal == Some(key(EntityType::User, ANN))));
}

#[tokio::test]
async fn a_whole_graph_is_all_its_accounts() {
    let service = Service::start().await;
    let begin = begin();
    tell_principals(&mut service.world.graph.told(), begin);
    let (explained, looked_at) = investigated(&service, begin, whole()).await;
    assert_eq!(looked_at, [ANN, BOB, OTHER_ACCOUNT, DEPLOY, "arn:aws:iam::222222222222:root"]);
    let found = explained.investigation.unwrap();
    assert_eq!((found.entity.as_ref(), found.entity_arn.as_str(), found.severity()), (None, GRAPH, api::InvestigationSeverity::Informational));
    assert_eq!((explained.points, explained.reasons), (0, Vec::new()));
}

#[tokio::test]
async fn a_finding_is_whom_it_names_and_who_touched_what_it_names() {
    let service = Service::start().await;
    let begin = begin();
    let session = key(EntityType::RoleSession, "AROAEXAMPLE:s");
    let of_finding = FindingSummary {
        id: "finding/1".to_owned(),
        first_time: time(begin + 10 * MICROS_PER_HOUR),
        last_time: time(begin + 11 * MICROS_PER_HOUR),
        entities: vec![
            key(EntityType::User, ANN),
            key(EntityType::S3Bucket, "b"),
            key(EntityType::IpAddress, "203.0.113.66"),
            key(EntityType::Account, "111111111111"),
        ],
        ..finding("1", 8.0, ANN)
    };
    {
        let mut told = service.world.graph.told();
        tell_attack(&mut told, begin);
        told.findings = vec![of_finding];
        told.neighbors.insert(("b".to_owned(), Relation::AffectedBy, Direction::Out), vec![session.clone(), key(EntityType::User, ANN)]);
        told.neighbors.insert(("AROAEXAMPLE:s".to_owned(), Relation::Assumed, Direction::In), vec![key(EntityType::Role, DEPLOY)]);
        let users = vec![key(EntityType::User, BOB), key(EntityType::AwsService, "ec2.amazonaws.com")];
        told.neighbors.insert(("203.0.113.66".to_owned(), Relation::Used, Direction::In), users);
    }
    let (explained, looked_at) = investigated(&service, begin, of(EntityType::Finding, "finding/1")).await;
    assert_eq!(looked_at, [ANN, DEPLOY, BOB], "of a session, its role");
    assert_eq!(explained.investigation.unwrap().severity(), api::InvestigationSeverity::Critical);
    // Only the finding's time is looked at.
    let told = service.world.graph.told();
    let scope = told.scopes.iter().find(|(id, _)| id == ANN).map(|(_, scope)| *scope).unwrap();
    assert_eq!((scope.start_time, scope.end_time), (time(begin + 10 * MICROS_PER_HOUR), time(begin + 12 * MICROS_PER_HOUR)));
}

#[tokio::test]
async fn an_access_key_is_who_used_it_and_other_principals_are_themselves() {
    let service = Service::start().await;
    let begin = begin();
    service.world.graph.told().neighbors.insert(("AKIAEXAMPLE".to_owned(), Relation::Used, Direction::In), vec![key(EntityType::User, BOB)]);
    assert_eq!(investigated(&service, begin, of(EntityType::AccessKey, "AKIAEXAMPLE")).await.1, [BOB]);
    for (kind, id) in [
        (EntityType::User, ANN),
        (EntityType::Root, "arn:aws:iam::111111111111:root"),
        (EntityType::RoleSession, "AROAEXAMPLE:s"),
        (EntityType::FederatedUser, "arn:aws:sts::111111111111:federated-user/x"),
        (EntityType::KubernetesSubject, "system:anonymous"),
    ] {
        let (explained, looked_at) = investigated(&service, begin, of(kind, id)).await;
        assert_eq!((looked_at, explained.investigation.unwrap().entity), (vec![id.to_owned()], Some(key(kind, id))));
    }
    let list = api::ListInvestigationsRequest {
        graph_arn: GRAPH.to_owned(),
        entity: Some(key(EntityType::AccessKey, "AKIAEXAMPLE")),
        ..api::ListInvestigationsRequest::default()
    };
    let listed = service.client("detective:ListInvestigations", GRAPH).list_investigations(list).await.unwrap().into_inner().investigations;
    assert_eq!(listed.len(), 1);
}

#[tokio::test]
async fn what_cannot_be_investigated_is_refused() {
    let service = Service::start().await;
    let begin = begin();
    service.world.graph.told().findings = vec![finding("1", 8.0, ANN)];
    let scoped = |request: api::StartInvestigationRequest| {
        let scope = Some(gumshoe_api::common::v1::TimeRange { start_time: time(begin), end_time: time(begin + MICROS_PER_DAY) });
        api::StartInvestigationRequest { graph_arn: GRAPH.to_owned(), scope, ..request }
    };
    let mut client = service.client(START, GRAPH);
    for request in [
        of(EntityType::S3Bucket, "b"),
        of(EntityType::User, "ann"),
        of(EntityType::User, DEPLOY),
        of(EntityType::Account, "12"),
        of(EntityType::Root, "x"),
        of(EntityType::Unspecified, "x"),
        of(EntityType::Finding, ""),
        api::StartInvestigationRequest { entity_arn: ANN.to_owned(), ..whole() },
        api::StartInvestigationRequest { whole_graph: true, ..of(EntityType::User, ANN) },
        api::StartInvestigationRequest { entity_arn: ANN.to_owned(), ..of(EntityType::User, ANN) },
    ] {
        let status = refused(client.start_investigation(scoped(request)).await, Code::InvalidArgument, ErrorReason::InvalidField);
        assert!(status.message().contains("entity"), "{status:?}");
    }
    refused(client.start_investigation(scoped(of(EntityType::Finding, "finding/2"))).await, Code::NotFound, ErrorReason::NotFound);
    // It was active in 2023.
    let known = service.world.graph.told().findings[0].id.clone();
    let status = refused(client.start_investigation(scoped(of(EntityType::Finding, &known))).await, Code::InvalidArgument, ErrorReason::InvalidField);
    assert!(status.message().contains("scope"), "{status:?}");
    service.world.graph.told().failure = Some(gumshoe_runtime::status::unavailable("the lake").into());
    refused(client.start_investigation(scoped(of(EntityType::Finding, &known))).await, Code::Unavailable, ErrorReason::Unavailable);
}

#[tokio::test]
async fn progress_is_seen_and_a_crash_in_the_middle_survived() {
    let world = std::sync::Arc::new(World::new().await);
    let first = world.serve(|config| config.investigations.lease_seconds = 1).await;
    let begin = begin();
    tell_principals(&mut world.graph.told(), begin);
    world.graph.stall_profiles(true);
    let id = start_of(&first, begin, whole()).await;
    let found = eventually("it is known how many there are", async || Some(first.get(&id).await).filter(|found| found.principals_total > 0)).await;
    assert_eq!((found.principals_done, found.principals_total, found.status()), (0, 5, api::InvestigationStatus::Running));
    first.crash().await;
    world.graph.stall_profiles(false);
    let second = world.serve(|config| config.investigations.lease_seconds = 1).await;
    let found = second.finished(&id).await;
    assert_eq!((found.principals_done, found.status()), (5, api::InvestigationStatus::Successful));
}

#[tokio::test]
async fn addresses_of_threat_lists_are_flagged_and_files_followed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tor.csv"), "ip,category\n203.0.113.0/24,tor exit\n").unwrap();
    let world = std::sync::Arc::new(World::new().await);
    let list = gumshoe_enrich::ListConfig { path: folder.path().to_owned(), name: None, category: String::new() };
    let service = world.serve(|config| config.threats.lists = vec![list]).await;
    let begin = begin();
    tell_attack(&mut world.graph.told(), begin);
    let flagged = async || {
        let (explained, _) = investigated(&service, begin, of(EntityType::User, ANN)).await;
        let told = explained.reasons.iter().any(|reason| reason.description == "203.0.113.66 is in the threat list tor: tor exit" && reason.points == 25);
        let indicators = service.indicators(&explained.investigation.unwrap().id).await;
        let flagged = indicators.into_iter().filter_map(|indicator| match indicator.detail {
            Some(api::indicator::Detail::FlaggedIpAddress(flagged)) => Some((flagged.ip_address, flagged.reason, flagged.category)),
            _ => None,
        });
        (flagged.collect::<Vec<_>>(), told)
    };
    let text = |address: &str, list: &str, category: &str| (address.to_owned(), list.to_owned(), category.to_owned());
    assert_eq!(flagged().await, (vec![text("203.0.113.66", "tor", "tor exit")], true));
    std::fs::write(folder.path().join("mine.txt"), "198.51.100.1\n").unwrap();
    let both = eventually("the new file is read", async || Some(flagged().await.0).filter(|flagged| flagged.len() == 2)).await;
    assert_eq!(both, [text("198.51.100.1", "mine", ""), text("203.0.113.66", "tor", "tor exit")]);
    std::fs::write(folder.path().join("tor.csv"), "ip,category\nnonsense,tor exit\n").unwrap();
    assert_eq!(flagged().await.0.len(), 2, "what was read before stays in use");
}
