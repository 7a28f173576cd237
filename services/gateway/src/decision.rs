//! May this principal do this? The request as IAM sees it, the verdict, and its line in the audit log.

use std::{collections::BTreeMap, net::IpAddr};

use gumshoe_iam::{Context, CrossAccount, Effect, PolicySets, Request, evaluate};
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{Failure, status};
use http::{HeaderMap, header::USER_AGENT};

use crate::{
    identity::Identity,
    policies::{Grants, PolicyCache},
};

/// Tags that a request sets, and keys of those that it removes: for conditions on `aws:RequestTag` and `aws:TagKeys`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestTags(BTreeMap<String, Option<String>>);

impl RequestTags {
    /// Adds a tag, replacing one with its key.
    pub fn set(&mut self, key: String, value: String) {
        self.0.insert(key, Some(value));
    }

    /// Adds a key without a value.
    pub fn name(&mut self, key: String) {
        self.0.entry(key).or_default();
    }

    /// The keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// What an action acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// Nothing that has a name: `*`.
    Nothing,
    /// A graph of the caller's account, by ARN.
    Graph(&'a str),
    /// A graph of any account, by ARN: the service checks that the caller has to do with it.
    MemberGraph(&'a str),
    /// A role, by ARN: its trust policy is membership's to check.
    Role(&'a str),
}

/// What is asked.
#[derive(Debug)]
pub struct Asked<'a> {
    /// The IAM action.
    pub action: &'a str,
    /// What it acts on.
    pub resource: Resource<'a>,
    /// Tags of the request.
    pub tags: &'a RequestTags,
}

/// What is known about a call beside who makes it.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The id under which it is logged, here and in the services.
    pub request_id: &'a str,
    /// The trace that it belongs to.
    pub trace_id: &'a str,
    /// The client's address.
    pub source_ip: Option<IpAddr>,
    /// Whether it came over TLS.
    pub secure: bool,
    /// When it came.
    pub time: Timestamp,
    /// Region of calls that name no graph.
    pub region: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
}

/// Decides whether `identity` may do what is asked; gives back the graph it acts on.
///
/// # Errors
/// INVALID_ARGUMENT when the text is not a graph's ARN; PERMISSION_DENIED by policy, before anything else is told; then
/// NOT_FOUND when the caller's account has no such graph. UNAUTHENTICATED when the principal is gone, UNAVAILABLE when
/// membership does not answer.
pub async fn decide(policies: &PolicyCache, identity: &Identity, asked: &Asked<'_>, facts: &Facts<'_>) -> Result<Option<GraphArn>, Failure> {
    let arn = identity.policies_of.as_str();
    let grants = policies.get(arn).await?.ok_or_else(unknown_principal)?;
    let graph = match asked.resource {
        Resource::Graph(text) | Resource::MemberGraph(text) => {
            Some(text.parse::<GraphArn>().map_err(|error| status::invalid_argument("graph_arn", error.reason))?)
        }
        Resource::Nothing | Resource::Role(_) => None,
    };
    permit(&grants, identity, asked, graph.as_ref(), facts)?;
    if let Resource::Graph(text) = asked.resource
        && !grants.graphs.iter().any(|known| known == text)
    {
        // It may have been created since the grants were fetched.
        let grants = policies.get_since(arn, facts.time).await?.ok_or_else(unknown_principal)?;
        if !grants.graphs.iter().any(|known| known == text) {
            return Err(status::not_found("graph", text));
        }
    }
    Ok(graph)
}

fn permit(grants: &Grants, identity: &Identity, asked: &Asked<'_>, graph: Option<&GraphArn>, facts: &Facts<'_>) -> Result<(), Failure> {
    let action = asked.action;
    let (resource, cross_account) = match asked.resource {
        Resource::Nothing => ("*", CrossAccount::BothSides),
        // A graph of another account would need a resource-based policy, which Amazon Detective does not have.
        Resource::Graph(text) => (text, CrossAccount::BothSides),
        Resource::MemberGraph(text) | Resource::Role(text) => (text, CrossAccount::IdentityOnly),
    };
    let sets = PolicySets { session: identity.session_policy.iter().cloned().collect(), cross_account, ..grants.policies.clone() };
    // Most policies ask for nothing but action and resource.
    let context = if sets.reads_context() { context(identity, resource, grants, asked, graph, facts) } else { Context::new() };
    let request = Request::new(identity.principal.clone(), action, resource).with_context(context);
    let decision = evaluate(&request, &sets);
    let matched = decision.matched.first();
    tracing::info!(
        target: "gumshoe_gateway::audit",
        principal = request.principal.arn(),
        action,
        resource = request.resource,
        effect = effect(decision.effect),
        layer = %decision.layer,
        policy = matched.map_or("", |matched| &matched.policy),
        statement = matched.map_or("", |matched| &matched.statement),
        request_id = facts.request_id,
        trace_id = facts.trace_id,
        source_ip = facts.source_ip.map(tracing::field::display),
        "decision"
    );
    if decision.is_allowed() {
        return Ok(());
    }
    Err(status::permission_denied(decision.message(&request)).with_metadata("action", action).with_metadata("resource", request.resource))
}

/// Writes the audit line of a call that no policy decides: whose caller has no credentials, or asks who it is.
pub fn audit_unconditional(principal: &str, action: &str, facts: &Facts<'_>) {
    tracing::info!(
        target: "gumshoe_gateway::audit",
        principal,
        action,
        resource = "*",
        effect = "allow",
        request_id = facts.request_id,
        trace_id = facts.trace_id,
        source_ip = facts.source_ip.map(tracing::field::display),
        "decision"
    );
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::ImplicitDeny => "implicit deny",
    }
}

