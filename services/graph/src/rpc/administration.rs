//! What other services ask of the lake: what graphs have taken in, to remove their data, what finding groups are made by, and to learn what
//! was judged to be usual.

use std::{str::FromStr as _, sync::Arc};

use gumshoe_api::{
    convert::record_kind_to_proto,
    graph::v1::{
        BatchCountActorsRequest, BatchCountActorsResponse, DeleteGraphDataRequest, DeleteGraphDataResponse, FindingVersion, GetVolumesRequest,
        GetVolumesResponse, ListFindingVersionsRequest, ListFindingVersionsResponse, TeachBehaviorRequest, TeachBehaviorResponse, Volume,
        graph_administration_service_server::GraphAdministrationService,
    },
};
use gumshoe_lake::Lake;
use gumshoe_model::{RecordKind, Timestamp, time::MICROS_PER_DAY};
use gumshoe_runtime::{
    status::{self, Chain},
    token::Caller,
};
use tonic::{Request, Response, Status};

use crate::{
    actors,
    commit::Commit,
    lease::Work,
    maintenance::Maintenance,
    rows::{self, Parameters},
    store::{StoreError, sql::SqlStore, usual::Usual},
    usual,
};

/// Days that can be asked for at once.
const MAX_DAYS: i32 = 90;
/// Graphs of one page.
const MAX_GRAPHS: usize = 1_000;
/// Entities whose actors can be counted at once.
const MAX_ENTITIES: usize = 100;

/// The service.
#[derive(Clone)]
pub(crate) struct Administration {
    lake: Arc<Lake>,
    commit: Commit,
    maintenance: Arc<Maintenance>,
    store: Arc<SqlStore>,
}

impl Administration {
    pub(crate) fn new(lake: Arc<Lake>, commit: Commit, maintenance: Arc<Maintenance>, store: Arc<SqlStore>) -> Self {
        Self { lake, commit, maintenance, store }
    }
}

