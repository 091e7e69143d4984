//! `eventstream archive`: the archiver as a process of its own, for a warehouse
//! that the service cannot reach, and the check of a warehouse.
//!
//! The one command that opens a database itself; of the service it knows no
//! more than every client does.

mod copy;
mod verify;

use std::{sync::Arc, time::Duration};

use clap::Subcommand;

use self::{copy::Copy, verify::Verification};
use super::{
    connect::{Address, Target, Tls},
    credentials::Credentials,
    failure::{Failure, help},
    interrupt,
    output::{Format, Output},
};
use crate::{
    config, limits,
    store::history::{self, Warehouse, WarehouseOptions},
};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = help(concat!(
        "  eventstream archive --from grpc://10.0.0.5:50051 --to postgres://dwh@db/events\n",
        "  eventstream archive verify --to sqlite:/var/lib/history.db",
    ))
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    credentials: Credentials,
    #[command(flatten)]
    destination: Destination,
    /// Consume as this component
    #[arg(long, value_name = "NAME", default_value = "ARCHIVER")]
    pub(super) component: String,
    /// Events of one transaction
    #[arg(long, value_name = "COUNT", default_value_t = limits::MAX_GROUP_EVENTS as u16,
        value_parser = clap::value_parser!(u16).range(1..=limits::MAX_GROUP_EVENTS as i64))]
    batch_events: u16,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read the warehouse again and compare it with its ledger
    #[command(after_help = help(concat!(
        "  eventstream archive verify --to sqlite:/var/lib/history.db\n",
        "  eventstream archive verify --to postgres://dwh@db/events --from 10.0.0.5:50051",
    )))]
    Verify {
        /// Ask this server too how far it believes the archive to reach
        #[arg(long, value_name = "ADDRESS")]
        from: Option<Address>,
        #[command(flatten)]
        destination: Destination,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Debug, clap::Args)]
struct Source {
    #[arg(
        long,
        help = "Server: grpc://HOST:PORT, HOST:PORT, https://HOST:PORT or unix:/PATH",
        value_name = "ADDRESS",
        env = "EVENTSTREAM_ADDR",
        default_value = "127.0.0.1:50051"
    )]
    from: Address,
    #[command(flatten)]
    tls: Tls,
}

#[derive(Debug, clap::Args)]
struct Destination {
    /// Warehouse: sqlite:PATH or `postgres://USER@HOST/DATABASE`
    #[arg(
        long,
        value_name = "URL",
        env = "EVENTSTREAM_ARCHIVE_URL",
        hide_env_values = true
    )]
    to: Option<String>,
    /// Table of the history
    #[arg(long, value_name = "NAME", default_value = WarehouseOptions::TABLE)]
    table: String,
    /// How long a statement of the warehouse may take
    #[arg(long, value_name = "DURATION", default_value = "30s",
        value_parser = super::values::duration)]
    statement_timeout: Duration,
}

impl Destination {
    /// Nothing is opened yet.
    fn warehouse(&self) -> Result<Arc<dyn Warehouse>, Failure> {
        // Its text may hold a password, so it is not shown.
        let wrong = |what: &str, rule: String| Failure::Usage(format!("{what}: the text {rule}"));
        let to = self.to.as_deref().ok_or_else(|| {
            Failure::Usage(
                "--to names the warehouse, sqlite:PATH or postgres://HOST/DATABASE".into(),
            )
        })?;
        let place = config::place(to).map_err(|rule| wrong("--to", rule))?;
        let table = config::table_name(&self.table).map_err(|rule| wrong("--table", rule))?;
        let options = WarehouseOptions {
            table,
            statement_timeout: self.statement_timeout.max(Duration::from_secs(1)),
        };
        Ok(history::at(&place, options))
    }
}

impl Args {
    pub(super) fn format(&self) -> Format {
        match &self.action {
            Some(Action::Verify { format, .. }) => *format,
            None => Format::TEXT,
        }
    }
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let target = |address| {
        let (tls, credentials) = (args.source.tls.clone(), args.credentials.clone());
        Target::at(address, tls, credentials)
    };
    if let Some(Action::Verify {
        from, destination, ..
    }) = &args.action
    {
        let warehouse = destination.warehouse()?;
        let verified = Verification::new(&*warehouse, output)
            .run(from.clone().map(target))
            .await;
        warehouse.close().await;
        return verified;
    }
    let warehouse = args.destination.warehouse()?;
    let mut copy = Copy::new(
        target(args.source.from.clone()),
        Arc::clone(&warehouse),
        &args.component,
        args.batch_events.into(),
        output,
    );
    let copied = copy.run(interrupt::requested()).await;
    warehouse.close().await;
    copied
}
