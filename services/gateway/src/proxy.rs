//! The way of a call: known, authenticated, authorised, signed, passed on.

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error as StdError,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{Caller, Clock, Failure, TokenSigner, status};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, TimeoutExpired, body::Body, service::Routes, transport::Channel};
use tower::{Service, ServiceExt as _};

use crate::{
    client_address::{Proxies, client_network, peer},
    config::Limits,
    decision::{Facts, audit_anonymous, decide},
    first_message,
    forward::{Answer, Correlation, Deadline, rewrite},
    identity::Authenticator,
    policies::PolicyCache,
    rate::RateLimit,
    routes::{Route, Upstream},
};

/// Who calls without credentials.
const ANONYMOUS: &str = "anonymous";

/// Everything that calls share.
pub struct Parts {
    /// The RPCs that are passed on.
    pub routes: HashMap<String, Route>,
    /// Connections to the services.
    pub upstreams: HashMap<Upstream, Channel>,
    /// Tells who calls.
    pub authenticator: Arc<Authenticator>,
    /// Tells what they may do.
    pub policies: PolicyCache,
    /// Signs principal tokens.
    pub signer: Arc<TokenSigner>,
    /// For calls without credentials.
    pub anonymous: RateLimit,
    /// Whose word on addresses counts.
    pub proxies: Proxies,
    /// What callers can take.
    pub limits: Limits,
    /// Places for calls in progress.
    pub permits: Arc<Semaphore>,
    /// Region of calls that name no graph.
    pub region: String,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Health and reflection.
    pub infrastructure: Routes,
    /// Whether new calls should come here.
    pub ready: Arc<AtomicBool>,
    /// Ends health watches and reflection.
    pub stopping: CancellationToken,
    /// Ends all other calls.
    pub cutting: CancellationToken,
}

/// The service behind the outside port.
#[derive(Clone)]
pub struct Gateway(Arc<Parts>);

impl Gateway {
    /// Puts the parts to work.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Service<Request<Body>> for Gateway {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let parts = self.0.clone();
        async move { Ok(parts.serve(request).await) }.boxed()
    }
}

impl Parts {
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        match path {
            "/healthz" => return plain(StatusCode::OK, "ok"),
            "/readyz" if self.ready.load(Ordering::Relaxed) => return plain(StatusCode::OK, "ready"),
            "/readyz" => return plain(StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            _ => {}
        }
        if let Some(refusal) = refuse_other_protocols(&request) {
            return refusal;
        }
        if path.starts_with("/grpc.") {
            return tokio::select! {
                response = self.infrastructure.clone().oneshot(request) => response.unwrap_or_else(|never| match never {}),
                () = self.stopping.cancelled() => Status::from(status::unavailable("the gateway")).into_http(),
            };
        }
        let correlation = Correlation::of(request.headers());
        let outcome = tokio::select! {
            biased;
            outcome = self.pass(request, &correlation) => outcome,
            () = self.cutting.cancelled() => Err(status::unavailable("the gateway")),
        };
        let mut response = outcome.unwrap_or_else(|failure| Status::from(failure).into_http());
        correlation.mark(response.headers_mut());
        response
    }

    async fn pass(&self, request: Request<Body>, correlation: &Correlation) -> Result<Response<Body>, Failure> {
        let route = self.routes.get(request.uri().path()).ok_or_else(unknown_method)?;
        let deadline = Deadline::of(request.headers(), route.streaming, Duration::from_secs(self.limits.timeout_seconds));
        deadline.limit(self.pass_on(request, route, correlation, deadline)).await
    }

    async fn pass_on(&self, request: Request<Body>, route: &Route, correlation: &Correlation, deadline: Deadline) -> Result<Response<Body>, Failure> {
        // Refused rather than queued: the client has the better place to wait.
        let permit = self.permits.clone().try_acquire_owned().map_err(|_| status::resource_exhausted("too many calls in progress", Duration::from_secs(1)))?;
        let (mut head, body) = request.into_parts();
        let (peer, secure) = peer(&head.extensions);
        let facts = Facts {
            request_id: &correlation.request_id,
            trace_id: correlation.trace_id(),
            source_ip: self.proxies.client_address(peer, &head.headers),
            secure,
            time: self.clock.now(),
            region: &self.region,
            headers: &head.headers,
        };
        let (caller, body) = match &route.action {
            None => (self.anonymous(head.uri.path(), facts.source_ip, &facts)?, body),
            Some(action) => self.authorize(action, route, body, &facts).await?,
        };
        let token = self.signer.sign(route.upstream.name(), &caller).map_err(|error| status::internal(&error))?;
        rewrite(&mut head.headers, token, correlation, deadline)?;
        // What the connection to the client knows is not for the connection to the service.
        head.extensions = http::Extensions::new();
        head.version = Version::HTTP_2;
        self.send(route.upstream, Request::from_parts(head, body), permit).await
    }

