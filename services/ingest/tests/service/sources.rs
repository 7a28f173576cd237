//! Sources that are folders.

use std::{collections::HashMap, fs, time::Duration};

use chrono::{Days, Utc};
use gumshoe_api::{
    common::v1::ErrorReason,
    ingest::v1::{
        CreateSourceRequest, DeleteSourceRequest, GetSourceRequest, ListSourceObjectsRequest, ListSourcesRequest, ObjectState, SourceSettings,
        SyncSourceRequest,
    },
};
use gumshoe_runtime::status::reason_of;
use gumshoe_testkit::PostgresDatabase;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{ACCOUNT, World, create, eventually, get, graph, in_state, name_of, objects, settings, sync, totals, trail};

#[tokio::test(flavor = "multi_thread")]
async fn a_source_is_created_once_shown_listed_and_deleted() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    let wanted = SourceSettings { eks_cluster: "prod".to_owned(), ..settings(&world.url()) };
    let created = create(&mut client, &graph, "logs", wanted.clone()).await;
    let shown = created.settings.clone().unwrap();
    assert_eq!((&*shown.url, shown.poll_interval, &*shown.eks_cluster), (&*world.url(), wanted.poll_interval, "prod"));
    assert_eq!(shown.lookback.unwrap().seconds, 3 * 86_400, "the default is shown");
    assert_eq!(create(&mut client, &graph, "logs", wanted.clone()).await.create_time, created.create_time, "again changes nothing");

    let request = |name: &str, settings| CreateSourceRequest { graph_arn: graph.to_string(), name: name.to_owned(), settings: Some(settings) };
    let failure = client.create_source(request("logs", SourceSettings { eks_cluster: "other".to_owned(), ..wanted })).await.unwrap_err();
    assert_eq!((failure.code(), reason_of(&failure)), (Code::AlreadyExists, Some(ErrorReason::AlreadyExists)));

    for name in ["b", "a", "c"] {
        create(&mut client, &graph, name, settings(&world.url())).await;
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = client.list_sources(ListSourcesRequest { graph_arn: graph.to_string(), page_size: 3, page_token }).await.unwrap().into_inner();
        names.extend(page.sources.into_iter().map(|source| source.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["a", "b", "c", "logs"]);
    let forged = ListSourcesRequest { graph_arn: graph.to_string(), page_size: 3, page_token: "forged".to_owned() };
    assert_eq!(reason_of(&client.list_sources(forged).await.unwrap_err()), Some(ErrorReason::InvalidPageToken));

    let delete = DeleteSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() };
    client.delete_source(delete.clone()).await.unwrap();
    assert_eq!(client.delete_source(delete).await.unwrap_err().code(), Code::NotFound);
    let absent = GetSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() };
    assert_eq!(reason_of(&client.get_source(absent).await.unwrap_err()), Some(ErrorReason::NotFound));
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_refused_by_field() {
    let (world, own) = (World::new().await, graph(1));
    let ingest = world.ingest(|config| config.sources.s3.region = Some("us-east-1".to_owned())).await;
    let mut client = ingest.client(&own);
    let good = settings(&world.url());
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let s3 = settings("s3://my-logs/AWSLogs/");
    for (field, name, settings) in [
        ("name", "", good.clone()),
        ("name", "a/b", good.clone()),
        ("name", &*"n".repeat(65), good.clone()),
        ("settings.url", "a", settings("")),
        ("settings.url", "a", settings("ftp://x/")),
        ("settings.url", "a", settings("file:///etc")),
        ("settings.url", "a", settings(&format!("{}/../..", world.url()))),
        ("settings.url", "a", settings(&format!("{}/missing", world.url()))),
        ("settings.url", "a", settings("s3://B/")),
        ("settings.poll_interval", "a", SourceSettings { poll_interval: seconds(0), ..good.clone() }),
        ("settings.poll_interval", "a", SourceSettings { poll_interval: seconds(-5), ..good.clone() }),
        ("settings.lookback", "a", SourceSettings { lookback: seconds(i64::MAX), ..good.clone() }),
        ("settings.region", "a", SourceSettings { region: "us east".to_owned(), ..good.clone() }),
        ("settings.sqs_queue_url", "a", SourceSettings { sqs_queue_url: "queue".to_owned(), ..s3.clone() }),
        ("settings.sqs_queue_url", "a", SourceSettings { sqs_queue_url: "https://sqs.example/q".to_owned(), ..good.clone() }),
        ("settings.endpoint_url", "a", SourceSettings { endpoint_url: "http://169.254.169.254/".to_owned(), ..s3.clone() }),
    ] {
        let request = CreateSourceRequest { graph_arn: own.to_string(), name: name.to_owned(), settings: Some(settings) };
        let failure = client.create_source(request.clone()).await.unwrap_err();
        assert_eq!(failure.code(), Code::InvalidArgument, "{request:?}");
        assert_eq!(failure.get_details_bad_request().unwrap().field_violations[0].field, field, "{request:?}");
    }
    let missing = CreateSourceRequest { graph_arn: own.to_string(), name: "a".to_owned(), settings: None };
    assert_eq!(client.create_source(missing).await.unwrap_err().code(), Code::InvalidArgument);
    let page = ListSourcesRequest { graph_arn: own.to_string(), page_size: 201, page_token: String::new() };
    assert_eq!(client.list_sources(page).await.unwrap_err().get_details_bad_request().unwrap().field_violations[0].field, "page_size");
    create(&mut client, &own, "a", good).await;
    let state = ListSourceObjectsRequest { graph_arn: own.to_string(), name: "a".to_owned(), state: 9, ..ListSourceObjectsRequest::default() };
    assert_eq!(client.list_source_objects(state).await.unwrap_err().get_details_bad_request().unwrap().field_violations[0].field, "state");
    let elsewhere = GetSourceRequest { graph_arn: graph(2).to_string(), name: "a".to_owned() };
    assert_eq!(client.get_source(elsewhere).await.unwrap_err().code(), Code::PermissionDenied);
    let absent = SyncSourceRequest { graph_arn: own.to_string(), name: "absent".to_owned() };
    assert_eq!(client.sync_source(absent).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_small_files_share_commits_and_count_once() {
    let (world, graph) = (World::new().await, graph(1));
    let mut bytes = 0;
    for number in 0..200 {
        let body = trail(3);
        bytes += body.len() as u64;
        world.write(&format!("day-{}/file-{number:03}.json", number % 7), body);
    }
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    let status = sync(&mut client, &graph, "logs").await;
    assert_eq!((status.objects_total, status.stored_bytes_total, status.objects_failed), (status.objects_finished, status.stored_bytes_finished, 0));
    let sum = totals(&mut client, &graph, "logs").await;
    assert_eq!((sum.seen, sum.done, sum.records, sum.events, sum.bytes), (200, 200, 600, 600, bytes));
    assert!(world.graph.state().most_open > 4, "{}", world.graph.state().most_open);
    assert_eq!(world.graph.fresh().len(), 200);

    let again = sync(&mut client, &graph, "logs").await;
    assert_eq!((again.objects_total, world.graph.state().calls), (0, 200), "nothing is pulled twice");

    // A source that is forgotten and made again does not count twice either.
    client.delete_source(DeleteSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() }).await.unwrap();
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 600, "told as of the first time");
    assert!(objects(&mut client, &graph, "logs").await.into_iter().all(|object| object.result.unwrap().already_committed));
    assert_eq!(world.graph.events(&graph), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_changed_objects_are_found_whatever_their_order() {
    let (world, graph) = (World::new().await, graph(1));
    world.write("20240730T2130Z_mmm.json", trail(1));
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    sync(&mut client, &graph, "logs").await;

    let late = world.write("20240730T2130Z_aaa.json", trail(2));
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 3, "though it sorts before what was done");
    assert!(world.graph.source_objects().contains(&name_of(&late)));

    let mut grown = fs::read(&late).unwrap();
    grown.extend_from_slice(&trail(3));
    world.write("20240730T2130Z_aaa.json", grown);
    sync(&mut client, &graph, "logs").await;
    let sum = totals(&mut client, &graph, "logs").await;
    assert_eq!((sum.events, sum.duplicates), (6, 2), "only what is new counts");
    let rows = objects(&mut client, &graph, "logs").await;
    assert_eq!(rows.iter().map(|object| &object.key[15..18]).collect::<Vec<_>>(), ["aaa", "aaa", "mmm"]);
    assert_ne!(rows[0].etag, rows[1].etag);
    assert!(rows.iter().all(|object| object.state() == ObjectState::Done && object.done_time.is_some() && object.attempts == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_poll_finds_objects_by_itself() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    let often = SourceSettings { poll_interval: Some(prost_types::Duration { seconds: 1, nanos: 0 }), ..settings(&world.url()) };
    create(&mut client, &graph, "logs", often).await;
    for round in 1..=2 {
        world.write(&format!("{round}.json"), trail(1));
        eventually("it is pulled", || async { (world.graph.events(&graph) == round).then_some(()) }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_fails_with_its_reason_and_is_tried_again() {
    let (world, graph) = (World::new().await, graph(1));
    world.write("good.json", trail(1));
    let inside = world.logs().join("day");
    world.write("day/a.json", trail(2));
    let refused = world.write("refused.json", trail(4));
    world.graph.state().refused.insert(name_of(&refused));
    // One replica lists, another pulls: between the two the folder becomes a link to elsewhere.
    let lister = world.ingest(|config| config.sources.pull = false).await;
    let mut client = lister.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    let request = SyncSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() };
    let listing = client.sync_source(request).await.unwrap();
    eventually("it is listed", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { (objects(&mut client, &graph, "logs").await.len() == 3).then_some(()) }
    })
    .await;
    drop(listing);
    let elsewhere = world.folder.path().join("elsewhere");
    fs::rename(&inside, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &inside).unwrap();

    let puller = world.ingest(|_| {}).await;
    let mut client = puller.client(&graph);
    let watcher = client.clone();
    let find = |key: &'static str, state: ObjectState| {
        let (client, graph) = (watcher.clone(), graph.clone());
        move || {
            let (mut client, graph) = (client.clone(), graph.clone());
            async move { objects(&mut client, &graph, "logs").await.into_iter().find(|object| object.key == key && object.state() == state) }
        }
    };
    let failed = eventually("it fails", find("day/a.json", ObjectState::Failed)).await;
    assert_eq!(failed.failure, "it lies outside the source's folder");
    let failed = eventually("it is refused", find("refused.json", ObjectState::Failed)).await;
    assert_eq!(failed.failure, "the graph service refused it");
    eventually("the others are done", find("good.json", ObjectState::Done)).await;
    let progress = get(&mut client, &graph, "logs").await.progress.remove(0);
    assert_eq!((progress.seen, progress.done, progress.failed), (3, 1, 2));
    assert!(progress.lag.unwrap().nanos > 0 || progress.lag.unwrap().seconds > 0);

    fs::remove_file(&inside).unwrap();
    fs::rename(&elsewhere, &inside).unwrap();
    world.graph.state().refused.clear();
    for key in ["day/a.json", "refused.json"] {
        let done = eventually("it is done in the end", find(key, ObjectState::Done)).await;
        assert!(done.attempts >= 2);
        assert!(done.failure.is_empty());
    }
    let progress = get(&mut client, &graph, "logs").await.progress.remove(0);
    assert_eq!((progress.done, progress.failed, progress.records, progress.lag.unwrap()), (3, 0, 7, prost_types::Duration::default()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_gone_or_changed_before_it_is_read_fails_for_good() {
    let (world, graph) = (World::new().await, graph(1));
    let gone = world.write("gone.json", trail(1));
    let changed = world.write("changed.json", trail(1));
    let lister = world.ingest(|config| config.sources.pull = false).await;
    let mut client = lister.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    let request = SyncSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() };
    let listing = client.sync_source(request).await.unwrap();
    eventually("it is listed", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { (objects(&mut client, &graph, "logs").await.len() == 2).then_some(()) }
    })
    .await;
    drop(listing);
    fs::remove_file(gone).unwrap();
    fs::write(changed, trail(5)).unwrap();
    let puller = world.ingest(|_| {}).await;
    let mut client = puller.client(&graph);
    let rows = eventually("all are finished", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { Some(objects(&mut client, &graph, "logs").await).filter(|rows| rows.len() == 3 && in_state(rows, ObjectState::Seen).is_empty()) }
    })
    .await;
    let mut failures: Vec<_> = in_state(&rows, ObjectState::Failed).into_iter().map(|object| (&*object.key, &*object.failure)).collect();
    failures.sort_unstable();
    assert_eq!(failures, [("changed.json", "the object has changed since it was seen"), ("gone.json", "the object does not exist any more")]);
    assert_eq!(in_state(&rows, ObjectState::Done)[0].result.as_ref().unwrap().events, 5);
    let lag = get(&mut client, &graph, "logs").await.progress.remove(0).lag.unwrap();
    assert_eq!(lag, prost_types::Duration::default(), "what cannot be had any more makes no lag");
}

#[tokio::test(flavor = "multi_thread")]
async fn dated_folders_are_listed_again_within_the_look_back() {
    let (world, graph) = (World::new().await, graph(1));
    let key = |days: u64, name: &str| {
        let day = Utc::now().checked_sub_days(Days::new(days)).unwrap();
        format!("AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/{}/{name}.json", day.format("%Y/%m/%d"))
    };
    world.write(&key(40, "old"), trail(1));
    // So that nothing is listed but when the test says so.
    let ingest = world.ingest(|config| config.sources.pull = false).await;
    let mut client = ingest.client(&graph);
    let lookback = |days: i64| SourceSettings { lookback: Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 }), ..settings(&world.url()) };
    create(&mut client, &graph, "short", lookback(3)).await;
    create(&mut client, &graph, "all", lookback(0)).await;
    let listed = async |name: &'static str| {
        let mut client = ingest.client(&graph);
        let before = get(&mut client, &graph, name).await.last_list_time;
        let request = SyncSourceRequest { graph_arn: graph.to_string(), name: name.to_owned() };
        let _listing = client.sync_source(request).await.unwrap();
        eventually("it is listed", || {
            let (mut client, graph) = (client.clone(), graph.clone());
            async move { (get(&mut client, &graph, name).await.last_list_time != before).then_some(()) }
        })
        .await;
        let objects = objects(&mut client, &graph, name).await;
        let mut names: Vec<_> = objects.into_iter().map(|object| object.key.rsplit('/').next().unwrap().trim_end_matches(".json").to_owned()).collect();
        names.sort_unstable();
        names
    };
    for name in ["short", "all"] {
        assert_eq!(listed(name).await, ["old"], "the first listing is of everything");
    }
    world.write(&key(40, "late-old"), trail(1));
    world.write(&key(2, "late"), trail(1));
    world.write(&key(0, "a-new"), trail(1));
    assert_eq!(listed("short").await, ["a-new", "late", "old"]);
    assert_eq!(listed("all").await, ["a-new", "late", "late-old", "old"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_by_account_and_region_and_shows_gaps() {
    let (world, graph) = (World::new().await, graph(1));
    for stamp in ["20240730T2105Z", "20240730T2150Z", "20240731T0105Z", "20240731T0210Z"] {
        world.write(&format!("AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/2024/07/30/{ACCOUNT}_CloudTrail_us-east-1_{stamp}_x.json"), trail(2));
    }
    world.write("AWSLogs/o-1/210987654321/CloudTrail/eu-west-1/2024/07/30/x.json", trail(1));
    world.write("AWSLogs/210987654321/CloudTrail-Digest/eu-west-1/2024/07/30/digest.json", "{\"digest\": 1}");
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    sync(&mut client, &graph, "logs").await;
    let source = get(&mut client, &graph, "logs").await;
    assert!(source.last_list_time.is_some() && source.last_error.is_empty());
    let rows: Vec<_> = source.progress.iter().map(|row| (&*row.account_id, &*row.region, row.done, row.events, row.gaps.len())).collect();
    assert_eq!(rows, [(ACCOUNT, "us-east-1", 4, 8, 1), ("210987654321", "eu-west-1", 1, 1, 0)]);
    let gap = &source.progress[0].gaps[0];
    let hour = |time: &Option<prost_types::Timestamp>| chrono::DateTime::from_timestamp(time.as_ref().unwrap().seconds, 0).unwrap().to_rfc3339();
    assert_eq!((hour(&gap.start_time), hour(&gap.end_time)), ("2024-07-30T22:00:00+00:00".to_owned(), "2024-07-31T01:00:00+00:00".to_owned()));
    assert!(source.progress[0].newest_object_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_is_paged_by_state() {
    let (world, graph) = (World::new().await, graph(1));
    for number in 0..7 {
        world.write(&format!("{number}.json"), trail(1));
    }
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    sync(&mut client, &graph, "logs").await;
    let request = |state: ObjectState, page_token: String| ListSourceObjectsRequest {
        graph_arn: graph.to_string(),
        name: "logs".to_owned(),
        state: state.into(),
        page_size: 3,
        page_token,
    };
    let (mut keys, mut token) = (Vec::new(), String::new());
    loop {
        let page = client.list_source_objects(request(ObjectState::Done, token)).await.unwrap().into_inner();
        keys.extend(page.objects.into_iter().map(|object| object.key));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(keys, (0..7).map(|number| format!("{number}.json")).collect::<Vec<_>>());
    assert!(client.list_source_objects(request(ObjectState::Failed, String::new())).await.unwrap().into_inner().objects.is_empty());
    let first = client.list_source_objects(request(ObjectState::Done, String::new())).await.unwrap().into_inner();
    let moved = client.list_source_objects(request(ObjectState::Seen, first.next_page_token)).await.unwrap_err();
    assert_eq!(reason_of(&moved), Some(ErrorReason::InvalidPageToken));
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_a_source_without_pulling_twice() {
    let (database, graph) = (PostgresDatabase::create().await, graph(1));
    let world = World::with_database(tempfile::tempdir().unwrap(), database.url()).await;
    for number in 0..300 {
        world.write(&format!("{number:03}.json"), trail(2));
    }
    let (one, two) = (world.ingest(|_| {}).await, world.ingest(|_| {}).await);
    let mut client = one.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    let (first, second) = tokio::join!(sync(&mut client, &graph, "logs"), async { sync(&mut two.client(&graph), &graph, "logs").await });
    assert_eq!((first.objects_failed, second.objects_failed), (0, 0));
    assert_eq!(world.graph.events(&graph), 600);
    let mut calls: HashMap<String, usize> = HashMap::new();
    for commit in &world.graph.state().commits {
        *calls.entry(commit.batch_id.clone()).or_default() += 1;
    }
    assert_eq!(calls.len(), 300);
    assert!(calls.values().all(|count| *count == 1), "{calls:?}");
    let rows = objects(&mut client, &graph, "logs").await;
    assert!(rows.iter().all(|object| object.state() == ObjectState::Done && object.attempts == 1));
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_replica_leaves_another_finishes() {
    let (world, graph) = (World::new().await, graph(1));
    for number in 0..20 {
        world.write(&format!("{number}.json"), trail(2));
    }
    world.graph.stall(true);
    let one = world.ingest(|_| {}).await;
    create(&mut one.client(&graph), &graph, "logs", settings(&world.url())).await;
    eventually("it waits for the graph", || async { (world.graph.state().calls > 0).then_some(()) }).await;
    one.stop().await;
    world.graph.stall(false);
    let two = world.ingest(|_| {}).await;
    let mut client = two.client(&graph);
    sync(&mut client, &graph, "logs").await;
    assert_eq!((totals(&mut client, &graph, "logs").await.done, world.graph.events(&graph)), (20, 40));
    assert!(objects(&mut client, &graph, "logs").await.iter().all(|object| object.attempts == 1), "giving up is no attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_that_is_away_postpones_objects_and_fails_none() {
    let (world, graph) = (World::new().await, graph(1));
    world.write("a.json", trail(2));
    world.graph.state().failures = vec![tonic::Code::Unavailable; 100_000].into();
    let ingest = world.ingest(|config| config.batches.commit_patience_seconds = 0).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    let waiting = eventually("it is postponed", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { objects(&mut client, &graph, "logs").await.into_iter().find(|object| !object.failure.is_empty()) }
    })
    .await;
    assert_eq!((waiting.state(), &*waiting.failure), (ObjectState::Seen, "the graph service does not answer"));
    world.graph.state().failures.clear();
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_is_cut_and_small_ones_do_not_wait_for_it() {
    let (world, graph) = (World::new().await, graph(1));
    world.write("a-large.json", trail(8_000));
    world.write("b-small.json", trail(1));
    let ingest = world.ingest(|config| config.batches.commit_bytes = 256 << 10).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&world.url())).await;
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 8_001);
    assert!(world.graph.fresh().len() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_listed_says_why() {
    let (world, graph) = (World::new().await, graph(1));
    fs::create_dir(world.logs().join("there")).unwrap();
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings(&format!("{}/there", world.url()))).await;
    fs::remove_dir(world.logs().join("there")).unwrap();
    let request = SyncSourceRequest { graph_arn: graph.to_string(), name: "logs".to_owned() };
    let mut answers = client.sync_source(request).await.unwrap().into_inner();
    let failure = loop {
        match tokio::time::timeout(Duration::from_secs(20), answers.message()).await.unwrap() {
            Ok(Some(answer)) => assert!(!answer.complete),
            Ok(None) => panic!("it ended as if all were well"),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure.code(), Code::Unavailable);
    assert!(!get(&mut client, &graph, "logs").await.last_error.is_empty());
}
