//! Batches that callers send.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use gumshoe_api::{
    common::v1::ErrorReason,
    ingest::v1::{BatchResult, PutRecordsRequest, StreamRecordsRequest, StreamRecordsResponse, ingest_service_client::IngestServiceClient},
};
use gumshoe_model::GraphArn;
use gumshoe_runtime::status::reason_of;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::harness::{Client, World, eventually, graph, message, piece, pieces, record, trail};

/// Sends messages and collects all results.
async fn send(client: &mut Client, messages: Vec<StreamRecordsRequest>) -> (Vec<BatchResult>, Option<Status>) {
    let mut answers = match client.stream_records(stream::iter(messages)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Some(status)),
    };
    let mut results = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => results.push(answer.result.unwrap()),
            Ok(None) => return (results, None),
            Err(status) => return (results, Some(status)),
        }
    }
}

async fn send_batch(client: &mut Client, graph: &GraphArn, batch_id: &str, data: &[u8], size: usize) -> BatchResult {
    let messages = pieces(batch_id, data, size).into_iter().map(|piece| message(graph, piece)).collect();
    let (mut results, failure) = send(client, messages).await;
    assert!(failure.is_none(), "{failure:?}");
    assert_eq!(results.len(), 1);
    results.remove(0)
}

struct Open {
    sender: mpsc::Sender<StreamRecordsRequest>,
    answers: Streaming<StreamRecordsResponse>,
}

