//! A graph service that remembers, and an ingest service in front of it.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::stream;
use gumshoe_api::{
    graph::v1::{
        CommitBatchRequest, CommitBatchResponse, GetRuleDocumentsRequest, GetRuleDocumentsResponse, RuleDocument,
        graph_writer_service_server::{GraphWriterService, GraphWriterServiceServer},
    },
    ingest::v1::{
        CreateSourceRequest, GetSourceRequest, ListSourceObjectsRequest, ObjectState, RecordsPiece, Source, SourceObject, SourceProgress, SourceSettings,
        StreamRecordsRequest, SyncSourceRequest, SyncSourceResponse, ingest_service_client::IngestServiceClient,
    },
};
use gumshoe_ingest::{Config, config};
use gumshoe_model::GraphArn;
use gumshoe_records::events::Received;
use gumshoe_runtime::{Caller, Listen, PrincipalChannel, Server, ServerOptions, Shutdown, Signed, Telemetry, TokenVerifier, Trust, Upstream};
use gumshoe_testkit::Keys;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::Instant};
use tonic::{Code, Request, Response, Status, service::Routes};
use url::Url;

pub const ACCOUNT: &str = "123456789012";
const PATIENCE: Duration = Duration::from_secs(30);

pub fn graph(last: u32) -> GraphArn {
    format!("arn:aws:detective:us-east-1:{ACCOUNT}:graph:{last:032x}").parse().unwrap()
}

/// Waits until `condition` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One call that the graph service has committed or answered from memory.
#[derive(Debug, Clone)]
pub struct Commit {
    pub graph: String,
    pub batch_id: String,
    pub source_object: String,
    pub ids: Vec<String>,
    /// Rules of each event.
    pub marks: Vec<String>,
    pub dead_letters: Vec<(u64, String)>,
    pub repeated: bool,
}

#[derive(Default)]
pub struct GraphState {
    pub commits: Vec<Commit>,
    answers: HashMap<(String, String), CommitBatchResponse>,
    events: HashSet<(String, String)>,
    /// What the next calls are answered with.
    pub failures: VecDeque<Code>,
    /// Source objects that are refused with FAILED_PRECONDITION.
    pub refused: HashSet<String>,
    /// Version and documents; without, the call is refused.
    pub rules: Option<(String, Vec<RuleDocument>)>,
    pub calls: usize,
    open: usize,
    pub most_open: usize,
}

/// A graph service that remembers batches and events, and fails or stalls when told to.
#[derive(Clone)]
pub struct FakeGraph {
    state: Arc<Mutex<GraphState>>,
    stalled: Arc<watch::Sender<bool>>,
    pub url: Url,
}

impl FakeGraph {
    async fn start(keys: &Keys) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let fake = Self { state: Arc::default(), stalled: Arc::new(watch::Sender::new(false)), url };
        let verifier = Arc::new(TokenVerifier::from_directory("graph", &keys.issuers()).unwrap());
        let options = ServerOptions { max_message_bytes: 128 << 20, timeout_seconds: 300, ..ServerOptions::default() };
        let service = GraphWriterServiceServer::new(fake.clone()).max_decoding_message_size(128 << 20);
        tokio::spawn(Server::new("graph", verifier, Shutdown::new()).options(&options).serve(listener, Routes::new(service)));
        fake
    }

    pub fn state(&self) -> MutexGuard<'_, GraphState> {
        self.state.lock().unwrap()
    }

    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Commits that were not repetitions, by batch id.
    pub fn fresh(&self) -> Vec<Commit> {
        let mut fresh: Vec<_> = self.state().commits.iter().filter(|commit| !commit.repeated).cloned().collect();
        fresh.sort_by(|one, other| one.batch_id.cmp(&other.batch_id));
        fresh
    }

    /// Distinct events in a graph.
    pub fn events(&self, graph: &GraphArn) -> usize {
        let graph = graph.to_string();
        self.state().events.iter().filter(|(of, _)| *of == graph).count()
    }

    pub fn source_objects(&self) -> Vec<String> {
        let mut names: Vec<_> = self.fresh().into_iter().map(|commit| commit.source_object).collect();
        names.sort_unstable();
        names
    }
}

