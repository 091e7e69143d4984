//! The program under test as a process of its own, and what the system tells
//! about it.

use std::{path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use futoin_eventstream::proto::{
    gen_service_client::GenServiceClient, poll_service_client::PollServiceClient,
    push_service_client::PushServiceClient,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    Plan,
    engine::{Database, Session},
    processes,
};

/// A start takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// For a backlog to be worked off.
pub(crate) const LONGEST: Duration = Duration::from_mins(10);

/// Between two looks at a metric: little beside what is measured.
const LOOK: Duration = Duration::from_millis(5);

/// Answers with 1000 events of our size, and then some.
const MESSAGE_BYTES: usize = 16 << 20;

/// A running service; dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    grpc: String,
    http: String,
    database: Arc<dyn Database>,
    _dir: TempDir,
    _log: JoinSet<()>,
}

/// `eventstream` in the directory of this program.
pub(crate) fn beside_this_program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("eventstream");
    if !program.exists() {
        bail!("{} is not built", program.display());
    }
    Ok(program)
}

impl Server {
    /// Starts it on an empty database; returns when it is ready.
    pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        Self::start_on(plan, plan.engine.database().await?).await
    }

    pub(crate) async fn start_on(plan: &Plan, database: Arc<dyn Database>) -> anyhow::Result<Self> {
        Self::start_with(plan, database, &[]).await
    }

    /// Starts it on this database with further arguments.
    pub(crate) async fn start_with(
        plan: &Plan,
        database: Arc<dyn Database>,
        arguments: &[&str],
    ) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(&plan.dir)?;
        let mut child = Command::new(&plan.server)
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--log-format", "json", "--db"])
            .arg(database.url())
            .args(arguments)
            .current_dir(&dir)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", plan.server.display()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let mut lines = BufReader::new(stderr).lines();
        let (grpc, http) = timeout(PATIENCE, addresses(&mut lines)).await??;
        let mut log = JoinSet::new();
        log.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            child,
            grpc,
            http,
            database,
            _dir: dir,
            _log: log,
        })
    }

    /// A connection of the raw driver to its database.
    pub(crate) async fn session(&self) -> anyhow::Result<Box<dyn Session>> {
        self.database.session().await
    }

    /// `host:port` of HTTP.
    pub(crate) fn grpc_address(&self) -> &str {
        &self.grpc
    }

    pub(crate) fn http_address(&self) -> &str {
        &self.http
    }

    /// A connection of its own.
    pub(crate) async fn clients(&self) -> anyhow::Result<Clients> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc))?
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(Clients::new(endpoint.connect().await?))
    }

    /// Processor time that it has used so far, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        processes::cpu(self.process()?)
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        processes::resident(self.process()?)
    }

    /// The part of it that is no page of a file, in MiB.
    pub(crate) fn anonymous(&self) -> anyhow::Result<f64> {
        processes::anonymous(self.process()?)
    }

    /// Read and write system calls so far.
    pub(crate) fn file_calls(&self) -> anyhow::Result<f64> {
        processes::file_calls(self.process()?)
    }

    /// A counter or gauge without labels from `/metrics`; 0 before its first use.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let mut http = TcpStream::connect(&self.http).await?;
        http.write_all(b"GET /metrics HTTP/1.1\r\nhost: load\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        http.read_to_string(&mut answer).await?;
        let line = answer.lines().find_map(|line| line.strip_prefix(name));
        Ok(line.map_or(Ok(0.0), |value| value.trim().parse())?)
    }

    /// Waits until a counter without labels has reached `value`; what it took.
    pub(crate) async fn until(&self, name: &str, value: f64) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        while self.metric(name).await? < value {
            ensure!(begun.elapsed() < LONGEST, "{name} does not reach {value}");
            sleep(LOOK).await;
        }
        Ok(begun.elapsed())
    }

    fn process(&self) -> anyhow::Result<u32> {
        self.child.id().context("the service has ended")
    }
}

/// What the service says where it listens, once it is ready.
async fn addresses(lines: &mut Lines<BufReader<ChildStderr>>) -> anyhow::Result<(String, String)> {
    let (mut grpc, mut http) = (None, None);
    while let Some(line) = lines.next_line().await? {
        let entry: serde_json::Value = serde_json::from_str(&line)?;
        let address = entry["address"].as_str().map(str::to_owned);
        match entry["message"].as_str() {
            Some("listening for gRPC") => grpc = address,
            Some("listening for HTTP") => http = address,
            Some("ready") => {
                return grpc.zip(http).context("it listens nowhere");
            }
            _ => {}
        }
    }
    bail!("the service ended instead of becoming ready");
}

/// Clients of the services over one connection.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) channel: Channel,
    pub(crate) generate: GenServiceClient<Channel>,
    pub(crate) poll: PollServiceClient<Channel>,
    pub(crate) push: PushServiceClient<Channel>,
}

impl Clients {
    fn new(channel: Channel) -> Self {
        Self {
            generate: GenServiceClient::new(channel.clone()),
            poll: PollServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES),
            push: PushServiceClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES),
            channel,
        }
    }
}
