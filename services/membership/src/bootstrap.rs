//! The first administrator of an installation.

use gumshoe_model::{AccountId, Timestamp};
use gumshoe_runtime::{Clock as _, SystemClock};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    access_key::{AccessKey, AccessKeyId, SecretDigest, StoredSecret, random_secret},
    account::{Account, AccountName, Email},
    config::Config,
    error::Error,
    graph::Graph,
    policy::{ADMINISTRATOR, Policy, PolicyDocument},
    principal::{Principal, PrincipalArn},
    secret::Keyring,
    store::{FirstAccount, FirstAdministrator, GraphStore as _, PrincipalStore as _, Store as _, sql::SqlStore},
    tag::Tags,
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
/// [`Error::Store`]; [`Error::Config`] when the envelope key cannot be used; [`Error::Invalid`] when there is no region or
/// it is not valid.
pub async fn bootstrap(config: &Config, account: AccountId, email: Email, regions: &[String], key: KeyPair) -> Result<Option<Credentials>, Error> {
    let keyring = config.keyring()?;
    let store = SqlStore::open(&config.store).await?;
    let now = SystemClock.now();
    let region = regions.first().map(String::as_str).unwrap_or_default();
    let first = FirstAccount {
        graph: Graph::new(region, &account, now)?,
        packages: config.first_packages(),
        account: Account { id: account, name: AccountName::default(), email, create_time: now },
    };
    let administrator = administrator(&key, keyring.as_ref(), now)?;
    let credentials = if store.bootstrap(&first, &administrator).await? {
        // An account registered before may have a graph in the region already.
        let graph = store.create_graph(&first.graph, &Tags::new(), &first.packages).await?;
        let principal = PrincipalArn { account: first.account.id, name: administrator.principal.name };
        Some(Credentials { principal, graph, access_key_id: administrator.key.id, secret_access_key: key.secret })
    } else {
        None
    };
    store.close().await;
    Ok(credentials)
}

/// `user/administrator`, who may do everything.
///
/// # Errors
/// [`Error::Cipher`]; [`Error::Invalid`] never comes, since the names are built in.
pub(crate) fn administrator(key: &KeyPair, keyring: Option<&Keyring>, now: Timestamp) -> Result<FirstAdministrator, Error> {
    let sealed = keyring.map(|keyring| keyring.seal(&key.id, &key.secret)).transpose()?;
    Ok(FirstAdministrator {
        principal: Principal { name: NAME.parse()?, create_time: now, trust_policy: None },
        policy: Policy { name: ADMINISTRATOR.parse()?, document: PolicyDocument::stored(ADMINISTRATOR.to_owned()), update_time: now },
        key: AccessKey { id: key.id.clone(), principal: NAME.parse()?, active: true, create_time: now, last_used_time: None },
        secret: StoredSecret { digest: SecretDigest::of(key.secret.expose_secret()), sealed },
    })
}

/// Secrets that are encrypted anew at once.
const BATCH: u32 = 100;

/// Encrypts every secret that stands under a previous envelope key under the present one; gives back how many.
///
/// # Errors
/// [`Error::Store`]. A secret that does not open is left as it is, and logged.
pub(crate) async fn reseal(store: &SqlStore, keyring: &Keyring) -> Result<u64, Error> {
    let (mut resealed, mut after) = (0, None);
    loop {
        let batch = store.sealed_under_others(&keyring.key_id(), after.as_ref(), BATCH).await?;
        let Some((last, _)) = batch.last() else { return Ok(resealed) };
        after = Some(last.clone());
        for (id, sealed) in &batch {
            match keyring.unseal(id, sealed) {
                Ok(secret) => {
                    store.reseal(id, sealed, &keyring.seal(id, &secret)?).await?;
                    resealed += 1;
                }
                Err(error) => tracing::warn!(access_key_id = %id, %error, "a secret cannot be encrypted anew"),
            }
        }
    }
}
