//! The graph service's RPCs: decode, call, encode.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use gumshoe_api::{
    convert::{self, FieldError},
    graph::v1::{self as proto, graph_service_server::GraphService},
};
use gumshoe_enrich::Places;
use gumshoe_lake::{GraphLake, Lake};
use gumshoe_model::{EntityKey, GraphArn, Timestamp, time::MICROS_PER_HOUR};
use gumshoe_profiles::{Key, Profiles};
use gumshoe_runtime::{
    clock::Clock,
    page::{PageTokens, Scope},
    status::{self, Failure},
    token::Caller,
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};
use tonic::{Request, Response, Status};

use crate::{
    chain, events, findings,
    hot::{Hot, HotGraph},
    neighbors, profile, risk,
    rows::{self, Answer, KEPT},
    rules::Rules,
    search, statistics,
};

pub(crate) mod administration;
pub(crate) mod analysis;
pub(crate) mod behavior;
pub(crate) mod hot;
pub(crate) mod page;
pub(crate) mod rules;
mod watch;

use page::Page;

/// Risks are as of a time rounded down to this, so that callers within it share one.
const RISK_GRAIN_MICROS: i64 = 60_000_000;
/// Entities of one batch whose risk of the past is computed at the same time.
const RISK_READERS: usize = 4;

/// Reads one lake for many graphs.
#[derive(Clone)]
pub struct Graph {
    lake: Arc<Lake>,
    hot: Arc<Hot>,
    profiles: Arc<Profiles>,
    rules: Arc<Rules>,
    places: Arc<Places>,
    pages: PageTokens,
    clock: Arc<dyn Clock>,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn field(error: FieldError) -> Failure {
    status::invalid_argument(&error.field, error.reason)
}

fn boxed<T: 'static>(stream: impl Stream<Item = Answer<T>> + Send + 'static) -> Response<Streamed<T>> {
    Response::new(Box::pin(stream.map(|item| item.map_err(Status::from))))
}

/// Page tokens of one listing.
struct Listing<'a> {
    tokens: &'a PageTokens,
    scope: Scope,
}

impl Listing<'_> {
    fn resume<C: DeserializeOwned>(&self, token: &str) -> Answer<Option<C>> {
        self.tokens.resume(token, &self.scope)
    }

    fn finish<T, C: Serialize>(&self, page: Page<T, C>) -> Answer<(Vec<T>, String)> {
        let token = page.next.map_or(Ok(String::new()), |cursor| self.tokens.seal(&cursor, &self.scope))?;
        Ok((page.items, token))
    }
}

impl Graph {
    /// A service over `lake`; answers that take long are kept in `profiles`, and what risk is made of in `hot`.
    pub(crate) fn new(
        lake: Arc<Lake>,
        hot: Arc<Hot>,
        profiles: Arc<Profiles>,
        rules: Arc<Rules>,
        places: Arc<Places>,
        pages: PageTokens,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { lake, hot, profiles, rules, places, pages, clock }
    }

    /// The graph that the caller may use; the request's body must name the same.
    async fn open<T>(&self, request: &Request<T>, arn: impl Fn(&T) -> &str) -> Result<(GraphArn, Arc<GraphLake>), Status> {
        let graph = Caller::of(request)?.require_graph(arn(request.get_ref()))?;
        let lake = self.lake.graph(&graph).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        Ok((graph, lake))
    }

