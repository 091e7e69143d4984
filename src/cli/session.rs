//! A push session that prints: opened, followed, opened again after a loss.
//!
//! An event is acknowledged only after it was printed and flushed; printing goes
//! on meanwhile, and the next acknowledgement covers it. Whatever ends a session, the next one starts where printing ended or earlier, never
//! later. Dropping [`Tail::run`] at any await loses nothing but an
//! acknowledgement.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::{select, time};
use tonic::Streaming;

use super::{
    connect::{Server, call_within},
    failure::Failure,
    output::{Output, plain},
    poll::LIVE,
    retry::Backoff,
    values,
};
use crate::proto::{
    AckRequest, EventGroup, ReadyToReceiveRequest, ReadyToReceiveResponse, SubscriptionStarted,
    ready_to_receive_response::Payload,
};

/// Asked of the server; `started` says what is in force.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A peer that is silent for so many heartbeats is dead.
const SILENT_HEARTBEATS: u32 = 3;
/// Never less, however often heartbeats come: a busy network is not dead.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
/// A session that has not started by then is told to the person waiting.
const STAND_BY_NOTICE: Duration = Duration::from_secs(2);
const ACK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Tail<'a> {
    server: Server,
    request: ReadyToReceiveRequest,
    output: &'a mut Output,
    /// Events still to print, when there is a limit.
    remaining: Option<u64>,
    backoff: Backoff,
    /// Printed, flushed and not known to be acknowledged.
    unacknowledged: Option<AckRequest>,
}

/// An acknowledgement on its way: the id that it names, and the answer.
type Acking = Pin<Box<dyn Future<Output = (i64, Result<i64, Failure>)> + Send>>;

/// What is known of the session that is open.
struct Session {
    stream: Streaming<ReadyToReceiveResponse>,
    /// Unknown until `started`.
    epoch: Option<i64>,
    next_seq: i64,
    patience: Duration,
    standing_by: bool,
}

impl<'a> Tail<'a> {
    pub(super) fn new(
        server: Server,
        request: ReadyToReceiveRequest,
        count: Option<u64>,
        output: &'a mut Output,
    ) -> Self {
        let request = ReadyToReceiveRequest {
            heartbeat_interval: Some(values::proto_duration(HEARTBEAT)),
            ..request
        };
        Self {
            server,
            request,
            output,
            remaining: count,
            backoff: Backoff::new(),
            unacknowledged: None,
        }
    }

