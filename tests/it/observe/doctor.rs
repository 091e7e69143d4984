//! `eventstream doctor`: what it finds in a file, and what every engine's has in
//! common. Those of servers are beside what else is tested of each.

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tokio::time::timeout;

use crate::{
    archive::stage::{Kind as Engine, Peek},
    server::{PATIENCE, PROGRAM, Server, clean_command, program},
};

/// What it found.
pub struct Diagnosis {
    pub code: Option<i32>,
    pub findings: Vec<Value>,
}

impl Diagnosis {
    /// The finding of a check.
    pub fn of(&self, check: &str) -> &Value {
        let found = self
            .findings
            .iter()
            .find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {:#?}", self.findings))
    }

    /// This check has this verdict, and this is what to do.
    pub fn expect(&self, check: &str, verdict: &str, remedy: &str) {
        let found = self.of(check);
        assert_eq!(found["verdict"], verdict, "{found:#}");
        let told = found["remedy"].as_str().unwrap_or_default();
        assert!(told.contains(remedy), "{found:#}");
        let code = if verdict == "problem" { 2 } else { 1 };
        assert_eq!(self.code, Some(code), "{:#?}", self.findings);
    }

    /// Checks that did not go well.
    pub fn bad(&self) -> Vec<&str> {
        let bad = self
            .findings
            .iter()
            .filter(|finding| finding["verdict"] != "ok");
        bad.filter_map(|finding| finding["check"].as_str())
            .collect()
    }
}

/// Asks the doctor about a database.
pub async fn examine(url: &str, args: &[&str]) -> Diagnosis {
    examine_through(&[PROGRAM], url, args).await
}

async fn examine_through(program: &[&str], url: &str, args: &[&str]) -> Diagnosis {
    let run = clean_command(program[0])
        .args(&program[1..])
        .args(["doctor", "--json", "--db", url])
        .args(args)
        .output();
    let output = timeout(PATIENCE, run)
        .await
        .expect("it ends")
        .expect("it starts");
    let text = String::from_utf8(output.stdout).expect("text");
    let errors = String::from_utf8_lossy(&output.stderr);
    let parse = |line| serde_json::from_str(line).expect("JSON");
    let findings: Vec<Value> = text.lines().map(parse).collect();
    assert!(!findings.is_empty(), "{errors}");
    Diagnosis {
        code: output.status.code(),
        findings,
    }
}

/// A database whose tables were made by a service: nothing is amiss but that
/// the tests' servers do not sync, and nothing is changed.
async fn sound_database_is_found_sound(engine: Engine, amiss: &[&str]) {
    let peek = Peek::new(engine).await;
    let server = Server::builder().on(&peek.url).start().await;
    assert_eq!(server.terminate().await.code(), Some(0));
    let found = examine(&peek.url, &[]).await;
    assert_eq!(found.bad(), amiss, "{:#?}", found.findings);
    assert_eq!(found.code, Some(i32::from(!amiss.is_empty())));
    assert!(
        found.of("reading")["text"]
            .as_str()
            .expect("text")
            .contains("ms")
    );
    assert!(peek.queue().await.is_empty());

    let found = examine(&peek.url, &["--probe"]).await;
    assert_eq!(found.bad(), amiss, "{:#?}", found.findings);
    let told = found.of("wake-up")["text"].as_str().expect("text");
    assert!(told.contains("ms after its commit"), "{told}");
    assert_eq!(peek.queue().await.len(), 1);
}

#[tokio::test]
async fn sound_file_is_found_sound() {
    sound_database_is_found_sound(Engine::Sqlite, &[]).await;
}

#[tokio::test]
async fn sound_postgres_is_found_sound() {
    sound_database_is_found_sound(Engine::Postgres, &["durability"]).await;
}

#[tokio::test]
async fn sound_mysql_is_found_sound() {
    sound_database_is_found_sound(Engine::Mysql, &["durability"]).await;
}

#[tokio::test]
async fn file_that_is_not_there_is_not_made() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("none.db");
    let url = format!("sqlite:{}", file.display());
    let found = examine(&url, &["--probe"]).await;
    found.expect("file", "warning", "the service makes it");
    assert!(!file.exists());
    std::fs::write(&file, "no database").expect("written");
    let found = examine(&url, &[]).await;
    found.expect("journal", "problem", "");
    assert_eq!(std::fs::read_to_string(&file).expect("read"), "no database");
}

