//! One run: the service on a scratch stream, everybody who writes and reads,
//! the wait for their end, and the comparison.

use std::{
    collections::BTreeMap,
    fs::DirBuilder,
    io::{IsTerminal as _, Write as _, stderr},
    os::unix::fs::DirBuilderExt as _,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Args,
    engine::{Engine, Scratch},
    ledger::{Outcome, Tag},
    mysql::Mysql,
    plan::Plan,
    postgres::Postgres,
    readers::{Kind, Reader},
    report::{Report, Transactions},
    scratch::Site,
    sqlite::Sqlite,
    subscriber::Subscriber,
    verdict::{broken_promises, judge},
    writer::Scene,
};
use crate::{
    app,
    config::{Config, DbUrl},
    lifecycle::{Crowd, Signals},
};

/// Longest pauses inside a transaction, unless it is said.
const HOLD: Duration = Duration::from_millis(300);
/// Where everybody waits for one lock.
const HOLD_SINGLE_WRITER: Duration = Duration::from_millis(5);

/// Nothing committed and nothing delivered for so long: something hangs.
const STALL: Duration = Duration::from_mins(1);

/// Long transactions begin when the others are under way.
const LONG_AFTER: Duration = Duration::from_secs(2);

/// The first transaction waits so long for the compared readers to go past it.
const OPENING: Duration = Duration::from_secs(10);

/// For the end of the service.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// What there is to be removed in the end, whatever happened.
pub(super) struct Stage {
    args: Args,
    config: Config,
    site: Site,
    /// Holds the socket of the service.
    dir: PathBuf,
    /// Writers and readers: dropped where they stand when this is cancelled.
    cancel: CancellationToken,
    players: Crowd,
    service: Crowd,
    stop_service: CancellationToken,
}

/// Who tells the run that it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
    Service,
}

type Ended = (Role, anyhow::Result<()>);

impl Stage {
    /// Looks at the database, without changing it.
    pub(super) async fn find(args: Args, mut config: Config) -> anyhow::Result<Self> {
        let random = rand::random();
        let names = Scratch::new(random);
        let dir = std::env::temp_dir().join(format!("eventstream-soak-{random:08x}"));
        config.db.queue_table.clone_from(&names.queue);
        config.db.consumers_table.clone_from(&names.consumers);
        config.grpc.listen = format!("unix:{}/grpc", dir.display())
            .parse()
            .map_err(|error| anyhow::anyhow!("{}: {error}", dir.display()))?;
        config.http = None;
        config.shutdown_deadline = SHUTDOWN;
        let mut file = None;
        let engine: Arc<dyn Engine> = match &config.db.url {
            DbUrl::Sqlite(path) => {
                file = Some(path.clone());
                Arc::new(Sqlite::new(path, names.clone()))
            }
            DbUrl::Postgres(url) => {
                let schema = config.db.schema.as_deref();
                Arc::new(Postgres::new(url, schema, names.clone()))
            }
            DbUrl::Mysql(url) => Arc::new(Mysql::new(url, names.clone())),
        };
        let place = engine.place();
        let site = Site::find(engine, names, file.as_deref())
            .await
            .with_context(|| format!("cannot use {place}"))?;
        let cancel = CancellationToken::new();
        Ok(Self {
            args,
            config,
            site,
            dir,
            players: Crowd::new(cancel.clone()),
            cancel,
            service: Crowd::new(CancellationToken::new()),
            stop_service: CancellationToken::new(),
        })
    }

    pub(super) fn queue(&self) -> &str {
        &self.site.names.queue
    }

    /// Ends whatever still runs and removes everything; what is left, in words.
    pub(super) async fn leave(&mut self) -> Vec<String> {
        self.cancel.cancel();
        self.players.ended().await;
        self.stop_service.cancel();
        self.service.ended().await;
        let left = self.site.clean().await;
        // It was not made if the run ended early; what is in it is a socket.
        let _ = std::fs::remove_dir_all(&self.dir);
        left
    }