    /// Tokens bound to a method, a graph and all of the request but its page fields, which the caller has cleared.
    fn listing(&self, method: &str, graph: &GraphArn, filter: &impl Message) -> Listing<'_> {
        Listing { tokens: &self.pages, scope: Scope::new(method, &graph.to_string(), filter.encode_to_vec()) }
    }

    /// The answer to `request` as of the lake's version: kept, or built once for all who ask.
    async fn kept<T: Message + Default, F: Future<Output = Answer<T>>>(
        &self,
        kind: &'static str,
        graph: &GraphArn,
        version: u64,
        request: &impl Message,
        build: impl Fn() -> F,
    ) -> Answer<T> {
        let key = Key::new(graph, kind, version, &request.encode_to_vec());
        let encoded = async { build().await.map(|answer| Bytes::from(answer.encode_to_vec())) };
        let bytes = self.profiles.get_or_build(&key, KEPT, encoded).await?;
        match T::decode(bytes) {
            Ok(answer) => Ok(answer),
            // The store is shared and not ours alone: what it gives back may be anything.
            Err(error) => {
                tracing::warn!(%key, %error, "a kept answer cannot be read");
                let answer = build().await?;
                self.profiles.put(&key, answer.encode_to_vec().into(), KEPT).await;
                Ok(answer)
            }
        }
    }

    /// The hot profiles of a graph.
    async fn hot(&self, graph: &GraphArn) -> Answer<Arc<HotGraph>> {
        match self.hot.graph(graph) {
            Some(hot) => Ok(hot),
            None => self.hot.open(&self.lake.graph(graph).await.map_err(rows::failure)?).await,
        }
    }

    fn now(&self) -> Timestamp {
        grain(self.clock.now())
    }

    /// The risks of entities at `time`, by default now.
    async fn risks(&self, graph: &GraphArn, entities: &[EntityKey], time: Option<&prost_types::Timestamp>) -> Answer<Vec<Arc<proto::Risk>>> {
        let now = self.now();
        let time = time.map(|time| convert::time_from_proto("time", time)).transpose().map_err(field)?.map_or(now, grain);
        // A little ahead, for clocks that differ; what lies further ahead has other bounds.
        if (now.0..=now.0 + MICROS_PER_HOUR).contains(&time.0) {
            return risk::now(&*self.hot(graph).await?, entities, time).await;
        }
        let lake = self.lake.graph(graph).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        let watchlist = self.hot.watchlist(graph).await.map_err(|error| behavior::failure(&error))?;
        let (lake, version, watchlist) = (&*lake, lake.version(), &watchlist);
        let past = |entity: EntityKey| async move {
            // The answer depends on the watchlist, too.
            let graph_arn = format!("watchlist {}", watchlist.version);
            let request = proto::GetRiskRequest { graph_arn, entity: Some(convert::entity_to_proto(&entity)), time: Some(convert::time_to_proto(time)) };
            self.kept("risk", graph, version, &request, || risk::at(lake, &self.places, watchlist, &entity, time)).await.map(Arc::new)
        };
        stream::iter(entities.to_vec()).map(past).buffered(RISK_READERS).try_collect().await
    }
}

/// The one answer to one question.
fn one(risks: Vec<Arc<proto::Risk>>) -> Answer<proto::Risk> {
    risks.into_iter().next().map(Arc::unwrap_or_clone).ok_or_else(|| status::unavailable("the risk"))
}

fn entities(entities: &[gumshoe_api::common::v1::EntityKey]) -> Answer<Vec<EntityKey>> {
    let entity = |(index, entity)| convert::entity_from_proto(&format!("entities[{index}]"), Some(entity)).map_err(field);
    entities.iter().enumerate().map(entity).collect()
}

/// The time rounded down, so that callers within a grain share one.
fn grain(time: Timestamp) -> Timestamp {
    Timestamp(time.0 - time.0.rem_euclid(RISK_GRAIN_MICROS))
}

fn event_filter(filter: Option<proto::EventFilter>) -> Answer<events::Filter> {
    let filter = filter.unwrap_or_default();
    let entity = filter.entity.as_ref().map(|entity| convert::entity_from_proto("filter.entity", Some(entity))).transpose().map_err(field)?;
    let kind = match filter.kind {
        0 => None,
        kind => Some(convert::record_kind_from_proto(kind).ok_or_else(|| status::invalid_argument("filter.kind", "must be a known record kind"))?),
    };
    if !(0..=65_535).contains(&filter.port) {
        return Err(status::invalid_argument("filter.port", "must lie between 0 and 65535"));
    }
    let rule = filter.rule_id.to_ascii_lowercase();
    if !matches!(rule.as_str(), "" | "*") && rule.parse::<uuid::Uuid>().map(|id| id.to_string()).ok().as_deref() != Some(&*rule) {
        return Err(status::invalid_argument("filter.rule_id", "must be the id of a rule, or `*`"));
    }
    Ok(events::Filter {
        entity,
        scope: convert::window_from_proto("filter.scope", filter.scope.as_ref()).map_err(field)?,
        kind,
        service: filter.service,
        operation: filter.operation,
        address: filter.address,
        user_agent: filter.user_agent,
        error: filter.error,
        event_id: filter.event_id,
        port: filter.port,
        rule,
    })
}

fn optional_type(name: &str, number: i32) -> Answer<Option<gumshoe_model::EntityType>> {
    match number {
        0 => Ok(None),
        number => convert::entity_type_from_proto(number).map(Some).ok_or_else(|| status::invalid_argument(name, "must be a known entity type")),
    }
}

