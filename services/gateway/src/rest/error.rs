//! Errors as the Amazon Detective API words them: a status, a type in a header, a body.

use std::time::Duration;

use gumshoe_api::common::v1::ErrorReason;
use gumshoe_runtime::{Failure, status::reason_of};
use http::{HeaderName, HeaderValue, Response, StatusCode, header::RETRY_AFTER};
use serde::Serialize;
use tonic::{Code, Status, body::Body};
use tonic_types::StatusExt as _;

use super::{operation::Operation, validate::member_name};

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
/// Read by AWS SDKs: milliseconds.
const RETRY_AFTER_MILLISECONDS: HeaderName = HeaderName::from_static("x-amz-retry-after");

/// Types of errors: those of the service model, then those that AWS has for every service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The caller may not do this.
    AccessDenied,
    /// The thing is in a state that does not allow the call.
    Conflict,
    /// A fault of this system, or a store that does not answer.
    InternalServer,
    /// The thing does not exist.
    ResourceNotFound,
    /// A limit on number is reached.
    ServiceQuotaExceeded,
    /// Too many calls.
    TooManyRequests,
    /// The input is not what the model allows.
    Validation,
    /// Temporary credentials that have ended.
    ExpiredToken,
    /// A signature that lacks a part.
    IncompleteSignature,
    /// A signature that is not right.
    InvalidSignature,
    /// No signature.
    MissingAuthenticationToken,
    /// An unknown key, or a token that does not belong to it.
    UnrecognizedClient,
    /// No operation has this address.
    UnknownOperation,
    /// The body is too large.
    RequestEntityTooLarge,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::Conflict => "ConflictException",
            Self::InternalServer => "InternalServerException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::ServiceQuotaExceeded => "ServiceQuotaExceededException",
            Self::TooManyRequests => "TooManyRequestsException",
            Self::Validation => "ValidationException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::RequestEntityTooLarge => "RequestEntityTooLargeException",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Conflict => StatusCode::CONFLICT,
            Self::InternalServer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ResourceNotFound | Self::UnknownOperation => StatusCode::NOT_FOUND,
            Self::ServiceQuotaExceeded => StatusCode::PAYMENT_REQUIRED,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Validation | Self::IncompleteSignature => StatusCode::BAD_REQUEST,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AccessDenied | Self::ExpiredToken | Self::InvalidSignature | Self::MissingAuthenticationToken | Self::UnrecognizedClient => {
                StatusCode::FORBIDDEN
            }
        }
    }
}

/// What of a request is at fault, in the model's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The graph's ARN.
    InvalidGraphArn,
    /// Anything else.
    InvalidRequestBody,
}

/// One error.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    /// Its type.
    pub kind: Kind,
    /// In words.
    pub message: String,
    /// What of the request is at fault.
    pub code: Option<ErrorCode>,
    /// What has reached its limit.
    pub resources: Vec<&'static str>,
    /// When to try again.
    pub retry_delay: Option<Duration>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Content<'a> {
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<ErrorCode>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'a [&'static str],
}

impl ApiError {
    /// An error without details.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), code: None, resources: Vec::new(), retry_delay: None }
    }

    /// What is sent.
    pub fn into_response(self) -> Response<Body> {
        let content = Content { message: &self.message, error_code: self.code, resources: &self.resources };
        let mut response = super::json(self.kind.status(), &content);
        let headers = response.headers_mut();
        headers.insert(ERROR_TYPE, HeaderValue::from_static(self.kind.name()));
        if let Some(delay) = self.retry_delay {
            headers.insert(RETRY_AFTER, HeaderValue::from(delay.as_secs().saturating_add(u64::from(delay.subsec_nanos() > 0))));
            headers.insert(RETRY_AFTER_MILLISECONDS, HeaderValue::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX).max(1)));
        }
        response
    }

    /// What a service's status or the gateway's own failure means for an operation. An error that the operation does not
    /// declare is a validation error: its input asks for what cannot be.
    pub fn of_status(operation: &Operation, status: &Status) -> Self {
        let details = status.get_error_details();
        let reason = reason_of(status).unwrap_or_else(|| reason_of_code(status.code()));
        let declared = |kind| if operation.errors.contains(&kind) { kind } else { Kind::Validation };
        let kind = match reason {
            ErrorReason::AccessDenied => Kind::AccessDenied,
            ErrorReason::NotFound => declared(Kind::ResourceNotFound),
            ErrorReason::Conflict | ErrorReason::AlreadyExists => declared(Kind::Conflict),
            ErrorReason::QuotaExceeded => declared(Kind::ServiceQuotaExceeded),
            ErrorReason::RateLimited => Kind::TooManyRequests,
            ErrorReason::InvalidField | ErrorReason::InvalidPageToken => Kind::Validation,
            ErrorReason::Unauthenticated if status.message().contains("expired") => Kind::ExpiredToken,
            ErrorReason::Unauthenticated => Kind::UnrecognizedClient,
            ErrorReason::Unavailable | ErrorReason::Internal | ErrorReason::Unspecified => Kind::InternalServer,
        };
        let message = match (reason, kind) {
            (_, Kind::InternalServer) => {
                tracing::warn!(operation = operation.name, code = ?status.code(), reason = status.message(), "an operation failed");
                "An internal error has occurred. Try again later.".to_owned()
            }
            (_, Kind::UnrecognizedClient) => "The security token included in the request is invalid.".to_owned(),
            (_, Kind::ExpiredToken) => "The security token included in the request is expired.".to_owned(),
            (ErrorReason::InvalidPageToken, _) => "The NextToken is not valid: it is damaged, has expired, or belongs to another request.".to_owned(),
            (ErrorReason::InvalidField, _) => match details.bad_request().and_then(|request| request.field_violations.first()) {
                Some(violation) => super::validate::violation(&member_name(&violation.field), &violation.description),
                None => status.message().to_owned(),
            },
            _ => status.message().to_owned(),
        };
        let retry_delay = details.retry_info().and_then(|info| info.retry_delay).filter(|_| matches!(kind, Kind::TooManyRequests | Kind::InternalServer));
        let code = (kind == Kind::Validation).then(|| {
            let graph = details.bad_request().is_some_and(|request| request.field_violations.iter().any(|violation| violation.field.starts_with("graph_arn")));
            if graph { ErrorCode::InvalidGraphArn } else { ErrorCode::InvalidRequestBody }
        });
        let resources = if kind == Kind::ServiceQuotaExceeded { operation.quota.into_iter().collect() } else { Vec::new() };
        Self { kind, message, code, resources, retry_delay }
    }
}