#[tonic::async_trait]
impl GraphAdministrationService for Administration {
    async fn get_volumes(&self, request: Request<GetVolumesRequest>) -> Result<Response<GetVolumesResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["membership"])?;
        let arn = caller.require_graph(&request.get_ref().graph_arn)?;
        let days = request.get_ref().days;
        if !(1..=MAX_DAYS).contains(&days) {
            return Err(status::invalid_argument("days", format!("must be 1 to {MAX_DAYS}")).into());
        }
        let lake = self.lake.graph(&arn).await.map_err(rows::failure)?;
        let today = chrono::Utc::now().timestamp_micros().div_euclid(MICROS_PER_DAY);
        let mut parameters = Parameters::new();
        parameters.time("from", Timestamp((today + 1 - i64::from(days)) * MICROS_PER_DAY));
        let sql = "SELECT account, kind, date_trunc('day', time) AS day, sum(records) AS records, sum(bytes) AS bytes FROM volumes \
             WHERE time >= $from GROUP BY account, kind, day ORDER BY account, kind, day";
        let mut volumes = Vec::new();
        rows::each(&lake, sql, parameters, |columns| {
            let (accounts, kinds, days) = (columns.texts("account")?, columns.texts("kind")?, columns.numbers("day")?);
            let (records, bytes) = (columns.numbers("records")?, columns.numbers("bytes")?);
            for row in 0..columns.len() {
                let Ok(kind) = RecordKind::from_str(kinds.get(row)) else { continue };
                volumes.push(Volume {
                    account_id: accounts.get(row).to_owned(),
                    kind: record_kind_to_proto(kind),
                    day: days.time(row).to_chrono().format("%Y-%m-%d").to_string(),
                    records: records.count(row),
                    bytes: bytes.count(row),
                });
            }
            Ok(true)
        })
        .await?;
        Ok(Response::new(GetVolumesResponse { volumes }))
    }

    async fn delete_graph_data(&self, request: Request<DeleteGraphDataRequest>) -> Result<Response<DeleteGraphDataResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["membership"])?;
        let arn = caller.require_graph(&request.get_ref().graph_arn)?;
        let unavailable = |error: StoreError| {
            tracing::warn!(error = %Chain(&error), graph = %arn, "the store of leases does not answer");
            status::unavailable("the store of leases")
        };
        let exclude = |work| self.maintenance.exclude(&arn, work);
        let maintenance = exclude(Work::Maintenance).await.map_err(unavailable)?.ok_or_else(|| status::unavailable("the graph's maintenance"))?;
        let sweep = exclude(Work::Sweep).await.map_err(unavailable)?.ok_or_else(|| status::unavailable("the graph's sweep"))?;
        let removed = maintenance.during(sweep.during(self.commit.remove(&arn))).await.flatten();
        if matches!(removed, Some(Ok(()))) {
            self.store.remove_graph(&arn).await.map_err(unavailable)?;
        }
        sweep.release().await;
        maintenance.release().await;
        removed.ok_or_else(|| status::unavailable("the store of leases"))?.map_err(rows::failure)?;
        tracing::info!(graph = %arn, "removed the data of a graph");
        Ok(Response::new(DeleteGraphDataResponse {}))
    }

    async fn list_finding_versions(&self, request: Request<ListFindingVersionsRequest>) -> Result<Response<ListFindingVersionsResponse>, Status> {
        Caller::of(&request)?.require_issuer(&["investigation"])?;
        let after = request.into_inner().page_token;
        let mut graphs = self.lake.graphs().await.map_err(rows::failure)?;
        graphs.sort_by_cached_key(ToString::to_string);
        let mut response = ListFindingVersionsResponse::default();
        for graph in graphs {
            let graph_arn = graph.to_string();
            if graph_arn <= after {
                continue;
            }
            if let [.., last] = response.versions.as_slice()
                && response.versions.len() >= MAX_GRAPHS
            {
                response.next_page_token.clone_from(&last.graph_arn);
                break;
            }
            // One graph that cannot be read must not hide the others.
            match self.lake.finding_version(&graph).await {
                Ok(0) => {}
                Ok(version) => response.versions.push(FindingVersion { graph_arn, version }),
                Err(error) => tracing::warn!(error = %Chain(&error), %graph, "the version of a graph's findings cannot be read"),
            }
        }
        Ok(Response::new(response))
    }

    async fn batch_count_actors(&self, request: Request<BatchCountActorsRequest>) -> Result<Response<BatchCountActorsResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["investigation"])?;
        let arn = caller.require_graph(&request.get_ref().graph_arn)?;
        let entities = super::entities(&request.get_ref().entities)?;
        if !(1..=MAX_ENTITIES).contains(&entities.len()) {
            return Err(status::invalid_argument("entities", format!("must be 1 to {MAX_ENTITIES}")).into());
        }
        let lake = self.lake.graph(&arn).await.map_err(rows::failure)?;
        lake.freshen().await.map_err(rows::failure)?;
        Ok(Response::new(BatchCountActorsResponse { counts: actors::count(&lake, &entities).await? }))
    }

    async fn teach_behavior(&self, request: Request<TeachBehaviorRequest>) -> Result<Response<TeachBehaviorResponse>, Status> {
        let caller = Caller::of(&request)?;
        caller.require_issuer(&["investigation"])?;
        let body = request.get_ref();
        let arn = caller.require_graph(&body.graph_arn)?;
        let told = if body.usual {
            let lake = self.lake.graph(&arn).await.map_err(rows::failure)?;
            lake.freshen().await.map_err(rows::failure)?;
            usual::told(&lake, &body.finding_id).await?
        } else {
            Usual::new()
        };
        self.store.put_usual(&arn, &body.finding_id, &told).await.map_err(|error| super::behavior::failure(&error))?;
        Ok(Response::new(TeachBehaviorResponse {}))
    }
}
