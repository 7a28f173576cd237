//! The RPCs of finding groups.

use std::{collections::HashMap, pin::Pin};

use futures::{Stream, StreamExt as _, stream};
use gumshoe_api::{
    convert::{entity_from_proto, entity_to_proto, time_to_proto, window_from_proto},
    graph::v1::FindingSummary,
    investigation::v1::{self as api, finding_group_service_server::FindingGroupService},
};
use gumshoe_model::{AccountId, EntityKey, EntityType, GraphArn, Severity, Timestamp};
use gumshoe_runtime::{Caller, Scope};
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{Investigation, MAX_PAGE, authorized, investigations::page, page_size, parsed, verdict_to_proto};
use crate::{
    error::Refusal,
    groups::{
        self, Decision, Entity, FactKind, Group, GroupId, Member,
        export::{Document, Format},
        summary::{self, Event, EventKind, Sentence},
    },
    store::groups::{GroupCursor, GroupFilter, thousandths},
    verdict::{FindingId, Note, Verdict},
};

const READ: &str = "detective:SearchGraph";
const DECIDE: &str = "gumshoe:UpdateFindingGroupStatus";
/// A page stops at about this many bytes, well under the 4 MiB that gRPC clients accept by default.
const MAX_PAGE_BYTES: usize = 3 << 20;
/// Bytes of a document in one message.
const PIECE_BYTES: usize = 256 << 10;
/// The longest id of a finding, in bytes.
const MAX_FINDING_ID: usize = 2_048;

#[tonic::async_trait]
impl FindingGroupService for Investigation {
    async fn list_finding_groups(&self, request: Request<api::ListFindingGroupsRequest>) -> Result<Response<api::ListFindingGroupsResponse>, Status> {
        let graph = authorized(&request, READ, &request.get_ref().graph_arn)?;
        Ok(Response::new(self.list_groups(&graph, request.into_inner()).await?))
    }

    async fn get_finding_group(&self, request: Request<api::GetFindingGroupRequest>) -> Result<Response<api::GetFindingGroupResponse>, Status> {
        let graph = authorized(&request, READ, &request.get_ref().graph_arn)?;
        Ok(Response::new(self.get_group(&graph, &request.get_ref().group_id).await?))
    }

    async fn list_finding_group_members(
        &self,
        request: Request<api::ListFindingGroupMembersRequest>,
    ) -> Result<Response<api::ListFindingGroupMembersResponse>, Status> {
        let graph = authorized(&request, READ, &request.get_ref().graph_arn)?;
        Ok(Response::new(self.list_members(&graph, request.into_inner()).await?))
    }

    async fn update_finding_group_status(
        &self,
        request: Request<api::UpdateFindingGroupStatusRequest>,
    ) -> Result<Response<api::UpdateFindingGroupStatusResponse>, Status> {
        let graph = authorized(&request, DECIDE, &request.get_ref().graph_arn)?;
        let author = Caller::of(&request)?.principal.clone();
        let message = request.into_inner();
        let id: GroupId = parsed("group_id", &message.group_id)?;
        let status = groups::Status::from_proto(message.status).filter(|status| *status != groups::Status::Dissolved);
        let status = status.ok_or_else(|| Refusal::field("status", "is required and must be open or closed"))?;
        let note: Note = parsed("note", &message.note)?;
        let decision = Decision { status, note: note.as_str().to_owned(), author, time: self.clock.now() };
        let group = self.store.decide_group(&graph, &id, &decision).await.map_err(Refusal::from)?;
        Ok(Response::new(api::UpdateFindingGroupStatusResponse { group: Some(to_proto(&graph, &group)) }))
    }

    type ExportFindingGroupStream = Pin<Box<dyn Stream<Item = Result<api::ExportFindingGroupResponse, Status>> + Send>>;

