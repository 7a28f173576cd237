//! Operations of AWS and the techniques of MITRE ATT&CK (Enterprise, version 17) that they can be.
//!
//! The rules state behaviour: what was called, and, where the call alone says little, what it asked for. To add one, add a
//! row to the table.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::investigation::Subject;

mod requests;
mod table;

pub use table::TABLE;

/// Tactics of ATT&CK that the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tactic {
    /// TA0001.
    InitialAccess,
    /// TA0002.
    Execution,
    /// TA0003.
    Persistence,
    /// TA0004.
    PrivilegeEscalation,
    /// TA0005.
    DefenseEvasion,
    /// TA0006.
    CredentialAccess,
    /// TA0007.
    Discovery,
    /// TA0008.
    LateralMovement,
    /// TA0009.
    Collection,
    /// TA0010.
    Exfiltration,
    /// TA0040.
    Impact,
}

impl Tactic {
    /// Every tactic.
    pub const ALL: [Self; 11] = [
        Self::InitialAccess,
        Self::Execution,
        Self::Persistence,
        Self::PrivilegeEscalation,
        Self::DefenseEvasion,
        Self::CredentialAccess,
        Self::Discovery,
        Self::LateralMovement,
        Self::Collection,
        Self::Exfiltration,
        Self::Impact,
    ];

    /// Its name in ATT&CK.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InitialAccess => "Initial Access",
            Self::Execution => "Execution",
            Self::Persistence => "Persistence",
            Self::PrivilegeEscalation => "Privilege Escalation",
            Self::DefenseEvasion => "Defense Evasion",
            Self::CredentialAccess => "Credential Access",
            Self::Discovery => "Discovery",
            Self::LateralMovement => "Lateral Movement",
            Self::Collection => "Collection",
            Self::Exfiltration => "Exfiltration",
            Self::Impact => "Impact",
        }
    }
}

impl fmt::Display for Tactic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// When calls of an operation are a technique.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Always: the operation is sensitive by nature.
    Always,
    /// If the subject did not call it in the 45 days before.
    New,
    /// If it was called so often, and the subject did not call it in the 45 days before, or far less.
    Burst(u64),
    /// If the call's record says that it asked for something sensitive.
    If(fn(&Subject, &Value) -> bool),
}

/// An operation, and the technique that it can be.
#[derive(Debug, Clone, Copy)]
pub struct Technique {
    /// The service, without `.amazonaws.com`.
    pub service: &'static str,
    /// The operation, as CloudTrail writes it.
    pub operation: &'static str,
    /// The tactic that it serves.
    pub tactic: Tactic,
    /// The technique's id.
    pub id: &'static str,
    /// What it does, in words.
    pub procedure: &'static str,
    /// When.
    pub when: When,
}

/// Rows of the table for an operation, in order: the first that applies to a call takes it.
pub fn of<'a>(service: &'a str, operation: &'a str) -> impl Iterator<Item = &'static Technique> + use<'a> {
    let service = service.strip_suffix(".amazonaws.com").unwrap_or(service);
    TABLE.iter().filter(move |row| row.service == service && row.operation == operation)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_well_formed() {
        for row in TABLE {
            let (main, sub) = row.id.split_once('.').unwrap_or((row.id, "001"));
            let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            assert!(main.len() == 5 && main.starts_with('T') && digits(&main[1..]) && sub.len() == 3 && digits(sub), "{row:?}");
            assert!(row.service.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{row:?}");
            assert!(!row.operation.is_empty() && row.operation.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{row:?}");
            assert!(row.procedure.starts_with(|first: char| first.is_uppercase()) && !row.procedure.ends_with('.'), "{row:?}");
        }
        let tactics: BTreeSet<_> = TABLE.iter().map(|row| row.tactic).collect();
        assert_eq!(tactics.len(), Tactic::ALL.len(), "every tactic is used");
    }

    #[test]
    fn every_row_can_be_reached() {
        let mut settled = BTreeSet::new();
        for row in TABLE {
            let operation = (row.service, row.operation);
            assert!(!settled.contains(&operation), "a row before takes all calls: {row:?}");
            if matches!(row.when, When::Always) {
                settled.insert(operation);
            }
        }
    }

    #[test]
    fn one_technique_has_one_tactic() {
        // Else its points would depend on which call was seen.
        for row in TABLE {
            assert!(TABLE.iter().all(|other| other.id != row.id || other.tactic == row.tactic), "{row:?}");
        }
    }

    #[test]
    fn operations_are_found_by_the_service_as_records_write_it() {
        assert!(of("cloudtrail.amazonaws.com", "StopLogging").any(|row| row.id == "T1562.008"));
        assert_eq!(of("cloudtrail.amazonaws.com", "CreateUser").count(), 0);
    }
}
