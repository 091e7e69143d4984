//! A service with a warehouse, on each pair of databases.

use std::{path::PathBuf, sync::Arc};

use sqlx::{MySqlConnection, PgConnection};
use tempfile::TempDir;

use crate::{
    calls::status,
    mysql,
    postgres::{self, Cluster, Database},
    server::{Builder, Clients, Server, eventually, program, sqlite},
    upkeep::discarding,
};

/// Kinds of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
    Mysql,
}

/// A database that tests look into beside the program.
#[derive(Clone)]
pub struct Peek {
    /// Where the program finds it.
    pub url: String,
    place: Place,
}

#[derive(Clone)]
enum Place {
    File(PathBuf, Arc<TempDir>),
    Postgres(Arc<Database>),
    Mysql(Arc<mysql::Database>),
}

impl Peek {
    /// An empty one.
    pub async fn new(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => {
                let dir = tempfile::tempdir().expect("a temporary directory can be made");
                let file = dir.path().join("peek.db");
                Self {
                    url: format!("sqlite:{}", file.display()),
                    place: Place::File(file, Arc::new(dir)),
                }
            }
            Kind::Postgres => Self::of(Cluster::shared().database().await),
            Kind::Mysql => {
                let database = mysql::Cluster::shared().database().await;
                Self {
                    url: database.url.clone(),
                    place: Place::Mysql(Arc::new(database)),
                }
            }
        }
    }

    /// One of a server that a test restarts.
    pub fn of(database: Database) -> Self {
        Self {
            url: database.url.clone(),
            place: Place::Postgres(Arc::new(database)),
        }
    }

    /// The file of an SQLite one.
    pub fn file(&self) -> &PathBuf {
        match &self.place {
            Place::File(file, _dir) => file,
            _ => panic!("it is a file"),
        }
    }

    /// The same, where the program is told another place.
    pub fn at(self, url: &str) -> Self {
        Self {
            url: url.to_owned(),
            ..self
        }
    }

    /// The database of a PostgreSQL server.
    pub fn database(&self) -> &Database {
        match &self.place {
            Place::Postgres(database) => database,
            _ => panic!("it is PostgreSQL's"),
        }
    }

    /// Runs statements.
    pub async fn run(&self, sql: &str) {
        match &self.place {
            Place::File(file, _dir) => drop(sqlite(file, sql)),
            Place::Postgres(database) => database.run(sql).await,
            Place::Mysql(database) => database.run(sql).await,
        }
    }

    /// The first column, which is text, of a query.
    pub async fn lines(&self, sql: &str) -> Vec<String> {
        let query = sqlx::AssertSqlSafe(sql.to_owned());
        let lines = match &self.place {
            Place::File(file, _dir) => {
                return sqlite(file, sql).lines().map(str::to_owned).collect();
            }
            Place::Postgres(database) => {
                let mut session = database.session().await;
                sqlx::query_scalar(query).fetch_all(&mut session).await
            }
            Place::Mysql(database) => {
                let mut session = database.session().await;
                sqlx::query_scalar(query).fetch_all(&mut session).await
            }
        };
        lines.expect("read")
    }

    /// The history as `id|type|data`, by id.
    pub async fn history(&self) -> Vec<String> {
        self.events("evt_history").await
    }

    /// The queue in the same form.
    pub async fn queue(&self) -> Vec<String> {
        self.events("evt_queue").await
    }

    async fn events(&self, table: &str) -> Vec<String> {
        let row = match &self.place {
            Place::Mysql(_) => "CONCAT(id, '|', type, '|', data)",
            _ => "CAST(id AS TEXT) || '|' || type || '|' || CAST(data AS TEXT)",
        };
        self.lines(&format!("SELECT {row} FROM {table} ORDER BY id"))
            .await
    }

    /// Deletes up to an id, as a discarder does that records nothing.
    pub async fn discard(&self, through: i64) {
        self.run(&format!("DELETE FROM evt_queue WHERE id <= {through}"))
            .await;
    }

    /// Whatever wants to move a position fails, until they thaw.
    pub async fn freeze_positions(&self) {
        self.run(match &self.place {
            Place::File(..) => {
                "CREATE TRIGGER frozen BEFORE UPDATE OF last_evt_id ON evt_consumers
                    BEGIN SELECT RAISE(ABORT, 'frozen'); END"
            }
            Place::Postgres(_) => {
                "CREATE FUNCTION frozen() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN RAISE 'frozen'; END $$;
                CREATE TRIGGER frozen BEFORE UPDATE OF last_evt_id ON evt_consumers
                    EXECUTE FUNCTION frozen()"
            }
            Place::Mysql(_) => {
                "CREATE TRIGGER frozen BEFORE UPDATE ON evt_consumers FOR EACH ROW
                    IF NEW.last_evt_id <> OLD.last_evt_id THEN SIGNAL SQLSTATE '45000'; END IF"
            }
        })
        .await;
    }

    /// Positions move again.
    pub async fn thaw_positions(&self) {
        self.run(match &self.place {
            Place::Postgres(_) => "DROP TRIGGER frozen ON evt_consumers; DROP FUNCTION frozen",
            _ => "DROP TRIGGER frozen",
        })
        .await;
    }

    /// A transaction of an application that stays open.
    pub async fn begin(&self) -> Held {
        let mut held = match &self.place {
            Place::File(..) => panic!("SQLite has one writer at a time"),
            Place::Postgres(database) => Held::Postgres(database.session().await),
            Place::Mysql(database) => Held::Mysql(database.session().await),
        };
        held.run("BEGIN").await;
        held
    }

    /// What `eventstream archive verify` says of it, and whether it is content.
    pub async fn verify(&self) -> (bool, String) {
        let output = program(&["archive", "verify", "--to", &self.url]).await;
        let text = String::from_utf8(output.stdout).expect("text");
        let errors = String::from_utf8(output.stderr).expect("text");
        (output.status.success(), format!("{text}{errors}"))
    }

    pub async fn assert_sound(&self) {
        let (sound, text) = self.verify().await;
        assert!(sound, "{text}");
    }
}

