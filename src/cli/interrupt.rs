//! The wish to stop: ctrl-c, or a supervisor's SIGTERM.

use std::{future, io};

/// Resolves at the first of them. From its first poll on they no longer end
/// the process by themselves.
#[cfg(unix)]
pub(super) async fn requested() {
    use tokio::signal::unix::{SignalKind, signal};

    async fn received(listener: io::Result<tokio::signal::unix::Signal>) {
        match listener {
            Ok(mut listener) => {
                listener.recv().await;
            }
            // Then the signal keeps its default action, which ends us too.
            Err(_) => future::pending().await,
        }
    }
    tokio::select! {
        () = received(signal(SignalKind::interrupt())) => {}
        () = received(signal(SignalKind::terminate())) => {}
    }
}

#[cfg(not(unix))]
pub(super) async fn requested() {
    let result: io::Result<()> = tokio::signal::ctrl_c().await;
    if result.is_err() {
        future::pending::<()>().await;
    }
}
