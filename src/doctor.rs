//! `eventstream doctor`: what is found about a database, a line for each check,
//! with what to do. It looks at the database itself, so that it also helps where
//! the service does not start.

mod wakeup;

use std::{
    fmt::Write as _,
    io::{IsTerminal as _, Write as _, stdout},
    process::ExitCode,
};

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;

use crate::{
    app, config,
    config::Config,
    store::{Finding, READING, Verdict},
};

const PROBE: &str = "probe";
const JSON: &str = "json";

/// The subcommand.
#[must_use]
pub fn command() -> Command {
    config::serve_command()
        .name("doctor")
        .about("Check a database, and say what to do")
        .arg(Arg::new(PROBE).long(PROBE).action(ArgAction::SetTrue).help(
            "Also add an event of type DOCTOR, which stays in the queue, and see that a subscriber gets it",
        ))
        .arg(
            Arg::new(JSON)
                .long(JSON)
                .action(ArgAction::SetTrue)
                .help("Print one JSON object per check"),
        )
        .after_help(
            "Changes nothing without --probe, with which it takes part as one more replica for a \
             moment. Exits with 0 if all is well, 1 after a warning, 2 \
             after a problem or with a fault of the configuration. Takes the options of serve.",
        )
}

/// Runs it; the exit code tells the worst of what was found.
pub async fn run(matches: &ArgMatches, config: &Config) -> ExitCode {
    let mut findings = app::examine(config).await;
    if matches.get_flag(PROBE) && can_be_read(&findings) {
        findings.push(wakeup::probe(config).await);
    }
    let text = if matches.get_flag(JSON) {
        as_json(&findings)
    } else {
        as_text(&findings, stdout().is_terminal())
    };
    // A closed pipe is the reader's choice.
    let _ = stdout().write_all(text.as_bytes());
    let worst = findings.iter().map(|finding| finding.verdict).max();
    ExitCode::from(match worst {
        Some(Verdict::Ok) => 0,
        Some(Verdict::Warning) => 1,
        Some(Verdict::Problem) | None => 2,
    })
}

/// Nothing can be said of an event's way where the way is known to be closed.
fn can_be_read(findings: &[Finding]) -> bool {
    let problem = findings.iter().any(|it| it.verdict == Verdict::Problem);
    !problem && findings.iter().any(|it| it.check == READING)
}

fn as_json(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let line = json!({
            "check": finding.check,
            "verdict": finding.verdict.as_str(),
            "text": finding.text,
            "remedy": finding.remedy,
        });
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn as_text(findings: &[Finding], colours: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let verdict = coloured(finding.verdict, colours);
        let _ = writeln!(text, "{verdict} {}: {}", finding.check, finding.text);
        if let Some(remedy) = &finding.remedy {
            let _ = writeln!(text, "        what to do: {remedy}");
        }
    }
    text
}

fn coloured(verdict: Verdict, colours: bool) -> String {
    let word = format!("{:<7}", verdict.as_str());
    let colour = match verdict {
        Verdict::Ok => "32",
        Verdict::Warning => "33",
        Verdict::Problem => "31",
    };
    if colours {
        format!("\u{1b}[{colour}m{word}\u{1b}[0m")
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_a_line_each_with_what_to_do() {
        let findings = [
            Finding {
                check: "clock",
                verdict: Verdict::Ok,
                text: "fine".into(),
                remedy: None,
            },
            Finding {
                check: "schema",
                verdict: Verdict::Problem,
                text: "none".into(),
                remedy: Some("make it".into()),
            },
        ];
        assert_eq!(
            as_text(&findings, false),
            "ok      clock: fine\nproblem schema: none\n        what to do: make it\n"
        );
        let json = as_json(&findings);
        assert_eq!(json.lines().count(), 2);
        assert!(json.contains(r#""verdict":"problem""#), "{json}");
    }
}
