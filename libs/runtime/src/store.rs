//! A database reached through one URL, SQLite or Postgres, with the same schema and the same statements on both: what the stores of
//! all services stand on.

use std::{str::FromStr as _, time::Duration};

use sqlx::{
    Any, AnyConnection, AnyPool, ConnectOptions as _, Executor as _, SqlSafeStr as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions},
    error::ErrorKind,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};
use tracing::log::LevelFilter;
use url::Url;

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What the driver said, in our words.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// A row with the same key is there already.
    #[error("exists already")]
    Taken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A row that this one refers to is not there.
    #[error("not found")]
    Missing(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The schema is not the one that this program needs.
    #[error("the schema has version {found}, but {expected} is needed: run `migrate`")]
    SchemaVersion {
        /// What this program needs.
        expected: i64,
        /// What is there.
        found: i64,
    },
    /// The database does not answer; the same may succeed later.
    #[error("the database does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The database answered with something that should not be.
    #[error("the database failed")]
    Fault(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A schema: the steps that make it, in order; the version is their number.
pub struct Schema {
    /// The table that records which steps were taken.
    pub table: &'static str,
    /// How to read the version out of it.
    pub version: &'static str,
    /// Name and statements of each step.
    pub steps: &'static [(&'static str, &'static str)],
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
pub struct Database {
    /// The connections.
    pub pool: AnyPool,
    sqlite: bool,
}

impl Database {
    /// A pool that connects when first used.
    ///
    /// # Errors
    /// [`DatabaseError::Fault`] when the URL cannot be used.
    pub fn connect_lazy(url: &Url, connections: u32) -> Result<Self, DatabaseError> {
        sqlx::any::install_default_drivers();
        let sqlite = url.scheme() == "sqlite";
        let options = AnyConnectOptions::from_str(url.as_str())?.log_statements(LevelFilter::Off).log_slow_statements(LevelFilter::Off, Duration::ZERO);
        let pool = AnyPoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT).after_connect(move |connection, _| {
            Box::pin(async move {
                if sqlite {
                    // Readers then do not block the writer, nor the writer them.
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                }
                Ok(())
            })
        });
        Ok(Self { pool: pool.connect_lazy_with(options), sqlite })
    }

    /// Creates a missing SQLite file, then takes the steps of `schema` that are missing.
    ///
    /// # Errors
    /// [`DatabaseError::SchemaVersion`] when the schema is newer than this program, [`DatabaseError::Unavailable`] and [`DatabaseError::Fault`].
    pub async fn migrate(url: &Url, schema: &Schema) -> Result<(), DatabaseError> {
        let mut url = url.clone();
        if url.scheme() == "sqlite" && !url.query_pairs().any(|(key, _)| key == "mode") {
            url.query_pairs_mut().append_pair("mode", "rwc");
        }
        let database = Self::connect_lazy(&url, 1)?;
        let outcome = schema.migrator().run(&database.pool).await;
        database.pool.close().await;
        outcome.map_err(|error| match error {
            MigrateError::Execute(error) => error.into(),
            MigrateError::VersionMissing(found) => DatabaseError::SchemaVersion { expected: schema.newest(), found },
            other => DatabaseError::Fault(Box::new(other)),
        })
    }

    /// Checks that the database answers and has the newest version of `schema`.
    ///
    /// # Errors
    /// [`DatabaseError::SchemaVersion`] and [`DatabaseError::Unavailable`].
    pub async fn check(&self, schema: &Schema) -> Result<(), DatabaseError> {
        let expected = schema.newest();
        let mut connection = self.pool.acquire().await?;
        match sqlx::query_scalar::<_, i64>(schema.version).fetch_one(&mut *connection).await {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(DatabaseError::SchemaVersion { expected, found }),
            // The connection works, so what is missing is the table.
            Err(sqlx::Error::Database(_)) => Err(DatabaseError::SchemaVersion { expected, found: 0 }),
            Err(error) => Err(error.into()),
        }
    }

    /// A transaction that will write.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn begin(&self) -> Result<Transaction<'static, Any>, DatabaseError> {
        // A deferred transaction of SQLite fails when it turns from reading to writing beside another writer.
        Ok(self.pool.begin_with(if self.sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" }).await?)
    }
}

/// A connection, in or outside a transaction.
pub type Connection = AnyConnection;

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => match database.kind() {
                ErrorKind::UniqueViolation => Self::Taken(Box::new(error)),
                ErrorKind::ForeignKeyViolation => Self::Missing(Box::new(error)),
                _ if is_unavailable(database.code().as_deref()) => Self::Unavailable(Box::new(error)),
                _ => Self::Fault(Box::new(error)),
            },
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(Box::new(error))
            }
            _ => Self::Fault(Box::new(error)),
        }
    }
}

/// Lets `?` make a store's own error, which is made of a [`DatabaseError`], of what the driver said.
#[macro_export]
macro_rules! from_driver {
    ($error:ty) => {
        impl From<sqlx::Error> for $error {
            fn from(error: sqlx::Error) -> Self {
                $crate::store::DatabaseError::from(error).into()
            }
        }
    };
}

/// Whether a code says that the same statement may succeed later: of Postgres, connections (08), resources (53), the
/// operator (57) and serialisation (40); of SQLite, BUSY (5), LOCKED (6) and CANTOPEN (14) with their extensions.
fn is_unavailable(code: Option<&str>) -> bool {
    code.is_some_and(|code| match code.len() {
        5 => ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)),
        _ => code.parse::<u32>().is_ok_and(|number| matches!(number & 0xff, 5 | 6 | 14)),
    })
}
