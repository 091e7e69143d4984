//! One interface to both fronts, for one consumer at a time.

use futoin_eventstream::proto::{
    PollEventsRequest, ReadyToReceiveRequest, RegisterConsumerRequest,
};
use tonic::{Code, Status, Streaming};

use crate::{
    calls,
    futoin::{
        builder,
        client::{self, Socket},
    },
    round_trip,
    server::{Clients, Server, eventually},
};

/// An event as a consumer sees it: id, type, text of the data.
pub type Seen = (i64, String, String);

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Invalid,
    NotRegistered,
    LiveNotAllowed,
    NotAllowed,
}

/// What a client can do, as user `local`.
pub trait Front {
    async fn add(&mut self, kind: &str, data: &str) -> Result<i64, Refusal>;
    async fn register(&mut self, component: &str) -> Result<(), Refusal>;
    async fn poll(
        &mut self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Seen>, Refusal>;
    /// Opens a push session.
    async fn receive(&mut self, component: &str, want: Option<&[&str]>) -> Result<(), Refusal>;
    /// The ids of the next group.
    async fn pushed(&mut self) -> Vec<i64>;
    /// Acknowledges that group.
    async fn take(&mut self);
    /// Until the consumer stands at this id.
    async fn until_taken(&mut self, component: &str, id: i64);
    /// Ends the push session, and waits until the service knows.
    async fn disconnect(&mut self);
}

async fn until_at(server: &Server, component: &str, id: i64) {
    let mut clients = server.clients().await;
    eventually(async || {
        let position = calls::consumer(&mut clients, component).await.position;
        if position >= id {
            Ok(())
        } else {
            Err(position)
        }
    })
    .await;
}

/// Over gRPC.
pub struct Grpc {
    pub server: Server,
    clients: Clients,
    session: Option<Session>,
}

struct Session {
    component: String,
    epoch: i64,
    stream: Streaming<futoin_eventstream::proto::ReadyToReceiveResponse>,
    last_id: i64,
}

impl Grpc {
    pub async fn start() -> Self {
        Self::of(builder().start().await).await
    }

    pub async fn of(server: Server) -> Self {
        let clients = server.clients().await;
        Self {
            server,
            clients,
            session: None,
        }
    }
}

fn refusal(status: &Status) -> Refusal {
    use tonic_types::StatusExt as _;
    let reason = status.get_details_error_info().expect("a reason").reason;
    match (status.code(), reason.as_str()) {
        (Code::InvalidArgument, "INVALID_FIELD") => Refusal::Invalid,
        (Code::InvalidArgument, "LIVE_NOT_ALLOWED") => Refusal::LiveNotAllowed,
        (Code::NotFound, "NOT_REGISTERED") => Refusal::NotRegistered,
        (Code::PermissionDenied, "NOT_ALLOWED") => Refusal::NotAllowed,
        _ => panic!("unexpected: {status}"),
    }
}

impl Front for Grpc {
    async fn add(&mut self, kind: &str, data: &str) -> Result<i64, Refusal> {
        let request = futoin_eventstream::proto::AddEventRequest {
            r#type: kind.to_owned(),
            data_json: data.to_owned(),
            request_id: String::new(),
        };
        let added = self.clients.generate.add_event(request).await;
        added
            .map(|added| added.into_inner().id)
            .map_err(|status| refusal(&status))
    }

    async fn register(&mut self, component: &str) -> Result<(), Refusal> {
        let request = RegisterConsumerRequest {
            component: component.to_owned(),
            start: None,
        };
        let registered = self.clients.poll.register_consumer(request).await;
        registered.map(|_| ()).map_err(|status| refusal(&status))
    }

