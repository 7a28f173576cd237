//! Keys that requests are signed with, and roles that are assumed.

use std::time::Duration;

use gumshoe_api::{
    common::v1::ErrorReason,
    membership::v1::{self as api, credential_service_client::CredentialServiceClient},
};
use gumshoe_membership::{
    secret::{Keyring, signing_key},
    session::Session,
};
use gumshoe_runtime::{Clock as _, Configuration as _, SystemClock};
use tonic::{Code, Response, Status};

use crate::harness::{ACCOUNT, ALLOW, OTHER, SECRET_KEY, Service, refused};

const ANN: &str = "arn:aws:iam::111111111111:user/ann";
const NEW_SECRET_KEY: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

fn derived(secret: &str) -> Vec<u8> {
    signing_key(&secret.to_owned().into(), "20240630", "us-east-1", "detective").to_vec()
}

fn trust(principal: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},"Action":["sts:AssumeRole","sts:AssumeRoleWithWebIdentity"]}}}}"#
    )
}

fn assume_request(role: &str) -> api::AssumeRoleRequest {
    api::AssumeRoleRequest { role_arn: role.to_owned(), role_session_name: "work".to_owned(), duration: None, policy: String::new() }
}

async fn assume(service: &Service, caller: &str, request: api::AssumeRoleRequest) -> Result<api::AssumeRoleResponse, Status> {
    let account = caller.split(':').nth(4).unwrap();
    service.credentials_of(caller, account, "sts:AssumeRole").assume_role(request).await.map(Response::into_inner)
}

#[track_caller]
fn unauthenticated<T: std::fmt::Debug>(outcome: Result<T, Status>, text: &str) {
    assert_eq!(refused(outcome, Code::Unauthenticated, ErrorReason::Unauthenticated), text);
}

