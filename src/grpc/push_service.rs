//! `PushService`: push with acknowledgement.

use std::pin::Pin;

use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::{
    Front, caller, fields, meter, server::push_service_server::PushService,
    wire::ReadyToReceiveResponse,
};
use crate::{
    auth::Supervised,
    error::Error,
    event::Moment,
    limits,
    proto::{
        AckRequest, AckResponse, ConflictPolicy, Heartbeat, ReadyToReceiveRequest,
        SubscriptionEnding, SubscriptionStarted, ready_to_receive_response::Payload,
    },
    stream::{Conflict, Delivery, PushLimits, Started, Subscribe},
};

type Messages = Pin<Box<dyn Stream<Item = Result<ReadyToReceiveResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PushService for Front {
    type ReadyToReceiveStream = Messages;

    async fn ready_to_receive(
        &self,
        request: Request<ReadyToReceiveRequest>,
    ) -> Result<Response<Messages>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let subscribe = Subscribe {
            user: caller.user.clone(),
            component: fields::component(&request.component)?,
            limits: self.push_limits(&request)?,
            conflict: conflict(request.conflict_policy)?,
            label: fields::label(&request.client_label)?,
            start: fields::start("start", request.start)?,
            want: fields::want(request.want)?,
        };
        let subscription = self.gate.subscribe(&caller, subscribe).await?;
        Ok(Response::new(Box::pin(messages(subscription))))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let component = fields::component(&request.component)?;
        if component.is_live() {
            return Err(Error::invalid("component", "LIVE has nothing to acknowledge").into());
        }
        let last_id = fields::id("last_id", request.last_id)?;
        let position = self
            .gate
            .ack(&caller, component, last_id, request.epoch)
            .await?;
        Ok(Response::new(AckResponse {
            acked_id: position.get(),
        }))
    }
}

impl Front {
    fn push_limits(&self, request: &ReadyToReceiveRequest) -> Result<PushLimits, Error> {
        let settings = self.gate.settings();
        let defaults = settings.push;
        let heartbeat = fields::wait(
            "heartbeat_interval",
            request.heartbeat_interval,
            defaults.heartbeat,
            limits::MAX_HEARTBEAT,
        )?;
        Ok(PushLimits {
            in_flight_events: fields::bound(
                "max_in_flight_events",
                request.max_in_flight_events,
                defaults.in_flight_events,
                settings.max_in_flight_events,
            )?,
            in_flight_bytes: fields::bound(
                "max_in_flight_bytes",
                request.max_in_flight_bytes,
                defaults.in_flight_bytes,
                limits::MAX_IN_FLIGHT_BYTES,
            )?,
            group_events: fields::bound(
                "max_group_events",
                request.max_group_events,
                defaults.group_events,
                limits::MAX_GROUP_EVENTS,
            )?,
            group_bytes: fields::bound(
                "max_group_bytes",
                request.max_group_bytes,
                defaults.group_bytes,
                limits::MAX_GROUP_BYTES,
            )?,
            linger: fields::wait(
                "max_linger",
                request.max_linger,
                defaults.linger,
                limits::MAX_LINGER,
            )?,
            heartbeat: heartbeat.max(limits::MIN_HEARTBEAT),
        })
    }
}

fn conflict(raw: i32) -> Result<Conflict, Error> {
    match ConflictPolicy::try_from(raw) {
        Ok(ConflictPolicy::Unspecified | ConflictPolicy::TakeOver) => Ok(Conflict::TakeOver),
        Ok(ConflictPolicy::Reject) => Ok(Conflict::Reject),
        Ok(ConflictPolicy::StandBy) => Ok(Conflict::StandBy),
        Err(_) => Err(Error::invalid(
            "conflict_policy",
            "must be a known value of ConflictPolicy",
        )),
    }
}

/// Driven by the connection: what the client does not take is not made.
fn messages(
    subscription: Supervised,
) -> impl Stream<Item = Result<ReadyToReceiveResponse, Status>> + Send {
    futures_util::stream::unfold(subscription, async |mut subscription| {
        let message = subscription
            .next()
            .await?
            .map(|delivery| message(&delivery));
        let message = message
            .map_err(Status::from)
            .inspect_err(meter::stream_ended);
        Some((message, subscription))
    })
}

fn message(delivery: &Delivery) -> ReadyToReceiveResponse {
    let payload = match delivery {
        Delivery::Group(group) => return ReadyToReceiveResponse::Group(group.into()),
        Delivery::Started(begun) => Payload::Started(started(begun)),
        Delivery::Heartbeat {
            frontier,
            caught_up,
        } => Payload::Heartbeat(Heartbeat {
            frontier_id: frontier.get(),
            caught_up: *caught_up,
            server_time: Some(fields::timestamp(Moment::now())),
        }),
        Delivery::Ending { grace } => Payload::Ending(SubscriptionEnding {
            grace: Some(fields::duration(*grace)),
            reason: "the server is shutting down".into(),
        }),
    };
    ReadyToReceiveResponse::Other(crate::proto::ReadyToReceiveResponse {
        payload: Some(payload),
    })
}

fn started(started: &Started) -> SubscriptionStarted {
    let limits = &started.limits;
    SubscriptionStarted {
        session_id: started.session.to_string(),
        epoch: started.epoch,
        start_after_id: started.start_after.get(),
        max_in_flight_events: i32::try_from(limits.in_flight_events).unwrap_or(i32::MAX),
        max_in_flight_bytes: i64::try_from(limits.in_flight_bytes).unwrap_or(i64::MAX),
        heartbeat_interval: Some(fields::duration(limits.heartbeat)),
    }
}
