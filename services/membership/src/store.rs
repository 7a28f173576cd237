//! Where accounts, graphs, members, organizations, principals, access keys and policies are kept.
//!
//! Each method is one transaction: it happens as a whole or not at all, and concurrent calls have the effect of some
//! order of them. Reads see every write that was acknowledged before. Lists are in order of their key and continue after
//! `after`.

use async_trait::async_trait;
use gumshoe_model::{AccountId, GraphArn, Timestamp};
use gumshoe_runtime::store::DatabaseError;

use crate::{
    access_key::{AccessKey, AccessKeyId, Credential, StoredSecret},
    account::Account,
    datasource::{Package, PackageChange},
    graph::Graph,
    member::{self, Event, Load, Member, NewMember},
    organization::{self, Administrator, NotDesignated, OrganizationAccount},
    policy::{Policy, PolicyName},
    principal::{Principal, PrincipalName},
    removal::Removal,
    secret::Sealed,
    tag::{TagKey, Tags},
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

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Taken(_) => Self::AlreadyExists,
            DatabaseError::Missing(_) => Self::NotFound,
            DatabaseError::SchemaVersion { expected, found } => Self::SchemaVersion { expected, found },
            DatabaseError::Unavailable(source) => Self::Unavailable(source),
            DatabaseError::Fault(source) => Self::Fault(source),
        }
    }
}

gumshoe_runtime::from_driver!(StoreError);

/// What became of each account of a batch, in the order asked for.
pub type Outcomes<T, R> = Vec<(AccountId, Result<T, R>)>;

/// An account that starts by itself.
#[derive(Debug, Clone)]
pub struct FirstAccount {
    /// The account, registered by itself.
    pub account: Account,
    /// Its first graph.
    pub graph: Graph,
    /// What the graph ingests.
    pub packages: Vec<Package>,
}

/// The first principal of an account, with all it needs.
#[derive(Debug, Clone)]
pub struct FirstAdministrator {
    /// The principal.
    pub principal: Principal,
    /// Its policy.
    pub policy: Policy,
    /// Its key.
    pub key: AccessKey,
    /// The key's secret.
    pub secret: StoredSecret,
}

/// What a decision about a principal's call is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// The principal's policies.
    pub policies: Vec<Policy>,
    /// The graphs that its account administers, with their tags.
    pub graphs: Vec<(GraphArn, Tags)>,
}

/// Whose logs a graph takes, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphAccounts {
    /// Every account that is registered or that the graph knows, and whether its logs are taken.
    pub accounts: Vec<(AccountId, bool)>,
    /// What is ingested.
    pub packages: Vec<Package>,
}

/// The store. [`StoreError::Unavailable`] and [`StoreError::Fault`] can come from every method; the others are named.
#[async_trait]
pub trait Store: GraphStore + MemberStore + OrganizationStore + PrincipalStore {
    /// Checks that the database answers and its schema fits: [`StoreError::SchemaVersion`] if not.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Gives an account without principals its first one, registering the account and creating the graph where they are
    /// missing. `false`, and nothing happens, if the account has a principal.
    async fn bootstrap(&self, first: &FirstAccount, administrator: &FirstAdministrator) -> Result<bool, StoreError>;
}

