//! Principals, their access keys and their policies.

use gumshoe_api::{
    convert::time_to_proto,
    membership::v1::{self as api, principal_service_server::PrincipalService},
};
use gumshoe_model::AccountId;
use gumshoe_runtime::{Scope, status};
use secrecy::ExposeSecret as _;
use tonic::{Request, Response, Status};

use super::{Membership, after, authorized, parsed};
use crate::{
    access_key::{AccessKey, AccessKeyId, SecretDigest, StoredSecret, random_secret},
    bootstrap::{KeyPair, administrator},
    error::Refusal,
    policy::{Policy, PolicyDocument, PolicyName},
    principal::{Principal, PrincipalArn, PrincipalName, TrustPolicy},
    store::StoreError,
};

const KEY_QUOTA: &str = "a principal can have at most 2 access keys";
const POLICY_QUOTA: &str = "a principal can have at most 10 policies";

#[tonic::async_trait]
impl PrincipalService for Membership {
    async fn create_principal(&self, request: Request<api::CreatePrincipalRequest>) -> Result<Response<api::CreatePrincipalResponse>, Status> {
        let caller = authorized(&request, "gumshoe:CreatePrincipal")?;
        let message = request.into_inner();
        let name: PrincipalName = parsed("name", &message.name)?;
        let trust_policy = match message.trust_policy.as_str() {
            "" => None,
            _ if !name.is_role() => return Err(Refusal::field("trust_policy", "only roles have one").into()),
            text => Some(TrustPolicy::parse(text).map_err(|error| Refusal::field("trust_policy", error.to_string()))?),
        };
        let principal = Principal { name, create_time: self.0.clock.now(), trust_policy };
        match self.0.store.create_principal(&caller, &principal).await {
            Ok(()) => Ok(Response::new(api::CreatePrincipalResponse { principal: Some(principal_to_proto(&caller, &principal)) })),
            Err(StoreError::NotFound) => Err(Refusal::NotFound { what: "account", name: caller.to_string() }.into()),
            Err(error) => Err(Refusal::about("principal", &message.name, "")(error).into()),
        }
    }

    async fn create_account_administrator(
        &self,
        request: Request<api::CreateAccountAdministratorRequest>,
    ) -> Result<Response<api::CreateAccountAdministratorResponse>, Status> {
        let caller = authorized(&request, "gumshoe:CreateAccountAdministrator")?;
        let account: AccountId = parsed("account_id", &request.get_ref().account_id)?;
        let pair = KeyPair::random();
        let administrator = administrator(&pair, self.0.keyring.as_ref(), self.0.clock.now()).map_err(|error| status::internal(&error))?;
        self.0.store.create_administrator(&caller, &account, &administrator).await.map_err(|error| match error {
            StoreError::AlreadyExists => Refusal::Conflict("the account has principals already"),
            error => Refusal::about("account", account.as_str(), "")(error),
        })?;
        Ok(Response::new(api::CreateAccountAdministratorResponse {
            principal: Some(principal_to_proto(&account, &administrator.principal)),
            access_key: Some(key_to_proto(&account, &administrator.key)),
            secret_access_key: pair.secret.expose_secret().to_owned(),
        }))
    }

    async fn list_principals(&self, request: Request<api::ListPrincipalsRequest>) -> Result<Response<api::ListPrincipalsResponse>, Status> {
        let caller = authorized(&request, "gumshoe:ListPrincipals")?;
        let message = request.into_inner();
        let scope = Scope::new("ListPrincipals", caller.as_str(), "");
        let page = self.page(&scope, message.page_size, &message.page_token)?;
        let mut principals =
            self.0.store.list_principals(&caller, after::<PrincipalName>(page.after)?.as_ref(), page.limit + 1).await.map_err(Refusal::from)?;
        let next_page_token = self.next_page(&scope, &mut principals, page.limit, |principal| principal.name.as_str().to_owned())?;
        let principals = principals.iter().map(|principal| principal_to_proto(&caller, principal)).collect();
        Ok(Response::new(api::ListPrincipalsResponse { principals, next_page_token }))
    }

    async fn delete_principal(&self, request: Request<api::DeletePrincipalRequest>) -> Result<Response<api::DeletePrincipalResponse>, Status> {
        let caller = authorized(&request, "gumshoe:DeletePrincipal")?;
        let arn = request.into_inner().principal_arn;
        let name = owned_principal(&caller, &arn)?;
        self.0.store.delete_principal(&caller, &name).await.map_err(Refusal::about("principal", &arn, ""))?;
        Ok(Response::new(api::DeletePrincipalResponse {}))
    }

    async fn create_access_key(&self, request: Request<api::CreateAccessKeyRequest>) -> Result<Response<api::CreateAccessKeyResponse>, Status> {
        let caller = authorized(&request, "gumshoe:CreateAccessKey")?;
        let arn = request.into_inner().principal_arn;
        let principal = owned_principal(&caller, &arn)?;
        let key = AccessKey { id: AccessKeyId::random(), principal, active: true, create_time: self.0.clock.now(), last_used_time: None };
        let secret = random_secret();
        let sealed = self.0.keyring.as_ref().map(|keyring| keyring.seal(&key.id, &secret)).transpose().map_err(Refusal::from)?;
        let stored = StoredSecret { digest: SecretDigest::of(secret.expose_secret()), sealed };
        self.0.store.create_access_key(&caller, &key, &stored).await.map_err(Refusal::about("principal", &arn, KEY_QUOTA))?;
        Ok(Response::new(api::CreateAccessKeyResponse { access_key: Some(key_to_proto(&caller, &key)), secret_access_key: secret.expose_secret().to_owned() }))
    }

