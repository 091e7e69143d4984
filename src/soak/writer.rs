//! One writer: plays plans on a session of its own and writes down what it was
//! told, like an application that is honest and unlucky.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    engine::{Engine, Scratch, Session},
    ledger::{Entry, Ledger, Outcome, Tag},
    plan::{Abilities, End, Fault, Plan, Shape, Step},
};

/// Transactions prepared at a time: servers allow few.
const PREPARED: usize = 8;

/// Longer than any transaction on a database that works, its pauses apart.
const PATIENCE: Duration = Duration::from_mins(2);

/// A writer whose transactions fail one after the other gives up.
const FAILURES: u32 = 20;

/// What all writers share.
pub(super) struct Scene {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) names: Scratch,
    pub(super) ledger: Ledger,
    pub(super) abilities: Abilities,
    pub(super) prepared: Semaphore,
    /// No further transactions.
    pub(super) enough: CancellationToken,
}

impl Scene {
    pub(super) fn new(engine: Arc<dyn Engine>, names: Scratch, abilities: Abilities) -> Self {
        Self {
            engine,
            names,
            ledger: Ledger::new(),
            abilities,
            prepared: Semaphore::new(PREPARED),
            enough: CancellationToken::new(),
        }
    }

    /// Writes until there is enough.
    pub(super) async fn write(self: Arc<Self>, number: u32, seed: u64) -> anyhow::Result<()> {
        // Neighbouring seeds and writers have nothing in common.
        let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(number);
        let mut random = StdRng::seed_from_u64(seed);
        let mut writer = Writer::new(&self, number).await?;
        while !self.enough.is_cancelled() {
            writer
                .play(&Plan::random(&mut random, &self.abilities))
                .await?;
        }
        Ok(())
    }

    /// Plays one plan.
    pub(super) async fn play(self: Arc<Self>, number: u32, plan: Plan) -> anyhow::Result<()> {
        Writer::new(&self, number).await?.play(&plan).await
    }

    /// Inserts one event and commits when `until` resolves.
    pub(super) async fn hold(
        &self,
        number: u32,
        inserted: CancellationToken,
        until: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        let mut writer = Writer::new(self, number).await?;
        let mut session = writer.take().await?;
        let tag = writer.next_tag();
        session.run(self.engine.begin()).await?;
        let insert = self.engine.insert(Shape::Values, 1, 0.0);
        let first = session.insert(&insert, &tag.to_json()).await?;
        inserted.cancel();
        until.await;
        session.run("COMMIT").await?;
        self.ledger.note(Entry {
            tag,
            outcome: Outcome::Committed,
            rows: 1,
            first: Some(first),
            ended: self.ledger.now(),
        });
        Ok(())
    }
}

struct Writer<'a> {
    scene: &'a Scene,
    number: u32,
    transactions: u64,
    failures: u32,
    session: Option<Box<dyn Session>>,
}

/// What a transaction has done so far.
struct Progress {
    tag: Tag,
    /// Name of the prepared transaction.
    name: String,
    first: Option<i64>,
}

impl<'a> Writer<'a> {
    async fn new(scene: &'a Scene, number: u32) -> anyhow::Result<Self> {
        let session = scene.engine.session().await;
        Ok(Self {
            scene,
            number,
            transactions: 0,
            failures: 0,
            session: Some(session.with_context(|| format!("cannot open session {number}"))?),
        })
    }

    fn next_tag(&mut self) -> Tag {
        self.transactions += 1;
        Tag {
            writer: self.number,
            number: self.transactions,
        }
    }

