//! Throwaway servers: made by initdb in a temporary directory, run by an
//! unprivileged user, reached by a Unix socket, gone when the tests are over.
//!
//! One is shared by all tests, each with a database of its own; tests that
//! restart the server have one of their own. A shell keeps each: it waits for
//! the end of this process or of its `Cluster`, then stops the server and
//! removes the directory, also after a crash of the tests.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::{Connection as _, PgConnection, Row as _};

use crate::server::{Builder, Server};

/// Starts the server, says so, and outlives whoever started it. A new one, or
/// what `pg_basebackup` copies from the socket in `$from`.
const KEEPER: &str = r#"
    set -eu
    trap '' INT TERM HUP
    data=$1; shift
    as="$*"
    trap 'rm -rf "$(dirname "$data")"' EXIT
    mkdir -m 700 "$data"
    [ -z "$as" ] || chown "$owner" "$data" "$(dirname "$data")"
    cd "$data"
    if [ -n "$from" ]; then
        $as "$bin/pg_basebackup" --pgdata="$data" $copy --host="$from" --username=postgres \
            --checkpoint=fast --no-sync
    else
        $as "$bin/initdb" --no-sync --auth=trust --username=postgres --encoding=UTF8 \
            --locale=C.UTF-8 --pgdata="$data" >"$data.initdb" 2>&1 || cat "$data.initdb" >&2
        cat >>"$data/postgresql.conf" <<END
            listen_addresses = ''
            max_connections = 300
            max_prepared_transactions = 20
            shared_buffers = 32MB
            fsync = off
            wal_log_hints = on
            autovacuum = off
END
    fi
    echo "unix_socket_directories = '$(dirname "$data")'" >>"$data/postgresql.conf"
    $as "$bin/pg_ctl" --pgdata="$data" --log="$data/log" -w start >/dev/null
    echo ready
    cat >/dev/null
    $as "$bin/pg_ctl" --pgdata="$data" -m immediate stop >/dev/null 2>&1 || true
"#;

/// A running server.
pub struct Cluster {
    dir: PathBuf,
    keeper: Child,
    databases: AtomicUsize,
}

impl Cluster {
    /// The one that all tests share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One for a test that restarts it.
    pub fn start() -> Self {
        Self::keep("", "")
    }

    /// A standby that follows another one.
    pub fn standby_of(primary: &Self) -> Self {
        Self::keep(&primary.path(""), "--write-recovery-conf")
    }

    /// A copy of another one as it is now, that goes its own way.
    pub fn copy_of(original: &Self) -> Self {
        Self::keep(&original.path(""), "--wal-method=fetch")
    }

    fn keep(from: &str, copy: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        // The keeper removes it.
        let dir = dir.keep();
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER, "keeper"])
            .arg(dir.join("data"))
            .args(unprivileged())
            .env("bin", programs())
            .env("owner", OWNER)
            .env("from", from)
            .env("copy", copy)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is there");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it can be read");
        assert_eq!(line, "ready\n", "the server starts");
        Self {
            dir,
            keeper,
            databases: AtomicUsize::new(0),
        }
    }

    /// Stops the server (`fast` or `immediate`) and starts it again.
    pub fn restart(&self, mode: &str) {
        self.stop(mode);
        self.start_again();
    }

    /// Stops the server (`fast` or `immediate`).
    pub fn stop(&self, mode: &str) {
        self.control(&["-m", mode, "stop"]);
    }

    /// Starts it after a stop.
    pub fn start_again(&self) {
        let log = self.path("data/log");
        self.control(&["--log", &log, "start"]);
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.control(&["promote"]);
    }

    /// Adds settings; they hold from the next start or reload on.
    pub fn configure(&self, settings: &str) {
        append(&self.dir.join("data/postgresql.conf"), settings);
    }

    /// Puts rules before those of `pg_hba.conf`.
    pub fn authenticate(&self, rules: &str) {
        let file = self.dir.join("data/pg_hba.conf");
        let old = std::fs::read_to_string(&file).expect("read");
        std::fs::write(&file, format!("{rules}\n{old}")).expect("written");
    }

    /// Where its socket is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn control(&self, arguments: &[&str]) {
        let data = self.path("data");
        self.program("pg_ctl", &[&["-D", &data, "-w"], arguments].concat());
    }

    /// The place of a file of it.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// Runs one of the server's programs as its owner.
    pub fn program(&self, name: &str, arguments: &[&str]) {
        let mut words = unprivileged();
        words.push(programs().join(name).display().to_string());
        let status = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .current_dir(&self.dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        assert!(
            status.expect("it is there").success(),
            "{name} {arguments:?}"
        );
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let mut admin = connect(&self.url("postgres")).await;
        run(&mut admin, &format!("CREATE DATABASE {name}")).await;
        Database {
            url: self.url(&name),
            name,
        }
    }

    /// A database that is there.
    pub fn existing(&self, name: &str) -> Database {
        Database {
            url: self.url(name),
            name: name.to_owned(),
        }
    }

    /// Where its socket is.
    pub fn directory(&self) -> PathBuf {
        self.dir.clone()
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.dir.display()
        )
    }
}

