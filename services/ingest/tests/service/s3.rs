//! Sources in S3, and their notifications.

use aws_config::BehaviorVersion;
use aws_sdk_sqs::{
    Client as Sqs,
    config::{Credentials, Region},
    types::QueueAttributeName,
};
use gumshoe_api::ingest::v1::{ObjectState, SourceSettings};
use gumshoe_ingest::Config;
use gumshoe_testkit::{
    S3,
    s3::{ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY},
};
use object_store::{
    ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
};
use secrecy::SecretString;
use serde_json::json;

use crate::harness::{ACCOUNT, World, create, eventually, get, graph, in_state, objects, settings, sync, totals, trail};

fn access(s3: &S3) -> impl FnOnce(&mut Config) {
    let endpoint = s3.endpoint().clone();
    move |config| {
        config.sources.s3.endpoint_url = Some(endpoint);
        config.sources.s3.region = Some(REGION.to_owned());
        config.sources.s3.access_key_id = Some(ACCESS_KEY_ID.to_owned());
        config.sources.s3.secret_access_key = Some(SecretString::from(SECRET_ACCESS_KEY));
        config.sources.notification_receives = 2;
    }
}

fn key(stamp: &str, suffix: &str) -> String {
    format!("AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/2024/07/30/{ACCOUNT}_CloudTrail_us-east-1_{stamp}_{suffix}.json")
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_prefix_are_pulled_late_and_changed_ones_too() {
    let (world, graph, s3) = (World::new().await, graph(1), S3::start().await);
    s3.create_bucket("my-logs").await;
    s3.put(&format!("my-logs/{}", key("20240730T2130Z", "mmm")), trail(3)).await;
    s3.put("my-logs/AWSLogs/", "").await;
    s3.put("my-logs/other/x.json", trail(1)).await;
    let ingest = world.ingest(access(&s3)).await;
    let mut client = ingest.client(&graph);
    let wanted = SourceSettings { lookback: Some(prost_types::Duration { seconds: 0, nanos: 0 }), ..settings("s3://my-logs/AWSLogs/") };
    create(&mut client, &graph, "logs", wanted).await;
    sync(&mut client, &graph, "logs").await;
    let sum = totals(&mut client, &graph, "logs").await;
    assert_eq!((sum.events, sum.failed, sum.done), (3, 0, sum.seen));

    s3.put(&format!("my-logs/{}", key("20240730T2130Z", "aaa")), trail(2)).await;
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 5, "though it sorts before what was done");
    store(&s3).put(&key("20240730T2130Z", "aaa").into(), trail(4).into()).await.unwrap();
    sync(&mut client, &graph, "logs").await;
    assert_eq!(totals(&mut client, &graph, "logs").await.events, 9, "a changed object is another");
    assert_eq!(sync(&mut client, &graph, "logs").await.objects_total, 0);

    let names = world.graph.source_objects();
    assert_eq!(names.iter().filter(|name| name.ends_with("_aaa.json")).count(), 2);
    assert!(names.iter().all(|name| name.starts_with("s3://my-logs/AWSLogs/")), "{names:?}");
    let progress = get(&mut client, &graph, "logs").await.progress;
    assert!(progress.iter().any(|row| (&*row.account_id, &*row.region, row.done) == (ACCOUNT, "us-east-1", 3)), "{progress:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_object_flows_through_in_ranges() {
    let (world, graph, s3) = (World::new().await, graph(1), S3::start().await);
    s3.create_bucket("my-logs").await;
    let body = trail(20_000);
    assert!(body.len() > 9 << 20, "several ranges: {}", body.len());
    let bytes = body.len() as u64;
    s3.put("my-logs/large.json", body).await;
    let ingest = world.ingest(access(&s3)).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings("s3://my-logs")).await;
    sync(&mut client, &graph, "logs").await;
    let sum = totals(&mut client, &graph, "logs").await;
    assert_eq!((sum.events, sum.dead_letters, sum.bytes), (20_000, 0, bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_there_says_so() {
    let (world, graph, s3) = (World::new().await, graph(1), S3::start().await);
    let ingest = world.ingest(access(&s3)).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", settings("s3://no-such-bucket/")).await;
    let error = eventually("the listing fails", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { Some(get(&mut client, &graph, "logs").await.last_error).filter(|error| !error.is_empty()) }
    })
    .await;
    assert_eq!(error, "the bucket does not exist");
}

async fn queue(s3: &S3) -> (Sqs, String) {
    let credentials = Credentials::builder().access_key_id(ACCESS_KEY_ID).secret_access_key(SECRET_ACCESS_KEY).provider_name("test").build();
    let config =
        aws_config::defaults(BehaviorVersion::latest()).region(Region::new(REGION)).endpoint_url(s3.endpoint().as_str()).credentials_provider(credentials);
    let client = Sqs::new(&config.load().await);
    let created = client.create_queue().queue_name("notifications").attributes(QueueAttributeName::VisibilityTimeout, "1").send().await.unwrap();
    (client, created.queue_url.unwrap())
}

async fn messages_left(client: &Sqs, url: &str) -> i32 {
    let names = [QueueAttributeName::ApproximateNumberOfMessages, QueueAttributeName::ApproximateNumberOfMessagesNotVisible];
    let answer = client.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.to_vec())).send().await.unwrap();
    answer.attributes.unwrap().values().map(|count| count.parse::<i32>().unwrap()).sum()
}

