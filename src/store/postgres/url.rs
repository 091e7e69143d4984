//! Where the database is. May hold a password, so it is never shown.

use std::str::FromStr;

use sqlx::postgres::PgConnectOptions;

/// A `postgres://` URL that can be used.
#[derive(Clone)]
pub struct PostgresUrl {
    text: String,
    parsed: Box<PgConnectOptions>,
}

/// What may follow the `?`, beside `options[NAME]`: names of libpq.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

const SSL_MODES: &str = "disable, prefer, require, verify-ca, verify-full";

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?sslmode=…`; a host
    /// that is a directory (`?host=/run/postgresql`) means its Unix socket.
    ///
    /// # Errors
    /// The rule that it breaks, without any value: one may be the password.
    pub fn parse(text: &str) -> Result<Self, String> {
        check_parameters(text)?;
        let parsed = PgConnectOptions::from_str(text)
            .map_err(|_| "is not a URL like postgres://USER@HOST:PORT/DATABASE".to_owned())?;
        let name = format!("eventstream {}", env!("CARGO_PKG_VERSION"));
        let parsed = match parsed.get_application_name() {
            Some(_) => parsed,
            None => parsed.application_name(&name),
        };
        Ok(Self {
            text: text.to_owned(),
            // Poolers refuse it, and no statement reads a floating number.
            parsed: Box::new(parsed.extra_float_digits(None)),
        })
    }

    /// What the driver needs to connect there.
    #[must_use]
    pub fn connect_options(&self) -> PgConnectOptions {
        (*self.parsed).clone()
    }
}

/// The driver passes over what it does not know, with a TLS that is not what
/// somebody meant.
fn check_parameters(text: &str) -> Result<(), String> {
    let (_, query) = text.split_once('?').unwrap_or_default();
    let (query, _) = query.split_once('#').unwrap_or((query, ""));
    let mut given = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        check_parameter(name, value)?;
        given.push(name);
    }
    if given.contains(&"sslcert") != given.contains(&"sslkey") {
        return Err("has one of sslcert and sslkey, which go together".to_owned());
    }
    Ok(())
}

fn check_parameter(name: &str, value: &str) -> Result<(), String> {
    let known = PARAMETERS.contains(&name) || name.starts_with("options[");
    if !known {
        let known = PARAMETERS.join(", ");
        // What stands behind a ? that nobody escaped may be the password.
        let harmless = |c: char| c.is_ascii_lowercase() || c == '_' || c == '-';
        return Err(if name.len() <= 32 && name.chars().all(harmless) {
            format!("has the parameter {name}, which is not known; known are {known}")
        } else {
            format!(
                "has a parameter after ? that is not known; known are {known}; in a password, ? is \
                 written %3F, & %26"
            )
        });
    }
    match value {
        _ if name != "sslmode" => Ok(()),
        // The driver takes it for disable.
        "allow" => Err("has sslmode=allow, which is not supported; use prefer".to_owned()),
        "disable" | "prefer" | "require" | "verify-ca" | "verify-full" => Ok(()),
        _ => Err(format!("has an sslmode that is none of {SSL_MODES}")),
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
        assert!(PostgresUrl::parse("postgres://h:x/d").is_err());
    }

    #[test]
    fn parameters_that_would_be_passed_over_are_named() {
        for (query, word) in [
            ("sslmod=require", "parameter sslmod,"),
            ("connect_timeout=3", "parameter connect_timeout,"),
            (
                "target_session_attrs=read-write",
                "parameter target_session_attrs,",
            ),
            ("Hunter2@h/d", "in a password"),
            ("sslmode=on", "none of disable"),
            ("sslmode=allow", "use prefer"),
            ("sslcert=/c.pem", "go together"),
        ] {
            let url = format!("postgres://u@h/d?{query}");
            let rule = PostgresUrl::parse(&url).expect_err(query);
            assert!(rule.contains(word) && !rule.contains("Hunter2"), "{rule}");
        }
        let every = "sslmode=verify-full&sslrootcert=/a&sslcert=/b&sslkey=/c&options[a]=b&\
                     application_name=x&host=/run&port=1&user=u&dbname=d&password=p&options=-c%20a=b";
        PostgresUrl::parse(&format!("postgres:///?{every}")).expect("known");
    }
}
