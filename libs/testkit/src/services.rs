//! The five services as five processes on Postgres, Redis and a lake.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use url::Url;

use crate::{
    account::Account,
    client::Client,
    keys::Keys,
    postgres::PostgresDatabase,
    process::{Process, binary, clean, free_port},
    redis,
    s3::{ACCESS_KEY_ID, REGION, S3, SECRET_ACCESS_KEY},
};

/// How long a service may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How long a service may take to end when it is asked to.
const STOP: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);
const BUCKET: &str = "lake";

/// One of the five.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// Owns accounts and policies.
    Membership,
    /// Owns verdicts.
    Investigation,
    /// Owns the behaviour graph.
    Graph,
    /// Takes logs in.
    Ingest,
    /// The door from outside.
    Gateway,
}

impl Service {
    /// All five, those that others call first.
    pub const ALL: [Self; 5] = [Self::Membership, Self::Investigation, Self::Graph, Self::Ingest, Self::Gateway];

    /// Its name, as in its binary and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Investigation => "investigation",
            Self::Graph => "graph",
            Self::Ingest => "ingest",
            Self::Gateway => "gateway",
        }
    }

    fn has_schema(self) -> bool {
        self != Self::Gateway
    }
}

/// What an installation is made of.
#[derive(Debug, Default)]
pub struct Installation {
    /// The server of the lake, and of sources; without it the lake is a folder.
    pub s3: Option<S3>,
    /// Folders that sources may lie in.
    pub source_directories: Vec<PathBuf>,
    /// Further settings: service, key, value.
    pub settings: Vec<(Service, &'static str, String)>,
}

/// Five running services.
#[derive(Debug)]
pub struct Processes {
    running: BTreeMap<Service, Process>,
    ports: BTreeMap<Service, u16>,
    settings: Vec<(Service, &'static str, String)>,
    keys: Keys,
    /// The S3 server, if there is one.
    pub s3: Option<S3>,
    folder: tempfile::TempDir,
    _databases: Vec<PostgresDatabase>,
}

impl Processes {
    /// Makes databases, keys and configuration, and starts all five.
    ///
    /// # Panics
    /// When a store is missing, a binary is not built, or a service does not get ready.
    pub async fn start(installation: Installation) -> Self {
        let Installation { s3, source_directories, settings } = installation;
        let folder = tempfile::tempdir().unwrap();
        let keys = Keys::generate(folder.path());
        let ports: BTreeMap<Service, u16> = Service::ALL.into_iter().map(|service| (service, free_port())).collect();
        let databases = join_all((0..4).map(|_| PostgresDatabase::create())).await;
        let urls: Vec<Url> = databases.iter().map(PostgresDatabase::url).collect();
        if let Some(s3) = &s3 {
            s3.create_bucket(BUCKET).await;
        }
        let parts = Parts { folder: folder.path(), keys: &keys, ports: &ports, s3: s3.as_ref(), redis: redis::url().await, source_directories };
        for service in Service::ALL {
            let text = parts.configuration(service, &urls);
            fs::write(file(folder.path(), service), text).unwrap();
        }
        let mut processes = Self { running: BTreeMap::new(), ports, settings, keys, s3, folder, _databases: databases };
        for service in Service::ALL {
            if service.has_schema() {
                processes.migrate(service);
            }
            processes.spawn(service);
        }
        for service in Service::ALL {
            processes.until_ready(service).await;
        }
        processes
    }

    /// The gateway's address.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.url(Service::Gateway)
    }

