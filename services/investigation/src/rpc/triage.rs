//! The RPCs of triage: findings with what was decided about them, and suppressions.

use gumshoe_api::{
    convert::{entity_from_proto, time_to_proto, window_from_proto},
    graph::v1::ListFindingsRequest,
    investigation::v1 as api,
};
use gumshoe_model::{AccountId, GraphArn};
use gumshoe_runtime::{Caller, Scope};
use prost::Message as _;
use tonic::Request;

use super::{Investigation, MAX_BATCH, MAX_PAGE, investigations::page, page_size, parsed, verdict_to_proto};
use crate::{
    error::Refusal,
    suppression::{Decision, Mark, State, Suppression, SuppressionId},
    triage::{self, Cursor, Filter, MAX_ACCEPTED, Status, Triaged},
    verdict::FindingId,
};

/// The largest page of findings.
const MAX_FINDINGS: u32 = 1_000;
/// A page stops at about this many bytes, well under the 4 MiB that gRPC clients accept by default.
const MAX_PAGE_BYTES: usize = 3 << 20;
const MAX_PATTERN: usize = 512;

impl Investigation {
    pub(super) async fn search(&self, arn: &GraphArn, mut message: api::SearchFindingsRequest) -> Result<api::SearchFindingsResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_FINDINGS)?;
        let scope = Scope::new("SearchFindings", &message.graph_arn, message.encode_to_vec());
        let filter = filter(message)?;
        let from: Option<Cursor> = self.page_tokens.resume(&token, &scope)?;
        let mut bytes = 0;
        let fits = |triaged: &Triaged| {
            let first = bytes == 0;
            bytes += to_proto(triaged).encoded_len() + 8;
            first || bytes <= MAX_PAGE_BYTES
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let found = triage::search(&*self.store, arn, &self.graphs.open(arn), &filter, size, from, fits).await?;
        let next_page_token = found.next.map_or(Ok(String::new()), |cursor| self.page_tokens.seal(&cursor, &scope))?;
        Ok(api::SearchFindingsResponse { findings: found.findings.iter().map(to_proto).collect(), next_page_token })
    }

    pub(super) async fn suppressions(&self, arn: &GraphArn, mut message: api::ListSuppressionsRequest) -> Result<api::ListSuppressionsResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_PAGE)?;
        let scope = Scope::new("ListSuppressions", &message.graph_arn, message.encode_to_vec());
        let mut states = all("states", &message.states, State::from_proto)?;
        if states.is_empty() {
            states.extend(State::ALL.into_iter().filter(|state| *state != State::Deleted));
        }
        let before: Option<String> = self.page_tokens.resume(&token, &scope)?;
        let before = before.map(|id| parsed::<SuppressionId>("page_token", &id)).transpose()?;
        let found = self.store.list_suppressions(arn, &states, before, size + 1).await?;
        let found = found.into_iter().map(|suppression| (suppression_to_proto(&suppression), suppression.id.to_string())).collect();
        let (suppressions, next_page_token) = page(found, size, &self.page_tokens, &scope)?;
        Ok(api::ListSuppressionsResponse { suppressions, next_page_token })
    }

    /// Writes down what the caller decides on a suppression.
    pub(super) async fn decide<T>(&self, arn: &GraphArn, request: &Request<T>, id: &str, decision: Decision) -> Result<api::Suppression, Refusal> {
        let by = Mark { author: Caller::of(request)?.principal.clone(), time: self.clock.now() };
        let decided = self.store.decide_suppression(arn, parsed("suppression_id", id)?, decision, &by, MAX_ACCEPTED).await?;
        Ok(suppression_to_proto(&decided))
    }
}

fn filter(message: api::SearchFindingsRequest) -> Result<Filter, Refusal> {
    window_from_proto("scope", message.scope.as_ref())?;
    if !message.account_id.is_empty() {
        parsed::<AccountId>("account_id", &message.account_id)?;
    }
    if let Some(entity) = &message.entity {
        entity_from_proto("entity", Some(entity))?;
    }
    for (field, text) in [("type", &message.r#type), ("product", &message.product)] {
        if text.chars().count() > MAX_PATTERN {
            return Err(Refusal::field(field, format!("must have at most {MAX_PATTERN} characters")));
        }
    }
    if message.finding_ids.len() > MAX_BATCH {
        return Err(Refusal::field("finding_ids", format!("must be at most {MAX_BATCH}")));
    }
    for (index, id) in message.finding_ids.iter().enumerate() {
        parsed::<FindingId>(&format!("finding_ids[{index}]"), id)?;
    }
    let statuses = all("statuses", &message.statuses, Status::from_proto)?;
    let (type_prefix, type_pattern) = if message.r#type.contains(['*', '?']) { (String::new(), message.r#type) } else { (message.r#type, String::new()) };
    Ok(Filter {
        // The graph checks what else there is to check; these fields have the same names there.
        findings: ListFindingsRequest {
            scope: message.scope,
            min_severity: message.min_severity,
            max_severity: message.max_severity,
            type_prefix,
            type_pattern,
            product_pattern: message.product,
            account_id: message.account_id,
            entity: message.entity,
            ids: message.finding_ids,
            include_archived: message.include_archived,
            ..ListFindingsRequest::default()
        },
        statuses,
        include_suppressed: message.include_suppressed,
    })
}

/// Enums of a filter, none of them unspecified.
fn all<T>(field: &str, numbers: &[i32], read: impl Fn(i32) -> Option<T>) -> Result<Vec<T>, Refusal> {
    let known = |(index, number): (usize, &i32)| read(*number).ok_or_else(|| Refusal::field(format!("{field}[{index}]"), "must be a known value"));
    numbers.iter().enumerate().map(known).collect()
}

fn to_proto(triaged: &Triaged) -> api::TriagedFinding {
    api::TriagedFinding {
        finding: Some(triaged.finding.clone()),
        status: triaged.status.to_proto().into(),
        verdict: triaged.verdict.as_ref().map(verdict_to_proto),
        suppression_id: triaged.suppression.map(|id| id.to_string()).unwrap_or_default(),
    }
}

fn suppression_to_proto(suppression: &Suppression) -> api::Suppression {
    let author = |mark: &Option<Mark>| mark.as_ref().map(|mark| mark.author.clone()).unwrap_or_default();
    let time = |mark: &Option<Mark>| mark.as_ref().map(|mark| time_to_proto(mark.time));
    api::Suppression {
        id: suppression.id.to_string(),
        state: suppression.state.to_proto().into(),
        pattern: Some(suppression.pattern.to_proto()),
        finding_id: suppression.finding.as_str().to_owned(),
        verdict_id: suppression.verdict.clone(),
        author_arn: suppression.proposed.author.clone(),
        create_time: Some(time_to_proto(suppression.proposed.time)),
        past_findings: suppression.past_findings,
        decider_arn: author(&suppression.decided),
        decide_time: time(&suppression.decided),
        deleter_arn: author(&suppression.deleted),
        delete_time: time(&suppression.deleted),
    }
}
