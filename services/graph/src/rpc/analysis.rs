//! The RPCs for heavy questions.

use std::sync::Arc;

use gumshoe_api::{
    convert,
    graph::v1::{
        ComputeBaselinesRequest, ComputeBaselinesResponse, HuntEventsRequest, HuntEventsResponse, PairFindingsRequest, PairFindingsResponse,
        analysis_service_server::AnalysisService,
    },
};
use gumshoe_lake::{Engine, GraphLake, Lake};
use gumshoe_runtime::{status, token::Caller};
use tonic::{Request, Response, Status};

use super::{Streamed, boxed, field};
use crate::{
    analysis::{
        baselines,
        hunt::{self, Hunt, Patterns},
        pairs,
    },
    rows::{self, Answer},
    rules::Rules,
    search,
};

/// Patterns in a list.
const MAX_PATTERNS: usize = 100;
/// Types or relations in a list.
const MAX_NAMES: usize = 32;

/// The service.
#[derive(Clone)]
pub(crate) struct Analysis {
    lake: Arc<Lake>,
    engine: Engine,
    rules: Arc<Rules>,
}

impl Analysis {
    pub(crate) fn new(lake: Arc<Lake>, engine: Engine, rules: Arc<Rules>) -> Self {
        Self { lake, engine, rules }
    }

    /// The graph that the caller may use; the request's body must name the same.
    async fn open<T>(&self, request: &Request<T>, arn: impl Fn(&T) -> &str) -> Result<Arc<GraphLake>, Status> {
        let graph = Caller::of(request)?.require_graph(arn(request.get_ref()))?;
        let lake = self.lake.graph(&graph).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        Ok(lake)
    }
}

fn patterns(name: &str, columns: &'static [&'static str], any: Vec<String>) -> Answer<Patterns> {
    if any.len() > MAX_PATTERNS {
        return Err(status::invalid_argument(name, format!("must be at most {MAX_PATTERNS}")));
    }
    for pattern in &any {
        let length = pattern.chars().count();
        if length == 0 || length > search::MAX_TEXT {
            return Err(status::invalid_argument(name, format!("must have 1 to {} characters each", search::MAX_TEXT)));
        }
    }
    Ok(Patterns { columns, any })
}

/// Numbers of an enum as what they stand for.
fn known<T>(name: &str, numbers: &[i32], from: impl Fn(i32) -> Option<T>) -> Answer<Vec<T>> {
    if numbers.len() > MAX_NAMES {
        return Err(status::invalid_argument(name, format!("must be at most {MAX_NAMES}")));
    }
    numbers.iter().map(|number| from(*number).ok_or_else(|| status::invalid_argument(name, "must be known ones"))).collect()
}

/// A number that is 0 for its default.
fn number(name: &str, given: i32, least: u32, most: u32, default: u32) -> Answer<u32> {
    match u32::try_from(given) {
        Ok(0) => Ok(default),
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(status::invalid_argument(name, format!("must be {least} to {most}, or 0 for the default"))),
    }
}

fn hunt_of(body: HuntEventsRequest) -> Answer<Hunt> {
    let kind = match body.kind {
        0 => None,
        kind => Some(convert::record_kind_from_proto(kind).ok_or_else(|| status::invalid_argument("kind", "must be a known record kind"))?),
    };
    Ok(Hunt {
        scope: convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?,
        kind,
        patterns: vec![
            patterns("services", &["service"], body.services)?,
            patterns("operations", &["operation"], body.operations)?,
            patterns("actors", hunt::ACTORS, body.actors)?,
            patterns("addresses", &["address"], body.addresses)?,
            patterns("user_agents", &["user_agent"], body.user_agents)?,
            patterns("errors", &["error"], body.errors)?,
            patterns("account_ids", &["account"], body.account_ids)?,
        ],
        limit: body.limit,
    })
}

#[tonic::async_trait]
impl AnalysisService for Analysis {
    type HuntEventsStream = Streamed<HuntEventsResponse>;

    async fn hunt_events(&self, request: Request<HuntEventsRequest>) -> Result<Response<Self::HuntEventsStream>, Status> {
        let lake = self.open(&request, |body| &body.graph_arn).await?;
        let body = request.into_inner();
        let raw = !body.omit_raw;
        let hunt = hunt_of(body)?;
        let rules = Arc::clone(&self.rules.of(lake.arn()).await.set);
        Ok(boxed(hunt::messages(&self.engine, &lake, &hunt, raw, rules).await?))
    }

    type ComputeBaselinesStream = Streamed<ComputeBaselinesResponse>;

    async fn compute_baselines(&self, request: Request<ComputeBaselinesRequest>) -> Result<Response<Self::ComputeBaselinesStream>, Status> {
        let lake = self.open(&request, |body| &body.graph_arn).await?;
        let body = request.into_inner();
        let which = baselines::Which {
            scope: convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?,
            kinds: known("entity_types", &body.entity_types, convert::entity_type_from_proto)?,
            relations: known("relations", &body.relations, convert::relation_from_proto)?,
        };
        Ok(boxed(baselines::messages(&self.engine, &lake, &which).await?))
    }

    type PairFindingsStream = Streamed<PairFindingsResponse>;

    async fn pair_findings(&self, request: Request<PairFindingsRequest>) -> Result<Response<Self::PairFindingsStream>, Status> {
        let lake = self.open(&request, |body| &body.graph_arn).await?;
        let body = request.into_inner();
        if !(0.0..=10.0).contains(&body.min_severity) {
            return Err(status::invalid_argument("min_severity", "must lie between 0 and 10").into());
        }
        let which = pairs::Which {
            scope: convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?,
            min_severity: body.min_severity,
            include_archived: body.include_archived,
            most: number("max_findings_per_entity", body.max_findings_per_entity, 2, 1_000, 20)?,
            within_hours: number("within_hours", body.within_hours, 1, 8_784, 24)?,
        };
        Ok(boxed(pairs::messages(&self.engine, &lake, &which).await?))
    }
}
