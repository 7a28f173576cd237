//! The accept and refuse matrix of the principal token.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use gumshoe_model::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::clock::FixedClock;

const GRAPH: &str = "arn:aws:detective:us-east-1:123456789012:graph:0123456789abcdef0123456789abcdef";
const OTHER_GRAPH: &str = "arn:aws:detective:us-east-1:123456789012:graph:ffffffffffffffffffffffffffffffff";

struct Fixture {
    signer: TokenSigner,
    public: String,
    verifier: TokenVerifier,
    clock: Arc<FixedClock>,
}

fn fixture() -> Fixture {
    let clock = Arc::new(FixedClock::new(Timestamp::parse("2024-07-30T21:31:10Z").unwrap()));
    let (signer, public) = TokenSigner::generate("gateway");
    let verifier = TokenVerifier::new("graph", [("gateway".to_owned(), public.clone())]).unwrap().with_clock(clock.clone());
    Fixture { signer: signer.with_clock(clock.clone()), public, verifier, clock }
}

fn caller() -> Caller {
    Caller::new("arn:aws:iam::123456789012:user/ana", "123456789012", "detective:SearchGraph").with_graph(GRAPH.parse().unwrap()).with_request_id("r-1")
}

fn claims(now: i64) -> Value {
    json!({"iss": "gateway", "aud": "graph", "sub": "arn:aws:iam::123456789012:user/ana", "iat": now, "exp": now + 60, "account": "123456789012", "action": "detective:SearchGraph"})
}

fn now(fixture: &Fixture) -> i64 {
    fixture.clock.now().0 / 1_000_000
}

fn signed(fixture: &Fixture, header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &fixture.signer.encoding).unwrap()
}

fn eddsa(kid: Option<&str>) -> Header {
    Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) }
}

#[test]
fn accepts_its_own_token_and_gives_back_the_caller() {
    let fixture = fixture();
    let token = fixture.signer.sign("graph", &caller()).unwrap();
    assert_eq!(fixture.verifier.verify(&token).unwrap(), Caller { issuer: "gateway".to_owned(), request_id: String::new(), ..caller() });
    let service = Caller::service("ingest", "write");
    let token = fixture.signer.sign("graph", &service).unwrap();
    assert_eq!(fixture.verifier.verify(&token).unwrap().principal, "service:ingest");
    let by_hand = signed(&fixture, &eddsa(Some("gateway")), &claims(now(&fixture)));
    assert!(fixture.verifier.verify(&by_hand).is_ok(), "the refusals below start from a valid token");
}

#[test]
fn refuses_after_a_minute() {
    let fixture = fixture();
    let token = fixture.signer.sign("graph", &caller()).unwrap();
    fixture.clock.advance(Duration::from_secs(65));
    assert!(fixture.verifier.verify(&token).is_ok());
    fixture.clock.advance(Duration::from_secs(1));
    assert_eq!(fixture.verifier.verify(&token), Err(TokenError::Expired));
}

#[test]
fn refuses_wrong_audience_issuer_key_and_times() {
    let fixture = fixture();
    let now = now(&fixture);
    let refused = |token: &str, why: &str| assert_eq!(fixture.verifier.verify(token), Err(TokenError::Invalid), "{why}");

    refused(&fixture.signer.sign("membership", &caller()).unwrap(), "another audience");
    let (stranger, _) = TokenSigner::generate("stranger");
    refused(&stranger.with_clock(fixture.clock.clone()).sign("graph", &caller()).unwrap(), "an unknown issuer");
    let (impostor, _) = TokenSigner::generate("gateway");
    refused(&impostor.with_clock(fixture.clock.clone()).sign("graph", &caller()).unwrap(), "a known name, another key");

    refused(&signed(&fixture, &eddsa(None), &claims(now)), "no kid");
    refused(&signed(&fixture, &eddsa(Some("ingest")), &claims(now)), "unknown kid");
    for (field, value) in [
        ("iss", json!("ingest")),
        ("iss", Value::Null),
        ("aud", json!("graph2")),
        ("aud", Value::Null),
        ("exp", Value::Null),
        ("exp", json!(now + 3_600)),
        ("exp", json!(now - 1)),
        ("exp", json!(i64::MAX)),
        ("iat", json!(now + 30)),
        ("iat", json!(i64::MIN)),
        ("graph", json!("*")),
    ] {
        let mut changed = claims(now);
        changed[field] = value.clone();
        refused(&signed(&fixture, &eddsa(Some("gateway")), &changed), &format!("{field} = {value}"));
    }
}

#[test]
fn refuses_alg_none_and_hmac_under_the_public_key() {
    let fixture = fixture();
    let payload = URL_SAFE_NO_PAD.encode(claims(now(&fixture)).to_string());
    for algorithm in ["none", "None", "NONE", ""] {
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": "JWT", "kid": "gateway"}).to_string());
        for signature in ["", "AAAA"] {
            assert_eq!(fixture.verifier.verify(&format!("{header}.{payload}.{signature}")), Err(TokenError::Invalid));
        }
        assert_eq!(fixture.verifier.verify(&format!("{header}.{payload}")), Err(TokenError::Invalid));
    }
    let raw = VerifyingKey::from_public_key_pem(&fixture.public).unwrap();
    for secret in [fixture.public.as_bytes(), fixture.public.trim().as_bytes(), raw.as_bytes().as_slice()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { kid: Some("gateway".to_owned()), ..Header::new(algorithm) };
            let token = jsonwebtoken::encode(&header, &claims(now(&fixture)), &EncodingKey::from_secret(secret)).unwrap();
            assert_eq!(fixture.verifier.verify(&token), Err(TokenError::Invalid));
        }
    }
}