fn append(file: &Path, text: &str) {
    use std::io::Write as _;
    let file = std::fs::OpenOptions::new().append(true).open(file);
    writeln!(file.expect("it is there"), "{text}").expect("written");
}

/// A name for the socket's directory that leads to one server or another, as
/// a virtual address does.
pub struct Door(tempfile::TempDir);

impl Door {
    pub fn to(cluster: &Cluster) -> Self {
        let door = Self(tempfile::tempdir().expect("a temporary directory can be made"));
        door.lead_to(cluster);
        door
    }

    /// New connections lead there.
    pub fn lead_to(&self, cluster: &Cluster) {
        let (current, next) = (self.0.path().join("current"), self.0.path().join("next"));
        std::os::unix::fs::symlink(cluster.dir(), &next).expect("linked");
        std::fs::rename(next, current).expect("renamed");
    }

    /// A database through it.
    pub fn database(&self, name: &str) -> Database {
        let dir = self.0.path().join("current");
        Database {
            url: format!(
                "postgres://postgres@localhost/{name}?host={}",
                dir.display()
            ),
            name: name.to_owned(),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

pub const OWNER: &str = "postgres";

/// PostgreSQL refuses to run as root.
pub fn unprivileged() -> Vec<String> {
    let output = Command::new("id").arg("-u").output().expect("id is there");
    if output.stdout.trim_ascii() != b"0" {
        return vec!["env".to_owned()];
    }
    let words = [
        "setpriv",
        "--reuid",
        OWNER,
        "--regid",
        OWNER,
        "--clear-groups",
    ];
    words.map(str::to_owned).to_vec()
}

/// The newest version that is installed, or what is in PATH.
pub fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let homes = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin")));
    let newest = homes
        .filter(|bin| bin.join("initdb").exists())
        .max_by_key(|bin| version(bin));
    newest.unwrap_or_else(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .find(|bin| bin.join("initdb").exists())
            .expect("PostgreSQL is installed")
    })
}

fn version(bin: &Path) -> u32 {
    let name = bin.parent().and_then(Path::file_name);
    name.and_then(|name| name.to_str()?.parse().ok())
        .unwrap_or(0)
}

/// A database for one test.
#[derive(Clone)]
pub struct Database {
    pub url: String,
    pub name: String,
}

impl Database {
    /// A service on it, to start.
    pub fn server(&self) -> Builder {
        Server::builder().on(&self.url)
    }

    /// The same database for another role.
    pub fn of(&self, role: &str) -> Self {
        Self {
            url: self.url.replace("postgres@", &format!("{role}@")),
            name: self.name.clone(),
        }
    }

    /// A table as SQL, by `pg_dump`.
    pub fn dump(&self, table: &str) -> Vec<u8> {
        let output = Command::new(programs().join("pg_dump"))
            .args(["--table", table, &self.url])
            .output()
            .expect("pg_dump is there");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    /// Runs what [`Self::dump`] gave, by `psql`.
    pub fn restore(&self, dump: &[u8]) {
        use std::io::Write as _;
        let mut psql = Command::new(programs().join("psql"))
            .args(["--quiet", "--set=ON_ERROR_STOP=1", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("psql is there");
        let mut input = psql.stdin.take().expect("it is piped");
        input.write_all(dump).expect("written");
        drop(input);
        assert!(psql.wait().expect("it ends").success());
    }

    /// A session of an application.
    pub async fn session(&self) -> PgConnection {
        connect(&self.url).await
    }

    /// Runs statements in a session of their own.
    pub async fn run(&self, sql: &str) {
        run(&mut self.session().await, sql).await;
    }
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("connected")
}

/// Runs statements.
pub async fn run(session: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Inserts an event as an application does; its id.
pub async fn insert(session: &mut PgConnection) -> i64 {
    insert_into(session, "evt_queue").await
}

/// Inserts this event as an application does; its id.
pub async fn insert_row(session: &mut PgConnection, kind: &str, data: &str) -> i64 {
    sqlx::query_scalar(
        "INSERT INTO evt_queue (type, data, ts)
            VALUES ($1, $2::json, CURRENT_TIMESTAMP) RETURNING id",
    )
    .bind(kind)
    .bind(data)
    .fetch_one(session)
    .await
    .expect("inserted")
}

/// The same into another relation.
pub async fn insert_into(session: &mut PgConnection, relation: &str) -> i64 {
    let sql = format!(
        "INSERT INTO {relation} (type, data, ts) VALUES ('T', '1', CURRENT_TIMESTAMP) RETURNING id"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).fetch_one(session);
    row.await.expect("inserted").get("id")
}

/// Inserts an event under an id of the application's choice, against the
/// contract.
pub async fn insert_at(session: &mut PgConnection, id: i64) {
    let sql = format!("INSERT INTO evt_queue (id, type, data, ts) VALUES ({id}, 'T', '1', now())");
    run(session, &sql).await;
}

/// Draws an id and uses it for nothing.
pub async fn draw(session: &mut PgConnection) -> i64 {
    let drawn = sqlx::query_scalar("SELECT nextval('evt_queue_id_seq')").fetch_one(session);
    drawn.await.expect("drawn")
}

/// The server's name for a session.
pub async fn pid(session: &mut PgConnection) -> i32 {
    let pid = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(session);
    pid.await.expect("read")
}
