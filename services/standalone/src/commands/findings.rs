//! `findings`, `finding` and `verdict`.

use gumshoe_api::{
    common::v1::EntityKey,
    convert,
    graph::v1::{FindingSummary, GetFindingRequest, GetFindingResponse},
    investigation::v1::{
        CreateVerdictRequest, Delivery, DeliveryState, FindingStatus, ListVerdictsRequest, SearchFindingsRequest, SearchFindingsResponse, TriagedFinding,
        Verdict as Decision, VerdictKind,
    },
};
use gumshoe_investigation::verdict::Kind;
use gumshoe_model::PRODUCT;

use super::{Session, next_page, scope};
use crate::{
    arguments::{self, Findings, Verdict},
    entity,
    output::Rows,
    quantity::show_count,
    rpc::{Failure, message},
};

/// How many findings one call may ask for by their ids.
const IDS: usize = 100;

pub async fn list(session: &Session, filter: Findings) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity: Option<EntityKey> = match &filter.entity {
        Some(text) => Some(convert::entity_to_proto(&entity::resolve(&session.connection, &graph, text).await?)),
        None => None,
    };
    let mut client = session.connection.investigation_service().await?;
    let mut all = SearchFindingsResponse::default();
    while let Some(page_size) = next_page(filter.limit, all.findings.len()) {
        let request = SearchFindingsRequest {
            graph_arn: graph.clone(),
            scope: scope(&filter.scope)?,
            min_severity: filter.min_severity.unwrap_or(0.0),
            max_severity: filter.max_severity,
            r#type: filter.finding_type.clone(),
            product: product(&filter.product).to_owned(),
            account_id: filter.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            entity: entity.clone(),
            finding_ids: Vec::new(),
            statuses: filter.status.iter().map(|status| status_to_proto(*status).into()).collect(),
            include_archived: filter.archived,
            include_suppressed: filter.suppressed,
            page_size,
            page_token: all.next_page_token.clone(),
        };
        let page = client.search_findings(request).await?.into_inner();
        all.findings.extend(page.findings);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.SearchFindingsResponse", &all);
    }
    session.output.table(&table(&all.findings))?;
    if !all.next_page_token.is_empty() {
        crate::output::note(&format!("there are more than {}; see --limit", filter.limit));
    }
    Ok(())
}

/// The pattern that a short name of a product stands for.
fn product(name: &str) -> &str {
    match name.to_lowercase().as_str() {
        "guardduty" => "GuardDuty",
        "gumshoe" => PRODUCT,
        "securityhub" => "arn:*:securityhub:*",
        _ => name,
    }
}

fn status_to_proto(status: arguments::FindingStatus) -> FindingStatus {
    match status {
        arguments::FindingStatus::Open => FindingStatus::Open,
        arguments::FindingStatus::TruePositive => FindingStatus::TruePositive,
        arguments::FindingStatus::FalsePositive => FindingStatus::FalsePositive,
        arguments::FindingStatus::Benign => FindingStatus::Benign,
        arguments::FindingStatus::Archived => FindingStatus::Archived,
    }
}

fn table(findings: &[TriagedFinding]) -> Rows {
    let mut rows = Rows::new(&["severity", "type", "account", "#count", "last seen", "status", "id"]);
    for triaged in findings {
        let finding = triaged.finding.clone().unwrap_or_default();
        let suppressed = if triaged.suppression_id.is_empty() { "" } else { ", suppressed" };
        rows.add([
            severity(&finding),
            finding.r#type,
            finding.account_id,
            show_count(finding.count),
            message::time(finding.last_time.as_ref()),
            format!("{}{suppressed}", status(triaged.status())),
            finding.id,
        ]);
    }
    rows
}

fn severity(finding: &FindingSummary) -> String {
    format!("{:.1} {}", finding.severity, finding.severity_label.to_lowercase())
}