    /// A service's own address, which callers from outside do not know.
    #[must_use]
    pub fn url(&self, service: Service) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(&service).copied().unwrap_or_default())
    }

    /// The installation's keys.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// A running service.
    ///
    /// # Panics
    /// When it is not running.
    #[must_use]
    pub fn process(&self, service: Service) -> &Process {
        self.running.get(&service).expect("a service that was started")
    }

    /// Makes an account with a graph and an administrator.
    ///
    /// # Panics
    /// When membership refuses.
    pub async fn create_account(&self, id: &str) -> Account {
        Account::create(&self.url(Service::Membership).parse().unwrap(), self.keys.signer("gateway"), id).await
    }

    /// Signs in as an account's administrator.
    ///
    /// # Panics
    /// When the gateway refuses.
    pub async fn sign_in(&self, account: &Account) -> Client {
        Client::sign_in(&self.endpoint(), &account.graph_arn, &account.access_key_id, &account.secret_access_key).await.expect("CreateToken")
    }

    /// A service's configuration in TOML, without its settings.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn configuration(&self, service: Service) -> String {
        fs::read_to_string(file(self.folder.path(), service)).unwrap()
    }

    /// Changes a setting, which takes effect when the service is started again.
    pub fn set(&mut self, service: Service, key: &'static str, value: &str) {
        self.settings.retain(|(of, name, _)| (*of, *name) != (service, key));
        self.settings.push((service, key, value.to_owned()));
    }

    /// Kills a service with SIGKILL.
    pub fn kill(&mut self, service: Service) {
        if let Some(mut process) = self.running.remove(&service) {
            process.kill();
        }
    }

    /// Starts a service that was killed or stopped, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn restart(&mut self, service: Service) {
        self.spawn(service);
        self.until_ready(service).await;
    }

    /// Ends all five with SIGTERM, from the outside in, and says how each ended.
    ///
    /// # Panics
    /// When one does not end in time.
    pub fn stop(&mut self) -> Vec<(Service, ExitStatus)> {
        let order = Service::ALL.into_iter().rev();
        order.filter_map(|service| self.running.remove(&service).map(|mut process| (service, process.terminate(STOP)))).collect()
    }

    fn arguments(&self, command: &str, service: Service) -> Vec<String> {
        let file = file(self.folder.path(), service).display().to_string();
        let settings = self.settings.iter().filter(|(of, ..)| *of == service).flat_map(|(_, key, value)| ["--set".to_owned(), format!("{key}={value}")]);
        [command.to_owned(), "--config".to_owned(), file].into_iter().chain(settings).collect()
    }

    fn migrate(&self, service: Service) {
        let output = clean(&program(service)).args(self.arguments("migrate", service)).output().unwrap();
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{} migrate: {}{}", service.name(), shown(&output.stdout), shown(&output.stderr));
    }

    fn spawn(&mut self, service: Service) {
        let log = self.folder.path().join(format!("{}.log", service.name()));
        let process = Process::start(service.name(), &program(service), self.arguments("serve", service), [], &log);
        self.running.insert(service, process);
    }

    async fn until_ready(&mut self, service: Service) {
        let url = self.url(service);
        let process = self.running.get_mut(&service).expect("a service that was started");
        until_serving(&url, service.name(), process).await;
    }
}

/// Waits until a server says that it serves.
///
/// # Panics
/// When its process ends, or it is not ready within a minute.
pub(crate) async fn until_serving(url: &str, name: &str, process: &mut Process) {
    let channel = Channel::from_shared(url.to_owned()).unwrap().connect_timeout(Duration::from_secs(1)).connect_lazy();
    let mut client = HealthClient::new(channel);
    let end = Instant::now() + START;
    loop {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        request.set_timeout(Duration::from_secs(2));
        if client.check(request).await.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving) {
            return;
        }
        if let Some(status) = process.has_ended() {
            panic!("{name} ended with {status}");
        }
        assert!(Instant::now() < end, "{name} is not ready after {START:?}");
        sleep(POLL).await;
    }
}

fn program(service: Service) -> PathBuf {
    binary(&format!("gumshoe-{}", service.name()))
}

fn file(folder: &Path, service: Service) -> PathBuf {
    folder.join(format!("{}.toml", service.name()))
}