#[test]
fn refuses_every_damaged_token() {
    let fixture = fixture();
    let token = fixture.signer.sign("graph", &caller()).unwrap();
    let parts: Vec<_> = token.split('.').collect();
    for (index, part) in parts.iter().enumerate() {
        let bytes = URL_SAFE_NO_PAD.decode(part).unwrap();
        for position in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[position] ^= 1;
            let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            parts[index] = URL_SAFE_NO_PAD.encode(&changed);
            assert_eq!(fixture.verifier.verify(&parts.join(".")), Err(TokenError::Invalid), "part {index} byte {position}");
        }
    }
    for bad in ["", ".", "..", "a.b.c", &format!("{token}.x"), &"A".repeat(1_000_000)] {
        assert_eq!(fixture.verifier.verify(bad), Err(TokenError::Invalid));
    }
}

#[test]
fn keys_survive_storage_and_rotate_without_a_gap() {
    let fixture = fixture();
    let stored = fixture.signer.private_pem();
    let restored = TokenSigner::from_pem("gateway", &stored).unwrap().with_clock(fixture.clock.clone());
    assert!(fixture.verifier.verify(&restored.sign("graph", &caller()).unwrap()).is_ok());
    assert!(!format!("{:?}", fixture.signer).contains("PRIVATE"));

    let (next, next_public) = TokenSigner::generate("gateway");
    let next = next.with_clock(fixture.clock.clone());
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(TokenVerifier::from_directory("graph", directory.path()), Err(KeyError::NoKeys(_))));
    std::fs::write(directory.path().join("gateway.pem"), format!("{}\n{next_public}", fixture.public)).unwrap();
    std::fs::write(directory.path().join("README"), "not a key").unwrap();
    let both = TokenVerifier::from_directory("graph", directory.path()).unwrap().with_clock(fixture.clock.clone());
    for signer in [&fixture.signer, &next] {
        assert!(both.verify(&signer.sign("graph", &caller()).unwrap()).is_ok());
    }
    for bad in ["", "not a key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        std::fs::write(directory.path().join("ingest.pem"), bad).unwrap();
        assert!(matches!(TokenVerifier::from_directory("graph", directory.path()), Err(KeyError::Malformed(issuer)) if issuer == "ingest"));
    }
}

#[test]
fn body_must_name_the_graph_of_the_token() {
    let caller = caller();
    assert_eq!(caller.require_graph(GRAPH).unwrap().to_string(), GRAPH);
    for other in [OTHER_GRAPH, "", "*", &GRAPH[..GRAPH.len() - 1]] {
        assert_eq!(caller.require_graph(other).unwrap_err().code(), tonic::Code::PermissionDenied);
    }
    let without = Caller { graph: None, ..caller };
    assert_eq!(without.require_graph(GRAPH).unwrap_err().code(), tonic::Code::PermissionDenied);
}

#[test]
fn issuer_and_presence_are_required() {
    let caller = Caller { issuer: "ingest".to_owned(), ..caller() };
    assert!(caller.require_issuer(&["gateway", "ingest"]).is_ok());
    assert_eq!(caller.require_issuer(&["gateway"]).unwrap_err().code(), tonic::Code::PermissionDenied);
    assert_eq!(Caller::of(&Request::new(())).unwrap_err().code(), tonic::Code::Unauthenticated);
}

#[test]
fn a_caller_gets_the_same_token_for_ten_seconds_and_nobody_else_does() {
    let fixture = fixture();
    let header = |audience: &str, caller: &Caller| fixture.signer.header(audience, caller).unwrap();
    let first = header("graph", &caller());
    assert!(first.is_sensitive());
    fixture.clock.advance(Duration::from_secs(9));
    assert_eq!(header("graph", &caller().with_request_id("r-2")), first);
    let others = [
        Caller { principal: "arn:aws:iam::123456789012:user/bob".to_owned(), ..caller() },
        Caller { account: "999988887777".to_owned(), ..caller() },
        Caller { action: "detective:ListGraphs".to_owned(), ..caller() },
        Caller { graph: None, ..caller() },
        caller().with_graph(OTHER_GRAPH.parse().unwrap()),
    ];
    for other in others {
        let token = header("graph", &other);
        assert_ne!(token, first);
        let found = fixture.verifier.verify(token.to_str().unwrap()).unwrap();
        assert_eq!(found, Caller { issuer: "gateway".to_owned(), request_id: String::new(), ..other });
    }
    assert_ne!(header("membership", &caller()), first);
    fixture.clock.advance(Duration::from_secs(1));
    let second = header("graph", &caller());
    assert_ne!(second, first);
    // One that was seen before is still refused when its time is over.
    assert!(fixture.verifier.verify(first.to_str().unwrap()).is_ok());
    fixture.clock.advance(Duration::from_secs(56));
    assert_eq!(fixture.verifier.verify(first.to_str().unwrap()), Err(TokenError::Expired));
    assert!(fixture.verifier.verify(second.to_str().unwrap()).is_ok());
}
