//! What the service's role must be allowed, and a producer's: checked at the
//! start, printed by `migrate --print-grants`.

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{PostgresStore, connections::unavailable};
use crate::store::Error;

/// Tables and what the statements do to them: a table that a statement of this
/// module's neighbours touches is here.
const TABLES: [(&str, &[&str]); 13] = [
    ("evt_queue", &["SELECT", "INSERT"]),
    ("evt_consumers", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_stream", &["SELECT", "UPDATE"]),
    ("evt_replicas", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_sessions", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_requests", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_stopped", &["SELECT", "INSERT", "DELETE"]),
    ("evt_skips", &["SELECT", "INSERT", "DELETE"]),
    ("evt_late", &["SELECT", "INSERT", "DELETE"]),
    ("evt_rewinds", &["SELECT", "INSERT", "UPDATE"]),
    ("evt_leases", &["SELECT", "INSERT", "UPDATE"]),
    ("evt_places", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("evt_migrations", &["SELECT"]),
];

/// Roles in the printed text.
const SERVICE: &str = "eventstream";
const PRODUCER: &str = "producer";

/// Names as they stand in a GRANT.
struct Granted {
    schema: String,
    /// In the order of [`TABLES`].
    tables: Vec<String>,
    /// `None` where ids are an identity, which needs no grant.
    queue_sequence: Option<String>,
    consumers_sequence: Option<String>,
}

impl PostgresStore {
    /// Everything that the role lacks, as the statements that grant it.
    pub(super) async fn check_privileges(
        &self,
        connection: &mut PgConnection,
    ) -> Result<(), Error> {
        const MISSING: &str = "
            SELECT 'GRANT ' || string_agg(privilege, ', ' ORDER BY place) || ' ON ' || to_regclass(name)
                || ' TO ' || quote_ident(current_user) AS remedy
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS needed (name, privilege, place)
            WHERE NOT has_table_privilege(to_regclass(name), privilege)
            GROUP BY name
            UNION ALL
            SELECT 'GRANT USAGE ON SEQUENCE ' || own.sequence || ' TO ' || quote_ident(current_user)
            FROM (SELECT pg_get_serial_sequence('evt_consumers', 'id') AS sequence) AS own
            WHERE NOT has_sequence_privilege(own.sequence, 'USAGE, UPDATE')
                AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'evt_consumers'::regclass
                    AND attname = 'id' AND attidentity <> '')
            ORDER BY remedy";
        let names = &self.options.common.names;
        let (mut tables, mut privileges) = (Vec::new(), Vec::new());
        for (table, wanted) in TABLES {
            for &privilege in wanted {
                tables.push(names.apply(table).into_owned());
                privileges.push(privilege);
            }
        }
        let missing: Vec<String> = sqlx::query_scalar(self.sql(MISSING))
            .bind(tables)
            .bind(privileges)
            .fetch_all(connection)
            .await
            .map_err(|error| unavailable(&error))?;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::Contract(format!(
            "the role lacks privileges; run as the owner of the tables: {}",
            missing.join("; ")
        )))
    }

    /// The least that must be granted, as SQL with comments; the tables are
    /// looked at for their names, and need not be there yet.
    pub(super) async fn grant_text(&self) -> Result<String, Error> {
        const SEQUENCES: &str = "
            SELECT coalesce((SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname = $1),
                    quote_ident(current_schema())) AS schema,
                to_regclass('evt_queue') IS NOT NULL AS made";
        const MADE: &str = "
            SELECT CASE WHEN column_of.attidentity = ''
                THEN pg_get_serial_sequence(needed.name, 'id') END AS sequence
            FROM unnest($1::text[]) WITH ORDINALITY AS needed (name, place)
            JOIN pg_attribute column_of ON column_of.attrelid = needed.name::regclass
                AND column_of.attname = 'id'
            ORDER BY place";
        let mut connection = self.connections.read().await?;
        let row = sqlx::query(self.sql(SEQUENCES))
            .bind(self.options.schema.as_deref())
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| unavailable(&error))?;
        let schema: Option<String> = row.get("schema");
        let schema = schema.or_else(|| self.options.schema.clone());
        let schema = schema.unwrap_or_else(|| "public".to_owned());
        let names = &self.options.common.names;
        let with_id = [names.queue.clone(), names.consumers.clone()];
        let sequences: Vec<Option<String>> = if row.get("made") {
            let rows = sqlx::query(MADE)
                .bind(&with_id[..])
                .fetch_all(&mut *connection)
                .await
                .map_err(|error| unavailable(&error))?;
            rows.iter().map(|row: &PgRow| row.get("sequence")).collect()
        } else {
            let default = |table: &String| Some(format!("{schema}.{table}_id_seq"));
            with_id.iter().map(default).collect()
        };
        let mut sequences = sequences.into_iter();
        let granted = Granted {
            tables: TABLES
                .iter()
                .map(|(table, _)| format!("{schema}.{}", names.apply(table)))
                .collect(),
            schema,
            queue_sequence: sequences.next().flatten(),
            consumers_sequence: sequences.next().flatten(),
        };
        Ok(granted.text())
    }
}

impl Granted {
    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "-- The role of the service; replace {SERVICE} by its name. The tables are made by"
            ),
            "-- their owner: run `eventstream migrate` as that role first, and after each update."
                .into(),
            format!("GRANT USAGE ON SCHEMA {} TO {SERVICE};", self.schema),
        ];
        for (table, (_, privileges)) in self.tables.iter().zip(TABLES) {
            lines.push(format!(
                "GRANT {} ON {table} TO {SERVICE};",
                privileges.join(", ")
            ));
        }
        let sequences = [&self.queue_sequence, &self.consumers_sequence];
        for sequence in sequences.into_iter().flatten() {
            lines.push(format!("GRANT USAGE ON SEQUENCE {sequence} TO {SERVICE};"));
        }
        lines.extend([
            String::new(),
            "-- Where the discarder is on.".into(),
            format!("-- GRANT DELETE ON {} TO {SERVICE};", self.tables[0]),
            String::new(),
            "-- Optional: lets `eventstream status` show who holds events back.".into(),
            format!("-- GRANT pg_monitor TO {SERVICE};"),
            String::new(),
            "-- A role that inserts events in its own transactions; replace producer by its name."
                .into(),
            format!("GRANT USAGE ON SCHEMA {} TO {PRODUCER};", self.schema),
            format!("GRANT INSERT ON {} TO {PRODUCER};", self.tables[0]),
        ]);
        if let Some(sequence) = &self.queue_sequence {
            lines.push(format!("GRANT USAGE ON SEQUENCE {sequence} TO {PRODUCER};"));
        }
        lines.join("\n")
    }
}
