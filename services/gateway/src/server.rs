//! The outside port: HTTP/2 for gRPC and HTTP/1.1 for health on one listener, with limits, and an orderly end.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gumshoe_runtime::{
    Shutdown,
    config::Tls,
    http2::{FRAME_BYTES, STREAM_WINDOW_BYTES, connection_window_bytes},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{Certificate, Identity, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::{
    config::{Config, Limits},
    error::Error,
    identity::Authenticator,
    proxy::Gateway,
};

/// Streams opened and reset before they were accepted, per connection: beyond, the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 1_024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// After the grace period, calls have been cut off; their connections get this long to say so.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Health of the gateway as a whole, which has no stores: it is ready when it can verify callers.
pub(crate) struct Health {
    pub(crate) reporter: HealthReporter,
    pub(crate) ready: Arc<AtomicBool>,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { reporter: HealthReporter::new(), ready: Arc::new(AtomicBool::new(false)) }
    }

    pub(crate) async fn set(&self, ready: bool) {
        if self.ready.swap(ready, Ordering::Relaxed) != ready {
            tracing::info!(ready, "readiness");
        }
        self.reporter.set_service_status("", if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
    }
}

/// Health, and reflection if it is wanted.
pub(crate) fn infrastructure(health: &Health, reflection: bool) -> Result<Routes, Error> {
    let routes = Routes::new(HealthServer::new(HealthService::from_health_reporter(health.reporter.clone())));
    if !reflection {
        return Ok(routes);
    }
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(gumshoe_api::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let descriptors = |error: tonic_reflection::server::Error| Error::Descriptors(error.into());
    // Many tools, grpcurl among them, still ask in v1alpha.
    Ok(routes.add_service(builder().build_v1().map_err(descriptors)?).add_service(builder().build_v1alpha().map_err(descriptors)?))
}

/// Serves until shutdown is requested, then ends in phases. Ready is whoever can verify callers.
pub(crate) async fn serve(
    gateway: Gateway,
    config: &Config,
    listener: TcpListener,
    health: Health,
    authenticator: Arc<Authenticator>,
    (stopping, cutting): (CancellationToken, CancellationToken),
    shutdown: Shutdown,
) -> Result<(), Error> {
    let limits = &config.limits;
    health.set(authenticator.is_ready().await).await;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, tls = config.tls.is_some(), "listening");
    }
    let transport = builder(limits, config.tls.as_ref())?.serve_with_incoming_shutdown(
        gateway,
        TcpIncoming::from(listener).with_nodelay(Some(true)),
        stopping.clone().cancelled_owned(),
    );
    let mut transport = std::pin::pin!(transport);
    let readiness = async {
        loop {
            tokio::time::sleep(CHECK_INTERVAL).await;
            health.set(authenticator.is_ready().await).await;
        }
    };
    tokio::select! {
        biased;
        () = shutdown.requested() => {}
        ended = &mut transport => return ended.map_err(Error::from),
        () = readiness => {}
    }
    health.set(false).await;
    tracing::info!(phase = "not serving", drain_seconds = limits.drain_seconds, "shutdown");
    let drained = tokio::time::timeout(Duration::from_secs(limits.drain_seconds), &mut transport).await;
    tracing::info!(phase = "stop accepting", grace_seconds = limits.grace_seconds, "shutdown");
    stopping.cancel();
    if drained.is_err() && tokio::time::timeout(Duration::from_secs(limits.grace_seconds), &mut transport).await.is_err() {
        tracing::warn!(phase = "cut off", "calls were still in flight after the grace period");
        cutting.cancel();
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut transport).await.is_err() {
            tracing::warn!("connections are still open");
        }
    }
    tracing::info!(phase = "closed", "shutdown");
    Ok(())
}

fn builder(limits: &Limits, tls: Option<&Tls>) -> Result<tonic::transport::Server, Error> {
    let builder = tonic::transport::Server::builder()
        .accept_http1(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(connection_window_bytes(limits.streams_per_connection))
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(limits.streams_per_connection)
        .http2_max_header_list_size(limits.header_bytes)
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_LOCAL_RESETS))
        .http2_keepalive_interval(Some(Duration::from_secs(limits.keepalive_seconds)));
    match tls {
        Some(tls) => Ok(builder.tls_config(server_tls(tls)?)?),
        None => Ok(builder),
    }
}

fn server_tls(tls: &Tls) -> Result<ServerTlsConfig, Error> {
    // An error means that the process has chosen a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ServerTlsConfig::new().identity(Identity::from_pem(read(&tls.certificate)?, read(&tls.key)?)).timeout(HANDSHAKE_TIMEOUT);
    if let Some(authority) = &tls.client_authority {
        config = config.client_ca_root(Certificate::from_pem(read(authority)?));
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Certificate { path: path.display().to_string(), source })
}