#[tonic::async_trait]
impl GraphService for Graph {
    async fn get_entity_profile(&self, request: Request<proto::GetEntityProfileRequest>) -> Result<Response<proto::GetEntityProfileResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let body = request.into_inner();
        let entity = convert::entity_from_proto("entity", body.entity.as_ref()).map_err(field)?;
        let scope = convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?;
        let size = page::page_size("list_size", body.list_size, 50)?;
        let build = || profile::read(&lake, &self.profiles, &self.places, &entity, scope, size);
        let profile = self.kept("profile", &graph, lake.version(), &body, build).await?;
        Ok(Response::new(proto::GetEntityProfileResponse { profile: Some(profile) }))
    }

    async fn search_entities(&self, request: Request<proto::SearchEntitiesRequest>) -> Result<Response<proto::SearchEntitiesResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 50)?;
        let unknown = || status::invalid_argument("types", "must be known entity types");
        let kinds = body.types.iter().map(|number| convert::entity_type_from_proto(*number).ok_or_else(unknown)).collect::<Answer<Vec<_>>>()?;
        let listing = self.listing("SearchEntities", &graph, &body);
        let page = search::search(&lake, &body.text, &kinds, size, listing.resume(&token)?).await?;
        let (entities, next_page_token) = listing.finish(page)?;
        Ok(Response::new(proto::SearchEntitiesResponse { entities, next_page_token }))
    }

    async fn list_neighbors(&self, request: Request<proto::ListNeighborsRequest>) -> Result<Response<proto::ListNeighborsResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 100)?;
        let unknown = || status::invalid_argument("relations", "must be known relations");
        let filter = neighbors::Filter {
            entity: convert::entity_from_proto("entity", body.entity.as_ref()).map_err(field)?,
            scope: convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?,
            relations: body.relations.iter().map(|number| convert::relation_from_proto(*number).ok_or_else(unknown)).collect::<Answer<_>>()?,
            peer_type: optional_type("peer_type", body.peer_type)?,
            side: match proto::Direction::try_from(body.direction) {
                Ok(proto::Direction::Unspecified) => None,
                Ok(proto::Direction::Out) => Some("out"),
                Ok(proto::Direction::In) => Some("in"),
                Err(_) => return Err(status::invalid_argument("direction", "must be a known direction").into()),
            },
        };
        let listing = self.listing("ListNeighbors", &graph, &body);
        let page = neighbors::list(&lake, &filter, size, listing.resume(&token)?).await?;
        let (neighbors, next_page_token) = listing.finish(page)?;
        Ok(Response::new(proto::ListNeighborsResponse { neighbors, next_page_token }))
    }

    async fn get_role_chain(&self, request: Request<proto::GetRoleChainRequest>) -> Result<Response<proto::GetRoleChainResponse>, Status> {
        let (_, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let body = request.into_inner();
        let entity = convert::entity_from_proto("entity", body.entity.as_ref()).map_err(field)?;
        let scope = convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?;
        let depth = match body.depth {
            0 => 5,
            depth @ 1..=10 => depth,
            _ => return Err(status::invalid_argument("depth", "must lie between 1 and 10, or be 0 for the default").into()),
        };
        let chain = chain::follow(&lake, &entity, scope, depth).await?;
        Ok(Response::new(proto::GetRoleChainResponse { steps: chain.steps, truncated: chain.truncated }))
    }

    async fn list_events(&self, request: Request<proto::ListEventsRequest>) -> Result<Response<proto::ListEventsResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 100)?;
        let listing = self.listing("ListEvents", &graph, &body);
        let filter = event_filter(body.filter)?;
        let page = events::list(&lake, &filter, size, listing.resume(&token)?, !body.omit_raw, &self.rules.of(&graph).await.set).await?;
        let (events, next_page_token) = listing.finish(page)?;
        Ok(Response::new(proto::ListEventsResponse { events, next_page_token }))
    }

    type StreamEventsStream = Streamed<proto::StreamEventsResponse>;

    async fn stream_events(&self, request: Request<proto::StreamEventsRequest>) -> Result<Response<Self::StreamEventsStream>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let filter = event_filter(request.into_inner().filter)?;
        let rules = Arc::clone(&self.rules.of(&graph).await.set);
        Ok(boxed(events::all(&lake, &filter, rules).await?))
    }

    async fn list_findings(&self, request: Request<proto::ListFindingsRequest>) -> Result<Response<proto::ListFindingsResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 50)?;
        let listing = self.listing("ListFindings", &graph, &body);
        for (name, severity) in [("min_severity", body.min_severity), ("max_severity", body.max_severity.unwrap_or(10.0))] {
            if !(0.0..=10.0).contains(&severity) {
                return Err(status::invalid_argument(name, "must lie between 0 and 10").into());
            }
        }
        if body.max_severity.is_some_and(|most| most < body.min_severity) {
            return Err(status::invalid_argument("max_severity", "must not be less than `min_severity`").into());
        }
        for (name, pattern) in [("type_pattern", &body.type_pattern), ("product_pattern", &body.product_pattern)] {
            if pattern.chars().count() > search::MAX_TEXT {
                return Err(status::invalid_argument(name, "must have at most 512 characters").into());
            }
        }
        if body.ids.len() > 100 {
            return Err(status::invalid_argument("ids", "must be at most 100").into());
        }
        let account = Some(&body.account_id).filter(|id| !id.is_empty()).map(|id| id.parse()).transpose();
        let filter = findings::Filter {
            scope: convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?,
            min_severity: body.min_severity,
            account: account.map_err(|error: gumshoe_model::Invalid| status::invalid_argument("account_id", error.reason))?,
            entity: body.entity.as_ref().map(|entity| convert::entity_from_proto("entity", Some(entity))).transpose().map_err(field)?,
            include_archived: body.include_archived,
            max_severity: body.max_severity,
            type_prefix: body.type_prefix,
            type_pattern: body.type_pattern,
            product_pattern: body.product_pattern,
            ids: body.ids,
        };
        let page = findings::list(&lake, &filter, size, listing.resume(&token)?).await?;
        let (findings, next_page_token) = listing.finish(page)?;
        Ok(Response::new(proto::ListFindingsResponse { findings, next_page_token }))
    }

    async fn get_finding(&self, request: Request<proto::GetFindingRequest>) -> Result<Response<proto::GetFindingResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let id = request.into_inner().id;
        if id.is_empty() {
            return Err(status::invalid_argument("id", "is required").into());
        }
        let risk = |entity| {
            let graph = &graph;
            async move { one(self.risks(graph, &[entity], None).await?) }
        };
        let finding = findings::get(&lake, &self.places, &id, risk).await?;
        Ok(Response::new(finding))
    }

    async fn get_risk(&self, request: Request<proto::GetRiskRequest>) -> Result<Response<proto::GetRiskResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let body = request.into_inner();
        let entity = convert::entity_from_proto("entity", body.entity.as_ref()).map_err(field)?;
        let risk = one(self.risks(&graph, &[entity], body.time.as_ref()).await?)?;
        Ok(Response::new(proto::GetRiskResponse { risk: Some(risk) }))
    }

    async fn batch_get_risk(&self, request: Request<proto::BatchGetRiskRequest>) -> Result<Response<proto::BatchGetRiskResponse>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let body = request.into_inner();
        if !(1..=100).contains(&body.entities.len()) {
            return Err(status::invalid_argument("entities", "must be 1 to 100").into());
        }
        let entities = entities(&body.entities)?;
        let risks = self.risks(&graph, &entities, body.time.as_ref()).await?.into_iter().map(Arc::unwrap_or_clone).collect();
        Ok(Response::new(proto::BatchGetRiskResponse { risks }))
    }

    type WatchRiskStream = Streamed<proto::WatchRiskResponse>;

    async fn watch_risk(&self, request: Request<proto::WatchRiskRequest>) -> Result<Response<Self::WatchRiskStream>, Status> {
        let graph = Caller::of(&request)?.require_graph(&request.get_ref().graph_arn)?;
        let which = watch::Which::of(request.get_ref())?;
        Ok(boxed(watch::Watch::start(self.clone(), graph, which).await?))
    }

    async fn list_dead_letters(&self, request: Request<proto::ListDeadLettersRequest>) -> Result<Response<proto::ListDeadLettersResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let mut body = request.into_inner();
        let token = std::mem::take(&mut body.page_token);
        let size = page::page_size("page_size", std::mem::take(&mut body.page_size), 100)?;
        let listing = self.listing("ListDeadLetters", &graph, &body);
        let page = statistics::dead_letters(&lake, &body.source_object, size, listing.resume(&token)?).await?;
        let (dead_letters, next_page_token) = listing.finish(page)?;
        Ok(Response::new(proto::ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn get_graph_statistics(&self, request: Request<proto::GetGraphStatisticsRequest>) -> Result<Response<proto::GetGraphStatisticsResponse>, Status> {
        let (graph, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let statistics = self.kept("statistics", &graph, lake.version(), request.get_ref(), || statistics::read(&lake)).await?;
        Ok(Response::new(statistics))
    }

    type StreamEdgesStream = Streamed<proto::StreamEdgesResponse>;

    async fn stream_edges(&self, request: Request<proto::StreamEdgesRequest>) -> Result<Response<Self::StreamEdgesStream>, Status> {
        let (_, lake) = self.open(&request, |body| &body.graph_arn).await?;
        let scope = convert::window_from_proto("scope", request.get_ref().scope.as_ref()).map_err(field)?;
        Ok(boxed(statistics::edges(&lake, scope).await?))
    }
}
