//! Clusters in which several servers write.

use super::server::Server;

/// Refuses what the frontier's proof does not cover.
pub(super) fn galera(server: &Server) -> Result<(), String> {
    let increment = server.number("auto_increment_increment").unwrap_or(1);
    let offset = server.number("auto_increment_offset").unwrap_or(1);
    if increment == 1 && offset == 1 {
        return Ok(());
    }
    Err(format!(
        "auto_increment_increment is {increment} and auto_increment_offset {offset}, as where \
         several servers write: what is open on another one cannot be seen here and events would \
         be lost; let one server write and set both to 1"
    ))
}
