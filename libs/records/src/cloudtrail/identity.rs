//! Who made a CloudTrail call: every type of `userIdentity`.

use std::borrow::Cow;

use gumshoe_model::{EntityRef, EntityType, Event, Relation, entity::MAX_ID_BYTES};

use crate::{
    arn::{Arn, entity, is_account, last_part, link_arn, partition, role_of_session},
    json::{Pairs, Text, cut, lenient},
};

/// CloudTrail's stand-in for a user name typed wrongly at sign-in, which may be a password.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";

lenient! {
    struct Identity {
        kind: Text<'a> = "type",
        principal: Text<'a> = "principalId" | "principalid",
        arn: Text<'a> = "arn",
        account: Text<'a> = "accountId" | "accountid",
        access_key: Text<'a> = "accessKeyId" | "accesskeyid",
        user_name: Text<'a> = "userName" | "username",
        invoked_by: Text<'a> = "invokedBy" | "invokedby",
        provider: Text<'a> = "identityProvider" | "identityprovider",
        session: SessionContext<'a> = "sessionContext" | "sessioncontext",
        on_behalf_of: OnBehalfOf<'a> = "onBehalfOf" | "onbehalfof",
        in_scope_of: InScopeOf<'a> = "inScopeOf" | "inscopeof",
    }

    struct SessionContext {
        issuer: Issuer<'a> = "sessionIssuer" | "sessionissuer",
        federation: Federation<'a> = "webIdFederationData" | "webidfederationdata",
        source_identity: Text<'a> = "sourceIdentity" | "sourceidentity",
        delivery: Text<'a> = "ec2RoleDelivery" | "ec2roledelivery",
    }

    struct Issuer {
        kind: Text<'a> = "type",
        principal: Text<'a> = "principalId" | "principalid",
        arn: Text<'a> = "arn",
    }

    struct Federation {
        provider: Text<'a> = "federatedProvider" | "federatedprovider",
        attributes: Pairs<'a, Text<'a>> = "attributes",
    }

    struct OnBehalfOf {
        user: Text<'a> = "userId" | "userid",
        store: Text<'a> = "identityStoreArn" | "identitystorearn",
    }

    struct InScopeOf {
        issued_to: Text<'a> = "credentialsIssuedTo" | "credentialsissuedto",
    }
}

/// Fills in the event's actor, its parent and its origin.
///
/// Where the record names nobody, the account or service that it names acts. A caller from another account is known by its
/// principal id: a session is itself (the same id as in its own records), a user only as its account.
pub(crate) fn principal<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    if identity.user_name.get() == HIDDEN {
        identity.user_name = Text::default();
    }
    event.origin = origin(identity).map(|id| reference(EntityType::FederatedUser, id));
    match identity.kind.get() {
        "Root" => root(identity, event),
        "IAMUser" => user(identity, event),
        "AssumedRole" => session(identity, event),
        "Role" => by_arn(identity, event),
        "FederatedUser" => federated(identity, event),
        "SAMLUser" | "WebIdentityUser" | "Directory" => outside(identity, event),
        "IdentityCenterUser" => identity_center(identity, event),
        "AWSAccount" if is_session_id(identity.principal.get()) => session(identity, event),
        "AWSAccount" if identity.account.get() == "ANONYMOUS_PRINCIPAL" => {
            event.actor = Some(EntityRef::new(EntityType::FederatedUser, "ANONYMOUS_PRINCIPAL"));
            event.actor_name = Cow::Borrowed("anonymous");
        }
        "AWSAccount" => {
            let principal = identity.principal.take();
            account(identity, event);
            event.actor_alias = principal;
        }
        "AWSService" => service(identity, event),
        _ if !identity.arn.is_empty() => by_arn(identity, event),
        _ if is_session_id(identity.principal.get()) => session(identity, event),
        _ if !identity.invoked_by.is_empty() => service(identity, event),
        _ => account(identity, event),
    }
    if event.actor.is_none() {
        account(identity, event);
    }
    event.actor_name = cut(std::mem::take(&mut event.actor_name), MAX_ID_BYTES);
    event.actor_alias = cut(std::mem::take(&mut event.actor_alias), MAX_ID_BYTES);
    event.parent_alias = cut(std::mem::take(&mut event.parent_alias), MAX_ID_BYTES);

    // Which instance holds the credentials of this session.
    link_arn(event, Relation::Used, identity.in_scope_of.issued_to.take());
    if !identity.session.delivery.is_empty() && event.actor_name.starts_with("i-") {
        let instance = event.actor_name.clone();
        crate::arn::link(event, Relation::Used, EntityType::Ec2Instance, instance, "");
    }
}

fn reference<'a>(kind: EntityType, id: Cow<'a, str>) -> EntityRef<'a> {
    EntityRef::new(kind, cut(id, MAX_ID_BYTES))
}

/// `AROA…:name`: the principal id of a role's session.
fn is_session_id(principal: &str) -> bool {
    principal.starts_with("AROA") && principal.contains(':')
}

fn origin<'a>(identity: &mut Identity<'a>) -> Option<Cow<'a, str>> {
    let session = &mut identity.session;
    if !session.source_identity.is_empty() {
        return Some(session.source_identity.take());
    }
    if !session.federation.provider.is_empty() {
        let attribute =
            |ending: &str| session.federation.attributes.0.iter().find(|(key, value)| key.ends_with(ending) && !value.is_empty()).map(|(_, value)| value);
        let provider = session.federation.provider.get();
        // The same form as the principal id of a WebIdentityUser.
        return Some(match (attribute(":app_id").or_else(|| attribute(":aud")), attribute(":user_id").or_else(|| attribute(":sub"))) {
            (Some(app), Some(user)) => Cow::Owned(format!("{provider}:{app}:{user}")),
            (None, Some(user)) => Cow::Owned(format!("{provider}:{user}")),
            _ => session.federation.provider.take(),
        });
    }
    let on_behalf_of = &mut identity.on_behalf_of;
    match (on_behalf_of.store.is_empty(), on_behalf_of.user.is_empty()) {
        (_, true) => None,
        (true, false) => Some(on_behalf_of.user.take()),
        (false, false) => Some(Cow::Owned(format!("{}/{}", on_behalf_of.store, on_behalf_of.user))),
    }
}

