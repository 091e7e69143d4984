//! What clients call: the service under test, or the original's server.

use serde_json::{Value, json};
use tokio::{process::Child, time::timeout};

use super::{client::node, place::Place};
use crate::server::{Builder, PATIENCE, Server};

/// A key for MAC credentials, in Base64.
const KEY: &str = "TXlMb25nU2VjcmV0S2V5MDEyMzQ1Njc4OQ==";

/// How a message says who sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Name and secret, of the user with the id 1.
    Clear,
    /// The old MAC of this algorithm, of the user with the id 2.
    Hmac(&'static str),
    /// The MAC of this algorithm, of the user with the id 3. The original's
    /// server needs a package for it that npm does not have.
    Smac(&'static str),
    /// Name and secret of whoever calls over gRPC.
    Local,
}

impl Who {
    fn credentials(self) -> &'static str {
        match self {
            Self::Clear => "user:pass",
            Self::Hmac(_) => "-hmac:hmacuser",
            Self::Smac(_) => "-smac:smacuser",
            Self::Local => "local:pass",
        }
    }

    fn options(self) -> Value {
        match self {
            Self::Clear | Self::Local => json!({}),
            Self::Hmac(algorithm) => json!({"hmacKey": KEY, "hmacAlgo": algorithm}),
            Self::Smac(algorithm) => json!({"macKey": KEY, "macAlgo": algorithm}),
        }
    }
}

/// The transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Http,
    Ws,
}

/// Where and as whom a face of the original calls.
#[derive(Debug, Clone)]
pub struct Door {
    pub endpoint: String,
    pub credentials: &'static str,
    pub options: Value,
}

impl Door {
    /// With one more option of the face.
    pub fn with(mut self, option: &str, value: impl Into<Value>) -> Self {
        self.options[option] = value.into();
        self
    }

    /// Asking for this version of the interface.
    pub fn version(self, version: &str) -> Self {
        self.with("version", version)
    }
}

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    Ours,
    Original,
}

/// Tests of a body for the judge and for the judged.
macro_rules! both {
    ($($(#[$about:meta])* $name:ident)*) => {
        mod original {
            $($(#[$about])*
            #[tokio::test]
            async fn $name() {
                super::$name($crate::originals::service::Maker::Original).await;
            })*
        }
        mod ours {
            $($(#[$about])*
            #[tokio::test]
            async fn $name() {
                super::$name($crate::originals::service::Maker::Ours).await;
            })*
        }
    };
}
pub(super) use both;

/// A running server.
pub struct Service {
    maker: Maker,
    address: String,
    process: Process,
}

enum Process {
    Ours(Box<Server>),
    Original(Child),
}

impl Service {
    /// A server on this database, ready.
    pub async fn start(maker: Maker, place: &Place) -> Self {
        match maker {
            Maker::Ours => Self::ours(builder().on(&place.url())).await,
            // By default it looks every three seconds when there is little to do.
            Maker::Original => {
                Self::original(place, json!({"sleep_min": 10, "sleep_max": 10})).await
            }
        }
    }

    /// The service under test, ready.
    pub async fn ours(builder: Builder) -> Self {
        let server = builder.start().await;
        Self {
            maker: Maker::Ours,
            address: server.http_address().to_owned(),
            process: Process::Ours(Box::new(server)),
        }
    }

    /// The original's server with options of its services, ready.
    pub async fn original(place: &Place, options: Value) -> Self {
        let settings = json!({
            "database": place.settings(),
            "options": options,
            "users": [["user", "pass", "clear"], ["hmacuser", KEY, "base64"]],
        });
        let (process, mut lines) = node("original.js", &[settings.to_string()]);
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time");
        let line = line.expect("it can be read").expect("it becomes ready");
        let ready: Value = serde_json::from_str(&line).expect("it talks in JSON");
        Self {
            maker: Maker::Original,
            address: format!("127.0.0.1:{}", ready["port"]),
            process: Process::Original(process),
        }
    }

    /// `host:port` of both transports.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where a face of this kind calls it.
    pub fn door(&self, kind: &str, way: Way, who: Who) -> Door {
        self.door_at(&self.address, kind, way, who)
    }

    /// The same through a relay.
    pub fn door_at(&self, address: &str, kind: &str, way: Way, who: Who) -> Door {
        // The original has polling apart from pushing.
        let path = match (self.maker, kind) {
            (Maker::Original, "poll") => "poll",
            _ => "ftn",
        };
        let scheme = match way {
            Way::Http => "http",
            Way::Ws => "ws",
        };
        Door {
            endpoint: format!("secure+{scheme}://{address}/{path}"),
            credentials: who.credentials(),
            options: who.options(),
        }
    }

    /// Our service itself.
    pub fn server(&self) -> &Server {
        match &self.process {
            Process::Ours(server) => server,
            Process::Original(_) => panic!("it is the original's"),
        }
    }

    /// Our service once more after it was killed.
    pub async fn crash_and_restart(self) -> Self {
        let Process::Ours(server) = self.process else {
            panic!("it is the original's");
        };
        let server = server.crash_and_restart().await;
        Self {
            address: server.http_address().to_owned(),
            process: Process::Ours(Box::new(server)),
            ..self
        }
    }

    /// Ends it as an operator does.
    pub async fn end(self) {
        match self.process {
            Process::Ours(server) => assert!(server.terminate().await.success()),
            Process::Original(mut child) => {
                drop(child.stdin.take());
                let ended = timeout(PATIENCE, child.wait()).await.expect("it ends");
                // It may have crashed before: the original does when a
                // socket closes at the wrong moment.
                ended.expect("it can be waited for");
            }
        }
    }
}

/// Our service with everybody who may call it, to start.
pub fn builder() -> Builder {
    let users = format!(
        "user id=1 secret=pass; hmacuser id=2 mac={KEY}; smacuser id=3 mac={KEY};
         local id=local secret=pass"
    );
    Server::builder()
        .env("EVENTSTREAM_FUTOIN_USERS", &users)
        .arg("--futoin-secure-channel")
}
