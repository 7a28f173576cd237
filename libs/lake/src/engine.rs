//! Heavy queries, over months of a graph or all of its findings: in this process, or on Ballista's executors.
//!
//! | module | holds |
//! |---|---|
//! | `pinned` | a table as a list of files, which plans carry with them |
//! | `cluster` | the client of a Ballista cluster, its scheduler and its executors |
//!
//! Both run the same plans. A plan names data files below the lake and nothing else: whoever reads them finds the lake, and
//! the right to read it, in its own configuration.

#[cfg(feature = "ballista")]
pub mod cluster;
pub(crate) mod pinned;

use std::{error::Error as _, sync::Arc};

use arrow::record_batch::RecordBatch;
use datafusion::{
    common::ScalarValue,
    dataframe::DataFrame,
    error::DataFusionError,
    prelude::{SessionConfig, SessionContext},
};
use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use gumshoe_model::TimeWindow;
use url::Url;

use crate::{GraphLake, LakeError};

/// Rows as they come.
pub type Rows = BoxStream<'static, Result<RecordBatch, LakeError>>;

/// A heavy query.
#[derive(Debug, Clone)]
pub struct Query {
    /// SQL over the tables of the graph. **The order of its rows must be total**: a query that lost an executor while its
    /// answer was read is run again, and the rows that were read already are passed over.
    pub sql: String,
    /// Values of its `$name` parameters.
    pub parameters: Vec<(String, ScalarValue)>,
    /// Of events and edges, only files that may have rows in it are read; rows before and after it may come as well.
    pub window: Option<TimeWindow>,
}

/// Where heavy queries run.
#[derive(Debug, Clone, Default)]
pub enum Engine {
    /// In this process, within its memory for queries.
    #[default]
    Here,
    /// On a Ballista cluster.
    #[cfg(feature = "ballista")]
    Ballista(cluster::Client),
}

impl Engine {
    /// The engine at `df://host:port`, which is Ballista's scheduler; without a URL, this process.
    ///
    /// # Errors
    /// [`LakeError::Config`] when there is no such engine.
    pub fn open(url: Option<&Url>) -> Result<Self, LakeError> {
        let Some(url) = url else { return Ok(Self::Here) };
        let bad = |reason: &str| LakeError::Config { url: url.to_string(), reason: reason.to_owned() };
        let (Some(host), Some(port)) = (url.host_str(), url.port()) else { return Err(bad("not `df://host:port`")) };
        if url.scheme() != "df" || !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
            return Err(bad("not `df://host:port`"));
        }
        #[cfg(feature = "ballista")]
        return Ok(Self::Ballista(cluster::Client::new(host, port)));
        #[cfg(not(feature = "ballista"))]
        return Err(bad(&format!("this build cannot reach `{host}:{port}`: it is without Ballista")));
    }

    /// Runs a query on a graph's tables as they stand now, whatever is committed while it runs.
    ///
    /// # Errors
    /// [`LakeError::Query`] when the query is wrong. In the stream also [`LakeError::Vanished`] when maintenance removed files
    /// while it ran, and [`LakeError::Engine`] when the cluster does not answer: try again.
    pub async fn run(&self, lake: &GraphLake, query: &Query) -> Result<Rows, LakeError> {
        let tables = lake.pinned(query.window);
        match self {
            Self::Here => {
                let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
                let session = SessionContext::new_with_config_rt(settings(cores), lake.runtime());
                let rows = Box::pin(plan(&session, tables, query)).await?.execute_stream();
                Ok(Box::pin(rows).await?.map_err(explain).boxed())
            }
            #[cfg(feature = "ballista")]
            Self::Ballista(client) => client.run(lake.runtime(), tables, query).await,
        }
    }
}

async fn plan(session: &SessionContext, tables: Vec<pinned::Pinned>, query: &Query) -> Result<DataFrame, DataFusionError> {
    for table in tables {
        session.register_table(table.table().name(), Arc::new(table))?;
    }
    session.sql(&query.sql).await?.with_param_values(query.parameters.clone())
}

/// How all heavy queries are planned.
pub(crate) fn settings(partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(partitions).with_information_schema(false);
    // The default dialect cannot read lambdas.
    config.options_mut().sql_parser.dialect = datafusion::config::Dialect::DuckDB;
    // Text comes as plain Utf8, as `docs/lake.md` says and as readers of columns expect.
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().sql_parser.map_string_types_to_utf8view = false;
    config
}

/// What went wrong, from what a query said at first hand or what an executor said of it.
fn explain(error: DataFusionError) -> LakeError {
    if is_vanished(&whole(&error)) { LakeError::Vanished } else { error.into() }
}

/// As `object_store` writes that there is no such object.
fn is_vanished(text: &str) -> bool {
    text.contains("Object at location") && text.contains("not found")
}

/// An error with all that caused it.
fn whole(error: &DataFusionError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_named_by_host_and_port() {
        let open = |url: &str| Engine::open(Some(&url.parse().unwrap()));
        assert!(matches!(Engine::open(None), Ok(Engine::Here)));
        for bad in ["df://scheduler", "http://scheduler:50050", "df://scheduler:50050/path", "df://user@scheduler:50050", "df:50050"] {
            assert!(matches!(open(bad), Err(LakeError::Config { .. })), "{bad}");
        }
        #[cfg(feature = "ballista")]
        assert!(matches!(open("df://scheduler:50050"), Ok(Engine::Ballista(_))));
    }

    #[test]
    fn a_removed_file_is_told_from_other_faults() {
        let path = "graph/events/part-1.parquet".to_owned();
        let missing = object_store::Error::NotFound { path, source: "no such file".into() };
        let inside = parquet::errors::ParquetError::External(Box::new(missing));
        assert!(matches!(explain(DataFusionError::ParquetError(Box::new(inside))), LakeError::Vanished));
        let other = DataFusionError::Execution("Table not found".to_owned());
        assert!(matches!(explain(other), LakeError::Query(_)));
    }
}
