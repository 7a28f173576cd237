//! The layer around every RPC: span, principal, limits, deadline, panics.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use http::{HeaderMap, Request, Response};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument as _;

use super::{
    body::{Observed, panicked},
    record::Record,
};
use crate::{
    client::DEADLINE,
    method::{Streaming, is_infrastructure},
    status::{self, Failure},
    telemetry::TRACE,
    token::{self, Caller, HEADER, TokenError, TokenVerifier},
};

/// How long before the deadline the answer must leave, so that it arrives as ours and not as the transport's CANCELLED.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);

/// What all calls of a server share.
pub(super) struct Shared {
    pub(super) verifier: Arc<TokenVerifier>,
    pub(super) permits: Arc<Semaphore>,
    /// Longest a unary call may take.
    pub(super) timeout: Duration,
    pub(super) streaming: Streaming,
    /// Ends reflection, and watches, health among them.
    pub(super) stopping: CancellationToken,
    /// Ends every other call.
    pub(super) cutting: CancellationToken,
}

#[derive(Clone)]
pub(super) struct RpcLayer(Arc<Shared>);

impl RpcLayer {
    pub(super) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl<S> Layer<S> for RpcLayer {
    type Service = RpcService<S>;

    fn layer(&self, inner: S) -> RpcService<S> {
        RpcService { inner, shared: self.0.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct RpcService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for RpcService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The service that was polled ready is the one to use; its clone is not.
        let clone = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, clone);
        let record = Record::start(&request);
        let (span, trace) = (record.span.clone(), record.trace);
        TRACE.scope(trace, handle(inner, self.shared.clone(), request, record)).map(Ok).instrument(span).boxed()
    }
}

async fn handle<S>(mut inner: S, shared: Arc<Shared>, mut request: Request<Body>, mut record: Record) -> Response<Body>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send,
    S::Future: Send,
{
    let infrastructure = is_infrastructure(request.uri().path());
    let endless = infrastructure || shared.streaming.is_watch(request.uri().path());
    let cut = if endless { &shared.stopping } else { &shared.cutting };
    let admitted = if infrastructure { Ok(None) } else { admit(&shared, &mut request, &record).map(Some) };
    let permit = match admitted {
        Ok(permit) => permit,
        Err(failure) => return refuse(&mut record, failure),
    };

    let streaming = shared.streaming.contains(request.uri().path());
    let deadline = (!streaming).then(|| Instant::now() + unary_timeout(request.headers(), shared.timeout));
    let work = AssertUnwindSafe(DEADLINE.scope(deadline, async { inner.call(request).await })).catch_unwind();
    let outcome = tokio::select! {
        biased;
        finished = work => match finished {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(panic) => Err(panicked(&*panic)),
        },
        () = cut.cancelled() => Err(status::unavailable("the server")),
        () = until(deadline) => Err(status::deadline_exceeded()),
    };
    match outcome {
        Err(failure) => refuse(&mut record, failure),
        Ok(response) => match Status::from_header_map(response.headers()) {
            // The status came with the headers: no body follows.
            Some(status) => {
                record.finish(status.code());
                response
            }
            None => response.map(|body| Body::new(Observed::new(body, cut.clone().cancelled_owned(), record, permit))),
        },
    }
}

/// Verifies the principal and takes a place among the calls in progress.
fn admit(shared: &Shared, request: &mut Request<Body>, record: &Record) -> Result<OwnedSemaphorePermit, Failure> {
    let caller = verify(&shared.verifier, request.headers_mut()).map_err(|error| status::unauthenticated(error.to_string()))?;
    record.caller(&caller);
    request.extensions_mut().insert(caller);
    // Refused rather than queued: the sender has the better place to wait.
    shared.permits.clone().try_acquire_owned().map_err(|_| status::resource_exhausted("too many calls in progress", Duration::from_secs(1)))
}

/// Takes the token out of the headers, so that no handler can log it or pass it on.
fn verify(verifier: &TokenVerifier, headers: &mut HeaderMap) -> Result<Caller, TokenError> {
    let alone = headers.get_all(HEADER).iter().count() == 1;
    let token = headers.remove(HEADER).filter(|_| alone).ok_or(TokenError::Missing)?;
    let caller = verifier.verify(token.to_str().map_err(|_| TokenError::Invalid)?)?;
    Ok(caller.with_request_id(token::request_id(headers)))
}

fn refuse(record: &mut Record, failure: Failure) -> Response<Body> {
    record.finish(failure.code);
    Status::from(failure).into_http()
}

fn unary_timeout(headers: &HeaderMap, cap: Duration) -> Duration {
    let asked = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    let timeout = asked.map_or(cap, |asked| asked.min(cap));
    timeout.saturating_sub(ANSWER_MARGIN.min(timeout / 10))
}

/// Reads `grpc-timeout`: at most eight digits and a unit.
///
/// Source: gRPC over HTTP/2, "Requests".
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_says() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("6n", Some(Duration::from_nanos(6))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("123456789S", None),
            ("S", None),
            ("", None),
            ("1s", None),
            ("-1S", None),
            ("+1S", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }

    #[test]
    fn the_server_caps_what_the_client_asks_for() {
        let mut headers = HeaderMap::new();
        let cap = Duration::from_secs(30);
        assert_eq!(unary_timeout(&headers, cap), cap - ANSWER_MARGIN);
        headers.insert("grpc-timeout", "1H".parse().unwrap());
        assert_eq!(unary_timeout(&headers, cap), cap - ANSWER_MARGIN);
        headers.insert("grpc-timeout", "50m".parse().unwrap());
        assert_eq!(unary_timeout(&headers, cap), Duration::from_millis(45));
    }
}
