//! A started graph service, its clients, and every record that was committed to it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use gumshoe_api::graph::v1::{
    CommitBatchRequest, CommitBatchResponse, DeadLetterRecord, analysis_service_client::AnalysisServiceClient, behavior_service_client::BehaviorServiceClient,
    graph_administration_service_client::GraphAdministrationServiceClient, graph_service_client::GraphServiceClient,
    graph_writer_service_client::GraphWriterServiceClient, rule_service_client::RuleServiceClient,
};
use gumshoe_detections::RuleSet;
use gumshoe_graph::{Config, config::Store};
use gumshoe_model::{DeadLetter, EntityKey, Event, GraphArn, Relation, TimeWindow, Timestamp};
use gumshoe_records::{Options, Sink, Stop, events::EventsWriter};
use gumshoe_runtime::{
    Clock as _, Listen, Shutdown, SystemClock, Trust,
    token::{Caller, HEADER, TokenSigner},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER_ACCOUNT: &str = "444455556666";

/// Signs each call anew, as the gateway does.
#[derive(Clone)]
pub(crate) struct Signing {
    signer: Arc<TokenSigner>,
    caller: Caller,
}

impl Interceptor for Signing {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.signer.sign("graph", &self.caller).unwrap();
        request.metadata_mut().insert(HEADER, MetadataValue::try_from(token).unwrap());
        Ok(request)
    }
}

pub(crate) type Reader = GraphServiceClient<InterceptedService<Channel, Signing>>;
pub(crate) type Writer = GraphWriterServiceClient<InterceptedService<Channel, Signing>>;

/// A record as the parser read it, owning its text.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) id: String,
    pub(crate) time: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) account: String,
    pub(crate) actor: Option<EntityKey>,
    pub(crate) parent: Option<EntityKey>,
    pub(crate) origin: Option<EntityKey>,
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) error: String,
    pub(crate) address: String,
    pub(crate) user_agent: String,
    pub(crate) access_key: String,
    pub(crate) flow: Option<Relation>,
    pub(crate) port: i32,
    pub(crate) protocol: i32,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    pub(crate) links: Vec<(Relation, EntityKey)>,
    pub(crate) is_finding: bool,
    pub(crate) finding_id: String,
    pub(crate) corrects: String,
    pub(crate) raw: String,
    pub(crate) source_object: String,
    pub(crate) offset: u64,
}

impl Parsed {
    fn new(event: &Event<'_>, source_object: &str) -> Self {
        let key = |entity: &Option<gumshoe_model::EntityRef<'_>>| entity.as_ref().map(gumshoe_model::EntityRef::to_key);
        Self {
            id: event.id.to_string(),
            time: event.time,
            end: event.end_time,
            account: event.account.to_string(),
            actor: key(&event.actor),
            parent: key(&event.parent),
            origin: key(&event.origin),
            service: event.service.to_string(),
            operation: event.operation.to_string(),
            error: event.error.to_string(),
            address: event.address.to_string(),
            user_agent: event.user_agent.to_string(),
            access_key: event.access_key.to_string(),
            flow: event.flow,
            port: event.port,
            protocol: event.protocol,
            bytes_in: event.bytes_in,
            bytes_out: event.bytes_out,
            packets_in: event.packets_in,
            packets_out: event.packets_out,
            links: event.links.iter().map(|link| (link.relation, link.entity.to_key())).collect(),
            is_finding: event.finding.is_some(),
            finding_id: event.finding.as_ref().map(|finding| finding.id.to_string()).unwrap_or_default(),
            corrects: event.corrects.to_string(),
            raw: event.raw.to_string(),
            source_object: source_object.to_owned(),
            offset: event.offset,
        }
    }
}

struct Collect<'a> {
    file: EventsWriter,
    events: Vec<Parsed>,
    letters: Vec<DeadLetterRecord>,
    source_object: &'a str,
    rules: Option<&'a RuleSet>,
}

