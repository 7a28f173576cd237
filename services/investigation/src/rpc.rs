//! The gRPC service: decode, call, encode. Everything is held to the graph that the call was allowed for.

use std::{str::FromStr, sync::Arc};

use gumshoe_api::{
    convert::{FieldError, time_to_proto},
    investigation::v1::{
        self as api,
        finding_group_service_server::FindingGroupServiceServer,
        investigation_service_server::{InvestigationService, InvestigationServiceServer},
    },
};
use gumshoe_model::{GraphArn, Invalid};
use gumshoe_runtime::{Caller, Clock, PageTokens, Scope};
use tokio::sync::Notify;
use tonic::{Request, Response, Status, service::Routes};

use crate::{
    config::Config,
    error::Refusal,
    store::Store,
    suppression::Decision,
    verdict::{FindingId, Kind, NewVerdict, RequestId, Verdict},
};

pub mod graph;
mod groups;
mod investigations;
mod triage;

use graph::Graphs;

/// Full names of the services, for health.
pub const NAMES: &[&str] = &["gumshoe.investigation.v1.InvestigationService", "gumshoe.investigation.v1.FindingGroupService"];

/// Only the gateway has checked a principal's policies.
const GATEWAY: &str = "gateway";
const DEFAULT_PAGE: u32 = 50;
const MAX_PAGE: u32 = 200;
const MAX_BATCH: usize = 100;

/// The service's state; clones share it.
#[derive(Clone)]
pub struct Investigation {
    store: Arc<dyn Store>,
    graphs: Graphs,
    clock: Arc<dyn Clock>,
    page_tokens: PageTokens,
    running_limit: u32,
    /// Whether verdicts are given back to the products that reported the findings.
    feedback: bool,
    started: Arc<Notify>,
    decided: Arc<Notify>,
}

impl Investigation {
    /// Puts the parts together. `started` is told of each new investigation, `decided` of each new verdict.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        graphs: Graphs,
        clock: Arc<dyn Clock>,
        page_tokens: PageTokens,
        config: &Config,
        started: Arc<Notify>,
        decided: Arc<Notify>,
    ) -> Self {
        let (running_limit, feedback) = (config.investigations.running_limit, config.feedback.enabled);
        Self { store, graphs, clock, page_tokens, running_limit, feedback, started, decided }
    }

    /// The services.
    #[must_use]
    pub fn routes(&self, max_message_bytes: usize) -> Routes {
        Routes::new(InvestigationServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
            .add_service(FindingGroupServiceServer::new(self.clone()).max_decoding_message_size(max_message_bytes))
    }
}

