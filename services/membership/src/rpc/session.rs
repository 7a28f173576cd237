//! Roles that are assumed.

use std::time::Duration;

use gumshoe_api::{convert::time_to_proto, membership::v1 as api};
use gumshoe_runtime::Caller;
use tonic::Request;

use super::{GATEWAY, Membership, authorized, credential::lifetime, parsed};
use crate::{
    error::Refusal,
    principal::{Principal, PrincipalArn, TrustPolicy},
    session::{Session, SessionName, WebIdentity, may_assume, may_assume_with_web_identity, session_policy},
    store::StoreError,
};

/// Says the same of a role that is not there.
const NOT_TRUSTED: &str = "the trust policy of the role does not allow to assume it";
const NO_KEY: &str = "no envelope key is configured, so that there are no temporary credentials";

/// What all ways to assume a role ask for.
struct Asked {
    role: PrincipalArn,
    name: SessionName,
    lifetime: Duration,
    policy: Option<String>,
}

impl Membership {
    pub(super) async fn assume(&self, request: Request<api::AssumeRoleRequest>) -> Result<api::AssumeRoleResponse, Refusal> {
        authorized(&request, "sts:AssumeRole")?;
        let caller = Caller::of(&request)?.principal.clone();
        let message = request.into_inner();
        let asked = Asked::of(&message.role_arn, &message.role_session_name, message.duration, &message.policy)?;
        let (session, credentials) = self.session(asked, |trust, asked| may_assume(trust, &asked.role, &caller, &asked.name)).await?;
        Ok(api::AssumeRoleResponse { credentials: Some(credentials), session_arn: session.arn(), assumed_role_id: session.assumed_role_id() })
    }

    pub(super) async fn assume_with_web_identity(
        &self,
        request: Request<api::AssumeRoleWithWebIdentityRequest>,
    ) -> Result<api::AssumeRoleWithWebIdentityResponse, Refusal> {
        Caller::of(&request)?.require_issuer(&[GATEWAY])?;
        let message = request.into_inner();
        let asked = Asked::of(&message.role_arn, &message.role_session_name, message.duration, &message.policy)?;
        for (field, value) in [("provider", &message.provider), ("subject", &message.subject), ("audience", &message.audience)] {
            if value.is_empty() {
                return Err(Refusal::field(field, "must not be empty"));
            }
        }
        let identity = WebIdentity { provider: message.provider, subject: message.subject, audience: message.audience };
        let trusts = |trust: &TrustPolicy, asked: &Asked| may_assume_with_web_identity(trust, &asked.role, &identity, &asked.name);
        let (session, credentials) = self.session(asked, trusts).await?;
        Ok(api::AssumeRoleWithWebIdentityResponse { credentials: Some(credentials), session_arn: session.arn(), assumed_role_id: session.assumed_role_id() })
    }

    async fn session(&self, asked: Asked, trusts: impl FnOnce(&TrustPolicy, &Asked) -> bool) -> Result<(Session, api::TemporaryCredentials), Refusal> {
        let keyring = self.0.keyring.as_ref().ok_or(Refusal::Conflict(NO_KEY))?;
        let role = self.role(&asked.role).await?.ok_or(Refusal::Denied(NOT_TRUSTED))?;
        if !role.trust_policy.as_ref().is_some_and(|trust| trusts(trust, &asked)) {
            return Err(Refusal::Denied(NOT_TRUSTED));
        }
        let role_id = role.role_id(&asked.role.account);
        let session = Session::new(asked.role, role_id, asked.name, self.0.clock.now(), asked.lifetime, asked.policy);
        let credentials = session.credentials(keyring)?;
        let message = api::TemporaryCredentials {
            access_key_id: session.access_key_id.clone(),
            secret_access_key: credentials.secret().to_owned(),
            session_token: credentials.token().to_owned(),
            expire_time: Some(time_to_proto(session.expire_time)),
        };
        Ok((session, message))
    }

    /// A role, if there is one.
    pub(super) async fn role(&self, arn: &PrincipalArn) -> Result<Option<Principal>, Refusal> {
        if !arn.name.is_role() {
            return Ok(None);
        }
        match self.0.store.principal(&arn.account, &arn.name).await {
            Ok(principal) => Ok(Some(principal)),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Asked {
    fn of(role: &str, name: &str, duration: Option<prost_types::Duration>, policy: &str) -> Result<Self, Refusal> {
        let role: PrincipalArn = parsed("role_arn", role)?;
        if !role.name.is_role() {
            return Err(Refusal::field("role_arn", "must be the ARN of a role"));
        }
        let policy = session_policy(policy).map_err(|reason| Refusal::field("policy", reason))?;
        Ok(Self { role, name: parsed("role_session_name", name)?, lifetime: lifetime("duration", duration)?, policy })
    }
}
