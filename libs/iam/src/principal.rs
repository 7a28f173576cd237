//! Who calls, and how a resource-based policy names callers.

use crate::policy::Malformed;

/// The caller of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    arn: String,
    account: Option<String>,
    kind: PrincipalKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PrincipalKind {
    Root,
    User,
    Role,
    /// A session of the role with this name.
    Session {
        role: String,
    },
    FederatedUser,
    Service,
    /// A SAML or OpenID Connect provider's user, before a role is assumed.
    Provider,
    Anonymous,
}

impl Principal {
    /// Reads a caller: the ARN of a root user, user, role, role session or federated user; the name of a service, such as
    /// `detective.amazonaws.com`; a provider's ARN or host; or `*` for an anonymous caller. Anything is a caller: what is
    /// not known is a provider that no policy names by chance.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let (account, kind) = match parts.as_slice() {
            ["arn", _, "iam", "", account, "root"] => (Some(*account), PrincipalKind::Root),
            ["arn", _, "iam", "", account, resource] if resource.starts_with("user/") => (Some(*account), PrincipalKind::User),
            ["arn", _, "iam", "", account, resource] if resource.starts_with("role/") => (Some(*account), PrincipalKind::Role),
            ["arn", _, "sts", _, account, resource] if resource.starts_with("federated-user/") => (Some(*account), PrincipalKind::FederatedUser),
            ["arn", _, "sts", _, account, resource] => {
                let role = resource.strip_prefix("assumed-role/").and_then(|session| session.split_once('/')).map(|(role, _)| role.to_owned());
                (Some(*account), role.map_or(PrincipalKind::Provider, |role| PrincipalKind::Session { role }))
            }
            _ if text == "*" => (None, PrincipalKind::Anonymous),
            _ if !text.contains(':') && text.ends_with(".amazonaws.com") => (None, PrincipalKind::Service),
            _ => (None, PrincipalKind::Provider),
        };
        Self { arn: text.to_owned(), account: account.map(str::to_owned), kind }
    }

    /// The text it was read from.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The account the caller belongs to, 12 digits.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.account.as_deref()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.kind == PrincipalKind::Root
    }

    /// Whether policies can be attached to the caller at all.
    pub(crate) fn is_identity(&self) -> bool {
        !matches!(self.kind, PrincipalKind::Service | PrincipalKind::Provider | PrincipalKind::Anonymous)
    }

    fn partition(&self) -> Option<&str> {
        self.arn.split(':').nth(1)
    }
}

/// How strongly a statement names the caller, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// By account: the account's own policies must allow.
    Account,
    /// By role, for a session of it: boundary and session policy must allow.
    Role,
    /// As everyone: the session policy must allow.
    Everyone,
    /// By the session's own ARN: the session policy must allow.
    ///
    /// AWS's documentation would not ask for it; the reference verdicts do, and it is the safer of the two.
    Session,
    /// By the caller's own ARN: nothing else is asked.
    Direct,
}

/// One entry of a `Principal` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PrincipalPattern {
    Everyone,
    Account(String),
    Arn(String),
    /// A role: partition, account, and name without path.
    Role {
        partition: String,
        account: String,
        name: String,
        arn: String,
    },
    Service(String),
    Provider(String),
    /// Amazon S3's canonical users call no service here.
    Nobody,
}

impl PrincipalPattern {
    pub(crate) fn parse(kind: &str, value: &str) -> Result<Self, Malformed> {
        if kind == "AWS" && value == "*" {
            return Ok(Self::Everyone);
        }
        if value.is_empty() || value.contains(['*', '?']) {
            return Err(Malformed::new(format!("Invalid principal in policy: \"{kind}\":\"{value}\"")));
        }
        Ok(match kind {
            "Service" => Self::Service(value.to_owned()),
            "Federated" => Self::Provider(value.to_owned()),
            "AWS" => Self::parse_aws(value),
            _ => Self::Nobody,
        })
    }

    fn parse_aws(value: &str) -> Self {
        let parts: Vec<&str> = value.splitn(6, ':').collect();
        match parts.as_slice() {
            [account] if account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()) => Self::Account((*account).to_owned()),
            ["arn", _, "iam", "", account, "root"] => Self::Account((*account).to_owned()),
            ["arn", partition, "iam", "", account, role] if role.starts_with("role/") => Self::Role {
                partition: (*partition).to_owned(),
                account: (*account).to_owned(),
                name: role.rsplit('/').next().unwrap_or_default().to_owned(),
                arn: value.to_owned(),
            },
            _ => Self::Arn(value.to_owned()),
        }
    }

    /// How this entry names the caller; none when it does not.
    pub(crate) fn names(&self, principal: &Principal) -> Option<Grant> {
        let kind = &principal.kind;
        match self {
            Self::Everyone => Some(Grant::Everyone),
            Self::Account(account) => (principal.account() == Some(account)).then(|| if principal.is_root() { Grant::Direct } else { Grant::Account }),
            Self::Arn(arn) => (*arn == principal.arn && principal.is_identity()).then_some(match kind {
                PrincipalKind::Session { .. } => Grant::Session,
                _ => Grant::Direct,
            }),
            Self::Role { partition, account, name, arn } => {
                let is_session = matches!(kind, PrincipalKind::Session { role } if role == name)
                    && principal.account() == Some(account)
                    && principal.partition() == Some(partition);
                (is_session || *kind == PrincipalKind::Role && *arn == principal.arn).then_some(Grant::Role)
            }
            Self::Service(service) => (*kind == PrincipalKind::Service && *service == principal.arn).then_some(Grant::Direct),
            Self::Provider(provider) => (*kind == PrincipalKind::Provider && *provider == principal.arn).then_some(Grant::Direct),
            Self::Nobody => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kind: &str, pattern: &str, caller: &str) -> Option<Grant> {
        PrincipalPattern::parse(kind, pattern).unwrap().names(&Principal::parse(caller))
    }

    #[test]
    fn entries_name_who_they_should() {
        let session = "arn:aws:sts::111122223333:assumed-role/Analyst/ann";
        assert_eq!(names("AWS", "arn:aws:iam::111122223333:role/path/Analyst", session), Some(Grant::Role));
        assert_eq!(names("AWS", "arn:aws-cn:iam::111122223333:role/Analyst", session), None);
        assert_eq!(names("AWS", "arn:aws:iam::999999999999:role/Analyst", session), None);
        assert_eq!(names("AWS", session, session), Some(Grant::Session));
        assert_eq!(names("AWS", "111122223333", session), Some(Grant::Account));
        assert_eq!(names("AWS", "arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:root"), Some(Grant::Direct));
        assert_eq!(names("AWS", "arn:aws:iam::111122223333:user/ann", "arn:aws:iam::111122223333:user/Ann"), None);
        assert_eq!(names("AWS", "*", "*"), Some(Grant::Everyone));
        assert_eq!(names("Service", "detective.amazonaws.com", "detective.amazonaws.com"), Some(Grant::Direct));
        assert_eq!(names("AWS", "detective.amazonaws.com", "detective.amazonaws.com"), None);
        assert_eq!(names("CanonicalUser", "abc", "abc"), None);
    }

    #[test]
    fn partial_wildcards_are_refused() {
        for value in ["arn:aws:iam::111122223333:role/*", "1111*", "", "?"] {
            assert!(PrincipalPattern::parse("AWS", value).is_err(), "{value}");
        }
        assert!(PrincipalPattern::parse("Service", "*").is_err());
    }
}