    /// The whole run.
    pub(super) async fn run(&self) -> anyhow::Result<Report> {
        let (ended, mut endings) = mpsc::channel(usize::from(u16::MAX));
        self.start_service(ended.clone(), &mut endings).await?;
        let hold = match self.args.hold_ms {
            Some(hold) => Duration::from_millis(hold),
            None if self.site.engine.is_single_writer() => HOLD_SINGLE_WRITER,
            None => HOLD,
        };
        let (abilities, notes) = self.site.equip(self.args.two_phase, hold).await?;
        let engine = Arc::clone(&self.site.engine);
        let scene = Arc::new(Scene::new(engine, self.site.names.clone(), abilities));
        let socket = self.dir.join("grpc");
        let subscriber = Arc::new(Subscriber::connect(Arc::clone(&scene), &socket).await?);
        let seed = self.args.seed.unwrap_or_else(rand::random);
        let play = Play {
            stage: self,
            scene,
            subscriber,
            ended,
            written: CancellationToken::new(),
            readers: if self.args.compare {
                Kind::ALL.map(|kind| Arc::new(Reader::new(kind))).to_vec()
            } else {
                Vec::new()
            },
        };
        play.cast(seed).await?;
        let seconds = play.until_written(&mut endings).await?;
        let table = play.table().await?;
        play.until_delivered(&table, &mut endings).await?;
        Ok(play.report(seed, seconds, &table, notes))
    }

    async fn start_service(
        &self,
        ended: mpsc::Sender<Ended>,
        endings: &mut mpsc::Receiver<Ended>,
    ) -> anyhow::Result<()> {
        DirBuilder::new()
            .mode(0o700)
            .create(&self.dir)
            .with_context(|| format!("cannot make {}", self.dir.display()))?;
        let (ready, is_ready) = oneshot::channel();
        let stop = Stop(Some(self.stop_service.clone()));
        let config = self.config.clone();
        self.service.spawn(async move {
            let ready = || {
                // The run may have been given up.
                let _ = ready.send(());
            };
            let outcome = app::serve_until(config, stop, ready).await;
            // Nobody listens any more when the run is over.
            let _ = ended.try_send((Role::Service, outcome));
        });
        if is_ready.await.is_err() {
            let outcome = endings.recv().await.map(|(_, outcome)| outcome);
            bail!("the service does not start: {:#}", failure(outcome));
        }
        Ok(())
    }
}

fn failure(outcome: Option<anyhow::Result<()>>) -> anyhow::Error {
    match outcome {
        Some(Err(error)) => error,
        _ => anyhow::anyhow!("it ended without a reason"),
    }
}

/// The wish of the run that the service stops; there is no second one.
struct Stop(Option<CancellationToken>);

impl Signals for Stop {
    async fn next(&mut self) -> &'static str {
        match self.0.take() {
            Some(token) => token.cancelled_owned().await,
            None => std::future::pending().await,
        }
        "the end of the run"
    }
}

/// A run under way.
struct Play<'a> {
    stage: &'a Stage,
    scene: Arc<Scene>,
    subscriber: Arc<Subscriber>,
    ended: mpsc::Sender<Ended>,
    /// The writers have ended.
    written: CancellationToken,
    readers: Vec<Arc<Reader>>,
}

