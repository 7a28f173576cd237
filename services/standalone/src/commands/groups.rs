//! `groups` and `group`.

use std::{io::Write as _, path::Path};

use gumshoe_api::{
    convert,
    investigation::v1::{
        ExportFindingGroupRequest, FindingGroup, FindingGroupFormat, FindingGroupMemberType, FindingGroupStatus, GetFindingGroupRequest,
        GetFindingGroupResponse, ListFindingGroupMembersRequest, ListFindingGroupsRequest, ListFindingGroupsResponse, UpdateFindingGroupStatusRequest,
        finding_group_member::Member,
    },
};

use super::{Session, findings, next_page, scope};
use crate::{
    arguments::{Group, GroupFormat, GroupStatus, Groups},
    entity,
    output::Rows,
    quantity::show_count,
    rpc::{Failure, message},
};

/// The largest page that the API gives.
const PAGE: i32 = 200;
/// Members that are shown of each kind.
const SHOWN: usize = 50;

pub async fn list(session: &Session, filter: Groups) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    let entity = match &filter.entity {
        Some(text) => Some(convert::entity_to_proto(&entity::resolve(&session.connection, &graph, text).await?)),
        None => None,
    };
    let mut client = session.connection.finding_group_service().await?;
    let mut all = ListFindingGroupsResponse::default();
    while let Some(page_size) = next_page(filter.limit, all.groups.len()) {
        let request = ListFindingGroupsRequest {
            graph_arn: graph.clone(),
            scope: scope(&filter.scope)?,
            min_severity: filter.min_severity.unwrap_or(0.0),
            max_severity: filter.max_severity,
            statuses: filter.status.iter().map(|status| status_to_proto(*status).into()).collect(),
            account_id: filter.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            entity: entity.clone(),
            finding_id: filter.finding.clone(),
            page_size: page_size.min(PAGE),
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_finding_groups(request).await?.into_inner();
        all.groups.extend(page.groups);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.ListFindingGroupsResponse", &all);
    }
    let mut rows = Rows::new(&["severity", "#score", "title", "#findings", "first seen", "last seen", "status", "id"]);
    for group in &all.groups {
        rows.add([
            severity(group),
            group.score.to_string(),
            group.title.clone(),
            show_count(group.findings.into()),
            message::time(group.first_time.as_ref()),
            message::time(group.last_time.as_ref()),
            status(group.status()).to_owned(),
            group.id.clone(),
        ]);
    }
    session.output.table(&rows)?;
    if !all.next_page_token.is_empty() {
        crate::output::note(&format!("there are more than {}; see --limit", filter.limit));
    }
    Ok(())
}

pub async fn group(session: &Session, arguments: Group) -> Result<(), Failure> {
    let graph = session.connection.graph().await?;
    if let Some(format) = arguments.export {
        return export(session, graph, arguments.id, format, arguments.out.as_deref()).await;
    }
    let mut client = session.connection.finding_group_service().await?;
    if arguments.close || arguments.open {
        let status = if arguments.close { FindingGroupStatus::Closed } else { FindingGroupStatus::Open };
        let request = UpdateFindingGroupStatusRequest { graph_arn: graph, group_id: arguments.id, status: status.into(), note: arguments.note };
        let updated = client.update_finding_group_status(request).await?.into_inner();
        if session.output.is_json() {
            return message::print(session.output, "gumshoe.investigation.v1.UpdateFindingGroupStatusResponse", &updated);
        }
        let group = updated.group.unwrap_or_default();
        return session.output.line(&format!("{} is {}", group.id, self::status(group.status())));
    }
    if !arguments.note.is_empty() {
        return Err(Failure::Usage("--note needs --close or --open".to_owned()));
    }
    let request = GetFindingGroupRequest { graph_arn: graph.clone(), group_id: arguments.id.clone() };
    let found = client.get_finding_group(request).await?.into_inner();
    if session.output.is_json() {
        return message::print(session.output, "gumshoe.investigation.v1.GetFindingGroupResponse", &found);
    }
    print(session, &found)?;
    for kind in [FindingGroupMemberType::Finding, FindingGroupMemberType::Entity] {
        let request = ListFindingGroupMembersRequest {
            graph_arn: graph.clone(),
            group_id: arguments.id.clone(),
            r#type: kind.into(),
            page_size: i32::try_from(SHOWN).unwrap_or(PAGE),
            page_token: String::new(),
        };
        let page = client.list_finding_group_members(request).await?.into_inner();
        members(session, page.members.into_iter().filter_map(|member| member.member))?;
        if !page.next_page_token.is_empty() {
            crate::output::note(&format!("there are more than {SHOWN}; see --export"));
        }
    }
    Ok(())
}

