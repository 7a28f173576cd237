//! Structured logs and traces: one JSON object a line, W3C trace context in and out, OTLP export if configured.

use std::{
    fmt, io,
    sync::atomic::{AtomicBool, Ordering},
};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanContext, TraceContextExt as _, TracerProvider as _},
};
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _};

use crate::config::{LogFormat, Telemetry};

mod json;
mod trace;
mod writer;

use json::JsonLayer;
pub(crate) use trace::{TRACE, Trace};
use writer::Background;

/// Telemetry that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.level` is not a filter.
    #[error("configuration key `telemetry.level`: `{0}` is not a log filter")]
    Level(String),
    /// The OTLP exporter cannot be built.
    #[error("configuration key `telemetry.otlp`: the exporter cannot be built")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The thread that writes logs cannot be started.
    #[error("the thread that writes logs cannot be started")]
    Writer(#[source] io::Error),
    /// Logging has been set up in this process already.
    #[error("telemetry is set up already")]
    AlreadySet,
}

/// Whether spans are exported: then their ids are the exporter's.
static EXPORTED: AtomicBool = AtomicBool::new(false);

/// Holds telemetry open; dropping it sends and writes what is buffered.
#[must_use = "dropping the guard ends the export of traces"]
pub struct Guard {
    provider: SdkTracerProvider,
    writer: Option<Background>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!(%error, "buffered spans were not exported");
        }
        if let Some(writer) = &self.writer {
            writer.flush();
        }
    }
}

/// Sets up logs on standard output, traces, and a panic hook that logs, for the whole process.
///
/// Call it inside a Tokio runtime: the OTLP exporter connects there.
///
/// # Errors
/// [`TelemetryError`].
pub fn init(telemetry: &Telemetry, service: &'static str) -> Result<Guard, TelemetryError> {
    let writer = Background::start(io::stdout()).map_err(TelemetryError::Writer)?;
    let (subscriber, mut guard) = subscriber(telemetry, service, writer.clone())?;
    guard.writer = Some(writer);
    subscriber.try_init().map_err(|_| TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message = "panic", panic = message, location);
    }));
    Ok(guard)
}

/// The subscriber that [`init`] installs, writing to `writer`.
///
/// # Errors
/// [`TelemetryError`].
pub fn subscriber<W>(
    telemetry: &Telemetry,
    service: &'static str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync + for<'a> LookupSpan<'a>, Guard), TelemetryError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&telemetry.level).map_err(|_| TelemetryError::Level(telemetry.level.clone()))?;
    let mut provider = SdkTracerProvider::builder().with_resource(
        Resource::builder().with_service_name(format!("gumshoe-{service}")).with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build(),
    );
    if let Some(endpoint) = &telemetry.otlp {
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(endpoint.as_str()).build().map_err(TelemetryError::Exporter)?;
        provider = provider.with_batch_exporter(exporter);
    }
    let provider = provider.build();
    // Spans that nobody collects are not made.
    let traces =
        telemetry.otlp.as_ref().map(|_| tracing_opentelemetry::layer().with_tracer(provider.tracer("gumshoe")).with_location(false).with_threads(false));
    if traces.is_some() {
        EXPORTED.store(true, Ordering::Relaxed);
    }
    let (json, text) = match telemetry.format {
        LogFormat::Json => (Some(JsonLayer { service, writer }), None),
        LogFormat::Text => (None, Some(tracing_subscriber::fmt::layer().with_writer(writer))),
    };
    Ok((tracing_subscriber::registry().with(filter).with(traces).with(json).with(text), Guard { provider, writer: None }))
}

impl fmt::Debug for Guard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Guard")
    }
}

/// The id of the trace that the current call belongs to, 32 hexadecimal digits; `None` outside a call.
#[must_use]
pub fn trace_id() -> Option<String> {
    TRACE.try_with(Trace::trace_id).ok()
}

/// The `traceparent` of these headers if it is valid, else that of a new trace.
#[must_use]
pub fn trace_parent(headers: &http::HeaderMap) -> String {
    let sent = headers.get(trace::PARENT).and_then(|value| value.to_str().ok()).filter(|text| trace::parse(text).is_some());
    sent.map_or_else(|| Trace::next(headers).text(), str::to_owned)
}

/// The OpenTelemetry identity of `span`; `None` when it is not exported.
fn span_context(span: &Span) -> Option<SpanContext> {
    let context = span.context().span().span_context().clone();
    context.is_valid().then_some(context)
}

/// The step in the trace of these headers that `span` stands for.
pub(crate) fn step(span: &Span, headers: &http::HeaderMap) -> Trace {
    if EXPORTED.load(Ordering::Relaxed) {
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        // Fails only where the span is filtered out.
        let _ = span.set_parent(parent);
        if let Some(exported) = span_context(span) {
            return Trace::exported(&exported);
        }
    }
    Trace::next(headers)
}

/// Writes the current trace context into a request's headers.
pub(crate) fn inject(headers: &mut http::HeaderMap) {
    if let Ok(trace) = TRACE.try_with(|trace| *trace) {
        trace.write(headers);
    } else if EXPORTED.load(Ordering::Relaxed) {
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut HeadersMut(headers));
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut http::HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(key), http::HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
