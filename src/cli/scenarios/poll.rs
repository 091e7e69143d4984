//! `poll --follow` against scripted pages.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::{self, Future},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use clap::Parser;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService},
    transport::Server as GrpcServer,
};
use tonic_prost::ProstCodec;

use super::{ids, over_connection, tail::Script};
use crate::{
    cli::{
        output::Output,
        poll::{Args, Poller},
    },
    proto::{Event, PollEventsRequest, PollEventsResponse},
};

type Page = Result<PollEventsResponse, Status>;
/// The `last_id` and epoch of a request.
type Asked = (Option<i64>, Option<i64>);

/// Answers with one page after the other, then never again.
#[derive(Clone)]
struct Pages {
    pages: Arc<Mutex<VecDeque<Page>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl NamedService for Pages {
    const NAME: &'static str = "futoin.evt.v1.PollService";
}

impl Pages {
    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    async fn answer(
        self,
        request: PollEventsRequest,
    ) -> Result<Response<PollEventsResponse>, Status> {
        self.asked
            .lock()
            .unwrap()
            .push((request.last_id, request.epoch));
        let page = self.pages.lock().unwrap().pop_front();
        match page {
            Some(page) => page.map(Response::new),
            None => future::pending().await,
        }
    }
}

impl tower::Service<http::Request<Body>> for Pages {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let pages = self.clone();
        Box::pin(async move {
            let answer = tower::service_fn(move |request: Request<PollEventsRequest>| {
                pages.clone().answer(request.into_inner())
            });
            let codec = ProstCodec::<PollEventsResponse, PollEventsRequest>::default();
            Ok(Grpc::new(codec).unary(answer, request).await)
        })
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "a script is made of pages and refusals"
)]
fn page(ids: &[i64], last_id: i64) -> Page {
    let event = |&id: &i64| Event {
        id,
        r#type: "T".to_owned(),
        data_json: "{}".to_owned(),
        ts: None,
    };
    Ok(PollEventsResponse {
        events: ids.iter().map(event).collect(),
        last_id,
        more: false,
        epoch: 7,
    })
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

/// Follows until `requests` calls were made, then interrupts.
async fn follow(
    component: &str,
    script: Vec<Page>,
    requests: usize,
) -> (Pages, Script, Vec<String>) {
    let pages = Pages {
        pages: Arc::new(Mutex::new(script.into())),
        asked: Arc::default(),
    };
    let push = Script::default();
    let routes = GrpcServer::builder()
        .add_service(pages.clone())
        .add_service(push.clone());
    let program =
        Program::try_parse_from(["poll", component, "--follow"]).unwrap_or_else(|error| {
            panic!("{error}");
        });
    let (mut output, shown) = Output::captured(true);
    let seen = pages.clone();
    let interrupt = async move {
        while seen.asked().len() < requests {
            tokio::task::yield_now().await;
        }
    };
    over_connection(routes, async |server| {
        Poller::new(server, &program.args)
            .follow(interrupt, &mut output)
            .await
    })
    .await
    .unwrap();
    (pages, push, ids(&shown))
}

#[tokio::test]
async fn each_page_acknowledges_the_one_before_and_the_end_the_last() {
    let script = vec![page(&[1, 2], 3), page(&[4], 4)];
    let (pages, push, printed) = follow("CACHE", script, 3).await;
    assert_eq!(printed, ["1", "2", "4"]);
    assert_eq!(
        pages.asked(),
        [(None, None), (Some(3), Some(7)), (Some(4), Some(7))]
    );
    assert_eq!(push.acks(), [(4, Some(7))]);
}

#[tokio::test]
async fn a_loss_repeats_the_page_and_live_acknowledges_nothing() {
    let script = vec![
        page(&[1], 1),
        Err(Status::unavailable("away")),
        page(&[2], 2),
    ];
    let (pages, push, printed) = follow("LIVE", script, 4).await;
    assert_eq!(printed, ["1", "2"]);
    let places: Vec<_> = pages
        .asked()
        .into_iter()
        .map(|(last_id, _)| last_id)
        .collect();
    assert_eq!(places, [None, Some(1), Some(1), Some(2)]);
    assert!(push.acks().is_empty());
}