fn print(session: &Session, found: &GetFindingGroupResponse) -> Result<(), Failure> {
    let output = session.output;
    let group = found.group.clone().unwrap_or_default();
    output.line(&group.title)?;
    let parts: Vec<String> = group.score_parts.iter().map(|part| format!("{} {}", part.points, part.reason)).collect();
    let mut facts = Rows::new(&["fact", "value"]);
    for (fact, value) in [
        ("id", group.id.clone()),
        ("status", status(group.status()).to_owned()),
        ("dismissed", if group.dismissed_findings == 0 { String::new() } else { format!("{} of {} findings", group.dismissed_findings, group.findings) }),
        ("severity", severity(&group)),
        ("score", format!("{} ({})", group.score, parts.join(", "))),
        ("tactics", group.tactics.join(" > ")),
        ("techniques", group.techniques.join(", ")),
        ("accounts", group.account_ids.join(", ")),
        ("time", format!("{} to {}", message::time(group.first_time.as_ref()), message::time(group.last_time.as_ref()))),
        ("changed", message::time(group.update_time.as_ref())),
        ("merged into it", group.merged_group_ids.join(", ")),
        ("split from", group.split_from_group_id.clone()),
    ] {
        if !value.is_empty() {
            facts.add([fact.to_owned(), value]);
        }
    }
    output.section("Group", &facts)?;
    output.line("\nSummary")?;
    for sentence in &found.summary {
        output.line(&format!("- {}", sentence.text))?;
    }
    let mut timeline = Rows::new(&["time", "what", "finding or entity"]);
    for event in &found.timeline {
        let about = if event.finding_id.is_empty() { message::entity(event.entity.as_ref()) } else { event.finding_id.clone() };
        timeline.add([message::time(event.time.as_ref()), event.text.clone(), about]);
    }
    output.section("Timeline", &timeline)?;
    let mut decisions = Rows::new(&["decided", "status", "by", "note"]);
    for decision in &found.decisions {
        let (time, status) = (message::time(decision.create_time.as_ref()), status(decision.status()).to_owned());
        decisions.add([time, status, decision.author_arn.clone(), decision.note.clone()]);
    }
    output.section("Decisions", &decisions)
}

fn members(session: &Session, members: impl Iterator<Item = Member>) -> Result<(), Failure> {
    let mut rows = Rows::new(&["severity", "type", "tactics", "verdict", "first seen", "id"]);
    let mut entities = Rows::new(&["entity", "#findings", "#shared by", ""]);
    for member in members {
        match member {
            Member::Finding(grouped) => {
                let finding = grouped.finding.unwrap_or_default();
                let severity = format!("{:.1} {}", finding.severity, finding.severity_label.to_lowercase());
                let verdict = grouped.verdict.map_or("", |verdict| findings::name(verdict.kind)).to_owned();
                rows.add([severity, finding.r#type, grouped.tactics.join(", "), verdict, message::time(finding.first_time.as_ref()), finding.id]);
            }
            Member::Entity(grouped) => {
                let degree = if grouped.degree == 0 { String::new() } else { show_count(grouped.degree) };
                let role = if grouped.hub {
                    "hub"
                } else if grouped.ties {
                    "ties"
                } else {
                    ""
                };
                entities.add([message::entity(grouped.entity.as_ref()), show_count(grouped.findings.into()), degree, role.to_owned()]);
            }
        }
    }
    session.output.section("Findings", &rows)?;
    session.output.section("Entities", &entities)
}

async fn export(session: &Session, graph_arn: String, group_id: String, format: GroupFormat, out: Option<&Path>) -> Result<(), Failure> {
    let format = match format {
        GroupFormat::Markdown => FindingGroupFormat::Markdown,
        GroupFormat::Html => FindingGroupFormat::Html,
        GroupFormat::Json => FindingGroupFormat::Json,
        GroupFormat::Stix => FindingGroupFormat::Stix,
    };
    let request = ExportFindingGroupRequest { graph_arn, group_id, format: format.into() };
    let mut pieces = session.connection.finding_group_service().await?.export_finding_group(request).await?.into_inner();
    let mut document = Vec::new();
    while let Some(piece) = pieces.message().await? {
        document.extend_from_slice(&piece.data);
    }
    let Some(path) = out else {
        return String::from_utf8_lossy(&document).lines().try_for_each(|line| session.output.raw(line));
    };
    let failed = |source| Failure::File { action: "write", path: path.to_owned(), source };
    let mut file = std::fs::File::create(path).map_err(failed)?;
    file.write_all(&document).map_err(failed)
}

fn severity(group: &FindingGroup) -> String {
    format!("{:.1} {}", group.severity, group.severity_label.to_lowercase())
}

fn status(status: FindingGroupStatus) -> &'static str {
    match status {
        FindingGroupStatus::Open => "open",
        FindingGroupStatus::Closed => "closed",
        FindingGroupStatus::Dissolved => "dissolved",
        FindingGroupStatus::Unspecified => "",
    }
}

fn status_to_proto(status: GroupStatus) -> FindingGroupStatus {
    match status {
        GroupStatus::Open => FindingGroupStatus::Open,
        GroupStatus::Closed => FindingGroupStatus::Closed,
        GroupStatus::Dissolved => FindingGroupStatus::Dissolved,
    }
}
