//! What a detector needs, fetched from the graph: first what the subject did, then, at the same time, what this makes interesting.

use gumshoe_model::TimeWindow;

use crate::{
    detectors::{newness, travel},
    error::GraphError,
    facts::{Facts, Habits},
    investigation::Subject,
    rpc::graph::Graph,
};

/// All that the graph knows of the subject in a scope time.
///
/// # Errors
/// [`GraphError`].
pub async fn collect(graph: &Graph, subject: &Subject, scope: TimeWindow) -> Result<Facts, GraphError> {
    let entity = subject.entity();
    let facts = Facts::none(subject.clone(), scope);
    let Some(habits) = graph.habits(&entity, scope).await? else { return Ok(facts) };
    let subject = &subject.clone().in_account(habits.account.clone());
    // An account's profile is the dearest of all, and mostly there is nothing to ask it.
    let account = async {
        match subject.account_entity().filter(|_| newness::asks_for_account(&habits)) {
            Some(account) => Ok(graph.habits(&account, scope).await?.unwrap_or_default()),
            None => Ok(Habits::default()),
        }
    };
    let travels = async {
        match travel::window(scope, &habits) {
            Some(window) => graph.all_calls(subject, &habits, window).await,
            None => Ok(Vec::new()),
        }
    };
    let calls = graph.matched_calls(subject, &habits, scope);
    let (account, calls, travels, findings) = futures::try_join!(account, calls, travels, graph.findings(&entity, scope))?;
    Ok(Facts { account, calls, travels, findings, habits, ..facts })
}
