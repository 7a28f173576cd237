//! Bearer tokens, good and bad.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gumshoe_api::common::v1::ErrorReason;
use gumshoe_gateway::config;
use gumshoe_runtime::TokenSigner;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet},
};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::{Code, Request, Status};
use url::Url;

use crate::harness::{ACCOUNT, Gateway, Options, refused};

const P256: &[u8] = include_bytes!("../keys/p256.pem");
const RSA: &[u8] = include_bytes!("../keys/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("../keys/rsa.pub.pem");
const IDP: &str = "https://idp.example.com";

fn now() -> i64 {
    i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap()
}

/// The claims of membership's tokens, with changes; a null removes.
fn claims(changes: Value) -> Value {
    let mut claims = json!({
        "iss": "gumshoe", "aud": "gumshoe", "sub": format!("arn:aws:iam::{ACCOUNT}:user/administrator"), "account": ACCOUNT,
        "iat": now(), "exp": now() + 600,
    });
    let map = claims.as_object_mut().unwrap();
    map.extend(changes.as_object().unwrap().clone());
    map.retain(|_, value| !value.is_null());
    claims
}

fn ed25519(signer: &TokenSigner) -> EncodingKey {
    EncodingKey::from_ed_pem(signer.private_pem().expose_secret().as_bytes()).unwrap()
}

fn sign(algorithm: Algorithm, kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, claims, key).unwrap()
}

fn jwk(kid: &str, algorithm: Algorithm, key: &EncodingKey) -> Jwk {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(kid.to_owned());
    jwk
}

fn key_set(keys: Vec<Jwk>) -> String {
    serde_json::to_string(&JwkSet { keys }).unwrap()
}

fn idp(keys: config::Keys) -> config::Issuer {
    config::Issuer { issuer: IDP.to_owned(), audience: "gumshoe-client".to_owned(), keys, subject_claim: "name".to_owned(), account: Some(ACCOUNT.to_owned()) }
}

fn keys_at(jwks_url: Option<Url>, jwks_file: Option<PathBuf>, refetch_seconds: u64) -> config::Keys {
    config::Keys { public_key: None, jwks_url, jwks_file, refetch_seconds, ..config::Keys::public_key(PathBuf::new()) }
}

fn idp_claims(name: &str) -> Value {
    json!({"iss": IDP, "aud": ["gumshoe-client", "another"], "sub": "0815", "name": name, "exp": now() + 600})
}

async fn call(gateway: &Gateway, token: &str) -> Result<(), Status> {
    gateway.investigation().create_verdict(gateway.create_verdict(token, &gateway.graph)).await.map(|_| ())
}

#[track_caller]
fn unauthenticated(outcome: Result<(), Status>) -> String {
    refused(outcome, Code::Unauthenticated, ErrorReason::Unauthenticated)
}