#[tonic::async_trait]
impl InvestigationService for Investigation {
    async fn search_findings(&self, request: Request<api::SearchFindingsRequest>) -> Result<Response<api::SearchFindingsResponse>, Status> {
        let graph = authorized(&request, "detective:SearchGraph", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.search(&graph, request.into_inner()).await?))
    }

    async fn create_verdict(&self, request: Request<api::CreateVerdictRequest>) -> Result<Response<api::CreateVerdictResponse>, Status> {
        let graph = authorized(&request, "gumshoe:CreateVerdict", &request.get_ref().graph_arn)?;
        let author = Caller::of(&request)?.principal.clone();
        let message = request.into_inner();
        let verdict = NewVerdict {
            finding: parsed("finding_id", &message.finding_id)?,
            kind: Kind::from_proto(message.kind).ok_or_else(|| Refusal::field("kind", "is required and must be a known kind"))?,
            note: parsed("note", &message.note)?,
            author,
            request: request_id(&message.request_id)?,
        };
        let verdict = self.store.create_verdict(&graph, &verdict, self.feedback, self.clock.now()).await.map_err(Refusal::from)?;
        self.decided.notify_one();
        Ok(Response::new(api::CreateVerdictResponse { verdict: Some(verdict_to_proto(&verdict)) }))
    }

    async fn batch_get_verdicts(&self, request: Request<api::BatchGetVerdictsRequest>) -> Result<Response<api::BatchGetVerdictsResponse>, Status> {
        let graph = authorized(&request, "detective:SearchGraph", &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        if !(1..=MAX_BATCH).contains(&message.finding_ids.len()) {
            return Err(Refusal::field("finding_ids", format!("must hold 1 to {MAX_BATCH} findings")).into());
        }
        let findings: Vec<FindingId> =
            message.finding_ids.iter().enumerate().map(|(index, id)| parsed(&format!("finding_ids[{index}]"), id)).collect::<Result<_, _>>()?;
        let in_force = self.store.verdicts_in_force(&graph, &findings).await.map_err(Refusal::from)?;
        let verdicts = findings.iter().filter_map(|finding| in_force.get(finding)).map(verdict_to_proto).collect();
        Ok(Response::new(api::BatchGetVerdictsResponse { verdicts }))
    }

    async fn list_verdicts(&self, request: Request<api::ListVerdictsRequest>) -> Result<Response<api::ListVerdictsResponse>, Status> {
        let graph = authorized(&request, "detective:SearchGraph", &request.get_ref().graph_arn)?;
        let message = request.into_inner();
        let finding: FindingId = parsed("finding_id", &message.finding_id)?;
        let limit = page_size(message.page_size, MAX_PAGE)?;
        let scope = Scope::new("ListVerdicts", &message.graph_arn, &message.finding_id);
        let before: Option<i64> = self.page_tokens.resume(&message.page_token, &scope)?;
        let mut verdicts = self.store.list_verdicts(&graph, &finding, before, limit + 1).await.map_err(Refusal::from)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = verdicts.len() > limit;
        verdicts.truncate(limit);
        let next_page_token = match verdicts.last() {
            Some(last) if more => self.page_tokens.seal(&last.sequence, &scope)?,
            _ => String::new(),
        };
        Ok(Response::new(api::ListVerdictsResponse { verdicts: verdicts.iter().map(verdict_to_proto).collect(), next_page_token }))
    }

    async fn list_suppressions(&self, request: Request<api::ListSuppressionsRequest>) -> Result<Response<api::ListSuppressionsResponse>, Status> {
        let graph = authorized(&request, "detective:SearchGraph", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.suppressions(&graph, request.into_inner()).await?))
    }

    async fn accept_suppression(&self, request: Request<api::AcceptSuppressionRequest>) -> Result<Response<api::AcceptSuppressionResponse>, Status> {
        let graph = authorized(&request, "gumshoe:AcceptSuppression", &request.get_ref().graph_arn)?;
        let suppression = self.decide(&graph, &request, &request.get_ref().suppression_id, Decision::Accept).await?;
        Ok(Response::new(api::AcceptSuppressionResponse { suppression: Some(suppression) }))
    }

    async fn dismiss_suppression(&self, request: Request<api::DismissSuppressionRequest>) -> Result<Response<api::DismissSuppressionResponse>, Status> {
        let graph = authorized(&request, "gumshoe:DismissSuppression", &request.get_ref().graph_arn)?;
        let suppression = self.decide(&graph, &request, &request.get_ref().suppression_id, Decision::Dismiss).await?;
        Ok(Response::new(api::DismissSuppressionResponse { suppression: Some(suppression) }))
    }

    async fn delete_suppression(&self, request: Request<api::DeleteSuppressionRequest>) -> Result<Response<api::DeleteSuppressionResponse>, Status> {
        let graph = authorized(&request, "gumshoe:DeleteSuppression", &request.get_ref().graph_arn)?;
        let suppression = self.decide(&graph, &request, &request.get_ref().suppression_id, Decision::Delete).await?;
        Ok(Response::new(api::DeleteSuppressionResponse { suppression: Some(suppression) }))
    }

    async fn start_investigation(&self, request: Request<api::StartInvestigationRequest>) -> Result<Response<api::StartInvestigationResponse>, Status> {
        let graph = authorized(&request, "detective:StartInvestigation", &request.get_ref().graph_arn)?;
        let principal = Caller::of(&request)?.principal.clone();
        Ok(Response::new(self.start(&graph, principal, &request.into_inner()).await?))
    }

    async fn get_investigation(&self, request: Request<api::GetInvestigationRequest>) -> Result<Response<api::GetInvestigationResponse>, Status> {
        let graph = authorized(&request, "detective:GetInvestigation", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.get(&graph, &request.into_inner()).await?))
    }

    async fn list_investigations(&self, request: Request<api::ListInvestigationsRequest>) -> Result<Response<api::ListInvestigationsResponse>, Status> {
        let graph = authorized(&request, "detective:ListInvestigations", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.list(&graph, request.into_inner()).await?))
    }

    async fn update_investigation_state(
        &self,
        request: Request<api::UpdateInvestigationStateRequest>,
    ) -> Result<Response<api::UpdateInvestigationStateResponse>, Status> {
        let graph = authorized(&request, "detective:UpdateInvestigationState", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.update_state(&graph, &request.into_inner()).await?))
    }

    async fn list_indicators(&self, request: Request<api::ListIndicatorsRequest>) -> Result<Response<api::ListIndicatorsResponse>, Status> {
        let graph = authorized(&request, "detective:ListIndicators", &request.get_ref().graph_arn)?;
        Ok(Response::new(self.list_found(&graph, request.into_inner()).await?))
    }
}

/// The graph that the gateway has allowed this very action on.
fn authorized<T>(request: &Request<T>, action: &str, graph_arn: &str) -> Result<GraphArn, Refusal> {
    let caller = Caller::of(request)?;
    caller.require_issuer(&[GATEWAY])?;
    if caller.action != action {
        return Err(Refusal::Action);
    }
    Ok(caller.require_graph(graph_arn)?)
}

fn parsed<T: FromStr<Err = Invalid>>(field: &str, value: &str) -> Result<T, Refusal> {
    value.parse().map_err(|error: Invalid| Refusal::Field(FieldError::new(field, error.reason)))
}

fn request_id(text: &str) -> Result<Option<RequestId>, Refusal> {
    Some(text).filter(|text| !text.is_empty()).map(|text| parsed("request_id", text)).transpose()
}

fn page_size(size: i32, most: u32) -> Result<u32, Refusal> {
    match u32::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) if size <= most => Ok(size),
        _ => Err(Refusal::field("page_size", format!("must be 0 to {most}"))),
    }
}

fn verdict_to_proto(verdict: &Verdict) -> api::Verdict {
    let NewVerdict { finding, kind, note, author, .. } = &verdict.content;
    api::Verdict {
        id: verdict.id.clone(),
        finding_id: finding.as_str().to_owned(),
        kind: kind.to_proto().into(),
        note: note.as_str().to_owned(),
        author_arn: author.clone(),
        create_time: Some(time_to_proto(verdict.create_time)),
        delivery: verdict.delivery.as_ref().map(|delivery| api::Delivery {
            state: delivery.state.to_proto().into(),
            reason: delivery.reason.clone(),
            attempts: delivery.attempts,
            update_time: Some(time_to_proto(delivery.time)),
        }),
    }
}
