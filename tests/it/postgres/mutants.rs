//! Readers that are almost right, and ours, under the same scripted writers:
//! each mutant loses an event in a script that ours passes, so that the
//! scripts are known to bite. Acts can be placed between two statements of a
//! reader's look.

use std::collections::{BTreeMap, BTreeSet};

use futoin_eventstream::{
    event::EventId,
    store::{Store as _, Tail, postgres::PostgresStore},
};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{
    Cluster, Database,
    cluster::{insert, insert_into, run},
    gate::Gate,
};
use crate::store::postgres_options;

/// What a writer does.
#[derive(Debug, Clone, Copy)]
enum What {
    Begin,
    Insert,
    /// Into a partition, not through its parent.
    InsertLeaf,
    /// Writes elsewhere: the transaction gets its number, but no id.
    Elsewhere,
    Savepoint,
    Undo,
    Prepare,
    CommitPrepared,
    Commit,
    Rollback,
}

use What::*;

type Act = (usize, What);

/// Writers, by number.
const A: usize = 0;
const B: usize = 1;

#[derive(Debug, Clone, Copy)]
enum Move {
    Do(Act),
    Look,
    /// A look with acts after its first and after its second statement.
    LookDuring(&'static [Act], &'static [Act]),
    /// Time, for readers that believe in it.
    Pass,
    /// The reader is a new process, which knows its position.
    Restart,
}

use Move::{Do, Look, LookDuring, Pass, Restart};

/// What the writers do and when the reader looks.
struct Script {
    name: &'static str,
    partitioned: bool,
    moves: &'static [Move],
}

const fn script(name: &'static str, moves: &'static [Move]) -> Script {
    Script {
        name,
        partitioned: false,
        moves,
    }
}

