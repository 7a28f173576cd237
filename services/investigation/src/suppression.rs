//! Suppressions: which findings are left out of listings, as proposed after a verdict of a false positive.

use std::str::FromStr;

use gumshoe_api::{convert::entity_to_proto, investigation::v1 as api};
use gumshoe_model::{EntityKey, EntityType, Invalid, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    finding::Finding,
    verdict::{FindingId, Kind},
};

/// A suppression's id, a UUID; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SuppressionId(Uuid);

impl SuppressionId {
    /// A new id.
    #[must_use]
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl std::fmt::Display for SuppressionId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for SuppressionId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        Uuid::try_parse(value).map(Self).map_err(|_| Invalid::new("suppression id", value, "expected a UUID"))
    }
}

/// Whether a suppression is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// To be accepted or dismissed.
    Proposed,
    /// In force.
    Accepted,
    /// Not wanted.
    Dismissed,
    /// Over.
    Deleted,
}

impl State {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Proposed, Self::Accepted, Self::Dismissed, Self::Deleted];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "PROPOSED",
            Self::Accepted => "ACCEPTED",
            Self::Dismissed => "DISMISSED",
            Self::Deleted => "DELETED",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::SuppressionState {
        match self {
            Self::Proposed => api::SuppressionState::Proposed,
            Self::Accepted => api::SuppressionState::Accepted,
            Self::Dismissed => api::SuppressionState::Dismissed,
            Self::Deleted => api::SuppressionState::Deleted,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.to_proto() as i32 == number)
    }
}

/// What an analyst does with a suppression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Puts it in force.
    Accept,
    /// Does not want it.
    Dismiss,
    /// Ends it.
    Delete,
}

impl Decision {
    /// The states that allow it, and the one that it leads to.
    #[must_use]
    pub fn states(self) -> (&'static [State], State) {
        match self {
            Self::Accept => (&[State::Proposed, State::Dismissed], State::Accepted),
            Self::Dismiss => (&[State::Proposed], State::Dismissed),
            Self::Delete => (&[State::Proposed, State::Accepted, State::Dismissed], State::Deleted),
        }
    }
}

/// Which findings a suppression covers: those to which all of it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Their type.
    pub finding_type: String,
    /// Their product.
    pub product: String,
    /// Their account.
    pub account: String,
    /// Entities that each of them affects, sorted.
    pub entities: Vec<EntityKey>,
}

/// Whether an entity lasts: who acted, from where and upon what, but not what is new each time, such as a session or a key.
fn lasts(entity: &EntityKey) -> bool {
    match entity.kind {
        EntityType::Account
        | EntityType::User
        | EntityType::Role
        | EntityType::FederatedUser
        | EntityType::Root
        | EntityType::AwsService
        | EntityType::IpAddress
        | EntityType::Ec2Instance
        | EntityType::S3Bucket
        | EntityType::Resource
        | EntityType::EksCluster
        | EntityType::KubernetesSubject
        | EntityType::ContainerImage => true,
        EntityType::RoleSession | EntityType::AccessKey | EntityType::NetworkInterface | EntityType::UserAgent | EntityType::Pod | EntityType::Finding => false,
    }
}

impl Pattern {
    /// The narrowest pattern that covers a finding and can cover another one: its type, product, account and every entity
    /// that lasts; of a finding that names none of these, every entity.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        let mut entities: Vec<_> = finding.entities.iter().filter(|entity| lasts(entity)).cloned().collect();
        if entities.is_empty() {
            entities.clone_from(&finding.entities);
        }
        entities.sort_unstable();
        entities.dedup();
        Self { finding_type: finding.finding_type.clone(), product: finding.product.clone(), account: finding.account.clone(), entities }
    }

    /// Whether it covers a finding.
    #[must_use]
    pub fn covers(&self, finding: &Finding) -> bool {
        self.finding_type == finding.finding_type
            && self.product == finding.product
            && self.account == finding.account
            && self.entities.iter().all(|entity| finding.entities.contains(entity))
    }

    /// Whether every store can hold it: Postgres has no NUL.
    #[must_use]
    pub fn is_storable(&self) -> bool {
        let ids = self.entities.iter().map(|entity| &entity.id);
        [&self.finding_type, &self.product, &self.account].into_iter().chain(ids).all(|text| !text.contains('\0'))
    }

    /// The same for the same pattern only.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let entities: Vec<_> = self.entities.iter().map(ToString::to_string).collect();
        for part in [&self.finding_type, &self.product, &self.account].into_iter().chain(&entities) {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
        hex::encode(digest.finalize())
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(&self) -> api::FindingPattern {
        api::FindingPattern {
            r#type: self.finding_type.clone(),
            product: self.product.clone(),
            account_id: self.account.clone(),
            entities: self.entities.iter().map(entity_to_proto).collect(),
        }
    }
}

