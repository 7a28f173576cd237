//! Sessions of roles: who may assume a role, and temporary credentials that hold all there is to know about them.

use std::{str::FromStr, time::Duration};

use gumshoe_iam::{Context, CrossAccount, Effect, Kind, Policy, PolicySets, Principal, Request, evaluate};
use gumshoe_model::{AccountId, Invalid, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    access_key::session_key_id,
    principal::{PrincipalArn, PrincipalName, TrustPolicy, is_name},
    secret::{CipherFailed, Keyring},
};

/// Characters of a session policy.
///
/// Source: parameter `Policy` of AssumeRole.
pub const MAX_POLICY_SIZE: usize = 2_048;

/// Every identity policy there is allows this: the gateway has looked at the caller's own before.
const CALLERS_OWN: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}"#;

/// The name of a session: 2 to 64 of `A-Za-z0-9_+=,.@-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionName(String);

impl SessionName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SessionName {
    type Err = Invalid;

    fn from_str(value: &str) -> Result<Self, Invalid> {
        if value.len() >= 2 && is_name(value, 64) {
            Ok(Self(value.to_owned()))
        } else {
            Err(Invalid::new("session name", value, "expected 2 to 64 of `A-Za-z0-9_+=,.@-`"))
        }
    }
}

/// A session policy: one of an identity, short.
///
/// # Errors
/// What is wrong with it, in words.
pub fn session_policy(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() > MAX_POLICY_SIZE {
        return Err(format!("must have at most {MAX_POLICY_SIZE} characters"));
    }
    Policy::parse(text).map(|_| Some(text.to_owned())).map_err(|error| error.to_string())
}

/// Someone who has signed in elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebIdentity {
    /// The token's issuer without `https://`.
    pub provider: String,
    /// Its claim `sub`.
    pub subject: String,
    /// Its claim `aud`.
    pub audience: String,
}

/// Whether a role's trust policy lets a principal assume the role.
#[must_use]
pub fn may_assume(trust: &TrustPolicy, role: &PrincipalArn, caller: &str, session: &SessionName) -> bool {
    let principal = Principal::parse(caller);
    let mut context = context(session).with("aws:PrincipalArn", caller);
    if let Some(account) = principal.account() {
        context.set("aws:PrincipalAccount", account);
    }
    trusts(trust, Request::new(principal, "sts:AssumeRole", role.to_string()).with_context(context)) == Effect::Allow
}

/// Whether a role's trust policy lets a web identity assume the role. Policies name a provider as such or by its ARN in
/// the role's account; a denial under either name counts.
#[must_use]
pub fn may_assume_with_web_identity(trust: &TrustPolicy, role: &PrincipalArn, identity: &WebIdentity, session: &SessionName) -> bool {
    let WebIdentity { provider, subject, audience } = identity;
    let context = context(session)
        .with(&format!("{provider}:sub"), subject.as_str())
        .with(&format!("{provider}:aud"), audience.as_str())
        .with("aws:FederatedProvider", provider.as_str());
    let effects = [provider.clone(), format!("arn:aws:iam::{}:oidc-provider/{provider}", role.account)].map(|name| {
        let request = Request::new(Principal::parse(&name), "sts:AssumeRoleWithWebIdentity", role.to_string());
        trusts(trust, request.with_context(context.clone()))
    });
    effects.contains(&Effect::Allow) && !effects.contains(&Effect::Deny)
}

fn context(session: &SessionName) -> Context {
    Context::new().with("sts:RoleSessionName", session.as_str())
}

fn trusts(trust: &TrustPolicy, mut request: Request) -> Effect {
    // A stored policy was valid; one that is not any more trusts nobody.
    let (Ok(policy), Ok(own)) = (Policy::parse_as(Kind::Trust, trust.as_str()), Policy::parse(CALLERS_OWN)) else { return Effect::ImplicitDeny };
    // A role is never assumed without its trust policy, whoever's account it is: that is the rule between accounts.
    request.resource_account = Some(String::new());
    let sets = PolicySets { identity: vec![own.into()], resource: vec![policy.into()], cross_account: CrossAccount::BothSides, ..PolicySets::default() };
    evaluate(&request, &sets).effect
}

/// What a session token holds. All of it is signed, since all of it is sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Claims {
    /// The access key id.
    key: String,
    account: String,
    /// `role/NAME`.
    role: String,
    /// The role's id: another role of the same name is not this one.
    role_id: String,
    session: String,
    /// Seconds since the epoch.
    issued: i64,
    expiry: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