const SCRIPTS: &[Script] = &[
    script(
        "late commit of a lower id",
        &[
            Look,
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "commit after any patience",
        &[
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            Look,
            Pass,
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "a gap that is dead",
        &[
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            Look,
            Do((A, Rollback)),
            Look,
            Do((A, Insert)),
            Look,
        ],
    ),
    script(
        "the first event of a fresh table",
        &[
            Look,
            Do((A, Begin)),
            Do((A, Insert)),
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "numbers of transactions in another order than ids",
        &[
            Do((A, Begin)),
            Do((A, Elsewhere)),
            Do((B, Begin)),
            Do((B, Insert)),
            Do((A, Insert)),
            Do((A, Commit)),
            Look,
            Do((B, Commit)),
            Look,
        ],
    ),
    script(
        "commit after the first statement of a look",
        &[
            Look,
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            LookDuring(&[(A, Commit)], &[]),
            Look,
        ],
    ),
    script(
        "commit after the second statement of a look",
        &[
            Look,
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            LookDuring(&[], &[(A, Commit)]),
            Look,
        ],
    ),
    script(
        "id drawn after the first statement of a look",
        &[
            Look,
            // A gap, so that the look needs all its statements.
            Do((A, Begin)),
            Do((A, Insert)),
            Do((A, Rollback)),
            Do((B, Insert)),
            LookDuring(&[(A, Begin), (A, Insert)], &[]),
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "id drawn after the second statement of a look",
        &[
            Look,
            // A gap, so that the look needs all its statements.
            Do((A, Begin)),
            Do((A, Insert)),
            Do((A, Rollback)),
            Do((B, Insert)),
            LookDuring(&[], &[(A, Begin), (A, Insert), (B, Insert)]),
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "restart of the reader beside an open transaction",
        &[
            Do((A, Begin)),
            Do((A, Insert)),
            Do((B, Insert)),
            Look,
            Restart,
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    script(
        "prepared transaction",
        &[
            Do((A, Begin)),
            Do((A, Insert)),
            Do((A, Prepare)),
            Do((B, Insert)),
            Look,
            Restart,
            Look,
            Do((A, CommitPrepared)),
            Look,
        ],
    ),
    script(
        "lock freed by a savepoint",
        &[
            Do((A, Begin)),
            Do((A, Savepoint)),
            Do((A, Insert)),
            Do((A, Undo)),
            Do((B, Insert)),
            Look,
            Do((A, Insert)),
            Do((B, Insert)),
            Look,
            Do((A, Commit)),
            Look,
        ],
    ),
    Script {
        name: "insert into a partition",
        partitioned: true,
        moves: &[
            Look,
            Do((A, Begin)),
            Do((A, InsertLeaf)),
            Do((B, Insert)),
            Look,
            Do((A, Commit)),
            Look,
        ],
    },
];

/// The writers' sessions.
struct Writers {
    sessions: Vec<PgConnection>,
    name: String,
}

impl Writers {
    async fn act(&mut self, (who, what): Act) {
        let name = format!("{}_{who}", self.name);
        let session = &mut self.sessions[who];
        let sql = match what {
            Insert => {
                insert(session).await;
                return;
            }
            InsertLeaf => {
                insert_into(session, "evt_queue_p1").await;
                return;
            }
            Begin => "BEGIN".to_owned(),
            Elsewhere => "INSERT INTO other VALUES (1)".to_owned(),
            Savepoint => "SAVEPOINT s".to_owned(),
            Undo => "ROLLBACK TO s".to_owned(),
            Prepare => format!("PREPARE TRANSACTION '{name}'"),
            CommitPrepared => format!("COMMIT PREPARED '{name}'"),
            Commit => "COMMIT".to_owned(),
            Rollback => "ROLLBACK".to_owned(),
        };
        run(session, &sql).await;
    }
}

/// What happens between the statements of one look.
struct Interlude<'a> {
    writers: &'a mut Writers,
    after: [&'static [Act]; 2],
}

impl Interlude<'_> {
    /// After the first or the second statement.
    async fn after(&mut self, statement: usize) {
        for act in std::mem::take(&mut self.after[statement - 1]) {
            self.writers.act(*act).await;
        }
    }

    /// For a reader with fewer statements.
    async fn end(mut self) {
        self.after(1).await;
        self.after(2).await;
    }
}

/// What a reader delivered, and up to where everything is.
#[derive(Debug, Default)]
struct Delivered {
    ids: Vec<i64>,
    through: i64,
}

impl Delivered {
    /// Delivers what is visible up to the first id that may still appear;
    /// absent ids up to `proven` are dead.
    fn settle(&mut self, visible: &BTreeSet<i64>, proven: i64) {
        loop {
            let next = self.through + 1;
            if visible.contains(&next) {
                self.ids.push(next);
            } else if next > proven {
                return;
            }
            self.through = next;
        }
    }
}

/// A statement of a reader that follows lock holders.
#[derive(Debug, Clone, Copy)]
enum Statement {
    Sequence,
    Holders,
    Rows,
}

use Statement::{Holders, Rows, Sequence};

/// The rule of our reader, written again, with what can be wrong about it.
#[derive(Debug, Clone, Copy)]
struct Rule {
    order: [Statement; 3],
    flaw: Option<Flaw>,
}

/// What is wrong about a rule, beside its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    RepeatableRead,
    /// Floors of holders that the first look finds: what is settled by then.
    StartAtCurrentValue,
    /// Floors of holders that a later look finds: the value before.
    NewcomersAtCurrentValue,
    LastValueAlone,
    SessionsOnly,
    ParentOnly,
}

impl Rule {
    fn has(self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}

const RULE: Rule = Rule {
    order: [Sequence, Holders, Rows],
    flaw: None,
};

#[derive(Debug, Clone, Copy)]
enum Kind {
    Ours,
    Rule(Rule),
    /// `id > last`.
    Naive,
    /// Waits a while for ids that are missing.
    Grace,
    /// Rows older than every open transaction, with an id as cursor.
    Xmin,
}

/// A mutant, and the script that kills it.
const MUTANTS: &[(&str, Kind, &str)] = &[
    ("naive reader", Kind::Naive, "late commit of a lower id"),
    ("grace period", Kind::Grace, "commit after any patience"),
    (
        "xmin with an id cursor",
        Kind::Xmin,
        "numbers of transactions in another order than ids",
    ),
    (
        "rows before the holders",
        Kind::Rule(Rule {
            order: [Sequence, Rows, Holders],
            ..RULE
        }),
        "commit after the second statement of a look",
    ),
    (
        "rows before everything",
        Kind::Rule(Rule {
            order: [Rows, Sequence, Holders],
            ..RULE
        }),
        "commit after the first statement of a look",
    ),
    (
        "holders before the sequence",
        Kind::Rule(Rule {
            order: [Holders, Sequence, Rows],
            ..RULE
        }),
        "id drawn after the first statement of a look",
    ),
    (
        "one repeatable-read snapshot",
        Kind::Rule(Rule {
            flaw: Some(Flaw::RepeatableRead),
            ..RULE
        }),
        "commit after the first statement of a look",
    ),
    (
        "holders of the start floored at the current value",
        Kind::Rule(Rule {
            flaw: Some(Flaw::StartAtCurrentValue),
            ..RULE
        }),
        "restart of the reader beside an open transaction",
    ),
    (
        "newcomers floored at the current value",
        Kind::Rule(Rule {
            flaw: Some(Flaw::NewcomersAtCurrentValue),
            ..RULE
        }),
        "late commit of a lower id",
    ),
    (
        "last_value without is_called",
        Kind::Rule(Rule {
            flaw: Some(Flaw::LastValueAlone),
            ..RULE
        }),
        "the first event of a fresh table",
    ),
    (
        "holders with a session only",
        Kind::Rule(Rule {
            flaw: Some(Flaw::SessionsOnly),
            ..RULE
        }),
        "prepared transaction",
    ),
    (
        "holders of the parent only",
        Kind::Rule(Rule {
            flaw: Some(Flaw::ParentOnly),
            ..RULE
        }),
        "insert into a partition",
    ),
];

/// A reader on its own session.
struct Reader {
    kind: Kind,
    session: PgConnection,
    gate: Gate,
    store: PostgresStore,
    tail: Box<dyn Tail>,
    delivered: Delivered,
    floors: BTreeMap<String, i64>,
    previous: Option<i64>,
    /// Of [`Kind::Grace`]: since when an id is missing.
    missing: BTreeMap<i64, u32>,
    clock: u32,
}

impl Reader {
    async fn open(kind: Kind, database: &Database) -> Self {
        let gate = Gate::before(Cluster::shared().directory());
        let options = postgres_options(&gate.url(&database.name));
        let store = PostgresStore::open(options).await.expect("opened");
        Self {
            kind,
            session: database.session().await,
            tail: store.tail(),
            gate,
            store,
            delivered: Delivered::default(),
            floors: BTreeMap::new(),
            previous: None,
            missing: BTreeMap::new(),
            clock: 0,
        }
    }

    fn restart(&mut self) {
        self.tail = self.store.tail();
        self.floors.clear();
        self.previous = None;
        self.missing.clear();
    }

    async fn look(&mut self, mut interlude: Interlude<'_>) {
        match self.kind {
            Kind::Ours => self.look_ours(&mut interlude).await,
            Kind::Rule(rule) => self.look_by(rule, &mut interlude).await,
            Kind::Naive => {
                let visible = self.ids("true").await;
                self.deliver_all(&visible);
            }
            Kind::Xmin => {
                let older =
                    "xmin::text::bigint < pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
                let visible = self.ids(older).await;
                self.deliver_all(&visible);
            }
            Kind::Grace => {
                let visible = self.ids("true").await;
                self.deliver_after_grace(&visible);
            }
        }
        interlude.end().await;
    }

    /// The library's own tail, its statements held up one by one.
    async fn look_ours(&mut self, interlude: &mut Interlude<'_>) {
        let after = EventId::parse_boundary(self.delivered.through).expect("in range");
        self.gate.shut(true);
        let mut sampled = false;
        let read = self.tail.read(after, &[]);
        tokio::pin!(read);
        let read = loop {
            tokio::select! {
                read = &mut read => break read.expect("read"),
                waiting = self.gate.next() => {
                    if waiting.sql.contains("pg_locks") {
                        interlude.after(1).await;
                        sampled = true;
                    } else if waiting.sql.contains("evt_queue") && sampled {
                        interlude.after(2).await;
                    }
                    drop(waiting.go);
                }
            }
        };
        self.gate.shut(false);
        let all_done = interlude.after.iter().all(|acts| acts.is_empty());
        assert!(all_done, "the look had each of its statements");
        let visible = read.events.iter().map(|event| event.id.get()).collect();
        self.delivered.settle(&visible, read.dead_through.get());
    }

    async fn look_by(&mut self, rule: Rule, interlude: &mut Interlude<'_>) {
        if rule.has(Flaw::RepeatableRead) {
            run(&mut self.session, "BEGIN ISOLATION LEVEL REPEATABLE READ").await;
        }
        let (mut last_value, mut holders, mut visible) = (0, Vec::new(), BTreeSet::new());
        for (number, statement) in rule.order.into_iter().enumerate() {
            if number > 0 {
                interlude.after(number).await;
            }
            match statement {
                Sequence => last_value = self.last_value(rule).await,
                Holders => holders = self.holders(rule).await,
                Rows => visible = self.ids("true").await,
            }
        }
        if rule.has(Flaw::RepeatableRead) {
            run(&mut self.session, "COMMIT").await;
        }
        let newcomer = match self.previous {
            None if rule.has(Flaw::StartAtCurrentValue) => last_value,
            None => self.delivered.through,
            Some(_) if rule.has(Flaw::NewcomersAtCurrentValue) => last_value,
            Some(previous) => previous,
        };
        let before = std::mem::take(&mut self.floors);
        for holder in holders {
            let floor = before.get(&holder).copied().unwrap_or(newcomer);
            self.floors.insert(holder, floor);
        }
        self.previous = Some(last_value);
        let proven = self.floors.values().copied().min();
        let proven = proven.map_or(last_value, |floor| floor.min(last_value));
        self.delivered.settle(&visible, proven);
    }

    async fn last_value(&mut self, rule: Rule) -> i64 {
        let called = "last_value - CASE WHEN is_called THEN 0 ELSE 1 END";
        let value = if rule.has(Flaw::LastValueAlone) {
            "last_value"
        } else {
            called
        };
        let sql = format!("SELECT {value} FROM evt_queue_id_seq");
        let value = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut self.session);
        value.await.expect("read")
    }

    async fn holders(&mut self, rule: Rule) -> Vec<String> {
        let leaves = if rule.has(Flaw::ParentOnly) {
            ""
        } else {
            "OR relation IN (SELECT inhrelid FROM pg_inherits)"
        };
        let sessions = if rule.has(Flaw::SessionsOnly) {
            "AND pid IS NOT NULL"
        } else {
            ""
        };
        let sql = format!(
            "SELECT virtualtransaction FROM pg_locks
             WHERE locktype = 'relation' AND (relation = 'evt_queue'::regclass {leaves})
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND mode = 'RowExclusiveLock' AND granted {sessions}"
        );
        let holders = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut self.session);
        holders.await.expect("read")
    }

    async fn ids(&mut self, condition: &str) -> BTreeSet<i64> {
        let through = self.delivered.through;
        let sql = format!("SELECT id FROM evt_queue WHERE id > {through} AND {condition}");
        let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(&mut self.session)
            .await
            .expect("read");
        ids.into_iter().collect()
    }

    fn deliver_all(&mut self, visible: &BTreeSet<i64>) {
        let highest = visible.last().copied();
        self.delivered
            .settle(visible, highest.unwrap_or(self.delivered.through));
    }

    fn deliver_after_grace(&mut self, visible: &BTreeSet<i64>) {
        let highest = visible.last().copied().unwrap_or(self.delivered.through);
        for id in self.delivered.through + 1..=highest {
            if !visible.contains(&id) {
                self.missing.entry(id).or_insert(self.clock);
            }
        }
        let waits = self
            .missing
            .iter()
            .find(|(id, since)| !visible.contains(id) && **since == self.clock);
        let proven = waits.map_or(highest, |(id, _)| id - 1);
        self.delivered.settle(visible, proven);
    }
}

/// Plays a script to a reader; what was committed and what was delivered.
async fn play(script: &Script, kind: Kind) -> (Vec<i64>, Vec<i64>) {
    const PARTITIONED: &str = "CREATE SEQUENCE evt_queue_id_seq;
        CREATE TABLE evt_queue (
            id bigint NOT NULL DEFAULT nextval('evt_queue_id_seq') PRIMARY KEY,
            type varchar(16) NOT NULL, data json NOT NULL, ts timestamp NOT NULL
        ) PARTITION BY RANGE (id);
        ALTER SEQUENCE evt_queue_id_seq OWNED BY evt_queue.id;
        CREATE TABLE evt_queue_p1 PARTITION OF evt_queue FOR VALUES FROM (0) TO (1000000)";
    let database = Cluster::shared().database().await;
    if script.partitioned {
        database.run(PARTITIONED).await;
    }
    database.run("CREATE TABLE other (n int)").await;
    let mut reader = Reader::open(kind, &database).await;
    let mut writers = Writers {
        sessions: vec![database.session().await, database.session().await],
        name: database.name.clone(),
    };
    // Afterwards everybody has had every chance.
    for one in script.moves.iter().chain(&[Pass, Look, Pass, Look]) {
        let after = match one {
            Do(act) => {
                writers.act(*act).await;
                continue;
            }
            Pass => {
                reader.clock += 1;
                continue;
            }
            Restart => {
                reader.restart();
                continue;
            }
            Look => [&[][..]; 2],
            LookDuring(first, second) => [*first, *second],
        };
        let interlude = Interlude {
            writers: &mut writers,
            after,
        };
        reader.look(interlude).await;
    }
    let committed = sqlx::query_scalar("SELECT id FROM evt_queue ORDER BY id")
        .fetch_all(&mut reader.session)
        .await;
    (committed.expect("read"), reader.delivered.ids)
}

#[tokio::test]
async fn our_reader_delivers_everything_in_every_script() {
    for script in SCRIPTS {
        let (committed, delivered) = play(script, Kind::Ours).await;
        assert!(!committed.is_empty(), "{}", script.name);
        assert_eq!(delivered, committed, "{}", script.name);
    }
}

#[tokio::test]
async fn its_rule_written_again_delivers_everything_too() {
    for script in SCRIPTS {
        let (committed, delivered) = play(script, Kind::Rule(RULE)).await;
        assert_eq!(delivered, committed, "{}", script.name);
    }
}

#[tokio::test]
async fn each_mutant_loses_in_the_script_made_for_it() {
    for (name, kind, killer) in MUTANTS {
        let script = SCRIPTS.iter().find(|script| script.name == *killer);
        let script = script.expect("there is a script of this name");
        let (committed, delivered) = play(script, *kind).await;
        let lost = committed.iter().any(|id| !delivered.contains(id));
        assert!(
            lost,
            "{name} survives {killer}: {committed:?}, {delivered:?}"
        );
    }
}