#[tokio::test]
async fn an_access_key_signs() {
    let service = Service::with_accounts().await;
    let principal = service.create_principal(ACCOUNT, "user/ann").await.unwrap();
    let (id, secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    let key = service.signing_key(&id, "").await.unwrap();
    assert_eq!((key.signing_key, key.principal_arn.as_str(), key.account_id.as_str()), (derived(&secret), ANN, ACCOUNT));
    assert_eq!((key.session_arn.as_str(), key.issue_time, key.session_policy.as_str()), ("", None, ""));
    let request = api::ListAccessKeysRequest { principal_arn: principal };
    let listed = service.principals(ACCOUNT, "gumshoe:ListAccessKeys").list_access_keys(request).await.unwrap().into_inner().access_keys;
    assert!(listed[0].last_used_time.is_some());

    unauthenticated(service.signing_key("AKIAAAAAAAAAAAAAAAAA", "").await, "unknown access key");
    unauthenticated(service.signing_key("x", "").await, "unknown access key");
    unauthenticated(service.signing_key(&id, "x").await, "invalid session token");
    let update = api::UpdateAccessKeyRequest { access_key_id: id.clone(), active: false };
    service.principals(ACCOUNT, "gumshoe:UpdateAccessKey").update_access_key(update).await.unwrap();
    unauthenticated(service.signing_key(&id, "").await, "disabled access key");
    let good = api::GetSigningKeyRequest {
        access_key_id: id,
        date: "20240630".to_owned(),
        region: "us-east-1".to_owned(),
        service: "detective".to_owned(),
        session_token: String::new(),
    };
    for bad in [
        api::GetSigningKeyRequest { date: "2024-06-30".to_owned(), ..good.clone() },
        api::GetSigningKeyRequest { region: String::new(), ..good.clone() },
        api::GetSigningKeyRequest { service: "a/b".to_owned(), ..good.clone() },
    ] {
        refused(service.credentials().get_signing_key(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    refused(CredentialServiceClient::new(service.by_ingest()).get_signing_key(good).await, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn secrets_survive_a_change_of_the_envelope_key() {
    let service = Service::with(|config| config.secret_key = None).await;
    service.register_all().await;
    let principal = service.create_principal(ACCOUNT, "user/ann").await.unwrap();
    let (old, old_secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    unauthenticated(service.signing_key(&old, "").await, "the access key cannot sign requests");
    let service = service.restart(|config| config.secret_key = Some(SECRET_KEY.to_owned().into())).await;
    unauthenticated(service.signing_key(&old, "").await, "the access key cannot sign requests");
    assert!(service.token(&old, &old_secret, None).await.is_ok(), "but it still gets tokens");
    let (id, secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    assert_eq!(service.signing_key(&id, "").await.unwrap().signing_key, derived(&secret));

    // From a file, with the old key beside it; then the old key is not needed any more.
    let file = service.directory.path().join("secret.key");
    std::fs::write(&file, format!("{NEW_SECRET_KEY}\n")).unwrap();
    let service = service
        .restart(|config| {
            (config.secret_key, config.secret_key_file) = (None, Some(file));
            config.previous_secret_keys = vec![SECRET_KEY.to_owned().into()];
        })
        .await;
    assert_eq!(service.signing_key(&id, "").await.unwrap().signing_key, derived(&secret));
    let service = service.restart(|config| config.previous_secret_keys.clear()).await;
    assert_eq!(service.signing_key(&id, "").await.unwrap().signing_key, derived(&secret));
    // A key that was never there opens nothing.
    let service = service.restart(|config| (config.secret_key, config.secret_key_file) = (Some(SECRET_KEY.to_owned().into()), None)).await;
    unauthenticated(service.signing_key(&id, "").await, "the access key cannot sign requests");
}

#[tokio::test]
async fn envelope_keys_are_checked_and_not_shown() {
    let service = Service::start().await;
    let shown =
        gumshoe_runtime::config::show(&gumshoe_membership::Config { previous_secret_keys: vec![NEW_SECRET_KEY.to_owned().into()], ..service.config.clone() })
            .unwrap();
    assert!(!shown.contains(SECRET_KEY) && !shown.contains(NEW_SECRET_KEY) && shown.contains("previous_secret_keys"), "{shown}");
    type Change = fn(&mut gumshoe_membership::Config);
    let changes: [(Change, &str); 7] = [
        (|config| config.secret_key = Some("short".to_owned().into()), "`secret_key`"),
        (|config| config.secret_key_file = Some("x".into()), "`secret_key_file`"),
        (|config| config.previous_secret_keys = vec!["short".to_owned().into()], "`previous_secret_keys`"),
        (
            |config| {
                config.previous_secret_keys = vec![NEW_SECRET_KEY.to_owned().into()];
                config.secret_key = None;
            },
            "`previous_secret_keys`",
        ),
        (|config| config.trust.signing_key = None, "`trust.signing_key`"),
        (|config| config.prices.tiers.clear(), "`prices.tiers`"),
        (|config| config.prices.currency.clear(), "`prices.currency`"),
    ];
    for (change, key) in changes {
        let mut config = service.config.clone();
        change(&mut config);
        let refused = config.validate().unwrap_err().to_string();
        assert!(refused.contains(key) && !refused.contains("short"), "{refused}");
    }
    service.config.validate().unwrap();
}

#[tokio::test]
async fn a_role_is_assumed_by_whom_it_trusts() {
    let service = Service::with_accounts().await;
    let role = service.create_role(OTHER, "role/Analyst", &trust(&format!(r#"{{"AWS":"{ANN}"}}"#))).await.unwrap();
    let made = assume(&service, ANN, assume_request(&role)).await.unwrap();
    assert_eq!(made.session_arn, "arn:aws:sts::222222222222:assumed-role/Analyst/work");
    let (role_id, name) = made.assumed_role_id.split_once(':').unwrap();
    assert!(role_id.starts_with("AROA") && name == "work", "{made:?}");
    let credentials = made.credentials.unwrap();
    assert!(credentials.access_key_id.starts_with("ASIA") && credentials.access_key_id.len() == 20 && credentials.secret_access_key.len() == 40);
    let key = service.signing_key(&credentials.access_key_id, &credentials.session_token).await.unwrap();
    assert_eq!((key.signing_key, key.principal_arn.as_str(), key.account_id.as_str()), (derived(&credentials.secret_access_key), role.as_str(), OTHER));
    assert_eq!((key.session_arn, key.user_id, key.expire_time), (made.session_arn.clone(), made.assumed_role_id.clone(), credentials.expire_time));
    assert_eq!(credentials.expire_time.unwrap().seconds - key.issue_time.unwrap().seconds, 3_600);

    unauthenticated(service.signing_key(&credentials.access_key_id, "").await, "missing session token");
    unauthenticated(service.signing_key("ASIAAAAAAAAAAAAAAAAA", &credentials.session_token).await, "invalid session token");
    unauthenticated(service.signing_key(&credentials.access_key_id, "AAAA").await, "invalid session token");
    // With the role its sessions end, even if another of its name is made.
    service.delete_principal(OTHER, &role).await;
    unauthenticated(service.signing_key(&credentials.access_key_id, &credentials.session_token).await, "invalid session token");
    service.create_role(OTHER, "role/Analyst", "").await.unwrap();
    unauthenticated(service.signing_key(&credentials.access_key_id, &credentials.session_token).await, "invalid session token");
}

#[tokio::test]
async fn roles_that_do_not_trust_look_like_roles_that_are_not_there() {
    let service = Service::with_accounts().await;
    let untrusting = service.create_role(ACCOUNT, "role/Closed", "").await.unwrap();
    let other = service.create_role(ACCOUNT, "role/Other", &trust(r#"{"AWS":"222222222222"}"#)).await.unwrap();
    for role in [untrusting.as_str(), other.as_str(), "arn:aws:iam::111111111111:role/Nobody"] {
        let text = refused(assume(&service, ANN, assume_request(role)).await, Code::PermissionDenied, ErrorReason::AccessDenied);
        assert_eq!(text, "the trust policy of the role does not allow to assume it");
    }
    let request = || assume_request(&other);
    let caller = "arn:aws:iam::222222222222:user/bob";
    assert!(assume(&service, caller, request()).await.is_ok());
    for bad in [
        api::AssumeRoleRequest { role_arn: ANN.to_owned(), ..request() },
        api::AssumeRoleRequest { role_arn: "x".to_owned(), ..request() },
        api::AssumeRoleRequest { role_session_name: "a".to_owned(), ..request() },
        api::AssumeRoleRequest { role_session_name: "a b".to_owned(), ..request() },
        api::AssumeRoleRequest { duration: Some(prost_types::Duration { seconds: 899, nanos: 0 }), ..request() },
        api::AssumeRoleRequest { duration: Some(prost_types::Duration { seconds: 12 * 3_600 + 1, nanos: 0 }), ..request() },
        api::AssumeRoleRequest { policy: "{".to_owned(), ..request() },
        api::AssumeRoleRequest { policy: format!("{ALLOW}{}", " ".repeat(2_048)), ..request() },
    ] {
        refused(assume(&service, caller, bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let narrowed = api::AssumeRoleRequest { policy: ALLOW.to_owned(), duration: Some(prost_types::Duration { seconds: 900, nanos: 0 }), ..request() };
    let credentials = assume(&service, caller, narrowed).await.unwrap().credentials.unwrap();
    let key = service.signing_key(&credentials.access_key_id, &credentials.session_token).await.unwrap();
    assert_eq!(key.session_policy, ALLOW);
    assert_eq!(key.expire_time.unwrap().seconds - key.issue_time.unwrap().seconds, 900);
    let mut wrong = service.credentials_of(caller, OTHER, "detective:ListGraphs");
    refused(wrong.assume_role(request()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    for bad in [("user/ann", trust(r#"{"AWS":"*"}"#)), ("role/Bad", "{".to_owned()), ("role/Bad", ALLOW.to_owned())] {
        refused(service.create_role(ACCOUNT, bad.0, &bad.1).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
}

#[tokio::test]
async fn a_role_is_assumed_by_web_identities_it_trusts() {
    let service = Service::with_accounts().await;
    let condition = r#","Condition":{"StringEquals":{"id.example.com:sub":"ann","id.example.com:aud":"gumshoe"}}"#;
    let trust = trust(r#"{"Federated":"id.example.com"}"#).replace("]}}", &format!("]{condition}}}}}"));
    let role = service.create_role(ACCOUNT, "role/Web", &trust).await.unwrap();
    let request = |provider: &str, subject: &str, audience: &str| api::AssumeRoleWithWebIdentityRequest {
        role_arn: role.clone(),
        role_session_name: "work".to_owned(),
        provider: provider.to_owned(),
        subject: subject.to_owned(),
        audience: audience.to_owned(),
        ..Default::default()
    };
    let made = service.credentials().assume_role_with_web_identity(request("id.example.com", "ann", "gumshoe")).await.unwrap().into_inner();
    assert_eq!(made.session_arn, "arn:aws:sts::111111111111:assumed-role/Web/work");
    let credentials = made.credentials.unwrap();
    assert_eq!(service.signing_key(&credentials.access_key_id, &credentials.session_token).await.unwrap().principal_arn, role);
    for (provider, subject, audience) in [("evil.example.com", "ann", "gumshoe"), ("id.example.com", "bob", "gumshoe"), ("id.example.com", "ann", "other")] {
        let outcome = service.credentials().assume_role_with_web_identity(request(provider, subject, audience)).await;
        refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
    }
    refused(service.credentials().assume_role_with_web_identity(request("", "ann", "gumshoe")).await, Code::InvalidArgument, ErrorReason::InvalidField);
    let mut elsewhere = CredentialServiceClient::new(service.by_ingest());
    let outcome = elsewhere.assume_role_with_web_identity(request("id.example.com", "ann", "gumshoe")).await;
    refused(outcome, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn a_session_ends() {
    let service = Service::with_accounts().await;
    let role = service.create_role(ACCOUNT, "role/Analyst", &trust(&format!(r#"{{"AWS":"{ANN}"}}"#))).await.unwrap();
    let role_id = assume(&service, ANN, assume_request(&role)).await.unwrap().assumed_role_id.replace(":work", "");
    let keyring = Keyring::new(&SECRET_KEY.to_owned().into(), &[]).unwrap();
    let session = |minutes_ago: i64| {
        let begin = gumshoe_model::Timestamp(SystemClock.now().0 - minutes_ago * 60_000_000);
        Session::new(role.parse().unwrap(), role_id.clone(), "work".parse().unwrap(), begin, Duration::from_secs(15 * 60), None)
    };
    for (minutes_ago, ended) in [(14, false), (16, true)] {
        let session = session(minutes_ago);
        let credentials = session.credentials(&keyring).unwrap();
        let outcome = service.signing_key(&session.access_key_id, credentials.token()).await;
        if ended {
            unauthenticated(outcome, "expired session token");
        } else {
            assert_eq!(outcome.unwrap().signing_key, derived(credentials.secret()));
        }
    }
}

#[tokio::test]
async fn without_an_envelope_key_no_role_is_assumed() {
    let service = Service::with(|config| config.secret_key = None).await;
    service.register_all().await;
    let role = service.create_role(ACCOUNT, "role/Analyst", &trust(&format!(r#"{{"AWS":"{ANN}"}}"#))).await.unwrap();
    refused(assume(&service, ANN, assume_request(&role)).await, Code::FailedPrecondition, ErrorReason::Conflict);
}
