//! Throwaway MariaDB servers: made in a temporary directory, run by an
//! unprivileged user, reached by a Unix socket only, gone when the tests are
//! over.
//!
//! A few are shared by all tests, each test with a database of its own; tests
//! that restart the server have one of their own. A shell keeps each: it obeys
//! the lines that the tests write, waits for the end of this process or of its
//! `Cluster`, then ends the server and removes the directory, also after a
//! crash of the tests.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::{Connection as _, MySqlConnection};

use crate::server::{Builder, Server};

/// Makes the data, starts the server, says so, and outlives whoever started it.
const KEEPER: &str = r#"
    set -eu
    trap '' INT TERM HUP
    dir=$1; shift
    trap 'rm -rf "$dir"' EXIT
    as="$*"
    [ -z "$as" ] || chown "$owner" "$dir"
    cd "$dir"
    start() {
        rm -f "$dir/pid"
        $as mariadbd --defaults-file="$dir/my.cnf" >>"$dir/log" 2>&1 </dev/null &
        server=$!
        until mariadb-admin --no-defaults --socket="$dir/socket" --user=root ping \
            >/dev/null 2>&1; do
            kill -0 "$server" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
            sleep 0.05
        done
        echo ready
    }
    end() {
        kill "-$1" "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    }
    # A server that starts removes the temporary tables of all others there.
    $as mkdir "$dir/tmp"
    $as mariadb-install-db --no-defaults --datadir="$dir/data" --tmpdir="$dir/tmp" \
        --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve \
        --innodb-flush-method=nosync --sync-frm=0 >"$dir/install" 2>&1 \
        || cat "$dir/install" >&2
    start
    while read -r order; do
        case $order in
            stop) end TERM; echo stopped ;;
            kill) end KILL; echo stopped ;;
            start) start ;;
        esac
    done
    end KILL
"#;

/// What every server of the tests is told.
const SETTINGS: &str = "
    skip-networking
    skip-name-resolve
    event_scheduler = ON
    max_connections = 300
    innodb_buffer_pool_size = 32M
    innodb_log_file_size = 16M
    innodb_flush_log_at_trx_commit = 2
    innodb_flush_method = nosync
    sync_frm = 0
    character_set_server = utf8mb4
";

/// What the server offers to whoever asks which statements run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offer {
    /// The plugin `metadata_lock_info`.
    Plugin,
    /// The performance schema, to those who may read it; else the process list.
    Schema,
}

/// `innodb_autoinc_lock_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LockMode {
    /// 1: bulk inserts lock the counter to the end of their statement.
    Consecutive,
    /// 2: nobody locks it.
    Interleaved,
}

/// A running server.
pub struct Cluster {
    dir: PathBuf,
    keeper: Mutex<Keeper>,
    databases: AtomicUsize,
}

struct Keeper {
    process: Child,
    answers: BufReader<ChildStdout>,
}

impl Keeper {
    /// Gives an order (or none) and waits for the answer.
    fn ask(&mut self, order: &str, answer: &str) {
        if !order.is_empty() {
            let orders = self.process.stdin.as_mut().expect("it is piped");
            writeln!(orders, "{order}").expect("the keeper listens");
        }
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it can be read");
        assert_eq!(line.trim_end(), answer, "the server obeys");
    }
}

