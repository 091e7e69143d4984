//! A backlog into a warehouse, of the same kind and of SQLite, beside one
//! `INSERT … SELECT` of the same rows, which leaves out everything but the rows.

use tokio::time::Instant;

use crate::{
    Plan, engine,
    measure::{number, rate},
    report::Sheet,
    server::Server,
};

const COPY: &str = "INSERT … SELECT in the same database";

const ARCHIVED: &str = "eventstream_events_archived_total";

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("archive: a backlog of 200-byte events into a warehouse");
    let count: u64 = plan.pick(200_000, 20_000);
    sheet.note(format!("{count} events, the default batches"));
    let mut warehouses = vec![("of the same kind", plan.engine.clone())];
    if plan.kind != engine::Kind::Sqlite {
        warehouses.push(("of SQLite", engine::Kind::Sqlite.start(&plan.dir)?));
    }
    for _ in 0..plan.rounds {
        let database = plan.engine.database().await?;
        database.session().await?.fill(count.try_into()?).await?;
        let begun = Instant::now();
        database.session().await?.copy_all().await?;
        sheet.record(COPY, "events/s", rate(count, begun.elapsed()));
        for (name, engine) in &warehouses {
            let database = plan.engine.database().await?;
            database.session().await?.fill(count.try_into()?).await?;
            let warehouse = engine.database().await?;
            let to = format!("--archive-url={}", warehouse.url());
            let server = Server::start_with(plan, database, &[&to]).await?;
            let took = server.until(ARCHIVED, number(count)).await?;
            sheet.record(&into(name), "events/s", rate(count, took));
        }
    }
    for (name, _) in &warehouses {
        sheet.compare(&into(name), COPY);
    }
    Ok(sheet)
}

fn into(warehouse: &str) -> String {
    format!("archived into one {warehouse}")
}
