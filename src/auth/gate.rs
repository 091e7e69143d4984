//! The stream as principals may use it. Everything that a front does for
//! somebody goes through here, so that no right is asked for in two places and
//! none is forgotten. Rights are applied to events, too: who reads gets what it
//! may receive, and its position passes the rest. So is every caller's quota
//! taken here, before anything is done for it.

use uuid::Uuid;

use super::{Denied, Principal, Right, audit};
use crate::{
    error::Error,
    event::{Component, ConsumerKey, EventId, NewEvent, StartAt, User, Want},
    quota::{Quotas, StreamPlace},
    store::IdRuns,
    stream::{
        ConsumerState, Delivery, EventStream, Glance, Poll, Polled, Settings, Skipped, Status,
        Subscribe, Subscription,
    },
};

/// The stream behind its rights and quotas. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Gate {
    stream: EventStream,
    quotas: Quotas,
}

impl Gate {
    /// Guards a stream.
    #[must_use]
    pub fn new(stream: EventStream, quotas: Quotas) -> Self {
        Self { stream, quotas }
    }

    /// Takes a call of the caller's quota.
    fn call(&self, caller: &Principal) -> Result<(), Error> {
        self.quotas.call(&caller.user, caller.quota())
    }

    /// The same, of who may see the state of everything.
    fn observe(&self, caller: &Principal) -> Result<(), Error> {
        self.call(caller)?;
        let what = "see the state of the stream";
        Ok(caller.require(caller.may_observe(), Right::Observe, &what)?)
    }

    /// How the stream behaves.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        self.stream.settings()
    }

    /// As [`EventStream::add`], if the caller may generate each of the types.
    ///
    /// # Errors
    /// Of the right, then of the stream; nothing is stored after the first.
    pub async fn add(
        &self,
        caller: &Principal,
        request_id: Option<Uuid>,
        events: Vec<NewEvent>,
    ) -> Result<IdRuns, Error> {
        caller.still(Right::Generate.as_str())?;
        let bytes = events.iter().map(NewEvent::size).sum();
        self.quotas
            .add(&caller.user, caller.quota(), events.len(), bytes)?;
        for event in &events {
            let kind = event.kind.as_str();
            let what = format_args!("add events of type {kind}");
            caller.require(caller.may_generate(&event.kind), Right::Generate, &what)?;
        }
        self.stream
            .add(caller.user.clone(), request_id, events)
            .await
    }

    /// As [`EventStream::register`], of a component that the caller may consume.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn register(
        &self,
        caller: &Principal,
        component: Component,
        start: Option<StartAt>,
    ) -> Result<(ConsumerState, bool), Error> {
        self.call(caller)?;
        may_consume(caller, &component)?;
        let user = caller.user.clone();
        self.stream.register(user, component, start).await
    }

    /// As [`EventStream::poll`]: only events that the caller may receive. A wait
    /// ends with the caller's rights.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn poll(&self, caller: &Principal, poll: Poll) -> Result<Polled, Error> {
        self.call(caller)?;
        may_consume(caller, &poll.component)?;
        let poll = Poll {
            want: readable(caller, poll.want)?,
            user: caller.user.clone(),
            ..poll
        };
        tokio::select! {
            biased;
            denied = caller.cut_off("poll") => Err(denied.into()),
            polled = self.stream.poll(poll) => polled,
        }
    }

    /// Whether the caller may receive this as that component, by subscription or poll.
    ///
    /// # Errors
    /// Of the right.
    pub fn may_receive(
        &self,
        caller: &Principal,
        component: &Component,
        want: &Want,
    ) -> Result<(), Error> {
        caller.still(Right::Consume.as_str())?;
        may_consume(caller, component)?;
        readable(caller, want.clone())?;
        Ok(())
    }

    /// As [`EventStream::subscribe`]: only events that the caller may receive,
    /// and no longer than it may.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn subscribe(
        &self,
        caller: &Principal,
        subscribe: Subscribe,
    ) -> Result<Supervised, Error> {
        let place = self.quotas.stream(&caller.user, caller.quota())?;
        may_consume(caller, &subscribe.component)?;
        let subscribe = Subscribe {
            want: readable(caller, subscribe.want)?,
            user: caller.user.clone(),
            ..subscribe
        };
        Ok(Supervised {
            subscription: self.stream.subscribe(subscribe).await?,
            caller: caller.clone(),
            over: false,
            _place: place,
        })
    }

    /// As [`EventStream::ack`]; no quota is taken.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn ack(
        &self,
        caller: &Principal,
        component: Component,
        last_id: EventId,
        epoch: Option<i64>,
    ) -> Result<EventId, Error> {
        may_consume(caller, &component)?;
        let user = caller.user.clone();
        self.stream.ack(user, component, last_id, epoch).await
    }

    /// As [`EventStream::settled_up_to`], which tells nothing that a poll does not.
    ///
    /// # Errors
    /// Of the stream.
    pub async fn settled_up_to(&self, id: EventId) -> Result<EventId, Error> {
        self.stream.settled_up_to(id).await
    }

    /// As [`EventStream::note_problem`].
    pub fn note_problem(&self, key: &ConsumerKey, problem: Option<String>) {
        self.stream.note_problem(key, problem);
    }

    /// As [`EventStream::status`], for who may see everything.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn status(&self, caller: &Principal) -> Result<Status, Error> {
        self.observe(caller)?;
        self.stream.status().await
    }

    /// As [`EventStream::glance`], likewise.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn glance(&self, caller: &Principal) -> Result<Glance, Error> {
        self.observe(caller)?;
        self.stream.glance().await
    }

    /// As [`EventStream::consumers`]: everybody's for who may see them, else the
    /// caller's own.
    ///
    /// # Errors
    /// Of the stream.
    pub async fn consumers(
        &self,
        caller: &Principal,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ConsumerState>, Error> {
        self.call(caller)?;
        let own = (!caller.may_observe()).then_some(&caller.user);
        self.stream.consumers(own, after, limit).await
    }

    /// As [`EventStream::unregister`]: a consumer of the caller's own, or
    /// anybody's for administrators.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn unregister(
        &self,
        caller: &Principal,
        user: User,
        component: Component,
    ) -> Result<(), Error> {
        self.call(caller)?;
        let key = may_govern(caller, user, component)?;
        let ConsumerKey { user, component } = key.clone();
        let done = self.stream.unregister(user, component).await;
        audit::action(caller, "unregister", &key, &done);
        done
    }

    /// As [`EventStream::seek`], likewise.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn seek(
        &self,
        caller: &Principal,
        user: User,
        component: Component,
        to: StartAt,
    ) -> Result<ConsumerState, Error> {
        self.call(caller)?;
        let key = may_govern(caller, user, component)?;
        let ConsumerKey { user, component } = key.clone();
        let done = self.stream.seek(user, component, to).await;
        audit::action(caller, "seek", &format_args!("{key} to {to:?}"), &done);
        done
    }

    /// As [`EventStream::skip_frontier`], for administrators.
    ///
    /// # Errors
    /// Of the right, then of the stream.
    pub async fn skip_frontier(
        &self,
        caller: &Principal,
        to: EventId,
        reason: String,
    ) -> Result<Skipped, Error> {
        self.call(caller)?;
        let what = "skip the frontier";
        caller.require(caller.may_administer(), Right::Administer, &what)?;
        let done = self.stream.skip_frontier(&caller.user, to, reason).await;
        audit::action(caller, "skip the frontier", &format_args!("to {to}"), &done);
        done
    }
}

