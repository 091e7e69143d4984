//! The composition root: a configuration becomes a running service.
//!
//! Everything is built here in the order in which it depends on each other and
//! ended in the reverse one: readiness off, fronts drained, engine stopped,
//! store closed, all under one deadline (`lifecycle`).

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;

use std::{path::Path, pin::Pin, sync::Arc};

use anyhow::Context as _;
use axum::Router;
use sd_notify::NotifyState;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;

use crate::{
    auth::{self, Authority, Gate},
    config::{self, Config, DbUrl},
    console::{Archiving, Console, Facts},
    futoin::Front,
    grpc::{self, Features},
    http::{self, Scrape, Sources},
    lifecycle::{Lifecycle, Readiness, Signals, UnixSignals, tell_supervisor},
    limits,
    listen::{Address, Guards, Listener, Tls, TlsFiles},
    quota::Quotas,
    store::{
        self, Finding, Names, Options, Store,
        history::{self, Warehouse, WarehouseOptions},
        mysql::{MysqlOptions, MysqlStore, MysqlUrl},
        postgres::{PostgresOptions, PostgresStore, PostgresUrl},
        sqlite::{SqliteOptions, SqliteStore},
    },
    stream::{
        DatabaseState, EventStream, LatePolicy, PollIntervals, PushLimits, SentinelSettings,
        SessionTiming, Settings,
    },
    telemetry::{self, Metrics, Sample, traces},
    upkeep::{self, ArchiveLimits, Archiver, Discarder, Expirer},
};

/// Serves until a signal or a failure; returns after everything was closed.
///
/// # Errors
/// What kept it from starting, or the task that failed.
pub async fn serve(config: Config) -> anyhow::Result<()> {
    let ready = || tell_supervisor(NotifyState::Ready);
    serve_until(config, UnixSignals::new()?, ready).await
}

/// As [`serve`], but until `signals` say so; `ready` is called when the
/// listeners are open.
///
/// # Errors
/// As [`serve`].
pub async fn serve_until(
    config: Config,
    signals: impl Signals,
    ready: impl FnOnce(),
) -> anyhow::Result<()> {
    let metrics = telemetry::install_metrics()?;
    let life = Lifecycle::new();
    let store = open(&config).await?;
    let warehouse = warehouse(&config);
    let stream = EventStream::start(
        Arc::clone(&store),
        warehouse.clone(),
        settings(&config),
        &life.engine,
        life.fronts.stopping(),
    )
    .await
    .context("cannot read the stream")?;

    // Acknowledgements of the streams that end, and questions about the
    // readiness, are still taken while the streams end.
    let closing = CancellationToken::new();
    let doors = doors(&config, &life, &stream, &closing)?;
    let health = start_grpc(&config, &life, &doors).await?;
    let futoin = start_futoin(&config, &life, &doors)?;
    start_http(&config, &life, &stream, &metrics, futoin, &doors)?;
    let farewell = farewell(
        stream.clone(),
        life.fronts.stopping(),
        life.fronts.killed(),
        closing,
    );
    life.fronts.spawn("farewell", farewell);
    start_archiver(&config, &life, &stream, warehouse.as_ref()).await?;
    start_upkeep(&config, &life, &stream);
    life.engine.spawn(
        "metrics",
        telemetry::upkeep(metrics, life.engine.stopping()),
    );
    life.set_readiness(Readiness::Ready);
    let life = Arc::new(life);
    let report = report_health(
        Arc::clone(&life),
        stream.database(),
        health,
        life.fronts.stopping(),
    );
    life.engine.spawn("health", report);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        database = store.kind(),
        "ready"
    );
    ready();
    life.run_until_signal(signals, config.shutdown_deadline, async move {
        store.close().await;
        if let Some(warehouse) = warehouse {
            warehouse.close().await;
        }
        traces::send_last().await;
        Ok(())
    })
    .await
}

/// What the fronts share.
struct Doors {
    gate: Gate,
    authority: Authority,
    closing: CancellationToken,
}

fn doors(
    config: &Config,
    life: &Lifecycle,
    stream: &EventStream,
    closing: &CancellationToken,
) -> anyhow::Result<Doors> {
    let exposure = &config.exposure;
    let quotas = Quotas::new(exposure.quota, exposure.quota_burst);
    let authority = match &config.auth {
        Some(file) => auth::start(file, &life.fronts).context("auth.file")?,
        None => Authority::open(),
    };
    Ok(Doors {
        gate: Gate::new(stream.clone(), quotas),
        authority,
        closing: closing.clone(),
    })
}

