//! Membership as its callers see it: the real server on a free port, over SQLite.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{sync::Arc, time::Duration};

use gumshoe_api::{
    common::v1::ErrorReason,
    membership::v1::{
        self as api, credential_service_client::CredentialServiceClient, membership_service_client::MembershipServiceClient,
        principal_service_client::PrincipalServiceClient,
    },
};
use gumshoe_membership::{Config, KeyPair, config};
use gumshoe_runtime::{Caller, Configuration as _, Listen, PrincipalChannel, ServerOptions, Shutdown, Signed, Telemetry, TokenSigner, Trust, Upstream, status::reason_of};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tonic::{Code, Status, transport::Channel};
use url::Url;

const ACCOUNT: &str = "111111111111";
const OTHER: &str = "222222222222";
const ADMINISTRATOR: &str = "arn:aws:iam::111111111111:user/administrator";
const ALLOW: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"detective:*","Resource":"*"}}"#;

struct Service {
    _directory: tempfile::TempDir,
    config: Config,
    gateway: Arc<TokenSigner>,
    ingest: Arc<TokenSigner>,
    channel: PrincipalChannel,
    bearer_public: String,
    shutdown: Shutdown,
    server: tokio::task::JoinHandle<Result<(), gumshoe_membership::Error>>,
}

impl Service {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("issuers")).unwrap();
        let signer = |name: &str| {
            let (signer, public) = TokenSigner::generate(name);
            std::fs::write(path("issuers").join(format!("{name}.pem")), public).unwrap();
            Arc::new(signer)
        };
        let (gateway, ingest) = (signer("gateway"), signer("ingest"));
        let (bearer, bearer_public) = TokenSigner::generate("membership");
        std::fs::write(path("bearer.pem"), bearer.private_pem().expose_secret()).unwrap();
        let config = Config {
            listen: Listen { address: "127.0.0.1:0".parse().unwrap() },
            trust: Trust { issuers: path("issuers"), signing_key: None },
            store: config::Store::new(Url::parse(&format!("sqlite://{}", path("membership.db").display())).unwrap()),
            bearer: config::Bearer::new(path("bearer.pem")),
            regions: vec!["us-east-1".to_owned(), "eu-west-1".to_owned()],
            page_token_key: None,
            administrator: None,
            server: ServerOptions::default(),
            telemetry: Telemetry::default(),
        };
        gumshoe_membership::migrate(config.clone()).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let shutdown = Shutdown::new();
        let server = tokio::spawn(gumshoe_membership::run(config.clone(), listener, shutdown.clone()));
        let channel = PrincipalChannel::connect_lazy(&Upstream::new(url), "membership").unwrap();
        Self { _directory: directory, config, gateway, ingest, channel, bearer_public, shutdown, server }
    }

    async fn with_accounts() -> Self {
        let service = Self::start().await;
        for account in [ACCOUNT, OTHER] {
            service.register(ACCOUNT, account).await.unwrap();
        }
        service
    }

    fn caller(account: &str, action: &str) -> Caller {
        Caller::new(format!("arn:aws:iam::{account}:user/administrator"), account, action)
    }

    fn signed(&self, account: &str, action: &str) -> Signed<Channel> {
        self.channel.signed(self.gateway.clone(), Self::caller(account, action))
    }

    fn membership(&self, account: &str, action: &str) -> MembershipServiceClient<Signed<Channel>> {
        MembershipServiceClient::new(self.signed(account, action))
    }

    fn on_graph(&self, account: &str, action: &str, graph: &str) -> MembershipServiceClient<Signed<Channel>> {
        let caller = Self::caller(account, action).with_graph(graph.parse().unwrap());
        MembershipServiceClient::new(self.channel.signed(self.gateway.clone(), caller))
    }

    fn principals(&self, account: &str, action: &str) -> PrincipalServiceClient<Signed<Channel>> {
        PrincipalServiceClient::new(self.signed(account, action))
    }

    fn credentials(&self) -> CredentialServiceClient<Signed<Channel>> {
        CredentialServiceClient::new(self.channel.signed(self.gateway.clone(), Caller::new("anonymous", "", "")))
    }

    async fn register(&self, by: &str, account: &str) -> Result<api::Account, Status> {
        let request = api::CreateAccountRequest { account_id: account.to_owned(), name: "Name".to_owned(), email: format!("{account}@example.com") };
        self.membership(by, "gumshoe:CreateAccount").create_account(request).await.map(|response| response.into_inner().account.unwrap())
    }

    async fn create_graph(&self, account: &str, region: &str) -> Result<String, Status> {
        let request = api::CreateGraphRequest { region: region.to_owned() };
        self.membership(account, "detective:CreateGraph").create_graph(request).await.map(|response| response.into_inner().graph.unwrap().arn)
    }

    async fn create_principal(&self, account: &str, name: &str) -> Result<String, Status> {
        let request = api::CreatePrincipalRequest { name: name.to_owned() };
        self.principals(account, "gumshoe:CreatePrincipal").create_principal(request).await.map(|response| response.into_inner().principal.unwrap().arn)
    }

    async fn create_key(&self, account: &str, principal: &str) -> Result<(String, String), Status> {
        let request = api::CreateAccessKeyRequest { principal_arn: principal.to_owned() };
        let response = self.principals(account, "gumshoe:CreateAccessKey").create_access_key(request).await?.into_inner();
        Ok((response.access_key.unwrap().access_key_id, response.secret_access_key))
    }

    async fn put_policy(&self, account: &str, principal: &str, name: &str, document: &str) -> Result<api::PrincipalPolicy, Status> {
        let request = api::PutPrincipalPolicyRequest { principal_arn: principal.to_owned(), name: name.to_owned(), document: document.to_owned() };
        self.principals(account, "gumshoe:PutPrincipalPolicy").put_principal_policy(request).await.map(|response| response.into_inner().policy.unwrap())
    }

    async fn token(&self, id: &str, secret: &str, seconds: Option<i64>) -> Result<api::CreateTokenResponse, Status> {
        let lifetime = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = api::CreateTokenRequest { access_key_id: id.to_owned(), secret_access_key: secret.to_owned(), lifetime };
        self.credentials().create_token(request).await.map(tonic::Response::into_inner)
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, reason: ErrorReason) -> String {
    let status = outcome.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status.message().to_owned()
}