fn root<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    let id = if !identity.arn.is_empty() {
        identity.arn.take()
    } else if is_account(identity.account.get()) {
        Cow::Owned(format!("arn:{}:iam::{}:root", partition(&event.region), identity.account))
    } else {
        return;
    };
    event.actor = Some(reference(EntityType::Root, id));
    event.actor_name = Cow::Borrowed("root");
}

fn user<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    if !identity.arn.is_empty() {
        return by_arn(identity, event);
    }
    if is_account(identity.account.get()) && !identity.user_name.is_empty() {
        let id = format!("arn:{}:iam::{}:user/{}", partition(&event.region), identity.account, identity.user_name);
        event.actor = Some(reference(EntityType::User, Cow::Owned(id)));
        event.actor_name = identity.user_name.take();
        event.actor_alias = identity.principal.take();
    }
}

fn session<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    let (principal, arn) = (identity.principal.take(), identity.arn.take());
    let name = principal.split_once(':').map_or_else(|| last_part(&arn).to_owned(), |(_, name)| name.to_owned());
    event.actor_name = Cow::Owned(name);
    let issuer = &mut identity.session.issuer;
    if !issuer.arn.is_empty() {
        let (kind, id, _) = entity(issuer.arn.take());
        event.parent = Some(reference(kind, id));
    } else if let Some(role) = role_of_session(&arn) {
        event.parent = Some(reference(EntityType::Role, Cow::Owned(role)));
    } else if is_account(identity.account.get()) {
        event.parent = Some(EntityRef::new(EntityType::Account, identity.account.0.clone()));
    }
    if event.parent.as_ref().is_some_and(|parent| parent.kind == EntityType::Role) {
        event.parent_alias = match (issuer.principal.is_empty(), principal.split_once(':')) {
            (true, Some((role, _))) => Cow::Owned(role.to_owned()),
            _ => issuer.principal.take(),
        };
    }
    if principal.contains(':') {
        event.actor = Some(reference(EntityType::RoleSession, principal));
        event.actor_alias = arn;
    } else if !arn.is_empty() {
        event.actor = Some(reference(EntityType::RoleSession, arn));
        event.actor_alias = principal;
    } else if !principal.is_empty() {
        event.actor = Some(reference(EntityType::RoleSession, principal));
    }
}

/// A user, role or session that only its ARN tells apart.
fn by_arn<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    if Arn::parse(identity.arn.get()).is_none() {
        return;
    }
    let (kind, id, name) = entity(identity.arn.0.clone());
    match kind {
        EntityType::RoleSession => session(identity, event),
        EntityType::FederatedUser => federated(identity, event),
        EntityType::Root => root(identity, event),
        kind => {
            event.actor = Some(reference(kind, id));
            event.actor_name = if identity.user_name.is_empty() { name } else { identity.user_name.take() };
            event.actor_alias = identity.principal.take();
        }
    }
}

/// A session of GetFederationToken: its parent is the user or root that asked for it.
fn federated<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    let (arn, principal) = (identity.arn.take(), identity.principal.take());
    event.actor_name = match (arn.rsplit_once('/'), principal.split_once(':')) {
        (Some((_, name)), _) | (None, Some((_, name))) => Cow::Owned(name.to_owned()),
        (None, None) => identity.user_name.take(),
    };
    let (id, alias) = if arn.is_empty() { (principal, arn) } else { (arn, principal) };
    if !id.is_empty() {
        event.actor = Some(reference(EntityType::FederatedUser, id));
        event.actor_alias = alias;
    }
    let issuer = &mut identity.session.issuer;
    if Arn::parse(issuer.arn.get()).is_some() {
        let (kind, id, _) = entity(issuer.arn.take());
        event.parent = Some(reference(kind, id));
        event.parent_alias = issuer.principal.take();
    }
}

/// Someone whom another directory vouches for: SAML, web identity, AWS Directory Service.
fn outside<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    let id =
        [&mut identity.principal, &mut identity.arn].into_iter().find(|text| !text.is_empty()).map(Text::take).unwrap_or_else(|| identity.user_name.0.clone());
    if id.is_empty() {
        return;
    }
    event.actor_name = identity.user_name.take();
    event.actor_alias = identity.provider.take();
    event.actor = Some(reference(EntityType::FederatedUser, id));
}

fn identity_center<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    event.actor_name = identity.user_name.take();
    event.actor_alias = identity.principal.take();
    event.actor = event.origin.take().or_else(|| {
        let id = if event.actor_alias.is_empty() { event.actor_name.clone() } else { event.actor_alias.clone() };
        (!id.is_empty()).then(|| reference(EntityType::FederatedUser, id))
    });
}

fn service<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    // `AWS Internal` names no service: then the called service acted for itself.
    let named = identity.invoked_by.get().contains('.');
    let id = if named { identity.invoked_by.take() } else { event.service.clone() };
    event.actor = Some(reference(EntityType::AwsService, id));
}

fn account<'a>(identity: &mut Identity<'a>, event: &mut Event<'a>) {
    if is_account(identity.account.get()) {
        event.actor = Some(EntityRef::new(EntityType::Account, identity.account.0.clone()));
    }
}
