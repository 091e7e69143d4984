//! A decoded message, whatever its coder: a flat list of nodes in the order in
//! which they were written.
//!
//! Nothing here recurses, dropping included: a message of 64 KiB may be nested
//! 32 768 deep. Numbers stay the text that came, strings are decoded (a lone
//! surrogate is U+FFFD, which is what JavaScript writes for it). Of JSON each
//! node knows its place in the source, so that event data can be kept to the
//! letter.

use std::{borrow::Cow, ops::Range};

/// A whole message.
#[derive(Debug)]
pub(super) struct Doc {
    nodes: Vec<Node>,
    /// The text of a JSON message.
    source: Option<Box<str>>,
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// The index behind the node and all it contains.
    end: usize,
    /// Its place in the source.
    span: Range<usize>,
}

/// What a node is. The nodes of an array follow it; those of a map too, each
/// value after its key, which is a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Null,
    Bool(bool),
    /// As JSON writes it.
    Number(Box<str>),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Array,
    Map,
}

/// Makes a [`Doc`], node by node.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    open: Vec<usize>,
}

impl Builder {
    /// Adds a node; an array or map stays open.
    pub(super) fn add(&mut self, kind: Kind, span: Range<usize>) {
        let container = matches!(kind, Kind::Array | Kind::Map);
        let at = self.nodes.len();
        let end = at + 1;
        self.nodes.push(Node { kind, end, span });
        if container {
            self.open.push(at);
        }
    }

    /// Closes the innermost array or map.
    pub(super) fn close(&mut self, span_end: usize) {
        if let Some(at) = self.open.pop() {
            let end = self.nodes.len();
            let node = &mut self.nodes[at];
            node.end = end;
            node.span.end = span_end;
        }
    }

    /// The finished message; `None` if it is not one whole value.
    pub(super) fn finish(self, source: Option<Box<str>>) -> Option<Doc> {
        let whole = self.nodes.first()?.end == self.nodes.len();
        (whole && self.open.is_empty()).then_some(Doc {
            nodes: self.nodes,
            source,
        })
    }
}

impl Doc {
    /// The whole value.
    pub(super) fn root(&self) -> Value<'_> {
        Value { doc: self, at: 0 }
    }
}

/// One value of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    doc: &'a Doc,
    at: usize,
}

impl<'a> Value<'a> {
    pub(super) fn kind(self) -> &'a Kind {
        &self.doc.nodes[self.at].kind
    }

    pub(super) fn is_null(self) -> bool {
        *self.kind() == Kind::Null
    }

    pub(super) fn is_map(self) -> bool {
        *self.kind() == Kind::Map
    }

    /// A string's text.
    pub(super) fn text(self) -> Option<&'a str> {
        match self.kind() {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A number as JavaScript holds it.
    pub(super) fn number(self) -> Option<f64> {
        match self.kind() {
            Kind::Number(text) => Some(float(text)),
            _ => None,
        }
    }

    /// The values directly inside; of a map keys and values in turn.
    fn inside(self) -> impl Iterator<Item = Value<'a>> {
        let end = self.doc.nodes[self.at].end;
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let here = at;
            at = self.doc.nodes.get(at).filter(|_| at < end)?.end;
            Some(Value {
                doc: self.doc,
                at: here,
            })
        })
    }

    /// The elements of an array; nothing for anything else.
    pub(super) fn elements(self) -> impl Iterator<Item = Value<'a>> {
        let array = *self.kind() == Kind::Array;
        self.inside().take_while(move |_| array)
    }

    /// The entries of a map as they were written; nothing for anything else.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        let map = self.is_map();
        let mut inside = self.inside().take_while(move |_| map);
        std::iter::from_fn(move || {
            let key = inside.next()?.text()?;
            Some((key, inside.next()?))
        })
    }

    /// The entry of a map with this key, the last one if there are several.
    pub(super) fn get(self, key: &str) -> Option<Value<'a>> {
        let found = self.entries().filter(|(name, _)| *name == key).last();
        found.map(|(_, value)| value)
    }

    /// As JSON: of a JSON message the very text that came.
    pub(super) fn json(self) -> Cow<'a, str> {
        match &self.doc.source {
            Some(source) => Cow::Borrowed(&source[self.doc.nodes[self.at].span.clone()]),
            None => Cow::Owned(self.written()),
        }
    }

    /// As JSON without white space.
    pub(super) fn written(self) -> String {
        let mut out = String::new();
        self.walk(|step| match step {
            Step::Scalar(kind) => write_scalar(kind, &mut out),
            Step::Open(value) if value.is_map() => out.push('{'),
            Step::Open(_) => out.push('['),
            Step::Close(Kind::Map) => out.push('}'),
            Step::Close(_) => out.push(']'),
            Step::Comma => out.push(','),
            Step::Colon => out.push(':'),
        });
        out
    }

    /// Visits the value and all inside it, in order.
    pub(super) fn walk(self, mut visit: impl FnMut(Step<'a>)) {
        let nodes = &self.doc.nodes;
        // Of each open container: where it is, and how much of it was visited.
        let mut open: Vec<(usize, usize)> = Vec::new();
        for at in self.at..nodes[self.at].end {
            close_until(nodes, &mut open, at, &mut visit);
            if let Some((parent, count)) = open.last_mut() {
                let map = nodes[*parent].kind == Kind::Map;
                match (*count, map) {
                    (0, _) => {}
                    (count, true) if count % 2 == 1 => visit(Step::Colon),
                    _ => visit(Step::Comma),
                }
                *count += 1;
            }
            match &nodes[at].kind {
                Kind::Array | Kind::Map => {
                    visit(Step::Open(Self { doc: self.doc, at }));
                    open.push((at, 0));
                }
                kind => visit(Step::Scalar(kind)),
            }
        }
        close_until(nodes, &mut open, nodes[self.at].end, &mut visit);
    }

    /// The number of values directly inside; of a map the number of entries.
    pub(super) fn len(self) -> usize {
        let count = self.inside().count();
        if self.is_map() { count / 2 } else { count }
    }

    /// What JavaScript's conversion to a string makes of it.
    pub(super) fn js_text(self) -> String {
        let mut out = String::new();
        if self.is_null() {
            return "null".to_owned();
        }
        let mut in_maps = 0;
        self.walk(|step| match step {
            Step::Open(value) if value.is_map() => {
                if in_maps == 0 {
                    out.push_str("[object Object]");
                }
                in_maps += 1;
            }
            Step::Close(Kind::Map) => in_maps -= 1,
            _ if in_maps > 0 => {}
            Step::Comma => out.push(','),
            // Inside an array, null is nothing.
            Step::Scalar(Kind::Null) | Step::Open(_) | Step::Close(_) | Step::Colon => {}
            Step::Scalar(kind) => out.push_str(&js_scalar(kind)),
        });
        out
    }
}

