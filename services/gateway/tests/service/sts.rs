//! The small STS, and temporary credentials at the Amazon Detective API.

use gumshoe_gateway::config;
use gumshoe_runtime::TokenSigner;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::{
    ACCOUNT,
    harness::{Gateway, Options},
    policy,
    signer::{Answer, Call, Key},
    statement,
};

const IDP: &str = "https://login.example.com/realm";

/// The text of an element of an answer.
fn text<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let (_, rest) = answer.text.split_once(&format!("<{name}>")).unwrap();
    rest.split_once("</").unwrap().0
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) -> String {
    assert_eq!((answer.status, text(answer, "Code"), answer.header("content-type")), (status, code, "text/xml"), "{}", answer.text);
    assert_eq!(text(answer, "RequestId"), answer.header("x-amzn-requestid"));
    text(answer, "Message").to_owned()
}

fn key_of(answer: &Answer) -> Key {
    assert_eq!(answer.status, 200, "{}", answer.text);
    Key { token: text(answer, "SessionToken").to_owned(), ..Key::new(text(answer, "AccessKeyId"), text(answer, "SecretAccessKey")) }
}

fn trust(action: &str, principal: &str, condition: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},"Action":"{action}"{condition}}}}}"#)
}

fn assume<'a>(role: &'a str, more: &[(&'a str, &'a str)]) -> Call {
    let mut parameters = vec![("Action", "AssumeRole"), ("RoleArn", role), ("RoleSessionName", "ann@example.com")];
    parameters.extend(more);
    Call::sts(&parameters)
}

