//! The gateway: the one door from outside. It knows who calls, decides what they may do, and passes calls on: gRPC
//! unchanged, the Amazon Detective API as gRPC.
//!
//! | module | holds |
//! |---|---|
//! | [`proxy`] | the way of a call |
//! | [`routes`] | the RPCs that are passed on, and what each needs |
//! | `rest` | the Amazon Detective API and STS |
//! | [`identity`], [`keys`] | bearer tokens to principals, and the keys that verify them |
//! | [`sigv4`], [`signing_keys`] | signatures of requests, and the keys that verify them |
//! | [`policies`] | what principals may do, from membership |
//! | [`first_message`] | what a call acts on, read out of its first message |
//! | [`decision`] | the verdict and the audit log |
//! | [`forward`] | headers, deadlines and the end of an answer |
//! | [`client_address`], [`rate`] | where calls come from, and how many there may be |
//! | [`config`], [`error`] | configuration and errors |

use std::{collections::HashMap, sync::Arc};

use gumshoe_runtime::{Clock, PrincipalChannel, Shutdown, SystemClock, TokenSigner};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

mod age;
pub mod client_address;
pub mod config;
pub mod decision;
pub mod error;
pub mod first_message;
pub mod forward;
pub mod identity;
pub mod keys;
pub mod policies;
pub mod proxy;
pub mod rate;
mod rest;
pub mod routes;
mod server;
pub mod signing_keys;
pub mod sigv4;

pub use config::Config;
pub use error::Error;

use client_address::Proxies;
use identity::Authenticator;
use policies::{MembershipSource, PolicyCache};
use proxy::{Gateway, Parts};
use rate::{OperationLimits, RateLimit};
use routes::Upstream;
use signing_keys::SigningKeys;

/// The gateway's name, as which it signs principal tokens.
pub const SERVICE: &str = "gateway";

/// Serves until shutdown is requested.
///
/// # Errors
/// [`Error`], before the first call.
pub async fn run(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let signer = Arc::new(TokenSigner::from_file(SERVICE, &config.signing_key)?);
    let authenticator = Arc::new(Authenticator::new(&config.issuers, clock.clone()).map_err(Error::Client)?);
    let connect = |upstream: Upstream| {
        let target = match upstream {
            Upstream::Ingest => &config.upstreams.ingest,
            Upstream::Graph => &config.upstreams.graph,
            Upstream::Membership => &config.upstreams.membership,
            Upstream::Investigation => &config.upstreams.investigation,
        };
        PrincipalChannel::connect_lazy(target, upstream.name())
    };
    let upstreams = Upstream::ALL.into_iter().map(|upstream| Ok((upstream, connect(upstream)?.unsigned()))).collect::<Result<HashMap<_, _>, Error>>()?;
    let membership = MembershipSource::new(connect(Upstream::Membership)?, signer.clone());
    let health = server::Health::new();
    let (stopping, cutting) = (CancellationToken::new(), CancellationToken::new());
    let gateway = Gateway::new(Parts {
        routes: routes::routes()?,
        upstreams,
        authenticator: authenticator.clone(),
        keys: SigningKeys::new(Arc::new(membership.clone()), clock.clone()),
        policies: PolicyCache::new(Arc::new(membership), clock.clone(), &config.policies),
        signer,
        anonymous: RateLimit::per_minute(config.limits.anonymous_per_minute, clock.clone()),
        operations: OperationLimits::new(&config.limits, &clock),
        proxies: Proxies::parse(&config.trusted_proxies)?,
        permits: Arc::new(Semaphore::new(config.limits.concurrent_calls.min(Semaphore::MAX_PERMITS))),
        large_bodies: Semaphore::new(rest::LARGE_BODIES),
        limits: config.limits.clone(),
        region: config.region.clone(),
        regions: config.regions.clone(),
        volume_limit_bytes: config.volume_limit_bytes,
        clock,
        infrastructure: server::infrastructure(&health, config.reflection)?,
        ready: health.ready.clone(),
        stopping: stopping.clone(),
        cutting: cutting.clone(),
    });
    server::serve(gateway, &config, listener, health, authenticator, (stopping, cutting), shutdown).await
}

/// The gateway has no schema.
///
/// # Errors
/// None.
pub async fn migrate(_: Config) -> Result<(), Error> {
    Ok(())
}
