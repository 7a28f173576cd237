//! Tags of graphs.

use std::{collections::BTreeMap, str::FromStr};

use gumshoe_model::Invalid;

/// Tags that a graph can have.
///
/// Source: shape `TagMap` of the Amazon Detective service model, 2018-10-26.
pub const MAX_TAGS: usize = 50;

/// Values by key.
pub type Tags = BTreeMap<TagKey, TagValue>;

/// A key: 1 to 128 of `A-Za-z0-9+,-./:;<=_`, not starting with `aws:`.
///
/// Source: shape `TagKey`, `^(?!aws:)[a-zA-Z+-=._:/]+$`, in which `+-=` is a range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TagKey(String);

impl TagKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagKey {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        let bad = |reason| Err(Invalid::new("tag key", value, reason));
        if !(1..=128).contains(&value.len()) || !value.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'+'..=b'=' | b'_')) {
            return bad("expected 1 to 128 of `A-Za-z0-9+,-./:;<=_`");
        }
        if value.starts_with("aws:") {
            return bad("must not start with `aws:`");
        }
        Ok(Self(value.to_owned()))
    }
}

/// A value: at most 256 characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TagValue(String);

impl TagValue {
    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TagValue {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        // Postgres cannot store a NUL.
        if value.chars().count() <= 256 && !value.contains('\0') {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::new("tag value", value, "expected at most 256 characters, none of them NUL"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_service_model() {
        for good in ["a", "Team", "a1", "0", "a:b/c.d_e=f+g-h,i;j<k", "AWS:x", "xaws:", &"k".repeat(128)] {
            assert!(good.parse::<TagKey>().is_ok(), "{good}");
        }
        for bad in ["", "aws:", "aws:team", "a b", "a@b", "a*", "a>b", "ä", &"k".repeat(129)] {
            assert!(bad.parse::<TagKey>().is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_counted_in_characters() {
        assert!("ä".repeat(256).parse::<TagValue>().is_ok());
        assert!("a".repeat(257).parse::<TagValue>().is_err());
        assert!("a\0b".parse::<TagValue>().is_err());
        assert!("".parse::<TagValue>().is_ok());
    }
}
