//! With `tokio-postgres`.

use ::tokio_postgres::{GenericClient, types::Type};

use super::{Error, Table};
use crate::event::{Data, NewEvent};

/// Adds an event in the transaction of `client`: `&tx`.
///
/// # Errors
///
/// [`Error::Invalid`] before the insert, [`Error::Database`] of the driver.
pub async fn add_event(
    client: &impl GenericClient,
    event_type: &str,
    data: impl Data,
) -> Result<(), Error<::tokio_postgres::Error>> {
    add_event_to(&Table::default(), client, event_type, data).await
}

/// The same in a table of another name.
///
/// # Errors
///
/// As [`add_event`].
pub async fn add_event_to(
    table: &Table,
    client: &impl GenericClient,
    event_type: &str,
    data: impl Data,
) -> Result<(), Error<::tokio_postgres::Error>> {
    let event = NewEvent::new(event_type, data)?.0;
    let insert = format!(
        "INSERT INTO {} (type, data, ts) VALUES ($1, CAST($2 AS json), CURRENT_TIMESTAMP AT TIME ZONE 'UTC')",
        table.0,
    );
    client
        .query_typed(
            &insert,
            &[(&event.r#type, Type::TEXT), (&event.data_json, Type::TEXT)],
        )
        .await
        .map_err(Error::Database)?;
    Ok(())
}
