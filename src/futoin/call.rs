//! Running one message: who sent it, what it asks for, what is answered.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, timeout};

use super::{
    Shim,
    check::{self, Params},
    coder::Coder,
    doc::{Doc, Value, js_number},
    interface::{self, Function, SMALL_MESSAGE, Target},
    mac::Signing,
    message::{ENVELOPE, Fault, Outcome, answer},
    peer::Peer,
    push::Push,
    security::{self, Caller},
};
use crate::{
    auth::Principal,
    error::Error,
    telemetry::{self, traces},
};

/// How a message came.
#[derive(Debug, Clone)]
pub(super) struct Channel {
    /// Nobody listens to it.
    pub(super) secure: bool,
    /// The socket, if it is one.
    pub(super) peer: Option<Arc<Peer>>,
    /// Where it comes from, for logs.
    pub(super) from: Arc<str>,
}

/// A request that was found to be in order.
pub(super) struct Call<'a> {
    pub(super) caller: Principal,
    pub(super) target: Target,
    pub(super) params: Params<'a>,
    pub(super) channel: &'a Channel,
    pub(super) room: Room,
}

/// What a result may be long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    coder: Coder,
    pub(super) bytes: usize,
}

impl Room {
    /// Whether this JSON is short enough in the coding of the answer.
    pub(super) fn fits(&self, json: &str) -> bool {
        self.coder.size(json) <= self.bytes
    }
}

/// What a function has done.
pub(super) struct Done {
    /// Its result, as JSON.
    pub(super) result: String,
    /// To be begun when the caller knows the result.
    pub(super) push: Option<Push>,
}

impl Done {
    pub(super) fn with(result: impl Into<String>) -> Self {
        Self {
            result: result.into(),
            push: None,
        }
    }
}

/// What goes back.
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
    pub(super) coder: Coder,
    /// Clients that are refused come back at once, again and again.
    pub(super) refusal: bool,
    pub(super) push: Option<Push>,
}

/// A verdict on a message.
struct Verdict {
    outcome: Result<Done, Fault>,
    signing: Option<Signing>,
    limit: usize,
    function: &'static str,
    refusal: bool,
    /// It took too long: the answer is the least possible.
    late: bool,
}

impl Verdict {
    fn fault(fault: Fault, refusal: bool) -> Self {
        Self {
            outcome: Err(fault),
            signing: None,
            limit: SMALL_MESSAGE,
            function: "none",
            refusal,
            late: false,
        }
    }
}

impl Shim {
    /// Runs a message, whatever it is. An undecodable one is an empty one.
    pub(super) async fn answer(
        &self,
        coder: Coder,
        doc: Option<&Doc>,
        channel: &Channel,
    ) -> Answer {
        let begun = Instant::now();
        let message = doc.map(Doc::root).filter(|root| root.is_map());
        let rid = message.and_then(|message| message.get("rid"));
        let rid = rid.map(Value::json);
        let verdict = match message {
            Some(message) => {
                let taken = ENVELOPE + rid.as_ref().map_or(0, |rid| rid.len());
                self.judge(message, channel, coder, taken).await
            }
            None => Verdict::fault(Fault::invalid("Missing req.f"), false),
        };
        let Verdict {
            outcome,
            signing,
            limit,
            function,
            refusal,
            late,
        } = verdict;
        let (outcome, push): (Outcome, _) = match outcome {
            Ok(done) => (Ok(done.result), done.push),
            Err(fault) => (Err(fault), None),
        };
        let refusal = refusal && outcome.is_err();
        count(function, &outcome, begun.elapsed());
        let body = coder.write(answer(&outcome, rid.as_deref(), signing.as_ref()));
        let (body, push) = if late || body.len() > limit {
            let outcome = Err(Fault::bare("InternalError"));
            let rid = rid.filter(|_| channel.peer.is_some());
            (coder.write(answer(&outcome, rid.as_deref(), None)), None)
        } else {
            (body, push)
        };
        Answer {
            body,
            coder,
            refusal,
            push,
        }
    }