#[tokio::test]
async fn a_caller_is_told_who_it_is_without_permission() {
    let gateway = Gateway::start().await;
    let nobody = gateway.user("user/nobody", &[]).await;
    let told = gateway.send(&nobody, Call::sts(&[("Action", "GetCallerIdentity")])).await;
    assert_eq!((told.status, told.header("content-type")), (200, "text/xml"));
    assert!(
        told.text.starts_with(r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>"#),
        "{}",
        told.text
    );
    assert_eq!((text(&told, "Arn"), text(&told, "Account")), (format!("arn:aws:iam::{ACCOUNT}:user/nobody").as_str(), ACCOUNT));
    assert!(text(&told, "UserId").starts_with("AIDA"));
    // In any region, and over HTTP/2.
    let call = Call { region: "sa-east-1", http2: true, ..Call::sts(&[("Action", "GetCallerIdentity")]) };
    assert_eq!(gateway.send(&nobody, call).await.status, 200);
}

#[tokio::test]
async fn a_role_is_assumed_and_its_policies_hold() {
    let gateway = Gateway::start().await;
    let ann = gateway.user("user/ann", &[policy(&[statement("Allow", "sts:AssumeRole", "*")])]).await;
    let role = gateway.create_principal("role/Reader", &trust("sts:AssumeRole", &format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:user/ann"}}"#), "")).await;
    gateway.put_policy("role/Reader", "p", &policy(&[statement("Allow", "detective:List*", "*")])).await;

    let answer = gateway.send(&ann, assume(&role, &[("DurationSeconds", "900")])).await;
    let session = format!("arn:aws:sts::{ACCOUNT}:assumed-role/Reader/ann@example.com");
    let key = key_of(&answer);
    assert_eq!(text(&answer, "Arn"), session);
    assert!(key.id.starts_with("ASIA") && text(&answer, "AssumedRoleId").ends_with(":ann@example.com") && text(&answer, "Expiration").ends_with('Z'));
    let told = gateway.send(&key, Call::sts(&[("Action", "GetCallerIdentity")])).await;
    assert_eq!(text(&told, "Arn"), session);

    let listed = gateway.send(&key, Call::post("/graphs/list", json!({}))).await.ok();
    assert_eq!(listed["GraphList"][0]["Arn"], json!(gateway.graph));
    let message = gateway.send(&key, Call::post("/graph/removal", json!({"GraphArn": gateway.graph}))).await.is(403, "AccessDeniedException");
    assert!(message.starts_with(&format!("User: {session} is not authorized")), "{message}");

    // Narrowed by a policy of its own, and never widened.
    let narrow = policy(&[statement("Allow", "detective:ListGraphs", "*"), statement("Allow", "detective:DeleteGraph", "*")]);
    let key = key_of(&gateway.send(&ann, assume(&role, &[("Policy", &narrow)])).await);
    gateway.send(&key, Call::post("/graphs/list", json!({}))).await.ok();
    let message = gateway.send(&key, Call::post("/invitations/list", json!({}))).await.is(403, "AccessDeniedException");
    assert!(message.ends_with("because no session policy allows the detective:ListInvitations action"), "{message}");
    gateway.send(&key, Call::post("/graph/removal", json!({"GraphArn": gateway.graph}))).await.is(403, "AccessDeniedException");

    // The token belongs to its key.
    for wrong in [Key { token: String::new(), ..key.clone() }, Key { token: "x".to_owned(), ..key.clone() }] {
        gateway.send(&wrong, Call::post("/graphs/list", json!({}))).await.is(403, "UnrecognizedClientException");
    }
    gateway.delete_principal("role/Reader").await;
    gateway.send(&key, Call::post("/graphs/list", json!({}))).await.is(403, "UnrecognizedClientException");
}

#[tokio::test]
async fn who_is_not_trusted_or_allowed_assumes_nothing() {
    let gateway = Gateway::start().await;
    let own = format!(r#"{{"AWS":"{ACCOUNT}"}}"#);
    let role = gateway.create_principal("role/Reader", &trust("sts:AssumeRole", &own, "")).await;
    let closed = gateway.create_principal("role/Closed", "").await;
    let ann = gateway
        .user("user/ann", &[policy(&[statement("Allow", "sts:AssumeRole", "*"), statement("Deny", "sts:*", &format!("arn:aws:iam::{ACCOUNT}:role/Denied"))])])
        .await;
    let denied = gateway.create_principal("role/Denied", &trust("sts:AssumeRole", &own, "")).await;
    let timid = gateway.user("user/timid", &[]).await;
    key_of(&gateway.send(&ann, assume(&role, &[])).await);
    let missing = format!("arn:aws:iam::{ACCOUNT}:role/Missing");
    let texts = [&closed, &missing].map(|role| (role, gateway.send(&ann, assume(role, &[]))));
    for (role, answer) in texts {
        let message = refused(&answer.await, 403, "AccessDenied");
        assert_eq!(message, format!("User: arn:aws:iam::{ACCOUNT}:user/ann is not authorized to perform: sts:AssumeRole on resource: {role}"));
    }
    assert!(refused(&gateway.send(&ann, assume(&denied, &[])).await, 403, "AccessDenied").contains("explicit deny"));
    assert!(refused(&gateway.send(&timid, assume(&role, &[])).await, 403, "AccessDenied").contains("no identity-based policy allows"));

    for (role, more, code, words) in [
        (role.as_str(), &[("DurationSeconds", "899")][..], "ValidationError", "durationSeconds"),
        ("arn:aws:iam::1:role/x", &[], "ValidationError", "roleArn"),
        (&role, &[("RoleSessionName", "a b")], "ValidationError", "roleSessionName"),
        (&role, &[("Policy", "{")], "MalformedPolicyDocument", ""),
    ] {
        let message = refused(&gateway.send(&ann, assume(role, more)).await, 400, code);
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn errors_are_in_xml_and_in_the_words_of_sts() {
    let gateway = Gateway::start().await;
    let who = || Call::sts(&[("Action", "GetCallerIdentity")]);
    refused(&gateway.send(&Key::new(&gateway.key.id, "wrong"), who()).await, 403, "SignatureDoesNotMatch");
    refused(&gateway.send(&Key::new("AKIAIOSFODNN7EXAMPLE", "x"), who()).await, 403, "InvalidClientTokenId");
    refused(&gateway.send(&gateway.key, Call { service: "detective", ..who() }).await, 403, "SignatureDoesNotMatch");
    refused(&gateway.send(&gateway.key, Call::sts(&[("Action", "GetSessionToken")])).await, 400, "InvalidAction");
    let form = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    refused(&gateway.send_with(who(), form.clone()).await, 403, "MissingAuthenticationToken");
    let bearing = [form, vec![("authorization".to_owned(), format!("Bearer {}", gateway.administrator))]].concat();
    refused(&gateway.send_with(who(), bearing).await, 403, "MissingAuthenticationToken");
}

fn token(signer: &TokenSigner, changes: Value) -> String {
    let now = i64::try_from(jsonwebtoken::get_current_timestamp()).unwrap();
    let mut claims = json!({"iss": IDP, "aud": "gumshoe-client", "sub": "alice", "exp": now + 600});
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), &claims, &EncodingKey::from_ed_pem(signer.private_pem().expose_secret().as_bytes()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_web_identity_assumes_a_role_without_a_signature() {
    let directory = tempfile::tempdir().unwrap();
    let (signer, public) = TokenSigner::generate("idp");
    std::fs::write(directory.path().join("idp.pem"), public).unwrap();
    let issuer = config::Issuer {
        issuer: IDP.to_owned(),
        audience: "gumshoe-client".to_owned(),
        keys: config::Keys::public_key(directory.path().join("idp.pem")),
        subject_claim: "sub".to_owned(),
        account: Some(ACCOUNT.to_owned()),
    };
    let gateway = Gateway::start_with(Options { issuers: vec![issuer], ..Options::default() }).await;
    let condition = r#","Condition":{"StringEquals":{"login.example.com/realm:sub":"alice","login.example.com/realm:aud":"gumshoe-client"}}"#;
    let role = gateway.create_principal("role/Web", &trust("sts:AssumeRoleWithWebIdentity", r#"{"Federated":"login.example.com/realm"}"#, condition)).await;
    gateway.put_policy("role/Web", "p", &policy(&[statement("Allow", "detective:ListGraphs", "*")])).await;
    let form = vec![("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned())];
    let call = async |token: &str| {
        let parameters = [("Action", "AssumeRoleWithWebIdentity"), ("RoleArn", role.as_str()), ("RoleSessionName", "alice"), ("WebIdentityToken", token)];
        gateway.send_with(Call::sts(&parameters), form.clone()).await
    };
    let answer = call(&token(&signer, json!({}))).await;
    let key = key_of(&answer);
    assert_eq!(
        (text(&answer, "SubjectFromWebIdentityToken"), text(&answer, "Audience"), text(&answer, "Provider")),
        ("alice", "gumshoe-client", "login.example.com/realm")
    );
    gateway.send(&key, Call::post("/graphs/list", json!({}))).await.ok();
    gateway.send(&key, Call::post("/invitations/list", json!({}))).await.is(403, "AccessDeniedException");

    refused(&call(&token(&signer, json!({"sub": "mallory"}))).await, 403, "AccessDenied");
    refused(&call(&token(&signer, json!({"exp": 1_700_000_000}))).await, 400, "ExpiredTokenException");
    let stranger = TokenSigner::generate("idp").0;
    for bad in [
        token(&signer, json!({"aud": "another"})),
        token(&signer, json!({"iss": "https://elsewhere.example.com"})),
        token(&stranger, json!({})),
        "no token".to_owned(),
    ] {
        refused(&call(&bad).await, 400, "InvalidIdentityToken");
    }
}
