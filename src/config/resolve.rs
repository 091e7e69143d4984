//! From four sources to one text per option, and from that to values, with
//! every fault on the way kept. A value that is at fault is read as its
//! default, so that the rest can be judged too; [`Reader::finish`] then gives
//! out the faults and never the value.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use toml::Value;

use super::fault::{Fault, Faults, Origin};
use super::options::{CONFIG_FILE, OPTIONS, Opt, RUST_LOG, find, is_ours};
use super::value::Read;

/// Variables of the command-line client, which may be set beside ours.
const CLIENT_VARIABLES: [&str; 6] = [
    "EVENTSTREAM_ADDR",
    "EVENTSTREAM_TOKEN",
    "EVENTSTREAM_TLS_CA",
    "EVENTSTREAM_TLS_CERT",
    "EVENTSTREAM_TLS_KEY",
    "EVENTSTREAM_TLS_NAME",
];

/// The text of every option, and the faults so far.
pub(super) struct Reader {
    texts: BTreeMap<&'static str, (String, Origin)>,
    at_fault: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

impl Reader {
    pub(super) fn new(
        matches: &ArgMatches,
        environment: impl IntoIterator<Item = (String, String)>,
        read_file: impl FnOnce(&Path) -> std::io::Result<String>,
    ) -> Self {
        let default = |opt: &Opt| (opt.key, (opt.default.to_owned(), Origin::Default));
        let mut reader = Self {
            texts: OPTIONS.iter().map(default).collect(),
            at_fault: BTreeSet::new(),
            faults: Vec::new(),
        };
        // Orchestrators set a variable to nothing where they mean to unset it.
        let variables = environment
            .into_iter()
            .filter(|(name, text)| is_ours(name) && !text.is_empty())
            .collect::<BTreeMap<_, _>>();
        let given = |opt: &Opt| given(opt, matches, &variables);
        if let Some((path, _)) = given(&CONFIG_FILE) {
            reader.file(PathBuf::from(path), read_file);
        }
        for opt in OPTIONS {
            if let Some(text) = given(opt) {
                reader.texts.insert(opt.key, text);
            }
        }
        reader.strange_variables(variables.keys());
        reader
    }

    /// The value of an option; its default after a fault.
    pub(super) fn get<T>(&mut self, key: &'static str, read: impl Fn(&str) -> Read<T>) -> T {
        let opt = find(key).expect("only options of the table are asked for");
        match read(&self.texts[key].0) {
            Ok(value) => value,
            Err(rule) => {
                self.blame(key, &rule);
                read(opt.default).expect("the default of an option is valid")
            }
        }
    }

    /// Records that the text of this option breaks a rule.
    pub(super) fn blame(&mut self, key: &'static str, rule: &str) {
        let opt = find(key).expect("only options of the table are blamed");
        let (text, origin) = &self.texts[key];
        self.faults.push(Fault::of(opt, text, origin, rule));
        self.at_fault.insert(key);
    }

    /// Whether none of these was at fault, so that they can be compared.
    pub(super) fn sound(&self, keys: &[&str]) -> bool {
        !keys.iter().any(|key| self.at_fault.contains(key))
    }

    /// The configuration, if nothing was wrong.
    pub(super) fn finish<T>(self, config: T) -> Result<T, Faults> {
        if self.faults.is_empty() {
            Ok(config)
        } else {
            Err(Faults(self.faults))
        }
    }

    fn file(&mut self, path: PathBuf, read: impl FnOnce(&Path) -> std::io::Result<String>) {
        let contents = read(&path);
        let origin = Origin::File(path);
        let text = match contents {
            Ok(text) => text,
            Err(error) => {
                let rule = format!("cannot be read: {error}");
                self.faults.push(Fault::source(&origin, &rule));
                return;
            }
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.table("", table, &origin),
            Err(error) => {
                // Its `Display` would show the line, and so a password.
                let before = error.span().and_then(|span| text.get(..span.start));
                let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
                let rule = format!("line {line} is not TOML: {}", error.message());
                self.faults.push(Fault::source(&origin, &rule));
            }
        }
    }