#[tokio::test]
async fn only_whole_and_timely_tokens_of_trusted_issuers_are_accepted() {
    let gateway = Gateway::start().await;
    let key = ed25519(&gateway.bearer);
    let good = |changes| sign(Algorithm::EdDSA, None, &claims(changes), &key);
    call(&gateway, &good(json!({}))).await.unwrap();
    call(&gateway, &good(json!({"exp": now() - 10}))).await.unwrap();
    call(&gateway, &good(json!({"aud": ["x", "gumshoe"], "nbf": now() + 10}))).await.unwrap();

    assert_eq!(unauthenticated(call(&gateway, &good(json!({"exp": now() - 100}))).await), "the bearer token has expired");
    let stranger = TokenSigner::generate("membership").0;
    let bad = [
        ("not yet", good(json!({"nbf": now() + 100}))),
        ("no expiry", good(json!({"exp": null}))),
        ("expiry is a text", good(json!({"exp": "tomorrow"}))),
        ("wrong audience", good(json!({"aud": "someone"}))),
        ("no audience", good(json!({"aud": null}))),
        ("wrong issuer", good(json!({"iss": "someone"}))),
        ("no issuer", good(json!({"iss": null}))),
        ("no subject", good(json!({"sub": null}))),
        ("root user", good(json!({"sub": format!("arn:aws:iam::{ACCOUNT}:root")}))),
        ("no ARN", good(json!({"sub": "administrator"}))),
        ("another's key", sign(Algorithm::EdDSA, None, &claims(json!({})), &ed25519(&stranger))),
        ("unknown key id", sign(Algorithm::EdDSA, Some("unknown"), &claims(json!({})), &key)),
        ("no signature", good(json!({})).rsplit_once('.').unwrap().0.to_owned() + "."),
        ("garbage", "a.b.c".to_owned()),
        ("too long", "a".repeat(9_000)),
    ];
    for (name, token) in bad {
        let text = unauthenticated(call(&gateway, &token).await);
        assert_eq!(text, "the bearer token is not valid", "{name}");
    }
    let token = good(json!({}));
    for index in [0, token.len() / 2, token.len() - 2] {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        unauthenticated(call(&gateway, &String::from_utf8(changed).unwrap()).await);
    }
    let mut request = Request::new(gateway.create_verdict("", &gateway.graph).into_inner());
    let text = unauthenticated(gateway.investigation().create_verdict(request).await.map(|_| ()));
    assert_eq!(text, "a bearer token is required");
    request = gateway.create_verdict(&token, &gateway.graph);
    request.metadata_mut().append("authorization", format!("Bearer {token}").parse().unwrap());
    unauthenticated(gateway.investigation().create_verdict(request).await.map(|_| ()));
}

#[tokio::test]
async fn the_key_decides_the_algorithm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let (p256, rsa) = (EncodingKey::from_ec_pem(P256).unwrap(), EncodingKey::from_rsa_pem(RSA).unwrap());
    std::fs::write(&path, key_set(vec![jwk("p256", Algorithm::ES256, &p256), jwk("rsa", Algorithm::RS256, &rsa)])).unwrap();
    let gateway = Gateway::start_with(Options { issuers: vec![idp(keys_at(None, Some(path), 10))], ..Options::default() }).await;
    gateway.principal("user/ann", &[]).await;
    gateway.put_policy("user/ann", "p", r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#).await;
    let claims = idp_claims("ann");

    call(&gateway, &sign(Algorithm::ES256, Some("p256"), &claims, &p256)).await.unwrap();
    call(&gateway, &sign(Algorithm::RS256, Some("rsa"), &claims, &rsa)).await.unwrap();
    call(&gateway, &sign(Algorithm::RS256, None, &claims, &rsa)).await.unwrap();
    // The same keys under other names.
    unauthenticated(call(&gateway, &sign(Algorithm::RS256, Some("p256"), &claims, &rsa)).await);
    unauthenticated(call(&gateway, &sign(Algorithm::RS512, Some("rsa"), &claims, &rsa)).await);
    unauthenticated(call(&gateway, &sign(Algorithm::PS256, Some("rsa"), &claims, &rsa)).await);
    // The public key as a secret, in each form it is published in.
    let modulus = serde_json::to_value(jwk("rsa", Algorithm::RS256, &rsa)).unwrap()["n"].as_str().unwrap().to_owned();
    for secret in [RSA_PUBLIC, modulus.as_bytes(), &URL_SAFE_NO_PAD.decode(&modulus).unwrap()] {
        for kid in [Some("rsa"), None] {
            unauthenticated(call(&gateway, &sign(Algorithm::HS256, kid, &claims, &EncodingKey::from_secret(secret))).await);
        }
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for algorithm in ["none", "None", ""] {
        let unsigned = format!("{}.{}.", part(&json!({"alg": algorithm, "typ": "JWT", "kid": "rsa"})), part(&claims));
        unauthenticated(call(&gateway, &unsigned).await);
    }
    // A header that brings its own key, or says what must be understood.
    let own = TokenSigner::generate("x").0;
    let header = Header { kid: Some("rsa".to_owned()), jwk: Some(jwk("rsa", Algorithm::EdDSA, &ed25519(&own))), ..Header::new(Algorithm::EdDSA) };
    unauthenticated(call(&gateway, &jsonwebtoken::encode(&header, &claims, &ed25519(&own)).unwrap()).await);
    let header = Header { kid: Some("rsa".to_owned()), crit: Some(vec!["exp".to_owned()]), ..Header::new(Algorithm::RS256) };
    unauthenticated(call(&gateway, &jsonwebtoken::encode(&header, &claims, &rsa).unwrap()).await);
    // An issuer that is held to an account names users of it, and nothing else.
    for name in ["nobody", "../role/Admin", "ann/x", "arn:aws:iam::222222222222:user/ann", ""] {
        unauthenticated(call(&gateway, &sign(Algorithm::RS256, Some("rsa"), &idp_claims(name), &rsa)).await);
    }
}

/// A server of one document over HTTP/1.1 that counts how often it is asked.
struct KeyServer {
    url: Url,
    body: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    async fn start(body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/jwks.json", listener.local_addr().unwrap())).unwrap();
        let (body, asked) = (Arc::new(Mutex::new(body)), Arc::new(AtomicUsize::new(0)));
        let (content, count) = (body.clone(), asked.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { break };
                    request.push(byte);
                }
                count.fetch_add(1, Ordering::SeqCst);
                let content = content.lock().unwrap().clone();
                let (status, length) = (if content.is_empty() { "500 Oops" } else { "200 OK" }, content.len());
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{content}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, body, asked }
    }
}

