//! The direction of imports, read from the `use crate::` lines (ARCHITECTURE).

use std::{fs, path::Path};

/// A room, and the rooms that it may use beside itself. `error`, `limits`,
/// `lifecycle` and `telemetry` are the ground that every room stands on.
const MAY_USE: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("event", &["limits"]),
    ("lifecycle", &["limits"]),
    ("telemetry", &["limits"]),
    ("origins", &["limits"]),
    ("listen", &["lifecycle", "limits", "telemetry"]),
    ("store", &["event", "limits"]),
    ("error", &["event", "store", "telemetry"]),
    ("quota", &["error", "event", "limits", "telemetry"]),
    ("bodies", &["error", "limits"]),
    (
        "stream",
        &[
            "error",
            "event",
            "lifecycle",
            "limits",
            "store",
            "telemetry",
        ],
    ),
    (
        "auth",
        &[
            "error",
            "event",
            "lifecycle",
            "limits",
            "listen",
            "quota",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    (
        "grpc",
        &[
            "auth",
            "bodies",
            "error",
            "event",
            "limits",
            "origins",
            "proto",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    (
        "futoin",
        &[
            "auth",
            "bodies",
            "error",
            "event",
            "lifecycle",
            "limits",
            "listen",
            "origins",
            "stream",
            "telemetry",
        ],
    ),
    (
        "upkeep",
        &[
            "error",
            "event",
            "lifecycle",
            "limits",
            "store",
            "stream",
            "telemetry",
        ],
    ),
    ("http", &["auth", "lifecycle", "limits", "telemetry"]),
    (
        "console",
        &[
            "auth", "error", "event", "limits", "origins", "store", "stream",
        ],
    ),
    (
        "config",
        &[
            "auth",
            "event",
            "futoin",
            "limits",
            "listen",
            "origins",
            "quota",
            "store",
            "telemetry",
            "upkeep",
        ],
    ),
    (
        "cli",
        &["auth", "config", "event", "limits", "proto", "store"],
    ),
    (
        "app",
        &[
            "auth",
            "config",
            "console",
            "futoin",
            "grpc",
            "http",
            "lifecycle",
            "limits",
            "listen",
            "origins",
            "proto",
            "quota",
            "store",
            "stream",
            "telemetry",
            "upkeep",
        ],
    ),
    (
        "doctor",
        &["app", "config", "event", "lifecycle", "store", "stream"],
    ),
    // An application beside the service: it starts the whole, has SQL of its
    // own, and nobody but `main` knows it.
    (
        "soak",
        &[
            "app",
            "config",
            "lifecycle",
            "limits",
            "proto",
            "store",
            "telemetry",
        ],
    ),
];

#[test]
fn imports_go_one_way() {
    let mut faults = Vec::new();
    for (room, allowed) in MAY_USE {
        for (file, text) in sources(room) {
            for used in crate_uses(&text) {
                if used != *room && !allowed.contains(&used.as_str()) {
                    faults.push(format!("{file}: {room} must not use {used}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn of_the_service_only_the_store_speaks_sql_and_only_fronts_speak_protocols() {
    let mut faults = Vec::new();
    for room in [
        "event", "stream", "auth", "upkeep", "grpc", "futoin", "http", "console", "cli", "config",
        "app", "doctor",
    ] {
        for (file, text) in sources(room) {
            if text.contains("sqlx") {
                faults.push(format!("{file}: names sqlx"));
            }
        }
    }
    for room in ["event", "store", "stream", "upkeep"] {
        for (file, text) in sources(room) {
            if ["tonic", "prost", "axum", "hyper"]
                .iter()
                .any(|name| text.contains(name))
            {
                faults.push(format!("{file}: names a protocol"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Rights are asked for in one place: a front that had the stream itself could
/// forget to.
#[test]
fn fronts_reach_the_stream_through_the_gate() {
    let mut faults = Vec::new();
    for room in ["grpc", "futoin", "http", "console"] {
        for (file, text) in sources(room) {
            if text.contains("EventStream") {
                faults.push(format!("{file}: names the stream"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Leases and lives are by the database's clock: that of a host may jump.
#[test]
fn upkeep_reads_no_clock() {
    for (file, text) in sources("upkeep") {
        for clock in ["Moment::now", "SystemTime"] {
            assert!(!text.contains(clock), "{file}: {clock}");
        }
    }
}

/// Every file of a room, with its text.
fn sources(room: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    collect(&src.join(room), &mut found);
    let file = src.join(format!("{room}.rs"));
    if file.exists() {
        found.push((
            file.display().to_string(),
            fs::read_to_string(file).expect("readable"),
        ));
    }
    assert!(!found.is_empty(), "there is a room {room}");
    found
}

fn collect(dir: &Path, found: &mut Vec<(String, String)>) {
    // Tests of clients may use server traits.
    if dir.ends_with("scenarios") {
        return;
    }
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for path in entries.map(|entry| entry.expect("readable").path()) {
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push((
                path.display().to_string(),
                fs::read_to_string(&path).expect("readable"),
            ));
        }
    }
}

/// First segments after `crate::`, in paths and in `use crate::{…}` groups.
fn crate_uses(text: &str) -> Vec<String> {
    let mut uses = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            uses.extend(group_heads(group));
        } else {
            uses.push(head(rest));
        }
    }
    uses
}

/// Heads of `a::b, c::{d, e}, f}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                heads.push(head(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                heads.push(head(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

fn head(path: &str) -> String {
    path.trim_start()
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}
