//! A database reached through one URL, SQLite or Postgres, with the same schema and the same statements on both.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    AnyPool, ConnectOptions as _, Executor as _, SqlSafeStr as _,
    any::{AnyConnectOptions, AnyPoolOptions},
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use tracing::log::LevelFilter;
use url::Url;

use crate::store::StoreError;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A schema: the steps that make it, in order; the version is their number.
pub(super) struct Schema {
    /// The table that records which steps were taken.
    pub(super) table: &'static str,
    /// How to read the version out of it.
    pub(super) version: &'static str,
    /// Name and statements of each step.
    pub(super) steps: &'static [(&'static str, &'static str)],
}

impl Schema {
    fn newest(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    fn migrator(&self) -> Migrator {
        let steps =
            (1..).zip(self.steps).map(|(version, (name, sql))| Migration::new(version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false));
        let mut migrator = Migrator::with_migrations(steps.collect());
        // A table of our own, so that services can share a database.
        migrator.dangerous_set_table_name(self.table);
        migrator
    }
}

/// A pool of connections.
#[derive(Debug, Clone)]
pub(super) struct Database {
    pub(super) pool: AnyPool,
}

impl Database {
    /// A pool that connects when first used.
    pub(super) fn connect_lazy(url: &Url, connections: u32) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let sqlite = url.scheme() == "sqlite";
        let options =
            AnyConnectOptions::from_str(url.as_str()).map_err(failure)?.log_statements(LevelFilter::Off).log_slow_statements(LevelFilter::Off, Duration::ZERO);
        let pool = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).after_connect(move |connection, _| {
            Box::pin(async move {
                if sqlite {
                    // Readers then do not block the writer, nor the writer them.
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                }
                Ok(())
            })
        });
        Ok(Self { pool: pool.connect_lazy_with(options) })
    }

    /// Creates a missing SQLite file, then takes the steps of `schema` that are missing.
    pub(super) async fn migrate(url: &Url, schema: &Schema) -> Result<(), StoreError> {
        let mut url = url.clone();
        if url.scheme() == "sqlite" && !url.query_pairs().any(|(key, _)| key == "mode") {
            url.query_pairs_mut().append_pair("mode", "rwc");
        }
        let database = Self::connect_lazy(&url, 1)?;
        let outcome = schema.migrator().run(&database.pool).await;
        database.pool.close().await;
        outcome.map_err(|error| match error {
            MigrateError::Execute(error) => failure(error),
            MigrateError::VersionMissing(found) => StoreError::SchemaVersion { expected: schema.newest(), found },
            other => StoreError::Fault(Box::new(other)),
        })
    }

    /// Checks that the database answers and has the newest version of `schema`.
    pub(super) async fn check(&self, schema: &Schema) -> Result<(), StoreError> {
        let expected = schema.newest();
        let mut connection = self.pool.acquire().await.map_err(failure)?;
        match sqlx::query_scalar::<_, i64>(schema.version).fetch_one(&mut *connection).await {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(StoreError::SchemaVersion { expected, found }),
            // The connection works, so what is missing is the table.
            Err(sqlx::Error::Database(_)) => Err(StoreError::SchemaVersion { expected, found: 0 }),
            Err(error) => Err(failure(error)),
        }
    }
}

/// What the driver said, in our words.
pub(super) fn failure(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Database(database) if is_unavailable(database.code().as_deref()) => StoreError::Unavailable(Box::new(error)),
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            StoreError::Unavailable(Box::new(error))
        }
        _ => StoreError::Fault(Box::new(error)),
    }
}

/// Whether a code says that the same statement may succeed later: of Postgres, connections (08), resources (53), the
/// operator (57) and serialisation (40); of SQLite, BUSY (5), LOCKED (6) and CANTOPEN (14) with their extensions.
fn is_unavailable(code: Option<&str>) -> bool {
    code.is_some_and(|code| match code.len() {
        5 => ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)),
        _ => code.parse::<u32>().is_ok_and(|number| matches!(number & 0xff, 5 | 6 | 14)),
    })
}