    async fn poll(
        &mut self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Seen>, Refusal> {
        let request = PollEventsRequest {
            last_id,
            want: want.and_then(calls::want),
            ..calls::poll_of(component)
        };
        let polled = self.clients.poll.poll_events(request).await;
        let polled = polled.map_err(|status| refusal(&status))?.into_inner();
        let seen =
            |event: futoin_eventstream::proto::Event| (event.id, event.r#type, event.data_json);
        Ok(polled.events.into_iter().map(seen).collect())
    }

    async fn receive(&mut self, component: &str, want: Option<&[&str]>) -> Result<(), Refusal> {
        let request = ReadyToReceiveRequest {
            want: want.and_then(calls::want),
            ..round_trip::ready(component)
        };
        let opened = self.clients.push.ready_to_receive(request.clone()).await;
        drop(opened.map_err(|status| refusal(&status))?);
        let (started, stream) = round_trip::subscribe(&mut self.clients, request).await;
        self.session = Some(Session {
            component: component.to_owned(),
            epoch: started.epoch,
            stream,
            last_id: 0,
        });
        Ok(())
    }

    async fn pushed(&mut self) -> Vec<i64> {
        let session = self.session.as_mut().expect("a session");
        loop {
            let group = round_trip::next_group(&mut session.stream).await;
            session.last_id = group.last_id;
            // An empty one tells of what was filtered out.
            if !group.events.is_empty() {
                return calls::ids(&group.events);
            }
        }
    }

    async fn take(&mut self) {
        let session = self.session.as_ref().expect("a session");
        let (component, epoch) = (&session.component, Some(session.epoch));
        let acked = calls::ack(&mut self.clients, component, session.last_id, epoch).await;
        acked.expect("acknowledged");
    }

    async fn until_taken(&mut self, component: &str, id: i64) {
        until_at(&self.server, component, id).await;
    }

    async fn disconnect(&mut self) {
        let session = self.session.take().expect("a session");
        let component = session.component.clone();
        drop(session);
        calls::until_unsubscribed(&mut self.clients, &component).await;
    }
}

/// Over FutoIn, on one WebSocket.
pub struct Futoin {
    server: Server,
    socket: Socket,
    component: String,
    rid: String,
}

impl Futoin {
    pub async fn start() -> Self {
        Self::of(builder().start().await).await
    }

    pub async fn of(server: Server) -> Self {
        let socket = Socket::open(&server).await;
        Self {
            server,
            socket,
            component: String::new(),
            rid: String::new(),
        }
    }

    async fn call(&mut self, f: &str, p: &serde_json::Value) -> Result<serde_json::Value, Refusal> {
        let message = client::message(f, &p.to_string(), r#","rid":"C1""#);
        judged(&self.call_raw(&message).await)
    }

    async fn call_raw(&mut self, message: &str) -> String {
        let mut socket = Socket::open(&self.server).await;
        let message = message.replace("user:pass", "local:pass");
        if message.contains("readyToReceive") {
            std::mem::swap(&mut socket, &mut self.socket);
            self.socket = socket;
            self.socket.send(&message).await;
            return self.socket.text().await;
        }
        socket.send(&message).await;
        socket.text().await
    }
}

fn judged(answer: &str) -> Result<serde_json::Value, Refusal> {
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    match answer["e"].as_str() {
        None => Ok(answer["r"].clone()),
        Some("InvalidRequest") => Err(Refusal::Invalid),
        Some("NotRegistered") => Err(Refusal::NotRegistered),
        Some("LiveNotAllowed") => Err(Refusal::LiveNotAllowed),
        Some("SecurityError") => Err(Refusal::NotAllowed),
        Some(_) => panic!("unexpected: {answer}"),
    }
}

/// The texts of `data` in a list of events, to the letter.
#[derive(serde::Deserialize)]
struct Event<'a> {
    id: &'a str,
    r#type: &'a str,
    #[serde(borrow)]
    data: &'a serde_json::value::RawValue,
}

#[derive(serde::Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    r: Vec<Event<'a>>,
}

impl Front for Futoin {
    async fn add(&mut self, kind: &str, data: &str) -> Result<i64, Refusal> {
        let p = format!(r#"{{"type":"{kind}","data":{data}}}"#);
        let message = client::message("futoin.evt.gen:1.1:addEvent", &p, r#","rid":"C1""#);
        let id = judged(&self.call_raw(&message).await)?;
        let id = id.as_str().expect("an id");
        Ok(id.parse().expect("a number"))
    }

    async fn register(&mut self, component: &str) -> Result<(), Refusal> {
        let p = serde_json::json!({ "component": component });
        let registered = self
            .call("futoin.evt.poll:1.1:registerConsumer", &p)
            .await?;
        assert_eq!(registered, true);
        Ok(())
    }

    async fn poll(
        &mut self,
        component: &str,
        last_id: Option<i64>,
        want: Option<&[&str]>,
    ) -> Result<Vec<Seen>, Refusal> {
        let last_id = last_id.map(|id| id.to_string());
        let p = serde_json::json!({ "component": component, "last_id": last_id, "want": want });
        let f = "futoin.evt.poll:1.1:pollEvents";
        let message = client::message(f, &p.to_string(), r#","rid":"C1""#);
        let answer = self.call_raw(&message).await;
        let Ok(list) = serde_json::from_str::<Events>(&answer) else {
            judged(&answer)?;
            panic!("no list: {answer}");
        };
        let seen = |event: &Event| {
            let id = event.id.parse().expect("a number");
            (id, event.r#type.to_owned(), event.data.get().to_owned())
        };
        Ok(list.r.iter().map(seen).collect())
    }

    async fn receive(&mut self, component: &str, want: Option<&[&str]>) -> Result<(), Refusal> {
        component.clone_into(&mut self.component);
        let p = serde_json::json!({ "component": component, "want": want });
        let ready = self.call("futoin.evt.push:1.1:readyToReceive", &p).await?;
        assert_eq!(ready, true);
        Ok(())
    }

    async fn pushed(&mut self) -> Vec<i64> {
        let (rid, _, ids) = self.socket.group().await;
        self.rid = rid;
        ids.iter().map(|id| id.parse().expect("a number")).collect()
    }

    async fn take(&mut self) {
        self.socket.answer(&self.rid, r#""r":true"#).await;
    }

    async fn until_taken(&mut self, component: &str, id: i64) {
        until_at(&self.server, component, id).await;
    }

    async fn disconnect(&mut self) {
        self.socket = Socket::open(&self.server).await;
        let mut clients = self.server.clients().await;
        calls::until_unsubscribed(&mut clients, &self.component).await;
    }
}
