//! The Amazon Detective API (restJson1) beside gRPC, and a small STS: for AWS SDKs, the AWS CLI and Terraform.
//!
//! | module | holds |
//! |---|---|
//! | [`operation`] | the 29 operations and their addresses |
//! | [`call`] | the way of one call |
//! | [`graphs`], [`members`], [`invitations`], [`organizations`], [`datasources`], [`tags`], [`investigations`] | each operation: its input, the gRPC call, its output |
//! | [`validate`] | the model's constraints on input |
//! | [`shapes`] | output that several operations share |
//! | [`error`] | errors in the model's words |
//! | [`sts`] | `GetCallerIdentity`, `AssumeRole`, `AssumeRoleWithWebIdentity` |

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Failure, status};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
    request::Parts as Head,
};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use serde::Serialize;
use tonic::body::Body;

use crate::{
    client_address::client_network,
    decision::Facts,
    forward::Correlation,
    identity::Identity,
    proxy::Parts,
    signing_keys::NoKey,
    sigv4::{Fault, Signed},
};

mod call;
mod datasources;
mod error;
mod graphs;
mod investigations;
mod invitations;
mod members;
mod operation;
mod organizations;
mod shapes;
mod sts;
mod tags;
mod validate;

use call::Call;
use error::{ApiError, Kind, Refusal};
use operation::Operation;

const SERVICE: &str = "detective";
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const FORM: &[u8] = b"application/x-www-form-urlencoded";
/// No operation needs more, but for many long tags.
const SMALL_BODY_BYTES: usize = 16 << 10;
/// Larger bodies that are read at once: nobody knows yet whose they are, so together they must be small.
pub(crate) const LARGE_BODIES: usize = 64;

/// Why nobody is believed to call.
#[derive(Debug)]
enum Unbelieved {
    Signature(Fault),
    UnknownKey,
    Expired,
    Failure(Failure),
}

/// Whether a request is one of STS.
fn is_sts(request: &Request<Body>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    *request.method() == Method::POST && request.uri().path() == "/" && content_type.starts_with(FORM)
}

impl Parts {
    /// Answers a request that is not gRPC.
    pub(crate) async fn serve_rest(&self, request: Request<Body>) -> Response<Body> {
        let correlation = Correlation::of(request.headers());
        let sts = is_sts(&request);
        let unavailable = || status::unavailable("the gateway");
        let mut response = tokio::select! {
            biased;
            response = async { if sts { self.serve_sts(request, &correlation).await } else { self.serve_operation(request, &correlation).await } } => response,
            () = self.cutting.cancelled() => if sts { sts::failed(&unavailable(), &correlation) } else { ApiError::new(Kind::InternalServer, unavailable().message).into_response() },
        };
        let headers = response.headers_mut();
        correlation.mark(headers);
        if let Ok(value) = HeaderValue::try_from(correlation.request_id.as_str()) {
            headers.insert(REQUEST_ID, value);
        }
        response
    }

