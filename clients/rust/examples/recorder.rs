//! Prints the ID of each event that a component receives, one a line:
//!
//! `recorder ADDRESS COMPONENT [--count N] [--quiet]`
//!
//! Stops after N events, or when its input is closed: finishes, acknowledges,
//! closes. Then it tells how many there were, and the seconds from its first
//! to its last.

use std::{
    convert::Infallible,
    io::{Read, Write},
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use futoin_eventstream_client::{Event, EventStream, Start};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Record {
    events: u64,
    first: Option<Instant>,
    last: Option<Instant>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let stop = CancellationToken::new();
    let closed = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
        closed.cancel();
    });
    let record = Mutex::new(Record::default());
    let handle = |event: Event| {
        note(&record, &event, &arguments, &stop);
        std::future::ready(Ok::<_, Infallible>(()))
    };
    EventStream::connect(&arguments.address)?
        .receive(&arguments.component)
        .start(Start::Oldest)
        .label("recorder")
        .stop_on(stop.clone().cancelled_owned())
        .run(handle)
        .await?;
    let record = record.into_inner().unwrap_or_default();
    let took = record
        .last
        .zip(record.first)
        .map(|(last, first)| last - first);
    writeln!(
        std::io::stderr(),
        "{{\"events\": {}, \"seconds\": {:.3}}}",
        record.events,
        took.unwrap_or_default().as_secs_f64(),
    )?;
    Ok(())
}

fn note(record: &Mutex<Record>, event: &Event, arguments: &Arguments, stop: &CancellationToken) {
    let mut record = record.lock().expect("nothing panics while it is held");
    let now = Instant::now();
    record.first.get_or_insert(now);
    record.last = Some(now);
    record.events += 1;
    if !arguments.quiet {
        let mut out = std::io::stdout().lock();
        // Whoever does not read any more has closed the input too.
        let _ = writeln!(out, "{}", event.id()).and_then(|()| out.flush());
    }
    if arguments.count == Some(record.events) {
        stop.cancel();
    }
}

struct Arguments {
    address: String,
    component: String,
    count: Option<u64>,
    quiet: bool,
}

impl Arguments {
    fn read() -> Result<Self> {
        let mut arguments = std::env::args().skip(1);
        let usage = "recorder ADDRESS COMPONENT [--count N] [--quiet]";
        let address = arguments.next().context(usage)?;
        let mut read = Self {
            address: if address.contains(':')
                && !address.contains("//")
                && !address.starts_with("unix:")
            {
                format!("http://{address}")
            } else {
                address
            },
            component: arguments.next().context(usage)?,
            count: None,
            quiet: false,
        };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quiet" => read.quiet = true,
                "--count" => read.count = Some(arguments.next().context(usage)?.parse()?),
                _ => bail!(usage),
            }
        }
        Ok(read)
    }
}
