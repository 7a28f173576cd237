//! What the graph knows of an investigation's subject: all that detectors look at.

use std::collections::HashMap;

use gumshoe_model::{AccountId, TimeWindow, Timestamp};

use crate::{investigation::Subject, techniques::Technique};

/// With fewer days of records in the baseline, everything is new and newness says nothing.
pub const TRAINING_DAYS: u32 = 14;

/// One value of a kind - an operation, an address - with what was measured in the scope time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The value.
    pub name: String,
    /// For an operation, its service, such as `iam.amazonaws.com`.
    pub service: String,
    /// For an address, its country; empty if it is private or not known.
    pub country: String,
    /// Records.
    pub count: u64,
    /// The earliest.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
    /// Whether it was not seen in the 45 days before.
    pub new: bool,
}

/// What an entity did in a scope time, compared with the 45 days before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Habits {
    /// The entity's other identifiers.
    pub aliases: Vec<String>,
    /// The account that it belongs to, where known.
    pub account: Option<AccountId>,
    /// Days of the baseline with any record of its account.
    pub baseline_days: u32,
    /// Operations that it called.
    pub operations: Vec<Seen>,
    /// Addresses that it called from.
    pub addresses: Vec<Seen>,
    /// Countries of those.
    pub countries: Vec<Seen>,
    /// Networks of those.
    pub networks: Vec<Seen>,
    /// User agents that it used.
    pub user_agents: Vec<Seen>,
}

impl Habits {
    /// Whether there is too little baseline to tell what is new.
    #[must_use]
    pub fn in_training(&self) -> bool {
        self.baseline_days < TRAINING_DAYS
    }

    /// Countries by address.
    #[must_use]
    pub fn places(&self) -> HashMap<&str, &str> {
        self.addresses.iter().filter(|seen| !seen.country.is_empty()).map(|seen| (seen.name.as_str(), seen.country.as_str())).collect()
    }
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// When.
    pub time: Timestamp,
    /// Who called, as `type:id`: the user, or one session of the role.
    pub actor: String,
    /// The service called.
    pub service: String,
    /// The operation called.
    pub operation: String,
    /// Whether it failed.
    pub failed: bool,
    /// From where; not always an address.
    pub address: String,
    /// What detection rules that it matched say.
    pub techniques: Vec<Technique>,
}

/// A finding that affects the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelatedFinding {
    /// Its ARN or id.
    pub id: String,
    /// Its type.
    pub finding_type: String,
    /// An address that it names, or empty.
    pub address: String,
}

/// An address that a threat list has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlaggedAddress {
    /// The address.
    pub address: String,
    /// The list.
    pub list: String,
    /// What the list says of it; may be empty.
    pub category: String,
}

/// All that is known of a subject in a scope time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of whom.
    pub subject: Subject,
    /// When.
    pub scope: TimeWindow,
    /// What it did.
    pub habits: Habits,
    /// What its account did.
    pub account: Habits,
    /// Its calls that detection rules matched.
    pub calls: Vec<Call>,
    /// Its calls around those that came from another country than most.
    pub travels: Vec<Call>,
    /// Findings that affect it.
    pub findings: Vec<RelatedFinding>,
    /// Open groups of findings that name it or hold one of these, by id, worst first.
    pub groups: Vec<String>,
    /// Addresses that it called from and that threat lists have, those of most records first.
    pub flagged: Vec<FlaggedAddress>,
}

impl Facts {
    /// Nothing is known: the graph has never seen the subject.
    #[must_use]
    pub fn none(subject: Subject, scope: TimeWindow) -> Self {
        Self {
            subject,
            scope,
            habits: Habits::default(),
            account: Habits::default(),
            calls: Vec::new(),
            travels: Vec::new(),
            findings: Vec::new(),
            groups: Vec::new(),
            flagged: Vec::new(),
        }
    }
}
