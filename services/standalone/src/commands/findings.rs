//! `findings`, `finding` and `verdict`.

use gumshoe_api::{
    common::v1::EntityKey,
    convert,
    graph::v1::{FindingSummary, GetFindingRequest, GetFindingResponse, ListFindingsRequest, ListFindingsResponse},
    investigation::v1::{BatchGetVerdictsRequest, CreateVerdictRequest, ListVerdictsRequest, Verdict as Decision, VerdictKind},
};

use super::{Session, next_page, scope};
use crate::{
    arguments::{Findings, Verdict},
    entity,
    output::Rows,
    quantity::show_count,
    rpc::{Failure, message},
};

/// How many finding ids one call may ask verdicts for.
const VERDICTS: usize = 100;

pub async fn list(session: &Session, filter: Findings) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity: Option<EntityKey> = match &filter.entity {
        Some(text) => Some(convert::entity_to_proto(&entity::resolve(&session.connection, &graph, text).await?)),
        None => None,
    };
    let mut client = session.connection.graph_service().await?;
    let mut all = ListFindingsResponse::default();
    while let Some(page_size) = next_page(filter.limit, all.findings.len()) {
        let request = ListFindingsRequest {
            graph_arn: graph.clone(),
            scope: scope(&filter.scope)?,
            min_severity: filter.min_severity.unwrap_or(0.0),
            type_prefix: filter.type_prefix.clone(),
            account_id: filter.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            entity: entity.clone(),
            include_archived: filter.archived,
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_findings(request).await?.into_inner();
        all.findings.extend(page.findings);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.ListFindingsResponse", &all);
    }
    let mut verdicts = Vec::new();
    for some in all.findings.chunks(VERDICTS) {
        let request = BatchGetVerdictsRequest { graph_arn: graph.clone(), finding_ids: some.iter().map(|finding| finding.id.clone()).collect() };
        verdicts.extend(session.connection.investigation_service().await?.batch_get_verdicts(request).await?.into_inner().verdicts);
    }
    session.output.table(&table(&all.findings, &verdicts))?;
    if !all.next_page_token.is_empty() {
        crate::output::note(&format!("there are more than {}; see --limit", filter.limit));
    }
    Ok(())
}

fn table(findings: &[FindingSummary], verdicts: &[Decision]) -> Rows {
    let mut rows = Rows::new(&["severity", "type", "account", "#count", "last seen", "verdict", "id"]);
    for finding in findings {
        let verdict = verdicts.iter().find(|verdict| verdict.finding_id == finding.id).map_or("", |verdict| name(verdict.kind));
        rows.add([
            format!("{:.1} {}", finding.severity, finding.severity_label.to_lowercase()),
            finding.r#type.clone(),
            finding.account_id.clone(),
            show_count(finding.count),
            message::time(finding.last_time.as_ref()),
            verdict.to_owned(),
            finding.id.clone(),
        ]);
    }
    rows
}

fn name(kind: i32) -> &'static str {
    match VerdictKind::try_from(kind) {
        Ok(VerdictKind::TruePositive) => "true positive",
        Ok(VerdictKind::FalsePositive) => "false positive",
        Ok(VerdictKind::Benign) => "benign",
        Ok(VerdictKind::Reopened) => "reopened",
        Ok(VerdictKind::Unspecified) | Err(_) => "",
    }
}

pub async fn show(session: &Session, id: &str) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let request = GetFindingRequest { graph_arn: graph.clone(), id: id.to_owned() };
    let found = session.connection.graph_service().await?.get_finding(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetFindingResponse", &found);
    }
    let request = ListVerdictsRequest { graph_arn: graph, finding_id: id.to_owned(), page_size: 20, ..Default::default() };
    let verdicts = session.connection.investigation_service().await?.list_verdicts(request).await?.into_inner().verdicts;
    print(session, &found, &verdicts)
}

fn print(session: &Session, found: &GetFindingResponse, verdicts: &[Decision]) -> Result<(), Failure> {
    let output = session.output;
    let finding = found.finding.clone().unwrap_or_default();
    output.line(&finding.title)?;
    if found.description != finding.title {
        output.line(&found.description)?;
    }
    let mut facts = Rows::new(&["fact", "value"]);
    for (fact, value) in [
        ("id", finding.id.clone()),
        ("type", finding.r#type.clone()),
        ("severity", format!("{:.1} {}", finding.severity, finding.severity_label.to_lowercase())),
        ("product", finding.product.clone()),
        ("account", format!("{} {}", finding.account_id, finding.region)),
        (
            "seen",
            format!("{} times, {} to {}", show_count(finding.count), message::time(finding.first_time.as_ref()), message::time(finding.last_time.as_ref())),
        ),
        ("scope", message::range(found.scope.as_ref())),
        ("archived", if finding.archived { "yes" } else { "no" }.to_owned()),
    ] {
        facts.add([fact.to_owned(), value]);
    }
    output.section("Finding", &facts)?;

    let mut history = Rows::new(&["decided", "verdict", "by", "note"]);
    for verdict in verdicts {
        history.add([message::time(verdict.create_time.as_ref()), name(verdict.kind).to_owned(), verdict.author_arn.clone(), verdict.note.clone()]);
    }
    output.section("Verdicts", &history)?;

    let mut entities = Rows::new(&["entity", "risk", "#records", "#failed", "new in this time"]);
    for affected in &found.entities {
        let totals = affected.totals.unwrap_or_default();
        let risk = affected.risk.clone().unwrap_or_default();
        let new: Vec<&str> = affected.new_activities.iter().take(4).map(|activity| activity.name.as_str()).collect();
        entities.add([
            message::entity(affected.entity.as_ref()),
            format!("{:.0} {}", risk.score, risk.level),
            show_count(totals.successes + totals.failures),
            show_count(totals.failures),
            new.join(", "),
        ]);
    }
    output.section("Entities", &entities)?;
    output.section("Related findings", &table(&found.related, &[]))
}

pub async fn decide(session: &Session, finding_id: String, verdict: Verdict, note: String) -> Result<(), Failure> {
    let kind = match verdict {
        Verdict::TruePositive => VerdictKind::TruePositive,
        Verdict::FalsePositive => VerdictKind::FalsePositive,
        Verdict::Benign => VerdictKind::Benign,
        Verdict::Reopened => VerdictKind::Reopened,
    };
    let request = CreateVerdictRequest {
        graph_arn: session.connection.graph().await?,
        finding_id,
        kind: kind.into(),
        note,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let created = session.connection.investigation_service().await?.create_verdict(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.CreateVerdictResponse", &created);
    }
    let verdict = created.verdict.unwrap_or_default();
    session.output.line(&format!("{} is now {}", verdict.finding_id, name(verdict.kind)))
}
