//! May this principal do this? The request as IAM sees it, the verdict, and its line in the audit log.

use std::{net::IpAddr, time::Duration};

use gumshoe_iam::{Context, Effect, Request, evaluate};
use gumshoe_model::{GraphArn, Timestamp};
use gumshoe_runtime::{Failure, status};
use http::{HeaderMap, header::USER_AGENT};

use crate::{
    identity::Identity,
    policies::{Grants, PolicyCache},
};

/// Grants younger than this are not fetched again for the sake of a graph that they do not hold.
const NEW_GRAPH: Duration = Duration::from_secs(1);

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

/// Decides whether `identity` may do `action` on the graph of that name, or on no graph.
///
/// # Errors
/// PERMISSION_DENIED by policy, before anything else is told; then INVALID_ARGUMENT when the text is not a graph's ARN
/// and NOT_FOUND when there is no such graph. UNAUTHENTICATED when the principal is gone, UNAVAILABLE when membership
/// does not answer.
pub async fn decide(policies: &PolicyCache, identity: &Identity, action: &str, resource: Option<&str>, facts: &Facts<'_>) -> Result<Option<GraphArn>, Failure> {
    let arn = identity.principal.arn();
    let grants = policies.get(arn).await?.ok_or_else(unknown_principal)?;
    let graph = resource.map(|text| text.parse::<GraphArn>().map_err(|error| status::invalid_argument("graph_arn", error.reason))).transpose()?;
    permit(&grants, identity, action, graph.as_ref(), facts)?;
    if let Some(text) = resource
        && !grants.graphs.iter().any(|known| known == text)
    {
        // It may have been created since the grants were fetched.
        let grants = policies.get_younger_than(arn, NEW_GRAPH).await?.ok_or_else(unknown_principal)?;
        if !grants.graphs.iter().any(|known| known == text) {
            return Err(status::not_found("graph", text));
        }
    }
    Ok(graph)
}

fn permit(grants: &Grants, identity: &Identity, action: &str, graph: Option<&GraphArn>, facts: &Facts<'_>) -> Result<(), Failure> {
    let resource = graph.map_or_else(|| "*".to_owned(), ToString::to_string);
    let region = graph.map_or(facts.region, GraphArn::region);
    let request = Request::new(identity.principal.clone(), action, resource).with_context(context(identity, region, facts));
    let decision = evaluate(&request, &grants.policies);
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

/// Writes the audit line of a call without credentials.
pub fn audit_anonymous(path: &str, facts: &Facts<'_>) {
    tracing::info!(
        target: "gumshoe_gateway::audit",
        principal = "anonymous",
        action = path,
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

/// The condition keys that every call has.
fn context(identity: &Identity, region: &str, facts: &Facts<'_>) -> Context {
    let arn = identity.principal.arn();
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
    if let Some(address) = facts.source_ip {
        context.set("aws:SourceIp", address.to_string());
    }
    if let Some(agent) = facts.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()) {
        context.set("aws:UserAgent", agent);
    }
    if let Some(time) = &identity.issue_time {
        context.set("aws:TokenIssueTime", time.as_str());
    }
    context
}
