//! Judging the parameters of a message (FTN3), in the order of the original.

use super::{
    doc::{Kind, Value},
    interface::{Function, Type},
    message::Fault,
};
use crate::event::{Component, EventType};

/// Top-level keys of a message.
const KEYS: [&str; 6] = ["f", "p", "rid", "forcersp", "obf", "sec"];

/// The declared parameters of a message that is in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Params<'a>(Value<'a>);

impl<'a> Params<'a> {
    /// One that is there and not null.
    pub(super) fn get(self, name: &str) -> Option<Value<'a>> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// One that was found to be there; null if that is a value of it.
    pub(super) fn any(self, name: &str) -> Option<Value<'a>> {
        self.0.get(name)
    }
}

/// Checks the parameters of `function`, called as `f`, and then the other keys.
pub(super) fn params<'a>(
    message: Value<'a>,
    f: &str,
    function: Function,
) -> Result<Params<'a>, Fault> {
    let p = message
        .get("p")
        .filter(|p| matches!(p.kind(), Kind::Map | Kind::Array))
        .ok_or_else(|| Fault::invalid("Invalid message: p"))?;
    let declared = function.params();
    let unknown = |key: &str| Fault::invalid(format!("Unknown parameter: {f}({key})"));
    // To the original an array is a map with the keys 0, 1, …
    if p.elements().next().is_some() {
        return Err(unknown("0"));
    }
    if let Some((key, _)) = p
        .entries()
        .find(|(key, _)| declared.iter().all(|param| param.name != *key))
    {
        return Err(unknown(key));
    }
    for param in declared {
        let name = param.name;
        let given = p.get(name);
        if param.optional && given.is_none_or(Value::is_null) {
            continue;
        }
        let given =
            given.ok_or_else(|| Fault::invalid(format!("Missing parameter: {f}({name})")))?;
        if !is(param.kind, given) {
            let text = given.js_text();
            return Err(Fault::invalid(format!(
                "Type mismatch for parameter: {f}({name}) = \"{text}\""
            )));
        }
    }
    match message.entries().find(|(key, _)| !KEYS.contains(key)) {
        Some((key, _)) => Err(Fault::invalid(format!("Unknown request field: {key}"))),
        None => Ok(Params(p)),
    }
}

/// Whether a value is of a type.
pub(super) fn is(kind: Type, value: Value<'_>) -> bool {
    match kind {
        Type::Any => true,
        Type::Integer => value.number().is_some_and(is_integer),
        Type::Id => value.text().is_some_and(is_event_id),
        Type::Kind => value
            .text()
            .is_some_and(|text| EventType::parse(text).is_ok()),
        Type::Kinds => {
            *value.kind() == Kind::Array && value.elements().all(|element| is(Type::Kind, element))
        }
        Type::Component => value
            .text()
            .is_some_and(|text| Component::parse(text).is_ok()),
    }
}

/// FutoIn's integers have 32 bits; `1.0` is one.
fn is_integer(number: f64) -> bool {
    number.fract() == 0.0 && (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number)
}

/// `^[1-9][0-9]{0,17}$`.
fn is_event_id(text: &str) -> bool {
    (1..=18).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0')
}
