//! A cluster of three nodes on this machine, each of which gives out ids.

use sqlx::{MySqlConnection, Row as _};

use super::{
    Cluster, Database,
    cluster::{LockMode, Offer, connect, insert, run},
};
use crate::{
    calls::{add_many, ids, poll, poll_of},
    round_trip::register,
    server::{Clients, Server, eventually},
};

const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// A port that nobody has; the node takes it at once.
fn port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// One more node, of the cluster that the others are in.
fn node(peers: &[u16]) -> (Cluster, u16) {
    let (group, transfer, increments) = (port(), port(), port());
    let address: Vec<String> = peers
        .iter()
        .map(|port| format!("127.0.0.1:{port}"))
        .collect();
    let settings = format!(
        "wsrep_on = ON
         wsrep_provider = {PROVIDER}
         wsrep_cluster_name = test
         wsrep_cluster_address = gcomm://{}
         wsrep_provider_options = \"base_port={group};gmcast.listen_addr=tcp://127.0.0.1:{group};\
            ist.recv_addr=127.0.0.1:{increments};gcache.size=4M\"
         wsrep_node_address = 127.0.0.1:{group}
         wsrep_sst_method = rsync
         wsrep_sst_receive_address = 127.0.0.1:{transfer}
         binlog_format = ROW",
        address.join(",")
    );
    let node = Cluster::start_as(Offer::Plugin, LockMode::Interleaved, &settings);
    (node, group)
}

/// Three nodes, and a database in all of them.
struct Galera {
    nodes: Vec<Cluster>,
    database: Database,
}

impl Galera {
    async fn start() -> Self {
        let mut ports = Vec::new();
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let (node, port) = node(&ports);
            nodes.push(node);
            ports.push(port);
        }
        let database = nodes[0].database().await;
        let galera = Self { nodes, database };
        for at in 0..3 {
            galera
                .until(at, "SHOW STATUS LIKE 'wsrep_cluster_size'", "3")
                .await;
            galera
                .until(at, "SHOW STATUS LIKE 'wsrep_ready'", "ON")
                .await;
        }
        galera
    }

    async fn until(&self, at: usize, sql: &'static str, value: &str) {
        let mut session = connect(&self.nodes[at].url("root", "mysql")).await;
        eventually(async || {
            let row = sqlx::raw_sql(sql).fetch_one(&mut session).await;
            let found: String = row.map_err(|error| error.to_string())?.get(1);
            if found == value { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// A session of an application at a node, which knows what the others had
    /// before.
    async fn session(&self, at: usize) -> MySqlConnection {
        let url = self.nodes[at].url("root", &self.database.name);
        let mut session = connect(&url).await;
        run(&mut session, "SET SESSION wsrep_sync_wait = 15").await;
        session
    }

    fn server(&self) -> crate::server::Builder {
        Server::builder().on(&self.database.url)
    }
}

#[tokio::test]
async fn case_20_cluster_of_several_writers() {
    let galera = Galera::start().await;
    let (code, log) = galera.server().refused().await;
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("Galera cluster test") && log.contains("db.galera"),
        "{log}"
    );

    let declared = galera.server().arg("--db-galera=single-writer");
    let server = declared.start().await;
    let mut clients = server.clients().await;
    register(&mut clients, "SHOP").await;
    // All writers at the node of the service: nothing is lost or reordered.
    let mut late = galera.session(0).await;
    run(&mut late, "BEGIN").await;
    let first = insert(&mut late).await;
    let mut rolled_back = galera.session(0).await;
    run(&mut rolled_back, "BEGIN").await;
    insert(&mut rolled_back).await;
    let second = insert(&mut galera.session(0).await).await;
    assert!(second > first + 2, "each node has every third id");
    assert!(poll(&mut clients, poll_of("SHOP")).await.events.is_empty());
    run(&mut rolled_back, "ROLLBACK").await;
    run(&mut late, "COMMIT").await;
    let mut expected = vec![first, second];
    expected.extend(add_many(&mut clients, "T", 3).await);
    let polled = eventually(async || {
        let polled = poll(&mut clients.clone(), poll_of("SHOP")).await;
        if polled.events.len() == 5 {
            Ok(polled)
        } else {
            Err(polled)
        }
    })
    .await;
    assert_eq!(ids(&polled.events), expected);
    another_node_writes(&galera, clients, expected[4]).await;
    drop(server);
}

/// What the refusal is about: who declares one writer although another node
/// writes loses the transaction that is open there.
async fn another_node_writes(galera: &Galera, mut clients: Clients, last: i64) {
    let mut elsewhere = galera.session(1).await;
    run(&mut elsewhere, "BEGIN").await;
    let open = insert(&mut elsewhere).await;
    let mut here = galera.session(0).await;
    let mut above = insert(&mut here).await;
    while above < open {
        above = insert(&mut here).await;
    }
    let mut request = poll_of("SHOP");
    request.last_id = Some(last);
    let seen = eventually(async || {
        let polled = poll(&mut clients.clone(), request.clone()).await;
        if polled.last_id >= above {
            Ok(polled)
        } else {
            Err(polled)
        }
    })
    .await;
    assert!(!ids(&seen.events).contains(&open), "it is open");
    run(&mut elsewhere, "COMMIT").await;
    run(
        &mut galera.session(0).await,
        "SELECT id FROM evt_queue LIMIT 1",
    )
    .await;
    request.last_id = Some(seen.last_id);
    let polled = poll(&mut clients, request).await;
    assert!(!ids(&polled.events).contains(&open), "and it is lost");
}
