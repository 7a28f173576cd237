//! Registered accounts.

use std::{fmt, str::FromStr};

use gumshoe_model::{AccountId, Invalid, Timestamp};

/// An account that the installation knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// A name to show; may be empty.
    pub name: AccountName,
    /// E-mail address of its root user.
    pub email: Email,
    /// When it was registered.
    pub create_time: Timestamp,
}

/// A name to show: at most 128 characters, none of them control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountName(String);

impl AccountName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if value.chars().count() <= 128 && !value.chars().any(char::is_control) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::new("account name", value, "expected at most 128 characters, none of them control characters"))
        }
    }
}

/// An e-mail address, 1 to 64 characters.
///
/// Source: shape `EmailAddress` of the Amazon Detective service model, 2018-10-26.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// The address as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both name the same mailbox: AWS compares the addresses of root users without regard to letter case.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

/// Addresses are personal data: they stay out of logs.
impl fmt::Debug for Email {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Email")
    }
}

impl FromStr for Email {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        // The address itself is left out of the error, which is logged.
        let bad = || Invalid::new("e-mail address", "", "expected 1 to 64 characters such as `name@example.com`");
        let (local, domain) = value.rsplit_once('@').ok_or_else(bad)?;
        let mut labels = domain.split('.');
        let top = labels.next_back().unwrap_or_default();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let valid = value.chars().count() <= 64
            && !local.is_empty()
            && !local.chars().any(|character| character.is_control() || character.is_whitespace())
            && (2..=63).contains(&top.len())
            && top.bytes().all(|byte| byte.is_ascii_alphabetic())
            && domain.contains('.')
            && labels.all(label);
        if valid { Ok(Self(value.to_owned())) } else { Err(bad()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e_mail_addresses_have_a_mailbox_and_a_domain() {
        for good in ["a@example.com", "first.last+tag@mail.example.co.uk", "a@b-c.de"] {
            assert!(good.parse::<Email>().is_ok(), "{good}");
        }
        let long = format!("{}@example.com", "a".repeat(53));
        for bad in ["", "a", "@example.com", "a@", "a@example", "a@-b.com", "a@b-.com", "a@b..com", "a@example.c0m", "a b@example.com", "a@example.c", &long] {
            assert!(bad.parse::<Email>().is_err(), "{bad}");
        }
        assert!("A@Example.com".parse::<Email>().unwrap().matches(&"a@example.com".parse().unwrap()));
        assert_eq!(format!("{:?}", "a@example.com".parse::<Email>().unwrap()), "Email");
    }

    #[test]
    fn names_are_short_and_printable() {
        assert!("".parse::<AccountName>().is_ok());
        assert!("ä".repeat(128).parse::<AccountName>().is_ok());
        assert!("a".repeat(129).parse::<AccountName>().is_err());
        assert!("a\nb".parse::<AccountName>().is_err());
    }
}
