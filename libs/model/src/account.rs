//! AWS account ids and the ARNs of behaviour graphs.

use std::{fmt, str::FromStr};

use crate::Invalid;

/// The regions that Amazon Detective began with: the default wherever regions can be chosen.
pub const REGIONS: [&str; 5] = ["us-east-1", "us-east-2", "us-west-2", "ap-northeast-1", "eu-west-1"];

/// Bytes of raw log that a graph may take in a day, unless another limit is chosen: 10 TB.
///
/// Source: Amazon Detective quotas.
pub const VOLUME_LIMIT_BYTES: u64 = 10_000_000_000_000;

/// A 12-digit AWS account id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(String);

impl AccountId {
    /// The id as 12 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::new("account id", value, "expected 12 digits"))
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The ARN of a behaviour graph: `arn:aws:detective:REGION:ACCOUNT:graph:32-HEX`.
///
/// Source: shape `GraphArn` of the Amazon Detective service model, 2018-10-26.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GraphArn {
    partition: String,
    region: String,
    account: AccountId,
    id: String,
}

impl GraphArn {
    /// Builds an ARN from its parts; fails if any part has the wrong form.
    ///
    /// # Errors
    /// [`Invalid`] when the parts do not make a graph ARN.
    pub fn new(partition: &str, region: &str, account: &AccountId, id: &str) -> Result<Self, Invalid> {
        format!("arn:{partition}:detective:{region}:{account}:graph:{id}").parse()
    }

    /// `aws`, `aws-us-gov` and the like.
    #[must_use]
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The region, such as `us-east-1`.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The administrator account that owns the graph.
    #[must_use]
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The graph's own id, 32 lower-case hexadecimal digits; safe as a folder name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for GraphArn {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let bad = || Invalid::new("graph ARN", value, "expected `arn:aws:detective:REGION:ACCOUNT:graph:` and 32 hexadecimal digits");
        let mut parts = value.split(':');
        let mut next = || parts.next().ok_or_else(bad);
        let (arn, partition, service, region, account, kind, id) = (next()?, next()?, next()?, next()?, next()?, next()?, next()?);
        let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let valid = arn == "arn"
            && partition.len() <= 13
            && partition.starts_with("aws")
            && word(partition)
            && service == "detective"
            && (2..=20).contains(&region.len())
            && word(region)
            && kind == "graph"
            && id.len() == 32
            && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && parts.next().is_none();
        if !valid {
            return Err(bad());
        }
        Ok(Self { partition: partition.to_owned(), region: region.to_owned(), account: account.parse().map_err(|_| bad())?, id: id.to_owned() })
    }
}

impl fmt::Display for GraphArn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "arn:{}:detective:{}:{}:graph:{}", self.partition, self.region, self.account, self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graph_arn_round_trips_and_refuses_near_misses() {
        let text = "arn:aws:detective:us-east-1:123456789012:graph:0123456789abcdef0123456789abcdef";
        assert_eq!(text.parse::<GraphArn>().unwrap().to_string(), text);
        for bad in [
            "",
            "arn:aws:detective:us-east-1:123456789012:graph:0123456789ABCDEF0123456789abcdef",
            "arn:aws:detective:us-east-1:12345678901:graph:0123456789abcdef0123456789abcdef",
            "arn:aws:detective:us-east-1:123456789012:graph:0123456789abcdef0123456789abcdef:x",
            "arn:aws:detective:../x:123456789012:graph:0123456789abcdef0123456789abcdef",
        ] {
            assert!(bad.parse::<GraphArn>().is_err(), "{bad}");
        }
    }
}
