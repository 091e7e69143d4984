//! A service under load, killed at random moments, and the check that every
//! promise was kept.
//!
//! Producers use the service with and without `request_id` and the file
//! itself; consumers are pushed to and poll. They find the service again after
//! each of its deaths. Nothing here waits for time to pass: the next kill
//! comes after a random count of answered calls.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futoin_eventstream::proto::{
    AckRequest, AddEventRequest, AddEventsRequest, EventGroup, NewEvent, PollEventsRequest,
    ReadyToReceiveRequest, RegisterConsumerRequest, Want, ready_to_receive_response::Payload,
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{
    ledger::{Adds, Key, Row, Seen, check_consumer},
    server::{Clients, PATIENCE, Server, sqlite},
};

/// Type of every second event, which the filtered consumer wants.
pub const WANTED: &str = "LOAD_B";
const UNWANTED: &str = "LOAD_A";

/// How the events of one producer come into the stream.
#[derive(Debug, Clone, Copy)]
pub enum Style {
    /// `AddEvent`, sent again until it is answered.
    Retried,
    /// `AddEvent`, sent once.
    Once,
    /// `AddEvents`, sent again until it is answered.
    Batches,
    /// A transaction of another program in the same file.
    Foreign,
}

/// How one consumer reads.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Its name.
    pub component: &'static str,
    /// Only events of [`WANTED`].
    pub filtered: bool,
    /// By `PollEvents` instead of a push session.
    pub polls: bool,
    /// Stops for this long at each group.
    pub slow: Option<Duration>,
    /// Leaves after so many groups and comes back.
    pub leaves_after: Option<usize>,
}

impl Reading {
    /// By push, everything, without a pause.
    pub const fn push(component: &'static str) -> Self {
        Self {
            component,
            filtered: false,
            polls: false,
            slow: None,
            leaves_after: None,
        }
    }

    fn want(&self) -> Option<Want> {
        self.filtered.then(|| Want {
            types: vec![WANTED.to_owned()],
        })
    }
}

/// What everybody shares.
struct World {
    database: PathBuf,
    address: watch::Sender<String>,
    /// Transactions answered.
    progress: watch::Sender<u64>,
    adds: Mutex<Adds>,
    producing: CancellationToken,
    consuming: CancellationToken,
    /// Between two transactions of one producer.
    pace: Option<Duration>,
}

/// One consumer's notes.
pub struct Notes {
    pub reading: Reading,
    pub seen: Mutex<Vec<Seen>>,
    /// Highest id that it was told to have reached.
    pub reached: watch::Sender<i64>,
}

/// A load on one service.
pub struct Load {
    world: Arc<World>,
    notes: Vec<Arc<Notes>>,
    producers: JoinSet<()>,
    consumers: JoinSet<()>,
    rng: StdRng,
    positions: BTreeMap<String, i64>,
    faults: Vec<String>,
}

/// Figures of a load that held.
pub struct Figures {
    /// Rows in the table.
    pub events: usize,
    /// Events whose answer came.
    pub acknowledged: usize,
    /// Events whose answer was lost and that were not sent again.
    pub unknown: usize,
    /// Deliveries over all consumers.
    pub delivered: usize,
    /// Sessions and pages that began over all consumers.
    pub started: usize,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events, {} acknowledged, {} answers lost, {} deliveries in {} sessions and pages",
            self.events, self.acknowledged, self.unknown, self.delivered, self.started
        )
    }
}

