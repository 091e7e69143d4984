//! Replicas behind one address, replaced while it is used, as Kubernetes does
//! with those of a Deployment behind a Service.

use std::io;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::server::{Builder, Server};

/// An address whose connections go to the replicas in turn. Those that are
/// open stay where they are.
struct Address {
    own: String,
    replicas: watch::Sender<Vec<String>>,
    forwarding: JoinHandle<io::Result<()>>,
}

impl Address {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").to_string();
        let replicas = watch::Sender::new(Vec::new());
        let forwarding = tokio::spawn(forward(listener, replicas.subscribe()));
        Self {
            own,
            replicas,
            forwarding,
        }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        self.forwarding.abort();
    }
}

async fn forward(listener: TcpListener, replicas: watch::Receiver<Vec<String>>) -> io::Result<()> {
    let mut connections = JoinSet::new();
    for turn in 0.. {
        let (mut from, _) = listener.accept().await?;
        let next = {
            let replicas = replicas.borrow();
            replicas.get(turn % replicas.len().max(1)).cloned()
        };
        // Closed at once where there is none.
        let Some(next) = next else { continue };
        connections.spawn(async move {
            let mut to = TcpStream::connect(next).await?;
            copy_bidirectional(&mut from, &mut to).await
        });
        while connections.try_join_next().is_some() {}
    }
    Ok(())
}

/// Replicas of one service.
pub struct Fleet {
    address: Address,
    replicas: Vec<Server>,
}

impl Fleet {
    /// So many, all ready.
    pub async fn start(replica: &Builder, count: usize) -> Self {
        let mut fleet = Self {
            address: Address::open().await,
            replicas: Vec::new(),
        };
        for _ in 0..count {
            fleet.replicas.push(replica.clone().start().await);
        }
        fleet.announce();
        fleet
    }

    /// `host:port` of gRPC.
    pub fn address(&self) -> &str {
        &self.address.own
    }

    /// The replicas, the oldest first.
    pub fn replicas(&self) -> &[Server] {
        &self.replicas
    }

    /// Puts a new replica in the place of the oldest: the new one is ready
    /// before the old one is told to end, and that one gets no connections any
    /// more.
    pub async fn replace_oldest(&mut self, replica: &Builder) {
        self.replicas.push(replica.clone().start().await);
        let mut oldest = self.replicas.remove(0);
        self.announce();
        oldest.signal("TERM");
        let status = oldest.ended().await;
        assert!(status.success(), "{status}: {}", oldest.log().join("\n"));
    }

    /// As [`Self::replace_oldest`], but it is killed straight after it was told.
    pub async fn kill_oldest(&mut self, replica: &Builder) {
        self.replicas.push(replica.clone().start().await);
        let mut oldest = self.replicas.remove(0);
        self.announce();
        oldest.signal("TERM");
        oldest.signal("KILL");
        oldest.ended().await;
    }

    fn announce(&self) {
        let all = self.replicas.iter();
        let all = all.map(|one| one.grpc_address().to_owned()).collect();
        self.address.replicas.send_replace(all);
    }

    /// Ends them all.
    pub async fn end(self) {
        for replica in self.replicas {
            assert!(replica.terminate().await.success(), "it ends well");
        }
    }
}
