//! The FutoIn front: its options, and what they mean.

use std::{path::Path, time::Duration};

use super::{
    options::{DURATION, Opt, SWITCH, opt},
    resolve::Reader,
    tls,
    value::{self, Read},
};
use crate::{
    futoin::{Delivery, Options, Served, Users},
    limits,
    listen::{Address, TlsFiles},
    origins::Origins,
};

/// The FutoIn front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Futoin {
    /// A listener of its own; none: that of the HTTP front.
    pub listen: Option<Address>,
    /// Its TLS, if it speaks any.
    pub tls: Option<TlsFiles>,
    /// Everything else.
    pub options: Options,
}

pub(super) const TABLE: [Opt; 18] = [
    opt(
        "futoin.path",
        "futoin-path",
        "/ftn",
        "PATH|off",
        "Where clients of the original are served over HTTP and WebSocket",
    ),
    opt(
        "futoin.listen",
        "futoin-listen",
        "",
        "ADDRESS",
        "A listener of their own, HOST:PORT or unix:PATH; empty: that of http.listen",
    ),
    Opt {
        secret: true,
        ..opt(
            "futoin.users",
            "futoin-users",
            "",
            "ENTRIES",
            "Who may call, such as NAME id=1 secret=TEXT; NAME mac=BASE64; without users nobody may",
        )
    },
    opt(
        "futoin.users_file",
        "futoin-users-file",
        "",
        "FILE",
        "More of them, one per line",
    ),
    opt(
        "futoin.interfaces",
        "futoin-interfaces",
        "gen,poll,push",
        "NAMES",
        "Which of the three futoin.evt interfaces are there",
    ),
    opt(
        "futoin.secure_channel",
        "futoin-secure-channel",
        "false",
        SWITCH,
        "Nobody can listen to the connections; FutoIn adds events only over such",
    ),
    opt(
        "futoin.trust_proxy",
        "futoin-trust-proxy",
        "false",
        SWITCH,
        "Believe X-Forwarded-Proto: https, which a proxy before us must set",
    ),
    opt(
        "futoin.web_origins",
        "futoin-web-origins",
        "",
        "ORIGINS",
        "Web sites whose pages may call and open sockets, as grpc.web_origins; empty: as the original",
    ),
    opt(
        "futoin.service_id",
        "futoin-service-id",
        "localhost",
        "NAME",
        "The host name in the clients' URL, which keys of -mmac are derived with",
    ),
    opt(
        "futoin.request_limit",
        "futoin-request-limit",
        "64KiB",
        "SIZE",
        "The longest request; the original's clients send no longer one",
    ),
    opt(
        "futoin.request_timeout",
        "futoin-request-timeout",
        "5s",
        DURATION,
        "How long a request may take",
    ),
    opt(
        "futoin.callback_timeout",
        "futoin-callback-timeout",
        "30s",
        DURATION,
        "How long a receiver may take to answer before its socket is closed",
    ),
    opt(
        "futoin.max_chunk_events",
        "futoin-max-chunk-events",
        "100",
        "COUNT",
        "Events pushed together",
    ),
    opt(
        "futoin.reliable_window",
        "futoin-reliable-window",
        "1",
        "1|2",
        "Groups on their way to a reliable receiver; the second only while it is quick",
    ),
    opt(
        "futoin.live_window",
        "futoin-live-window",
        "2",
        "COUNT",
        "The same to a LIVE receiver",
    ),
    opt(
        "futoin.ws_ping",
        "futoin-ws-ping",
        "30s",
        DURATION,
        "How often a silent WebSocket is asked whether it lives; dropped after two in vain",
    ),
    opt(
        "futoin.negative_reply_delay",
        "futoin-negative-reply-delay",
        "500ms",
        DURATION,
        "How long a receiver waits for a refusal, up to twice that: it comes back at once",
    ),
    opt(
        "futoin.delivery",
        "futoin-delivery",
        "all",
        "all|push|live",
        "What consumers may use: everything, no polling, or LIVE alone",
    ),
];

