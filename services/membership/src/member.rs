//! Accounts in a graph: how they stand, and the one function that says how that may change.

use gumshoe_api::membership::v1 as api;
use gumshoe_model::{AccountId, GraphArn, Timestamp};

use crate::account::Email;

/// Members that a graph can have.
///
/// Source: Amazon Detective quotas.
pub const MAX_MEMBERS: usize = 1_200;

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Asked, not answered.
    Invited,
    /// Nobody has registered the account, so that its e-mail address cannot be compared yet.
    VerificationInProgress,
    /// The e-mail address does not belong to the account.
    VerificationFailed,
    /// Gives data.
    Enabled,
    /// Accepted, but gives no data.
    AcceptedButDisabled(DisabledReason),
}

/// Why a member that has accepted gives no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisabledReason {
    /// With it, the graph would take in more than its limit a day.
    VolumeTooHigh,
    /// Its volume is not known.
    VolumeUnknown,
}

/// How a member came to the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InvitationType {
    /// It was invited.
    Invitation,
    /// It belongs to the administrator's organization.
    Organization,
}

impl Status {
    const ALL: [Self; 6] = [
        Self::Invited,
        Self::VerificationInProgress,
        Self::VerificationFailed,
        Self::Enabled,
        Self::AcceptedButDisabled(DisabledReason::VolumeTooHigh),
        Self::AcceptedButDisabled(DisabledReason::VolumeUnknown),
    ];

    /// The name as in the Amazon Detective API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "INVITED",
            Self::VerificationInProgress => "VERIFICATION_IN_PROGRESS",
            Self::VerificationFailed => "VERIFICATION_FAILED",
            Self::Enabled => "ENABLED",
            Self::AcceptedButDisabled(_) => "ACCEPTED_BUT_DISABLED",
        }
    }

    /// Why it is disabled.
    #[must_use]
    pub const fn disabled_reason(self) -> Option<DisabledReason> {
        match self {
            Self::AcceptedButDisabled(reason) => Some(reason),
            Self::Invited | Self::VerificationInProgress | Self::VerificationFailed | Self::Enabled => None,
        }
    }

    /// The status of that name and reason.
    #[must_use]
    pub fn from_names(name: &str, reason: Option<&str>) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name && status.disabled_reason().map(DisabledReason::as_str) == reason)
    }

    /// Whether the account has agreed to give its data.
    #[must_use]
    pub const fn is_accepted(self) -> bool {
        matches!(self, Self::Enabled | Self::AcceptedButDisabled(_))
    }

    /// Whether the account itself gets to see the membership: not before its e-mail address is known to be right.
    #[must_use]
    pub const fn is_visible_to_member(self) -> bool {
        matches!(self, Self::Invited | Self::Enabled | Self::AcceptedButDisabled(_))
    }

    /// As in messages.
    #[must_use]
    pub const fn to_proto(self) -> api::MemberStatus {
        match self {
            Self::Invited => api::MemberStatus::Invited,
            Self::VerificationInProgress => api::MemberStatus::VerificationInProgress,
            Self::VerificationFailed => api::MemberStatus::VerificationFailed,
            Self::Enabled => api::MemberStatus::Enabled,
            Self::AcceptedButDisabled(_) => api::MemberStatus::AcceptedButDisabled,
        }
    }
}

impl DisabledReason {
    /// The name as in the Amazon Detective API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VolumeTooHigh => "VOLUME_TOO_HIGH",
            Self::VolumeUnknown => "VOLUME_UNKNOWN",
        }
    }

    /// As in messages.
    #[must_use]
    pub const fn to_proto(self) -> api::MemberDisabledReason {
        match self {
            Self::VolumeTooHigh => api::MemberDisabledReason::VolumeTooHigh,
            Self::VolumeUnknown => api::MemberDisabledReason::VolumeUnknown,
        }
    }
}

impl InvitationType {
    /// The name as in the Amazon Detective API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invitation => "INVITATION",
            Self::Organization => "ORGANIZATION",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Invitation, Self::Organization].into_iter().find(|kind| kind.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub const fn to_proto(self) -> api::InvitationType {
        match self {
            Self::Invitation => api::InvitationType::Invitation,
            Self::Organization => api::InvitationType::Organization,
        }
    }
}

/// A status with the way to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Standing {
    /// How the member stands.
    pub status: Status,
    /// How it came to the graph.
    pub invitation_type: InvitationType,
}

impl Standing {
    const ENABLED_BY_ORGANIZATION: Self = Self { status: Status::Enabled, invitation_type: InvitationType::Organization };

    const fn invited(status: Status) -> Self {
        Self { status, invitation_type: InvitationType::Invitation }
    }

    /// Whether [`transition`] can lead here: accounts of an organization are not asked.
    #[must_use]
    pub const fn is_legal(self) -> bool {
        matches!(self.invitation_type, InvitationType::Invitation) || self.status.is_accepted()
    }
}

/// An account to add to a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMember {
    /// The account.
    pub account: AccountId,
    /// E-mail address of its root user, as the administrator knows it.
    pub email: Email,
}

/// An account in a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The graph.
    pub graph: GraphArn,
    /// The account.
    pub account: AccountId,
    /// E-mail address as invited.
    pub email: Email,
    /// How it stands.
    pub standing: Standing,
    /// When it was invited.
    pub invite_time: Timestamp,
    /// When its status last changed.
    pub update_time: Timestamp,
}

/// What happens to a membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The administrator names the account.
    Create,
    /// The account, named before, is registered.
    Register,
    /// The account accepts.
    Accept,
    /// The account refuses.
    Reject,
    /// The administrator wants a disabled member's data.
    StartMonitoring,
    /// The account leaves.
    Disassociate,
    /// The administrator removes the account, or its organization does.
    Delete,
    /// The account comes to be of the organization whose graph it is.
    JoinOrganization,
}

