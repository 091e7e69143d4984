//! MariaDB: a server of the installed version in a temporary directory, by its
//! own defaults (durable), reached by a Unix socket.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, MySqlConnection, Row as _};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{Database, Engine, Session};
use crate::{
    measure::rate,
    processes,
    workload::{KIND, data, padding},
};

/// As the service makes them.
const TABLES: [&str; 2] = [
    "CREATE TABLE evt_queue (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        type VARCHAR(16) NOT NULL,
        data LONGTEXT NOT NULL,
        ts DATETIME NOT NULL
    ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE evt_consumers (
        id SMALLINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        last_evt_id BIGINT UNSIGNED NOT NULL DEFAULT 0,
        reg_time DATETIME NOT NULL,
        last_time DATETIME NOT NULL,
        ident VARCHAR(64) NOT NULL UNIQUE,
        INDEX last_evt_id (last_evt_id)
    ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
];

/// Starts the server, says its process and version, and outlives whoever
/// started it: at the end of its input it stops the server and cleans up.
const KEEPER: &str = r#"
    set -eu
    trap '' INT TERM HUP
    dir=$(mktemp -d "$1/load-XXXXXX")
    as=
    if [ "$(id -u)" = 0 ]; then # mariadbd refuses root
        as='setpriv --reuid mysql --regid mysql --clear-groups'
        chown mysql "$dir"
    fi
    cd "$dir"
    $as mariadb-install-db --no-defaults --datadir="$dir/data" --skip-test-db \
        --auth-root-authentication-method=normal --skip-name-resolve >install.log 2>&1 \
        || { cat install.log >&2; exit 1; }
    $as mariadbd --no-defaults --datadir="$dir/data" --socket="$dir/socket" --skip-networking \
        --character-set-server=utf8mb4 >>log 2>&1 </dev/null &
    server=$!
    until mariadb-admin --no-defaults --socket="$dir/socket" --user=root ping >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || { cat log >&2; exit 1; }
        sleep 0.1
    done
    echo "$dir"
    echo "$server"
    mariadb --no-defaults --socket="$dir/socket" --user=root -Ne 'SELECT version()'
    cat >/dev/null
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -rf "$dir"
"#;

/// `max_connections` is 151 by default: the service has some of them, and those
/// of the measurement before may still be closing.
const WRITERS: usize = 64;

/// A running server.
pub(super) struct Cluster {
    dir: PathBuf,
    process: u32,
    about: String,
    databases: AtomicUsize,
    keeper: Child,
    leave: Option<ChildStdin>,
}

impl Cluster {
    pub(super) fn start(dir: &Path) -> anyhow::Result<Self> {
        let mut keeper = std::process::Command::new("bash")
            .args(["-c", KEEPER, "keeper"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = keeper.stdout.take().context("stdout is piped")?;
        let mut lines = BufReader::new(output).lines();
        let mut line = || lines.next().context("MariaDB does not start");
        let dir = line()??.into();
        let process = line()??.trim().parse()?;
        let version = line()??;
        Ok(Self {
            dir,
            process,
            about: format!("MySQL {version}, its defaults (flush at each commit)"),
            databases: AtomicUsize::new(0),
            leave: keeper.stdin.take(),
            keeper,
        })
    }

    fn url(&self, database: &str) -> String {
        let socket = self.dir.join("socket");
        format!(
            "mysql://root@localhost/{database}?ssl-mode=disabled&socket={}",
            socket.display()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.leave.take());
        let _ = self.keeper.wait();
    }
}

#[async_trait]
impl Engine for Cluster {
    fn about(&self) -> &str {
        &self.about
    }

    fn add_targets(&self) -> [(usize, Option<f64>); 4] {
        [(1, None), (16, None), (64, Some(1.5)), (256, Some(3.0))]
    }

    fn most_writers(&self) -> usize {
        WRITERS
    }

    async fn database(&self) -> anyhow::Result<Arc<dyn Database>> {
        let name = format!("load_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut admin = MySqlConnection::connect(&self.url("mysql")).await?;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut admin)
            .await?;
        admin.close().await?;
        let database = OneDatabase {
            socket: self.dir.join("socket"),
            url: self.url(&name),
            name,
        };
        let mut session = database.connect().await?;
        for table in TABLES {
            sqlx::raw_sql(table).execute(&mut session).await?;
        }
        session.close().await?;
        Ok(Arc::new(database))
    }

    fn cpu(&self) -> anyhow::Result<Option<f64>> {
        processes::cpu_of_family(self.process).map(Some)
    }
}

struct OneDatabase {
    socket: PathBuf,
    name: String,
    url: String,
}

impl OneDatabase {
    async fn connect(&self) -> anyhow::Result<MySqlConnection> {
        Ok(MySqlConnection::connect(&self.url).await?)
    }
}

#[async_trait]
impl Database for OneDatabase {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        Ok(Box::new(self.connect().await?))
    }

    async fn own_program(&self, clients: usize, period: Duration) -> anyhow::Result<(String, f64)> {
        let clients = clients.min(WRITERS);
        // It counts statements, not seconds: some thousands a second are usual.
        let count = period.as_secs().max(1) * 4000;
        let insert = format!(
            "INSERT INTO evt_queue (type, data, ts) VALUES ('{KIND}', '{}', UTC_TIMESTAMP())",
            data(0)
        );
        let begun = Instant::now();
        let output = Command::new("mariadb-slap")
            .args(["--no-defaults", "--user=root"])
            .arg(format!("--socket={}", self.socket.display()))
            .arg(format!("--create-schema={}", self.name))
            .arg(format!("--concurrency={clients}"))
            .arg(format!("--number-of-queries={count}"))
            .arg(format!("--query={insert}"))
            .arg("--no-drop")
            .kill_on_drop(true)
            .output()
            .await
            .context("no mariadb-slap")?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "mariadb-slap: {text}");
        Ok((
            format!("mariadb-slap, {clients} clients"),
            rate(count, begun.elapsed()),
        ))
    }
}

#[async_trait]
impl Session for MySqlConnection {
    async fn insert(&mut self, data: &str) -> anyhow::Result<i64> {
        const INSERT: &str =
            "INSERT INTO evt_queue (type, data, ts) VALUES (?, ?, UTC_TIMESTAMP())";
        let done = sqlx::query(INSERT).bind(KIND).bind(data).execute(self);
        Ok(done.await?.last_insert_id().try_into()?)
    }

    async fn insert_and_hold(&mut self, data: &str, hold: Duration) -> anyhow::Result<()> {
        let mut tx = self.begin().await?;
        Session::insert(&mut *tx, data).await?;
        sleep(hold).await;
        Ok(tx.commit().await?)
    }

    async fn insert_rows(&mut self, data: &[String]) -> anyhow::Result<()> {
        let values = vec!["(?, ?, UTC_TIMESTAMP())"; data.len()].join(", ");
        let sql = format!("INSERT INTO evt_queue (type, data, ts) VALUES {values}");
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for data in data {
            insert = insert.bind(KIND).bind(data);
        }
        insert.execute(self).await?;
        Ok(())
    }

    async fn fill(&mut self, count: i64) -> anyhow::Result<()> {
        let fill = format!(
            "INSERT INTO evt_queue (type, data, ts)
            SELECT '{KIND}', concat('{{\"n\":\"', lpad(seq, 10, '0'), '\",\"pad\":\"{}\"}}'),
                UTC_TIMESTAMP()
            FROM seq_1_to_{count} ORDER BY seq",
            padding()
        );
        for settle in [fill.as_str(), "ANALYZE TABLE evt_queue"] {
            sqlx::raw_sql(AssertSqlSafe(settle.to_owned()))
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn fill_consumers(&mut self, count: i64) -> anyhow::Result<()> {
        let fill = format!(
            "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
            SELECT concat('local:OTHER', seq), (SELECT max(id) FROM evt_queue), UTC_TIMESTAMP(),
                UTC_TIMESTAMP()
            FROM seq_1_to_{count} ORDER BY seq"
        );
        for settle in [fill.as_str(), "ANALYZE TABLE evt_consumers"] {
            sqlx::raw_sql(AssertSqlSafe(settle.to_owned()))
                .execute(&mut *self)
                .await?;
        }
        Ok(())
    }

    async fn select_all(&mut self) -> anyhow::Result<u64> {
        const ALL: &str = "SELECT id, type, data, CAST(ts AS CHAR) FROM evt_queue ORDER BY id";
        let mut rows = sqlx::query(ALL).fetch(self);
        let mut count = 0;
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            let _id: u64 = row.try_get(0)?;
            let kind: String = row.try_get(1)?;
            let data: String = row.try_get(2)?;
            let ts: String = row.try_get(3)?;
            bytes += kind.len() + data.len() + ts.len();
            count += 1;
        }
        ensure!(bytes > 0, "the events have data");
        Ok(count)
    }

    async fn copy_all(&mut self) -> anyhow::Result<()> {
        const COPY: [&str; 2] = [
            "CREATE TABLE evt_copy LIKE evt_queue",
            "INSERT INTO evt_copy (id, type, data, ts)
                SELECT id, type, data, ts FROM evt_queue ORDER BY id",
        ];
        for statement in COPY {
            sqlx::raw_sql(statement).execute(&mut *self).await?;
        }
        Ok(())
    }
}
