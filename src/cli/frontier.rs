//! `eventstream frontier`: the last resort when a transaction that holds events
//! back cannot be ended.

use std::io;

use clap::Subcommand;

use super::{
    connect::{Target, call},
    failure::{Failure, help},
    output::{Format, Output},
    status::blockers,
    views::SkipView,
};
use crate::proto::{SkipFrontierRequest, SkipFrontierResponse};

#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, after_help = help(
    "  eventstream frontier skip --to 120 --i-accept-loss --reason 'OPS-7: hung batch job'",
))]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    shared: Shared,
}

// Given before or after the action, whichever comes to mind.
#[derive(Debug, clap::Args)]
struct Shared {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Let events pass IDs that an open transaction may own; those events are LOST
    #[command(
        long_about = "Let events pass IDs that an open transaction may own.\n\n\
            Try to end the transaction first: `eventstream status` names it. What is visible up to \
            the ID is delivered in order; what is not is LOST for every consumer, also if it is \
            committed later. Every replica obeys, for good. On SQLite nothing can hold events \
            back, and there is nothing to skip.",
        after_help = help("  eventstream frontier skip --to 120 --i-accept-loss"),
    )]
    Skip {
        /// The last ID to pass: above the frontier, at most the highest ID given out
        #[arg(long, value_name = "ID")]
        to: i64,
        /// Say that you know that events are lost
        #[arg(long, required = true)]
        i_accept_loss: bool,
        /// Why, for the log and for whoever looks later
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
    },
}

impl Args {
    pub(super) fn format(&self) -> Format {
        self.shared.format
    }
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let Action::Skip {
        to,
        i_accept_loss,
        reason,
    } = &args.action;
    let server = args.shared.target.connect().await?;
    let request = SkipFrontierRequest {
        to: *to,
        accept_loss: *i_accept_loss,
        reason: reason.clone(),
    };
    let response = server.admin().skip_frontier(call(request)).await?;
    show(*to, &response.into_inner(), output).map_err(Failure::Output)
}

fn show(to: i64, skipped: &SkipFrontierResponse, output: &mut Output) -> io::Result<()> {
    if output.is_json() {
        return output.object(&SkipView::of(skipped));
    }
    output.line(format_args!(
        "the frontier went from {} to {}",
        skipped.frontier_before_id, skipped.frontier_after_id
    ))?;
    if skipped.frontier_after_id < to {
        output.note("the skip is recorded and will be obeyed; this replica has not yet");
    }
    if !skipped.blockers.is_empty() {
        output.line("\nTransactions that were open; what they commit up to there is lost:")?;
        blockers(&skipped.blockers, output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Blocker;

    fn skipped() -> SkipFrontierResponse {
        SkipFrontierResponse {
            frontier_before_id: 4,
            frontier_after_id: 7,
            blockers: vec![Blocker {
                session: "4711".to_owned(),
                ..Blocker::default()
            }],
        }
    }

    #[test]
    fn people_see_what_was_given_up() {
        let (mut output, shown) = Output::captured(false);
        show(9, &skipped(), &mut output).unwrap();
        output.flush().unwrap();
        let text = shown.results();
        assert!(
            text.contains("from 4 to 7") && text.contains("4711"),
            "{text}"
        );
        assert!(shown.notes().contains("will be obeyed"));
    }

    #[test]
    fn programs_get_one_object() {
        let (mut output, shown) = Output::captured(true);
        show(7, &skipped(), &mut output).unwrap();
        output.flush().unwrap();
        let value: serde_json::Value = serde_json::from_str(shown.results().trim_end()).unwrap();
        assert_eq!(value["frontier_after_id"], "7");
        assert_eq!(value["blockers"][0]["session"], "4711");
    }
}
