//! `search`, `neighbors`, `chain` and `statistics`.

use gumshoe_api::{
    convert,
    graph::v1::{
        Direction as Side, GetGraphStatisticsRequest, GetRoleChainRequest, ListNeighborsRequest, ListNeighborsResponse, Measures, SearchEntitiesRequest,
        SearchEntitiesResponse,
    },
};
use gumshoe_model::EntityType;

use super::{Session, next_page, scope};
use crate::{
    arguments::{Direction, Neighbors, ScopeTime},
    entity,
    output::{Rows, note},
    quantity::{show_bytes, show_count},
    rpc::{Failure, message},
};

pub async fn search(session: &Session, text: String, types: &[EntityType], limit: u32) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let mut client = session.connection.graph_service().await?;
    let mut all = SearchEntitiesResponse::default();
    while let Some(page_size) = next_page(limit, all.entities.len()) {
        let request = SearchEntitiesRequest {
            graph_arn: graph.clone(),
            text: text.clone(),
            types: types.iter().map(|kind| convert::entity_type_to_proto(*kind)).collect(),
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.search_entities(request).await?.into_inner();
        all.entities.extend(page.entities);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.SearchEntitiesResponse", &all);
    }
    let mut rows = Rows::new(&["type", "id", "name", "account", "first seen", "last seen"]);
    for found in all.entities {
        let key = found.entity.unwrap_or_default();
        let times = (message::time(found.first_time.as_ref()), message::time(found.last_time.as_ref()));
        rows.add([message::entity_type(key.r#type).to_owned(), key.id, found.name, found.account_id, times.0, times.1]);
    }
    session.output.table(&rows)?;
    more(&all.next_page_token, limit);
    Ok(())
}

fn more(next_page_token: &str, limit: u32) {
    if !next_page_token.is_empty() {
        note(&format!("there are more than {limit}; see --limit"));
    }
}

/// How a relation is called in a table.
pub fn relation(number: i32) -> &'static str {
    convert::relation_from_proto(number).map_or("", gumshoe_model::Relation::as_str)
}

/// Bytes each way, or nothing.
pub fn volume(measures: &Measures) -> String {
    if measures.bytes_in + measures.bytes_out == 0 {
        return String::new();
    }
    format!("{} in, {} out", show_bytes(measures.bytes_in), show_bytes(measures.bytes_out))
}

pub async fn neighbors(session: &Session, arguments: &Neighbors) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity = entity::resolve(&session.connection, &graph, &arguments.entity).await?;
    let direction = match arguments.direction {
        None => Side::Unspecified,
        Some(Direction::Out) => Side::Out,
        Some(Direction::In) => Side::In,
    };
    let mut client = session.connection.graph_service().await?;
    let mut all = ListNeighborsResponse::default();
    while let Some(page_size) = next_page(arguments.limit, all.neighbors.len()) {
        let request = ListNeighborsRequest {
            graph_arn: graph.clone(),
            entity: Some(convert::entity_to_proto(&entity)),
            scope: scope(&arguments.scope)?,
            relations: arguments.relation.iter().map(|relation| convert::relation_to_proto(*relation)).collect(),
            peer_type: arguments.peer_type.map_or(0, convert::entity_type_to_proto),
            direction: direction.into(),
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_neighbors(request).await?.into_inner();
        all.neighbors.extend(page.neighbors);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.ListNeighborsResponse", &all);
    }
    let mut rows = Rows::new(&["direction", "relation", "entity", "#records", "#failed", "volume", "first seen", "last seen"]);
    for neighbor in all.neighbors {
        let measures = neighbor.measures.unwrap_or_default();
        rows.add([
            if neighbor.direction == i32::from(Side::In) { "in" } else { "out" }.to_owned(),
            relation(neighbor.relation).to_owned(),
            message::entity(neighbor.entity.as_ref()),
            show_count(measures.successes + measures.failures),
            show_count(measures.failures),
            volume(&measures),
            message::time(measures.first_time.as_ref()),
            message::time(measures.last_time.as_ref()),
        ]);
    }
    session.output.table(&rows)?;
    more(&all.next_page_token, arguments.limit);
    Ok(())
}

pub async fn chain(session: &Session, text: &str, times: &ScopeTime, depth: u8) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity = entity::resolve(&session.connection, &graph, text).await?;
    let request = GetRoleChainRequest { graph_arn: graph, entity: Some(convert::entity_to_proto(&entity)), scope: scope(times)?, depth: depth.into() };
    let found = session.connection.graph_service().await?.get_role_chain(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetRoleChainResponse", &found);
    }
    let mut rows = Rows::new(&["#step", "from", "relation", "to", "#times", "#failed", "first", "last"]);
    for step in &found.steps {
        let measures = step.measures.unwrap_or_default();
        rows.add([
            step.distance.to_string(),
            message::entity(step.from.as_ref()),
            relation(step.relation).to_owned(),
            message::entity(step.to.as_ref()),
            show_count(measures.successes + measures.failures),
            show_count(measures.failures),
            message::time(measures.first_time.as_ref()),
            message::time(measures.last_time.as_ref()),
        ]);
    }
    session.output.table(&rows)?;
    if found.truncated {
        note("there were more steps; narrow the time with --from and --to");
    }
    Ok(())
}

pub async fn statistics(session: &Session) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let found = session.connection.graph_service().await?.get_graph_statistics(GetGraphStatisticsRequest { graph_arn: graph.clone() }).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetGraphStatisticsResponse", &found);
    }
    session.output.line(&graph)?;
    let mut kinds = Rows::new(&["records", "#events", "first", "last"]);
    for kind in &found.kinds {
        let name = convert::record_kind_from_proto(kind.kind).map_or("unknown", gumshoe_model::RecordKind::as_str);
        kinds.add([name.to_owned(), show_count(kind.events), message::time(kind.first_time.as_ref()), message::time(kind.last_time.as_ref())]);
    }
    session.output.section("Records", &kinds)?;
    let mut sizes = Rows::new(&["what", "#number"]);
    for (what, number) in [("edges", found.edges), ("findings", found.findings), ("dead letters", found.dead_letters)] {
        sizes.add([what.to_owned(), show_count(number)]);
    }
    session.output.section("Graph", &sizes)?;
    let mut entities = Rows::new(&["entity type", "#entities"]);
    let mut by_number: Vec<_> = found.entities.iter().collect();
    by_number.sort_by(|left, right| right.1.cmp(left.1).then_with(|| left.0.cmp(right.0)));
    for (name, number) in by_number {
        entities.add([name.clone(), show_count(*number)]);
    }
    session.output.section("Entities", &entities)
}
