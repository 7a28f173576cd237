//! Heavy questions on both engines: in graph's process, and on a scheduler with two executors, of which one is killed.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, Instant},
};

use gumshoe_api::graph::v1::{ComputeBaselinesRequest, EntityBaseline, Event, FindingPair, HuntEventsRequest, PairFindingsRequest};
use gumshoe_testkit::{
    Batch, Cli, Client, Installation, Process, Processes, S3, Service,
    process::{binary, free_port},
};
use gumshoe_tests::{LogFile, bulk, story};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// One question, by the lines of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Hunt,
    Baselines,
    Pairs,
}

impl Question {
    const ALL: [Self; 3] = [Self::Hunt, Self::Baselines, Self::Pairs];

    async fn ask(self, client: &Client) -> Vec<String> {
        let graph_arn = client.graph_arn.clone();
        let mut lines = Vec::new();
        match self {
            Self::Hunt => {
                let request = HuntEventsRequest { graph_arn, operations: vec!["*e*".to_owned()], ..HuntEventsRequest::default() };
                let mut answer = client.analysis().hunt_events(request).await.expect("HuntEvents").into_inner();
                while let Some(message) = answer.message().await.expect("HuntEvents") {
                    lines.extend(message.events.iter().map(|event: &Event| format!("{event:?}")));
                }
            }
            Self::Baselines => {
                let request = ComputeBaselinesRequest { graph_arn, ..ComputeBaselinesRequest::default() };
                let mut answer = client.analysis().compute_baselines(request).await.expect("ComputeBaselines").into_inner();
                while let Some(message) = answer.message().await.expect("ComputeBaselines") {
                    lines.extend(message.baselines.iter().map(|baseline: &EntityBaseline| format!("{baseline:?}")));
                }
            }
            Self::Pairs => {
                let request =
                    PairFindingsRequest { graph_arn, max_findings_per_entity: 1_000, within_hours: 8_784, include_archived: true, ..Default::default() };
                let mut answer = client.analysis().pair_findings(request).await.expect("PairFindings").into_inner();
                while let Some(message) = answer.message().await.expect("PairFindings") {
                    lines.extend(message.pairs.iter().map(|pair: &FindingPair| format!("{pair:?}")));
                }
            }
        }
        lines
    }
}

/// Stands between one executor and the store, and holds back what it asks for when told to.
struct Gate {
    port: u16,
    closed: watch::Sender<bool>,
    arrived: Arc<Notify>,
}

impl Gate {
    async fn before(store: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (closed, seen) = watch::channel(false);
        let arrived = Arc::new(Notify::new());
        let notify = Arc::clone(&arrived);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, store.clone(), seen.clone(), Arc::clone(&notify)));
            }
        });
        Self { port, closed, arrived }
    }
}

async fn pass(client: TcpStream, store: String, mut closed: watch::Receiver<bool>, arrived: Arc<Notify>) {
    let Ok(store) = TcpStream::connect(store).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_store, mut to_store) = store.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_store, &mut to_client).await });
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read) = from_client.read(&mut bytes).await {
        if *closed.borrow() {
            arrived.notify_one();
            if closed.wait_for(|closed| !closed).await.is_err() {
                break;
            }
        }
        if read == 0 || to_store.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
    back.abort();
}

fn part(name: &str, kind: &str, folder: &Path, text: &str) -> Process {
    let file = folder.join(format!("{name}.toml"));
    fs::write(&file, text).unwrap();
    let arguments = [kind.to_owned(), "--config".to_owned(), file.display().to_string()];
    Process::start(name, &binary("gumshoe-graph"), arguments, [], &folder.join(format!("{name}.log")))
}

fn scheduler(port: u16, folder: &Path) -> Process {
    let mut text = "advertise_host = \"127.0.0.1\"\nexecutor_timeout_seconds = 3\n".to_owned();
    write!(text, "[listen]\naddress = \"127.0.0.1:{port}\"\n[telemetry]\nlevel = \"info\"\n").unwrap();
    part("scheduler", "scheduler", folder, &text)
}

struct Executor {
    name: &'static str,
    process: Process,
}

impl Executor {
    /// Starts an executor that reads the lake in graph's configuration from `store`, and waits until it has the scheduler.
    async fn start(name: &'static str, scheduler: u16, lake: &toml::Table, store: &str, folder: &Path) -> Self {
        let mut lake = lake.clone();
        lake["options"]["endpoint"] = store.into();
        let lake = toml::to_string(&toml::Table::from_iter([("lake".to_owned(), lake.into())])).unwrap();
        let (health, results, tasks) = (free_port(), free_port(), free_port());
        let text = format!(
            "scheduler = \"df://127.0.0.1:{scheduler}\"\nwork_directory = {:?}\nresults_port = {results}\ntasks_port = {tasks}\ncores = 1\n\
             memory_bytes = 268435456\nheartbeat_seconds = 1\n[listen]\naddress = \"127.0.0.1:{health}\"\n[telemetry]\nlevel = \"info\"\n{lake}",
            folder.join(format!("{name}-work"))
        );
        let mut process = part(name, "executor", folder, &text);
        until_ready(health, name, &mut process).await;
        Self { name, process }
    }
}

