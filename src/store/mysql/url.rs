//! Where the database is. May hold a password, so it is never shown.

use std::str::FromStr;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};

/// A `mysql://` or `mariadb://` URL that can be used.
#[derive(Clone)]
pub struct MysqlUrl {
    text: String,
    parsed: Box<MySqlConnectOptions>,
}

/// What may stand behind the `?`. Nothing else: what a session needs it states
/// itself, and a misspelt `ssl-mode` must not mean "no TLS".
const PARAMETERS: [&str; 5] = ["ssl-mode", "ssl-ca", "ssl-cert", "ssl-key", "socket"];

impl MysqlUrl {
    /// Reads `mysql://user:password@host:port/database?ssl-mode=…`; with
    /// `socket=/run/mysqld/mysqld.sock` the server is reached by that.
    ///
    /// # Errors
    /// The rule that it breaks; never a part of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is not a URL like mysql://USER@HOST:PORT/DATABASE";
        let query = text.split_once('?').map_or("", |(_, query)| query);
        let mut names = query
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| part.split('=').next().unwrap_or_default());
        if !names.all(|name| PARAMETERS.contains(&name)) {
            return Err(
                "has a parameter that is none of ssl-mode, ssl-ca, ssl-cert, ssl-key, socket",
            );
        }
        let mut parsed = MySqlConnectOptions::from_str(text).map_err(|_error| FORM)?;
        if parsed.get_database().is_none_or(str::is_empty) {
            return Err("names no database, as in mysql://USER@HOST:PORT/DATABASE");
        }
        if parsed.get_socket().is_some() && !query.contains("ssl-mode=") {
            // Nobody listens in on a socket.
            parsed = parsed.ssl_mode(MySqlSslMode::Disabled);
        }
        Ok(Self {
            text: text.to_owned(),
            parsed: Box::new(parsed),
        })
    }

    /// What the driver needs to connect there.
    #[must_use]
    pub fn connect_options(&self) -> MySqlConnectOptions {
        (*self.parsed).clone()
    }
}

impl PartialEq for MysqlUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for MysqlUrl {}

impl std::fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MysqlUrl(not shown)")
    }
}

impl std::fmt::Display for MysqlUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match self.parsed.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", self.parsed.get_host(), self.parsed.get_port()),
        };
        let database = self.parsed.get_database().unwrap_or_default();
        write!(f, "{database} on {place}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_where_but_never_the_password() {
        let url = MysqlUrl::parse("mysql://u:hunter2@db.example:3307/shop").expect("valid");
        assert_eq!(url.to_string(), "shop on db.example:3307");
        assert!(!format!("{url:?}").contains("hunter2"));
        let url = MysqlUrl::parse("mariadb://u@localhost/shop?socket=/run/mysqld/mysqld.sock");
        assert_eq!(
            url.expect("valid").to_string(),
            "shop on /run/mysqld/mysqld.sock"
        );
    }

    #[test]
    fn tls_is_as_asked_for() {
        let mode = |text| {
            let url = MysqlUrl::parse(text).expect("valid");
            format!("{:?}", url.parsed.get_ssl_mode())
        };
        assert_eq!(mode("mysql://h/d"), "Preferred");
        assert_eq!(mode("mysql://h/d?socket=/s"), "Disabled");
        assert_eq!(
            mode("mysql://h/d?ssl-mode=VERIFY_CA&ssl-ca=/ca"),
            "VerifyCa"
        );
        assert_eq!(mode("mysql://h/d?socket=/s&ssl-mode=REQUIRED"), "Required");
    }

    #[test]
    fn rules_are_told_without_the_url() {
        for (text, word) in [
            ("mysql://h:x/d", "like mysql://"),
            ("mysql://u:secret@h", "names no database"),
            ("mysql://u:secret@h/", "names no database"),
            ("mysql://u:secret@h/d?ssl_mode=REQUIRED", "none of ssl-mode"),
            ("mysql://u:secret@h/d?charset=latin1", "none of ssl-mode"),
            ("mysql://u:secret@h/d?ssl-mode=maybe", "like mysql://"),
        ] {
            let rule = MysqlUrl::parse(text).expect_err(text);
            assert!(rule.contains(word) && !rule.contains("secret"), "{rule}");
        }
    }
}