/// The seed of this run: `EVENTSTREAM_SEED`, or a random one.
pub fn seed() -> u64 {
    let seed = std::env::var("EVENTSTREAM_SEED").map_or_else(
        |_| rand::rng().random(),
        |text| text.parse().expect("EVENTSTREAM_SEED is a number"),
    );
    eprintln!("EVENTSTREAM_SEED={seed}");
    seed
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Registers the consumers and starts everybody.
    pub async fn start(
        server: &Server,
        seed: u64,
        producers: &[Style],
        consumers: &[Reading],
        pace: Option<Duration>,
    ) -> Self {
        let mut clients = server.clients().await;
        for reading in consumers {
            let request = RegisterConsumerRequest {
                component: reading.component.to_owned(),
                start: None,
            };
            clients
                .poll
                .register_consumer(request)
                .await
                .expect("registered");
        }
        sqlite(
            &server.database(),
            "CREATE TABLE orders (producer INTEGER NOT NULL, number INTEGER NOT NULL)",
        );
        let mut load = Self {
            world: Arc::new(World {
                database: server.database(),
                address: watch::Sender::new(server.grpc_address().to_owned()),
                progress: watch::Sender::new(0),
                adds: Mutex::default(),
                producing: CancellationToken::new(),
                consuming: CancellationToken::new(),
                pace,
            }),
            notes: Vec::new(),
            producers: JoinSet::new(),
            consumers: JoinSet::new(),
            rng: StdRng::seed_from_u64(seed),
            positions: BTreeMap::new(),
            faults: Vec::new(),
        };
        for (by, style) in (0..).zip(producers) {
            let producer = Producer {
                world: Arc::clone(&load.world),
                by,
                n: 0,
                rng: StdRng::seed_from_u64(load.rng.random()),
            };
            load.producers.spawn(producer.run(*style));
        }
        for &reading in consumers {
            let notes = Arc::new(Notes::of(reading));
            load.notes.push(Arc::clone(&notes));
            load.consumers
                .spawn(consume(Arc::clone(&load.world), notes));
        }
        load
    }

    /// Ends the server by signals, one straight after the other, after a random
    /// count of answered calls, and starts it again.
    pub async fn restart(&mut self, mut server: Server, signals: &[&str]) -> Server {
        // Every fourth kill strikes right after the start.
        let answers = if self.rng.random_ratio(1, 4) {
            self.rng.random_range(0..5)
        } else {
            self.rng.random_range(20..300)
        };
        self.answers(answers).await;
        for signal in signals {
            server.signal(signal);
        }
        let status = server.ended().await;
        assert_eq!(status.success(), signals == ["TERM"], "{status}");
        // Nobody looks at the file before the service has recovered it.
        let server = server.again().start().await;
        self.note_positions(&server);
        self.world
            .address
            .send_replace(server.grpc_address().to_owned());
        server
    }

    /// Waits until so many more transactions were answered.
    pub async fn answers(&mut self, count: u64) {
        let mut progress = self.world.progress.subscribe();
        let target = *progress.borrow() + count;
        let reached = progress.wait_for(|answered| *answered >= target);
        let waiting = timeout(PATIENCE, reached).await;
        waiting.expect("the load goes on").expect("the load lives");
        self.nobody_failed();
    }

    /// Transactions answered so far.
    #[cfg(feature = "soak")]
    pub fn answered(&self) -> u64 {
        *self.world.progress.borrow()
    }

    fn nobody_failed(&mut self) {
        if let Some(ended) = self.consumers.try_join_next() {
            ended.expect("no consumer panics");
            panic!("consumers go on until the end");
        }
        if let Some(ended) = self.producers.try_join_next() {
            ended.expect("no producer panics");
            panic!("producers go on until the end");
        }
    }

    /// Positions in the file never go back, and hold every answered ack.
    fn note_positions(&mut self, server: &Server) {
        let stored = server.sqlite("SELECT ident || '|' || last_evt_id FROM evt_consumers");
        for line in stored.lines() {
            let (ident, position) = line.split_once('|').expect("two columns");
            let position: i64 = position.parse().expect("a number");
            let before = self.positions.insert(ident.to_owned(), position);
            if before.is_some_and(|before| before > position) {
                let fault = format!("position of {ident} went back to {position} from {before:?}");
                self.faults.push(fault);
            }
        }
        for notes in &self.notes {
            let ident = format!("local:{}", notes.reading.component);
            let acked = locked(&notes.seen)
                .iter()
                .rev()
                .find_map(|seen| match seen {
                    Seen::Acked(id) => Some(*id),
                    _ => None,
                });
            let position = self.positions.get(&ident).copied();
            if acked > position {
                let fault =
                    format!("{ident} is at {position:?} although {acked:?} was acknowledged");
                self.faults.push(fault);
            }
        }
    }

    /// Stops the producers, waits until every consumer has everything it
    /// wants, and checks; panics with every violation.
    pub async fn finish(mut self, server: &Server) -> Figures {
        self.world.producing.cancel();
        while let Some(ended) = timeout(PATIENCE, self.producers.join_next())
            .await
            .expect("producers end")
        {
            ended.expect("no producer panics");
        }
        let rows = all_rows(server);
        for notes in &self.notes {
            let wanted = wanted(&rows, &notes.reading);
            let Some(last) = wanted.last() else { continue };
            let mut reached = notes.reached.subscribe();
            // A slow consumer of a long run has much to catch up with.
            while *reached.borrow_and_update() < last.id {
                if timeout(PATIENCE, reached.changed()).await.is_err() {
                    let fault = format!("{} stands still", notes.reading.component);
                    self.faults.push(fault);
                    break;
                }
            }
        }
        self.world.consuming.cancel();
        while let Some(ended) = timeout(PATIENCE, self.consumers.join_next())
            .await
            .expect("consumers end")
        {
            ended.expect("no consumer panics");
        }
        self.note_positions(server);
        self.judge(&rows)
    }

    fn judge(mut self, rows: &[(String, Row)]) -> Figures {
        let all: Vec<Row> = rows.iter().map(|(_, row)| *row).collect();
        let adds = locked(&self.world.adds);
        self.faults.extend(adds.check(&all));
        let (acknowledged, unknown) = adds.counts();
        let mut figures = Figures {
            events: rows.len(),
            acknowledged,
            unknown,
            delivered: 0,
            started: 0,
        };
        for notes in &self.notes {
            let seen = locked(&notes.seen);
            let faults = check_consumer(&seen, &wanted(rows, &notes.reading));
            let named = |fault| format!("{}: {fault}", notes.reading.component);
            self.faults.extend(faults.into_iter().map(named));
            let count = |of: fn(&Seen) -> bool| seen.iter().filter(|seen| of(seen)).count();
            figures.delivered += count(|seen| matches!(seen, Seen::Event(_)));
            figures.started += count(|seen| matches!(seen, Seen::Started(_)));
        }
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
        figures
    }
}