#[tonic::async_trait]
impl GraphWriterService for FakeGraph {
    async fn commit_batch(&self, request: Request<CommitBatchRequest>) -> Result<Response<CommitBatchResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        caller.require_issuer(&["ingest"])?;
        assert_eq!(caller.principal, "service:ingest");
        let request = request.into_inner();
        caller.require_graph(&request.graph_arn)?;
        assert!((1..=300).contains(&request.batch_id.len()));
        {
            let mut state = self.state();
            state.calls += 1;
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
        }
        let mut stalled = self.stalled.subscribe();
        let passed = tokio::time::timeout(Duration::from_secs(60), stalled.wait_for(|stalled| !stalled)).await.is_ok();
        // A commit takes a moment.
        tokio::task::yield_now().await;
        let mut state = self.state();
        state.open -= 1;
        if !passed {
            return Err(Status::deadline_exceeded("stalled"));
        }
        if let Some(code) = state.failures.pop_front() {
            return Err(Status::new(code, "as told"));
        }
        if state.refused.contains(&request.source_object) {
            return Err(Status::failed_precondition("as told"));
        }
        let key = (request.graph_arn.clone(), request.batch_id.clone());
        let (mut ids, mut marks) = (Vec::new(), Vec::new());
        if !request.events.is_empty() {
            let received = Received::new(request.events).unwrap();
            let rows = received.events.rows().unwrap();
            assert!(rows.batch_id.values().all(|id| id == request.batch_id));
            let identity =
                |row| if rows.has_own_id(row) { rows.id(row).to_owned() } else { format!("{}@{}", request.source_object, rows.offset.get(row).unwrap()) };
            ids.extend((0..rows.len()).map(identity));
            marks.extend((0..rows.len()).map(|row| rows.rules.get(row).to_owned()));
        }
        let dead_letters: Vec<_> = request.dead_letters.into_iter().map(|letter| (letter.offset, letter.reason)).collect();
        let remembered = state.answers.get(&key).copied();
        state.commits.push(Commit {
            graph: key.0.clone(),
            batch_id: key.1.clone(),
            source_object: request.source_object,
            ids: ids.clone(),
            marks,
            dead_letters: dead_letters.clone(),
            repeated: remembered.is_some(),
        });
        if let Some(remembered) = remembered {
            return Ok(Response::new(CommitBatchResponse { already_committed: true, ..remembered }));
        }
        let count = u64::try_from(ids.len()).unwrap();
        let new = ids.into_iter().filter(|id| state.events.insert((key.0.clone(), id.clone()))).count();
        let events = u64::try_from(new).unwrap();
        let answer =
            CommitBatchResponse { events, duplicates: count - events, dead_letters: u64::try_from(dead_letters.len()).unwrap(), already_committed: false };
        state.answers.insert(key, answer);
        Ok(Response::new(answer))
    }

    type GetRuleDocumentsStream = stream::Iter<std::vec::IntoIter<Result<GetRuleDocumentsResponse, Status>>>;

    async fn get_rule_documents(&self, request: Request<GetRuleDocumentsRequest>) -> Result<Response<Self::GetRuleDocumentsStream>, Status> {
        let caller = Caller::of(&request)?.clone();
        caller.require_issuer(&["ingest"])?;
        let request = request.into_inner();
        caller.require_graph(&request.graph_arn)?;
        let (version, documents) = self.state().rules.clone().ok_or_else(|| Status::unavailable("as told"))?;
        // One message each, as large sets come.
        let mut messages = vec![GetRuleDocumentsResponse { version: version.clone(), documents: Vec::new() }];
        if version != request.version {
            messages.extend(documents.into_iter().map(|document| GetRuleDocumentsResponse { version: version.clone(), documents: vec![document] }));
        }
        Ok(Response::new(stream::iter(messages.into_iter().map(Ok).collect::<Vec<_>>())))
    }
}

