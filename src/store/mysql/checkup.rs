//! What `eventstream doctor` asks of MySQL and MariaDB: the rules of the start,
//! and settings that the guarantee does not rest on but an operator should know.
//!
//! The service's sessions state what they need, and are looked at whether they
//! have it. Those of applications begin as the server is set up, which is where
//! events are refused or held back without the service's doing.

use sqlx::MySqlConnection;

use super::{MysqlOptions, MysqlStore, errors::unavailable, text};
use crate::{
    event::Moment,
    store::{
        Error, Finding,
        checkup::{Checkup, clock_difference},
        migrate::MYSQL,
    },
};

/// Connections of the service beside those of its pools: those of the tail.
const APART: u32 = 3;

impl MysqlStore {
    /// Looks at everything that the service needs, and changes nothing.
    pub async fn examine(options: MysqlOptions) -> Vec<Finding> {
        let mut checkup = Checkup::default();
        let needed = options.read_connections + options.write_connections + APART;
        match Self::connect(options).await {
            Ok(store) => {
                checkup.ok("connection", "the server answers");
                if let Err(error) = store.check_up(&mut checkup, needed).await {
                    checkup.judge("connection", Err(error));
                }
                store.connections.close().await;
            }
            Err(error) => {
                checkup.judge("connection", Err(error));
            }
        }
        checkup.0
    }

    async fn check_up(&self, checkup: &mut Checkup, needed: u32) -> Result<(), Error> {
        let server = self.connections.server();
        checkup.ok(
            "server",
            server.text("version").unwrap_or("of unknown version"),
        );
        let mut connection = self.connections.read().await?;
        checkup.clock(clock_ahead(&mut connection).await);
        checkup.judge("session", own_session(&mut connection).await);
        let globals = globals(&mut connection).await?;
        judge_isolation(checkup, &globals);
        judge_globals(checkup, &globals, i64::from(needed));
        let fit = self.check_server().await;
        let fit = fit.map(|()| {
            let number = |name| server.number(name).unwrap_or(1);
            format!(
                "the primary, with auto_increment_increment {} and auto_increment_offset {}",
                number("auto_increment_increment"),
                number("auto_increment_offset")
            )
        });
        if !checkup.judge("role of the server", fit) {
            return Ok(());
        }
        let has_queue = self.columns(&mut connection).await;
        let has_queue = !has_queue.map_err(|error| unavailable(&error))?.is_empty();
        drop(connection);
        let pending = self.pending().await;
        let pending = pending.map(|steps| steps.into_iter().map(|step| step.name).collect());
        if !checkup.schema(pending, MYSQL.len(), has_queue) {
            return Ok(());
        }
        let limits = self.table_limits().await;
        let limits = limits.map(|limits| match &limits[..] {
            [] => "ids, keys and columns are as they must be".to_owned(),
            limits => limits.join("; "),
        });
        let sound = checkup.judge("tables", limits);
        let privileges = self.check_privileges().await;
        let granted = privileges.map(|()| "the user may do all that the service does".to_owned());
        if checkup.judge("privileges", granted) && sound {
            checkup.reading(self).await;
        }
        Ok(())
    }
}

async fn clock_ahead(connection: &mut MySqlConnection) -> Result<Option<i64>, Error> {
    const CLOCK: &str = "SELECT CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)";
    let before = Moment::now().unix_millis();
    let theirs: i64 = sqlx::query_scalar(CLOCK)
        .fetch_one(connection)
        .await
        .map_err(|error| unavailable(&error))?;
    Ok(clock_difference(
        before,
        theirs,
        Moment::now().unix_millis(),
    ))
}

/// What sessions begin with, and how the server keeps commits.
struct Globals(Vec<(String, String)>);

impl Globals {
    fn text(&self, name: &str) -> &str {
        let found = self
            .0
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value)
    }

    /// MySQL has another name for it than MariaDB before 11.1.
    fn isolation(&self) -> &str {
        match self.text("transaction_isolation") {
            "" => self.text("tx_isolation"),
            level => level,
        }
    }

    fn number(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }
}

async fn globals(connection: &mut MySqlConnection) -> Result<Globals, Error> {
    const VARIABLES: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('sql_mode',
        'transaction_isolation', 'tx_isolation', 'innodb_flush_log_at_trx_commit', 'sync_binlog',
        'log_bin', 'max_connections', 'innodb_autoinc_lock_mode', 'autocommit',
        'transaction_read_only', 'tx_read_only', 'innodb_snapshot_isolation', 'init_connect')";
    const USED: &str = "SHOW GLOBAL STATUS WHERE Variable_name = 'Threads_connected'";
    let mut pairs = Vec::new();
    for statement in [VARIABLES, USED] {
        let rows = sqlx::raw_sql(statement).fetch_all(&mut *connection).await;
        for row in rows.map_err(|error| unavailable(&error))? {
            let [name, value] = [0, 1].map(|at| text(&row, at).unwrap_or_default());
            pairs.push((name, value));
        }
    }
    Ok(Globals(pairs))
}

