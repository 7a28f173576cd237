//! Reads an evaluation case and decides it.

use std::sync::Arc;

use gumshoe_iam::{Context, ContextValue, CrossAccount, Effect, Kind, Policy, PolicySets, Principal, Request, evaluate};
use serde_json::Value;

/// The verdict in the words of the cases, and the explanation.
pub fn decide(case: &Value) -> Result<(&'static str, String), String> {
    let request = read_request(case.get("request").ok_or("no request")?)?;
    let sets = match read_sets(case.get("policies").ok_or("no policies")?) {
        Ok(sets) => sets,
        // A policy that does not load lets nobody in.
        Err(refused) => return Ok(("implicit_deny", refused)),
    };
    let decision = evaluate(&request, &sets);
    let verdict = match decision.effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
        Effect::ImplicitDeny => "implicit_deny",
    };
    Ok((verdict, decision.explain(&request)))
}

fn read_request(request: &Value) -> Result<Request, String> {
    let text = |name: &str| request.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("no {name}"));
    let mut context = Context::new();
    for (key, value) in request.get("context").and_then(Value::as_object).into_iter().flatten() {
        context.set(
            key,
            match value {
                Value::Array(items) => ContextValue::Many(items.iter().map(scalar).collect()),
                single => ContextValue::One(scalar(single)),
            },
        );
    }
    let request = Request::new(Principal::parse(&text("principal")?), text("action")?, text("resource")?);
    Ok(Request { resource_account: text("resource_account").ok(), ..request.with_context(context) })
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn read_sets(policies: &Value) -> Result<PolicySets, String> {
    let list = |name: &str, kind| read_list(policies.get(name), kind);
    let levels = |name: &str, kind| {
        let levels = policies.get(name).and_then(Value::as_array);
        levels.into_iter().flatten().map(|level| read_list(Some(level), kind)).collect::<Result<Vec<_>, _>>()
    };
    Ok(PolicySets {
        identity: list("identity", Kind::Identity)?,
        resource: list("resource", Kind::Resource)?,
        boundary: list("boundary", Kind::Identity)?,
        session: list("session", Kind::Identity)?,
        service_control: levels("scp", Kind::ServiceControl)?,
        resource_control: levels("rcp", Kind::ResourceControl)?,
        cross_account: CrossAccount::BothSides,
    })
}

/// One policy or a list of them.
fn read_list(value: Option<&Value>, kind: Kind) -> Result<Vec<Arc<Policy>>, String> {
    let items = match value {
        None => Vec::new(),
        Some(Value::Array(items)) => items.iter().collect(),
        Some(single) => vec![single],
    };
    let parse = |document: &Value| Policy::parse_stored(kind, &document.to_string()).map(Arc::new).map_err(|error| error.to_string());
    items.into_iter().map(parse).collect()
}
