//! `eventstream add --lines`: NDJSON from stdin, in batches.
//!
//! Where batches are cut and what their request IDs are follows from the input
//! and the import's own ID alone. So an import that stopped half-way is
//! repeated as a whole with the same ID, and stores only what was missing.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, IsTerminal},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};
use tokio::{select, sync::mpsc, time};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::Status;
use tonic_types::StatusExt;
use uuid::Uuid;

use super::{
    connect::{MAX_MESSAGE_BYTES, Server},
    failure::Failure,
    output::Output,
};
use crate::proto::{ImportEventsRequest, ImportEventsResponse, NewEvent};

/// Half of what a transaction may hold: a commit stays short.
const BATCH_EVENTS: usize = 500;
/// A batch is closed before it outgrows this; one event may do so alone.
const BATCH_BYTES: usize = 1 << 20;
/// Batches read ahead of the connection.
const READ_AHEAD: usize = 2;

const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// A batch, or what is wrong with the line that ends the import.
type Item = Result<ImportEventsRequest, Failure>;

/// Imports stdin and prints the server's figures.
pub(super) async fn run(
    server: &Server,
    import_id: Uuid,
    output: &mut Output,
) -> Result<(), Failure> {
    from(BufReader::new(io::stdin()), server, import_id, output).await
}

pub(super) async fn from(
    input: impl BufRead + Send + 'static,
    server: &Server,
    import_id: Uuid,
    output: &mut Output,
) -> Result<(), Failure> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    // A thread of its own: a read of stdin cannot be cancelled, and unlike a
    // blocking task of the runtime a plain thread does not hold up the exit.
    thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || read_batches(input, import_id, &sender))
        .map_err(Failure::Input)?;
    let result = send(server, receiver, output).await;
    let (done, failure) = match result {
        Ok(done) => (done, None),
        Err((done, failure)) => (done, Some(failure)),
    };
    show(&done, output).map_err(Failure::Output)?;
    let Some(failure) = failure else {
        return Ok(());
    };
    output.note(format_args!(
        "eventstream: the import stopped; repeat all of it with --request-id {import_id}, and \
         batches that were stored are not stored again"
    ));
    Err(failure)
}

async fn send(
    server: &Server,
    receiver: mpsc::Receiver<Item>,
    output: &mut Output,
) -> Result<ImportEventsResponse, (ImportEventsResponse, Failure)> {
    let sent = Arc::new(AtomicUsize::new(0));
    let fault = Arc::new(OnceLock::new());
    let batches = until_fault(receiver, Arc::clone(&sent), Arc::clone(&fault));
    let mut client = server.generator();
    let call = client.import_events(batches);
    tokio::pin!(call);
    let mut tick = time::interval(PROGRESS_INTERVAL);
    let watched = io::stderr().is_terminal();
    let answer = loop {
        select! {
            answer = &mut call => break answer,
            _ = tick.tick(), if watched => {
                output.progress(format_args!("{} events sent", sent.load(Ordering::Relaxed)));
            }
        }
    };
    if watched {
        output.progress("");
    }
    let done = match answer {
        Ok(response) => response.into_inner(),
        Err(status) => return Err((committed(&status), status.into())),
    };
    match Arc::into_inner(fault).and_then(OnceLock::into_inner) {
        Some(fault) => Err((done, fault)),
        None => Ok(done),
    }
}

/// The batches before the first fault, which is kept aside.
fn until_fault(
    receiver: mpsc::Receiver<Item>,
    sent: Arc<AtomicUsize>,
    fault: Arc<OnceLock<Failure>>,
) -> impl Stream<Item = ImportEventsRequest> {
    ReceiverStream::new(receiver).map_while(move |item| match item {
        Ok(batch) => {
            sent.fetch_add(batch.events.len(), Ordering::Relaxed);
            Some(batch)
        }
        Err(failure) => {
            let _ = fault.set(failure);
            None
        }
    })
}

