//! Events: one normalised log record each, borrowed from the bytes it was parsed from.

use std::{borrow::Cow, fmt, str::FromStr};

use crate::{EntityRef, EntityType, Finding, Invalid, Relation, Timestamp};

/// The log format a record came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum RecordKind {
    /// An AWS CloudTrail record.
    CloudTrail,
    /// A line of a VPC flow log.
    VpcFlow,
    /// An Amazon GuardDuty finding.
    GuardDuty,
    /// An AWS Security Hub finding in ASFF.
    SecurityHub,
    /// A Kubernetes audit event.
    EksAudit,
}

impl RecordKind {
    /// Every kind, in order.
    pub const ALL: &'static [Self] = &[Self::CloudTrail, Self::VpcFlow, Self::GuardDuty, Self::SecurityHub, Self::EksAudit];

    /// The name used in the lake and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CloudTrail => "cloudtrail",
            Self::VpcFlow => "vpc_flow",
            Self::GuardDuty => "guardduty",
            Self::SecurityHub => "security_hub",
            Self::EksAudit => "eks_audit",
        }
    }
}

impl FromStr for RecordKind {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == value).ok_or_else(|| Invalid::new("record kind", value, "not a known record kind"))
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A further relation that one event states, beside its actor's call.
///
/// The subject is the event's actor, but for [`Relation::AffectedBy`], where the linked entity is the
/// subject and the actor (or, for a finding, the finding) the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link<'a> {
    /// How the two relate.
    pub relation: Relation,
    /// The linked entity.
    pub entity: EntityRef<'a>,
    /// A name to show and search by; empty if the id says it all.
    pub name: Cow<'a, str>,
}

/// One normalised log record. Empty text means "not in the record".
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// What makes the record itself, so that a second delivery is known as a duplicate: CloudTrail's `eventID`,
    /// a finding's id with its update time, an audit id with its stage. Empty for formats without an identity
    /// of their own (VPC flow logs), which then take one from source object and position.
    pub id: Cow<'a, str>,
    /// The log format.
    pub kind: RecordKind,
    /// When it happened; for a flow, when its aggregation interval began.
    pub time: Timestamp,
    /// When it ended; `time` for an instant.
    pub end_time: Timestamp,
    /// The account that recorded it, 12 digits.
    pub account: Cow<'a, str>,
    /// The region that recorded it.
    pub region: Cow<'a, str>,
    /// Who acted, as exactly as the record says: the session rather than its role, the interface rather than its instance.
    pub actor: Option<EntityRef<'a>>,
    /// The actor's name to show and search by: session name, user name.
    pub actor_name: Cow<'a, str>,
    /// The actor's other identifier: a session's ARN, a user's `AIDA…` id.
    pub actor_alias: Cow<'a, str>,
    /// What the actor belongs to and is also counted for: the role of a session, the instance of an interface.
    pub parent: Option<EntityRef<'a>>,
    /// The parent's other identifier: a role's `AROA…` id.
    pub parent_alias: Cow<'a, str>,
    /// Who stands behind the actor: source identity, federated identity, Identity Center user.
    pub origin: Option<EntityRef<'a>>,
    /// The service called, such as `s3.amazonaws.com`.
    pub service: Cow<'a, str>,
    /// The operation called, such as `GetObject`; for a Kubernetes audit event, verb and resource: `create pods/exec`.
    pub operation: Cow<'a, str>,
    /// The error code; empty for success.
    pub error: Cow<'a, str>,
    /// Where the call came from: an IP address in canonical text, or the DNS name of a service. For a flow, the remote address.
    pub address: Cow<'a, str>,
    /// The caller's user agent.
    pub user_agent: Cow<'a, str>,
    /// The access key used.
    pub access_key: Cow<'a, str>,
    /// For a flow, how local and remote side relate: connected to, accepted from, rejected from.
    pub flow: Option<Relation>,
    /// For a flow, the service port: the remote one if the local side connected, else the local one. -1 if absent.
    pub port: i32,
    /// For a flow, the IANA protocol number. -1 if absent.
    pub protocol: i32,
    /// Bytes into the actor.
    pub bytes_in: u64,
    /// Bytes out of the actor.
    pub bytes_out: u64,
    /// Packets into the actor.
    pub packets_in: u64,
    /// Packets out of the actor.
    pub packets_out: u64,
    /// Further relations that the record states.
    pub links: Vec<Link<'a>>,
    /// For a finding, what the detector said.
    pub finding: Option<Box<Finding<'a>>>,
    /// For a CloudTrail addendum, the `eventID` that it corrects. Such an event is kept, but adds nothing to edges:
    /// its original did.
    pub corrects: Cow<'a, str>,
    /// Where the record begins in the source object, in bytes after decompression.
    pub offset: u64,
    /// The record as it came.
    pub raw: Cow<'a, str>,
}

impl<'a> Event<'a> {
    /// An event with nothing in it but its kind, time and text.
    #[must_use]
    pub fn new(kind: RecordKind, time: Timestamp, raw: impl Into<Cow<'a, str>>) -> Self {
        const NONE: Cow<'static, str> = Cow::Borrowed("");
        Self {
            id: NONE,
            kind,
            time,
            end_time: time,
            account: NONE,
            region: NONE,
            actor: None,
            actor_name: NONE,
            actor_alias: NONE,
            parent: None,
            parent_alias: NONE,
            origin: None,
            service: NONE,
            operation: NONE,
            error: NONE,
            address: NONE,
            user_agent: NONE,
            access_key: NONE,
            flow: None,
            port: -1,
            protocol: -1,
            bytes_in: 0,
            bytes_out: 0,
            packets_in: 0,
            packets_out: 0,
            links: Vec::new(),
            finding: None,
            corrects: NONE,
            offset: 0,
            raw: raw.into(),
        }
    }

    /// Adds a link, unless its id is empty or it is already there.
    pub fn link(&mut self, relation: Relation, kind: EntityType, id: impl Into<Cow<'a, str>>, name: impl Into<Cow<'a, str>>) {
        let link = Link { relation, entity: EntityRef::new(kind, id), name: name.into() };
        let known = self.links.iter().any(|other| other.relation == relation && other.entity == link.entity);
        if !link.entity.id.is_empty() && !known {
            self.links.push(link);
        }
    }
}

/// A record that could not be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Where it begins in the source object, in bytes after decompression.
    pub offset: u64,
    /// Its length in bytes, which may be more than what is kept of it.
    pub length: u64,
    /// Why, naming the field where one is at fault.
    pub reason: String,
    /// Its first bytes, at most [`MAX_DEAD_LETTER_BYTES`], invalid UTF-8 replaced.
    pub raw: Cow<'a, str>,
}

/// How much of an unparsable record is kept, in bytes.
pub const MAX_DEAD_LETTER_BYTES: usize = 64 * 1024;