    /// Until the count is reached, `interrupt` resolves, or an error that
    /// trying again does not cure.
    pub(super) async fn run(&mut self, interrupt: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::pin!(interrupt);
        loop {
            let failure = select! {
                () = &mut interrupt => return self.stop().await,
                ended = self.session() => match ended {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
            };
            let Some(wait) = self.backoff.after(&failure) else {
                return Err(failure);
            };
            self.output.note(format_args!(
                "eventstream: {failure}; reconnecting in {:.1} s",
                wait.as_secs_f64()
            ));
            select! {
                () = &mut interrupt => return self.stop().await,
                () = time::sleep(wait) => {}
            }
        }
    }

    fn is_live(&self) -> bool {
        self.request.component == LIVE
    }

    /// One session, to its end. `Ok` when everything asked for was printed.
    async fn session(&mut self) -> Result<(), Failure> {
        // Only where the last session ended before its acknowledgement; an
        // event is not asked for twice without need.
        self.acknowledge().await?;
        if self.remaining == Some(0) {
            return Ok(());
        }
        let mut session = self.open().await?;
        let mut acking: Option<Acking> = None;
        loop {
            let message = select! {
                biased;
                (last_id, acked_id) = answered(&mut acking) => {
                    self.acknowledged(last_id, acked_id?);
                    acking = self.acking();
                    continue;
                }
                message = self.next(&mut session) => message?,
            };
            match message {
                Some(Payload::Started(started)) => self.started(&mut session, &started),
                Some(Payload::Group(group)) => {
                    self.group(&mut session, &group)?;
                    acking = acking.or_else(|| self.acking());
                }
                Some(Payload::Heartbeat(_)) if session.epoch.is_none() => {
                    self.stand_by(&mut session);
                }
                Some(Payload::Heartbeat(_)) => self.backoff.reset(),
                // What is not acknowledged yet is before the next session.
                Some(Payload::Ending(ending)) => {
                    let reason = plain(&ending.reason).into_owned();
                    return Err(Failure::Broken(format!(
                        "the server ends the session: {reason}"
                    )));
                }
                // A kind of message that is newer than this program.
                None => {}
            }
            if self.remaining == Some(0) {
                if acking.is_some() {
                    let (last_id, acked_id) = answered(&mut acking).await;
                    self.acknowledged(last_id, acked_id?);
                }
                return self.acknowledge().await;
            }
        }
    }

    async fn open(&self) -> Result<Session, Failure> {
        let patience = HEARTBEAT * SILENT_HEARTBEATS;
        let mut client = self.server.push();
        // The time-out is ours alone: a deadline of the call would be one of
        // the whole stream.
        let opened = time::timeout(patience, client.ready_to_receive(self.request.clone()));
        let stream = opened.await.map_err(|_| silent(patience))??.into_inner();
        Ok(Session {
            stream,
            epoch: None,
            next_seq: 0,
            patience,
            standing_by: false,
        })
    }

    async fn next(&mut self, session: &mut Session) -> Result<Option<Payload>, Failure> {
        let waits_for_start = session.epoch.is_none() && !session.standing_by;
        let notice = time::sleep(STAND_BY_NOTICE);
        let message = time::timeout(session.patience, session.stream.message());
        tokio::pin!(message, notice);
        let mut overdue = false;
        let received = select! {
            received = &mut message => received,
            () = notice, if waits_for_start => {
                overdue = true;
                if !self.is_live() {
                    self.note_stand_by();
                }
                message.await
            }
        };
        session.standing_by |= overdue;
        match received {
            Ok(Ok(Some(message))) => Ok(message.payload),
            Ok(Ok(None)) => Err(Failure::Broken("the server ended the session".to_owned())),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(silent(session.patience)),
        }
    }

    fn stand_by(&mut self, session: &mut Session) {
        if !session.standing_by && !self.is_live() {
            self.note_stand_by();
        }
        session.standing_by = true;
    }

    fn note_stand_by(&mut self) {
        let component = &self.request.component;
        self.output.note(format_args!(
            "eventstream: standing by while another session of {component} is open"
        ));
    }

    fn started(&mut self, session: &mut Session, started: &SubscriptionStarted) {
        session.epoch = Some(started.epoch);
        let heartbeat = started
            .heartbeat_interval
            .and_then(|it| Duration::try_from(it).ok());
        let patience = heartbeat
            .unwrap_or(HEARTBEAT)
            .saturating_mul(SILENT_HEARTBEATS);
        session.patience = patience.max(LEAST_PATIENCE);
        let after = started.start_after_id;
        if self.is_live() {
            // After a loss the observer goes on here, without a hole.
            self.request.start = Some(values::after(after));
        } else {
            let component = &self.request.component;
            self.output.note(format_args!(
                "eventstream: session of {component} started after ID {after}"
            ));
        }
    }

    fn group(&mut self, session: &mut Session, group: &EventGroup) -> Result<(), Failure> {
        let Some(epoch) = session.epoch else {
            return Err(Failure::Broken(
                "events came before the session started".to_owned(),
            ));
        };
        self.check_gap(session, group)?;
        let last_id = self.print(group)?;
        self.backoff.reset();
        if self.is_live() {
            self.request.start = Some(values::after(last_id));
            return Ok(());
        }
        self.unacknowledged = Some(AckRequest {
            component: self.request.component.clone(),
            last_id,
            epoch: Some(epoch),
        });
        Ok(())
    }

    /// A live observer that is too slow is told what it missed; a consumer
    /// must not miss anything, a new session starts at its position.
    fn check_gap(&mut self, session: &mut Session, group: &EventGroup) -> Result<(), Failure> {
        let missing = group.seq - session.next_seq;
        session.next_seq = group.seq + 1;
        if self.is_live() {
            match (group.skipped_events, missing) {
                (0, 0) => {}
                (0, groups) => self.skipped(groups, "groups of events"),
                (events, _) => self.skipped(events, "events"),
            }
            return Ok(());
        }
        if missing != 0 {
            return Err(Failure::Broken(format!(
                "group {} came out of turn",
                group.seq
            )));
        }
        Ok(())
    }

    fn skipped(&mut self, count: i64, what: &str) {
        self.output.note(format_args!(
            "eventstream: {count} {what} skipped, reading was too slow (--after ID replays)"
        ));
    }

    /// Prints and flushes; returns what that covers.
    fn print(&mut self, group: &EventGroup) -> Result<i64, Failure> {
        let mut covered = group.last_id;
        for event in &group.events {
            self.output.event(event).map_err(Failure::Output)?;
            if let Some(remaining) = &mut self.remaining {
                *remaining = remaining.saturating_sub(1);
                if *remaining == 0 {
                    covered = event.id;
                    break;
                }
            }
        }
        self.output.flush().map_err(Failure::Output)?;
        Ok(covered)
    }

    /// Begins to acknowledge what was printed, if that is still to be done.
    fn acking(&self) -> Option<Acking> {
        let request = self.unacknowledged.clone()?;
        let last_id = request.last_id;
        let mut client = self.server.push();
        Some(Box::pin(async move {
            let answer = client.ack(call_within(request, ACK_TIMEOUT)).await;
            let acked_id = answer.map(|answer| answer.into_inner().acked_id);
            (last_id, acked_id.map_err(Failure::from))
        }))
    }

    fn acknowledged(&mut self, last_id: i64, acked_id: i64) {
        self.unacknowledged
            .take_if(|request| request.last_id == last_id);
        // Below the stored position this is a replay, which a new session must
        // ask for again; otherwise the stored position is the place to go on.
        self.request.start = (acked_id > last_id).then(|| values::after(last_id));
    }

    /// Until all that was printed is acknowledged.
    async fn acknowledge(&mut self) -> Result<(), Failure> {
        if let Some(acking) = self.acking() {
            let (last_id, acked_id) = acking.await;
            self.acknowledged(last_id, acked_id?);
        }
        Ok(())
    }

    /// Ends on request: what was printed is acknowledged, or comes again.
    async fn stop(&mut self) -> Result<(), Failure> {
        if let Err(failure) = self.acknowledge().await {
            self.output.note(format_args!(
                "eventstream: the last events printed were not acknowledged and will come \
                 again: {failure}"
            ));
        }
        Ok(())
    }
}

/// Never, if nothing is on its way.
async fn answered(acking: &mut Option<Acking>) -> (i64, Result<i64, Failure>) {
    match acking {
        Some(acking) => acking.await,
        None => std::future::pending().await,
    }
}

fn silent(patience: Duration) -> Failure {
    Failure::Broken(format!(
        "no sign of life from the server for {} s",
        patience.as_secs()
    ))
}