/// The front, unless it is switched off.
pub(super) fn futoin(
    reader: &mut Reader,
    read_file: impl Fn(&Path) -> std::io::Result<String>,
) -> Option<Futoin> {
    let path = reader.get("futoin.path", path);
    let seconds =
        |least, most| value::duration(Duration::from_secs(least), Duration::from_secs(most));
    let listen = reader.get("futoin.listen", address_or_none);
    let options = Options {
        users: users(reader, read_file),
        served: reader.get("futoin.interfaces", served),
        secure_channel: reader.get("futoin.secure_channel", value::boolean),
        trust_proxy: reader.get("futoin.trust_proxy", value::boolean),
        web_origins: reader.get("futoin.web_origins", Origins::parse),
        service_id: reader.get("futoin.service_id", |text| Ok(text.to_owned())),
        request_limit: reader.get(
            "futoin.request_limit",
            value::size(
                limits::FUTOIN_REQUEST_BYTES,
                limits::MAX_FUTOIN_REQUEST_BYTES,
            ),
        ),
        request_timeout: reader.get("futoin.request_timeout", seconds(1, 60)),
        callback_timeout: reader.get("futoin.callback_timeout", seconds(1, 300)),
        group_events: reader.get(
            "futoin.max_chunk_events",
            value::count(1, limits::MAX_GROUP_EVENTS),
        ),
        reliable_window: reader.get("futoin.reliable_window", value::count(1, 2)),
        live_window: reader.get("futoin.live_window", value::count(1, 16)),
        ping_interval: reader.get("futoin.ws_ping", seconds(1, 300)),
        refusal_delay: reader.get(
            "futoin.negative_reply_delay",
            value::duration(Duration::ZERO, Duration::from_secs(10)),
        ),
        delivery: reader.get("futoin.delivery", delivery),
        path: path.clone().unwrap_or_default(),
    };
    let exposed = listen.as_ref().is_some_and(|address| !address.is_local());
    if exposed && options.users.is_empty() && reader.sound(&["futoin.users", "futoin.users_file"]) {
        reader.blame(
            "futoin.listen",
            "can be reached from other machines, and has no users",
        );
    }
    let tls = tls::tls(reader, tls::Front::Futoin, listen.as_ref());
    path.map(|_| Futoin {
        listen,
        tls,
        options,
    })
}

fn users(reader: &mut Reader, read_file: impl Fn(&Path) -> std::io::Result<String>) -> Users {
    let users = reader.get("futoin.users", Users::parse);
    let more = reader.get("futoin.users_file", |text| {
        if text.is_empty() {
            return Ok(Users::default());
        }
        let text =
            read_file(Path::new(text)).map_err(|error| format!("cannot be read: {error}"))?;
        Users::parse(&text)?.join(users.clone())
    });
    if more.is_empty() { users } else { more }
}

/// Where it is served; nothing: nowhere.
fn path(text: &str) -> Read<Option<String>> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let fits = text.len() > 1 && text.starts_with('/') && !text.ends_with('/');
    match text {
        "off" => Ok(None),
        _ if fits && !text.contains("//") && text.bytes().all(letter) => Ok(Some(text.to_owned())),
        _ => Err("is not a path like /ftn, or off".to_owned()),
    }
}

fn address_or_none(text: &str) -> Read<Option<Address>> {
    match text {
        "" => Ok(None),
        _ => value::address(text).map(Some),
    }
}

fn served(text: &str) -> Read<Served> {
    let mut served = Served {
        generate: false,
        poll: false,
        push: false,
    };
    for name in text.split(',').map(str::trim) {
        match name {
            "gen" => served.generate = true,
            "poll" => served.poll = true,
            "push" => served.push = true,
            _ => return Err("is not a list of gen, poll, push".to_owned()),
        }
    }
    Ok(served)
}

fn delivery(text: &str) -> Read<Delivery> {
    match text {
        "all" => Ok(Delivery::All),
        "push" => Ok(Delivery::Push),
        "live" => Ok(Delivery::Live),
        _ => Err("is not one of all, push, live".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(path("/a/b-1"), Ok(Some("/a/b-1".to_owned())));
        assert_eq!(path("off"), Ok(None));
        for bad in ["", "/", "ftn", "/ftn/", "/a//b", "/{a}", "/a b", "/*", "/ä"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_of_interfaces() {
        let all = served("push, gen,poll").expect("fine");
        assert!(all.generate && all.poll && all.push);
        assert!(!served("gen").expect("fine").push);
        assert!(served("").is_err() && served("gen,ping").is_err());
    }
}
