//! Makes the receivers that the scripted service asks for, does what it tells,
//! and reports what they do. It judges nothing.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futoin_eventstream_client::{
    Backoff, Code, DeadLetter, Error, Event, EventStream, Group, OnFailure, Receiver, Start,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{ChildStdin, ChildStdout, Command},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::services::variable;

/// A case judges its own waits; this is for one that does not even end.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn play(name: &str) -> Result<()> {
    let mut scripted = Command::new(variable("TEST_SCRIPTED"))
        .args(["--case", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let input = scripted.stdin.take().context("stdin")?;
    let output = scripted.stdout.take().context("stdout")?;
    let conversation = tokio::spawn(converse(BufReader::new(output).lines(), input));
    let ended = timeout(PATIENCE, scripted.wait_with_output())
        .await
        .context("it does not end")??;
    if !ended.status.success() {
        conversation.abort();
        bail!("{}", String::from_utf8_lossy(&ended.stderr));
    }
    conversation.await?
}

async fn converse(mut output: Lines<BufReader<ChildStdout>>, input: ChildStdin) -> Result<()> {
    let line = output.next_line().await?.context("no announcement")?;
    let announcement: Value = serde_json::from_str(&line)?;
    let address = format!(
        "http://{}",
        announcement["address"].as_str().context("address")?
    );
    let (reports, reported) = mpsc::channel(1000);
    let receivers: HashMap<String, Arc<Scripted>> = announcement["receivers"]
        .as_array()
        .context("receivers")?
        .iter()
        .map(|spec| {
            let scripted = Scripted::new(spec.clone(), reports.clone());
            (
                spec["name"].as_str().unwrap().to_owned(),
                Arc::new(scripted),
            )
        })
        .collect();
    drop(reports);
    let running = join_all(
        receivers
            .values()
            .map(|receiver| receiver.clone().live(&address)),
    );
    let listening = async {
        while let Some(line) = output.next_line().await? {
            let told: Value = serde_json::from_str(&line)?;
            let name = told["receiver"].as_str().context("receiver")?;
            receivers[name].tell(told["tell"].as_str().context("tell")?)?;
        }
        anyhow::Ok(())
    };
    let all_ended = async {
        running.await;
        // The writer ends, and with it the input, once nobody reports any more.
        for receiver in receivers.values() {
            drop(receiver.reports.lock().unwrap().take());
        }
    };
    let (listened, (), written) = tokio::join!(listening, all_ended, write(input, reported));
    listened.and(written)
}

async fn write(mut input: ChildStdin, mut reported: mpsc::Receiver<Value>) -> Result<()> {
    while let Some(report) = reported.recv().await {
        input.write_all(format!("{report}\n").as_bytes()).await?;
    }
    Ok(())
}

/// A receiver of a case, and what it is told.
struct Scripted {
    spec: Value,
    reports: Mutex<Option<mpsc::Sender<Value>>>,
    start: CancellationToken,
    stop: CancellationToken,
    cancel: CancellationToken,
    release: Semaphore,
    calls: Mutex<HashMap<(&'static str, i64), u64>>,
}

impl Scripted {
    fn new(spec: Value, reports: mpsc::Sender<Value>) -> Self {
        let start = CancellationToken::new();
        if spec["wait"] != json!(true) {
            start.cancel();
        }
        Self {
            spec,
            reports: Mutex::new(Some(reports)),
            start,
            stop: CancellationToken::new(),
            cancel: CancellationToken::new(),
            release: Semaphore::new(0),
            calls: Mutex::default(),
        }
    }

    fn tell(&self, tell: &str) -> Result<()> {
        match tell {
            "start" => self.start.cancel(),
            "stop" => self.stop.cancel(),
            "cancel" => self.cancel.cancel(),
            "release" => self.release.add_permits(1),
            other => bail!("told {other}"),
        }
        Ok(())
    }

    fn report(&self, did: &str, mut report: Value) {
        report["did"] = json!(did);
        report["receiver"] = self.spec["name"].clone();
        if let Some(reports) = &*self.reports.lock().unwrap() {
            reports.try_send(report).expect("the script reads on");
        }
    }

    async fn live(self: Arc<Self>, address: &str) {
        self.start.cancelled().await;
        let client = EventStream::connect(address).unwrap();
        let ended = tokio::select! {
            ended = self.clone().run(client) => ended,
            () = self.cancel.cancelled() => Ok(()),
        };
        self.report(
            "ended",
            json!({ "error": ended.err().map(|error| described(&error)) }),
        );
    }

    async fn run(self: Arc<Self>, client: EventStream) -> Result<(), Error> {
        if self.spec["kind"] == "live" {
            let dropped = self.clone();
            let receiver = client
                .live()
                .on_dropped(move |count| dropped.report("dropped", json!({ "count": count })));
            return self.handle_all(receiver).await;
        }
        let options = &self.spec["options"];
        let component = options["component"].as_str().unwrap();
        let mut receiver = client
            .receive(component)
            .register(options["register"] != json!(false));
        if let Some(id) = options["start"]["after_id"].as_i64() {
            receiver = match options["replay"] {
                Value::Bool(true) => receiver.replay(Start::After(id)),
                _ => receiver.start(Start::After(id)),
            };
        }
        self.handle_all(receiver).await
    }

    async fn handle_all<K>(self: Arc<Self>, receiver: Receiver<K>) -> Result<(), Error> {
        let reconnects = self.clone();
        let receiver = self.configured(receiver).on_reconnect(move |reconnect| {
            let delay = reconnect.delay.as_secs_f64() * 1000.0;
            let report = json!({ "attempt": reconnect.attempt, "delay_ms": delay });
            reconnects.report("reconnect", report);
        });
        if self.spec["options"]["by"] == "group" {
            return receiver
                .run_groups(|group: Group| {
                    let scripted = self.clone();
                    async move {
                        for event in &group.events {
                            scripted.handle(event.id()).await?;
                        }
                        anyhow::Ok(())
                    }
                })
                .await;
        }
        receiver
            .run(|event: Event| {
                let scripted = self.clone();
                async move { scripted.handle(event.id()).await }
            })
            .await
    }

    fn configured<K>(self: &Arc<Self>, mut receiver: Receiver<K>) -> Receiver<K> {
        let options = &self.spec["options"];
        let millis = |name: &str| options[name].as_u64().map(Duration::from_millis);
        receiver = receiver
            .label(self.spec["name"].as_str().unwrap())
            .backoff(Backoff {
                initial: millis("backoff_initial_ms").unwrap(),
                max: millis("backoff_max_ms").unwrap(),
            });
        receiver = receiver.stop_on(self.stop.clone().cancelled_owned());
        if let Some(want) = options["want"].as_array() {
            receiver = receiver.want(want.iter().map(|want| want.as_str().unwrap()));
        }
        if let Some(events) = options["max_in_flight_events"].as_i64() {
            receiver = receiver.max_in_flight_events(i32::try_from(events).unwrap());
        }
        if let Some(bytes) = options["max_in_flight_bytes"].as_i64() {
            receiver = receiver.max_in_flight_bytes(bytes);
        }
        if let Some(events) = options["max_group_events"].as_i64() {
            receiver = receiver.max_group_events(i32::try_from(events).unwrap());
        }
        if let Some(linger) = millis("max_linger_ms") {
            receiver = receiver.max_linger(linger);
        }
        if let Some(interval) = millis("heartbeat_interval_ms") {
            receiver = receiver.heartbeat_interval(interval);
        }
        if let Some(workers) = options["workers"].as_u64() {
            receiver = receiver.workers(usize::try_from(workers).unwrap(), key);
        }
        self.with_policy(receiver)
    }

    fn with_policy<K>(self: &Arc<Self>, receiver: Receiver<K>) -> Receiver<K> {
        let policy = &self.spec["options"]["on_failure"];
        if policy == "stop" {
            return receiver.on_failure(OnFailure::Stop);
        }
        let Some(attempts) = policy["dead_letter"]["attempts"].as_u64() else {
            return receiver;
        };
        let scripted = self.clone();
        let attempts = u32::try_from(attempts).unwrap();
        receiver.on_failure(OnFailure::dead_letter(
            attempts,
            move |letter: DeadLetter| {
                let scripted = scripted.clone();
                async move {
                    let id = letter.event.id();
                    scripted.report("dead_letter", json!({ "id": id }));
                    let failing = scripted.handling(id)["dead_letter_fail"].as_u64();
                    let call = scripted.count("dead_letter", id);
                    ensure!(
                        call > failing.unwrap_or(0),
                        "call {call} of the callback fails"
                    );
                    Ok(())
                }
            },
        ))
    }

    /// What the handler does for an event.
    fn handling(&self, id: i64) -> &Value {
        let mut handling = self.spec["handler"].as_array().unwrap().iter();
        handling
            .find(|handling| handling["event"] == id)
            .unwrap_or(&Value::Null)
    }

    fn count(&self, what: &'static str, id: i64) -> u64 {
        let mut calls = self.calls.lock().unwrap();
        let count = calls.entry((what, id)).or_default();
        *count += 1;
        *count
    }

    async fn handle(&self, id: i64) -> Result<()> {
        self.report("handle", json!({ "id": id }));
        let handling = self.handling(id);
        if handling["wait"] == json!(true) {
            self.release.acquire().await?.forget();
        }
        let call = self.count("handle", id);
        let failing = match &handling["fail"] {
            Value::String(_) => u64::MAX,
            fail => fail.as_u64().unwrap_or(0),
        };
        ensure!(call > failing, "call {call} of the handler fails");
        self.report("handled", json!({ "id": id }));
        Ok(())
    }
}

fn key(event: &Event) -> String {
    event.data::<Value>().unwrap()["k"].to_string()
}

fn described(error: &Error) -> Value {
    match error {
        Error::Service(error) => json!({
            "kind": "service",
            "code": code_name(error.code),
            "reason": error.reason,
        }),
        Error::Handler { event, .. } => json!({ "kind": "handler", "event": event }),
        other => json!({ "kind": other.to_string() }),
    }
}

/// As the contract writes it: `NOT_FOUND`.
fn code_name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}
