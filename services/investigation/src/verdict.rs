//! Verdicts: what an analyst decided about a finding.

use std::str::FromStr;

use gumshoe_api::investigation::v1 as api;
use gumshoe_model::{Invalid, Timestamp};
use serde::{Deserialize, Serialize};

/// A finding's id: its ARN or what its product gives, 1 to 2048 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FindingId(String);

impl FindingId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FindingId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        text(value, (1..=2_048).contains(&value.len())).map(Self).ok_or_else(|| Invalid::new("finding id", value, "expected 1 to 2048 bytes"))
    }
}

/// Why, at most 4096 characters; may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note(String);

impl Note {
    /// The note as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Note {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        text(value, value.chars().count() <= 4_096).map(Self).ok_or_else(|| Invalid::new("note", value, "expected at most 4096 characters"))
    }
}

/// A caller's own id for a request, 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        text(value, (1..=64).contains(&value.chars().count())).map(Self).ok_or_else(|| Invalid::new("request id", value, "expected at most 64 characters"))
    }
}

/// NUL is refused everywhere, because Postgres cannot store it.
fn text(value: &str, fits: bool) -> Option<String> {
    (fits && !value.contains('\0')).then(|| value.to_owned())
}

/// What a finding turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// An attack.
    TruePositive,
    /// The detector was wrong.
    FalsePositive,
    /// The detector was right, but it was allowed.
    Benign,
    /// Taken back: open again.
    Reopened,
}

impl Kind {
    const ALL: [Self; 4] = [Self::TruePositive, Self::FalsePositive, Self::Benign, Self::Reopened];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TruePositive => "TRUE_POSITIVE",
            Self::FalsePositive => "FALSE_POSITIVE",
            Self::Benign => "BENIGN",
            Self::Reopened => "REOPENED",
        }
    }

    /// In words.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::TruePositive => "true positive",
            Self::FalsePositive => "false positive",
            Self::Benign => "benign",
            Self::Reopened => "reopened",
        }
    }

    /// Whether the finding is no sign of an attack.
    #[must_use]
    pub fn dismisses(self) -> bool {
        matches!(self, Self::FalsePositive | Self::Benign)
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::VerdictKind {
        match self {
            Self::TruePositive => api::VerdictKind::TruePositive,
            Self::FalsePositive => api::VerdictKind::FalsePositive,
            Self::Benign => api::VerdictKind::Benign,
            Self::Reopened => api::VerdictKind::Reopened,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.to_proto() as i32 == number)
    }
}

/// A decision to record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVerdict {
    /// The finding.
    pub finding: FindingId,
    /// The decision.
    pub kind: Kind,
    /// Why.
    pub note: Note,
    /// The ARN of the principal who decided.
    pub author: String,
    /// The caller's id for it, if it gave one.
    pub request: Option<RequestId>,
}

/// How far a verdict is on its way back to the product that reported the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be delivered.
    Pending,
    /// The product has it.
    Delivered,
    /// Given up.
    Failed,
    /// Nobody takes it.
    Skipped,
    /// A later verdict came first.
    Superseded,
}

impl DeliveryState {
    const ALL: [Self; 5] = [Self::Pending, Self::Delivered, Self::Failed, Self::Skipped, Self::Superseded];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
            Self::Skipped => "SKIPPED",
            Self::Superseded => "SUPERSEDED",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::DeliveryState {
        match self {
            Self::Pending => api::DeliveryState::Pending,
            Self::Delivered => api::DeliveryState::Delivered,
            Self::Failed => api::DeliveryState::Failed,
            Self::Skipped => api::DeliveryState::Skipped,
            Self::Superseded => api::DeliveryState::Superseded,
        }
    }
}

/// What became of a verdict at the product that reported the finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How far it is.
    pub state: DeliveryState,
    /// Why it failed, was skipped, or is not there yet.
    pub reason: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When this last changed.
    pub time: Timestamp,
}

/// A decision as recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its id, a UUID.
    pub id: String,
    /// Its place in the finding's history, from 1.
    pub sequence: i64,
    /// What was decided.
    pub content: NewVerdict,
    /// When.
    pub create_time: Timestamp,
    /// What became of it at the product that reported the finding; `None` if it is not given back.
    pub delivery: Option<Delivery>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_agree_with_the_messages_by_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.to_proto().as_str_name(), format!("VERDICT_KIND_{}", kind.as_str()));
            assert_eq!(Kind::from_name(kind.as_str()), Some(kind));
            assert_eq!(Kind::from_proto(kind.to_proto() as i32), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert_eq!(Kind::from_proto(0), None);
        assert_eq!(Kind::from_proto(99), None);
        for state in DeliveryState::ALL {
            assert_eq!(state.to_proto().as_str_name(), format!("DELIVERY_STATE_{}", state.as_str()));
            assert_eq!(DeliveryState::from_name(state.as_str()), Some(state));
        }
    }

    #[test]
    fn texts_have_limits() {
        assert!("a".repeat(2_048).parse::<FindingId>().is_ok());
        for bad in [String::new(), "a".repeat(2_049), "a\0".to_owned()] {
            assert!(bad.parse::<FindingId>().is_err());
        }
        assert!("ü".repeat(4_096).parse::<Note>().is_ok());
        assert!("".parse::<Note>().is_ok());
        assert!("ü".repeat(4_097).parse::<Note>().is_err());
        assert!("r".repeat(64).parse::<RequestId>().is_ok());
        assert!("r".repeat(65).parse::<RequestId>().is_err());
        assert!("".parse::<RequestId>().is_err());
    }
}
