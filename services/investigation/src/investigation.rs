//! Investigations: of what, over which time, and how far they are.

use std::{fmt, str::FromStr};

use gumshoe_api::investigation::v1 as api;
use gumshoe_model::{
    AccountId, EntityKey, EntityType, Invalid, RecordKind, Severity, TimeWindow, Timestamp,
    time::{MICROS_PER_DAY, MICROS_PER_HOUR},
};

use crate::{
    severity::Report,
    verdict::{FindingId, RequestId},
};

const ID_DIGITS: usize = 21;
/// The longest ARN, in bytes: a path of 512 characters and a name of 64, with room for the rest.
const MAX_ARN_BYTES: usize = 1_024;
/// The shortest and longest scope time.
const MIN_SCOPE: i64 = 3 * MICROS_PER_HOUR;
const MAX_SCOPE: i64 = 30 * MICROS_PER_DAY;

/// An investigation's id: 21 digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InvestigationId(String);

impl InvestigationId {
    /// A new one; two of a thousand million are the same with a probability of one in a thousand.
    #[must_use]
    pub fn random() -> Self {
        const FIRST: u128 = 100_000_000_000_000_000_000;
        Self(rand::random_range(FIRST..FIRST * 10).to_string())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InvestigationId {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if value.len() == ID_DIGITS && value.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::new("investigation id", value, "expected 21 digits"))
        }
    }
}

impl fmt::Display for InvestigationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A principal that is looked at. Amazon's API knows users and roles alone; they are written as ARNs there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    entity: EntityKey,
    account: Option<AccountId>,
}

impl Subject {
    /// Types of entities that act.
    pub const KINDS: [EntityType; 6] =
        [EntityType::User, EntityType::Role, EntityType::Root, EntityType::RoleSession, EntityType::FederatedUser, EntityType::KubernetesSubject];

    /// An entity of the graph as a principal.
    ///
    /// # Errors
    /// [`Invalid`] when it is none, or a user, role or root user without a proper ARN.
    pub fn of(entity: EntityKey) -> Result<Self, Invalid> {
        match entity.kind {
            EntityType::User | EntityType::Role => {
                entity.id.parse().and_then(|subject: Self| if subject.entity == entity { Ok(subject) } else { Err(bad_arn(&entity.id)) })
            }
            EntityType::Root => {
                let account = account_of(&entity.id).filter(|_| entity.id.ends_with(":root") && entity.id.contains(":iam::"));
                Ok(Self { account: Some(account.ok_or_else(|| Invalid::new("entity", &entity.id, "must be the ARN of a root user"))?), entity })
            }
            kind if Self::KINDS.contains(&kind) => Ok(Self { account: account_of(&entity.id), entity }),
            _ => Err(Invalid::new("entity", &entity.to_string(), "must be a principal")),
        }
    }

    /// The same, of an account that was found out about.
    #[must_use]
    pub fn in_account(self, account: Option<AccountId>) -> Self {
        Self { account: self.account.or(account), ..self }
    }

    /// Its id, for users, roles and root users the ARN.
    #[must_use]
    pub fn arn(&self) -> &str {
        &self.entity.id
    }

    /// One of [`Self::KINDS`].
    #[must_use]
    pub fn kind(&self) -> EntityType {
        self.entity.kind
    }

    /// The account that it belongs to, if its id tells.
    #[must_use]
    pub fn account(&self) -> Option<&AccountId> {
        self.account.as_ref()
    }

    /// Its name, without the path.
    #[must_use]
    pub fn name(&self) -> &str {
        self.entity.id.rsplit('/').next().unwrap_or_default()
    }

    /// It as an entity of the graph.
    #[must_use]
    pub fn entity(&self) -> EntityKey {
        self.entity.clone()
    }

    /// Its account as an entity of the graph.
    #[must_use]
    pub fn account_entity(&self) -> Option<EntityKey> {
        self.account.as_ref().map(|account| EntityKey { kind: EntityType::Account, id: account.as_str().to_owned() })
    }

    /// The records that tell what it did.
    #[must_use]
    pub fn records(&self) -> RecordKind {
        if self.kind() == EntityType::KubernetesSubject { RecordKind::EksAudit } else { RecordKind::CloudTrail }
    }

