//! A small STS (query protocol, 2011-06-15): who am I, and temporary credentials for roles.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use gumshoe_api::{
    common::v1::ErrorReason,
    membership::v1::{AssumeRoleRequest, AssumeRoleWithWebIdentityRequest, TemporaryCredentials, credential_service_client::CredentialServiceClient},
};
use gumshoe_runtime::{
    Caller, Failure,
    status::{self, reason_of},
};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE, request::Parts as Head};
use http_body_util::Full;
use tonic::{Status, body::Body};
use tonic_types::StatusExt as _;
use url::form_urlencoded;

use super::{Unbelieved, error::Refusal, shapes::time};
use crate::{
    SERVICE as GATEWAY,
    client_address::client_network,
    decision::{Asked, Facts, RequestTags, Resource, audit_unconditional, decide},
    forward::Correlation,
    identity::{Identity, TokenRefused, WebIdentity},
    proxy::{Parts, caller},
    routes::Upstream,
    sigv4::Fault,
};

mod xml;

use xml::Element;

const SERVICE: &str = "sts";
const VERSION: &str = "2011-06-15";
const ASSUME_ROLE: &str = "sts:AssumeRole";
const DURATIONS: std::ops::RangeInclusive<i64> = 900..=43_200;

/// An error of STS: its code, its status, in words.
#[derive(Debug, PartialEq, Eq)]
struct StsError {
    code: &'static str,
    status: StatusCode,
    message: String,
}

impl StsError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into() }
    }

    fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    fn denied(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    fn validation(member: &str, constraint: &str) -> Self {
        Self::bad("ValidationError", super::validate::violation(member, constraint))
    }

    fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "An internal error has occurred. Try again later.")
    }

    fn into_response(self, correlation: &Correlation) -> Response<Body> {
        let kind = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        let error = Element::new("Error").text("Type", kind).text("Code", self.code).text("Message", &self.message);
        let document = Element::root("ErrorResponse").with(error).text("RequestId", &correlation.request_id);
        answer(self.status, &document)
    }
}

impl From<Status> for StsError {
    fn from(status: Status) -> Self {
        match reason_of(&status) {
            Some(ErrorReason::AccessDenied) => Self::denied("AccessDenied", status.message()),
            Some(ErrorReason::InvalidField) => {
                let details = status.get_error_details();
                let violation = details.bad_request().and_then(|request| request.field_violations.first());
                match violation {
                    Some(violation) if violation.field == "policy" => Self::bad("MalformedPolicyDocument", violation.description.as_str()),
                    Some(violation) if violation.field == "duration" => Self::validation("durationSeconds", &violation.description),
                    Some(violation) => Self::validation(&super::validate::member_name(&violation.field), &violation.description),
                    None => Self::bad("ValidationError", status.message()),
                }
            }
            Some(ErrorReason::Unauthenticated) => Self::denied("InvalidClientTokenId", "The security token included in the request is invalid."),
            Some(ErrorReason::Conflict) => Self::bad("ValidationError", status.message()),
            Some(ErrorReason::RateLimited) => Self::bad("Throttling", status.message()),
            _ => {
                tracing::warn!(code = ?status.code(), reason = status.message(), "STS failed");
                Self::internal()
            }
        }
    }
}

impl From<Failure> for StsError {
    fn from(failure: Failure) -> Self {
        Status::from(failure).into()
    }
}

impl From<Unbelieved> for StsError {
    fn from(unbelieved: Unbelieved) -> Self {
        match unbelieved {
            Unbelieved::Signature(Fault::Missing(words)) => Self::denied("MissingAuthenticationToken", words),
            Unbelieved::Signature(Fault::Incomplete(words)) => Self::bad("IncompleteSignature", words),
            Unbelieved::Signature(Fault::Invalid(words)) => Self::denied("SignatureDoesNotMatch", words),
            Unbelieved::UnknownKey => Self::denied("InvalidClientTokenId", "The security token included in the request is invalid."),
            Unbelieved::Expired => Self::denied("ExpiredToken", "The security token included in the request is expired."),
            Unbelieved::Failure(failure) => failure.into(),
        }
    }
}