impl Cluster {
    /// The one that tests share that do not care.
    pub fn shared() -> &'static Self {
        Self::of(Offer::Plugin, LockMode::Consecutive)
    }

    /// One of those that all tests share.
    pub fn of(offer: Offer, mode: LockMode) -> &'static Self {
        static SHARED: [OnceLock<Cluster>; 4] = [const { OnceLock::new() }; 4];
        let place = match (offer, mode) {
            (Offer::Plugin, LockMode::Consecutive) => 0,
            (Offer::Plugin, LockMode::Interleaved) => 1,
            (Offer::Schema, LockMode::Consecutive) => 2,
            (Offer::Schema, LockMode::Interleaved) => 3,
        };
        SHARED[place].get_or_init(|| Self::start_as(offer, mode, ""))
    }

    /// One for a test that restarts it.
    pub fn start() -> Self {
        Self::start_as(Offer::Plugin, LockMode::Consecutive, "")
    }

    /// One with further lines of `my.cnf`.
    pub fn start_as(offer: Offer, mode: LockMode, settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        // The keeper removes it.
        let dir = dir.keep();
        let file = configuration(&dir, offer, mode, settings);
        std::fs::write(dir.join("my.cnf"), file).expect("written");
        let mut process = Command::new("bash")
            .args(["-c", KEEPER, "keeper"])
            .arg(&dir)
            .args(unprivileged())
            .env("owner", OWNER)
            .env("PATH", path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is there");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut keeper = Keeper { process, answers };
        keeper.ask("", "ready");
        Self {
            dir,
            keeper: Mutex::new(keeper),
            databases: AtomicUsize::new(0),
        }
    }

    /// Stops the server in good order and starts it again.
    pub fn restart(&self) {
        self.stop();
        self.order("start", "ready");
    }

    /// Kills the server and starts it again.
    pub fn crash(&self) {
        self.order("kill", "stopped");
        self.order("start", "ready");
    }

    /// Stops the server in good order.
    pub fn stop(&self) {
        self.order("stop", "stopped");
    }

    /// Starts it after a stop.
    pub fn start_again(&self) {
        self.order("start", "ready");
    }

    /// The place of a file of it.
    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn order(&self, order: &str, answer: &str) {
        let mut keeper = self.keeper.lock().expect("no panic inside");
        keeper.ask(order, answer);
    }

    /// A new, empty database, for root.
    pub async fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{number}");
        let mut admin = connect(&self.url("root", "mysql")).await;
        run(&mut admin, &format!("CREATE DATABASE {name}")).await;
        Database {
            url: self.url("root", &name),
            name,
        }
    }

    pub fn url(&self, user: &str, database: &str) -> String {
        let socket = self.dir.join("socket");
        format!(
            "mysql://{user}@localhost/{database}?socket={}",
            socket.display()
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().expect("no panic inside");
        drop(keeper.process.stdin.take());
        let _ = keeper.process.wait();
    }
}

fn configuration(dir: &Path, offer: Offer, mode: LockMode, settings: &str) -> String {
    let dir = dir.display();
    let offer = match offer {
        Offer::Plugin => "plugin_load_add = metadata_lock_info",
        Offer::Schema => {
            "performance_schema = ON
             performance_schema_instrument = 'wait/lock/metadata/sql/mdl=ON'
             performance_schema_consumer_events_statements_current = ON"
        }
    };
    let mode = match mode {
        LockMode::Consecutive => 1,
        LockMode::Interleaved => 2,
    };
    format!(
        "[mariadbd]
         datadir = {dir}/data
         socket = {dir}/socket
         pid_file = {dir}/pid
         tmpdir = {dir}/tmp
         innodb_autoinc_lock_mode = {mode}
         {SETTINGS}
         {offer}
         {settings}
        "
    )
}

/// Debian makes it with the server.
pub const OWNER: &str = "mysql";

/// The server refuses to run as root.
pub fn unprivileged() -> Vec<String> {
    let output = Command::new("id").arg("-u").output().expect("id is there");
    if output.stdout.trim_ascii() != b"0" {
        return Vec::new();
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

/// Debian keeps servers out of the PATH of ordinary users.
pub fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin")
}

/// A database for one test.
pub struct Database {
    pub url: String,
    pub name: String,
}

impl Database {
    /// A service on it, to start.
    pub fn server(&self) -> Builder {
        Server::builder().on(&self.url)
    }

    /// A session of an application.
    pub async fn session(&self) -> MySqlConnection {
        connect(&self.url).await
    }

    /// Runs statements in a session of their own.
    pub async fn run(&self, sql: &str) {
        run(&mut self.session().await, sql).await;
    }

    /// The URL of another user, made with these privileges of the server (such
    /// as `PROCESS`; none if empty) and all of the database.
    pub async fn user(&self, privileges: &str) -> String {
        static USERS: AtomicUsize = AtomicUsize::new(0);
        let user = format!("user_{}", USERS.fetch_add(1, Ordering::Relaxed));
        let name = &self.name;
        let mut admin = self.session().await;
        let sql = format!("CREATE USER {user}; GRANT ALL ON {name}.* TO {user}");
        run(&mut admin, &sql).await;
        if !privileges.is_empty() {
            run(&mut admin, &format!("GRANT {privileges} ON *.* TO {user}")).await;
        }
        self.url.replace("root@", &format!("{user}@"))
    }
}

pub async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.expect("connected")
}

/// Runs statements.
pub async fn run(session: &mut MySqlConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
        .execute(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Inserts an event as an application does; its id.
pub async fn insert(session: &mut MySqlConnection) -> i64 {
    let sql = "INSERT INTO evt_queue (type, data, ts) VALUES ('T', '1', UTC_TIMESTAMP())";
    let done = sqlx::query(sql).execute(session).await.expect("inserted");
    i64::try_from(done.last_insert_id()).expect("in range")
}
