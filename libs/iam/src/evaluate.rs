//! Decisions: a request, the policies that apply to it, and what follows from them.
//!
//! ```text
//! deny      any matching Deny in any policy of any kind
//! scp, rcp  every level of the organisation must allow
//! allow     same account:  (identity and boundary and session) or what the resource's policy grants
//!           cross account: (identity and boundary and session) and what the resource's policy grants
//! ```
//!
//! Amazon Detective has no resource-based policies, yet lets a member act on a graph of another account
//! (`AcceptInvitation`): for it, [`CrossAccount::IdentityOnly`] leaves the resource's side to the service.

use std::{fmt, sync::Arc};

use crate::{
    context::{Context, ContextValue},
    policy::{Policy, Statement},
    principal::{Grant, Principal},
};

/// What is asked.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who asks.
    pub principal: Principal,
    /// `service:Name`; case is ignored.
    pub action: String,
    /// The ARN acted on, or `*` for an action that has no resource type.
    pub resource: String,
    /// The account that owns the resource; if none, the one in the ARN, or the caller's own for `*`.
    pub resource_account: Option<String>,
    /// Condition keys.
    pub context: Context,
}

impl Request {
    /// A request without condition keys.
    #[must_use]
    pub fn new(principal: Principal, action: impl Into<String>, resource: impl Into<String>) -> Self {
        Self { principal, action: action.into(), resource: resource.into(), resource_account: None, context: Context::new() }
    }

    /// The same request with condition keys.
    #[must_use]
    pub fn with_context(self, context: Context) -> Self {
        Self { context, ..self }
    }

    fn is_same_account(&self) -> bool {
        let owner = match &self.resource_account {
            Some(account) => Some(account.as_str()),
            None if self.resource == "*" => self.principal.account(),
            None => self.resource.split(':').nth(4),
        };
        owner.is_some_and(|owner| Some(owner) == self.principal.account())
    }

    /// Service-linked roles are outside SCPs. Their path is only in the role's own ARN.
    fn is_service_linked_role(&self) -> bool {
        let role = match self.context.lookup("aws:principalarn") {
            Some(ContextValue::One(arn)) => arn,
            _ => self.principal.arn(),
        };
        role.splitn(6, ':').nth(5).is_some_and(|resource| resource.starts_with("role/aws-service-role/"))
    }
}

/// What is required when caller and resource belong to different accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CrossAccount {
    /// The caller's and the resource's policies must both allow: AWS's general rule.
    #[default]
    BothSides,
    /// The caller's policies decide; the service checks the resource's side itself, as Amazon Detective does.
    IdentityOnly,
}

/// The policies that apply to a request. An empty list means that there is no policy of that kind.
#[derive(Debug, Clone, Default)]
pub struct PolicySets {
    /// Inline, managed and group policies of the caller.
    pub identity: Vec<Arc<Policy>>,
    /// The resource's own policy.
    pub resource: Vec<Arc<Policy>>,
    /// The caller's permissions boundary.
    pub boundary: Vec<Arc<Policy>>,
    /// Session policies.
    pub session: Vec<Arc<Policy>>,
    /// Service control policies of the caller's account, by level from the root down.
    pub service_control: Vec<Vec<Arc<Policy>>>,
    /// Resource control policies of the resource's account, by level. AWS attaches one that allows all to every level, so
    /// that only their denials count.
    pub resource_control: Vec<Vec<Arc<Policy>>>,
    /// The rule between accounts.
    pub cross_account: CrossAccount,
}

impl PolicySets {
    /// Only identity-based policies, between accounts as Amazon Detective does.
    #[must_use]
    pub fn of_identity(policies: impl IntoIterator<Item = impl Into<Arc<Policy>>>) -> Self {
        Self { identity: policies.into_iter().map(Into::into).collect(), cross_account: CrossAccount::IdentityOnly, ..Self::default() }
    }

    /// Whether any condition key of a request matters to a decision. Where none does, the request needs none.
    #[must_use]
    pub fn reads_context(&self) -> bool {
        // Who is outside service control policies is told by a key.
        let mut policies = [&self.identity, &self.resource, &self.boundary, &self.session].into_iter().chain(&self.resource_control).flatten();
        !self.service_control.is_empty() || policies.any(|policy| policy.reads_context())
    }
}

/// The outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// The request may go on.
    Allow,
    /// A Deny statement matched.
    Deny,
    /// Nothing allowed the request.
    ImplicitDeny,
}

/// A kind of policy, in the order in which a decision names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// Service control policies.
    ServiceControl,
    /// Resource control policies.
    ResourceControl,
    /// The resource's own policy.
    Resource,
    /// The caller's policies; the root user's own power counts as one.
    Identity,
    /// The caller's permissions boundary.
    Boundary,
    /// Session policies.
    Session,
}

impl fmt::Display for Layer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ServiceControl => "service control policy",
            Self::ResourceControl => "resource control policy",
            Self::Resource => "resource-based policy",
            Self::Identity => "identity-based policy",
            Self::Boundary => "permissions boundary",
            Self::Session => "session policy",
        })
    }
}

/// A statement that took part in a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matched {
    /// The kind of policy it stands in.
    pub layer: Layer,
    /// The policy's name.
    pub policy: String,
    /// The statement's Sid, or its place from 0.
    pub statement: String,
}

/// What follows from the policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The outcome.
    pub effect: Effect,
    /// The kind of policy that allowed, denied, or failed to allow.
    pub layer: Layer,
    /// The statements that match: the denying ones if any, else the allowing ones, even when they did not suffice.
    pub matched: Vec<Matched>,
}

