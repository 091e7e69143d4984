//! Our own reader: a subscriber of the service over gRPC, as any client is.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::{
    ledger::{Tag, locked},
    verdict::Delivery,
    writer::Scene,
};
use crate::{
    limits,
    proto::{
        AckRequest, EventGroup, ReadyToReceiveRequest, RegisterConsumerRequest,
        poll_service_client::PollServiceClient, push_service_client::PushServiceClient,
        ready_to_receive_response::Payload,
    },
};

const COMPONENT: &str = "SOAK";

/// Pause before a session that broke is opened again.
const RECONNECT: Duration = Duration::from_millis(100);

/// What the subscriber got so far.
pub(super) struct Subscriber {
    scene: Arc<Scene>,
    channel: Channel,
    deliveries: Mutex<Vec<Delivery>>,
    /// The first session has begun.
    started: CancellationToken,
    /// The service said that everything up to here was sent.
    reached: watch::Sender<i64>,
    /// Breaks of the stream, in words.
    breaks: Mutex<Vec<String>>,
}

impl Subscriber {
    /// Connects to the socket and registers.
    pub(super) async fn connect(scene: Arc<Scene>, socket: &Path) -> anyhow::Result<Self> {
        let uri = format!("unix:{}", socket.display());
        let channel = Endpoint::from_shared(uri)?.connect().await?;
        let request = RegisterConsumerRequest {
            component: COMPONENT.to_owned(),
            start: None,
        };
        PollServiceClient::new(channel.clone())
            .register_consumer(request)
            .await
            .context("cannot register")?;
        Ok(Self {
            scene,
            channel,
            deliveries: Mutex::default(),
            started: CancellationToken::new(),
            reached: watch::Sender::new(0),
            breaks: Mutex::default(),
        })
    }

    pub(super) fn deliveries(&self) -> Vec<Delivery> {
        locked(&self.deliveries).clone()
    }

    pub(super) fn delivered(&self) -> usize {
        locked(&self.deliveries).len()
    }

    pub(super) fn breaks(&self) -> Vec<String> {
        locked(&self.breaks).clone()
    }

    /// Resolves when the service has opened the first session.
    pub(super) async fn started(&self) {
        self.started.cancelled().await;
    }

    /// Resolves when the service says that everything up to `id` was sent.
    pub(super) async fn reached(&self, id: i64) {
        let mut reached = self.reached.subscribe();
        // The sender is our own.
        let _ = reached.wait_for(|reached| *reached >= id).await;
    }

    /// Receives until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut session = 0;
        while let Some(ended) = stop.run_until_cancelled(self.session(session)).await {
            let text = ended.map_or_else(|status| status.to_string(), |()| "ended".to_owned());
            locked(&self.breaks).push(text);
            session += 1;
            let _ = stop.run_until_cancelled(sleep(RECONNECT)).await;
        }
    }

    async fn session(&self, session: u32) -> Result<(), tonic::Status> {
        let mut client = PushServiceClient::new(self.channel.clone());
        let request = ReadyToReceiveRequest {
            component: COMPONENT.to_owned(),
            heartbeat_interval: prost_types::Duration::try_from(limits::MIN_HEARTBEAT).ok(),
            // On SQLite an acknowledgement waits its turn among the writers.
            max_in_flight_events: i32::MAX,
            max_in_flight_bytes: i64::MAX,
            client_label: "eventstream soak".to_owned(),
            ..ReadyToReceiveRequest::default()
        };
        let mut stream = client.ready_to_receive(request).await?.into_inner();
        let acked = watch::Sender::new(None);
        let mut epoch = None;
        let acknowledging = self.acknowledge(acked.subscribe());
        tokio::pin!(acknowledging);
        loop {
            let message = tokio::select! {
                biased;
                message = stream.message() => message?,
                failed = &mut acknowledging => return failed,
            };
            let Some(message) = message else {
                return Ok(());
            };
            match message.payload {
                Some(Payload::Started(started)) => {
                    epoch = Some(started.epoch);
                    self.started.cancel();
                }
                Some(Payload::Group(group)) => {
                    self.take(&group, session);
                    acked.send_replace(Some(AckRequest {
                        component: COMPONENT.to_owned(),
                        last_id: group.last_id,
                        epoch,
                    }));
                }
                Some(Payload::Heartbeat(beat)) if beat.caught_up && epoch.is_some() => {
                    self.reached.send_replace(beat.frontier_id);
                }
                Some(Payload::Heartbeat(_)) | None => {}
                Some(Payload::Ending(_)) => return Ok(()),
            }
        }
    }

    fn take(&self, group: &EventGroup, session: u32) {
        let at = self.scene.ledger.now();
        let deliveries = group.events.iter().map(|event| Delivery {
            id: event.id,
            tag: Tag::from_json(&event.data_json),
            at,
            session,
        });
        locked(&self.deliveries).extend(deliveries);
    }

    /// Acknowledges beside the stream, the latest only: waiting for the answers
    /// would be time in which nothing is received.
    async fn acknowledge(
        &self,
        mut latest: watch::Receiver<Option<AckRequest>>,
    ) -> Result<(), tonic::Status> {
        let mut client = PushServiceClient::new(self.channel.clone());
        while latest.changed().await.is_ok() {
            let request = latest.borrow_and_update().clone();
            if let Some(request) = request {
                client.ack(request).await?;
            }
        }
        Ok(())
    }
}
