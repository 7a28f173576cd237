//! Graph: owns the behaviour graph. Writes the lake, reads profiles, neighbours, findings and risk out of it.
//!
//! | module | holds |
//! |---|---|
//! | [`commit`] | the RPC by which ingest hands in batches |
//! | [`writer`] | grouping, freeing of duplicates, committing in order |
//! | `stored` | events read back from the lake, to complete what a crash cut short |
//! | `dedup` | which events a graph has already |
//! | `extract` | from events to edges and entities |
//! | `tabulate` | from those to files of the lake |
//! | `rules`, `matches` | the detection rules of graphs; their matches as findings |
//! | `hunt`, `correlate` | what a rule matches in history, and in several events together |
//! | [`rpc`] | the RPCs for reading |
//! | `rpc::behavior` | the RPCs for what is unusual and what matters |
//! | `rpc::rules` | the RPCs for detection rules |
//! | `rpc::administration` | the RPCs for membership, volumes and removal of graphs, and for finding groups |
//! | `profile`, `activity` | an entity over a scope time |
//! | `search`, `neighbors`, `actors`, `chain`, `events`, `findings`, `risk`, `statistics` | an RPC or two each |
//! | `tags` | tags of entities, out of calls and findings |
//! | `usual` | what findings told that were judged to be usual |
//! | `watchlist` | which entities matter more than others |
//! | `analysis` | heavy questions, over months or all findings |
//! | `cluster` | the scheduler and the executors of the engine that they may run on |
//! | `hot` | what risk is made of, kept up to date with every commit |
//! | `rows` | query parameters and Arrow columns |
//! | [`maintenance`] | files merged, old rows and unused files removed, in the background |
//! | `behavior` | what is unusual in some hours |
//! | `sweep`, `made` | findings made of hours that are complete, in the background |
//! | [`lease`], [`store`] | which replica does that for which graph |
//! | [`config`], [`error`] | configuration and errors |

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use gumshoe_api::graph::v1::{
    analysis_service_server::AnalysisServiceServer, behavior_service_server::BehaviorServiceServer,
    graph_administration_service_server::GraphAdministrationServiceServer, graph_service_server::GraphServiceServer,
    graph_writer_service_server::GraphWriterServiceServer, rule_service_server::RuleServiceServer,
};
use gumshoe_enrich::Places;
use gumshoe_lake::{Engine, Lake};
use gumshoe_profiles::Profiles;
use gumshoe_runtime::{Listener, PageTokens, Server, Shutdown, SystemClock, status::Chain};
use secrecy::ExposeSecret as _;
use tonic::service::Routes;

mod activity;
mod actors;
mod analysis;
mod behavior;
mod chain;
#[cfg(feature = "ballista")]
pub mod cluster;
pub mod commit;
pub mod config;
mod correlate;
mod dedup;
pub mod error;
mod events;
mod extract;
mod findings;
mod hot;
mod hunt;
pub mod lease;
mod made;
pub mod maintenance;
mod matches;
mod neighbors;
mod profile;
mod risk;
mod rows;
pub mod rpc;
mod rules;
mod search;
mod statistics;
pub mod store;
mod stored;
mod sweep;
mod tabulate;
mod tags;
#[cfg(test)]
mod tests;
mod usual;
mod watchlist;
pub mod writer;

pub use config::Config;
pub use error::Error;

/// The service's name, to which tokens are addressed.
pub const SERVICE: &str = "graph";

/// Names for which health is reported.
pub const HEALTH_NAMES: &[&str] = &[
    "gumshoe.graph.v1.GraphService",
    "gumshoe.graph.v1.GraphWriterService",
    "gumshoe.graph.v1.GraphAdministrationService",
    "gumshoe.graph.v1.BehaviorService",
    "gumshoe.graph.v1.RuleService",
    "gumshoe.graph.v1.AnalysisService",
];

use correlate::Correlator;
use hot::{Hot, Watchlists};
use lease::Leases;
use maintenance::Maintenance;
use rules::Rules;
use store::sql::SqlStore;
use sweep::{Finder, Sweep};

