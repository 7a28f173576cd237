//! A group in JSON. Times are RFC 3339; names are those of the API's messages.

use gumshoe_model::Severity;
use serde_json::{Value, json};

use super::Document;
use crate::{
    groups::{
        Decision, Entity, FactKind, GroupId, Member, Tie,
        summary::{Event, EventKind, Sentence, time},
    },
    verdict::Kind,
};

/// The document.
pub(super) fn write(document: &Document<'_>) -> Value {
    let (group, overview) = (document.group, &document.group.overview);
    let ids = |ids: &[GroupId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "id": group.id.as_str(),
        "graph_arn": document.graph,
        "title": overview.title,
        "status": group.status.as_str(),
        "severity": overview.severity,
        "severity_label": overview.label().as_str(),
        "score": overview.points(),
        "score_parts": overview.score.iter().map(|(reason, points)| json!({"reason": reason, "points": points})).collect::<Vec<_>>(),
        "tactics": overview.tactics,
        "techniques": overview.techniques,
        "first_time": time(overview.first),
        "last_time": time(overview.last),
        "create_time": time(group.create_time.0),
        "update_time": time(group.update_time.0),
        "account_ids": overview.accounts,
        "findings_by_severity": overview.by_severity,
        "dismissed_findings": overview.dismissed,
        "merged_group_ids": ids(&group.merged),
        "split_from_group_id": group.split_from.as_ref().map(ToString::to_string),
        "summary": document.sentences.iter().map(sentence).collect::<Vec<_>>(),
        "timeline": document.timeline.iter().map(event).collect::<Vec<_>>(),
        "findings": document.body.findings.iter().map(finding).collect::<Vec<_>>(),
        "entities": document.body.entities.iter().map(entity).collect::<Vec<_>>(),
        "decisions": document.decisions.iter().map(decision).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Member) -> Value {
    let tie = |tie: &Tie| json!({"finding_id": tie.finding, "entities": tie.entities, "weight": tie.weight});
    json!({
        "id": finding.id,
        "type": finding.finding_type,
        "product": finding.product,
        "title": finding.title,
        "severity": finding.severity,
        "severity_label": Severity::of_score(finding.severity).as_str(),
        "account_id": finding.account,
        "region": finding.region,
        "count": finding.count,
        "first_time": time(finding.first),
        "last_time": time(finding.last),
        "archived": finding.archived,
        "entities": finding.entities,
        "tactics": finding.tactics,
        "techniques": finding.techniques,
        "ties": finding.ties.iter().map(tie).collect::<Vec<_>>(),
        "verdict": finding.verdict.map(Kind::as_str),
    })
}

fn entity(entity: &Entity) -> Value {
    json!({"entity": entity.key, "findings": entity.findings, "degree": entity.degree, "hub": entity.hub, "ties": entity.ties})
}

fn decision(decision: &Decision) -> Value {
    let status = decision.status.as_str();
    json!({"status": status, "note": decision.note, "author_arn": decision.author, "create_time": time(decision.time.0)})
}

fn sentence(sentence: &Sentence) -> Value {
    json!({"text": sentence.text, "finding_ids": sentence.findings, "entities": sentence.entities})
}

fn event(event: &Event) -> Value {
    let kind = match event.kind {
        EventKind::Finding => "FINDING",
        EventKind::LastSeen => "FINDING_LAST_SEEN",
        EventKind::Fact(FactKind::NewOperation) => "NEW_OPERATION",
        EventKind::Fact(FactKind::NewCountry) => "NEW_COUNTRY",
        EventKind::Fact(FactKind::NewNetwork) => "NEW_NETWORK",
        EventKind::Fact(FactKind::NewUserAgent) => "NEW_USER_AGENT",
    };
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    json!({"time": time(event.time), "kind": kind, "text": event.text, "finding_id": given(&event.finding), "entity": given(&event.entity)})
}
