//! Connections of the pools, in the hands of work that may be dropped.
//!
//! A caller that goes away drops its work wherever it waits, and the driver then
//! loses its place in the server's answer: the next statement on that connection
//! would wait for ever, or read what was meant for another. So such a connection
//! is closed. Work that ends by itself gives its connection back inside its own
//! `poll`; work that is dropped is not polled then.

use std::{
    cell::Cell,
    future::poll_fn,
    io::ErrorKind,
    ops::{Deref, DerefMut},
    pin::pin,
    task::{Context, Poll},
    time::Duration,
};

use sqlx::{MySql, MySqlConnection, MySqlPool, pool::PoolConnection};
use tokio::time::sleep;

/// A Unix socket refuses whom it has no room for in its queue, at once.
const CONNECT_REPEATS: u32 = 100;
const CONNECT_PAUSE: Duration = Duration::from_millis(20);

thread_local! {
    static POLLED: Cell<bool> = const { Cell::new(false) };
}

/// Says while it lives that work is being polled on this thread.
struct Polled {
    before: bool,
}

impl Polled {
    fn begin() -> Self {
        Self {
            before: POLLED.replace(true),
        }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        POLLED.set(self.before);
    }
}

/// Connections that `work` takes return to their pool if it comes to its end.
pub(in crate::store) async fn undisturbed<F: Future>(work: F) -> F::Output {
    let mut work = pin!(work);
    let poll = |context: &mut Context<'_>| -> Poll<F::Output> {
        let _polled = Polled::begin();
        work.as_mut().poll(context)
    };
    poll_fn(poll).await
}

/// A connection of a pool. It is closed when dropped outside of
/// [`undisturbed`] work.
pub(in crate::store) struct Pooled(PoolConnection<MySql>);

impl Pooled {
    pub(super) async fn take(pool: &MySqlPool) -> Result<Self, sqlx::Error> {
        for _ in 0..CONNECT_REPEATS {
            match pool.acquire().await {
                Err(sqlx::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    sleep(CONNECT_PAUSE).await;
                }
                outcome => return outcome.map(Self),
            }
        }
        pool.acquire().await.map(Self)
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if !POLLED.get() {
            self.0.close_on_drop();
        }
    }
}

impl Deref for Pooled {
    type Target = MySqlConnection;
    fn deref(&self) -> &MySqlConnection {
        &self.0
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.0
    }
}

/// A write transaction. One that is not committed costs its connection, with
/// which the server rolls it back.
pub(in crate::store) struct WriteTx {
    connection: Pooled,
    committed: bool,
}

impl WriteTx {
    pub(super) async fn begin(pool: &MySqlPool) -> Result<Self, sqlx::Error> {
        let mut tx = Self {
            connection: Pooled::take(pool).await?,
            committed: false,
        };
        tx.run("BEGIN").await?;
        Ok(tx)
    }

    /// Durable when it returns.
    pub(in crate::store) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.run("COMMIT").await?;
        self.committed = true;
        Ok(())
    }

    /// What can be taken back by itself: a data error leaves it as it is.
    pub(super) async fn set_savepoint(&mut self) -> Result<(), sqlx::Error> {
        self.run("SAVEPOINT request").await
    }

    pub(super) async fn return_to_savepoint(&mut self) -> Result<(), sqlx::Error> {
        self.run("ROLLBACK TO SAVEPOINT request").await
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(statement)
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.0.close_on_drop();
        }
    }
}

impl Deref for WriteTx {
    type Target = MySqlConnection;
    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for WriteTx {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}
