//! Subscribers: one that looks at events, and one that only counts them.

use anyhow::{Context as _, bail};
use futoin_eventstream::proto::{
    EventGroup, ReadyToReceiveRequest, ReadyToReceiveResponse, RegisterConsumerRequest,
    ready_to_receive_response::Payload,
};
use http::uri::PathAndQuery;
use tonic::{Request, Streaming, client::Grpc};
use tonic_prost::ProstCodec;

use crate::server::Clients;

/// The reliable consumer of all scenarios.
pub(crate) const COMPONENT: &str = "READER";

/// Registers [`COMPONENT`] at the oldest event.
pub(crate) async fn register(clients: &mut Clients) -> anyhow::Result<()> {
    let request = RegisterConsumerRequest {
        component: COMPONENT.to_owned(),
        start: None,
    };
    clients.poll.register_consumer(request).await?;
    Ok(())
}

/// An open push stream that has said `started`.
pub(crate) struct Subscriber {
    stream: Streaming<ReadyToReceiveResponse>,
    pub(crate) epoch: i64,
}

impl Subscriber {
    pub(crate) async fn open(clients: &mut Clients, component: &str) -> anyhow::Result<Self> {
        let stream = clients.push.ready_to_receive(request(component)).await?;
        let mut stream = stream.into_inner();
        let first = stream.message().await?.and_then(|first| first.payload);
        let Some(Payload::Started(started)) = first else {
            bail!("the stream does not begin with `started`");
        };
        Ok(Self {
            stream,
            epoch: started.epoch,
        })
    }

    /// The next group.
    pub(crate) async fn group(&mut self) -> anyhow::Result<EventGroup> {
        loop {
            let message = self.stream.message().await?.context("the stream ended")?;
            match message.payload {
                Some(Payload::Group(group)) => return Ok(group),
                Some(Payload::Ending(_)) => bail!("the server ends"),
                _ => {}
            }
        }
    }
}

fn request(component: &str) -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        component: component.to_owned(),
        ..ReadyToReceiveRequest::default()
    }
}

/// A live subscriber that skips the events themselves: ids are dense here, so
/// the last one tells how many came. A thousand clients that decode would
/// leave no processor for the server.
pub(crate) struct Counter {
    stream: Streaming<Glance>,
}

/// `ReadyToReceiveResponse` as far as a counter cares.
#[derive(Clone, PartialEq, prost::Message)]
struct Glance {
    #[prost(message, optional, tag = "2")]
    group: Option<GroupGlance>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GroupGlance {
    #[prost(int64, tag = "3")]
    last_id: i64,
    #[prost(int64, tag = "4")]
    skipped_events: i64,
}

impl Counter {
    /// Opens the stream and waits for `started`.
    pub(crate) async fn open(clients: &Clients) -> anyhow::Result<Self> {
        const METHOD: &str = "/futoin.evt.v1.PushService/ReadyToReceive";
        let mut grpc = Grpc::new(clients.channel.clone());
        grpc.ready().await?;
        let codec: ProstCodec<ReadyToReceiveRequest, Glance> = ProstCodec::default();
        let path = PathAndQuery::from_static(METHOD);
        let request = Request::new(request("LIVE"));
        let stream = grpc.server_streaming(request, path, codec).await?;
        let mut stream = stream.into_inner();
        stream.message().await?.context("no `started`")?;
        Ok(Self { stream })
    }

    /// Reads up to `last_id`; the number of events skipped on the way.
    pub(crate) async fn read_through(&mut self, last_id: i64) -> anyhow::Result<i64> {
        let mut skipped = 0;
        loop {
            let message = self.stream.message().await?.context("the stream ended")?;
            let Some(group) = message.group else { continue };
            skipped += group.skipped_events;
            if group.last_id >= last_id {
                return Ok(skipped);
            }
        }
    }
}