impl From<Refusal> for StsError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Status(status) => (*status).into(),
            Refusal::Api(error) => Self::bad("ValidationError", error.message),
        }
    }
}

/// The answer to a call that the gateway cannot serve.
pub fn failed(failure: &Failure, correlation: &Correlation) -> Response<Body> {
    StsError::from(failure.clone()).into_response(correlation)
}

fn answer(code: StatusCode, document: &Element) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::from(document.to_string())));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    response
}

/// The parameters of a request; of several with one name, the last.
struct Form(HashMap<String, String>);

/// What all ways to assume a role ask for.
struct Asking {
    role_arn: String,
    role_session_name: String,
    duration: Option<prost_types::Duration>,
    policy: String,
}

impl Form {
    fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    fn asking(&self) -> Result<Asking, StsError> {
        let duration = match self.get("DurationSeconds") {
            "" => None,
            text => match text.parse::<i64>() {
                Ok(seconds) if DURATIONS.contains(&seconds) => Some(prost_types::Duration { seconds, nanos: 0 }),
                _ => return Err(StsError::validation("durationSeconds", "Member must have a value of 900 to 43200")),
            },
        };
        for (name, member) in [("RoleArn", "roleArn"), ("RoleSessionName", "roleSessionName")] {
            if self.get(name).is_empty() {
                return Err(StsError::validation(member, "Member must not be null"));
            }
        }
        Ok(Asking {
            role_arn: self.get("RoleArn").to_owned(),
            role_session_name: self.get("RoleSessionName").to_owned(),
            duration,
            policy: self.get("Policy").to_owned(),
        })
    }
}

/// Where a call comes from and where it goes.
struct StsCall<'a> {
    parts: &'a Parts,
    head: &'a Head,
    facts: Facts<'a>,
    correlation: &'a Correlation,
    deadline: Instant,
}

impl Parts {
    /// Answers a call of STS.
    pub(super) async fn serve_sts(&self, request: Request<Body>, correlation: &Correlation) -> Response<Body> {
        let (head, body) = request.into_parts();
        let limit = self.time_limit();
        let call = StsCall { parts: self, head: &head, facts: self.facts(&head, correlation), correlation, deadline: Instant::now() + limit };
        let outcome = tokio::time::timeout(limit, call.run(body)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(status::deadline_exceeded().into()));
        outcome.unwrap_or_else(|error| error.into_response(correlation))
    }
}

