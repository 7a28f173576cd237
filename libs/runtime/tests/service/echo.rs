//! A small gRPC service without generated code, and what starts and calls it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use gumshoe_runtime::{Caller, Inside, Listener, PrincipalChannel, ServeError, Server, Shutdown, TokenSigner, TokenVerifier, Upstream, status, telemetry};
use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::http,
    server::{Grpc, NamedService, ServerStreamingService, StreamingService, UnaryService},
    service::Routes,
};
use tonic_prost::ProstCodec;

pub const SAY: &str = "/test.v1.Echo/Say";
pub const COUNT: &str = "/test.v1.Echo/Count";
pub const TALK: &str = "/test.v1.Echo/Talk";
pub const GRAPH: &str = "arn:aws:detective:us-east-1:123456789012:graph:0123456789abcdef0123456789abcdef";

#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

pub fn text(text: &str) -> Text {
    Text { text: text.to_owned() }
}

/// Holds a call in flight until the test lets it go.
#[derive(Clone)]
pub struct Gate {
    pub entered: Arc<Semaphore>,
    pub open: Arc<Notify>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { entered: Arc::new(Semaphore::new(0)), open: Arc::default() }
    }
}

impl Gate {
    pub async fn entered(&self) {
        self.entered.acquire().await.unwrap().forget();
    }

    async fn pass(&self) {
        let opened = self.open.notified();
        self.entered.add_permits(1);
        opened.await;
    }
}

#[derive(Clone, Default)]
pub struct Echo {
    pub gate: Gate,
    /// Where `forward` goes.
    pub next: Option<(PrincipalChannel, Arc<TokenSigner>)>,
}

impl NamedService for Echo {
    const NAME: &'static str = "test.v1.Echo";
}

impl Echo {
    async fn say(self, request: Request<Text>) -> Result<Response<Text>, Status> {
        let caller = Caller::of(&request)?.clone();
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok()).unwrap_or("none").to_owned();
        let answer = match request.get_ref().text.as_str() {
            "who" => format!("{}|{}|{}|{}", caller.issuer, caller.principal, caller.account, caller.action),
            "graph" => caller.require_graph(GRAPH)?.to_string(),
            "token" => header("gumshoe-principal-token"),
            "timeout" => header("grpc-timeout"),
            "traceparent" => header("traceparent"),
            "trace" => telemetry::trace_id().unwrap_or_default(),
            "panic" => panic!("hunter2"),
            "fail" => return Err(status::internal(&std::io::Error::other("hunter2")).into()),
            "gate" => {
                self.gate.pass().await;
                "passed".to_owned()
            }
            "hang" => std::future::pending().await,
            other => match (other.strip_prefix("forward "), &self.next) {
                (Some(next), Some((channel, signer))) => say(channel.signed(signer.clone(), caller), next).await?,
                _ => return Err(status::invalid_argument("text", "unknown").into()),
            },
        };
        Ok(Response::new(text(&answer)))
    }

    fn count(&self, request: &Request<Text>) -> BoxStream<'static, Result<Text, Status>> {
        let gate = self.gate.clone();
        let numbers = futures::stream::iter((0..3).map(|number| Ok(text(&number.to_string()))));
        match request.get_ref().text.as_str() {
            "panic" => numbers.chain(panicking()).boxed(),
            "gate" => numbers
                .chain(futures::stream::once(async move {
                    gate.pass().await;
                    Ok(text("passed"))
                }))
                .boxed(),
            "hang" => numbers.chain(futures::stream::pending()).boxed(),
            _ => numbers.boxed(),
        }
    }
}

/// Panics once the items before it have been sent.
fn panicking() -> impl futures::Stream<Item = Result<Text, Status>> {
    futures::stream::once(tokio::task::yield_now()).map(|()| panic!("hunter2"))
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(match request.uri().path() {
                SAY => grpc.unary(Say(echo), request).await,
                COUNT => grpc.server_streaming(Count(echo), request).await,
                TALK => grpc.streaming(Talk, request).await,
                _ => Status::unimplemented("").into_http(),
            })
        })
    }
}

struct Say(Echo);

impl UnaryService<Text> for Say {
    type Response = Text;
    type Future = BoxFuture<'static, Result<Response<Text>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        Box::pin(self.0.clone().say(request))
    }
}

struct Count(Echo);

impl ServerStreamingService<Text> for Count {
    type Response = Text;
    type ResponseStream = BoxStream<'static, Result<Text, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        let stream = self.0.count(&request);
        Box::pin(async move { Ok(Response::new(stream)) })
    }
}

/// Answers each message with its length once it has seen the first.
struct Talk;

