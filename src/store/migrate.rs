//! The migrations compiled into the binary.
//!
//! Own files instead of sqlx's migrator, because table names are configurable
//! and several streams can share one database: `evt_migrations` records each
//! step by stream. A step that was published never changes.

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// 1, 2, 3 …, the same in every engine; one that has no need leaves it out.
    pub version: i64,
    /// What it does.
    pub name: &'static str,
    /// Statements, with the default table names.
    pub sql: &'static str,
}

/// The active database's steps for SQLite.
pub(super) const SQLITE: &[Step] = &[
    Step {
        version: 1,
        name: "ftn18_tables",
        sql: include_str!("../../migrations/active/sqlite/0001_ftn18_tables.sql"),
    },
    Step {
        version: 2,
        name: "service_tables",
        sql: include_str!("../../migrations/active/sqlite/0002_service_tables.sql"),
    },
    Step {
        version: 3,
        name: "skips_and_late_ids",
        sql: include_str!("../../migrations/active/sqlite/0003_skips_and_late_ids.sql"),
    },
    Step {
        version: 5,
        name: "upkeep",
        sql: include_str!("../../migrations/active/sqlite/0005_upkeep.sql"),
    },
];

/// The active database's steps for PostgreSQL.
pub(super) const POSTGRES: &[Step] = &[
    Step {
        version: 1,
        name: "ftn18_tables",
        sql: include_str!("../../migrations/active/postgres/0001_ftn18_tables.sql"),
    },
    Step {
        version: 2,
        name: "service_tables",
        sql: include_str!("../../migrations/active/postgres/0002_service_tables.sql"),
    },
    Step {
        version: 3,
        name: "skips_and_late_ids",
        sql: include_str!("../../migrations/active/postgres/0003_skips_and_late_ids.sql"),
    },
    Step {
        version: 4,
        name: "witness",
        sql: include_str!("../../migrations/active/postgres/0004_witness.sql"),
    },
    Step {
        version: 5,
        name: "upkeep",
        sql: include_str!("../../migrations/active/postgres/0005_upkeep.sql"),
    },
];

/// The active database's steps for MySQL and MariaDB.
pub(super) const MYSQL: &[Step] = &[
    Step {
        version: 1,
        name: "ftn18_tables",
        sql: include_str!("../../migrations/active/mysql/0001_ftn18_tables.sql"),
    },
    Step {
        version: 2,
        name: "service_tables",
        sql: include_str!("../../migrations/active/mysql/0002_service_tables.sql"),
    },
    Step {
        version: 3,
        name: "skips_and_late_ids",
        sql: include_str!("../../migrations/active/mysql/0003_skips_and_late_ids.sql"),
    },
    Step {
        version: 4,
        name: "witness",
        sql: include_str!("../../migrations/active/mysql/0004_witness.sql"),
    },
    Step {
        version: 5,
        name: "upkeep",
        sql: include_str!("../../migrations/active/mysql/0005_upkeep.sql"),
    },
];

/// The warehouse's steps for SQLite.
pub(super) const HISTORY_SQLITE: &[Step] = &[Step {
    version: 1,
    name: "history_tables",
    sql: include_str!("../../migrations/history/sqlite/0001_history_tables.sql"),
}];

/// The warehouse's steps for PostgreSQL.
pub(super) const HISTORY_POSTGRES: &[Step] = &[Step {
    version: 1,
    name: "history_tables",
    sql: include_str!("../../migrations/history/postgres/0001_history_tables.sql"),
}];

/// The warehouse's steps for MySQL and MariaDB.
pub(super) const HISTORY_MYSQL: &[Step] = &[Step {
    version: 1,
    name: "history_tables",
    sql: include_str!("../../migrations/history/mysql/0001_history_tables.sql"),
}];
