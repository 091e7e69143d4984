//! The program under test as a process of its own, and what the system tells
//! about it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
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
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};

use crate::Plan;

/// A start takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers with 1000 events of our size, and then some.
const MESSAGE_BYTES: usize = 16 << 20;

/// A running service; dropping it ends the process.
pub(crate) struct Server {
    child: Child,
    grpc: String,
    http: String,
    dir: TempDir,
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
    /// Starts it on an empty directory; returns when it is ready.
    pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(&plan.dir)?;
        let mut child = Command::new(&plan.server)
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(["--log-format", "json", "--db"])
            .arg(format!("sqlite:{}", database(&dir).display()))
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
            dir,
            _log: log,
        })
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(&self.dir)
    }

    /// A file for the raw side of a comparison, on the same file system.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A connection of its own.
    pub(crate) async fn clients(&self) -> anyhow::Result<Clients> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc))?
            .tcp_nodelay(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        Ok(Clients::new(endpoint.connect().await?))
    }

    /// Processor time that its threads have used so far, in seconds.
    pub(crate) fn cpu(&self) -> anyhow::Result<f64> {
        let mut nanos = 0.0;
        for thread in std::fs::read_dir(self.proc("task")?)? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let running = stat.split_whitespace().next().context("no schedstat")?;
            nanos += running.parse::<f64>()?;
        }
        Ok(nanos / 1e9)
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(&self) -> anyhow::Result<f64> {
        let kib = field(&self.proc("status")?, "VmRSS:")?;
        Ok(kib / 1024.0)
    }

    /// Read and write system calls so far.
    pub(crate) fn file_calls(&self) -> anyhow::Result<f64> {
        let io = self.proc("io")?;
        Ok(field(&io, "syscr:")? + field(&io, "syscw:")?)
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

    fn proc(&self, file: &str) -> anyhow::Result<PathBuf> {
        let pid = self.child.id().context("the service has ended")?;
        Ok(PathBuf::from(format!("/proc/{pid}/{file}")))
    }
}

fn database(dir: &TempDir) -> PathBuf {
    dir.path().join("eventstream.db")
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

/// A number after its name in a file of `/proc`.
fn field(file: &Path, name: &str) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(file)?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name));
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    Ok(word.with_context(|| format!("no {name}"))?.parse()?)
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
