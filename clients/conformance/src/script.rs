//! Plays the script of a case, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Map, Value, json};
use tokio::{sync::mpsc, time::timeout_at};

use crate::{
    case::{Case, Conflict, DeadLetters, Failure, Register, Step, Subscribe, Tell},
    judge::{Judge, Opening},
    network::Port,
    proto::{At, Consumer, ReadyToReceiveRequest, RegisterConsumerResponse, StartAt},
    receiver::{Receiver, Work},
    runner,
    service::{Messages, Observation},
    session::{Session, later},
};

/// How long anything may take that the script waits for.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same once the runner has left: what is under way in the network.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Script {
    case: Case,
    port: Port,
    judge: Judge,
    observed: mpsc::Receiver<Observation>,
    observations: mpsc::Sender<Observation>,
    /// Index of the receiver that steps are about.
    subject: usize,
}

impl Script {
    pub(crate) fn new(
        mut case: Case,
        port: Port,
        observations: mpsc::Sender<Observation>,
        observed: mpsc::Receiver<Observation>,
    ) -> Self {
        Self {
            judge: Judge::new(&mut case),
            case,
            port,
            observed,
            observations,
            subject: 0,
        }
    }

    /// Plays it to its end. The error is the verdict.
    pub(crate) async fn play(mut self) -> Result<()> {
        let steps = std::mem::take(&mut self.case.script);
        for (number, step) in steps.iter().enumerate() {
            self.judge
                .note(&format!("-- step {}: {step:?}", number + 1));
            let played = self.step(step).await;
            played.with_context(|| self.verdict(&format!("step {}: {step:?}", number + 1)))?;
        }
        let rest = self.finish().await;
        rest.with_context(|| self.verdict("after the last step"))
    }

    fn verdict(&self, place: &str) -> String {
        format!("case {}, {place}\n{}", self.case.name, self.judge.history())
    }

