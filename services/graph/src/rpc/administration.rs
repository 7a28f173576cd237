//! What membership asks: what graphs have taken in, and to remove their data.

use std::{str::FromStr as _, sync::Arc};

use gumshoe_api::{
    convert::record_kind_to_proto,
    graph::v1::{
        DeleteGraphDataRequest, DeleteGraphDataResponse, GetVolumesRequest, GetVolumesResponse, Volume,
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
    commit::Commit,
    lease::Work,
    maintenance::Maintenance,
    rows::{self, Parameters},
    store::{StoreError, sql::SqlStore},
};

/// Days that can be asked for at once.
const MAX_DAYS: i32 = 90;

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
}