#[tokio::test]
async fn file_of_an_application_is_left_as_it_is() {
    let peek = Peek::new(Engine::Sqlite).await;
    peek.run("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
        .await;
    let before = std::fs::read(peek.file()).expect("read");
    let found = examine(&peek.url, &[]).await;
    found.expect("journal", "warning", "the service changes it");
    assert_eq!(std::fs::read(peek.file()).expect("read"), before);
    peek.run("PRAGMA journal_mode = wal").await;
    let found = examine(&peek.url, &[]).await;
    found.expect("schema", "warning", "eventstream migrate");
    assert!(
        found.of("schema")["text"]
            .as_str()
            .expect("text")
            .contains("no tables")
    );
}

#[tokio::test]
async fn ids_that_would_come_again_are_a_problem() {
    let peek = Peek::new(Engine::Sqlite).await;
    let server = Server::builder().on(&peek.url).start().await;
    server.terminate().await;
    peek.run(
        "DROP TABLE evt_queue;
         CREATE TABLE evt_queue (id INTEGER PRIMARY KEY, type TEXT, data TEXT, ts TEXT)",
    )
    .await;
    let found = examine(&peek.url, &[]).await;
    found.expect("table", "problem", "INTEGER PRIMARY KEY AUTOINCREMENT");
}

#[tokio::test]
async fn tables_of_an_earlier_version_are_told() {
    let peek = Peek::new(Engine::Sqlite).await;
    let server = Server::builder().on(&peek.url).start().await;
    server.terminate().await;
    peek.run("DELETE FROM evt_migrations WHERE version = 5")
        .await;
    let found = examine(&peek.url, &["--db-synchronous=normal"]).await;
    found.expect("schema", "warning", "eventstream migrate");
    assert!(
        found.of("schema")["text"]
            .as_str()
            .expect("text")
            .ends_with("upkeep")
    );
    assert_eq!(found.of("durability")["verdict"], "warning");
}

#[tokio::test]
async fn file_of_somebody_else_is_a_problem() {
    let peek = Peek::new(Engine::Sqlite).await;
    let server = Server::builder().on(&peek.url).start().await;
    server.terminate().await;
    // The file can be seen, and not be written.
    let directory = peek.file().parent().expect("a directory");
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(directory, mode(0o755)).expect("changed");
    std::fs::set_permissions(peek.file(), mode(0o644)).expect("changed");
    let nobody = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        PROGRAM,
    ];
    let found = examine_through(&nobody, &peek.url, &[]).await;
    found.expect("file", "problem", "let the service's user own it");
}

#[tokio::test]
async fn writer_that_does_not_end_is_told() {
    let server = Server::start().await;
    let url = format!("sqlite:{}", server.database().display());
    let mut session = SqliteConnection::connect(&url).await.expect("connected");
    let begun = session.execute("BEGIN IMMEDIATE").await;
    begun.expect("nobody else writes");
    let found = examine(&url, &[]).await;
    found.expect("isolation", "warning", "let it commit");
    session.execute("ROLLBACK").await.expect("rolled back");
    let found = examine(&url, &[]).await;
    assert_eq!(found.of("isolation")["verdict"], "ok");
}

#[tokio::test]
async fn file_that_one_process_has_for_itself_is_told() {
    let peek = Peek::new(Engine::Sqlite).await;
    let server = Server::builder().on(&peek.url).start().await;
    server.terminate().await;
    let mut session = SqliteConnection::connect(&peek.url)
        .await
        .expect("connected");
    for step in [
        "PRAGMA locking_mode = EXCLUSIVE",
        "BEGIN IMMEDIATE",
        "COMMIT",
    ] {
        session.execute(step).await.expect("it is free");
    }
    let found = examine(&peek.url, &["--probe"]).await;
    found.expect("isolation", "problem", "locking_mode = NORMAL");
}

#[tokio::test]
async fn people_read_a_line_for_each_check() {
    let server = Server::start().await;
    let url = format!("sqlite:{}", server.database().display());
    let output = program(&["doctor", "--db", &url]).await;
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.lines().all(|line| line.starts_with("ok ")), "{text}");
    let output = program(&["doctor", "--db", "nonsense"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("db.url"));
}
