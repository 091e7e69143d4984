//! `AdminService`: the life of consumers and the state of the stream.

use tonic::{Request, Response, Status};

use super::{Front, caller, fields, server::admin_service_server::AdminService};
use crate::{
    error::Error,
    event::EventId,
    limits, proto,
    proto::{
        GetStatusRequest, GetStatusResponse, ListConsumersRequest, ListConsumersResponse,
        SeekConsumerRequest, SeekConsumerResponse, SkipFrontierRequest, SkipFrontierResponse,
        UnregisterConsumerRequest, UnregisterConsumerResponse,
    },
    store::{Blocker, Lease},
    stream::ConsumerState,
};

#[tonic::async_trait]
impl AdminService for Front {
    async fn get_status(
        &self,
        request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let status = self.gate.status(&caller(&request)?).await?;
        Ok(Response::new(GetStatusResponse {
            frontier_id: status.frontier.get(),
            head_id: status.bounds.head.get(),
            oldest_id: status.bounds.oldest.map_or(0, EventId::get),
            archived_id: status.archived.get(),
            blockers: status.blockers.into_iter().map(blocker).collect(),
            slowest_consumer: status.slowest.as_ref().map(consumer),
            open_streams: i32::try_from(status.open_streams).unwrap_or(i32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            discarded_to_id: status.bounds.discarded_to.get(),
            stopped_consumers: status.stopped.iter().map(consumer).collect(),
            problem: status.problem.unwrap_or_default(),
            database: status.database.to_owned(),
            replica_id: status.replica.to_string(),
            leases: status.leases.into_iter().map(lease).collect(),
            ring_bytes: i64::try_from(status.ring_bytes).unwrap_or(i64::MAX),
            held_id: status.held.map_or(0, |(id, _)| id.get()),
            held_for: status.held.map(|(_, waited)| fields::duration(waited)),
        }))
    }

    async fn unregister_consumer(
        &self,
        request: Request<UnregisterConsumerRequest>,
    ) -> Result<Response<UnregisterConsumerResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let component = fields::component(&request.component)?;
        let user = fields::user(&request.user, &caller.user)?;
        self.gate.unregister(&caller, user, component).await?;
        Ok(Response::new(UnregisterConsumerResponse {}))
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRequest>,
    ) -> Result<Response<ListConsumersResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let size = fields::bound(
            "page_size",
            request.page_size,
            limits::MAX_PAGE_SIZE,
            limits::MAX_PAGE_SIZE,
        )?;
        let after = fields::page_token(&request.page_token)?;
        let listed = self.gate.consumers(&caller, after, size).await?;
        // The token is the last ident; a full page may have a next one.
        let last = listed.last().filter(|_| listed.len() == size);
        Ok(Response::new(ListConsumersResponse {
            next_page_token: last
                .map(|state| state.consumer.key.ident())
                .unwrap_or_default(),
            consumers: listed.iter().map(consumer).collect(),
        }))
    }

    async fn seek_consumer(
        &self,
        request: Request<SeekConsumerRequest>,
    ) -> Result<Response<SeekConsumerResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let component = fields::component(&request.component)?;
        let user = fields::user(&request.user, &caller.user)?;
        let to = fields::start("start", request.start)?;
        let to = to.ok_or_else(|| Error::invalid("start", "must be set"))?;
        let sought = self.gate.seek(&caller, user, component, to).await?;
        Ok(Response::new(SeekConsumerResponse {
            consumer: Some(consumer(&sought)),
        }))
    }

    async fn skip_frontier(
        &self,
        request: Request<SkipFrontierRequest>,
    ) -> Result<Response<SkipFrontierResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let to = fields::id("to", request.to)?;
        let reason = fields::reason(request.reason)?;
        if !request.accept_loss {
            let rule = "must be true: events that are not visible yet are lost by a skip";
            return Err(Error::invalid("accept_loss", rule).into());
        }
        let skipped = self.gate.skip_frontier(&caller, to, reason).await?;
        Ok(Response::new(SkipFrontierResponse {
            frontier_before_id: skipped.before.get(),
            frontier_after_id: skipped.after.get(),
            blockers: skipped.blockers.into_iter().map(blocker).collect(),
        }))
    }
}

fn blocker(blocker: Blocker) -> proto::Blocker {
    proto::Blocker {
        session: blocker.session,
        client: blocker.client,
        age: Some(fields::duration(blocker.age)),
        prepared: blocker.prepared,
    }
}

fn lease(lease: Lease) -> proto::Lease {
    proto::Lease {
        task: lease.task,
        replica_id: lease.holder,
        replica: lease.place,
        fence: lease.fence,
    }
}

/// A consumer as the contract shows it.
pub(super) fn consumer(state: &ConsumerState) -> proto::Consumer {
    let consumer = &state.consumer;
    proto::Consumer {
        component: consumer.key.component.as_str().to_owned(),
        user: consumer.key.user.as_str().to_owned(),
        position: consumer.position.get(),
        epoch: consumer.epoch,
        subscribed: consumer.session.is_some(),
        lag_ids: state.lag_ids,
        reg_time: consumer.reg_time.map(fields::timestamp),
        last_time: consumer.last_time.map(fields::timestamp),
        lag_age: state.lag_age.map(fields::duration),
        problem: state.problem.clone().unwrap_or_default(),
        client_label: consumer
            .session
            .as_ref()
            .map(|label| label.as_str().to_owned())
            .unwrap_or_default(),
        replica: consumer.place.clone().unwrap_or_default(),
    }
}
