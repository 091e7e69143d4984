//! `tail` against a scripted push service over a real connection.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{self, Future},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio_stream::{Stream, StreamExt};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::Server as GrpcServer,
};
use tonic_prost::ProstCodec;

use super::{ids, over_connection};
use crate::cli::{
    failure::{Exit, Failure},
    output::{Output, capture::Shown},
    session::Tail,
    values,
};
use crate::proto::{
    AckRequest, AckResponse, Event, EventGroup, Heartbeat, ReadyToReceiveRequest,
    ReadyToReceiveResponse, StartAt, SubscriptionStarted, ready_to_receive_response::Payload,
};

type Message = Result<ReadyToReceiveResponse, Status>;
/// ID and epoch.
type Ack = (i64, Option<i64>);
type Messages = Pin<Box<dyn Stream<Item = Message> + Send>>;

/// One script per session; a session stays open behind its script unless it
/// ends in an error. Without a script left, a session is refused for good.
#[derive(Clone, Default)]
pub(super) struct Script {
    sessions: Arc<Mutex<VecDeque<Vec<Message>>>>,
    ack_refusal: Option<Status>,
    position: i64,
    starts: Arc<Mutex<Vec<Option<StartAt>>>>,
    acks: Arc<Mutex<Vec<Ack>>>,
}

impl Script {
    fn new(sessions: impl IntoIterator<Item = Vec<Message>>) -> Self {
        Self {
            sessions: Arc::new(Mutex::new(sessions.into_iter().collect())),
            ..Self::default()
        }
    }

    pub(super) fn acks(&self) -> Vec<Ack> {
        self.acks.lock().unwrap().clone()
    }

    fn starts(&self) -> Vec<Option<StartAt>> {
        self.starts.lock().unwrap().clone()
    }

    fn open(&self, request: &ReadyToReceiveRequest) -> Result<Response<Messages>, Status> {
        self.starts.lock().unwrap().push(request.start);
        let Some(messages) = self.sessions.lock().unwrap().pop_front() else {
            return Err(Status::not_found("no session left"));
        };
        let script = tokio_stream::iter(messages).chain(tokio_stream::pending());
        Ok(Response::new(Box::pin(script)))
    }

    fn ack(&self, request: &AckRequest) -> Result<Response<AckResponse>, Status> {
        self.acks
            .lock()
            .unwrap()
            .push((request.last_id, request.epoch));
        match &self.ack_refusal {
            Some(status) => Err(status.clone()),
            None => Ok(Response::new(AckResponse {
                acked_id: request.last_id.max(self.position),
            })),
        }
    }
}

impl NamedService for Script {
    const NAME: &'static str = "futoin.evt.v1.PushService";
}

// By hand: the server half of the generated code sends pre-encoded groups,
// which a script has no use for.
impl tower::Service<http::Request<Body>> for Script {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let script = self.clone();
        Box::pin(async move {
            if request.uri().path().ends_with("/Ack") {
                let ack = tower::service_fn(move |request: Request<AckRequest>| {
                    future::ready(script.ack(request.get_ref()))
                });
                let codec = ProstCodec::<AckResponse, AckRequest>::default();
                return Ok(Grpc::new(codec).unary(ack, request).await);
            }
            let open = tower::service_fn(move |request: Request<ReadyToReceiveRequest>| {
                future::ready(script.open(request.get_ref()))
            });
            let codec = ProstCodec::<ReadyToReceiveResponse, ReadyToReceiveRequest>::default();
            Ok(Grpc::new(codec).server_streaming(open, request).await)
        })
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a script is made of messages and refusals"
)]
fn message(payload: Payload) -> Message {
    Ok(ReadyToReceiveResponse {
        payload: Some(payload),
    })
}

fn started(epoch: i64, start_after_id: i64) -> Message {
    message(Payload::Started(SubscriptionStarted {
        epoch,
        start_after_id,
        ..SubscriptionStarted::default()
    }))
}

fn group(seq: i64, ids: &[i64]) -> Message {
    message(Payload::Group(events(seq, ids)))
}

fn events(seq: i64, ids: &[i64]) -> EventGroup {
    let event = |&id: &i64| Event {
        id,
        r#type: "T".to_owned(),
        data_json: "{}".to_owned(),
        ts: None,
    };
    EventGroup {
        seq,
        events: ids.iter().map(event).collect(),
        last_id: ids.last().copied().unwrap_or_default(),
        skipped_events: 0,
    }
}

fn away() -> Message {
    Err(Status::unavailable("draining"))
}

fn consumer(start: Option<StartAt>) -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        component: "CACHE".to_owned(),
        start,
        ..ReadyToReceiveRequest::default()
    }
}

fn observer() -> ReadyToReceiveRequest {
    ReadyToReceiveRequest {
        component: "LIVE".to_owned(),
        ..ReadyToReceiveRequest::default()
    }
}

async fn tail(
    script: &Script,
    request: ReadyToReceiveRequest,
    count: Option<u64>,
    interrupt: impl Future<Output = ()>,
    output: &mut Output,
) -> Result<(), Failure> {
    let routes = GrpcServer::builder().add_service(script.clone());
    over_connection(routes, async |server| {
        Tail::new(server, request, count, output)
            .run(interrupt)
            .await
    })
    .await
}

/// Runs it to its end by itself; returns what was shown.
async fn run(
    script: &Script,
    request: ReadyToReceiveRequest,
    count: Option<u64>,
) -> (Result<(), Failure>, Shown) {
    let (mut output, shown) = Output::captured(true);
    let result = tail(script, request, count, future::pending(), &mut output).await;
    (result, shown)
}

