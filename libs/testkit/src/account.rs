//! An account with a graph and an administrator, made through the membership service as the gateway would.

use std::sync::Arc;

use gumshoe_api::membership::v1::{self as api, membership_service_client::MembershipServiceClient, principal_service_client::PrincipalServiceClient};
use gumshoe_runtime::{Caller, PrincipalChannel, Signed, TokenSigner, Upstream};
use url::Url;

/// A policy that allows everything.
pub const EVERYTHING: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// An account with a graph and one principal who has a key.
#[derive(Debug, Clone)]
pub struct Account {
    /// 12 digits.
    pub id: String,
    /// The graph that it administers.
    pub graph_arn: String,
    /// Its administrator.
    pub principal_arn: String,
    /// The administrator's key.
    pub access_key_id: String,
    /// The key's secret.
    pub secret_access_key: String,
}

impl Account {
    /// Makes an account whose administrator may do everything.
    ///
    /// # Panics
    /// When membership refuses.
    pub async fn create(membership: &Url, gateway: Arc<TokenSigner>, id: &str) -> Self {
        let calls = Calls { channel: PrincipalChannel::connect_lazy(&Upstream::new(membership.clone()), "membership").unwrap(), gateway, account: id };
        let account = api::CreateAccountRequest { account_id: id.to_owned(), name: format!("test {id}"), email: format!("root-{id}@example.com") };
        calls.membership("gumshoe:CreateAccount").create_account(account).await.expect("CreateAccount");
        let graph = calls.membership("detective:CreateGraph").create_graph(api::CreateGraphRequest::default()).await.expect("CreateGraph");
        let graph_arn = graph.into_inner().graph.expect("a graph").arn;
        let principal = api::CreatePrincipalRequest { name: "user/administrator".to_owned(), trust_policy: String::new() };
        let principal = calls.principals("gumshoe:CreatePrincipal").create_principal(principal).await.expect("CreatePrincipal");
        let principal_arn = principal.into_inner().principal.expect("a principal").arn;
        let policy = api::PutPrincipalPolicyRequest { principal_arn: principal_arn.clone(), name: "everything".to_owned(), document: EVERYTHING.to_owned() };
        calls.principals("gumshoe:PutPrincipalPolicy").put_principal_policy(policy).await.expect("PutPrincipalPolicy");
        let key = api::CreateAccessKeyRequest { principal_arn: principal_arn.clone() };
        let key = calls.principals("gumshoe:CreateAccessKey").create_access_key(key).await.expect("CreateAccessKey").into_inner();
        let access_key_id = key.access_key.expect("a key").access_key_id;
        Self { id: id.to_owned(), graph_arn, principal_arn, access_key_id, secret_access_key: key.secret_access_key }
    }
}

/// Calls of the membership service in an account's name, signed as the gateway.
struct Calls<'a> {
    channel: PrincipalChannel,
    gateway: Arc<TokenSigner>,
    account: &'a str,
}

impl Calls<'_> {
    fn signed(&self, action: &str) -> Signed {
        let root = format!("arn:aws:iam::{}:root", self.account);
        self.channel.signed(Arc::clone(&self.gateway), Caller::new(root, self.account, action))
    }

    fn membership(&self, action: &str) -> MembershipServiceClient<Signed> {
        MembershipServiceClient::new(self.signed(action))
    }

    fn principals(&self, action: &str) -> PrincipalServiceClient<Signed> {
        PrincipalServiceClient::new(self.signed(action))
    }
}
