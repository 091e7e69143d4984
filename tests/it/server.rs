//! The program under test, as a process.
//!
//! `Server::start()` waits until the service says that it is ready; dropping a
//! `Server` ends its process. What it logged is shown when a test fails.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use futoin_eventstream::proto::{
    admin_service_client::AdminServiceClient, gen_service_client::GenServiceClient,
    poll_service_client::PollServiceClient, push_service_client::PushServiceClient,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

/// The program that `cargo test` has built.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_eventstream");

/// Nothing in a test takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A service to start.
#[derive(Clone)]
pub struct Builder {
    dir: Arc<TempDir>,
    db: String,
    grpc: String,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    token: Option<String>,
    /// The program, after the one that it is run through.
    words: Vec<String>,
}

impl Builder {
    /// One more argument of `serve`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.envs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its clients send this token.
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Serves gRPC there instead of on a free port.
    pub fn grpc(mut self, address: impl Into<String>) -> Self {
        self.grpc = address.into();
        self
    }

    /// Serves the database at this URL instead of a file of its own.
    pub fn on(mut self, url: &str) -> Self {
        url.clone_into(&mut self.db);
        self
    }

    /// Serves the database of another server, as a second replica.
    pub fn beside(mut self, other: &Server) -> Self {
        self.dir = Arc::clone(&other.builder.dir);
        self.db.clone_from(&other.builder.db);
        self
    }

    /// Runs the program through another one, such as `setpriv`.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        let wrapper = wrapper.iter().map(|&part| part.to_owned());
        self.words.splice(..0, wrapper);
        self
    }

    /// Runs another version of the program.
    #[cfg(feature = "soak")]
    pub fn program(mut self, path: &str) -> Self {
        self.words.pop();
        self.words.push(path.to_owned());
        self
    }

    /// The database file that it will serve.
    pub fn database(&self) -> PathBuf {
        database(self.dir.path())
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Server {
        self.try_start().await.expect("the server becomes ready")
    }

    /// Starts it; what it logged if it ended instead of becoming ready.
    pub async fn try_start(self) -> Result<Server, String> {
        let mut child = self.command().spawn().expect("the program starts");
        let (lines, mut first_lines) = mpsc::channel(64);
        let log = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take().expect("stderr is piped");
        let keep = Arc::clone(&log);
        let reader = tokio::spawn(async move {
            let mut stderr = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = stderr.next_line().await {
                let _ = lines.try_send(line.clone());
                keep.lock().expect("no panic inside").push(line);
            }
        });
        let mut grpc = None;
        let mut http = None;
        loop {
            let line = timeout(PATIENCE, first_lines.recv())
                .await
                .expect("it says something");
            let Some(line) = line else {
                return Err(log.lock().expect("no panic inside").join("\n"));
            };
            let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line) else {
                continue;
            };
            let address = || entry["address"].as_str().map(str::to_owned);
            match entry["message"].as_str() {
                Some("listening for gRPC") => grpc = address(),
                Some("listening for HTTP") => http = address(),
                Some("ready") => break,
                _ => {}
            }
        }
        let grpc = grpc.expect("gRPC is always served");
        Ok(Server {
            builder: self,
            child,
            reader: Some(reader),
            grpc,
            http,
            log,
        })
    }

    /// Starts it and waits for its end; its exit code and what it logged.
    pub async fn refused(self) -> (Option<i32>, String) {
        let output = timeout(PATIENCE, self.command().output())
            .await
            .expect("it ends by itself")
            .expect("the program starts");
        let log = String::from_utf8(output.stderr).expect("text");
        (output.status.code(), log)
    }

    /// The directory it will run in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self) -> Command {
        let mut command = clean_command(&self.words[0]);
        command
            .args(&self.words[1..])
            .args(["serve", "--grpc", &self.grpc, "--http", "127.0.0.1:0"])
            .args(["--log-format", "json", "--db"])
            .arg(&self.db)
            .args(&self.args)
            .envs(self.envs.iter().cloned())
            .current_dir(self.dir.path())
            .stderr(Stdio::piped());
        command
    }
}

/// A running service.
pub struct Server {
    builder: Builder,
    child: Child,
    reader: Option<JoinHandle<()>>,
    grpc: String,
    http: Option<String>,
    log: Arc<Mutex<Vec<String>>>,
}

fn database(dir: &Path) -> PathBuf {
    dir.join("eventstream.db")
}

impl Server {
    /// A service to start, in an empty directory.
    pub fn builder() -> Builder {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        Self::builder_in(Arc::new(dir))
    }

    /// A service to start in a directory that is there already.
    pub fn builder_in(dir: Arc<TempDir>) -> Builder {
        Builder {
            db: format!("sqlite:{}", database(dir.path()).display()),
            dir,
            grpc: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            envs: Vec::new(),
            token: None,
            words: vec![PROGRAM.to_owned()],
        }
    }

    /// A service in an empty directory, ready.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// `host:port` of gRPC.
    pub fn grpc_address(&self) -> &str {
        &self.grpc
    }

    /// `host:port` of HTTP.
    pub fn http_address(&self) -> &str {
        self.http.as_deref().expect("HTTP is served")
    }

    /// The database file.
    pub fn database(&self) -> PathBuf {
        database(self.builder.dir.path())
    }

