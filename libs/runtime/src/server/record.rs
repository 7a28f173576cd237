//! The span and the one log line of an RPC.

use std::time::Instant;

use tonic::Code;
use tracing::{Span, field::Empty};

use crate::{
    telemetry::{self, Trace},
    token::Caller,
};

/// The target of the log line, for filters: `info,gumshoe_runtime::rpc=warn`.
const TARGET: &str = "gumshoe_runtime::rpc";

/// Opens an RPC's span, and logs the RPC when it ends, however it ends.
pub(super) struct Record {
    pub(super) span: Span,
    pub(super) trace: Trace,
    start: Instant,
    open: bool,
}

impl Record {
    pub(super) fn start<B>(request: &http::Request<B>) -> Self {
        let path = request.uri().path();
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let span = tracing::info_span!(
            target: TARGET,
            // Of its own even where the caller is in this process: the headers say what it belongs to.
            parent: None,
            "rpc",
            otel.kind = "server",
            otel.name = path.trim_start_matches('/'),
            otel.status_code = Empty,
            rpc.system = "grpc",
            rpc.service = service,
            rpc.method = method,
            rpc.grpc.status_code = Empty,
            principal = Empty,
            issuer = Empty,
            request_id = Empty,
            trace_id = Empty,
            span_id = Empty,
        );
        let trace = telemetry::step(&span, request.headers());
        span.record("trace_id", trace.trace_id());
        span.record("span_id", trace.span_id());
        Self { span, trace, start: Instant::now(), open: true }
    }

    pub(super) fn caller(&self, caller: &Caller) {
        self.span.record("principal", &caller.principal);
        self.span.record("issuer", &caller.issuer);
        self.span.record("request_id", &caller.request_id);
    }

    /// Writes the line; later calls do nothing.
    pub(super) fn finish(&mut self, code: Code) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        self.span.record("rpc.grpc.status_code", i64::from(code as i32));
        let grpc_status = format!("{code:?}");
        let duration_ms = self.start.elapsed().as_secs_f64() * 1_000.0;
        match code {
            Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
                self.span.record("otel.status_code", "ERROR");
                tracing::error!(target: TARGET, parent: &self.span, grpc_status, duration_ms, "rpc");
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted => {
                self.span.record("otel.status_code", "ERROR");
                tracing::warn!(target: TARGET, parent: &self.span, grpc_status, duration_ms, "rpc");
            }
            _ => tracing::info!(target: TARGET, parent: &self.span, grpc_status, duration_ms, "rpc"),
        }
    }
}

impl Drop for Record {
    /// An RPC whose future or body is dropped half way was cancelled by its caller.
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}