    /// Whether `actor` is the subject at work: itself, or a session of the user or role. `aliases` are the subject's
    /// other identifiers: a session's id begins with its role's `AROA…` id, or is an ARN that holds the role's name.
    #[must_use]
    pub fn acts_as(&self, actor: &EntityKey, aliases: &[String]) -> bool {
        let own_account = |account: Option<&str>| account.is_some() && account == self.account.as_ref().map(AccountId::as_str);
        match (self.kind(), actor.kind) {
            (kind, same) if kind == same => actor.id == self.entity.id || aliases.contains(&actor.id),
            (EntityType::User, EntityType::FederatedUser) => {
                own_account(actor.id.split(':').nth(4)) || aliases.iter().any(|alias| begins_with(&actor.id, alias))
            }
            (EntityType::Role, EntityType::RoleSession) => {
                let mut session = actor.id.splitn(6, ':').skip(4);
                let (account, resource) = (session.next(), session.next().unwrap_or_default());
                let role = resource.strip_prefix("assumed-role/").and_then(|rest| rest.split('/').next());
                aliases.iter().any(|alias| begins_with(&actor.id, alias)) || (own_account(account) && role == Some(self.name()))
            }
            _ => false,
        }
    }
}

fn begins_with(session: &str, alias: &str) -> bool {
    !alias.is_empty() && session.strip_prefix(alias).is_some_and(|rest| rest.starts_with(':'))
}

/// The account in an ARN.
fn account_of(arn: &str) -> Option<AccountId> {
    arn.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(3)).and_then(|account| account.parse().ok())
}

fn bad_arn(value: &str) -> Invalid {
    Invalid::new("entity ARN", value, "must be the ARN of an IAM user or role")
}

impl FromStr for Subject {
    type Err = Invalid;

    /// A user or role, by ARN: `arn:aws:iam::ACCOUNT:user/…` or `…:role/…`.
    fn from_str(value: &str) -> Result<Self, Invalid> {
        let bad = || bad_arn(value);
        let mut parts = value.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(bad);
        let (arn, partition, service, region, account, resource) = (next()?, next()?, next()?, next()?, next()?, next()?);
        let partition_fits = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| rest.len() <= 10 && rest.bytes().all(is_word));
        let (kind, path) = match resource.split_once('/') {
            Some(("user", path)) => (EntityType::User, path),
            Some(("role", path)) => (EntityType::Role, path),
            _ => return Err(bad()),
        };
        let path_fits = path.split('/').all(|part| !part.is_empty()) && path.bytes().all(|byte| is_word(byte) || b"_+=,.@/".contains(&byte));
        if arn != "arn" || !partition_fits || service != "iam" || !region.is_empty() || !path_fits || value.len() > MAX_ARN_BYTES {
            return Err(bad());
        }
        let account = account.parse().map_err(|_| bad())?;
        Ok(Self { entity: EntityKey { kind, id: value.to_owned() }, account: Some(account) })
    }
}

/// What an investigation is about. The text form is `type:id`, and `graph` for the whole graph.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// One principal.
    Principal(Subject),
    /// Who used an access key.
    AccessKey(String),
    /// Whom a finding names, and who acted on what it names.
    Finding(FindingId),
    /// The principals of an account.
    Account(AccountId),
    /// The principals of all accounts of the graph.
    Graph,
}

const WHOLE_GRAPH: &str = "graph";

impl Target {
    /// Something in the graph as what an investigation is about.
    ///
    /// # Errors
    /// [`Invalid`] when entities of its type cannot be investigated, or its id has not the form of its type.
    pub fn of(entity: EntityKey) -> Result<Self, Invalid> {
        match entity.kind {
            EntityType::AccessKey => Ok(Self::AccessKey(entity.id)),
            EntityType::Finding => entity.id.parse().map(Self::Finding),
            EntityType::Account => entity.id.parse().map(Self::Account),
            kind if Subject::KINDS.contains(&kind) => Subject::of(entity).map(Self::Principal),
            _ => Err(Invalid::new("entity", &entity.to_string(), "must be a principal, an access key, a finding or an account")),
        }
    }

    /// It as an entity; `None` for the whole graph.
    #[must_use]
    pub fn entity(&self) -> Option<EntityKey> {
        let (kind, id) = match self {
            Self::Principal(subject) => return Some(subject.entity()),
            Self::AccessKey(id) => (EntityType::AccessKey, id.as_str()),
            Self::Finding(id) => (EntityType::Finding, id.as_str()),
            Self::Account(id) => (EntityType::Account, id.as_str()),
            Self::Graph => return None,
        };
        Some(EntityKey { kind, id: id.to_owned() })
    }
}

impl From<Subject> for Target {
    fn from(subject: Subject) -> Self {
        Self::Principal(subject)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entity() {
            Some(entity) => entity.fmt(formatter),
            None => formatter.write_str(WHOLE_GRAPH),
        }
    }
}

