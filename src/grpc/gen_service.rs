//! `GenService`: adding events.

use std::collections::HashMap;

use tonic::{Request, Response, Status, Streaming};

use super::{Front, caller, fields, malformed, server::gen_service_server::GenService, status};
use crate::{
    error::Error,
    event::EventId,
    proto::{
        AddEventRequest, AddEventResponse, AddEventsRequest, AddEventsResponse,
        ImportEventsRequest, ImportEventsResponse,
    },
};

#[tonic::async_trait]
impl GenService for Front {
    async fn add_event(
        &self,
        request: Request<AddEventRequest>,
    ) -> Result<Response<AddEventResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let event = fields::new_event("", &request.r#type, request.data_json)?;
        let request_id = fields::request_id(&request.request_id)?;
        let ids = self.gate.add(&caller, request_id, vec![event]).await?;
        Ok(Response::new(AddEventResponse {
            id: ids.first().get(),
        }))
    }

    async fn add_events(
        &self,
        request: Request<AddEventsRequest>,
    ) -> Result<Response<AddEventsResponse>, Status> {
        let caller = caller(&request)?;
        let request = request.into_inner();
        let events = fields::new_events(request.events)?;
        let request_id = fields::request_id(&request.request_id)?;
        let ids = self.gate.add(&caller, request_id, events).await?;
        let ids = ids.iter().map(EventId::get).collect();
        Ok(Response::new(AddEventsResponse { ids }))
    }

    async fn import_events(
        &self,
        request: Request<Streaming<ImportEventsRequest>>,
    ) -> Result<Response<ImportEventsResponse>, Status> {
        let caller = caller(&request)?;
        let mut batches = request.into_inner();
        let mut done = ImportEventsResponse::default();
        let unread = |status: Status, done: &ImportEventsResponse| match malformed::fault(&status) {
            Some(error) => import_failed(&error, done),
            None => status,
        };
        while let Some(batch) = batches.message().await.map_err(|s| unread(s, &done))? {
            let added = async {
                let events = fields::new_events(batch.events)?;
                let request_id = fields::request_id(&batch.request_id)?;
                self.gate.add(&caller, request_id, events).await
            };
            let ids = added.await.map_err(|error| import_failed(&error, &done))?;
            done.batch_count += 1;
            for id in ids.iter() {
                done.event_count += 1;
                done.last_id = id.get();
                if done.first_id == 0 {
                    done.first_id = id.get();
                }
            }
        }
        Ok(Response::new(done))
    }
}

/// How far the import came is in the error's metadata.
fn import_failed(error: &Error, done: &ImportEventsResponse) -> Status {
    let far = HashMap::from([
        ("batch_count".to_owned(), done.batch_count.to_string()),
        ("event_count".to_owned(), done.event_count.to_string()),
        ("first_id".to_owned(), done.first_id.to_string()),
        ("last_id".to_owned(), done.last_id.to_string()),
    ]);
    status::with_metadata(error, far)
}
