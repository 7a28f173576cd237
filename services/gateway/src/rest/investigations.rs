//! Investigations and what they have found.

use gumshoe_api::{
    common::v1::{EntityType, TimeRange},
    convert::time_to_proto,
    investigation::v1::{
        GetInvestigationRequest, IndicatorType, Investigation, InvestigationField, InvestigationSeverity, InvestigationState, InvestigationStatus,
        ListIndicatorsRequest, ListInvestigationsRequest, StartInvestigationRequest, UpdateInvestigationStateRequest,
    },
};
use serde::Serialize;

use super::{
    call::{Call, Outcome, done, reply},
    shapes::{given, name, time},
    validate::{Input, Text},
};

mod indicator;

use indicator::Indicator;

/// The same in every attempt of one call.
const INVOCATION_ID: &str = "amz-sdk-invocation-id";
const MAX_REQUEST_ID: usize = 64;

const SEVERITIES: [(&str, InvestigationSeverity); 5] = [
    ("INFORMATIONAL", InvestigationSeverity::Informational),
    ("LOW", InvestigationSeverity::Low),
    ("MEDIUM", InvestigationSeverity::Medium),
    ("HIGH", InvestigationSeverity::High),
    ("CRITICAL", InvestigationSeverity::Critical),
];
const STATUSES: [(&str, InvestigationStatus); 3] =
    [("RUNNING", InvestigationStatus::Running), ("FAILED", InvestigationStatus::Failed), ("SUCCESSFUL", InvestigationStatus::Successful)];
const STATES: [(&str, InvestigationState); 2] = [("ACTIVE", InvestigationState::Active), ("ARCHIVED", InvestigationState::Archived)];
const FIELDS: [(&str, InvestigationField); 3] =
    [("SEVERITY", InvestigationField::Severity), ("STATUS", InvestigationField::Status), ("CREATED_TIME", InvestigationField::CreatedTime)];
const ORDERS: [(&str, bool); 2] = [("ASC", true), ("DESC", false)];
const INDICATORS: [(&str, IndicatorType); 8] = [
    ("TTP_OBSERVED", IndicatorType::TtpObserved),
    ("IMPOSSIBLE_TRAVEL", IndicatorType::ImpossibleTravel),
    ("FLAGGED_IP_ADDRESS", IndicatorType::FlaggedIpAddress),
    ("NEW_GEOLOCATION", IndicatorType::NewGeolocation),
    ("NEW_ASO", IndicatorType::NewAso),
    ("NEW_USER_AGENT", IndicatorType::NewUserAgent),
    ("RELATED_FINDING", IndicatorType::RelatedFinding),
    ("RELATED_FINDING_GROUP", IndicatorType::RelatedFindingGroup),
];

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StartInvestigationResponse {
    investigation_id: String,
}

