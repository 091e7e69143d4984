//! PostgreSQL: a server of the installed version in a temporary directory, by
//! its own defaults (durable), reached by a Unix socket.

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
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use tokio::{process::Command, time::sleep};

use super::{Database, Engine, Session};
use crate::{
    processes,
    workload::{KIND, data, padding},
};

const TABLES: &str = include_str!("../../../migrations/active/postgres/0001_ftn18_tables.sql");

/// Starts the server, says its process and version, and outlives whoever
/// started it: at the end of its input it stops the server and cleans up.
const KEEPER: &str = r#"
    set -eu
    trap '' INT TERM HUP
    bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1 || true)
    [ -z "$bin" ] || PATH="$bin:$PATH"
    dir=$(mktemp -d "$1/load-XXXXXX")
    as=
    if [ "$(id -u)" = 0 ]; then # initdb refuses root
        as='setpriv --reuid postgres --regid postgres --clear-groups'
        chown postgres "$dir"
    fi
    cd "$dir"
    $as "$(command -v initdb)" --auth=trust --username=postgres --encoding=UTF8 \
        --locale=C.UTF-8 --pgdata="$dir/data" >initdb.log 2>&1 || { cat initdb.log >&2; exit 1; }
    $as "$(command -v pg_ctl)" --pgdata="$dir/data" --log="$dir/data/log" -w \
        -o "-c listen_addresses='' -k $dir" start >/dev/null
    echo "$dir"
    head -n 1 data/postmaster.pid
    postgres --version
    cat >/dev/null
    $as "$(command -v pg_ctl)" --pgdata="$dir/data" -m immediate stop >/dev/null 2>&1 || true
    rm -rf "$dir"
"#;

/// `max_connections` is 100 by default: the service has some of them, and those of
/// the measurement before may still be closing.
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
        let mut line = || lines.next().context("PostgreSQL does not start");
        let dir = line()??.into();
        let process = line()??.trim().parse()?;
        let version = line()??;
        Ok(Self {
            dir,
            process,
            about: format!("{version}, its defaults (fsync, synchronous_commit)"),
            databases: AtomicUsize::new(0),
            leave: keeper.stdin.take(),
            keeper,
        })
    }

    fn url(&self, database: &str) -> String {
        let dir = self.dir.display();
        format!("postgres://postgres@localhost/{database}?host={dir}")
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
        let mut admin = PgConnection::connect(&self.url("postgres")).await?;
        let create = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut admin)
            .await?;
        admin.close().await?;
        let database = OneDatabase {
            socket: self.dir.clone(),
            url: self.url(&name),
            name,
        };
        let mut session = database.connect().await?;
        sqlx::raw_sql(TABLES).execute(&mut session).await?;
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
    async fn connect(&self) -> anyhow::Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
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
        let script = tempfile::NamedTempFile::new()?;
        let insert = format!(
            "INSERT INTO evt_queue (type, data, ts) VALUES ('{KIND}', '{}', CURRENT_TIMESTAMP);\n",
            data(0)
        );
        tokio::fs::write(script.path(), insert).await?;
        let output = Command::new("pgbench")
            .args(["--no-vacuum", "--protocol=prepared", "--username=postgres"])
            .args([
                format!("--client={clients}"),
                format!("--jobs={}", clients.min(2)),
            ])
            .arg(format!("--time={}", period.as_secs().max(1)))
            .arg("--file")
            .arg(script.path())
            .arg("--host")
            .arg(&self.socket)
            .arg(&self.name)
            .kill_on_drop(true)
            .output()
            .await
            .context("no pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rest| rest.split_whitespace().next());
        let rate = rate.with_context(|| format!("pgbench: {text}"))?;
        Ok((format!("pgbench, {clients} clients"), rate.parse()?))
    }
}

#[async_trait]
impl Session for PgConnection {
    async fn insert(&mut self, data: &str) -> anyhow::Result<i64> {
        const INSERT: &str = "INSERT INTO evt_queue (type, data, ts)
            VALUES ($1, $2::text::json, CURRENT_TIMESTAMP) RETURNING id";
        let row = sqlx::query(INSERT).bind(KIND).bind(data).fetch_one(self);
        Ok(row.await?.try_get(0)?)
    }

    async fn insert_and_hold(&mut self, data: &str, hold: Duration) -> anyhow::Result<()> {
        let mut tx = self.begin().await?;
        Session::insert(&mut *tx, data).await?;
        sleep(hold).await;
        Ok(tx.commit().await?)
    }

    async fn insert_rows(&mut self, data: &[String]) -> anyhow::Result<()> {
        let row = |n: usize| {
            format!(
                "(${}, ${}::text::json, CURRENT_TIMESTAMP)",
                2 * n + 1,
                2 * n + 2
            )
        };
        let values: Vec<String> = (0..data.len()).map(row).collect();
        let sql = format!(
            "INSERT INTO evt_queue (type, data, ts) VALUES {}",
            values.join(", ")
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for data in data {
            insert = insert.bind(KIND).bind(data);
        }
        insert.execute(self).await?;
        Ok(())
    }

    async fn fill(&mut self, count: i64) -> anyhow::Result<()> {
        const FILL: &str = "INSERT INTO evt_queue (type, data, ts)
            SELECT $2, format('{\"n\":\"%s\",\"pad\":\"%s\"}', lpad(i::text, 10, '0'), $3::text)::json,
                CURRENT_TIMESTAMP
            FROM generate_series(1, $1) AS i";
        sqlx::query(FILL)
            .bind(count)
            .bind(KIND)
            .bind(padding())
            .execute(&mut *self)
            .await?;
        for settle in ["VACUUM (ANALYZE) evt_queue", "CHECKPOINT"] {
            sqlx::raw_sql(settle).execute(&mut *self).await?;
        }
        Ok(())
    }

    async fn fill_consumers(&mut self, count: i64) -> anyhow::Result<()> {
        const FILL: &str = "INSERT INTO evt_consumers (ident, last_evt_id, reg_time, last_time)
            SELECT 'local:OTHER' || i, (SELECT max(id) FROM evt_queue), CURRENT_TIMESTAMP,
                CURRENT_TIMESTAMP
            FROM generate_series(1, $1) AS i";
        sqlx::query(FILL).bind(count).execute(&mut *self).await?;
        sqlx::raw_sql("VACUUM (ANALYZE) evt_consumers")
            .execute(self)
            .await?;
        Ok(())
    }

    async fn select_all(&mut self) -> anyhow::Result<u64> {
        const ALL: &str = "SELECT id, type, data::text, ts::text FROM evt_queue ORDER BY id";
        let mut rows = sqlx::query(ALL).fetch(self);
        let mut count = 0;
        let mut bytes = 0;
        while let Some(row) = rows.try_next().await? {
            let _id: i64 = row.try_get(0)?;
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
            "CREATE TABLE evt_copy (LIKE evt_queue INCLUDING INDEXES)",
            "INSERT INTO evt_copy (id, type, data, ts)
                SELECT id, type, data, ts FROM evt_queue ORDER BY id",
        ];
        for statement in COPY {
            sqlx::raw_sql(statement).execute(&mut *self).await?;
        }
        Ok(())
    }
}
