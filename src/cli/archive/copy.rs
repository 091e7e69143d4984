//! The archiver over gRPC: a consumer that acknowledges what a warehouse has
//! committed. Whatever ends a session, the next one starts where the warehouse
//! ends; what comes again is known by its ids.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{select, time};
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use super::super::{
    connect::{Server, Target, call},
    failure::Failure,
    output::Output,
    retry::Backoff,
    values,
};
use crate::{
    event::{self, EventId, Moment},
    proto::{
        AckRequest, ConflictPolicy, Event, EventGroup, GetStatusRequest, ReadyToReceiveRequest,
        ReadyToReceiveResponse, RegisterConsumerRequest, ready_to_receive_response::Payload,
    },
    store::history::{Batch, Warehouse, deposit, ledger::RANGE_EVENTS},
};

const HEARTBEAT: Duration = Duration::from_secs(10);
/// A peer that is silent for so long is dead.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of one group, and so of one transaction.
const GROUP_BYTES: i32 = 4 << 20;

pub(super) struct Copy<'a> {
    target: Target,
    warehouse: Arc<dyn Warehouse>,
    component: &'a str,
    batch_events: i32,
    output: &'a mut Output,
    backoff: Backoff,
}

impl<'a> Copy<'a> {
    pub(super) fn new(
        target: Target,
        warehouse: Arc<dyn Warehouse>,
        component: &'a str,
        batch_events: i32,
        output: &'a mut Output,
    ) -> Self {
        Self {
            target,
            warehouse,
            component,
            batch_events,
            output,
            backoff: Backoff::new(),
        }
    }

    /// Until `interrupt` resolves, or an error that trying again does not cure.
    pub(super) async fn run(&mut self, interrupt: impl Future<Output = ()>) -> Result<(), Failure> {
        tokio::pin!(interrupt);
        loop {
            let failure = select! {
                () = &mut interrupt => return Ok(()),
                ended = self.session() => match ended {
                    Ok(()) => return Ok(()),
                    Err(failure) => failure,
                },
            };
            let Some(wait) = self.backoff.after(&failure) else {
                return Err(failure);
            };
            self.output.note(format_args!(
                "eventstream: {failure}; trying again in {:.1} s",
                wait.as_secs_f64()
            ));
            select! {
                () = &mut interrupt => return Ok(()),
                () = time::sleep(wait) => {}
            }
        }
    }

    async fn session(&mut self) -> Result<(), Failure> {
        let server = self.target.connect().await?;
        let mut stream = self.open(&server).await?;
        let mut session: Option<(i64, EventId)> = None;
        loop {
            match next(&mut stream).await? {
                Some(Payload::Started(started)) => {
                    let after = EventId::stored(started.start_after_id);
                    self.output.note(format_args!(
                        "eventstream: archiving what follows ID {after}"
                    ));
                    session = Some((started.epoch, after));
                }
                Some(Payload::Group(group)) => {
                    let Some((epoch, after)) = &mut session else {
                        return Err(Failure::Broken(
                            "events came before the session started".to_owned(),
                        ));
                    };
                    *after = self.store(&server, *after, *epoch, group).await?;
                    self.backoff.reset();
                }
                Some(Payload::Ending(_)) => {
                    return Err(Failure::Broken("the server ends the session".to_owned()));
                }
                Some(Payload::Heartbeat(_)) | None => {}
            }
        }
    }

    /// A session that starts where the warehouse ends.
    async fn open(
        &mut self,
        server: &Server,
    ) -> Result<Streaming<ReadyToReceiveResponse>, Failure> {
        let register = RegisterConsumerRequest {
            component: self.component.to_owned(),
            start: None,
        };
        let registered = server.poll().register_consumer(call(register)).await?;
        let consumer = registered.into_inner().consumer.unwrap_or_default();
        let position = EventId::stored(consumer.position);
        let stock = usize::try_from(RANGE_EVENTS).unwrap_or(usize::MAX);
        while self.warehouse.take_stock(position, stock).await? > 0 {}
        let archived = self
            .warehouse
            .extent()
            .await?
            .map_or(0, |ends| ends.last.get());
        let status = server.admin().get_status(call(GetStatusRequest {})).await?;
        let head = status.into_inner().head_id;
        if archived > head {
            return Err(Failure::Rejected(format!(
                "the archive has IDs up to {archived}, the server only up to {head}: its database \
                 was restored, or the warehouse is another stream's"
            )));
        }
        let mut start = (archived < consumer.position).then_some(archived);
        loop {
            let request = ReadyToReceiveRequest {
                component: self.component.to_owned(),
                start: start.map(values::after),
                max_group_events: self.batch_events,
                max_group_bytes: GROUP_BYTES,
                heartbeat_interval: Some(values::proto_duration(HEARTBEAT)),
                conflict_policy: ConflictPolicy::StandBy.into(),
                client_label: "eventstream archive".to_owned(),
                ..ReadyToReceiveRequest::default()
            };
            let mut client = server.push();
            let opened = time::timeout(PATIENCE, client.ready_to_receive(request)).await;
            let refused = match opened.map_err(|_| silent())? {
                Ok(stream) => return Ok(stream.into_inner()),
                Err(refused) => refused,
            };
            let Some(oldest) = start.and_then(|_| oldest_kept(&refused)) else {
                return Err(refused.into());
            };
            self.output.note(format_args!(
                "eventstream: the archive ends at ID {archived}, the server keeps what follows ID \
                 {oldest}: what is between is in neither"
            ));
            start = (oldest < consumer.position).then_some(oldest);
        }
    }

    /// Stores a group and acknowledges it; returns where it ends.
    async fn store(
        &self,
        server: &Server,
        after: EventId,
        epoch: i64,
        group: EventGroup,
    ) -> Result<EventId, Failure> {
        let mut batch = Batch::new(after);
        batch.extend(
            EventId::stored(group.last_id),
            group.events.into_iter().map(event),
        );
        let done = deposit(&*self.warehouse, &batch).await?;
        if done.through > after {
            let ack = AckRequest {
                component: self.component.to_owned(),
                last_id: done.through.get(),
                epoch: Some(epoch),
            };
            server.push().ack(call(ack)).await?;
        }
        match done.rejection {
            None => Ok(done.through),
            Some(rejection) => Err(Failure::Rejected(rejection.to_string())),
        }
    }
}

async fn next(stream: &mut Streaming<ReadyToReceiveResponse>) -> Result<Option<Payload>, Failure> {
    let message = time::timeout(PATIENCE, stream.message()).await;
    let message = message.map_err(|_| silent())??;
    let ended = || Failure::Broken("the server ended the session".to_owned());
    Ok(message.ok_or_else(ended)?.payload)
}

fn silent() -> Failure {
    Failure::Broken(format!(
        "no sign of life from the server for {} s",
        PATIENCE.as_secs()
    ))
}

/// Where reading can start, from a refusal that says so.
fn oldest_kept(refused: &tonic::Status) -> Option<i64> {
    if refused.code() != Code::OutOfRange {
        return None;
    }
    let metadata = refused.get_details_error_info()?.metadata;
    metadata.get("oldest_after_id")?.parse().ok()
}

fn event(event: Event) -> event::Event {
    let millis = |ts: prost_types::Timestamp| ts.seconds * 1000 + i64::from(ts.nanos / 1_000_000);
    event::Event {
        id: EventId::stored(event.id),
        kind: event.r#type.into(),
        data: event.data_json.into(),
        ts: event.ts.map(|ts| Moment::from_unix_millis(millis(ts))),
        fault: None,
    }
}
