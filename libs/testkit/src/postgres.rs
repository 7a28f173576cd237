//! A database of its own for each test, dropped with it.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use url::Url;

use crate::environment;

/// A fresh, empty database on the test server.
#[derive(Debug)]
pub struct PostgresDatabase {
    server: Url,
    name: String,
}

impl PostgresDatabase {
    /// Creates a database.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn create() -> Self {
        Self::with("").await
    }

    /// Creates a copy of another database, which nobody may be connected to: migrate one, then copy it for each test.
    ///
    /// # Panics
    /// When the server does not answer or has no such database.
    pub async fn copy_of(template: &Self) -> Self {
        Self::with(&format!(" TEMPLATE \"{}\"", template.name)).await
    }

    async fn with(options: &str) -> Self {
        let server = environment("GUMSHOE_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres");
        let server: Url = server.parse().unwrap_or_else(|error| panic!("GUMSHOE_TEST_POSTGRES `{server}` is not a URL: {error}"));
        let name = format!("gumshoe_test_{}", uuid::Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE \"{name}\"{options}")).await.unwrap_or_else(|error| {
            panic!("tests need a Postgres server where databases can be created; start one or set GUMSHOE_TEST_POSTGRES (now `{server}`): {error}")
        });
        Self { server, name }
    }

    /// Where the database is.
    #[must_use]
    pub fn url(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }
}

impl Drop for PostgresDatabase {
    fn drop(&mut self) {
        let (server, statement) = (self.server.clone(), format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name));
        // A test's own runtime cannot be waited for from here.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(execute(&server, statement)).map_err(std::io::Error::other)
        })
        .join();
        if !matches!(dropped, Ok(Ok(()))) {
            eprintln!("test database `{}` is left behind: {dropped:?}", self.name);
        }
    }
}

async fn execute(server: &Url, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(server.as_str()).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await
}
