//! With `sqlx`: SQLite, PostgreSQL, MySQL and MariaDB.

use ::sqlx::{AssertSqlSafe, Database, Encode, Executor, IntoArguments, Type, query};

use super::{Error, Table};
use crate::event::{Data, NewEvent};

/// The databases of the service, and their `INSERT`.
pub trait Engine: Database + sealed::Sealed {
    /// The text up to the table's name follows `INSERT INTO`, this is the rest.
    #[doc(hidden)]
    const VALUES: &'static str;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! engine {
    ($feature:literal, $database:ty, $values:literal) => {
        #[cfg(feature = $feature)]
        impl sealed::Sealed for $database {}

        #[cfg(feature = $feature)]
        impl Engine for $database {
            const VALUES: &'static str = $values;
        }
    };
}

engine!(
    "sqlx-sqlite",
    ::sqlx::Sqlite,
    "(type, data, ts) VALUES (?, ?, CURRENT_TIMESTAMP)"
);
engine!(
    "sqlx-postgres",
    ::sqlx::Postgres,
    "(type, data, ts) VALUES ($1, CAST($2 AS json), CURRENT_TIMESTAMP AT TIME ZONE 'UTC')"
);
engine!(
    "sqlx-mysql",
    ::sqlx::MySql,
    "(type, data, ts) VALUES (?, ?, UTC_TIMESTAMP())"
);

/// Adds an event in the transaction of `executor`: `&mut *tx`.
///
/// # Errors
///
/// [`Error::Invalid`] before the insert, [`Error::Database`] of the driver.
pub async fn add_event<'e, X>(
    executor: X,
    event_type: &str,
    data: impl Data,
) -> Result<(), Error<::sqlx::Error>>
where
    X: Executor<'e>,
    X::Database: Engine,
    String: Encode<'e, X::Database> + Type<X::Database>,
    <X::Database as Database>::Arguments: IntoArguments<X::Database>,
{
    add_event_to(&Table::default(), executor, event_type, data).await
}

/// The same in a table of another name.
///
/// # Errors
///
/// As [`add_event`].
pub async fn add_event_to<'e, X>(
    table: &Table,
    executor: X,
    event_type: &str,
    data: impl Data,
) -> Result<(), Error<::sqlx::Error>>
where
    X: Executor<'e>,
    X::Database: Engine,
    String: Encode<'e, X::Database> + Type<X::Database>,
    <X::Database as Database>::Arguments: IntoArguments<X::Database>,
{
    let event = NewEvent::new(event_type, data)?.0;
    // Nothing of the text is the caller's but the table's name, which was checked.
    let insert = format!("INSERT INTO {} {}", table.0, X::Database::VALUES);
    query(AssertSqlSafe(insert))
        .bind(event.r#type)
        .bind(event.data_json)
        .execute(executor)
        .await
        .map_err(Error::Database)?;
    Ok(())
}