    async fn export_finding_group(&self, request: Request<api::ExportFindingGroupRequest>) -> Result<Response<Self::ExportFindingGroupStream>, Status> {
        let graph = authorized(&request, READ, &request.get_ref().graph_arn)?;
        let text = self.export(&graph, request.get_ref()).await?.into_bytes();
        let pieces: Vec<Vec<u8>> = text.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect();
        Ok(Response::new(stream::iter(pieces).map(|data| Ok(api::ExportFindingGroupResponse { data })).boxed()))
    }
}

impl Investigation {
    async fn list_groups(&self, graph: &GraphArn, mut message: api::ListFindingGroupsRequest) -> Result<api::ListFindingGroupsResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_PAGE)?;
        let scope = Scope::new("ListFindingGroups", &message.graph_arn, message.encode_to_vec());
        let filter = filter(message)?;
        let after: Option<GroupCursor> = self.page_tokens.resume(&token, &scope)?;
        let found = self.store.list_groups(graph, &filter, after.as_ref(), size + 1).await?;
        let (groups, next_page_token) = page(found, size, &self.page_tokens, &scope)?;
        Ok(api::ListFindingGroupsResponse { groups: groups.iter().map(|group| to_proto(graph, group)).collect(), next_page_token })
    }

    async fn get_group(&self, graph: &GraphArn, id: &str) -> Result<api::GetFindingGroupResponse, Refusal> {
        let (group, body) = self.store.group(graph, &parsed("group_id", id)?).await?;
        let decisions = self.store.group_decisions(graph, &group.id).await?;
        let decision = |decision: &Decision| api::FindingGroupDecision {
            status: decision.status.to_proto().into(),
            note: decision.note.clone(),
            author_arn: decision.author.clone(),
            create_time: Some(time_to_proto(decision.time)),
        };
        Ok(api::GetFindingGroupResponse {
            summary: summary::sentences(&body, &group.overview).into_iter().map(sentence_to_proto).collect(),
            timeline: summary::timeline(&body).into_iter().map(event_to_proto).collect(),
            decisions: decisions.iter().map(decision).collect(),
            group: Some(to_proto(graph, &group)),
        })
    }

    async fn list_members(&self, graph: &GraphArn, mut message: api::ListFindingGroupMembersRequest) -> Result<api::ListFindingGroupMembersResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_PAGE)?;
        let scope = Scope::new("ListFindingGroupMembers", &message.graph_arn, message.encode_to_vec());
        let after: Option<String> = self.page_tokens.resume(&token, &scope)?;
        let (_, body) = self.store.group(graph, &parsed("group_id", &message.group_id)?).await?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // From the last one on: the group may have changed in between.
        let from = |keys: Vec<&str>| after.as_ref().and_then(|after| keys.iter().position(|key| key == after)).map_or(0, |place| place + 1);
        let members: Vec<(String, api::FindingGroupMember)> = match message.r#type() {
            api::FindingGroupMemberType::Entity => {
                let start = from(body.entities.iter().map(|entity| entity.key.as_str()).collect());
                body.entities.iter().skip(start).take(size + 1).map(|entity| (entity.key.clone(), entity_member(entity))).collect()
            }
            _ if (api::FindingGroupMemberType::Unspecified as i32..=api::FindingGroupMemberType::Finding as i32).contains(&message.r#type) => {
                let start = from(body.findings.iter().map(|finding| finding.id.as_str()).collect());
                let findings: Vec<&Member> = body.findings.iter().skip(start).take(size + 1).collect();
                let ids: Vec<FindingId> = findings.iter().filter_map(|finding| finding.id.parse().ok()).collect();
                let verdicts = self.store.verdicts_in_force(graph, &ids).await?;
                findings.into_iter().map(|finding| (finding.id.clone(), finding_member(finding, &verdicts))).collect()
            }
            _ => return Err(Refusal::field("type", "must be a known type")),
        };
        let mut bytes = 0;
        let mut fits = |member: &(String, api::FindingGroupMember)| {
            let first = bytes == 0;
            bytes += member.1.encoded_len() + 8;
            first || bytes <= MAX_PAGE_BYTES
        };
        let number = members.iter().take(size).map_while(|member| fits(member).then_some(())).count();
        let next_page_token = match members.get(number.saturating_sub(1)) {
            Some((last, _)) if members.len() > number => self.page_tokens.seal(last, &scope)?,
            _ => String::new(),
        };
        Ok(api::ListFindingGroupMembersResponse { members: members.into_iter().take(number).map(|(_, member)| member).collect(), next_page_token })
    }

    async fn export(&self, graph: &GraphArn, message: &api::ExportFindingGroupRequest) -> Result<String, Refusal> {
        let format = Format::from_proto(message.format).ok_or_else(|| Refusal::field("format", "is required and must be a known format"))?;
        let (group, body) = self.store.group(graph, &parsed("group_id", &message.group_id)?).await?;
        let decisions = self.store.group_decisions(graph, &group.id).await?;
        let text = Document::new(&graph.to_string(), &group, &body, &decisions).text(format);
        text.map_err(|error| Refusal::from(gumshoe_runtime::status::internal(&error)))
    }
}