#[tokio::test]
async fn calls_without_a_token_or_for_another_action_are_refused() {
    let service = Service::with_accounts().await;
    let mut bare = MembershipServiceClient::new(service.channel.unsigned());
    refused(bare.list_accounts(api::ListAccountsRequest::default()).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
    let mut wrong = service.membership(ACCOUNT, "detective:ListGraphs");
    refused(wrong.list_accounts(api::ListAccountsRequest::default()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    let caller = Service::caller(ACCOUNT, "gumshoe:ListAccounts");
    let mut elsewhere = MembershipServiceClient::new(service.channel.signed(service.ingest.clone(), caller));
    refused(elsewhere.list_accounts(api::ListAccountsRequest::default()).await, Code::PermissionDenied, ErrorReason::AccessDenied);
}

#[tokio::test]
async fn accounts_are_registered_once_and_listed_page_by_page() {
    let service = Service::with_accounts().await;
    refused(service.register(OTHER, ACCOUNT).await, Code::AlreadyExists, ErrorReason::AlreadyExists);
    let bad = api::CreateAccountRequest { account_id: "1".to_owned(), name: String::new(), email: "a@example.com".to_owned() };
    let text = refused(service.membership(ACCOUNT, "gumshoe:CreateAccount").create_account(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);
    assert_eq!(text, "`account_id`: expected 12 digits");
    let bad = api::CreateAccountRequest { account_id: "333333333333".to_owned(), name: String::new(), email: "a".to_owned() };
    refused(service.membership(ACCOUNT, "gumshoe:CreateAccount").create_account(bad).await, Code::InvalidArgument, ErrorReason::InvalidField);

    let mut client = service.membership(ACCOUNT, "gumshoe:ListAccounts");
    let first = client.list_accounts(api::ListAccountsRequest { page_size: 1, page_token: String::new() }).await.unwrap().into_inner();
    assert_eq!(first.accounts.iter().map(|account| account.account_id.as_str()).collect::<Vec<_>>(), [ACCOUNT]);
    assert_eq!(first.accounts[0].email, "111111111111@example.com");
    let next = api::ListAccountsRequest { page_size: 1, page_token: first.next_page_token.clone() };
    let second = client.list_accounts(next.clone()).await.unwrap().into_inner();
    assert_eq!((second.accounts[0].account_id.as_str(), second.next_page_token.as_str()), (OTHER, ""));
    refused(service.membership(OTHER, "gumshoe:ListAccounts").list_accounts(next).await, Code::InvalidArgument, ErrorReason::InvalidPageToken);
    assert!(
        service.membership(OTHER, "gumshoe:ListAccounts").list_accounts(api::ListAccountsRequest::default()).await.unwrap().into_inner().accounts.is_empty()
    );
    let too_many = api::ListAccountsRequest { page_size: 201, page_token: String::new() };
    refused(client.list_accounts(too_many).await, Code::InvalidArgument, ErrorReason::InvalidField);
}

#[tokio::test]
async fn an_account_has_one_graph_a_region() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    assert!(graph.starts_with("arn:aws:detective:us-east-1:111111111111:graph:"), "{graph}");
    assert_eq!(service.create_graph(ACCOUNT, "us-east-1").await.unwrap(), graph);
    let second = service.create_graph(ACCOUNT, "eu-west-1").await.unwrap();
    refused(service.create_graph(ACCOUNT, "mars-1").await, Code::InvalidArgument, ErrorReason::InvalidField);
    refused(service.create_graph("999999999999", "").await, Code::NotFound, ErrorReason::NotFound);
    let foreign = service.create_graph(OTHER, "").await.unwrap();
    let listed = service.membership(ACCOUNT, "detective:ListGraphs").list_graphs(api::ListGraphsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.graphs.iter().map(|graph| graph.arn.clone()).collect::<Vec<_>>(), [second, graph.clone()]);

    let get = |arn: &str| api::GetGraphRequest { graph_arn: arn.to_owned() };
    let got = service.on_graph(ACCOUNT, "detective:GetGraphIngestState", &graph).get_graph(get(&graph)).await.unwrap().into_inner().graph.unwrap();
    assert_eq!(got.arn, graph);
    refused(
        service.on_graph(ACCOUNT, "detective:GetGraphIngestState", &graph).get_graph(get(&foreign)).await,
        Code::PermissionDenied,
        ErrorReason::AccessDenied,
    );
    // Even with a token for it: an account sees no graph but its own.
    let missing = "arn:aws:detective:us-east-1:222222222222:graph:00000000000000000000000000000000";
    let foreign_text =
        refused(service.on_graph(ACCOUNT, "detective:GetGraphIngestState", &foreign).get_graph(get(&foreign)).await, Code::NotFound, ErrorReason::NotFound);
    let missing_text =
        refused(service.on_graph(OTHER, "detective:GetGraphIngestState", missing).get_graph(get(missing)).await, Code::NotFound, ErrorReason::NotFound);
    assert_eq!(foreign_text.replace(&foreign, ""), missing_text.replace(missing, ""));
}

#[tokio::test]
async fn members_are_added_listed_and_removed() {
    let service = Service::with_accounts().await;
    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let member = |account: &str, email: &str| api::NewMember { account_id: account.to_owned(), email: email.to_owned() };
    let create = |members| api::CreateMembersRequest { graph_arn: graph.clone(), members };
    let mut client = service.on_graph(ACCOUNT, "detective:CreateMembers", &graph);
    let asked = vec![member(OTHER, "222222222222@EXAMPLE.com"), member("333333333333", "c@example.com"), member(ACCOUNT, "a@example.com")];
    let made = client.create_members(create(asked)).await.unwrap().into_inner();
    assert_eq!((made.members.len(), made.members[0].account_id.as_str(), made.members[0].status()), (1, OTHER, api::MemberStatus::Enabled));
    let reasons: Vec<_> = made.unprocessed_accounts.iter().map(|account| (account.account_id.as_str(), account.reason.as_str())).collect();
    assert_eq!(reasons, [("333333333333", "account is not registered"), (ACCOUNT, "account administers the graph")]);
    for bad in [vec![], vec![member(OTHER, "b@example.com"); 51], vec![member("x", "b@example.com")], vec![member(OTHER, "b")]] {
        refused(client.create_members(create(bad)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let list = api::ListMembersRequest { graph_arn: graph.clone(), page_size: 0, page_token: String::new() };
    let listed = service.on_graph(ACCOUNT, "detective:ListMembers", &graph).list_members(list).await.unwrap().into_inner();
    assert_eq!((listed.members, listed.next_page_token.as_str()), (made.members, ""));
    let delete = api::DeleteMembersRequest { graph_arn: graph.clone(), account_ids: vec![OTHER.to_owned(), "333333333333".to_owned()] };
    let deleted = service.on_graph(ACCOUNT, "detective:DeleteMembers", &graph).delete_members(delete).await.unwrap().into_inner();
    assert_eq!((deleted.account_ids, deleted.unprocessed_accounts[0].reason.as_str()), (vec![OTHER.to_owned()], "account is not a member"));
}

#[tokio::test]
async fn principals_of_other_accounts_do_not_exist() {
    let service = Service::with_accounts().await;
    let mine = service.create_principal(ACCOUNT, "user/ann").await.unwrap();
    assert_eq!(mine, "arn:aws:iam::111111111111:user/ann");
    refused(service.create_principal(ACCOUNT, "user/ann").await, Code::AlreadyExists, ErrorReason::AlreadyExists);
    refused(service.create_principal(ACCOUNT, "ann").await, Code::InvalidArgument, ErrorReason::InvalidField);
    let foreign = service.create_principal(OTHER, "user/bob").await.unwrap();
    let missing = "arn:aws:iam::111111111111:user/nobody";
    for arn in [foreign.as_str(), missing] {
        let text =
            |outcome: Result<(), Status>| assert_eq!(refused(outcome, Code::NotFound, ErrorReason::NotFound), format!("principal `{arn}` does not exist"));
        text(service.create_key(ACCOUNT, arn).await.map(|_| ()));
        text(service.put_policy(ACCOUNT, arn, "p", ALLOW).await.map(|_| ()));
        let request = api::ListAccessKeysRequest { principal_arn: arn.to_owned() };
        text(service.principals(ACCOUNT, "gumshoe:ListAccessKeys").list_access_keys(request).await.map(|_| ()));
        let request = api::ListPrincipalPoliciesRequest { principal_arn: arn.to_owned() };
        text(service.principals(ACCOUNT, "gumshoe:ListPrincipalPolicies").list_principal_policies(request).await.map(|_| ()));
        let request = api::DeletePrincipalRequest { principal_arn: arn.to_owned() };
        text(service.principals(ACCOUNT, "gumshoe:DeletePrincipal").delete_principal(request).await.map(|_| ()));
    }
    let listed = service.principals(ACCOUNT, "gumshoe:ListPrincipals").list_principals(api::ListPrincipalsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.principals.iter().map(|principal| principal.arn.as_str()).collect::<Vec<_>>(), [mine.as_str()]);
    let request = api::DeletePrincipalRequest { principal_arn: mine.clone() };
    service.principals(ACCOUNT, "gumshoe:DeletePrincipal").delete_principal(request).await.unwrap();
    assert!(service.create_key(ACCOUNT, &mine).await.is_err());
}

#[tokio::test]
async fn policies_are_validated_replaced_and_limited() {
    let service = Service::with_accounts().await;
    let principal = service.create_principal(ACCOUNT, "role/Reader").await.unwrap();
    for (name, document) in [("p", "{"), ("p", "NoSuchManagedPolicy"), ("", ALLOW), ("p", r#"{"Version":"2012-10-17","Statement":[]}"#)] {
        refused(service.put_policy(ACCOUNT, &principal, name, document).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    for number in 0..10 {
        service.put_policy(ACCOUNT, &principal, &format!("p{number}"), ALLOW).await.unwrap();
    }
    refused(service.put_policy(ACCOUNT, &principal, "p10", ALLOW).await, Code::ResourceExhausted, ErrorReason::QuotaExceeded);
    let managed = service.put_policy(ACCOUNT, &principal, "p0", "AmazonDetectiveMemberAccess").await.unwrap();
    assert!(managed.document.contains("detective:AcceptInvitation"), "{}", managed.document);
    let request = api::DeletePrincipalPolicyRequest { principal_arn: principal.clone(), name: "p9".to_owned() };
    service.principals(ACCOUNT, "gumshoe:DeletePrincipalPolicy").delete_principal_policy(request.clone()).await.unwrap();
    refused(service.principals(ACCOUNT, "gumshoe:DeletePrincipalPolicy").delete_principal_policy(request).await, Code::NotFound, ErrorReason::NotFound);
    let request = api::ListPrincipalPoliciesRequest { principal_arn: principal.clone() };
    let listed = service.principals(ACCOUNT, "gumshoe:ListPrincipalPolicies").list_principal_policies(request).await.unwrap().into_inner().policies;
    assert_eq!((listed.len(), &listed[0], listed[1].document.as_str()), (9, &managed, ALLOW));

    let graph = service.create_graph(ACCOUNT, "").await.unwrap();
    let request = api::GetPrincipalPoliciesRequest { principal_arn: principal.clone() };
    let grants = service.credentials().get_principal_policies(request.clone()).await.unwrap().into_inner();
    assert_eq!((grants.account_id.as_str(), grants.policies, grants.graph_arns), (ACCOUNT, listed, vec![graph]));
    let mut elsewhere = CredentialServiceClient::new(service.channel.signed(service.ingest.clone(), Caller::service("ingest", "")));
    refused(elsewhere.get_principal_policies(request).await, Code::PermissionDenied, ErrorReason::AccessDenied);
    let root = api::GetPrincipalPoliciesRequest { principal_arn: "arn:aws:iam::111111111111:root".to_owned() };
    refused(service.credentials().get_principal_policies(root).await, Code::InvalidArgument, ErrorReason::InvalidField);
}

#[tokio::test]
async fn an_access_key_becomes_a_token() {
    let service = Service::with_accounts().await;
    let principal = service.create_principal(ACCOUNT, "user/ann").await.unwrap();
    let (id, secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    let response = service.token(&id, &secret, None).await.unwrap();
    assert_eq!(response.principal_arn, principal);

    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&["gumshoe"]);
    validation.set_issuer(&["gumshoe"]);
    let key = DecodingKey::from_ed_pem(service.bearer_public.as_bytes()).unwrap();
    let token = jsonwebtoken::decode::<std::collections::HashMap<String, ClaimValue>>(&response.token, &key, &validation).unwrap();
    assert_eq!((token.claims["sub"].text(), token.claims["account"].text()), (principal.as_str(), ACCOUNT));
    assert_eq!(token.claims["exp"].number() - token.claims["iat"].number(), 3_600);
    assert_eq!(response.expire_time.unwrap().seconds, token.claims["exp"].number());
    assert!(token.header.kid.is_some());
    assert!(!response.token.contains(&secret));

    let longer = service.token(&id, &secret, Some(12 * 3_600)).await.unwrap();
    assert!(longer.expire_time.unwrap().seconds > response.expire_time.unwrap().seconds + 10 * 3_600);
    for seconds in [-1, 0, 899, 12 * 3_600 + 1] {
        refused(service.token(&id, &secret, Some(seconds)).await, Code::InvalidArgument, ErrorReason::InvalidField);
    }
    let request = api::ListAccessKeysRequest { principal_arn: principal };
    let keys = service.principals(ACCOUNT, "gumshoe:ListAccessKeys").list_access_keys(request).await.unwrap().into_inner().access_keys;
    assert_eq!(keys[0].last_used_time.as_ref().unwrap().seconds % 3_600, 0);
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum ClaimValue {
    Number(i64),
    Text(String),
}

impl ClaimValue {
    fn number(&self) -> i64 {
        if let Self::Number(number) = self { *number } else { panic!("not a number") }
    }

    fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { panic!("not a text") }
    }
}

#[tokio::test]
async fn wrong_disabled_and_deleted_keys_look_the_same() {
    let service = Service::with_accounts().await;
    let principal = service.create_principal(ACCOUNT, "user/ann").await.unwrap();
    let (id, secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    let (second, second_secret) = service.create_key(ACCOUNT, &principal).await.unwrap();
    refused(service.create_key(ACCOUNT, &principal).await, Code::ResourceExhausted, ErrorReason::QuotaExceeded);
    let same = |outcome| assert_eq!(refused(outcome, Code::Unauthenticated, ErrorReason::Unauthenticated), "the access key is not valid");
    for (id, secret) in
        [(id.as_str(), second_secret.as_str()), (id.as_str(), ""), ("AKIAAAAAAAAAAAAAAAAA", secret.as_str()), ("' OR 1=1 --", secret.as_str()), ("", "")]
    {
        same(service.token(id, secret, None).await);
    }
    let update = |active| api::UpdateAccessKeyRequest { access_key_id: id.clone(), active };
    let mut client = service.principals(ACCOUNT, "gumshoe:UpdateAccessKey");
    assert!(!client.update_access_key(update(false)).await.unwrap().into_inner().access_key.unwrap().active);
    same(service.token(&id, &secret, None).await);
    client.update_access_key(update(true)).await.unwrap();
    assert!(service.token(&id, &secret, None).await.is_ok());
    refused(service.principals(OTHER, "gumshoe:UpdateAccessKey").update_access_key(update(false)).await, Code::NotFound, ErrorReason::NotFound);
    let delete = api::DeleteAccessKeyRequest { access_key_id: second.clone() };
    refused(service.principals(OTHER, "gumshoe:DeleteAccessKey").delete_access_key(delete.clone()).await, Code::NotFound, ErrorReason::NotFound);
    service.principals(ACCOUNT, "gumshoe:DeleteAccessKey").delete_access_key(delete).await.unwrap();
    same(service.token(&second, &second_secret, None).await);
}

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let service = Service::start().await;
    let (account, email) = (ACCOUNT.parse().unwrap(), "a@example.com".parse().unwrap());
    let bootstrap = || gumshoe_membership::bootstrap(&service.config.store, account, email.clone(), &service.config.regions, KeyPair::random());
    let made = bootstrap().await.unwrap().unwrap();
    assert_eq!(made.principal.to_string(), ADMINISTRATOR);
    assert!(!format!("{made:?}").contains(made.secret_access_key.expose_secret()));
    let token = service.token(made.access_key_id.as_str(), made.secret_access_key.expose_secret(), None).await.unwrap();
    assert_eq!(token.principal_arn, ADMINISTRATOR);
    let request = api::GetPrincipalPoliciesRequest { principal_arn: ADMINISTRATOR.to_owned() };
    let grants = service.credentials().get_principal_policies(request).await.unwrap().into_inner();
    assert_eq!(grants.graph_arns, [made.graph.arn.to_string()]);
    assert!(grants.policies[0].document.contains("gumshoe:*"));
    assert!(bootstrap().await.unwrap().is_none());
}

#[tokio::test]
async fn migration_makes_the_configured_administrator_once() {
    let service = Service::start().await;
    let administrator = |secret: &str| config::Administrator {
        account: ACCOUNT.to_owned(),
        email: "a@example.com".to_owned(),
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: secret.to_owned().into(),
    };
    let (first, second) = ("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "another/secret/of/at/least/forty/characters");
    for secret in [first, second] {
        let config = Config { administrator: Some(administrator(secret)), ..service.config.clone() };
        config.validate().unwrap();
        gumshoe_membership::migrate(config).await.unwrap();
    }
    assert_eq!(service.token("AKIAIOSFODNN7EXAMPLE", first, None).await.unwrap().principal_arn, ADMINISTRATOR);
    refused(service.token("AKIAIOSFODNN7EXAMPLE", second, None).await, Code::Unauthenticated, ErrorReason::Unauthenticated);
    for (wrong, key) in [
        (administrator("short"), "administrator.secret_access_key"),
        (config::Administrator { account: "1".to_owned(), ..administrator(first) }, "administrator.account"),
        (config::Administrator { email: "nobody".to_owned(), ..administrator(first) }, "administrator.email"),
        (config::Administrator { access_key_id: "AKIA".to_owned(), ..administrator(first) }, "administrator.access_key_id"),
    ] {
        let refused = Config { administrator: Some(wrong), ..service.config.clone() }.validate().unwrap_err().to_string();
        assert!(refused.contains(key) && !refused.contains(first), "{refused}");
    }
}

#[tokio::test]
async fn an_old_schema_is_not_served() {
    let service = Service::start().await;
    let mut config = service.config.clone();
    config.store = config::Store::new(Url::parse(&format!("sqlite://{}/new.db?mode=rwc", service._directory.path().display())).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let outcome = gumshoe_membership::run(config, listener, Shutdown::new()).await;
    assert!(matches!(outcome, Err(gumshoe_membership::Error::Store(gumshoe_membership::store::StoreError::SchemaVersion { expected: 6, found: 0 }))));
}

#[tokio::test]
async fn shutdown_ends_the_server() {
    let service = Service::with_accounts().await;
    service.shutdown.trigger();
    tokio::time::timeout(Duration::from_secs(10), service.server).await.unwrap().unwrap().unwrap();
}