impl Play<'_> {
    fn start(&self, role: Role, future: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let ended = self.ended.clone();
        self.stage.players.spawn(async move {
            let outcome = future.await;
            let _ = ended.send((role, outcome)).await;
        });
    }

    /// Starts everybody: who reads, then an opening, then who writes.
    async fn cast(&self, seed: u64) -> anyhow::Result<()> {
        let args = &self.stage.args;
        let subscriber = Arc::clone(&self.subscriber);
        let stop = self.stage.cancel.clone();
        self.stage.players.spawn(subscriber.run(stop));
        timeout(STALL, self.subscriber.started())
            .await
            .with_context(|| format!("cannot subscribe: {:?}", self.subscriber.breaks()))?;
        for reader in &self.readers {
            let reader = Arc::clone(reader);
            let run = reader.run(Arc::clone(&self.scene), self.written.clone());
            self.start(Role::Reader, run);
        }
        self.open().await?;
        for number in 1..=args.writers {
            self.start(Role::Writer, Arc::clone(&self.scene).write(number, seed));
        }
        let long = [(args.long_related, true), (args.long_unrelated, false)];
        for (number, (seconds, related)) in (args.writers + 1..).zip(long) {
            let Some(seconds) = seconds else { continue };
            let plan = Plan::long(Duration::from_secs(seconds), related);
            let scene = Arc::clone(&self.scene);
            self.start(Role::Writer, async move {
                sleep(LONG_AFTER).await;
                scene.play(number, plan).await
            });
        }
        Ok(())
    }

    /// One transaction draws the first id and commits only when every compared
    /// reader has gone past it, so that what they lose is not left to chance.
    async fn open(&self) -> anyhow::Result<()> {
        if self.readers.is_empty() || self.scene.engine.is_single_writer() {
            return Ok(());
        }
        let inserted = CancellationToken::new();
        let scene = Arc::clone(&self.scene);
        let mut readers = self.readers.clone();
        readers.retain(|it| it.kind != Kind::Original || !self.scene.engine.original_waits());
        let known = inserted.clone();
        self.start(Role::Writer, async move {
            let passed = async {
                while !readers.iter().all(|reader| reader.is_past(1)) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            let until = async { drop(timeout(OPENING, passed).await) };
            scene.hold(0, known, until).await
        });
        timeout(STALL, inserted.cancelled())
            .await
            .context("the first transaction hangs")
    }

    /// Waits until every writer has ended; how long all took.
    async fn until_written(&self, endings: &mut mpsc::Receiver<Ended>) -> anyhow::Result<f64> {
        let args = &self.stage.args;
        let opening = !self.readers.is_empty() && !self.scene.engine.is_single_writer();
        let mut writing = args.writers
            + u32::from(opening)
            + u32::from(args.long_related.is_some())
            + u32::from(args.long_unrelated.is_some());
        let longest = args.long_related.max(args.long_unrelated).unwrap_or(0);
        let mut progress = Progress::new(STALL + Duration::from_secs(longest));
        let mut ticks = interval(Duration::from_millis(200));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while writing > 0 {
            tokio::select! {
                biased;
                Some(ended) = endings.recv() => {
                    if checked(ended)? == Role::Writer {
                        writing -= 1;
                    }
                }
                _ = ticks.tick() => {
                    let committed = self.scene.ledger.committed();
                    if committed >= args.events {
                        self.scene.enough.cancel();
                    }
                    progress.look(committed, self.subscriber.delivered(), args.events)?;
                }
            }
        }
        progress.end();
        Ok(self.scene.ledger.now().as_secs_f64())
    }

    /// What is there, which is what was committed.
    async fn table(&self) -> anyhow::Result<BTreeMap<i64, Tag>> {
        let (queue, data) = (&self.scene.names.queue, self.scene.engine.data());
        let mut session = self.scene.engine.session().await?;
        let sql = format!("SELECT id, {data} FROM {queue} ORDER BY id");
        let rows = session.read(&sql).await.context("cannot read the table")?;
        rows.into_iter()
            .map(|(id, data)| {
                let tag = Tag::from_json(&data);
                Ok((
                    id,
                    tag.with_context(|| format!("event {id} is not ours: {data}"))?,
                ))
            })
            .collect()
    }

    /// Waits until the service says that it has sent everything, and until the
    /// other readers find nothing more.
    async fn until_delivered(
        &self,
        table: &BTreeMap<i64, Tag>,
        endings: &mut mpsc::Receiver<Ended>,
    ) -> anyhow::Result<()> {
        self.written.cancel();
        let mut reading = self.readers.len();
        while reading > 0 {
            let Ok(Some(ended)) = timeout(STALL, endings.recv()).await else {
                bail!("a compared reader hangs");
            };
            if checked(ended)? == Role::Reader {
                reading -= 1;
            }
        }
        let last = table.last_key_value().map_or(0, |(id, _)| *id);
        let reached = self.subscriber.reached(last);
        tokio::pin!(reached);
        let mut delivered = self.subscriber.delivered();
        // What then is missing is lost: the verdict says so.
        while timeout(STALL, &mut reached).await.is_err() {
            let now = self.subscriber.delivered();
            if now == delivered {
                break;
            }
            delivered = now;
        }
        Ok(())
    }

    fn report(
        &self,
        seed: u64,
        seconds: f64,
        table: &BTreeMap<i64, Tag>,
        notes: Vec<String>,
    ) -> Report {
        let entries = self.scene.ledger.entries();
        let count = |outcome| {
            let whole = entries.iter().filter(|entry| entry.rows > 0);
            whole.filter(|entry| entry.outcome == outcome).count()
        };
        let compared = self.readers.iter().map(|reader| {
            let verdict = judge(&entries, table, &reader.deliveries());
            (reader.kind.name(), verdict)
        });
        let hold = self.scene.abilities.hold.as_millis();
        Report {
            database: self.scene.engine.kind(),
            place: self.scene.engine.place(),
            seed,
            writers: self.stage.args.writers,
            hold_ms: u64::try_from(hold).unwrap_or(u64::MAX),
            seconds,
            transactions: Transactions {
                committed: count(Outcome::Committed),
                rolled_back: count(Outcome::RolledBack),
                broken: count(Outcome::Unknown),
            },
            service: judge(&entries, table, &self.subscriber.deliveries()),
            compared: compared.collect(),
            broken_promises: broken_promises(&entries, table),
            breaks: self.subscriber.breaks(),
            errors: self.scene.ledger.troubles(),
            notes,
        }
    }
}

