//! An AWS that takes signed calls, tells them, and fails or stalls when told to. Signatures themselves are checked in
//! `tests/python`, with the AWS SDK's own code.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use gumshoe_investigation::config::Feedback;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch};
use url::Url;

/// A call as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub path: String,
    pub body: Value,
    /// The access key id, the region and the service that it is signed for.
    pub scope: (String, String, String),
}

#[derive(Default)]
pub struct Told {
    /// Calls so far, those that failed among them.
    pub calls: Vec<Call>,
    /// What the next calls are answered with instead.
    pub failures: VecDeque<(StatusCode, Value)>,
    /// Findings by the end of their path that are archived, as GuardDuty would have it.
    pub archived: BTreeMap<String, bool>,
}

#[derive(Clone)]
pub struct FakeAws {
    told: Arc<Mutex<Told>>,
    stalled: Arc<watch::Sender<bool>>,
    pub url: Url,
}

impl FakeAws {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let fake = Self { told: Arc::default(), stalled: Arc::new(watch::Sender::new(false)), url };
        let router = Router::new().fallback(answer).with_state(fake.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        fake
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Whether calls wait for their answer; they are told before.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Paths of the calls so far.
    pub fn paths(&self) -> Vec<String> {
        self.told().calls.iter().map(|call| call.path.clone()).collect()
    }

    /// A configuration that gives verdicts back to it.
    pub fn feedback(&self) -> Feedback {
        Feedback {
            enabled: true,
            endpoint_url: Some(self.url.clone()),
            access_key_id: Some("AKIAFEEDBACK".to_owned()),
            secret_access_key: Some("secret".to_owned().into()),
            look_seconds: 1,
            retry_seconds: 1,
            ..Feedback::default()
        }
    }
}

/// The scope of a signature, which must cover what AWS wants signed.
fn signed(headers: &HeaderMap) -> (String, String, String) {
    let header = headers.get("authorization").unwrap().to_str().unwrap();
    let rest = header.strip_prefix("AWS4-HMAC-SHA256 Credential=").unwrap();
    let (credential, rest) = rest.split_once(", ").unwrap();
    assert!(rest.contains("host") && rest.contains("x-amz-date"), "{rest}");
    let parts: Vec<_> = credential.split('/').collect();
    assert_eq!((parts.len(), parts[4]), (5, "aws4_request"));
    (parts[0].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

async fn answer(State(fake): State<FakeAws>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let scope = signed(&headers);
    if scope.2 == "sts" {
        return assume_role(std::str::from_utf8(&body).unwrap()).into_response();
    }
    assert_eq!(headers["content-type"], "application/json");
    // A session's token comes with its key.
    assert_eq!(headers.contains_key("x-amz-security-token"), scope.0.starts_with("ASIA"));
    let body: Value = serde_json::from_slice(&body).unwrap();
    let path = uri.path().to_owned();
    let failure = {
        let mut told = fake.told();
        told.calls.push(Call { path: path.clone(), body: body.clone(), scope: scope.clone() });
        told.failures.pop_front()
    };
    fake.stalled.subscribe().wait_for(|stalled| !stalled).await.unwrap();
    if let Some((status, body)) = failure {
        return (status, body.to_string()).into_response();
    }
    let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    match (method.as_str(), scope.2.as_str(), parts.as_slice()) {
        ("POST", "guardduty", ["detector", _, "findings", "feedback"]) => {
            assert!(matches!(body["feedback"].as_str().unwrap(), "USEFUL" | "NOT_USEFUL"));
            "{}".into_response()
        }
        ("POST", "guardduty", ["detector", _, "findings", action @ ("archive" | "unarchive")]) => {
            let finding = body["findingIds"][0].as_str().unwrap().to_owned();
            fake.told().archived.insert(finding, *action == "archive");
            "{}".into_response()
        }
        ("PATCH", "securityhub", ["findings", "batchupdate"]) => {
            json!({ "ProcessedFindings": body["FindingIdentifiers"], "UnprocessedFindings": [] }).to_string().into_response()
        }
        _ => (StatusCode::NOT_FOUND, "{}").into_response(),
    }
}

/// A session of the role asked for, whose key says so.
fn assume_role(form: &str) -> String {
    let role = url::form_urlencoded::parse(form.as_bytes()).find(|(name, _)| name == "RoleArn").unwrap().1.into_owned();
    let account = role.split(':').nth(4).unwrap();
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><AssumedRoleUser>\
         <AssumedRoleId>AROA:gumshoe</AssumedRoleId><Arn>{role}</Arn></AssumedRoleUser><Credentials><AccessKeyId>ASIA{account}</AccessKeyId>\
         <SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
         </Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )
}
