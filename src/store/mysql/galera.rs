//! Clusters in which several servers give out ids.
//!
//! What is open on another server cannot be seen here, and no evidence tells
//! of it: such a cluster is refused. Where an operator declares that all writers
//! use the server that the service is connected to, everything that may still
//! appear is seen here, and the ids that were meant for others are dead ones.

use super::server::Server;

/// What an operator says about a database whose ids may come from several
/// servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Galera {
    /// Nothing: it is refused.
    #[default]
    Refuse,
    /// Applications write through the same server as the service, no other.
    SingleWriter,
}

/// Refuses what the frontier's proof does not cover.
pub(super) fn galera(server: &Server, declared: Galera) -> Result<(), String> {
    let Some(sign) = sign_of_several(server) else {
        return Ok(());
    };
    match declared {
        Galera::SingleWriter => {
            tracing::warn!(
                "{sign}: as declared by db.galera, applications must write through this server \
                 only; events from another one may be lost"
            );
            Ok(())
        }
        Galera::Refuse => Err(format!(
            "{sign}, as where several servers write: what is open on another one cannot be seen \
             here and events would be lost; if all applications write through the server that \
             db.url names, and only then, set db.galera to single-writer"
        )),
    }
}

fn sign_of_several(server: &Server) -> Option<String> {
    if server.is_on("wsrep_on") {
        let cluster = server.text("wsrep_cluster_name").unwrap_or_default();
        return Some(format!(
            "the server is a node of the Galera cluster {cluster}"
        ));
    }
    let increment = server.number("auto_increment_increment").unwrap_or(1);
    let offset = server.number("auto_increment_offset").unwrap_or(1);
    (increment != 1 || offset != 1).then(|| {
        format!("auto_increment_increment is {increment} and auto_increment_offset {offset}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mysql::server::tests::{MARIADB, MYSQL, answer};

    #[test]
    fn several_writers_are_refused_unless_they_are_denied() {
        for alone in [MARIADB, MYSQL] {
            assert_eq!(galera(&answer(alone), Galera::Refuse), Ok(()));
        }
        for (several, sign) in [
            (
                answer(&[("wsrep_on", "ON"), ("wsrep_cluster_name", "shop")]),
                "cluster shop",
            ),
            (
                answer(&[("auto_increment_increment", "3")]),
                "increment is 3",
            ),
            (answer(&[("auto_increment_offset", "2")]), "offset 2"),
        ] {
            let refusal = galera(&several, Galera::Refuse).expect_err("refused");
            assert!(
                refusal.contains(sign) && refusal.contains("db.galera"),
                "{refusal}"
            );
            assert_eq!(galera(&several, Galera::SingleWriter), Ok(()));
        }
    }
}
