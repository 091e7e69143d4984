//! Precedence, faults and secrets, with everything injected.

use super::*;
use std::io;

const FILE: &str = "es.toml";

/// What a test starts the service with.
#[derive(Default)]
struct Start {
    flags: Vec<&'static str>,
    variables: Vec<(&'static str, &'static str)>,
    file: Option<&'static str>,
}

impl Start {
    fn flags(mut self, flags: &[&'static str]) -> Self {
        self.flags.extend(flags);
        self
    }

    fn variable(mut self, name: &'static str, text: &'static str) -> Self {
        self.variables.push((name, text));
        self
    }

    fn file(mut self, text: &'static str) -> Self {
        self.file = Some(text);
        self.flags(&["--config", FILE])
    }

    fn load(self) -> Result<Config, Faults> {
        let arguments = std::iter::once("serve").chain(self.flags);
        let matches = serve_command().try_get_matches_from(arguments).unwrap();
        let variables = self
            .variables
            .into_iter()
            .map(|(name, text)| (name.to_owned(), text.to_owned()));
        load(&matches, variables, |path| {
            assert_eq!(path, Path::new(FILE));
            self.file
                .map(str::to_owned)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn faults(self) -> String {
        self.load().unwrap_err().to_string()
    }
}

fn start() -> Start {
    Start::default()
}

#[test]
fn nothing_given_gives_the_defaults() {
    let config = start().load().unwrap();
    assert_eq!(config.db.url, DbUrl::Sqlite("eventstream.db".into()));
    assert_eq!(config.db.synchronous, Synchronous::Full);
    assert_eq!(config.grpc.listen.to_string(), "127.0.0.1:50051");
    assert_eq!(config.grpc.max_connections, limits::DEFAULT_CONNECTIONS);
    assert!(config.grpc.reflection && config.grpc.web);
    assert_eq!(config.stream.ring_bytes, limits::DEFAULT_RING_BYTES);
    assert_eq!(config.stream.heartbeat, limits::DEFAULT_HEARTBEAT);
    assert_eq!(config.stream.max_subscriptions, limits::MAX_SUBSCRIPTIONS);
    assert_eq!(
        config.stream.max_in_flight_events,
        limits::MAX_IN_FLIGHT_EVENTS
    );
    assert_eq!(config.shutdown_deadline, limits::DEFAULT_DRAIN_DEADLINE);
}

#[test]
fn flag_before_environment_before_file_before_default() {
    let file = "[stream]\nheartbeat = '11s'\nsession_beat = '1s'\nmax_subscriptions = 7";
    let config = start()
        .file(file)
        .variable("EVENTSTREAM_STREAM_HEARTBEAT", "12s")
        .variable("EVENTSTREAM_STREAM_SESSION_BEAT", "3s")
        .flags(&["--stream-heartbeat", "13s"])
        .load()
        .unwrap();
    assert_eq!(config.stream.heartbeat, Duration::from_secs(13));
    assert_eq!(config.stream.session_beat, Duration::from_secs(3));
    assert_eq!(config.stream.max_subscriptions, 7);
    assert_eq!(config.stream.session_lapse, Duration::from_secs(10));
}

#[test]
fn file_may_be_named_by_the_environment() {
    let mut start = start().variable("EVENTSTREAM_CONFIG", FILE);
    start.file = Some("http.listen = 'off'\ngrpc = { web = false, max_connections = '9' }");
    let config = start.load().unwrap();
    assert_eq!(config.http, None);
    assert!(!config.grpc.web);
    assert_eq!(config.grpc.max_connections, 9);
}

#[test]
fn switches_need_no_value_but_take_one() {
    let config = start()
        .flags(&["--insecure", "--grpc-web=false", "--grpc", "0.0.0.0:1"])
        .load()
        .unwrap();
    assert!(!config.grpc.web);
    assert_eq!(config.grpc.listen.to_string(), "0.0.0.0:1");
}

#[test]
fn pages_that_may_call_are_named() {
    let one = "https://shop.example";
    let config = start()
        .flags(&["--grpc-web-origins", one, "--futoin-web-origins", "*"])
        .load()
        .unwrap();
    assert_eq!(config.grpc.web_origins, Origins::parse(one).unwrap());
    let futoin = config.futoin.unwrap();
    assert_eq!(futoin.options.web_origins, Origins::parse("*").unwrap());
    let faults = start()
        .flags(&["--grpc-web-origins", "shop.example"])
        .faults();
    assert!(
        faults.contains("grpc.web_origins (flag --grpc-web-origins)"),
        "{faults}"
    );
}

#[test]
fn all_faults_are_reported_with_origin_text_and_rule() {
    let faults = start()
        .file("[grpc]\nmax_connections = 0\nlisen = 'x'\nweb = 1.5\n[db]\nqueue_table = 'a b'")
        .variable("EVENTSTREAM_GRPC", "foo")
        .variable("EVENTSTREAM_LOG_FROMAT", "json")
        .variable("EVENTSTREAM_HTTP", "bar")
        .flags(&["--log-format", "xml", "--stream-heartbeat", "61s"])
        .faults();
    let mut lines = faults.lines().collect::<Vec<_>>();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"db.queue_table (file es.toml): "a b" is not a name of a-z, 0-9 and _, up to 48, that begins with no digit"#,
            "environment EVENTSTREAM_LOG_FROMAT: is not an option, did you mean EVENTSTREAM_LOG_FORMAT?",
            "grpc.lisen (file es.toml): is not an option, did you mean grpc.listen?",
            r#"grpc.listen (environment EVENTSTREAM_GRPC): "foo" is not an address like 127.0.0.1:50051 or unix:/run/es.sock"#,
            r#"grpc.max_connections (file es.toml): "0" must be from 1 to 60000"#,
            "grpc.web (file es.toml): is a float, but must be a text, a whole number, true or false",
            r#"http.listen (environment EVENTSTREAM_HTTP): "bar" is not an address like 127.0.0.1:50051 or unix:/run/es.sock, or off"#,
            r#"log.format (flag --log-format): "xml" is not one of auto, json, human"#,
            r#"stream.heartbeat (flag --stream-heartbeat): "61s" must be from 1s to 60s"#,
        ]
    );
}

#[test]
fn variables_of_others_are_left_alone() {
    let loaded = start()
        .variable("EVENTSTREAM_ADDR", "http://x")
        .variable("EVENTSTREAM_TOKEN", "t")
        .variable("EVENTSTREAM_PORT_50051_TCP", "tcp://10.0.0.1:50051")
        .variable("EVENTSTREAM_GRPC", "")
        .variable("HOME", "/root")
        .load();
    assert!(loaded.is_ok(), "{loaded:?}");
}

#[test]
fn reachable_address_needs_insecure() {
    let faults = start()
        .flags(&["--grpc", "0.0.0.0:1", "--http", "[::]:2"])
        .faults();
    assert_eq!(faults.lines().count(), 2, "{faults}");
    assert!(
        faults.contains(r#"http.listen (flag --http): "[::]:2" can be reached"#),
        "{faults}"
    );
}

#[test]
fn intervals_must_fit_each_other() {
    let faults = start()
        .flags(&["--stream-session-beat", "4s", "--stream-poll-idle", "1ms"])
        .faults();
    assert!(
        faults.contains("three times stream.session_beat"),
        "{faults}"
    );
    assert!(
        faults.contains("must not be shorter than stream.poll_recent"),
        "{faults}"
    );
    // A beat that cannot be read says nothing about the lapse.
    let faults = start()
        .flags(&["--stream-session-beat", "x", "--stream-session-lapse", "1s"])
        .faults();
    assert_eq!(faults.lines().count(), 1, "{faults}");
}

#[test]
fn sentinel_and_its_policy_can_be_chosen() {
    let config = start().load().unwrap();
    assert_eq!(config.stream.late_policy, LatePolicy::Alarm);
    assert_eq!(config.stream.sentinel_interval, Duration::from_secs(10));
    let config = start()
        .flags(&["--stream-late-policy", "rewind"])
        .load()
        .unwrap();
    assert_eq!(config.stream.late_policy, LatePolicy::Rewind);
    let faults = start().flags(&["--stream-late-policy", "x"]).faults();
    assert!(faults.contains("is not one of alarm, rewind"), "{faults}");
}

#[test]
fn file_that_cannot_be_used_is_named() {
    let faults = start().flags(&["--config", FILE]).faults();
    assert!(
        faults.starts_with("file es.toml: cannot be read: "),
        "{faults}"
    );
    let faults = start().file("[db]\n\nurl = hunter2\n").faults();
    assert!(
        faults.starts_with("file es.toml: line 3 is not TOML: "),
        "{faults}"
    );
    assert!(!faults.contains("hunter2"), "{faults}");
}

#[test]
fn secrets_are_not_shown() {
    for url in [
        "oracle://user:hunter2@db/x",
        "hunter2",
        "hunter2:x",
        "sqlite:x?key=hunter2",
    ] {
        let faults = start().flags(&["--db", url]).faults();
        assert!(
            faults.starts_with("db.url (flag --db): the value (not shown) "),
            "{faults}"
        );
        assert!(!faults.contains("hunter2"), "{faults}");
    }
}

#[test]
fn console_is_served_by_itself_only_where_this_machine_alone_reaches_it() {
    let local = ["--http", "127.0.0.1:80"].as_slice();
    let wide = ["--http", "0.0.0.0:80", "--insecure"].as_slice();
    for (place, asked, served) in [
        (local, "auto", true),
        (local, "off", false),
        (wide, "auto", false),
        (wide, "on", true),
        (&["--http", "off"], "on", false),
    ] {
        let config = start()
            .flags(place)
            .flags(&["--http-console", asked])
            .load();
        assert_eq!(config.unwrap().console, served, "{place:?} {asked}");
    }
    let faults = start().flags(&["--http-console", "maybe"]).faults();
    assert!(faults.contains("is not one of auto, on, off"), "{faults}");
}

#[test]
fn rust_log_is_heeded_unless_ours_says_otherwise() {
    let config = start()
        .file("[log]\nfilter = 'error'")
        .variable("RUST_LOG", "warn");
    assert_eq!(config.load().unwrap().log.filter, "warn");
    let config = start()
        .variable("RUST_LOG", "warn")
        .variable("EVENTSTREAM_LOG_FILTER", "debug");
    assert_eq!(config.load().unwrap().log.filter, "debug");
    let config = start()
        .variable("RUST_LOG", "warn")
        .flags(&["--log-filter=trace"]);
    assert_eq!(config.load().unwrap().log.filter, "trace");
    let faults = start().variable("RUST_LOG", "info,hyper=loudest").faults();
    assert!(
        faults.contains("RUST_LOG") && faults.contains("log filter"),
        "{faults}"
    );
}

#[test]
fn traces_are_off_until_somebody_takes_them() {
    assert_eq!(start().load().unwrap().traces, None);
    let config = start()
        .variable("EVENTSTREAM_OTLP_ENDPOINT", "http://otel:4317")
        .flags(&["--otlp-sample-ratio=0.25"]);
    let traces = config.load().unwrap().traces.unwrap();
    assert_eq!(traces.endpoint, "http://otel:4317");
    assert_eq!(traces.service_name, "eventstream");
    assert_eq!(traces.sampled_per_million, 250_000);
    for (flag, rule) in [
        ("--otlp-endpoint=otel:4317", "is not a URL"),
        ("--otlp-endpoint=ftp://otel", "is not a URL"),
        ("--otlp-sample-ratio=1.5", "from 0 to 1"),
        ("--otlp-sample-ratio=NaN", "from 0 to 1"),
        ("--otlp-service-name=", "is not a name"),
    ] {
        let faults = start().flags(&[flag]).faults();
        assert!(faults.contains(rule), "{flag}: {faults}");
    }
}
