//! The interfaces that are served, as FTN18 1.1 defines them, and finding the
//! function that a message names.

use super::message::Fault;

/// What can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Ping,
    AddEvent,
    RegisterConsumer,
    PollEvents,
    ReadyToReceive,
}

/// The type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Any,
    Integer,
    /// `EventID`.
    Id,
    /// `EventType`.
    Kind,
    /// `EventTypes`.
    Kinds,
    Component,
}

/// A parameter; one with a default may be absent or null.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) kind: Type,
    pub(super) optional: bool,
}

const fn param(name: &'static str, kind: Type, optional: bool) -> Param {
    Param {
        name,
        kind,
        optional,
    }
}

impl Function {
    pub(super) const ALL: [Self; 5] = [
        Self::Ping,
        Self::AddEvent,
        Self::RegisterConsumer,
        Self::PollEvents,
        Self::ReadyToReceive,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::AddEvent => "addEvent",
            Self::RegisterConsumer => "registerConsumer",
            Self::PollEvents => "pollEvents",
            Self::ReadyToReceive => "readyToReceive",
        }
    }

    /// As declared.
    pub(super) fn params(self) -> &'static [Param] {
        const PING: &[Param] = &[param("echo", Type::Integer, false)];
        const ADD: &[Param] = &[
            param("type", Type::Kind, false),
            param("data", Type::Any, false),
        ];
        const REGISTER: &[Param] = &[param("component", Type::Component, false)];
        const POLL: &[Param] = &[
            param("component", Type::Component, false),
            param("last_id", Type::Id, true),
            param("want", Type::Kinds, true),
        ];
        const READY: &[Param] = &[
            param("component", Type::Component, false),
            param("want", Type::Kinds, true),
        ];
        match self {
            Self::Ping => PING,
            Self::AddEvent => ADD,
            Self::RegisterConsumer => REGISTER,
            Self::PollEvents => POLL,
            Self::ReadyToReceive => READY,
        }
    }
}

/// An interface, in all minor versions up to `minor` of major 1.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) name: &'static str,
    minor: u32,
    functions: &'static [Function],
    /// Needs a channel that nobody listens to.
    pub(super) secure: bool,
    /// Needs a channel for calls in both directions.
    pub(super) duplex: bool,
}

const INTERFACES: [Interface; 4] = [
    Interface {
        name: "futoin.ping",
        minor: 0,
        functions: &[Function::Ping],
        secure: false,
        duplex: false,
    },
    Interface {
        name: "futoin.evt.gen",
        minor: 1,
        functions: &[Function::AddEvent, Function::Ping],
        secure: true,
        duplex: false,
    },
    Interface {
        name: "futoin.evt.poll",
        minor: 1,
        functions: &[
            Function::RegisterConsumer,
            Function::PollEvents,
            Function::Ping,
        ],
        secure: false,
        duplex: false,
    },
    Interface {
        name: "futoin.evt.push",
        minor: 1,
        functions: &[
            Function::RegisterConsumer,
            Function::PollEvents,
            Function::ReadyToReceive,
            Function::Ping,
        ],
        secure: false,
        duplex: true,
    },
];

/// Which of the three event interfaces are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// `futoin.evt.gen`.
    pub generate: bool,
    /// `futoin.evt.poll`.
    pub poll: bool,
    /// `futoin.evt.push`.
    pub push: bool,
}

impl Served {
    fn has(self, name: &str) -> bool {
        match name {
            "futoin.evt.gen" => self.generate,
            "futoin.evt.poll" => self.poll,
            "futoin.evt.push" => self.push,
            _ => true,
        }
    }
}

/// The function that a message names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target {
    pub(super) interface: &'static Interface,
    pub(super) function: Function,
    minor: u32,
}

/// Clients take no longer message, whatever it carries.
pub(super) const SMALL_MESSAGE: usize = 64 * 1024;

/// What `futoin.evt.poll:1.1` takes as an answer, and a receiver of 1.1 as a call.
pub(super) const LARGE_MESSAGE: usize = 8 * 1024 * 1024;

impl Target {
    /// Whether version 1.0 was asked for, which knows no large messages.
    pub(super) fn is_first_minor(&self) -> bool {
        self.minor == 0
    }

