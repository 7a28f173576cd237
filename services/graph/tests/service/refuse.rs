//! Statuses as a caller sees them.

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Asserts code, reason and the fields at fault.
#[track_caller]
pub(crate) fn refused(status: &Status, code: Code, reason: &str, fields: &[&str]) {
    let details = status.get_error_details();
    assert_eq!(status.code(), code, "{status:?}");
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some(reason), "{status:?}");
    let found: Vec<_> = details.bad_request().map(|bad| bad.field_violations.iter().map(|violation| violation.field.as_str()).collect()).unwrap_or_default();
    assert_eq!(found, fields, "{status:?}");
}