/// The role of who ended well.
fn checked((role, outcome): Ended) -> anyhow::Result<Role> {
    match (role, outcome) {
        (Role::Service, outcome) => Err(failure(Some(outcome)).context("the service ended")),
        (role, Ok(())) => Ok(role),
        (_, Err(error)) => Err(error),
    }
}

/// Says how far the run is, and notices that it goes no further.
struct Progress {
    patience: Duration,
    changed: Instant,
    counts: (u64, usize),
    said: Instant,
    begun: Instant,
    terminal: bool,
}

impl Progress {
    fn new(patience: Duration) -> Self {
        let now = Instant::now();
        Self {
            patience,
            changed: now,
            counts: (0, 0),
            said: now,
            begun: now,
            terminal: stderr().is_terminal(),
        }
    }

    fn look(&mut self, committed: u64, delivered: usize, events: u64) -> anyhow::Result<()> {
        let counts = (committed, delivered);
        if counts != self.counts {
            (self.counts, self.changed) = (counts, Instant::now());
        }
        if self.changed.elapsed() > self.patience {
            bail!("nothing was committed or delivered for {:?}", self.patience);
        }
        let pause = Duration::from_secs(if self.terminal { 0 } else { 5 });
        if self.said.elapsed() >= pause {
            self.said = Instant::now();
            let seconds = self.begun.elapsed().as_secs();
            let end = if self.terminal { "\r" } else { "\n" };
            let text =
                format!("{committed} of {events} committed, {delivered} delivered, {seconds} s");
            let _ = write!(stderr(), "{text}  {end}");
        }
        Ok(())
    }

    fn end(&self) {
        if self.terminal {
            let _ = writeln!(stderr());
        }
    }
}
