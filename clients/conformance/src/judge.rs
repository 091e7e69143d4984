//! What holds in every case, whatever its script says: each observation is
//! judged as it comes, and kept for the script where that has to expect it.
//!
//! The calls of a client and the lines of its runner come on different ways.
//! An acknowledgement may therefore be seen before the report that justifies
//! it: it is answered once the report is here, and refused where it cannot come.

use std::{collections::VecDeque, time::Instant};

use anyhow::{Result, anyhow, bail, ensure};

use crate::{
    case::{AckAnswer, Case},
    proto::{
        AckRequest, AckResponse, ReadyToReceiveRequest, RegisterConsumerRequest,
        RegisterConsumerResponse,
    },
    receiver::{End, Receiver, Work},
    runner::{Did, Report},
    service::{Call, Messages, Observation},
    session::{Session, later},
};

/// A registration or subscription that the script has to answer.
pub(crate) enum Opening {
    Register(Call<RegisterConsumerRequest, RegisterConsumerResponse>),
    Subscribe(Call<ReadyToReceiveRequest, Messages>),
}

type AckCall = Call<AckRequest, AckResponse>;

/// The state of a case.
pub(crate) struct Judge {
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) openings: VecDeque<Opening>,
    /// How the next acknowledgements are answered.
    pub(crate) ack_answers: VecDeque<AckAnswer>,
    /// Acknowledged with success.
    pub(crate) acked: i64,
    /// Acknowledgements that were asked for and not answered with success.
    pub(crate) refused: Vec<i64>,
    /// The position that the next acknowledgement must have.
    pub(crate) next_ack: Option<i64>,
    /// Calls that no report justifies yet.
    unjustified: VecDeque<(usize, AckCall)>,
    held: Option<(usize, AckCall)>,
    log: VecDeque<String>,
    began: Instant,
    pub(crate) runner_left: bool,
}

impl Judge {
    pub(crate) fn new(case: &mut Case) -> Self {
        Self {
            receivers: case.receivers.drain(..).map(Receiver::new).collect(),
            sessions: Vec::new(),
            openings: VecDeque::new(),
            ack_answers: VecDeque::new(),
            acked: 0,
            refused: Vec::new(),
            next_ack: None,
            unjustified: VecDeque::new(),
            held: None,
            log: VecDeque::new(),
            began: Instant::now(),
            runner_left: false,
        }
    }

    /// Keeps a line for the verdict.
    pub(crate) fn note(&mut self, line: &str) {
        if self.log.len() == 60 {
            self.log.pop_front();
        }
        let millis = self.began.elapsed().as_millis();
        self.log.push_back(format!("{millis:>6} ms  {line}"));
    }

    /// What happened last, for the verdict.
    pub(crate) fn history(&self) -> String {
        let lines: Vec<&str> = self.log.iter().map(String::as_str).collect();
        lines.join("\n")
    }

    pub(crate) fn observe(&mut self, observation: Observation) -> Result<()> {
        match observation {
            Observation::Register(call) => self.registers(call)?,
            Observation::Subscribe(call) => self.subscribes(call)?,
            Observation::Ack(call) => self.acknowledges(call)?,
            Observation::Foreign(name) => bail!("a receiver calls {name}"),
            Observation::Closed(session) => self.closes(session),
            Observation::Report(report) => self.reports(report)?,
            Observation::Unreadable(line) => bail!("the runner's line cannot be read: {line}"),
            Observation::RunnerLeft => {
                self.note("runner: closed its end");
                self.runner_left = true;
            }
        }
        self.answer_justified()
    }

    fn registers(
        &mut self,
        call: Call<RegisterConsumerRequest, RegisterConsumerResponse>,
    ) -> Result<()> {
        self.note(&format!("RegisterConsumer {:?}", call.request));
        let component = &call.request.component;
        let known = self
            .receivers
            .iter()
            .any(|receiver| receiver.is_reliable() && receiver.spec.component() == component);
        ensure!(known, "RegisterConsumer of the component {component:?}");
        self.openings.push_back(Opening::Register(call));
        Ok(())
    }

    fn subscribes(&mut self, call: Call<ReadyToReceiveRequest, Messages>) -> Result<()> {
        self.note(&format!("ReadyToReceive {:?}", call.request));
        ensure!(
            !call.has_deadline,
            "ReadyToReceive was called with a deadline"
        );
        let label = &call.request.client_label;
        ensure!(
            self.receivers
                .iter()
                .any(|receiver| receiver.spec.name == *label),
            "ReadyToReceive with the client_label {label:?}, which no receiver has",
        );
        self.openings.push_back(Opening::Subscribe(call));
        Ok(())
    }