/// The token is good, but its principal has been deleted or never was.
fn unknown_principal() -> Failure {
    status::unauthenticated("the principal does not exist")
}

/// The condition keys of a call.
fn context(identity: &Identity, resource: &str, grants: &Grants, asked: &Asked<'_>, graph: Option<&GraphArn>, facts: &Facts<'_>) -> Context {
    let arn = identity.policies_of.as_str();
    let region = graph.map_or(facts.region, GraphArn::region);
    let mut context = Context::new()
        .with("aws:PrincipalArn", arn)
        .with("aws:PrincipalAccount", identity.account.as_str())
        .with("aws:CurrentTime", facts.time.to_string())
        .with("aws:EpochTime", facts.time.0.div_euclid(1_000_000).to_string())
        .with("aws:SecureTransport", facts.secure)
        .with("aws:RequestedRegion", region)
        .with("aws:ViaAWSService", false);
    if let Some((kind, name)) = arn.splitn(6, ':').nth(5).and_then(|resource| resource.split_once('/')) {
        if kind == "user" {
            context.set("aws:PrincipalType", "User");
            context.set("aws:username", name);
        } else {
            context.set("aws:PrincipalType", "AssumedRole");
        }
    }
    if let Some(id) = &identity.user_id {
        context.set("aws:userid", id.as_str());
    }
    if identity.is_session() {
        // Nobody proves a second factor here.
        context.set("aws:MultiFactorAuthPresent", false);
    }
    if let Some(address) = facts.source_ip {
        context.set("aws:SourceIp", address.to_string());
    }
    if let Some(agent) = facts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        context.set("aws:UserAgent", agent);
    }
    if let Some(time) = &identity.issue_time {
        context.set("aws:TokenIssueTime", time.as_str());
    }
    for (key, value) in grants.tags.get(resource).into_iter().flatten() {
        context.set(&format!("aws:ResourceTag/{key}"), value.as_str());
    }
    for (key, value) in &asked.tags.0 {
        if let Some(value) = value {
            context.set(&format!("aws:RequestTag/{key}"), value.as_str());
        }
    }
    context.set("aws:TagKeys", asked.tags.0.keys().cloned().collect::<Vec<_>>());
    context
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use gumshoe_iam::Policy;
    use tonic::Code;

    use super::*;

    const GRAPH: &str = "arn:aws:detective:us-east-1:111111111111:graph:00000000000000000000000000000001";
    const FOREIGN: &str = "arn:aws:detective:us-east-1:222222222222:graph:00000000000000000000000000000002";

    fn policy(condition: &str) -> Policy {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"*","Resource":"*","Condition":{condition}}}}}"#);
        Policy::parse(&text).unwrap()
    }

    fn decided(identity: &Identity, condition: &str, resource: Resource<'_>, tags: &RequestTags) -> Result<(), String> {
        let graph_tags = HashMap::from([("team".to_owned(), "blue".to_owned())]);
        let grants = Grants {
            policies: PolicySets { identity: vec![policy(condition).into()], ..PolicySets::default() },
            graphs: vec![GRAPH.to_owned()],
            tags: HashMap::from([(GRAPH.to_owned(), graph_tags)]),
        };
        let headers = HeaderMap::new();
        let facts = Facts { request_id: "", trace_id: "", source_ip: None, secure: true, time: Timestamp(0), region: "us-east-1", headers: &headers };
        let asked = Asked { action: "detective:TagResource", resource, tags };
        permit(&grants, identity, &asked, None, &facts).map_err(|failure| {
            assert_eq!(failure.code, Code::PermissionDenied);
            failure.message
        })
    }

    fn user() -> Identity {
        Identity::permanent("arn:aws:iam::111111111111:user/ann", "111111111111")
    }

    #[test]
    fn conditions_see_tags_of_graph_and_request() {
        let mut tags = RequestTags::default();
        tags.set("cost".to_owned(), "7".to_owned());
        tags.name("old".to_owned());
        let allowed = |condition, resource| decided(&user(), condition, resource, &tags).is_ok();
        for holds in [
            r#"{"StringEquals":{"aws:ResourceTag/team":"blue"}}"#,
            r#"{"StringEquals":{"aws:RequestTag/cost":"7"},"Null":{"aws:RequestTag/old":"true"}}"#,
            r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["cost","old"]}}"#,
        ] {
            assert!(allowed(holds, Resource::Graph(GRAPH)), "{holds}");
        }
        for fails in [
            r#"{"StringEquals":{"aws:ResourceTag/team":"red"}}"#,
            r#"{"StringEquals":{"aws:RequestTag/team":"blue"}}"#,
            r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["cost"]}}"#,
        ] {
            assert!(!allowed(fails, Resource::Graph(GRAPH)), "{fails}");
        }
        assert!(!allowed(r#"{"StringEquals":{"aws:ResourceTag/team":"blue"}}"#, Resource::Nothing));
    }

    #[test]
    fn a_foreign_graph_is_for_members_only() {
        let any = r#"{"Null":{"aws:PrincipalArn":"false"}}"#;
        let tags = RequestTags::default();
        assert!(decided(&user(), any, Resource::Graph(GRAPH), &tags).is_ok());
        assert!(decided(&user(), any, Resource::Graph(FOREIGN), &tags).is_err());
        assert!(decided(&user(), any, Resource::MemberGraph(FOREIGN), &tags).is_ok());
        assert!(decided(&user(), any, Resource::Role("arn:aws:iam::222222222222:role/Theirs"), &tags).is_ok());
    }

    #[test]
    fn a_session_is_its_role_narrowed_by_its_policy() {
        let role = r#"{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111111111111:role/Reader"},"StringEquals":{"aws:PrincipalType":"AssumedRole"},"Null":{"aws:username":"true","aws:TokenIssueTime":"false"}}"#;
        let mut session = Identity::session("arn:aws:sts::111111111111:assumed-role/Reader/ann", "arn:aws:iam::111111111111:role/Reader", "111111111111");
        session.issue_time = Some("2024-01-01T00:00:00Z".to_owned());
        let tags = RequestTags::default();
        assert!(decided(&session, role, Resource::Graph(GRAPH), &tags).is_ok());
        let narrow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"detective:List*","Resource":"*"}}"#;
        session.session_policy = Some(Policy::parse(narrow).unwrap().into());
        let text = decided(&session, role, Resource::Graph(GRAPH), &tags).unwrap_err();
        assert!(text.starts_with("User: arn:aws:sts::111111111111:assumed-role/Reader/ann is not authorized to perform: detective:TagResource"), "{text}");
        assert!(text.ends_with("because no session policy allows the detective:TagResource action"), "{text}");
    }
}
