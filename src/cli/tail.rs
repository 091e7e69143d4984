//! `eventstream tail`: events as they come.
//!
//! Without a component it observes (`LIVE`) and changes nothing. With one it
//! consumes, which must be said with `--ack`: a session of a consumer takes
//! that consumer's events.

use std::{env, fs};

use super::{
    connect::Target,
    failure::{Failure, help},
    interrupt,
    output::{Format, Output},
    poll::LIVE,
    session::Tail,
    values,
};
use crate::proto::{ConflictPolicy, ReadyToReceiveRequest, StartAt};

#[derive(Debug, clap::Args)]
#[command(after_help = help(concat!(
    "  eventstream tail                                 watch what happens now\n",
    "  eventstream tail --want ORDER_PAID --count 1     wait for the next one\n",
    "  eventstream tail --since 2026-11-01T00:00Z       replay, then watch\n",
    "  eventstream tail --from-start --json | jq .data\n",
    "  eventstream tail CACHE --ack                     consume as CACHE",
)))]
pub struct Args {
    /// Consume as this consumer (needs --ack); left out: observe only
    pub(super) component: Option<String>,
    /// Only these event types
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = values::event_type)]
    want: Vec<String>,
    /// Replay from this time on first, for instance 2026-11-01T00:00Z
    #[arg(long, value_name = "TIME", value_parser = values::time, group = "start")]
    since: Option<prost_types::Timestamp>,
    /// Replay what follows this ID first
    #[arg(long, value_name = "ID", value_parser = values::id, group = "start")]
    after: Option<i64>,
    /// Replay everything that is kept first
    #[arg(long, group = "start")]
    from_start: bool,
    /// Acknowledge each group once it was printed and flushed
    #[arg(long)]
    ack: bool,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let request = request(args)?;
    let server = args.target.connect().await?;
    let mut tail = Tail::new(server, request, args.count, output);
    tail.run(interrupt::requested()).await
}

fn request(args: &Args) -> Result<ReadyToReceiveRequest, Failure> {
    let component = args.component.as_deref().filter(|&name| name != LIVE);
    let (component, conflict_policy) = match (component, args.ack) {
        (None, false) => (LIVE, ConflictPolicy::Unspecified),
        (Some(component), true) => (component, ConflictPolicy::StandBy),
        (Some(component), false) => {
            return Err(Failure::Usage(format!(
                "a session of {component} would take its events away from it: add --ack to \
                 consume as {component}, or leave {component} out to observe"
            )));
        }
        (None, true) => {
            return Err(Failure::Usage(
                "--ack needs the consumer whose events are acknowledged: eventstream tail \
                 COMPONENT --ack"
                    .to_owned(),
            ));
        }
    };
    Ok(ReadyToReceiveRequest {
        component: component.to_owned(),
        want: values::want(&args.want),
        start: start(args),
        conflict_policy: conflict_policy.into(),
        client_label: format!("eventstream tail on {}", host()),
        ..ReadyToReceiveRequest::default()
    })
}

fn start(args: &Args) -> Option<StartAt> {
    let since = args.since.map(values::at_time);
    let after = args.after.map(values::after);
    since
        .or(after)
        .or_else(|| args.from_start.then(|| values::after(0)))
}

/// For operators who see the session; worth no dependency.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| env::var("HOSTNAME").ok());
    match name.as_deref().map(str::trim) {
        None | Some("") => "an unnamed host".to_owned(),
        Some(name) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::proto::start_at::At;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn asked(line: &str) -> Result<ReadyToReceiveRequest, String> {
        let words = std::iter::once("tail").chain(line.split_whitespace());
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        request(&program.args).map_err(|failure| failure.to_string())
    }

    #[test]
    fn it_observes_unless_told_to_consume() {
        let observer = asked("").unwrap();
        assert_eq!((observer.component.as_str(), observer.start), (LIVE, None));
        assert_eq!(asked("LIVE").unwrap().component, LIVE);
        let consumer = asked("CACHE --ack").unwrap();
        assert_eq!(consumer.component, "CACHE");
        assert_eq!(consumer.conflict_policy(), ConflictPolicy::StandBy);
        assert!(consumer.client_label.starts_with("eventstream tail on "));
    }

    #[test]
    fn a_consumer_without_ack_is_explained() {
        assert!(
            asked("CACHE")
                .unwrap_err()
                .contains("add --ack to consume as CACHE")
        );
        assert!(asked("--ack").is_err());
        assert!(asked("LIVE --ack").is_err());
    }

    #[test]
    fn one_start_at_most() {
        let at = |line: &str| asked(line).unwrap().start.unwrap().at.unwrap();
        assert_eq!(at("--after 7"), At::AfterId(7));
        assert_eq!(at("--from-start"), At::AfterId(0));
        assert!(matches!(at("--since 2026-11-01T00:00Z"), At::Time(_)));
        assert!(asked("--after 7 --from-start").is_err());
    }

    #[test]
    fn types_are_a_list() {
        let want = asked("--want A,B_C").unwrap().want.unwrap();
        assert_eq!(want.types, ["A", "B_C"]);
        assert_eq!(asked("").unwrap().want, None);
        assert!(asked("--want A,").is_err());
    }
}
