//! Access keys to tokens, and principals to policies.

use std::{sync::LazyLock, time::Duration};

use gumshoe_api::{
    convert::time_to_proto,
    membership::v1::{self as api, credential_service_server::CredentialService},
};
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Caller, status::Chain};
use tonic::{Request, Response, Status};

use super::{GATEWAY, Membership, parsed, principal::policy_to_proto, tag::tags_to_proto};
use crate::{
    access_key::{AccessKeyId, Credential, SecretDigest},
    bearer::{DEFAULT_LIFETIME, MAX_LIFETIME, MIN_LIFETIME},
    error::Refusal,
    principal::PrincipalArn,
    secret::signing_key,
    session::Session,
    store::StoreError,
};

/// Stands in for a key that does not exist, so that the answer takes as long.
static NO_SECRET: LazyLock<SecretDigest> = LazyLock::new(|| SecretDigest::of("no such key"));

const UNKNOWN_KEY: &str = "unknown access key";
const DISABLED_KEY: &str = "disabled access key";
const NO_SECRET_KEPT: &str = "the access key cannot sign requests";
const MISSING_TOKEN: &str = "missing session token";
const INVALID_TOKEN: &str = "invalid session token";
const EXPIRED_TOKEN: &str = "expired session token";

#[tonic::async_trait]
impl CredentialService for Membership {
    async fn create_token(&self, request: Request<api::CreateTokenRequest>) -> Result<Response<api::CreateTokenResponse>, Status> {
        Caller::of(&request)?.require_issuer(&[GATEWAY])?;
        let message = request.into_inner();
        let lifetime = lifetime("lifetime", message.lifetime)?;
        let credential = self.authenticate(&message.access_key_id, &message.secret_access_key).await?;
        let principal = PrincipalArn { account: credential.account.clone(), name: credential.key.principal.clone() };
        let now = self.0.clock.now();
        let (token, expiry) = self.0.bearer.sign(&credential.account, &principal, now, lifetime).map_err(Refusal::from)?;
        self.touch(&credential, now).await;
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
            graph_arns: authorization.graphs.iter().map(|(graph, _)| graph.to_string()).collect(),
            graph_tags: authorization.graphs.iter().map(|(graph, tags)| api::GraphTags { graph_arn: graph.to_string(), tags: tags_to_proto(tags) }).collect(),
        }))
    }

    async fn get_signing_key(&self, request: Request<api::GetSigningKeyRequest>) -> Result<Response<api::GetSigningKeyResponse>, Status> {
        Caller::of(&request)?.require_issuer(&[GATEWAY])?;
        let message = request.into_inner();
        check_scope(&message)?;
        let temporary = message.access_key_id.starts_with("ASIA");
        Ok(Response::new(if temporary { self.session_signing_key(&message).await? } else { self.lasting_signing_key(&message).await? }))
    }

    async fn assume_role(&self, request: Request<api::AssumeRoleRequest>) -> Result<Response<api::AssumeRoleResponse>, Status> {
        Ok(Response::new(self.assume(request).await?))
    }

    async fn assume_role_with_web_identity(
        &self,
        request: Request<api::AssumeRoleWithWebIdentityRequest>,
    ) -> Result<Response<api::AssumeRoleWithWebIdentityResponse>, Status> {
        Ok(Response::new(self.assume_with_web_identity(request).await?))
    }
}

impl Membership {
    /// The active key with this secret; every way to be wrong looks the same.
    async fn authenticate(&self, id: &str, secret: &str) -> Result<Credential, Refusal> {
        let credential = self.credential(id).await?;
        let matches = credential.as_ref().map_or(&*NO_SECRET, |credential| &credential.secret.digest).matches(secret);
        credential.filter(|credential| matches && credential.key.active).ok_or(Refusal::Credentials)
    }

