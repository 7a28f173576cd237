//! `events`, `dead-letters` and `export`.

use gumshoe_api::{
    convert,
    graph::v1::{
        Event, EventFilter as Filter, ListDeadLettersRequest, ListDeadLettersResponse, ListEventsRequest, ListEventsResponse, StreamEdgesRequest,
        StreamEventsRequest,
    },
};

use super::{Session, next_page, scope};
use crate::{
    arguments::{EventFilter, Events, ScopeTime},
    entity,
    output::{Rows, note},
    quantity::show_count,
    rpc::{Failure, message},
};

async fn filter(session: &Session, graph: &str, given: &EventFilter) -> Result<Filter, Failure> {
    let entity = match &given.entity {
        Some(text) => Some(convert::entity_to_proto(&entity::resolve(&session.connection, graph, text).await?)),
        None => None,
    };
    Ok(Filter {
        entity,
        scope: scope(&given.scope)?,
        kind: given.kind.map_or(0, convert::record_kind_to_proto),
        service: given.service.clone(),
        operation: given.operation.clone(),
        address: given.address.clone(),
        user_agent: given.user_agent.clone(),
        error: given.error.clone(),
        event_id: given.event_id.clone(),
        port: given.port,
        rule_id: given.rule.clone(),
    })
}

pub async fn list(session: &Session, arguments: &Events) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let filter = filter(session, &graph, &arguments.filter).await?;
    let omit_raw = !arguments.raw && !session.output.is_json();
    let mut client = session.connection.graph_service().await?;
    let mut all = ListEventsResponse::default();
    while let Some(page_size) = next_page(arguments.limit, all.events.len()) {
        let request =
            ListEventsRequest { graph_arn: graph.clone(), filter: Some(filter.clone()), page_size, page_token: all.next_page_token.clone(), omit_raw };
        let page = client.list_events(request).await?.into_inner();
        all.events.extend(page.events);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if arguments.raw {
        return all.events.iter().try_for_each(|event| session.output.raw(&event.raw));
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.ListEventsResponse", &all);
    }
    let mut rows = rows();
    all.events.iter().for_each(|event| add(&mut rows, event));
    session.output.table(&rows)?;
    if !all.next_page_token.is_empty() {
        note(&format!("there are more than {}; see --limit, or `gumshoe export events`", arguments.limit));
    }
    Ok(())
}

/// A table of records.
pub fn rows() -> Rows {
    Rows::new(&["time", "actor", "service", "operation", "error", "address", "rules", "source object", "#offset"])
}

/// Adds a record to a table of them.
pub fn add(rows: &mut Rows, event: &Event) {
    rows.add([
        message::time(event.time.as_ref()),
        message::entity(event.actor.as_ref()),
        event.service.clone(),
        event.operation.clone(),
        event.error.clone(),
        event.address.clone(),
        event.rules.iter().map(|rule| rule.title.as_str()).collect::<Vec<_>>().join("; "),
        event.source_object.rsplit('/').next().unwrap_or_default().to_owned(),
        event.offset.to_string(),
    ]);
}

pub async fn dead_letters(session: &Session, source_object: Option<String>, limit: u32) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let mut client = session.connection.graph_service().await?;
    let mut all = ListDeadLettersResponse::default();
    while let Some(page_size) = next_page(limit, all.dead_letters.len()) {
        let request = ListDeadLettersRequest {
            graph_arn: graph.clone(),
            source_object: source_object.clone().unwrap_or_default(),
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_dead_letters(request).await?.into_inner();
        all.dead_letters.extend(page.dead_letters);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.ListDeadLettersResponse", &all);
    }
    let mut rows = Rows::new(&["source object", "#offset", "#length", "reason", "begins with"]);
    for letter in &all.dead_letters {
        let begin: String = letter.raw.chars().take(40).collect();
        rows.add([letter.source_object.clone(), letter.offset.to_string(), show_count(letter.length), letter.reason.clone(), begin]);
    }
    session.output.table(&rows)?;
    if !all.next_page_token.is_empty() {
        note(&format!("there are more than {limit}; see --limit"));
    }
    Ok(())
}

pub async fn export_edges(session: &Session, times: &ScopeTime) -> Result<(), Failure> {
    let request = StreamEdgesRequest { graph_arn: session.connection.graph().await?, scope: scope(times)? };
    let mut stream = session.connection.graph_service().await?.stream_edges(request).await?.into_inner();
    let mut lines = message::Lines::new("gumshoe.graph.v1.Edge")?;
    while let Some(some) = stream.message().await? {
        some.edges.iter().try_for_each(|edge| lines.write(edge))?;
    }
    lines.finish()
}

pub async fn export_events(session: &Session, given: &EventFilter) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let filter = filter(session, &graph, given).await?;
    let request = StreamEventsRequest { graph_arn: graph, filter: Some(filter) };
    let mut stream = session.connection.graph_service().await?.stream_events(request).await?.into_inner();
    let mut lines = message::Lines::new("gumshoe.graph.v1.Event")?;
    while let Some(some) = stream.message().await? {
        some.events.iter().try_for_each(|event| lines.write(event))?;
    }
    lines.finish()
}
