//! pgbouncer between the service and the server.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use super::{
    Cluster, Database,
    cases::{late_commit, rollback_gap},
    cluster::{insert, run, unprivileged},
    stage::Stage,
};
use crate::server::{eventually, signal};

/// Runs it, and outlives whoever started it.
const KEEPER: &str = r#"
    trap '' INT TERM HUP
    "$@" >/dev/null 2>&1 &
    echo $!
    cat >/dev/null
    kill -KILL $!
    wait
"#;

/// A running pgbouncer before the shared server.
pub(super) struct Pooler {
    dir: TempDir,
    keeper: Child,
    pid: u32,
}

impl Pooler {
    pub(super) async fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut words = unprivileged();
        if words[0] != "env" {
            let owner = super::cluster::OWNER;
            let status = Command::new("chown").arg(owner).arg(dir.path()).status();
            assert!(status.expect("chown is there").success());
        }
        let file = dir.path().join("pgbouncer.ini");
        write_settings(&file, &dir, settings);
        words.extend([program(), file.display().to_string()]);
        let mut keeper = Command::new("bash")
            .args(["-c", KEEPER, "keeper"])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash is there");
        let mut line = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("it can be read");
        let pid = line.trim().parse().expect("a process id");
        let pooler = Self { dir, keeper, pid };
        let socket = pooler.dir.path().join(".s.PGSQL.6432");
        eventually(async || tokio::net::UnixStream::connect(&socket).await).await;
        pooler
    }

    /// Changes the settings of a running one.
    fn reload(&self, settings: &str) {
        let file: PathBuf = self.dir.path().join("pgbouncer.ini");
        write_settings(&file, &self.dir, settings);
        signal(self.pid, "HUP");
    }

    /// The way to a database through it.
    pub(super) fn to(&self, database: &Database) -> Database {
        let dir = self.dir.path().display();
        Database {
            url: format!(
                "postgres://postgres@localhost/{}?host={dir}&port=6432",
                database.name
            ),
            name: database.name.clone(),
        }
    }
}

/// Debian has it where the PATH of an ordinary user does not lead.
fn program() -> String {
    let debian = "/usr/sbin/pgbouncer";
    let found = std::path::Path::new(debian).exists();
    if found { debian } else { "pgbouncer" }.to_owned()
}

fn write_settings(file: &PathBuf, dir: &TempDir, settings: &str) {
    let (server, own) = (Cluster::shared().dir().display(), dir.path().display());
    let text = format!(
        "[databases]\n* = host={server} user=postgres\n[pgbouncer]\nlisten_addr =\n\
         listen_port = 6432\nunix_socket_dir = {own}\nauth_type = any\n{settings}\n"
    );
    fs::write(file, text).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file, mode).expect("readable");
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A service through a pooler with these settings is refused.
async fn refuses(settings: &str, sessions: usize, word: &str) {
    let database = Cluster::shared().database().await;
    let pooler = Pooler::start(settings).await;
    let through = pooler.to(&database);
    // Server connections that are there already, each used once.
    let mut busy = Vec::new();
    for _ in 0..sessions {
        let mut session = simple(&through).await;
        run(&mut session, "BEGIN").await;
        busy.push(session);
    }
    for session in &mut busy {
        run(session, "ROLLBACK").await;
    }
    let (code, log) = through.server().refused().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains(word) && log.contains("pool_mode = session"),
        "{log}"
    );
}

/// A session as pgbouncer takes it.
async fn simple(database: &Database) -> PgConnection {
    let options: sqlx::postgres::PgConnectOptions = database.url.parse().expect("a URL");
    PgConnection::connect_with(&options.extra_float_digits(None))
        .await
        .expect("connected")
}

#[tokio::test]
async fn transaction_mode_is_refused() {
    refuses("pool_mode = transaction", 0, "in transaction mode").await;
}

#[tokio::test]
async fn transaction_mode_with_one_server_connection_is_refused() {
    let settings = "pool_mode = transaction\ndefault_pool_size = 1";
    refuses(settings, 0, "in transaction mode").await;
    refuses(settings, 1, "in transaction mode").await;
}

#[tokio::test]
async fn transaction_mode_that_takes_turns_and_drops_parameters_is_refused() {
    for sessions in [0, 2, 3, 4, 5, 9] {
        let settings = "pool_mode = transaction\nserver_round_robin = 1\n\
                        ignore_startup_parameters = options,extra_float_digits";
        refuses(settings, sessions, "in transaction mode").await;
    }
}

#[tokio::test]
async fn statement_mode_is_refused() {
    refuses("pool_mode = statement", 0, "in statement mode").await;
}

#[tokio::test]
async fn session_mode_delivers_with_its_defaults() {
    let database = Cluster::shared().database().await;
    let pooler = Pooler::start("pool_mode = session").await;
    let server = pooler.to(&database).server();
    let mut stage = Stage::with(database, server).await;
    late_commit(&mut stage).await;
    rollback_gap(&mut stage).await;
    let id = crate::round_trip::add(&mut stage.clients, "T", "1").await;
    stage.expect(&[id]).await;
}

#[tokio::test]
async fn session_mode_with_too_small_a_pool_says_what_it_needs() {
    let database = Cluster::shared().database().await;
    let pooler = Pooler::start("pool_mode = session\ndefault_pool_size = 1").await;
    let (_, log) = pooler.to(&database).server().refused().await;
    assert!(log.contains("pool_size must be at least 11"), "{log}");
}

#[tokio::test]
async fn mode_that_changes_under_a_running_service_is_noticed() {
    let database = Cluster::shared().database().await;
    let pooler = Pooler::start("pool_mode = session").await;
    let through = pooler.to(&database);
    let server = through.server();
    let mut stage = Stage::with(database, server).await;
    let mut late = stage.transaction().await;
    let first = insert(&mut late).await;
    pooler.reload("pool_mode = transaction");
    let mut taken = Vec::new();
    let clients = stage.clients.clone();
    // Takes the server connections away, the last used one first.
    eventually(async || {
        let mut session = simple(&through).await;
        run(&mut session, "BEGIN").await;
        taken.push(session);
        let request = futoin_eventstream::proto::GetStatusRequest {};
        match clients.clone().admin.get_status(request).await {
            Ok(status) => Err(status),
            Err(_) => Ok(()),
        }
    })
    .await;
    stage.until_logged("in transaction mode").await;
    let second = insert(&mut stage.database.session().await).await;
    stage.until_away().await;
    drop(taken);
    pooler.reload("pool_mode = session");
    stage.recover().await;
    stage.expect_frontier(first - 1).await;
    run(&mut late, "COMMIT").await;
    stage.expect(&[first, second]).await;
}