    async fn credential(&self, id: &str) -> Result<Option<Credential>, Refusal> {
        let Ok(id) = id.parse::<AccessKeyId>() else { return Ok(None) };
        match self.0.store.credential(&id).await {
            Ok(credential) => Ok(Some(credential)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Notes that a key is used. Known to the hour at best: no reason to refuse the key.
    async fn touch(&self, credential: &Credential, now: Timestamp) {
        let hour = now.hour().start();
        if credential.key.last_used_time.is_none_or(|last| last < hour)
            && let Err(error) = self.0.store.touch_access_key(&credential.account, &credential.key.id, hour).await
        {
            tracing::warn!(error = %Chain(&error), "the use of an access key was not recorded");
        }
    }

    async fn lasting_signing_key(&self, message: &api::GetSigningKeyRequest) -> Result<api::GetSigningKeyResponse, Refusal> {
        let credential = self.credential(&message.access_key_id).await?.ok_or(Refusal::Signature(UNKNOWN_KEY))?;
        if !message.session_token.is_empty() {
            return Err(Refusal::Signature(INVALID_TOKEN));
        }
        if !credential.key.active {
            return Err(Refusal::Signature(DISABLED_KEY));
        }
        let sealed = credential.secret.sealed.as_ref().zip(self.0.keyring.as_ref());
        let (sealed, keyring) = sealed.ok_or(Refusal::Signature(NO_SECRET_KEPT))?;
        let secret = keyring.unseal(&credential.key.id, sealed).map_err(|error| {
            tracing::error!(access_key_id = %credential.key.id, %error, "the secret of an access key does not open");
            Refusal::Signature(NO_SECRET_KEPT)
        })?;
        self.touch(&credential, self.0.clock.now()).await;
        let principal = PrincipalArn { account: credential.account.clone(), name: credential.key.principal.clone() };
        Ok(api::GetSigningKeyResponse {
            signing_key: signing_key(&secret, &message.date, &message.region, &message.service).to_vec(),
            principal_arn: principal.to_string(),
            account_id: credential.account.to_string(),
            ..api::GetSigningKeyResponse::default()
        })
    }

    async fn session_signing_key(&self, message: &api::GetSigningKeyRequest) -> Result<api::GetSigningKeyResponse, Refusal> {
        if message.session_token.is_empty() {
            return Err(Refusal::Signature(MISSING_TOKEN));
        }
        let opened = self.0.keyring.as_ref().and_then(|keyring| Session::open(keyring, &message.session_token));
        let (session, secret) = opened.filter(|(session, _)| session.access_key_id == message.access_key_id).ok_or(Refusal::Signature(INVALID_TOKEN))?;
        if session.expire_time <= self.0.clock.now() {
            return Err(Refusal::Signature(EXPIRED_TOKEN));
        }
        let role = self.role(&session.role).await?;
        if role.is_none_or(|role| role.role_id(&session.role.account) != session.role_id) {
            return Err(Refusal::Signature(INVALID_TOKEN));
        }
        Ok(api::GetSigningKeyResponse {
            signing_key: signing_key(&secret, &message.date, &message.region, &message.service).to_vec(),
            principal_arn: session.role.to_string(),
            account_id: session.role.account.to_string(),
            session_arn: session.arn(),
            issue_time: Some(time_to_proto(session.issue_time)),
            expire_time: Some(time_to_proto(session.expire_time)),
            user_id: session.assumed_role_id(),
            session_policy: session.policy.unwrap_or_default(),
        })
    }
}

/// A key is given out for a scope that a signature can have, and for no other text.
fn check_scope(message: &api::GetSigningKeyRequest) -> Result<(), Refusal> {
    if message.date.len() != 8 || !message.date.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::field("date", "must be a day such as `20240630`"));
    }
    for (field, value) in [("region", &message.region), ("service", &message.service)] {
        if !(1..=32).contains(&value.len()) || !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
            return Err(Refusal::field(field, "must be 1 to 32 of `A-Za-z0-9-_`"));
        }
    }
    Ok(())
}

pub(super) fn lifetime(field: &str, asked: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(asked) = asked else { return Ok(DEFAULT_LIFETIME) };
    Duration::try_from(asked)
        .ok()
        .filter(|lifetime| (MIN_LIFETIME..=MAX_LIFETIME).contains(lifetime))
        .ok_or_else(|| Refusal::field(field, "must be 15 minutes to 12 hours"))
}