/// The queue with its types, by id.
fn all_rows(server: &Server) -> Vec<(String, Row)> {
    let text = server.sqlite("SELECT id || '|' || type || '|' || data FROM evt_queue ORDER BY id");
    let row = |line: &str| {
        let mut columns = line.splitn(3, '|');
        let mut column = || columns.next().expect("three columns");
        let (id, kind, data) = (column(), column(), column());
        let row = Row {
            id: id.parse().expect("a number"),
            key: Key::from_json(data),
        };
        (kind.to_owned(), row)
    };
    text.lines().map(row).collect()
}

fn wanted(rows: &[(String, Row)], reading: &Reading) -> Vec<Row> {
    rows.iter()
        .filter(|(kind, _)| !reading.filtered || kind == WANTED)
        .map(|(_, row)| *row)
        .collect()
}

/// Whether the server itself said it, rather than the way to it.
fn is_answer(status: &Status) -> bool {
    status.get_details_error_info().is_some()
}

/// Whether a failed call certainly wrote nothing.
fn certainly_none(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| info.metadata.get("effect").is_some_and(|it| it == "none"))
}

struct Producer {
    world: Arc<World>,
    by: u32,
    n: u64,
    rng: StdRng,
}

impl Producer {
    async fn run(mut self, style: Style) {
        if matches!(style, Style::Foreign) {
            return self.run_beside().await;
        }
        let mut address = self.world.address.subscribe();
        let mut clients = Clients::lazy(&address.borrow_and_update());
        while self.goes_on().await {
            let events = match style {
                Style::Batches => self.rng.random_range(2..20),
                _ => 1,
            };
            let keys = self.keys(events);
            let request_id = match style {
                Style::Once => String::new(),
                _ => Uuid::new_v4().to_string(),
            };
            // Sent again, past restarts, until there is an answer.
            loop {
                let Err(status) = self.send(&mut clients, &keys, &request_id).await else {
                    break;
                };
                if !is_answer(&status) {
                    let _ = timeout(PATIENCE, address.changed())
                        .await
                        .expect("a restart");
                    clients = Clients::lazy(&address.borrow_and_update());
                }
                if request_id.is_empty() {
                    if certainly_none(&status) {
                        locked(&self.world.adds).never(&keys);
                    }
                    break;
                }
            }
        }
    }