/// For statuses that no service of ours made: the transport's.
fn reason_of_code(code: Code) -> ErrorReason {
    match code {
        Code::InvalidArgument | Code::OutOfRange => ErrorReason::InvalidField,
        Code::NotFound => ErrorReason::NotFound,
        Code::ResourceExhausted => ErrorReason::RateLimited,
        _ => ErrorReason::Unavailable,
    }
}

/// Why there is no answer, before it is known what that means for the operation.
#[derive(Debug)]
pub enum Refusal {
    /// Said by a service or by the gateway, in gRPC's words.
    Status(Box<Status>),
    /// Found by this module.
    Api(Box<ApiError>),
}

impl Refusal {
    /// The error for an operation.
    pub fn into_error(self, operation: &Operation) -> ApiError {
        match self {
            Self::Status(status) => ApiError::of_status(operation, &status),
            Self::Api(error) => *error,
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Status(Box::new(failure.into()))
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self::Api(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_runtime::status;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    use super::*;

    fn of(operation: &str, failure: Failure) -> ApiError {
        let operation = Operation::ALL.iter().find(|other| other.name == operation).unwrap();
        Refusal::from(failure).into_error(operation)
    }

    async fn sent(error: ApiError) -> (u16, http::HeaderMap, Value) {
        let (head, body) = error.into_response().into_parts();
        (head.status.as_u16(), head.headers, serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap())
    }

    #[tokio::test]
    async fn each_reason_has_its_error() {
        let cases = [
            ("GetMembers", status::permission_denied("User: x is not authorized"), 403, "AccessDeniedException", "User: x is not authorized"),
            ("GetMembers", status::not_found("graph", "g"), 404, "ResourceNotFoundException", "graph `g` does not exist"),
            ("AcceptInvitation", status::conflict("no"), 409, "ConflictException", "no"),
            ("CreateMembers", status::quota_exceeded("1200"), 402, "ServiceQuotaExceededException", "1200"),
            ("GetMembers", status::unavailable("x"), 500, "InternalServerException", "An internal error has occurred. Try again later."),
            (
                "GetMembers",
                status::unauthenticated("the bearer token has expired"),
                403,
                "ExpiredTokenException",
                "The security token included in the request is expired.",
            ),
            ("GetMembers", status::unauthenticated("no"), 403, "UnrecognizedClientException", "The security token included in the request is invalid."),
            // The model has no such error for these.
            ("DescribeOrganizationConfiguration", status::not_found("graph", "g"), 400, "ValidationException", "graph `g` does not exist"),
            ("EnableOrganizationAdminAccount", status::conflict("no"), 400, "ValidationException", "no"),
            ("TagResource", status::quota_exceeded("50"), 400, "ValidationException", "50"),
        ];
        for (operation, failure, code, kind, message) in cases {
            let (status, headers, body) = sent(of(operation, failure)).await;
            assert_eq!((status, headers["x-amzn-errortype"].to_str().unwrap(), body["Message"].as_str().unwrap()), (code, kind, message), "{operation}");
            assert_eq!(headers["content-type"], "application/json");
        }
    }

    #[tokio::test]
    async fn details_are_the_models() {
        let (_, _, body) = sent(of("CreateMembers", status::quota_exceeded("too many"))).await;
        assert_eq!(body, json!({"Message": "too many", "Resources": ["members"]}));
        let (_, headers, body) = sent(of("GetMembers", status::resource_exhausted("slowly", Duration::from_millis(1_500)))).await;
        assert_eq!((&headers["retry-after"], &headers["x-amz-retry-after"]), (&HeaderValue::from_static("2"), &HeaderValue::from_static("1500")));
        assert_eq!(body, json!({"Message": "slowly"}));
        let (_, _, body) = sent(of("CreateMembers", status::invalid_argument("members[1].email", "must be an address"))).await;
        assert_eq!(
            body,
            json!({"Message": "1 validation error detected: Value at 'accounts.2.member.emailAddress' failed to satisfy constraint: must be an address", "ErrorCode": "INVALID_REQUEST_BODY"})
        );
        let (_, _, body) = sent(of("GetMembers", status::invalid_argument("graph_arn", "is none"))).await;
        assert_eq!(body["ErrorCode"], "INVALID_GRAPH_ARN");
        let token = Failure::new(Code::InvalidArgument, ErrorReason::InvalidPageToken, "x").with_field("page_token", "x");
        assert!(sent(of("ListMembers", token)).await.2["Message"].as_str().unwrap().starts_with("The NextToken is not valid"));
    }
}