fn filter(message: api::ListFindingGroupsRequest) -> Result<GroupFilter, Refusal> {
    for (field, severity) in [("min_severity", message.min_severity), ("max_severity", message.max_severity.unwrap_or(10.0))] {
        if !(0.0..=10.0).contains(&severity) {
            return Err(Refusal::field(field, "must lie between 0 and 10"));
        }
    }
    if message.max_severity.is_some_and(|most| most < message.min_severity) {
        return Err(Refusal::field("max_severity", "must not be less than `min_severity`"));
    }
    let status = |(place, number): (usize, &i32)| {
        groups::Status::from_proto(*number).ok_or_else(|| Refusal::field(format!("statuses[{place}]"), "must be a known status"))
    };
    let mut statuses: Vec<groups::Status> = message.statuses.iter().enumerate().map(status).collect::<Result<_, _>>()?;
    if statuses.is_empty() {
        statuses = vec![groups::Status::Open, groups::Status::Closed];
    }
    statuses.sort_unstable();
    statuses.dedup();
    let mut entities = Vec::new();
    if let Some(entity) = &message.entity {
        entities.push(entity_from_proto("entity", Some(entity))?);
    }
    if !message.account_id.is_empty() {
        let account: AccountId = parsed("account_id", &message.account_id)?;
        entities.push(EntityKey { kind: EntityType::Account, id: account.to_string() });
    }
    for (field, text) in entities.iter().map(|entity| ("entity", &entity.id)).chain([("finding_id", &message.finding_id)]) {
        if text.contains('\0') {
            return Err(Refusal::field(field, "must not contain NUL"));
        }
    }
    if message.finding_id.len() > MAX_FINDING_ID {
        return Err(Refusal::field("finding_id", format!("must have at most {MAX_FINDING_ID} bytes")));
    }
    Ok(GroupFilter {
        scope: window_from_proto("scope", message.scope.as_ref())?,
        min_severity: thousandths(message.min_severity),
        max_severity: message.max_severity.map(thousandths),
        statuses,
        entities,
        finding: Some(message.finding_id).filter(|id| !id.is_empty()),
    })
}

