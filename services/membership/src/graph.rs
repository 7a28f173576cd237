//! Behaviour graphs and the accounts that give them data.

use gumshoe_api::membership::v1 as api;
use gumshoe_model::{AccountId, GraphArn, Timestamp};

use crate::account::Email;

/// Members that a graph can have.
///
/// Source: Amazon Detective quotas.
pub const MAX_MEMBERS: usize = 1_200;

/// A behaviour graph; its ARN holds the administrator account and the region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its ARN.
    pub arn: GraphArn,
    /// When it was created.
    pub create_time: Timestamp,
}

impl Graph {
    /// A graph with a new random id.
    ///
    /// # Errors
    /// [`gumshoe_model::Invalid`] when `region` is not one.
    pub fn new(region: &str, account: &AccountId, create_time: Timestamp) -> Result<Self, gumshoe_model::Invalid> {
        let arn = GraphArn::new("aws", region, account, &uuid::Uuid::new_v4().simple().to_string())?;
        Ok(Self { arn, create_time })
    }
}

/// How a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberStatus {
    /// Asked, not answered.
    Invited,
    /// The e-mail address is being checked.
    VerificationInProgress,
    /// The e-mail address does not belong to the account.
    VerificationFailed,
    /// Gives data.
    Enabled,
    /// Accepted, but gives no data.
    AcceptedButDisabled,
}

impl MemberStatus {
    const ALL: [Self; 5] = [Self::Invited, Self::VerificationInProgress, Self::VerificationFailed, Self::Enabled, Self::AcceptedButDisabled];

    /// The name as in the Amazon Detective API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "INVITED",
            Self::VerificationInProgress => "VERIFICATION_IN_PROGRESS",
            Self::VerificationFailed => "VERIFICATION_FAILED",
            Self::Enabled => "ENABLED",
            Self::AcceptedButDisabled => "ACCEPTED_BUT_DISABLED",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::MemberStatus {
        match self {
            Self::Invited => api::MemberStatus::Invited,
            Self::VerificationInProgress => api::MemberStatus::VerificationInProgress,
            Self::VerificationFailed => api::MemberStatus::VerificationFailed,
            Self::Enabled => api::MemberStatus::Enabled,
            Self::AcceptedButDisabled => api::MemberStatus::AcceptedButDisabled,
        }
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
    /// The account.
    pub account: AccountId,
    /// E-mail address as invited.
    pub email: Email,
    /// How it stands.
    pub status: MemberStatus,
    /// When it was invited.
    pub invite_time: Timestamp,
    /// When its status last changed.
    pub update_time: Timestamp,
}

/// Why one account of a batch was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unprocessed {
    /// It administers the graph.
    IsAdministrator,
    /// It is a member already.
    IsMember,
    /// It is no member.
    IsNoMember,
    /// Nobody has registered it.
    IsNotRegistered,
}

impl Unprocessed {
    /// The reason in words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::IsAdministrator => "account administers the graph",
            Self::IsMember => "account is a member already",
            Self::IsNoMember => "account is not a member",
            Self::IsNotRegistered => "account is not registered",
        }
    }
}

/// What becomes of an account that is to be a member, given what is known about it.
///
/// # Errors
/// [`Unprocessed`] when nothing changes. A member whose verification failed can be asked again.
pub fn admit(administrator: &AccountId, new: &NewMember, registered: Option<&Email>, present: Option<MemberStatus>) -> Result<MemberStatus, Unprocessed> {
    if new.account == *administrator {
        return Err(Unprocessed::IsAdministrator);
    }
    if present.is_some_and(|status| status != MemberStatus::VerificationFailed) {
        return Err(Unprocessed::IsMember);
    }
    let email = registered.ok_or(Unprocessed::IsNotRegistered)?;
    Ok(if email.matches(&new.email) { MemberStatus::Enabled } else { MemberStatus::VerificationFailed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_agree_with_the_messages_by_name() {
        for status in MemberStatus::ALL {
            assert_eq!(status.to_proto().as_str_name(), format!("MEMBER_STATUS_{}", status.as_str()));
            assert_eq!(MemberStatus::from_name(status.as_str()), Some(status));
        }
        assert_eq!(MemberStatus::from_name("enabled"), None);
    }

    #[test]
    fn only_registered_accounts_with_the_right_address_are_enabled() {
        let administrator = "111111111111".parse().unwrap();
        let new = NewMember { account: "222222222222".parse().unwrap(), email: "b@example.com".parse().unwrap() };
        let (right, wrong) = ("B@example.com".parse().unwrap(), "c@example.com".parse().unwrap());
        assert_eq!(admit(&administrator, &new, Some(&right), None), Ok(MemberStatus::Enabled));
        assert_eq!(admit(&administrator, &new, Some(&wrong), None), Ok(MemberStatus::VerificationFailed));
        assert_eq!(admit(&administrator, &new, None, None), Err(Unprocessed::IsNotRegistered));
        assert_eq!(admit(&administrator, &new, Some(&right), Some(MemberStatus::Enabled)), Err(Unprocessed::IsMember));
        assert_eq!(admit(&administrator, &new, Some(&right), Some(MemberStatus::VerificationFailed)), Ok(MemberStatus::Enabled));
        assert_eq!(admit(&new.account, &new, Some(&right), None), Err(Unprocessed::IsAdministrator));
    }
}