#[tokio::test]
async fn groups_are_acknowledged_with_the_epoch_of_their_session() {
    let script = Script::new([vec![started(7, 0), group(0, &[1, 2]), group(1, &[3])]]);
    let (result, shown) = run(&script, consumer(None), Some(3)).await;
    result.unwrap();
    assert_eq!(ids(&shown), ["1", "2", "3"]);
    assert_eq!(script.acks(), [(2, Some(7)), (3, Some(7))]);
}

#[tokio::test]
async fn a_count_inside_a_group_acknowledges_what_was_printed() {
    let script = Script::new([vec![started(7, 0), group(0, &[1, 2, 5])]]);
    let (result, shown) = run(&script, consumer(None), Some(2)).await;
    result.unwrap();
    assert_eq!(ids(&shown), ["1", "2"]);
    assert_eq!(script.acks(), [(2, Some(7))]);
}

#[tokio::test]
async fn a_loss_is_followed_by_another_session_at_the_stored_position() {
    let script = Script::new([
        vec![started(7, 0), group(0, &[1]), away()],
        vec![started(8, 1), group(0, &[2])],
    ]);
    let (result, shown) = run(&script, consumer(None), Some(2)).await;
    result.unwrap();
    assert_eq!(script.starts(), [None, None]);
    assert_eq!(script.acks(), [(1, Some(7)), (2, Some(8))]);
    assert!(
        shown
            .notes()
            .contains("draining (Unavailable); reconnecting in 0.")
    );
}

#[tokio::test]
async fn a_replay_that_was_cut_goes_on_where_it_was() {
    let mut script = Script::new([
        vec![started(7, 0), group(0, &[1]), away()],
        vec![started(8, 1), group(0, &[2])],
    ]);
    script.position = 100;
    let (result, _) = run(&script, consumer(Some(values::after(0))), Some(2)).await;
    result.unwrap();
    assert_eq!(
        script.starts(),
        [Some(values::after(0)), Some(values::after(1))]
    );
}

#[tokio::test]
async fn an_observer_goes_on_without_a_hole_and_acknowledges_nothing() {
    let script = Script::new([
        vec![started(0, 40), away()],
        vec![started(0, 40), group(0, &[41]), away()],
        vec![started(0, 41), group(0, &[42])],
    ]);
    let (result, shown) = run(&script, observer(), Some(2)).await;
    result.unwrap();
    assert_eq!(ids(&shown), ["41", "42"]);
    let expected = [None, Some(values::after(40)), Some(values::after(41))];
    assert_eq!(script.starts(), expected);
    assert!(script.acks().is_empty());
}

#[tokio::test]
async fn an_observer_is_told_what_it_missed() {
    let late = EventGroup {
        skipped_events: 12,
        ..events(3, &[20])
    };
    let script = Script::new([vec![started(0, 0), message(Payload::Group(late))]]);
    let (result, shown) = run(&script, observer(), Some(1)).await;
    result.unwrap();
    assert!(
        shown.notes().contains("12 events skipped"),
        "{}",
        shown.notes()
    );
}

#[tokio::test]
async fn a_consumer_prints_nothing_behind_a_gap() {
    let script = Script::new([
        vec![started(7, 0), group(0, &[1]), group(2, &[3])],
        vec![started(8, 1), group(0, &[2, 3])],
    ]);
    let (result, shown) = run(&script, consumer(None), Some(3)).await;
    result.unwrap();
    assert_eq!(ids(&shown), ["1", "2", "3"]);
}

#[tokio::test]
async fn standing_by_and_starting_are_said_once() {
    let beat = || message(Payload::Heartbeat(Heartbeat::default()));
    let script = Script::new([vec![beat(), beat(), started(7, 4), beat(), group(0, &[5])]]);
    let (result, shown) = run(&script, consumer(None), Some(1)).await;
    result.unwrap();
    assert_eq!(
        shown.notes(),
        "eventstream: standing by while another session of CACHE is open\n\
         eventstream: session of CACHE started after ID 4\n"
    );
}

#[tokio::test]
async fn refusals_are_final() {
    let mut script = Script::new([vec![started(7, 0), group(0, &[1])]]);
    script.ack_refusal = Some(Status::failed_precondition("stale epoch"));
    let (result, shown) = run(&script, consumer(None), None).await;
    assert_eq!(result.unwrap_err().exit(), Exit::Refused);
    assert_eq!(ids(&shown), ["1"]);
    let (result, _) = run(&Script::default(), consumer(None), None).await;
    let failure = result.unwrap_err();
    assert!(matches!(&failure, Failure::Call { status, .. } if status.code() == Code::NotFound));
}

#[tokio::test]
async fn what_a_closed_pipe_did_not_take_is_not_acknowledged() {
    let script = Script::new([vec![started(7, 0), group(0, &[1])]]);
    let (mut output, shown) = Output::closed();
    let result = tail(
        &script,
        consumer(None),
        None,
        future::pending(),
        &mut output,
    )
    .await;
    let failure = result.unwrap_err();
    failure.report(None, &mut output);
    assert_eq!(failure.exit(), Exit::Done);
    assert!(script.acks().is_empty());
    assert_eq!(
        shown.notes(),
        "eventstream: session of CACHE started after ID 0\n"
    );
}

#[tokio::test]
async fn an_interrupt_ends_it_well() {
    let script = Script::new([vec![started(7, 0), group(0, &[1])]]);
    let acked = script.clone();
    let interrupt = async move {
        while acked.acks().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let (mut output, shown) = Output::captured(true);
    tail(&script, consumer(None), None, interrupt, &mut output)
        .await
        .unwrap();
    assert_eq!(ids(&shown), ["1"]);
    // Whether or not the answer was seen: the same position, never another.
    assert!(script.acks().iter().all(|ack| *ack == (1, Some(7))));
}
