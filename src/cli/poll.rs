//! `eventstream poll`: pages of a consumer's events.
//!
//! A page acknowledges the one before it, so with `--follow` an event is
//! acknowledged only after it was printed and flushed.

use std::{future::Future, time::Duration};

use tokio::{select, time};

use super::{
    connect::{CALL_TIMEOUT, Server, Target, call, call_within},
    failure::{Failure, help},
    interrupt,
    output::{Format, Output},
    retry::Backoff,
    values,
};
use crate::proto::{AckRequest, PollEventsRequest, RegisterConsumerRequest};

/// The unregistered reader of FTN18; nothing is stored for it.
pub(super) const LIVE: &str = "LIVE";

const FOLLOW_WAIT: Duration = Duration::from_secs(30);
/// Between pages that brought nothing, should the server not wait itself.
const IDLE_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = help(concat!(
    "  eventstream poll CACHE --register            from the stored position\n",
    "  eventstream poll CACHE --last-id 120         acknowledge to 120, read on\n",
    "  eventstream poll CACHE --follow --json | ./process\n",
    "  eventstream poll LIVE --last-id 0 --want ORDER_NEW,ORDER_PAID --max 1000",
)))]
pub struct Args {
    /// Consumer to read as; LIVE needs no registration and stores nothing
    pub(super) component: String,
    /// Last ID that was processed: acknowledges up to it and reads after it
    #[arg(long, value_name = "ID", value_parser = values::id)]
    last_id: Option<i64>,
    /// Only these event types
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = values::event_type)]
    want: Vec<String>,
    /// At most this many events a page
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    max: Option<i32>,
    /// Wait this long for a first event, for instance 5s
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    wait: Option<Duration>,
    /// Register the consumer first; repeating it is fine
    #[arg(long)]
    register: bool,
    /// Go on with the next page until ctrl-c, acknowledging what was printed
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pub(super) format: Format,
}

pub(super) async fn run(args: &Args, output: &mut Output) -> Result<(), Failure> {
    let server = args.target.connect().await?;
    if args.register && args.component != LIVE {
        let request = RegisterConsumerRequest {
            component: args.component.clone(),
            start: None,
        };
        server.poll().register_consumer(call(request)).await?;
    }
    let mut poller = Poller::new(server, args);
    if args.follow {
        return poller.follow(interrupt::requested(), output).await;
    }
    let page = poller.page(output).await?;
    let more = if page.more { "; more are ready" } else { "" };
    output.note(format_args!("next: --last-id {}{more}", page.last_id));
    Ok(())
}

pub(super) struct Poller<'a> {
    server: Server,
    args: &'a Args,
    last_id: Option<i64>,
    epoch: Option<i64>,
    /// True while `last_id` covers events that were only printed.
    unacknowledged: bool,
}

struct Page {
    last_id: i64,
    more: bool,
    advanced: bool,
}

impl<'a> Poller<'a> {
    pub(super) fn new(server: Server, args: &'a Args) -> Self {
        Self {
            server,
            args,
            last_id: args.last_id,
            epoch: None,
            unacknowledged: false,
        }
    }

    pub(super) async fn follow(
        &mut self,
        interrupt: impl Future<Output = ()>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        tokio::pin!(interrupt);
        let mut backoff = Backoff::new();
        loop {
            let page = select! {
                () = &mut interrupt => return self.stop(output).await,
                page = self.page(output) => page,
            };
            let pause = match page {
                Ok(page) if page.more || page.advanced => {
                    backoff.reset();
                    continue;
                }
                Ok(_) => IDLE_PAUSE,
                Err(failure) => match backoff.after(&failure) {
                    Some(wait) => {
                        output.note(format_args!("eventstream: {failure}; trying again"));
                        wait
                    }
                    None => return Err(failure),
                },
            };
            select! {
                () = &mut interrupt => return self.stop(output).await,
                () = time::sleep(pause) => {}
            }
        }
    }

    /// Reads and prints one page. Until it returns, nothing of it counts.
    async fn page(&mut self, output: &mut Output) -> Result<Page, Failure> {
        let wait = match (self.args.wait, self.args.follow) {
            (Some(wait), _) => Some(wait),
            (None, true) => Some(FOLLOW_WAIT),
            (None, false) => None,
        };
        let request = PollEventsRequest {
            component: self.args.component.clone(),
            last_id: self.last_id,
            want: values::want(&self.args.want),
            max_events: self.args.max.unwrap_or(0),
            max_bytes: 0,
            max_wait: wait.map(values::proto_duration),
            epoch: self.epoch,
            start: None,
        };
        let limit = CALL_TIMEOUT + wait.unwrap_or_default();
        let response = self
            .server
            .poll()
            .poll_events(call_within(request, limit))
            .await?;
        let page = response.into_inner();
        for event in &page.events {
            output.event(event).map_err(Failure::Output)?;
        }
        output.flush().map_err(Failure::Output)?;
        let advanced = self.last_id != Some(page.last_id);
        self.last_id = Some(page.last_id);
        self.epoch = (self.args.component != LIVE).then_some(page.epoch);
        self.unacknowledged = !page.events.is_empty();
        Ok(Page {
            last_id: page.last_id,
            more: page.more,
            advanced,
        })
    }

    /// Acknowledges what was printed last; its loss only repeats that.
    async fn stop(&mut self, output: &mut Output) -> Result<(), Failure> {
        let (true, Some(epoch), Some(last_id)) = (self.unacknowledged, self.epoch, self.last_id)
        else {
            return Ok(());
        };
        let request = AckRequest {
            component: self.args.component.clone(),
            last_id,
            epoch: Some(epoch),
        };
        if let Err(status) = self.server.push().ack(call(request)).await {
            let failure = Failure::from(status);
            output.note(format_args!(
                "eventstream: the last page was not acknowledged and will come again: {failure}"
            ));
        }
        Ok(())
    }
}