/// A session of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The access key id that goes with it, `ASIA…`.
    pub access_key_id: String,
    /// The role.
    pub role: PrincipalArn,
    /// The role's id, `AROA…`.
    pub role_id: String,
    /// Its name.
    pub name: SessionName,
    /// When it was given out; whole seconds.
    pub issue_time: Timestamp,
    /// When it ends; whole seconds.
    pub expire_time: Timestamp,
    /// A policy that narrows it, IAM JSON.
    pub policy: Option<String>,
}

/// Temporary credentials.
#[derive(Debug)]
pub struct Credentials {
    /// The secret.
    pub secret_access_key: SecretString,
    /// Goes with every request.
    pub session_token: SecretString,
}

impl Session {
    /// A session that begins now.
    #[must_use]
    pub fn new(role: PrincipalArn, role_id: String, name: SessionName, now: Timestamp, lifetime: Duration, policy: Option<String>) -> Self {
        let issued = now.0.div_euclid(1_000_000);
        let expiry = issued.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(0));
        Self { access_key_id: session_key_id(), role, role_id, name, issue_time: seconds(issued), expire_time: seconds(expiry), policy }
    }

    /// `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    #[must_use]
    pub fn arn(&self) -> String {
        format!("arn:aws:sts::{}:assumed-{}/{}", self.role.account, self.role.name.as_str(), self.name.as_str())
    }

    /// `ROLE-ID:SESSION`.
    #[must_use]
    pub fn assumed_role_id(&self) -> String {
        format!("{}:{}", self.role_id, self.name.as_str())
    }

    /// Its credentials.
    ///
    /// # Errors
    /// [`CipherFailed`].
    pub fn credentials(&self, keyring: &Keyring) -> Result<Credentials, CipherFailed> {
        let claims = Claims {
            key: self.access_key_id.clone(),
            account: self.role.account.to_string(),
            role: self.role.name.as_str().to_owned(),
            role_id: self.role_id.clone(),
            session: self.name.as_str().to_owned(),
            issued: self.issue_time.0.div_euclid(1_000_000),
            expiry: self.expire_time.0.div_euclid(1_000_000),
            policy: self.policy.clone(),
        };
        let (session_token, secret_access_key) = keyring.seal_session(&serde_json::to_vec(&claims).map_err(|_| CipherFailed)?)?;
        Ok(Credentials { secret_access_key, session_token })
    }

    /// The session of a token, with its secret; `None` if the token is not one of ours. Whether it has ended is the
    /// caller's to see.
    #[must_use]
    pub fn open(keyring: &Keyring, token: &str) -> Option<(Self, SecretString)> {
        let (content, secret) = keyring.open_session(token)?;
        let claims: Claims = serde_json::from_slice(&content).ok()?;
        let account: AccountId = claims.account.parse().ok()?;
        let name: PrincipalName = claims.role.parse().ok()?;
        let session = Self {
            access_key_id: claims.key,
            role: PrincipalArn { account, name },
            role_id: claims.role_id,
            name: claims.session.parse().ok()?,
            issue_time: seconds(claims.issued),
            expire_time: seconds(claims.expiry),
            policy: claims.policy,
        };
        Some((session, secret))
    }
}

