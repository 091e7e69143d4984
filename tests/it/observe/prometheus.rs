//! Alert rules, dashboard and metrics as Prometheus itself sees them: promtool
//! judges the files, a real Prometheus scrapes a real service and fires.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use futoin_eventstream::telemetry;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    process::{Child, Command},
    time::timeout,
};

use super::metrics::{busy, scrape};
use crate::{
    archive::stage::{Kind as Engine, Peek},
    futoin::client,
    round_trip::{add, ready, subscribe},
    server::{PATIENCE, Server, eventually},
};

fn deployed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(file)
}

/// Runs promtool; what it said.
async fn promtool(args: &[&str], input: &str) -> String {
    let mut tool = Command::new("promtool")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("promtool is installed (Debian: prometheus)");
    let mut stdin = tool.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).await.expect("written");
    drop(stdin);
    // Each test of a rule makes and syncs a database of its own.
    let output = timeout(PATIENCE * 5, tool.wait_with_output())
        .await
        .expect("it ends");
    let output = output.expect("it ran");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {args:?}: {said}");
    said
}

#[tokio::test]
async fn alert_rules_are_sound_and_each_has_its_test() {
    let rules = deployed("prometheus/alerts.yml");
    let tests = deployed("prometheus/alerts_test.yml");
    let checked = promtool(&["check", "rules", &rules.display().to_string()], "").await;
    promtool(&["test", "rules", &tests.display().to_string()], "").await;
    let rules = fs::read_to_string(rules).expect("it is there");
    let tests = fs::read_to_string(tests).expect("it is there");
    let names: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(
        checked.contains(&format!("{} rules found", names.len())),
        "{checked}"
    );
    for name in names {
        for word in ["fires", "is quiet"] {
            assert!(
                tests.contains(&format!("name: {name} {word}\n")),
                "{name} {word}"
            );
        }
    }
    assert_known(&rules);
}

#[tokio::test]
async fn metrics_please_promtool() {
    let (server, _active, _warehouse) = busy(Engine::Sqlite).await;
    let said = promtool(&["check", "metrics"], &scrape(&server).await).await;
    assert_eq!(said, "");
}

/// Every metric that a text names is one of the program.
fn assert_known(text: &str) {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let ours =
        words.filter(|word| word.starts_with("eventstream_") || word.starts_with("process_"));
    let names: BTreeSet<_> = ours.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let base = ["_bucket", "_sum", "_count"]
            .into_iter()
            .find_map(|it| name.strip_suffix(it));
        let known = telemetry::find(name).or_else(|| telemetry::find(base?));
        assert!(known.is_some(), "there is no metric {name}");
    }
}

/// Every expression of the dashboard.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == "expr" => vec![text.clone()],
                other => expressions(other),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

/// As Grafana hands them to Prometheus.
fn filled_in(expression: &str) -> String {
    let filled = [
        ("$job", ".*"),
        ("$instance", ".*"),
        ("$__rate_interval", "1m"),
    ];
    filled
        .iter()
        .fold(expression.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        })
}

fn dashboard() -> Value {
    let text = fs::read_to_string(deployed("grafana/eventstream.json")).expect("it is there");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn dashboard_asks_for_what_there_is() {
    let dashboard = dashboard();
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 50, "{}", expressions.len());
    assert_known(&expressions.join("\n"));
    // Prometheus' own parser reads each of them.
    let rules: Vec<_> = expressions
        .iter()
        .enumerate()
        .map(|(at, text)| json!({"record": format!("panel:{at}"), "expr": filled_in(text)}))
        .collect();
    let rules = json!({"groups": [{"name": "dashboard", "rules": rules}]});
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("rules.yml");
    fs::write(&file, rules.to_string()).expect("written");
    promtool(&["check", "rules", &file.display().to_string()], "").await;
}

#[test]
fn dashboard_is_one() {
    let dashboard = dashboard();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let panels = list(&dashboard["panels"]);
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_i64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let mut taken = BTreeSet::new();
    for panel in &panels {
        let title = panel["title"].as_str().expect("a title");
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies above another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let targets = list(&panel["targets"]);
        let refs: BTreeSet<_> = targets
            .iter()
            .map(|target| target["refId"].as_str())
            .collect();
        assert!(
            !targets.is_empty() && refs.len() == targets.len(),
            "{title}"
        );
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
    }
    let variables = list(&dashboard["templating"]["list"]);
    let names: Vec<_> = variables
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    assert!(dashboard["uid"].is_string() && dashboard["schemaVersion"].is_u64());
}