fn may_consume(caller: &Principal, component: &Component) -> Result<(), Denied> {
    let what = format_args!("consume as component {}", component.as_str());
    caller.require(caller.may_consume(component), Right::Consume, &what)
}

/// The filter of a caller who wants this.
fn readable(caller: &Principal, want: Want) -> Result<Want, Denied> {
    caller.readable().narrow(want).map_err(|hidden| {
        let what = format_args!("receive events of type {}", hidden.as_str());
        caller.denied(Right::Read, &what)
    })
}

/// A consumer that the caller may move and remove.
fn may_govern(caller: &Principal, user: User, component: Component) -> Result<ConsumerKey, Denied> {
    let key = ConsumerKey { user, component };
    let what = format_args!("change consumer {key}");
    caller.require(caller.may_govern(&key), Right::Administer, &what)?;
    Ok(key)
}

/// A subscription that ends with the rights that it was opened by.
#[derive(Debug)]
pub struct Supervised {
    subscription: Subscription,
    caller: Principal,
    over: bool,
    _place: StreamPlace,
}

impl Supervised {
    /// As [`Subscription::next`]; [`Error::CredentialsEnded`] when the caller is no
    /// longer who it was.
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        if self.over {
            return None;
        }
        tokio::select! {
            biased;
            denied = self.caller.cut_off("receive") => {
                self.over = true;
                Some(Err(denied.into()))
            }
            delivery = self.subscription.next() => delivery,
        }
    }

    /// As [`Subscription::lost`]; also when the caller is no longer who it was.
    pub async fn lost(&self) {
        tokio::select! {
            _ = self.caller.ended() => {}
            () = self.subscription.lost() => {}
        }
    }
}
