//! The one place where gRPC statuses are made: each carries an `ErrorInfo` and, for bad input, the fields at fault.

use std::{collections::HashMap, error::Error, fmt, time::Duration};

use gumshoe_api::common::v1::ErrorReason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

use crate::telemetry;

/// `google.rpc.ErrorInfo.domain` of every status.
pub const DOMAIN: &str = "gumshoe.dev";

const REASON_PREFIX: &str = "ERROR_REASON_";
/// Statuses travel in HTTP/2 headers, which peers cap at 16 KiB or less.
const MAX_MESSAGE_CHARACTERS: usize = 1_000;
const MAX_FIELD_VIOLATIONS: usize = 20;

/// Why a call fails, in the public's words; becomes a [`Status`] with its details.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The gRPC code.
    pub code: Code,
    /// The machine-readable reason, sent as `ErrorInfo.reason` without its prefix.
    pub reason: ErrorReason,
    /// For people: lower case, no full stop, user input in backticks. Cut to 1,000 characters.
    pub message: String,
    /// Facts about the failure, sent as `ErrorInfo.metadata`.
    pub metadata: HashMap<String, String>,
    /// Field path and what is wrong with it; the first 20 are sent.
    pub field_violations: Vec<(String, String)>,
    /// How long to wait before a retry, if one can help.
    pub retry_delay: Option<Duration>,
}

impl Failure {
    /// A failure without details.
    #[must_use]
    pub fn new(code: Code, reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into(), metadata: HashMap::new(), field_violations: Vec::new(), retry_delay: None }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Adds a field at fault; `field` is its path in the request, such as `batch.records[3].text`.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.field_violations.push((field.into(), description.into()));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_delay(mut self, delay: Duration) -> Self {
        self.retry_delay = Some(delay);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl Error for Failure {}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::with_error_info(reason_name(failure.reason), DOMAIN, failure.metadata);
        if !failure.field_violations.is_empty() {
            let violations: Vec<_> = failure
                .field_violations
                .iter()
                .take(MAX_FIELD_VIOLATIONS)
                .map(|(field, description)| FieldViolation::new(cut(field, 200), cut(description, 400)))
                .collect();
            details.set_bad_request(violations);
        }
        if failure.retry_delay.is_some() {
            details.set_retry_info(failure.retry_delay);
        }
        Self::with_error_details(failure.code, cut(&failure.message, MAX_MESSAGE_CHARACTERS), details)
    }
}

/// A field of the request has a wrong value: INVALID_ARGUMENT with a field violation.
#[must_use]
pub fn invalid_argument(field: &str, reason: impl Into<String>) -> Failure {
    let reason = reason.into();
    Failure::new(Code::InvalidArgument, ErrorReason::InvalidField, format!("{}: {reason}", quoted(field))).with_field(field, reason)
}

/// What the request names does not exist: NOT_FOUND. `what` is its kind in words, `id` is user input.
#[must_use]
pub fn not_found(what: &str, id: &str) -> Failure {
    Failure::new(Code::NotFound, ErrorReason::NotFound, format!("{what} {} does not exist", quoted(id)))
}

/// A thing of this name exists already: ALREADY_EXISTS.
#[must_use]
pub fn already_exists(what: &str, id: &str) -> Failure {
    Failure::new(Code::AlreadyExists, ErrorReason::AlreadyExists, format!("{what} {} exists already", quoted(id)))
}

/// The thing is in a state that does not allow the call: FAILED_PRECONDITION.
#[must_use]
pub fn conflict(message: impl Into<String>) -> Failure {
    Failure::new(Code::FailedPrecondition, ErrorReason::Conflict, message)
}

/// The caller may not do this: PERMISSION_DENIED.
#[must_use]
pub fn permission_denied(message: impl Into<String>) -> Failure {
    Failure::new(Code::PermissionDenied, ErrorReason::AccessDenied, message)
}

/// No valid credentials: UNAUTHENTICATED.
#[must_use]
pub fn unauthenticated(message: impl Into<String>) -> Failure {
    Failure::new(Code::Unauthenticated, ErrorReason::Unauthenticated, message)
}

