//! A service on a database, a subscriber, and sessions of an application.

use futoin_eventstream::proto::{GetStatusResponse, ReadyToReceiveResponse};
use sqlx::{MySqlConnection, Row as _};
use tonic::Streaming;

use super::{
    Cluster, Database,
    cluster::{LockMode, Offer, run},
};
use crate::{
    calls::{ack, status},
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server, eventually},
};

/// How the service learns which statements run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    Plugin,
    /// The plugin, by a user without `PROCESS`.
    PluginAlone,
    Schema,
    List,
    /// No `PROCESS` and nothing else.
    Nothing,
}

/// Every way in which frontiers are proven, in both lock modes.
pub const EVERYWHERE: [(Evidence, LockMode); 6] = [
    (Evidence::Plugin, LockMode::Consecutive),
    (Evidence::Plugin, LockMode::Interleaved),
    (Evidence::Schema, LockMode::Consecutive),
    (Evidence::Schema, LockMode::Interleaved),
    (Evidence::List, LockMode::Consecutive),
    (Evidence::List, LockMode::Interleaved),
];

pub struct Stage {
    pub database: Database,
    pub server: Server,
    pub clients: Clients,
    pub stream: Streaming<ReadyToReceiveResponse>,
}

impl Stage {
    /// On a new database of the shared server.
    pub async fn open() -> Self {
        Self::on(Cluster::shared().database().await).await
    }

    pub async fn on(database: Database) -> Self {
        let url = database.url.clone();
        Self::as_user(database, &url).await
    }

    /// On a new database, where the service has just this evidence.
    pub async fn with(evidence: Evidence, mode: LockMode) -> Self {
        let (offer, privileges, name) = match evidence {
            Evidence::Plugin => (Offer::Plugin, "PROCESS", "metadata_lock_info"),
            Evidence::PluginAlone => (Offer::Plugin, "", "metadata_lock_info"),
            Evidence::Schema => (Offer::Schema, "PROCESS, SELECT", "performance_schema"),
            Evidence::List => (Offer::Schema, "PROCESS", "processlist"),
            Evidence::Nothing => (Offer::Schema, "", "none"),
        };
        let database = Cluster::of(offer, mode).database().await;
        let url = database.user(privileges).await;
        let stage = Self::as_user(database, &url).await;
        let wanted = format!("\"evidence\":\"{name}\"");
        eventually(async || match stage.server.log() {
            log if log.iter().any(|line| line.contains(&wanted)) => Ok(()),
            log => Err(log),
        })
        .await;
        stage
    }

    async fn as_user(database: Database, url: &str) -> Self {
        let server = Server::builder().on(url).start().await;
        let mut clients = server.clients().await;
        register(&mut clients, "SHOP").await;
        let (_, stream) = subscribe(&mut clients, ready("SHOP")).await;
        Self {
            database,
            server,
            clients,
            stream,
        }
    }

    /// Subscribes again, from the position.
    pub async fn subscribe(&mut self) {
        let (_, stream) = subscribe(&mut self.clients, ready("SHOP")).await;
        self.stream = stream;
    }

    /// A session with an open transaction.
    pub async fn transaction(&self) -> MySqlConnection {
        let mut session = self.database.session().await;
        run(&mut session, "BEGIN").await;
        session
    }

    /// These events come next, in this order.
    pub async fn expect(&mut self, ids: &[i64]) {
        let mut seen = Vec::new();
        while seen.len() < ids.len() {
            let group = next_group(&mut self.stream).await;
            seen.extend(group.events.iter().map(|event| event.id));
            let acked = ack(&mut self.clients, "SHOP", group.last_id, None).await;
            acked.expect("acknowledged");
        }
        assert_eq!(seen, ids);
    }

    /// What a look at the database that begins now finds.
    pub async fn status(&mut self) -> GetStatusResponse {
        status(&mut self.clients).await
    }

    /// The frontier comes to this id.
    pub async fn reaches(&mut self, frontier: i64) {
        let clients = self.clients.clone();
        eventually(async || {
            let found = status(&mut clients.clone()).await;
            if found.frontier_id == frontier {
                return Ok(());
            }
            Err(found)
        })
        .await;
    }

    /// The frontier comes to this id and no look finds another one.
    pub async fn stays(&mut self, frontier: i64) {
        self.reaches(frontier).await;
        for _ in 0..20 {
            let found = self.status().await;
            assert_eq!(found.frontier_id, frontier, "{found:?}");
        }
    }

    /// What the table would give out next.
    pub async fn next_id(&self) -> i64 {
        next_id(&mut self.database.session().await).await
    }

    /// A session holds the gate of this database: who waits there goes on when
    /// it is dropped.
    pub async fn gate(&self) -> MySqlConnection {
        let mut session = self.database.session().await;
        run(&mut session, "DO GET_LOCK(DATABASE(), 60)").await;
        session
    }

    /// Waits until a statement waits at the gate.
    pub async fn at_the_gate(&self) {
        self.until_some("STATE = 'User lock'").await;
    }

    /// Waits until there is such a process in this database.
    pub async fn until_some(&self, condition: &str) {
        let name = &self.database.name;
        let sql = format!(
            "SELECT COUNT(*) AS found FROM information_schema.PROCESSLIST
             WHERE DB = '{name}' AND {condition}"
        );
        let mut session = self.database.session().await;
        eventually(async || {
            let row = sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_one(&mut session);
            match row.await.expect("read").get::<i64, _>("found") {
                0 => Err("nobody"),
                _ => Ok(()),
            }
        })
        .await;
    }
}

/// What the table would give out next.
pub async fn next_id(session: &mut MySqlConnection) -> i64 {
    let row = sqlx::query(
        "SELECT CAST(AUTO_INCREMENT AS SIGNED) AS next FROM information_schema.TABLES
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = 'evt_queue'",
    );
    row.fetch_one(session).await.expect("read").get("next")
}
