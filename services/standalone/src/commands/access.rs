//! `accounts`, `principals`, `policies` and `keys`.

use std::path::Path;

use gumshoe_api::membership::v1::{
    AccessKey, CreateAccessKeyRequest, CreateAccessKeyResponse, CreateAccountAdministratorRequest, CreateAccountRequest, CreatePrincipalRequest,
    DeleteAccessKeyRequest, DeletePrincipalPolicyRequest, DeletePrincipalRequest, ListAccessKeysRequest, ListAccessKeysResponse, ListAccountsRequest,
    ListAccountsResponse, ListPrincipalPoliciesRequest, ListPrincipalPoliciesResponse, ListPrincipalsRequest, ListPrincipalsResponse,
    PutPrincipalPolicyRequest, UpdateAccessKeyRequest,
};
use serde_json::json;

use super::Session;
use crate::{
    arguments::{Accounts, Keys, Policies, Principals},
    output::Rows,
    rpc::{Failure, message},
};

const PAGE: i32 = 200;

pub async fn accounts(session: &Session, command: Accounts) -> Result<(), Failure> {
    let mut client = session.connection.membership_service().await?;
    let all = match command {
        Accounts::List => {
            let mut all = ListAccountsResponse::default();
            loop {
                let page = client.list_accounts(ListAccountsRequest { page_size: PAGE, page_token: all.next_page_token.clone() }).await?.into_inner();
                all.accounts.extend(page.accounts);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break all;
                }
            }
        }
        Accounts::Create { account, email, name } => {
            let made = client.create_account(CreateAccountRequest { account_id: account, name, email }).await?.into_inner();
            ListAccountsResponse { accounts: made.account.into_iter().collect(), ..Default::default() }
        }
        Accounts::Administrator { account } => {
            let request = CreateAccountAdministratorRequest { account_id: account };
            let made = session.connection.principal_service().await?.create_account_administrator(request).await?.into_inner();
            return secret(session, CreateAccessKeyResponse { access_key: made.access_key, secret_access_key: made.secret_access_key });
        }
    };
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.ListAccountsResponse", &all);
    }
    let mut rows = Rows::new(&["account", "name", "e-mail", "registered"]);
    for account in all.accounts {
        rows.add([account.account_id, account.name, account.email, message::time(account.create_time.as_ref())]);
    }
    session.output.table(&rows)
}

pub async fn principals(session: &Session, command: Principals) -> Result<(), Failure> {
    let mut client = session.connection.principal_service().await?;
    let all = match command {
        Principals::List => {
            let mut all = ListPrincipalsResponse::default();
            loop {
                let page = client.list_principals(ListPrincipalsRequest { page_size: PAGE, page_token: all.next_page_token.clone() }).await?.into_inner();
                all.principals.extend(page.principals);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break all;
                }
            }
        }
        Principals::Create { name, trust_policy } => {
            let trust_policy = trust_policy.as_deref().map(read).transpose()?.unwrap_or_default();
            let made = client.create_principal(CreatePrincipalRequest { name, trust_policy }).await?.into_inner();
            ListPrincipalsResponse { principals: made.principal.into_iter().collect(), ..Default::default() }
        }
        Principals::Delete { principal } => {
            client.delete_principal(DeletePrincipalRequest { principal_arn: principal.clone() }).await?;
            return removed(session, &principal);
        }
    };
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.ListPrincipalsResponse", &all);
    }
    let mut rows = Rows::new(&["principal", "created"]);
    for principal in all.principals {
        rows.add([principal.arn, message::time(principal.create_time.as_ref())]);
    }
    session.output.table(&rows)
}

pub async fn policies(session: &Session, command: Policies) -> Result<(), Failure> {
    let mut client = session.connection.principal_service().await?;
    let all = match command {
        Policies::List { principal } => client.list_principal_policies(ListPrincipalPoliciesRequest { principal_arn: principal }).await?.into_inner(),
        Policies::Put { principal, name, document } => {
            // What names no file is the name of a managed policy, which the server knows.
            let document = if Path::new(&document).is_file() { read(Path::new(&document))? } else { document };
            let put = client.put_principal_policy(PutPrincipalPolicyRequest { principal_arn: principal, name, document }).await?.into_inner();
            ListPrincipalPoliciesResponse { policies: put.policy.into_iter().collect() }
        }
        Policies::Delete { principal, name } => {
            client.delete_principal_policy(DeletePrincipalPolicyRequest { principal_arn: principal, name: name.clone() }).await?;
            return removed(session, &name);
        }
    };
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.ListPrincipalPoliciesResponse", &all);
    }
    let mut rows = Rows::new(&["policy", "changed", "document"]);
    for policy in all.policies {
        rows.add([policy.name, message::time(policy.update_time.as_ref()), policy.document]);
    }
    session.output.table(&rows)
}

pub async fn keys(session: &Session, command: Keys) -> Result<(), Failure> {
    let mut client = session.connection.principal_service().await?;
    let keys = match command {
        Keys::Create { principal } => {
            let created = client.create_access_key(CreateAccessKeyRequest { principal_arn: principal }).await?.into_inner();
            return secret(session, created);
        }
        Keys::Rotate { key, principal } => {
            let created = client.create_access_key(CreateAccessKeyRequest { principal_arn: principal }).await?.into_inner();
            // First shown: should disabling fail, the new key is not lost.
            secret(session, created)?;
            client.update_access_key(UpdateAccessKeyRequest { access_key_id: key, active: false }).await?;
            return Ok(());
        }
        Keys::List { principal } => client.list_access_keys(ListAccessKeysRequest { principal_arn: principal }).await?.into_inner(),
        Keys::Disable { key } => {
            let updated = client.update_access_key(UpdateAccessKeyRequest { access_key_id: key, active: false }).await?.into_inner();
            ListAccessKeysResponse { access_keys: updated.access_key.into_iter().collect() }
        }
        Keys::Enable { key } => {
            let updated = client.update_access_key(UpdateAccessKeyRequest { access_key_id: key, active: true }).await?.into_inner();
            ListAccessKeysResponse { access_keys: updated.access_key.into_iter().collect() }
        }
        Keys::Delete { key } => {
            client.delete_access_key(DeleteAccessKeyRequest { access_key_id: key.clone() }).await?;
            return removed(session, &key);
        }
    };
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.ListAccessKeysResponse", &keys);
    }
    let mut rows = Rows::new(&["access key", "principal", "state", "created", "last used"]);
    for AccessKey { access_key_id, principal_arn, active, create_time, last_used_time } in keys.access_keys {
        let state = if active { "active" } else { "disabled" };
        rows.add([access_key_id, principal_arn, state.to_owned(), message::time(create_time.as_ref()), message::time(last_used_time.as_ref())]);
    }
    session.output.table(&rows)
}

fn secret(session: &Session, created: CreateAccessKeyResponse) -> Result<(), Failure> {
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.membership.v1.CreateAccessKeyResponse", &created);
    }
    let key = created.access_key.unwrap_or_default();
    session.output.line(&format!("principal          {}", key.principal_arn))?;
    session.output.line(&format!("access key id      {}", key.access_key_id))?;
    session.output.line(&format!("secret access key  {}", created.secret_access_key))?;
    session.output.line("the secret is shown this once")
}

fn removed(session: &Session, what: &str) -> Result<(), Failure> {
    if session.output.is_json() {
        return session.output.json(&json!({ "removed": what }));
    }
    session.output.line(&format!("removed {what}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|source| Failure::File { action: "read", path: path.to_owned(), source })
}