    async fn goes_on(&self) -> bool {
        if let Some(pace) = self.world.pace {
            let stopped = self.world.producing.cancelled();
            return timeout(pace, stopped).await.is_err();
        }
        !self.world.producing.is_cancelled()
    }

    fn keys(&mut self, count: u64) -> Vec<Key> {
        let first = self.n;
        self.n += count;
        let keys: Vec<Key> = (first..self.n).map(|n| Key { by: self.by, n }).collect();
        locked(&self.world.adds).begin(&keys);
        keys
    }

    async fn send(
        &self,
        clients: &mut Clients,
        keys: &[Key],
        request_id: &str,
    ) -> Result<(), Status> {
        let ids = if let [key] = keys {
            let request = AddEventRequest {
                r#type: kind(*key).to_owned(),
                data_json: key.to_json(),
                request_id: request_id.to_owned(),
            };
            vec![clients.generate.add_event(request).await?.into_inner().id]
        } else {
            let event = |key: &Key| NewEvent {
                r#type: kind(*key).to_owned(),
                data_json: key.to_json(),
            };
            let request = AddEventsRequest {
                events: keys.iter().map(event).collect(),
                request_id: request_id.to_owned(),
            };
            clients.generate.add_events(request).await?.into_inner().ids
        };
        self.stored(keys, &ids);
        Ok(())
    }

    fn stored(&self, keys: &[Key], ids: &[i64]) {
        locked(&self.world.adds).stored(keys, ids);
        self.world.progress.send_modify(|answered| *answered += 1);
    }

    /// An application with the same file: some transactions per connection, so
    /// that the file is also opened by nobody else at times.
    async fn run_beside(mut self) {
        let options = SqliteConnectOptions::new()
            .filename(&self.world.database)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(PATIENCE);
        while !self.world.producing.is_cancelled() {
            let mut connection = SqliteConnection::connect_with(&options)
                .await
                .expect("the file can be opened");
            for _ in 0..self.rng.random_range(1..20) {
                if !self.goes_on().await {
                    break;
                }
                self.transact(&mut connection)
                    .await
                    .expect("it is not in the way");
            }
            connection.close().await.expect("closed");
        }
    }

    async fn transact(&mut self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let count = self.rng.random_range(1..4);
        let keys = self.keys(count);
        let mut ids = Vec::new();
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        for key in &keys {
            sqlx::query("INSERT INTO orders (producer, number) VALUES (?, ?)")
                .bind(key.by)
                .bind(key.n.cast_signed())
                .execute(&mut *tx)
                .await?;
            let event = sqlx::query(
                "INSERT INTO evt_queue (type, data, ts) VALUES (?, ?, CURRENT_TIMESTAMP)",
            );
            let inserted = event
                .bind(kind(*key))
                .bind(key.to_json())
                .execute(&mut *tx)
                .await?;
            ids.push(inserted.last_insert_rowid());
        }
        if self.rng.random_ratio(1, 5) {
            tx.rollback().await?;
            locked(&self.world.adds).never(&keys);
        } else {
            tx.commit().await?;
            self.stored(&keys, &ids);
        }
        Ok(())
    }
}

/// Type of an event.
pub fn kind(key: Key) -> &'static str {
    if key.n.is_multiple_of(2) {
        UNWANTED
    } else {
        WANTED
    }
}

/// Reads until it is stopped, past restarts.
async fn consume(world: Arc<World>, notes: Arc<Notes>) {
    let mut address = world.address.subscribe();
    let mut last_id = None;
    let reading = async {
        loop {
            let mut clients = Clients::lazy(&address.borrow_and_update());
            let ended = if notes.reading.polls {
                poll(&notes, &mut clients, &mut last_id).await
            } else {
                session(&notes, &mut clients).await
            };
            let Err(status) = ended else { continue };
            if !is_answer(&status) {
                let _ = timeout(PATIENCE, address.changed())
                    .await
                    .expect("a restart");
            }
        }
    };
    world.consuming.run_until_cancelled(reading).await;
}

