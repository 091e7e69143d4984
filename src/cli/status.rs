//! `eventstream status`: what to ask first when events do not flow.

use std::io;

use super::{
    connect::{Target, call},
    failure::{Failure, help},
    output::{Format, Output, plain},
    views::{self, StatusView},
};
use crate::proto::{Blocker, GetStatusRequest, GetStatusResponse, Lease};

#[derive(Debug, clap::Args)]
#[command(after_help = help(concat!(
    "  eventstream status\n",
    "  eventstream status --json | jq .slowest_consumer\n",
    "  eventstream status --addr unix:/run/eventstream.sock",
)))]
pub struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let server = args.target.connect().await?;
    let response = server.admin().get_status(call(GetStatusRequest {})).await?;
    show(&response.into_inner(), output).map_err(Failure::Output)
}

fn show(status: &GetStatusResponse, output: &mut Output) -> io::Result<()> {
    if output.is_json() {
        return output.object(&StatusView::of(status));
    }
    if !status.problem.is_empty() {
        output.line(format_args!("PROBLEM: {}\n", plain(&status.problem)))?;
    }
    output.line(format_args!(
        "eventstream {} on {}, replica {}\n",
        plain(&status.version),
        plain(&status.database),
        plain(&status.replica_id)
    ))?;
    for (name, value, meaning) in figures(status) {
        output.line(format_args!("{name:<14}{value:>12}  {meaning}"))?;
    }
    if let Some(waited) = &status.held_for {
        let (id, waited) = (status.held_id, views::age(waited));
        output.line(format_args!(
            "\nThe frontier waits for ID {id}, seen for {waited}."
        ))?;
    }
    if !status.blockers.is_empty() {
        output.line("\nThe frontier waits for these open transactions:")?;
        blockers(&status.blockers, output)?;
    }
    if !status.leases.is_empty() {
        output.line("\nUpkeep is done by these replicas:")?;
        let rows: Vec<_> = status.leases.iter().map(lease_row).collect();
        output.table(&["TASK", "REPLICA", "ID"], &rows)?;
    }
    if let Some(slowest) = &status.slowest_consumer {
        output.line("\nThe consumer that holds the oldest events:")?;
        output.consumers(std::slice::from_ref(slowest))?;
    }
    if !status.stopped_consumers.is_empty() {
        output.line("\nStopped until somebody acts:")?;
        output.consumers(&status.stopped_consumers)?;
    }
    Ok(())
}

fn figures(status: &GetStatusResponse) -> [(&'static str, i64, &'static str); 7] {
    [
        (
            "frontier",
            status.frontier_id,
            "everything up to it can be delivered",
        ),
        ("head", status.head_id, "highest ID given out"),
        (
            "oldest",
            status.oldest_id,
            "oldest event kept in the active table",
        ),
        ("archived", status.archived_id, "highest ID in the archive"),
        (
            "discarded",
            status.discarded_to_id,
            "may be gone from the active table up to it",
        ),
        (
            "streams",
            status.open_streams.into(),
            "push streams open on this replica",
        ),
        (
            "ring bytes",
            status.ring_bytes,
            "events kept in memory for subscribers",
        ),
    ]
}

fn lease_row(lease: &Lease) -> [String; 3] {
    [
        plain(&lease.task).into_owned(),
        plain(&lease.replica).into_owned(),
        plain(&lease.replica_id).into_owned(),
    ]
}

/// Open transactions as a table.
pub(super) fn blockers(blockers: &[Blocker], output: &mut Output) -> io::Result<()> {
    let rows: Vec<_> = blockers.iter().map(blocker_row).collect();
    output.table(&["SESSION", "AGE", "KIND", "CLIENT"], &rows)
}

fn blocker_row(blocker: &Blocker) -> [String; 4] {
    let kind = if blocker.prepared { "prepared" } else { "open" };
    [
        plain(&blocker.session).into_owned(),
        blocker
            .age
            .as_ref()
            .map_or_else(|| "-".to_owned(), views::age),
        kind.to_owned(),
        plain(&blocker.client).into_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Consumer;

    fn status() -> GetStatusResponse {
        GetStatusResponse {
            frontier_id: 120,
            head_id: 123,
            version: "0.1.0".to_owned(),
            database: "sqlite".to_owned(),
            replica_id: "r1".to_owned(),
            held_id: 121,
            held_for: Some(prost_types::Duration {
                seconds: 192,
                nanos: 0,
            }),
            blockers: vec![Blocker {
                session: "4711".to_owned(),
                client: "psql\x1b[2J".to_owned(),
                age: None,
                prepared: false,
            }],
            slowest_consumer: Some(Consumer {
                component: "CACHE".to_owned(),
                user: "local".to_owned(),
                ..Consumer::default()
            }),
            ..GetStatusResponse::default()
        }
    }

    #[test]
    fn people_see_what_holds_events_up() {
        let (mut output, shown) = Output::captured(false);
        show(&status(), &mut output).unwrap();
        output.flush().unwrap();
        let text = shown.results();
        for part in [
            "frontier               120",
            "4711",
            "waits for ID 121, seen for 3m 12s",
            "local:CACHE",
            "psql\u{fffd}[2J",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(!text.contains("PROBLEM:"));
    }

    #[test]
    fn programs_get_one_object() {
        let (mut output, shown) = Output::captured(true);
        show(&status(), &mut output).unwrap();
        output.flush().unwrap();
        let value: serde_json::Value = serde_json::from_str(shown.results().trim_end()).unwrap();
        assert_eq!(value["frontier_id"], "120");
        assert_eq!(value["slowest_consumer"]["component"], "CACHE");
        assert_eq!(value["blockers"][0]["session"], "4711");
    }
}
