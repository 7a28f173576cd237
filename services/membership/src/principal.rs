//! Principals and their names.

use std::{fmt, str::FromStr};

use gumshoe_iam::{Kind, Policy};
use gumshoe_model::{AccountId, Invalid, Timestamp};
use sha2::{Digest as _, Sha256};

use crate::access_key::base32;

/// The name of a principal inside its account: `user/NAME` or `role/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrincipalName(String);

impl PrincipalName {
    /// With its kind: `user/alice`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be assumed.
    #[must_use]
    pub fn is_role(&self) -> bool {
        self.0.starts_with("role/")
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

/// Characters of a trust policy.
const MAX_TRUST_POLICY_SIZE: usize = 2_048;

/// A document that cannot be a trust policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustPolicyError {
    /// Larger than Gumshoe allows.
    #[error("must have at most {MAX_TRUST_POLICY_SIZE} characters")]
    TooLarge,
    /// Not a trust policy; the message is AWS's.
    #[error(transparent)]
    Malformed(#[from] gumshoe_iam::Malformed),
}

/// Who may assume a role: IAM JSON with principals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustPolicy(String);

impl TrustPolicy {
    /// Checks a policy as AWS does.
    ///
    /// # Errors
    /// [`TrustPolicyError`].
    pub fn parse(text: &str) -> Result<Self, TrustPolicyError> {
        // Cheap before dear: a document of any length would otherwise be parsed.
        if text.chars().count() > MAX_TRUST_POLICY_SIZE {
            return Err(TrustPolicyError::TooLarge);
        }
        Policy::parse_as(Kind::Trust, text)?;
        Ok(Self(text.to_owned()))
    }

    /// A policy that was valid when it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who can call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its name in the account.
    pub name: PrincipalName,
    /// When it was added.
    pub create_time: Timestamp,
    /// Who may assume it; roles only.
    pub trust_policy: Option<TrustPolicy>,
}

impl Principal {
    /// `AROA` and 16 characters of base32: a role that is made anew under an old name has another.
    #[must_use]
    pub fn role_id(&self, account: &AccountId) -> String {
        let digest = Sha256::digest(format!("{account} {} {}", self.name.as_str(), self.create_time.0));
        format!("AROA{}", base32(digest.iter().take(16).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_policies_name_principals() {
        let good = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}"#;
        assert_eq!(TrustPolicy::parse(good).unwrap().as_str(), good);
        let nobody = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}"#;
        for bad in ["", "{", nobody, &format!("{good}{}", " ".repeat(2_048))] {
            assert!(TrustPolicy::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_role_made_anew_has_another_id() {
        let role = |time| Principal { name: "role/a".parse().unwrap(), create_time: Timestamp(time), trust_policy: None };
        let account = "123456789012".parse().unwrap();
        let id = role(1).role_id(&account);
        assert!(id.starts_with("AROA") && id.len() == 20, "{id}");
        assert_eq!(role(1).role_id(&account), id);
        assert_ne!(role(2).role_id(&account), id);
    }

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
