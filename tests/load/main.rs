//! Calls a server as fast as it answers, and says how fast that is: tonic's bare hello world, or `GetRisk`.
//!
//! ```text
//! load serve ADDRESS                                   answers hello world
//! load hello URL
//! load risk URL GRAPH ENTITIES bearer TOKEN            through the gateway
//! load risk URL GRAPH ENTITIES key FILE                straight to graph, with tokens signed by the gateway's key
//! ```
//!
//! ENTITIES is a file with a `type:id` a line. Before URL may stand `--connections N` (2), `--calls N` at once in all (64),
//! `--seconds N` (5). Prints a line of JSON.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a tool for measuring")]

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use gumshoe_api::{
    convert::entity_to_proto,
    graph::v1::{GetRiskRequest, graph_service_client::GraphServiceClient},
};
use gumshoe_runtime::token::{Caller, HEADER, TokenSigner};
use tonic::{
    Request, Response, Status,
    body::Body,
    client::Grpc as Client,
    codegen::http,
    metadata::{Ascii, MetadataValue},
    server::{Grpc as Server, NamedService, UnaryService},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

const SAY_HELLO: &str = "/helloworld.Greeter/SayHello";
const WARM_UP: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, prost::Message)]
struct HelloRequest {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HelloReply {
    #[prost(string, tag = "1")]
    message: String,
}

/// What `tonic-build` makes of tonic's `helloworld.proto`.
#[derive(Clone)]
struct Greeter;

impl NamedService for Greeter {
    const NAME: &'static str = "helloworld.Greeter";
}

impl UnaryService<HelloRequest> for Greeter {
    type Response = HelloReply;
    type Future = BoxFuture<'static, Result<Response<HelloReply>, Status>>;

    fn call(&mut self, request: Request<HelloRequest>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(HelloReply { message: format!("Hello {}!", request.into_inner().name) })) })
    }
}

impl tonic::codegen::Service<http::Request<Body>> for Greeter {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Server::new(ProstCodec::<HelloReply, HelloRequest>::default()).unary(Self, request).await) })
    }
}

struct Options {
    connections: usize,
    calls: usize,
    seconds: u64,
}

/// What a worker calls with.
#[derive(Clone)]
enum Work {
    Hello,
    Risk { graph: String, entities: Arc<Vec<gumshoe_api::common::v1::EntityKey>>, credentials: Box<Credentials> },
}

#[derive(Clone)]
enum Credentials {
    Bearer(MetadataValue<Ascii>),
    Key { signer: Arc<TokenSigner>, caller: Caller },
}

impl Work {
    async fn call(&self, channel: &Channel, number: usize) -> Result<(), Status> {
        match self {
            Self::Hello => {
                let mut client = Client::new(channel.clone());
                client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
                let request = Request::new(HelloRequest { name: "Tonic".to_owned() });
                let path = http::uri::PathAndQuery::from_static(SAY_HELLO);
                let reply: Response<HelloReply> = client.unary(request, path, ProstCodec::<HelloRequest, HelloReply>::default()).await?;
                assert_eq!(reply.into_inner().message, "Hello Tonic!");
            }
            Self::Risk { graph, entities, credentials } => {
                let entity = entities.get(number % entities.len()).cloned();
                let mut request = Request::new(GetRiskRequest { graph_arn: graph.clone(), entity, time: None });
                match &**credentials {
                    Credentials::Bearer(token) => request.metadata_mut().insert("authorization", token.clone()),
                    Credentials::Key { signer, caller } => {
                        let token = signer.header("graph", caller).unwrap();
                        request.metadata_mut().insert(HEADER, MetadataValue::try_from(token.as_bytes()).unwrap())
                    }
                };
                let answer = GraphServiceClient::new(channel.clone()).get_risk(request).await?;
                assert!(answer.into_inner().risk.is_some());
            }
        }
        Ok(())
    }
}

async fn measure(url: &str, work: Work, options: &Options) -> serde_json::Value {
    let mut channels = Vec::new();
    for _ in 0..options.connections {
        channels.push(Endpoint::from_shared(url.to_owned()).unwrap().connect().await.unwrap());
    }
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(options.seconds);
    let workers = (0..options.calls).map(|worker| {
        let (work, channel) = (work.clone(), channels.get(worker % channels.len()).unwrap().clone());
        tokio::spawn(async move {
            let (mut times, mut number) = (Vec::new(), worker);
            loop {
                let begun = Instant::now();
                if begun >= end {
                    return times;
                }
                number += 1;
                if let Err(status) = work.call(&channel, number).await {
                    panic!("a call failed: {status}");
                }
                if begun >= start {
                    times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
        })
    });
    let mut times: Vec<u32> = futures::future::try_join_all(workers).await.unwrap().concat();
    times.sort_unstable();
    let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).copied();
    serde_json::json!({
        "calls": times.len(),
        "calls_per_second": times.len() as f64 / options.seconds as f64,
        "p50_us": at(0.5),
        "p99_us": at(0.99),
        "max_us": times.last(),
    })
}

#[tokio::main]
async fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut option = |name: &str, default: usize| match arguments.iter().position(|argument| argument == name) {
        None => default,
        Some(at) => {
            arguments.remove(at);
            arguments.remove(at).parse().unwrap()
        }
    };
    let options = Options { connections: option("--connections", 2), calls: option("--calls", 64), seconds: u64::try_from(option("--seconds", 5)).unwrap() };
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let work = match arguments.as_slice() {
        ["serve", address] => {
            println!("serving");
            return tonic::transport::Server::builder().add_service(Greeter).serve(address.parse().unwrap()).await.unwrap();
        }
        ["hello", _] => Work::Hello,
        ["risk", _, graph, entities, how, with] => {
            let entities = std::fs::read_to_string(entities).unwrap();
            let entities: Vec<_> = entities.lines().map(|line| entity_to_proto(&line.parse().unwrap())).collect();
            let credentials = match *how {
                "bearer" => Credentials::Bearer(format!("Bearer {with}").parse().unwrap()),
                _ => {
                    let caller = Caller::new("arn:aws:iam::111122223333:user/admin", "111122223333", "detective:SearchGraph");
                    let signer = Arc::new(TokenSigner::from_file("gateway", with.as_ref()).unwrap());
                    Credentials::Key { signer, caller: caller.with_graph(graph.parse().unwrap()) }
                }
            };
            Work::Risk { graph: (*graph).to_owned(), entities: Arc::new(entities), credentials: Box::new(credentials) }
        }
        _ => panic!("what to do? see the first lines of tests/load/main.rs"),
    };
    println!("{}", measure(arguments.get(1).unwrap(), work, &options).await);
}
