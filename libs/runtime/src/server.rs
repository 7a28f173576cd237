//! The gRPC server of a service: one stack of layers, health, reflection, readiness and an orderly end.

use std::{collections::HashSet, io, path::Path, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Certificate, Identity, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::Layer as _;

use crate::{
    config::{ServerOptions, Tls},
    http2::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES, STREAMS_PER_CONNECTION},
    inside::Inside,
    method::{STREAMING, Streaming},
    shutdown::Shutdown,
    token::TokenVerifier,
};

mod body;
mod record;
mod rpc;

pub(crate) use rpc::RpcService;
use rpc::{RpcLayer, Shared};

const MAX_HEADER_BYTES: u32 = 32 << 10;
/// Calls in progress that can be counted.
const MAX_CALLS: usize = 1 << 29;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After the grace period, calls have been cut off; their connections get this long to say so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type ReadyCheck = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;
type FlushHook = (&'static str, Box<dyn FnOnce() -> BoxFuture<'static, Result<(), String>> + Send>);

/// A server that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("the gRPC transport failed")]
    Transport(#[from] tonic::transport::Error),
    /// A certificate or key cannot be read.
    #[error("cannot read `{path}`")]
    Certificate {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The API's descriptors do not fit together.
    #[error("reflection cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// A flush hook failed: what it should have stored may be lost.
    #[error("flushing {name} failed: {reason}")]
    Flush {
        /// The hook's name.
        name: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Where a server takes calls.
#[derive(Debug)]
pub enum Listener {
    /// From the network.
    Network(TcpListener),
    /// From other services of this process.
    Inside(Inside),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Network(listener)
    }
}

impl From<Inside> for Listener {
    fn from(inside: Inside) -> Self {
        Self::Inside(inside)
    }
}

/// A gRPC server in the making.
pub struct Server {
    service: &'static str,
    verifier: Arc<TokenVerifier>,
    shutdown: Shutdown,
    options: ServerOptions,
    ready_check: Option<ReadyCheck>,
    ready_check_interval: Duration,
    drain: Duration,
    grace: Duration,
    health_names: Vec<&'static str>,
    flush_hooks: Vec<FlushHook>,
    descriptors: Vec<&'static [u8]>,
    streaming: Streaming,
}

impl Server {
    /// A server for `service` with the default options, which believes the tokens that `trust` accepts.
    #[must_use]
    pub fn new(service: &'static str, trust: Arc<TokenVerifier>, shutdown: Shutdown) -> Self {
        Self {
            service,
            verifier: trust,
            shutdown,
            options: ServerOptions::default(),
            ready_check: None,
            ready_check_interval: Duration::ZERO,
            drain: Duration::ZERO,
            grace: Duration::ZERO,
            health_names: Vec::new(),
            flush_hooks: Vec::new(),
            descriptors: Vec::new(),
            streaming: STREAMING.clone(),
        }
        .options(&ServerOptions::default())
    }

    /// Sets limits, TLS, reflection and times.
    #[must_use]
    pub fn options(mut self, options: &ServerOptions) -> Self {
        self.options = options.clone();
        self.ready_check_interval = Duration::from_secs(options.ready_check_seconds.max(1));
        self.drain = Duration::from_secs(options.drain_seconds);
        self.grace = Duration::from_secs(options.grace_seconds);
        self
    }

    /// Whether the service's own stores answer and fit; never asks other services. Called every few seconds: health is
    /// SERVING as long as it succeeds within that time.
    #[must_use]
    pub fn ready_check(mut self, check: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static) -> Self {
        self.ready_check = Some(Arc::new(check));
        self
    }

    /// How often readiness is checked, finer than the options can say.
    #[must_use]
    pub fn ready_check_every(mut self, interval: Duration) -> Self {
        self.ready_check_interval = interval;
        self
    }

    /// How long to go on serving after NOT_SERVING, finer than the options can say.
    #[must_use]
    pub fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// How long calls in flight may take to finish, finer than the options can say.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Full names of gRPC services that health reports beside the whole, `gumshoe.graph.v1.GraphService`.
    #[must_use]
    pub fn health_names(mut self, names: &[&'static str]) -> Self {
        self.health_names.extend(names);
        self
    }

    /// Work to do when the last call has finished, in the order given.
    #[must_use]
    pub fn on_flush(mut self, name: &'static str, hook: impl FnOnce() -> BoxFuture<'static, Result<(), String>> + Send + 'static) -> Self {
        self.flush_hooks.push((name, Box::new(hook)));
        self
    }

    /// Descriptors of services outside the project's API, for reflection and to know their streams.
    #[must_use]
    pub fn descriptors(mut self, encoded: &'static [u8]) -> Self {
        self.streaming.add(encoded);
        self.descriptors.push(encoded);
        self
    }

    /// Serves `routes` until shutdown is requested, then ends in phases.
    ///
    /// # Errors
    /// [`ServeError`]; everything but [`ServeError::Flush`] comes before the first call.
    pub async fn serve(self, listener: impl Into<Listener>, routes: Routes) -> Result<(), ServeError> {
        let health = HealthReporter::new();
        let health_names: Vec<String> =
            std::iter::once("").chain(self.health_names.iter().copied()).map(str::to_owned).collect::<HashSet<_>>().into_iter().collect();
        set_health(&health, &health_names, ServingStatus::NotServing).await;

        let mut routes =
            routes.add_service(tonic_health::pb::health_server::HealthServer::new(tonic_health::server::HealthService::from_health_reporter(health.clone())));
        if self.options.reflection {
            routes = add_reflection(routes, &self.descriptors)?;
        }

        // `stopping` ends reflection and watches, `cutting` everything else.
        let (stopping, cutting) = (CancellationToken::new(), CancellationToken::new());
        let calls = self.options.max_concurrent_calls.min(MAX_CALLS);
        let permits = Arc::new(Semaphore::new(calls));
        let layer = RpcLayer::new(Shared {
            verifier: self.verifier,
            permits: permits.clone(),
            timeout: Duration::from_secs(self.options.timeout_seconds),
            streaming: self.streaming,
            stopping: stopping.clone(),
            cutting: cutting.clone(),
        });
        let stop = stopping.clone().cancelled_owned();
        let mut transport = match listener.into() {
            Listener::Network(listener) => {
                tracing::info!(address = ?listener.local_addr().ok(), tls = self.options.tls.is_some(), "listening");
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                transport(&self.options)?.layer(layer).serve_with_incoming_shutdown(routes, incoming, stop).boxed()
            }
            Listener::Inside(inside) => async move {
                let open = inside.open(layer.layer(routes.prepare()));
                stop.await;
                drop(open);
                // All of them are free when the last call has ended.
                let _ = permits.acquire_many(u32::try_from(calls).unwrap_or(u32::MAX)).await;
                Ok(())
            }
            .boxed(),
        };
        let readiness = keep_health(self.ready_check, self.ready_check_interval, &health, &health_names, &self.shutdown);
        tokio::select! {
            ended = &mut transport => return ended.map_err(ServeError::from),
            () = readiness => {}
        }

        tracing::info!(phase = "not serving", drain_seconds = self.drain.as_secs_f64(), "shutdown");
        let drained = tokio::time::timeout(self.drain, &mut transport).await;
        tracing::info!(phase = "stop accepting", grace_seconds = self.grace.as_secs_f64(), "shutdown");
        stopping.cancel();
        if drained.is_err() && tokio::time::timeout(self.grace, &mut transport).await.is_err() {
            tracing::warn!(phase = "cut off", "calls were still in flight after the grace period");
            cutting.cancel();
            if tokio::time::timeout(CLOSE_TIMEOUT, &mut transport).await.is_err() {
                tracing::warn!("connections are still open");
            }
        }
        tracing::info!(phase = "flush", "shutdown");
        let mut outcome = Ok(());
        for (name, hook) in self.flush_hooks {
            if let Err(reason) = hook().await {
                tracing::error!(hook = name, reason, "flush failed");
                outcome = Err(ServeError::Flush { name, reason });
            }
        }
        tracing::info!(phase = "closed", service = self.service, "shutdown");
        outcome
    }
}

/// The network's side of a server.
fn transport(options: &ServerOptions) -> Result<tonic::transport::Server, ServeError> {
    let keepalive = Duration::from_secs(options.keepalive_seconds.max(1));
    let builder = tonic::transport::Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(keepalive));
    match &options.tls {
        Some(tls) => Ok(builder.tls_config(server_tls(tls)?)?),
        None => Ok(builder),
    }
}

/// Keeps health true to the ready check until shutdown is requested, then sets NOT_SERVING.
async fn keep_health(check: Option<ReadyCheck>, interval: Duration, health: &HealthReporter, names: &[String], shutdown: &Shutdown) {
    let watch = async {
        let mut was_ready = None;
        loop {
            let outcome = match &check {
                None => Ok(()),
                Some(check) => {
                    tokio::time::timeout(interval.max(Duration::from_secs(1)), check()).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
                }
            };
            let ready = outcome.is_ok();
            if was_ready != Some(ready) {
                match outcome {
                    Ok(()) => tracing::info!("ready"),
                    Err(reason) => tracing::warn!(reason, "not ready"),
                }
                set_health(health, names, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
                was_ready = Some(ready);
            }
            tokio::time::sleep(interval).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        () = watch => {}
    }
    set_health(health, names, ServingStatus::NotServing).await;
}

async fn set_health(health: &HealthReporter, names: &[String], status: ServingStatus) {
    for name in names {
        health.set_service_status(name, status).await;
    }
}

fn add_reflection(routes: Routes, descriptors: &[&'static [u8]]) -> Result<Routes, tonic_reflection::server::Error> {
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(gumshoe_api::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        descriptors.iter().fold(builder, |builder, encoded| builder.register_encoded_file_descriptor_set(encoded))
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}

fn server_tls(tls: &Tls) -> Result<ServerTlsConfig, ServeError> {
    install_crypto_provider();
    let identity = Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?);
    let mut config = ServerTlsConfig::new().identity(identity).timeout(HANDSHAKE_TIMEOUT);
    if let Some(authority) = &tls.client_authority {
        config = config.client_ca_root(Certificate::from_pem(read(authority)?));
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    std::fs::read(path).map_err(|source| ServeError::Certificate { path: path.display().to_string(), source })
}

/// Other crates of a process may bring a second provider, and rustls then refuses to choose.
pub(crate) fn install_crypto_provider() {
    // An error means that the process has chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
