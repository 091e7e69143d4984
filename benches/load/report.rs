//! Figures as a table for people and as JSON for everything else.
//!
//! A figure keeps the value of every round. What is shown is the median, and
//! for a comparison the median of the rounds' ratios: both sides of a ratio
//! were measured within seconds of each other.

use std::{
    io::{Write as _, stdout},
    path::Path,
};

use serde::Serialize;

use crate::{
    Plan,
    measure::{interval, median},
};

/// What a figure should reach.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Target {
    AtMost(f64),
    RatioAtLeast(f64),
    RatioAtMost(f64),
}

#[derive(Serialize)]
struct Figure {
    name: String,
    unit: &'static str,
    rounds: Vec<f64>,
    median: f64,
    beside: Option<String>,
    ratio: Option<f64>,
    /// 95 % of it, if the rounds are enough to tell.
    interval: Option<(f64, f64)>,
    target: Option<Target>,
}

/// The figures of one scenario.
#[derive(Serialize)]
pub(crate) struct Sheet {
    scenario: &'static str,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Sheet {
    pub(crate) fn new(scenario: &'static str) -> Self {
        Self {
            scenario,
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// One round's value.
    pub(crate) fn record(&mut self, name: &str, unit: &'static str, value: f64) {
        if let Some(figure) = self.figure(name) {
            figure.rounds.push(value);
            return;
        }
        self.figures.push(Figure {
            name: name.to_owned(),
            unit,
            rounds: vec![value],
            median: 0.0,
            beside: None,
            ratio: None,
            interval: None,
            target: None,
        });
    }

    /// The figure should be at most this.
    pub(crate) fn at_most(&mut self, name: &str, limit: f64) {
        self.aim(name, None, Some(Target::AtMost(limit)));
    }

    /// The figure should be at least `factor` times the other one.
    pub(crate) fn at_least_times(&mut self, name: &str, beside: &str, factor: f64) {
        self.aim(name, Some(beside), Some(Target::RatioAtLeast(factor)));
    }

    /// The figure should be at most `factor` times the other one.
    pub(crate) fn at_most_times(&mut self, name: &str, beside: &str, factor: f64) {
        self.aim(name, Some(beside), Some(Target::RatioAtMost(factor)));
    }

    /// The figure is shown beside the other one.
    pub(crate) fn compare(&mut self, name: &str, beside: &str) {
        self.aim(name, Some(beside), None);
    }

    /// How something was measured.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn aim(&mut self, name: &str, beside: Option<&str>, target: Option<Target>) {
        if let Some(figure) = self.figure(name) {
            figure.beside = beside.map(str::to_owned);
            figure.target = target;
        }
    }

    fn figure(&mut self, name: &str) -> Option<&mut Figure> {
        self.figures.iter_mut().find(|figure| figure.name == name)
    }

    fn finish(&mut self) {
        for index in 0..self.figures.len() {
            let beside = self.figures[index].beside.clone();
            let beside = beside.and_then(|name| self.figure(&name).map(|it| it.rounds.clone()));
            let figure = &mut self.figures[index];
            figure.median = median(&figure.rounds);
            if let Some(beside) = beside {
                let pairs = figure.rounds.iter().zip(&beside);
                let ratios: Vec<f64> = pairs.map(|(one, other)| one / other).collect();
                figure.ratio = Some(median(&ratios));
                figure.interval = interval(&ratios);
            }
        }
    }
}

impl Figure {
    fn verdict(&self) -> String {
        let ratio = self.ratio.unwrap_or(f64::NAN);
        let (text, met) = match self.target {
            None => return String::new(),
            Some(Target::AtMost(limit)) => (format!("≤ {limit}"), self.median <= limit),
            Some(Target::RatioAtLeast(limit)) => (format!("≥ {limit} ×"), ratio >= limit),
            Some(Target::RatioAtMost(limit)) => (format!("≤ {limit} ×"), ratio <= limit),
        };
        format!("{text} {}", if met { "ok" } else { "MISSED" })
    }
}

/// All scenarios of a run.
#[derive(Serialize)]
pub(crate) struct Report {
    machine: String,
    rounds: usize,
    quick: bool,
    sheets: Vec<Sheet>,
}

impl Report {
    pub(crate) fn new(plan: &Plan) -> anyhow::Result<Self> {
        let machine = format!("{}; {}", machine(), plan.engine.about());
        writeln!(stdout().lock(), "{machine}; {} rounds", plan.rounds)?;
        Ok(Self {
            machine,
            rounds: plan.rounds,
            quick: plan.quick,
            sheets: Vec::new(),
        })
    }

    /// Prints a finished scenario and keeps it.
    pub(crate) fn add(&mut self, mut sheet: Sheet) -> anyhow::Result<()> {
        sheet.finish();
        let mut out = stdout().lock();
        writeln!(out, "\n== {}", sheet.scenario)?;
        for figure in &sheet.figures {
            let ratio = match (figure.ratio, &figure.beside) {
                (Some(ratio), Some(beside)) => format!("{ratio:.3} × {beside}"),
                _ => String::new(),
            };
            let interval = figure
                .interval
                .map_or_else(String::new, |(low, high)| format!("[{low:.3}, {high:.3}]"));
            writeln!(
                out,
                "{:<54} {:>12.2} {:<11} {ratio:<58} {interval:<16} {}",
                figure.name,
                figure.median,
                figure.unit,
                figure.verdict()
            )?;
        }
        for note in &sheet.notes {
            writeln!(out, "   {note}")?;
        }
        drop(out);
        self.sheets.push(sheet);
        Ok(())
    }

    pub(crate) fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        let file = std::fs::File::create(file)?;
        Ok(serde_json::to_writer_pretty(file, self)?)
    }
}

/// Cores, processor and kernel, as far as the system tells.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| {
            rest.trim_start_matches([' ', '\t', ':'])
        });
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}
