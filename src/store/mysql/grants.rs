//! What the service's user must be allowed, and a producer's: checked at the
//! start, printed by `migrate --print-grants`.

use super::{
    MysqlOptions, MysqlStore,
    errors::{number, unavailable},
};
use crate::store::{Error, Names};

/// Tables and what the statements do to them: a table that a statement of this
/// module's neighbours touches is here.
const TABLES: [(&str, &[&str]); 13] = [
    ("evt_queue", &["SELECT", "INSERT"]),
    ("evt_consumers", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_stream", &["SELECT", "UPDATE"]),
    ("evt_replicas", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_sessions", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_requests", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_stopped", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_skips", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_late", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_rewinds", &["SELECT", "INSERT", "UPDATE"]),
    ("evt_leases", &["SELECT", "INSERT", "UPDATE"]),
    ("evt_places", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_migrations", &["SELECT"]),
];

/// Whether the server says that the user may not do it.
pub(super) fn is_denied(error: &sqlx::Error) -> bool {
    number(error).is_some_and(|number| DENIED.contains(&number))
}

/// Denied: the database, the table, a column, for want of a global privilege.
const DENIED: [u16; 4] = [1044, 1142, 1143, 1227];

/// A server that only reads refuses what does nothing, too.
const READ_ONLY: [u16; 2] = [1290, 1836];

impl MysqlStore {
    /// Everything that the user lacks, as the statements that grant it. Asked by
    /// statements that do nothing: what a user may do can come from roles,
    /// patterns and other levels.
    pub(super) async fn check_privileges(&self) -> Result<(), Error> {
        let names = &self.options.common.names;
        let mut connection = self.connections.write().await?;
        let mut missing = Vec::new();
        for (table, wanted) in TABLES {
            let table = names.apply(table);
            let mut lacking = Vec::new();
            for privilege in wanted {
                let probe = sqlx::AssertSqlSafe(probe(privilege, &table, names));
                let Err(error) = sqlx::raw_sql(probe).execute(&mut *connection).await else {
                    continue;
                };
                match number(&error) {
                    _ if is_denied(&error) => lacking.push(*privilege),
                    Some(number) if READ_ONLY.contains(&number) => {
                        return Err(Error::Contract(super::contract::READS_ONLY.into()));
                    }
                    _ => return Err(unavailable(&error)),
                }
            }
            if !lacking.is_empty() {
                missing.push(format!("GRANT {} ON {table}", lacking.join(", ")));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "the user lacks privileges; run as an administrator, with TO and the user behind \
             each: {}",
            missing.join("; ")
        )))
    }

    /// The least that must be granted, as SQL with comments.
    #[must_use]
    pub fn grants(options: &MysqlOptions) -> String {
        text(&options.common.names)
    }
}

/// A statement that needs the privilege, and `SELECT`, and does nothing.
fn probe(privilege: &str, table: &str, names: &Names) -> String {
    let column = match table {
        table if *table == names.queue => "type",
        table if *table == names.consumers => "ident",
        _ => "stream",
    };
    match privilege {
        "SELECT" => format!("SELECT {column} FROM {table} WHERE FALSE"),
        "INSERT" => format!("INSERT INTO {table} SELECT * FROM {table} WHERE FALSE"),
        "UPDATE" => format!("UPDATE {table} SET {column} = {column} WHERE FALSE"),
        _ => format!("DELETE FROM {table} WHERE FALSE"),
    }
}

fn text(names: &Names) -> String {
    const SERVICE: &str = "'eventstream'@'localhost'";
    const PRODUCER: &str = "'producer'@'localhost'";
    let mut lines = vec![
        format!("-- The user of the service; replace {SERVICE} by it, and run this in the stream's"),
        "-- database. The tables are made by a user with CREATE and ALTER: run `eventstream migrate`".into(),
        "-- as that one first, and after each update.".into(),
    ];
    for (table, privileges) in TABLES {
        let table = names.apply(table);
        lines.push(format!(
            "GRANT {} ON {table} TO {SERVICE};",
            privileges.join(", ")
        ));
    }
    lines.extend([
        String::new(),
        "-- Where the discarder is on.".into(),
        format!("-- GRANT DELETE ON {} TO {SERVICE};", names.queue),
        String::new(),
        "-- Optional: events are told settled sooner beside long statements, and `eventstream"
            .into(),
        "-- status` shows who holds events back.".into(),
        format!("-- GRANT PROCESS ON *.* TO {SERVICE};"),
        String::new(),
        format!("-- A user that inserts events in its own transactions; replace {PRODUCER} by it."),
        format!("GRANT INSERT ON {} TO {PRODUCER};", names.queue),
    ]);
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_the_tables_of_the_configuration() {
        let names = Names {
            queue: "outbox".into(),
            consumers: "readers".into(),
        };
        let text = text(&names);
        assert!(text.contains("GRANT SELECT, INSERT ON outbox TO"), "{text}");
        assert!(
            text.contains("GRANT INSERT ON outbox TO 'producer'@"),
            "{text}"
        );
        assert!(text.contains("DELETE ON readers TO") && !text.contains("evt_queue"));
    }
}