    async fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::As(name) => self.change_subject(name),
            Step::Tell(tell) => self.tell(*tell),
            Step::Register(register) => self.register(register).await,
            Step::Subscribe(subscribe) => self.subscribe(subscribe).await,
            Step::Quiet(millis) => self.wait(*millis, false).await,
            Step::Pause(millis) => self.wait(*millis, true).await,
            Step::AnswerAcks(answers) => {
                self.judge.ack_answers.extend(answers.iter().cloned());
                Ok(())
            }
            Step::AnswerHeld => self.judge.answer_held(),
            Step::NextAck(id) => {
                self.judge.next_ack = Some(*id);
                Ok(())
            }
            Step::Cut | Step::Shut | Step::Reopen => {
                self.change_port(step);
                Ok(())
            }
            Step::Started(_)
            | Step::Group(_)
            | Step::Heartbeat
            | Step::Unknown
            | Step::Ending
            | Step::End(_)
            | Step::Silence => self.send(step).await,
            _ => self.expect(step).await,
        }
    }

    fn change_subject(&mut self, name: &str) -> Result<()> {
        let mut names = self
            .judge
            .receivers
            .iter()
            .map(|receiver| &receiver.spec.name);
        self.subject = names
            .position(|other| other == name)
            .ok_or_else(|| anyhow!("cases.yaml: no receiver {name}"))?;
        Ok(())
    }

    fn tell(&mut self, tell: Tell) -> Result<()> {
        let receiver = self.receiver();
        if let Tell::Release | Tell::Cancel = tell {
            receiver.waiting = None;
        }
        let line = json!({ "tell": tell.as_str(), "receiver": receiver.spec.name });
        if let Tell::Cancel = tell {
            self.fence_subject();
        }
        runner::say(&line)
    }

    /// Nothing more may be acknowledged than is done now.
    fn fence_subject(&mut self) {
        let subject = self.subject;
        let own = self
            .judge
            .sessions
            .iter_mut()
            .filter(|session| session.receiver == subject);
        own.for_each(Session::fence_off);
    }

    fn change_port(&mut self, step: &Step) {
        match step {
            Step::Cut => self.port.cut(),
            Step::Shut => self.port.shut(),
            _ => return self.port.reopen(),
        }
        self.judge.sessions.iter_mut().for_each(Session::lose);
        for receiver in &mut self.judge.receivers {
            receiver.lost_at = Some(Instant::now());
            receiver.tries_freely = true;
        }
    }

    /// Sends something in the subject's session.
    async fn send(&mut self, step: &Step) -> Result<()> {
        let index = self.session()?;
        let session = &mut self.judge.sessions[index];
        let receiver = &mut self.judge.receivers[self.subject];
        match step {
            Step::Started(started) => session.start(started).await,
            Step::Group(group) if !receiver.is_reliable() => {
                receiver.progressed = true;
                session.send_live_group(group).await;
            }
            Step::Group(group) => {
                let in_order = group.seq.is_none_or(|seq| seq == session.groups);
                receiver.progressed |= in_order;
                session.send_group(group).await;
                if !in_order {
                    receiver.lost_at = Some(Instant::now());
                }
            }
            Step::Heartbeat => session.heartbeat().await,
            Step::Unknown => session.send_unknown().await,
            Step::Ending => session.announce_end().await,
            Step::Silence => {
                session.silence();
                receiver.lost_at = Some(Instant::now());
            }
            Step::End(failure) => {
                if failure.as_ref().is_some_and(Failure::fences) {
                    session.fence_off();
                }
                fail(receiver, failure.as_ref());
                let status = failure.as_ref().map(Failure::status).transpose()?;
                session.end(status).await;
            }
            other => bail!("cases.yaml: {other:?} is not sent"),
        }
        Ok(())
    }

    async fn register(&mut self, register: &Register) -> Result<()> {
        let opening = self.opening("RegisterConsumer").await?;
        let Opening::Register(call) = opening else {
            bail!("expected RegisterConsumer, but it called ReadyToReceive");
        };
        let receiver = self.receiver();
        receiver.calls(call.at)?;
        let options = &receiver.spec.options;
        let start = options.start.map(|start| start.after_id);
        ensure!(
            start_of(call.request.start.as_ref())? == start,
            "RegisterConsumer has the start {:?} instead of {start:?}",
            call.request.start,
        );
        if let Some(failure) = &register.fail {
            fail(receiver, Some(failure));
            let _ = call.answer.send(Err(failure.status()?));
            return Ok(());
        }
        let consumer = Consumer {
            component: receiver.spec.component().to_owned(),
            user: "anonymous".to_owned(),
            position: register.position,
            later: later(),
            ..Consumer::default()
        };
        self.judge.acked = self.judge.acked.max(register.position);
        let answer = RegisterConsumerResponse {
            consumer: Some(consumer),
            created: false,
            later: later(),
        };
        let _ = call.answer.send(Ok(answer));
        Ok(())
    }

    async fn subscribe(&mut self, subscribe: &Subscribe) -> Result<()> {
        let opening = self.opening("ReadyToReceive").await?;
        let Opening::Subscribe(call) = opening else {
            bail!("expected ReadyToReceive, but it called RegisterConsumer");
        };
        let subject = self.subject;
        let receiver = self.receiver();
        receiver.calls(call.at)?;
        if receiver.tries_freely {
            receiver.reconnects.clear();
            receiver.tries_freely = false;
        }
        judge_subscription(receiver, &call.request, subscribe)?;
        if let Some(failure) = &subscribe.fail {
            fail(receiver, Some(failure));
            let _ = call.answer.send(Err(failure.status()?));
            return Ok(());
        }
        let (messages, stream) = mpsc::channel(64);
        let number = self.judge.sessions.len();
        self.judge.sessions.push(Session::new(subject, messages));
        let stream = Messages::new(stream, number, self.observations.clone());
        let _ = call.answer.send(Ok(stream));
        Ok(())
    }

    /// The subject's next registration or subscription.
    async fn opening(&mut self, what: &str) -> Result<Opening> {
        let name = self.receiver().spec.name.clone();
        let component = self.receiver().spec.component().to_owned();
        self.until(&format!("{what} of {name}"), |judge, _| {
            let own = judge.openings.iter().position(|opening| match opening {
                Opening::Register(call) => call.request.component == component,
                Opening::Subscribe(call) => call.request.client_label == name,
            });
            Ok(own.and_then(|own| judge.openings.remove(own)))
        })
        .await
    }

    /// Waits for what a step says.
    async fn expect(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Handle(id) => self.work(Work::Handle(*id)).await,
            Step::Handled(id) => self.work(Work::Handled(*id)).await,
            Step::DeadLetter(id) => self.work(Work::DeadLetter(*id)).await,
            Step::Handles(ids) => self.handles(ids).await,
            Step::AnyOrder(work) => self.any_order(&work.handles, &work.handle).await,
            Step::DeadLetters(letters) => self.dead_letters(letters).await,
            Step::Acked(id) => {
                let what = format!("Ack {id}");
                let acked = |judge: &mut Judge, _| {
                    ensure!(
                        judge.acked <= *id,
                        "expected Ack {id}, but {} was acknowledged",
                        judge.acked
                    );
                    Ok((judge.acked == *id).then_some(()))
                };
                self.until(&what, acked).await
            }
            Step::AckAsked(id) => {
                let asked = |judge: &mut Judge, _| {
                    let found = judge.refused.iter().position(|other| other == id);
                    Ok(found.map(|found| judge.refused.remove(found)))
                };
                self.until(&format!("an Ack of {id}"), asked)
                    .await
                    .map(|_| ())
            }
            Step::Reconnect(attempt) => self.reconnect(*attempt).await,
            Step::Dropped(count) => {
                let dropped = |judge: &mut Judge, subject: usize| {
                    Ok((judge.receivers[subject].dropped == *count).then_some(()))
                };
                self.until(&format!("dropped: {count}"), dropped).await
            }
            Step::Closed => self.closed().await,
            Step::Ended => self.ended(None).await,
            Step::Failed(error) => self.ended(Some(error)).await,
            other => bail!("cases.yaml: {other:?} is not waited for"),
        }
    }

    async fn work(&mut self, expected: Work) -> Result<()> {
        let work = self.next_work(&format!("{expected:?}")).await?;
        ensure!(
            work == expected,
            "expected {expected:?}, but it reports {work:?}",
        );
        Ok(())
    }

    async fn handles(&mut self, ids: &[i64]) -> Result<()> {
        if self.receiver().spec.by_group() {
            return self.any_order(ids, &[]).await;
        }
        for id in ids {
            self.work(Work::Handle(*id)).await?;
            self.work(Work::Handled(*id)).await?;
        }
        Ok(())
    }

    /// Each is called once, and returns; the order is judged as it is reported.
    async fn any_order(&mut self, ids: &[i64], called: &[i64]) -> Result<()> {
        let done = ids
            .iter()
            .flat_map(|id| [Work::Handle(*id), Work::Handled(*id)]);
        let called = called.iter().map(|id| Work::Handle(*id));
        let mut expected: Vec<Work> = done.chain(called).collect();
        while !expected.is_empty() {
            let what = format!("in any order {expected:?}");
            let work = self.next_work(&what).await?;
            let place = expected.iter().position(|other| *other == work);
            let place = place.ok_or_else(|| anyhow!("expected {what}, but it reports {work:?}"))?;
            expected.remove(place);
        }
        Ok(())
    }

    async fn dead_letters(&mut self, letters: &DeadLetters) -> Result<()> {
        let (letter, again) = (Work::DeadLetter(letters.event), Work::Handle(letters.event));
        let mut calls = 0;
        while calls < letters.calls {
            let what = format!("{letter:?}, call {}", calls + 1);
            let work = self.next_work(&what).await?;
            ensure!(
                work == letter || work == again,
                "expected {what}, but it reports {work:?}",
            );
            calls += usize::from(work == letter);
        }
        Ok(())
    }

    async fn next_work(&mut self, what: &str) -> Result<Work> {
        self.until(what, |judge, subject| {
            Ok(judge.receivers[subject].work.pop_front())
        })
        .await
    }

    async fn reconnect(&mut self, attempt: u32) -> Result<()> {
        self.until(
            &format!("on_reconnect with attempt {attempt}"),
            |judge, subject| {
                let Some(reported) = judge.receivers[subject].reconnects.pop_front() else {
                    return Ok(None);
                };
                ensure!(
                    reported == attempt,
                    "expected on_reconnect with attempt {attempt}, but it reports {reported}",
                );
                Ok(Some(()))
            },
        )
        .await
    }

    async fn closed(&mut self) -> Result<()> {
        let session = self.session()?;
        self.until("the stream to be closed", |judge, _| {
            Ok(judge.sessions[session].closed.then_some(()))
        })
        .await
    }

    async fn ended(&mut self, expected: Option<&Map<String, Value>>) -> Result<()> {
        let what = expected.map_or("an end without error".to_owned(), |error| {
            format!("an end with {}", json!(error))
        });
        let end = self
            .until(&what, |judge, subject| {
                Ok(judge.receivers[subject].ended.clone())
            })
            .await?;
        match (expected, &end.error) {
            (None, None) => Ok(()),
            (Some(expected), Some(error))
                if expected
                    .iter()
                    .all(|(name, value)| error.get(name) == Some(value)) =>
            {
                Ok(())
            }
            _ => bail!("expected {what}, but it ended with {}", json!(end.error)),
        }
    }

    /// Observes for a while; something may happen then, or nothing.
    async fn wait(&mut self, millis: u64, something: bool) -> Result<()> {
        let end = tokio::time::Instant::now() + Duration::from_millis(millis);
        while let Ok(observation) = timeout_at(end, self.observed.recv()).await {
            let observation = observation.ok_or_else(|| anyhow!("the service is gone"))?;
            self.judge.observe(observation)?;
            ensure!(something, "nothing was to happen for {millis} ms");
        }
        Ok(())
    }

    /// Every receiver has ended, nothing is left over, and the runner leaves.
    async fn finish(&mut self) -> Result<()> {
        let names: Vec<String> = self
            .judge
            .receivers
            .iter()
            .map(|receiver| receiver.spec.name.clone())
            .collect();
        for (index, name) in names.iter().enumerate() {
            self.until(&format!("the end of {name}"), |judge, _| {
                Ok(judge.receivers[index].ended.is_some().then_some(()))
            })
            .await?;
        }
        self.until("every stream to be closed", |judge, _| {
            Ok((!judge.sessions.iter().any(Session::is_open)).then_some(()))
        })
        .await?;
        self.until("the runner to close its end", |judge, _| {
            Ok(judge.runner_left.then_some(()))
        })
        .await?;
        self.judge.judge_rest()
    }

    /// Observes until `take` finds what the script waits for.
    async fn until<T>(
        &mut self,
        what: &str,
        mut take: impl FnMut(&mut Judge, usize) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(taken) = take(&mut self.judge, self.subject)? {
                return Ok(taken);
            }
            if self.judge.runner_left {
                deadline = deadline.min(tokio::time::Instant::now() + LAST_PATIENCE);
            }
            let Ok(observation) = timeout_at(deadline, self.observed.recv()).await else {
                self.judge.judge_rest()?;
                ensure!(
                    !self.judge.runner_left,
                    "expected {what}, but the runner closed its end"
                );
                bail!("expected {what}, but nothing came for {PATIENCE:?}");
            };
            let observation = observation.ok_or_else(|| anyhow!("the service is gone"))?;
            self.judge
                .observe(observation)
                .with_context(|| format!("while the script waited for {what}"))?;
        }
    }

    fn receiver(&mut self) -> &mut Receiver {
        &mut self.judge.receivers[self.subject]
    }

    /// The subject's latest session.
    fn session(&self) -> Result<usize> {
        let sessions = &self.judge.sessions;
        sessions
            .iter()
            .rposition(|session| session.receiver == self.subject)
            .ok_or_else(|| anyhow!("cases.yaml: there was no subscription yet"))
    }
}

