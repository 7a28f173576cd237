//! What a detector needs, fetched from the graph: first what the subject did, then the calls that this makes interesting.

use gumshoe_model::TimeWindow;

use crate::{detectors::travel, error::GraphError, facts::Facts, investigation::Subject, rpc::graph::Graph};

/// All that the graph knows of the subject in a scope time.
///
/// # Errors
/// [`GraphError`].
pub async fn collect(graph: &Graph, subject: &Subject, scope: TimeWindow) -> Result<Facts, GraphError> {
    let entity = subject.entity();
    let mut facts = Facts::none(subject.clone(), scope);
    let Some(habits) = graph.habits(&entity, scope).await? else { return Ok(facts) };
    let subject = &subject.clone().in_account(habits.account.clone());
    if let Some(account) = subject.account_entity() {
        facts.account = graph.habits(&account, scope).await?.unwrap_or_default();
    }
    facts.calls = graph.matched_calls(subject, &habits, scope).await?;
    if let Some(window) = travel::window(scope, &habits) {
        facts.travels = graph.all_calls(subject, &habits, window).await?;
    }
    facts.findings = graph.findings(&entity, scope).await?;
    facts.habits = habits;
    Ok(facts)
}
