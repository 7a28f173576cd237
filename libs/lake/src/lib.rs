//! The lake: seven Delta tables a graph, written in batches that count once, read with DataFusion.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | the tables and their columns (documented for readers in `docs/lake.md`) |
//! | [`file`] | rows to Parquet, with the statistics that Delta prunes by |
//! | [`graph`] | one graph's tables: progress of batches, query sessions |
//! | [`changes`] | what each commit did to a table |
//! | [`read`] | rows of few entities, without the query engine |
//! | [`models`] | what was learned from the tables, beside them |
//! | [`engine`] | heavy queries, here or on Ballista |
//! | [`commit`] | batches into every table, each once, whichever process writes |
//! | [`maintenance`] | small files into large ones, old rows and unused files away |
//! | [`store`] | object stores by URL |
//!
//! Only this crate knows Delta Lake and DataFusion's table providers.

pub mod changes;
pub mod commit;
pub mod engine;
pub mod file;
pub mod graph;
pub mod maintenance;
pub mod models;
pub mod read;
pub mod store;
pub mod table;

use std::{collections::HashMap, sync::Arc};

use datafusion::execution::{
    disk_manager::{DiskManagerBuilder, DiskManagerMode},
    memory_pool::FairSpillPool,
    runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
};
use gumshoe_model::GraphArn;
use tokio::sync::Mutex;

pub use changes::{Addition, Change, Versions, Wanted};
pub use commit::{Alone, Claims, Group, Staged};
pub use datafusion::{
    common::{ParamValues, ScalarValue},
    error::DataFusionError,
    execution::SendableRecordBatchStream,
};
pub use engine::{Engine, Query, Rows};
pub use file::{Column, DataFile, FileWriter, encode, encode_columns};
pub use graph::{BatchCounts, GraphLake, Progress, Snapshot};
pub use maintenance::{Fence, Layout};
pub use read::{Lookup, Memory, Next, Touched};
pub use store::LakeConfig;
pub use table::Table;

