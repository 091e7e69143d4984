//! `futoin.evt.push`: a subscription as calls to its client.
//!
//! Opening one, and what its end means for the socket; `run` is between.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    Delivery, Shim,
    call::{Call, Done},
    events::Unsendable,
    interface::{LARGE_MESSAGE, SMALL_MESSAGE},
    message::Fault,
    peer::{NoAnswer, Peer, PushPlace},
    poll::{component, key, want},
    run::Run,
    source::Source,
};
use crate::{
    auth::Principal,
    error::Error,
    event::{ConsumerKey, Label},
    limits,
    stream::{Conflict, PushLimits, Subscribe},
};

/// What operators see of such a subscription.
pub(super) fn label() -> Label {
    Label::parse("FutoIn").expect("a short word")
}

/// A subscription that was opened and waits for its caller to know.
pub(super) struct Push {
    pub(super) source: Source,
    pub(super) key: ConsumerKey,
    pub(super) caller: Principal,
    /// The function of the client.
    pub(super) receiver: &'static str,
    /// Bytes of a call.
    pub(super) limit: usize,
    pub(super) peer: Arc<Peer>,
    place: Arc<PushPlace>,
}

impl Shim {
    /// `readyToReceive`.
    pub(super) async fn ready_to_receive(&self, call: Call<'_>) -> Result<Done, Fault> {
        let component = component(call.params)?;
        let key = key(&call.caller.user, &component);
        let live = component.is_live();
        if self.options.delivery == Delivery::Live && !live {
            return Err(Fault::security("Only LIVE delivery is allowed"));
        }
        let want = want(call.params)?;
        let peer = call.channel.peer.as_ref().ok_or_else(Fault::unexpected)?;
        // Who may not have another keeps the one that is there.
        self.gate.may_receive(&call.caller, &component, &want)?;
        let place = Arc::new(peer.replace_push(&key));
        let conflict = if live {
            Conflict::TakeOver
        } else {
            self.turns.conflict(&key)
        };
        let subscription = self
            .gate
            .subscribe(
                &call.caller,
                Subscribe {
                    user: key.user.clone(),
                    component,
                    want,
                    start: None,
                    limits: self.push_limits(),
                    conflict,
                    label: label(),
                },
            )
            .await?;
        let (receiver, limit) = if call.target.is_first_minor() {
            ("futoin.evt.receiver:1.0:onEvents", SMALL_MESSAGE)
        } else {
            ("futoin.evt.receiver:1.1:onEvents", LARGE_MESSAGE)
        };
        let push = Push {
            source: Source::new(subscription),
            key,
            caller: call.caller,
            receiver,
            limit,
            place,
            peer: Arc::clone(peer),
        };
        Ok(Done {
            push: Some(push),
            ..Done::with("true")
        })
    }

    fn push_limits(&self) -> PushLimits {
        PushLimits {
            group_events: self.options.group_events,
            group_bytes: limits::FUTOIN_GROUP_BYTES,
            // Only moves the position past what a filter leaves out.
            heartbeat: limits::FUTOIN_PROGRESS_INTERVAL,
            ..self.gate.settings().push
        }
    }
}

/// Why a push is over.
#[derive(Debug)]
pub(super) enum End {
    /// The client does not answer, or is gone.
    NoAnswer(NoAnswer),
    /// The stream ended.
    Stream(Error),
    /// An event that cannot be sent comes next.
    Blocked(Unsendable),
}

impl Push {
    /// Delivers until the end, and says goodbye.
    pub(super) async fn run(self, shim: Arc<Shim>) {
        let (key, peer) = (self.key.clone(), Arc::clone(&self.peer));
        // Held to the end: who comes next must find it.
        let place = Arc::clone(&self.place);
        let replaced = place.replaced();
        let delivery = Run::new(&shim, self).deliver();
        let Some(end) = replaced.run_until_cancelled(delivery).await else {
            return;
        };
        if replaced.is_cancelled() {
            return;
        }
        tracing::debug!(?end, consumer = %key, "push ended");
        let (pause, code, reason) = match end {
            // A socket is closed when its last requests are answered.
            End::NoAnswer(NoAnswer::Closed) | End::Stream(Error::Draining) => return,
            End::NoAnswer(NoAnswer::Late) => (Duration::ZERO, 1008, "no answer in time"),
            End::Stream(Error::TakenOver { .. } | Error::StaleEpoch { .. }) => {
                shim.turns.note_loss(&key);
                (Duration::ZERO, 1008, "another receiver took over")
            }
            // The next message is judged anew.
            End::Stream(Error::CredentialsEnded { .. }) => {
                (Duration::ZERO, 1008, "the credentials are no longer valid")
            }
            End::Stream(Error::Database { .. }) => (
                shim.options.refusal_delay,
                1011,
                "the stream was interrupted",
            ),
            End::Stream(_) => (limits::BLOCKED_PAUSE, 1011, "the consumer is blocked"),
            End::Blocked(unsendable) => {
                shim.note_blocked(&key, &unsendable);
                (limits::BLOCKED_PAUSE, 1011, "the consumer is blocked")
            }
        };
        // Clients come back at once: one that cannot be helped is kept waiting.
        replaced.run_until_cancelled(sleep(pause)).await;
        if !replaced.is_cancelled() {
            peer.close(code, reason);
        }
    }
}