/// What a session of ours is at, which something between could have changed.
async fn own_session(connection: &mut MySqlConnection) -> Result<String, Error> {
    const SESSION: &str = "SHOW SESSION VARIABLES WHERE Variable_name IN
        ('transaction_isolation', 'tx_isolation', 'autocommit')";
    let rows = sqlx::raw_sql(SESSION).fetch_all(connection).await;
    let rows = rows.map_err(|error| unavailable(&error))?;
    let pairs = rows
        .iter()
        .map(|row| [0, 1].map(|at| text(row, at).unwrap_or_default()));
    let session = Globals(pairs.map(|[name, value]| (name, value)).collect());
    let (level, commits) = (session.isolation(), session.text("autocommit"));
    if level == "READ-COMMITTED" && commits == "ON" {
        return Ok("at READ COMMITTED with autocommit, as stated".to_owned());
    }
    Err(Error::Contract(format!(
        "it is at {level} with autocommit {commits} although READ COMMITTED and ON were stated: \
         something between changes sessions; point db.url at the server itself"
    )))
}

/// The service's own sessions state theirs; those of applications begin as the
/// server is set up.
fn judge_isolation(checkup: &mut Checkup, globals: &Globals) {
    let level = globals.isolation();
    let mut faults = Vec::new();
    let mut fault = |fault: &str, remedy: &str| faults.push((fault.to_owned(), remedy.to_owned()));
    match level {
        "READ-UNCOMMITTED" => fault(
            "applications begin at READ UNCOMMITTED: they add events about what others may yet \
             roll back",
            "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ),
        "SERIALIZABLE" => fault(
            "applications begin at SERIALIZABLE: whatever they read they lock, wait for each other, \
             and hold events back meanwhile",
            "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ),
        _ => {}
    }
    if globals.text("autocommit") == "OFF" {
        fault(
            "autocommit is OFF: an INSERT without a COMMIT holds later events back",
            "SET GLOBAL autocommit = ON",
        );
    }
    if ["transaction_read_only", "tx_read_only"]
        .map(|name| globals.text(name))
        .contains(&"ON")
    {
        fault(
            "applications' transactions begin READ ONLY: events that they insert are refused",
            "SET GLOBAL TRANSACTION READ WRITE",
        );
    }
    let init = globals.text("init_connect");
    let words = ["isolation", "autocommit", "read_only", "read only"];
    if words
        .iter()
        .any(|word| init.to_ascii_lowercase().contains(word))
    {
        fault(
            &format!("init_connect changes how applications' sessions begin: {init}"),
            "see that it leaves them at READ COMMITTED or REPEATABLE READ, with autocommit",
        );
    }
    let strict = if globals.text("innodb_snapshot_isolation") == "ON" && level == "REPEATABLE-READ"
    {
        ", where a write to what changed since they began fails and is to be repeated \
         (innodb_snapshot_isolation)"
    } else {
        ""
    };
    checkup.gather(
        "isolation",
        format!("applications begin at {level}, which is fine{strict}"),
        faults,
    );
}

fn judge_globals(checkup: &mut Checkup, globals: &Globals, needed: i64) {
    let mode = globals.text("sql_mode");
    if mode.contains("STRICT_TRANS_TABLES") || mode.contains("STRICT_ALL_TABLES") {
        checkup.ok("sql_mode", "strict: what does not fit is refused");
    } else {
        checkup.warn(
            "sql_mode",
            "it is not strict: data that does not fit its column is cut, and the event is broken",
            "add STRICT_TRANS_TABLES to sql_mode, for applications' sessions at least",
        );
    }
    let log = globals.text("innodb_flush_log_at_trx_commit");
    let binlog = globals.text("log_bin") == "ON" && globals.number("sync_binlog") != 1;
    if log != "1" {
        checkup.warn(
            "durability",
            format!(
                "innodb_flush_log_at_trx_commit is {log}: a power cut can take the commits of the \
                 last second"
            ),
            "set it to 1",
        );
    } else if binlog {
        checkup.warn(
            "durability",
            "sync_binlog is not 1: after a power cut replicas may have events that the primary lacks",
            "set it to 1",
        );
    } else {
        checkup.ok(
            "durability",
            "what is committed survives a crash of the server",
        );
    }
    checkup.room(
        globals.number("max_connections"),
        globals.number("Threads_connected"),
        needed,
    );
}