impl Credentials {
    /// The secret as text.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secret_access_key.expose_secret()
    }

    /// The token as text.
    #[must_use]
    pub fn token(&self) -> &str {
        self.session_token.expose_secret()
    }
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: &str = "arn:aws:iam::111122223333:role/Analyst";

    fn trust(principal: &str, condition: &str) -> TrustPolicy {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{principal},"Action":"sts:*"{condition}}}}}"#);
        TrustPolicy::parse(&text).unwrap()
    }

    fn assumes(trust: &TrustPolicy, caller: &str) -> bool {
        may_assume(trust, &ROLE.parse().unwrap(), caller, &"ann".parse().unwrap())
    }

    #[test]
    fn the_trust_policy_decides_in_the_same_account_too() {
        let ann = "arn:aws:iam::111122223333:user/Ann";
        let direct = trust(r#"{"AWS":"arn:aws:iam::111122223333:user/Ann"}"#, "");
        assert!(assumes(&direct, ann));
        assert!(!assumes(&direct, "arn:aws:iam::111122223333:user/Bob"), "the account's own policies do not suffice");
        assert!(!assumes(&direct, "arn:aws:iam::111122223333:root"));
        let account = trust(r#"{"AWS":"arn:aws:iam::444455556666:root"}"#, "");
        assert!(assumes(&account, "arn:aws:iam::444455556666:user/Eve"));
        assert!(!assumes(&account, ann));
        let role = trust(r#"{"AWS":"arn:aws:iam::111122223333:role/Other"}"#, "");
        for caller in ["arn:aws:iam::111122223333:role/Other", "arn:aws:sts::111122223333:assumed-role/Other/x"] {
            assert!(assumes(&role, caller), "{caller}");
        }
    }

    #[test]
    fn conditions_of_the_trust_policy_count() {
        let named = trust(r#"{"AWS":"*"}"#, r#","Condition":{"StringEquals":{"sts:RoleSessionName":"bob"}}"#);
        assert!(!assumes(&named, "arn:aws:iam::111122223333:user/Ann"));
        let named = trust(r#"{"AWS":"*"}"#, r#","Condition":{"StringEquals":{"sts:RoleSessionName":"ann","aws:PrincipalAccount":"111122223333"}}"#);
        assert!(assumes(&named, "arn:aws:iam::111122223333:user/Ann"));
        assert!(!assumes(&named, "arn:aws:iam::444455556666:user/Ann"));
    }

    #[test]
    fn web_identities_are_told_apart_by_provider_subject_and_audience() {
        let identity = |provider: &str, subject: &str, audience: &str| WebIdentity {
            provider: provider.to_owned(),
            subject: subject.to_owned(),
            audience: audience.to_owned(),
        };
        let condition = r#","Condition":{"StringEquals":{"id.example.com/realm:aud":"gumshoe","id.example.com/realm:sub":"ann"}}"#;
        let good = identity("id.example.com/realm", "ann", "gumshoe");
        for principal in [r#"{"Federated":"id.example.com/realm"}"#, r#"{"Federated":"arn:aws:iam::111122223333:oidc-provider/id.example.com/realm"}"#] {
            let trust = trust(principal, condition);
            let assumes = |identity: &WebIdentity| may_assume_with_web_identity(&trust, &ROLE.parse().unwrap(), identity, &"ann".parse().unwrap());
            assert!(assumes(&good));
            for bad in
                [identity("id.example.com", "ann", "gumshoe"), identity("id.example.com/realm", "bob", "gumshoe"), identity("id.example.com/realm", "ann", "x")]
            {
                assert!(!assumes(&bad), "{bad:?}");
            }
        }
        let elsewhere = trust(r#"{"Federated":"arn:aws:iam::444455556666:oidc-provider/id.example.com/realm"}"#, "");
        assert!(!may_assume_with_web_identity(&elsewhere, &ROLE.parse().unwrap(), &good, &"ann".parse().unwrap()));
        let text = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":{"Federated":"id.example.com/realm"},"Action":"sts:AssumeRoleWithWebIdentity"},
            {"Effect":"Deny","Principal":{"Federated":"arn:aws:iam::111122223333:oidc-provider/id.example.com/realm"},"Action":"sts:*"}]}"#;
        let denied = TrustPolicy::parse(text).unwrap();
        assert!(!may_assume_with_web_identity(&denied, &ROLE.parse().unwrap(), &good, &"ann".parse().unwrap()));
    }

    #[test]
    fn a_token_gives_back_its_session() {
        let keyring = Keyring::new(&SecretString::from("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="), &[]).unwrap();
        let now = Timestamp(1_700_000_000_123_456);
        let policy = session_policy(CALLERS_OWN).unwrap();
        let session = Session::new(ROLE.parse().unwrap(), "AROAX".to_owned(), "ann".parse().unwrap(), now, Duration::from_secs(900), policy);
        assert_eq!(session.arn(), "arn:aws:sts::111122223333:assumed-role/Analyst/ann");
        assert_eq!(session.assumed_role_id(), "AROAX:ann");
        assert_eq!(session.expire_time.0 - session.issue_time.0, 900_000_000);
        let credentials = session.credentials(&keyring).unwrap();
        let (opened, secret) = Session::open(&keyring, credentials.token()).unwrap();
        assert_eq!((&opened, secret.expose_secret()), (&session, credentials.secret()));
        assert!(Session::open(&keyring, "AAAA").is_none());
        assert!(session_policy(&"x".repeat(2_049)).is_err());
        assert!(session_policy("{").is_err());
        assert_eq!(session_policy(""), Ok(None));
        for bad in ["", "a", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<SessionName>().is_err(), "{bad}");
        }
    }
}