fn status(status: FindingStatus) -> &'static str {
    match status {
        FindingStatus::Open => "open",
        FindingStatus::TruePositive => "true positive",
        FindingStatus::FalsePositive => "false positive",
        FindingStatus::Benign => "benign",
        FindingStatus::Archived => "archived",
        FindingStatus::Unspecified => "",
    }
}

/// What became of a verdict at the product that reported the finding.
fn delivery(delivery: Option<&Delivery>) -> String {
    let Some(delivery) = delivery else { return String::new() };
    let state = match delivery.state() {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Failed => "failed",
        DeliveryState::Skipped => "skipped",
        DeliveryState::Superseded => "superseded",
        DeliveryState::Unspecified => "",
    };
    if delivery.reason.is_empty() { state.to_owned() } else { format!("{state}: {}", delivery.reason) }
}

/// A verdict in words.
pub fn name(kind: i32) -> &'static str {
    Kind::from_proto(kind).map_or("", Kind::in_words)
}

pub async fn show(session: &Session, id: &str) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let request = GetFindingRequest { graph_arn: graph.clone(), id: id.to_owned() };
    let found = session.connection.graph_service().await?.get_finding(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.graph.v1.GetFindingResponse", &found);
    }
    let mut client = session.connection.investigation_service().await?;
    let request = ListVerdictsRequest { graph_arn: graph.clone(), finding_id: id.to_owned(), page_size: 20, ..Default::default() };
    let verdicts = client.list_verdicts(request).await?.into_inner().verdicts;
    let mut triaged = Vec::new();
    let ids: Vec<String> = std::iter::once(id.to_owned()).chain(found.related.iter().map(|related| related.id.clone())).collect();
    for some in ids.chunks(IDS) {
        let mut request = SearchFindingsRequest {
            graph_arn: graph.clone(),
            finding_ids: some.to_vec(),
            include_archived: true,
            include_suppressed: true,
            page_size: 1_000,
            ..Default::default()
        };
        loop {
            let page = client.search_findings(request.clone()).await?.into_inner();
            triaged.extend(page.findings);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
    }
    let is_this = |triaged: &TriagedFinding| triaged.finding.as_ref().is_some_and(|finding| finding.id == id);
    let (this, related): (Vec<_>, Vec<_>) = triaged.into_iter().partition(is_this);
    print(session, &found, &this.into_iter().next().unwrap_or_default(), &verdicts, &related)
}

fn print(session: &Session, found: &GetFindingResponse, triaged: &TriagedFinding, verdicts: &[Decision], related: &[TriagedFinding]) -> Result<(), Failure> {
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
        ("severity", severity(&finding)),
        ("product", finding.product.clone()),
        ("account", format!("{} {}", finding.account_id, finding.region)),
        (
            "seen",
            format!("{} times, {} to {}", show_count(finding.count), message::time(finding.first_time.as_ref()), message::time(finding.last_time.as_ref())),
        ),
        ("scope", message::range(found.scope.as_ref())),
        ("archived", if finding.archived { "yes" } else { "no" }.to_owned()),
        ("status", status(triaged.status()).to_owned()),
        ("suppressed by", triaged.suppression_id.clone()),
    ] {
        if !value.is_empty() {
            facts.add([fact.to_owned(), value]);
        }
    }
    output.section("Finding", &facts)?;

    let mut history = Rows::new(&["decided", "verdict", "by", "note", "given back"]);
    for verdict in verdicts {
        history.add([
            message::time(verdict.create_time.as_ref()),
            name(verdict.kind).to_owned(),
            verdict.author_arn.clone(),
            verdict.note.clone(),
            delivery(verdict.delivery.as_ref()),
        ]);
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
    output.section("Related findings", &table(related))
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
    session.output.line(&format!("{} is now {}", verdict.finding_id, name(verdict.kind)))?;
    if kind == VerdictKind::FalsePositive {
        crate::output::note("a suppression may be proposed: see `gumshoe suppressions`");
    }
    Ok(())
}
