//! The composed night: into a graph by every door, and what the graph must then know.

use std::path::Path;

use gumshoe_api::{
    common::v1::{EntityKey, EntityType, Relation, TimeRange},
    graph::v1::{
        Activity, ActivityList, BatchGetRiskRequest, EventFilter, GetEntityProfileRequest, GetFindingRequest, GetRoleChainRequest, ListEventsRequest,
        ListNeighborsRequest, SearchEntitiesRequest,
    },
};
use gumshoe_testkit::{Cli, Client};
use gumshoe_tests::{LogFile, story};
use serde_json::Value;

fn entity(kind: EntityType, id: &str) -> EntityKey {
    EntityKey { r#type: kind.into(), id: id.to_owned() }
}

fn night() -> TimeRange {
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    TimeRange { start_time: time(story::NIGHT.0), end_time: time(story::NIGHT.1) }
}

/// A file through `gumshoe ingest`, twice: the second time nothing counts.
pub async fn ingest_by_command(cli: &Cli, file: &LogFile, folder: &Path) {
    let path = file.write(folder);
    let records = story::cloudtrail_records().len();
    for already in [false, true] {
        let said = cli.json(&["ingest", path.to_str().unwrap()]).await;
        let sent = &said["files"][0];
        assert_eq!((&sent["records"], &sent["events"]), (&records.into(), &records.into()), "{said}");
        assert_eq!((&sent["duplicates"], &sent["dead_letters"]), (&0.into(), &0.into()), "{said}");
        assert_eq!(sent["already_committed"], already, "{said}");
        assert_eq!(said["totals"]["failed_files"], 0, "{said}");
    }
}

/// A file as a batch of `StreamRecords`.
pub async fn ingest_by_stream(client: &Client, file: &LogFile) {
    let records = file.unpacked().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() - 1;
    let mut results = Vec::new();
    client.send([&file.batch()], |result| results.push(result)).await.expect("StreamRecords");
    assert_eq!(results.len(), 1);
    let result = &results[0];
    assert_eq!(usize::try_from(result.events).unwrap(), records, "{result:?}");
    assert_eq!((result.records, result.dead_letters, result.already_committed), (result.events, 0, false), "{result:?}");
}

/// A folder as a source, which the ledger then says is done.
pub async fn ingest_by_source(cli: &Cli, name: &str, folder: &Path) {
    cli.json(&["sources", "add", name, folder.to_str().unwrap(), "--lookback", "0s"]).await;
    let synced = cli.json(&["sources", "sync", name]).await;
    assert_eq!(synced["complete"], true, "{synced}");
    // The source polls by itself: it may have been quicker than the call.
    assert_eq!(synced["objects_failed"], 0, "{synced}");
    let objects = cli.json(&["sources", "objects", name]).await;
    assert_eq!(objects["objects"][0]["state"], "OBJECT_STATE_DONE", "{objects}");
    assert_eq!(objects["objects"][0]["result"]["events"], 1, "{objects}");
    let listed = cli.json(&["sources"]).await;
    let source = listed["sources"].as_array().unwrap().iter().find(|source| source["name"] == name).expect("the source").clone();
    let progress = &source["progress"][0];
    assert_eq!((&progress["account_id"], &progress["region"]), (&story::ACCOUNT.into(), &"us-east-1".into()), "{source}");
    assert_eq!((&progress["seen"], &progress["done"], &progress["failed"]), (&1.into(), &1.into(), &0.into()), "{source}");
}

/// What the graph must know of the night.
pub async fn check(client: &Client, cli: &Cli) {
    profiles(client).await;
    searches(client).await;
    neighbors(client).await;
    chain(client).await;
    finding(client).await;
    events(client).await;
    risk(client).await;
    commands(cli).await;
}

fn find<'a>(list: &'a Option<ActivityList>, name: &str) -> &'a Activity {
    let items = &list.as_ref().expect("a list").items;
    items.iter().find(|item| item.name.contains(name)).unwrap_or_else(|| panic!("no `{name}` in {:?}", items.iter().map(|item| &item.name).collect::<Vec<_>>()))
}

fn calls(activity: &Activity) -> (u64, u64) {
    let measures = activity.measures.as_ref().expect("measures");
    (measures.successes, measures.failures)
}

async fn profile(client: &Client, entity: EntityKey) -> gumshoe_api::graph::v1::EntityProfile {
    let request = GetEntityProfileRequest { graph_arn: client.graph_arn.clone(), entity: Some(entity), scope: Some(night()), list_size: 0 };
    client.graph().get_entity_profile(request).await.expect("GetEntityProfile").into_inner().profile.expect("a profile")
}

