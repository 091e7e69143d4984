//! Reading a table of TOML key by key, so that a fault names the place.
//!
//! What the file of users is read with: each key is taken out as what it must be,
//! and one that is left at the end is a fault, for a right that was spelt wrong
//! would otherwise be missing in silence. No fault shows a line of the file, which
//! may hold a secret.

use toml::{Table, Value};

use super::file::Fault;

/// A table that is taken apart; what is left at the end nobody knows.
pub(super) struct Section {
    /// Its dotted name; nothing for the whole file.
    at: String,
    table: Table,
}

impl Section {
    pub(super) fn of(text: &str) -> Result<Self, Fault> {
        let table = text.parse::<Table>().map_err(|error| {
            // Its `Display` would show the line, and so perhaps a secret.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(0, |before| before.matches('\n').count()) + 1;
            Fault::new(format!("line {line} is not TOML: {}", error.message()))
        })?;
        Ok(Self {
            at: String::new(),
            table,
        })
    }

    /// A fault of this key.
    pub(super) fn fault(&self, key: &str, rule: impl std::fmt::Display) -> Fault {
        Fault::new(format!("{} {rule}", self.name(key)))
    }

    /// A fault of the table's own name.
    pub(super) fn fault_of_name(&self, rule: impl std::fmt::Display) -> Fault {
        Fault::new(format!("{}: {rule}", self.at))
    }

    /// What errors call this table.
    pub(super) fn place(&self) -> String {
        self.at.clone()
    }

    fn name(&self, key: &str) -> String {
        // What a person has to look for, quoted where TOML wants it so.
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_[]".contains(&byte);
        let key = if !key.is_empty() && key.bytes().all(bare) {
            key.to_owned()
        } else {
            format!("{key:?}")
        };
        match self.at.as_str() {
            "" => key,
            at => format!("{at}.{key}"),
        }
    }

    pub(super) fn text(&mut self, key: &str) -> Result<Option<String>, Fault> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.fault(key, "must be a text")),
        }
    }

    /// One that must be there.
    pub(super) fn required(&mut self, key: &str) -> Result<String, Fault> {
        let text = self.text(key)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.fault(key, "is missing"))
    }

    pub(super) fn truth(&mut self, key: &str) -> Result<bool, Fault> {
        match self.table.remove(key) {
            None => Ok(false),
            Some(Value::Boolean(truth)) => Ok(truth),
            Some(_) => Err(self.fault(key, "must be true or false")),
        }
    }

    /// A number from 1 on.
    pub(super) fn number(&mut self, key: &str) -> Result<Option<u32>, Fault> {
        let Some(value) = self.table.remove(key) else {
            return Ok(None);
        };
        let number = value.as_integer().and_then(|it| u32::try_from(it).ok());
        match number.filter(|number| *number > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.fault(
                key,
                format!("must be a whole number from 1 to {}", u32::MAX),
            )),
        }
    }

    /// A list of texts, each read by `read`, which says what rule it breaks.
    pub(super) fn list<T>(
        &mut self,
        key: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, Fault> {
        let items = match self.table.remove(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(self.fault(key, "must be a list of texts")),
        };
        let item = |(index, value): (usize, &Value)| {
            let key = format!("{key}[{index}]");
            let text = value.as_str().ok_or("must be a text".to_owned());
            text.and_then(&read).map_err(|rule| self.fault(&key, rule))
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The tables in a table, by their names.
    pub(super) fn sections(&mut self, key: &str) -> Result<Vec<(String, Self)>, Fault> {
        let Some(inner) = self.section(key)? else {
            return Ok(Vec::new());
        };
        let mut sections = Vec::new();
        for (name, value) in inner.table.clone() {
            let Value::Table(table) = value else {
                return Err(inner.fault(&name, "must be a table"));
            };
            let at = inner.name(&name);
            sections.push((name, Self { at, table }));
        }
        Ok(sections)
    }

    pub(super) fn section(&mut self, key: &str) -> Result<Option<Self>, Fault> {
        match self.table.remove(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Ok(Some(Self {
                at: self.name(key),
                table,
            })),
            Some(_) => Err(self.fault(key, "must be a table")),
        }
    }

    /// The keys of a table whose keys are no options but names.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// Everything must have been taken.
    pub(super) fn end(self) -> Result<(), Fault> {
        match self.table.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.fault(key, "is not known here")),
        }
    }
}
