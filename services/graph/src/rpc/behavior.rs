//! What is unusual, what matters more than others, and the sweep.

use std::{sync::Arc, time::Duration};

use gumshoe_api::{
    convert,
    graph::v1::{self as proto, behavior_service_server::BehaviorService},
};
use gumshoe_behavior::Criticality;
use gumshoe_enrich::Places;
use gumshoe_lake::Lake;
use gumshoe_model::{EntityKey, GraphArn, Hour, TimeWindow, Timestamp, time::MICROS_PER_DAY};
use gumshoe_runtime::{
    clock::Clock,
    status::{self, Chain, Failure},
    token::Caller,
};
use tonic::{Request, Response, Status};

use super::field;
use crate::{
    behavior::{self, Found, Scope},
    config,
    hot::Hot,
    profile,
    rows::{self, Answer},
    search,
    store::{
        StoreError,
        sql::SqlStore,
        watchlists::{Entry, MAX_ENTRIES},
    },
    sweep::{Sweep, SweepError, Swept},
    watchlist,
};

/// The longest scope time of anomalies, in days.
const MAX_SCOPE_DAYS: i64 = 31;
/// Anomalies in an answer.
const MAX_ANOMALIES: usize = 100;
/// The longest note, in characters.
const MAX_NOTE: usize = 1_000;

/// The service.
#[derive(Clone)]
pub(crate) struct Behavior {
    lake: Arc<Lake>,
    places: Arc<Places>,
    sweep: Arc<Sweep>,
    hot: Arc<Hot>,
    store: Arc<SqlStore>,
    configured: Arc<[config::Watched]>,
    clock: Arc<dyn Clock>,
    /// How long a call waits for its sweep.
    patience: Duration,
}