    async fn take(&mut self) -> Result<Box<dyn Session>, sqlx::Error> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => self.scene.engine.session().await,
        }
    }

    async fn play(&mut self, plan: &Plan) -> anyhow::Result<()> {
        let mut session = self.take().await.context("cannot open a session again")?;
        let number = session.number();
        let tag = self.next_tag();
        let mut progress = Progress {
            name: format!("{}_{}_{}", self.scene.names.queue, tag.writer, tag.number),
            tag,
            first: None,
        };
        let played = tokio::select! {
            biased;
            played = self.transaction(&mut session, plan, &mut progress) => Some(played),
            () = self.strike(plan.fault, number) => None,
        };
        let outcome = match played {
            Some(Ok(outcome)) => {
                // A kill that was on its way shall not hit the next transaction.
                self.session = plan.fault.is_none().then_some(session);
                self.failures = 0;
                outcome
            }
            failed => {
                drop(session);
                if let Some(Err(error)) = failed
                    && plan.fault.is_none()
                {
                    self.fail(&error)?;
                }
                self.bury(number, plan, &progress).await?;
                Outcome::Unknown
            }
        };
        self.scene.ledger.note(Entry {
            tag,
            outcome,
            rows: plan.rows(),
            first: progress.first,
            ended: self.scene.ledger.now(),
        });
        Ok(())
    }

    fn fail(&mut self, error: &sqlx::Error) -> anyhow::Result<()> {
        self.scene.ledger.trouble(error);
        self.failures += 1;
        if self.failures >= FAILURES {
            bail!(
                "writer {}: {FAILURES} failures in a row: {error}",
                self.number
            );
        }
        Ok(())
    }

    /// Resolves when the client is to vanish.
    async fn strike(&self, fault: Option<Fault>, session: i64) {
        match fault {
            None => std::future::pending().await,
            Some(Fault::Cut(after)) => sleep(after).await,
            Some(Fault::Killed(after)) => {
                sleep(after).await;
                if let Err(error) = self.kill(session).await {
                    self.scene.ledger.trouble(&error);
                }
                std::future::pending::<()>().await;
            }
        }
    }

    async fn kill(&self, session: i64) -> Result<(), sqlx::Error> {
        let Some(kill) = self.scene.engine.kill(session) else {
            return Ok(());
        };
        let mut other = self.scene.engine.session().await?;
        let killed = other.run(&kill).await;
        let is_open = self.scene.engine.is_open(session);
        if killed.is_err() && other.texts(&is_open).await?.is_empty() {
            // It had ended by itself; MySQL calls that an error.
            return Ok(());
        }
        killed
    }

    async fn transaction(
        &self,
        session: &mut Box<dyn Session>,
        plan: &Plan,
        progress: &mut Progress,
    ) -> Result<Outcome, sqlx::Error> {
        let engine = &self.scene.engine;
        // Where no more may be prepared, it is committed instead.
        let permit = match plan.end {
            End::Prepared { .. } => self.scene.prepared.try_acquire().ok(),
            _ => None,
        };
        let two_phase = engine.two_phase().filter(|_| permit.is_some());
        match (&two_phase, plan.end) {
            (Some(two_phase), _) => session.run(&(two_phase.begin)(&progress.name)).await?,
            (None, End::Autocommit) => {}
            (None, _) => session.run(engine.begin()).await?,
        }
        for step in &plan.steps {
            self.step(&mut **session, step, progress).await?;
        }
        match (plan.end, two_phase) {
            (End::Autocommit, _) => Ok(Outcome::Committed),
            (End::Rollback, _) => {
                session.run("ROLLBACK").await?;
                Ok(Outcome::RolledBack)
            }
            (
                End::Prepared {
                    apart,
                    commit,
                    pause,
                },
                Some(two_phase),
            ) => {
                for sql in (two_phase.prepare)(&progress.name) {
                    session.run(&sql).await?;
                }
                if apart {
                    *session = engine.session().await?;
                }
                sleep(pause).await;
                let decide = (two_phase.decide)(&progress.name, commit);
                self.decide(&mut **session, &decide).await?;
                Ok(if commit {
                    Outcome::Committed
                } else {
                    Outcome::RolledBack
                })
            }
            _ => {
                session.run("COMMIT").await?;
                Ok(Outcome::Committed)
            }
        }
    }

    /// A server may need a moment until a transaction is free of the session
    /// that prepared it.
    async fn decide(&self, session: &mut dyn Session, sql: &str) -> Result<(), sqlx::Error> {
        const ATTEMPTS: u32 = 100;
        for _ in 0..ATTEMPTS {
            if session.run(sql).await.is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        session.run(sql).await
    }

    async fn step(
        &self,
        session: &mut dyn Session,
        step: &Step,
        progress: &mut Progress,
    ) -> Result<(), sqlx::Error> {
        let data = progress.tag.to_json();
        match step {
            Step::Pause(pause) => sleep(*pause).await,
            Step::Look => {
                let look = format!("SELECT type FROM {} WHERE id = 1", self.scene.names.queue);
                session.texts(&look).await?;
            }
            Step::Insert { shape, rows, delay } => {
                let delay = delay.as_secs_f64();
                let sql = self.scene.engine.insert(*shape, *rows, delay);
                let first = session.insert(&sql, &data).await?;
                progress.first.get_or_insert(first);
            }
            Step::Undone { rows, pause } => {
                session.run("SAVEPOINT undone").await?;
                let sql = self.scene.engine.insert(Shape::Values, *rows, 0.0);
                let first = session.insert(&sql, &data).await?;
                sleep(*pause).await;
                session.run("ROLLBACK TO SAVEPOINT undone").await?;
                self.scene.ledger.note(Entry {
                    tag: progress.tag,
                    outcome: Outcome::RolledBack,
                    rows: 0,
                    first: Some(first),
                    ended: self.scene.ledger.now(),
                });
            }
            Step::Elsewhere => {
                let sql = format!("INSERT INTO {} VALUES ('soak')", self.scene.names.other);
                session.run(&sql).await?;
            }
        }
        Ok(())
    }

    /// Waits until the server has noticed that a session is gone, and rolls
    /// back what it left prepared.
    async fn bury(&self, number: i64, plan: &Plan, progress: &Progress) -> anyhow::Result<()> {
        let mut session = self.scene.engine.session().await?;
        let is_open = self.scene.engine.is_open(number);
        let gone = async {
            while !session.texts(&is_open).await?.is_empty() {
                sleep(Duration::from_millis(2)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, gone)
            .await
            .with_context(|| format!("session {number} does not end"))??;
        let two_phase = self.scene.engine.two_phase();
        if let (End::Prepared { .. }, Some(two_phase)) = (plan.end, two_phase) {
            let left = session.texts(two_phase.prepared).await?;
            if left.contains(&progress.name) {
                let rollback = (two_phase.decide)(&progress.name, false);
                self.decide(&mut *session, &rollback).await?;
            }
        }
        Ok(())
    }
}
