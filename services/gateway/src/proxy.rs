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
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{Caller, Clock, Failure, Signed, TokenSigner, Wire, status};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use http_body::Body as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, TimeoutExpired, body::Body, service::Routes};
use tower::{Service, ServiceExt as _};

use crate::{
    client_address::{Proxies, client_network, peer},
    config::Limits,
    decision::{Asked, Facts, Resource, audit_unconditional, decide},
    first_message::{self, Found},
    forward::{Answer, Correlation, Deadline, rewrite},
    identity::Authenticator,
    policies::PolicyCache,
    rate::{OperationLimits, RateLimit},
    routes::{Route, Upstream},
    signing_keys::SigningKeys,
};

/// Who calls without credentials.
const ANONYMOUS: &str = "anonymous";

/// Everything that calls share.
pub struct Parts {
    /// The RPCs that are passed on.
    pub routes: HashMap<String, Route>,
    /// Ways to the services.
    pub upstreams: HashMap<Upstream, Wire>,
    /// Tells who calls.
    pub authenticator: Arc<Authenticator>,
    /// Tells whose signatures requests carry.
    pub keys: SigningKeys,
    /// Tells what they may do.
    pub policies: PolicyCache,
    /// Signs principal tokens.
    pub signer: Arc<TokenSigner>,
    /// For calls without credentials, by client.
    pub anonymous: RateLimit<IpAddr>,
    /// For operations of the Amazon Detective API, by account.
    pub operations: OperationLimits,
    /// Whose word on addresses counts.
    pub proxies: Proxies,
    /// What callers can take.
    pub limits: Limits,
    /// Places for calls in progress.
    pub permits: Arc<Semaphore>,
    /// Places for large bodies of callers that are not known yet.
    pub large_bodies: Semaphore,
    /// Region of calls that name none.
    pub region: String,
    /// Regions that requests can be signed for.
    pub regions: Vec<String>,
    /// What a graph may take in a day.
    pub volume_limit_bytes: u64,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Health and reflection.
    pub infrastructure: Routes,
    /// Whether new calls should come here.
    pub ready: Arc<AtomicBool>,
    /// Ends reflection, and watches, health among them.
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
        if !is_grpc(&request) {
            // Whoever means an RPC is told what is wrong; all else is the business of the other protocol.
            let meant = path.starts_with("/gumshoe.") || path.starts_with("/grpc.");
            return if meant { plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected gRPC") } else { self.serve_rest(request).await };
        }
        if request.version() != Version::HTTP_2 {
            return plain(StatusCode::HTTP_VERSION_NOT_SUPPORTED, "gRPC needs HTTP/2");
        }
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "gRPC needs POST");
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
        let facts = self.facts(&head, correlation);
        let (caller, body) = match &route.action {
            None => (self.anonymous(head.uri.path(), facts.source_ip, &facts)?, body),
            Some(action) => self.authorize(action, route, body, &facts).await?,
        };
        let token = self.signer.header(route.upstream.name(), &caller).map_err(|error| status::internal(&error))?;
        rewrite(&mut head.headers, token, correlation, deadline)?;
        // What the connection to the client knows is not for the connection to the service.
        head.extensions = http::Extensions::new();
        head.version = Version::HTTP_2;
        let cut = if route.watch { &self.stopping } else { &self.cutting };
        self.send(route.upstream, Request::from_parts(head, body), permit, cut).await
    }

    /// What is known of a call before anybody knows who makes it.
    pub(crate) fn facts<'a>(&'a self, head: &'a http::request::Parts, correlation: &'a Correlation) -> Facts<'a> {
        let (peer, secure) = peer(&head.extensions);
        Facts {
            request_id: &correlation.request_id,
            trace_id: correlation.trace_id(),
            source_ip: self.proxies.client_address(peer, &head.headers),
            secure,
            time: self.clock.now(),
            region: &self.region,
            headers: &head.headers,
        }
    }

    fn anonymous(&self, path: &str, address: Option<IpAddr>, facts: &Facts<'_>) -> Result<Caller, Failure> {
        let address = address.ok_or_else(|| status::permission_denied("the client has no address"))?;
        self.anonymous.take(client_network(address)).map_err(|delay| status::resource_exhausted("too many calls without credentials", delay))?;
        audit_unconditional(ANONYMOUS, path, facts);
        Ok(caller(ANONYMOUS, "", "", facts))
    }

    async fn authorize(&self, action: &str, route: &Route, body: Body, facts: &Facts<'_>) -> Result<(Caller, Body), Failure> {
        let identity = self.authenticator.authenticate(facts.headers).await?;
        let (found, body) = if route.fields.is_empty() {
            (Found::default(), body)
        } else {
            let reading = first_message::read(body, route.fields, self.limits.first_message_bytes);
            let timeout = Duration::from_secs(self.limits.first_message_seconds);
            tokio::time::timeout(timeout, reading).await.unwrap_or_else(|_| Err(status::deadline_exceeded()))?
        };
        let resource = match (&found.graph, &found.role) {
            (Some(graph), _) if route.member => Resource::MemberGraph(graph),
            (Some(graph), _) => Resource::Graph(graph),
            (None, Some(role)) => Resource::Role(role),
            (None, None) => Resource::Nothing,
        };
        let graph = decide(&self.policies, &identity, &Asked { action, resource, tags: &found.tags }, facts).await?;
        self.operations.take(&identity.account, action)?;
        let caller = caller(identity.principal.arn(), &identity.account, action, facts);
        Ok((Caller { graph, ..caller }, body))
    }

    /// A channel to a service for calls of the gateway's own making, in the name of `caller`.
    pub(crate) fn channel(&self, upstream: Upstream, caller: Caller, deadline: Instant) -> Result<Signed, Failure> {
        let channel = self.upstreams.get(&upstream).cloned().ok_or_else(|| status::unavailable(&format!("the {} service", upstream.name())))?;
        let left = deadline.saturating_duration_since(Instant::now());
        Ok(Signed::new(channel, self.signer.clone(), upstream.name(), caller).with_timeout(left))
    }

    async fn send(&self, upstream: Upstream, request: Request<Body>, permit: OwnedSemaphorePermit, cut: &CancellationToken) -> Result<Response<Body>, Failure> {
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
        Ok(response.map(|body| Body::new(Answer::new(body, cut.clone().cancelled_owned(), service, permit))))
    }
}

/// Who calls, as services are told.
pub(crate) fn caller(principal: &str, account: &str, action: &str, facts: &Facts<'_>) -> Caller {
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

/// Source: gRPC over HTTP/2, "Requests".
fn is_grpc(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    content_type == b"application/grpc" || content_type.starts_with(b"application/grpc+")
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
