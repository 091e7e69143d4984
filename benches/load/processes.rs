//! What the system tells about processes, in `/proc`.

use std::{
    fs::{read_dir, read_to_string},
    path::Path,
};

use anyhow::Context as _;

/// Clock ticks a second in `/proc/PID/stat`: the same on every Linux.
const TICKS: f64 = 100.0;

/// Processor time that a process' threads have used so far, in seconds.
pub(crate) fn cpu(process: u32) -> anyhow::Result<f64> {
    let mut nanos = 0.0;
    for thread in read_dir(format!("/proc/{process}/task"))? {
        let stat = read_to_string(thread?.path().join("schedstat"))?;
        let running = stat.split_whitespace().next().context("no schedstat")?;
        nanos += running.parse::<f64>()?;
    }
    Ok(nanos / 1e9)
}

/// Processor time of a process and its children, those that have ended
/// included, in seconds; ten milliseconds are the smallest step.
pub(crate) fn cpu_of_family(parent: u32) -> anyhow::Result<f64> {
    let mut ticks = 0.0;
    for entry in read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let Some(stat) = Stat::of(process) else {
            continue;
        };
        if process == parent || stat.parent == parent {
            ticks += stat.ticks;
        }
    }
    Ok(ticks / TICKS)
}

/// Resident memory in MiB.
pub(crate) fn resident(process: u32) -> anyhow::Result<f64> {
    let kib = field(process, "status", "VmRSS:")?;
    Ok(kib / 1024.0)
}

/// The part of it that is no page of a file, in MiB.
pub(crate) fn anonymous(process: u32) -> anyhow::Result<f64> {
    let kib = field(process, "status", "RssAnon:")?;
    Ok(kib / 1024.0)
}

/// Read and write system calls so far.
pub(crate) fn file_calls(process: u32) -> anyhow::Result<f64> {
    Ok(field(process, "io", "syscr:")? + field(process, "io", "syscw:")?)
}

struct Stat {
    parent: u32,
    /// User and system time, and those of the children that were waited for.
    ticks: f64,
}

impl Stat {
    fn of(process: u32) -> Option<Self> {
        let stat = read_to_string(format!("/proc/{process}/stat")).ok()?;
        // After the name, which may hold anything: state, parent, …
        let rest = stat.rsplit_once(") ")?.1;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = fields.get(11..15)?.iter().map(|ticks| ticks.parse::<f64>());
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks.sum::<Result<f64, _>>().ok()?,
        })
    }
}

/// A number after its name in a file of a process.
fn field(process: u32, file: &str, name: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/{file}");
    let text = read_to_string(Path::new(&path))?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word.with_context(|| format!("no {name}"))?.parse()?)
}