    /// The directory it runs in.
    pub fn dir(&self) -> &Path {
        self.builder.dir.path()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// What it logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic inside").clone()
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        endpoint(&self.grpc)
            .connect()
            .await
            .expect("the server accepts connections")
    }

    /// Clients of all four services over one connection.
    pub async fn clients(&self) -> Clients {
        match &self.builder.token {
            Some(token) => self.clients_of(token).await,
            None => Clients::over(self.channel().await),
        }
    }

    /// The same that send this token.
    pub async fn clients_of(&self, token: &str) -> Clients {
        Clients::with_token(self.channel().await, token)
    }

    /// Sends a signal by name, such as `TERM`, `KILL` or `STOP`.
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end; what it logged is complete then.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("it can be waited for");
        if let Some(reader) = self.reader.take() {
            reader.await.expect("no panic inside");
        }
        status
    }

    /// Ends it as an operator does.
    pub async fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Ends it at once, as a crash does, and starts it again.
    pub async fn crash_and_restart(mut self) -> Self {
        self.signal("KILL");
        self.ended().await;
        self.again().start().await
    }

    /// The same service once more; end the old one first.
    pub fn again(&self) -> Builder {
        self.builder.clone()
    }

    /// Runs `sqlite3` on its database, as an application beside it.
    pub fn sqlite(&self, sql: &str) -> String {
        sqlite(&self.database(), sql)
    }

    /// Runs a subcommand of the program against it.
    pub async fn cli(&self, args: &[&str]) -> std::process::Output {
        let run = clean_command(PROGRAM)
            .args(args)
            .env("EVENTSTREAM_ADDR", &self.grpc)
            .output();
        timeout(PATIENCE, run)
            .await
            .expect("it ends")
            .expect("it starts")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "log of the server on {}:\n{}",
                self.grpc,
                self.log().join("\n")
            );
        }
    }
}

fn endpoint(address: &str) -> Endpoint {
    let uri = if address.starts_with("unix:") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    Endpoint::from_shared(uri).expect("an address")
}

/// A command without the variables that the tests themselves are set by, or
/// that a developer's own service is; it ends with the test.
pub fn clean_command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("EVENTSTREAM_") || text.starts_with("OTEL_") || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command.kill_on_drop(true);
    command
}

/// Runs the program by itself.
pub async fn program(args: &[&str]) -> std::process::Output {
    let run = clean_command(PROGRAM).args(args).output();
    timeout(PATIENCE, run)
        .await
        .expect("it ends")
        .expect("it starts")
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .expect("kill is there");
    assert!(status.success(), "signal {name} is sent");
}

/// Tries until it works; a look every few milliseconds is no timing.
pub async fn eventually<T, E: std::fmt::Debug>(
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begun = tokio::time::Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if begun.elapsed() > PATIENCE => panic!("not in time: {error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Answer of an HTTP path, as status code and text.
pub async fn http_get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: it\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| std::io::Error::other(answer.clone()))?;
    Ok((code, answer))
}

/// Runs `sqlite3` on a file; its output.
pub fn sqlite(file: &Path, sql: &str) -> String {
    let output = std::process::Command::new("sqlite3")
        .args(["-cmd", ".timeout 10000"])
        .arg(file)
        .arg(sql)
        .output()
        .expect("sqlite3 is installed");
    assert!(
        output.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("text")
        .trim_end()
        .to_owned()
}

/// A connection that says who calls.
pub type Link = InterceptedService<Channel, Caller>;

/// Sends a token, if there is one.
#[derive(Clone)]
pub struct Caller(Option<MetadataValue<Ascii>>);

impl Interceptor for Caller {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Clients of all four services.
#[derive(Clone)]
pub struct Clients {
    /// `GenService`.
    pub generate: GenServiceClient<Link>,
    /// `PollService`.
    pub poll: PollServiceClient<Link>,
    /// `PushService`.
    pub push: PushServiceClient<Link>,
    /// `AdminService`.
    pub admin: AdminServiceClient<Link>,
}

impl Clients {
    /// Clients over one connection.
    pub fn over(channel: Channel) -> Self {
        Self::by(channel, Caller(None))
    }

    /// Clients over one connection that send a bearer token.
    pub fn with_token(channel: Channel, token: &str) -> Self {
        let header = format!("Bearer {token}").parse().expect("a header");
        Self::by(channel, Caller(Some(header)))
    }

    fn by(channel: Channel, caller: Caller) -> Self {
        const MESSAGE: usize = 16 << 20;
        let link = InterceptedService::new(channel, caller);
        Self {
            generate: GenServiceClient::new(link.clone()).max_encoding_message_size(MESSAGE),
            poll: PollServiceClient::new(link.clone()).max_decoding_message_size(MESSAGE),
            push: PushServiceClient::new(link.clone()).max_decoding_message_size(MESSAGE),
            admin: AdminServiceClient::new(link),
        }
    }

    /// The same of `host:port`, connected when first used.
    pub fn lazy_with_token(address: &str, token: &str) -> Self {
        Self::with_token(endpoint(address).connect_lazy(), token)
    }

    /// Clients of `host:port`, connected when first used.
    pub fn lazy(address: &str) -> Self {
        Self::over(endpoint(address).connect_lazy())
    }
}