impl Sink for Collect<'_> {
    fn event(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        let mut marks = String::new();
        if let Some(rules) = self.rules {
            rules.mark(event, &mut marks);
        }
        self.file.push_marked(event, &marks, self.source_object).unwrap();
        self.events.push(Parsed::new(event, self.source_object));
        Ok(())
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) -> Result<(), Stop> {
        self.letters.push(DeadLetterRecord { offset: letter.offset, length: letter.length, reason: letter.reason.clone(), raw: letter.raw.to_string() });
        Ok(())
    }
}

/// A graph service on a port of its own, over an empty lake.
pub(crate) struct Fixture {
    pub(crate) arn: GraphArn,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    channel: Channel,
    gateway: Arc<TokenSigner>,
    membership: Arc<TokenSigner>,
    investigation: Arc<TokenSigner>,
    ingest: Arc<TokenSigner>,
    config: Config,
    folder: Arc<tempfile::TempDir>,
    shutdown: Shutdown,
    server: JoinHandle<Result<(), gumshoe_graph::Error>>,
    /// Records in the graph, duplicates left out.
    pub(crate) events: Mutex<Vec<Parsed>>,
    /// What marks them, as ingest does; by default nothing.
    pub(crate) rules: Option<Arc<RuleSet>>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::of("0123456789abcdef0123456789abcdef", change).await
    }

    /// With a graph id that no other test or run of the tests has.
    pub(crate) async fn in_own_graph(change: impl FnOnce(&mut Config)) -> Self {
        Self::of(&uuid::Uuid::new_v4().simple().to_string(), change).await
    }

    async fn of(graph: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let issuers = folder.path().join("issuers");
        std::fs::create_dir(&issuers).unwrap();
        let signer = |name: &str| {
            let (signer, public) = TokenSigner::generate(name);
            std::fs::write(issuers.join(format!("{name}.pem")), public).unwrap();
            Arc::new(signer)
        };
        let signers = [signer("gateway"), signer("ingest"), signer("membership"), signer("investigation")];
        let lake = json!({ "url": format!("file://{}", folder.path().join("lake").display()) });
        let trust = Trust { issuers, signing_key: None };
        let store = Store::new(format!("sqlite://{}", folder.path().join("graph.db").display()).parse().unwrap());
        let listen = Listen { address: ([127, 0, 0, 1], 0).into() };
        let mut config = Config::new(listen, trust, serde_json::from_value(lake).unwrap(), store);
        config.server.drain_seconds = 0;
        // Tests of maintenance switch it on.
        config.maintenance.enabled = false;
        config.sweep.enabled = false;
        // A sweep of weeks takes its time.
        config.server.timeout_seconds = 600;
        change(&mut config);
        gumshoe_graph::migrate(config.clone()).await.unwrap();
        let arn = format!("arn:aws:detective:us-east-1:{ACCOUNT}:graph:{graph}").parse().unwrap();
        Self::serve(arn, config, Arc::new(folder), signers).await
    }

    /// Another replica over the same lake.
    pub(crate) async fn replica(&self) -> Self {
        self.replica_with(|_| ()).await
    }

    /// The same with another configuration.
    pub(crate) async fn replica_with(&self, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = self.config.clone();
        change(&mut config);
        let signers = [&self.gateway, &self.ingest, &self.membership, &self.investigation].map(Arc::clone);
        Self::serve(self.arn.clone(), config, Arc::clone(&self.folder), signers).await
    }

    async fn serve(arn: GraphArn, config: Config, folder: Arc<tempfile::TempDir>, [gateway, ingest, membership, investigation]: [Arc<TokenSigner>; 4]) -> Self {
        let listener = TcpListener::bind(config.listen.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(gumshoe_graph::run(config.clone(), listener, shutdown.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        let as_gateway = Signing {
            signer: Arc::clone(&gateway),
            caller: Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "detective:SearchGraph").with_graph(arn.clone()),
        };
        let as_ingest = Signing { signer: Arc::clone(&ingest), caller: Caller::service("ingest", "gumshoe:CommitBatch").with_graph(arn.clone()) };
        Self {
            reader: GraphServiceClient::with_interceptor(channel.clone(), as_gateway),
            writer: GraphWriterServiceClient::with_interceptor(channel.clone(), as_ingest).max_decoding_message_size(1 << 20),
            arn,
            channel,
            gateway,
            membership,
            investigation,
            ingest,
            config,
            folder,
            shutdown,
            server,
            events: Mutex::default(),
            rules: None,
        }
    }

    /// A client for the detection rules of a graph.
    pub(crate) fn rule_service(&self, graph: &GraphArn) -> RuleServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "gumshoe:ListRules").with_graph(graph.clone());
        RuleServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.gateway), caller })
    }

    /// A client whose token is for another graph, or for none.
    pub(crate) fn reader_of(&self, graph: Option<GraphArn>) -> Reader {
        let caller = Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "detective:SearchGraph");
        let caller = match graph {
            Some(graph) => caller.with_graph(graph),
            None => caller,
        };
        GraphServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.gateway), caller })
    }

    /// What is asked about behaviour.
    pub(crate) fn behavior(&self) -> BehaviorServiceClient<InterceptedService<Channel, Signing>> {
        self.behavior_of(Some(self.arn.clone()))
    }

    /// The same with a token for another graph, or for none.
    pub(crate) fn behavior_of(&self, graph: Option<GraphArn>) -> BehaviorServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "gumshoe:SweepGraph");
        let caller = match graph {
            Some(graph) => caller.with_graph(graph),
            None => caller,
        };
        BehaviorServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.gateway), caller })
    }

    /// As after a crash of the sweep: what it committed is there, how far it was is not known.
    pub(crate) async fn forget_checkpoint(&self) {
        let store = gumshoe_graph::store::sql::SqlStore::open(&self.config.store).await.unwrap();
        store.remove_graph(&self.arn).await.unwrap();
        store.close().await;
    }

    /// Takes the lease of the sweep as another process does, or gives it back.
    pub(crate) async fn hold_sweep(&self, held: bool) {
        use gumshoe_graph::store::Store as _;
        let store = gumshoe_graph::store::sql::SqlStore::open(&self.config.store).await.unwrap();
        let (name, now) = (format!("sweep:{}", self.arn), SystemClock.now());
        if held {
            assert!(store.take(&name, "another", now, Timestamp(now.0 + 60_000_000)).await.unwrap());
        } else {
            store.release(&name, "another").await.unwrap();
        }
        store.close().await;
    }

    /// Heavy questions.
    pub(crate) fn analysis(&self) -> AnalysisServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "gumshoe:HuntEvents").with_graph(self.arn.clone());
        AnalysisServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.gateway), caller })
    }

    /// The same asked by the gateway, which may not.
    pub(crate) fn administration_as_gateway(&self) -> GraphAdministrationServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::new("arn:aws:iam::111122223333:user/analyst", ACCOUNT, "detective:SearchGraph").with_graph(self.arn.clone());
        GraphAdministrationServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.gateway), caller })
    }

    /// What membership asks with.
    pub(crate) fn administration(&self) -> GraphAdministrationServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::service("membership", "gumshoe:GetVolumes").with_graph(self.arn.clone());
        GraphAdministrationServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.membership), caller })
    }

    /// What investigation asks with, for the graph.
    pub(crate) fn administration_as_investigation(&self) -> GraphAdministrationServiceClient<InterceptedService<Channel, Signing>> {
        let caller = Caller::service("investigation", "gumshoe:BatchCountActors").with_graph(self.arn.clone());
        GraphAdministrationServiceClient::with_interceptor(self.channel.clone(), Signing { signer: Arc::clone(&self.investigation), caller })
    }

    /// Every file of the lake.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        fn walk(folder: &std::path::Path, files: &mut Vec<std::path::PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, files) } else { files.push(path) }
            }
        }
        let mut files = Vec::new();
        walk(&self.folder.path().join("lake"), &mut files);
        files
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn arn(&self) -> String {
        self.arn.to_string()
    }

    /// Parses an object and commits it as one batch.
    pub(crate) async fn commit(&self, batch_id: &str, source_object: &str, text: &str) -> CommitBatchResponse {
        let (request, parsed) = self.batch(batch_id, source_object, text);
        let response = self.writer.clone().commit_batch(request).await.unwrap().into_inner();
        if !response.already_committed {
            let mut events = self.events.lock().unwrap();
            let mut known: BTreeSet<String> = events.iter().map(|event| event.id.clone()).filter(|id| !id.is_empty()).collect();
            events.extend(parsed.into_iter().filter(|event| event.id.is_empty() || known.insert(event.id.clone())));
        }
        response
    }

    /// The request that commits an object, and what is in it.
    pub(crate) fn batch(&self, batch_id: &str, source_object: &str, text: &str) -> (CommitBatchRequest, Vec<Parsed>) {
        let mut sink = Collect { file: EventsWriter::new(batch_id), events: Vec::new(), letters: Vec::new(), source_object, rules: self.rules.as_deref() };
        gumshoe_records::read(text.as_bytes(), &Options::default(), &mut sink).unwrap();
        let request = CommitBatchRequest {
            graph_arn: self.arn(),
            batch_id: batch_id.to_owned(),
            source_object: source_object.to_owned(),
            events: sink.file.finish(batch_id).unwrap(),
            dead_letters: sink.letters,
        };
        (request, sink.events)
    }

    /// Commits CloudTrail records as one object.
    pub(crate) async fn commit_calls(&self, batch_id: &str, records: &[Value]) -> CommitBatchResponse {
        self.commit(batch_id, &format!("s3://logs/{batch_id}.json"), &json!({ "Records": records }).to_string()).await
    }

    pub(crate) fn events(&self) -> Vec<Parsed> {
        self.events.lock().unwrap().clone()
    }

    /// Asks the service to end; calls go on.
    pub(crate) fn begin_stop(&self) {
        self.shutdown.trigger();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        drop((self.reader, self.writer, self.channel));
        self.server.await.unwrap().unwrap();
    }
}

pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

pub(crate) fn window(start: &str, end: &str) -> TimeWindow {
    TimeWindow::new(time(start), time(end)).unwrap()
}

pub(crate) fn key(text: &str) -> EntityKey {
    text.parse().unwrap()
}

pub(crate) fn entity(text: &str) -> Option<gumshoe_api::common::v1::EntityKey> {
    Some(gumshoe_api::convert::entity_to_proto(&key(text)))
}

pub(crate) fn name(entity: Option<&gumshoe_api::common::v1::EntityKey>) -> String {
    gumshoe_api::convert::entity_from_proto("entity", entity).unwrap().to_string()
}

/// Who makes a call.
#[derive(Clone)]
pub(crate) enum Who {
    User(&'static str),
    /// Role, session, source identity.
    Session(&'static str, &'static str, Option<&'static str>),
}

pub(crate) fn user_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{name}")
}

pub(crate) fn role_arn(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

pub(crate) fn role_id(name: &str) -> String {
    format!("AROA{:X<17}", name.to_uppercase())
}

pub(crate) fn session_id(role: &str, session: &str) -> String {
    format!("{}:{session}", role_id(role))
}

/// A call under composition.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) time: String,
    pub(crate) who: Who,
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) address: String,
    pub(crate) user_agent: String,
    pub(crate) error: &'static str,
    pub(crate) access_key: String,
    pub(crate) request: Value,
    pub(crate) response: Value,
    pub(crate) more: Value,
}

