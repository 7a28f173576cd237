//! Principals and their names.

use std::{fmt, str::FromStr};

use gumshoe_model::{AccountId, Invalid, Timestamp};

/// The name of a principal inside its account: `user/NAME` or `role/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrincipalName(String);

impl PrincipalName {
    /// With its kind: `user/alice`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PrincipalName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        match value.strip_prefix("user/").or_else(|| value.strip_prefix("role/")) {
            Some(name) if is_name(name, 64) => Ok(Self(value.to_owned())),
            _ => Err(Invalid::new("principal name", value, "expected `user/` or `role/` and 1 to 64 of `A-Za-z0-9+=,.@_-`")),
        }
    }
}

/// Whether `text` is a name as IAM takes them: 1 to `longest` of `A-Za-z0-9+=,.@_-`.
pub(crate) fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte))
}

/// `arn:aws:iam::ACCOUNT:user/NAME` or `arn:aws:iam::ACCOUNT:role/NAME`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrincipalArn {
    /// The account it belongs to.
    pub account: AccountId,
    /// Its name there.
    pub name: PrincipalName,
}

impl FromStr for PrincipalArn {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("principal ARN", value, "expected `arn:aws:iam::ACCOUNT:user/NAME` or `arn:aws:iam::ACCOUNT:role/NAME`");
        let (account, name) = value.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(':')).ok_or_else(bad)?;
        Ok(Self { account: account.parse().map_err(|_| bad())?, name: name.parse().map_err(|_| bad())? })
    }
}

impl fmt::Display for PrincipalArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "arn:aws:iam::{}:{}", self.account, self.name.as_str())
    }
}

/// Who can call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name in the account.
    pub name: PrincipalName,
    /// When it was added.
    pub create_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_round_trip_and_refuse_near_misses() {
        for good in ["arn:aws:iam::123456789012:user/a+=,.@_-9", "arn:aws:iam::123456789012:role/Reader"] {
            assert_eq!(good.parse::<PrincipalArn>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "user/a",
            "arn:aws:iam::12345678901:user/a",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:group/a",
            "arn:aws:iam::123456789012:user/a/b",
            "arn:aws:iam::123456789012:user/a b",
            "arn:aws:iam:us-east-1:123456789012:user/a",
            "arn:aws:sts::123456789012:user/a",
            "arn:aws:iam::123456789012:root",
        ] {
            assert!(bad.parse::<PrincipalArn>().is_err(), "{bad}");
        }
        assert!(format!("user/{}", "a".repeat(64)).parse::<PrincipalName>().is_ok());
        assert!(format!("user/{}", "a".repeat(65)).parse::<PrincipalName>().is_err());
    }
}