async fn profiles(client: &Client) {
    let user = profile(client, entity(EntityType::User, story::USER)).await;
    let totals = user.totals.as_ref().expect("totals");
    assert_eq!((totals.successes, totals.failures), (2, 2), "{user:?}");
    assert_eq!(user.account_id, story::ACCOUNT);
    assert_eq!(user.hours.len(), 1);
    assert_eq!(user.baseline_days, 3, "three days before have records");
    assert_eq!(calls(find(&user.operations, "ListUsers")), (0, 2));
    assert_eq!(calls(find(&user.operations, "AssumeRole")), (1, 0));
    let from = find(&user.addresses, story::ATTACKER);
    assert!(from.new_in_scope, "the night's address was never seen before");
    assert_eq!(calls(from), (2, 2));
    assert_eq!(user.addresses.as_ref().unwrap().total, 1, "the office is not in scope");
    assert_eq!(calls(find(&user.errors, "AccessDenied")), (0, 2));
    assert_eq!(user.findings.len(), 1);
    assert_eq!((user.findings[0].id.as_str(), user.findings[0].severity_label.as_str()), (story::FINDING, "HIGH"));
    assert!(find(&user.roles_assumed, "").measures.is_some());

    let session = profile(client, entity(EntityType::RoleSession, story::SESSION)).await;
    let role = profile(client, entity(EntityType::Role, story::ROLE)).await;
    for profile in [&session, &role] {
        let totals = profile.totals.as_ref().expect("totals");
        assert_eq!((totals.successes, totals.failures), (3, 1), "{profile:?}");
        assert_eq!(calls(find(&profile.operations, "GetObject")), (3, 0));
    }
    assert_eq!(session.name, "night-shift");
    find(&session.resources, story::BUCKET);
    find(&role.assumed_by, "alice");

    let interface = profile(client, entity(EntityType::NetworkInterface, story::INTERFACE)).await;
    let totals = interface.totals.as_ref().expect("totals");
    assert_eq!((totals.bytes_in, totals.bytes_out), (3_040, 5_012_000), "{interface:?}");
    let flows = &interface.flows.as_ref().expect("flows").items;
    let out = flows.iter().find(|flow| flow.port == 4444).expect("the way out");
    assert_eq!((out.relation(), out.protocol), (Relation::ConnectedTo, 6));
    assert_eq!(out.measures.as_ref().unwrap().bytes_out, 5_000_000);
    assert!(flows.iter().any(|flow| flow.relation() == Relation::RejectedFrom && flow.port == 22), "{flows:?}");

    let instance = profile(client, entity(EntityType::Ec2Instance, story::INSTANCE)).await;
    assert_eq!(instance.totals.as_ref().unwrap().bytes_out, 700_000, "{instance:?}");
}

async fn searches(client: &Client) {
    for (text, kind, id) in [
        (story::USER, EntityType::User, story::USER),
        ("alice", EntityType::User, story::USER),
        ("198.51.*", EntityType::IpAddress, story::ATTACKER),
        ("198.51.100.0/24", EntityType::IpAddress, story::ATTACKER),
        ("night-shift", EntityType::RoleSession, story::SESSION),
        ("*DEPLOYER*", EntityType::Role, story::ROLE),
        ("customer-export?", EntityType::S3Bucket, story::BUCKET),
        (story::INTERFACE, EntityType::NetworkInterface, story::INTERFACE),
        ("AKIAALICE*", EntityType::AccessKey, story::USER_KEY),
    ] {
        let request = SearchEntitiesRequest { graph_arn: client.graph_arn.clone(), text: text.to_owned(), types: vec![kind.into()], ..Default::default() };
        let found = client.graph().search_entities(request).await.expect("SearchEntities").into_inner().entities;
        assert!(found.iter().any(|found| found.entity == Some(entity(kind, id))), "`{text}` finds {found:?}");
    }
}

async fn neighbors(client: &Client) {
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListNeighborsRequest {
            graph_arn: client.graph_arn.clone(),
            entity: Some(entity(EntityType::IpAddress, story::ATTACKER)),
            page_size: 2,
            page_token,
            ..Default::default()
        };
        let page = client.graph().list_neighbors(request).await.expect("ListNeighbors").into_inner();
        assert!(page.neighbors.len() <= 2);
        found.extend(page.neighbors);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let of = |kind, id: &str| found.iter().filter(|neighbor| neighbor.entity == Some(entity(kind, id))).count();
    assert_eq!(of(EntityType::User, story::USER), 1, "{found:?}");
    assert_eq!(of(EntityType::RoleSession, story::SESSION), 1);
    assert_eq!(of(EntityType::NetworkInterface, story::INTERFACE), 3, "accepted, connected and rejected");
    assert_eq!(of(EntityType::Finding, story::FINDING), 1);
}

