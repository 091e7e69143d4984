//! Repeats calls that have no second effect.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::Status;

use crate::{
    backoff::Backoff,
    error::{Error, ServiceError},
};

/// When calls are repeated, and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) deadline: Duration,
    backoff: Backoff,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            backoff: Backoff::default(),
        }
    }
}

impl Retries {
    /// Calls until it succeeds, fails for good, or the deadline has come; then
    /// the last error is the answer.
    pub(crate) async fn call<T>(
        &self,
        mut call: impl AsyncFnMut() -> Result<T, Status>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.deadline;
        let mut attempt = 1;
        loop {
            let answer = timeout_at(deadline, call()).await;
            let answer = answer.unwrap_or_else(|_| Err(self.too_late()));
            let error = match answer.map_err(ServiceError::from) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let delay = self.backoff.delay(attempt, error.retry_after);
            if !error.is_transient() || Instant::now() + delay >= deadline {
                return Err(error.into());
            }
            tracing::debug!(%error, attempt, ?delay, "a call is repeated");
            sleep(delay).await;
            attempt += 1;
        }
    }

    fn too_late(&self) -> Status {
        Status::deadline_exceeded(format!("no answer for {:?}", self.deadline))
    }
}