/// Nothing is opened here: the service also works while its warehouse does not.
fn warehouse(config: &Config) -> Option<Arc<dyn Warehouse>> {
    let archive = config.archive.as_ref()?;
    let options = WarehouseOptions {
        table: archive.table.clone(),
        statement_timeout: archive.statement_timeout,
    };
    Some(history::at(&archive.place, options))
}

async fn start_archiver(
    config: &Config,
    life: &Lifecycle,
    stream: &EventStream,
    warehouse: Option<&Arc<dyn Warehouse>>,
) -> anyhow::Result<()> {
    let (Some(archive), Some(warehouse)) = (&config.archive, warehouse) else {
        return Ok(());
    };
    if !archive.run {
        return Ok(());
    }
    let limits = ArchiveLimits {
        events: archive.batch_events,
        bytes: archive.batch_bytes,
    };
    let archiver = Archiver::new(stream.clone(), Arc::clone(warehouse), limits);
    archiver
        .register()
        .await
        .context("cannot register the archiver")?;
    upkeep::start(archiver, stream, config.upkeep_lease, &life.fronts);
    Ok(())
}

async fn start_grpc(
    config: &Config,
    life: &Lifecycle,
    doors: &Doors,
) -> anyhow::Result<HealthReporter> {
    let features = Features {
        reflection: config.grpc.reflection,
        web: config.grpc.web,
        web_origins: config.grpc.web_origins.clone(),
    };
    let (routes, health) =
        grpc::routes(doors.gate.clone(), doors.authority.clone(), features).await?;
    let guards = Guards {
        connections: config.grpc.max_connections,
        ..guards(config)
    };
    let place = (&config.grpc.listen, config.grpc.tls.as_ref());
    let listener = listener("grpc", place, guards, life)?;
    tracing::info!(address = %listener.local_address()?, "listening for gRPC");
    let (closing, killed) = (doors.closing.clone(), life.fronts.killed());
    life.fronts
        .spawn("grpc", listener.serve(routes, closing, killed));
    Ok(health)
}

/// Its paths, if they are to be served with those of the HTTP front.
fn start_futoin(
    config: &Config,
    life: &Lifecycle,
    doors: &Doors,
) -> anyhow::Result<Option<Router>> {
    let Some(futoin) = &config.futoin else {
        return Ok(None);
    };
    let killed = life.fronts.killed();
    let front = Front::new(
        doors.gate.clone(),
        doors.authority.clone(),
        futoin.options.clone(),
        doors.closing.clone(),
        killed.clone(),
    );
    let router = front.router();
    life.fronts.spawn("futoin sockets", front.ended());
    let Some(address) = &futoin.listen else {
        return Ok(Some(router));
    };
    let listener = listener(
        "futoin",
        (address, futoin.tls.as_ref()),
        guards(config),
        life,
    )?;
    tracing::info!(address = %listener.local_address()?, "listening for FutoIn");
    let closing = doors.closing.clone();
    life.fronts
        .spawn("futoin", listener.serve(router, closing, killed));
    Ok(None)
}

fn start_http(
    config: &Config,
    life: &Lifecycle,
    stream: &EventStream,
    metrics: &Metrics,
    futoin: Option<Router>,
    doors: &Doors,
) -> anyhow::Result<()> {
    let Some(address) = &config.http else {
        return Ok(());
    };
    let sources = Sources {
        readiness: life.readiness(),
        metrics: metrics.clone(),
        scrape: Arc::new(Gauges {
            stream: stream.clone(),
            turn: Mutex::default(),
        }),
        authority: doors.authority.clone(),
        metrics_open: config.metrics_open,
    };
    let place = (address, config.http_tls.as_ref());
    let listener = listener("http", place, guards(config), life)?;
    tracing::info!(address = %listener.local_address()?, "listening for HTTP");
    let (closing, killed) = (doors.closing.clone(), life.fronts.killed());
    let mut router = http::router(sources);
    if let Some(futoin) = futoin {
        router = router.merge(futoin);
    }
    if config.console {
        router = router.merge(start_console(config, life, stream, doors));
    }
    life.fronts
        .spawn("http", listener.serve(router, closing, killed));
    Ok(())
}

fn start_console(config: &Config, life: &Lifecycle, stream: &EventStream, doors: &Doors) -> Router {
    let facts = Facts {
        archiving: match &config.archive {
            None => Archiving::Nobody,
            Some(archive) if archive.run => Archiving::Here,
            Some(_) => Archiving::Others,
        },
        discards: config.discard.is_some(),
        expires: !config.expire.is_empty(),
    };
    let console = Console::new(doors.gate.clone(), facts);
    let router = console.router(doors.authority.clone());
    let history = console.keep_history(stream.observer(), life.fronts.stopping());
    life.fronts.spawn("console", history);
    router
}

