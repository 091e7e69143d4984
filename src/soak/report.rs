//! What a run found, as a table and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::verdict::{Delays, Verdict};

/// Everything there is to say about a run.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct Report {
    pub(super) database: &'static str,
    pub(super) place: String,
    pub(super) seed: u64,
    pub(super) writers: u32,
    pub(super) hold_ms: u64,
    /// Until the last transaction had ended.
    pub(super) seconds: f64,
    pub(super) transactions: Transactions,
    /// The service, as a subscriber over gRPC saw it.
    pub(super) service: Verdict,
    /// Other readers, by their names.
    pub(super) compared: BTreeMap<&'static str, Verdict>,
    /// Where the database itself did not what it had answered.
    pub(super) broken_promises: Vec<String>,
    /// Why the subscriber had to subscribe again.
    pub(super) breaks: Vec<String>,
    /// Errors that writers and readers got without having asked for them.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) notes: Vec<String>,
}

/// How many ended how.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(super) struct Transactions {
    pub(super) committed: usize,
    pub(super) rolled_back: usize,
    /// Their session was killed or cut.
    pub(super) broken: usize,
}

impl Report {
    /// Whether the service, and the database under it, kept the guarantee.
    pub(super) fn holds(&self) -> bool {
        self.service.holds() && self.broken_promises.is_empty()
    }

    pub(super) fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }

    fn counts(&self) -> Vec<[String; 7]> {
        let head = [
            "reader",
            "committed",
            "delivered",
            "lost",
            "duplicated",
            "out of order",
            "rolled back",
        ];
        let row = |name: &str, verdict: &Verdict| {
            let counts = [
                verdict.committed,
                verdict.delivered,
                verdict.lost,
                verdict.duplicated,
                verdict.out_of_order,
                verdict.rolled_back,
            ];
            let mut row = counts.map(|count| count.to_string()).into_iter();
            std::array::from_fn(|at| match at {
                0 => name.to_owned(),
                _ => row.next().unwrap_or_default(),
            })
        };
        let mut rows = vec![head.map(str::to_owned), row("eventstream", &self.service)];
        rows.extend(self.compared.iter().map(|(name, it)| row(name, it)));
        rows
    }

    fn delays(&self) -> Vec<[String; 5]> {
        let row = |name: &str, delays: Delays| {
            let Delays { p50, p95, p99, max } = delays;
            [
                name.to_owned(),
                milliseconds(p50),
                milliseconds(p95),
                milliseconds(p99),
                milliseconds(max),
            ]
        };
        vec![
            ["eventstream, ms", "p50", "p95", "p99", "max"].map(str::to_owned),
            row("commit to delivery", self.service.delay),
            row("of it, added by the service", self.service.added_delay),
        ]
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if self.service.altered > 0 {
            remarks.push(format!("{} events came altered", self.service.altered));
        }
        if !self.service.lost_ids.is_empty() {
            remarks.push(format!("lost ids, the first: {:?}", self.service.lost_ids));
        }
        if !self.breaks.is_empty() {
            remarks.push(format!(
                "the stream broke {} times, {} events came again: {}",
                self.breaks.len(),
                self.service.redelivered,
                self.breaks[0]
            ));
        }
        let broken = self.broken_promises.iter().take(10);
        remarks.extend(broken.map(|text| format!("the database broke its word: {text}")));
        let errors = self.errors.iter().take(10);
        remarks.extend(errors.map(|(text, count)| format!("{count} × {text}")));
        remarks.extend(self.notes.iter().cloned());
        remarks
    }
}

fn milliseconds(micros: u64) -> String {
    let tenths = Duration::from_micros(micros).as_micros().div_ceil(100);
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The first column to the left, the others to the right.
fn aligned<const N: usize>(f: &mut fmt::Formatter<'_>, rows: &[[String; N]]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    for row in rows {
        write!(f, "{:<1$}", row[0], width(0))?;
        for (column, cell) in row.iter().enumerate().skip(1) {
            write!(f, "  {cell:>0$}", width(column))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Transactions {
            committed,
            rolled_back,
            broken,
        } = self.transactions;
        writeln!(f, "{} ({}), seed {}", self.place, self.database, self.seed)?;
        writeln!(
            f,
            "{} writers, pauses up to {} ms, {:.1} s: {committed} transactions committed, \
             {rolled_back} rolled back, {broken} broken off\n",
            self.writers, self.hold_ms, self.seconds
        )?;
        aligned(f, &self.counts())?;
        writeln!(f)?;
        aligned(f, &self.delays())?;
        let remarks = self.remarks();
        if !remarks.is_empty() {
            writeln!(f, "\n{}", remarks.join("\n"))?;
        }
        let verdict = if self.holds() {
            "nothing lost, duplicated, reordered or invented"
        } else {
            "VIOLATED"
        };
        writeln!(f, "\n{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            database: "postgres",
            place: "shop on localhost:5432".into(),
            seed: 7,
            writers: 48,
            hold_ms: 300,
            seconds: 12.34,
            transactions: Transactions {
                committed: 100,
                rolled_back: 20,
                broken: 1,
            },
            service: Verdict {
                committed: 300,
                delivered: 300,
                delay: Delays {
                    p50: 90_041,
                    ..Delays::default()
                },
                ..Verdict::default()
            },
            compared: [(
                "naive",
                Verdict {
                    committed: 300,
                    delivered: 45,
                    lost: 255,
                    ..Verdict::default()
                },
            )]
            .into(),
            broken_promises: Vec::new(),
            breaks: Vec::new(),
            errors: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn the_table_is_aligned_and_ends_with_the_verdict() {
        let text = report().to_string();
        let table = "\
reader       committed  delivered  lost  duplicated  out of order  rolled back
eventstream        300        300     0           0             0            0
naive              300         45   255           0             0            0
";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("commit to delivery           90.1"), "{text}");
        assert!(text.ends_with("\nnothing lost, duplicated, reordered or invented\n"));
    }

    #[test]
    fn violations_of_the_service_and_of_the_database_count() {
        let mut lossy = report();
        lossy.service.lost = 1;
        lossy.service.lost_ids = vec![17];
        assert!(!lossy.holds());
        assert!(lossy.to_string().contains("[17]") && lossy.to_string().ends_with("VIOLATED\n"));
        let mut liar = report();
        liar.broken_promises = vec!["it is gone".into()];
        assert!(!liar.holds() && liar.to_string().contains("it is gone"));
    }

    #[test]
    fn json_has_what_the_table_has() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json().unwrap()).unwrap();
        assert_eq!(json["service"]["lost"], 0);
        assert_eq!(json["compared"]["naive"]["lost"], 255);
        assert_eq!(json["service"]["delay"]["p50_us"], 90_041);
    }
}
