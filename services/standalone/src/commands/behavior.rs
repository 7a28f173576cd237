//! `anomalies`, `watchlist` and `sweep`.

use std::time::Duration;

use gumshoe_api::{
    convert,
    graph::v1::{
        Anomaly, CreateWatchlistEntryRequest, Criticality, DeleteWatchlistEntryRequest, GetAnomaliesRequest, ListWatchlistEntriesRequest, SweepGraphRequest,
        WatchlistEntry,
    },
};
use gumshoe_model::Timestamp;

use super::{Session, scope};
use crate::{
    arguments::{self, ScopeTime, Watchlist},
    entity,
    output::Rows,
    quantity::show_count,
    rpc::{Failure, message},
};

/// The pause before it is asked again how far a sweep is.
const PAUSE: Duration = Duration::from_secs(5);

pub async fn anomalies(session: &Session, entity: &str, time: &ScopeTime) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let entity = entity::resolve(&session.connection, &graph_arn, entity).await?;
    let request = GetAnomaliesRequest { graph_arn, entity: Some(convert::entity_to_proto(&entity)), scope: scope(time)? };
    let found = session.connection.behavior_service().await?.get_anomalies(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetAnomaliesResponse", &found);
    }
    let mut rows = Rows::new(&["#score", "source", "what", "baseline", "when"]);
    for anomaly in &found.anomalies {
        let when = message::time(anomaly.last_time.as_ref());
        rows.add([format!("{:.1}", anomaly.score), anomaly.source.clone(), anomaly.label.clone(), anomaly.baseline.clone(), when]);
    }
    session.output.table(&rows)?;
    for anomaly in &found.anomalies {
        session.output.section(&format!("Why {} {:.1}", anomaly.source, anomaly.score), &parts(anomaly))?;
    }
    if found.peer_pairs == 0 {
        crate::output::note("there is no model of peer groups yet: it is trained by the first sweep");
    }
    Ok(())
}

fn parts(anomaly: &Anomaly) -> Rows {
    let mut rows = Rows::new(&["#part", "what"]);
    for part in &anomaly.parts {
        rows.add([format!("{:.1}", part.contribution), part.description.clone()]);
    }
    for other in &anomaly.others {
        rows.add([String::new(), message::entity(Some(other))]);
    }
    rows
}

pub async fn sweep(session: &Session, from: Option<Timestamp>) -> Result<(), Failure> {
    let mut request = SweepGraphRequest { graph_arn: session.connection.graph().await?, from_time: from.map(convert::time_to_proto) };
    let mut client = session.connection.behavior_service().await?;
    let mut swept = client.sweep_graph(request.clone()).await?.into_inner();
    request.from_time = None;
    let went_on = swept.running;
    while swept.running {
        crate::output::note(&format!("swept up to {}, and it goes on", message::time(swept.swept_until_time.as_ref())));
        tokio::time::sleep(PAUSE).await;
        swept = client.sweep_graph(request.clone()).await?.into_inner();
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.SweepGraphResponse", &swept);
    }
    if went_on {
        return session.output.line(&format!("swept up to {}", message::time(swept.swept_until_time.as_ref())));
    }
    session.output.line(&format!("looked at {} hours; {} findings were made or updated", show_count(swept.hours), show_count(swept.findings)))
}

pub async fn watchlist(session: &Session, command: Option<Watchlist>) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let mut client = session.connection.behavior_service().await?;
    match command {
        None | Some(Watchlist::List) => {
            let found = client.list_watchlist_entries(ListWatchlistEntriesRequest { graph_arn }).await?.into_inner();
            if session.output.is_json() {
                return message::print(session.output, "gumshoe.graph.v1.ListWatchlistEntriesResponse", &found);
            }
            session.output.table(&entries(&found.entries))
        }
        Some(Watchlist::Add { pattern, criticality, note, expires }) => {
            let criticality = criticality_to_proto(criticality).into();
            let request = CreateWatchlistEntryRequest { graph_arn, pattern, criticality, note, expire_time: expires.map(convert::time_to_proto) };
            let entry = client.create_watchlist_entry(request).await?.into_inner().entry.unwrap_or_default();
            if session.output.is_json() {
                return message::print(session.output, "gumshoe.graph.v1.WatchlistEntry", &entry);
            }
            session.output.table(&entries(&[entry]))
        }
        Some(Watchlist::Delete { id }) => {
            client.delete_watchlist_entry(DeleteWatchlistEntryRequest { graph_arn, entry_id: id.clone() }).await?;
            if session.output.is_json() { Ok(()) } else { session.output.line(&format!("{id} is deleted")) }
        }
    }
}

fn entries(entries: &[WatchlistEntry]) -> Rows {
    let mut rows = Rows::new(&["criticality", "pattern", "note", "by", "expires", "id"]);
    for entry in entries {
        let id = if entry.id.is_empty() { "(configuration)".to_owned() } else { entry.id.clone() };
        rows.add([
            name(entry.criticality()).to_owned(),
            entry.pattern.clone(),
            entry.note.clone(),
            entry.author_arn.clone(),
            message::time(entry.expire_time.as_ref()),
            id,
        ]);
    }
    rows
}

fn name(criticality: Criticality) -> &'static str {
    match criticality {
        Criticality::Unspecified => "",
        Criticality::Low => "low",
        Criticality::Normal => "normal",
        Criticality::High => "high",
        Criticality::Critical => "critical",
    }
}

fn criticality_to_proto(criticality: arguments::Criticality) -> Criticality {
    match criticality {
        arguments::Criticality::Low => Criticality::Low,
        arguments::Criticality::Normal => Criticality::Normal,
        arguments::Criticality::High => Criticality::High,
        arguments::Criticality::Critical => Criticality::Critical,
    }
}