/// What can go wrong with the lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The URL or an option of the store cannot be used.
    #[error("lake store `{url}` cannot be used: {reason}")]
    Config {
        /// The URL as configured.
        url: String,
        /// Why.
        reason: String,
    },
    /// Delta Lake failed; try again.
    #[error("delta table failed")]
    Delta(#[from] deltalake::DeltaTableError),
    /// A query failed.
    #[error("query failed")]
    Query(#[from] datafusion::error::DataFusionError),
    /// Rows could not be put into columns.
    #[error("columns failed")]
    Arrow(#[from] arrow::error::ArrowError),
    /// Parquet could not be written.
    #[error("parquet failed")]
    Parquet(#[from] parquet::errors::ParquetError),
    /// The object store failed; try again.
    #[error("object store failed")]
    Store(#[from] object_store::Error),
    /// Another process committed one of the batches, or an event of theirs, first: nothing more of them was committed.
    #[error("another process committed a batch or an event first")]
    Overtaken,
    /// Another process maintains the graph: nothing was committed.
    #[error("another process maintains the graph")]
    Superseded,
    /// The graph is being removed: nothing was committed.
    #[error("the graph is being removed")]
    Removed,
    /// Files that a query reads were removed while it ran; run it again.
    #[error("files were removed while the query ran")]
    Vanished,
    /// The cluster that runs heavy queries does not answer or lost what it had; try again.
    #[error("the query engine failed: {0}")]
    Engine(String),
}

/// All graphs under one URL.
#[derive(Debug)]
pub struct Lake {
    store: store::Store,
    runtime: Arc<RuntimeEnv>,
    /// Of maintenance, which must not take from queries.
    merging: Arc<RuntimeEnv>,
    footers: read::Footers,
    graphs: Mutex<HashMap<GraphArn, Arc<GraphLake>>>,
    /// The graphs of folders that were opened or looked into.
    folders: Mutex<HashMap<String, GraphArn>>,
    /// Versions of the tables of findings, as they were last asked for.
    finding_versions: Mutex<HashMap<GraphArn, u64>>,
}

impl Lake {
    /// Opens the lake; nothing is created before a graph is first used.
    ///
    /// # Errors
    /// [`LakeError::Config`] when the store cannot be used.
    pub async fn open(config: &LakeConfig) -> Result<Self, LakeError> {
        let runtime = |memory_bytes| {
            let mut disk = DiskManagerBuilder::default();
            if let Some(directory) = &config.spill_directory {
                disk = disk.with_mode(DiskManagerMode::Directories(vec![directory.clone()]));
            }
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(memory_bytes))).with_disk_manager_builder(disk).build_arc()
        };
        let store = store::Store::open(config)?;
        let queries = runtime(config.query_memory_bytes)?;
        let name = url::Url::parse(engine::pinned::LAKE).map_err(|error| LakeError::Config { url: config.url.to_string(), reason: error.to_string() })?;
        queries.register_object_store(&name, store.lake());
        Ok(Self {
            store,
            runtime: queries,
            merging: runtime(maintenance::MEMORY_BYTES)?,
            footers: read::Footers::new(config.metadata_memory_bytes),
            graphs: Mutex::default(),
            folders: Mutex::default(),
            finding_versions: Mutex::default(),
        })
    }

    /// The tables of a graph, created on first use.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer or the tables cannot be read.
    pub async fn graph(&self, arn: &GraphArn) -> Result<Arc<GraphLake>, LakeError> {
        let mut graphs = self.graphs.lock().await;
        if let Some(graph) = graphs.get(arn) {
            return Ok(Arc::clone(graph));
        }
        let graph = Arc::new(GraphLake::open(&self.store, arn, Arc::clone(&self.runtime), Arc::clone(&self.merging), self.footers.clone()).await?);
        graphs.insert(arn.clone(), Arc::clone(&graph));
        self.folders.lock().await.insert(arn.id().to_owned(), arn.clone());
        Ok(graph)
    }

    /// Every graph that has all its tables, whoever made them.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer.
    pub async fn graphs(&self) -> Result<Vec<GraphArn>, LakeError> {
        let mut known = self.folders.lock().await;
        let mut graphs = Vec::new();
        for folder in self.store.folders().await? {
            if !known.contains_key(&folder)
                && let Some(arn) = graph::arn_of(&self.store, &folder).await?
            {
                known.insert(folder.clone(), arn);
            }
            graphs.extend(known.get(&folder).cloned());
        }
        Ok(graphs)
    }

    /// The version of a graph's table of findings, which grows with every change; 0 for none. Opens nothing, so that all graphs can be
    /// looked at in little memory.
    ///
    /// # Errors
    /// [`LakeError`] when the store does not answer.
    pub async fn finding_version(&self, arn: &GraphArn) -> Result<u64, LakeError> {
        let known = self.finding_versions.lock().await.get(arn).copied().unwrap_or_default();
        let version = self.store.latest_version(&format!("{}/{}", arn.id(), Table::Findings.name()), known).await?;
        self.finding_versions.lock().await.insert(arn.clone(), version);
        Ok(version)
    }

    /// Ends the maintenance of a graph in this process, once and for all.
    pub async fn close(&self, arn: &GraphArn) {
        let graph = self.graphs.lock().await.get(arn).cloned();
        if let Some(graph) = graph {
            graph.close().await;
        }
    }

    /// Removes the tables of a graph. Cut off in the middle, it goes on where it was when called again. Nothing may write
    /// to the graph meanwhile.
    ///
    /// # Errors
    /// [`LakeError::Store`] when the store does not answer.
    pub async fn remove(&self, arn: &GraphArn) -> Result<(), LakeError> {
        let mut graphs = self.graphs.lock().await;
        if let Some(graph) = graphs.remove(arn) {
            graph.close().await;
        }
        self.folders.lock().await.remove(arn.id());
        self.finding_versions.lock().await.remove(arn);
        self.store.remove(arn.id()).await
    }

    /// Whether the store answers.
    ///
    /// # Errors
    /// [`LakeError::Store`] when it does not.
    pub async fn check(&self) -> Result<(), LakeError> {
        self.store.check().await
    }
}
