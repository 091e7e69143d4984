//! Who calls, and what that user may do: the one place that decides both.
//!
//! [`Authority`] turns the credentials of a request into a [`Principal`], by
//! the file of users, which is read again when it changes. [`Gate`] is the
//! stream as principals may use it; fronts have no other way to it. Without a
//! file everybody is `local` and may do everything; with one, nobody may do
//! what it does not say. No secret is kept here but as its hash, and none is
//! ever logged.

mod audit;
mod certificate;
mod denied;
mod file;
mod gate;
mod jwt;
mod keys;
mod reload;
mod rights;
mod rules;
mod section;
mod token;

use std::{path::Path, sync::Arc};

use http::{Extensions, HeaderMap, header};
use tokio::sync::watch;

use self::{
    audit::Audit,
    rules::{Credential, Rules},
};
pub use self::{
    audit::peer,
    denied::{Denied, Right},
    file::Fault,
    gate::{Gate, Supervised},
    reload::start,
    rights::{Readable, Rights},
    token::{Token, hash_line},
};
use crate::{
    event::{Component, ConsumerKey, EventType, Moment, User},
    quota::Quota,
};

/// Knows the users. Cloning shares it.
#[derive(Clone)]
pub struct Authority {
    /// `None`: there are no users, everybody is `local`.
    rules: Option<watch::Receiver<Arc<Rules>>>,
    audit: Audit,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Everybody is `local`, with every right.
    #[must_use]
    pub fn open() -> Self {
        Self {
            rules: None,
            audit: Audit::default(),
        }
    }

    fn following(rules: watch::Receiver<Arc<Rules>>) -> Self {
        Self {
            rules: Some(rules),
            audit: Audit::default(),
        }
    }

    /// Whether everybody may do everything.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.rules.is_none()
    }

    /// Who sent a request: by its bearer token, else by the certificate of its
    /// connection.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] says what is wrong with the credentials. It is
    /// in the audit log already.
    pub fn of_headers(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Principal, Denied> {
        let peer = audit::peer(extensions);
        let Some(rules) = &self.rules else {
            return Ok(Principal::local(peer));
        };
        let known = rules.borrow().clone();
        let identified = credential(&known, headers, extensions);
        let principal = identified.and_then(|credential| {
            let user = known.user_of(&credential, Moment::now())?;
            self.principal(rules, &known, user, credential, peer.clone())
        });
        principal.inspect_err(|denied| self.audit.refusal(denied, "identify", &peer))
    }

    /// Somebody at `peer` whom a front has identified by means of its own.
    ///
    /// # Errors
    /// [`Denied::Unauthenticated`] if there are users, and this is none of them.
    pub fn of_user(&self, user: &User, peer: &Arc<str>) -> Result<Principal, Denied> {
        let peer = Arc::clone(peer);
        let Some(rules) = &self.rules else {
            return Ok(Principal {
                user: user.clone(),
                ..Principal::local(peer)
            });
        };
        let known = rules.borrow().clone();
        let credential = Credential::Front(user.clone());
        let principal = known
            .user_of(&credential, Moment::now())
            .and_then(|user| self.principal(rules, &known, user, credential, peer.clone()));
        principal.inspect_err(|denied| self.audit.refusal(denied, "identify", &peer))
    }

    /// Notes that a front did not believe somebody at `peer`.
    pub fn note_unbelieved(&self, why: &str, peer: &str) {
        let denied = Denied::Unauthenticated(why.to_owned().into());
        self.audit.refusal(&denied, "identify", peer);
    }

    fn principal(
        &self,
        rules: &watch::Receiver<Arc<Rules>>,
        known: &Rules,
        user: User,
        credential: Credential,
        peer: Arc<str>,
    ) -> Result<Principal, Denied> {
        let rights = known.rights(&user)?;
        Ok(Principal {
            user,
            rights,
            peer,
            standing: Some(Standing {
                rules: rules.clone(),
                credential,
            }),
            audit: self.audit.clone(),
        })
    }
}

/// What a request brings to identify itself.
fn credential(
    rules: &Rules,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Credential, Denied> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    match (given.next(), given.next()) {
        (Some(header), None) => rules.of_token(token::bearer(header)?, Moment::now()),
        (None, _) => certificate::of_connection(extensions)
            .ok_or(Denied::Unauthenticated("no credentials were sent".into())),
        (Some(_), Some(_)) => Err(Denied::Unauthenticated(
            "there is more than one authorization header".into(),
        )),
    }
}

/// An identified caller.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Who it is.
    pub user: User,
    rights: Arc<Rights>,
    peer: Arc<str>,
    /// `None`: nothing ends it.
    standing: Option<Standing>,
    audit: Audit,
}

