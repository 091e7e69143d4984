//! `add --lines` against a generator that refuses the second batch.

use std::collections::HashMap;

use tonic::{Code, Request, Response, Status, Streaming, transport::Server as GrpcServer};
use tonic_types::{ErrorDetails, StatusExt};
use uuid::Uuid;

use super::over_connection;
use crate::{
    cli::{
        failure::{Exit, Failure},
        import,
        output::{Output, capture::Shown},
    },
    grpc::server::gen_service_server::{GenService, GenServiceServer},
    proto::{
        AddEventRequest, AddEventResponse, AddEventsRequest, AddEventsResponse,
        ImportEventsRequest, ImportEventsResponse,
    },
};

/// Takes so many batches.
struct Generator {
    room: i64,
}

#[tonic::async_trait]
impl GenService for Generator {
    async fn add_event(
        &self,
        _: Request<AddEventRequest>,
    ) -> Result<Response<AddEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn add_events(
        &self,
        _: Request<AddEventsRequest>,
    ) -> Result<Response<AddEventsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn import_events(
        &self,
        request: Request<Streaming<ImportEventsRequest>>,
    ) -> Result<Response<ImportEventsResponse>, Status> {
        let mut batches = request.into_inner();
        let mut done = ImportEventsResponse::default();
        while let Some(batch) = batches.message().await? {
            if done.batch_count == self.room {
                return Err(refusal(&done));
            }
            done.batch_count += 1;
            done.event_count += i64::try_from(batch.events.len()).unwrap();
            done.first_id = 1;
            done.last_id = done.event_count;
        }
        Ok(Response::new(done))
    }
}

fn refusal(done: &ImportEventsResponse) -> Status {
    let figures = HashMap::from([
        ("batch_count".to_owned(), done.batch_count.to_string()),
        ("event_count".to_owned(), done.event_count.to_string()),
        ("first_id".to_owned(), done.first_id.to_string()),
        ("last_id".to_owned(), done.last_id.to_string()),
    ]);
    let details = ErrorDetails::with_error_info("INVALID_FIELD", "evt.futoin.org", figures);
    Status::with_error_details(Code::InvalidArgument, "no such type", details)
}

async fn run(room: i64, input: String) -> (Result<(), Failure>, Shown) {
    let (mut output, shown) = Output::captured(false);
    let routes = GrpcServer::builder().add_service(GenServiceServer::new(Generator { room }));
    let result = over_connection(routes, async |server| {
        let input = std::io::Cursor::new(input);
        import::from(input, &server, Uuid::nil(), &mut output).await
    })
    .await;
    output.flush().unwrap();
    (result, shown)
}

fn lines(count: usize) -> String {
    "{\"type\":\"A\",\"data\":1}\n".repeat(count)
}

#[tokio::test]
async fn all_lines_are_stored() {
    let (result, shown) = run(10, lines(1200)).await;
    result.unwrap();
    assert_eq!(shown.results(), "1200 events stored, IDs 1 to 1200\n");
    assert_eq!(shown.notes(), "");
}

#[tokio::test]
async fn a_refused_batch_tells_how_far_it_came_and_how_to_go_on() {
    let (result, shown) = run(1, lines(1200)).await;
    assert_eq!(result.unwrap_err().exit(), Exit::Refused);
    assert_eq!(shown.results(), "500 events stored, IDs 1 to 500\n");
    let repeat = format!("repeat all of it with --request-id {}", Uuid::nil());
    assert!(shown.notes().contains(&repeat), "{}", shown.notes());
}

#[tokio::test]
async fn a_bad_line_is_an_input_error_after_what_was_stored() {
    let (result, shown) = run(10, lines(700) + "{}\n").await;
    let failure = result.unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(
        failure.to_string().starts_with("event 701 is not"),
        "{failure}"
    );
    assert_eq!(shown.results(), "500 events stored, IDs 1 to 500\n");
}
