//! `add_event` in a transaction of yours: one `INSERT`, no service involved. It
//! begins and commits nothing, and fails as the driver fails.
//!
//! Each library has a module, behind the feature of its name:
//!
//! | feature | function |
//! |---|---|
//! | `sqlx-sqlite`, `sqlx-postgres`, `sqlx-mysql` | [`sqlx::add_event`] |
//! | `tokio-postgres` | [`tokio_postgres::add_event`] |

use crate::{check, error::Invalid};

#[cfg(any(
    feature = "sqlx-sqlite",
    feature = "sqlx-postgres",
    feature = "sqlx-mysql"
))]
pub mod sqlx;
#[cfg(feature = "tokio-postgres")]
pub mod tokio_postgres;

/// The name of the service's table where it is not `evt_queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table(String);

impl Table {
    /// A name, or a schema and a name with a `.` between them.
    ///
    /// # Errors
    ///
    /// [`Invalid`] unless it is made of letters, digits, `_` and one `.`.
    pub fn new(name: &str) -> Result<Self, Invalid> {
        check::table(name)?;
        Ok(Self(name.to_owned()))
    }
}

impl Default for Table {
    /// `evt_queue`.
    fn default() -> Self {
        Self("evt_queue".to_owned())
    }
}

/// Why an event was not added.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// Refused before anything was sent: the transaction is as it was.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The driver's error.
    #[error(transparent)]
    Database(E),
}
