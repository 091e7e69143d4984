//! Configurations as somebody may write them, right or wrong. Nothing may panic,
//! and a fault always says something, but never what is secret.
//!
//! `fuzz/` runs the same functions without end; the tests here are its bounded
//! run with every `cargo test`.

use std::sync::LazyLock;

use clap::ArgMatches;

use super::{load, serve_command};

/// A password in places where one may stand.
const SECRET: &str = "s3cr3t-t3xt";

/// Variables, one per line, then an empty line, and a file.
///
/// # Panics
/// When a fault says nothing, or tells the secret of a URL.
pub fn configuration(bytes: &[u8]) {
    static MATCHES: LazyLock<ArgMatches> =
        LazyLock::new(|| serve_command().get_matches_from(["serve", "--config", "f"]));
    let text = String::from_utf8_lossy(bytes);
    let (variables, file) = text.split_once("\n\n").unwrap_or(("", &text));
    let variables = variables.lines().filter_map(|line| {
        let (name, text) = line.split_once('=')?;
        Some((name.to_owned(), text.to_owned()))
    });
    let url = format!("postgres://user:{SECRET}@host/db?nonsense=1");
    let variables = variables.chain([("EVENTSTREAM_ARCHIVE_URL".to_owned(), url)]);
    // The file of FutoIn's users is the same text, if it names one.
    let loaded = load(&MATCHES, variables, |_| Ok(file.to_owned()));
    let faults = loaded.expect_err("the URL has a fault").to_string();
    assert!(!faults.is_empty());
    assert!(
        !faults.contains(SECRET) || text.contains(SECRET),
        "{faults}"
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn files_nearly_as_they_should_be(
            key in "(grpc|http|limits|socket|futoin|db|stream)\\.[a-z_]{1,12}",
            text in "\\PC{0,20}",
            variable in "EVENTSTREAM_(GRPC|HTTP|LIMITS_USER_CALLS|SOCKET_MODE|DB)=\\PC{0,20}"
        ) {
            let text = toml::Value::String(text);
            configuration(format!("{variable}\n\n{key} = {text}\n").as_bytes());
        }

        #[test]
        fn any_text(text in "\\PC{0,80}") {
            configuration(text.as_bytes());
        }
    }
}
