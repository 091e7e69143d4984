//! Series that vanish when what they describe does: a consumer, a transaction.
//! The recorder keeps for ever what was set once, so they are made anew for each
//! scrape and stand behind what it renders.

use std::fmt::Write as _;

use super::metric;

/// One series with its value now.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// A metric of the list.
    pub name: &'static str,
    /// Label and value.
    pub labels: Vec<(&'static str, String)>,
    /// Its value.
    pub value: f64,
}

/// The samples in the text format of Prometheus, those of a metric together.
pub(super) fn render(samples: &[Sample]) -> String {
    let mut samples: Vec<_> = samples.iter().collect();
    samples.sort_by_key(|sample| sample.name);
    let mut text = String::new();
    let mut last = "";
    for sample in samples {
        if sample.name != last {
            last = sample.name;
            head(&mut text, last);
        }
        let labels: Vec<_> = sample
            .labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{}\"", escaped(value)))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}{{{}}} {}",
            sample.name,
            labels.join(","),
            sample.value
        );
    }
    text
}

fn head(text: &mut String, name: &str) {
    if let Some(known) = metric::find(name) {
        let kind = known.kind.as_str();
        let _ = writeln!(
            text,
            "# HELP {name} {}\n# TYPE {name} {kind}",
            known.meaning
        );
    }
}

/// As the text format wants the value of a label.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::{super::names, *};

    #[test]
    fn samples_stand_together_under_their_help_and_are_escaped() {
        let sample = |name, label: &str, value| Sample {
            name,
            labels: vec![("user", label.to_owned())],
            value,
        };
        let text = render(&[
            sample(names::CONSUMER_LAG_IDS, "a", 1.0),
            sample(names::HOLDS_OLDEST, "a", 0.0),
            sample(names::CONSUMER_LAG_IDS, "x\"\\\n", 2.5),
        ]);
        let lines: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with("# HELP"))
            .collect();
        assert_eq!(
            lines,
            [
                "# TYPE eventstream_consumer_holds_oldest gauge",
                "eventstream_consumer_holds_oldest{user=\"a\"} 0",
                "# TYPE eventstream_consumer_lag_ids gauge",
                "eventstream_consumer_lag_ids{user=\"a\"} 1",
                "eventstream_consumer_lag_ids{user=\"x\\\"\\\\\\n\"} 2.5",
            ]
        );
    }
}
