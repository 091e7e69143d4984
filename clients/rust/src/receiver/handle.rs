//! Calls the handler until the unit is done, or its policy gives it up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    options::{DeadLetter, OnFailure, Options},
    queue::Item,
    unit::Unit,
};
use crate::error::BoxError;

/// How the handling of a unit ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// The policy is to stop.
    Failed {
        event: i64,
        source: BoxError,
    },
    /// Not handled, and it does not matter any more.
    GivenUp,
}

/// What is left of an item.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) key: u64,
    pub(crate) number: usize,
    pub(crate) outcome: Outcome,
}

/// How often the handler has failed on what is not handled yet, by the first
/// event of the unit: a session that is lost does not forgive.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<i64, u32>>);

impl Failures {
    fn add(&self, event: i64) -> u32 {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(event).or_default();
        *count += 1;
        *count
    }

    fn forget(&self, event: i64) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&event);
    }
}

/// Handles a unit. Once it is told to give up it does not try again.
pub(crate) async fn handle<U, H, F, E>(
    handler: &H,
    options: &Options,
    failures: &Failures,
    item: Item<U>,
    give_up: CancellationToken,
) -> Finished
where
    U: Unit,
    H: Fn(U) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let event = item.unit.events()[0].id();
    let outcome = loop {
        let error = match call(handler, options, &item.unit).await {
            Ok(()) => break Outcome::Done,
            Err(error) => error,
        };
        let attempt = failures.add(event);
        tracing::warn!(event, attempt, %error, "the handler failed");
        match &options.on_failure {
            OnFailure::Stop => {
                break Outcome::Failed {
                    event,
                    source: error,
                };
            }
            OnFailure::DeadLetter { attempts, .. } if attempt >= *attempts => {
                match bury(options, &item.unit, attempt, error).await {
                    Ok(()) => break Outcome::Done,
                    Err(error) => tracing::warn!(event, %error, "the dead-letter callback failed"),
                }
            }
            _ => {}
        }
        tokio::select! {
            biased;
            () = give_up.cancelled() => break Outcome::GivenUp,
            () = sleep(options.backoff.delay(attempt, None)) => {}
        }
    };
    if !matches!(outcome, Outcome::GivenUp) {
        failures.forget(event);
    }
    Finished {
        key: item.key,
        number: item.number,
        outcome,
    }
}

/// One call, in a span of its own.
async fn call<U, H, F, E>(handler: &H, options: &Options, unit: &U) -> Result<(), BoxError>
where
    U: Unit,
    H: Fn(U) -> F,
    F: Future<Output = Result<(), E>>,
    E: Into<BoxError>,
{
    let component = options.request.component.as_str();
    let span = tracing::info_span!(
        "process",
        "otel.kind" = "consumer",
        "messaging.system" = "futoin_eventstream",
        "messaging.destination.name" = component,
        "messaging.message.id" = unit.events()[0].id(),
        "messaging.operation.type" = "process",
        "messaging.batch.message_count" = unit.events().len(),
    );
    handler(unit.clone())
        .instrument(span)
        .await
        .map_err(Into::into)
}

async fn bury<U: Unit>(
    options: &Options,
    unit: &U,
    attempts: u32,
    error: BoxError,
) -> Result<(), BoxError> {
    let OnFailure::DeadLetter { bury, .. } = &options.on_failure else {
        return Err(error);
    };
    let error = Arc::from(error);
    for event in unit.events() {
        let letter = DeadLetter {
            event: event.clone(),
            attempts,
            error: Arc::clone(&error),
        };
        bury(letter).await?;
    }
    Ok(())
}
