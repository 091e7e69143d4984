//! MySQL and MariaDB: the adversarial cases of the frontier, through the real
//! service, driven by transactions that the tests hold open.

mod adoption;
mod cases;
mod cluster;
mod contract;
mod doctor;
mod faults;
mod galera;
mod late;
mod load;
mod replicas;
mod stage;
mod text;
mod window;

pub use cluster::{Cluster, Database, LockMode, OWNER, Offer, connect, insert, run, unprivileged};

use sqlx::Row as _;

const QUEUE: &str =
    "CREATE TABLE evt_queue (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    type VARCHAR(16) NOT NULL, data TEXT NOT NULL, ts DATETIME NOT NULL)";

#[tokio::test]
async fn throwaway_servers_offer_what_they_say() {
    for (offer, plugin) in [(Offer::Plugin, 1), (Offer::Schema, 0)] {
        for (mode, number) in [(LockMode::Consecutive, 1), (LockMode::Interleaved, 2)] {
            let database = Cluster::of(offer, mode).database().await;
            let mut session = database.session().await;
            let row = sqlx::query(
                "SELECT @@innodb_autoinc_lock_mode AS mode,
                    CAST(@@performance_schema AS SIGNED) AS performance_schema,
                    (SELECT COUNT(*) FROM information_schema.PLUGINS
                     WHERE PLUGIN_NAME = 'METADATA_LOCK_INFO') AS plugin",
            );
            let row = row.fetch_one(&mut session).await.expect("read");
            assert_eq!(row.get::<i64, _>("mode"), number);
            assert_eq!(row.get::<i64, _>("plugin"), plugin);
            assert_eq!(row.get::<i64, _>("performance_schema"), 1 - plugin);
        }
    }
}

#[tokio::test]
async fn throwaway_server_keeps_its_data_when_it_is_restarted() {
    let cluster = Cluster::start();
    let database = cluster.database().await;
    database.run(QUEUE).await;
    let first = insert(&mut database.session().await).await;
    cluster.restart();
    cluster.crash();
    let mut session = database.session().await;
    run(&mut session, "SELECT 1").await;
    assert_eq!(insert(&mut session).await, first + 1);
}
