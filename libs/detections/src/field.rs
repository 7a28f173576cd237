//! Fields that rules name: parts of an event that are known anyway, and paths into its record.

use gumshoe_model::RecordKind;

/// A part of an event. These cost nothing to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Slot {
    Service,
    Operation,
    Error,
    Address,
    UserAgent,
    Account,
    Region,
    AccessKey,
    Id,
    Actor,
    ActorType,
    ActorName,
    Parent,
    Origin,
    Assumed,
    Flow,
    Port,
    Protocol,
    BytesIn,
    BytesOut,
    PacketsIn,
    PacketsOut,
    FindingType,
    FindingProduct,
    FindingSeverity,
    FindingTitle,
    Verb,
    Resource,
    Subresource,
}

/// Names that every kind of record has, after `event.`.
const COMMON: &[(&str, Slot)] = &[
    ("service", Slot::Service),
    ("operation", Slot::Operation),
    ("error", Slot::Error),
    ("address", Slot::Address),
    ("user_agent", Slot::UserAgent),
    ("account", Slot::Account),
    ("region", Slot::Region),
    ("access_key", Slot::AccessKey),
    ("id", Slot::Id),
    ("actor", Slot::Actor),
    ("actor_type", Slot::ActorType),
    ("actor_name", Slot::ActorName),
    ("parent", Slot::Parent),
    ("origin", Slot::Origin),
    ("assumed", Slot::Assumed),
    ("flow", Slot::Flow),
    ("port", Slot::Port),
    ("protocol", Slot::Protocol),
    ("bytes_in", Slot::BytesIn),
    ("bytes_out", Slot::BytesOut),
    ("packets_in", Slot::PacketsIn),
    ("packets_out", Slot::PacketsOut),
    ("finding_type", Slot::FindingType),
    ("finding_product", Slot::FindingProduct),
    ("finding_severity", Slot::FindingSeverity),
    ("finding_title", Slot::FindingTitle),
];

/// Fields of records that an event has as they are. An error that has no code is known by its message, so that `errorCode: null` means
/// success.
const CLOUDTRAIL: &[(&str, Slot)] = &[
    ("eventSource", Slot::Service),
    ("eventName", Slot::Operation),
    ("errorCode", Slot::Error),
    ("awsRegion", Slot::Region),
    ("sourceIPAddress", Slot::Address),
    ("userAgent", Slot::UserAgent),
    ("userIdentity.accessKeyId", Slot::AccessKey),
];
const KUBERNETES: &[(&str, Slot)] = &[
    ("verb", Slot::Verb),
    ("objectRef.resource", Slot::Resource),
    ("objectRef.subresource", Slot::Subresource),
    ("user.username", Slot::ActorName),
    ("userAgent", Slot::UserAgent),
];

/// Where a rule looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// A part of the event.
    Slot(Slot),
    /// A path into the record, or into the element at hand.
    Path(Path),
}

impl Field {
    /// What a name stands for in a record of a kind; `Err` with the reason for none.
    pub(crate) fn of(kind: RecordKind, name: &str) -> Result<Self, String> {
        if let Some(common) = name.strip_prefix("event.") {
            let slot = COMMON.iter().find(|(known, _)| *known == common).map(|(_, slot)| Self::Slot(*slot));
            return slot.ok_or_else(|| format!("`{name}` is not a part of an event"));
        }
        let known = match kind {
            RecordKind::CloudTrail => CLOUDTRAIL,
            RecordKind::EksAudit => KUBERNETES,
            RecordKind::VpcFlow => return Err("the record of a flow has no fields; use `event.port` and the like".to_owned()),
            RecordKind::GuardDuty | RecordKind::SecurityHub => &[],
        };
        match known.iter().find(|(known, _)| *known == name) {
            Some((_, slot)) => Ok(Self::Slot(*slot)),
            None => Path::new(name).map(Self::Path),
        }
    }

    /// How much work it is to look: a part of the event, or reading the record.
    pub(crate) fn cost(&self) -> u32 {
        match self {
            // Mostly known to hold by the index.
            Self::Slot(Slot::Service | Slot::Operation | Slot::Resource) => 3,
            Self::Slot(_) => 0,
            Self::Path(_) => 10,
        }
    }
}

/// Keys, one in the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path {
    /// What is left of the path from each key on, so that a key that has dots itself is found: `a.b.c`, `b.c`, `c`.
    rests: Vec<Box<str>>,
}

/// Most keys of a path.
const MAX_KEYS: usize = 24;

impl Path {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let mut rests: Vec<Box<str>> = vec![name.into()];
        rests.extend(name.match_indices('.').filter_map(|(place, _)| Some(name.get(place + 1..)?.into())));
        if rests.len() > MAX_KEYS || name.is_empty() || name.split('.').any(str::is_empty) {
            return Err(format!("`{name}` is not a field: expected names with dots between, at most {MAX_KEYS}"));
        }
        Ok(Self { rests })
    }

    /// The keys, each with what is left of the path.
    pub(crate) fn rests(&self) -> &[Box<str>] {
        &self.rests
    }
}
