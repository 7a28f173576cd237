//! Who is believed by the Amazon Detective API.

use gumshoe_gateway::config::Limits;
use serde_json::json;

use crate::{
    harness::{Gateway, Options},
    signer::{Call, Key, sign},
};

fn list() -> Call {
    Call::post("/graphs/list", json!({}))
}

#[tokio::test]
async fn a_signature_is_taken_over_http_1_and_2() {
    let gateway = Gateway::start().await;
    for http2 in [false, true] {
        gateway.send(&gateway.key, Call { http2, ..list() }).await.ok();
        gateway.send(&gateway.key, Call { http2, ..Call::tags("GET", &gateway.graph, "", "") }).await.ok();
    }
}

#[tokio::test]
async fn what_is_not_signed_rightly_is_refused() {
    let gateway = Gateway::start().await;
    let unsigned = gateway.send_with(list(), vec![("content-type".to_owned(), "application/json".to_owned())]).await;
    unsigned.is(403, "MissingAuthenticationTokenException");
    let wrong = Key::new(&gateway.key.id, &"x".repeat(40));
    let message = gateway.send(&wrong, list()).await.is(403, "InvalidSignatureException");
    assert!(message.starts_with("The request signature we calculated does not match"), "{message}");
    gateway.send(&Key::new("AKIAIOSFODNN7EXAMPLE", "x"), list()).await.is(403, "UnrecognizedClientException");
    gateway.send(&Key { token: "token".to_owned(), ..gateway.key.clone() }, list()).await.is(403, "UnrecognizedClientException");
    for clock in [-240, 240] {
        gateway.send(&gateway.key, Call { clock, ..list() }).await.ok();
    }
    let message = gateway.send(&gateway.key, Call { clock: -400, ..list() }).await.is(403, "InvalidSignatureException");
    assert!(message.starts_with("Signature expired: "), "{message}");
    let message = gateway.send(&gateway.key, Call { clock: 400, ..list() }).await.is(403, "InvalidSignatureException");
    assert!(message.starts_with("Signature not yet current: "), "{message}");
    gateway.send(&gateway.key, Call { service: "sts", ..list() }).await.is(403, "InvalidSignatureException");
    let message = gateway.send(&gateway.key, Call { region: "xx-nowhere-1", ..list() }).await.is(403, "InvalidSignatureException");
    assert!(message.contains("us-east-1, eu-west-1"), "{message}");

    // A good signature, of another request.
    let host = gateway.address.to_string();
    let headers = sign(&list(), &gateway.key, &host);
    for other in [Call::post("/graphs/list", json!({"MaxResults": 1})), Call::post("/invitations/list", json!({})), Call { query: "a=b".to_owned(), ..list() }]
    {
        gateway.send_with(other, headers.clone()).await.is(403, "InvalidSignatureException");
    }
    let mut headers = headers;
    headers.iter_mut().filter(|(name, _)| name == "authorization").for_each(|(_, value)| value.truncate(value.len() - 1));
    gateway.send_with(list(), headers).await.is(400, "IncompleteSignatureException");
    gateway
        .send_with(Call { query: "X-Amz-Signature=00&X-Amz-Algorithm=AWS4-HMAC-SHA256".to_owned(), ..list() }, Vec::new())
        .await
        .is(400, "IncompleteSignatureException");
}

#[tokio::test]
async fn a_bearer_token_is_taken_too() {
    let gateway = Gateway::start().await;
    let bearing = |token: &str| vec![("authorization".to_owned(), format!("Bearer {token}"))];
    let listed = gateway.send_with(list(), bearing(&gateway.administrator)).await.ok();
    assert_eq!(listed["GraphList"][0]["Arn"], json!(gateway.graph));
    gateway.send_with(list(), bearing("a.b.c")).await.is(403, "UnrecognizedClientException");
}

#[tokio::test]
async fn whoever_tries_keys_is_slowed_down_and_others_are_not() {
    let limits = Limits { anonymous_per_minute: 4, grace_seconds: 1, ..Limits::default() };
    let gateway = Gateway::start_with(Options { limits, ..Options::default() }).await;
    gateway.send(&gateway.key, list()).await.ok();
    let mut answers = Vec::new();
    for number in 0..6 {
        let key = Key::new(&format!("AKIAIOSFODNN7EXAMPL{number}"), "x");
        answers.push(gateway.send(&key, list()).await.error().to_owned());
    }
    // The harness has taken the first of four for its token.
    assert_eq!(answers[..3], ["UnrecognizedClientException"; 3]);
    assert_eq!(answers[3..], ["TooManyRequestsException"; 3]);
    gateway.send(&gateway.key, list()).await.ok();
}