impl FromStr for Target {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if value == WHOLE_GRAPH { Ok(Self::Graph) } else { value.parse().and_then(Self::of) }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

/// Checks a scope time as Detective does: 3 hours to 30 days, not in the future. How old it may be is for retention to say.
///
/// # Errors
/// What is wrong with it.
pub fn check_scope(scope: TimeWindow, now: Timestamp) -> Result<(), &'static str> {
    let length = scope.end().0 - scope.start().0;
    if !(MIN_SCOPE..=MAX_SCOPE).contains(&length) {
        return Err("must be 3 hours to 30 days long");
    }
    if scope.end() > now {
        return Err("must not end in the future");
    }
    Ok(())
}

/// How far an investigation is. The order is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It could not be finished.
    Failed,
    /// At work.
    Running,
    /// Finished.
    Successful,
}

impl Status {
    const ALL: [Self; 3] = [Self::Failed, Self::Running, Self::Successful];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "FAILED",
            Self::Running => "RUNNING",
            Self::Successful => "SUCCESSFUL",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::InvestigationStatus {
        match self {
            Self::Failed => api::InvestigationStatus::Failed,
            Self::Running => api::InvestigationStatus::Running,
            Self::Successful => api::InvestigationStatus::Successful,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.to_proto() as i32 == number)
    }
}

/// Whether an investigation is on the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// On the table.
    Active,
    /// Put away.
    Archived,
}

impl State {
    const ALL: [Self; 2] = [Self::Active, Self::Archived];

    /// The name in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Archived => "ARCHIVED",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// As in messages.
    #[must_use]
    pub fn to_proto(self) -> api::InvestigationState {
        match self {
            Self::Active => api::InvestigationState::Active,
            Self::Archived => api::InvestigationState::Archived,
        }
    }

    /// Out of a message; `None` for unspecified or unknown numbers.
    #[must_use]
    pub fn from_proto(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.to_proto() as i32 == number)
    }
}

/// An investigation to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewInvestigation {
    /// Of what.
    pub target: Target,
    /// Over which time.
    pub scope: TimeWindow,
    /// The ARN of the principal who starts it.
    pub principal: String,
    /// The caller's id for it, if it gave one.
    pub request: Option<RequestId>,
}

/// An investigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Investigation {
    /// Its id.
    pub id: InvestigationId,
    /// Of what.
    pub target: Target,
    /// Over which time.
    pub scope: TimeWindow,
    /// How far it is.
    pub status: Status,
    /// How grave it is, once it is successful.
    pub severity: Option<Severity>,
    /// Whether it is on the table.
    pub state: State,
    /// When it was started, in whole milliseconds.
    pub create_time: Timestamp,
    /// How far it is in principals.
    pub progress: Progress,
}

/// How far an investigation is in principals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Looked at so far.
    pub done: u32,
    /// Looked at in all; 0 until it is known.
    pub total: u32,
    /// Not looked at, because others are more suspicious.
    pub left_out: u64,
}

