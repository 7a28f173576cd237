//! `investigate` and `investigations`.

use std::time::Duration;

use gumshoe_api::{
    convert::{entity_to_proto, window_to_proto},
    investigation::v1::{
        GetInvestigationRequest, GetInvestigationResponse, Indicator, InvestigationStatus, ListIndicatorsRequest, ListIndicatorsResponse,
        ListInvestigationsRequest, ListInvestigationsResponse, SeverityReason, StartInvestigationRequest, indicator::Detail,
    },
};
use gumshoe_model::{TimeWindow, Timestamp, time::MICROS_PER_DAY};

use super::Session;
use crate::{
    arguments::Investigate,
    entity,
    output::Rows,
    progress::Progress,
    quantity::show_count,
    rpc::{Failure, message},
};

/// The largest page that the API gives.
const PAGE: i32 = 100;
const POLL: Duration = Duration::from_millis(200);

pub async fn investigate(session: &Session, arguments: &Investigate) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let now = Timestamp::from_chrono(chrono::Utc::now()).unwrap_or(Timestamp::MAX);
    let end = arguments.scope.to.unwrap_or(now);
    let start = arguments.scope.from.unwrap_or(Timestamp(end.0 - MICROS_PER_DAY));
    let scope = TimeWindow::new(start, end).map_err(|_| Failure::Usage("--from must be before --to".to_owned()))?;
    let entity = match &arguments.target {
        Some(text) => Some(entity_to_proto(&entity::resolve(&session.connection, &graph_arn, text).await?)),
        None => None,
    };
    let request = StartInvestigationRequest {
        graph_arn: graph_arn.clone(),
        scope: Some(window_to_proto(scope)),
        whole_graph: entity.is_none(),
        entity,
        ..StartInvestigationRequest::default()
    };
    let mut client = session.connection.investigation_service().await?;
    let investigation_id = client.start_investigation(request).await?.into_inner().investigation_id;
    let get = GetInvestigationRequest { graph_arn, investigation_id };
    let progress = Progress::new(0, "investigating");
    loop {
        let found = client.get_investigation(get.clone()).await?.into_inner().investigation.unwrap_or_default();
        match found.status() {
            InvestigationStatus::Running => tokio::time::sleep(POLL).await,
            InvestigationStatus::Successful => break,
            _ => return Err(Failure::Partial(format!("investigation {} has failed; the server's log says why", get.investigation_id))),
        }
    }
    progress.finish();
    show(session, &get.investigation_id).await
}

/// Shows an investigation with what it has found.
pub async fn show(session: &Session, id: &str) -> Result<(), Failure> {
    let graph_arn = session.connection.graph().await?;
    let mut client = session.connection.investigation_service().await?;
    let get = GetInvestigationRequest { graph_arn: graph_arn.clone(), investigation_id: id.to_owned() };
    let found = client.get_investigation(get).await?.into_inner();
    let mut request = ListIndicatorsRequest { graph_arn, investigation_id: id.to_owned(), page_size: PAGE, ..ListIndicatorsRequest::default() };
    let mut all = ListIndicatorsResponse::default();
    loop {
        let page = client.list_indicators(request.clone()).await?.into_inner();
        all.indicators.extend(page.indicators);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        let mut whole = message::value("gumshoe.investigation.v1.GetInvestigationResponse", &found)?;
        let listed = message::value("gumshoe.investigation.v1.ListIndicatorsResponse", &all)?;
        if let (Some(whole), Some(indicators)) = (whole.as_object_mut(), listed.get("indicators")) {
            whole.insert("indicators".to_owned(), indicators.clone());
        }
        return session.output.json(&whole);
    }
    print(session, &found, &all.indicators)
}

