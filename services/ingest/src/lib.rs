//! Ingest: takes logs in, pushed by callers or pulled from folders and S3, and commits them to the behaviour graph.
//!
//! | module | holds |
//! |---|---|
//! | [`rpc`] | `IngestService`: decode, call, encode |
//! | [`rpc::receive`] | a caller's stream of pieces to batches |
//! | [`rpc::source`] | settings of sources, checked |
//! | [`rpc::accounts`] | whose logs a graph takes |
//! | `rpc::rules` | the detection rules of graphs |
//! | `rpc::graph` | parts of batches to the graph service, repeated until durable |
//! | [`batch`] | one batch: bytes to records to parts, each committed exactly once |
//! | [`input`] | a batch's bytes, read while they still arrive |
//! | [`pull`] | sources listed and their ledgers worked off, by several replicas |
//! | [`discover`] | listing again, with a look-back, and comparing with the ledger |
//! | `notify` | S3 notifications out of SQS |
//! | [`bucket`] | folders and S3 prefixes |
//! | [`key`] | what an object's key says |
//! | [`store`] | sources and ledgers in SQL |

use std::sync::Arc;

use gumshoe_api::ingest::v1::ingest_service_server::IngestServiceServer;
use gumshoe_runtime::{Configuration, Listener, PageTokens, PrincipalChannel, Server, Shutdown, status::Chain};
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;
use tonic::service::Routes;

pub mod batch;
pub mod bucket;
pub mod config;
pub mod discover;
pub mod error;
pub mod input;
pub mod key;
mod notify;
pub mod pull;
pub mod rpc;
pub mod store;

pub use config::Config;
pub use error::Error;

use batch::Batches;
use pull::Puller;
use rpc::{accounts::Accounts, receive::Receiver};
use store::SqlStore;

/// Serves on `listener` until shutdown. The database's schema must be up to date: see [`migrate`].
///
/// # Errors
/// [`Error`] when keys, database or upstream cannot be used, or the server fails.
pub async fn run(config: Config, listener: impl Into<Listener>, shutdown: Shutdown) -> Result<(), Error> {
    let verifier = config.trust.verifier(Config::SERVICE)?;
    let signer = config.trust.signer(Config::SERVICE)?.ok_or(Error::NoSigningKey)?;
    let channel = PrincipalChannel::connect_lazy(&config.graph, "graph")?;
    // Pulling also ends when the server has failed, but nothing else of the process does.
    let shutdown = shutdown.child();
    let store = SqlStore::open(&config.store).await?;

    let accounts = match &config.membership {
        Some(upstream) => Accounts::of_members(PrincipalChannel::connect_lazy(upstream, "membership")?, Arc::clone(&signer), config.unregistered_accounts),
        None => Accounts::all(),
    };
    let batches = Batches::new(channel, signer, accounts, &config.batches)?;
    let parsers = Arc::new(Semaphore::new(config.batches.parallel_objects));
    let receiver = Receiver::new(batches.clone(), Arc::clone(&parsers), &config.batches);
    let puller = Puller::new(store.clone(), batches, parsers, config.sources.clone());
    let pulling = config.sources.pull.then(|| tokio::spawn(Arc::clone(&puller).run(shutdown.clone())));
    let pages = config.page_token_key.as_ref().map_or_else(PageTokens::ephemeral, |key| PageTokens::new(key.expose_secret()));
    let rpc = rpc::Rpc { store: store.clone(), receiver, puller, config: config.sources, pages, shutdown: shutdown.clone() };

    let ready = store.clone();
    let server = Server::new(Config::SERVICE, verifier, shutdown.clone()).options(&config.server).health_names(&[rpc::HEALTH_NAME]).ready_check(move || {
        let store = ready.clone();
        Box::pin(async move { store.ready().await.map_err(|error| Chain(&error).to_string()) })
    });
    let routes = Routes::new(IngestServiceServer::new(rpc).max_decoding_message_size(config.server.max_message_bytes));
    let served = server.serve(listener, routes).await;
    // Should the server have failed, pulling ends with it.
    shutdown.trigger();
    if let Some(pulling) = pulling
        && let Err(error) = pulling.await
    {
        tracing::error!(error = %error, "pulling ended early");
    }
    store.close().await;
    Ok(served?)
}

/// Brings the database's schema up to date.
///
/// # Errors
/// [`Error::Store`] when the database does not answer or its schema is newer.
pub async fn migrate(config: Config) -> Result<(), Error> {
    Ok(SqlStore::migrate(&config.store).await?)
}