/// A Prometheus that scrapes one service every tenth of a second.
struct Prometheus {
    address: String,
    _dir: tempfile::TempDir,
    _child: Child,
}

impl Prometheus {
    /// With our rules, whose alerts fire at once.
    async fn over(server: &Server) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let rules = fs::read_to_string(deployed("prometheus/alerts.yml")).expect("there");
        let at_once = |line: &str| match line.trim_start().strip_prefix("for: ") {
            Some(_) => line.replace(line.trim_start(), "for: 0s"),
            None => line.replace("> 30", "> 0.5"),
        };
        let rules: Vec<_> = rules.lines().map(at_once).collect();
        fs::write(dir.path().join("alerts.yml"), rules.join("\n")).expect("written");
        let config = json!({
            "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms", "evaluation_interval": "100ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{
                "job_name": "eventstream",
                "static_configs": [{"targets": [server.http_address()]}],
            }],
        });
        fs::write(dir.path().join("prometheus.yml"), config.to_string()).expect("written");
        let free = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = free.local_addr().expect("an address").to_string();
        drop(free);
        let child = Command::new("prometheus")
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed");
        Self {
            address,
            _dir: dir,
            _child: child,
        }
    }

    /// An answer of its API, as soon as it serves.
    async fn ask(&self, path: &str) -> Value {
        eventually(async || {
            tokio::net::TcpStream::connect(&self.address)
                .await
                .map(drop)
        })
        .await;
        let answer = client::request(&self.address, "GET", path, &[], b"").await;
        let mut body = answer.text();
        if answer.head.to_ascii_lowercase().contains("chunked") {
            // One chunk: its length, and what follows.
            body = body.split_once("\r\n").map_or("", |(_, rest)| rest);
            body = body.rsplit_once("\r\n0\r\n").map_or(body, |(text, _)| text);
        }
        serde_json::from_str(body.trim()).unwrap_or(Value::Null)
    }
}

#[tokio::test]
async fn real_prometheus_names_who_holds_events_back() {
    let active = Peek::new(Engine::Postgres).await;
    let server = Server::builder().on(&active.url).start().await;
    let mut clients = server.clients().await;
    let (_, _stream) = subscribe(&mut clients, ready("LIVE")).await;
    let mut held = active.begin().await;
    held.insert().await;
    let prometheus = Prometheus::over(&server).await;
    add(&mut clients, "A", "1").await;

    let blocked = eventually(async || {
        let answer = prometheus.ask("/api/v1/alerts").await;
        let alerts = answer["data"]["alerts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let named = |alert: &&Value| alert["labels"]["alertname"] == "EventStreamFrontierBlocked";
        let found = alerts.iter().find(named).cloned();
        found
            .filter(|alert| alert["state"] == "firing")
            .ok_or(answer)
    })
    .await;
    let pid = server_pid_of(&scrape(&server).await);
    assert_eq!(blocked["labels"]["session"], pid.as_str(), "{blocked:#}");
    let summary = blocked["annotations"]["summary"].as_str().expect("text");
    assert!(
        summary.contains(&pid) && summary.contains("holds events back"),
        "{summary}"
    );

    // Every rule is evaluated without an error.
    let rules = eventually(async || {
        let answer = prometheus.ask("/api/v1/rules").await;
        let rules = answer["data"]["groups"][0]["rules"].as_array().cloned();
        let rules = rules.unwrap_or_default();
        let done = !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok");
        if done { Ok(rules) } else { Err(answer) }
    })
    .await;
    assert!(rules.len() > 15);
    held.run("COMMIT").await;
    eventually(async || {
        let answer = prometheus.ask("/api/v1/alerts").await;
        let text = answer.to_string();
        let over = answer["status"] == "success" && !text.contains("EventStreamFrontierBlocked");
        if over { Ok(()) } else { Err(text) }
    })
    .await;
}

/// The session in the series of the blocker.
fn server_pid_of(text: &str) -> String {
    let series = "eventstream_blocker_age_seconds{session=\"";
    let rest = text.lines().find_map(|line| line.strip_prefix(series));
    let rest = rest.unwrap_or_else(|| panic!("nobody is named in\n{text}"));
    rest.split('"').next().unwrap_or_default().to_owned()
}
