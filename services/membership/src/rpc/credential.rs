//! Access keys to tokens, and principals to policies.

use std::{sync::LazyLock, time::Duration};

use gumshoe_api::{
    convert::time_to_proto,
    membership::v1::{self as api, credential_service_server::CredentialService},
};
use gumshoe_runtime::{Caller, status::Chain};
use tonic::{Request, Response, Status};

use super::{GATEWAY, Membership, parsed, principal::policy_to_proto};
use crate::{
    access_key::{AccessKeyId, Credential, SecretDigest},
    bearer::{DEFAULT_LIFETIME, MAX_LIFETIME, MIN_LIFETIME},
    error::Refusal,
    principal::PrincipalArn,
    store::StoreError,
};

/// Stands in for a key that does not exist, so that the answer takes as long.
static NO_SECRET: LazyLock<SecretDigest> = LazyLock::new(|| SecretDigest::of("no such key"));

#[tonic::async_trait]
impl CredentialService for Membership {
    async fn create_token(&self, request: Request<api::CreateTokenRequest>) -> Result<Response<api::CreateTokenResponse>, Status> {
        Caller::of(&request)?.require_issuer(&[GATEWAY])?;
        let message = request.into_inner();
        let lifetime = lifetime(message.lifetime)?;
        let credential = self.authenticate(&message.access_key_id, &message.secret_access_key).await?;
        let principal = PrincipalArn { account: credential.account.clone(), name: credential.key.principal.clone() };
        let now = self.0.clock.now();
        let (token, expiry) = self.0.bearer.sign(&credential.account, &principal, now, lifetime).map_err(Refusal::from)?;
        let hour = now.hour().start();
        if credential.key.last_used_time.is_none_or(|last| last < hour)
            && let Err(error) = self.0.store.touch_access_key(&credential.account, &credential.key.id, hour).await
        {
            // Known to the hour at best: no reason to refuse the key.
            tracing::warn!(error = %Chain(&error), "the use of an access key was not recorded");
        }
        Ok(Response::new(api::CreateTokenResponse { token, expire_time: Some(time_to_proto(expiry)), principal_arn: principal.to_string() }))
    }

    async fn get_principal_policies(&self, request: Request<api::GetPrincipalPoliciesRequest>) -> Result<Response<api::GetPrincipalPoliciesResponse>, Status> {
        Caller::of(&request)?.require_issuer(&[GATEWAY])?;
        let arn = request.into_inner().principal_arn;
        let principal: PrincipalArn = parsed("principal_arn", &arn)?;
        let authorization = self.0.store.authorization(&principal.account, &principal.name).await.map_err(Refusal::about("principal", &arn, ""))?;
        Ok(Response::new(api::GetPrincipalPoliciesResponse {
            account_id: principal.account.to_string(),
            policies: authorization.policies.iter().map(policy_to_proto).collect(),
            graph_arns: authorization.graphs.iter().map(ToString::to_string).collect(),
        }))
    }
}

impl Membership {
    /// The active key with this secret; every way to be wrong looks the same.
    async fn authenticate(&self, id: &str, secret: &str) -> Result<Credential, Refusal> {
        let credential = match id.parse::<AccessKeyId>() {
            Ok(id) => match self.0.store.credential(&id).await {
                Ok(credential) => Some(credential),
                Err(StoreError::NotFound) => None,
                Err(error) => return Err(error.into()),
            },
            Err(_) => None,
        };
        let matches = credential.as_ref().map_or(&*NO_SECRET, |credential| &credential.digest).matches(secret);
        credential.filter(|credential| matches && credential.key.active).ok_or(Refusal::Credentials)
    }
}

fn lifetime(asked: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(asked) = asked else { return Ok(DEFAULT_LIFETIME) };
    Duration::try_from(asked)
        .ok()
        .filter(|lifetime| (MIN_LIFETIME..=MAX_LIFETIME).contains(lifetime))
        .ok_or_else(|| Refusal::field("lifetime", "must be 15 minutes to 12 hours"))
}
