//! Errors as the service answers them.

use std::{collections::HashMap, time::Duration};

use anyhow::{Result, bail};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::case::Failure;

impl Failure {
    pub(crate) fn status(&self) -> Result<Status> {
        let mut details = ErrorDetails::new();
        if let Some(reason) = &self.reason {
            details.set_error_info(reason, "evt.futoin.org", HashMap::new());
        }
        if let Some(retry_after) = self.retry_after_ms {
            details.set_retry_info(Some(Duration::from_millis(retry_after)));
        }
        let message = format!("scripted: {}", self.reason.as_deref().unwrap_or(&self.code));
        Ok(Status::with_error_details(code(&self.code)?, message, details))
    }

    /// Whether the session has a successor, or was moved.
    pub(crate) fn fences(&self) -> bool {
        matches!(self.reason.as_deref(), Some("TAKEN_OVER" | "STALE_EPOCH"))
    }
}

fn code(name: &str) -> Result<Code> {
    Ok(match name {
        "CANCELLED" => Code::Cancelled,
        "UNKNOWN" => Code::Unknown,
        "INVALID_ARGUMENT" => Code::InvalidArgument,
        "DEADLINE_EXCEEDED" => Code::DeadlineExceeded,
        "NOT_FOUND" => Code::NotFound,
        "ALREADY_EXISTS" => Code::AlreadyExists,
        "PERMISSION_DENIED" => Code::PermissionDenied,
        "RESOURCE_EXHAUSTED" => Code::ResourceExhausted,
        "FAILED_PRECONDITION" => Code::FailedPrecondition,
        "ABORTED" => Code::Aborted,
        "OUT_OF_RANGE" => Code::OutOfRange,
        "UNIMPLEMENTED" => Code::Unimplemented,
        "INTERNAL" => Code::Internal,
        "UNAVAILABLE" => Code::Unavailable,
        "DATA_LOSS" => Code::DataLoss,
        "UNAUTHENTICATED" => Code::Unauthenticated,
        other => bail!("cases.yaml: no status code {other}"),
    })
}
