//! Calls inside the process are served as those from the network are.

use std::time::Duration;

use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{Inside, PrincipalChannel, Upstream, status::reason_of};
use tonic::{Code, Request};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    echo::{Echo, Running, caller, count, say, say_request, text, within},
    health::{check, until, watch},
};

#[tokio::test]
async fn callers_are_known_by_their_tokens_alone() {
    let running = Running::start_inside(Echo::default(), |server| server);
    assert_eq!(say(running.signed(), "who").await.unwrap(), "gateway|arn:aws:iam::123456789012:user/ana|123456789012|detective:SearchGraph");
    assert_eq!(say(running.signed(), "token").await.unwrap(), "none", "the token ends at the door");
    let status = say(running.channel().unsigned(), "who").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unauthenticated, Some(ErrorReason::Unauthenticated)));
    let mut request = Request::new(text("who"));
    request.extensions_mut().insert(caller());
    let status = say_request(running.channel().unsigned(), request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "who says so himself is not believed");
    running.end().await;
}

#[tokio::test]
async fn streams_panics_and_deadlines_are_as_on_the_network() {
    let last = Running::start_inside(Echo::default(), |server| server);
    let first = Running::start_inside(Echo { next: Some((last.channel(), last.signer.clone())), ..Echo::default() }, |server| server);
    let mut stream = count(first.signed(), "").await.unwrap();
    for number in ["0", "1", "2"] {
        assert_eq!(stream.message().await.unwrap().unwrap().text, number);
    }
    assert_eq!(stream.message().await.unwrap(), None);
    assert_eq!(say(first.signed(), "panic").await.unwrap_err().code(), Code::Internal);
    let mut stream = count(first.signed(), "panic").await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Internal);

    let mut request = Request::new(text("forward hang"));
    request.set_timeout(Duration::from_millis(200));
    assert_eq!(within(say_request(first.signed(), request)).await.unwrap_err().code(), Code::DeadlineExceeded);
    let mut request = Request::new(text("forward timeout"));
    request.set_timeout(Duration::from_secs(5));
    let left: u64 = say_request(first.signed(), request).await.unwrap().trim_end_matches('m').parse().unwrap();
    assert!((1..5_000).contains(&left), "{left}");
    first.end().await;
    last.end().await;
}

#[tokio::test]
async fn a_call_waits_for_the_start_and_ends_before_the_server_does() {
    let inside = Inside::default();
    let upstream = Upstream { inside: Some(inside), ..Upstream::new("inside://test".parse().unwrap()) };
    let early = PrincipalChannel::connect_lazy(&upstream, "test").unwrap().unsigned();
    let asked = tokio::spawn(check(early, ""));
    tokio::task::yield_now().await;
    assert!(!asked.is_finished());
    asked.abort();

    let running = Running::start_inside(Echo::default(), |server| server);
    let unary = tokio::spawn(say(running.signed(), "gate"));
    running.gate.entered().await;
    let mut statuses = watch(running.channel().unsigned()).await;
    until(&mut statuses, ServingStatus::Serving).await;
    running.shutdown.trigger();
    within(async {
        while say(running.signed(), "who").await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = say(running.signed(), "who").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::Unavailable, Some(ErrorReason::Unavailable)));
    assert!(!running.task.is_finished(), "a call is in flight");
    running.gate.open.notify_waiters();
    assert_eq!(within(unary).await.unwrap().unwrap(), "passed");
    within(running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn calls_that_outlast_the_grace_period_are_cut_off() {
    let running = Running::start_inside(Echo::default(), |server| server.grace(Duration::from_millis(20)));
    let unary = tokio::spawn(say(running.signed(), "gate"));
    running.gate.entered().await;
    running.end().await;
    assert_eq!(within(unary).await.unwrap().unwrap_err().code(), Code::Unavailable);
}
