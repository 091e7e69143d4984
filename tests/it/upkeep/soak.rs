//! Everything at once on PostgreSQL: writers with random transactions, three
//! consumers, two replicas that archive and discard and are killed or stopped at
//! random. In the end the history is what was committed, everybody has it, in
//! order, and nearly nothing is left in the active table.
//!
//! `EVENTSTREAM_UPKEEP_SECONDS` sets how long, `EVENTSTREAM_SEED` repeats a run.

use std::{
    fmt::{Display, Formatter},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::PgConnection;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::discarding;
use crate::{
    archive::stage::{Kind, Peek, archived},
    ledger::{Key, Row, Seen, check_consumer},
    load::{Notes, Reading, WANTED, kind, seed, session},
    postgres::{insert_row, run},
    round_trip::register,
    server::{Clients, PATIENCE, Server, eventually},
};

const WRITERS: u32 = 4;

const CONSUMERS: [Reading; 3] = [
    Reading {
        slow: Some(Duration::from_millis(20)),
        ..Reading::push("SLOW")
    },
    Reading {
        filtered: true,
        ..Reading::push("FILTERED")
    },
    Reading {
        leaves_after: Some(20),
        ..Reading::push("RESTARTED")
    },
];

/// What everybody shares.
#[derive(Default)]
struct World {
    addresses: Mutex<Vec<String>>,
    /// With their types.
    committed: Mutex<Vec<(&'static str, Row)>>,
    rolled_back: AtomicUsize,
    producing: CancellationToken,
    consuming: CancellationToken,
}

/// An application: transactions that hold their ids for a while, and of which
/// a part is rolled back.
async fn write(world: Arc<World>, mut connection: PgConnection, by: u32, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut n = 0;
    while !world.producing.is_cancelled() {
        run(&mut connection, "BEGIN").await;
        let mut rows = Vec::new();
        for _ in 0..random.random_range(1..5) {
            let key = Key { by, n };
            n += 1;
            let id = insert_row(&mut connection, kind(key), &key.to_json()).await;
            rows.push((kind(key), Row { id, key }));
            sleep(Duration::from_millis(random.random_range(0..10))).await;
        }
        if random.random_ratio(1, 5) {
            run(&mut connection, "ROLLBACK").await;
            world.rolled_back.fetch_add(rows.len(), Ordering::Relaxed);
        } else {
            run(&mut connection, "COMMIT").await;
            world
                .committed
                .lock()
                .expect("no panic inside")
                .extend(rows);
        }
    }
}

/// A consumer that goes from replica to replica.
async fn consume(world: Arc<World>, notes: Arc<Notes>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let reading = async {
        loop {
            let address = {
                let addresses = world.addresses.lock().expect("no panic inside");
                addresses[random.random_range(0..addresses.len())].clone()
            };
            let mut clients = Clients::lazy(&address);
            if session(&notes, &mut clients).await.is_err() {
                // The other one, or the same in a moment.
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    world.consuming.run_until_cancelled(reading).await;
}

/// Two replicas, one of which is in trouble most of the time.
struct Replicas {
    servers: Vec<Option<Server>>,
    world: Arc<World>,
    random: StdRng,
    troubles: [usize; 3],
}

impl Replicas {
    async fn start(active: &Peek, warehouse: &Peek, world: &Arc<World>, seed: u64) -> Self {
        let mut servers = Vec::new();
        for _ in 0..2 {
            let builder = discarding(active.database().server())
                .arg(format!("--archive-url={}", warehouse.url))
                .arg("--discard-limit-at-once=100")
                .arg("--stream-session-beat=300ms")
                .arg("--stream-session-lapse=1s");
            servers.push(Some(builder.start().await));
        }
        let replicas = Self {
            servers,
            world: Arc::clone(world),
            random: StdRng::seed_from_u64(seed),
            troubles: [0; 3],
        };
        replicas.publish();
        replicas
    }

    fn publish(&self) {
        let servers = self.servers.iter().flatten();
        let addresses = servers
            .map(|server| server.grpc_address().to_owned())
            .collect();
        *self.world.addresses.lock().expect("no panic inside") = addresses;
    }

    /// Kills, ends or stops one of them.
    async fn trouble(&mut self) {
        let which = self.random.random_range(0..2);
        let how = self.random.random_range(0..3);
        self.troubles[how] += 1;
        let mut server = self.servers[which].take().expect("it runs");
        if how == 2 {
            // For longer than its lease.
            server.signal("STOP");
            sleep(Duration::from_secs(2)).await;
            server.signal("CONT");
        } else {
            server.signal(["KILL", "TERM"][how]);
            server.ended().await;
            server = server.again().start().await;
        }
        self.servers[which] = Some(server);
        self.publish();
    }

    fn first(&self) -> &Server {
        self.servers[0].as_ref().expect("it runs")
    }
}

async fn kept(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM evt_queue")
        .fetch_one(connection)
        .await
        .expect("counted")
}

pub async fn soak(length: Duration) {
    let mut random = StdRng::seed_from_u64(seed());
    let (active, warehouse) = (
        Peek::new(Kind::Postgres).await,
        Peek::new(Kind::Postgres).await,
    );
    let database = active.database();
    let world = Arc::new(World::default());
    let mut replicas = Replicas::start(&active, &warehouse, &world, random.random()).await;
    let (mut writers, mut consumers) = (JoinSet::new(), JoinSet::new());
    let mut notes = Vec::new();
    for reading in CONSUMERS {
        register(&mut replicas.first().clients().await, reading.component).await;
        let own = Arc::new(Notes::of(reading));
        notes.push(Arc::clone(&own));
        consumers.spawn(consume(Arc::clone(&world), own, random.random()));
    }
    for by in 0..WRITERS {
        let connection = database.session().await;
        writers.spawn(write(Arc::clone(&world), connection, by, random.random()));
    }
    let mut connection = database.session().await;
    let (begun, mut sizes) = (Instant::now(), Vec::new());
    while begun.elapsed() < length {
        replicas.trouble().await;
        sizes.push(kept(&mut connection).await);
        assert!(consumers.try_join_next().is_none(), "consumers go on");
    }
    world.producing.cancel();
    while let Some(ended) = writers.join_next().await {
        ended.expect("no writer fails");
    }
    let rows = last_event(&world, &mut connection).await;
    let last = rows.last().expect("the last event").1.id;
    let mut faults = Vec::new();
    for own in &notes {
        faults.extend(judge(own, &rows).await);
    }
    world.consuming.cancel();
    archived(&mut replicas.first().clients().await, last).await;
    // All but the last one.
    eventually(async || match kept(&mut database.session().await).await {
        1 => Ok(()),
        kept => Err(kept),
    })
    .await;
    faults.extend(compare(&warehouse.history().await, &rows));
    warehouse.assert_sound().await;
    let ledger = Ledger {
        took: begun.elapsed(),
        troubles: replicas.troubles,
        committed: rows.len(),
        rolled_back: world.rolled_back.load(Ordering::Relaxed),
        notes: &notes,
        sizes: &sizes,
    };
    eprintln!("{ledger}");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What happened, in figures.
struct Ledger<'a> {
    took: Duration,
    troubles: [usize; 3],
    committed: usize,
    rolled_back: usize,
    notes: &'a [Arc<Notes>],
    sizes: &'a [i64],
}

impl Display for Ledger<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let [killed, ended, stopped] = self.troubles;
        let (took, committed) = (self.took, self.committed);
        write!(
            f,
            "VERDICT|upkeep for {took:.0?}: {killed} kills, {ended} ends, {stopped} stops|\
             {committed} events committed and in the history, {} rolled back",
            self.rolled_back
        )?;
        for own in self.notes {
            write!(
                f,
                ", {} deliveries to {}",
                own.delivered(),
                own.reading.component
            )?;
        }
        // Ten looks say how it went.
        let step = self.sizes.len().div_ceil(10).max(1);
        let looks: Vec<String> = self
            .sizes
            .iter()
            .step_by(step)
            .map(i64::to_string)
            .collect();
        let most = self.sizes.iter().max().unwrap_or(&0);
        write!(
            f,
            ", rows in the active table over time {}, {most} at most, 1 left",
            looks.join(" ")
        )
    }
}

/// What is wrong with the history.
fn compare(history: &[String], rows: &[(&'static str, Row)]) -> Option<String> {
    let line = |(kind, row): &(&str, Row)| format!("{}|{kind}|{}", row.id, row.key.to_json());
    let committed: Vec<String> = rows.iter().map(line).collect();
    let same = history
        .iter()
        .zip(&committed)
        .take_while(|(one, other)| one == other);
    let same = same.count();
    (history != committed.as_slice()).then(|| {
        let (one, other) = (history.get(same), committed.get(same));
        format!("history: {one:?} where {other:?} was committed, after {same} alike")
    })
}

/// One more that everybody wants; everything that was committed, by id.
async fn last_event(world: &World, connection: &mut PgConnection) -> Vec<(&'static str, Row)> {
    let key = Key { by: WRITERS, n: 1 };
    let id = insert_row(connection, WANTED, &key.to_json()).await;
    let mut rows = world.committed.lock().expect("no panic inside").clone();
    rows.push((WANTED, Row { id, key }));
    rows.sort_by_key(|(_, row)| row.id);
    rows
}

/// Waits until a consumer has the last event; what is wrong with what it got.
async fn judge(notes: &Notes, rows: &[(&'static str, Row)]) -> Vec<String> {
    let wanted: Vec<Row> = rows
        .iter()
        .filter(|(kind, _)| !notes.reading.filtered || *kind == WANTED)
        .map(|(_, row)| *row)
        .collect();
    let last = wanted.last().map_or(0, |row| row.id);
    let mut acked = notes.reached.subscribe();
    while *acked.borrow_and_update() < last {
        if timeout(PATIENCE, acked.changed()).await.is_err() {
            return vec![format!("{} stands still", notes.reading.component)];
        }
    }
    // The last acknowledgement may be under way; a session after it starts there.
    eventually(async || {
        let seen = notes.seen.lock().expect("no panic inside");
        match seen.last() {
            Some(Seen::Acked(id) | Seen::Started(id)) if *id >= last => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let seen = notes.seen.lock().expect("no panic inside");
    let faults = check_consumer(&seen, &wanted).into_iter();
    faults
        .map(|fault| format!("{}: {fault}", notes.reading.component))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_in_trouble_lose_nothing_and_keep_nothing() {
    let seconds = std::env::var("EVENTSTREAM_UPKEEP_SECONDS").map_or(30, |text| {
        text.parse()
            .expect("EVENTSTREAM_UPKEEP_SECONDS is a number")
    });
    soak(Duration::from_secs(seconds)).await;
}
