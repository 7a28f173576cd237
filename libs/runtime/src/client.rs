//! Channels to other services: each call carries a fresh principal token, the trace context and a deadline.

use std::{
    io,
    path::Path,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use http::{HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::{
    Status,
    body::Body,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};
use tower::Service;

use crate::{
    config::{ClientTls, Upstream},
    http2::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES},
    inside::Wire,
    method::STREAMING,
    server::install_crypto_provider,
    status, telemetry,
    token::{Caller, HEADER, REQUEST_ID, TokenSigner},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

tokio::task_local! {
    /// When the call that is being served must be answered; calls made for it end no later.
    pub(crate) static DEADLINE: Option<Instant>;
}

/// An upstream that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or the TLS configuration is not valid.
    #[error("upstream `{url}` cannot be used")]
    Endpoint {
        /// The URL, without a password.
        url: String,
        /// What the transport said.
        #[source]
        source: tonic::transport::Error,
    },
    /// A certificate or key cannot be read.
    #[error("cannot read `{path}`")]
    Certificate {
        /// The file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A channel to one service, inside this process or over a connection that is made when first used and again whenever it must.
/// Clones share it.
#[derive(Debug, Clone)]
pub struct PrincipalChannel {
    wire: Wire,
    audience: &'static str,
    timeout: Duration,
}

impl PrincipalChannel {
    /// A channel to `upstream`, whose tokens are addressed to `audience`. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] when the configuration is not valid; a service that does not answer is found out by its calls.
    pub fn connect_lazy(upstream: &Upstream, audience: &'static str) -> Result<Self, ConnectError> {
        if let Some(inside) = &upstream.inside {
            return Ok(Self { wire: Wire::Inside(inside.clone()), audience, timeout: upstream.timeout() });
        }
        let failed = |source| ConnectError::Endpoint { url: crate::config::without_password(&upstream.url), source };
        let mut endpoint = Endpoint::from_shared(upstream.url.to_string())
            .map_err(failed)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES);
        if upstream.url.scheme() == "https" {
            install_crypto_provider();
            endpoint = endpoint.tls_config(client_tls(upstream.tls.as_ref())?).map_err(failed)?;
        }
        Ok(Self { wire: Wire::Network(endpoint.connect_lazy()), audience, timeout: upstream.timeout() })
    }

    /// The channel for calls in the name of `caller`, or of the [`Caller`] in a request's extensions, if there is one:
    /// `GraphServiceClient::new(channel.signed(signer, caller))`.
    #[must_use]
    pub fn signed(&self, signer: Arc<TokenSigner>, caller: Caller) -> Signed {
        Signed::new(self.wire.clone(), signer, self.audience, caller).with_timeout(self.timeout)
    }

    /// The way beneath, on which calls are not signed: for health checks.
    #[must_use]
    pub fn unsigned(&self) -> Wire {
        self.wire.clone()
    }
}

/// A client service that signs each call in the name of a caller.
#[derive(Debug, Clone)]
pub struct Signed<S = Wire> {
    inner: S,
    signer: Arc<TokenSigner>,
    audience: &'static str,
    caller: Caller,
    timeout: Duration,
}

impl<S> Signed<S> {
    /// Signs calls through `inner`, addressed to `audience`.
    #[must_use]
    pub fn new(inner: S, signer: Arc<TokenSigner>, audience: &'static str, caller: Caller) -> Self {
        Self { inner, signer, audience, caller, timeout: Upstream::DEFAULT_TIMEOUT }
    }

    /// The longest a unary call may take, unless the request asks for less.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The same channel in another caller's name.
    #[must_use]
    pub fn with_caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    fn prepare(&self, request: &mut Request<Body>) -> Result<(), Status> {
        let caller = request.extensions().get::<Caller>().unwrap_or(&self.caller);
        let token = self.signer.header(self.audience, caller).map_err(|error| status::internal(&error))?;
        let request_id = HeaderValue::try_from(caller.request_id.as_str()).ok();
        let streaming = STREAMING.contains(request.uri().path());
        let headers = request.headers_mut();
        headers.insert(HEADER, token);
        if let Some(request_id) = request_id {
            headers.insert(REQUEST_ID, request_id);
        }
        telemetry::inject(headers);
        if !streaming && !headers.contains_key("grpc-timeout") {
            headers.insert("grpc-timeout", grpc_timeout(self.remaining()));
        }
        Ok(())
    }

    fn remaining(&self) -> Duration {
        let deadline = DEADLINE.try_with(|deadline| *deadline).ok().flatten();
        deadline.map_or(self.timeout, |deadline| deadline.saturating_duration_since(Instant::now()).min(self.timeout))
    }
}

impl<S> Service<Request<Body>> for Signed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<tonic::codegen::StdError> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.prepare(&mut request) {
            Ok(()) => self.inner.call(request).boxed(),
            Err(status) => futures::future::ready(Ok(status.into_http())).boxed(),
        }
    }
}

/// At most eight digits: milliseconds up to a day, else seconds.
fn grpc_timeout(timeout: Duration) -> HeaderValue {
    let milliseconds = timeout.as_millis();
    let text = if milliseconds < 86_400_000 { format!("{milliseconds}m") } else { format!("{}S", timeout.as_secs().min(99_999_999)) };
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("20S"))
}

fn client_tls(tls: Option<&ClientTls>) -> Result<ClientTlsConfig, ConnectError> {
    let Some(tls) = tls else { return Ok(ClientTlsConfig::new().with_enabled_roots()) };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&tls.authority)?));
    if let (Some(certificate), Some(key)) = (&tls.certificate, &tls.key) {
        config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    std::fs::read(path).map_err(|source| ConnectError::Certificate { path: path.display().to_string(), source })
}