impl StsCall<'_> {
    async fn run(self, body: Body) -> Result<Response<Body>, StsError> {
        let too_many = || status::resource_exhausted("too many calls in progress", Duration::from_secs(1));
        let _permit = self.parts.permits.try_acquire().map_err(|_| too_many())?;
        let body = self.parts.read_body(self.head, body).await?;
        let form = Form(form_urlencoded::parse(&body).into_owned().collect());
        let action = form.get("Action");
        if action == "AssumeRoleWithWebIdentity" && form.get("Version") == VERSION {
            return self.assume_role_with_web_identity(&form).await;
        }
        let (identity, region) = self.parts.authenticate(self.head, &body, SERVICE, &self.facts).await?;
        let region = region.unwrap_or(&self.parts.region);
        let facts = Facts { region, ..self.facts };
        if form.get("Version") != VERSION {
            return Err(StsError::bad("InvalidAction", format!("The version must be {VERSION}.")));
        }
        match action {
            "GetCallerIdentity" => Ok(get_caller_identity(&identity, &facts, self.correlation)),
            "AssumeRole" => Self { facts, ..self }.assume_role(&form, &identity).await,
            _ => Err(StsError::bad(
                "InvalidAction",
                "Could not find such an operation for the version 2011-06-15: only GetCallerIdentity, AssumeRole and AssumeRoleWithWebIdentity are there.",
            )),
        }
    }

    async fn assume_role(&self, form: &Form, identity: &Identity) -> Result<Response<Body>, StsError> {
        let Asking { role_arn, role_session_name, duration, policy } = form.asking()?;
        let asked = Asked { action: ASSUME_ROLE, resource: Resource::Role(&role_arn), tags: &RequestTags::default() };
        decide(&self.parts.policies, identity, &asked, &self.facts).await?;
        let principal = identity.principal.arn();
        let channel = self.parts.channel(Upstream::Membership, caller(principal, &identity.account, ASSUME_ROLE, &self.facts), self.deadline)?;
        let denied = |status: Status| not_trusted(status, principal, "AssumeRole", &role_arn);
        let request = AssumeRoleRequest { role_arn: role_arn.clone(), role_session_name, duration, policy };
        let answer = CredentialServiceClient::new(channel).assume_role(self.correlation.request(request)).await.map_err(denied)?.into_inner();
        let result = Element::new("AssumeRoleResult").with(assumed(&answer.assumed_role_id, &answer.session_arn)).with(credentials(answer.credentials)?);
        Ok(success("AssumeRoleResponse", result, self.correlation))
    }

    /// Without a signature: the token says who calls.
    async fn assume_role_with_web_identity(&self, form: &Form) -> Result<Response<Body>, StsError> {
        let address = self.facts.source_ip.ok_or_else(|| status::permission_denied("the client has no address"))?;
        let limited = |delay| status::resource_exhausted("too many calls without credentials", delay);
        self.parts.anonymous.take(client_network(address)).map_err(limited)?;
        let Asking { role_arn, role_session_name, duration, policy } = form.asking()?;
        let identity = self.parts.authenticator.web_identity(form.get("WebIdentityToken")).await.map_err(|refused| match refused {
            TokenRefused::Expired => StsError::bad("ExpiredTokenException", "The web identity token has expired."),
            TokenRefused::Invalid => StsError::bad("InvalidIdentityToken", "The web identity token could not be validated."),
        })?;
        let WebIdentity { provider, subject, audience } = identity;
        let principal = format!("{provider}:{subject}");
        audit_unconditional(&principal, "sts:AssumeRoleWithWebIdentity", &self.facts);
        let caller = Caller::service(GATEWAY, "gumshoe:AssumeRoleWithWebIdentity").with_request_id(self.facts.request_id);
        let channel = self.parts.channel(Upstream::Membership, caller, self.deadline)?;
        let denied = |status: Status| not_trusted(status, &principal, "AssumeRoleWithWebIdentity", &role_arn);
        let request = AssumeRoleWithWebIdentityRequest {
            role_arn: role_arn.clone(),
            role_session_name,
            duration,
            policy,
            provider: provider.clone(),
            subject: subject.clone(),
            audience: audience.clone(),
        };
        let mut client = CredentialServiceClient::new(channel);
        let answer = client.assume_role_with_web_identity(self.correlation.request(request)).await.map_err(denied)?.into_inner();
        let result = Element::new("AssumeRoleWithWebIdentityResult")
            .text("SubjectFromWebIdentityToken", &subject)
            .text("Audience", &audience)
            .with(assumed(&answer.assumed_role_id, &answer.session_arn))
            .with(credentials(answer.credentials)?)
            .text("Provider", &provider);
        Ok(success("AssumeRoleWithWebIdentityResponse", result, self.correlation))
    }
}

/// No permission is needed to be told.
fn get_caller_identity(identity: &Identity, facts: &Facts<'_>, correlation: &Correlation) -> Response<Body> {
    audit_unconditional(identity.principal.arn(), "sts:GetCallerIdentity", facts);
    let result = Element::new("GetCallerIdentityResult")
        .text("Arn", identity.principal.arn())
        .text("UserId", identity.user_id.as_deref().unwrap_or_default())
        .text("Account", &identity.account);
    success("GetCallerIdentityResponse", result, correlation)
}

