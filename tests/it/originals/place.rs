//! A database of each engine with the tables that the original's own scripts
//! make, for both servers.

use std::path::Path;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tempfile::TempDir;

use crate::{
    mysql, postgres,
    server::{eventually, sqlite},
};

/// What a database is made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
    Mysql,
}

impl Engine {
    /// Its name in the original.
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgresql",
            Self::Mysql => "mysql",
        }
    }

    /// A script of the original: `active` or `dwh`, and its name.
    fn script(self, part: &str, name: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let scripts = root.join(".cache/tools/futoin/node_modules/futoin-eventstream/sql");
        let file = scripts.join(part).join(self.name()).join(name);
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}

/// A database.
pub enum Place {
    Sqlite(TempDir),
    Postgres(postgres::Database),
    Mysql(mysql::Database),
}

impl Place {
    /// A database with the original's tables of events and consumers.
    pub async fn active(engine: Engine) -> Self {
        let place = Self::empty(engine).await;
        place
            .run(&engine.script("active", "V18.1__Tables.sql"))
            .await;
        if engine == Engine::Mysql {
            place
                .run(&engine.script("active", "V18.1.1__utf8mb4.sql"))
                .await;
        }
        place
    }

    /// A database with the original's table of archived events.
    pub async fn warehouse(engine: Engine) -> Self {
        let place = Self::empty(engine).await;
        place.run(&engine.script("dwh", "V18.1__History.sql")).await;
        place
    }

    async fn empty(engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                Self::Sqlite(tempfile::tempdir().expect("a temporary directory can be made"))
            }
            Engine::Postgres => Self::Postgres(postgres::Cluster::shared().database().await),
            Engine::Mysql => Self::Mysql(mysql::Cluster::shared().database().await),
        }
    }

    fn file(dir: &TempDir) -> std::path::PathBuf {
        dir.path().join("events.db")
    }

    /// What our service calls it.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(dir) => format!("sqlite:{}", Self::file(dir).display()),
            Self::Postgres(database) => database.url.clone(),
            Self::Mysql(database) => database.url.clone(),
        }
    }

    /// What `futoin-database` calls it.
    pub fn settings(&self) -> Value {
        let directory = |url: &str| {
            let (_, directory) = url.split_once('=').expect("by a Unix socket");
            directory.to_owned()
        };
        match self {
            Self::Sqlite(dir) => json!({"TYPE": "sqlite", "SOCKET": Self::file(dir)}),
            Self::Postgres(database) => json!({
                "TYPE": "postgresql", "HOST": directory(&database.url),
                "USER": "postgres", "DB": database.name,
            }),
            Self::Mysql(database) => json!({
                "TYPE": "mysql", "HOST": "localhost", "SOCKET": directory(&database.url),
                "USER": "root", "DB": database.name,
            }),
        }
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        match self {
            Self::Sqlite(dir) => drop(sqlite(&Self::file(dir), sql)),
            Self::Postgres(database) => database.run(sql).await,
            Self::Mysql(database) => database.run(sql).await,
        }
    }

    /// A column as texts; `rest` is the query from its FROM on.
    pub async fn texts(&self, column: &str, rest: &str) -> Vec<String> {
        let cast = |kind| AssertSqlSafe(format!("SELECT CAST({column} AS {kind}) {rest}"));
        match self {
            Self::Sqlite(dir) => {
                let lines = sqlite(&Self::file(dir), &format!("SELECT {column} {rest}"));
                lines.lines().map(str::to_owned).collect()
            }
            Self::Postgres(database) => {
                let query = sqlx::query_scalar(cast("text"));
                let found = query.fetch_all(&mut database.session().await).await;
                found.expect("read")
            }
            Self::Mysql(database) => {
                let query = sqlx::query_scalar(cast("char"));
                let found = query.fetch_all(&mut database.session().await).await;
                found.expect("read")
            }
        }
    }

    /// Where the consumer stands, if it is registered.
    pub async fn position(&self, ident: &str) -> Option<i64> {
        let rest = format!("FROM evt_consumers WHERE ident = '{ident}'");
        let found = self.texts("last_evt_id", &rest).await;
        found.first().map(|id| id.parse().expect("a number"))
    }

    /// Waits until the consumer stands there.
    pub async fn reaches(&self, ident: &str, id: i64) {
        eventually(async || match self.position(ident).await {
            position if position == Some(id) => Ok(()),
            position => Err(position),
        })
        .await;
    }

    /// Ids of the events that are there, in order.
    pub async fn ids(&self, table: &str) -> Vec<i64> {
        // By the table's column, not by the texts, which have its name.
        let rest = format!("FROM {table} ORDER BY {table}.id");
        let ids = self.texts("id", &rest).await;
        ids.iter().map(|id| id.parse().expect("a number")).collect()
    }
}
