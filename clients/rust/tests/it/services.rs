//! What `scripts/with-services.sh` has started.

use futoin_eventstream_client::EventStream;

/// A test without its service fails: it never skips.
pub(crate) fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: scripts/with-services.sh clients/rust/test.sh")
    })
}

/// A client of the service on this engine: SQLITE, POSTGRES, MYSQL.
pub(crate) fn client(engine: &str) -> EventStream {
    let address = variable(&format!("TEST_{engine}"));
    EventStream::connect(&format!("http://{address}")).unwrap()
}
