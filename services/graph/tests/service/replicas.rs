//! Several replicas over one lake: whatever is sent to whom, the graph is the same.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use gumshoe_api::graph::v1::{self as proto, CommitBatchRequest, CommitBatchResponse};
use gumshoe_testkit::s3::{ACCESS_KEY_ID, REGION, S3, SECRET_ACCESS_KEY};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    fixture::{Dice, Fixture},
    statistics::edges,
    world,
};

/// New calls in a batch, and how many of the next one's it has as well.
const NEW: usize = 20;
const SHARED: usize = 10;

/// Sends a batch until it is taken, as ingest does.
async fn commit(replica: &Fixture, request: CommitBatchRequest) -> CommitBatchResponse {
    loop {
        match replica.writer.clone().commit_batch(request.clone()).await {
            Ok(response) => return response.into_inner(),
            Err(status) => assert!(matches!(status.code(), Code::Unavailable | Code::Aborted), "{status}"),
        }
    }
}

async fn events(replica: &Fixture) -> u64 {
    let request = proto::GetGraphStatisticsRequest { graph_arn: replica.arn() };
    let statistics = replica.reader.clone().get_graph_statistics(request).await.unwrap().into_inner();
    statistics.kinds.iter().map(|kind| kind.events).sum()
}

/// Two replicas take batches that overlap, every third of them both, all at once.
async fn write_at_once(one: &Fixture, batches: usize) {
    let other = one.replica().await;
    let calls = world::calls(&mut Dice::new(11), 0, (batches * NEW + SHARED) as u64);
    let texts: Vec<String> = (0..batches).map(|index| json!({ "Records": calls[index * NEW..(index + 1) * NEW + SHARED] }).to_string()).collect();
    let batch = |index: usize| one.batch(&format!("b-{index}"), &format!("s3://logs/{index}.json"), &texts[index]).0;
    let sends = (0..batches).flat_map(|index| {
        let replicas = if index % 3 == 0 { vec![one, &other] } else { vec![[one, &other][index % 2]] };
        replicas.into_iter().map(move |replica| async move { (index, commit(replica, batch(index)).await) })
    });
    let mut counts: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (index, response) in join_all(sends).await {
        let count = (response.events, response.duplicates);
        assert_eq!(count.0 + count.1, (NEW + SHARED) as u64);
        assert_eq!(*counts.entry(index).or_insert(count), count, "both say the same of batch {index}");
    }
    assert_eq!(counts.values().map(|(events, _)| events).sum::<u64>(), calls.len() as u64, "each event counts once");

    let alone = Fixture::start().await;
    for (index, text) in texts.iter().enumerate().rev() {
        alone.commit(&format!("b-{index}"), &format!("s3://logs/{index}.json"), text).await;
    }
    let expected = edges(&alone, None).await;
    for replica in [one, &other] {
        // What others committed is seen within a second or so.
        let seen = async {
            while events(replica).await != calls.len() as u64 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect("the replica sees what the other committed");
        assert_eq!(edges(replica, None).await, expected);
    }
    alone.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_write_at_once_count_everything_once() {
    let one = Fixture::start().await;
    write_at_once(&one, 40).await;
    one.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_write_at_once_to_s3_by_its_conditional_writes() {
    let s3 = S3::start().await;
    s3.create_bucket("lake").await;
    let lake: Value = json!({ "url": "s3://lake/graphs", "options": {
        "endpoint": s3.endpoint(), "region": REGION, "access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY } });
    let one = Fixture::with(|config| config.lake = serde_json::from_value(lake).unwrap()).await;
    write_at_once(&one, 12).await;
    one.stop().await;
}