/// A running ingest service.
pub struct Ingest {
    pub url: Url,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), gumshoe_ingest::Error>>,
    keys: Arc<Keys>,
}

pub type Client = IngestServiceClient<Signed>;

impl Ingest {
    /// A client in the name of a caller of `graph`.
    pub fn client(&self, graph: &GraphArn) -> Client {
        let caller = Caller::new(format!("arn:aws:iam::{ACCOUNT}:user/analyst"), ACCOUNT, "gumshoe:PutRecords").with_graph(graph.clone());
        let channel = PrincipalChannel::connect_lazy(&Upstream::new(self.url.clone()), "ingest").unwrap();
        IngestServiceClient::new(channel.signed(self.keys.signer("gateway"), caller))
    }

    /// Ends it in order and waits.
    pub async fn stop(self) {
        self.shutdown.trigger();
        self.task.await.unwrap().unwrap();
    }
}

/// A graph, a folder, and what an ingest service needs.
pub struct World {
    pub graph: FakeGraph,
    pub folder: TempDir,
    keys: Arc<Keys>,
    store: config::Store,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Url::parse(&format!("sqlite://{}", folder.path().join("ingest.db").display())).unwrap();
        Self::with_database(folder, database).await
    }

    pub async fn with_database(folder: TempDir, database: Url) -> Self {
        std::fs::create_dir(folder.path().join("keys")).unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let keys = Arc::new(Keys::generate(&folder.path().join("keys")));
        Self { graph: FakeGraph::start(&keys).await, folder, keys, store: config::Store::new(database) }
    }

    pub fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.logs().display())
    }

    /// Starts a service; several share one database.
    pub async fn ingest(&self, adjust: impl FnOnce(&mut Config)) -> Ingest {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config {
            listen: Listen { address },
            trust: Trust { issuers: self.keys.issuers(), signing_key: Some(self.keys.private("ingest")) },
            store: self.store.clone(),
            graph: Upstream::new(self.graph.url.clone()),
            membership: None,
            unregistered_accounts: config::Unregistered::default(),
            batches: config::Batches { commit_patience_seconds: 20, ..config::Batches::default() },
            sources: config::Sources { allowed_directories: vec![self.folder.path().to_owned()], retry_seconds: 1, ..config::Sources::default() },
            page_token_key: None,
            server: ServerOptions { grace_seconds: 5, ..ServerOptions::default() },
            telemetry: Telemetry::default(),
        };
        adjust(&mut config);
        gumshoe_runtime::Configuration::validate(&config).unwrap();
        gumshoe_ingest::migrate(config.clone()).await.unwrap();
        let shutdown = Shutdown::new();
        let task = tokio::spawn(gumshoe_ingest::run(config, listener, shutdown.clone()));
        Ingest { url: Url::parse(&format!("http://{address}")).unwrap(), shutdown, task, keys: Arc::clone(&self.keys) }
    }

    /// Writes a log file under the folder of logs.
    pub fn write(&self, key: &str, body: impl AsRef<[u8]>) -> PathBuf {
        let path = self.logs().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, body).unwrap();
        path
    }
}

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A CloudTrail object with so many records, none of which occurs anywhere else.
pub fn trail(records: usize) -> Vec<u8> {
    let records: Vec<String> = (0..records).map(|_| record(NEXT.fetch_add(1, Ordering::Relaxed))).collect();
    format!("{{\"Records\":[{}]}}", records.join(",")).into_bytes()
}