fn print(session: &Session, found: &GetInvestigationResponse, indicators: &[Indicator]) -> Result<(), Failure> {
    let investigation = found.investigation.clone().unwrap_or_default();
    let output = session.output;
    let of = investigation.entity.as_ref().map_or_else(|| "the whole graph".to_owned(), |entity| message::entity(Some(entity)));
    output.line(&format!("investigation {} of {of}, {}", investigation.id, message::range(investigation.scope.as_ref())))?;
    output.line(&format!("{}, {} of 100 points", severity(investigation.severity().as_str_name()), found.points))?;
    if investigation.principals_left_out > 0 {
        output.line(&format!("{} less suspicious principals were left out", show_count(investigation.principals_left_out)))?;
    }
    output.section("Why", &reasons(&found.reasons))?;
    if let [_, _, ..] = found.principals.as_slice() {
        let mut rows = Rows::new(&["#points", "severity", "principal"]);
        for principal in &found.principals {
            rows.add([principal.points.to_string(), severity(principal.severity().as_str_name()), message::entity(principal.entity.as_ref())]);
        }
        output.section("Principals", &rows)?;
    }
    let mut rows = Rows::new(&["indicator", "what", "from", "principal"]);
    for indicator in indicators {
        let (what, from) = detail(indicator);
        let kind = indicator.r#type().as_str_name().trim_start_matches("INDICATOR_TYPE_").to_owned();
        rows.add([kind, what, from, message::entity(indicator.principal.as_ref())]);
    }
    output.section("Indicators", &rows)
}

fn severity(name: &str) -> String {
    name.trim_start_matches("INVESTIGATION_SEVERITY_").to_lowercase()
}

fn reasons(reasons: &[SeverityReason]) -> Rows {
    let mut rows = Rows::new(&["#points", "what"]);
    for reason in reasons {
        rows.add([reason.points.to_string(), reason.description.clone()]);
    }
    rows
}

/// What an indicator says, and from where.
fn detail(indicator: &Indicator) -> (String, String) {
    match indicator.detail.clone() {
        Some(Detail::TtpsObserved(ttps)) => {
            let counts = format!("{} succeeded, {} failed", ttps.api_success_count, ttps.api_failure_count);
            (format!("{} {} by {}: {} ({counts})", ttps.tactic, ttps.technique, ttps.api_name, ttps.procedure), ttps.ip_address)
        }
        Some(Detail::ImpossibleTravel(travel)) => (
            format!("{} to {} in {} h", travel.starting_location, travel.ending_location, travel.hourly_time_delta),
            format!("{} to {}", travel.starting_ip_address, travel.ending_ip_address),
        ),
        Some(Detail::FlaggedIpAddress(flagged)) => (format!("in {} {}", flagged.reason, flagged.category), flagged.ip_address),
        Some(Detail::NewGeolocation(place)) => (place.location, place.ip_address),
        Some(Detail::NewAso(network)) => (network.aso, String::new()),
        Some(Detail::NewUserAgent(agent)) => (agent.user_agent, String::new()),
        Some(Detail::RelatedFinding(finding)) => (format!("{} {}", finding.r#type, finding.arn), finding.ip_address),
        Some(Detail::RelatedFindingGroup(group)) => (group.id, String::new()),
        None => (String::new(), String::new()),
    }
}

pub async fn list(session: &Session, limit: u32) -> Result<(), Failure> {
    let mut client = session.connection.investigation_service().await?;
    let mut request = ListInvestigationsRequest { graph_arn: session.connection.graph().await?, ..ListInvestigationsRequest::default() };
    let mut all = ListInvestigationsResponse::default();
    while let Some(page_size) = super::next_page(limit, all.investigations.len()) {
        request.page_size = page_size.min(PAGE);
        let page = client.list_investigations(request.clone()).await?.into_inner();
        all.investigations.extend(page.investigations);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
        request.page_token.clone_from(&all.next_page_token);
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.ListInvestigationsResponse", &all);
    }
    let mut rows = Rows::new(&["id", "status", "severity", "#done", "#of", "started", "what"]);
    for found in &all.investigations {
        rows.add([
            found.id.clone(),
            found.status().as_str_name().trim_start_matches("INVESTIGATION_STATUS_").to_lowercase(),
            severity(found.severity().as_str_name()),
            found.principals_done.to_string(),
            found.principals_total.to_string(),
            message::time(found.create_time.as_ref()),
            found.entity.as_ref().map_or_else(|| "the whole graph".to_owned(), |entity| message::entity(Some(entity))),
        ]);
    }
    session.output.table(&rows)
}
