//! Techniques of MITRE ATT&CK (Enterprise, version 17), as the detection rules that matched a call name them.

use std::{fmt, str::FromStr};

use gumshoe_model::Invalid;
use serde::{Deserialize, Serialize};

/// Tactics of ATT&CK.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tactic {
    /// TA0043.
    Reconnaissance,
    /// TA0042.
    ResourceDevelopment,
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
    /// TA0011.
    CommandAndControl,
    /// TA0010.
    Exfiltration,
    /// TA0040.
    Impact,
}

impl Tactic {
    /// Every tactic, in the order of an attack.
    pub const ALL: [Self; 14] = [
        Self::Reconnaissance,
        Self::ResourceDevelopment,
        Self::InitialAccess,
        Self::Execution,
        Self::Persistence,
        Self::PrivilegeEscalation,
        Self::DefenseEvasion,
        Self::CredentialAccess,
        Self::Discovery,
        Self::LateralMovement,
        Self::Collection,
        Self::CommandAndControl,
        Self::Exfiltration,
        Self::Impact,
    ];

    /// Its name in ATT&CK.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reconnaissance => "Reconnaissance",
            Self::ResourceDevelopment => "Resource Development",
            Self::InitialAccess => "Initial Access",
            Self::Execution => "Execution",
            Self::Persistence => "Persistence",
            Self::PrivilegeEscalation => "Privilege Escalation",
            Self::DefenseEvasion => "Defense Evasion",
            Self::CredentialAccess => "Credential Access",
            Self::Discovery => "Discovery",
            Self::LateralMovement => "Lateral Movement",
            Self::Collection => "Collection",
            Self::CommandAndControl => "Command and Control",
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

impl FromStr for Tactic {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|tactic| tactic.as_str() == value).ok_or_else(|| Invalid::new("tactic", value, "must be a tactic of MITRE ATT&CK"))
    }
}

/// Levels of rules, lowest first.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

/// A rule that matched a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Technique {
    /// How much it matters; larger is more.
    pub level: usize,
    /// The tactic that it serves.
    pub tactic: Tactic,
    /// The technique's id.
    pub id: String,
    /// Ids of further techniques that the rule names.
    pub others: Vec<String>,
    /// What was done, in words.
    pub procedure: String,
    /// Whether it counts only if the operation is new for the subject.
    pub only_if_new: bool,
}

impl Technique {
    /// What a rule says; `None` if it names no technique or tactic.
    #[must_use]
    pub fn of(rule: gumshoe_api::graph::v1::MatchedRule) -> Option<Self> {
        let mut techniques = rule.techniques.into_iter();
        Some(Self {
            level: LEVELS.iter().position(|level| *level == rule.level).unwrap_or_default(),
            tactic: rule.tactics.first()?.parse().ok()?,
            id: techniques.next()?,
            others: techniques.collect(),
            procedure: rule.title,
            only_if_new: rule.only_if_new,
        })
    }
}

#[cfg(test)]
mod tests {
    use gumshoe_api::graph::v1::MatchedRule;

    use super::*;

    #[test]
    fn rules_are_techniques_by_the_first_that_they_name() {
        let rule = MatchedRule {
            id: "x".to_owned(),
            title: "A trail was stopped or deleted".to_owned(),
            level: "high".to_owned(),
            tactics: vec!["Defense Evasion".to_owned(), "Impact".to_owned()],
            techniques: vec!["T1562.008".to_owned(), "T1485".to_owned()],
            only_if_new: false,
        };
        let found = Technique::of(rule.clone()).unwrap();
        assert_eq!((found.level, found.tactic, found.id.as_str()), (3, Tactic::DefenseEvasion, "T1562.008"));
        assert_eq!(found.others, ["T1485"]);
        assert_eq!(Technique::of(MatchedRule { tactics: Vec::new(), ..rule.clone() }), None);
        assert_eq!(Technique::of(MatchedRule { techniques: Vec::new(), ..rule }), None);
        for tactic in Tactic::ALL {
            assert_eq!(tactic.as_str().parse(), Ok(tactic));
        }
    }
}
