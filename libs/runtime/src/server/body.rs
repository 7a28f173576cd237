//! A response body that ends well: counted, logged, safe from panics, cut off at shutdown.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status, body::Body};

use super::record::Record;
use crate::status;

pin_project_lite::pin_project! {
    /// Wraps the body of a response that is still to be sent.
    pub(super) struct Observed {
        #[pin]
        inner: Body,
        #[pin]
        cut: WaitForCancellationFutureOwned,
        record: Record,
        permit: Option<OwnedSemaphorePermit>,
        ended: bool,
    }
}

impl Observed {
    pub(super) fn new(inner: Body, cut: WaitForCancellationFutureOwned, record: Record, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { inner, cut, record, permit, ended: false }
    }
}

impl HttpBody for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        // A panic that leaves this function would take all other calls of the connection with it.
        let polled = this.record.span.in_scope(|| catch_unwind(AssertUnwindSafe(|| this.inner.poll_frame(context))).map_err(|panic| panicked(&*panic)));
        let (frame, code) = match polled {
            Ok(Poll::Pending) => {
                if this.cut.poll(context).is_pending() {
                    return Poll::Pending;
                }
                trailers(status::unavailable("the server").into())
            }
            Ok(Poll::Ready(Some(Ok(frame)))) => {
                let Some(sent) = frame.trailers_ref() else { return Poll::Ready(Some(Ok(frame))) };
                let code = sent.get("grpc-status").map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
                (Some(Ok(frame)), code)
            }
            Ok(Poll::Ready(Some(Err(status)))) => {
                let code = status.code();
                (Some(Err(status)), code)
            }
            Ok(Poll::Ready(None)) => (None, Code::Ok),
            Err(failure) => trailers(failure.into()),
        };
        *this.ended = true;
        *this.permit = None;
        this.record.finish(code);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a caller learns of a panic; its text goes to the log only.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> status::Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    tracing::error!(panic = text, "the handler panicked");
    status::internal_already_logged()
}

fn trailers(status: Status) -> (Option<Result<Frame<Bytes>, Status>>, Code) {
    let mut headers = HeaderMap::new();
    let code = status.code();
    match status.add_header(&mut headers) {
        Ok(()) => (Some(Ok(Frame::trailers(headers))), code),
        Err(status) => (Some(Err(status)), code),
    }
}