/// Who did something, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The ARN of a principal.
    pub author: String,
    /// When.
    pub time: Timestamp,
}

/// A suppression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppression {
    /// Its id.
    pub id: SuppressionId,
    /// Whether it is in force.
    pub state: State,
    /// Which findings it covers.
    pub pattern: Pattern,
    /// The finding whose verdict proposed it.
    pub finding: FindingId,
    /// That verdict's id.
    pub verdict: String,
    /// Who gave the verdict, and when the suppression was proposed.
    pub proposed: Mark,
    /// Findings that it covered then.
    pub past_findings: u64,
    /// Who accepted or dismissed it.
    pub decided: Option<Mark>,
    /// Who deleted it.
    pub deleted: Option<Mark>,
}

/// The suppression that covers a finding, if one does. A verdict that the finding is an attack, or open again, is stronger.
#[must_use]
pub fn covering<'a>(accepted: &'a [Suppression], finding: &Finding, verdict: Option<Kind>) -> Option<&'a Suppression> {
    match verdict {
        Some(Kind::TruePositive | Kind::Reopened) => None,
        Some(Kind::FalsePositive | Kind::Benign) | None => accepted.iter().find(|suppression| suppression.pattern.covers(finding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(entities: &[&str]) -> Finding {
        Finding {
            id: "f".to_owned(),
            finding_type: "Recon:IAMUser/TorIPCaller".to_owned(),
            product: "GuardDuty".to_owned(),
            account: "111111111111".to_owned(),
            region: "us-east-1".to_owned(),
            entities: entities.iter().map(|text| text.parse().unwrap()).collect(),
            ..Finding::default()
        }
    }

    #[test]
    fn states_agree_with_the_messages_by_name() {
        for state in State::ALL {
            assert_eq!(state.to_proto().as_str_name(), format!("SUPPRESSION_STATE_{}", state.as_str()));
            assert_eq!((State::from_name(state.as_str()), State::from_proto(state.to_proto() as i32)), (Some(state), Some(state)));
        }
        assert_eq!((State::from_proto(0), State::from_proto(99)), (None, None));
    }

    #[test]
    fn a_pattern_has_all_that_lasts() {
        let scanner = finding(&["user:ann", "ip_address:203.0.113.9", "access_key:AKIA1", "ip_address:203.0.113.9"]);
        let pattern = Pattern::of(&scanner);
        let names: Vec<_> = pattern.entities.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["user:ann", "ip_address:203.0.113.9"]);
        assert!(pattern.covers(&scanner));
        assert!(pattern.covers(&finding(&["ip_address:203.0.113.9", "user:ann", "access_key:AKIA2"])), "with another key");
        assert_eq!(Pattern::of(&finding(&["access_key:AKIA1"])).entities.len(), 1, "rather one that changes than none");
    }

    #[test]
    fn a_pattern_covers_what_agrees_in_all_of_it() {
        let scanner = finding(&["user:ann", "ip_address:203.0.113.9"]);
        let pattern = Pattern::of(&scanner);
        let others = [
            Finding { finding_type: "Recon:IAMUser/X".to_owned(), ..scanner.clone() },
            Finding { product: "Inspector".to_owned(), ..scanner.clone() },
            Finding { account: "222222222222".to_owned(), ..scanner.clone() },
            finding(&["user:ann", "ip_address:203.0.113.10"]),
            finding(&["user:ann"]),
        ];
        for other in others {
            assert!(!pattern.covers(&other), "{other:?}");
            assert_ne!(Pattern::of(&other).digest(), pattern.digest(), "{other:?}");
        }
        let turned = finding(&["ip_address:203.0.113.9", "user:ann"]);
        assert_eq!(Pattern::of(&Finding { id: "g".to_owned(), region: "eu-west-1".to_owned(), ..turned }).digest(), pattern.digest());
    }

    #[test]
    fn a_verdict_is_stronger_than_a_suppression() {
        let scanner = finding(&["user:ann"]);
        let mark = Mark { author: "arn:aws:iam::111111111111:user/ann".to_owned(), time: Timestamp(1) };
        let suppression = Suppression {
            id: SuppressionId::generate(),
            state: State::Accepted,
            pattern: Pattern::of(&scanner),
            finding: "f".parse().unwrap(),
            verdict: "v".to_owned(),
            proposed: mark.clone(),
            past_findings: 1,
            decided: Some(mark),
            deleted: None,
        };
        let accepted = [suppression];
        for (verdict, covered) in
            [(None, true), (Some(Kind::FalsePositive), true), (Some(Kind::Benign), true), (Some(Kind::TruePositive), false), (Some(Kind::Reopened), false)]
        {
            assert_eq!(covering(&accepted, &scanner, verdict).is_some(), covered, "{verdict:?}");
        }
        assert!(covering(&accepted, &finding(&["user:bob"]), None).is_none());
    }
}
