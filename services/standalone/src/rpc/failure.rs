//! What can go wrong for a person at the command line, and the exit code that says so.

use std::{error::Error, io, path::PathBuf};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A command that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that do not go together, or lack something.
    #[error("{0}")]
    Usage(String),
    /// There are no credentials to call with.
    #[error("{0}")]
    SignedOut(String),
    /// Something named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The server refused or failed.
    #[error("{}", status_text(.0))]
    Refused(Box<Status>),
    /// The server cannot be reached.
    #[error("cannot reach {endpoint}: {reason}; is `gumshoe serve` running there?")]
    Unreachable {
        /// Its address.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// A file or folder cannot be read or written.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// What was tried: read, write.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output was closed, as by `head`.
    #[error("standard output is closed")]
    Closed,
    /// Part of the work failed, and was reported.
    #[error("{0}")]
    Partial(String),
    /// The server in this process failed.
    #[error("{what}: {reason}")]
    Serve {
        /// Which part.
        what: String,
        /// Why, with causes.
        reason: String,
    },
    /// A fault of this program.
    #[error("internal error: {0}")]
    Broken(String),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::SignedOut(_) => 3,
            Self::NotFound(_) => 4,
            Self::Unreachable { .. } => 5,
            Self::Closed => 0,
            Self::Refused(status) => match status.code() {
                Code::InvalidArgument | Code::OutOfRange => 2,
                Code::Unauthenticated | Code::PermissionDenied => 3,
                Code::NotFound => 4,
                Code::Unavailable | Code::DeadlineExceeded => 5,
                _ => 1,
            },
            Self::File { .. } | Self::Partial(_) | Self::Serve { .. } | Self::Broken(_) => 1,
        }
    }

    /// For standard output that cannot be written.
    pub fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::File { action: "write", path: "standard output".into(), source: error } }
    }

    /// For a stream that ended before its answer; it may be sent again.
    pub fn broken_off() -> Self {
        Status::unavailable("the server ended the stream without an answer").into()
    }

    /// For a part of the server that failed.
    pub fn serve(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        Self::Serve { what: what.into(), reason: gumshoe_runtime::status::Chain(error).to_string() }
    }

    /// Whether the same call may succeed a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded | Code::Aborted => true,
                Code::ResourceExhausted => status.get_details_retry_info().is_some(),
                // HTTP/2 streams that break off with the server end so.
                Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
                _ => false,
            },
            _ => false,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// The server's message, with the fields at fault and the trace id, if it gave them.
fn status_text(status: &Status) -> String {
    let details = status.get_error_details();
    let mut text = if status.message().is_empty() { format!("the server answered {:?}", status.code()) } else { status.message().to_owned() };
    if let Some(request) = details.bad_request() {
        for violation in &request.field_violations {
            if !text.contains(&violation.description) || !text.contains(&violation.field) {
                text.push_str(&format!("; `{}` {}", violation.field, violation.description));
            }
        }
    }
    if let Some(trace) = details.error_info().and_then(|info| info.metadata.get("trace_id")) {
        text.push_str(&format!(" (trace id {trace})"));
    }
    match status.code() {
        Code::Unauthenticated => text.push_str("; sign in with `gumshoe login`"),
        Code::PermissionDenied => text.push_str("; your policies do not allow this"),
        _ => {}
    }
    text
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, FieldViolation};

    use super::*;

    #[test]
    fn statuses_become_sentences_and_exit_codes() {
        let mut details = ErrorDetails::with_error_info("INVALID_FIELD", "gumshoe.dev", [("trace_id".to_owned(), "4bf92f".to_owned())]);
        details.set_bad_request(vec![FieldViolation::new("scope.end_time", "is required")]);
        let failure = Failure::from(Status::with_error_details(Code::InvalidArgument, "the request is not valid", details));
        assert_eq!(failure.to_string(), "the request is not valid; `scope.end_time` is required (trace id 4bf92f)");
        assert_eq!(failure.exit_code(), 2);
        assert_eq!(Failure::from(Status::unauthenticated("the token has expired")).exit_code(), 3);
        assert_eq!(Failure::from(Status::not_found("finding `x` does not exist")).exit_code(), 4);
        assert_eq!(Failure::from(Status::unavailable("lake is not available")).exit_code(), 5);
        assert_eq!(Failure::from(Status::internal("")).to_string(), "the server answered Internal");
    }

    #[test]
    fn only_passing_failures_are_tried_again() {
        assert!(Failure::from(Status::unavailable("x")).is_passing());
        assert!(!Failure::from(Status::internal("internal error")).is_passing());
        assert!(!Failure::from(Status::invalid_argument("x")).is_passing());
        let quota = Status::with_error_details(Code::ResourceExhausted, "full", ErrorDetails::new());
        assert!(!Failure::from(quota).is_passing());
    }
}