/// What configurations are written from.
struct Parts<'a> {
    folder: &'a Path,
    keys: &'a Keys,
    ports: &'a BTreeMap<Service, u16>,
    s3: Option<&'a S3>,
    redis: Url,
    source_directories: Vec<PathBuf>,
}

impl Parts<'_> {
    fn configuration(&self, service: Service, databases: &[Url]) -> String {
        let url = |service: Service| format!("http://127.0.0.1:{}", self.ports.get(&service).copied().unwrap_or_default());
        let database = |place: usize| databases.get(place).map(Url::as_str).unwrap_or_default();
        let mut text = String::new();
        // Keys before tables, as TOML wants it.
        match service {
            Service::Gateway => writeln!(text, "signing_key = {:?}\nreflection = true", self.keys.private("gateway")),
            _ => writeln!(text, "page_token_key = \"the same in every replica, and after a restart\""),
        }
        .unwrap();
        if service == Service::Ingest {
            writeln!(text, "unregistered_accounts = \"accept\"").unwrap();
        }
        writeln!(text, "[listen]\naddress = \"127.0.0.1:{}\"", self.ports.get(&service).copied().unwrap_or_default()).unwrap();
        writeln!(text, "[telemetry]\nlevel = \"warn\"").unwrap();
        if service != Service::Gateway {
            writeln!(text, "[trust]\nissuers = {:?}", self.keys.issuers()).unwrap();
        }
        if matches!(service, Service::Ingest | Service::Membership | Service::Investigation) {
            writeln!(text, "signing_key = {:?}", self.keys.private(service.name())).unwrap();
            writeln!(text, "[graph]\nurl = \"{}\"", url(Service::Graph)).unwrap();
        }
        match service {
            Service::Membership => {
                writeln!(text, "[store]\nurl = \"{}\"\n[bearer]\nprivate_key = {:?}", database(0), self.keys.private("bearer"))
            }
            Service::Investigation => writeln!(text, "[store]\nurl = \"{}\"", database(1)),
            Service::Ingest => {
                let folders = &self.source_directories;
                writeln!(text, "[store]\nurl = \"{}\"", database(2)).unwrap();
                writeln!(text, "[membership]\nurl = \"{}\"\n[sources]\nallowed_directories = {folders:?}", url(Service::Membership)).unwrap();
                match self.s3 {
                    None => Ok(()),
                    Some(s3) => writeln!(
                        text,
                        "[sources.s3]\nendpoint_url = \"{}\"\nregion = \"{REGION}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{SECRET_ACCESS_KEY}\"",
                        s3.endpoint()
                    ),
                }
            }
            Service::Graph => {
                // The logs of tests are of all times.
                writeln!(text, "[store]\nurl = \"{}\"\n[maintenance]\nretention_days = 0", database(3)).unwrap();
                writeln!(text, "[profiles]\nurl = \"{}\"", self.redis).unwrap();
                match self.s3 {
                    None => writeln!(text, "[lake]\nurl = \"file://{}\"", self.folder.join("lake").display()),
                    Some(s3) => writeln!(
                        text,
                        "[lake]\nurl = \"s3://{BUCKET}/gumshoe\"\n[lake.options]\nendpoint = \"{}\"\nregion = \"{REGION}\"\naccess_key_id = \"{ACCESS_KEY_ID}\"\nsecret_access_key = \"{SECRET_ACCESS_KEY}\"",
                        s3.endpoint().as_str().trim_end_matches('/')
                    ),
                }
            }
            Service::Gateway => {
                for upstream in [Service::Ingest, Service::Graph, Service::Membership, Service::Investigation] {
                    writeln!(text, "[upstreams.{}]\nurl = \"{}\"", upstream.name(), url(upstream)).unwrap();
                }
                writeln!(text, "[[issuers]]\nissuer = \"gumshoe\"\naudience = \"gumshoe\"\nkeys = {{ public_key = {:?} }}", self.keys.bearer_public())
            }
        }
        .unwrap();
        text
    }
}
