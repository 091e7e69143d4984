//! `PollService`: registration and polling.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::{
    Front, admin_service::consumer, caller, fields, server::poll_service_server::PollService,
    wire::PollEventsResponse,
};
use crate::{
    error::Error,
    limits,
    proto::{PollEventsRequest, RegisterConsumerRequest, RegisterConsumerResponse},
    stream::Poll,
};

#[tonic::async_trait]
impl PollService for Front {
    async fn register_consumer(
        &self,
        request: Request<RegisterConsumerRequest>,
    ) -> Result<Response<RegisterConsumerResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let component = fields::component(&request.component)?;
        let start = fields::start("start", request.start)?;
        let (state, created) = self.gate.register(&caller, component, start).await?;
        let consumer = Some(consumer(&state));
        Ok(Response::new(RegisterConsumerResponse {
            consumer,
            created,
        }))
    }

    async fn poll_events(
        &self,
        request: Request<PollEventsRequest>,
    ) -> Result<Response<PollEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let last_id = request
            .last_id
            .map(|raw| fields::boundary("last_id", raw))
            .transpose()?;
        let component = fields::component(&request.component)?;
        let start = fields::start("start", request.start)?;
        if start.is_some() && (last_id.is_some() || !component.is_live()) {
            let rule = "is for LIVE without a last_id; SeekConsumer moves a position";
            return Err(Error::invalid("start", rule).into());
        }
        let poll = Poll {
            user: caller.user.clone(),
            component,
            last_id,
            start,
            want: fields::want(request.want)?,
            max_events: fields::bound(
                "max_events",
                request.max_events,
                limits::MAX_GROUP_EVENTS,
                limits::MAX_GROUP_EVENTS,
            )?,
            max_bytes: fields::bound(
                "max_bytes",
                request.max_bytes,
                limits::DEFAULT_GROUP_BYTES,
                limits::MAX_GROUP_BYTES,
            )?,
            max_wait: fields::wait(
                "max_wait",
                request.max_wait,
                Duration::ZERO,
                limits::MAX_WAIT,
            )?,
            epoch: request.epoch,
        };
        let polled = self.gate.poll(&caller, poll).await?;
        Ok(Response::new((&polled).into()))
    }
}
