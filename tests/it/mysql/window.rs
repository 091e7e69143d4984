//! The moment between an id and its row, held open.
//!
//! InnoDB gives the id out before it looks for the place of the row. So a
//! statement whose place is locked has an id that nobody can see, not even a
//! dirty read; and a later id is committed meanwhile. Three sessions make it so:
//! one locks the end of the table, the statement waits there, the first inserts
//! the next id and commits, while a third has locked the gap between.

use sqlx::MySqlConnection;
use tokio::task::JoinHandle;

use super::{
    cluster::{insert, run},
    stage::{Stage, next_id},
};
use crate::server::eventually;

/// A statement between an id and its row.
pub struct Window {
    /// The id whose row is not there yet.
    pub hidden: i64,
    /// The committed one above it.
    pub visible: i64,
    gap: MySqlConnection,
}

const REPEATABLE: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; BEGIN";

impl Window {
    /// `begin` makes a statement insert one event; it may wait in a task.
    pub async fn open(stage: &Stage, begin: impl AsyncFnOnce()) -> Self {
        let hidden = stage.next_id().await;
        let mut end = stage.database.session().await;
        let lock =
            format!("{REPEATABLE}; SELECT id FROM evt_queue WHERE id >= {hidden} FOR UPDATE");
        run(&mut end, &lock).await;
        begin().await;
        let mut watcher = stage.database.session().await;
        eventually(async || match next_id(&mut watcher).await {
            next if next > hidden => Ok(()),
            next => Err(next),
        })
        .await;
        let visible = insert(&mut end).await;
        let mut gap = stage.database.session().await;
        let lock = format!("{REPEATABLE}; SELECT id FROM evt_queue WHERE id = {hidden} FOR UPDATE");
        run(&mut gap, &lock).await;
        run(&mut end, "COMMIT").await;
        assert_eq!(visible, hidden + 1);
        Self {
            hidden,
            visible,
            gap,
        }
    }

    /// Lets the statement go on.
    pub async fn close(mut self) {
        run(&mut self.gap, "ROLLBACK").await;
    }
}

/// Runs a statement in a task, in a session of its own.
pub async fn in_background(stage: &Stage, sql: &str) -> JoinHandle<()> {
    let mut session = stage.database.session().await;
    let sql = sql.to_owned();
    tokio::spawn(async move { run(&mut session, &sql).await })
}
