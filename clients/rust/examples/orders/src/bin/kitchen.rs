//! Reacts to orders, and to each at least once: `kitchen SERVICE COUNT`, the
//! service as `http://host:port`. Stops after so many orders.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result};
use futoin_eventstream_client::{Event, EventStream};
use serde_json::Value;
use tokio::sync::Notify;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let service = arguments.next().context("kitchen SERVICE COUNT")?;
    let count: usize = arguments.next().context("kitchen SERVICE COUNT")?.parse()?;
    let (cooked, enough) = (AtomicUsize::new(0), Arc::new(Notify::new()));
    let stop = enough.clone();
    EventStream::connect(&service)?
        .receive("KITCHEN")
        .want(["ORDER_NEW"])
        .stop_on(async move { stop.notified().await })
        .run(async |event: Event| {
            let order: Value = event.data()?;
            writeln!(std::io::stdout(), "cooking {}", order["item"])?;
            if cooked.fetch_add(1, Ordering::Relaxed) + 1 == count {
                enough.notify_one();
            }
            anyhow::Ok(())
        })
        .await?;
    Ok(())
}
