//! `profile` and `risk`.

use gumshoe_api::{
    common::v1::EntityKey,
    convert,
    graph::v1::{
        ActivityList, BatchGetRiskRequest, BatchGetRiskResponse, EntityProfile, GetEntityProfileRequest, Place, Risk, WatchRiskRequest, WatchRiskResponse,
    },
};
use gumshoe_model::Timestamp;

use super::{Session, graph, scope};
use crate::{
    arguments::Profile,
    entity,
    output::Rows,
    quantity::{show_bytes, show_count},
    rpc::{Failure, message},
};

/// How many entities one call may ask risks for.
const RISKS: usize = 100;
/// The widest bar of the hourly view, in characters.
const BAR: u64 = 40;

pub async fn profile(session: &Session, arguments: &Profile) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity = entity::resolve(&session.connection, &graph, &arguments.entity).await?;
    let request = GetEntityProfileRequest {
        graph_arn: graph,
        entity: Some(convert::entity_to_proto(&entity)),
        scope: scope(&arguments.scope)?,
        list_size: i32::from(arguments.top),
    };
    let found = session.connection.graph_service().await?.get_entity_profile(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetEntityProfileResponse", &found);
    }
    print(session, &found.profile.unwrap_or_default())
}

fn print(session: &Session, profile: &EntityProfile) -> Result<(), Failure> {
    let output = session.output;
    let totals = profile.totals.unwrap_or_default();
    let mut facts = Rows::new(&["fact", "value"]);
    let trained = if profile.baseline_days < 14 { "; under 14 the entity is in training" } else { "" };
    for (fact, value) in [
        ("entity", message::entity(profile.entity.as_ref())),
        ("name", profile.name.clone()),
        ("also known as", profile.aliases.join(", ")),
        ("account", profile.account_id.clone()),
        ("place", place(profile.place.as_ref())),
        ("first seen", message::time(profile.first_time.as_ref())),
        ("last seen", message::time(profile.last_time.as_ref())),
        ("scope time", message::range(profile.scope.as_ref())),
        ("baseline", format!("{}, {} days with records{trained}", message::range(profile.baseline.as_ref()), profile.baseline_days)),
        ("in scope", format!("{} records, {} failed", show_count(totals.successes + totals.failures), show_count(totals.failures))),
        ("volume", graph::volume(&totals)),
    ] {
        if !value.is_empty() {
            facts.add([fact.to_owned(), value]);
        }
    }
    output.table(&facts)?;
    output.section("Hours", &hours(profile))?;
    for (heading, list) in [
        ("Operations", &profile.operations),
        ("Addresses", &profile.addresses),
        ("Countries", &profile.countries),
        ("Networks", &profile.networks),
        ("User agents", &profile.user_agents),
        ("Errors", &profile.errors),
        ("Resources", &profile.resources),
        ("Principals", &profile.principals),
        ("Assumed", &profile.roles_assumed),
        ("Assumed by", &profile.assumed_by),
    ] {
        if let Some(list) = list {
            output.section(&counted(heading, list), &activities(list))?;
        }
    }
    if let Some(flows) = &profile.flows {
        output.section(&counted("Flows", flows), &flow_rows(flows))?;
    }
    let mut findings = Rows::new(&["severity", "type", "last seen", "id"]);
    for finding in &profile.findings {
        let severity = format!("{:.1} {}", finding.severity, finding.severity_label.to_lowercase());
        findings.add([severity, finding.r#type.clone(), message::time(finding.last_time.as_ref()), finding.id.clone()]);
    }
    output.section("Findings", &findings)
}

fn counted(heading: &str, list: &ActivityList) -> String {
    let new = if list.total_new > 0 { format!(", {} new", show_count(list.total_new)) } else { String::new() };
    let capped = if list.cardinality_capped { ", cardinality capped" } else { "" };
    format!("{heading}: {}{new}{capped}", show_count(list.total))
}

fn hours(profile: &EntityProfile) -> Rows {
    let mut rows = Rows::new(&["hour", "#records", "#failed", "#bytes", ""]);
    let sum = |measures: Option<gumshoe_api::graph::v1::Measures>| measures.map_or(0, |measures| measures.successes + measures.failures);
    let most = profile.hours.iter().map(|hour| sum(hour.measures)).max().unwrap_or(0).max(1);
    for hour in &profile.hours {
        let measures = hour.measures.unwrap_or_default();
        let records = sum(hour.measures);
        let bytes = measures.bytes_in + measures.bytes_out;
        let bar = usize::try_from((records * BAR).div_ceil(most)).unwrap_or(0);
        rows.add([
            message::time(hour.start_time.as_ref()),
            show_count(records),
            show_count(measures.failures),
            if bytes > 0 { show_bytes(bytes) } else { String::new() },
            "▇".repeat(bar),
        ]);
    }
    rows
}

fn place(place: Option<&Place>) -> String {
    match place {
        None => String::new(),
        Some(place) if place.private => "private".to_owned(),
        Some(place) => {
            let network = if place.asn > 0 { format!("AS{}", place.asn) } else { String::new() };
            [place.country.as_str(), network.as_str(), place.organization.as_str()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
    }
}

fn activities(list: &ActivityList) -> Rows {
    let mut rows = Rows::new(&["", "value", "", "#records", "#failed", "first", "last"]);
    for item in &list.items {
        let measures = item.measures.unwrap_or_default();
        let name = if item.name.is_empty() { message::entity(item.entity.as_ref()) } else { item.name.clone() };
        let beside = [item.service.clone(), place(item.place.as_ref())].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        rows.add([
            if item.new_in_scope { "new" } else { "" }.to_owned(),
            name,
            beside,
            show_count(measures.successes + measures.failures),
            show_count(measures.failures),
            message::time(measures.first_time.as_ref()),
            message::time(measures.last_time.as_ref()),
        ]);
    }
    rows
}

fn flow_rows(list: &ActivityList) -> Rows {
    let mut rows = Rows::new(&["", "relation", "peer", "place", "port", "#records", "#bytes in", "#bytes out"]);
    for item in &list.items {
        let measures = item.measures.unwrap_or_default();
        let protocol = match item.protocol {
            1 => "icmp".to_owned(),
            6 => "tcp".to_owned(),
            17 => "udp".to_owned(),
            -1 => String::new(),
            other => format!("protocol {other}"),
        };
        rows.add([
            if item.new_in_scope { "new" } else { "" }.to_owned(),
            graph::relation(item.relation).to_owned(),
            item.name.clone(),
            place(item.place.as_ref()),
            if item.port >= 0 { format!("{protocol} {}", item.port) } else { protocol },
            show_count(measures.successes + measures.failures),
            show_bytes(measures.bytes_in),
            show_bytes(measures.bytes_out),
        ]);
    }
    rows
}

pub async fn watch(session: &Session, entities: &[String], min_level: String) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let request = WatchRiskRequest { entities: keys(session, &graph, entities).await?, graph_arn: graph, min_level };
    let mut lines = message::Lines::new("gumshoe.graph.v1.Risk")?;
    loop {
        // A stream ends after a while, so that whoever may no longer see it does not.
        let mut changes = session.connection.graph_service().await?.watch_risk(request.clone()).await?.into_inner();
        while let Some(WatchRiskResponse { risk }) = changes.message().await? {
            let risk = risk.unwrap_or_default();
            if session.output.is_json() {
                lines.write(&risk)?;
                lines.flush()?;
                continue;
            }
            let (time, entity) = (message::time(risk.time.as_ref()), message::entity(risk.entity.as_ref()));
            let why = risk.parts.first().map_or_else(String::new, |part| format!("  {}", part.description));
            session.output.line(&format!("{time}  {:>5.1}  {:<13}  {entity}{why}", risk.score, risk.level))?;
        }
    }
}

async fn keys(session: &Session, graph: &str, entities: &[String]) -> Result<Vec<EntityKey>, Failure> {
    let mut keys = Vec::with_capacity(entities.len());
    for text in entities {
        keys.push(convert::entity_to_proto(&entity::resolve(&session.connection, graph, text).await?));
    }
    Ok(keys)
}

pub async fn risk(session: &Session, entities: &[String], at: Option<Timestamp>) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let keys = keys(session, &graph, entities).await?;
    let mut client = session.connection.graph_service().await?;
    let mut all = BatchGetRiskResponse::default();
    for some in keys.chunks(RISKS) {
        let request = BatchGetRiskRequest { graph_arn: graph.clone(), entities: some.to_vec(), time: at.map(convert::time_to_proto) };
        all.risks.extend(client.batch_get_risk(request).await?.into_inner().risks);
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.BatchGetRiskResponse", &all);
    }
    let mut rows = Rows::new(&["#score", "level", "criticality", "entity"]);
    for risk in &all.risks {
        let why = if risk.watchlist_pattern.is_empty() { String::new() } else { format!(" ({})", risk.watchlist_pattern) };
        rows.add([format!("{:.1}", risk.score), risk.level.clone(), format!("{}{why}", risk.criticality), message::entity(risk.entity.as_ref())]);
    }
    session.output.table(&rows)?;
    for risk in &all.risks {
        let capped = if risk.cardinality_capped.is_empty() { String::new() } else { format!(" (cardinality capped: {})", risk.cardinality_capped.join(", ")) };
        session.output.section(&format!("Why {}{capped}", message::entity(risk.entity.as_ref())), &parts(risk))?;
    }
    Ok(())
}

fn parts(risk: &Risk) -> Rows {
    let mut rows = Rows::new(&["#part", "source", "what", "when", "evidence"]);
    for part in &risk.parts {
        let evidence = part.evidence.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        rows.add([format!("{:.1}", part.contribution), part.source.clone(), part.description.clone(), message::time(part.time.as_ref()), evidence]);
    }
    if risk.rest > 0.0 && !risk.parts.is_empty() {
        rows.add([format!("{:.1}", risk.rest), "other".to_owned(), "all other parts together".to_owned(), String::new(), String::new()]);
    }
    rows
}