fn guards(config: &Config) -> Guards {
    Guards {
        peer_connections: config.exposure.peer_connections,
        socket: config.exposure.socket.clone(),
        ..Guards::default()
    }
}

/// Opens the listener of a front, with the TLS it is to speak.
fn listener(
    name: &'static str,
    (address, tls): (&Address, Option<&TlsFiles>),
    guards: Guards,
    life: &Lifecycle,
) -> anyhow::Result<Listener> {
    let listener = Listener::bind(name, address, guards)
        .with_context(|| format!("{name}.listen: cannot listen on {address}"))?;
    let Some(files) = tls else {
        return Ok(listener);
    };
    let tls = Tls::load(name, files.clone()).with_context(|| format!("{name}.tls_cert"))?;
    let tls = Arc::new(tls);
    let following = Arc::clone(&tls).follow(life.fronts.stopping());
    life.fronts.spawn("tls", following);
    Ok(listener.with_tls(tls))
}

/// Beside the fronts: what uses the stream ends before it does.
fn start_upkeep(config: &Config, life: &Lifecycle, stream: &EventStream) {
    let lapse = config.upkeep_lease;
    if let Some(discarding) = config.discard {
        let discarder = Discarder::new(stream.clone(), discarding);
        upkeep::start(discarder, stream, lapse, &life.fronts);
    }
    if !config.expire.is_empty() {
        let expirer = Expirer::new(stream.clone(), config.expire.clone());
        upkeep::start(expirer, stream, lapse, &life.fronts);
    }
}

/// Opens the database of a configuration, making or adopting its tables.
///
/// # Errors
/// When it cannot be opened or is none that can be served.
pub async fn open(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match &config.db.url {
        DbUrl::Sqlite(path) => {
            let context = || format!("db.url: cannot use {}", path.display());
            let store = SqliteStore::open(sqlite_options(config, path)).await;
            Arc::new(store.with_context(context)?)
        }
        DbUrl::Postgres(url) => {
            let context = || format!("db.url: cannot use {url}");
            let store = PostgresStore::open(postgres_options(config, url)).await;
            Arc::new(store.with_context(context)?)
        }
        DbUrl::Mysql(url) => {
            let context = || format!("db.url: cannot use {url}");
            let store = MysqlStore::open(mysql_options(config, url)).await;
            Arc::new(store.with_context(context)?)
        }
    };
    Ok(store)
}

/// Steps of the schema that the database has not had.
///
/// # Errors
/// When it cannot be read.
pub async fn pending_steps(config: &Config) -> Result<Vec<&'static str>, store::Error> {
    match &config.db.url {
        DbUrl::Sqlite(path) => SqliteStore::pending_steps(sqlite_options(config, path)).await,
        DbUrl::Postgres(url) => PostgresStore::pending_steps(postgres_options(config, url)).await,
        DbUrl::Mysql(url) => MysqlStore::pending_steps(mysql_options(config, url)).await,
    }
}

/// Makes columns that a database of the original has too narrow as wide as new
/// ones; returns the statements that were run.
///
/// # Errors
/// When they cannot be changed.
pub async fn widen(config: &Config) -> Result<Vec<String>, store::Error> {
    match &config.db.url {
        // Their texts have neither a size nor a character set of their own.
        DbUrl::Sqlite(_) | DbUrl::Postgres(_) => Ok(Vec::new()),
        DbUrl::Mysql(url) => MysqlStore::widen(mysql_options(config, url)).await,
    }
}

/// The least that must be granted for the service and for producers, as text
/// in the words of the engine.
///
/// # Errors
/// When the database cannot be read.
pub async fn grants(config: &Config) -> anyhow::Result<String> {
    match &config.db.url {
        DbUrl::Sqlite(path) => Ok(SqliteStore::grants(path)),
        DbUrl::Postgres(url) => PostgresStore::grants(postgres_options(config, url))
            .await
            .with_context(|| format!("db.url: cannot use {url}")),
        DbUrl::Mysql(url) => Ok(MysqlStore::grants(&mysql_options(config, url))),
    }
}

/// Looks at everything that the service needs of its database, and changes
/// nothing.
pub async fn examine(config: &Config) -> Vec<Finding> {
    match &config.db.url {
        DbUrl::Sqlite(path) => SqliteStore::examine(sqlite_options(config, path)).await,
        DbUrl::Postgres(url) => PostgresStore::examine(postgres_options(config, url)).await,
        DbUrl::Mysql(url) => MysqlStore::examine(mysql_options(config, url)).await,
    }
}

