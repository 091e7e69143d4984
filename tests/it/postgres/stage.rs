//! A service on a database, a subscriber, and sessions of an application.

use futoin_eventstream::proto::{GetStatusRequest, GetStatusResponse, ReadyToReceiveResponse};
use sqlx::PgConnection;
use tonic::Streaming;

use super::{Cluster, Database, cluster::run};
use crate::{
    calls::{end_of, status},
    round_trip::{next_group, ready, register, subscribe},
    server::{Builder, Clients, Server, eventually},
};

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
        let server = database.server();
        Self::with(database, server).await
    }

    /// On a new database, with more arguments of `serve`.
    pub async fn open_with(args: &[&str]) -> Self {
        let database = Cluster::shared().database().await;
        let server = args
            .iter()
            .fold(database.server(), |server, &arg| server.arg(arg));
        Self::with(database, server).await
    }

    /// With a service that reaches the database in its own way.
    pub async fn with(database: Database, server: Builder) -> Self {
        let server = server.start().await;
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
    pub async fn transaction(&self) -> PgConnection {
        let mut session = self.database.session().await;
        run(&mut session, "BEGIN").await;
        session
    }

    /// The stream ends because the database is away; waits until it works and
    /// subscribes again.
    pub async fn recover(&mut self) {
        let end = end_of(&mut self.stream).await;
        assert_eq!(end.code(), tonic::Code::Unavailable, "{end:?}");
        self.until_working().await;
        self.subscribe().await;
    }

    /// Waits until the database works.
    pub async fn until_working(&self) {
        let clients = self.clients.clone();
        eventually(async || {
            let request = GetStatusRequest {};
            clients.clone().admin.get_status(request).await.map(drop)
        })
        .await;
    }

    /// Waits until calls are answered `UNAVAILABLE` because of the database.
    pub async fn until_away(&self) {
        let clients = self.clients.clone();
        eventually(async || {
            let request = GetStatusRequest {};
            match clients.clone().admin.get_status(request).await {
                Ok(status) => Err(format!("{status:?}")),
                Err(status) => {
                    crate::faults::assert_database_away(&status);
                    Ok(())
                }
            }
        })
        .await;
    }

    /// Waits until a line of the service's log has this word.
    pub async fn until_logged(&self, word: &str) {
        eventually(async || match self.server.log() {
            log if log.iter().any(|line| line.contains(word)) => Ok(()),
            log => Err(log),
        })
        .await;
    }

    /// These events come next, in this order.
    pub async fn expect(&mut self, ids: &[i64]) {
        let mut seen = Vec::new();
        while seen.len() < ids.len() {
            let group = next_group(&mut self.stream).await;
            seen.extend(group.events.iter().map(|event| event.id));
        }
        assert_eq!(seen, ids);
    }

    /// What a look at the database that begins now finds.
    pub async fn status(&mut self) -> GetStatusResponse {
        status(&mut self.clients).await
    }

    /// A look that begins now finds this frontier.
    pub async fn expect_frontier(&mut self, frontier: i64) {
        let found = self.status().await;
        assert_eq!(found.frontier_id, frontier, "{found:?}");
    }
}