/// Accounts, graphs with their tags and packages, and what is left to do for graphs that are removed.
#[async_trait]
pub trait GraphStore: Send + Sync + 'static {
    /// Registers `account` in the name of `registrar`; invitations that wait for it go on. [`StoreError::AlreadyExists`]
    /// if anybody has registered it.
    async fn create_account(&self, registrar: &AccountId, account: &Account) -> Result<(), StoreError>;

    /// Accounts that `registrar` has registered.
    async fn list_accounts(&self, registrar: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<Account>, StoreError>;

    /// Stores `graph` with its tags and packages, unless its account has one in its region: then that one is given back
    /// as it is, also to all but one of several concurrent calls. [`StoreError::NotFound`] if the account is not
    /// registered.
    async fn create_graph(&self, graph: &Graph, tags: &Tags, packages: &[Package]) -> Result<Graph, StoreError>;

    /// A graph. [`StoreError::NotFound`].
    async fn graph(&self, arn: &GraphArn) -> Result<Graph, StoreError>;

    /// Graphs that `account` administers.
    async fn list_graphs(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Graph>, StoreError>;

    /// Removes a graph with all that belongs to it, and notes that its data is to be removed. [`StoreError::NotFound`].
    async fn delete_graph(&self, graph: &GraphArn, now: Timestamp) -> Result<(), StoreError>;

    /// Whose logs a graph takes; `None` if there is no such graph.
    async fn graph_accounts(&self, graph: &GraphArn) -> Result<Option<GraphAccounts>, StoreError>;

    /// Graphs that take an account's logs: those that it administers, and those that it is an enabled member of.
    async fn graphs_of_data(&self, account: &AccountId) -> Result<Vec<GraphArn>, StoreError>;

    /// Tags of a graph. [`StoreError::NotFound`] if there is no such graph.
    async fn tags(&self, graph: &GraphArn) -> Result<Tags, StoreError>;

    /// Sets tags, replacing values. [`StoreError::NotFound`] if there is no such graph; [`StoreError::QuotaExceeded`], and
    /// nothing is set, if it would have more than [`crate::tag::MAX_TAGS`].
    async fn set_tags(&self, graph: &GraphArn, tags: &Tags) -> Result<(), StoreError>;

    /// Removes tags; those that are not there are passed over. [`StoreError::NotFound`] if there is no such graph.
    async fn remove_tags(&self, graph: &GraphArn, keys: &[TagKey]) -> Result<(), StoreError>;

    /// Starts packages in a graph; those that are started already stay as they are. [`StoreError::NotFound`] if there is
    /// no such graph.
    async fn start_packages(&self, graph: &GraphArn, packages: &[Package], now: Timestamp) -> Result<(), StoreError>;

    /// When an account's packages in a graph last came into each state, by package and state; the administrator's are the
    /// graph's own. Empty if there are none.
    async fn package_changes(&self, graph: &GraphArn, account: &AccountId) -> Result<Vec<PackageChange>, StoreError>;

    /// A removal that is due and that nobody else works at until `lease`, oldest first; `None` if there is none.
    async fn claim_removal(&self, now: Timestamp, lease: Timestamp) -> Result<Option<Removal>, StoreError>;

    /// Gives a removal back, to be due again at `due`.
    async fn postpone_removal(&self, graph: &GraphArn, due: Timestamp) -> Result<(), StoreError>;

    /// Notes that nothing is left of a graph.
    async fn finish_removal(&self, graph: &GraphArn) -> Result<(), StoreError>;
}

/// Members of graphs.
#[async_trait]
pub trait MemberStore: Send + Sync + 'static {
    /// Names accounts to be members. [`StoreError::NotFound`] if there is no such graph; [`StoreError::QuotaExceeded`], and
    /// nothing is added, if it would have more than [`crate::member::MAX_MEMBERS`].
    async fn create_members(&self, graph: &GraphArn, members: &[NewMember], now: Timestamp) -> Result<Outcomes<Member, member::Refused>, StoreError>;

    /// Those of `accounts` that are members of a graph, in that order. [`StoreError::NotFound`] if there is no such graph.
    async fn members(&self, graph: &GraphArn, accounts: &[AccountId]) -> Result<Outcomes<Member, member::Refused>, StoreError>;

    /// Members of a graph; none if there is no such graph.
    async fn list_members(&self, graph: &GraphArn, after: Option<&AccountId>, limit: u32) -> Result<Vec<Member>, StoreError>;

    /// Removes members. [`StoreError::NotFound`] if there is no such graph.
    async fn delete_members(&self, graph: &GraphArn, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), member::Refused>, StoreError>;

    /// Lets `event` happen to one membership by the rule of [`crate::member::transition`]; `load` is what is known about
    /// the account's volume. [`StoreError::NotFound`] if there is no such graph.
    async fn change_member(
        &self,
        graph: &GraphArn,
        account: &AccountId,
        event: Event,
        load: Load,
        now: Timestamp,
    ) -> Result<Result<(), member::Refused>, StoreError>;

    /// Memberships of an account that it gets to see, by graph.
    async fn list_memberships(&self, account: &AccountId, after: Option<&GraphArn>, limit: u32) -> Result<Vec<Member>, StoreError>;
}

