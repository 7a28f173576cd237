//! Edges: hourly, additive relations between two entities.

use std::{fmt, str::FromStr};

use crate::{Invalid, Timestamp};

/// How the subject of an edge relates to its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Relation {
    /// A principal called an operation of a service, successfully.
    Called,
    /// A principal called an operation and got an error.
    FailedToCall,
    /// A principal assumed a role or became a session.
    Assumed,
    /// A principal signed in to an account's console.
    LoggedIn,
    /// An interface or instance opened a connection to an address.
    ConnectedTo,
    /// An interface or instance accepted a connection from an address.
    AcceptedFrom,
    /// Traffic between an interface and an address was rejected.
    RejectedFrom,
    /// A principal used an address, a user agent, an access key, an image; an interface used an address.
    Used,
    /// A resource was affected by a principal's call, or an entity by a finding.
    AffectedBy,
}

impl Relation {
    /// Every relation, in order.
    pub const ALL: &'static [Self] = &[
        Self::Called,
        Self::FailedToCall,
        Self::Assumed,
        Self::LoggedIn,
        Self::ConnectedTo,
        Self::AcceptedFrom,
        Self::RejectedFrom,
        Self::Used,
        Self::AffectedBy,
    ];

    /// The name used in the lake and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Called => "called",
            Self::FailedToCall => "failed_to_call",
            Self::Assumed => "assumed",
            Self::LoggedIn => "logged_in",
            Self::ConnectedTo => "connected_to",
            Self::AcceptedFrom => "accepted_from",
            Self::RejectedFrom => "rejected_from",
            Self::Used => "used",
            Self::AffectedBy => "affected_by",
        }
    }
}

impl FromStr for Relation {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        Self::ALL.iter().copied().find(|relation| relation.as_str() == value).ok_or_else(|| Invalid::new("relation", value, "not a known relation"))
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What an edge measured in its hour. Merging is commutative, associative and has [`Measures::ZERO`] as identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measures {
    /// Records.
    pub count: u64,
    /// Records that reported an error.
    pub errors: u64,
    /// Bytes into the subject.
    pub bytes_in: u64,
    /// Bytes out of the subject.
    pub bytes_out: u64,
    /// Packets into the subject.
    pub packets_in: u64,
    /// Packets out of the subject.
    pub packets_out: u64,
    /// Earliest record.
    pub first: Timestamp,
    /// Latest record.
    pub last: Timestamp,
}

impl Measures {
    /// Nothing measured.
    pub const ZERO: Self =
        Self { count: 0, errors: 0, bytes_in: 0, bytes_out: 0, packets_in: 0, packets_out: 0, first: Timestamp(i64::MAX), last: Timestamp(i64::MIN) };

    /// Adds `other`; sums saturate rather than wrap.
    pub fn merge(&mut self, other: &Self) {
        self.count = self.count.saturating_add(other.count);
        self.errors = self.errors.saturating_add(other.errors);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.packets_in = self.packets_in.saturating_add(other.packets_in);
        self.packets_out = self.packets_out.saturating_add(other.packets_out);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}
