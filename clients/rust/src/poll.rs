//! Groups of events on demand, for whoever cannot keep a stream open.

use std::time::Duration;

use futures_util::{Stream, stream};

use crate::{
    client::EventStream,
    error::Error,
    event::{Event, Group},
    proto::{PollEventsRequest, RegisterConsumerRequest, StartAt, Want},
    start::Start,
};

/// Reads groups of events; see [`EventStream::poll`].
#[derive(Clone, Debug)]
#[must_use = "nothing is read before `groups`"]
pub struct Poll {
    client: EventStream,
    request: PollEventsRequest,
    start: Option<Start>,
    register: bool,
}

impl Poll {
    pub(crate) fn new(client: EventStream, component: &str) -> Self {
        let request = PollEventsRequest {
            component: component.to_owned(),
            ..PollEventsRequest::default()
        };
        Self {
            client,
            request,
            start: None,
            register: true,
        }
    }

    /// Only events of these types.
    pub fn want<T: Into<String>>(mut self, types: impl IntoIterator<Item = T>) -> Self {
        self.request.want = Some(Want {
            types: types.into_iter().map(Into::into).collect(),
        });
        self
    }

    /// Where a new registration starts; the oldest event kept by default.
    pub fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }

    /// Whether the component is registered first, which it is by default.
    pub fn register(mut self, register: bool) -> Self {
        self.register = register;
        self
    }

    /// At most so many events in a group.
    pub fn max_events(mut self, events: i32) -> Self {
        self.request.max_events = events;
        self
    }

    /// Waits so long for a first event before a group is empty. Less than the
    /// client's deadline; not at all by default.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.request.max_wait = prost_types::Duration::try_from(wait).ok();
        self
    }

    /// The groups, for ever: an empty one says that there is nothing now. Asking
    /// for the next group acknowledges the one before it.
    pub fn groups(self) -> impl Stream<Item = Result<Group, Error>> {
        stream::try_unfold(self, async |mut poll| {
            let group = poll.next().await?;
            Ok(Some((group, poll)))
        })
    }

    async fn next(&mut self) -> Result<Group, Error> {
        if std::mem::take(&mut self.register) {
            self.register_component().await?;
        }
        let service = self.client.poll_service();
        let request = &self.request;
        let polled = self
            .client
            .retries
            .call(async || service.clone().poll_events(request.clone()).await)
            .await?
            .into_inner();
        self.request.last_id = Some(polled.last_id);
        self.request.epoch = (polled.epoch != 0).then_some(polled.epoch);
        Ok(Group {
            events: polled.events.into_iter().map(Event::from).collect(),
            last_id: polled.last_id,
            skipped_events: 0,
        })
    }

    async fn register_component(&self) -> Result<(), Error> {
        let request = RegisterConsumerRequest {
            component: self.request.component.clone(),
            start: self.start.map(StartAt::from),
        };
        let service = self.client.poll_service();
        let call = async || service.clone().register_consumer(request.clone()).await;
        self.client.retries.call(call).await?;
        Ok(())
    }
}