    /// The checks in the order of the original, then the function.
    async fn judge(
        &self,
        message: Value<'_>,
        channel: &Channel,
        coder: Coder,
        taken: usize,
    ) -> Verdict {
        let caller = match self.caller(message, channel) {
            Ok(caller) => caller,
            Err(fault) => return Verdict::fault(fault, true),
        };
        let signing = caller.as_ref().and_then(|caller| caller.signing.clone());
        let signed = |verdict| Verdict { signing, ..verdict };
        let (f, target) = match self.target(message, caller.is_some()) {
            Ok(found) => found,
            Err(fault) => return signed(Verdict::fault(fault, false)),
        };
        let limit = target.answer_limit();
        let room = Room {
            coder,
            bytes: limit.saturating_sub(taken),
        };
        let run = async {
            let caller = self.admit(target, channel, caller)?;
            let params = check::params(message, f, target.function)?;
            let call = Call {
                caller,
                target,
                params,
                channel,
                room,
            };
            self.run(call).await
        };
        let outcome = timeout(self.options.request_timeout, run).await;
        signed(Verdict {
            late: outcome.is_err(),
            outcome: outcome.unwrap_or_else(|_| Err(Fault::bare("InternalError"))),
            signing: None,
            limit,
            function: target.function.name(),
            refusal: matches!(
                target.function,
                Function::RegisterConsumer | Function::ReadyToReceive
            ),
        })
    }

    /// Who sent it; nobody known if it does not say.
    fn caller(&self, message: Value<'_>, channel: &Channel) -> Result<Option<Caller>, Fault> {
        let Some(sec) = message.get("sec").and_then(Value::text) else {
            return Ok(None);
        };
        let options = &self.options;
        let caller = security::authenticate(&options.users, &options.service_id, sec, message);
        caller.map(Some).inspect_err(|fault| {
            let why = fault.detail.as_deref().unwrap_or(fault.name);
            self.authority.note_unbelieved(why, &channel.from);
        })
    }

    fn target<'a>(&self, message: Value<'a>, known: bool) -> Result<(&'a str, Target), Fault> {
        let f = message.get("f").and_then(Value::text);
        let f = f.ok_or_else(|| Fault::invalid("Missing req.f"))?;
        Ok((f, interface::find(f, self.options.served, known)?))
    }

    /// Whether this caller may call this on this channel; as whom.
    fn admit(
        &self,
        target: Target,
        channel: &Channel,
        caller: Option<Caller>,
    ) -> Result<Principal, Fault> {
        if target.interface.secure && !channel.secure {
            return Err(Fault::security("Insecure channel"));
        }
        let caller = caller.ok_or_else(|| Fault::security("Anonymous not allowed"))?;
        if target.interface.duplex && channel.peer.is_none() {
            return Err(Fault::invalid("Bi-Direct Channel is required"));
        }
        let principal = self.authority.of_user(&caller.user, &channel.from);
        Ok(principal.map_err(Error::from)?)
    }

    async fn run(&self, call: Call<'_>) -> Result<Done, Fault> {
        match call.target.function {
            Function::Ping => Ok(ping(&call)),
            Function::AddEvent => self.add_event(call).await,
            Function::RegisterConsumer => self.register_consumer(call).await,
            Function::PollEvents => self.poll_events(call).await,
            Function::ReadyToReceive => self.ready_to_receive(call).await,
        }
    }
}

fn ping(call: &Call<'_>) -> Done {
    let echo = call.params.get("echo").and_then(Value::number);
    let echo = js_number(echo.unwrap_or_default());
    Done::with(format!(r#"{{"echo":{echo}}}"#))
}

fn count(function: &'static str, outcome: &Outcome, took: Duration) {
    let outcome = outcome.as_ref().map_or_else(|fault| fault.name, |_| "ok");
    metrics::counter!(telemetry::FUTOIN_REQUESTS, "function" => function, "outcome" => outcome)
        .increment(1);
    metrics::histogram!(telemetry::FUTOIN_REQUEST_SECONDS, "function" => function)
        .record(took.as_secs_f64());
    traces::rename(|| format!("futoin {function}"));
    if outcome != "ok" {
        traces::fail(outcome);
    }
}
