//! Policies of principals: IAM JSON documents, or the names of managed ones.

use std::{fmt, str::FromStr};

use gumshoe_iam::managed::MANAGED_POLICIES;
use gumshoe_model::{Invalid, Timestamp};

use crate::principal::is_name;

/// Policies that a principal can have.
pub const MAX_POLICIES: usize = 10;

/// Characters of a document, white space not counted.
///
/// Source: the IAM quota for managed policies.
pub const MAX_DOCUMENT_SIZE: usize = 6_144;

/// The managed policy that allows everything Gumshoe has.
pub const ADMINISTRATOR: &str = "GumshoeAdministrator";

const ADMINISTRATOR_DOCUMENT: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Sid":"Everything","Effect":"Allow","Action":["detective:*","gumshoe:*","sts:*"],"Resource":"*"}]}"#;

/// A document that cannot be a policy; the message is AWS's where AWS has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Larger than IAM allows.
    #[error("must have at most {MAX_DOCUMENT_SIZE} characters without white space")]
    TooLarge,
    /// Not the name of a managed policy, and not JSON.
    #[error("must be an IAM JSON document or the name of a managed policy")]
    UnknownManaged,
    /// Not a policy.
    #[error(transparent)]
    Malformed(#[from] gumshoe_iam::Malformed),
}

/// A name, 1 to 128 of `A-Za-z0-9+=,.@_-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyName(String);

impl PolicyName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PolicyName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if is_name(value, 128) { Ok(Self(value.to_owned())) } else { Err(Invalid::new("policy name", value, "expected 1 to 128 of `A-Za-z0-9+=,.@_-`")) }
    }
}

/// A valid IAM JSON document, or the name of a managed one, which then follows its changes.
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyDocument(String);

impl PolicyDocument {
    /// Checks a document as AWS does.
    ///
    /// # Errors
    /// [`DocumentError`].
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        if managed_document(text).is_some() {
            return Ok(Self(text.to_owned()));
        }
        // Cheap before dear: a document of any length would otherwise be parsed.
        if gumshoe_iam::Policy::size(text) > MAX_DOCUMENT_SIZE {
            return Err(DocumentError::TooLarge);
        }
        if is_name(text, 128) {
            return Err(DocumentError::UnknownManaged);
        }
        gumshoe_iam::Policy::parse(text)?;
        Ok(Self(text.to_owned()))
    }

    /// A document that was valid when it was stored.
    #[must_use]
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// As given: JSON or a name.
    #[must_use]
    pub fn as_given(&self) -> &str {
        &self.0
    }

    /// The JSON.
    #[must_use]
    pub fn json(&self) -> &str {
        managed_document(&self.0).unwrap_or(&self.0)
    }
}

impl fmt::Debug for PolicyDocument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.json())
    }
}

fn managed_document(name: &str) -> Option<&'static str> {
    if name == ADMINISTRATOR {
        return Some(ADMINISTRATOR_DOCUMENT);
    }
    MANAGED_POLICIES.iter().find(|policy| policy.name == name).map(|policy| policy.document)
}

/// A policy of a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: PolicyName,
    /// What it says.
    pub document: PolicyDocument,
    /// When it was last changed.
    pub update_time: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managed_names_stand_for_their_documents() {
        for name in [ADMINISTRATOR, "AmazonDetectiveFullAccess", "AmazonDetectiveInvestigatorAccess", "AmazonDetectiveMemberAccess"] {
            let document = PolicyDocument::parse(name).unwrap();
            assert_eq!(document.as_given(), name);
            assert!(gumshoe_iam::Policy::parse(document.json()).is_ok(), "{name}");
        }
        assert_eq!(PolicyDocument::parse("AmazonDetectiveFullAcces"), Err(DocumentError::UnknownManaged));
    }

    #[test]
    fn refuses_what_aws_refuses() {
        assert!(matches!(PolicyDocument::parse("{"), Err(DocumentError::Malformed(_))));
        assert!(matches!(PolicyDocument::parse(r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow"}]}"#), Err(DocumentError::Malformed(_))));
        let sids = |count: usize| {
            let actions = vec![r#""detective:ListGraphs""#; count].join(", ");
            format!(r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "Allow", "Action": [{actions}], "Resource": "*"}}}}"#)
        };
        assert!(PolicyDocument::parse(&sids(200)).is_ok());
        assert_eq!(PolicyDocument::parse(&sids(400)), Err(DocumentError::TooLarge));
    }
}
