//! Panics, faults, deadlines and limits, as a client sees them.

use std::time::Duration;

use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{ServerOptions, status::reason_of};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::echo::{Echo, Running, count, say, say_request, text, within};

fn assert_mute(status: &Status) {
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    assert_eq!(reason_of(status), Some(ErrorReason::Internal));
    assert!(!format!("{status:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_panic_becomes_internal_and_harms_no_other_call() {
    let running = Running::start(|server| server).await;
    let channel = running.signed();
    let other = tokio::spawn(say(channel.clone(), "gate"));
    running.gate.entered().await;

    assert_mute(&say(channel.clone(), "panic").await.unwrap_err());
    let mut stream = count(channel.clone(), "panic").await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    assert_mute(&stream.message().await.unwrap_err());

    running.gate.open.notify_waiters();
    assert_eq!(within(other).await.unwrap().unwrap(), "passed", "on the same connection");
    running.end().await;
}

#[tokio::test]
async fn a_fault_does_not_tell_its_cause() {
    let running = Running::start(|server| server).await;
    assert_mute(&say(running.signed(), "fail").await.unwrap_err());
    let status = say(running.signed(), "nonsense").await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::InvalidField));
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations[0].field, "text");
    running.end().await;
}

#[tokio::test]
async fn unary_calls_end_at_the_cap_and_streams_do_not() {
    let options = ServerOptions { timeout_seconds: 1, ..ServerOptions::default() };
    let running = Running::start(|server| server.options(&options)).await;
    let mut stream = count(running.signed(), "gate").await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    let status = within(say(running.signed(), "hang")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the deadline has passed"));
    assert!(reason_of(&status).is_some());
    running.gate.open.notify_waiters();
    assert_eq!(stream.message().await.unwrap().unwrap().text, "passed");
    running.end().await;
}

#[tokio::test]
async fn the_client_may_ask_for_less_time() {
    let running = Running::start(|server| server).await;
    let mut request = Request::new(text("hang"));
    request.set_timeout(Duration::from_millis(200));
    let status = within(say_request(running.signed(), request)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the deadline has passed"));
    running.end().await;
}

#[tokio::test]
async fn time_left_is_passed_on() {
    let last = Running::start(|server| server).await;
    let echo = Echo { next: Some((last.channel(), last.signer.clone())), ..Echo::default() };
    let first = Running::start_with(echo, |server| server).await;
    let milliseconds = |text: String| text.trim_end_matches('m').parse::<u64>().unwrap();

    let mut request = Request::new(text("forward timeout"));
    request.set_timeout(Duration::from_secs(5));
    let left = milliseconds(say_request(first.signed(), request).await.unwrap());
    assert!((1..5_000).contains(&left), "{left}");
    let left = milliseconds(say(first.signed(), "forward timeout").await.unwrap());
    assert!((5_000..=20_000).contains(&left), "the upstream's own timeout is the cap: {left}");
    assert_eq!(say(first.signed(), "forward who").await.unwrap(), "gateway|arn:aws:iam::123456789012:user/ana|123456789012|detective:SearchGraph");
    first.end().await;
    last.end().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_told_to_come_back() {
    let options = ServerOptions { max_concurrent_calls: 2, ..ServerOptions::default() };
    let running = Running::start(|server| server.options(&options)).await;
    let unary = tokio::spawn(say(running.signed(), "gate"));
    running.gate.entered().await;
    let mut stream = count(running.signed(), "gate").await.unwrap();
    for _ in 0..3 {
        stream.message().await.unwrap().unwrap();
    }
    let status = say(running.signed(), "who").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::ResourceExhausted, Some(ErrorReason::RateLimited)));
    assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    assert!(crate::health::check(running.channel().unsigned(), "").await.is_ok(), "health has no limit");

    running.gate.entered().await;
    running.gate.open.notify_waiters();
    within(unary).await.unwrap().unwrap();
    while stream.message().await.unwrap().is_some() {}
    assert!(say(running.signed(), "who").await.is_ok(), "places are given back");
    running.end().await;
}
