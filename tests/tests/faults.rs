//! What must not change a graph: killed services, another order, other batch sizes, and bad input.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::indexing_slicing, reason = "in a test, a panic is the message")]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use flate2::read::MultiGzDecoder;
use gumshoe_api::ingest::v1::BatchResult;
use gumshoe_testkit::{Batch, Cli, Client, Installation, Processes, Redis, S3, Service, Standalone, standalone::Folder};
use gumshoe_tests::{LogFile, bulk, dump::Dump, gzip, random::Random, story};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// Records of an ingest that is disturbed.
const RECORDS: usize = 1_500;
/// Rounds with a random point beside those that kill each service once.
const RANDOM_ROUNDS: usize = 6;
/// Small parts, few at once, so that an ingest has many commits to be killed between.
const COMMIT_BYTES: &str = "65536";
const IN_FLIGHT_BYTES: &str = "32768";

/// Set it to repeat a run: `GUMSHOE_TEST_SEED=… cargo nextest run …`.
fn seed() -> u64 {
    let seed = std::env::var("GUMSHOE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |age| u64::try_from(age.as_micros()).unwrap_or(1)));
    eprintln!("GUMSHOE_TEST_SEED={seed}");
    seed
}

fn batches(files: &[LogFile]) -> Vec<Batch> {
    files.iter().map(LogFile::batch).collect()
}

/// Sums of events, duplicates and dead letters; each batch must add up.
fn totals(results: &[BatchResult]) -> (u64, u64, u64) {
    for result in results {
        assert_eq!(result.records, result.events + result.duplicates + result.dead_letters, "{result:?}");
    }
    let sum = |of: fn(&BatchResult) -> u64| results.iter().map(of).sum();
    (sum(|result| result.events), sum(|result| result.duplicates), sum(|result| result.dead_letters))
}

async fn start(settings: Vec<(Service, &'static str, String)>) -> Processes {
    Processes::start(Installation { settings, ..Installation::default() }).await
}

/// Each ingest goes into a graph of its own.
async fn client(processes: &Processes, number: usize) -> Client {
    let account = processes.create_account(&format!("{:012}", 100_000_000_000 + number)).await;
    processes.sign_in(&account).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_any_service_in_the_middle_changes_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let files = bulk::generate(RECORDS, 7).await;
    let batches = batches(&files);
    let settings = vec![
        (Service::Ingest, "batches.commit_bytes", COMMIT_BYTES.to_owned()),
        (Service::Ingest, "batches.in_flight_bytes", IN_FLIGHT_BYTES.to_owned()),
        // Files are merged all the while.
        (Service::Graph, "maintenance.interval_seconds", "1".to_owned()),
        (Service::Graph, "maintenance.min_files", "2".to_owned()),
    ];
    let mut processes = start(settings).await;

    let undisturbed = client(&processes, 0).await;
    let begun = Instant::now();
    let results = undisturbed.send_until_acknowledged(&batches, &AtomicUsize::new(0)).await;
    let duration = begun.elapsed();
    let expected_totals = totals(&results);
    let expected = Dump::of(&undisturbed, &files).await;
    assert!(expected_totals.1 > 0 && expected_totals.2 > 0, "the input has duplicates and dead letters: {expected_totals:?}");
    assert!(expected_totals.0 > u64::try_from(RECORDS).unwrap() / 2, "{expected_totals:?}");
    eprintln!("undisturbed: {} batches in {duration:?}, read again after {:?}, {expected_totals:?}", batches.len(), begun.elapsed());

    let random_rounds = (0..RANDOM_ROUNDS).map(|number| if number % 2 == 0 { Service::Graph } else { Service::Ingest });
    for (round, service) in Service::ALL.into_iter().chain(random_rounds).enumerate() {
        let client = client(&processes, round + 1).await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let sending = {
            let (client, batches, acknowledged) = (client.clone(), batches.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move { client.send_until_acknowledged(&batches, &acknowledged).await })
        };
        // Between the first and the last commit, at any microsecond.
        let after = random.below(batches.len() / 2);
        let pause = Duration::from_micros(u64::try_from(random.below(usize::try_from(duration.as_micros() / 8).unwrap() + 1)).unwrap());
        while acknowledged.load(Ordering::Relaxed) < after && !sending.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        sleep(pause).await;
        processes.kill(service);
        let killed_at = acknowledged.load(Ordering::Relaxed);
        sleep(Duration::from_millis(u64::try_from(random.below(400)).unwrap())).await;
        processes.restart(service).await;
        let results = sending.await.unwrap();
        let what = format!("{} was killed after {killed_at} of {} batches, round {round} of seed {seed}", service.name(), batches.len());
        eprintln!("{what}, {:?} after the beginning", begun.elapsed());
        assert!(killed_at < batches.len(), "the kill came too late: {what}");
        assert_eq!(totals(&results), expected_totals, "{what}");
        expected.assert_same(&Dump::of(&client, &files).await, &what);
    }
}

/// What is killed at random points of an ingest into S3.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Service(Service),
    S3,
    Redis,
}

const VICTIMS: [Victim; 4] = [Victim::Service(Service::Ingest), Victim::Service(Service::Graph), Victim::S3, Victim::Redis];

/// `GUMSHOE_TEST_CRASHES=100` for a long run.
fn crashes() -> usize {
    std::env::var("GUMSHOE_TEST_CRASHES").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_services_and_stores_under_load_lose_and_double_nothing() {
    let seed = seed();
    let mut random = Random::new(seed);
    let files = bulk::generate(RECORDS, 17).await;
    let batches = batches(&files);
    let mut redis = Redis::start();
    let settings = vec![
        (Service::Ingest, "batches.commit_bytes", COMMIT_BYTES.to_owned()),
        (Service::Ingest, "batches.in_flight_bytes", IN_FLIGHT_BYTES.to_owned()),
        (Service::Graph, "maintenance.interval_seconds", "1".to_owned()),
        (Service::Graph, "maintenance.min_files", "2".to_owned()),
        (Service::Graph, "profiles.url", redis.url()),
    ];
    let mut processes = Processes::start(Installation { s3: Some(S3::durable().await), settings, ..Installation::default() }).await;
    let undisturbed = client(&processes, 0).await;
    let begun = Instant::now();
    let expected_totals = totals(&undisturbed.send_until_acknowledged(&batches, &AtomicUsize::new(0)).await);
    let duration = begun.elapsed();
    let expected = Dump::of(&undisturbed, &files).await;

    let (mut left, mut round) = (crashes(), 0);
    while left > 0 {
        round += 1;
        let client = client(&processes, round).await;
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let sending = {
            let (client, batches, acknowledged) = (client.clone(), batches.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move { client.send_until_acknowledged(&batches, &acknowledged).await })
        };
        let mut killed = Vec::new();
        while left > 0 && !sending.is_finished() {
            // Several in one ingest, at any microsecond of it.
            sleep(Duration::from_micros(u64::try_from(random.below(usize::try_from(duration.as_micros()).unwrap() / 2)).unwrap())).await;
            if sending.is_finished() {
                break;
            }
            left -= 1;
            let victim = VICTIMS[random.below(VICTIMS.len())];
            killed.push((victim, acknowledged.load(Ordering::Relaxed)));
            match victim {
                Victim::Service(service) => processes.kill(service),
                Victim::S3 => processes.s3.as_mut().unwrap().kill(),
                Victim::Redis => redis.kill(),
            }
            sleep(Duration::from_millis(u64::try_from(random.below(400)).unwrap())).await;
            match victim {
                Victim::Service(service) => processes.restart(service).await,
                Victim::S3 => processes.s3.as_mut().unwrap().restart().await,
                Victim::Redis => redis.restart(),
            }
        }
        let what = format!("killed after so many of {} batches: {killed:?}, round {round} of seed {seed}", batches.len());
        eprintln!("{what}, {:?} after the beginning", begun.elapsed());
        assert_eq!(totals(&sending.await.unwrap()), expected_totals, "{what}");
        expected.assert_same(&Dump::of(&client, &files).await, &what);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_and_batch_sizes_change_nothing() {
    let seed = seed();
    let files = bulk::generate(RECORDS, 11).await;
    let in_order = batches(&files);
    let mut processes = start(Vec::new()).await;
    let first = client(&processes, 0).await;
    let expected_totals = totals(&first.send_until_acknowledged(&in_order, &AtomicUsize::new(0)).await);
    let expected = Dump::of(&first, &files).await;

    for (round, commit_bytes) in ["20000", "1000000"].into_iter().enumerate() {
        processes.set(Service::Ingest, "batches.commit_bytes", commit_bytes);
        processes.kill(Service::Ingest);
        processes.restart(Service::Ingest).await;
        let mut shuffled = in_order.clone();
        Random::new(seed + u64::try_from(round).unwrap()).shuffle(&mut shuffled);
        let client = client(&processes, round + 1).await;
        let results = client.send_until_acknowledged(&shuffled, &AtomicUsize::new(0)).await;
        let what = format!("order of seed {seed}, round {round}, parts of {commit_bytes} bytes");
        assert_eq!(totals(&results), expected_totals, "{what}");
        expected.assert_same(&Dump::of(&client, &files).await, &what);

        // Sent again in the order of before, which is another one for this graph.
        let again = client.send_until_acknowledged(&in_order, &AtomicUsize::new(0)).await;
        assert!(again.iter().all(|result| result.already_committed), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_survives_the_death_of_ingest() {
    let folder = tempfile::tempdir().unwrap();
    let files = bulk::generate(RECORDS, 13).await;
    for file in &files {
        file.write(folder.path());
    }
    let settings = vec![
        (Service::Ingest, "batches.commit_bytes", COMMIT_BYTES.to_owned()),
        (Service::Ingest, "sources.lease_seconds", "2".to_owned()),
        (Service::Ingest, "sources.retry_seconds", "1".to_owned()),
    ];
    let mut processes = Processes::start(Installation { settings, source_directories: vec![folder.path().to_owned()], ..Installation::default() }).await;
    let pushed = client(&processes, 0).await;
    let expected_totals = totals(&pushed.send_until_acknowledged(&batches(&files), &AtomicUsize::new(0)).await);
    let expected = Dump::of(&pushed, &files).await.without_given_ids();

    let client = client(&processes, 1).await;
    let cli = Cli::of(&client);
    cli.json(&["sources", "add", "logs", folder.path().to_str().unwrap(), "--lookback", "0s", "--poll-interval", "1s"]).await;
    let done = || async { cli.json(&["sources", "objects", "logs", "--state", "done", "--limit", "1000"]).await["objects"].as_array().unwrap().len() };
    let end = Instant::now() + Duration::from_secs(120);
    while done().await == 0 {
        assert!(Instant::now() < end, "the source brings nothing in");
    }
    processes.kill(Service::Ingest);
    processes.restart(Service::Ingest).await;
    while done().await < files.len() {
        assert!(Instant::now() < end, "the source is not done: {}", cli.json(&["sources"]).await);
        sleep(Duration::from_millis(200)).await;
    }
    expected.assert_same(&Dump::of(&client, &files).await.without_given_ids(), "pulled, with a kill, against pushed");
    let listed = cli.json(&["sources"]).await;
    let progress = listed["sources"][0]["progress"].as_array().unwrap();
    let sum = |name: &str| progress.iter().map(|part| part[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("events"), sum("duplicates"), sum("dead_letters")), expected_totals, "the ledger counts what is in the graph: {listed}");
    assert_eq!(sum("done"), u64::try_from(files.len()).unwrap());
}

/// Sends a file and gives its result, whose records must add up.
async fn ingest(cli: &Cli, path: &Path) -> Value {
    let said = cli.json(&["ingest", path.to_str().unwrap()]).await;
    let file = said["files"][0].clone();
    let number = |name: &str| file[name].as_u64().unwrap();
    assert_eq!(number("records"), number("events") + number("duplicates") + number("dead_letters"), "{file}");
    file
}

/// Good records that nothing else in this test has.
fn good(from: u64, count: u64) -> Vec<Value> {
    let time = |number: u64| format!("2026-02-01T{:02}:{:02}:{:02}Z", number / 3_600 % 24, number / 60 % 60, number % 60);
    let more = json!({ "requestParameters": { "padding": "x".repeat(200) } });
    (from..from + count)
        .map(|number| story::call(number, &time(number), story::user(), "ec2.amazonaws.com", "DescribeInstances", story::OFFICE, &more))
        .collect()
}

fn ids(records: &[Value]) -> BTreeSet<String> {
    records.iter().map(|record| record["eventID"].as_str().unwrap().to_owned()).collect()
}

fn lines(records: &[Value]) -> String {
    records.iter().fold(String::new(), |mut text, record| {
        writeln!(text, "{record}").unwrap();
        text
    })
}

struct Bad {
    name: &'static str,
    data: Vec<u8>,
    /// Ids of the good records in it, all of which must arrive.
    good: BTreeSet<String>,
    /// The fewest dead letters, and a word that one of their reasons must have.
    dead_letters: u64,
    reason: &'static str,
}

/// Every kind of bad input, each with good records where it can have some.
fn bad_inputs() -> Vec<Bad> {
    let mut inputs = Vec::new();
    let mut add = |name, data: Vec<u8>, good: BTreeSet<String>, dead_letters, reason| inputs.push(Bad { name, data, good, dead_letters, reason });

    let records = good(10_000, 2_000);
    let whole = gzip(json!({ "Records": records }).to_string().as_bytes());
    let cut = whole[..whole.len() * 6 / 10].to_vec();
    let mut readable = Vec::new();
    MultiGzDecoder::new(cut.as_slice()).read_to_end(&mut readable).expect_err("a file that was cut");
    let readable = String::from_utf8_lossy(&readable).into_owned();
    let kept: Vec<Value> = records.into_iter().filter(|record| readable.contains(&record.to_string())).collect();
    assert!(kept.len() > 500 && kept.len() < 1_900, "{} of 2000 records can be read", kept.len());
    add("cut.json.gz", cut, ids(&kept), 1, "gzip");

    add("not.json", b"Dear customer,\nthis is not a log.\n\xff\xfe\x00\x01".to_vec(), BTreeSet::new(), 1, "not a known log format");

    let mut records = good(20_000, 3);
    for (number, (field, value)) in
        [("eventTime", json!(5)), ("eventTime", json!("yesterday")), ("eventName", json!({})), ("eventSource", json!([1])), ("eventVersion", json!("2.0"))]
            .into_iter()
            .enumerate()
    {
        let mut record = good(20_100 + u64::try_from(number).unwrap(), 1).remove(0);
        record[field] = value;
        records.insert(1, record);
    }
    records.extend([json!(7), json!("text"), json!(null), json!([])]);
    // Fields that a record can do without are no reason to lose it.
    let mut odd = good(20_200, 1).remove(0);
    (odd["userIdentity"], odd["sourceIPAddress"], odd["userAgent"], odd["resources"]) = (json!([]), json!(7), json!({}), json!("none"));
    records.push(odd);
    let expected = [ids(&good(20_000, 3)), ids(&good(20_200, 1))].concat_sets();
    add("types.json", json!({ "Records": records }).to_string().into_bytes(), expected, 8, "eventTime");

    let (first, last) = (good(30_000, 3), good(30_010, 3));
    let mut long = lines(&first).into_bytes();
    write!(long, "{{\"eventVersion\":\"1.11\",\"requestParameters\":\"").unwrap();
    long.resize(long.len() + 100_000_000, b'y');
    long.extend_from_slice(b"\"}\n");
    long.extend_from_slice(lines(&last).as_bytes());
    add("long-line.json", long, [ids(&first), ids(&last)].concat_sets(), 1, "longer than");

    let (first, last) = (good(40_000, 3), good(40_010, 3));
    let mut zeros = lines(&first).into_bytes();
    zeros.extend_from_slice(&[0; 1_000]);
    zeros.extend_from_slice(b"\n{\"eventVersion\":\"1.11\",\"eventTime\":\"2026-02-01T00:00:00Z\",\0\"eventName\":\"X\"}\n");
    zeros.extend_from_slice(lines(&last).as_bytes());
    add("zeros.json", zeros, [ids(&first), ids(&last)].concat_sets(), 1, "");

    let (first, last) = (good(50_000, 3), good(50_010, 3));
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let inside = lines(&good(50_020, 1)).replace("\"requestParameters\":{", &format!("\"deep\":{deep},\"requestParameters\":{{"));
    let text = format!("{}{deep}\n{objects}\n{inside}{}", lines(&first), lines(&last));
    add("deep.json", text.into_bytes(), [ids(&first), ids(&last)].concat_sets(), 1, "");

    let mut array = json!(good(60_000, 4)).to_string();
    array.truncate(array.len() - 30);
    add("cut-array.json", array.into_bytes(), ids(&good(60_000, 3)), 1, "");

    add("empty.json", Vec::new(), BTreeSet::new(), 0, "");
    inputs
}

trait ConcatSets {
    fn concat_sets(self) -> BTreeSet<String>;
}

impl<const N: usize> ConcatSets for [BTreeSet<String>; N] {
    fn concat_sets(self) -> BTreeSet<String> {
        self.into_iter().flatten().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_a_dead_letter_and_costs_no_good_record() {
    let (folder, logs) = (Folder::default(), tempfile::tempdir().unwrap());
    let mut server = Standalone::start(&folder.data(), &folder.log("server"), &[]).await;
    let credentials = server.credentials().expect("credentials on first start").clone();
    let client = server.sign_in(&credentials).await;
    let cli = Cli::of(&client);

    let mut expected = BTreeSet::new();
    for bad in bad_inputs() {
        let path = logs.path().join(bad.name);
        fs::write(&path, &bad.data).unwrap();
        let said = ingest(&cli, &path).await;
        let letters = cli.json(&["dead-letters", "--source-object", path.to_str().unwrap(), "--limit", "1000"]).await;
        let letters = letters["dead_letters"].as_array().unwrap();
        let reasons: Vec<&str> = letters.iter().map(|letter| letter["reason"].as_str().unwrap()).collect();
        let what = format!("{}: {said}, {reasons:?}", bad.name);
        assert_eq!(said["dead_letters"], letters.len(), "{what}");
        assert!(said["dead_letters"].as_u64().unwrap() >= bad.dead_letters, "{what}");
        assert_eq!(bad.dead_letters == 0, letters.is_empty(), "{what}");
        assert!(letters.is_empty() || reasons.iter().any(|reason| !reason.is_empty() && reason.contains(bad.reason)), "{what}");
        assert!(said["events"].as_u64().unwrap() >= u64::try_from(bad.good.len()).unwrap(), "{what}");
        expected.extend(bad.good);
    }
    let exported = cli.run(&["export", "events", "--kind", "cloudtrail"]).await.json_lines();
    let found: BTreeSet<String> = exported.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
    let lost: Vec<_> = expected.difference(&found).collect();
    assert!(lost.is_empty(), "{} good records are lost: {:?}", lost.len(), lost.iter().take(10).collect::<Vec<_>>());

    flow_log_with_an_unknown_field(&cli, &logs.path().join("future.log")).await;

    assert!(server.process().has_ended().is_none(), "the server has ended");
    let peak = server.process().peak_memory();
    assert!(peak < 1 << 30, "the server took {} MiB", peak >> 20);
    let after = ingest(&cli, &write(logs.path(), "after.json", &lines(&good(90_000, 5)))).await;
    assert_eq!(after["events"], 5, "the server still takes logs in");
    let (status, log) = server.stop();
    assert!(status.success(), "{status}");
    assert!(!log.contains("panicked"), "{log}");
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

/// AWS adds fields: a column that is not known must cost nothing of those that are; a line that does not fit the header
/// is a dead letter.
async fn flow_log_with_an_unknown_field(cli: &Cli, path: &Path) {
    let start = 1_770_000_000;
    let text = format!(
        "version account-id interface-id quantum-spin srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n\
         9 111122223333 eni-00000000000000abc up 10.0.0.9 {remote} 50000 443 6 10 4000 {start} {end} ACCEPT OK\n\
         9 111122223333 eni-00000000000000abc up 10.0.0.9\n\
         9 111122223333 eni-00000000000000abc down 10.0.0.9 {remote} 50001 443 6 10 6000 {start} {end} ACCEPT OK\n",
        remote = story::OFFICE,
        end = start + 60,
    );
    fs::write(path, text).unwrap();
    let said = ingest(cli, path).await;
    assert_eq!((&said["events"], &said["dead_letters"]), (&2.into(), &1.into()), "{said}");
    let profile = cli.json(&["profile", "network_interface:eni-00000000000000abc"]).await;
    assert_eq!(profile["profile"]["totals"]["bytes_out"], 10_000, "{profile}");
}
