//! Calls AWS services, signed, with the credentials that fit the account.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use aws_config::{BehaviorVersion, Region, SdkConfig, sts::AssumeRoleProvider};
use aws_credential_types::{Credentials, provider::ProvideCredentials as _};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use gumshoe_runtime::status::Chain;
use http::{StatusCode, header::CONTENT_TYPE};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Call;
use crate::config::Feedback;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Credentials are renewed so long before they end.
const RENEWED_BEFORE: Duration = Duration::from_secs(120);
/// An answer is read up to so many bytes.
const MAX_ANSWER: usize = 64 << 10;
const JSON: &str = "application/json";

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// In words.
    pub reason: String,
    /// Whether the same call may succeed later.
    pub may_pass: bool,
}

impl CallError {
    fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), may_pass: true }
    }
}

/// AWS, as the configuration reaches it.
pub struct Aws {
    config: Feedback,
    client: reqwest::Client,
    /// Read from the environment when first used.
    environment: OnceCell<SdkConfig>,
    /// By the ARN of the role assumed; empty for none.
    credentials: Mutex<HashMap<String, Credentials>>,
}

impl Aws {
    /// Nothing is read or sent before the first call.
    ///
    /// # Errors
    /// When the system has no usable TLS.
    pub fn new(config: Feedback) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { config, client, environment: OnceCell::new(), credentials: Mutex::default() })
    }

    /// Makes a call.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn call(&self, call: &Call) -> Result<(), CallError> {
        let named = |error: CallError| CallError { reason: format!("{}:{}: {}", call.service, call.operation, error.reason), ..error };
        self.try_call(call).await.map_err(named)
    }

    async fn try_call(&self, call: &Call) -> Result<(), CallError> {
        let role = self.role(call);
        let credentials = self.credentials(&role, &call.region).await?;
        let request = signed(call, &self.url(call)?, credentials)?;
        let mut response = self.client.execute(request).await.map_err(|error| CallError::passing(Chain(&error.without_url()).to_string()))?;
        let status = response.status();
        let kind = response.headers().get("x-amzn-errortype").and_then(|kind| kind.to_str().ok()).unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while body.len() < MAX_ANSWER {
            match response.chunk().await.map_err(|error| CallError::passing(Chain(&error.without_url()).to_string()))? {
                Some(chunk) => body.extend_from_slice(&chunk),
                None => break,
            }
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            && let Ok(mut known) = self.credentials.lock()
        {
            // They may have been changed or given more rights meanwhile.
            known.remove(&role);
        }
        outcome(status, &kind, &serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The role to assume for a call; empty for none.
    fn role(&self, call: &Call) -> String {
        match (&self.config.role, &call.account) {
            (Some(role), Some(account)) => role.replace("{partition}", &call.partition).replace("{account}", account),
            _ => String::new(),
        }
    }

    fn url(&self, call: &Call) -> Result<String, CallError> {
        if let Some(endpoint) = &self.config.endpoint_url {
            return Ok(format!("{}{}", endpoint.as_str().trim_end_matches('/'), call.path));
        }
        let domain = match call.partition.as_str() {
            "aws" | "aws-us-gov" => "amazonaws.com",
            "aws-cn" => "amazonaws.com.cn",
            other => return Err(CallError { reason: format!("no endpoint is known in `{other}`: set `feedback.endpoint_url`"), may_pass: false }),
        };
        Ok(format!("https://{}.{}.{domain}{}", call.service, call.region, call.path))
    }

    async fn credentials(&self, role: &str, region: &str) -> Result<Credentials, CallError> {
        let fresh = |known: &&Credentials| known.expiry().is_none_or(|end| end > SystemTime::now() + RENEWED_BEFORE);
        if let Some(known) = self.credentials.lock().ok().and_then(|known| known.get(role).filter(fresh).cloned()) {
            return Ok(known);
        }
        let environment = self.environment.get_or_init(|| self.load()).await;
        let provided = if role.is_empty() {
            let provider = environment.credentials_provider().ok_or_else(|| CallError::passing("there are no credentials"))?;
            provider.provide_credentials().await
        } else {
            let mut builder = AssumeRoleProvider::builder(role).configure(environment).region(Region::new(region.to_owned())).session_name("gumshoe");
            if let Some(id) = &self.config.external_id {
                builder = builder.external_id(id.expose_secret());
            }
            builder.build().await.provide_credentials().await
        };
        let provided = provided.map_err(|error| {
            let what = if role.is_empty() { "no credentials".to_owned() } else { format!("no credentials of `{role}`") };
            CallError::passing(format!("{what}: {}", Chain(&error)))
        })?;
        if let Ok(mut known) = self.credentials.lock() {
            known.insert(role.to_owned(), provided.clone());
        }
        Ok(provided)
    }

    async fn load(&self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(endpoint) = &self.config.endpoint_url {
            loader = loader.endpoint_url(endpoint.as_str());
        }
        if let (Some(id), Some(secret)) = (&self.config.access_key_id, &self.config.secret_access_key) {
            loader = loader.credentials_provider(Credentials::new(id, secret.expose_secret(), None, None, "configuration"));
        }
        loader.load().await
    }
}

fn signed(call: &Call, url: &str, credentials: Credentials) -> Result<reqwest::Request, CallError> {
    let broken = |error: &(dyn std::error::Error + 'static)| CallError { reason: format!("the call cannot be made: {}", Chain(error)), may_pass: false };
    let body = call.body.to_string().into_bytes();
    let mut request = http::Request::builder().method(call.method).uri(url).header(CONTENT_TYPE, JSON).body(body).map_err(|error| broken(&error))?;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&call.region)
        .name(call.service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .map_err(|error| broken(&error))?
        .into();
    let headers = [(CONTENT_TYPE.as_str(), JSON)].into_iter();
    let signable = SignableRequest::new(call.method, url, headers, SignableBody::Bytes(request.body())).map_err(|error| broken(&error))?;
    let (instructions, _) = sign(signable, &parameters).map_err(|error| broken(&error))?.into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request.try_into().map_err(|error: reqwest::Error| broken(&error))
}

/// What an answer means. Credentials and permissions may be set right while a delivery is tried; what the service does not
/// know or take will not change.
fn outcome(status: StatusCode, kind: &str, body: &Value) -> Result<(), CallError> {
    let text = |keys: &[&str]| keys.iter().find_map(|key| body.get(key)).and_then(Value::as_str).unwrap_or_default();
    if status.is_success() {
        // Security Hub says for each finding whether it took the update.
        let Some(missed) = body.get("UnprocessedFindings").and_then(Value::as_array).and_then(|missed| missed.first()) else { return Ok(()) };
        let text = |key: &str| missed.get(key).and_then(Value::as_str).unwrap_or_default();
        let may_pass = ["ConcurrentUpdate", "Internal", "Limit", "Throttl"].iter().any(|word| text("ErrorCode").contains(word));
        return Err(CallError { reason: format!("{}: {}", text("ErrorCode"), text("ErrorMessage")), may_pass });
    }
    // `TypeException:http://...` in the header, `namespace#TypeException` in the body.
    let kind = if kind.is_empty() { text(&["__type", "code", "Code"]) } else { kind };
    let kind = kind.split(':').next().and_then(|kind| kind.rsplit('#').next()).unwrap_or_default();
    let may_pass = status.is_server_error()
        || matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
        || ["Throttl", "LimitExceeded", "TooManyRequests"].iter().any(|word| kind.contains(word));
    let said = [kind, text(&["message", "Message"])].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join(": ");
    Err(CallError { reason: format!("{} {said}", status.as_u16()).trim_end().to_owned(), may_pass })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn call(partition: &str) -> Call {
        Call {
            service: "guardduty",
            operation: "ArchiveFindings",
            partition: partition.to_owned(),
            region: "us-gov-west-1".to_owned(),
            account: Some("111111111111".to_owned()),
            method: "POST",
            path: "/detector/d1/findings/archive".to_owned(),
            body: json!({ "findingIds": ["f1"] }),
        }
    }

    #[test]
    fn endpoints_and_roles_follow_the_finding() {
        let role = Some("arn:{partition}:iam::{account}:role/gumshoe".to_owned());
        let aws = Aws::new(Feedback { role, ..Feedback::default() }).unwrap();
        assert_eq!(aws.url(&call("aws-us-gov")).unwrap(), "https://guardduty.us-gov-west-1.amazonaws.com/detector/d1/findings/archive");
        assert!(aws.url(&call("aws-cn")).unwrap().starts_with("https://guardduty.us-gov-west-1.amazonaws.com.cn/"));
        assert!(!aws.url(&call("aws-iso")).unwrap_err().may_pass);
        assert_eq!(aws.role(&call("aws-cn")), "arn:aws-cn:iam::111111111111:role/gumshoe");
        assert_eq!(aws.role(&Call { account: None, ..call("aws") }), "");
        let aws = Aws::new(Feedback { endpoint_url: Some("http://127.0.0.1:5000/".parse().unwrap()), ..Feedback::default() }).unwrap();
        assert_eq!(aws.url(&call("aws-iso")).unwrap(), "http://127.0.0.1:5000/detector/d1/findings/archive");
        assert_eq!(aws.role(&call("aws")), "");
    }

    #[test]
    fn a_call_is_signed_for_its_service_and_region() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session".to_owned()), None, "test");
        let request = signed(&call("aws"), "http://127.0.0.1:5000/detector/d1/findings/archive", credentials).unwrap();
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert!(header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
        assert!(header("authorization").contains("/us-gov-west-1/guardduty/aws4_request, SignedHeaders=content-type;host;x-amz-date;x-amz-security-token,"));
        assert_eq!((header("x-amz-security-token"), request.body().unwrap().as_bytes().unwrap()), ("session", br#"{"findingIds":["f1"]}"#.as_slice()));
    }

    #[test]
    fn answers_tell_what_may_pass() {
        let said = |status: u16, kind: &str, body: &Value| outcome(StatusCode::from_u16(status).unwrap(), kind, body).unwrap_err();
        let error = said(400, "BadRequestException:http://internal.amazon.com/", &json!({ "message": "no such finding" }));
        assert_eq!(error, CallError { reason: "400 BadRequestException: no such finding".to_owned(), may_pass: false });
        assert_eq!(said(500, "", &Value::Null), CallError::passing("500"));
        assert_eq!(said(403, "", &json!({ "__type": "x#AccessDeniedException", "Message": "no" })), CallError::passing("403 AccessDeniedException: no"));
        assert!(said(400, "ThrottlingException", &Value::Null).may_pass);
        assert!(said(429, "", &Value::Null).may_pass);
        assert!(!said(404, "", &Value::Null).may_pass);
        let missed = |code: &str| said(200, "", &json!({ "UnprocessedFindings": [{ "ErrorCode": code, "ErrorMessage": "m" }] }));
        assert_eq!(missed("FindingNotFound"), CallError { reason: "FindingNotFound: m".to_owned(), may_pass: false });
        assert!(missed("ConcurrentUpdateError").may_pass);
        assert_eq!(outcome(StatusCode::OK, "", &json!({ "ProcessedFindings": [{}], "UnprocessedFindings": [] })), Ok(()));
    }
}
