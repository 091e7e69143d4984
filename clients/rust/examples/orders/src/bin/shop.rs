//! Inserts orders, each with its event in the same transaction:
//! `shop DATABASE ITEM...`, the database as `sqlite:PATH`, `postgres://…`, `mysql://…`.

use anyhow::{Context, Result, bail};
use futoin_eventstream_client::outbox::sqlx::add_event;
use serde_json::json;
use sqlx::{MySqlPool, PgPool, SqlitePool};

// The same for each database; sqlx wants to know which one.
macro_rules! sell {
    ($pool:expr, $create:literal, $insert:literal, $items:expr) => {
        let pool = $pool;
        sqlx::query($create).execute(&pool).await?;
        for item in $items {
            let mut tx = pool.begin().await?;
            sqlx::query($insert).bind(&item).execute(&mut *tx).await?;
            add_event(&mut *tx, "ORDER_NEW", &json!({ "item": item })).await?;
            tx.commit().await?;
        }
        pool.close().await;
    };
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut items = std::env::args().skip(1);
    let url = items.next().context("shop DATABASE ITEM...")?;
    let scheme = url.split(':').next().unwrap_or_default();
    match scheme {
        "sqlite" => {
            sell!(
                SqlitePool::connect(&url).await?,
                "CREATE TABLE IF NOT EXISTS orders (item TEXT)",
                "INSERT INTO orders (item) VALUES (?)",
                items
            );
        }
        "postgres" => {
            sell!(
                PgPool::connect(&url).await?,
                "CREATE TABLE IF NOT EXISTS orders (item TEXT)",
                "INSERT INTO orders (item) VALUES ($1)",
                items
            );
        }
        "mysql" => {
            sell!(
                MySqlPool::connect(&url).await?,
                "CREATE TABLE IF NOT EXISTS orders (item VARCHAR(100))",
                "INSERT INTO orders (item) VALUES (?)",
                items
            );
        }
        other => bail!("no database {other}"),
    }
    Ok(())
}