/// One push session; ends well when the consumer leaves by itself.
pub async fn session(notes: &Notes, clients: &mut Clients) -> Result<(), Status> {
    let request = ReadyToReceiveRequest {
        component: notes.reading.component.to_owned(),
        want: notes.reading.want(),
        max_group_events: 50,
        max_in_flight_events: 200,
        ..Default::default()
    };
    let mut stream = clients.push.ready_to_receive(request).await?.into_inner();
    let (mut epoch, mut groups) = (None, 0);
    while let Some(message) = stream.message().await? {
        match message.payload {
            Some(Payload::Started(started)) => {
                epoch = Some(started.epoch);
                locked(&notes.seen).push(Seen::Started(started.start_after_id));
            }
            Some(Payload::Group(group)) => {
                assert_eq!(group.seq, groups, "groups are numbered without gaps");
                groups += 1;
                notes.take(&group);
                if let Some(pause) = notes.reading.slow {
                    tokio::time::sleep(pause).await;
                }
                let request = AckRequest {
                    component: notes.reading.component.to_owned(),
                    last_id: group.last_id,
                    epoch,
                };
                clients.push.ack(request).await?;
                notes.acked(group.last_id);
            }
            _ => {}
        }
        let leaves = notes
            .reading
            .leaves_after
            .and_then(|it| i64::try_from(it).ok());
        if leaves.is_some_and(|leaves| groups >= leaves) {
            return Ok(());
        }
    }
    Ok(())
}

/// Pages until something fails.
async fn poll(
    notes: &Notes,
    clients: &mut Clients,
    last_id: &mut Option<i64>,
) -> Result<(), Status> {
    loop {
        let request = PollEventsRequest {
            component: notes.reading.component.to_owned(),
            last_id: *last_id,
            want: notes.reading.want(),
            max_events: 50,
            max_wait: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            ..Default::default()
        };
        let page = clients.poll.poll_events(request).await?.into_inner();
        let after = last_id.unwrap_or(0);
        if after > 0 {
            notes.acked(after);
        }
        locked(&notes.seen).push(Seen::Started(after));
        notes.take(&EventGroup {
            events: page.events,
            last_id: page.last_id,
            ..Default::default()
        });
        *last_id = Some(page.last_id);
    }
}

impl Notes {
    /// Of a consumer that has seen nothing yet.
    pub fn of(reading: Reading) -> Self {
        Self {
            reading,
            seen: Mutex::default(),
            reached: watch::Sender::new(0),
        }
    }

    /// Events that came, also again.
    pub fn delivered(&self) -> usize {
        let seen = locked(&self.seen);
        let events = seen.iter().filter(|seen| matches!(seen, Seen::Event(_)));
        events.count()
    }

    fn take(&self, group: &EventGroup) {
        let mut seen = locked(&self.seen);
        for event in &group.events {
            seen.push(Seen::Event(Row {
                id: event.id,
                key: Key::from_json(&event.data_json),
            }));
        }
        seen.push(Seen::Reached(group.last_id));
        drop(seen);
        self.reached
            .send_modify(|reached| *reached = group.last_id.max(*reached));
    }

    fn acked(&self, id: i64) {
        locked(&self.seen).push(Seen::Acked(id));
    }
}

/// A load of each way in and each way out, on a service that is ended so often.
pub async fn endure(signals: &[&str], times: usize, seed: u64) -> (Figures, Duration) {
    const PRODUCERS: [Style; 8] = [
        Style::Retried,
        Style::Retried,
        Style::Retried,
        Style::Once,
        Style::Once,
        Style::Batches,
        Style::Foreign,
        Style::Foreign,
    ];
    let consumers = [
        Reading::push("ALL"),
        Reading {
            filtered: true,
            ..Reading::push("FILTERED")
        },
        Reading {
            polls: true,
            ..Reading::push("POLLER")
        },
    ];
    let begun = Instant::now();
    let mut server = Server::start().await;
    let mut load = Load::start(&server, seed, &PRODUCERS, &consumers, None).await;
    for _ in 0..times {
        server = load.restart(server, signals).await;
    }
    load.answers(50).await;
    let figures = load.finish(&server).await;
    assert!(server.terminate().await.success(), "it ends well");
    (figures, begun.elapsed())
}
