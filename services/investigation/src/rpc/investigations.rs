//! The RPCs of investigations and their indicators.

use gumshoe_api::{
    common::v1::EntityKey,
    convert::{entity_from_proto, entity_to_proto, entity_type_to_proto, time_from_proto, time_to_proto, window_from_proto, window_to_proto},
    investigation::v1 as api,
};
use gumshoe_model::{GraphArn, Severity, Timestamp};
use gumshoe_runtime::{PageTokens, Scope};
use prost::Message as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{Investigation, page_size, parsed, request_id};
use crate::{
    error::Refusal,
    indicator::{Attributed, Kind},
    investigation::{self, Explained, InvestigationId, NewInvestigation, State, Status, Subject, Target},
    principals,
    severity::{Assessed, Reason},
    store::{Cursor, Field, Filter, Order, StoreError},
};

const MAX_PAGE: u32 = 100;

impl Investigation {
    pub(super) async fn start(
        &self,
        graph: &GraphArn,
        principal: String,
        message: &api::StartInvestigationRequest,
    ) -> Result<api::StartInvestigationResponse, Refusal> {
        let now = self.clock.now();
        let scope = window_from_proto("scope", message.scope.as_ref())?.ok_or_else(|| Refusal::field("scope", "is required"))?;
        let started = NewInvestigation { target: target(message)?, scope, principal, request: request_id(&message.request_id)? };
        investigation::check_scope(scope, now).map_err(|reason| Refusal::field("scope", reason))?;
        if let Target::Finding(id) = &started.target {
            let finding = self.graphs.open(graph).finding(id).await?.ok_or(Refusal::Store(StoreError::NotFound("finding")))?;
            principals::time_of(&finding, scope).ok_or_else(|| Refusal::field("scope", "the finding was not active in it"))?;
        }
        let id = self.store.start_investigation(graph, &started, now, self.running_limit).await?;
        self.started.notify_one();
        Ok(api::StartInvestigationResponse { investigation_id: id.to_string() })
    }

    pub(super) async fn get(&self, graph: &GraphArn, message: &api::GetInvestigationRequest) -> Result<api::GetInvestigationResponse, Refusal> {
        let Explained { investigation, report } = self.store.investigation(graph, &parsed("investigation_id", &message.investigation_id)?).await?;
        Ok(api::GetInvestigationResponse {
            investigation: Some(to_proto(graph, &investigation)),
            points: report.whole.points,
            reasons: report.whole.reasons.iter().map(reason).collect(),
            principals: report.principals.iter().map(principal).collect(),
        })
    }

    pub(super) async fn list(&self, graph: &GraphArn, mut message: api::ListInvestigationsRequest) -> Result<api::ListInvestigationsResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_PAGE)?;
        let scope = Scope::new("ListInvestigations", &message.graph_arn, message.encode_to_vec());
        let (filter, order) = (filter(&message)?, order(&message)?);
        let after: Option<Cursor> = self.page_tokens.resume(&token, &scope)?;
        let found = self.store.list_investigations(graph, &filter, order, after.as_ref(), size + 1).await?;
        let (investigations, next_page_token) = page(found, size, &self.page_tokens, &scope)?;
        Ok(api::ListInvestigationsResponse { investigations: investigations.iter().map(|found| to_proto(graph, found)).collect(), next_page_token })
    }

    pub(super) async fn update_state(
        &self,
        graph: &GraphArn,
        message: &api::UpdateInvestigationStateRequest,
    ) -> Result<api::UpdateInvestigationStateResponse, Refusal> {
        let id: InvestigationId = parsed("investigation_id", &message.investigation_id)?;
        let state = State::from_proto(message.state).ok_or_else(|| Refusal::field("state", "is required and must be a known state"))?;
        self.store.set_state(graph, &id, state).await?;
        Ok(api::UpdateInvestigationStateResponse {})
    }

    pub(super) async fn list_found(&self, graph: &GraphArn, mut message: api::ListIndicatorsRequest) -> Result<api::ListIndicatorsResponse, Refusal> {
        let token = std::mem::take(&mut message.page_token);
        let size = page_size(std::mem::take(&mut message.page_size), MAX_PAGE)?;
        let scope = Scope::new("ListIndicators", &message.graph_arn, message.encode_to_vec());
        let id: InvestigationId = parsed("investigation_id", &message.investigation_id)?;
        let kind = optional("type", message.r#type, Kind::from_proto)?;
        let after: Option<i64> = self.page_tokens.resume(&token, &scope)?;
        let found = self.store.list_indicators(graph, &id, kind, after, size + 1).await?;
        let found = found.into_iter().map(|(place, indicator)| (indicator, place)).collect();
        let (indicators, next_page_token) = page(found, size, &self.page_tokens, &scope)?;
        Ok(api::ListIndicatorsResponse { indicators: indicators.iter().map(Attributed::to_proto).collect(), next_page_token })
    }
}

/// The first `size` of what was found, and the token of what comes after.
pub(super) fn page<T, C: Serialize + DeserializeOwned>(
    mut found: Vec<(T, C)>,
    size: u32,
    tokens: &PageTokens,
    scope: &Scope,
) -> Result<(Vec<T>, String), Refusal> {
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let token = match found.last() {
        Some((_, cursor)) if more => tokens.seal(cursor, scope)?,
        _ => String::new(),
    };
    Ok((found.into_iter().map(|(item, _)| item).collect(), token))
}