/// Says in AWS's words that a role does not trust the caller, or is not there.
fn not_trusted(status: Status, principal: &str, operation: &str, role: &str) -> StsError {
    match reason_of(&status) {
        Some(ErrorReason::AccessDenied | ErrorReason::NotFound) => StsError::denied(
            "AccessDenied",
            format!("User: {principal} is not authorized to perform: sts:{operation} on resource: {}", status::quoted(role).replace('`', "")),
        ),
        _ => status.into(),
    }
}

fn assumed(id: &str, arn: &str) -> Element {
    Element::new("AssumedRoleUser").text("AssumedRoleId", id).text("Arn", arn)
}

fn credentials(credentials: Option<TemporaryCredentials>) -> Result<Element, StsError> {
    let credentials = credentials.ok_or_else(StsError::internal)?;
    let expiration = time(credentials.expire_time.as_ref()).ok_or_else(StsError::internal)?;
    Ok(Element::new("Credentials")
        .text("AccessKeyId", &credentials.access_key_id)
        .text("SecretAccessKey", &credentials.secret_access_key)
        .text("SessionToken", &credentials.session_token)
        .text("Expiration", &expiration))
}

fn success(name: &'static str, result: Element, correlation: &Correlation) -> Response<Body> {
    let metadata = Element::new("ResponseMetadata").text("RequestId", &correlation.request_id);
    answer(StatusCode::OK, &Element::root(name).with(result).with(metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    #[test]
    fn parameters_are_read_and_checked() {
        let asking =
            form("RoleArn=arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2FA&RoleSessionName=ann%40example.com&DurationSeconds=900&Policy=%7B%7D").asking().unwrap();
        assert_eq!((asking.role_arn.as_str(), asking.role_session_name.as_str()), ("arn:aws:iam::111122223333:role/A", "ann@example.com"));
        assert_eq!((asking.duration.unwrap().seconds, asking.policy.as_str()), (900, "{}"));
        assert!(form("RoleArn=a&RoleSessionName=b").asking().unwrap().duration.is_none());
        for (bad, member) in [
            ("RoleSessionName=b", "roleArn"),
            ("RoleArn=a", "roleSessionName"),
            ("RoleArn=a&RoleSessionName=b&DurationSeconds=899", "durationSeconds"),
            ("RoleArn=a&RoleSessionName=b&DurationSeconds=43201", "durationSeconds"),
            ("RoleArn=a&RoleSessionName=b&DurationSeconds=1h", "durationSeconds"),
        ] {
            let error = form(bad).asking().err().unwrap();
            assert_eq!((error.code, error.status), ("ValidationError", StatusCode::BAD_REQUEST));
            assert!(error.message.contains(&format!("'{member}'")), "{}", error.message);
        }
    }

    #[test]
    fn errors_are_those_of_sts() {
        let code = |failure: Failure| {
            let error = StsError::from(failure);
            (error.code, error.status.as_u16())
        };
        assert_eq!(code(status::permission_denied("no")), ("AccessDenied", 403));
        assert_eq!(code(status::invalid_argument("policy", "is none")), ("MalformedPolicyDocument", 400));
        assert_eq!(code(status::invalid_argument("role_arn", "is none")), ("ValidationError", 400));
        assert_eq!(code(status::unavailable("x")), ("InternalFailure", 500));
        assert_eq!(code(status::resource_exhausted("x", Duration::from_secs(1))), ("Throttling", 400));
        assert!(StsError::from(status::invalid_argument("role_session_name", "x")).message.contains("'roleSessionName'"));
        let words = not_trusted(status::permission_denied("secret reason").into(), "arn:me", "AssumeRole", "arn:role");
        assert_eq!(words.message, "User: arn:me is not authorized to perform: sts:AssumeRole on resource: arn:role");
        let invalid = StsError::from(Unbelieved::Signature(Fault::Invalid("x".to_owned())));
        assert_eq!((invalid.code, invalid.status.as_u16()), ("SignatureDoesNotMatch", 403));
    }
}