impl Decision {
    /// Whether the request may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.effect == Effect::Allow
    }

    /// The text AWS gives a caller who is denied; it names no policy.
    #[must_use]
    pub fn message(&self, request: &Request) -> String {
        let Request { principal, action, resource, .. } = request;
        let article = if self.layer == Layer::Identity { "an" } else { "a" };
        let intro = format!("User: {} is not authorized to perform: {action} on resource: {resource}", principal.arn());
        match self.effect {
            Effect::Allow => format!("User: {} is authorized to perform: {action} on resource: {resource}", principal.arn()),
            Effect::Deny => format!("{intro} with an explicit deny in {article} {}", self.layer),
            Effect::ImplicitDeny => format!("{intro} because no {} allows the {action} action", self.layer),
        }
    }

    /// The whole decision for an administrator: the message, and each statement that took part on a line of its own.
    #[must_use]
    pub fn explain(&self, request: &Request) -> String {
        let verb = if self.effect == Effect::Deny { "denied by" } else { "allowed by" };
        let mut text = self.message(request);
        for Matched { layer, policy, statement } in &self.matched {
            text.push_str(&format!("\n  {verb} {layer} `{policy}`, statement `{statement}`"));
        }
        if self.matched.is_empty() {
            text.push_str(if self.effect == Effect::Allow { "\n  the root user needs no policy" } else { "\n  no statement matches" });
        }
        text
    }
}

/// Decides a request. What nothing allows is denied.
#[must_use]
pub fn evaluate(request: &Request, sets: &PolicySets) -> Decision {
    let matches = Matches::collect(request, sets);
    let decision = |effect, layer| Decision { effect, layer, matched: matches.labels(effect == Effect::Deny) };
    if let Some(denied) = matches.denying.iter().map(|(matched, _)| matched.layer).min() {
        return decision(Effect::Deny, denied);
    }
    if !matches.organisation_allows {
        return decision(Effect::ImplicitDeny, Layer::ServiceControl);
    }
    let identity = matches.allows(Layer::Identity) || request.principal.is_root() && request.action.contains(':');
    let boundary = sets.boundary.is_empty() || matches.allows(Layer::Boundary);
    let session = sets.session.is_empty() || matches.allows(Layer::Session);
    let missing = match (identity, boundary, session) {
        _ if !request.principal.is_identity() => Some(Layer::Resource),
        (false, ..) => Some(Layer::Identity),
        (true, false, _) => Some(Layer::Boundary),
        (true, true, false) => Some(Layer::Session),
        (true, true, true) => None,
    };
    let grants = || matches.allowing.iter().filter(|(matched, _)| matched.layer == Layer::Resource).map(|(_, grant)| *grant);
    if request.is_same_account() || !request.principal.is_identity() {
        let granted = grants().any(|grant| match grant {
            Grant::Account => false,
            Grant::Role => boundary && session,
            Grant::Everyone | Grant::Session => session,
            Grant::Direct => true,
        });
        return match missing {
            None => decision(Effect::Allow, Layer::Identity),
            Some(_) if granted => decision(Effect::Allow, Layer::Resource),
            Some(layer) => decision(Effect::ImplicitDeny, layer),
        };
    }
    match missing {
        Some(layer) => decision(Effect::ImplicitDeny, layer),
        None if sets.cross_account == CrossAccount::BothSides && grants().next().is_none() => decision(Effect::ImplicitDeny, Layer::Resource),
        None => decision(Effect::Allow, Layer::Identity),
    }
}

/// The statements that apply to a request, each with how it names the caller.
struct Matches {
    denying: Vec<(Matched, Grant)>,
    allowing: Vec<(Matched, Grant)>,
    /// Every level of service control policies has an Allow.
    organisation_allows: bool,
}

impl Matches {
    fn collect(request: &Request, sets: &PolicySets) -> Self {
        let mut matches = Self { denying: Vec::new(), allowing: Vec::new(), organisation_allows: true };
        let action = request.action.to_lowercase();
        // An action without a service is none: nothing matches it.
        let Some((service, name)) = action.split_once(':') else { return matches };
        let has_boundary = !sets.boundary.is_empty();
        let mut add = |layer: Layer, policies: &[Arc<Policy>]| {
            let mut allowed = false;
            for policy in policies {
                let applies = |statement: &&Statement| statement.applies(service, name, &request.resource, &request.context);
                for statement in policy.statements.iter().filter(applies) {
                    let Some(grant) = statement.names(&request.principal, has_boundary) else { continue };
                    let matched = Matched { layer, policy: policy.name().to_owned(), statement: statement.label.clone() };
                    allowed |= !statement.deny;
                    if statement.deny { &mut matches.denying } else { &mut matches.allowing }.push((matched, grant));
                }
            }
            allowed
        };
        let mut organisation_allows = true;
        if !request.is_service_linked_role() {
            for level in &sets.service_control {
                organisation_allows &= add(Layer::ServiceControl, level);
            }
        }
        for level in &sets.resource_control {
            add(Layer::ResourceControl, level);
        }
        add(Layer::Resource, &sets.resource);
        add(Layer::Identity, &sets.identity);
        add(Layer::Boundary, &sets.boundary);
        add(Layer::Session, &sets.session);
        matches.organisation_allows = organisation_allows;
        matches
    }

    fn allows(&self, layer: Layer) -> bool {
        self.allowing.iter().any(|(matched, _)| matched.layer == layer)
    }

    fn labels(&self, denying: bool) -> Vec<Matched> {
        let side = if denying { &self.denying } else { &self.allowing };
        side.iter().map(|(matched, _)| matched.clone()).collect()
    }
}
