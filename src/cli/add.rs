//! `eventstream add`: one event from the command line.

use std::io::{self, Read};

use serde_json::json;
use uuid::Uuid;

use super::{
    connect::{MAX_MESSAGE_BYTES, Target, call},
    failure::{Failure, effect_unknown, help},
    import,
    output::{Format, Output},
};
use crate::proto::AddEventRequest;

#[derive(Debug, clap::Args)]
#[command(after_help = help(concat!(
    "  eventstream add ORDER_PAID '{\"order\":17}'\n",
    "  echo '{\"order\":17}' | eventstream add ORDER_PAID -\n",
    "  eventstream add --lines < events.ndjson\n",
    "  eventstream poll LIVE --json | eventstream add --lines --addr other:50051",
)))]
pub struct Args {
    /// Event type: 1 to 16 of A-Z and _
    #[arg(value_name = "TYPE", required_unless_present = "lines")]
    event_type: Option<String>,
    /// Event data, any JSON value; - reads it from stdin
    #[arg(
        value_name = "JSON",
        required_unless_present = "lines",
        allow_hyphen_values = true
    )]
    data: Option<String>,
    /// Import from stdin, one {"type":...,"data":...} per line
    #[arg(long, conflicts_with_all = ["event_type", "data"])]
    lines: bool,
    /// Repeating an add with the same ID within the server's window (an hour
    /// by default) stores nothing twice; made up when left out
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let request_id = args.request_id.unwrap_or_else(Uuid::new_v4);
    let (Some(event_type), Some(data)) = (&args.event_type, &args.data) else {
        return import::run(&args.target.connect().await?, request_id, output).await;
    };
    let request = AddEventRequest {
        r#type: event_type.clone(),
        data_json: match data.as_str() {
            "-" => whole(io::stdin().lock())?,
            text => text.to_owned(),
        },
        request_id: request_id.to_string(),
    };
    let server = args.target.connect().await?;
    let response = server.generator().add_event(call(request)).await;
    let id = response
        .map_err(|status| again(status, request_id))?
        .into_inner()
        .id;
    let written = if output.is_json() {
        output.object(&json!({ "id": id.to_string() }))
    } else {
        output.line(id)
    };
    written.map_err(Failure::Output)
}

/// All of `input`, without the line break that `echo` adds.
fn whole(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    input
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(Failure::Input)?;
    if text.len() > MAX_MESSAGE_BYTES {
        return Err(Failure::Usage("the event is larger than 16 MiB".to_owned()));
    }
    text.truncate(text.trim_end_matches(['\r', '\n']).len());
    Ok(text)
}

/// An answer that was lost leaves open whether the event was stored.
fn again(status: tonic::Status, request_id: Uuid) -> Failure {
    let unknown = effect_unknown(&status);
    let failure = Failure::from(status);
    if !unknown {
        return failure;
    }
    failure.with_hint(format!(
        "the event may have been stored; repeat with --request-id {request_id} and it is not \
         stored twice"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_from_stdin_is_kept_as_it_is() {
        assert_eq!(
            whole("{ \"a\":\n1 }\r\n".as_bytes()).unwrap(),
            "{ \"a\":\n1 }"
        );
        assert!(matches!(whole([0xff].as_slice()), Err(Failure::Input(_))));
        let large = vec![b'1'; MAX_MESSAGE_BYTES + 1];
        assert!(matches!(whole(large.as_slice()), Err(Failure::Usage(_))));
    }

    #[test]
    fn a_lost_answer_tells_how_to_repeat() {
        let (mut output, shown) = Output::captured(false);
        again(tonic::Status::deadline_exceeded("late"), Uuid::nil()).report(None, &mut output);
        assert!(
            shown
                .notes()
                .contains(&format!("--request-id {}", Uuid::nil()))
        );
        let (mut output, shown) = Output::captured(false);
        again(tonic::Status::invalid_argument("no"), Uuid::nil()).report(None, &mut output);
        assert!(!shown.notes().contains("--request-id"));
    }
}
