//! Where accounts, graphs, members, principals, access keys and policies are kept.
//!
//! Each method is one transaction: it happens as a whole or not at all, and concurrent calls have the effect of some
//! order of them. Reads see every write that was acknowledged before. Lists are in order of their key and continue after
//! `after`.

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};

use crate::{
    access_key::{AccessKey, AccessKeyId, Credential, SecretDigest},
    account::Account,
    graph::{Graph, Member, NewMember, Unprocessed},
    policy::{Policy, PolicyName},
    principal::{Principal, PrincipalName},
};

pub mod sql;

#[cfg(test)]
mod conformance;

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The thing named, or the one that it belongs to, is not there.
    #[error("not found")]
    NotFound,
    /// The name is taken.
    #[error("exists already")]
    AlreadyExists,
    /// A limit on number is reached.
    #[error("quota exceeded")]
    QuotaExceeded,
    /// The schema is not the one that this program needs.
    #[error("the schema has version {found}, but {expected} is needed: run `migrate`")]
    SchemaVersion {
        /// What this program needs.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// The database does not answer.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with something that should not be.
    #[error("the database failed")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What became of each account of a batch, in the order asked for.
pub type Outcomes<T> = Vec<(AccountId, Result<T, Unprocessed>)>;

/// What the first administrator of an account starts with.
#[derive(Debug, Clone)]
pub struct FirstAdministrator {
    /// The account, registered by itself.
    pub account: Account,
    /// Its first graph.
    pub graph: Graph,
    /// The principal.
    pub principal: Principal,
    /// Its policy.
    pub policy: Policy,
    /// Its key.
    pub key: AccessKey,
    /// The digest of the key's secret.
    pub digest: SecretDigest,
}

/// What a decision about a principal's call is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The principal's policies.
    pub policies: Vec<Policy>,
    /// The graphs that its account administers.
    pub graphs: Vec<GraphArn>,
}

/// The store. [`StoreError::Unavailable`] and [`StoreError::Fault`] can come from every method; the others are named.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Checks that the database answers and its schema fits: [`StoreError::SchemaVersion`] if not.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Registers `account` in the name of `registrar`. [`StoreError::AlreadyExists`] if anybody has registered it.
    async fn create_account(&self, registrar: &AccountId, account: &Account) -> Result<(), StoreError>;

    /// Accounts that `registrar` has registered.
    async fn list_accounts(&self, registrar: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<Account>, StoreError>;

    /// Stores `graph`, unless its account has one in its region: then that one is given back, also to all but one of
    /// several concurrent calls. [`StoreError::NotFound`] if the account is not registered.
    async fn create_graph(&self, graph: &Graph) -> Result<Graph, StoreError>;

    /// A graph. [`StoreError::NotFound`].
    async fn graph(&self, arn: &GraphArn) -> Result<Graph, StoreError>;

    /// Graphs that `account` administers.
    async fn list_graphs(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Graph>, StoreError>;

    /// Adds members by the rule of [`crate::graph::admit`]. [`StoreError::NotFound`] if there is no such graph;
    /// [`StoreError::QuotaExceeded`], and nothing is added, if it would have more than [`crate::graph::MAX_MEMBERS`].
    async fn create_members(&self, graph: &GraphArn, members: &[NewMember], now: Timestamp) -> Result<Outcomes<Member>, StoreError>;

    /// Members of a graph; none if there is no such graph.
    async fn list_members(&self, graph: &GraphArn, after: Option<&AccountId>, limit: u32) -> Result<Vec<Member>, StoreError>;

    /// Removes members. [`StoreError::NotFound`] if there is no such graph.
    async fn delete_members(&self, graph: &GraphArn, accounts: &[AccountId]) -> Result<Outcomes<()>, StoreError>;

    /// Adds a principal. [`StoreError::AlreadyExists`]; [`StoreError::NotFound`] if the account is not registered.
    async fn create_principal(&self, account: &AccountId, principal: &Principal) -> Result<(), StoreError>;

    /// Principals of an account.
    async fn list_principals(&self, account: &AccountId, after: Option<&PrincipalName>, limit: u32) -> Result<Vec<Principal>, StoreError>;

    /// Removes a principal with its keys and policies. [`StoreError::NotFound`].
    async fn delete_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError>;

    /// Adds a key. [`StoreError::NotFound`] if there is no such principal; [`StoreError::QuotaExceeded`] if it has
    /// [`crate::access_key::MAX_KEYS`].
    async fn create_access_key(&self, account: &AccountId, key: &AccessKey, digest: &SecretDigest) -> Result<(), StoreError>;

    /// Keys of a principal, oldest first. [`StoreError::NotFound`] if there is no such principal.
    async fn list_access_keys(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<AccessKey>, StoreError>;

    /// Activates or disables a key. [`StoreError::NotFound`].
    async fn update_access_key(&self, account: &AccountId, id: &AccessKeyId, active: bool) -> Result<AccessKey, StoreError>;

    /// Removes a key. [`StoreError::NotFound`].
    async fn delete_access_key(&self, account: &AccountId, id: &AccessKeyId) -> Result<(), StoreError>;

    /// What it takes to check a secret, whichever account the key is of. [`StoreError::NotFound`].
    async fn credential(&self, id: &AccessKeyId) -> Result<Credential, StoreError>;

    /// Notes that a key was used; a later time stays. Nothing happens if there is no such key.
    async fn touch_access_key(&self, account: &AccountId, id: &AccessKeyId, time: Timestamp) -> Result<(), StoreError>;

    /// Sets a policy, replacing one of the same name. [`StoreError::NotFound`] if there is no such principal;
    /// [`StoreError::QuotaExceeded`] if it would have more than [`crate::policy::MAX_POLICIES`].
    async fn put_policy(&self, account: &AccountId, name: &PrincipalName, policy: &Policy) -> Result<(), StoreError>;

    /// Policies of a principal, by name. [`StoreError::NotFound`] if there is no such principal.
    async fn list_policies(&self, account: &AccountId, name: &PrincipalName) -> Result<Vec<Policy>, StoreError>;

    /// A principal's policies, and the graphs that its account administers. [`StoreError::NotFound`] if there is no such
    /// principal.
    async fn authorization(&self, account: &AccountId, name: &PrincipalName) -> Result<Authorization, StoreError>;

    /// Removes a policy. [`StoreError::NotFound`].
    async fn delete_policy(&self, account: &AccountId, name: &PrincipalName, policy: &PolicyName) -> Result<(), StoreError>;

    /// Gives an account without principals its first one, registering the account and creating the graph where they are
    /// missing. `false`, and nothing happens, if the account has a principal.
    async fn bootstrap(&self, first: &FirstAdministrator) -> Result<bool, StoreError>;
}