fn sqlite_options(config: &Config, path: &Path) -> SqliteOptions {
    SqliteOptions {
        path: path.to_owned(),
        synchronous: config.db.synchronous,
        busy_timeout: config.db.busy_timeout,
        read_connections: config.db.read_connections,
        common: common_options(config),
    }
}

fn postgres_options(config: &Config, url: &PostgresUrl) -> PostgresOptions {
    PostgresOptions {
        url: url.clone(),
        schema: config.db.schema.clone(),
        statement_timeout: config.db.statement_timeout,
        read_connections: config.db.read_connections,
        write_connections: config.db.write_connections,
        common: common_options(config),
    }
}

fn mysql_options(config: &Config, url: &MysqlUrl) -> MysqlOptions {
    MysqlOptions {
        url: url.clone(),
        statement_timeout: config.db.statement_timeout,
        read_connections: config.db.read_connections,
        write_connections: config.db.write_connections,
        galera: config.db.galera,
        common: common_options(config),
    }
}

fn common_options(config: &Config) -> Options {
    Options {
        names: Names {
            queue: config.db.queue_table.clone(),
            consumers: config.db.consumers_table.clone(),
        },
        request_window: config.stream.request_id_window,
        session_lapse: config.stream.session_lapse,
        place: place(config),
    }
}

/// What this replica calls itself: the host and where it listens.
fn place(config: &Config) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{} {}", host.trim(), config.grpc.listen)
        .trim()
        .to_owned()
}

/// How the stream of a configuration behaves.
#[must_use]
pub fn settings(config: &Config) -> Settings {
    let stream = &config.stream;
    Settings {
        intervals: PollIntervals {
            active: stream.poll_active,
            recent: stream.poll_recent,
            idle: stream.poll_idle,
        },
        gap_warn_after: stream.gap_warn_after,
        sentinel: SentinelSettings {
            interval: stream.sentinel_interval,
            policy: match stream.late_policy {
                config::LatePolicy::Alarm => LatePolicy::Alarm,
                config::LatePolicy::Rewind => LatePolicy::Rewind,
            },
        },
        ring_bytes: stream.ring_bytes,
        sessions: SessionTiming {
            beat: stream.session_beat,
            lapse: stream.session_lapse,
        },
        max_subscriptions: stream.max_subscriptions,
        max_in_flight_events: stream.max_in_flight_events,
        push: PushLimits {
            in_flight_events: stream
                .max_in_flight_events
                .min(limits::DEFAULT_IN_FLIGHT_EVENTS),
            in_flight_bytes: limits::DEFAULT_IN_FLIGHT_BYTES,
            group_events: limits::MAX_GROUP_EVENTS,
            group_bytes: limits::DEFAULT_GROUP_BYTES,
            linger: std::time::Duration::ZERO,
            heartbeat: stream.heartbeat,
        },
        ending_grace: limits::ENDING_GRACE.min(config.shutdown_deadline / 2),
    }
}

/// Closes the listeners when the streams have ended.
async fn farewell(
    stream: EventStream,
    stopping: CancellationToken,
    killed: CancellationToken,
    closing: CancellationToken,
) -> anyhow::Result<()> {
    stopping.cancelled().await;
    killed.run_until_cancelled(stream.streams_ended()).await;
    closing.cancel();
    Ok(())
}

/// Keeps readiness and `grpc.health.v1` in step with the database.
async fn report_health(
    life: Arc<Lifecycle>,
    mut database: watch::Receiver<DatabaseState>,
    health: HealthReporter,
    draining: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let working = *database.borrow_and_update() == DatabaseState::Working;
        grpc::set_health(&health, working).await;
        life.set_readiness(if working {
            Readiness::Ready
        } else {
            Readiness::NotReady("the database does not answer".to_owned())
        });
        tokio::select! {
            biased;
            () = draining.cancelled() => break,
            changed = database.changed() => changed?,
        }
    }
    grpc::set_health(&health, false).await;
    Ok(())
}

/// Gauges that are computed when Prometheus asks, for one who asks at a time:
/// it reads all consumers.
struct Gauges {
    stream: EventStream,
    turn: Mutex<()>,
}

impl Scrape for Gauges {
    fn refresh(&self) -> Pin<Box<dyn Future<Output = Option<Vec<Sample>>> + Send + '_>> {
        Box::pin(async {
            let _turn = self.turn.lock().await;
            self.stream.refresh_gauges().await
        })
    }
}