/// The figures that a refused import carries in its `ErrorInfo`.
fn committed(status: &Status) -> ImportEventsResponse {
    let metadata = status
        .get_details_error_info()
        .map(|info| info.metadata)
        .unwrap_or_default();
    let figure = |name: &str| {
        metadata
            .get(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    ImportEventsResponse {
        batch_count: figure("batch_count"),
        event_count: figure("event_count"),
        first_id: figure("first_id"),
        last_id: figure("last_id"),
    }
}

fn show(done: &ImportEventsResponse, output: &mut Output) -> io::Result<()> {
    if output.is_json() {
        return output.object(&json!({
            "batch_count": done.batch_count.to_string(),
            "event_count": done.event_count.to_string(),
            "first_id": done.first_id.to_string(),
            "last_id": done.last_id.to_string(),
        }));
    }
    match done.event_count {
        0 => output.line("no event stored"),
        count => output.line(format_args!(
            "{count} events stored, IDs {} to {}",
            done.first_id, done.last_id
        )),
    }
}

/// A line of the input. Other members, such as those that `poll --json`
/// prints, are skipped.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Ends early when nobody receives any more.
fn read_batches(mut input: impl BufRead, import_id: Uuid, sender: &mpsc::Sender<Item>) {
    let mut batcher = Batcher::new(import_id);
    for number in 1_u64.. {
        let event = match read_event(&mut input, number) {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(failure) => {
                // The unfinished batch is held back: after a repair of the
                // line it would be another one under the same ID.
                let _ = sender.blocking_send(Err(failure));
                return;
            }
        };
        if let Some(full) = batcher.add(event)
            && sender.blocking_send(Ok(full)).is_err()
        {
            return;
        }
    }
    if let Some(rest) = batcher.close() {
        let _ = sender.blocking_send(Ok(rest));
    }
}

/// The next event; `None` at the end. Blank lines are skipped.
fn read_event(input: &mut impl BufRead, number: u64) -> Result<Option<NewEvent>, Failure> {
    let limit = u64::try_from(MAX_MESSAGE_BYTES).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = io::Read::take(&mut *input, limit + 1);
        let read = bounded
            .read_until(b'\n', &mut line)
            .map_err(Failure::Input)?;
        if read == 0 {
            return Ok(None);
        }
        if line.len() > MAX_MESSAGE_BYTES {
            return Err(Failure::Usage(format!(
                "event {number} is larger than 16 MiB"
            )));
        }
        if !line.trim_ascii().is_empty() {
            break;
        }
    }
    match serde_json::from_slice::<Line<'_>>(&line) {
        Ok(parsed) => Ok(Some(NewEvent {
            r#type: parsed.r#type.into_owned(),
            data_json: parsed.data.get().to_owned(),
        })),
        Err(error) => Err(Failure::Usage(format!(
            "event {number} is not {{\"type\":...,\"data\":...}}: {error}"
        ))),
    }
}

struct Batcher {
    import_id: Uuid,
    number: u64,
    bytes: usize,
    events: Vec<NewEvent>,
}

impl Batcher {
    fn new(import_id: Uuid) -> Self {
        Self {
            import_id,
            number: 0,
            bytes: 0,
            events: Vec::new(),
        }
    }

    /// Returns the batch that `event` no longer fits into.
    fn add(&mut self, event: NewEvent) -> Option<ImportEventsRequest> {
        let size = event.data_json.len();
        let full = self.events.len() == BATCH_EVENTS || self.bytes + size > BATCH_BYTES;
        let closed = if full { self.close() } else { None };
        self.bytes += size;
        self.events.push(event);
        closed
    }

    fn close(&mut self) -> Option<ImportEventsRequest> {
        if self.events.is_empty() {
            return None;
        }
        let request_id = batch_id(self.import_id, self.number);
        self.number += 1;
        self.bytes = 0;
        Some(ImportEventsRequest {
            events: std::mem::take(&mut self.events),
            request_id: request_id.to_string(),
        })
    }
}

/// The request ID of a batch: the same for the same import and number.
fn batch_id(import_id: Uuid, number: u64) -> Uuid {
    let digest = Sha256::new()
        .chain_update(import_id)
        .chain_update(number.to_be_bytes())
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(input: &str) -> Vec<Item> {
        let (sender, mut receiver) = mpsc::channel(100);
        read_batches(input.as_bytes(), Uuid::nil(), &sender);
        drop(sender);
        let mut items = Vec::new();
        while let Some(item) = receiver.blocking_recv() {
            items.push(item);
        }
        items
    }

    #[test]
    fn lines_become_events_with_their_data_as_written() {
        let input = "{\"id\":\"7\",\"type\":\"A\",\"data\": {\"n\": 1.10}, \"ts\":\"x\"}\n\n\
                     {\"data\":null,\"type\":\"B\"}";
        let items = batches(input);
        let [Ok(batch)] = items.as_slice() else {
            panic!("{items:?}");
        };
        let seen: Vec<_> = batch
            .events
            .iter()
            .map(|e| (e.r#type.as_str(), e.data_json.as_str()))
            .collect();
        assert_eq!(seen, [("A", "{\"n\": 1.10}"), ("B", "null")]);
    }

    #[test]
    fn batches_are_cut_by_count_and_by_bytes_the_same_each_time() {
        let small = "{\"type\":\"A\",\"data\":1}\n".repeat(1001);
        let sizes = |items: &[Item]| -> Vec<usize> {
            items
                .iter()
                .map(|item| item.as_ref().unwrap().events.len())
                .collect()
        };
        let (first, second) = (batches(&small), batches(&small));
        assert_eq!(sizes(&first), [500, 500, 1]);
        let ids = |items: &[Item]| -> Vec<String> {
            items
                .iter()
                .map(|item| item.as_ref().unwrap().request_id.clone())
                .collect()
        };
        assert_eq!(ids(&first), ids(&second));
        assert_ne!(ids(&first)[0], ids(&first)[1]);
        let half = "1".repeat(BATCH_BYTES / 2);
        let large = format!("{{\"type\":\"A\",\"data\":{half}}}\n").repeat(3);
        assert_eq!(sizes(&batches(&large)), [2, 1]);
    }

    #[test]
    fn a_bad_line_ends_the_import_before_its_batch() {
        let mut input = "{\"type\":\"A\",\"data\":1}\n".repeat(501);
        input.push_str("{\"type\":\"A\"}\n");
        let items = batches(&input);
        assert_eq!(items.len(), 2);
        let fault = items[1].as_ref().unwrap_err().to_string();
        assert!(fault.starts_with("event 502 is not"), "{fault}");
    }

    #[test]
    fn nothing_in_nothing_out() {
        assert!(batches("").is_empty());
        assert!(batches("\n \n").is_empty());
    }
}