impl Call {
    pub(crate) fn new(id: impl Into<String>, time: &str, who: Who) -> Self {
        Self {
            id: id.into(),
            time: time.to_owned(),
            who,
            service: "s3.amazonaws.com",
            operation: "ListBuckets",
            address: "198.51.100.1".to_owned(),
            user_agent: "aws-cli/2.1".to_owned(),
            error: "",
            access_key: String::new(),
            request: Value::Null,
            response: Value::Null,
            more: Value::Null,
        }
    }

    pub(crate) fn json(&self) -> Value {
        let mut identity = match &self.who {
            Who::User(name) => json!({
                "type": "IAMUser", "principalId": format!("AIDA{}", name.to_uppercase()), "arn": user_arn(name), "accountId": ACCOUNT, "userName": name,
            }),
            Who::Session(role, session, source) => {
                let mut context =
                    json!({ "sessionIssuer": { "type": "Role", "principalId": role_id(role), "arn": role_arn(role), "accountId": ACCOUNT, "userName": role } });
                if let Some(source) = source {
                    context["sourceIdentity"] = json!(source);
                }
                json!({
                    "type": "AssumedRole", "principalId": session_id(role, session),
                    "arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}"), "accountId": ACCOUNT, "sessionContext": context,
                })
            }
        };
        if !self.access_key.is_empty() {
            identity["accessKeyId"] = json!(self.access_key);
        }
        let mut record = json!({
            "eventVersion": "1.08", "userIdentity": identity, "eventTime": self.time, "eventSource": self.service, "eventName": self.operation,
            "awsRegion": "us-east-1", "sourceIPAddress": self.address, "userAgent": self.user_agent, "eventID": self.id, "eventType": "AwsApiCall",
            "recipientAccountId": ACCOUNT, "requestParameters": self.request, "responseElements": self.response,
        });
        if !self.error.is_empty() {
            record["errorCode"] = json!(self.error);
        }
        if let Value::Object(more) = &self.more {
            record.as_object_mut().unwrap().extend(more.clone());
        }
        record
    }
}

