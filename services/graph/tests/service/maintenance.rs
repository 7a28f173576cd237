//! Maintenance of the running service: files become few, answers stay, and old days go.

use std::{collections::BTreeMap, path::Path, time::Duration};

use gumshoe_api::graph::v1::{
    GetEntityProfileRequest, GetFindingRequest, GetGraphStatisticsRequest, GetRoleChainRequest, ListDeadLettersRequest, ListFindingsRequest,
    ListNeighborsRequest, SearchEntitiesRequest, StreamEdgesRequest, StreamEventsRequest,
};
use gumshoe_graph::Config;
use tokio::time::{Instant, sleep};

use crate::{
    findings,
    fixture::{Call, Fixture, Who, entity, finding_arn, lines, role_arn, session_id, user_arn},
    world,
};

/// How long a round may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

fn on(config: &mut Config) {
    config.maintenance.enabled = true;
    config.maintenance.interval_seconds = 1;
    config.maintenance.min_files = 2;
    config.maintenance.retention_days = 0;
}

async fn fill(fixture: &Fixture) {
    world::fill(fixture).await;
    for (number, detection) in findings::detections().into_iter().enumerate() {
        fixture.commit(&format!("finding-{number}"), &format!("s3://findings/{number}"), &lines(&[detection.json()])).await;
    }
    fixture.commit("broken", "s3://logs/broken.json", "{\"Records\":[{\"eventName\":1},{\"eventName\":2}]}").await;
}