/// A stream that the test feeds by hand.
async fn open(client: &mut Client, first: StreamRecordsRequest) -> Open {
    let (sender, receiver) = mpsc::channel(1);
    sender.send(first).await.unwrap();
    Open { sender, answers: client.stream_records(ReceiverStream::new(receiver)).await.unwrap().into_inner() }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledges_each_batch_as_soon_as_it_is_durable() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let data = trail(3);
    let mut stream = open(&mut ingest.client(&graph), message(&graph, piece("a", data.clone(), true))).await;
    let first = stream.answers.message().await.unwrap().unwrap().result.unwrap();
    let expected =
        BatchResult { batch_id: "a".to_owned(), records: 3, events: 3, duplicates: 0, dead_letters: 0, bytes: data.len() as u64, already_committed: false };
    assert_eq!(first, expected, "while the stream is still open");
    // The graph is named once.
    let second = StreamRecordsRequest { graph_arn: String::new(), piece: Some(piece("b", trail(2), true)) };
    stream.sender.send(second).await.unwrap();
    assert_eq!(stream.answers.message().await.unwrap().unwrap().result.unwrap().events, 2);
    drop(stream.sender);
    assert!(stream.answers.message().await.unwrap().is_none());
    assert_eq!(world.graph.fresh()[0].source_object, "s3://logs/a");
    ingest.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_sent_again_counts_once_and_tells_the_same() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|config| config.batches.commit_bytes = 16 << 10).await;
    let mut client = ingest.client(&graph);
    let mut data = trail(200);
    data.extend_from_slice(b"\n{\"not\": \"a record\"}\n");
    let first = send_batch(&mut client, &graph, "a", &data, 100_000).await;
    assert_eq!((first.records, first.events, first.duplicates, first.dead_letters, first.already_committed), (201, 200, 0, 1, false));
    let again = send_batch(&mut client, &graph, "a", &data, 7_000).await;
    assert_eq!(again, BatchResult { already_committed: true, ..first.clone() });
    assert_eq!(world.graph.events(&graph), 200);
    let other = send_batch(&mut client, &graph, "b", &data, 100_000).await;
    assert_eq!((other.records, other.events, other.duplicates, other.already_committed), (201, 0, 200, false), "the records' own identity counts too");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_is_remembered() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    for (data, already) in [(&b""[..], false), (b"", true)] {
        let result = send_batch(&mut client, &graph, "empty", data, 10).await;
        assert_eq!((result.records, result.bytes, result.already_committed), (0, 0, already));
    }
    assert_eq!(world.graph.fresh().iter().map(|commit| &*commit.batch_id).collect::<Vec<_>>(), ["empty#0-0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_cut_by_its_content_alone() {
    let (world, one, other) = (World::new().await, graph(1), graph(2));
    let ingest = world.ingest(|config| config.batches.commit_bytes = 256 << 10).await;
    let mut data = trail(4_000);
    let broken = (0..50).map(|number| format!("\n{{\"broken\": {number}}}")).collect::<String>();
    data.extend_from_slice(broken.as_bytes());
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&data).unwrap();
    let packed = packed.finish().unwrap();

    let plain = send_batch(&mut ingest.client(&one), &one, "big", &data, 1 << 20).await;
    let zipped = send_batch(&mut ingest.client(&other), &other, "big", &packed, 3_001).await;
    assert_eq!((plain.records, plain.events, plain.dead_letters, plain.bytes), (4_050, 4_000, 50, data.len() as u64));
    assert_eq!(plain, zipped);
    let parts = |graph: &GraphArn| {
        let parts = world.graph.fresh().into_iter().filter(|commit| commit.graph == graph.to_string());
        parts.map(|commit| (commit.batch_id, commit.ids, commit.dead_letters)).collect::<Vec<_>>()
    };
    assert_eq!(parts(&one), parts(&other));
    assert!((8..40).contains(&parts(&one).len()), "{}", parts(&one).len());
    let mut ends: Vec<(u64, u64)> = parts(&one)
        .iter()
        .map(|(id, ..)| id.strip_prefix("big#").unwrap().split_once('-').unwrap())
        .map(|(first, end)| (first.parse().unwrap(), end.parse().unwrap()))
        .collect();
    ends.sort_unstable();
    assert_eq!((ends[0].0, ends[ends.len() - 1].1), (0, 4_050));
    assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0), "without gap or overlap: {ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cut_loses_nothing_and_counts_nothing_twice() {
    let (world, graph) = (World::new().await, graph(1));
    let data = trail(600);
    for commit_bytes in [64 << 10, 200 << 10, 32 << 10] {
        let ingest = world.ingest(|config| config.batches.commit_bytes = commit_bytes).await;
        let result = send_batch(&mut ingest.client(&graph), &graph, "a", &data, 1 << 20).await;
        assert_eq!(result.records, 600);
        ingest.stop().await;
    }
    assert_eq!(world.graph.events(&graph), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_graph_stops_the_sender() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world
        .ingest(|config| {
            config.batches.commit_bytes = 256 << 10;
            config.batches.in_flight_bytes = 128 << 10;
        })
        .await;
    world.graph.stall(true);
    const PIECE: usize = 256 << 10;
    const PIECES: usize = 400;
    let sent = Arc::new(AtomicUsize::new(0));
    let data: Vec<u8> = (0..PIECES * PIECE / 512).flat_map(|number| format!("{}\n", record(1_000_000_000 + number as u64)).into_bytes()).collect();
    let records = data.iter().filter(|byte| **byte == b'\n').count();
    let messages: Vec<_> = pieces("endless", &data, PIECE).into_iter().map(|piece| message(&graph, piece)).collect();
    let (total, counter) = (data.len(), Arc::clone(&sent));
    let requests = stream::iter(messages).inspect(move |message| {
        counter.fetch_add(message.piece.as_ref().unwrap().data.len(), Ordering::Relaxed);
    });
    let mut client = ingest.client(&graph);
    let sending = tokio::spawn(async move {
        let mut answers = client.stream_records(requests).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().result.unwrap()
    });
    // Stalled: two looks, half a second apart, see the same.
    let mut before = 0;
    let stuck = eventually("the sender stalls", || {
        let now = sent.load(Ordering::Relaxed);
        let same = now > 0 && now == std::mem::replace(&mut before, now);
        async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            same.then_some(now)
        }
    })
    .await;
    // HTTP/2 windows of 512 KiB on each side, waiting pieces, parts: far from all of it.
    assert!(stuck < 16 << 20 && stuck < total / 4, "{stuck} of {total} bytes were taken");
    assert!(!sending.is_finished());
    world.graph.stall(false);
    let result = sending.await.unwrap();
    assert_eq!(result.events, records as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_large_batches_over_one_connection_do_not_stop_each_other() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world
        .ingest(|config| {
            config.batches.parallel_streams = 1;
            config.batches.stream_idle_seconds = 5;
        })
        .await;
    // One batch is read at a time; what waits fills its own stream's window, and must not fill the connection's.
    let client = ingest.client(&graph);
    let sending = (0..24).map(|number| {
        let (mut client, graph) = (client.clone(), graph.clone());
        tokio::spawn(async move { send_batch(&mut client, &graph, &format!("batch-{number}"), &trail(6_000), 256 << 10).await.events })
    });
    let events: u64 = futures::future::join_all(sending).await.into_iter().map(Result::unwrap).sum();
    assert_eq!(events, 24 * 6_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_stream_acknowledges_nothing_of_its_tail() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|config| config.batches.commit_bytes = 64 << 10).await;
    let mut client = ingest.client(&graph);
    let data = trail(6_000);
    let half = data.len() / 2;
    let mut stream = open(&mut client, message(&graph, piece("whole", trail(1), true))).await;
    assert_eq!(stream.answers.message().await.unwrap().unwrap().result.unwrap().batch_id, "whole");
    for part in data[..half].chunks(100_000) {
        stream.sender.send(message(&graph, piece("torn", part, false))).await.unwrap();
    }
    // Parts that are full are committed already, which does no harm.
    eventually("a part is committed", || async { (world.graph.events(&graph) > 100).then_some(()) }).await;
    drop(stream);
    eventually("the service has let go", || async {
        let commits = world.graph.state().commits.len();
        tokio::time::sleep(Duration::from_millis(200)).await;
        (world.graph.state().commits.len() == commits).then_some(())
    })
    .await;
    let torn = world.graph.events(&graph) - 1;
    assert!(torn < 3_000, "the tail after the last full part is not committed: {torn}");
    assert!(world.graph.state().commits.iter().all(|commit| commit.dead_letters.is_empty()), "the torn record is no dead letter");

    let result = send_batch(&mut client, &graph, "torn", &data, 1 << 20).await;
    assert_eq!((result.records, result.events, result.already_committed), (6_000, 6_000, false));
    assert_eq!(world.graph.events(&graph), 6_001);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_inside_a_batch_is_told_so() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    for data in [&trail(1)[..], &trail(3_000)[..]] {
        let messages = pieces("a", data, 300_000).into_iter().map(|mut piece| {
            piece.last = false;
            message(&graph, piece)
        });
        let (results, failure) = send(&mut ingest.client(&graph), messages.collect()).await;
        let failure = failure.unwrap();
        assert!(results.is_empty());
        assert_eq!(failure.code(), Code::InvalidArgument);
        assert_eq!(failure.get_details_bad_request().unwrap().field_violations[0].field, "piece.last");
    }
    assert!(world.graph.state().commits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_pieces_are_refused_by_field() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let good = || piece("a", trail(1), false);
    let with = |change: &dyn Fn(&mut gumshoe_api::ingest::v1::RecordsPiece)| {
        let mut piece = good();
        change(&mut piece);
        vec![message(&graph, piece)]
    };
    let then = |change: &dyn Fn(&mut StreamRecordsRequest)| {
        let mut second = message(&graph, good());
        change(&mut second);
        vec![message(&graph, good()), second]
    };
    let other = self::graph(2).to_string();
    let long = "x".repeat(2049);
    for (field, messages) in [
        ("graph_arn", vec![StreamRecordsRequest { graph_arn: String::new(), piece: Some(good()) }]),
        ("graph_arn", then(&|second| second.graph_arn.clone_from(&other))),
        ("piece", vec![StreamRecordsRequest { graph_arn: graph.to_string(), piece: None }]),
        ("piece.batch_id", with(&|piece| piece.batch_id.clear())),
        ("piece.batch_id", with(&|piece| piece.batch_id = "b".repeat(257))),
        ("piece.batch_id", then(&|second| second.piece.as_mut().unwrap().batch_id = "b".to_owned())),
        ("piece.source_object", with(&|piece| piece.source_object.clear())),
        ("piece.source_object", with(&|piece| piece.source_object.clone_from(&long))),
        ("piece.source_object", then(&|second| second.piece.as_mut().unwrap().source_object = "other".to_owned())),
        ("piece.eks_cluster", with(&|piece| piece.eks_cluster.clone_from(&long))),
        ("piece.eks_cluster", then(&|second| second.piece.as_mut().unwrap().eks_cluster = "other".to_owned())),
        ("piece.data", with(&|piece| piece.data = vec![b' '; (2 << 20) + 1].into())),
        ("piece.data", with(&|piece| piece.data = vec![b' '; 5 << 20].into())),
    ] {
        let (results, failure) = send(&mut ingest.client(&graph), messages.clone()).await;
        let failure = failure.unwrap_or_else(|| panic!("{field} was taken"));
        assert!(results.is_empty());
        assert_eq!((failure.code(), reason_of(&failure)), (Code::InvalidArgument, Some(ErrorReason::InvalidField)), "{failure:?}");
        assert_eq!(failure.get_details_bad_request().unwrap().field_violations[0].field, field);
        let put = messages.into_iter().map(|StreamRecordsRequest { graph_arn, piece }| PutRecordsRequest { graph_arn, piece }).collect::<Vec<_>>();
        let failure = ingest.client(&graph).put_records(stream::iter(put)).await.unwrap_err();
        assert_eq!(failure.get_details_bad_request().unwrap().field_violations[0].field, field);
    }
    assert!(world.graph.state().commits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn interleaved_pieces_are_refused_and_earlier_batches_acknowledged() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let messages = vec![
        message(&graph, piece("done", trail(4), true)),
        message(&graph, piece("a", trail(1), false)),
        message(&graph, piece("b", trail(1), true)),
        message(&graph, piece("a", trail(1), true)),
    ];
    let (results, failure) = send(&mut ingest.client(&graph), messages).await;
    assert_eq!(results.iter().map(|result| (&*result.batch_id, result.events)).collect::<Vec<_>>(), [("done", 4)]);
    assert!(failure.unwrap().message().contains("interleaved"));
    assert_eq!(world.graph.events(&graph), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_decides_about_the_graph() {
    let (world, own, other) = (World::new().await, graph(1), graph(2));
    let ingest = world.ingest(|_| {}).await;
    for arn in [other.to_string(), "nonsense".to_owned()] {
        let messages = vec![StreamRecordsRequest { graph_arn: arn, piece: Some(piece("a", trail(1), true)) }];
        let (_, failure) = send(&mut ingest.client(&own), messages).await;
        let failure = failure.unwrap();
        assert_eq!((failure.code(), reason_of(&failure)), (Code::PermissionDenied, Some(ErrorReason::AccessDenied)));
    }
    let channel = tonic::transport::Endpoint::from_shared(ingest.url.to_string()).unwrap().connect().await.unwrap();
    let unsigned = IngestServiceClient::new(channel).stream_records(stream::iter([message(&own, piece("a", trail(1), true))])).await;
    assert_eq!(unsigned.unwrap_err().code(), Code::Unauthenticated);
    assert!(world.graph.state().commits.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_are_repeated_until_the_graph_answers() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    world.graph.state().failures = [Code::Unavailable, Code::Aborted, Code::DeadlineExceeded, Code::ResourceExhausted, Code::Unknown].into();
    let result = send_batch(&mut ingest.client(&graph), &graph, "a", &trail(5), 1 << 20).await;
    assert_eq!((result.events, result.already_committed), (5, false));
    assert_eq!(world.graph.state().calls, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_that_stays_away_is_unavailable() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|config| config.batches.commit_patience_seconds = 1).await;
    world.graph.state().failures = vec![Code::Unavailable; 1_000].into();
    let (results, failure) = send(&mut ingest.client(&graph), vec![message(&graph, piece("a", trail(5), true))]).await;
    let failure = failure.unwrap();
    assert!(results.is_empty());
    assert_eq!((failure.code(), reason_of(&failure)), (Code::Unavailable, Some(ErrorReason::Unavailable)));
    assert!(failure.get_details_retry_info().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_graph_ends_the_stream_without_its_words() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    for (code, expected) in [(Code::NotFound, Code::NotFound), (Code::PermissionDenied, Code::PermissionDenied), (Code::InvalidArgument, Code::Internal)] {
        world.graph.state().failures = [code].into();
        let (results, failure) = send(&mut ingest.client(&graph), vec![message(&graph, piece("a", trail(5), true))]).await;
        let failure = failure.unwrap();
        assert!(results.is_empty());
        assert_eq!(failure.code(), expected);
        assert!(!failure.message().contains("as told"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn put_records_answers_in_the_order_sent() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let messages: Vec<_> = (0..200)
        .map(|number| PutRecordsRequest { graph_arn: graph.to_string(), piece: Some(piece(&format!("batch-{number}"), trail(number % 5), true)) })
        .collect();
    let response = ingest.client(&graph).put_records(stream::iter(messages)).await.unwrap().into_inner();
    let results: Vec<_> = response.results.iter().map(|result| (result.batch_id.clone(), result.events)).collect();
    assert_eq!(results, (0..200).map(|number| (format!("batch-{number}"), number % 5)).collect::<Vec<_>>());
    assert!(world.graph.state().most_open > 4, "small batches share commits: {}", world.graph.state().most_open);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_callers_are_cut_off_and_hold_nobody_up() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world
        .ingest(|config| {
            config.batches.stream_idle_seconds = 2;
            config.batches.parallel_streams = 1;
            config.batches.parallel_objects = 1;
        })
        .await;
    let mut client = ingest.client(&graph);
    let mut silent = Vec::new();
    for number in 0..20 {
        silent.push(open(&mut client, message(&graph, piece(&format!("silent-{number}"), trail(1), false))).await);
    }
    let result = send_batch(&mut client, &graph, "quick", &trail(3), 1 << 20).await;
    assert_eq!(result.events, 3);
    for stream in &mut silent {
        assert_eq!(stream.answers.message().await.unwrap_err().code(), Code::DeadlineExceeded);
    }
    assert_eq!(world.graph.events(&graph), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_bytes_are_dead_letters_and_the_good_records_go_in() {
    let (world, graph) = (World::new().await, graph(1));
    let ingest = world.ingest(|_| {}).await;
    let mut client = ingest.client(&graph);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&trail(500)).unwrap();
    let packed = packed.finish().unwrap();
    let cut = send_batch(&mut client, &graph, "cut", &packed[..packed.len() * 2 / 3], 1 << 20).await;
    assert!(cut.events > 10 && cut.events < 500 && cut.dead_letters == 1, "{cut:?}");
    let garbage = send_batch(&mut client, &graph, "garbage", b"\0\0\0 what is this", 1 << 20).await;
    assert_eq!((garbage.records, garbage.dead_letters), (1, 1));
}