/// An enum of a filter: unspecified is all.
fn optional<T>(field: &str, number: i32, read: impl Fn(i32) -> Option<T>) -> Result<Option<T>, Refusal> {
    match number {
        0 => Ok(None),
        number => read(number).map(Some).ok_or_else(|| Refusal::field(field, "must be a known value")),
    }
}

fn filter(message: &api::ListInvestigationsRequest) -> Result<Filter, Refusal> {
    let time = |field: &str, time: Option<&prost_types::Timestamp>| -> Result<Option<Timestamp>, Refusal> {
        Ok(time.map(|time| time_from_proto(field, time)).transpose()?)
    };
    let target = match (message.entity_arn.as_str(), &message.entity) {
        ("", None) => None,
        ("", Some(entity)) => Some(of_entity(entity)?),
        (arn, None) => Some(parsed::<Subject>("entity_arn", arn)?.into()),
        _ => return Err(Refusal::field("entity", "must not be given together with `entity_arn`")),
    };
    Ok(Filter {
        severity: optional("severity", message.severity, severity_from_proto)?,
        status: optional("status", message.status, Status::from_proto)?,
        state: optional("state", message.state, State::from_proto)?,
        target,
        from: time("start_time", message.start_time.as_ref())?,
        to: time("end_time", message.end_time.as_ref())?,
    })
}

/// What is to be investigated.
fn target(message: &api::StartInvestigationRequest) -> Result<Target, Refusal> {
    match (message.entity_arn.as_str(), &message.entity, message.whole_graph) {
        // Amazon's API has this one alone.
        (arn, None, false) => Ok(parsed::<Subject>("entity_arn", arn)?.into()),
        ("", Some(entity), false) => of_entity(entity),
        ("", None, true) => Ok(Target::Graph),
        _ => Err(Refusal::field("entity", "only one of `entity_arn`, `entity` and `whole_graph` may be given")),
    }
}

fn of_entity(entity: &EntityKey) -> Result<Target, Refusal> {
    Target::of(entity_from_proto("entity", Some(entity))?).map_err(|error| Refusal::field("entity", error.reason))
}

fn order(message: &api::ListInvestigationsRequest) -> Result<Order, Refusal> {
    let field = match api::InvestigationField::try_from(message.sort_field) {
        Ok(api::InvestigationField::Unspecified | api::InvestigationField::CreatedTime) => Field::CreateTime,
        Ok(api::InvestigationField::Severity) => Field::Severity,
        Ok(api::InvestigationField::Status) => Field::Status,
        Err(_) => return Err(Refusal::field("sort_field", "must be a known value")),
    };
    Ok(Order { field, ascending: message.ascending })
}

const SEVERITIES: [(Severity, api::InvestigationSeverity); 5] = [
    (Severity::Informational, api::InvestigationSeverity::Informational),
    (Severity::Low, api::InvestigationSeverity::Low),
    (Severity::Medium, api::InvestigationSeverity::Medium),
    (Severity::High, api::InvestigationSeverity::High),
    (Severity::Critical, api::InvestigationSeverity::Critical),
];

fn severity_from_proto(number: i32) -> Option<Severity> {
    SEVERITIES.into_iter().find(|(_, proto)| *proto as i32 == number).map(|(severity, _)| severity)
}

fn severity_to_proto(severity: Severity) -> api::InvestigationSeverity {
    SEVERITIES.into_iter().find(|(one, _)| *one == severity).map_or(api::InvestigationSeverity::Unspecified, |(_, proto)| proto)
}

fn to_proto(graph: &GraphArn, found: &investigation::Investigation) -> api::Investigation {
    let entity = found.target.entity();
    api::Investigation {
        id: found.id.to_string(),
        graph_arn: graph.to_string(),
        entity_arn: match &entity {
            Some(entity) => Some(entity.id.clone()).filter(|id| id.starts_with("arn:")).unwrap_or_default(),
            None => graph.to_string(),
        },
        entity_type: entity.as_ref().map_or(0, |entity| entity_type_to_proto(entity.kind)),
        scope: Some(window_to_proto(found.scope)),
        status: found.status.to_proto().into(),
        severity: found.severity.map_or(api::InvestigationSeverity::Unspecified, severity_to_proto).into(),
        state: found.state.to_proto().into(),
        create_time: Some(time_to_proto(found.create_time)),
        entity: entity.as_ref().map(entity_to_proto),
        principals_done: found.progress.done,
        principals_total: found.progress.total,
        principals_left_out: found.progress.left_out,
    }
}

fn reason(reason: &Reason) -> api::SeverityReason {
    api::SeverityReason { points: reason.points, description: reason.text.clone(), r#type: reason.kind.map_or(0, |kind| kind.to_proto().into()) }
}

fn principal(assessed: &Assessed) -> api::InvestigatedPrincipal {
    let Assessed { principal, assessment } = assessed;
    api::InvestigatedPrincipal {
        entity: principal.parse().ok().as_ref().map(entity_to_proto),
        severity: severity_to_proto(assessment.severity()).into(),
        points: assessment.points,
        reasons: assessment.reasons.iter().map(reason).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_agree_with_the_messages_by_name() {
        for (severity, proto) in SEVERITIES {
            assert_eq!(proto.as_str_name(), format!("INVESTIGATION_SEVERITY_{}", severity.as_str()));
            assert_eq!((severity_to_proto(severity), severity_from_proto(proto as i32)), (proto, Some(severity)));
        }
        assert_eq!((severity_from_proto(0), severity_from_proto(6)), (None, None));
    }
}