impl Behavior {
    /// A service over what the sweep and the watchlists know. Calls are cut off after `timeout`.
    #[expect(clippy::too_many_arguments, reason = "the parts of a service")]
    pub(crate) fn new(
        lake: Arc<Lake>,
        places: Arc<Places>,
        sweep: Arc<Sweep>,
        hot: Arc<Hot>,
        store: Arc<SqlStore>,
        configured: Vec<config::Watched>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Self {
        // The gateway in front waits less long than this server.
        Self { lake, places, sweep, hot, store, configured: configured.into(), clock, patience: timeout * 2 / 3 }
    }

    async fn anomalies(&self, graph: &GraphArn, entity: &EntityKey, scope: Option<TimeWindow>) -> Answer<proto::GetAnomaliesResponse> {
        let lake = self.lake.graph(graph).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        let window = match scope.map(TimeWindow::to_hours) {
            Some(window) if window.end().0 - window.start().0 > MAX_SCOPE_DAYS * MICROS_PER_DAY => {
                return Err(status::invalid_argument("scope", format!("must be at most {MAX_SCOPE_DAYS} days long")));
            }
            Some(window) => window,
            None => {
                let known = search::summaries(&lake, std::slice::from_ref(entity)).await?;
                profile::last_day(known.get(entity).ok_or_else(|| status::not_found("entity", &entity.to_string()))?.last)?
            }
        };
        let model = self.sweep.peers(&lake).await.map_err(sweep_failure)?;
        let usual = self.store.usual(graph).await.map_err(|error| failure(&error))?;
        let snapshot = lake.snapshot().map_err(rows::failure)?;
        let (from, to) = (window.start().hour().0, window.end().hour().0);
        let scope = Scope { snapshot: &snapshot, places: &self.places, from, to, entity: Some(entity) };
        let anomalies = behavior::of_one(&scope, &model, &usual).await?.into_iter().take(MAX_ANOMALIES).map(anomaly_to_proto).collect();
        let peer_pairs = u64::try_from(model.peers.pairs()).unwrap_or(u64::MAX);
        Ok(proto::GetAnomaliesResponse { anomalies, scope: Some(convert::window_to_proto(window)), peer_pairs })
    }

    async fn create(&self, graph: &GraphArn, author: String, request: proto::CreateWatchlistEntryRequest) -> Answer<Entry> {
        if let Some(fault) = watchlist::fault(&request.pattern) {
            return Err(status::invalid_argument("pattern", fault));
        }
        if request.note.chars().count() > MAX_NOTE {
            return Err(status::invalid_argument("note", format!("must have at most {MAX_NOTE} characters")));
        }
        let criticality = criticality_from_proto(request.criticality())
            .ok_or_else(|| status::invalid_argument("criticality", "must be CRITICALITY_LOW, CRITICALITY_NORMAL, CRITICALITY_HIGH or CRITICALITY_CRITICAL"))?;
        let now = self.clock.now();
        let expire_time = request.expire_time.as_ref().map(|time| convert::time_from_proto("expire_time", time)).transpose().map_err(field)?;
        if expire_time.is_some_and(|time| time <= now) {
            return Err(status::invalid_argument("expire_time", "must lie in the future"));
        }
        let id = uuid::Uuid::now_v7().to_string();
        let entry = Entry { id, pattern: request.pattern, criticality, note: request.note, author, create_time: now, expire_time };
        if !self.store.create_watchlist_entry(graph, &entry).await.map_err(|error| failure(&error))? {
            return Err(status::quota_exceeded(format!("a graph has at most {MAX_ENTRIES} entries")));
        }
        self.hot.watchlist_changed(graph).await;
        Ok(entry)
    }
}

fn anomaly_to_proto(found: Found) -> proto::Anomaly {
    proto::Anomaly {
        source: found.source.as_str().to_owned(),
        score: found.anomaly.score,
        label: found.anomaly.label,
        baseline: found.anomaly.baseline,
        parts: found.anomaly.parts.into_iter().map(|part| proto::AnomalyPart { description: part.what, contribution: part.by }).collect(),
        others: found.others.iter().map(convert::entity_to_proto).collect(),
        first_time: Some(convert::time_to_proto(found.first)),
        last_time: Some(convert::time_to_proto(found.last)),
    }
}

/// Logs what the store said and gives the caller what it may know.
pub(crate) fn failure(error: &StoreError) -> Failure {
    tracing::warn!(error = %Chain(error), "the store does not answer");
    status::unavailable("the store")
}

fn sweep_failure(error: SweepError) -> Failure {
    match error {
        SweepError::Lake(error) => rows::failure(error),
        SweepError::Store(error) => failure(&error),
        SweepError::Query(failure) => failure,
        SweepError::Superseded => busy(),
    }
}

fn busy() -> Failure {
    status::conflict("the graph is being swept already")
}

fn criticality_from_proto(criticality: proto::Criticality) -> Option<Criticality> {
    match criticality {
        proto::Criticality::Unspecified => None,
        proto::Criticality::Low => Some(Criticality::Low),
        proto::Criticality::Normal => Some(Criticality::Normal),
        proto::Criticality::High => Some(Criticality::High),
        proto::Criticality::Critical => Some(Criticality::Critical),
    }
}

fn criticality_to_proto(criticality: Criticality) -> proto::Criticality {
    match criticality {
        Criticality::Low => proto::Criticality::Low,
        Criticality::Normal => proto::Criticality::Normal,
        Criticality::High => proto::Criticality::High,
        Criticality::Critical => proto::Criticality::Critical,
    }
}

fn entry_to_proto(entry: Entry) -> proto::WatchlistEntry {
    proto::WatchlistEntry {
        id: entry.id,
        pattern: entry.pattern,
        criticality: criticality_to_proto(entry.criticality).into(),
        note: entry.note,
        author_arn: entry.author,
        create_time: (entry.create_time > Timestamp::MIN).then(|| convert::time_to_proto(entry.create_time)),
        expire_time: entry.expire_time.map(convert::time_to_proto),
    }
}

fn graph_of<T>(request: &Request<T>, arn: impl Fn(&T) -> &str) -> Result<GraphArn, Status> {
    Caller::of(request)?.require_graph(arn(request.get_ref()))
}

#[tonic::async_trait]
impl BehaviorService for Behavior {
    async fn get_anomalies(&self, request: Request<proto::GetAnomaliesRequest>) -> Result<Response<proto::GetAnomaliesResponse>, Status> {
        let graph = graph_of(&request, |body| &body.graph_arn)?;
        let body = request.into_inner();
        let entity = convert::entity_from_proto("entity", body.entity.as_ref()).map_err(field)?;
        let scope = convert::window_from_proto("scope", body.scope.as_ref()).map_err(field)?;
        Ok(Response::new(self.anomalies(&graph, &entity, scope).await?))
    }

