//! Where commands write: results to stdout, remarks to stderr.
//!
//! Writes are collected and go out whole at [`Output::flush`]; nothing that
//! was acknowledged to a server may still wait here. A failing stdout is an
//! error for the caller, a failing stderr is nobody's.

use std::{
    borrow::Cow,
    env,
    fmt::Display,
    fmt::Write as _,
    io::{self, BufWriter, IsTerminal, Write},
};

use serde::Serialize;

use super::views;
use crate::proto::{Consumer, Event};

/// How results are shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Format {
    /// One JSON object per line, for programs
    #[arg(long, global = true)]
    json: bool,
}

impl Format {
    pub(super) const TEXT: Self = Self { json: false };
}

pub(super) struct Output {
    results: BufWriter<Box<dyn Write + Send>>,
    remarks: Box<dyn Write + Send>,
    json: bool,
    colors: bool,
}

impl Output {
    /// Stdout and stderr. Not held locked: a guard could not live across an
    /// await, and one flush is one write anyway.
    pub(super) fn standard(format: Format) -> Self {
        let plain_wanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            results: BufWriter::new(Box::new(io::stdout())),
            remarks: Box::new(io::stderr()),
            json: format.json,
            colors: io::stdout().is_terminal() && !plain_wanted,
        }
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.results.flush()
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.results.write_all(bytes)
    }

    pub(super) fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.results, "{text}")
    }

    pub(super) fn object(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.results, value)?;
        writeln!(self.results)
    }

    /// One line for a person, on stderr.
    pub(super) fn note(&mut self, text: impl Display) {
        // What was printed before comes first, also on a shared terminal.
        let _ = self.results.flush();
        let _ = writeln!(self.remarks, "{text}");
    }

    /// A remark that the next one overwrites; the caller knows that stderr
    /// is a terminal.
    pub(super) fn progress(&mut self, text: impl Display) {
        let _ = write!(self.remarks, "\r\x1b[K{text}");
        let _ = self.remarks.flush();
    }

    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        if self.json {
            return self.object(&views::EventView::of(event));
        }
        let ts = event.ts.map_or_else(|| "-".to_owned(), views::time);
        let (bold, dim, end) = if self.colors {
            ("\x1b[1;36m", "\x1b[2m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let (id, kind) = (event.id, plain(&event.r#type));
        let data = plain(&event.data_json);
        writeln!(
            self.results,
            "{dim}{ts:<23}{end}  {id:>8}  {bold}{kind:<16}{end}  {data}"
        )
    }

    pub(super) fn consumers(&mut self, consumers: &[Consumer]) -> io::Result<()> {
        if self.json {
            for consumer in consumers {
                self.object(&views::ConsumerView::of(consumer))?;
            }
            return Ok(());
        }
        let rows: Vec<_> = consumers.iter().map(views::consumer_row).collect();
        self.table(&views::CONSUMER_COLUMNS, &rows)
    }

    /// Columns as wide as their widest cell; the last one is not padded.
    pub(super) fn table<const N: usize>(
        &mut self,
        header: &[&str; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let mut widths = header.map(|title| title.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut cells = Vec::with_capacity(rows.len() + 1);
        cells.push(header.map(str::to_owned));
        cells.extend_from_slice(rows);
        for row in &cells {
            let mut line = String::new();
            for (cell, &width) in row.iter().zip(&widths) {
                let _ = write!(line, "{cell:<width$}  ");
            }
            writeln!(self.results, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Text that cannot move a terminal's cursor: one line, no control characters.
///
/// Of JSON it changes no value: there line breaks are only white space, and
/// strings hold control characters escaped.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let harmless = |character: char| match character {
        '\n' | '\r' | '\t' => ' ',
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    };
    Cow::Owned(text.chars().map(harmless).collect())
}

#[cfg(test)]
pub(super) mod capture {
    //! An output whose bytes a test reads back.

    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    pub(in crate::cli) struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Pipe {
        fn text(&self) -> String {
            let bytes = self.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Clone)]
    pub(in crate::cli) struct Shown {
        results: Pipe,
        remarks: Pipe,
    }

    impl Shown {
        pub(in crate::cli) fn results(&self) -> String {
            self.results.text()
        }

        pub(in crate::cli) fn notes(&self) -> String {
            self.remarks.text()
        }
    }

    impl Output {
        pub(in crate::cli) fn captured(json: bool) -> (Self, Shown) {
            let (results, remarks) = (Pipe::default(), Pipe::default());
            let output = Self {
                results: BufWriter::new(Box::new(results.clone())),
                remarks: Box::new(remarks.clone()),
                json,
                colors: false,
            };
            (output, Shown { results, remarks })
        }

        /// Its stdout is a pipe that nobody reads any more.
        pub(in crate::cli) fn closed() -> (Self, Shown) {
            let (mut output, shown) = Self::captured(false);
            output.results = BufWriter::new(Box::new(Closed));
            (output, shown)
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let (mut output, shown) = Output::captured(false);
        let rows = [
            ["1".to_owned(), "ä".to_owned()],
            ["100".to_owned(), String::new()],
        ];
        output.table(&["ID", "NAME"], &rows).unwrap();
        output.flush().unwrap();
        assert_eq!(shown.results(), "ID   NAME\n1    ä\n100\n");
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(plain("{\n\t\"a\": 1}"), "{  \"a\": 1}");
        assert_eq!(plain("\x1b[2J\u{9b}x"), "\u{fffd}[2J\u{fffd}x");
        assert!(matches!(plain("as it is"), Cow::Borrowed(_)));
    }
}