    fn closes(&mut self, session: usize) {
        self.sessions[session].closed = true;
        self.sessions[session].silence();
        if !self.sessions[session].ended {
            let name = self.name_of(session).to_owned();
            self.note(&format!("{name}: closed its stream"));
        }
    }

    fn acknowledges(&mut self, call: AckCall) -> Result<()> {
        let AckRequest {
            ref component,
            last_id,
            epoch,
        } = call.request;
        self.note(&format!("Ack {last_id} of epoch {epoch:?}"));
        let epoch = epoch.ok_or_else(|| anyhow!("Ack {last_id} has no epoch"))?;
        let index = self
            .sessions
            .iter()
            .rposition(|session| session.epoch == epoch && epoch != 0)
            .ok_or_else(|| anyhow!("Ack {last_id} has the epoch {epoch} of no session"))?;
        let receiver = &self.receivers[self.sessions[index].receiver];
        ensure!(receiver.is_reliable(), "Ack of a live session");
        ensure!(
            receiver.ended.is_none(),
            "Ack {last_id} after the receiver had ended"
        );
        let right = receiver.spec.component();
        ensure!(
            component == right,
            "Ack of the component {component:?} instead of {right:?}"
        );
        self.judge_overlap(index, last_id)?;
        self.judge_position(index, last_id)?;
        if let Some(next) = self.next_ack.take() {
            ensure!(last_id == next, "Ack {last_id} where {next} was due");
        }
        self.sessions[index].asked = Some((last_id, false));
        self.unjustified.push_back((index, call));
        Ok(())
    }

    /// At most one call is under way.
    fn judge_overlap(&mut self, session: usize, last_id: i64) -> Result<()> {
        if self
            .held
            .as_ref()
            .is_some_and(|(_, held)| held.answer.is_closed())
        {
            self.held = None;
        }
        let waiting = self.unjustified.iter().chain(&self.held);
        for (other, call) in waiting {
            ensure!(
                self.sessions[*other].receiver != self.sessions[session].receiver
                    || call.answer.is_closed(),
                "Ack {last_id} while the Ack of {} is under way",
                call.request.last_id,
            );
        }
        Ok(())
    }

    fn judge_position(&self, session: usize, last_id: i64) -> Result<()> {
        let session = &self.sessions[session];
        if let Some((before, succeeded)) = session.asked {
            ensure!(
                last_id >= before,
                "Ack {last_id} is below the Ack of {before}"
            );
            ensure!(
                last_id > before || !succeeded,
                "Ack {last_id} was answered with success, and is repeated",
            );
        }
        ensure!(
            session.delivered.contains_key(&last_id) || session.group_ends.contains(&last_id),
            "Ack {last_id} is neither an event nor the last_id of a group of this session",
        );
        if let Some(fence) = session.fence {
            ensure!(
                last_id <= fence,
                "Ack {last_id} after the session was over for good: at most {fence} was done then",
            );
        }
        self.judge_waiting(session, last_id)
    }

    /// An event whose handler waits for `release` is certainly not done.
    fn judge_waiting(&self, session: &Session, last_id: i64) -> Result<()> {
        let receiver = &self.receivers[session.receiver];
        if let Some(waiting) = receiver.waiting {
            ensure!(
                last_id < waiting || !session.delivered.contains_key(&waiting),
                "Ack {last_id} while the handler of event {waiting} is at work",
            );
        }
        Ok(())
    }

    fn answer_justified(&mut self) -> Result<()> {
        while let Some((index, call)) = self.unjustified.front() {
            let last_id = call.request.last_id;
            self.judge_waiting(&self.sessions[*index], last_id)?;
            if self.sessions[*index].undone_below(last_id).is_some() {
                return Ok(());
            }
            if let Some((index, call)) = self.unjustified.pop_front() {
                self.answer(index, call)?;
            }
        }
        Ok(())
    }

    fn answer(&mut self, session: usize, call: AckCall) -> Result<()> {
        match self.ack_answers.pop_front() {
            None => self.succeed(session, call),
            Some(AckAnswer::Hold) => {
                self.refused.push(call.request.last_id);
                self.held = Some((session, call));
            }
            Some(AckAnswer::Fail(failure)) => {
                self.refused.push(call.request.last_id);
                self.note(&format!("   answered {failure:?}"));
                if failure.fences() {
                    self.sessions[session].fence_off();
                    let receiver = self.sessions[session].receiver;
                    self.receivers[receiver].lost_at = Some(Instant::now());
                }
                let _ = call.answer.send(Err(failure.status()?));
            }
        }
        Ok(())
    }