fn to_proto(graph: &GraphArn, group: &Group) -> api::FindingGroup {
    let overview = &group.overview;
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    api::FindingGroup {
        id: group.id.to_string(),
        graph_arn: graph.to_string(),
        title: overview.title.clone(),
        status: group.status.to_proto().into(),
        severity: overview.severity,
        severity_label: overview.label().as_str().to_owned(),
        score: overview.points(),
        dismissed_findings: number(overview.dismissed),
        score_parts: overview.score.iter().map(|(reason, points)| api::FindingGroupScorePart { reason: reason.clone(), points: *points }).collect(),
        tactics: overview.tactics.clone(),
        techniques: overview.techniques.clone(),
        first_time: Some(time_to_proto(Timestamp(overview.first))),
        last_time: Some(time_to_proto(Timestamp(overview.last))),
        create_time: Some(time_to_proto(group.create_time)),
        update_time: Some(time_to_proto(group.update_time)),
        findings: number(overview.findings),
        findings_by_severity: overview.by_severity.iter().map(|(label, number)| (label.clone(), *number)).collect(),
        entities: number(overview.entities),
        account_ids: overview.accounts.clone(),
        merged_group_ids: group.merged.iter().map(ToString::to_string).collect(),
        split_from_group_id: group.split_from.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn sentence_to_proto(sentence: Sentence) -> api::FindingGroupSentence {
    api::FindingGroupSentence { text: sentence.text, finding_ids: sentence.findings, entities: keys(&sentence.entities) }
}

fn event_to_proto(event: Event) -> api::FindingGroupEvent {
    let kind = match event.kind {
        EventKind::Finding => api::FindingGroupEventKind::Finding,
        EventKind::LastSeen => api::FindingGroupEventKind::FindingLastSeen,
        EventKind::Fact(FactKind::NewOperation) => api::FindingGroupEventKind::NewOperation,
        EventKind::Fact(FactKind::NewCountry) => api::FindingGroupEventKind::NewCountry,
        EventKind::Fact(FactKind::NewNetwork) => api::FindingGroupEventKind::NewNetwork,
        EventKind::Fact(FactKind::NewUserAgent) => api::FindingGroupEventKind::NewUserAgent,
    };
    let entity = keys(std::slice::from_ref(&event.entity)).pop();
    api::FindingGroupEvent { time: Some(time_to_proto(Timestamp(event.time))), kind: kind.into(), text: event.text, finding_id: event.finding, entity }
}

fn keys(entities: &[String]) -> Vec<gumshoe_api::common::v1::EntityKey> {
    entities.iter().filter_map(|entity| entity.parse::<EntityKey>().ok()).map(|entity| entity_to_proto(&entity)).collect()
}

fn entity_member(entity: &Entity) -> api::FindingGroupMember {
    let grouped = api::GroupedEntity {
        entity: keys(std::slice::from_ref(&entity.key)).pop(),
        findings: u32::try_from(entity.findings).unwrap_or(u32::MAX),
        degree: entity.degree,
        hub: entity.hub,
        ties: entity.ties,
    };
    api::FindingGroupMember { member: Some(api::finding_group_member::Member::Entity(grouped)) }
}

fn finding_member(finding: &Member, verdicts: &HashMap<FindingId, Verdict>) -> api::FindingGroupMember {
    let time = |time: i64| Some(time_to_proto(Timestamp(time)));
    let summary = FindingSummary {
        id: finding.id.clone(),
        r#type: finding.finding_type.clone(),
        product: finding.product.clone(),
        title: finding.title.clone(),
        severity: finding.severity,
        severity_label: Severity::of_score(finding.severity).as_str().to_owned(),
        account_id: finding.account.clone(),
        region: finding.region.clone(),
        count: finding.count,
        first_time: time(finding.first),
        last_time: time(finding.last),
        update_time: time(finding.update),
        archived: finding.archived,
        entities: keys(&finding.entities),
    };
    let tie = |tie: &groups::Tie| api::FindingGroupTie { finding_id: tie.finding.clone(), entities: keys(&tie.entities), weight: tie.weight };
    let verdict = finding.id.parse().ok().and_then(|id: FindingId| verdicts.get(&id)).map(verdict_to_proto);
    let grouped = api::GroupedFinding {
        finding: Some(summary),
        tactics: finding.tactics.clone(),
        techniques: finding.techniques.clone(),
        ties: finding.ties.iter().map(tie).collect(),
        verdict,
    };
    api::FindingGroupMember { member: Some(api::finding_group_member::Member::Finding(grouped)) }
}
