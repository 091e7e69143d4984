//! What a database must offer to be soaked: one small file per engine, with
//! its own SQL. Everything an engine makes is named after the scratch queue.

use async_trait::async_trait;

use super::plan::Shape;

/// Types of the events; their data is the writer's tag.
pub(super) const EVENT_TYPE: &str = "SOAK";

/// Things that an engine makes, by the names that hold them together.
#[derive(Debug, Clone)]
pub(super) struct Scratch {
    /// The queue; every other name begins with it.
    pub(super) queue: String,
    /// The consumers.
    pub(super) consumers: String,
    /// A table of no concern to the stream.
    pub(super) other: String,
}

impl Scratch {
    /// Names that nobody has.
    pub(super) fn new(random: u32) -> Self {
        let queue = format!("evt_soak_{random:08x}");
        Self {
            consumers: format!("{queue}_consumers"),
            other: format!("{queue}_other"),
            queue,
        }
    }
}

/// An object that is made for some shape of insert; a role may be refused it.
pub(super) struct Helper {
    /// What it is for.
    pub(super) shape: Shape,
    pub(super) make: Vec<String>,
    pub(super) drop: Vec<String>,
}

/// Two-phase commit of an engine.
pub(super) struct TwoPhase {
    /// A query whose first row says `yes` if the server allows it.
    pub(super) allowed: &'static str,
    /// What the role or an operator must do where it does not.
    pub(super) advice: &'static str,
    pub(super) begin: fn(&str) -> String,
    pub(super) prepare: fn(&str) -> Vec<String>,
    pub(super) decide: fn(&str, bool) -> String,
    /// Names of the transactions that are prepared, of whatever application.
    pub(super) prepared: &'static str,
}

/// An SQL database.
#[async_trait]
pub(super) trait Engine: Send + Sync {
    /// As `Store::kind`.
    fn kind(&self) -> &'static str;

    /// Where it is, without a password.
    fn place(&self) -> String;

    /// Whether scratch tables can be made there without making more than them.
    async fn check(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// A session of an application.
    async fn session(&self) -> Result<Box<dyn Session>, sqlx::Error>;

    /// Begins a transaction that is to write.
    fn begin(&self) -> &'static str {
        "BEGIN"
    }

    /// An `INSERT` of `rows` events; the one parameter is their data, `delay`
    /// is in seconds.
    fn insert(&self, shape: Shape, rows: u32, delay: f64) -> String;

    /// Makes [`Scratch::other`].
    fn make_other(&self) -> String;

    /// Objects for further shapes.
    fn helpers(&self) -> Vec<Helper>;

    /// Shapes that need no helper.
    fn plain_shapes(&self) -> &'static [Shape];

    /// `None`: there is none.
    fn two_phase(&self) -> Option<TwoPhase>;

    /// Ends a session by its number; `None`: it has no server.
    fn kill(&self, session: i64) -> Option<String>;

    /// A query with a row while the session is there.
    fn is_open(&self, session: i64) -> String;

    /// The column `data` as text.
    fn data(&self) -> &'static str {
        "data"
    }

    /// Names of the tables that have a column `stream`, the service's own.
    fn keyed_tables(&self) -> &'static str;

    /// How the original reads what is above `after`: begin, query, end.
    fn original(&self, after: i64) -> [String; 3];

    /// Whether that read waits for open transactions.
    fn original_waits(&self) -> bool {
        false
    }

    /// Whether a transaction that waits to end holds up every other writer.
    fn is_single_writer(&self) -> bool {
        false
    }
}

/// A session of an application.
#[async_trait]
pub(super) trait Session: Send + Sync {
    /// The server's number for it.
    fn number(&self) -> i64;

    /// Runs a statement.
    async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error>;

    /// Runs an [`Engine::insert`]; the lowest id it drew.
    async fn insert(&mut self, sql: &str, data: &str) -> Result<i64, sqlx::Error>;

    /// The rows of a query for a number and a text.
    async fn read(&mut self, sql: &str) -> Result<Vec<(i64, String)>, sqlx::Error>;

    /// The rows of a query for a text.
    async fn texts(&mut self, sql: &str) -> Result<Vec<String>, sqlx::Error>;
}

/// `tuple` for each row of a `VALUES` list.
pub(super) fn tuples(tuple: &str, rows: u32) -> String {
    vec![tuple; rows as usize].join(", ")
}