/// An open transaction.
pub enum Held {
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

impl Held {
    pub async fn run(&mut self, sql: &str) {
        match self {
            Self::Postgres(session) => postgres::run(session, sql).await,
            Self::Mysql(session) => mysql::run(session, sql).await,
        }
    }

    /// Adds an event; its id.
    pub async fn insert(&mut self) -> i64 {
        match self {
            Self::Postgres(session) => postgres::insert(session).await,
            Self::Mysql(session) => mysql::insert(session).await,
        }
    }
}

/// A service, its database and its warehouse.
pub struct Stage {
    pub server: Server,
    pub active: Peek,
    pub warehouse: Peek,
}

impl Stage {
    /// Started, on empty databases.
    pub async fn start(active: Kind, warehouse: Kind) -> Self {
        Self::on(active, Peek::new(warehouse).await).await
    }

    /// Started on an empty database, with this warehouse.
    pub async fn on(active: Kind, warehouse: Peek) -> Self {
        let active = Peek::new(active).await;
        let server = service(&active, &warehouse).start().await;
        Self {
            server,
            active,
            warehouse,
        }
    }

    /// Started, on empty databases, with a discarder that is never at rest.
    pub async fn discarding(active: Kind, warehouse: Kind) -> Self {
        let (active, warehouse) = (Peek::new(active).await, Peek::new(warehouse).await);
        let server = discarding(service(&active, &warehouse)).start().await;
        Self {
            server,
            active,
            warehouse,
        }
    }

    pub async fn clients(&self) -> Clients {
        self.server.clients().await
    }

    /// Ends the service and starts it again, so that its memory is empty.
    pub async fn restart(&mut self) {
        self.server.signal("TERM");
        self.server.ended().await;
        self.server = self.server.again().start().await;
    }

    /// The service goes on without an archiver, which would record what it finds
    /// when a tenure begins.
    pub async fn stop_archiving(&mut self) {
        self.server.signal("TERM");
        self.server.ended().await;
        let reader = self.server.again().arg("--archive-run=false");
        self.server = reader.start().await;
    }

    /// Waits until everything up to `id` is archived.
    pub async fn archived(&self, id: i64) {
        archived(&mut self.clients().await, id).await;
    }

    /// Waits until the archiver has a problem; what it is.
    pub async fn problem(&self) -> String {
        let mut clients = self.clients().await;
        eventually(async || {
            let status = status(&mut clients).await;
            let stopped = status.stopped_consumers.into_iter();
            let mut archivers = stopped.filter(|one| one.component == "ARCHIVER");
            archivers.next().map(|one| one.problem).ok_or("no problem")
        })
        .await
    }
}

/// A service on `active` that archives into `warehouse`, to start.
pub fn service(active: &Peek, warehouse: &Peek) -> Builder {
    Server::builder()
        .on(&active.url)
        .arg(format!("--archive-url={}", warehouse.url))
        // A lease of a killed service lapses soon.
        .arg("--stream-session-beat=100ms")
        .arg("--stream-session-lapse=300ms")
        .env("EVENTSTREAM_UPKEEP_LEASE", "1s")
}

/// Waits until everything up to `id` is archived.
pub async fn archived(clients: &mut Clients, id: i64) {
    eventually(async || match status(clients).await.archived_id {
        at if at >= id => Ok(()),
        at => Err(at),
    })
    .await;
}

/// Stamps a function for each pair of databases.
macro_rules! each_pair {
    ($($function:ident),* $(,)?) => { $(
        mod $function {
            use super::super::stage::Kind::{Mysql, Postgres, Sqlite};

            #[tokio::test]
            async fn sqlite_to_sqlite() {
                super::$function(Sqlite, Sqlite).await;
            }

            #[tokio::test]
            async fn sqlite_to_postgres() {
                super::$function(Sqlite, Postgres).await;
            }

            #[tokio::test]
            async fn postgres_to_sqlite() {
                super::$function(Postgres, Sqlite).await;
            }

            #[tokio::test]
            async fn postgres_to_postgres() {
                super::$function(Postgres, Postgres).await;
            }

            #[tokio::test]
            async fn sqlite_to_mysql() {
                super::$function(Sqlite, Mysql).await;
            }

            #[tokio::test]
            async fn mysql_to_mysql() {
                super::$function(Mysql, Mysql).await;
            }

            #[tokio::test]
            async fn mysql_to_postgres() {
                super::$function(Mysql, Postgres).await;
            }
        }
    )* };
}
pub(super) use each_pair;
