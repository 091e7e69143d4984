//! Both fronts in turns, each on a replica of its own.

use super::front::{Front, Futoin, Grpc, Refusal, Seen};
use crate::futoin::builder;

/// One after the other, on two replicas of one database.
pub struct Mixed {
    grpc: Grpc,
    futoin: Futoin,
    calls: usize,
    /// Whether the open session is that of FutoIn.
    session: bool,
}

impl Mixed {
    pub async fn start() -> Self {
        let grpc = Grpc::start().await;
        let replica = builder().beside(&grpc.server).start().await;
        Self {
            futoin: Futoin::of(replica).await,
            grpc,
            calls: 0,
            session: false,
        }
    }

    fn next(&mut self) -> bool {
        self.calls += 1;
        self.calls.is_multiple_of(2)
    }
}

impl Front for Mixed {
    async fn add(&mut self, kind: &str, data: &str) -> Result<i64, Refusal> {
        if self.next() {
            self.futoin.add(kind, data).await
        } else {
            self.grpc.add(kind, data).await
        }
    }

    async fn register(&mut self, component: &str) -> Result<(), Refusal> {
        if self.next() {
            self.futoin.register(component).await
        } else {
            self.grpc.register(component).await
        }
    }

    async fn poll(
        &mut self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Seen>, Refusal> {
        if self.next() {
            self.futoin.poll(component, last_id, want).await
        } else {
            self.grpc.poll(component, last_id, want).await
        }
    }

    async fn receive(&mut self, component: &str, want: Option<&[&str]>) -> Result<(), Refusal> {
        self.session = !self.session;
        if self.session {
            self.futoin.receive(component, want).await
        } else {
            self.grpc.receive(component, want).await
        }
    }

    async fn pushed(&mut self) -> Vec<i64> {
        if self.session {
            self.futoin.pushed().await
        } else {
            self.grpc.pushed().await
        }
    }

    async fn take(&mut self) {
        if self.session {
            self.futoin.take().await;
        } else {
            self.grpc.take().await;
        }
    }

    async fn until_taken(&mut self, component: &str, id: i64) {
        self.grpc.until_taken(component, id).await;
    }

    async fn disconnect(&mut self) {
        if self.session {
            self.futoin.disconnect().await;
        } else {
            self.grpc.disconnect().await;
        }
    }
}