    fn succeed(&mut self, session: usize, call: AckCall) {
        let last_id = call.request.last_id;
        self.acked = self.acked.max(last_id);
        let answer = AckResponse {
            acked_id: self.acked,
            later: later(),
        };
        // A caller that is gone does not know that it succeeded.
        let known = call.answer.send(Ok(answer)).is_ok();
        self.sessions[session].asked = Some((last_id, known));
    }

    /// Answers the acknowledgement that is held.
    pub(crate) fn answer_held(&mut self) -> Result<()> {
        let (session, call) = self
            .held
            .take()
            .ok_or_else(|| anyhow!("cases.yaml: no acknowledgement is held"))?;
        self.succeed(session, call);
        Ok(())
    }

    fn reports(&mut self, report: Report) -> Result<()> {
        self.note(&format!("{}: {:?}", report.receiver, report.did));
        let index = self
            .receivers
            .iter()
            .position(|receiver| receiver.spec.name == report.receiver)
            .ok_or_else(|| anyhow!("no receiver is called {:?}", report.receiver))?;
        let receiver = &mut self.receivers[index];
        ensure!(
            receiver.ended.is_none(),
            "{:?} after it had ended",
            report.did
        );
        if let Some(done) = receiver.is_done(&report.did) {
            receiver.waiting.take_if(|waiting| *waiting == done);
            self.set_done(index, done);
        }
        let receiver = &mut self.receivers[index];
        match report.did {
            Did::Handle { id } => {
                self.judge_handle(index, id)?;
                let receiver = &mut self.receivers[index];
                receiver.work.push_back(Work::Handle(id));
                if receiver.waits_for(id) {
                    receiver.waiting = Some(id);
                }
            }
            Did::Handled { id } => receiver.work.push_back(Work::Handled(id)),
            Did::DeadLetter { id } => receiver.work.push_back(Work::DeadLetter(id)),
            Did::Reconnect { attempt, delay_ms } => receiver.reconnects(attempt, delay_ms)?,
            Did::Dropped { count } => {
                ensure!(
                    count > receiver.dropped,
                    "dropped {count} after {}",
                    receiver.dropped
                );
                receiver.dropped = count;
            }
            Did::Ended { error } => receiver.ended = Some(End { error }),
        }
        Ok(())
    }

    fn set_done(&mut self, receiver: usize, id: i64) {
        let own = self
            .sessions
            .iter_mut()
            .filter(|session| session.receiver == receiver);
        for event in own.filter_map(|session| session.delivered.get_mut(&id)) {
            event.done = true;
        }
    }

    /// The event was delivered, is not done, and is the first of its key.
    fn judge_handle(&self, receiver: usize, id: i64) -> Result<()> {
        let mut own = self
            .sessions
            .iter()
            .rev()
            .filter(|session| session.receiver == receiver);
        let (session, event) = own
            .find_map(|session| Some((session, session.delivered.get(&id)?)))
            .ok_or_else(|| anyhow!("event {id} is handled, and was not delivered"))?;
        ensure!(
            !event.done,
            "event {id} is handled again in the same session"
        );
        let spec = &self.receivers[receiver].spec;
        let earlier = session.delivered.range(..id).find(|(_, other)| {
            !other.done
                && (other.key == event.key || spec.options.workers <= 1)
                && (other.group != event.group || !spec.by_group())
        });
        if let Some((earlier, _)) = earlier {
            bail!("event {id} is handled before event {earlier} is done");
        }
        Ok(())
    }

    /// What is left over at the end of a script.
    pub(crate) fn judge_rest(&self) -> Result<()> {
        match self.openings.front() {
            Some(Opening::Register(_)) => bail!("a RegisterConsumer that nothing asked for"),
            Some(Opening::Subscribe(call)) => bail!(
                "a ReadyToReceive of {:?} that nothing asked for",
                call.request.client_label
            ),
            None => {}
        }
        for receiver in &self.receivers {
            let name = &receiver.spec.name;
            if let Some(work) = receiver.work.front() {
                bail!("{name}: {work:?} that nothing asked for");
            }
            if let (Some(attempt), false) = (receiver.reconnects.front(), receiver.tries_freely) {
                bail!("{name}: on_reconnect, attempt {attempt}, that nothing asked for");
            }
        }
        if let Some((session, call)) = self.unjustified.front() {
            let last_id = call.request.last_id;
            let undone = self.sessions[*session].undone_below(last_id);
            bail!(
                "Ack {last_id}, but event {} is not done",
                undone.unwrap_or(last_id)
            );
        }
        Ok(())
    }

    pub(crate) fn name_of(&self, session: usize) -> &str {
        &self.receivers[self.sessions[session].receiver].spec.name
    }
}