impl Principal {
    fn local(peer: Arc<str>) -> Self {
        Self {
            user: User::local(),
            rights: Rights::all(),
            peer,
            standing: None,
            audit: Audit::default(),
        }
    }

    /// May add events of this type.
    #[must_use]
    pub fn may_generate(&self, kind: &EventType) -> bool {
        self.rights.generate.allow(kind.as_str())
    }

    /// May read and acknowledge as this component.
    #[must_use]
    pub fn may_consume(&self, component: &Component) -> bool {
        self.rights.consume.allow(component.as_str())
    }

    /// The types that it may receive.
    #[must_use]
    pub fn readable(&self) -> &Readable {
        &self.rights.types
    }

    /// May see the state of the stream, of all consumers, and the metrics.
    #[must_use]
    pub fn may_observe(&self) -> bool {
        self.rights.observe || self.rights.administer
    }

    /// May act on everybody's consumers and on the frontier.
    #[must_use]
    pub fn may_administer(&self) -> bool {
        self.rights.administer
    }

    /// May move and remove this consumer: one of its own, or anybody's.
    #[must_use]
    pub fn may_govern(&self, key: &ConsumerKey) -> bool {
        let own = key.user == self.user && self.may_consume(&key.component);
        own || self.may_administer()
    }

    /// How much it may do at a time.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.rights.quota
    }

    /// Where it calls from, for logs.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Refuses what is not allowed, for `what`; the refusal is in the audit log.
    ///
    /// # Errors
    /// [`Denied::NotAllowed`], unless `allowed`.
    pub fn require(
        &self,
        allowed: bool,
        right: Right,
        what: &dyn std::fmt::Display,
    ) -> Result<(), Denied> {
        if allowed {
            Ok(())
        } else {
            Err(self.denied(right, what))
        }
    }

    /// A refusal, which is in the audit log now.
    fn denied(&self, right: Right, what: &dyn std::fmt::Display) -> Denied {
        let denied = Denied::NotAllowed {
            user: self.user.clone(),
            right,
            what: what.to_string(),
        };
        self.audit.refusal(&denied, right.as_str(), &self.peer);
        denied
    }

    /// Whether it still is who it was, with the same rights; if not, the audit log
    /// has it, as of an `action` that was cut off.
    ///
    /// # Errors
    /// [`Denied::Ended`] if not.
    fn still(&self, action: &str) -> Result<(), Denied> {
        let Some(standing) = &self.standing else {
            return Ok(());
        };
        let still = standing.check(&self.user, &self.rights);
        still.inspect_err(|denied| self.audit.refusal(denied, action, &self.peer))
    }

    /// Completes when `action` must be cut off, because it no longer is who it
    /// was; the audit log has it then.
    async fn cut_off(&self, action: &str) -> Denied {
        let denied = self.ended().await;
        self.audit.refusal(&denied, action, &self.peer);
        denied
    }

    /// Completes when it no longer is who it was.
    async fn ended(&self) -> Denied {
        match &self.standing {
            Some(standing) => standing.clone().ended(&self.user, &self.rights).await,
            None => std::future::pending().await,
        }
    }
}

/// What a principal rests on: looked at again whenever the users change.
#[derive(Debug, Clone)]
struct Standing {
    rules: watch::Receiver<Arc<Rules>>,
    credential: Credential,
}

impl Standing {
    fn check(&self, user: &User, rights: &Rights) -> Result<(), Denied> {
        let known = self.rules.borrow().clone();
        let ended = |why: &'static str| Denied::Ended {
            user: user.clone(),
            why,
        };
        match known.user_of(&self.credential, Moment::now()) {
            Ok(now) if now == *user => {}
            _ if self.credential.has_expired(Moment::now()) => {
                return Err(ended("the token or certificate has expired"));
            }
            _ => return Err(ended("the credentials are no longer valid")),
        }
        match known.rights(user) {
            Ok(now) if now.same_grants(rights) => Ok(()),
            Ok(_) => Err(ended("the user's rights have changed")),
            Err(_) => Err(ended("the user was removed")),
        }
    }

    async fn ended(mut self, user: &User, rights: &Rights) -> Denied {
        loop {
            self.rules.borrow_and_update();
            if let Err(denied) = self.check(user, rights) {
                return denied;
            }
            let expiry = self.credential.expiry();
            let expired = async {
                match expiry {
                    Some(at) => rules::sleep_towards(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.rules.changed() => {
                    // The process ends.
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                () = expired => {}
            }
        }
    }
}

/// Reads a file of users and what it names, to find its faults.
///
/// # Errors
/// The first fault, with file, user and key.
pub fn check(file: &Path) -> Result<(), Fault> {
    rules::load(file).map(drop)
}
