//! Only calls with a valid principal token reach a handler.

use std::sync::Arc;

use gumshoe_api::common::v1::ErrorReason;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Caller, FixedClock, TokenSigner, status::reason_of};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tonic::{Code, Request, metadata::MetadataValue};

use crate::echo::{GRAPH, Running, caller, say, say_request, text};

async fn refused(running: &Running, tokens: &[&str]) {
    let mut request = Request::new(text("who"));
    for token in tokens {
        request.metadata_mut().append("gumshoe-principal-token", MetadataValue::try_from(*token).unwrap());
    }
    let status = say_request(running.channel().unsigned(), request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{tokens:?}");
    assert_eq!(reason_of(&status), Some(ErrorReason::Unauthenticated), "{tokens:?}");
}

#[tokio::test]
async fn handlers_see_the_caller_and_never_the_token() {
    let running = Running::start(|server| server).await;
    let channel = running.signed();
    assert_eq!(say(channel.clone(), "who").await.unwrap(), "gateway|arn:aws:iam::123456789012:user/ana|123456789012|detective:SearchGraph");
    assert_eq!(say(channel.clone(), "graph").await.unwrap(), GRAPH);
    assert_eq!(say(channel.clone(), "token").await.unwrap(), "none");

    let without_graph = Caller { graph: None, ..caller() };
    let status = say(channel.clone().with_caller(without_graph), "graph").await.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (Code::PermissionDenied, Some(ErrorReason::AccessDenied)));

    let mut request = Request::new(text("who"));
    request.extensions_mut().insert(Caller::service("ingest", "write"));
    assert_eq!(say_request(channel, request).await.unwrap(), "gateway|service:ingest||write", "a request's own caller wins");
    running.end().await;
}

#[tokio::test]
async fn refuses_missing_doubled_and_damaged_tokens() {
    let running = Running::start(|server| server).await;
    let good = running.signer.sign("test", &caller()).unwrap();
    refused(&running, &[]).await;
    refused(&running, &[&good, &good]).await;
    refused(&running, &[""]).await;
    refused(&running, &["not a token"]).await;
    refused(&running, &[&good[..good.len() - 2]]).await;
    running.end().await;
}

#[tokio::test]
async fn refuses_expired_misdirected_and_foreign_tokens() {
    let running = Running::start(|server| server).await;
    let past = Arc::new(FixedClock::new(Timestamp::parse("2024-07-30T21:31:10Z").unwrap()));
    let expired = TokenSigner::clone(&running.signer).with_clock(past).sign("test", &caller()).unwrap();
    refused(&running, &[&expired]).await;
    refused(&running, &[&running.signer.sign("graph", &caller()).unwrap()]).await;
    let (stranger, _) = TokenSigner::generate("stranger");
    refused(&running, &[&stranger.sign("test", &caller()).unwrap()]).await;
    let (impostor, _) = TokenSigner::generate("gateway");
    refused(&running, &[&impostor.sign("test", &caller()).unwrap()]).await;
    running.end().await;
}

#[tokio::test]
async fn refuses_alg_none_and_hmac_under_the_public_key() {
    let running = Running::start(|server| server).await;
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({"iss": "gateway", "aud": "test", "sub": "x", "iat": now, "exp": now + 60, "jti": "r", "account": "", "action": "x"});
    let header = Header { kid: Some("gateway".to_owned()), ..Header::new(Algorithm::HS256) };
    let confused = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(running.public.as_bytes())).unwrap();
    refused(&running, &[&confused]).await;
    let payload = confused.split('.').nth(1).unwrap();
    // {"alg":"none","kid":"gateway"}
    refused(&running, &[&format!("eyJhbGciOiJub25lIiwia2lkIjoiZ2F0ZXdheSJ9.{payload}.")]).await;
    running.end().await;
}

#[tokio::test]
async fn unknown_methods_need_a_token_too() {
    let running = Running::start(|server| server).await;
    let call = async |signed: bool| {
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/gumshoe.nothing.v1.Nothing/Get");
        let codec = tonic_prost::ProstCodec::<crate::echo::Text, crate::echo::Text>::default();
        if signed {
            let mut client = tonic::client::Grpc::new(running.signed());
            client.ready().await.unwrap();
            client.unary(Request::new(text("x")), path, codec).await.unwrap_err().code()
        } else {
            let mut client = tonic::client::Grpc::new(running.channel().unsigned());
            client.ready().await.unwrap();
            client.unary(Request::new(text("x")), path, codec).await.unwrap_err().code()
        }
    };
    assert_eq!(call(false).await, Code::Unauthenticated);
    assert_eq!(call(true).await, Code::Unimplemented);
    running.end().await;
}
