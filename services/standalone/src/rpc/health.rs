//! Asks a service whether it is ready.

use std::net::SocketAddr;

use gumshoe_runtime::Wire;
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Whether a service that listens on this machine says that it serves.
pub async fn listens(address: SocketAddr) -> bool {
    // A server that listens on every address answers on the loopback one.
    let address = if address.ip().is_unspecified() { SocketAddr::new([127, 0, 0, 1].into(), address.port()) } else { address };
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{address}")) else { return false };
    match endpoint.connect().await {
        Ok(channel) => is_serving(Wire::Network(channel)).await,
        Err(_) => false,
    }
}

/// Whether a service says that it serves.
pub async fn is_serving(wire: Wire) -> bool {
    let answer = HealthClient::new(wire).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}
