//! The service's calls, each handed to the script, which answers it.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

use crate::{
    proto::{
        AckRequest, AckResponse, PollEventsRequest, PollEventsResponse, ReadyToReceiveRequest,
        ReadyToReceiveResponse, RegisterConsumerRequest, RegisterConsumerResponse,
        poll_service_server::PollService, push_service_server::PushService,
    },
    runner::Report,
};

/// Something that happened, in the order in which it was seen.
pub(crate) enum Observation {
    Register(Call<RegisterConsumerRequest, RegisterConsumerResponse>),
    Subscribe(Call<ReadyToReceiveRequest, Messages>),
    Ack(Call<AckRequest, AckResponse>),
    /// A call that no receiver makes.
    Foreign(&'static str),
    /// The client has closed the stream with this number.
    Closed(usize),
    Report(Report),
    /// A line that is none of the conversation.
    Unreadable(String),
    /// The runner has closed its end.
    RunnerLeft,
}

/// An item of a push stream.
pub(crate) type Message = Result<ReadyToReceiveResponse, Status>;

/// A push stream, which reports when the client does not want it any more.
pub(crate) struct Messages {
    messages: mpsc::Receiver<Message>,
    _dropped: DropGuard,
}

impl Messages {
    pub(crate) fn new(
        messages: mpsc::Receiver<Message>,
        session: usize,
        observations: mpsc::Sender<Observation>,
    ) -> Self {
        let dropped = CancellationToken::new();
        let guard = dropped.clone().drop_guard();
        tokio::spawn(async move {
            dropped.cancelled().await;
            let _ = observations.send(Observation::Closed(session)).await;
        });
        Self {
            messages,
            _dropped: guard,
        }
    }
}

impl Stream for Messages {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Message>> {
        self.messages.poll_recv(context)
    }
}

/// A call that waits for its answer.
pub(crate) struct Call<Q, A> {
    pub(crate) request: Q,
    pub(crate) at: Instant,
    /// Whether the caller has set a deadline.
    pub(crate) has_deadline: bool,
    pub(crate) answer: oneshot::Sender<Result<A, Status>>,
}

/// What tonic calls.
#[derive(Clone)]
pub(crate) struct Scripted(pub(crate) mpsc::Sender<Observation>);

impl Scripted {
    async fn ask<Q, A>(
        &self,
        request: Request<Q>,
        observation: impl FnOnce(Call<Q, A>) -> Observation,
    ) -> Result<A, Status> {
        let (answer, answered) = oneshot::channel();
        let has_deadline = request.metadata().contains_key("grpc-timeout");
        let call = Call {
            at: Instant::now(),
            has_deadline,
            request: request.into_inner(),
            answer,
        };
        self.observe(observation(call)).await?;
        answered.await.map_err(|_| over())?
    }

    async fn observe(&self, observation: Observation) -> Result<(), Status> {
        self.0.send(observation).await.map_err(|_| over())
    }
}

/// The script ends with its process: nobody reads this as an answer of a case.
fn over() -> Status {
    Status::aborted("the script is over")
}

#[tonic::async_trait]
impl PollService for Scripted {
    async fn register_consumer(
        &self,
        request: Request<RegisterConsumerRequest>,
    ) -> Result<Response<RegisterConsumerResponse>, Status> {
        let answer = self.ask(request, Observation::Register).await?;
        Ok(Response::new(answer))
    }

    async fn poll_events(
        &self,
        _: Request<PollEventsRequest>,
    ) -> Result<Response<PollEventsResponse>, Status> {
        self.observe(Observation::Foreign("PollEvents")).await?;
        Err(Status::unimplemented("receivers do not poll"))
    }
}

#[tonic::async_trait]
impl PushService for Scripted {
    type ReadyToReceiveStream = Messages;

    async fn ready_to_receive(
        &self,
        request: Request<ReadyToReceiveRequest>,
    ) -> Result<Response<Self::ReadyToReceiveStream>, Status> {
        let messages = self.ask(request, Observation::Subscribe).await?;
        Ok(Response::new(messages))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let answer = self.ask(request, Observation::Ack).await?;
        Ok(Response::new(answer))
    }
}
