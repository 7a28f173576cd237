//! What a detector needs, fetched from the graph: first what the subject did, then the calls that this makes interesting.

use gumshoe_model::TimeWindow;

use crate::{
    detectors::{techniques, travel},
    error::GraphError,
    facts::Facts,
    investigation::Subject,
    rpc::graph::Graph,
};

/// Days of the baseline that the graph compares a scope time with.
const BASELINE_DAYS: i64 = 45;

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
    if techniques::asks_for_baseline(&habits) {
        facts.before = graph.habits(&entity, scope.to_hours().before(BASELINE_DAYS)).await?.unwrap_or_default();
    }
    for wanted in techniques::wanted(scope, &habits, &facts.before) {
        facts.calls.extend(graph.calls(subject, &habits, scope, &wanted).await?);
    }
    if let Some(window) = travel::window(scope, &habits) {
        facts.travels = graph.all_calls(subject, &habits, window).await?;
    }
    facts.findings = graph.findings(&entity, scope).await?;
    facts.habits = habits;
    Ok(facts)
}
