//! Findings: what a detector said.

use std::{borrow::Cow, fmt};

use crate::Timestamp;

/// Our own name, as findings have it that are made of behaviour and rules.
pub const PRODUCT: &str = "Gumshoe";

/// How bad, in Security Hub's five words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Informational,
    /// GuardDuty 1.0 to 3.9.
    Low,
    /// GuardDuty 4.0 to 6.9.
    Medium,
    /// GuardDuty 7.0 to 8.9.
    High,
    /// GuardDuty 9.0 to 10.0.
    Critical,
}

impl Severity {
    /// The level of a score from 0 to 10, by GuardDuty's bands.
    #[must_use]
    pub fn of_score(score: f64) -> Self {
        match score {
            score if score >= 9.0 => Self::Critical,
            score if score >= 7.0 => Self::High,
            score if score >= 4.0 => Self::Medium,
            score if score >= 1.0 => Self::Low,
            _ => Self::Informational,
        }
    }

    /// The name Security Hub uses: `HIGH`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "INFORMATIONAL",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A detector's statement, as of one update. Its affected entities are the event's links.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding<'a> {
    /// Its ARN, or the id its product gives.
    pub id: Cow<'a, str>,
    /// The type, such as `UnauthorizedAccess:IAMUser/TorIPCaller`.
    pub finding_type: Cow<'a, str>,
    /// The product that said it: `GuardDuty`, a Security Hub product ARN, or [`PRODUCT`].
    pub product: Cow<'a, str>,
    /// One line.
    pub title: Cow<'a, str>,
    /// More lines.
    pub description: Cow<'a, str>,
    /// 0 to 10 (Security Hub's 0 to 100 divided by ten).
    pub severity: f64,
    /// How often it was seen.
    pub count: u64,
    /// When the behaviour was first seen.
    pub first_seen: Timestamp,
    /// When the behaviour was last seen.
    pub last_seen: Timestamp,
    /// When the detector last changed the finding.
    pub updated: Timestamp,
    /// Whether it is archived or resolved at its source.
    pub archived: bool,
}
