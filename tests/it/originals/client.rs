//! A process of Node that obeys: one order a line, one answer a line.

use std::{
    collections::HashMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};

use super::service::Door;
use crate::server::{PATIENCE, clean_command};

/// What one receiver may say before a test listens.
const UNHEARD: usize = 4096;

/// A script of `tests/futoin` that runs, and its standard output.
pub fn node(script: &str, arguments: &[String]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join(".cache/tools/futoin/node_modules");
    assert!(packages.exists(), "scripts/tools.sh installs the packages");
    let mut command: Command = clean_command("node");
    let mut child = command
        .arg(root.join("tests/futoin").join(script))
        .args(arguments)
        .env("NODE_PATH", packages)
        // The original's code is older than some words of its language.
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node is installed; scripts/tools.sh does that");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    (child, lines)
}

/// An error that a client saw, as FutoIn names it, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub error: String,
    pub about: String,
}

/// What a receiver says: a word, and what about.
pub type Said = (String, Value);

#[derive(Default)]
struct Listeners {
    answers: HashMap<u64, oneshot::Sender<Result<Value, Refused>>>,
    receivers: HashMap<String, mpsc::Sender<Said>>,
}

/// The original's clients in a process.
pub struct Client {
    orders: AsyncMutex<ChildStdin>,
    next: AtomicU64,
    listeners: Arc<Mutex<Listeners>>,
    _process: Child,
}

impl Client {
    /// A process without any face yet.
    pub fn start() -> Self {
        let (mut process, lines) = node("client.js", &[]);
        let orders = process.stdin.take().expect("it is piped");
        let listeners = Arc::<Mutex<Listeners>>::default();
        tokio::spawn(listen(lines, Arc::clone(&listeners)));
        Self {
            orders: AsyncMutex::new(orders),
            next: AtomicU64::new(0),
            listeners,
            _process: process,
        }
    }

    /// Gives an order and waits for its answer.
    pub async fn ask(&self, order: &str, args: Value) -> Result<Value, Refused> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.expect_answer(id, answer);
        let line = format!("{}\n", json!({"id": id, "order": order, "args": args}));
        let mut orders = self.orders.lock().await;
        orders
            .write_all(line.as_bytes())
            .await
            .expect("it runs, and reads");
        drop(orders);
        timeout(PATIENCE, answered)
            .await
            .unwrap_or_else(|_| panic!("{line} is answered"))
            .expect("it runs until it is told not to")
    }

    fn expect_answer(&self, id: u64, answer: oneshot::Sender<Result<Value, Refused>>) {
        let mut listeners = self.listeners.lock().expect("no panic inside");
        listeners.answers.insert(id, answer);
    }

    /// The same for an order that must succeed.
    pub async fn obey(&self, order: &str, args: Value) -> Value {
        let said = format!("{order} {args}");
        let done = self.ask(order, args).await;
        done.unwrap_or_else(|refused| panic!("{said}: {refused:?}"))
    }

    /// Registers a face with the CCM `ccm`; all of one CCM share a socket.
    pub async fn face_in(&self, ccm: &str, name: &str, kind: &str, door: &Door) -> Face<'_> {
        let args = json!({
            "name": name, "kind": kind, "ccm": ccm,
            "endpoint": door.endpoint, "credentials": door.credentials, "options": door.options,
        });
        self.obey("face", args).await;
        Face {
            client: self,
            name: name.to_owned(),
        }
    }

    /// Registers a face with a CCM of its own.
    pub async fn face(&self, name: &str, kind: &str, door: &Door) -> Face<'_> {
        self.face_in(name, name, kind, door).await
    }

    /// Starts a receiver of `component`. Its handler does with one group after
    /// the other what `acts` say (`take`, `fail`, `hold`), then it takes.
    pub async fn receive(
        &self,
        kind: &str,
        component: &str,
        door: &Door,
        acts: &[&str],
    ) -> Receiver<'_> {
        let name = format!("{kind}-{component}");
        let mut options = door.options.clone();
        options["component"] = component.into();
        self.receive_with(&name, kind, door, options, acts).await
    }

    /// The same with further options of the receiver.
    pub async fn receive_with(
        &self,
        name: &str,
        kind: &str,
        door: &Door,
        options: Value,
        acts: &[&str],
    ) -> Receiver<'_> {
        let said = self.listen_to(name);
        let script: Vec<Value> = acts.iter().map(|act| json!({"act": act})).collect();
        let args = json!({
            "name": name, "kind": kind, "endpoint": door.endpoint,
            "credentials": door.credentials, "options": options, "script": script,
        });
        self.obey("receive", args).await;
        Receiver {
            client: self,
            name: name.to_owned(),
            said,
            connections: 0,
        }
    }

    /// What a receiver or face of that name says from now on.
    pub fn listen_to(&self, name: &str) -> mpsc::Receiver<Said> {
        let (say, said) = mpsc::channel(UNHEARD);
        let mut listeners = self.listeners.lock().expect("no panic inside");
        listeners.receivers.insert(name.to_owned(), say);
        said
    }
}