    fn anonymous(&self, path: &str, address: Option<IpAddr>, facts: &Facts<'_>) -> Result<Caller, Failure> {
        let address = address.ok_or_else(|| status::permission_denied("the client has no address"))?;
        self.anonymous.take(client_network(address)).map_err(|delay| status::resource_exhausted("too many calls without credentials", delay))?;
        audit_anonymous(path, facts);
        Ok(caller(ANONYMOUS, "", "", facts))
    }

    async fn authorize(&self, action: &str, route: &Route, body: Body, facts: &Facts<'_>) -> Result<(Caller, Body), Failure> {
        let identity = self.authenticator.authenticate(facts.headers).await?;
        let (resource, body) = match route.graph_field {
            None => (None, body),
            Some(field) => {
                let reading = first_message::read(body, field, self.limits.first_message_bytes);
                let timeout = Duration::from_secs(self.limits.first_message_seconds);
                let (resource, body) = tokio::time::timeout(timeout, reading).await.unwrap_or_else(|_| Err(status::deadline_exceeded()))?;
                (Some(resource), body)
            }
        };
        let graph = decide(&self.policies, &identity, action, resource.as_deref(), facts).await?;
        let caller = caller(identity.principal.arn(), &identity.account, action, facts);
        Ok((Caller { graph, ..caller }, body))
    }

    async fn send(&self, upstream: Upstream, request: Request<Body>, permit: OwnedSemaphorePermit) -> Result<Response<Body>, Failure> {
        let service = upstream.name();
        let unavailable = |error: tonic::transport::Error| {
            if timed_out(&error) {
                return status::deadline_exceeded();
            }
            tracing::warn!(service, error = %status::Chain(&error), "a service is not available");
            status::unavailable(&format!("the {service} service"))
        };
        let mut channel = self.upstreams.get(&upstream).cloned().ok_or_else(|| status::unavailable(&format!("the {service} service")))?;
        let response = channel.ready().await.map_err(unavailable)?.call(request).await.map_err(unavailable)?;
        if response.body().is_end_stream() {
            return Ok(response);
        }
        Ok(response.map(|body| Body::new(Answer::new(body, self.cutting.clone().cancelled_owned(), service, permit))))
    }
}

fn caller(principal: &str, account: &str, action: &str, facts: &Facts<'_>) -> Caller {
    Caller {
        issuer: String::new(),
        principal: principal.to_owned(),
        account: account.to_owned(),
        action: action.to_owned(),
        graph: None,
        request_id: facts.request_id.to_owned(),
    }
}

/// The same for RPCs that do not exist and for those that are not for callers outside.
fn unknown_method() -> Failure {
    Failure::new(Code::Unimplemented, ErrorReason::NotFound, "unknown method")
}

/// Source: gRPC over HTTP/2, "Requests": other content types get HTTP status 415.
fn refuse_other_protocols(request: &Request<Body>) -> Option<Response<Body>> {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type != b"application/grpc" && !content_type.starts_with(b"application/grpc+") {
        let known = request.uri().path().starts_with("/gumshoe.") || request.uri().path().starts_with("/grpc.");
        return Some(if known { plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected gRPC") } else { plain(StatusCode::NOT_FOUND, "not found") });
    }
    if request.version() != Version::HTTP_2 {
        return Some(plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2"));
    }
    (request.method() != Method::POST).then(|| plain(StatusCode::METHOD_NOT_ALLOWED, "gRPC needs POST"))
}

fn plain(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the connection gave up because the deadline that the service was told had passed.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return true;
        }
        cause = error.source();
    }
    false
}
