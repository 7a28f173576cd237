//! A parsed and compiled policy.

use crate::{
    condition::Condition,
    context::Context,
    document::{self, List, RawPrincipals, RawStatement},
    pattern::{ArnPattern, Pattern},
    principal::{Grant, Principal, PrincipalPattern},
};

/// A document that AWS would refuse with `MalformedPolicyDocument`; the message is AWS's where AWS has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Malformed {
    message: String,
}

impl Malformed {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// What a policy is attached to, which decides its grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An identity-based policy, a permissions boundary or a session policy: no principals.
    Identity,
    /// A resource-based policy: principals and resources.
    Resource,
    /// A role's trust policy: principals, and no resources.
    Trust,
    /// A service control policy: no principals.
    ServiceControl,
    /// A resource control policy: principals are optional.
    ResourceControl,
}

impl Kind {
    pub(crate) fn names_principals(self) -> bool {
        matches!(self, Self::Resource | Self::Trust | Self::ResourceControl)
    }
}

/// A policy that is ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Policy {
    name: String,
    pub(crate) statements: Vec<Statement>,
}

impl Policy {
    /// Parses an identity-based policy, a permissions boundary or a session policy.
    ///
    /// # Errors
    /// [`Malformed`] for whatever AWS would not store, and for what could never be evaluated safely: a Deny with a value
    /// that can't be compared, a list key compared as one value.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        Self::parse_as(Kind::Identity, text)
    }

    /// Parses a policy of any kind.
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn parse_as(kind: Kind, text: &str) -> Result<Self, Malformed> {
        Self::compile(kind, document::parse(text, kind, false)?)
    }

    /// Parses a policy that was stored before AWS asked for version 2012-10-17: `Version` may be 2008-10-17 or absent, and
    /// then `${…}` is ordinary text.
    ///
    /// # Errors
    /// As [`Policy::parse`].
    pub fn parse_stored(kind: Kind, text: &str) -> Result<Self, Malformed> {
        Self::compile(kind, document::parse(text, kind, true)?)
    }

    fn compile(kind: Kind, document: document::Document) -> Result<Self, Malformed> {
        let variables = document.variables;
        let statements = document.statements.into_iter().enumerate();
        let statements = statements.map(|(index, raw)| Statement::compile(raw, index, kind, variables)).collect::<Result<_, _>>()?;
        Ok(Self { name: String::new(), statements })
    }

    /// The same policy under a name that decisions show.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The name; empty unless [`Policy::named`] gave one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether any condition key of a request matters to it.
    #[must_use]
    pub fn reads_context(&self) -> bool {
        self.statements.iter().any(Statement::reads_context)
    }

    /// The size that AWS's quotas count: characters without white space.
    #[must_use]
    pub fn size(text: &str) -> usize {
        text.chars().filter(|character| !character.is_whitespace()).count()
    }
}

/// One compiled statement.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// The Sid, or the place in the document from 0.
    pub(crate) label: String,
    pub(crate) deny: bool,
    not_action: bool,
    actions: Vec<ActionPattern>,
    not_resource: bool,
    resources: Vec<ArnPattern>,
    principals: Option<(bool, Vec<PrincipalPattern>)>,
    conditions: Vec<Condition>,
}

/// An action pattern in lower case; `*` is no service and any name.
#[derive(Debug, Clone)]
struct ActionPattern {
    service: Option<String>,
    name: Pattern,
}

impl Statement {
    fn reads_context(&self) -> bool {
        !self.conditions.is_empty() || self.resources.iter().any(ArnPattern::has_variables)
    }

    fn compile(raw: RawStatement, index: usize, kind: Kind, variables: bool) -> Result<Self, Malformed> {
        let deny = raw.effect == "Deny";
        let label = raw.sid.filter(|sid| !sid.is_empty()).unwrap_or_else(|| index.to_string());
        let bad_variable = || Malformed::new("Syntax errors in policy.");
        let actions = raw.actions.unwrap_or(List { negated: false, items: Vec::new() });
        let resources = raw.resources.unwrap_or_else(|| List { negated: false, items: vec!["*".to_owned()] });
        let open_end = kind == Kind::Identity;
        let patterns = resources.items.iter().map(|resource| ArnPattern::parse(resource, variables, open_end).ok_or_else(bad_variable));
        let mut conditions = Vec::new();
        for (operator, key, values) in &raw.conditions {
            let condition = Condition::new(*operator, key, values, variables);
            if deny && condition.is_malformed() {
                return Err(Malformed::new(format!("Deny statement {label} has a value for {key} that can not be compared.")));
            }
            // It could never hold, and a Deny that never holds is a trap.
            if condition.compares_list_as_one() {
                return Err(Malformed::new(format!("Condition key {key} is multivalued: use ForAllValues or ForAnyValue.")));
            }
            conditions.push(condition);
        }
        Ok(Self {
            deny,
            not_action: actions.negated,
            actions: actions.items.iter().map(|action| ActionPattern::new(action)).collect(),
            not_resource: resources.negated,
            resources: patterns.collect::<Result<_, _>>()?,
            principals: raw.principals.map(compile_principals).transpose()?,
            conditions,
            label,
        })
    }

    /// Whether the statement speaks of this action on this resource under these conditions. `action` is in lower case.
    pub(crate) fn applies(&self, service: &str, name: &str, resource: &str, context: &Context) -> bool {
        let acts = self.actions.iter().any(|action| action.service.as_deref().is_none_or(|wanted| wanted == service) && action.name.matches(name));
        acts != self.not_action && self.covers(resource, context) && self.conditions.iter().all(|condition| condition.holds(context, self.deny))
    }

    fn covers(&self, resource: &str, context: &Context) -> bool {
        let mut incomparable = false;
        for pattern in &self.resources {
            match pattern.matches(resource, context) {
                Some(true) => return !self.not_resource,
                Some(false) => {}
                None => incomparable = true,
            }
        }
        // `NotResource` with a variable that has no value must not open everything.
        self.not_resource && (self.deny || !incomparable)
    }

    /// How the statement names the caller; none when it does not. Without principals it is a statement of the caller's own.
    pub(crate) fn names(&self, principal: &Principal, has_boundary: bool) -> Option<Grant> {
        let Some((negated, patterns)) = &self.principals else { return Some(Grant::Account) };
        let grant = patterns.iter().filter_map(|pattern| pattern.names(principal)).max();
        match (negated, grant) {
            (false, grant) => grant,
            // AWS: a NotPrincipal Deny always denies a caller that has a permissions boundary.
            (true, Some(_)) if !has_boundary => None,
            (true, _) => Some(Grant::Everyone),
        }
    }
}

impl ActionPattern {
    fn new(text: &str) -> Self {
        let text = text.to_lowercase();
        let (service, name) = text.split_once(':').unwrap_or(("*", "*"));
        Self { service: (service != "*").then(|| service.to_owned()), name: Pattern::wild(name) }
    }
}

fn compile_principals(raw: RawPrincipals) -> Result<(bool, Vec<PrincipalPattern>), Malformed> {
    let patterns = raw.items.iter().map(|(kind, value)| PrincipalPattern::parse(kind, value));
    Ok((raw.negated, patterns.collect::<Result<_, _>>()?))
}
