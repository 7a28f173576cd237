//! `suppressions`.

use gumshoe_api::investigation::v1::{
    AcceptSuppressionRequest, DeleteSuppressionRequest, DismissSuppressionRequest, ListSuppressionsRequest, ListSuppressionsResponse, Suppression,
    SuppressionState,
};

use super::Session;
use crate::{
    arguments::{self, SuppressionFilter, Suppressions},
    output::Rows,
    quantity::show_count,
    rpc::{Failure, message},
};

/// The largest page that the API gives.
const PAGE: i32 = 200;

pub async fn suppressions(session: &Session, command: Option<Suppressions>) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let mut client = session.connection.investigation_service().await?;
    let decided = match command {
        None => return list(session, SuppressionFilter::default()).await,
        Some(Suppressions::List(filter)) => return list(session, filter).await,
        Some(Suppressions::Accept { id }) => {
            client.accept_suppression(AcceptSuppressionRequest { graph_arn, suppression_id: id }).await?.into_inner().suppression
        }
        Some(Suppressions::Dismiss { id }) => {
            client.dismiss_suppression(DismissSuppressionRequest { graph_arn, suppression_id: id }).await?.into_inner().suppression
        }
        Some(Suppressions::Delete { id }) => {
            client.delete_suppression(DeleteSuppressionRequest { graph_arn, suppression_id: id }).await?.into_inner().suppression
        }
    };
    let decided = decided.unwrap_or_default();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.Suppression", &decided);
    }
    session.output.line(&format!("{} is now {}", decided.id, name(decided.state())))
}

async fn list(session: &Session, filter: SuppressionFilter) -> Result<(), Failure> {
    let mut client = session.connection.investigation_service().await?;
    let mut request = ListSuppressionsRequest {
        graph_arn: session.connection.graph().await?,
        states: filter.state.iter().map(|state| state_to_proto(*state).into()).collect(),
        ..Default::default()
    };
    let mut all = ListSuppressionsResponse::default();
    while let Some(page_size) = super::next_page(filter.limit, all.suppressions.len()) {
        request.page_size = page_size.min(PAGE);
        let page = client.list_suppressions(request.clone()).await?.into_inner();
        all.suppressions.extend(page.suppressions);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.ListSuppressionsResponse", &all);
    }
    session.output.table(&table(&all.suppressions))?;
    if !all.next_page_token.is_empty() {
        crate::output::note(&format!("there are more than {}; see --limit", filter.limit));
    }
    Ok(())
}

fn table(suppressions: &[Suppression]) -> Rows {
    let mut rows = Rows::new(&["state", "type", "account", "entities", "#covered", "proposed", "by", "id"]);
    for suppression in suppressions {
        let pattern = suppression.pattern.clone().unwrap_or_default();
        let entities: Vec<_> = pattern.entities.iter().map(|entity| message::entity(Some(entity))).collect();
        rows.add([
            name(suppression.state()).to_owned(),
            pattern.r#type,
            pattern.account_id,
            entities.join(", "),
            show_count(suppression.past_findings),
            message::time(suppression.create_time.as_ref()),
            suppression.author_arn.clone(),
            suppression.id.clone(),
        ]);
    }
    rows
}

fn state_to_proto(state: arguments::SuppressionState) -> SuppressionState {
    match state {
        arguments::SuppressionState::Proposed => SuppressionState::Proposed,
        arguments::SuppressionState::Accepted => SuppressionState::Accepted,
        arguments::SuppressionState::Dismissed => SuppressionState::Dismissed,
        arguments::SuppressionState::Deleted => SuppressionState::Deleted,
    }
}

fn name(state: SuppressionState) -> &'static str {
    match state {
        SuppressionState::Proposed => "proposed",
        SuppressionState::Accepted => "accepted",
        SuppressionState::Dismissed => "dismissed",
        SuppressionState::Deleted => "deleted",
        SuppressionState::Unspecified => "",
    }
}
