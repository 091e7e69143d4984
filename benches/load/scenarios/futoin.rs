//! The original's server and ours, side by side on databases of one kind,
//! driven by the original's own client (`benches/futoin`). Three servers take
//! turns: ours, the original as it is installed, and the original with more
//! connections and a shorter sleep between its looks at the table.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    Plan,
    engine::{Database, Kind},
    report::Sheet,
    server::Server,
};

/// A start or one measurement.
const PATIENCE: Duration = Duration::from_mins(10);

const USERS: &str = "user id=1 secret=pass";

/// Whose server, and how it is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Maker {
    Ours,
    Original,
    Tuned,
}

impl Maker {
    const ALL: [Self; 3] = [Self::Ours, Self::Original, Self::Tuned];

    fn of(self, what: &str) -> String {
        match self {
            Self::Ours => format!("{what}: ours"),
            Self::Original => format!("{what}: original"),
            Self::Tuned => format!("{what}: original, tuned"),
        }
    }

    async fn start(self, plan: &Plan, database: Arc<dyn Database>) -> anyhow::Result<Running> {
        if self != Self::Ours {
            return original(plan.kind, database, self == Self::Tuned).await;
        }
        let arguments = ["--futoin-secure-channel", "--futoin-users", USERS];
        let server = Server::start_with(plan, database, &arguments).await?;
        Ok(Running {
            address: server.http_address().to_owned(),
            _process: Process::Ours(server),
        })
    }
}

/// A server; dropping it ends it.
struct Running {
    address: String,
    _process: Process,
}

#[expect(dead_code, reason = "kept until the server may end")]
enum Process {
    Ours(Server),
    Original(Child, Arc<dyn Database>),
}

pub(crate) async fn run(plan: &Plan) -> anyhow::Result<Sheet> {
    let mut sheet = Sheet::new("futoin: the original's client against both servers");
    let backlog: i64 = plan.pick(plan.events.unwrap_or(200_000), 5_000);
    let seconds = plan.pick(10, 2);
    for _ in 0..plan.rounds {
        for callers in [1, 16, 64] {
            let name = format!("addEvent/s, {callers} callers");
            for maker in Maker::ALL {
                let settings = json!({"do": "add", "callers": callers, "seconds": seconds});
                let result = measure(plan, maker, 0, settings).await?;
                record(&mut sheet, maker, &name, "events/s", &result["rate"])?;
            }
        }
        for rate in [20, 500] {
            let name = format!("push latency, {rate}/s");
            for maker in Maker::ALL {
                let settings = json!({"do": "latency", "rate": rate, "seconds": seconds});
                let result = measure(plan, maker, 0, settings).await?;
                for quantile in ["p50", "p99"] {
                    let name = format!("{name}, {quantile}");
                    record(&mut sheet, maker, &name, "ms", &result[quantile])?;
                }
                for what in ["lost", "failed"] {
                    let name = format!("  {what}, {rate}/s");
                    record(&mut sheet, maker, &name, "events", &result[what])?;
                }
            }
        }
        for maker in Maker::ALL {
            let settings = json!({"do": "drain", "events": backlog});
            let result = measure(plan, maker, backlog, settings).await?;
            record(
                &mut sheet,
                maker,
                "drain by push",
                "events/s",
                &result["rate"],
            )?;
        }
    }
    compare(&mut sheet);
    sheet.note(format!(
        "backlog of {backlog} events; ratios are ours by theirs"
    ));
    sheet.note("tuned: 16 connections instead of 1, a look each 10 ms instead of 100 to 3000 ms");
    Ok(sheet)
}

fn record(
    sheet: &mut Sheet,
    maker: Maker,
    name: &str,
    unit: &'static str,
    value: &Value,
) -> anyhow::Result<()> {
    let value = value.as_f64().with_context(|| format!("no {name}"))?;
    sheet.record(&maker.of(name), unit, value);
    Ok(())
}

fn compare(sheet: &mut Sheet) {
    let adds = [1, 16, 64].map(|callers| format!("addEvent/s, {callers} callers"));
    let latencies = [(20, "p50"), (20, "p99"), (500, "p50"), (500, "p99")]
        .map(|(rate, quantile)| format!("push latency, {rate}/s, {quantile}"));
    for name in adds
        .iter()
        .chain(&latencies)
        .map(String::as_str)
        .chain(["drain by push"])
    {
        sheet.compare(&Maker::Ours.of(name), &Maker::Original.of(name));
        // A figure is shown beside one other: the tuned one beside ours.
        sheet.compare(&Maker::Tuned.of(name), &Maker::Ours.of(name));
    }
}

/// One run of the client against a fresh server with `backlog` events.
async fn measure(
    plan: &Plan,
    maker: Maker,
    backlog: i64,
    mut settings: Value,
) -> anyhow::Result<Value> {
    let database = plan.engine.database().await?;
    if backlog > 0 {
        database.session().await?.fill(backlog).await?;
    }
    let server = maker.start(plan, database).await?;
    settings["endpoint"] = format!("secure+ws://{}/ftn", server.address).into();
    settings["credentials"] = "user:pass".into();
    let run = node("benches/futoin/drive.js", &settings)?.output();
    let output = timeout(PATIENCE, run).await??;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client at {settings}: {said}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The original's server on this database.
async fn original(kind: Kind, database: Arc<dyn Database>, tuned: bool) -> anyhow::Result<Running> {
    let mut settings = database_settings(kind, &database.url())?;
    let mut options = json!({});
    if tuned {
        settings["MAXCONN"] = 16.into();
        options = json!({"sleep_min": 10, "sleep_max": 10});
    }
    let settings = json!({
        "database": settings, "options": options, "users": [["user", "pass", "clear"]],
    });
    let mut child = node("tests/futoin/original.js", &settings)?.spawn()?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = timeout(PATIENCE, lines.next_line()).await??;
    let ready: Value = serde_json::from_str(&line.context("the original ended")?)?;
    Ok(Running {
        address: format!("127.0.0.1:{}", ready["port"]),
        _process: Process::Original(child, database),
    })
}

/// A script that ends with its standard input, or by itself.
fn node(script: &str, settings: &Value) -> anyhow::Result<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".cache/tools/futoin/node_modules");
    ensure!(packages.exists(), "scripts/tools.sh installs the original");
    let mut command = Command::new("node");
    command
        .arg(root.join(script))
        .arg(settings.to_string())
        .env("NODE_PATH", packages)
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// What `futoin-database` calls a database of the engine.
fn database_settings(kind: Kind, url: &str) -> anyhow::Result<Value> {
    if let Some(file) = url.strip_prefix("sqlite:") {
        return Ok(json!({"TYPE": "sqlite", "SOCKET": file}));
    }
    let (address, parameters) = url.split_once('?').context("a socket")?;
    let (_, name) = address.rsplit_once('/').context("a name")?;
    let (_, place) = parameters.rsplit_once('=').context("a place")?;
    Ok(match kind {
        Kind::Postgres => {
            json!({"TYPE": "postgresql", "HOST": place, "USER": "postgres", "DB": name})
        }
        Kind::Mysql => json!({
            "TYPE": "mysql", "HOST": "localhost", "SOCKET": place, "USER": "root", "DB": name,
        }),
        Kind::Sqlite => bail!("{url} is no file"),
    })
}
