//! Who sent a message: its `sec` against the users. Every message is judged by
//! itself, for sockets are shared by users.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    doc::Value,
    mac::{Algorithm, Signing, derive},
    message::Fault,
    users::Users,
};
use crate::event::User;

/// An authenticated caller.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) user: User,
    /// Answers are signed likewise.
    pub(super) signing: Option<Signing>,
}

/// Judges the credentials of `message`.
pub(super) fn authenticate(
    users: &Users,
    service_id: &str,
    sec: &str,
    message: Value<'_>,
) -> Result<Caller, Fault> {
    if users.is_empty() {
        return Err(not_enabled());
    }
    let parts: Vec<&str> = sec.split(':').collect();
    match parts.as_slice() {
        ["-internal", ..] => Err(Fault::security("Not internal channel")),
        ["-hmac" | "-smac", name, algorithm, signature, ..] => {
            let signing = Algorithm::parse(algorithm).and_then(|algorithm| {
                let key = users.find(name)?.mac.clone()?;
                Some(Signing { algorithm, key })
            });
            signed(users, name, signing, message, signature)
                .ok_or_else(|| Fault::security("Legacy Signature Verification Failed"))
        }
        ["-mmac", name, algorithm, strategy, info, signature, ..] => {
            let signing = Algorithm::parse(algorithm).and_then(|algorithm| {
                let secret = users.find(name)?.master.as_ref()?;
                let key = derive(secret, strategy, service_id, info)?;
                Some(Signing { algorithm, key })
            });
            signed(users, name, signing, message, signature)
                .ok_or_else(|| Fault::security("Authentication failed"))
        }
        [name, secret] if !name.starts_with('-') => clear(users, name, secret)
            .ok_or_else(|| Fault::security("Basic Auth Verification Failed")),
        _ => Err(not_enabled()),
    }
}

fn not_enabled() -> Fault {
    Fault::new("NotImplemented", "Authentication is not enabled")
}

fn signed(
    users: &Users,
    name: &str,
    signing: Option<Signing>,
    message: Value<'_>,
    signature: &str,
) -> Option<Caller> {
    let signing = signing.filter(|signing| signing.verify(message, signature))?;
    Some(Caller {
        user: users.find(name)?.user.clone(),
        signing: Some(signing),
    })
}

fn clear(users: &Users, name: &str, secret: &str) -> Option<Caller> {
    // Hashed before it is known whether there is such a user.
    let given: [u8; 32] = Sha256::digest(secret).into();
    let account = users.find(name)?;
    let same = account.secret?.ct_eq(&given);
    bool::from(same).then(|| Caller {
        user: account.user.clone(),
        signing: None,
    })
}
