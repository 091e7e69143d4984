//! Where it can be read which ids were given out: S0 of the evidence.
//!
//! The sequence tells it, to a role that may read it or draw from it. Without
//! either, the highest visible id stands for it: it was given out for certain,
//! and every lower one before it. What was given out above it shows late, and
//! only rows that are there tell that ids went back.

use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _};

use super::PostgresStore;

/// The source of the highest id given out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Head {
    /// The sequence itself, by its qualified name: SELECT is granted.
    Sequence(String),
    /// The server's function: USAGE is granted, and NULL means "none yet".
    LastValue(String),
    /// The table.
    #[default]
    Rows,
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sequence(_) => "the sequence",
            Self::LastValue(_) => "the server's function",
            Self::Rows => "the rows, as the role may not read the sequence",
        })
    }
}

impl Head {
    /// A SELECT of one number with the default table names, 0 before the first
    /// id (`is_called` is false then). `empty` stands for what the caller knows
    /// to be given out, should the table be the source and without a row.
    pub(super) fn sql(&self, stream: &str, empty: &str) -> String {
        match self {
            Self::Sequence(name) => {
                format!("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM {name}")
            }
            Self::LastValue(name) => {
                let name = name.replace('\'', "''");
                format!("SELECT coalesce(pg_sequence_last_value('{name}'::regclass), 0)")
            }
            Self::Rows => format!(
                "SELECT coalesce((SELECT id FROM {stream} ORDER BY id DESC LIMIT 1), greatest(
                    {empty}, (SELECT frontier FROM evt_stream WHERE stream = '{stream}')))"
            ),
        }
    }
}

impl PostgresStore {
    /// Highest id given out; `known` was, for certain.
    pub(super) async fn read_head(
        &self,
        connection: &mut PgConnection,
        known: i64,
    ) -> Result<i64, sqlx::Error> {
        let head = self.head();
        let sql = AssertSqlSafe(head.sql(self.stream(), "$1")).into_sql_str();
        let query = sqlx::query_scalar(sql);
        let query = match head {
            Head::Rows => query.bind(known),
            Head::Sequence(_) | Head::LastValue(_) => query,
        };
        query.fetch_one(connection).await
    }
}
