//! A receiver that runs beside a test, which asks for what it received.

use std::{convert::Infallible, time::Duration};

use futoin_eventstream_client::{Error, Event, EventStream, ReliableReceiver, Start};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Received {
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), Error>>,
}

impl Received {
    /// Of events of one type, from now on: its session has begun.
    pub(crate) async fn start(client: &EventStream, component: &str, event_type: &str) -> Self {
        let receiver = client
            .receive(component)
            .want([event_type])
            .start(Start::Now);
        Self::run(receiver).await
    }

    pub(crate) async fn run(receiver: ReliableReceiver) -> Self {
        let (send, events) = mpsc::channel(100);
        let (started, mut has_started) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let receiver = receiver
            .on_started(move |_| started.try_send(()).unwrap_or_default())
            .stop_on(stop.clone().cancelled_owned());
        let running = tokio::spawn(receiver.run(move |event| {
            let send = send.clone();
            async move {
                send.send(event).await.unwrap();
                Ok::<_, Infallible>(())
            }
        }));
        timeout(PATIENCE, has_started.recv())
            .await
            .expect("the session begins")
            .unwrap();
        Self {
            events,
            stop,
            running,
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.recv())
            .await
            .expect("an event comes")
            .unwrap()
    }

    /// Finishes, and returns what was received meanwhile.
    pub(crate) async fn stop(mut self) -> Vec<Event> {
        self.stop.cancel();
        timeout(PATIENCE, self.running)
            .await
            .expect("it stops")
            .unwrap()
            .unwrap();
        let mut rest = Vec::new();
        while let Some(event) = self.events.recv().await {
            rest.push(event);
        }
        rest
    }
}