    fn table(&mut self, prefix: &str, table: toml::Table, origin: &Origin) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match (find(&key), value) {
                (_, Value::Table(inner)) => self.table(&format!("{key}."), inner, origin),
                (Some(opt), value) => self.scalar(opt, value, origin),
                (None, _) => {
                    let known = OPTIONS.iter().map(|opt| opt.key.to_owned());
                    self.unknown(&key, origin, known);
                }
            }
        }
    }

    fn scalar(&mut self, opt: &'static Opt, value: Value, origin: &Origin) {
        let text = match value {
            Value::String(text) => text,
            Value::Integer(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            other => {
                let rule = format!(
                    "is a {}, but must be a text, a whole number, true or false",
                    other.type_str()
                );
                self.faults.push(Fault::about(opt.key, origin, &rule));
                return;
            }
        };
        self.texts.insert(opt.key, (text, origin.clone()));
    }

    fn strange_variables<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let known = std::iter::once(&CONFIG_FILE)
            .chain(OPTIONS)
            .map(Opt::environment)
            .collect::<Vec<_>>();
        for name in names {
            let expected = known.contains(name)
                || CLIENT_VARIABLES.contains(&name.as_str())
                || name == RUST_LOG
                || is_of_kubernetes(name);
            if !expected {
                self.unknown(
                    name,
                    &Origin::Environment(name.clone()),
                    known.iter().cloned(),
                );
            }
        }
    }

    fn unknown(&mut self, name: &str, origin: &Origin, known: impl Iterator<Item = String>) {
        let rule = match nearest(name, known) {
            Some(near) => format!("is not an option, did you mean {near}?"),
            None => "is not an option".to_owned(),
        };
        let fault = match origin {
            Origin::Environment(_) => Fault::source(origin, &rule),
            _ => Fault::about(name, origin, &rule),
        };
        self.faults.push(fault);
    }
}

/// What the command line says, or else the environment.
fn given(
    opt: &Opt,
    matches: &ArgMatches,
    variables: &BTreeMap<String, String>,
) -> Option<(String, Origin)> {
    if let Some(text) = matches.get_one::<String>(opt.key) {
        return Some((text.clone(), Origin::Flag(opt.flag)));
    }
    let mut name = opt.environment();
    if opt.key == "log.filter" && !variables.contains_key(&name) {
        RUST_LOG.clone_into(&mut name);
    }
    let text = variables.get(&name)?;
    Some((text.clone(), Origin::Environment(name)))
}

/// Kubernetes gives every pod such variables for every service, and a service
/// called `eventstream` or `eventstream-grpc` makes them look like ours.
fn is_of_kubernetes(name: &str) -> bool {
    let port = name
        .split("_PORT_")
        .nth(1)
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    port || name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
}

/// The known name that was probably meant.
fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    known
        .map(|known| (distance(name, &known), known))
        .filter(|(distance, known)| *distance <= known.len() / 4)
        .min()
        .map(|(_, known)| known)
}

/// Letters to insert, delete or replace to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to = to.chars().collect::<Vec<_>>();
    let mut row = (0..=to.len()).collect::<Vec<_>>();
    for (index, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in to.iter().enumerate() {
            let replace = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (from, to, expected) in [
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(from, to), expected);
        }
    }

    #[test]
    fn kubernetes_variables_are_recognised() {
        for name in [
            "EVENTSTREAM_SERVICE_HOST",
            "EVENTSTREAM_SERVICE_PORT",
            "EVENTSTREAM_SERVICE_PORT_GRPC",
            "EVENTSTREAM_PORT",
            "EVENTSTREAM_PORT_50051_TCP_ADDR",
            "EVENTSTREAM_GRPC_PORT_50051_TCP",
        ] {
            assert!(is_of_kubernetes(name), "{name}");
        }
        for opt in OPTIONS {
            assert!(!is_of_kubernetes(&opt.environment()), "{}", opt.key);
        }
    }
}
