//! Health follows the ready check; reflection lists what is served.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use gumshoe_runtime::Wire;
use tonic::{Code, Request, Streaming};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{
    v1::{self, server_reflection_client::ServerReflectionClient},
    v1alpha::{self, server_reflection_client::ServerReflectionClient as AlphaClient},
};

use crate::echo::{Running, within};

pub async fn check(channel: Wire, name: &str) -> Result<ServingStatus, Code> {
    let answer = HealthClient::new(channel).check(HealthCheckRequest { service: name.to_owned() }).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

pub async fn watch(channel: Wire) -> Streaming<HealthCheckResponse> {
    HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap().into_inner()
}

pub async fn until(watch: &mut Streaming<HealthCheckResponse>, status: ServingStatus) {
    within(async { while watch.message().await.unwrap().unwrap().status() != status {} }).await;
}

#[tokio::test]
async fn health_follows_the_ready_check_both_ways() {
    let ready = Arc::new(AtomicBool::new(false));
    let flag = ready.clone();
    let running = Running::start(move |server| {
        server.ready_check_every(Duration::from_millis(5)).ready_check(move || {
            let ready = flag.load(Ordering::SeqCst);
            async move { if ready { Ok(()) } else { Err("schema version 1, expected 2".to_owned()) } }.boxed()
        })
    })
    .await;
    let channel = running.channel().unsigned();
    for name in ["", "test.v1.Echo"] {
        assert_eq!(check(channel.clone(), name).await, Ok(ServingStatus::NotServing), "{name}");
    }
    assert_eq!(check(channel.clone(), "test.v1.Other").await, Err(Code::NotFound));

    let mut statuses = watch(channel.clone()).await;
    ready.store(true, Ordering::SeqCst);
    until(&mut statuses, ServingStatus::Serving).await;
    ready.store(false, Ordering::SeqCst);
    until(&mut statuses, ServingStatus::NotServing).await;
    ready.store(true, Ordering::SeqCst);
    until(&mut statuses, ServingStatus::Serving).await;
    within(async { while check(channel.clone(), "test.v1.Echo").await != Ok(ServingStatus::Serving) {} }).await;
    drop(statuses);
    running.end().await;
}

#[tokio::test]
async fn a_ready_check_that_hangs_is_not_ready() {
    let hang = Arc::new(AtomicBool::new(false));
    let flag = hang.clone();
    let running = Running::start(move |server| {
        server.ready_check_every(Duration::from_millis(5)).ready_check(move || {
            let hang = flag.load(Ordering::SeqCst);
            async move { if hang { std::future::pending().await } else { Ok(()) } }.boxed()
        })
    })
    .await;
    let mut statuses = watch(running.channel().unsigned()).await;
    until(&mut statuses, ServingStatus::Serving).await;
    hang.store(true, Ordering::SeqCst);
    until(&mut statuses, ServingStatus::NotServing).await;
    drop(statuses);
    running.end().await;
}

#[tokio::test]
async fn reflection_lists_all_services_in_both_versions() {
    let running = Running::start(|server| server).await;
    let channel = running.channel().unsigned();
    let request =
        v1::ServerReflectionRequest { host: String::new(), message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())) };
    let mut answers =
        ServerReflectionClient::new(channel.clone()).server_reflection_info(Request::new(futures::stream::iter([request]))).await.unwrap().into_inner();
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else {
        panic!("not a list");
    };
    let names: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["test.v1.Echo", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    assert!(names.iter().any(|name| name.starts_with("gumshoe.")), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol("test.v1.Echo".to_owned())),
    };
    let mut answers = AlphaClient::new(channel).server_reflection_info(Request::new(futures::stream::iter([request]))).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response;
    assert!(matches!(answer, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
    running.end().await;
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let options = gumshoe_runtime::ServerOptions { reflection: false, ..Default::default() };
    let running = Running::start(|server| server.options(&options)).await;
    let request = v1::ServerReflectionRequest::default();
    let status =
        ServerReflectionClient::new(running.channel().unsigned()).server_reflection_info(Request::new(futures::stream::iter([request]))).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    running.end().await;
}