/// A store or service does not answer: UNAVAILABLE, retry after a second. `what` is its kind, never driver text.
#[must_use]
pub fn unavailable(what: &str) -> Failure {
    Failure::new(Code::Unavailable, ErrorReason::Unavailable, format!("{what} is not available")).with_retry_delay(Duration::from_secs(1))
}

/// Too many calls at once: RESOURCE_EXHAUSTED, to be retried after `delay`.
#[must_use]
pub fn resource_exhausted(message: impl Into<String>, delay: Duration) -> Failure {
    Failure::new(Code::ResourceExhausted, ErrorReason::RateLimited, message).with_retry_delay(delay)
}

/// A limit on number or size is reached, and waiting does not help: RESOURCE_EXHAUSTED.
#[must_use]
pub fn quota_exceeded(message: impl Into<String>) -> Failure {
    Failure::new(Code::ResourceExhausted, ErrorReason::QuotaExceeded, message)
}

/// The call took longer than it may: DEADLINE_EXCEEDED.
#[must_use]
pub fn deadline_exceeded() -> Failure {
    Failure::new(Code::DeadlineExceeded, ErrorReason::Unavailable, "the deadline has passed")
}

/// A fault of this system: logs `error` with its chain, once, and gives the caller fixed text and the trace id.
#[must_use]
pub fn internal(error: &(dyn Error + 'static)) -> Failure {
    tracing::error!(error = %Chain(error), "internal error");
    internal_already_logged()
}

/// INTERNAL for a fault whose cause has been logged.
pub(crate) fn internal_already_logged() -> Failure {
    let failure = Failure::new(Code::Internal, ErrorReason::Internal, "internal error");
    match telemetry::trace_id() {
        Some(trace_id) => failure.with_metadata("trace_id", trace_id),
        None => failure,
    }
}

/// The reason inside a status that one of our services made; `None` for any other.
#[must_use]
pub fn reason_of(status: &Status) -> Option<ErrorReason> {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN)?;
    ErrorReason::from_str_name(&format!("{REASON_PREFIX}{}", info.reason))
}

/// User input as it may stand in a message: in backticks, cut to 200 characters, control characters escaped.
#[must_use]
pub fn quoted(input: &str) -> String {
    let shown: String =
        input.chars().take(200).flat_map(|character| if character.is_control() { character.escape_default().collect() } else { vec![character] }).collect();
    format!("`{shown}`")
}

/// An error and its causes on one line, outermost first.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

fn reason_name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix(REASON_PREFIX).unwrap_or(name)
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read page")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn statuses_carry_reason_fields_and_delay() {
        let status = Status::from(invalid_argument("page_size", "must be at most 1000").with_metadata("maximum", "1000"));
        let details = status.get_error_details();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "`page_size`: must be at most 1000");
        assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD");
        assert_eq!(details.error_info().unwrap().domain, "gumshoe.dev");
        assert_eq!(details.error_info().unwrap().metadata["maximum"], "1000");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "page_size");
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidField));

        let status = Status::from(resource_exhausted("too many calls", Duration::from_millis(1_500)));
        assert_eq!(status.get_error_details().retry_info().unwrap().retry_delay, Some(Duration::from_millis(1_500)));
        assert_eq!(reason_of(&Status::internal("elsewhere")), None);
    }

    #[test]
    fn internal_errors_keep_their_text_to_themselves() {
        let error = Outer(std::io::Error::other("password=hunter2"));
        assert_eq!(Chain(&error).to_string(), "cannot read page: password=hunter2");
        let status = Status::from(internal(&error));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert!(!String::from_utf8_lossy(status.details()).contains("hunter2"));
    }

    #[test]
    fn hostile_input_is_cut_and_escaped() {
        assert_eq!(not_found("graph", "a\nb").message, "graph `a\\nb` does not exist");
        let status = Status::from(not_found("graph", &"x".repeat(100_000)));
        assert!(status.message().len() < 300);
        let many = (0..1_000).fold(invalid_argument("a", "b"), |failure, index| failure.with_field(format!("f{index}"), "z".repeat(1_000)));
        assert!(Status::from(many).details().len() < 12_000);
    }
}
