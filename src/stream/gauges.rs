//! Figures that are only worth computing when somebody looks at the metrics.
//!
//! The HTTP front asks for them at each scrape. Those of this process are set even
//! if the database does not answer. Those of consumers, transactions and the
//! archive come as samples, so that a series vanishes with what it describes; their
//! number is bounded ([`limits::CONSUMER_SERIES`], [`limits::NAMED`]), and who is
//! furthest behind or oldest stays among them.

use std::{cmp::Reverse, time::Duration};

use super::{
    DatabaseState, EventStream,
    consumers::{ARCHIVER, ConsumerState},
};
use crate::{
    error::Error,
    event::ConsumerKey,
    limits,
    store::Blocker,
    telemetry::{self, Sample},
};

impl EventStream {
    /// Sets the gauges, and returns the series of what comes and goes: `None` if
    /// the database does not tell, so that the last ones stand.
    pub async fn refresh_gauges(&self) -> Option<Vec<Sample>> {
        let figures = self.figures().await;
        self.set_own_gauges();
        figures.ok()
    }

    /// What needs no question to the database.
    fn set_own_gauges(&self) {
        let engine = &self.engine;
        let works = *engine.tailer.database().borrow() == DatabaseState::Working;
        set(telemetry::DATABASE_UP, i64::from(works));
        metrics::gauge!(
            telemetry::BUILD_INFO,
            "version" => env!("CARGO_PKG_VERSION"),
            "database" => engine.store.kind()
        )
        .set(1.0);
        // A rate needs to see the zero before the first one.
        metrics::counter!(telemetry::LATE_EVENTS, "database" => engine.store.kind()).increment(0);
        let waits = engine.tailer.held().map_or(Duration::ZERO, |held| held.1);
        metrics::gauge!(telemetry::FRONTIER_WAITS_SECONDS).set(waits.as_secs_f64());
        set(telemetry::DEAD_RANGES, number(engine.sentinel.remembered()));
        let tip = engine.hub.tip();
        set(telemetry::FRONTIER_ID, tip.frontier.get());
        set(telemetry::HEAD_ID, tip.head.get());
        let (ring_bytes, ring_events) = engine.hub.usage();
        set(telemetry::RING_BYTES, number(ring_bytes));
        set(telemetry::RING_EVENTS, number(ring_events));
        set(
            telemetry::STREAMS_OPEN,
            number(*engine.open_streams.borrow()),
        );
        for pool in engine.store.pools() {
            let used = pool.open.saturating_sub(pool.idle);
            for (state, count) in [("idle", pool.idle), ("used", used)] {
                metrics::gauge!(telemetry::DATABASE_CONNECTIONS, "pool" => pool.name, "state" => state)
                    .set(count);
            }
            metrics::gauge!(telemetry::DATABASE_CONNECTIONS_MAX, "pool" => pool.name).set(pool.max);
        }
    }

    async fn figures(&self) -> Result<Vec<Sample>, Error> {
        let engine = &self.engine;
        let mut consumers = self.all_consumers().await?;
        let bounds = engine.store.bounds().await;
        let bounds = bounds.map_err(|error| engine.tailer.failed(error))?;
        set(telemetry::DISCARDED_TO_ID, bounds.discarded_to.get());
        let blockers = self.blockers().await?;
        set(telemetry::BLOCKERS, number(blockers.len()));
        set(telemetry::CONSUMERS, number(consumers.len()));
        let stopped = consumers.iter().filter(|state| state.problem.is_some());
        set(telemetry::CONSUMERS_STOPPED, number(stopped.count()));
        let mut samples = of_archive(&consumers);
        samples.extend(of_blockers(blockers));
        let slowest = consumers.iter().min_by_key(|state| state.holds_from());
        let slowest = slowest.map(|state| state.consumer.key.clone());
        consumers.sort_by_key(|state| Reverse(state.lag_ids));
        let shown = consumers.iter().take(limits::CONSUMER_SERIES);
        samples.extend(shown.flat_map(|state| of_consumer(state, slowest.as_ref())));
        Ok(samples)
    }
}

fn of_consumer(state: &ConsumerState, slowest: Option<&ConsumerKey>) -> [Sample; 4] {
    let key = &state.consumer.key;
    let holds = slowest == Some(key) && state.lag_ids > 0;
    let sample = |name, value| Sample {
        name,
        labels: vec![
            ("user", key.user.as_str().to_owned()),
            ("component", key.component.as_str().to_owned()),
        ],
        value,
    };
    [
        sample(telemetry::CONSUMER_LAG_IDS, float(state.lag_ids)),
        sample(telemetry::CONSUMER_LAG_SECONDS, age(state)),
        sample(
            telemetry::CONSUMER_CONNECTED,
            truth(state.consumer.session.is_some()),
        ),
        sample(telemetry::HOLDS_OLDEST, truth(holds)),
    ]
}

/// The archiver that is furthest tells what is archived.
fn of_archive(consumers: &[ConsumerState]) -> Vec<Sample> {
    let archivers = consumers
        .iter()
        .filter(|state| state.consumer.key.component.as_str() == ARCHIVER);
    let Some(archiver) = archivers.max_by_key(|state| state.consumer.position) else {
        return Vec::new();
    };
    let sample = |name, value| Sample {
        name,
        labels: Vec::new(),
        value,
    };
    vec![
        sample(telemetry::ARCHIVE_LAG_IDS, float(archiver.lag_ids)),
        sample(telemetry::ARCHIVE_LAG_SECONDS, age(archiver)),
    ]
}

/// The oldest ones: who is to blame.
fn of_blockers(mut blockers: Vec<Blocker>) -> impl Iterator<Item = Sample> {
    blockers.sort_by_key(|blocker| Reverse(blocker.age));
    blockers
        .into_iter()
        .take(limits::NAMED)
        .map(|blocker| Sample {
            name: telemetry::BLOCKER_AGE_SECONDS,
            value: blocker.age.as_secs_f64(),
            labels: vec![
                ("session", blocker.session),
                ("client", blocker.client),
                ("prepared", blocker.prepared.to_string()),
            ],
        })
}

fn age(state: &ConsumerState) -> f64 {
    state.lag_age.unwrap_or_default().as_secs_f64()
}

fn truth(truth: bool) -> f64 {
    f64::from(u8::from(truth))
}

fn set(name: &'static str, value: i64) {
    metrics::gauge!(name).set(float(value));
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn float(value: i64) -> f64 {
    value as f64
}