fn fail(receiver: &mut Receiver, failure: Option<&Failure>) {
    receiver.lost_at = Some(Instant::now());
    receiver.retry_after = failure
        .and_then(|failure| failure.retry_after_ms)
        .map(Duration::from_millis);
}

fn judge_subscription(
    receiver: &Receiver,
    request: &ReadyToReceiveRequest,
    expected: &Subscribe,
) -> Result<()> {
    let component = receiver.spec.component();
    ensure!(
        request.component == component,
        "ReadyToReceive of the component {:?} instead of {component:?}",
        request.component,
    );
    if let Some(conflict) = expected.conflict {
        let (right, name) = match conflict {
            Conflict::TakeOver => (request.conflict_policy <= 1, "TAKE_OVER"),
            Conflict::StandBy => (request.conflict_policy == 3, "STAND_BY"),
        };
        ensure!(
            right,
            "ReadyToReceive with the conflict policy {} instead of {name}",
            request.conflict_policy,
        );
    }
    let start = start_of(request.start.as_ref())?;
    ensure!(
        start == expected.start_after,
        "ReadyToReceive has the start {start:?} instead of {:?}",
        expected.start_after,
    );
    judge_wishes(receiver, request)
}

/// The options that the subscription hands on.
fn judge_wishes(receiver: &Receiver, request: &ReadyToReceiveRequest) -> Result<()> {
    let options = &receiver.spec.options;
    let types = request.want.as_ref().map(|want| &want.types);
    ensure!(
        types == options.want.as_ref(),
        "want is {types:?} instead of {:?}",
        options.want
    );
    let limits = (
        request.max_in_flight_events,
        request.max_in_flight_bytes,
        request.max_group_events,
    );
    let wished = (
        options.max_in_flight_events,
        options.max_in_flight_bytes,
        options.max_group_events,
    );
    ensure!(
        limits == wished,
        "max_in_flight_events, _bytes, max_group_events are {limits:?} instead of {wished:?}",
    );
    let durations = (
        millis(request.heartbeat_interval.as_ref()),
        millis(request.max_linger.as_ref()),
    );
    let wished = (options.heartbeat_interval_ms, options.max_linger_ms);
    ensure!(
        durations == wished,
        "heartbeat_interval and max_linger are {durations:?} ms instead of {wished:?}",
    );
    Ok(())
}

fn millis(duration: Option<&prost_types::Duration>) -> Option<u64> {
    let duration = Duration::try_from(*duration?).ok()?;
    u64::try_from(duration.as_millis()).ok()
}

fn start_of(start: Option<&StartAt>) -> Result<Option<i64>> {
    match start.map(|start| start.at.as_ref()) {
        None => Ok(None),
        Some(Some(At::AfterId(id))) => Ok(Some(*id)),
        Some(other) => bail!("a start that no option asked for: {other:?}"),
    }
}