/// A CloudTrail record of about 500 bytes.
pub fn record(number: u64) -> String {
    format!(
        "{{\"eventVersion\":\"1.09\",\"userIdentity\":{{\"type\":\"IAMUser\",\"principalId\":\"AIDAEXAMPLE\",\"arn\":\"arn:aws:iam::{ACCOUNT}:user/alice\",\
         \"accountId\":\"{ACCOUNT}\",\"userName\":\"alice\"}},\"eventTime\":\"2024-07-30T21:31:10Z\",\"eventSource\":\"s3.amazonaws.com\",\"eventName\":\"GetObject\",\
         \"awsRegion\":\"us-east-1\",\"sourceIPAddress\":\"203.0.113.7\",\"userAgent\":\"aws-cli/2.15\",\"eventID\":\"00000000-0000-4000-8000-{number:012}\",\
         \"readOnly\":true,\"eventType\":\"AwsApiCall\",\"managementEvent\":true,\"recipientAccountId\":\"{ACCOUNT}\"}}"
    )
}

pub fn piece(batch_id: &str, data: impl Into<Vec<u8>>, last: bool) -> RecordsPiece {
    RecordsPiece { batch_id: batch_id.to_owned(), source_object: format!("s3://logs/{batch_id}"), data: data.into().into(), last, eks_cluster: String::new() }
}

pub fn message(graph: &GraphArn, piece: RecordsPiece) -> StreamRecordsRequest {
    StreamRecordsRequest { graph_arn: graph.to_string(), piece: Some(piece) }
}

/// A batch in pieces of so many bytes.
pub fn pieces(batch_id: &str, data: &[u8], size: usize) -> Vec<RecordsPiece> {
    let count = data.len().div_ceil(size).max(1);
    (0..count).map(|number| piece(batch_id, data.chunks(size).nth(number).unwrap_or_default(), number + 1 == count)).collect()
}

pub fn settings(url: &str) -> SourceSettings {
    SourceSettings { url: url.to_owned(), poll_interval: Some(prost_types::Duration { seconds: 3600, nanos: 0 }), ..SourceSettings::default() }
}

pub async fn create(client: &mut Client, graph: &GraphArn, name: &str, settings: SourceSettings) -> Source {
    let request = CreateSourceRequest { graph_arn: graph.to_string(), name: name.to_owned(), settings: Some(settings) };
    client.create_source(request).await.unwrap().into_inner().source.unwrap()
}

pub async fn get(client: &mut Client, graph: &GraphArn, name: &str) -> Source {
    client.get_source(GetSourceRequest { graph_arn: graph.to_string(), name: name.to_owned() }).await.unwrap().into_inner().source.unwrap()
}

pub async fn sync(client: &mut Client, graph: &GraphArn, name: &str) -> SyncSourceResponse {
    let request = SyncSourceRequest { graph_arn: graph.to_string(), name: name.to_owned() };
    let mut answers = client.sync_source(request).await.unwrap().into_inner();
    let mut last = None;
    while let Some(answer) = tokio::time::timeout(PATIENCE, answers.message()).await.expect("progress").unwrap() {
        last = Some(answer);
    }
    let last = last.unwrap();
    assert!(last.complete);
    last
}

/// Sums over a source's whole ledger; `seen`, `done` and `failed` are objects.
pub async fn totals(client: &mut Client, graph: &GraphArn, name: &str) -> SourceProgress {
    get(client, graph, name).await.progress.into_iter().fold(SourceProgress::default(), |mut sum, row| {
        sum.seen += row.seen;
        sum.done += row.done;
        sum.failed += row.failed;
        sum.records += row.records;
        sum.events += row.events;
        sum.duplicates += row.duplicates;
        sum.dead_letters += row.dead_letters;
        sum.bytes += row.bytes;
        sum
    })
}

pub async fn objects(client: &mut Client, graph: &GraphArn, name: &str) -> Vec<SourceObject> {
    let request = ListSourceObjectsRequest { graph_arn: graph.to_string(), name: name.to_owned(), page_size: 1000, ..ListSourceObjectsRequest::default() };
    client.list_source_objects(request).await.unwrap().into_inner().objects
}

pub fn in_state(objects: &[SourceObject], state: ObjectState) -> Vec<&SourceObject> {
    objects.iter().filter(|object| object.state() == state).collect()
}

/// The object's name as kept with its records.
pub fn name_of(path: &Path) -> String {
    path.canonicalize().unwrap().display().to_string()
}
