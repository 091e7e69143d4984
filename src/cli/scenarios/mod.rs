//! Commands against scripted services, over real connections.

mod import;
mod poll;
mod tail;

use tokio::{net::TcpListener, select};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Endpoint, server::Router};

use super::{connect::Server, output::capture::Shown};

/// Runs `client` beside a server of `routes`, on a port of its own.
async fn over_connection<T>(routes: Router, client: impl AsyncFnOnce(Server) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = routes.serve_with_incoming(TcpListenerStream::new(listener));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let client = client(Server::over(endpoint.connect_lazy()));
    select! {
        result = client => result,
        ended = serving => panic!("the server ended: {ended:?}"),
    }
}

/// IDs of the events that were printed as JSON.
fn ids(shown: &Shown) -> Vec<String> {
    let id = |line: &str| {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        event["id"].as_str().unwrap().to_owned()
    };
    shown.results().lines().map(id).collect()
}
