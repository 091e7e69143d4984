//! `add_event` in a transaction with every library, on the real databases.

use futoin_eventstream_client::{Event, Invalid, JsonText, outbox};
use serde_json::{Value, json};

use crate::{
    received::Received,
    services::{client, variable},
};

/// As exact as it gets: an integer that no double holds, a character outside of
/// the basic plane, quotes of all kinds.
fn order() -> Value {
    json!({ "order": 9_007_199_254_740_993_i64, "note": "\u{1d11e} \"q\" 'q' `q` \\ \u{e9}" })
}

fn check(event: &Event) {
    assert_eq!(event.data_json(), order().to_string());
    assert_eq!(
        event.data::<Value>().unwrap()["order"],
        9_007_199_254_740_993_i64
    );
    assert!(event.ts().is_some());
}

fn field<E: std::fmt::Debug>(refused: Result<(), outbox::Error<E>>) -> &'static str {
    match refused.unwrap_err() {
        outbox::Error::Invalid(Invalid { field, rule, .. }) => {
            assert!(!rule.is_empty());
            field
        }
        error @ outbox::Error::Database(_) => panic!("the database refused: {error:?}"),
    }
}

fn too_big() -> String {
    "x".repeat(8 << 20)
}

/// A transaction of sqlx that is rolled back, and one that is committed.
macro_rules! with_sqlx {
    ($test:ident, $engine:literal, $component:literal, $type:literal, $pool:expr, $create:literal, $insert:literal) => {
        #[tokio::test]
        async fn $test() {
            let client = client($engine);
            let mut received = Received::start(&client, $component, $type).await;
            let pool = $pool;
            sqlx::query($create).execute(&pool).await.unwrap();

            let mut tx = pool.begin().await.unwrap();
            sqlx::query($insert)
                .bind("lost")
                .execute(&mut *tx)
                .await
                .unwrap();
            outbox::sqlx::add_event(&mut *tx, $type, &"lost")
                .await
                .unwrap();
            tx.rollback().await.unwrap();

            let mut tx = pool.begin().await.unwrap();
            sqlx::query($insert)
                .bind("kept")
                .execute(&mut *tx)
                .await
                .unwrap();
            assert_eq!(
                field(outbox::sqlx::add_event(&mut *tx, "order", &1).await),
                "type"
            );
            assert_eq!(
                field(outbox::sqlx::add_event(&mut *tx, $type, &too_big()).await),
                "data_json"
            );
            assert_eq!(
                field(outbox::sqlx::add_event(&mut *tx, $type, JsonText("{")).await),
                "data_json"
            );
            outbox::sqlx::add_event(&mut *tx, $type, &order())
                .await
                .unwrap();
            outbox::sqlx::add_event(&mut *tx, $type, JsonText(" [ 1e400 ] "))
                .await
                .unwrap();
            tx.commit().await.unwrap();

            check(&received.next().await);
            assert_eq!(received.next().await.data_json(), " [ 1e400 ] ");
            assert_eq!(received.stop().await, []);
            let kept: Vec<String> =
                sqlx::query_scalar(concat!("SELECT item FROM orders_", stringify!($test)))
                    .fetch_all(&pool)
                    .await
                    .unwrap();
            assert_eq!(kept, ["kept"]);
            pool.close().await;
        }
    };
}

with_sqlx!(
    r_sqlite,
    "SQLITE",
    "R_sqlx_sqlite",
    "R_SQLX_SQLITE",
    sqlx::SqlitePool::connect(&format!("sqlite:{}", variable("TEST_SQLITE_DB")))
        .await
        .unwrap(),
    "CREATE TABLE orders_r_sqlite (item TEXT)",
    "INSERT INTO orders_r_sqlite (item) VALUES (?)"
);
with_sqlx!(
    r_postgres,
    "POSTGRES",
    "R_sqlx_postgres",
    "R_SQLX_POSTGRES",
    sqlx::PgPool::connect(&variable("TEST_POSTGRES_DB"))
        .await
        .unwrap(),
    "CREATE TABLE orders_r_postgres (item TEXT)",
    "INSERT INTO orders_r_postgres (item) VALUES ($1)"
);
with_sqlx!(
    r_mysql,
    "MYSQL",
    "R_sqlx_mysql",
    "R_SQLX_MYSQL",
    sqlx::MySqlPool::connect(&variable("TEST_MYSQL_DB"))
        .await
        .unwrap(),
    "CREATE TABLE orders_r_mysql (item VARCHAR(20) NOT NULL)",
    "INSERT INTO orders_r_mysql (item) VALUES (?)"
);

#[tokio::test]
async fn tokio_postgres() {
    use outbox::tokio_postgres::add_event;
    const TYPE: &str = "R_TOKIO_POSTGRES";
    let mut received = Received::start(&client("POSTGRES"), "R_tokio_pg", TYPE).await;
    let (mut database, connection) =
        ::tokio_postgres::connect(&variable("TEST_POSTGRES_DB"), ::tokio_postgres::NoTls)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    database
        .batch_execute("CREATE TABLE orders_r_tokio (item TEXT)")
        .await
        .unwrap();
    let insert = "INSERT INTO orders_r_tokio (item) VALUES ($1)";

    let tx = database.transaction().await.unwrap();
    tx.execute(insert, &[&"lost"]).await.unwrap();
    add_event(&tx, TYPE, &"lost").await.unwrap();
    tx.rollback().await.unwrap();

    let tx = database.transaction().await.unwrap();
    tx.execute(insert, &[&"kept"]).await.unwrap();
    assert_eq!(field(add_event(&tx, "ORDER PAID", &1).await), "type");
    assert_eq!(field(add_event(&tx, TYPE, &too_big()).await), "data_json");
    assert_eq!(
        field(add_event(&tx, TYPE, JsonText("nul")).await),
        "data_json"
    );
    add_event(&tx, TYPE, &order()).await.unwrap();
    add_event(&tx, TYPE, JsonText(" [ 1e400 ] ")).await.unwrap();
    tx.commit().await.unwrap();

    check(&received.next().await);
    assert_eq!(received.next().await.data_json(), " [ 1e400 ] ");
    assert_eq!(received.stop().await, []);
    let kept = database
        .query("SELECT item FROM orders_r_tokio", &[])
        .await
        .unwrap();
    assert_eq!(
        kept.iter().map(|row| row.get(0)).collect::<Vec<String>>(),
        ["kept"]
    );
    drop(database);
    connection.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_table_of_another_name() {
    let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", variable("TEST_SQLITE_DB")))
        .await
        .unwrap();
    let create = "CREATE TABLE r_events (id INTEGER PRIMARY KEY AUTOINCREMENT, type, data, ts)";
    sqlx::query(create).execute(&pool).await.unwrap();
    let table = outbox::Table::new("main.r_events").unwrap();
    outbox::sqlx::add_event_to(&table, &pool, "R_OTHER", &[1])
        .await
        .unwrap();
    let (data, hours): (String, f64) = sqlx::query_as(
        "SELECT data, (julianday('now') - julianday(ts)) * 24 FROM r_events WHERE type = 'R_OTHER'",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(data, "[1]");
    assert!(hours.abs() < 0.5, "UTC, now");
    pool.close().await;

    let missing = outbox::Table::new("r_missing").unwrap();
    let url = variable("TEST_POSTGRES_DB");
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let refused = outbox::sqlx::add_event_to(&missing, &pool, "R_OTHER", &1).await;
    assert!(matches!(
        refused,
        Err(outbox::Error::Database(sqlx::Error::Database(_)))
    ));
    pool.close().await;
}
