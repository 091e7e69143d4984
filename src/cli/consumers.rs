//! `eventstream consumers`: registrations and their positions.

use std::io::{self, BufRead, IsTerminal};

use clap::Subcommand;
use serde_json::json;

use super::{
    connect::{Server, Target, call},
    failure::{Failure, help},
    output::{Format, Output},
    values,
};
use crate::proto::{
    ListConsumersRequest, RegisterConsumerRequest, SeekConsumerRequest, StartAt,
    UnregisterConsumerRequest,
};

#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, after_help = help(concat!(
    "  eventstream consumers list\n",
    "  eventstream consumers register CACHE --start now\n",
    "  eventstream consumers seek CACHE --to 2026-11-01T00:00Z\n",
    "  eventstream consumers unregister CACHE --yes",
)))]
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
    /// Show the consumers, how far behind they are, and who is connected
    #[command(after_help = help("  eventstream consumers list\n  \
        eventstream consumers list --json | jq -r .component"))]
    List,
    /// Register a consumer, so that it misses nothing from now on
    #[command(after_help = help("  eventstream consumers register CACHE\n  \
        eventstream consumers register CACHE --start now"))]
    Register {
        /// Its name: 1 to 16 of A-Z, a-z, 0-9 and _
        component: String,
        /// Where a new one starts: oldest, now, an ID or a time; an existing
        /// one keeps its position
        #[arg(long, value_name = "PLACE", value_parser = values::place)]
        start: Option<StartAt>,
    },
    /// Forget a consumer and its position, so that it holds no events back
    #[command(after_help = help("  eventstream consumers unregister CACHE\n  \
        eventstream consumers unregister CACHE --user web --yes"))]
    Unregister {
        /// Which consumer
        component: String,
        /// Owner, when it is not yourself (needs the administer right)
        #[arg(
            long,
            value_name = "USER",
            default_value = "",
            hide_default_value = true
        )]
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Move a consumer's position, back too; ends its session
    #[command(after_help = help("  eventstream consumers seek CACHE --to oldest       replay all\n  \
        eventstream consumers seek CACHE --to 120          go on after ID 120\n  \
        eventstream consumers seek CACHE --to now          skip what is waiting"))]
    Seek {
        /// Which consumer
        component: String,
        /// The new position: oldest, now, an ID or a time
        #[arg(long, value_name = "PLACE", value_parser = values::place)]
        to: StartAt,
        /// Owner, when it is not yourself (needs the administer right)
        #[arg(
            long,
            value_name = "USER",
            default_value = "",
            hide_default_value = true
        )]
        user: String,
    },
}

impl Args {
    pub(super) fn format(&self) -> Format {
        self.shared.format
    }

    pub(super) fn component(&self) -> Option<&str> {
        match &self.action {
            Action::List => None,
            Action::Register { component, .. }
            | Action::Unregister { component, .. }
            | Action::Seek { component, .. } => Some(component),
        }
    }
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    if let Action::Unregister { component, yes, .. } = &args.action
        && !yes
    {
        confirm(component, output)?;
    }
    let server = args.shared.target.connect().await?;
    match &args.action {
        Action::List => list(&server, output).await,
        Action::Register { component, start } => register(&server, component, *start, output).await,
        Action::Unregister {
            component, user, ..
        } => unregister(&server, component, user, output).await,
        Action::Seek {
            component,
            to,
            user,
        } => {
            let request = SeekConsumerRequest {
                component: component.clone(),
                user: user.clone(),
                start: Some(*to),
            };
            let response = server
                .admin()
                .seek_consumer(call(request))
                .await?
                .into_inner();
            output
                .consumers(response.consumer.as_slice())
                .map_err(Failure::Output)
        }
    }
}

async fn list(server: &Server, output: &mut Output) -> Result<(), Failure> {
    let mut consumers = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListConsumersRequest {
            page_size: 0,
            page_token,
        };
        let page = server
            .admin()
            .list_consumers(call(request))
            .await?
            .into_inner();
        consumers.extend(page.consumers);
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
    }
    if consumers.is_empty() {
        output.note("no consumer is registered");
    }
    output.consumers(&consumers).map_err(Failure::Output)
}

async fn register(
    server: &Server,
    component: &str,
    start: Option<StartAt>,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = RegisterConsumerRequest {
        component: component.to_owned(),
        start,
    };
    let response = server
        .poll()
        .register_consumer(call(request))
        .await?
        .into_inner();
    if !response.created {
        output.note(format_args!(
            "{component} was registered before and keeps its position"
        ));
    }
    output
        .consumers(response.consumer.as_slice())
        .map_err(Failure::Output)
}

async fn unregister(
    server: &Server,
    component: &str,
    user: &str,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = UnregisterConsumerRequest {
        component: component.to_owned(),
        user: user.to_owned(),
    };
    server.admin().unregister_consumer(call(request)).await?;
    let written = if output.is_json() {
        output.object(&json!({ "component": component, "unregistered": true }))
    } else {
        output.line(format_args!("{component} is unregistered"))
    };
    written.map_err(Failure::Output)
}

/// Events that only this consumer held back may be discarded at once, so a
/// person is asked and a script must say it.
fn confirm(component: &str, output: &mut Output) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "unregistering forgets the position for good; confirm with --yes".to_owned(),
        ));
    }
    output.note(format_args!(
        "{component} will be forgotten with its position. Unregister it? [y/N]"
    ));
    let mut answer = String::new();
    stdin
        .lock()
        .read_line(&mut answer)
        .map_err(Failure::Input)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Usage("nothing was changed".to_owned())),
    }
}