    async fn serve_operation(&self, request: Request<Body>, correlation: &Correlation) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Some((operation, tagged)) = Operation::find(&head.method, head.uri.path()) else {
            return ApiError::new(Kind::UnknownOperation, "No operation of Amazon Detective has this address.").into_response();
        };
        let limit = self.time_limit();
        let outcome = tokio::time::timeout(limit, self.call(operation, tagged, &head, body, correlation, Instant::now() + limit)).await;
        let outcome = outcome.unwrap_or_else(|_| Err(status::deadline_exceeded().into()));
        outcome.unwrap_or_else(|refusal| refusal.into_error(operation).into_response())
    }

    async fn call(
        &self,
        operation: &'static Operation,
        tagged: Option<&str>,
        head: &Head,
        body: Body,
        correlation: &Correlation,
        deadline: Instant,
    ) -> call::Outcome {
        let _permit = self.permits.try_acquire().map_err(|_| status::resource_exhausted("too many calls in progress", Duration::from_secs(1)))?;
        let body = self.read_body(head, body).await?;
        let mut facts = self.facts(head, correlation);
        let (identity, signed_region) = self.authenticate(head, &body, SERVICE, &facts).await.map_err(refusal_of)?;
        facts.region = signed_region.unwrap_or(&self.region);
        let query = head.uri.query().unwrap_or_default();
        let call = Call { parts: self, operation, identity, facts, correlation, deadline, signed_region, tagged, query, body: &body };
        (operation.run)(&call).await
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(self.limits.timeout_seconds)
    }

    /// The whole body, which a signature covers: so it is read before anybody is known, and must be small.
    async fn read_body(&self, head: &Head, body: Body) -> Result<Bytes, Refusal> {
        let limit = self.limits.body_bytes;
        let too_large = || ApiError::new(Kind::RequestEntityTooLarge, format!("The request body must have at most {limit} bytes."));
        let declared = head.headers.get(http::header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            return Err(too_large().into());
        }
        let reading = async {
            let _permit = if declared.is_none_or(|length| length > SMALL_BODY_BYTES) { self.large_bodies.acquire().await.ok() } else { None };
            Limited::new(body, limit).collect().await
        };
        match tokio::time::timeout(Duration::from_secs(self.limits.first_message_seconds), reading).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large().into()),
            Ok(Err(_)) => Err(ApiError::new(Kind::Validation, "The request was broken off.").into()),
            Err(_) => Err(ApiError::new(Kind::Validation, "The request body did not arrive in time.").into()),
        }
    }

    /// Who calls `service`, and the region of the signature if there is one.
    async fn authenticate<'a>(&self, head: &'a Head, body: &[u8], service: &str, facts: &Facts<'_>) -> Result<(Arc<Identity>, Option<&'a str>), Unbelieved> {
        if service == SERVICE && is_bearer(head) {
            return self.authenticator.authenticate(&head.headers).await.map(|identity| (identity, None)).map_err(Unbelieved::Failure);
        }
        let authenticated = self.verify(head, body, service, facts.time, facts).await;
        if let Err(unbelieved) = &authenticated {
            tracing::info!(
                target: "gumshoe_gateway::audit",
                reason = ?unbelieved,
                request_id = facts.request_id,
                source_ip = facts.source_ip.map(tracing::field::display),
                "authentication failed"
            );
        }
        authenticated
    }

    async fn verify<'a>(
        &self,
        head: &'a Head,
        body: &[u8],
        service: &str,
        now: Timestamp,
        facts: &Facts<'_>,
    ) -> Result<(Arc<Identity>, Option<&'a str>), Unbelieved> {
        let signed = Signed::read(head, body, service, now).map_err(Unbelieved::Signature)?;
        // STS is the same in all regions.
        if service == SERVICE && !self.regions.iter().any(|region| region == signed.region) {
            return Err(Unbelieved::Signature(Fault::Invalid(format!("Credential should be scoped to a valid region, one of {}.", self.regions.join(", ")))));
        }
        let key = match self.keys.known(&signed).await {
            Some(key) => key,
            None => self.ask_for_key(&signed, facts).await?,
        };
        signed.verify(&key.key).map_err(Unbelieved::Signature)?;
        Ok((key.identity.clone(), Some(signed.region)))
    }

    /// Whoever shows keys that do not exist is limited like callers without any: each costs a look into the store.
    async fn ask_for_key(&self, signed: &Signed<'_>, facts: &Facts<'_>) -> Result<Arc<crate::signing_keys::SigningKey>, Unbelieved> {
        let limited = |delay| Unbelieved::Failure(status::resource_exhausted("too many calls with unknown keys", delay));
        let client = facts.source_ip.map(client_network);
        if let Some(client) = client {
            self.anonymous.check(client).map_err(limited)?;
        }
        self.keys.get(signed).await.map_err(|refused| match refused {
            NoKey::Unavailable => Unbelieved::Failure(status::unavailable("the membership service")),
            NoKey::Expired => Unbelieved::Expired,
            NoKey::Unknown => {
                // The one call that finds the bucket empty is refused all the same.
                let _ = client.map(|client| self.anonymous.take(client));
                Unbelieved::UnknownKey
            }
        })
    }
}

fn is_bearer(head: &Head) -> bool {
    let scheme = head.headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().split(|byte| *byte == b' ').next());
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
}

fn refusal_of(unbelieved: Unbelieved) -> Refusal {
    match unbelieved {
        Unbelieved::Signature(Fault::Missing(words)) => ApiError::new(Kind::MissingAuthenticationToken, words).into(),
        Unbelieved::Signature(Fault::Incomplete(words)) => ApiError::new(Kind::IncompleteSignature, words).into(),
        Unbelieved::Signature(Fault::Invalid(words)) => ApiError::new(Kind::InvalidSignature, words).into(),
        Unbelieved::UnknownKey => ApiError::new(Kind::UnrecognizedClient, "The security token included in the request is invalid.").into(),
        Unbelieved::Expired => ApiError::new(Kind::ExpiredToken, "The security token included in the request is expired.").into(),
        Unbelieved::Failure(failure) => failure.into(),
    }
}

/// An answer in JSON.
fn json(code: StatusCode, content: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(content) {
        Ok(text) => {
            let mut response = Response::new(Body::new(Full::from(text)));
            *response.status_mut() = code;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        // Output has no keys that are no texts and no numbers that are none.
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        }
    }
}