/// Organizations.
#[async_trait]
pub trait OrganizationStore: Send + Sync + 'static {
    /// Makes `manager` the management account of an organization, unless it is. [`StoreError::AlreadyExists`] if it belongs
    /// to another; [`StoreError::NotFound`] if the account is not registered.
    async fn create_organization(&self, manager: &AccountId, now: Timestamp) -> Result<(), StoreError>;

    /// Adds accounts; in graphs with auto-enable they become members, while there is room, and where they are members
    /// already they are now so by their organization. [`StoreError::NotFound`] if `manager` manages no organization.
    async fn add_accounts(&self, manager: &AccountId, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), organization::Refused>, StoreError>;

    /// Removes accounts, also from the organization's graphs. [`StoreError::NotFound`] if `manager` manages no
    /// organization.
    async fn remove_accounts(&self, manager: &AccountId, accounts: &[AccountId], now: Timestamp) -> Result<Outcomes<(), organization::Refused>, StoreError>;

    /// Whether an account belongs to an organization.
    async fn is_in_organization(&self, account: &AccountId) -> Result<bool, StoreError>;

    /// Accounts of the organization that `account` manages or administers. [`StoreError::NotFound`] if there is none.
    async fn list_organization_accounts(&self, account: &AccountId, after: Option<&AccountId>, limit: u32) -> Result<Vec<OrganizationAccount>, StoreError>;

    /// Makes the account of `graph` administrator in its region; the graph is created where there is none, with
    /// `packages`. Members of it that belong to the organization are now so by it. [`StoreError::NotFound`] if `manager`
    /// manages no organization.
    async fn designate(&self, manager: &AccountId, graph: &Graph, packages: &[Package], now: Timestamp) -> Result<Result<(), NotDesignated>, StoreError>;

    /// Takes the administrator of a region away and removes its graph, as [`GraphStore::delete_graph`] does. `false` if
    /// there was none; [`StoreError::NotFound`] if `manager` manages no organization.
    async fn withdraw(&self, manager: &AccountId, region: &str, now: Timestamp) -> Result<bool, StoreError>;

    /// The administrator in a region. [`StoreError::NotFound`] if `manager` manages no organization.
    async fn administrator(&self, manager: &AccountId, region: &str) -> Result<Option<Administrator>, StoreError>;

    /// Whether new accounts become members of an organization's graph. [`StoreError::NotFound`] if it is none.
    async fn auto_enable(&self, graph: &GraphArn) -> Result<bool, StoreError>;

    /// Sets whether they do. [`StoreError::NotFound`] if it is no organization's graph.
    async fn set_auto_enable(&self, graph: &GraphArn, auto_enable: bool) -> Result<(), StoreError>;
}

/// Principals with their access keys and policies.
#[async_trait]
pub trait PrincipalStore: Send + Sync + 'static {
    /// Adds a principal. [`StoreError::AlreadyExists`]; [`StoreError::NotFound`] if the account is not registered.
    async fn create_principal(&self, account: &AccountId, principal: &Principal) -> Result<(), StoreError>;

    /// Gives an account that `registrar` has registered its first principal. [`StoreError::NotFound`] if it has not;
    /// [`StoreError::AlreadyExists`] if the account has a principal.
    async fn create_administrator(&self, registrar: &AccountId, account: &AccountId, administrator: &FirstAdministrator) -> Result<(), StoreError>;

    /// A principal. [`StoreError::NotFound`].
    async fn principal(&self, account: &AccountId, name: &PrincipalName) -> Result<Principal, StoreError>;

    /// Principals of an account.
    async fn list_principals(&self, account: &AccountId, after: Option<&PrincipalName>, limit: u32) -> Result<Vec<Principal>, StoreError>;

    /// Removes a principal with its keys and policies. [`StoreError::NotFound`].
    async fn delete_principal(&self, account: &AccountId, name: &PrincipalName) -> Result<(), StoreError>;

    /// Adds a key. [`StoreError::NotFound`] if there is no such principal; [`StoreError::QuotaExceeded`] if it has
    /// [`crate::access_key::MAX_KEYS`].
    async fn create_access_key(&self, account: &AccountId, key: &AccessKey, secret: &StoredSecret) -> Result<(), StoreError>;

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

    /// Secrets that are sealed under another envelope key than this, by access key.
    async fn sealed_under_others(&self, key_id: &str, after: Option<&AccessKeyId>, limit: u32) -> Result<Vec<(AccessKeyId, Sealed)>, StoreError>;

    /// Exchanges a sealed secret for another, if it is still the one given.
    async fn reseal(&self, id: &AccessKeyId, old: &Sealed, new: &Sealed) -> Result<(), StoreError>;

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
}
