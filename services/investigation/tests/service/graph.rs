//! A graph service that says what a test has told it, and stalls, fails or is down when told to.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::Stream;
use gumshoe_api::{
    common::v1::{EntityKey, EntityType, Relation, TimeRange},
    convert::{time_from_proto, time_to_proto, window_from_proto},
    graph::v1::{
        self as proto, Activity, ActivityList, EntityProfile, Event, FindingSummary, Measures, Neighbor, Place,
        graph_administration_service_server::{GraphAdministrationService, GraphAdministrationServiceServer},
        graph_service_server::{GraphService, GraphServiceServer},
    },
};
use gumshoe_model::Timestamp;
use gumshoe_runtime::{Caller, Server, ServerOptions, Shutdown, TokenVerifier};
use gumshoe_testkit::Keys;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tonic::{Code, Request, Response, Status, service::Routes};
use url::Url;

/// What the graph holds, and what became of calls.
#[derive(Default)]
pub struct Told {
    /// Profiles by entity id, whatever the scope.
    pub profiles: HashMap<String, EntityProfile>,
    /// Records, of whomever; latest first.
    pub events: Vec<Event>,
    /// Findings, in order.
    pub findings: Vec<FindingSummary>,
    /// What findings were asked for.
    pub listings: Vec<proto::ListFindingsRequest>,
    /// How far the findings of graphs are, by ARN.
    pub versions: HashMap<String, u64>,
    /// Findings by id of which it was told whether what they tell is usual.
    pub taught: Vec<(String, bool)>,
    /// With how many principals and machines entities have to do, by id.
    pub actors: HashMap<String, u64>,
    /// What other entities are tied to, by their id, as a search for neighbours of one relation and direction gives it.
    pub neighbors: HashMap<(String, Relation, proto::Direction), Vec<EntityKey>>,
    /// What a search finds, of the types asked for.
    pub known: Vec<proto::EntitySummary>,
    /// Risks by entity id.
    pub risks: HashMap<String, f64>,
    /// What calls are answered with instead.
    pub failure: Option<Status>,
    /// Calls so far.
    pub calls: usize,
    /// The scopes that profiles were asked for.
    pub scopes: Vec<(String, TimeRange)>,
    /// The rules that listings of records were asked for.
    pub asked_rules: Vec<String>,
}

#[derive(Clone)]
pub struct FakeGraph {
    told: Arc<Mutex<Told>>,
    stalled: Arc<watch::Sender<bool>>,
    profiles_stalled: Arc<watch::Sender<bool>>,
    running: Arc<Mutex<Option<JoinHandle<()>>>>,
    issuers: std::path::PathBuf,
    pub url: Url,
}

impl FakeGraph {
    pub async fn start(keys: &Keys) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let fake =
            Self { told: Arc::default(), stalled: Arc::default(), profiles_stalled: Arc::default(), running: Arc::default(), issuers: keys.issuers(), url };
        fake.serve(listener);
        fake
    }

    fn serve(&self, listener: TcpListener) {
        let verifier = Arc::new(TokenVerifier::from_directory("graph", &self.issuers).unwrap());
        let routes = Routes::new(GraphServiceServer::new(self.clone())).add_service(GraphAdministrationServiceServer::new(self.clone()));
        let server = Server::new("graph", verifier, Shutdown::new()).options(&ServerOptions { timeout_seconds: 300, ..ServerOptions::default() });
        let running = tokio::spawn(async move { server.serve(listener, routes).await.unwrap() });
        *self.running.lock().unwrap() = Some(running);
    }

    /// Nobody answers at its address any more.
    pub async fn down(&self) {
        let running = self.running.lock().unwrap().take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    /// It answers again, at the same address.
    pub async fn up(&self) {
        let address = format!("127.0.0.1:{}", self.url.port().unwrap());
        self.serve(TcpListener::bind(address).await.unwrap());
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }

    /// Whether calls wait.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Whether calls for profiles wait.
    pub fn stall_profiles(&self, stalled: bool) {
        self.profiles_stalled.send_replace(stalled);
    }

    /// Waits, fails, or lets a call through.
    async fn admit<T>(&self, request: Request<T>, arn: impl Fn(&T) -> &str) -> Result<T, Status> {
        let caller = Caller::of(&request)?.clone();
        caller.require_issuer(&["investigation"])?;
        assert_eq!((caller.principal.as_str(), caller.action.as_str()), ("service:investigation", "detective:SearchGraph"));
        let body = request.into_inner();
        caller.require_graph(arn(&body))?;
        self.told().calls += 1;
        self.stalled.subscribe().wait_for(|stalled| !stalled).await.unwrap();
        match self.told().failure.clone() {
            Some(failure) => Err(failure),
            None => Ok(body),
        }
    }
}