/// `who` assumes a role and gets a session and a key.
pub(crate) fn assume(id: &str, time: &str, who: Who, role: &str, session: &str, access_key: &str) -> Call {
    Call {
        service: "sts.amazonaws.com",
        operation: "AssumeRole",
        request: json!({ "roleArn": role_arn(role), "roleSessionName": session }),
        response: json!({
            "credentials": { "accessKeyId": access_key },
            "assumedRoleUser": { "assumedRoleId": session_id(role, session), "arn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{session}") },
        }),
        ..Call::new(id, time, who)
    }
}

/// A GuardDuty finding under composition.
#[derive(Clone)]
pub(crate) struct Detection {
    pub(crate) id: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) severity: f64,
    pub(crate) first: &'static str,
    pub(crate) last: &'static str,
    pub(crate) updated: &'static str,
    pub(crate) archived: bool,
    pub(crate) count: u64,
    pub(crate) user: &'static str,
    pub(crate) address: &'static str,
}

impl Detection {
    pub(crate) fn arn(&self) -> String {
        finding_arn(self.id)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "schemaVersion": "2.0", "accountId": ACCOUNT, "region": "us-east-1", "partition": "aws", "id": self.id, "arn": self.arn(), "type": self.kind,
            "severity": self.severity, "createdAt": self.first, "updatedAt": self.updated, "title": format!("Finding {}", self.id),
            "description": format!("What {} says.", self.id),
            "resource": { "resourceType": "AccessKey", "accessKeyDetails": {
                "accessKeyId": format!("AKIA{}", self.user.to_uppercase()), "principalId": format!("AIDA{}", self.user.to_uppercase()),
                "userType": "IAMUser", "userName": self.user } },
            "service": { "serviceName": "guardduty", "archived": self.archived, "count": self.count, "eventFirstSeen": self.first, "eventLastSeen": self.last,
                "action": { "actionType": "AWS_API_CALL", "awsApiCallAction": { "api": "ListBuckets", "serviceName": "s3.amazonaws.com",
                    "remoteIpDetails": { "ipAddressV4": self.address } } } },
        })
    }
}

pub(crate) fn finding_arn(id: &str) -> String {
    format!("arn:aws:guardduty:us-east-1:{ACCOUNT}:detector/d1/finding/{id}")
}

/// Lines of findings, as GuardDuty exports them.
pub(crate) fn lines(values: &[Value]) -> String {
    values.iter().map(|value| format!("{value}\n")).collect()
}

/// A small, seeded source of choices.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        // xorshift64*, Vigna 2016.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// Counts how often each value occurs.
pub(crate) fn tally<T: std::hash::Hash + Eq>(values: impl IntoIterator<Item = T>) -> HashMap<T, u64> {
    let mut counts = HashMap::new();
    for value in values {
        *counts.entry(value).or_default() += 1;
    }
    counts
}