#[tokio::test]
async fn keys_can_be_changed_for_others_while_running() {
    let (old, new) = (TokenSigner::generate("a").0, TokenSigner::generate("b").0);
    let server = KeyServer::start(key_set(vec![jwk("old", Algorithm::EdDSA, &ed25519(&old))])).await;
    let gateway = Gateway::start_with(Options { issuers: vec![idp(keys_at(Some(server.url.clone()), None, 0))], ..Options::default() }).await;
    gateway.principal("user/ann", &[r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#.to_owned()]).await;
    let with = |kid: &str, signer: &TokenSigner, expiry: i64| {
        let mut claims = idp_claims("ann");
        claims["exp"] = (now() + expiry).into();
        sign(Algorithm::EdDSA, Some(kid), &claims, &ed25519(signer))
    };
    call(&gateway, &with("old", &old, 600)).await.unwrap();
    unauthenticated(call(&gateway, &with("new", &new, 600)).await);
    *server.body.lock().unwrap() = key_set(vec![jwk("new", Algorithm::EdDSA, &ed25519(&new))]);
    call(&gateway, &with("new", &new, 600)).await.unwrap();
    unauthenticated(call(&gateway, &with("old", &old, 601)).await);
    // The set cannot be read any more: the keys that are known go on.
    *server.body.lock().unwrap() = String::new();
    unauthenticated(call(&gateway, &with("newer", &new, 600)).await);
    call(&gateway, &with("new", &new, 602)).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_unknown_key_ids_asks_for_keys_once() {
    let key = TokenSigner::generate("a").0;
    let server = KeyServer::start(key_set(vec![jwk("known", Algorithm::EdDSA, &ed25519(&key))])).await;
    let gateway = Gateway::start_with(Options { issuers: vec![idp(keys_at(Some(server.url.clone()), None, 3_600))], ..Options::default() }).await;
    let before = server.asked.load(Ordering::SeqCst);
    let calls = (0..50).map(|number| {
        let token = sign(Algorithm::EdDSA, Some(&format!("unknown-{number}")), &idp_claims("ann"), &ed25519(&key));
        let gateway = &gateway;
        async move { unauthenticated(call(gateway, &token).await) }
    });
    futures::future::join_all(calls).await;
    assert_eq!((before, server.asked.load(Ordering::SeqCst)), (1, 1), "read at start, and not again within the hour");
}
