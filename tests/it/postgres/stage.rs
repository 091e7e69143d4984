//! A service on a database, a subscriber, and sessions of an application.

use futoin_eventstream::proto::{GetStatusResponse, ReadyToReceiveResponse};
use sqlx::PgConnection;
use tonic::Streaming;

use super::{Cluster, Database, cluster::run};
use crate::{
    calls::status,
    round_trip::{next_group, ready, register, subscribe},
    server::{Clients, Server},
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
        Self::with(database, &[]).await
    }

    /// On a new database, with more arguments of `serve`.
    pub async fn open_with(args: &[&str]) -> Self {
        Self::with(Cluster::shared().database().await, args).await
    }

    async fn with(database: Database, args: &[&str]) -> Self {
        let server = args
            .iter()
            .fold(database.server(), |server, &arg| server.arg(arg));
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