/// Waits until `/readyz` says so.
async fn until_ready(port: u16, name: &str, process: &mut Process) {
    let end = Instant::now() + PATIENCE;
    loop {
        let ready = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
        };
        if ready.await.unwrap_or_default() {
            return;
        }
        assert!(process.has_ended().is_none() && Instant::now() < end, "{name} does not get ready\n{}", process.log());
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends files one after the other, so that the lake has many.
async fn ingest(client: &Client, files: &[LogFile]) {
    for some in files.chunks(files.len().div_ceil(6)) {
        let batches: Vec<Batch> = some.iter().map(LogFile::batch).collect();
        client.send_until_acknowledged(&batches, &AtomicUsize::new(0)).await;
    }
}

#[tokio::test]
async fn both_engines_give_equal_answers_even_when_an_executor_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let s3 = S3::start().await;
    let store = s3.endpoint().as_str().trim_end_matches('/').to_owned();
    // Without maintenance, the lake keeps the files that it got.
    let settings = vec![(Service::Graph, "maintenance.enabled", "false".to_owned())];
    let mut processes = Processes::start(Installation { s3: Some(s3), settings, ..Installation::default() }).await;
    let account = processes.create_account(story::ACCOUNT).await;
    let client = processes.sign_in(&account).await;
    let mut files = bulk::generate(6_000, 7).await;
    files.extend([story::cloudtrail(), story::findings()]);
    ingest(&client, &files).await;

    let mut here = Vec::new();
    for question in Question::ALL {
        let answer = question.ask(&client).await;
        assert!(answer.len() > 1, "{question:?}: {} lines", answer.len());
        here.push(answer);
    }
    let cli = Cli::of(&client);
    commands(&cli).await;

    let port = free_port();
    let mut scheduling = scheduler(port, folder.path());
    let graph: toml::Table = processes.configuration(Service::Graph).parse().unwrap();
    let lake = graph["lake"].as_table().unwrap().clone();
    let gate = Gate::before(store.trim_start_matches("http://").to_owned()).await;
    let gated = format!("http://127.0.0.1:{}", gate.port);
    let first = Executor::start("first-executor", port, &lake, &store, folder.path()).await;
    let mut second = Executor::start("second-executor", port, &lake, &gated, folder.path()).await;
    until_ready(port, "scheduler", &mut scheduling).await;
    processes.set(Service::Graph, "query_engine", &format!("df://127.0.0.1:{port}"));
    processes.kill(Service::Graph);
    processes.restart(Service::Graph).await;

    for (question, here) in Question::ALL.into_iter().zip(&here) {
        let there = timeout(PATIENCE, question.ask(&client)).await.expect("an answer in time");
        assert_eq!(&there, here, "{question:?} with two executors");
    }
    commands(&cli).await;

    for (question, here) in Question::ALL.into_iter().zip(&here) {
        gate.closed.send_replace(true);
        let (asking, killing) = (question.ask(&client), async {
            // It is in the middle of a task when it waits for the store.
            gate.arrived.notified().await;
            second.process.kill();
            gate.closed.send_replace(false);
        });
        let (there, ()) = timeout(PATIENCE, async { tokio::join!(asking, killing) }).await.expect("an answer in time");
        assert_eq!(&there, here, "{question:?} with {} killed", second.name);
        second = Executor::start("second-executor", port, &lake, &gated, folder.path()).await;
    }

    // Killed while its results may be being read: what was lost is asked for again.
    let request = HuntEventsRequest { graph_arn: client.graph_arn.clone(), ..HuntEventsRequest::default() };
    let mut answer = client.analysis().hunt_events(request).await.expect("HuntEvents").into_inner();
    let mut count = answer.message().await.expect("a first message").expect("records").events.len();
    second.process.kill();
    while let Some(message) = timeout(PATIENCE, answer.message()).await.expect("an answer in time").expect("HuntEvents") {
        count += message.events.len();
    }
    assert!(count > here[0].len(), "{count} records in all");
    for (mut process, name) in [(first.process, "executor"), (scheduling, "scheduler")] {
        let status = tokio::task::spawn_blocking(move || process.terminate(Duration::from_secs(20))).await.unwrap();
        assert!(status.success(), "{name} ended with {status}");
    }
}

/// What the command line shows of them.
async fn commands(cli: &Cli) {
    let hunted = cli.run(&["--output", "json", "hunt", "--actor", story::USER, "--operation", "List*", "--limit", "0"]).await;
    assert_eq!(hunted.code, Some(0), "{}", hunted.stderr);
    let events = hunted.json_lines();
    assert!(!events.is_empty());
    for event in &events {
        assert!(event["operation"].as_str().unwrap().starts_with("List") && event["raw"].as_str().unwrap().contains("alice"), "{event}");
    }
    let table = cli.run(&["hunt", "--address", story::ATTACKER, "--error", "*"]).await;
    assert!(table.code == Some(0) && table.stdout.contains("OPERATION"), "{}{}", table.stdout, table.stderr);
    let baselines = cli.run(&["export", "baselines", "--type", "user", "--relation", "called"]).await;
    let baselines = baselines.json_lines();
    let alice = baselines.iter().find(|baseline| baseline["entity"]["id"] == story::USER).expect("alice's baseline");
    assert!(alice["hours"].as_u64() >= Some(1) && alice["median_in_hour"].as_u64() <= alice["most_in_hour"].as_u64(), "{alice}");
    let pairs = cli.run(&["--output", "json", "pairs", "--max-findings", "1000", "--within", "8784"]).await;
    assert!(!pairs.json_lines().is_empty(), "{}", pairs.stderr);
}
