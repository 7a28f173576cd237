//! What is changed on the way to a service: headers, deadline, trace; and how its answer ends.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use gumshoe_runtime::{Failure, status, telemetry, token};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, body::Body, metadata::MetadataValue};

/// How long before the deadline the answer must leave, so that it arrives as ours.
const ANSWER_MARGIN: Duration = Duration::from_millis(10);
const REQUEST_ID: HeaderName = HeaderName::from_static(token::REQUEST_ID);
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const PRINCIPAL_TOKEN: HeaderName = HeaderName::from_static(token::HEADER);
/// Headers of this prefix are between services.
const INTERNAL_PREFIX: &str = "gumshoe-";
/// What a client says about itself or its path to us means nothing to the services.
const NOT_PASSED_ON: [HeaderName; 7] = [
    header::AUTHORIZATION,
    header::COOKIE,
    header::FORWARDED,
    header::HOST,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

/// Under which names a call is known.
#[derive(Debug)]
pub struct Correlation {
    /// Our own id for it.
    pub request_id: String,
    /// W3C trace context: the caller's if it sent one that is valid, else a new one.
    trace_parent: String,
}

impl Correlation {
    /// For a call with these headers.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        Self { request_id: token::new_request_id(), trace_parent: telemetry::trace_parent(headers) }
    }

    /// The trace's id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.trace_parent.get(3..35).unwrap_or_default()
    }

    /// A message of ours to a service that belongs to the call.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        for (name, value) in [("x-request-id", &self.request_id), ("traceparent", &self.trace_parent)] {
            if let Ok(value) = MetadataValue::try_from(value.as_str()) {
                request.metadata_mut().insert(name, value);
            }
        }
        request
    }

    /// Tells the caller our id.
    pub fn mark(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.request_id.as_str()) {
            headers.insert(REQUEST_ID, value);
        }
    }
}

/// When a call must be answered.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// What the client asks for, at most `cap` for a unary call; a stream has a deadline only if the client asks for one.
    #[must_use]
    pub fn of(headers: &HeaderMap, streaming: bool, cap: Duration) -> Self {
        let asked = headers.get(&TIMEOUT).and_then(|value| value.to_str().ok()).and_then(parse_timeout);
        let timeout = if streaming { asked } else { Some(asked.map_or(cap, |asked| asked.min(cap))) };
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Runs `work` until shortly before the deadline.
    ///
    /// # Errors
    /// DEADLINE_EXCEEDED.
    pub async fn limit<T>(self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(deadline) = self.0 else { return work.await };
        let margin = ANSWER_MARGIN.min(deadline.saturating_duration_since(Instant::now()) / 10);
        tokio::time::timeout_at(deadline - margin, work).await.unwrap_or_else(|_| Err(status::deadline_exceeded()))
    }

    /// What is left, as the service is told; at most eight digits.
    fn header(self) -> Option<HeaderValue> {
        let left = self.0?.saturating_duration_since(Instant::now());
        let text = match left.as_micros() {
            microseconds @ ..100_000_000 => format!("{microseconds}u"),
            _ => format!("{}S", left.as_secs().min(99_999_999)),
        };
        HeaderValue::try_from(text).ok()
    }
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

/// Turns a client's headers into those for a service.
///
/// # Errors
/// INTERNAL when the trace's context cannot be a header, which it always can.
pub fn rewrite(headers: &mut HeaderMap, principal_token: HeaderValue, correlation: &Correlation, deadline: Deadline) -> Result<(), Failure> {
    // INVARIANT: no internal header of the client's gets through; principals are named by our token only.
    let internal: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(INTERNAL_PREFIX)).cloned().collect();
    for name in NOT_PASSED_ON.iter().chain(&internal) {
        headers.remove(name);
    }
    headers.insert(PRINCIPAL_TOKEN, principal_token);
    correlation.mark(headers);
    if headers.get(&TRACE_PARENT).is_none_or(|sent| sent.as_bytes() != correlation.trace_parent.as_bytes()) {
        headers.remove(&TRACE_STATE);
        headers.insert(TRACE_PARENT, HeaderValue::try_from(correlation.trace_parent.as_str()).map_err(|error| status::internal(&error))?);
    }
    headers.remove(&TIMEOUT);
    if let Some(timeout) = deadline.header() {
        headers.insert(TIMEOUT, timeout);
    }
    Ok(())
}