async fn chain(client: &Client) {
    let request =
        GetRoleChainRequest { graph_arn: client.graph_arn.clone(), entity: Some(entity(EntityType::RoleSession, story::SESSION)), ..Default::default() };
    let steps = client.graph().get_role_chain(request).await.expect("GetRoleChain").into_inner().steps;
    let step = |from: EntityKey, to: EntityKey| {
        steps
            .iter()
            .find(|step| step.from.as_ref() == Some(&from) && step.to.as_ref() == Some(&to))
            .unwrap_or_else(|| panic!("no {from:?} to {to:?} in {steps:?}"))
    };
    let session = entity(EntityType::RoleSession, story::SESSION);
    let became = step(entity(EntityType::User, story::USER), session.clone());
    assert_eq!((became.relation(), became.distance), (Relation::Assumed, -1));
    let origin = step(entity(EntityType::IpAddress, story::ATTACKER), entity(EntityType::User, story::USER));
    assert_eq!((origin.relation(), origin.distance), (Relation::Used, -2));
    assert!(step(session, entity(EntityType::Role, story::ROLE)).distance > 0);
}

async fn finding(client: &Client) {
    let request = GetFindingRequest { graph_arn: client.graph_arn.clone(), id: story::FINDING.to_owned() };
    let found = client.graph().get_finding(request).await.expect("GetFinding").into_inner();
    let summary = found.finding.as_ref().expect("the finding");
    assert_eq!((summary.r#type.as_str(), summary.severity, summary.count), (story::FINDING_TYPE, 8.0, 4));
    let raw: Value = serde_json::from_str(&found.raw).expect("the finding as it came");
    assert_eq!(raw["arn"], story::FINDING);
    let about =
        |key: EntityKey| found.entities.iter().find(|affected| affected.entity.as_ref() == Some(&key)).unwrap_or_else(|| panic!("no {key:?} in {found:?}"));
    let user = about(entity(EntityType::User, story::USER));
    assert!(user.new_activities.iter().any(|activity| activity.name == story::ATTACKER), "{user:?}");
    assert!(user.risk.as_ref().is_some_and(|risk| risk.entity.is_some()), "{user:?}");
    about(entity(EntityType::IpAddress, story::ATTACKER));
    about(entity(EntityType::AccessKey, story::USER_KEY));
}

async fn events(client: &Client) {
    let list = |filter: EventFilter| async {
        let request = ListEventsRequest { graph_arn: client.graph_arn.clone(), filter: Some(filter), ..Default::default() };
        client.graph().list_events(request).await.expect("ListEvents").into_inner().events
    };
    let session = EventFilter { entity: Some(entity(EntityType::RoleSession, story::SESSION)), error: "*".to_owned(), ..Default::default() };
    let failed = list(session).await;
    assert_eq!(failed.len(), 1, "{failed:?}");
    let event = &failed[0];
    assert_eq!((event.id.as_str(), event.operation.as_str(), event.error.as_str()), (story::DELETE_TRAIL, "DeleteTrail", "AccessDenied"));
    assert!(event.source_object.ends_with(&story::cloudtrail().name), "{}", event.source_object);
    let bytes = story::cloudtrail().unpacked();
    let offset = usize::try_from(event.offset).unwrap();
    assert_eq!(&bytes[offset..offset + event.raw.len()], event.raw.as_bytes(), "the text is where the event says");
    let record: Value = serde_json::from_str(&event.raw).unwrap();
    assert_eq!(&record, story::cloudtrail_records().last().unwrap());

    assert_eq!(list(EventFilter { event_id: story::DELETE_TRAIL.to_owned(), ..Default::default() }).await.len(), 1);
    let out = list(EventFilter { port: 4444, ..Default::default() }).await;
    assert_eq!(out.len(), 1);
    let line = out[0].raw.as_bytes();
    let flows = story::flows().unpacked();
    let offset = usize::try_from(out[0].offset).unwrap();
    assert_eq!(&flows[offset..offset + line.len()], line);
}

async fn risk(client: &Client) {
    let time = Some(prost_types::Timestamp { seconds: story::NIGHT.1, nanos: 0 });
    let entities = vec![entity(EntityType::User, story::USER), entity(EntityType::User, "arn:aws:iam::111122223333:user/nobody")];
    let request = BatchGetRiskRequest { graph_arn: client.graph_arn.clone(), entities, time };
    let risks = client.graph().batch_get_risk(request).await.expect("BatchGetRisk").into_inner().risks;
    let (alice, nobody) = (&risks[0], &risks[1]);
    assert!(alice.score > 20.0 && alice.score <= 100.0, "{alice:?}");
    let parts: f64 = alice.parts.iter().map(|part| part.contribution).sum();
    assert!((parts + alice.rest - alice.score).abs() < 0.01, "the parts make the score: {alice:?}");
    let finding = alice.parts.iter().find(|part| part.source == "finding").expect("the finding is a part");
    assert!(finding.evidence.iter().any(|evidence| evidence == story::FINDING), "{finding:?}");
    assert!(alice.parts.iter().any(|part| part.source.starts_with("new_")), "{alice:?}");
    assert_eq!(nobody.score, 0.0);
}

/// The same through the command line, as its JSON says it.
async fn commands(cli: &Cli) {
    let findings = cli.json(&["findings", "--min-severity", "high"]).await;
    assert_eq!(findings["findings"].as_array().unwrap().len(), 1, "{findings}");
    assert_eq!(findings["findings"][0]["finding"]["id"], story::FINDING);
    let profile = cli.json(&["profile", "alice", "--from", "2026-01-06T22:00:00Z", "--to", "2026-01-06T23:00:00Z"]).await;
    assert_eq!(profile["profile"]["totals"]["failures"], 2, "{profile}");
    let search = cli.json(&["search", story::ATTACKER]).await;
    assert_eq!(search["entities"][0]["entity"]["type"], "ENTITY_TYPE_IP_ADDRESS", "{search}");
    let risk = cli.json(&["risk", story::USER, story::ATTACKER, "--at", "2026-01-06T23:00:00Z"]).await;
    assert!(risk["risks"][0]["score"].as_f64().unwrap() > 20.0, "{risk}");
    let statistics = cli.json(&["statistics"]).await;
    assert_eq!(statistics["kinds"][0]["events"], story::cloudtrail_records().len(), "{statistics}");
    // The detector's, and that of the rule about trails.
    assert_eq!((&statistics["findings"], &statistics["dead_letters"]), (&2.into(), &0.into()), "{statistics}");
    let raw = cli.run(&["events", "--event-id", story::DELETE_TRAIL, "--raw"]).await;
    assert_eq!(&serde_json::from_str::<Value>(raw.stdout.trim()).unwrap(), story::cloudtrail_records().last().unwrap());
    rules(cli).await;
    let exported = cli.run(&["export", "events"]).await.json_lines();
    assert_eq!(exported.len(), story::cloudtrail_records().len() + 5 + 1 + 1, "every record");
}

/// What detection rules say of the night, and what is found by one that was written afterwards.
async fn rules(cli: &Cli) {
    let found = cli.json(&["findings", "--product", "gumshoe"]).await;
    let findings = found["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{found}");
    let finding = &findings[0]["finding"];
    // The call failed: a level lower than the rule's.
    assert_eq!((&finding["title"], &finding["severity_label"]), (&"A trail was stopped or deleted".into(), &"MEDIUM".into()), "{finding}");
    assert_eq!(finding["entities"][0]["id"], story::SESSION, "{finding}");
    let whole = cli.json(&["finding", finding["id"].as_str().unwrap()]).await;
    assert!(whole["raw"].as_str().unwrap().contains("T1562.008"), "{whole}");
    let events = cli.json(&["events", "--entity", &format!("finding:{}", finding["id"].as_str().unwrap())]).await;
    assert_eq!(events["events"][0]["id"], story::DELETE_TRAIL, "{events}");
    let marked = cli.json(&["events", "--rule", "*", "--operation", "DeleteTrail"]).await;
    assert_eq!(marked["events"][0]["rules"][0]["title"], "A trail was stopped or deleted", "{marked}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yml");
    let rule = "title: Users were listed\nid: 22222222-0000-4000-8000-000000000001\nlogsource: {product: aws, service: cloudtrail}\ndetection:\n  one:\n    \
                eventName: ListUsers\n  condition: one\nlevel: low\n";
    std::fs::write(&file, rule).unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(cli.run(&["rules", "validate", path]).await.code, Some(0));
    assert_eq!(cli.json(&["rules", "create", path]).await["origin"], "RULE_ORIGIN_GRAPH");
    assert_eq!(cli.json(&["rules", "list", "users were listed"]).await["rules"].as_array().unwrap().len(), 1);
    let id = "22222222-0000-4000-8000-000000000001";
    let hunted = cli.run(&["--output", "json", "rules", "hunt", id, "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-08T00:00:00Z"]).await.json_lines();
    assert_eq!(hunted.len(), 2, "{hunted:?}");
    assert!(hunted.iter().all(|event| event["operation"] == "ListUsers"), "{hunted:?}");
    assert_eq!(cli.run(&["rules", "delete", id]).await.code, Some(0));
    assert_eq!(cli.run(&["rules", "show", id]).await.code, Some(4));
    std::fs::write(&file, rule.replace("level: low", "level: urgent")).unwrap();
    let refused = cli.run(&["rules", "create", path]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
}
