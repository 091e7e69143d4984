//! The generated messages and server traits, and what makes errors of them.

pub(crate) use generated::{
    AckRequest, AckResponse, Consumer, Event, EventGroup, Heartbeat, PollEventsRequest,
    PollEventsResponse, ReadyToReceiveRequest, ReadyToReceiveResponse, RegisterConsumerRequest,
    RegisterConsumerResponse, StartAt, SubscriptionEnding, SubscriptionStarted, poll_service_server,
    push_service_server, ready_to_receive_response::Payload, start_at::At,
};

#[allow(
    clippy::allow_attributes,
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]
mod generated {
    tonic::include_proto!("futoin.evt.v1");
}