pin_project_lite::pin_project! {
    /// The body of a service's answer: passed on as it comes, ended in order if the service or the gateway goes away.
    pub struct Answer {
        #[pin]
        inner: Body,
        #[pin]
        cut: WaitForCancellationFutureOwned,
        service: &'static str,
        permit: Option<OwnedSemaphorePermit>,
        ended: bool,
    }
}

impl Answer {
    /// Wraps the answer of `service`; `permit` is given back when it ends, `cut` ends it early.
    #[must_use]
    pub fn new(inner: Body, cut: WaitForCancellationFutureOwned, service: &'static str, permit: OwnedSemaphorePermit) -> Self {
        Self { inner, cut, service, permit: Some(permit), ended: false }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        let last = match this.inner.poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) if !frame.is_trailers() => return Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Ok(trailers))) => Some(Ok(trailers)),
            Poll::Ready(None) => None,
            Poll::Ready(Some(Err(status))) => {
                tracing::warn!(service = *this.service, code = ?status.code(), reason = status.message(), "an answer was broken off");
                Some(trailers(status::unavailable(&format!("the {} service", this.service))))
            }
            Poll::Pending => {
                if this.cut.poll(context).is_pending() {
                    return Poll::Pending;
                }
                Some(trailers(status::unavailable("the gateway")))
            }
        };
        *this.ended = true;
        *this.permit = None;
        Poll::Ready(last)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn trailers(failure: Failure) -> Result<Frame<Bytes>, Status> {
    let mut headers = HeaderMap::new();
    Status::from(failure).add_header(&mut headers)?;
    Ok(Frame::trailers(headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::try_from(*value).unwrap())).collect()
    }

    #[tokio::test]
    async fn deadlines_shrink_and_are_capped_for_unary_calls_only() {
        let left = |asked: &str, streaming| {
            let header = Deadline::of(&headers(&[("grpc-timeout", asked)]), streaming, Duration::from_secs(25)).header()?;
            parse_timeout(header.to_str().unwrap()).map(|left| left.as_secs_f64().ceil())
        };
        assert_eq!(left("1H", false), Some(25.0));
        assert_eq!(left("5S", false), Some(5.0));
        assert_eq!(left("nonsense", false), Some(25.0));
        assert_eq!(left("nonsense", true), None);
        assert_eq!(left("2H", true).map(f64::round), Some(7_199.0), "whole seconds, rounded down");
        let deadline = Deadline::of(&headers(&[("grpc-timeout", "20m")]), false, Duration::from_secs(25));
        let failure = deadline.limit::<()>(std::future::pending()).await.unwrap_err();
        assert_eq!(failure.code, tonic::Code::DeadlineExceeded);
        let left = parse_timeout(deadline.header().unwrap().to_str().unwrap()).unwrap();
        assert!(left < Duration::from_millis(3), "{left:?} left of 20 ms after all but the margin has passed");
    }

    #[test]
    fn nothing_internal_gets_through() {
        let mut sent = headers(&[
            ("authorization", "Bearer secret"),
            ("gumshoe-principal-token", "forged"),
            ("gumshoe-anything", "forged"),
            ("cookie", "secret"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-request-id", "forged"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("tracestate", "a=b"),
            ("content-type", "application/grpc"),
            ("custom-bin", "AAAA"),
        ]);
        sent.append("gumshoe-principal-token", HeaderValue::from_static("forged twice"));
        let correlation = Correlation::of(&sent);
        rewrite(&mut sent, HeaderValue::from_static("ours"), &correlation, Deadline(None)).unwrap();
        let mut left: Vec<_> = sent.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        left.sort_unstable();
        assert_eq!(
            left,
            [
                ("content-type", "application/grpc"),
                ("custom-bin", "AAAA"),
                ("gumshoe-principal-token", "ours"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                ("tracestate", "a=b"),
                ("x-request-id", correlation.request_id.as_str()),
            ]
        );
        assert_eq!(correlation.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    }

    #[test]
    fn a_trace_context_that_is_not_valid_is_replaced() {
        for bad in ["", "00-0-0-0", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"] {
            let correlation = Correlation::of(&headers(&[("traceparent", bad)]));
            assert_eq!(correlation.trace_id().len(), 32, "{bad}");
            assert_ne!(correlation.trace_parent, bad);
        }
    }
}
