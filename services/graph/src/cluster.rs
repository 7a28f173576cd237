//! The cluster that heavy questions may run on: `gumshoe-graph scheduler` and `gumshoe-graph executor`, of the same program as
//! graph, so that all know the same plans and functions.

use std::{path::PathBuf, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use gumshoe_lake::{
    LakeConfig,
    engine::cluster::{self, ExecutorHealth, ExecutorOptions, SchedulerOptions},
};
use gumshoe_runtime::{
    Shutdown,
    config::{ConfigError, Configuration, Listen, Telemetry},
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use url::Url;

use crate::Error;

/// Configuration of a scheduler.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    /// Where to listen: for graph, for executors, and for `/healthz` and `/readyz` over HTTP.
    pub listen: Listen,
    /// The host by which executors reach it; the port is that of `listen`.
    pub advertise_host: String,
    /// After how many seconds of silence an executor's work is given to others; 2 or more. Default 60.
    #[serde(default = "executor_timeout_seconds")]
    pub executor_timeout_seconds: u64,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

const fn executor_timeout_seconds() -> u64 {
    60
}

/// Configuration of an executor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// Where `/healthz` and `/readyz` are over HTTP. Results and tasks have ports of their own on the same address.
    pub listen: Listen,
    /// The scheduler, `df://host:port`.
    pub scheduler: Url,
    /// The lake, as graph has it.
    pub lake: LakeConfig,
    /// Where results and what is spilled are kept meanwhile; nothing in it is worth keeping.
    pub work_directory: PathBuf,
    /// The port from which results are fetched. Default 50051.
    #[serde(default = "results_port")]
    pub results_port: u16,
    /// The port to which the scheduler hands tasks. Default 50052.
    #[serde(default = "tasks_port")]
    pub tasks_port: u16,
    /// The host by which others reach it. Default: the address that the scheduler sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise_host: Option<String>,
    /// Tasks at a time. Default 0: one a core.
    #[serde(default)]
    pub cores: usize,
    /// Memory of all tasks together before they spill to disk, in bytes. Default: 70% of the container's, or of the machine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How often it says that it is there, in seconds; a few times within the scheduler's `executor_timeout_seconds`. Default 10.
    #[serde(default = "heartbeat_seconds")]
    pub heartbeat_seconds: u64,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
}

const fn results_port() -> u16 {
    50_051
}

const fn tasks_port() -> u16 {
    50_052
}

const fn heartbeat_seconds() -> u64 {
    10
}

impl Configuration for Scheduler {
    const SERVICE: &'static str = "scheduler";

    fn validate(&self) -> Result<(), ConfigError> {
        if self.advertise_host.is_empty() {
            return Err(ConfigError::key("advertise_host", "is required"));
        }
        if self.executor_timeout_seconds < 2 {
            return Err(ConfigError::key("executor_timeout_seconds", "must be at least 2"));
        }
        Ok(())
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

impl Executor {
    /// The scheduler's host and port.
    fn scheduler(&self) -> Result<(String, u16), ConfigError> {
        match (self.scheduler.scheme(), self.scheduler.host_str(), self.scheduler.port()) {
            ("df", Some(host), Some(port)) => Ok((host.to_owned(), port)),
            _ => Err(ConfigError::key("scheduler", "must be `df://host:port`")),
        }
    }
}

impl Configuration for Executor {
    const SERVICE: &'static str = "executor";

    fn validate(&self) -> Result<(), ConfigError> {
        self.scheduler()?;
        if self.results_port == self.tasks_port {
            return Err(ConfigError::key("tasks_port", "must not be `results_port`"));
        }
        if self.memory_bytes == Some(0) {
            return Err(ConfigError::key("memory_bytes", "must be at least 1"));
        }
        if self.heartbeat_seconds == 0 {
            return Err(ConfigError::key("heartbeat_seconds", "must be at least 1"));
        }
        Ok(())
    }

    fn listen(&self) -> &Listen {
        &self.listen
    }

    fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }
}

/// Runs a scheduler until shutdown is requested.
///
/// # Errors
/// [`Error::Lake`] when it cannot go on.
pub async fn schedule(config: Scheduler, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let options = SchedulerOptions { advertise_host: config.advertise_host, executor_timeout: Duration::from_secs(config.executor_timeout_seconds) };
    Ok(cluster::schedule(listener, options, shutdown.requested()).await?)
}

/// Runs an executor until shutdown is requested. It waits until there is a scheduler, and ends the tasks that it has.
///
/// # Errors
/// [`Error::Lake`] when the lake cannot be opened, and when it cannot go on.
pub async fn execute(config: Executor, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let health = ExecutorHealth::new();
    let (ready, registered) = (health.clone(), health.clone());
    let readyz = move || async move { if ready.is_ready() { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "no scheduler\n") } };
    let routes = Router::new().route("/healthz", get(async || "ok\n")).route("/readyz", get(readyz));
    let options = ExecutorOptions {
        scheduler: config.scheduler().map_err(|error| gumshoe_lake::LakeError::Engine(error.to_string()))?,
        address: config.listen.address.ip(),
        results_port: config.results_port,
        tasks_port: config.tasks_port,
        advertise_host: config.advertise_host,
        cores: config.cores,
        memory_bytes: config.memory_bytes,
        work_directory: config.work_directory,
        heartbeat: Duration::from_secs(config.heartbeat_seconds),
    };
    // Once it has a scheduler, the executor sees the signal itself and ends its tasks; before, there is nothing to end.
    let unregistered = async {
        shutdown.requested().await;
        if registered.is_ready() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        executed = cluster::execute(&config.lake, options, health) => Ok(executed?),
        served = axum::serve(listener, routes).into_future() => served.map_err(|error| gumshoe_lake::LakeError::Engine(error.to_string()).into()),
        () = unregistered => Ok(()),
    }
}
