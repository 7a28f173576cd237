//! `gumshoe serve`: all five services in one process, on files in one folder.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    client::Client,
    process::{Process, binary},
    services::until_serving,
};

const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(50);

/// The administrator's credentials, as printed on first start.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The administrator.
    pub principal_arn: String,
    /// The graph.
    pub graph_arn: String,
    /// The key's id.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: String,
}

/// A running `gumshoe serve`.
#[derive(Debug)]
pub struct Standalone {
    process: Process,
    endpoint: String,
    printed: Option<Credentials>,
}

impl Standalone {
    /// Starts a server on a folder, with further arguments, and waits until it serves. `log` must be new.
    ///
    /// # Panics
    /// When it does not get ready.
    pub async fn start(data: &Path, log: &Path, arguments: &[String]) -> Self {
        let mut all = ["--output", "json", "serve", "--listen", "127.0.0.1:0", "--data"].map(str::to_owned).to_vec();
        all.push(data.display().to_string());
        all.extend_from_slice(arguments);
        let mut process = Process::start("gumshoe serve", &binary("gumshoe"), all, [], log);
        let end = Instant::now() + START;
        let endpoint = loop {
            let serving = said(&process.log(), "serving").and_then(|line| line.get("endpoint")?.as_str().map(str::to_owned));
            if let Some(endpoint) = serving {
                break endpoint;
            }
            if let Some(status) = process.has_ended() {
                panic!("gumshoe serve ended with {status}\n{}", process.log());
            }
            assert!(Instant::now() < end, "gumshoe serve is not ready after {START:?}\n{}", process.log());
            sleep(POLL).await;
        };
        until_serving(&endpoint, "gumshoe serve", &mut process).await;
        let printed = said(&process.log(), "credentials").map(|line| {
            let text = |name: &str| line.get(name).and_then(Value::as_str).expect("a text in the credentials").to_owned();
            Credentials {
                principal_arn: text("principal_arn"),
                graph_arn: text("graph_arn"),
                access_key_id: text("access_key_id"),
                secret_access_key: text("secret_access_key"),
            }
        });
        Self { process, endpoint, printed }
    }

    /// The credentials that this start has printed.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.printed.as_ref()
    }

    /// Its address.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Signs in.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn sign_in(&self, credentials: &Credentials) -> Client {
        let Credentials { graph_arn, access_key_id, secret_access_key, .. } = credentials;
        Client::sign_in(&self.endpoint, graph_arn, access_key_id, secret_access_key).await.expect("CreateToken")
    }

    /// Ends it with SIGTERM.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn stop(mut self) -> (ExitStatus, String) {
        let status = self.process.terminate(STOP);
        (status, self.process.log())
    }
}

/// The line of an event among the others, which are logs.
fn said(log: &str, event: &str) -> Option<Value> {
    log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line.get("event").and_then(Value::as_str) == Some(event))
}

/// A folder for a server's data, and a fresh file for each of its logs.
#[derive(Debug)]
pub struct Folder {
    root: tempfile::TempDir,
}

impl Default for Folder {
    fn default() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }
}

impl Folder {
    /// The data.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// A log's file.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.path().join(format!("{name}.log"))
    }
}