/// For each folder of a day, and of a table that has none, how many files a commit has written and how many a merge.
fn written(fixture: &Fixture) -> BTreeMap<String, (u32, u32)> {
    let mut folders: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for file in fixture.files() {
        let folder = file.parent().unwrap_or(Path::new("")).display().to_string();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("part-") {
            folders.entry(folder).or_default().0 += 1;
        } else if name.starts_with("run-") {
            folders.entry(folder).or_default().1 += 1;
        }
    }
    folders
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not after {PATIENCE:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// What the graph says to every kind of question; rows of the edge table are not counted, since sums of them are.
async fn answers(fixture: &Fixture) -> BTreeMap<String, String> {
    let graph_arn = fixture.arn();
    let mut reader = fixture.reader.clone();
    let mut answers = BTreeMap::new();
    let alice = format!("user:{}", user_arn("alice"));
    let role = format!("role:{}", role_arn("deploy"));
    let session = format!("role_session:{}", session_id("deploy", "ci"));
    for of in [alice.as_str(), &role, &session, "ip_address:203.0.113.77", "network_interface:eni-1", "s3_bucket:alpha", "aws_service:s3.amazonaws.com"] {
        let request = GetEntityProfileRequest { graph_arn: graph_arn.clone(), entity: entity(of), ..Default::default() };
        answers.insert(format!("profile {of}"), format!("{:?}", reader.get_entity_profile(request).await.unwrap().into_inner()));
        let mut request = ListNeighborsRequest { graph_arn: graph_arn.clone(), entity: entity(of), page_size: 5, ..Default::default() };
        let mut neighbors = Vec::new();
        loop {
            let page = reader.list_neighbors(request.clone()).await.unwrap().into_inner();
            neighbors.extend(page.neighbors);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert!(!neighbors.is_empty());
        answers.insert(format!("neighbors {of}"), format!("{neighbors:?}"));
    }
    let request = GetRoleChainRequest { graph_arn: graph_arn.clone(), entity: entity(&session), scope: None, depth: 5 };
    answers.insert("chain".to_owned(), format!("{:?}", reader.get_role_chain(request).await.unwrap().into_inner()));
    let request = SearchEntitiesRequest { graph_arn: graph_arn.clone(), text: "*".to_owned(), page_size: 1_000, ..Default::default() };
    answers.insert("search".to_owned(), format!("{:?}", reader.search_entities(request).await.unwrap().into_inner().entities));
    let request = ListFindingsRequest { graph_arn: graph_arn.clone(), include_archived: true, page_size: 100, ..Default::default() };
    answers.insert("findings".to_owned(), format!("{:?}", reader.list_findings(request).await.unwrap().into_inner().findings));
    let request = GetFindingRequest { graph_arn: graph_arn.clone(), id: finding_arn("worst") };
    let mut finding = reader.get_finding(request).await.unwrap().into_inner();
    // Risks are of the minute in which they are asked for.
    finding.entities.iter_mut().filter_map(|affected| affected.risk.as_mut()).for_each(|risk| risk.time = None);
    answers.insert("finding".to_owned(), format!("{finding:?}"));
    let request = ListDeadLettersRequest { graph_arn: graph_arn.clone(), page_size: 100, ..Default::default() };
    let mut letters = reader.list_dead_letters(request).await.unwrap().into_inner().dead_letters;
    letters.iter_mut().for_each(|letter| letter.time = None);
    assert_eq!(letters.len(), 2);
    answers.insert("dead letters".to_owned(), format!("{letters:?}"));
    let mut statistics = reader.get_graph_statistics(GetGraphStatisticsRequest { graph_arn: graph_arn.clone() }).await.unwrap().into_inner();
    statistics.edges = 0;
    let entities: BTreeMap<_, _> = std::mem::take(&mut statistics.entities).into_iter().collect();
    answers.insert("statistics".to_owned(), format!("{statistics:?} {entities:?}"));
    let mut stream = reader.stream_edges(StreamEdgesRequest { graph_arn: graph_arn.clone(), scope: None }).await.unwrap().into_inner();
    let mut edges = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        edges.extend(message.edges.into_iter().map(|edge| format!("{edge:?}")));
    }
    assert!(edges.len() > 1_000);
    answers.insert("edges".to_owned(), edges.join("\n"));
    let mut stream = reader.stream_events(StreamEventsRequest { graph_arn, filter: None }).await.unwrap().into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        events.extend(message.events.into_iter().map(|event| format!("{event:?}")));
    }
    events.sort();
    answers.insert("events".to_owned(), events.join("\n"));
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_files_give_the_same_answers() {
    let plain = Fixture::start().await;
    fill(&plain).await;
    let expected = answers(&plain).await;
    assert!(written(&plain).values().all(|(_, merged)| *merged == 0));
    plain.stop().await;

    let merged = Fixture::with(on).await;
    fill(&merged).await;
    until("merged files", || written(&merged).values().all(|(committed, merged)| *committed < 2 || *merged > 0)).await;
    let folders = written(&merged);
    assert!(folders.keys().any(|folder| folder.contains("/edges/date=")) && folders.keys().any(|folder| folder.ends_with("/entities")), "{folders:?}");
    for _ in 0..2 {
        let found = answers(&merged).await;
        for (question, answer) in &expected {
            assert!(&found[question] == answer, "{question}\nexpected {answer}\nfound    {}", found[question]);
        }
    }
    // What was committed is still known.
    let again = merged.commit_calls("chain", &[]).await;
    assert!(again.already_committed);
    merged.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_past_the_retention_time_go() {
    let fixture = Fixture::with(|config| {
        on(config);
        config.maintenance.retention_days = 30;
    })
    .await;
    let recent = (chrono::Utc::now() - chrono::TimeDelta::days(10)).format("%Y-%m-%dT10:00:00Z").to_string();
    fixture.commit_calls("recent", &[Call::new("recent", &recent, Who::User("alice")).json()]).await;
    fixture.commit_calls("old", &[Call::new("old", "2024-06-30T10:00:00Z", Who::User("bob")).json()]).await;
    let mut reader = fixture.reader.clone();
    let end = Instant::now() + PATIENCE;
    loop {
        let statistics = reader.get_graph_statistics(GetGraphStatisticsRequest { graph_arn: fixture.arn() }).await.unwrap().into_inner();
        if statistics.kinds[0].events == 1 {
            break;
        }
        assert!(Instant::now() < end, "{statistics:?}");
        sleep(Duration::from_millis(100)).await;
    }
    let request = GetEntityProfileRequest { graph_arn: fixture.arn(), entity: entity(&format!("user:{}", user_arn("alice"))), ..Default::default() };
    assert!(reader.get_entity_profile(request).await.is_ok());
    fixture.stop().await;
}
