//! Membership: accounts, graphs, members, principals, access keys and policies.
//!
//! | module | holds |
//! |---|---|
//! | [`account`], [`graph`], [`principal`], [`access_key`], [`policy`] | what is kept, and the rules of each |
//! | [`bearer`] | the tokens given out for access keys |
//! | [`bootstrap`](mod@bootstrap) | the first administrator |
//! | [`store`] | where it is kept, in SQL |
//! | [`rpc`] | the gRPC services |
//! | [`config`], [`error`] | configuration and errors |

use std::sync::Arc;

use futures::FutureExt as _;
use gumshoe_runtime::{PageTokens, Server, Shutdown, SystemClock, status::Chain};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;

pub mod access_key;
pub mod account;
pub mod bearer;
pub mod bootstrap;
pub mod config;
pub mod error;
pub mod graph;
pub mod policy;
pub mod principal;
pub mod rpc;
pub mod store;

pub use bootstrap::{Credentials, KeyPair, bootstrap};
pub use config::Config;
pub use error::Error;

use bearer::BearerSigner;
use rpc::Membership;
use store::{Store as _, sql::SqlStore};

/// The service's name, to which tokens are addressed.
pub const SERVICE: &str = "membership";

/// Opens the store, whose schema must be up to date, and serves until shutdown is requested.
///
/// # Errors
/// [`Error`].
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let store = Arc::new(SqlStore::open(&config.store).await?);
    let page_tokens = config.page_token_key.as_ref().map_or_else(PageTokens::ephemeral, |key| PageTokens::new(key.expose_secret()));
    let bearer = BearerSigner::open(&config.bearer)?;
    let membership = Membership::new(store.clone(), Arc::new(SystemClock), page_tokens, bearer, config.regions);
    let ready = {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { store.ready().await.map_err(|error| Chain(&error).to_string()) }.boxed()
        }
    };
    let close = move || {
        async move {
            store.close().await;
            Ok(())
        }
        .boxed()
    };
    Server::new(SERVICE, config.trust.verifier(SERVICE)?, shutdown)
        .options(&config.server)
        .health_names(rpc::NAMES)
        .ready_check(ready)
        .on_flush("store", close)
        .serve(listener, membership.routes(config.server.max_message_bytes))
        .await?;
    Ok(())
}

/// Brings the schema up to date, creates the file of SQLite if it is missing, and makes the first administrator if the
/// configuration names one.
///
/// # Errors
/// [`Error::Store`], and those of [`bootstrap()`].
pub async fn migrate(config: Config) -> Result<(), Error> {
    SqlStore::migrate(&config.store).await?;
    if let Some(administrator) = &config.administrator {
        let (account, email, key) = administrator.parts()?;
        if let Some(made) = bootstrap(&config.store, account, email, &config.regions, key).await? {
            tracing::info!(principal = %made.principal, graph = %made.graph.arn, "made the first administrator");
        }
    }
    Ok(())
}
