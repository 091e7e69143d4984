//! What bounds those who reach the listeners: quotas of users, connections of
//! an address, permissions of Unix sockets.
//!
//! Quotas are without bound by default: no number fits everybody, and a service
//! for one application needs none. Those here are for whom the file of users says
//! nothing else.

use std::time::Duration;

use super::{
    options::{DURATION, Opt, opt},
    resolve::Reader,
    value::{self, Read},
};
use crate::{limits, listen::SocketOwner, quota::Quota};

/// What holds for everybody who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposure {
    /// Of a user for whom the file of users says nothing else.
    pub quota: Quota,
    /// For how long a user may save up.
    pub quota_burst: Duration,
    /// Connections of one address per listener.
    pub peer_connections: Option<usize>,
    /// Who may connect to Unix sockets.
    pub socket: SocketOwner,
}

pub(super) const TABLE: [Opt; 8] = [
    opt(
        "limits.user_calls",
        "limits-user-calls",
        "0",
        "COUNT",
        "Calls of a user in a second; 0: without bound, as for the next three",
    ),
    opt(
        "limits.user_events",
        "limits-user-events",
        "0",
        "COUNT",
        "Events that a user adds in a second",
    ),
    opt(
        "limits.user_bytes",
        "limits-user-bytes",
        "0B",
        "SIZE",
        "Bytes of these",
    ),
    opt(
        "limits.user_streams",
        "limits-user-streams",
        "0",
        "COUNT",
        "Push streams of a user at a time",
    ),
    opt(
        "limits.user_burst",
        "limits-user-burst",
        "2s",
        DURATION,
        "For how long an idle user saves up calls, events and bytes that may then come at once",
    ),
    opt(
        "limits.peer_connections",
        "limits-peer-connections",
        "0",
        "COUNT",
        "Open connections of one address per listener (IPv6: of a /64); 0: without bound",
    ),
    opt(
        "socket.mode",
        "socket-mode",
        "0660",
        "OCTAL",
        "Permissions of Unix sockets: who may write may connect",
    ),
    opt(
        "socket.group",
        "socket-group",
        "",
        "GROUP",
        "Group of Unix sockets, a number or a name of /etc/group; empty: that of the process",
    ),
];

pub(super) fn exposure(reader: &mut Reader) -> Exposure {
    let bytes = reader.get("limits.user_bytes", value::size(0, u32::MAX as usize));
    let peer_connections = reader.get(
        "limits.peer_connections",
        value::count(0, limits::MAX_CONNECTIONS),
    );
    Exposure {
        quota: Quota {
            calls: reader.get("limits.user_calls", bound),
            events: reader.get("limits.user_events", bound),
            bytes: u32::try_from(bytes).ok().filter(|bytes| *bytes > 0),
            streams: reader.get("limits.user_streams", bound),
        },
        quota_burst: reader.get(
            "limits.user_burst",
            value::duration(Duration::from_millis(100), limits::MAX_QUOTA_BURST),
        ),
        peer_connections: Some(peer_connections).filter(|count| *count > 0),
        socket: SocketOwner {
            mode: reader.get("socket.mode", mode),
            group: reader.get("socket.group", group),
        },
    }
}

/// A count; none for 0.
fn bound(text: &str) -> Read<Option<u32>> {
    value::count(0, u32::MAX)(text).map(|count| (count > 0).then_some(count))
}

/// Permissions, as `chmod` takes them.
fn mode(text: &str) -> Read<u32> {
    let read = u32::from_str_radix(text, 8).ok();
    read.filter(|mode| *mode <= 0o777 && mode & 0o600 == 0o600)
        .ok_or_else(|| "is not a mode such as 0660, in which the owner may read and write".into())
}

#[expect(clippy::unnecessary_wraps, reason = "the type is that of all readers")]
fn group(text: &str) -> Read<Option<String>> {
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (text, read) in [("0660", 0o660), ("600", 0o600), ("0777", 0o777)] {
            assert_eq!(mode(text), Ok(read));
        }
        for bad in ["", "0", "060", "0400", "1777", "rw", "0o660", "-1"] {
            assert!(mode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn zero_is_without_bound() {
        assert_eq!(bound("0"), Ok(None));
        assert_eq!(bound("7"), Ok(Some(7)));
        assert!(bound("-1").is_err() && bound("4294967296").is_err());
    }
}