/// Opens the lake and the store, whose schema must be up to date, serves, and maintains the lake until shutdown is requested.
///
/// # Errors
/// [`Error`].
pub async fn run(config: Config, listener: impl Into<Listener>, shutdown: Shutdown) -> Result<(), Error> {
    let store = Arc::new(SqlStore::open(&config.store).await?);
    let lake = Arc::new(Lake::open(&config.lake).await?);
    let engine = Engine::open(config.query_engine.as_ref())?;
    let leases = Leases::new(store.clone(), Arc::new(SystemClock));
    let maintenance = Arc::new(Maintenance::new(Arc::clone(&lake), leases, Arc::new(SystemClock), config.maintenance));
    let places = Arc::new(Places::open(&gumshoe_enrich::Config { country: config.places.country, asn: config.places.asn })?);
    let profiles = Arc::new(Profiles::open(config.profiles.url(), config.profiles.memory_bytes)?);
    let hot = Arc::new(Hot::new(
        Arc::clone(&places),
        Arc::clone(&profiles),
        config.profiles.memory_bytes,
        Watchlists::new(Arc::clone(&store), config.watchlist.clone()),
    ));
    let rules = Arc::new(Rules::open(store.clone(), config.detections.directory)?);
    let finders: Vec<Arc<dyn Finder>> = vec![Arc::new(Correlator::new(Arc::clone(&rules)))];
    let sweep =
        Arc::new(Sweep::new(Arc::clone(&lake), Arc::clone(&hot), Arc::clone(&places), Arc::clone(&store), Arc::new(SystemClock), config.sweep, finders));
    let page_tokens = config.page_token_key.as_ref().map_or_else(PageTokens::ephemeral, |key| PageTokens::new(key.expose_secret()));
    let commit = commit::Commit::new(Arc::clone(&lake), Arc::clone(&hot), Arc::clone(&rules), Arc::clone(&places), config.known_event_ids);
    let rule_service = rpc::rules::RuleRpc::new(Arc::clone(&lake), engine.clone(), Arc::clone(&rules), page_tokens.clone(), Arc::new(SystemClock));
    let behavior = rpc::behavior::Behavior::new(
        Arc::clone(&lake),
        Arc::clone(&places),
        Arc::clone(&sweep),
        Arc::clone(&hot),
        Arc::clone(&store),
        config.watchlist,
        Arc::new(SystemClock),
        Duration::from_secs(config.server.timeout_seconds),
    );
    let graph = rpc::Graph::new(Arc::clone(&lake), hot, profiles, Arc::clone(&rules), places, page_tokens, Arc::new(SystemClock));
    let administration = rpc::administration::Administration::new(Arc::clone(&lake), commit.clone(), Arc::clone(&maintenance), Arc::clone(&store));
    let analysis = rpc::analysis::Analysis::new(Arc::clone(&lake), engine, Arc::clone(&rules));
    let routes = Routes::new(GraphServiceServer::new(graph).max_decoding_message_size(config.server.max_message_bytes))
        .add_service(BehaviorServiceServer::new(behavior))
        .add_service(GraphWriterServiceServer::new(commit).max_decoding_message_size(commit::MAX_MESSAGE_BYTES))
        .add_service(GraphAdministrationServiceServer::new(administration))
        .add_service(RuleServiceServer::new(rule_service).max_decoding_message_size(config.server.max_message_bytes))
        .add_service(AnalysisServiceServer::new(analysis).max_decoding_message_size(config.server.max_message_bytes));
    // The store of leases is for work in the background: calls are answered without it.
    let ready = move || {
        let lake = Arc::clone(&lake);
        async move { lake.check().await.map_err(|error| Chain(&error).to_string()) }.boxed()
    };
    let verifier = config.trust.verifier(SERVICE)?;
    // Maintenance also ends when the server has failed, but nothing else of the process does.
    let shutdown = shutdown.child();
    let serving = async {
        let served = Server::new(SERVICE, verifier, shutdown.clone())
            .options(&config.server)
            .health_names(HEALTH_NAMES)
            .ready_check(ready)
            .serve(listener, routes)
            .await;
        shutdown.trigger();
        served
    };
    // In one future, so that who drops it ends both.
    let (served, (), (), ()) = tokio::join!(serving, maintenance.run(&shutdown), sweep.run(&shutdown), rules.watch(&shutdown));
    store.close().await;
    Ok(served?)
}

/// Brings the schema of the store up to date; creates the file of SQLite if it is missing. The lake's tables are made when a
/// graph is first used.
///
/// # Errors
/// [`Error::Store`].
pub async fn migrate(config: Config) -> Result<(), Error> {
    Ok(SqlStore::migrate(&config.store).await?)
}