fn notification(key: &str, etag: &str, size: usize) -> String {
    let object = json!({"key": key, "size": size, "eTag": etag});
    json!({"Records": [{"eventName": "ObjectCreated:Put", "eventTime": "2024-07-30T21:35:00.000Z", "s3": {"bucket": {"name": "my-logs"}, "object": object}}]})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_of_every_kind_lead_to_one_pull_each() {
    let (world, graph, s3) = (World::new().await, graph(1), S3::start().await);
    s3.create_bucket("my-logs").await;
    let (sqs, url) = queue(&s3).await;
    let ingest = world.ingest(access(&s3)).await;
    let mut client = ingest.client(&graph);
    create(&mut client, &graph, "logs", SourceSettings { sqs_queue_url: url.clone(), ..settings("s3://my-logs/") }).await;
    // The bucket is listed while it is still empty, and not again within this test.
    eventually("the first listing", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { get(&mut client, &graph, "logs").await.last_list_time }
    })
    .await;

    let (plain, wrapped, trailed) = (trail(2), trail(3), trail(4));
    s3.put("my-logs/a%20b/c%2Bd.json", plain.clone()).await;
    s3.put("my-logs/wrapped.json", wrapped.clone()).await;
    s3.put("my-logs/trailed.json", trailed).await;
    let sns = |message: String| json!({"Type": "Notification", "MessageId": "1", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": message}).to_string();
    let mut bodies = vec![
        json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z", "Bucket": "my-logs"}).to_string(),
        "garbage".to_owned(),
        sns(notification("wrapped.json", &etag(&s3, "wrapped.json").await, wrapped.len())),
        sns(json!({"s3Bucket": "my-logs", "s3ObjectKey": ["trailed.json"]}).to_string()),
        notification("vanished.json", "d41d8cd98f00b204e9800998ecf8427e", 10),
        notification("elsewhere.json", "x", 10).replace("my-logs", "other-logs"),
    ];
    // SQS delivers at least once.
    for _ in 0..3 {
        bodies.push(notification("a+b/c%2Bd.json", &etag(&s3, "a b/c+d.json").await, plain.len()));
    }
    for body in bodies {
        sqs.send_message().queue_url(&url).message_body(body).send().await.unwrap();
    }
    let rows = eventually("all are finished", || {
        let (mut client, graph) = (client.clone(), graph.clone());
        async move { Some(objects(&mut client, &graph, "logs").await).filter(|rows| rows.len() == 4 && in_state(rows, ObjectState::Seen).is_empty()) }
    })
    .await;
    let done: Vec<_> = in_state(&rows, ObjectState::Done).into_iter().map(|object| (&*object.key, object.result.as_ref().unwrap().events)).collect();
    assert_eq!(done, [("a b/c+d.json", 2), ("trailed.json", 4), ("wrapped.json", 3)]);
    let failed = in_state(&rows, ObjectState::Failed);
    assert_eq!((&*failed[0].key, &*failed[0].failure), ("vanished.json", "the object does not exist any more"));
    eventually("the queue is empty, garbage included", || async { (messages_left(&sqs, &url).await == 0).then_some(()) }).await;
    assert_eq!(world.graph.events(&graph), 9);
    assert_eq!(world.graph.state().commits.len(), 3, "each object is committed once");

    // Listing finds what the notifications told, and nothing new.
    assert_eq!(sync(&mut client, &graph, "logs").await.objects_failed, 0);
    assert_eq!(world.graph.state().commits.len(), 3);
}

/// The bucket, for what its server does only for those who sign.
fn store(s3: &S3) -> AmazonS3 {
    AmazonS3Builder::new()
        .with_bucket_name("my-logs")
        .with_region(REGION)
        .with_endpoint(s3.endpoint().as_str().trim_end_matches('/'))
        .with_allow_http(true)
        .with_access_key_id(ACCESS_KEY_ID)
        .with_secret_access_key(SECRET_ACCESS_KEY)
        .build()
        .unwrap()
}

/// The etag of an object.
async fn etag(s3: &S3, key: &str) -> String {
    store(s3).head(&key.into()).await.unwrap().e_tag.unwrap().trim_matches('"').to_owned()
}