/// An investigation with what makes its severity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The investigation.
    pub investigation: Investigation,
    /// What makes its severity; empty until it is successful, and of investigations of older versions.
    pub report: Report,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_states_agree_with_the_messages_by_name() {
        for status in Status::ALL {
            assert_eq!(status.to_proto().as_str_name(), format!("INVESTIGATION_STATUS_{}", status.as_str()));
            assert_eq!((Status::from_name(status.as_str()), Status::from_proto(status.to_proto() as i32)), (Some(status), Some(status)));
        }
        for state in State::ALL {
            assert_eq!(state.to_proto().as_str_name(), format!("INVESTIGATION_STATE_{}", state.as_str()));
            assert_eq!((State::from_name(state.as_str()), State::from_proto(state.to_proto() as i32)), (Some(state), Some(state)));
        }
        assert!(Status::ALL.is_sorted_by_key(|status| status.as_str()));
        assert_eq!((Status::from_proto(0), State::from_proto(0), Status::from_proto(9)), (None, None, None));
    }

    #[test]
    fn ids_are_21_digits_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| InvestigationId::random()).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.as_str().parse::<InvestigationId>().as_ref() == Ok(id)));
        for bad in ["", "12345678901234567890", "1234567890123456789012", "12345678901234567890a", "１23456789012345678901"] {
            assert!(bad.parse::<InvestigationId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn only_users_and_roles_are_investigated() {
        let user: Subject = "arn:aws:iam::123456789012:user/team/ann+b=c,d.e@f_g-h".parse().unwrap();
        assert_eq!((user.kind(), user.account().unwrap().as_str(), user.name()), (EntityType::User, "123456789012", "ann+b=c,d.e@f_g-h"));
        let role: Subject = "arn:aws-us-gov:iam::123456789012:role/deploy".parse().unwrap();
        assert_eq!(role.kind(), EntityType::Role);
        for bad in [
            "",
            "arn:nothing",
            "arn:aws:s3:::bucket",
            "arn:aws:iam::123456789012:root",
            "arn:aws:iam::123456789012:group/x",
            "arn:aws:iam::123456789012:user/",
            "arn:aws:iam::123456789012:user//ann",
            "arn:aws:iam::123456789012:user/ann/",
            "arn:aws:iam::123456789012:user/a n",
            "arn:aws:iam::123456789012:user/ann:x",
            "arn:aws:iam::12345678901:user/ann",
            "arn:aws:iam:us-east-1:123456789012:user/ann",
            "arn:aws-:x:iam::123456789012:user/ann",
            "arn:awsx:iam::123456789012:user/ann",
            "arn:aws:sts::123456789012:assumed-role/deploy/s",
        ] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
        assert!(format!("arn:aws:iam::123456789012:user/{}", "x".repeat(1_000)).parse::<Subject>().is_err());
    }

    #[test]
    fn targets_are_read_as_they_are_written() {
        for text in [
            "graph",
            "user:arn:aws:iam::123456789012:user/team/ann",
            "role:arn:aws:iam::123456789012:role/deploy",
            "root:arn:aws:iam::123456789012:root",
            "role_session:AROAEXAMPLE:s",
            "federated_user:arn:aws:sts::123456789012:federated-user/bob",
            "kubernetes_subject:cluster/system:anonymous",
            "access_key:AKIAEXAMPLE",
            "finding:arn:aws:guardduty:us-east-1:123456789012:detector/d/finding/f",
            "account:123456789012",
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for bad in ["", "x", "account:12", "user:ann", "user:arn:aws:iam::123456789012:role/deploy", "root:arn:aws:s3:::x", "s3_bucket:b", "finding:"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_scope_is_three_hours_to_thirty_days() {
        let now = Timestamp(1_700_000_000_000_000);
        let check = |start: i64, end: i64| check_scope(TimeWindow::new(Timestamp(now.0 + start), Timestamp(now.0 + end)).unwrap(), now);
        assert!(check(-3 * MICROS_PER_HOUR, 0).is_ok());
        assert!(check(-30 * MICROS_PER_DAY, 0).is_ok());
        assert!(check(-1_000 * MICROS_PER_DAY, -990 * MICROS_PER_DAY).is_ok());
        assert!(check(-3 * MICROS_PER_HOUR + 1, 0).is_err());
        assert!(check(-30 * MICROS_PER_DAY - 1, 0).is_err());
        assert!(check(-3 * MICROS_PER_HOUR, 1).is_err());
    }

    #[test]
    fn a_subject_acts_itself_and_through_its_sessions() {
        let role: Subject = "arn:aws:iam::111122223333:role/team/deploy".parse().unwrap();
        let aliases = vec!["AROAEXAMPLE".to_owned()];
        let acts = |subject: &Subject, actor: &str| subject.acts_as(&actor.parse().unwrap(), &aliases);
        assert!(acts(&role, "role_session:AROAEXAMPLE:alice"));
        assert!(acts(&role, "role_session:arn:aws:sts::111122223333:assumed-role/deploy/alice"));
        assert!(acts(&role, "role:arn:aws:iam::111122223333:role/team/deploy"));
        for other in ["role_session:AROAEXAMPLE2:alice", "role_session:arn:aws:sts::111122223333:assumed-role/deployer/alice", "user:AROAEXAMPLE:alice"] {
            assert!(!acts(&role, other), "{other}");
        }
        let session = Subject::of("role_session:AROAEXAMPLE:alice".parse().unwrap()).unwrap();
        assert!(acts(&session, "role_session:AROAEXAMPLE:alice") && !acts(&session, "role_session:AROAEXAMPLE:bob"));
        let user: Subject = "arn:aws:iam::111122223333:user/ann".parse().unwrap();
        assert!(acts(&user, "user:arn:aws:iam::111122223333:user/ann"));
        assert!(!acts(&user, "user:arn:aws:iam::111122223333:user/bob"));
        assert!(!acts(&user, "role_session:arn:aws:sts::111122223333:assumed-role/ann/s"));
    }
}
