//! Investigation: what analysts decide about findings, and investigations of users and roles.
//!
//! | module | holds |
//! |---|---|
//! | [`finding`], [`triage`] | findings, and their listing with what was decided about them |
//! | [`verdict`] | verdicts and their rules |
//! | [`feedback`] | giving verdicts back to the products that reported the findings |
//! | [`suppression`] | what false positives teach: which findings are left out of listings |
//! | [`investigation`] | investigations and their rules |
//! | [`worker`] | working them off in the background |
//! | [`groups`] | finding groups: findings that are one story |
//! | [`claims`] | work in the background that replicas share by leases |
//! | [`principals`] | whom an investigation of a finding, an account or a graph looks at |
//! | [`evidence`], [`facts`] | what the graph knows of a subject, and how it is asked |
//! | [`detectors`] | from these facts to indicators |
//! | [`techniques`] | operations of AWS and the techniques of MITRE ATT&CK that they can be |
//! | [`indicator`], [`severity`] | what was found, and how grave it is together |
//! | [`store`] | where all of it is kept, in SQL |
//! | [`rpc`] | the gRPC service, and the graph service's client |
//! | [`config`], [`error`] | configuration and errors |

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use gumshoe_enrich::ThreatLists;
use gumshoe_runtime::{Listener, PageTokens, PrincipalChannel, Server, Shutdown, SystemClock, status::Chain};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;

pub mod claims;
pub mod config;
pub mod detectors;
pub mod error;
pub mod evidence;
pub mod facts;
pub mod feedback;
pub mod finding;
pub mod groups;
pub mod indicator;
pub mod investigation;
pub mod principals;
pub mod rpc;
pub mod severity;
pub mod store;
pub mod suppression;
pub mod techniques;
pub mod triage;
pub mod verdict;
pub mod worker;

pub use config::Config;
pub use error::Error;

use feedback::courier::Courier;
use groups::{regroup::Regrouper, tactics::Catalog};
use rpc::{Investigation, graph::Graphs};
use store::{Store as _, sql::SqlStore};
use worker::Worker;

/// The service's name, to which tokens are addressed.
pub const SERVICE: &str = "investigation";

/// Opens the store, whose schema must be up to date, serves, works investigations off, groups findings and hands verdicts on
/// until shutdown is requested.
///
/// # Errors
/// [`Error`].
pub async fn run(config: Config, listener: impl Into<Listener>, shutdown: Shutdown) -> Result<(), Error> {
    let verifier = config.trust.verifier(SERVICE)?;
    let signer = config.trust.signer(SERVICE)?.ok_or(Error::NoSigningKey)?;
    let graphs = Graphs::new(PrincipalChannel::connect_lazy(&config.graph, "graph")?, signer);
    let store = Arc::new(SqlStore::open(&config.store).await?);
    let page_tokens = config.page_token_key.as_ref().map_or_else(PageTokens::ephemeral, |key| PageTokens::new(key.expose_secret()));
    let clock = Arc::new(SystemClock);
    let (started, decided) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let threats = Arc::new(ThreatLists::open(config.threats.lists.clone())?);
    if !config.threats.lists.is_empty() {
        tracing::info!(addresses = threats.current().len(), "threat lists are read");
    }
    let worker = Worker::new(store.clone(), graphs.clone(), clock.clone(), config.investigations.clone(), Arc::clone(&threats), started.clone());
    let courier = Courier::new(store.clone(), graphs.clone(), clock.clone(), config.feedback.clone(), decided.clone())?;
    let regrouper = Regrouper::new(store.clone(), graphs.clone(), clock.clone(), config.groups.clone(), Catalog::shipped()?);
    let investigation = Investigation::new(store.clone(), graphs, clock, page_tokens, &config, started, decided);
    let ready = {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { store.ready().await.map_err(|error| Chain(&error).to_string()) }.boxed()
        }
    };
    // Work also ends when the server has failed, but nothing else of the process does.
    let shutdown = shutdown.child();
    let serving = async {
        let served = Server::new(SERVICE, verifier, shutdown.clone())
            .options(&config.server)
            .health_names(rpc::NAMES)
            .ready_check(ready)
            .serve(listener, investigation.routes(config.server.max_message_bytes))
            .await;
        shutdown.trigger();
        served
    };
    // In one future, so that who drops it ends all.
    let following = follow(threats, Duration::from_secs(config.threats.reload_seconds), shutdown.clone());
    let work = futures::future::join3(claims::run(worker, shutdown.clone()), claims::run(courier, shutdown.clone()), claims::run(regrouper, shutdown.clone()));
    let (served, _, ()) = tokio::join!(serving, work, following);
    store.close().await;
    Ok(served?)
}

/// Reads threat lists again when their files change; those that are wrong change nothing.
async fn follow(threats: Arc<ThreatLists>, pause: Duration, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let lists = Arc::clone(&threats);
        match tokio::task::spawn_blocking(move || lists.reload()).await {
            Ok(Ok(true)) => tracing::info!(addresses = threats.current().len(), "threat lists have changed"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::error!(error = %Chain(&error), "threat lists cannot be read again: those read before stay in use"),
            Err(error) => tracing::error!(%error, "reading threat lists was cut off"),
        }
    }
}

/// Brings the schema up to date; creates the file of SQLite if it is missing.
///
/// # Errors
/// [`Error::Store`].
pub async fn migrate(config: Config) -> Result<(), Error> {
    Ok(SqlStore::migrate(&config.store).await?)
}
