//! Adding events by the service: every call can be repeated, because it names
//! itself.

use uuid::Uuid;

use crate::{
    client::EventStream,
    error::Error,
    event::{Data, NewEvent},
    proto::{AddEventRequest, AddEventsRequest, ImportEventsRequest, ImportEventsResponse},
};

impl EventStream {
    /// Adds an event, and returns its ID once it is durable. A call that may
    /// succeed later is repeated until the client's deadline, and adds the
    /// event once.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] before anything is sent, [`Error::Service`].
    pub async fn add_event(&self, event_type: &str, data: impl Data) -> Result<i64, Error> {
        self.add_event_as(Uuid::new_v4(), NewEvent::new(event_type, data)?)
            .await
    }

    /// The same with the caller's own `request_id`: a repetition within the
    /// service's window, by another process too, adds nothing and returns the
    /// first ID.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]
    pub async fn add_event_as(&self, request_id: Uuid, event: NewEvent) -> Result<i64, Error> {
        let request = AddEventRequest {
            r#type: event.0.r#type,
            data_json: event.0.data_json,
            request_id: request_id.to_string(),
        };
        let service = self.gen_service();
        let added = self
            .retries
            .call(async || service.clone().add_event(request.clone()).await)
            .await?;
        Ok(added.into_inner().id)
    }

    /// Adds 1 to 1000 events in one transaction, all or none, and returns their
    /// IDs in the same order.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]
    pub async fn add_events(
        &self,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<i64>, Error> {
        self.add_events_as(Uuid::new_v4(), events).await
    }

    /// The same with the caller's own `request_id`, see [`Self::add_event_as`].
    ///
    /// # Errors
    ///
    /// [`Error::Service`]
    pub async fn add_events_as(
        &self,
        request_id: Uuid,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Result<Vec<i64>, Error> {
        let request = AddEventsRequest {
            events: events.into_iter().map(|event| event.0).collect(),
            request_id: request_id.to_string(),
        };
        let service = self.gen_service();
        let added = self
            .retries
            .call(async || service.clone().add_events(request.clone()).await)
            .await?;
        Ok(added.into_inner().ids)
    }

    /// Imports batches, each of 1 to 1000 events and one transaction. The
    /// batches are kept, so that the import can be repeated from its beginning
    /// with the same `request_id`s: what was committed is not added again.
    ///
    /// # Errors
    ///
    /// [`Error::Service`]
    pub async fn import_events(
        &self,
        batches: impl IntoIterator<Item = Vec<NewEvent>>,
    ) -> Result<ImportEventsResponse, Error> {
        let batches: Vec<ImportEventsRequest> = batches.into_iter().map(import_request).collect();
        let service = self.gen_service();
        let imported = self
            .retries
            .call(async || {
                let requests = futures_util::stream::iter(batches.clone());
                service.clone().import_events(requests).await
            })
            .await?;
        Ok(imported.into_inner())
    }
}

fn import_request(batch: Vec<NewEvent>) -> ImportEventsRequest {
    ImportEventsRequest {
        events: batch.into_iter().map(|event| event.0).collect(),
        request_id: Uuid::new_v4().to_string(),
    }
}
