//! Where the database is. May hold a password, so it is never shown.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// A `postgres://` URL that can be used.
#[derive(Clone)]
pub struct PostgresUrl {
    text: String,
    parsed: Box<PgConnectOptions>,
}

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`; a host
    /// that is a directory (`?host=/run/postgresql`) means its Unix socket.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let parsed = PgConnectOptions::from_str(text).ok()?;
        let name = format!("eventstream {}", env!("CARGO_PKG_VERSION"));
        let parsed = match parsed.get_application_name() {
            Some(_) => parsed,
            None => parsed.application_name(&name),
        };
        Some(Self {
            text: text.to_owned(),
            parsed: Box::new(parsed),
        })
    }

    /// What the driver needs to connect there.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        (*self.parsed).clone()
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PostgresUrl {}

impl std::fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PostgresUrl(not shown)")
    }
}

impl std::fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.parsed.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.parsed.get_host(), self.parsed.get_port()),
        };
        let database = self.parsed.get_database().unwrap_or("the role's database");
        write!(f, "{database} on {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_but_never_the_password() {
        let url = PostgresUrl::parse("postgres://u:hunter2@db.example:6432/shop").expect("valid");
        assert_eq!(url.to_string(), "shop on db.example:6432");
        assert!(!format!("{url:?}").contains("hunter2"));
        let url = PostgresUrl::parse("postgresql:///shop?host=/run/postgresql&user=u");
        assert_eq!(url.expect("valid").to_string(), "shop on /run/postgresql");
        assert_eq!(PostgresUrl::parse("postgres://h:x/d"), None);
    }
}
