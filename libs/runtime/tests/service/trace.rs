//! Every RPC is one log line, with the ids of its trace; traces cross services.

use std::{
    io,
    sync::{Arc, Mutex},
};

use gumshoe_runtime::{Telemetry, telemetry};
use serde_json::Value;
use tonic::{Code, Request};
use tracing_subscriber::fmt::MakeWriter;

use crate::echo::{Echo, Running, count, say, say_request, text};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn rpcs(&self) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["message"] == "rpc").collect()
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// The servers of a test run on its own thread, so the subscriber of the thread sees all.
fn logged() -> (Log, tracing::subscriber::DefaultGuard, telemetry::Guard) {
    let log = Log::default();
    let (subscriber, guard) = telemetry::subscriber(&Telemetry::default(), "test", log.clone()).unwrap();
    (log, tracing::subscriber::set_default(subscriber), guard)
}

#[tokio::test]
async fn every_rpc_is_one_line_with_its_facts() {
    let (log, _default, _guard) = logged();
    let running = Running::start(|server| server).await;
    let mut request = Request::new(text("trace"));
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse().unwrap());
    let channel = running.channel();
    let token = running.signer.sign("test", &crate::echo::caller()).unwrap();
    request.metadata_mut().insert("gumshoe-principal-token", token.parse().unwrap());
    request.metadata_mut().insert("x-request-id", "r-1".parse().unwrap());
    assert_eq!(say_request(channel.unsigned(), request).await.unwrap(), TRACE, "the caller's trace goes on");
    let _ = say(channel.unsigned(), "who").await;
    let _ = say(running.signed(), "fail").await;
    let mut stream = count(running.signed(), "").await.unwrap();
    while stream.message().await.unwrap().is_some() {}
    running.end().await;

    let rpcs = log.rpcs();
    assert_eq!(rpcs.len(), 4, "{}", log.text());
    let first = &rpcs[0];
    for (key, expected) in [
        ("level", "INFO"),
        ("service", "test"),
        ("target", "gumshoe_runtime::rpc"),
        ("rpc.system", "grpc"),
        ("rpc.service", "test.v1.Echo"),
        ("rpc.method", "Say"),
        ("grpc_status", "Ok"),
        ("principal", "arn:aws:iam::123456789012:user/ana"),
        ("issuer", "gateway"),
        ("request_id", "r-1"),
        ("trace_id", TRACE),
    ] {
        assert_eq!(first[key], expected, "{key} in {first}");
    }
    assert_eq!(first["span_id"].as_str().unwrap().len(), 16);
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
    assert!(first["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&rpcs[1]["grpc_status"], &rpcs[1]["principal"]), (&Value::from("Unauthenticated"), &Value::Null));
    assert_eq!((&rpcs[2]["level"], &rpcs[2]["grpc_status"]), (&Value::from("ERROR"), &Value::from("Internal")));
    assert_eq!((&rpcs[3]["rpc.method"], &rpcs[3]["grpc_status"]), (&Value::from("Count"), &Value::from("Ok")));

    let faults: Vec<_> = log.lines().into_iter().filter(|line| line["message"] == "internal error").collect();
    assert_eq!(faults.len(), 1, "a fault is logged once");
    assert_eq!((&faults[0]["error"], &faults[0]["trace_id"]), (&Value::from("hunter2"), &rpcs[2]["trace_id"]));
    assert!(!log.text().contains(&token), "no credentials in logs");
    assert!(!log.text().contains("otel."), "nothing meant for the exporter");
}

#[tokio::test]
async fn a_call_that_its_client_drops_is_logged_as_cancelled() {
    let (log, _default, _guard) = logged();
    let running = Running::start(|server| server).await;
    let call = tokio::spawn(say(running.signed(), "gate"));
    running.gate.entered().await;
    call.abort();
    let _ = call.await;
    running.end().await;
    assert_eq!(log.rpcs()[0]["grpc_status"], "Cancelled");
}

#[tokio::test]
async fn a_trace_spans_services() {
    let (log, _default, _guard) = logged();
    let last = Running::start(|server| server).await;
    let echo = Echo { next: Some((last.channel(), last.signer.clone())), ..Echo::default() };
    let first = Running::start_with(echo, |server| server).await;
    let trace = say(first.signed(), "forward trace").await.unwrap();
    let parent = say(first.signed(), "forward traceparent").await.unwrap();
    first.end().await;
    last.end().await;

    let rpcs = log.rpcs();
    assert_eq!(rpcs.len(), 4);
    assert_eq!((&rpcs[0]["trace_id"], &rpcs[1]["trace_id"]), (&Value::from(trace.as_str()), &Value::from(trace.as_str())));
    assert_ne!(rpcs[0]["span_id"], rpcs[1]["span_id"]);
    // The outer call ends last; its span is the parent that the inner one was given.
    assert_eq!(parent.split('-').nth(2), rpcs[3]["span_id"].as_str());
    assert_eq!(rpcs[3]["grpc_status"], format!("{:?}", Code::Ok));
}

/// An OTLP collector that counts what it is sent. The request's fields are skipped: its size alone is of interest.
#[derive(Clone)]
struct Collector(tokio::sync::mpsc::UnboundedSender<()>);

#[derive(Clone, PartialEq, prost::Message)]
struct Anything {}

impl tonic::server::NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tonic::server::UnaryService<Anything> for Collector {
    type Response = Anything;
    type Future = std::future::Ready<Result<tonic::Response<Anything>, tonic::Status>>;

    fn call(&mut self, _: Request<Anything>) -> Self::Future {
        let _ = self.0.send(());
        std::future::ready(Ok(tonic::Response::new(Anything {})))
    }
}

impl tower::Service<tonic::codegen::http::Request<tonic::body::Body>> for Collector {
    type Response = tonic::codegen::http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<tonic::body::Body>) -> Self::Future {
        let collector = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(tonic_prost::ProstCodec::<Anything, Anything>::default()).unary(collector, request).await) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_reach_the_collector_at_the_latest_when_the_guard_is_dropped() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let otlp = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, mut exports) = tokio::sync::mpsc::unbounded_channel();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(Collector(sender)).serve_with_incoming(incoming));

    let settings = Telemetry { otlp: Some(otlp), ..Telemetry::default() };
    let (subscriber, guard) = telemetry::subscriber(&settings, "test", Log::default()).unwrap();
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("work").in_scope(|| ()));
    drop(guard);
    crate::echo::within(exports.recv()).await.unwrap();
}