impl StreamingService<Text> for Talk {
    type Response = Text;
    type ResponseStream = BoxStream<'static, Result<Text, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Text>>) -> Self::Future {
        Box::pin(async move {
            let mut messages = request.into_inner();
            let first = messages.message().await?;
            let rest = messages.map(|message| message.map(|message| text(&message.text.len().to_string())));
            Ok(Response::new(futures::stream::iter(first).map(|message| Ok(text(&message.text.len().to_string()))).chain(rest).boxed()))
        })
    }
}

/// The descriptors that `protoc` would give for the service.
pub fn descriptors() -> &'static [u8] {
    let method = |name: &str, client: bool, server: bool| MethodDescriptorProto {
        name: Some(name.to_owned()),
        client_streaming: Some(client),
        server_streaming: Some(server),
        ..MethodDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("test/v1/echo.proto".to_owned()),
        package: Some("test.v1".to_owned()),
        service: vec![ServiceDescriptorProto {
            name: Some("Echo".to_owned()),
            method: vec![method("Say", false, false), method("Count", false, true), method("Talk", true, true)],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    Box::leak(FileDescriptorSet { file: vec![file] }.encode_to_vec().into_boxed_slice())
}

/// A server on a free port or inside the process, and what is needed to call it.
pub struct Running {
    pub address: SocketAddr,
    pub inside: Option<Inside>,
    pub signer: Arc<TokenSigner>,
    pub public: String,
    pub shutdown: Shutdown,
    pub gate: Gate,
    pub task: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub async fn start(configure: impl FnOnce(Server) -> Server) -> Self {
        Self::start_with(Echo::default(), configure).await
    }

    pub async fn start_with(echo: Echo, configure: impl FnOnce(Server) -> Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, ..Self::run(echo, listener.into(), configure) }
    }

    pub fn start_inside(echo: Echo, configure: impl FnOnce(Server) -> Server) -> Self {
        let inside = Inside::default();
        Self { inside: Some(inside.clone()), ..Self::run(echo, inside.into(), configure) }
    }

    fn run(echo: Echo, listener: Listener, configure: impl FnOnce(Server) -> Server) -> Self {
        let (signer, public) = TokenSigner::generate("gateway");
        let verifier = TokenVerifier::new("test", [("gateway".to_owned(), public.clone())]).unwrap();
        let shutdown = Shutdown::new();
        let server = configure(Server::new("test", Arc::new(verifier), shutdown.clone()).descriptors(descriptors()).health_names(&["test.v1.Echo"]));
        let gate = echo.gate.clone();
        let task = tokio::spawn(server.serve(listener, Routes::new(echo)));
        let address = SocketAddr::new([127, 0, 0, 1].into(), 0);
        Self { address, inside: None, signer: Arc::new(signer), public, shutdown, gate, task }
    }

    pub fn upstream(&self) -> Upstream {
        Upstream { inside: self.inside.clone(), ..Upstream::new(format!("http://{}", self.address).parse().unwrap()) }
    }

    pub fn channel(&self) -> PrincipalChannel {
        PrincipalChannel::connect_lazy(&self.upstream(), "test").unwrap()
    }

    pub fn signed(&self) -> gumshoe_runtime::Signed {
        self.channel().signed(self.signer.clone(), caller())
    }

    pub async fn end(self) {
        self.shutdown.trigger();
        within(self.task).await.unwrap().unwrap();
    }
}

pub fn caller() -> Caller {
    Caller::new("arn:aws:iam::123456789012:user/ana", "123456789012", "detective:SearchGraph").with_graph(GRAPH.parse().unwrap()).with_request_id("r-1")
}

/// Guards a test against hanging.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

pub async fn say<S>(channel: S, message: &str) -> Result<String, Status>
where
    S: tonic::client::GrpcService<Body>,
    S::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError>,
{
    say_request(channel, Request::new(text(message))).await
}

pub async fn say_request<S>(channel: S, request: Request<Text>) -> Result<String, Status>
where
    S: tonic::client::GrpcService<Body>,
    S::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError>,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let response = client.unary(request, http::uri::PathAndQuery::from_static(SAY), ProstCodec::<Text, Text>::default()).await?;
    Ok(response.into_inner().text)
}

pub async fn count<S>(channel: S, message: &str) -> Result<Streaming<Text>, Status>
where
    S: tonic::client::GrpcService<Body>,
    S::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError>,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let response =
        client.server_streaming(Request::new(text(message)), http::uri::PathAndQuery::from_static(COUNT), ProstCodec::<Text, Text>::default()).await?;
    Ok(response.into_inner())
}