    async fn sweep_graph(&self, request: Request<proto::SweepGraphRequest>) -> Result<Response<proto::SweepGraphResponse>, Status> {
        let graph = graph_of(&request, |body| &body.graph_arn)?;
        let from = request.get_ref().from_time.as_ref().map(|time| convert::time_from_proto("from_time", time)).transpose().map_err(field)?;
        let (sweep, swept_graph) = (Arc::clone(&self.sweep), graph.clone());
        // On its own, so that a caller that goes away, or whose time is over, cuts nothing off.
        let sweeping = tokio::spawn(async move { sweep.sweep(&swept_graph, from.map(|from| from.hour().0)).await });
        let ended = match tokio::time::timeout(self.patience, sweeping).await {
            Ok(ended) => match ended.map_err(|error| status::internal(&error))?.map_err(sweep_failure)? {
                None if from.is_some() => return Err(busy().into()),
                ended => ended,
            },
            Err(_) => None,
        };
        let checkpoint = self.store.checkpoint(&graph).await.map_err(|error| failure(&error))?;
        let Swept { hours, findings } = ended.unwrap_or_default();
        let swept_until_time = checkpoint.map(|checkpoint| convert::time_to_proto(Hour(checkpoint.next_hour).start()));
        Ok(Response::new(proto::SweepGraphResponse { hours, findings, running: ended.is_none(), swept_until_time }))
    }

    async fn create_watchlist_entry(
        &self,
        request: Request<proto::CreateWatchlistEntryRequest>,
    ) -> Result<Response<proto::CreateWatchlistEntryResponse>, Status> {
        let graph = graph_of(&request, |body| &body.graph_arn)?;
        let author = Caller::of(&request)?.principal.clone();
        let entry = self.create(&graph, author, request.into_inner()).await?;
        Ok(Response::new(proto::CreateWatchlistEntryResponse { entry: Some(entry_to_proto(entry)) }))
    }

    async fn list_watchlist_entries(
        &self,
        request: Request<proto::ListWatchlistEntriesRequest>,
    ) -> Result<Response<proto::ListWatchlistEntriesResponse>, Status> {
        let graph = graph_of(&request, |body| &body.graph_arn)?;
        let now = self.clock.now();
        let (_, entries) = self.store.watchlist(&graph).await.map_err(|error| failure(&error))?;
        let configured = self.configured.iter().map(watchlist::configured);
        let entries = entries.into_iter().filter(|entry| entry.counts(now)).chain(configured).map(entry_to_proto).collect();
        Ok(Response::new(proto::ListWatchlistEntriesResponse { entries }))
    }

    async fn delete_watchlist_entry(
        &self,
        request: Request<proto::DeleteWatchlistEntryRequest>,
    ) -> Result<Response<proto::DeleteWatchlistEntryResponse>, Status> {
        let graph = graph_of(&request, |body| &body.graph_arn)?;
        let id = request.into_inner().entry_id;
        if !self.store.delete_watchlist_entry(&graph, &id).await.map_err(|error| failure(&error))? {
            return Err(status::not_found("watchlist entry", &id).into());
        }
        self.hot.watchlist_changed(&graph).await;
        Ok(Response::new(proto::DeleteWatchlistEntryResponse {}))
    }
}