    async fn list_access_keys(&self, request: Request<api::ListAccessKeysRequest>) -> Result<Response<api::ListAccessKeysResponse>, Status> {
        let caller = authorized(&request, "gumshoe:ListAccessKeys")?;
        let arn = request.into_inner().principal_arn;
        let name = owned_principal(&caller, &arn)?;
        let keys = self.0.store.list_access_keys(&caller, &name).await.map_err(Refusal::about("principal", &arn, ""))?;
        Ok(Response::new(api::ListAccessKeysResponse { access_keys: keys.iter().map(|key| key_to_proto(&caller, key)).collect() }))
    }

    async fn update_access_key(&self, request: Request<api::UpdateAccessKeyRequest>) -> Result<Response<api::UpdateAccessKeyResponse>, Status> {
        let caller = authorized(&request, "gumshoe:UpdateAccessKey")?;
        let message = request.into_inner();
        let id: AccessKeyId = parsed("access_key_id", &message.access_key_id)?;
        let key = self.0.store.update_access_key(&caller, &id, message.active).await.map_err(Refusal::about("access key", id.as_str(), ""))?;
        Ok(Response::new(api::UpdateAccessKeyResponse { access_key: Some(key_to_proto(&caller, &key)) }))
    }

    async fn delete_access_key(&self, request: Request<api::DeleteAccessKeyRequest>) -> Result<Response<api::DeleteAccessKeyResponse>, Status> {
        let caller = authorized(&request, "gumshoe:DeleteAccessKey")?;
        let id: AccessKeyId = parsed("access_key_id", &request.get_ref().access_key_id)?;
        self.0.store.delete_access_key(&caller, &id).await.map_err(Refusal::about("access key", id.as_str(), ""))?;
        Ok(Response::new(api::DeleteAccessKeyResponse {}))
    }

    async fn put_principal_policy(&self, request: Request<api::PutPrincipalPolicyRequest>) -> Result<Response<api::PutPrincipalPolicyResponse>, Status> {
        let caller = authorized(&request, "gumshoe:PutPrincipalPolicy")?;
        let message = request.into_inner();
        let principal = owned_principal(&caller, &message.principal_arn)?;
        let name = parsed("name", &message.name)?;
        let document = PolicyDocument::parse(&message.document).map_err(|error| Refusal::field("document", error.to_string()))?;
        let policy = Policy { name, document, update_time: self.0.clock.now() };
        self.0.store.put_policy(&caller, &principal, &policy).await.map_err(Refusal::about("principal", &message.principal_arn, POLICY_QUOTA))?;
        Ok(Response::new(api::PutPrincipalPolicyResponse { policy: Some(policy_to_proto(&policy)) }))
    }

    async fn list_principal_policies(
        &self,
        request: Request<api::ListPrincipalPoliciesRequest>,
    ) -> Result<Response<api::ListPrincipalPoliciesResponse>, Status> {
        let caller = authorized(&request, "gumshoe:ListPrincipalPolicies")?;
        let arn = request.into_inner().principal_arn;
        let name = owned_principal(&caller, &arn)?;
        let policies = self.0.store.list_policies(&caller, &name).await.map_err(Refusal::about("principal", &arn, ""))?;
        Ok(Response::new(api::ListPrincipalPoliciesResponse { policies: policies.iter().map(policy_to_proto).collect() }))
    }

    async fn delete_principal_policy(
        &self,
        request: Request<api::DeletePrincipalPolicyRequest>,
    ) -> Result<Response<api::DeletePrincipalPolicyResponse>, Status> {
        let caller = authorized(&request, "gumshoe:DeletePrincipalPolicy")?;
        let message = request.into_inner();
        let principal = owned_principal(&caller, &message.principal_arn)?;
        let name: PolicyName = parsed("name", &message.name)?;
        self.0.store.delete_policy(&caller, &principal, &name).await.map_err(Refusal::about("policy", name.as_str(), ""))?;
        Ok(Response::new(api::DeletePrincipalPolicyResponse {}))
    }
}

/// The name of a principal of the caller's account; those of other accounts do not exist for it.
fn owned_principal(caller: &AccountId, arn: &str) -> Result<PrincipalName, Refusal> {
    let principal: PrincipalArn = parsed("principal_arn", arn)?;
    if principal.account == *caller { Ok(principal.name) } else { Err(Refusal::NotFound { what: "principal", name: arn.to_owned() }) }
}

fn arn_of(account: &AccountId, name: &PrincipalName) -> String {
    PrincipalArn { account: account.clone(), name: name.clone() }.to_string()
}

fn principal_to_proto(account: &AccountId, principal: &Principal) -> api::Principal {
    api::Principal { arn: arn_of(account, &principal.name), create_time: Some(time_to_proto(principal.create_time)) }
}

fn key_to_proto(account: &AccountId, key: &AccessKey) -> api::AccessKey {
    api::AccessKey {
        access_key_id: key.id.as_str().to_owned(),
        principal_arn: arn_of(account, &key.principal),
        active: key.active,
        create_time: Some(time_to_proto(key.create_time)),
        last_used_time: key.last_used_time.map(time_to_proto),
    }
}

pub(super) fn policy_to_proto(policy: &Policy) -> api::PrincipalPolicy {
    api::PrincipalPolicy {
        name: policy.name.as_str().to_owned(),
        document: policy.document.json().to_owned(),
        update_time: Some(time_to_proto(policy.update_time)),
    }
}