fn contains(scope: Option<&TimeRange>, time: Option<&prost_types::Timestamp>) -> bool {
    let window = window_from_proto("scope", scope).unwrap();
    window.is_none_or(|window| window.contains(time_from_proto("time", time.unwrap()).unwrap()))
}

/// A time as a message.
pub fn time(time: i64) -> Option<prost_types::Timestamp> {
    Some(time_to_proto(Timestamp(time)))
}

/// A value in a profile, seen `count` times.
pub fn seen(name: &str, count: u64, new: bool) -> Activity {
    Activity { name: name.to_owned(), measures: Some(Measures { successes: count, ..Measures::default() }), new_in_scope: new, ..Activity::default() }
}

/// A finding of GuardDuty, by its name, that affects a user and an address.
pub fn finding(name: &str, severity: f64, user: &str) -> FindingSummary {
    let entity = |kind: EntityType, id: &str| EntityKey { r#type: kind.into(), id: id.to_owned() };
    FindingSummary {
        id: format!("arn:aws:guardduty:us-east-1:111111111111:detector/d1/finding/{name}"),
        r#type: "Recon:IAMUser/TorIPCaller".to_owned(),
        product: "GuardDuty".to_owned(),
        title: name.to_owned(),
        severity,
        account_id: "111111111111".to_owned(),
        region: "us-east-1".to_owned(),
        last_time: time(1_700_000_000_000_000),
        entities: vec![entity(EntityType::User, user), entity(EntityType::IpAddress, "203.0.113.9")],
        ..FindingSummary::default()
    }
}

/// An operation in a profile.
pub fn operation(service: &str, name: &str, count: u64, new: bool) -> Activity {
    Activity { service: format!("{service}.amazonaws.com"), ..seen(name, count, new) }
}

/// An address in a profile.
pub fn address(name: &str, country: &str, (first, last): (i64, i64)) -> Activity {
    let measures = Measures { successes: 5, first_time: time(first), last_time: time(last), ..Measures::default() };
    Activity { place: Some(Place { country: country.to_owned(), ..Place::default() }), measures: Some(measures), ..seen(name, 0, false) }
}

pub fn list(items: Vec<Activity>) -> Option<ActivityList> {
    Some(ActivityList { items, ..ActivityList::default() })
}

type Nothing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn unexpected<T>() -> Result<T, Status> {
    Err(Status::new(Code::Unimplemented, "not asked for by investigation"))
}

#[tonic::async_trait]
impl GraphAdministrationService for FakeGraph {
    async fn list_finding_versions(&self, request: Request<proto::ListFindingVersionsRequest>) -> Result<Response<proto::ListFindingVersionsResponse>, Status> {
        Caller::of(&request)?.require_issuer(&["investigation"])?;
        let told = self.told();
        if let Some(failure) = told.failure.clone() {
            return Err(failure);
        }
        // Pages of one.
        let mut versions: Vec<_> = told.versions.iter().filter(|(arn, _)| arn.as_str() > request.get_ref().page_token.as_str()).collect();
        versions.sort();
        let more = versions.len() > 1;
        let version = |(arn, version): (&String, &u64)| proto::FindingVersion { graph_arn: arn.clone(), version: *version };
        let versions: Vec<_> = versions.into_iter().take(1).map(version).collect();
        let next_page_token = versions.last().filter(|_| more).map(|last| last.graph_arn.clone()).unwrap_or_default();
        Ok(Response::new(proto::ListFindingVersionsResponse { versions, next_page_token }))
    }

    async fn batch_count_actors(&self, request: Request<proto::BatchCountActorsRequest>) -> Result<Response<proto::BatchCountActorsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["investigation"])?;
        caller.require_graph(&request.get_ref().graph_arn)?;
        let told = self.told();
        let counts = request.get_ref().entities.iter().map(|entity| told.actors.get(&entity.id).copied().unwrap_or_default()).collect();
        Ok(Response::new(proto::BatchCountActorsResponse { counts }))
    }

    async fn teach_behavior(&self, request: Request<proto::TeachBehaviorRequest>) -> Result<Response<proto::TeachBehaviorResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["investigation"])?;
        caller.require_graph(&request.get_ref().graph_arn)?;
        let body = request.into_inner();
        let mut told = self.told();
        if let Some(failure) = told.failure.clone() {
            return Err(failure);
        }
        told.taught.push((body.finding_id, body.usual));
        Ok(Response::new(proto::TeachBehaviorResponse {}))
    }

    async fn get_volumes(&self, _: Request<proto::GetVolumesRequest>) -> Result<Response<proto::GetVolumesResponse>, Status> {
        unexpected()
    }

    async fn delete_graph_data(&self, _: Request<proto::DeleteGraphDataRequest>) -> Result<Response<proto::DeleteGraphDataResponse>, Status> {
        unexpected()
    }
}

