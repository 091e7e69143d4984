//! `eventstream healthcheck`: the exec probe of a container.
//!
//! Its exit codes are its own: 0 serving, 1 not serving, 2 unreachable.

use std::{process::ExitCode, time::Duration};

use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    connect::{Target, call_within},
    failure::Failure,
    output::{Format, Output},
};

/// A probe that waits longer has failed anyway.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

const HELP: &str = "Examples:\n  \
    eventstream healthcheck\n  \
    eventstream healthcheck --service futoin.evt.v1.PushService\n  \
    eventstream healthcheck --live\n  \
    eventstream healthcheck --addr unix:/run/eventstream.sock\n\n\
    Exit codes:\n  \
    0  serving\n  \
    1  not serving\n  \
    2  unreachable, or wrong usage";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Full name of one service; left out: the server as a whole
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    service: String,
    /// Succeed if there is any answer: a restart would not bring a database back
    #[arg(long, conflicts_with = "service")]
    live: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) format: Format,
}

#[derive(Debug, PartialEq, Eq)]
enum Health {
    Serving,
    NotServing(&'static str),
}

pub(super) async fn run(args: &Args, output: &mut Output) -> ExitCode {
    let code = match check(args).await {
        Ok(health) => {
            show(&health, output);
            u8::from(health != Health::Serving && !args.live)
        }
        Err(failure) => {
            failure.report(None, output);
            2
        }
    };
    ExitCode::from(code)
}

fn show(health: &Health, output: &mut Output) {
    let text = match health {
        Health::Serving => "SERVING",
        Health::NotServing(why) => why,
    };
    let written = if output.is_json() {
        output.object(&json!({ "status": text }))
    } else {
        output.line(text)
    };
    // A probe's answer is its exit code; nobody may read the text.
    let _ = written.and_then(|()| output.flush());
}

async fn check(args: &Args) -> Result<Health, Failure> {
    let server = args.target.connect().await?;
    let request = HealthCheckRequest {
        service: args.service.clone(),
    };
    let mut client = HealthClient::new(server.link());
    let response = client.check(call_within(request, PROBE_TIMEOUT)).await;
    judge(response.map(|response| response.into_inner().status()))
}

fn judge(answer: Result<ServingStatus, Status>) -> Result<Health, Failure> {
    match answer {
        Ok(ServingStatus::Serving) => Ok(Health::Serving),
        Ok(other) => Ok(Health::NotServing(other.as_str_name())),
        Err(status) if status.code() == Code::NotFound => Ok(Health::NotServing(
            ServingStatus::ServiceUnknown.as_str_name(),
        )),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        assert_eq!(judge(Ok(ServingStatus::Serving)).unwrap(), Health::Serving);
        let not_serving = judge(Ok(ServingStatus::NotServing)).unwrap();
        assert_eq!(not_serving, Health::NotServing("NOT_SERVING"));
        let unknown = judge(Err(Status::not_found(""))).unwrap();
        assert_eq!(unknown, Health::NotServing("SERVICE_UNKNOWN"));
        assert!(judge(Err(Status::unavailable(""))).is_err());
    }
}
