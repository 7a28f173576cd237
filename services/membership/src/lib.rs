//! Membership: accounts, graphs, members, organizations, principals, access keys and policies.
//!
//! | module | holds |
//! |---|---|
//! | [`account`], [`graph`], [`tag`], [`datasource`], [`principal`], [`access_key`], [`policy`] | what is kept, and the rules of each |
//! | [`member`] | how accounts stand to graphs: the one function that changes it |
//! | [`organization`] | who may join, leave and administer an organization |
//! | [`secret`] | secrets under the envelope key, and the keys that requests are signed with |
//! | [`session`] | roles that are assumed, and their temporary credentials |
//! | [`lake`], [`volumes`], [`usage`] | what was ingested, and what it would cost |
//! | [`removal`] | the data of removed graphs |
//! | [`bearer`] | the tokens given out for access keys |
//! | [`bootstrap`](mod@bootstrap) | the first administrator |
//! | [`store`] | where it is kept, in SQL |
//! | [`rpc`] | the gRPC services, and the client of the graph service |
//! | [`config`], [`error`] | configuration and errors |

use std::sync::Arc;

use futures::FutureExt as _;
use gumshoe_runtime::{Clock, Listener, PageTokens, PrincipalChannel, Server, Shutdown, SystemClock, status::Chain};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;

pub mod access_key;
pub mod account;
pub mod bearer;
pub mod bootstrap;
pub mod config;
pub mod datasource;
pub mod error;
pub mod graph;
pub mod lake;
pub mod member;
pub mod organization;
pub mod policy;
pub mod principal;
pub mod removal;
pub mod rpc;
pub mod secret;
pub mod session;
pub mod store;
pub mod tag;
pub mod usage;
pub mod volumes;

pub use bootstrap::{Credentials, KeyPair, bootstrap};
pub use config::Config;
pub use error::Error;

use bearer::BearerSigner;
use lake::Lake;
use removal::Remover;
use rpc::{GraphService, Membership, Parts};
use store::{Store as _, sql::SqlStore};
use volumes::Volumes;

/// The service's name, to which tokens are addressed.
pub const SERVICE: &str = "membership";

/// Opens the store, whose schema must be up to date, and serves until shutdown is requested.
///
/// # Errors
/// [`Error`].
pub async fn run(config: Config, listener: impl Into<Listener>, shutdown: Shutdown) -> Result<(), Error> {
    let verifier = config.trust.verifier(SERVICE)?;
    let keyring = config.keyring()?;
    let bearer = BearerSigner::open(&config.bearer)?;
    let lake = graph_service(&config)?;
    let store = Arc::new(SqlStore::open(&config.store).await?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let wake = Arc::new(Notify::new());
    // Removals also end when the server has failed, but nothing else of the process does.
    let shutdown = shutdown.child();
    let removing = lake.clone().map(|lake| {
        let remover = Remover::new(store.clone(), lake, clock.clone(), wake.clone());
        tokio::spawn(remover.run(shutdown.clone()))
    });
    if removing.is_none() {
        tracing::warn!("no `graph` is configured: volumes are unknown, and the data of removed graphs stays");
    }
    if keyring.is_none() {
        tracing::warn!("no `secret_key` is configured: access keys cannot sign requests, and roles cannot be assumed");
    }
    let membership = Membership::new(Parts {
        store: store.clone(),
        clock: clock.clone(),
        page_tokens: config.page_token_key.as_ref().map_or_else(PageTokens::ephemeral, |key| PageTokens::new(key.expose_secret())),
        bearer,
        keyring,
        volumes: Volumes::new(lake, clock, config.volume_limit_bytes),
        packages: config.first_packages(),
        prices: config.prices,
        regions: config.regions,
        removals: wake,
    });
    let ready = {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { store.ready().await.map_err(|error| Chain(&error).to_string()) }.boxed()
        }
    };
    let server = Server::new(SERVICE, verifier, shutdown.clone()).options(&config.server).health_names(rpc::NAMES).ready_check(ready);
    let served = server.serve(listener, membership.routes(config.server.max_message_bytes)).await;
    shutdown.trigger();
    if let Some(removing) = removing
        && let Err(error) = removing.await
    {
        tracing::error!(%error, "removals of graphs ended early");
    }
    store.close().await;
    Ok(served?)
}

fn graph_service(config: &Config) -> Result<Option<Arc<dyn Lake>>, Error> {
    let Some(upstream) = &config.graph else { return Ok(None) };
    let signer = config.trust.signer(SERVICE)?.ok_or(Error::NoSigningKey)?;
    Ok(Some(Arc::new(GraphService::new(PrincipalChannel::connect_lazy(upstream, "graph")?, signer))))
}

/// Brings the schema up to date, creates the file of SQLite if it is missing, encrypts secrets under the present envelope
/// key, and makes the first administrator if the configuration names one.
///
/// # Errors
/// [`Error::Store`], and those of [`bootstrap()`].
pub async fn migrate(config: Config) -> Result<(), Error> {
    SqlStore::migrate(&config.store).await?;
    if let Some(keyring) = config.keyring()? {
        let store = SqlStore::open(&config.store).await?;
        let resealed = bootstrap::reseal(&store, &keyring).await?;
        store.close().await;
        if resealed > 0 {
            tracing::info!(resealed, "secrets are encrypted under the present key");
        }
    }
    if let Some(administrator) = &config.administrator {
        let (account, email, key) = administrator.parts()?;
        if let Some(made) = bootstrap(&config, account, email, &config.regions, key).await? {
            tracing::info!(principal = %made.principal, graph = %made.graph.arn, "made the first administrator");
        }
    }
    Ok(())
}