#[tonic::async_trait]
impl GraphService for FakeGraph {
    async fn get_entity_profile(&self, request: Request<proto::GetEntityProfileRequest>) -> Result<Response<proto::GetEntityProfileResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        self.profiles_stalled.subscribe().wait_for(|stalled| !stalled).await.unwrap();
        let (id, scope) = (body.entity.unwrap().id, body.scope.unwrap());
        let mut told = self.told();
        let profile = told.profiles.get(&id).cloned();
        told.scopes.push((id.clone(), scope));
        let profile = profile.ok_or_else(|| Status::from(gumshoe_runtime::status::not_found("entity", &id)))?;
        Ok(Response::new(proto::GetEntityProfileResponse { profile: Some(profile) }))
    }

    async fn list_events(&self, request: Request<proto::ListEventsRequest>) -> Result<Response<proto::ListEventsResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        let filter = body.filter.unwrap();
        let mut told = self.told();
        if !filter.rule_id.is_empty() && body.page_token.is_empty() {
            told.asked_rules.push(filter.rule_id.clone());
        }
        let fits = |event: &&Event| {
            let named = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
            (filter.rule_id.is_empty() || filter.rule_id == "*" && !event.rules.is_empty())
                && named(&filter.service, &event.service)
                && named(&filter.operation, &event.operation)
                && contains(filter.scope.as_ref(), event.time.as_ref())
        };
        // Pages of two, whatever is asked for.
        let start: usize = body.page_token.parse().unwrap_or_default();
        let mut events: Vec<Event> = told.events.iter().filter(fits).skip(start).take(3).cloned().collect();
        let next_page_token = if events.len() == 3 { (start + 2).to_string() } else { String::new() };
        events.truncate(2);
        if body.omit_raw {
            events.iter_mut().for_each(|event| event.raw.clear());
        }
        Ok(Response::new(proto::ListEventsResponse { events, next_page_token }))
    }

    async fn list_findings(&self, request: Request<proto::ListFindingsRequest>) -> Result<Response<proto::ListFindingsResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        let mut told = self.told();
        told.listings.push(body.clone());
        let fits = |finding: &&FindingSummary| {
            (body.ids.is_empty() || body.ids.contains(&finding.id))
                && (body.account_id.is_empty() || body.account_id == finding.account_id)
                && body.entity.as_ref().is_none_or(|entity| finding.entities.contains(entity))
                && finding.r#type.starts_with(&body.type_prefix)
                && (body.include_archived || !finding.archived)
        };
        // Pages of at most three, whatever is asked for.
        let start: usize = body.page_token.parse().unwrap_or_default();
        let size = usize::try_from(body.page_size).unwrap().clamp(1, 3);
        let mut findings: Vec<FindingSummary> = told.findings.iter().filter(fits).skip(start).take(size + 1).cloned().collect();
        let next_page_token = if findings.len() > size { (start + size).to_string() } else { String::new() };
        findings.truncate(size);
        Ok(Response::new(proto::ListFindingsResponse { findings, next_page_token }))
    }

    async fn list_neighbors(&self, request: Request<proto::ListNeighborsRequest>) -> Result<Response<proto::ListNeighborsResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        let tie = (body.entity.clone().unwrap().id, Relation::try_from(body.relations[0]).unwrap(), body.direction());
        let fits = |peer: &&EntityKey| body.peer_type() == EntityType::Unspecified || peer.r#type() == body.peer_type();
        let told = self.told();
        let peers = told.neighbors.get(&tie).into_iter().flatten().filter(fits);
        let neighbors = peers.map(|peer| Neighbor { entity: Some(peer.clone()), ..Neighbor::default() }).collect();
        Ok(Response::new(proto::ListNeighborsResponse { neighbors, ..Default::default() }))
    }

    async fn search_entities(&self, request: Request<proto::SearchEntitiesRequest>) -> Result<Response<proto::SearchEntitiesResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        let fits = |found: &&proto::EntitySummary| body.types.contains(&found.entity.as_ref().unwrap().r#type);
        // Pages of two, whatever is asked for.
        let start: usize = body.page_token.parse().unwrap_or_default();
        let mut entities: Vec<_> = self.told().known.iter().filter(fits).skip(start).take(3).cloned().collect();
        let next_page_token = if entities.len() == 3 { (start + 2).to_string() } else { String::new() };
        entities.truncate(2);
        Ok(Response::new(proto::SearchEntitiesResponse { entities, next_page_token }))
    }

    async fn get_role_chain(&self, _: Request<proto::GetRoleChainRequest>) -> Result<Response<proto::GetRoleChainResponse>, Status> {
        unexpected()
    }

    type StreamEventsStream = Nothing<proto::StreamEventsResponse>;

    async fn stream_events(&self, _: Request<proto::StreamEventsRequest>) -> Result<Response<Self::StreamEventsStream>, Status> {
        unexpected()
    }

    async fn get_finding(&self, _: Request<proto::GetFindingRequest>) -> Result<Response<proto::GetFindingResponse>, Status> {
        unexpected()
    }

    async fn get_risk(&self, _: Request<proto::GetRiskRequest>) -> Result<Response<proto::GetRiskResponse>, Status> {
        unexpected()
    }

    async fn batch_get_risk(&self, request: Request<proto::BatchGetRiskRequest>) -> Result<Response<proto::BatchGetRiskResponse>, Status> {
        let body = self.admit(request, |body| &body.graph_arn).await?;
        let told = self.told();
        let risk = |entity: EntityKey| proto::Risk { score: told.risks.get(&entity.id).copied().unwrap_or_default(), ..proto::Risk::default() };
        Ok(Response::new(proto::BatchGetRiskResponse { risks: body.entities.into_iter().map(risk).collect() }))
    }

    type WatchRiskStream = Nothing<proto::WatchRiskResponse>;

    async fn watch_risk(&self, _: Request<proto::WatchRiskRequest>) -> Result<Response<Self::WatchRiskStream>, Status> {
        unexpected()
    }

    async fn list_dead_letters(&self, _: Request<proto::ListDeadLettersRequest>) -> Result<Response<proto::ListDeadLettersResponse>, Status> {
        unexpected()
    }

    async fn get_graph_statistics(&self, _: Request<proto::GetGraphStatisticsRequest>) -> Result<Response<proto::GetGraphStatisticsResponse>, Status> {
        unexpected()
    }

    type StreamEdgesStream = Nothing<proto::StreamEdgesResponse>;

    async fn stream_edges(&self, _: Request<proto::StreamEdgesRequest>) -> Result<Response<Self::StreamEdgesStream>, Status> {
        unexpected()
    }
}
