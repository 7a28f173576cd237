//! Domain types of the behaviour graph and their laws: no I/O, no async, no protobuf.
//!
//! | module | holds |
//! |---|---|
//! | [`account`] | account ids and graph ARNs |
//! | [`time`] | microsecond timestamps, hours and time windows |
//! | [`entity`] | entity types and keys |
//! | [`edge`] | relations, dimensions and the additive measures of an edge |
//! | [`event`] | one normalised log record and what could not be parsed |
//! | [`finding`] | what a detector said |
//! | [`level`] | how much something matters, in five words |
//! | [`pattern`] | patterns with wildcards |

pub mod account;
pub mod edge;
pub mod entity;
pub mod event;
pub mod finding;
pub mod level;
pub mod pattern;
pub mod time;

pub use account::{AccountId, GraphArn};
pub use edge::{Measures, Relation};
pub use entity::{EntityKey, EntityRef, EntityType};
pub use event::{DeadLetter, Event, Link, RecordKind};
pub use finding::{Finding, PRODUCT, Severity};
pub use level::Level;
pub use time::{Hour, TimeWindow, Timestamp};

/// A value that does not have the form its type requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is not valid: {reason}")]
pub struct Invalid {
    /// The kind of value, in words: `account id`, `graph ARN`.
    pub what: &'static str,
    /// The value as given, cut to 200 characters.
    pub value: String,
    /// What a valid value looks like.
    pub reason: &'static str,
}

impl Invalid {
    /// Makes the error, cutting `value` so that hostile input stays out of logs.
    #[must_use]
    pub fn new(what: &'static str, value: &str, reason: &'static str) -> Self {
        Self { what, value: value.chars().take(200).collect(), reason }
    }
}
