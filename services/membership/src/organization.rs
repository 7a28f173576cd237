//! Organizations: accounts under one management account, which names an administrator for their graph in each region.

use gumshoe_model::{AccountId, GraphArn, Timestamp};

/// An account of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationAccount {
    /// The account.
    pub account: AccountId,
    /// Whether it manages the organization.
    pub management: bool,
    /// When it joined.
    pub join_time: Timestamp,
}

/// The administrator of an organization in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administrator {
    /// The account.
    pub account: AccountId,
    /// The graph of the organization there, which the account administers.
    pub graph: GraphArn,
    /// When it was named.
    pub delegation_time: Timestamp,
}

/// Why an account does not join or leave an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has registered it.
    IsNotRegistered,
    /// It belongs to another organization.
    IsElsewhere,
    /// It does not belong to the organization.
    IsOutside,
    /// It manages the organization.
    Manages,
    /// It administers a graph of the organization.
    Administers,
}

impl Refused {
    /// The reason in words.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::IsNotRegistered => "account is not registered",
            Self::IsElsewhere => "account belongs to another organization",
            Self::IsOutside => "account does not belong to the organization",
            Self::Manages => "account manages the organization",
            Self::Administers => "account administers the organization's graph",
        }
    }
}

/// Decides whether an account may join.
///
/// # Errors
/// [`Refused`]. An account that is in already may join again: nothing happens.
pub fn join(manager: &AccountId, registered: bool, present: Option<&AccountId>) -> Result<(), Refused> {
    match present {
        Some(organization) if organization == manager => Ok(()),
        Some(_) => Err(Refused::IsElsewhere),
        None if registered => Ok(()),
        None => Err(Refused::IsNotRegistered),
    }
}

/// Decides whether an account may leave.
///
/// # Errors
/// [`Refused`].
pub fn leave(manager: &AccountId, account: &AccountId, present: Option<&AccountId>, administers: bool) -> Result<(), Refused> {
    match present {
        _ if account == manager => Err(Refused::Manages),
        Some(organization) if organization != manager => Err(Refused::IsOutside),
        None => Err(Refused::IsOutside),
        Some(_) if administers => Err(Refused::Administers),
        Some(_) => Ok(()),
    }
}

/// Why an account is not made administrator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDesignated {
    /// It does not belong to the organization.
    IsOutside,
    /// There is one in the region.
    IsTaken,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_join_one_organization_and_leave_it_unless_they_are_needed() {
        let [manager, account, stranger]: [AccountId; 3] = ["111111111111", "222222222222", "333333333333"].map(|id| id.parse().unwrap());
        assert_eq!(join(&manager, true, None), Ok(()));
        assert_eq!(join(&manager, true, Some(&manager)), Ok(()));
        assert_eq!(join(&manager, false, None), Err(Refused::IsNotRegistered));
        assert_eq!(join(&manager, true, Some(&stranger)), Err(Refused::IsElsewhere));
        assert_eq!(leave(&manager, &account, Some(&manager), false), Ok(()));
        assert_eq!(leave(&manager, &account, Some(&manager), true), Err(Refused::Administers));
        assert_eq!(leave(&manager, &account, Some(&stranger), false), Err(Refused::IsOutside));
        assert_eq!(leave(&manager, &account, None, false), Err(Refused::IsOutside));
        assert_eq!(leave(&manager, &manager, Some(&manager), false), Err(Refused::Manages));
    }
}
