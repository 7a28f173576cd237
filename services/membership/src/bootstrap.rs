//! The first administrator of an installation.

use gumshoe_model::AccountId;
use gumshoe_runtime::{Clock as _, SystemClock};
use secrecy::SecretString;

use crate::{
    access_key::{AccessKey, AccessKeyId, SecretDigest, random_secret},
    account::{Account, AccountName, Email},
    config,
    error::Error,
    graph::Graph,
    policy::{ADMINISTRATOR, Policy, PolicyDocument},
    principal::{Principal, PrincipalArn},
    store::{FirstAdministrator, Store as _, sql::SqlStore},
};

const NAME: &str = "user/administrator";

/// How the first administrator gets in. The secret is kept nowhere else.
#[derive(Debug)]
pub struct Credentials {
    /// Who it is.
    pub principal: PrincipalArn,
    /// The graph that the account administers in its first region.
    pub graph: Graph,
    /// The key's id.
    pub access_key_id: AccessKeyId,
    /// The key's secret.
    pub secret_access_key: SecretString,
}

/// The pair that the first administrator signs in with.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The key's id.
    pub id: AccessKeyId,
    /// The key's secret.
    pub secret: SecretString,
}

impl KeyPair {
    /// A new random pair.
    #[must_use]
    pub fn random() -> Self {
        Self { id: AccessKeyId::random(), secret: random_secret() }
    }
}

/// Registers `account` where it is missing, with a graph in the first of `regions` and `user/administrator`, who may do
/// everything. `None`, and nothing happens, once the account has a principal: all principals must be deleted to come
/// back to this.
///
/// # Errors
/// [`Error::Store`]; [`Error::Invalid`] when there is no region or it is not valid.
pub async fn bootstrap(store: &config::Store, account: AccountId, email: Email, regions: &[String], key: KeyPair) -> Result<Option<Credentials>, Error> {
    let store = SqlStore::open(store).await?;
    let now = SystemClock.now();
    let region = regions.first().map(String::as_str).unwrap_or_default();
    let name = NAME.parse()?;
    let first = FirstAdministrator {
        graph: Graph::new(region, &account, now)?,
        account: Account { id: account, name: AccountName::default(), email, create_time: now },
        principal: Principal { name, create_time: now },
        policy: Policy { name: ADMINISTRATOR.parse()?, document: PolicyDocument::stored(ADMINISTRATOR.to_owned()), update_time: now },
        key: AccessKey { id: key.id, principal: NAME.parse()?, active: true, create_time: now, last_used_time: None },
        digest: SecretDigest::of(secrecy::ExposeSecret::expose_secret(&key.secret)),
    };
    let credentials = if store.bootstrap(&first).await? {
        // An account registered before may have a graph in the region already.
        let graph = store.create_graph(&first.graph).await?;
        let principal = PrincipalArn { account: first.account.id, name: first.principal.name };
        Some(Credentials { principal, graph, access_key_id: first.key.id, secret_access_key: key.secret })
    } else {
        None
    };
    store.close().await;
    Ok(credentials)
}