    /// The longest answer that the caller takes.
    pub(super) fn answer_limit(&self) -> usize {
        let large = self.interface.name == "futoin.evt.poll"
            && !self.is_first_minor()
            && self.function == Function::PollEvents;
        if large { LARGE_MESSAGE } else { SMALL_MESSAGE }
    }
}

/// Finds the function `f`. To somebody unknown, what is amiss inside an
/// interface looks as if there were none.
pub(super) fn find(f: &str, served: Served, known_caller: bool) -> Result<Target, Fault> {
    let parts: Vec<&str> = f.split(':').collect();
    let [name, version, function] = parts.as_slice() else {
        return Err(Fault::invalid("Invalid req.f"));
    };
    let numbers: Vec<&str> = version.split('.').collect();
    let [major, minor] = numbers.as_slice() else {
        return Err(Fault::invalid("Invalid req.f (version)"));
    };
    let unknown = || Fault::new("UnknownInterface", format!("Unknown interface: {name}"));
    let interface = INTERFACES
        .iter()
        .find(|interface| interface.name == *name && served.has(name))
        .ok_or_else(unknown)?;
    within(interface, major, minor, function).map_err(
        |fault| {
            if known_caller { fault } else { unknown() }
        },
    )
}

fn within(
    interface: &'static Interface,
    major: &str,
    minor: &str,
    function: &str,
) -> Result<Target, Fault> {
    let name = interface.name;
    let unsupported = |detail| Fault::new("NotSupportedVersion", detail);
    if number(major) != Some(1) {
        return Err(unsupported(format!(
            "Different major version: {name}:{major}"
        )));
    }
    let asked = number(minor).filter(|asked| *asked <= interface.minor);
    let asked = asked
        .ok_or_else(|| unsupported(format!("Iface version is too old: {name}:{major}.{minor}")))?;
    let found = interface
        .functions
        .iter()
        .find(|known| known.name() == function);
    let function =
        found.ok_or_else(|| Fault::invalid(format!("Unknown interface function: {function}")))?;
    Ok(Target {
        interface,
        function: *function,
        minor: asked,
    })
}

/// Decimal digits only: no sign, as `parse` alone would take.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Served = Served {
        generate: true,
        poll: true,
        push: true,
    };

    fn refused(f: &str) -> String {
        let fault = find(f, ALL, true).expect_err(f);
        format!("{}: {}", fault.name, fault.detail.unwrap_or_default())
    }

    #[test]
    fn first_fault_wins() {
        for (f, expected) in [
            ("a", "InvalidRequest: Invalid req.f"),
            ("a:1:b", "InvalidRequest: Invalid req.f (version)"),
            (
                "futoin.evt.types:1.0:x",
                "UnknownInterface: Unknown interface: futoin.evt.types",
            ),
            (
                "futoin.ping:2.0:x",
                "NotSupportedVersion: Different major version: futoin.ping:2",
            ),
            (
                "futoin.evt.gen:1.10:x",
                "NotSupportedVersion: Iface version is too old: futoin.evt.gen:1.10",
            ),
            (
                "futoin.evt.gen:1.:x",
                "NotSupportedVersion: Iface version is too old: futoin.evt.gen:1.",
            ),
            (
                "futoin.evt.gen:1.+1:x",
                "NotSupportedVersion: Iface version is too old: futoin.evt.gen:1.+1",
            ),
            (
                "futoin.ping:1.0:constructor",
                "InvalidRequest: Unknown interface function: constructor",
            ),
            (
                "futoin.evt.poll:1.0:readyToReceive",
                "InvalidRequest: Unknown interface function: readyToReceive",
            ),
        ] {
            assert_eq!(refused(f), expected);
        }
        let masked = find("futoin.ping:9.9:x", ALL, false).expect_err("masked");
        assert_eq!(masked.name, "UnknownInterface");
    }

    #[test]
    fn answers_may_be_large_in_one_place_only() {
        for (f, limit) in [
            ("futoin.evt.poll:1.1:pollEvents", LARGE_MESSAGE),
            ("futoin.evt.poll:1.0:pollEvents", SMALL_MESSAGE),
            ("futoin.evt.push:1.1:pollEvents", SMALL_MESSAGE),
            ("futoin.evt.poll:1.1:ping", SMALL_MESSAGE),
        ] {
            assert_eq!(find(f, ALL, true).expect(f).answer_limit(), limit);
        }
    }
}