/// What [`Value::walk`] comes by.
pub(super) enum Step<'a> {
    Scalar(&'a Kind),
    Open(Value<'a>),
    Close(&'a Kind),
    /// Between two elements or entries.
    Comma,
    /// Between a key and its value.
    Colon,
}

fn close_until<'a>(
    nodes: &'a [Node],
    open: &mut Vec<(usize, usize)>,
    at: usize,
    visit: &mut impl FnMut(Step<'a>),
) {
    while let Some((closed, _)) = open.pop_if(|(container, _)| nodes[*container].end <= at) {
        visit(Step::Close(&nodes[closed].kind));
    }
}

fn write_scalar(kind: &Kind, out: &mut String) {
    match kind {
        Kind::Text(text) => out.push_str(&quoted(text)),
        // What JSON.stringify makes of a Buffer.
        Kind::Bytes(bytes) => {
            let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
            out.push_str(r#"{"type":"Buffer","data":["#);
            out.push_str(&numbers.join(","));
            out.push_str("]}");
        }
        Kind::Number(text) => out.push_str(text),
        Kind::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Kind::Null | Kind::Array | Kind::Map => out.push_str("null"),
    }
}

/// A scalar as JavaScript writes it into a text.
pub(super) fn js_scalar(kind: &Kind) -> Cow<'_, str> {
    match kind {
        Kind::Text(text) => Cow::Borrowed(text),
        Kind::Number(text) => Cow::Owned(js_number(float(text))),
        Kind::Bool(truth) => Cow::Borrowed(if *truth { "true" } else { "false" }),
        Kind::Bytes(bytes) => String::from_utf8_lossy(bytes),
        Kind::Null | Kind::Array | Kind::Map => Cow::Borrowed(""),
    }
}

/// A number that is no integer, as a node.
pub(super) fn float_kind(number: f64) -> Kind {
    match number {
        // JSON has no word for them, but numbers that read as such.
        f64::INFINITY => Kind::Number("1e999".into()),
        f64::NEG_INFINITY => Kind::Number("-1e999".into()),
        // As JSON.stringify does.
        _ if number.is_nan() => Kind::Null,
        _ => Kind::Number(js_number(number).into()),
    }
}

fn float(text: &str) -> f64 {
    // Digits beyond the range are infinite, as in JavaScript.
    text.parse().unwrap_or(f64::NAN)
}

/// The text of a number in JavaScript.
pub(super) fn js_number(number: f64) -> String {
    ryu_js::Buffer::new().format(number).to_owned()
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