/// `GetInvestigationResponse`, and without the first three `InvestigationDetail`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    graph_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_start_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope_end_time: Option<String>,
    investigation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entity_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    severity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListInvestigationsResponse {
    investigation_details: Vec<Detail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListIndicatorsResponse {
    graph_arn: String,
    investigation_id: String,
    indicators: Vec<Indicator>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

impl Detail {
    fn whole(investigation: Investigation) -> Self {
        let scope = investigation.scope.unwrap_or_default();
        Self {
            graph_arn: Some(investigation.graph_arn.clone()),
            scope_start_time: time(scope.start_time.as_ref()),
            scope_end_time: time(scope.end_time.as_ref()),
            ..Self::listed(investigation)
        }
    }

    fn listed(investigation: Investigation) -> Self {
        Self {
            graph_arn: None,
            scope_start_time: None,
            scope_end_time: None,
            entity_type: match investigation.entity_type() {
                EntityType::User => Some("IAM_USER"),
                EntityType::Role => Some("IAM_ROLE"),
                _ => None,
            },
            created_time: time(investigation.create_time.as_ref()),
            status: name(investigation.status().as_str_name(), "INVESTIGATION_STATUS_"),
            severity: name(investigation.severity().as_str_name(), "INVESTIGATION_SEVERITY_"),
            state: name(investigation.state().as_str_name(), "INVESTIGATION_STATE_"),
            investigation_id: investigation.id,
            // Over gRPC, things that have none can be investigated too.
            entity_arn: given(investigation.entity_arn),
        }
    }
}

/// `StartInvestigation`.
pub async fn start(call: &Call<'_>) -> Outcome {
    // The service takes shorter ids only; a longer one is no SDK's, and the call is then made each time anew.
    let request_id = call.facts.headers.get(INVOCATION_ID).and_then(|id| id.to_str().ok()).filter(|id| id.len() <= MAX_REQUEST_ID).unwrap_or_default();
    let request = call.read(|input| StartInvestigationRequest {
        graph_arn: input.graph(),
        entity_arn: input.required_text("EntityArn", &Text::ENTITY_ARN),
        scope: Some(TimeRange {
            start_time: Some(time_to_proto(input.required_time("ScopeStartTime"))),
            end_time: Some(time_to_proto(input.required_time("ScopeEndTime"))),
        }),
        request_id: request_id.to_owned(),
        ..StartInvestigationRequest::default()
    })?;
    let mut client = call.investigation(&request.graph_arn).await?;
    let answer = client.start_investigation(call.message(request)).await?.into_inner();
    reply(&StartInvestigationResponse { investigation_id: answer.investigation_id })
}

/// `GetInvestigation`.
pub async fn get(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| GetInvestigationRequest { graph_arn: input.graph(), investigation_id: investigation_id(input) })?;
    let mut client = call.investigation(&request.graph_arn).await?;
    let answer = client.get_investigation(call.message(request)).await?.into_inner();
    reply(&Detail::whole(answer.investigation.unwrap_or_default()))
}

/// `ListInvestigations`.
pub async fn list(call: &Call<'_>) -> Outcome {
    let request = call.read(list_request)?;
    let mut client = call.investigation(&request.graph_arn).await?;
    let answer = client.list_investigations(call.message(request)).await?.into_inner();
    let investigation_details = answer.investigations.into_iter().map(Detail::listed).collect();
    reply(&ListInvestigationsResponse { investigation_details, next_token: given(answer.next_page_token) })
}

fn list_request(input: &Input<'_>) -> ListInvestigationsRequest {
    let mut request = ListInvestigationsRequest {
        graph_arn: input.graph(),
        page_size: input.page_size(100),
        page_token: input.page_token(2_048),
        ..ListInvestigationsRequest::default()
    };
    if let Some(filtered) = input.object("FilterCriteria", |filter| {
        let created = filter.object("CreatedTime", |created| (created.required_time("StartInclusive"), created.required_time("EndInclusive")));
        let entity = filter.object("EntityArn", |entity| entity.required_text("Value", &Text::FILTER_VALUE));
        (filter_of(filter, "Severity", &SEVERITIES), filter_of(filter, "Status", &STATUSES), filter_of(filter, "State", &STATES), entity, created)
    }) {
        let (severity, status, state, entity, created) = filtered;
        request.severity = severity.unwrap_or_default().into();
        request.status = status.unwrap_or_default().into();
        request.state = state.unwrap_or_default().into();
        request.entity_arn = entity.unwrap_or_default();
        request.start_time = created.map(|(start, _)| time_to_proto(start));
        request.end_time = created.map(|(_, end)| time_to_proto(end));
    }
    if let Some((field, ascending)) = input.object("SortCriteria", |sort| (sort.choice("Field", &FIELDS), sort.choice("SortOrder", &ORDERS))) {
        request.sort_field = field.unwrap_or_default().into();
        request.ascending = ascending.unwrap_or_default();
    }
    request
}

/// A filter whose value the model leaves open, but of which only some exist.
fn filter_of<T: Copy>(filter: &Input<'_>, name: &str, choices: &[(&str, T)]) -> Option<T> {
    filter.object(name, |filter| {
        let value = filter.required_text("Value", &Text::FILTER_VALUE);
        let found = choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
        if found.is_none() && !value.is_empty() {
            filter.unknown_value("Value", choices);
        }
        found
    })?
}

/// `UpdateInvestigationState`.
pub async fn update_state(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| UpdateInvestigationStateRequest {
        graph_arn: input.graph(),
        investigation_id: investigation_id(input),
        state: input.required_choice("State", &STATES).into(),
    })?;
    let mut client = call.investigation(&request.graph_arn).await?;
    client.update_investigation_state(call.message(request)).await?;
    done()
}

/// `ListIndicators`.
pub async fn indicators(call: &Call<'_>) -> Outcome {
    let request = call.read(|input| ListIndicatorsRequest {
        graph_arn: input.graph(),
        investigation_id: investigation_id(input),
        r#type: input.choice("IndicatorType", &INDICATORS).unwrap_or_default().into(),
        page_size: input.page_size(100),
        page_token: input.page_token(2_048),
    })?;
    let (graph_arn, investigation_id) = (request.graph_arn.clone(), request.investigation_id.clone());
    let mut client = call.investigation(&request.graph_arn).await?;
    let answer = client.list_indicators(call.message(request)).await?.into_inner();
    let indicators = answer.indicators.into_iter().filter_map(Indicator::new).collect();
    reply(&ListIndicatorsResponse { graph_arn, investigation_id, indicators, next_token: given(answer.next_page_token) })
}

fn investigation_id(input: &Input<'_>) -> String {
    input.required_text("InvestigationId", &Text::INVESTIGATION_ID)
}

#[cfg(test)]
#[path = "investigations/tests.rs"]
mod tests;