async fn listen(mut lines: Lines<BufReader<ChildStdout>>, listeners: Arc<Mutex<Listeners>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said: Value = serde_json::from_str(&line).expect("it talks in JSON");
        let mut listeners = listeners.lock().expect("no panic inside");
        if let Some(name) = said["receiver"].as_str() {
            let word = said["says"].as_str().expect("a word").to_owned();
            if let Some(say) = listeners.receivers.get(name) {
                // A receiver that nobody hears any more may say what it likes.
                let _ = say.try_send((word, said["about"].take()));
            }
            continue;
        }
        let id = said["id"].as_u64().expect("an answer has the order's id");
        let answer = match said["error"].as_str() {
            None => Ok(said["result"].take()),
            Some(error) => Err(Refused {
                error: error.to_owned(),
                about: said["about"].as_str().unwrap_or_default().to_owned(),
            }),
        };
        if let Some(asked) = listeners.answers.remove(&id) {
            let _ = asked.send(answer);
        }
    }
    // Whoever waits for an answer sees its end.
    listeners.lock().expect("no panic inside").answers.clear();
}

/// A face of the original.
pub struct Face<'a> {
    client: &'a Client,
    name: String,
}

impl Face<'_> {
    pub async fn try_call(&self, method: &str, args: Value) -> Result<Value, Refused> {
        let args = json!({"face": self.name, "method": method, "args": args});
        self.client.ask("call", args).await
    }

    pub async fn call(&self, method: &str, args: Value) -> Value {
        let said = format!("{} {method} {args}", self.name);
        let done = self.try_call(method, args).await;
        done.unwrap_or_else(|refused| panic!("{said}: {refused:?}"))
    }

    /// Adds events, so many calls at a time; their ids, sorted.
    pub async fn add(&self, kind: &str, count: usize, callers: usize) -> Vec<i64> {
        let args = json!({"face": self.name, "type": kind, "count": count, "callers": callers});
        let answer = self.client.obey("add", args).await;
        let mut ids: Vec<i64> = answer.as_array().expect("ids").iter().map(number).collect();
        ids.sort_unstable();
        ids
    }

    /// Adds one event; its id.
    pub async fn add_one(&self, kind: &str, data: Value) -> i64 {
        number(&self.call("addEvent", json!([kind, data])).await)
    }
}

/// An id as FutoIn has it.
pub fn number(id: &Value) -> i64 {
    let text = id.as_str().expect("ids are strings");
    text.parse().expect("of a number")
}

/// Ids of events.
pub fn ids(events: &Value) -> Vec<i64> {
    let events = events.as_array().expect("a list of events");
    events.iter().map(|event| number(&event["id"])).collect()
}

/// A receiver of the original.
pub struct Receiver<'a> {
    client: &'a Client,
    name: String,
    said: mpsc::Receiver<Said>,
    connections: usize,
}

impl Receiver<'_> {
    /// What it says next.
    async fn next(&mut self) -> Said {
        let said = timeout(PATIENCE, self.said.recv()).await;
        let said = said.unwrap_or_else(|_| panic!("{} says something", self.name));
        let said = said.expect("it runs");
        self.connections += usize::from(said.0 == "ready");
        said
    }

    /// How often it was connected, by what it said up to now.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Waits until it was connected so often; groups may have come before.
    pub async fn connected(&mut self, times: usize) {
        while self.connections < times {
            self.next().await;
        }
    }

    /// Waits until it says that; what it said about it.
    pub async fn until(&mut self, word: &str) -> Value {
        loop {
            let (said, about) = self.next().await;
            if said == word {
                return about;
            }
        }
    }

    /// Ids of the next group.
    pub async fn group(&mut self) -> Vec<i64> {
        ids(&self.until("events").await)
    }

    /// Ids of groups until there are so many.
    pub async fn groups(&mut self, count: usize) -> Vec<i64> {
        let mut seen = Vec::new();
        while seen.len() < count {
            seen.extend(self.group().await);
        }
        seen
    }

    /// Ends the handler that holds a group, with success.
    pub async fn release(&self) {
        self.client
            .obey("release", json!({"name": self.name}))
            .await;
    }

    /// Ends it.
    pub async fn stop(self) {
        self.client.obey("stop", json!({"name": self.name})).await;
    }
}