/// Whether the account's own e-mail address is the one given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registration {
    /// Nobody has registered the account.
    Missing,
    /// It is.
    Matching,
    /// It is another.
    Differing,
}

impl Registration {
    /// Compares the address of a registered account with the one given.
    #[must_use]
    pub fn of(registered: Option<&Email>, given: &Email) -> Self {
        match registered {
            None => Self::Missing,
            Some(email) if email.matches(given) => Self::Matching,
            Some(_) => Self::Differing,
        }
    }

    const fn status(self) -> Status {
        match self {
            Self::Missing => Status::VerificationInProgress,
            Self::Matching => Status::Invited,
            Self::Differing => Status::VerificationFailed,
        }
    }
}

/// Whether the graph can take the account's logs as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// It can.
    Fits,
    /// It would take in more than its limit a day.
    TooHigh,
    /// How much there is cannot be had.
    Unknown,
}

/// What [`transition`] must know beside the membership itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether the account's own e-mail address is the one given: for [`Event::Create`] and [`Event::Register`].
    pub registration: Registration,
    /// Whether the account belongs to the organization whose graph it is: for [`Event::Create`].
    pub in_organization: bool,
    /// Whether its logs fit: for [`Event::Accept`] and [`Event::StartMonitoring`].
    pub load: Load,
}

/// Why a membership stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The account administers the graph.
    IsAdministrator,
    /// The account is a member.
    IsMember,
    /// The account is invited, under another e-mail address.
    IsInvited,
    /// The account is not a member.
    IsNoMember,
    /// A member of this status cannot do it.
    Status(Status),
    /// The account's organization decides.
    OfOrganization,
    /// The graph would take in too much.
    TooHigh,
}

impl Refused {
    /// The reason in words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::IsAdministrator => "account administers the graph",
            Self::IsMember => "account is already a member",
            Self::IsInvited => "account is already invited under another e-mail address",
            Self::IsNoMember => "account is not a member",
            Self::Status(Status::Invited) => "the member is INVITED",
            Self::Status(Status::VerificationInProgress) => "the member is in VERIFICATION_IN_PROGRESS",
            Self::Status(Status::VerificationFailed) => "the member is in VERIFICATION_FAILED",
            Self::Status(Status::Enabled) => "the member is ENABLED",
            Self::Status(Status::AcceptedButDisabled(_)) => "the member is ACCEPTED_BUT_DISABLED",
            Self::OfOrganization => "the administrator of its organization decides about the account",
            Self::TooHigh => "with the account the graph would take in more than its limit a day",
        }
    }
}

/// How a membership stands after an event; `None` is no membership.
///
/// # Errors
/// [`Refused`], and nothing changes.
pub fn transition(present: Option<Standing>, event: Event, facts: &Facts) -> Result<Option<Standing>, Refused> {
    let standing = match (event, present) {
        (Event::Create, present) => return create(present, facts).map(Some),
        (Event::JoinOrganization, None) => return Ok(Some(Standing::ENABLED_BY_ORGANIZATION)),
        (_, None) => return Err(Refused::IsNoMember),
        (_, Some(standing)) => standing,
    };
    let with = |status| Ok(Some(Standing { status, ..standing }));
    match (event, standing.status) {
        (Event::JoinOrganization, Status::AcceptedButDisabled(_)) => Ok(Some(Standing { invitation_type: InvitationType::Organization, ..standing })),
        (Event::Create | Event::JoinOrganization, _) => Ok(Some(Standing::ENABLED_BY_ORGANIZATION)),
        (Event::Register, Status::VerificationInProgress) => with(facts.registration.status()),
        (Event::Accept, Status::Invited) => with(match facts.load {
            Load::Fits => Status::Enabled,
            Load::TooHigh => Status::AcceptedButDisabled(DisabledReason::VolumeTooHigh),
            Load::Unknown => Status::AcceptedButDisabled(DisabledReason::VolumeUnknown),
        }),
        (Event::StartMonitoring, Status::Enabled) => with(Status::Enabled),
        (Event::StartMonitoring, Status::AcceptedButDisabled(_)) if facts.load == Load::TooHigh => Err(Refused::TooHigh),
        (Event::StartMonitoring, Status::AcceptedButDisabled(_)) => with(Status::Enabled),
        (Event::Disassociate, status) if status.is_accepted() && standing.invitation_type == InvitationType::Organization => Err(Refused::OfOrganization),
        (Event::Disassociate, status) if status.is_accepted() => Ok(None),
        (Event::Reject, Status::Invited) | (Event::Delete, _) => Ok(None),
        (Event::Register | Event::Accept | Event::StartMonitoring | Event::Reject | Event::Disassociate, status) => Err(Refused::Status(status)),
    }
}

/// Repeated with the same words, an invitation stays what it is: the answer to the first call may have been lost.
fn create(present: Option<Standing>, facts: &Facts) -> Result<Standing, Refused> {
    let fresh = if facts.in_organization { Standing::ENABLED_BY_ORGANIZATION } else { Standing::invited(facts.registration.status()) };
    match present {
        None => Ok(fresh),
        Some(standing) if standing == fresh && fresh.status != Status::Enabled => Ok(standing),
        Some(standing) if standing.status.is_accepted() => Err(Refused::IsMember),
        Some(Standing { status: Status::Invited, .. }) if !facts.in_organization => Err(Refused::IsInvited),
        Some(_) => Ok(fresh),
    }
}

#[cfg(test)]
#[path = "member/tests.rs"]
mod tests;
