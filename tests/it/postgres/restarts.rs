//! The server goes away under the service and comes back.

use super::{
    Cluster,
    cluster::{insert, run},
    stage::Stage,
};
#[tokio::test]
async fn case_04_prepared_transaction_across_a_restart_of_the_server() {
    let cluster = Cluster::start();
    let mut stage = Stage::on(cluster.database().await).await;
    let mut session = stage.transaction().await;
    let first = insert(&mut session).await;
    run(&mut session, "PREPARE TRANSACTION 'kept'").await;
    let second = insert(&mut session).await;
    stage.expect_frontier(first - 1).await;
    drop(session);
    cluster.restart("fast");
    stage.recover().await;
    stage.expect_frontier(first - 1).await;
    let mut session = stage.database.session().await;
    let third = insert(&mut session).await;
    stage.expect_frontier(first - 1).await;
    run(&mut session, "COMMIT PREPARED 'kept'").await;
    stage.expect(&[first, second, third]).await;
}

#[tokio::test]
async fn case_15_immediate_shutdown_makes_ids_jump() {
    let cluster = Cluster::start();
    let mut stage = Stage::on(cluster.database().await).await;
    let first = insert(&mut stage.database.session().await).await;
    stage.expect(&[first]).await;
    let mut open = stage.transaction().await;
    insert(&mut open).await;
    cluster.restart("immediate");
    stage.recover().await;
    stage.expect(&[first]).await;
    let next = insert(&mut stage.database.session().await).await;
    assert!(next > first + 1, "the sequence was written ahead");
    stage.expect(&[next]).await;
    stage.expect_frontier(next).await;
}
