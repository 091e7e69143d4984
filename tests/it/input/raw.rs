//! Messages that no generated client would send.

use bytes::{Buf, BufMut, Bytes};
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{
    calls::{invalid, metadata, refused, status},
    server::Server,
};

/// Sends bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Calls a unary method of `futoin.evt.v1` with these bytes.
async fn call(server: &Server, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.expect("connected");
    let path = format!("/futoin.evt.v1.{method}");
    let path = path.parse().expect("a path");
    let answer = grpc.unary(Request::new(message.into()), path, Raw).await?;
    Ok(answer.into_inner())
}

/// Field `number` with `content`, length-delimited.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let len = u8::try_from(content.len()).expect("short");
    [&[number << 3 | 2, len], content].concat()
}

const NOT_TEXT: &[u8] = b"\xff\xfe";

#[tokio::test]
async fn text_that_is_not_utf8_is_named() {
    let server = Server::start().await;
    let cases = [
        ("GenService/AddEvent", field(1, NOT_TEXT), "type"),
        ("GenService/AddEvent", field(2, NOT_TEXT), "data_json"),
        ("GenService/AddEvent", field(3, NOT_TEXT), "request_id"),
        (
            "GenService/AddEvents",
            field(1, &field(2, NOT_TEXT)),
            "events.data_json",
        ),
        (
            "PollService/RegisterConsumer",
            field(1, NOT_TEXT),
            "component",
        ),
        ("PollService/PollEvents", field(1, NOT_TEXT), "component"),
        (
            "PollService/PollEvents",
            field(3, &field(1, NOT_TEXT)),
            "want.types",
        ),
        ("PushService/Ack", field(1, NOT_TEXT), "component"),
        ("AdminService/SeekConsumer", field(2, NOT_TEXT), "user"),
        (
            "AdminService/UnregisterConsumer",
            field(1, NOT_TEXT),
            "component",
        ),
        (
            "AdminService/ListConsumers",
            field(2, NOT_TEXT),
            "page_token",
        ),
    ];
    for (method, message, name) in cases {
        invalid(call(&server, method, message).await, name, "UTF-8");
    }
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "0");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    let server = Server::start().await;
    let refusal = call(&server, "GenService/AddEvent", vec![0x0a, 200, 1, 0]).await;
    refused(refusal, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn message_above_16_mib_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut clients = server.clients().await;
    let size = 16 << 20;
    let refusal = call(&server, "GenService/AddEvent", vec![0; size + 1]).await;
    invalid(refusal, "message", "at most 16777216 bytes");
    assert_eq!(status(&mut clients).await.head_id, 0);
}

#[tokio::test]
async fn import_tells_how_far_it_came_when_a_message_cannot_be_read() {
    let server = Server::start().await;
    let mut grpc = Grpc::new(server.channel().await);
    grpc.ready().await.expect("connected");
    let event = [field(1, b"GOOD"), field(2, b"1")].concat();
    let good = Bytes::from(field(1, &event));
    let bad = Bytes::from(field(1, &field(1, NOT_TEXT)));
    let batches = tokio_stream::iter([good.clone(), good, bad]);
    let path = "/futoin.evt.v1.GenService/ImportEvents".parse();
    let answer = grpc
        .client_streaming(Request::new(batches), path.expect("a path"), Raw)
        .await;
    let status = refused(answer, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(metadata(&status, "batch_count").as_deref(), Some("2"));
    assert_eq!(metadata(&status, "last_id").as_deref(), Some("2"));
    assert_eq!(server.sqlite("SELECT count(*) FROM evt_queue"), "2");
}
