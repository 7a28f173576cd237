//! A server ends in phases: not serving, drain, stop accepting, finish, flush, close.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use gumshoe_runtime::ServeError;
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    echo::{Running, count, say, within},
    health::{check, until, watch},
};

#[tokio::test]
async fn calls_in_flight_finish_and_are_flushed_while_new_connections_are_refused() {
    let flushed = Arc::new(AtomicBool::new(false));
    let flag = flushed.clone();
    let running = Running::start(move |server| {
        server.on_flush("test", move || {
            flag.store(true, Ordering::SeqCst);
            async { Ok(()) }.boxed()
        })
    })
    .await;
    let unary = tokio::spawn(say(running.signed(), "gate"));
    let mut stream = count(running.signed(), "gate").await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "0");
    assert_eq!(stream.message().await.unwrap().unwrap().text, "1");
    assert_eq!(stream.message().await.unwrap().unwrap().text, "2");
    running.gate.entered().await;
    running.gate.entered().await;

    running.shutdown.trigger();
    within(async { while TcpStream::connect(running.address).await.is_ok() {} }).await;
    assert!(!flushed.load(Ordering::SeqCst), "flush waits for the last call");
    assert!(!running.task.is_finished());
    running.gate.open.notify_waiters();
    assert_eq!(within(unary).await.unwrap().unwrap(), "passed");
    assert_eq!(within(stream.message()).await.unwrap().unwrap().text, "passed");
    assert_eq!(stream.message().await.unwrap(), None);
    within(running.task).await.unwrap().unwrap();
    assert!(flushed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn health_says_not_serving_while_calls_are_still_taken() {
    let running = Running::start(|server| server.drain(Duration::from_secs(3_600))).await;
    let mut statuses = watch(running.channel().unsigned()).await;
    until(&mut statuses, ServingStatus::Serving).await;
    running.shutdown.trigger();
    until(&mut statuses, ServingStatus::NotServing).await;
    assert_eq!(check(running.channel().unsigned(), "test.v1.Echo").await, Ok(ServingStatus::NotServing));
    assert!(say(running.signed(), "who").await.is_ok(), "a new connection during the drain");
    running.task.abort();
}

#[tokio::test]
async fn health_watches_do_not_hold_up_the_end() {
    let running = Running::start(|server| server.grace(Duration::from_secs(3_600))).await;
    let mut statuses = watch(running.channel().unsigned()).await;
    until(&mut statuses, ServingStatus::Serving).await;
    running.end().await;
    let last = loop {
        match statuses.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("ended without a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(last.code(), Code::Unavailable);
}

#[tokio::test]
async fn calls_that_outlast_the_grace_period_are_cut_off() {
    let running = Running::start(|server| server.grace(Duration::from_millis(20))).await;
    let unary = tokio::spawn(say(running.signed(), "gate"));
    running.gate.entered().await;
    let mut stream = count(running.signed(), "hang").await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    running.end().await;
    assert_eq!(within(unary).await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(within(stream.message()).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn a_failed_flush_is_reported_and_the_next_still_runs() {
    let flushed = Arc::new(AtomicBool::new(false));
    let flag = flushed.clone();
    let running = Running::start(move |server| {
        server.on_flush("ledger", || async { Err("disk full".to_owned()) }.boxed()).on_flush("cache", move || {
            flag.store(true, Ordering::SeqCst);
            async { Ok(()) }.boxed()
        })
    })
    .await;
    running.shutdown.trigger();
    let error = within(running.task).await.unwrap().unwrap_err();
    assert!(matches!(&error, ServeError::Flush { name: "ledger", reason } if reason == "disk full"), "{error}");
    assert!(flushed.load(Ordering::SeqCst));
}
