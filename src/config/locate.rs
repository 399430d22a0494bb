//! A JSON document of which every value knows its place.
//!
//! Owns: [`Document`]: the tree of a file's values, their JSON paths, lines
//! and columns; `${NAME}` in its strings is filled in here.
//! Must not know: what any value means.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::env::Environment;
use super::findings::{Findings, Place};
use crate::core::secret::Secret;

/// Deeper than any file that means something.
const DEPTH_MAX: usize = 16;

/// A value of a [`Document`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(super) u32);

/// What a value is. Any string may be a secret, so all are kept as such.
#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(Number),
    Text(Secret),
    List(Vec<NodeId>),
    Object(Vec<NodeId>),
}

#[derive(Debug)]
enum Step {
    Root,
    Key(Box<str>, usize),
    Item(usize),
}

#[derive(Debug)]
struct Node {
    parent: NodeId,
    step: Step,
    /// Byte offset in the text.
    at: usize,
    value: Value,
    /// Found wrong, reported, and passed over since.
    dropped: bool,
}

/// A file's values, as a tree in one vector.
#[derive(Debug)]
pub(crate) struct Document {
    source: Arc<str>,
    text: Zeroizing<String>,
    lines: Vec<usize>,
    nodes: Vec<Node>,
}

impl Document {
    /// Reads `text`; `None` where it is no JSON, with a finding that says so.
    pub(super) fn parse(
        path: &Path,
        text: String,
        env: &Environment,
        findings: &mut Findings,
    ) -> Option<Self> {
        let text = Zeroizing::new(text);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let source = path.display().to_string().into();
        let json = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let grown = serde_json::from_str::<&RawValue>(json).map(|raw| Grower::grown(raw, &text, env));
        match grown {
            Ok((nodes, refused)) => {
                let mut made = Self { source, text, lines, nodes };
                for Refused { node, on_key, message } in refused {
                    let place = if on_key { made.place_of_key(node) } else { made.place(node) };
                    findings.add(place, message);
                    made.drop_value(node);
                }
                Some(made)
            }
            Err(error) => {
                let made = Self { source, text, lines, nodes: Vec::new() };
                findings.add(made.place_of_syntax_error(&error), without_position(&error));
                None
            }
        }
    }

    pub(crate) fn root(&self) -> NodeId {
        NodeId(0)
    }

    pub(super) fn value(&self, node: NodeId) -> &Value {
        &self.node(node).value
    }

    /// The key that the value stands under, in an object.
    pub(super) fn key(&self, node: NodeId) -> &str {
        match &self.node(node).step {
            Step::Key(name, _) => name,
            Step::Root | Step::Item(_) => "",
        }
    }

    pub(super) fn is_dropped(&self, node: NodeId) -> bool {
        self.node(node).dropped
    }

    pub(super) fn drop_value(&mut self, node: NodeId) {
        self.nodes[node.0 as usize].dropped = true;
    }

    /// Whether something in the value was found wrong and passed over: what
    /// is missing may then be no more than that.
    pub(crate) fn is_holed(&self, node: NodeId) -> bool {
        self.node(node).dropped || self.children(node).iter().any(|child| self.is_holed(*child))
    }

    /// What stands at `keys` below the value; where that is not there, what
    /// stands nearest above it.
    pub(crate) fn below(&self, node: NodeId, keys: &[&str]) -> NodeId {
        let mut node = node;
        for key in keys {
            let children = self.children(node).iter().copied();
            match children.filter(|child| !self.is_dropped(*child)).find(|child| self.key(*child) == *key) {
                Some(child) => node = child,
                None => break,
            }
        }
        node
    }

    /// The `index`-th of a list's values that were not passed over.
    pub(crate) fn item(&self, list: NodeId, index: usize) -> NodeId {
        let mut items = self.children(list).iter().copied().filter(|item| !self.is_dropped(*item));
        items.nth(index).unwrap_or(list)
    }

    /// Where the value stands.
    pub(crate) fn place(&self, node: NodeId) -> Place {
        self.place_at(self.node(node).at, self.path(node))
    }

    /// Where the value's key stands.
    pub(super) fn place_of_key(&self, node: NodeId) -> Place {
        match self.node(node).step {
            Step::Key(_, at) => self.place_at(at, self.path(node)),
            Step::Root | Step::Item(_) => self.place(node),
        }
    }

    fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node.0 as usize]
    }

    fn children(&self, node: NodeId) -> &[NodeId] {
        match self.value(node) {
            Value::List(children) | Value::Object(children) => children,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => &[],
        }
    }

    fn path(&self, node: NodeId) -> String {
        let mut steps = Vec::new();
        let mut node = self.node(node);
        while !matches!(node.step, Step::Root) {
            steps.push(&node.step);
            node = self.node(node.parent);
        }
        let path: String = steps.iter().rev().map(ToString::to_string).collect();
        path.strip_prefix('.').map(str::to_owned).unwrap_or(path)
    }

    fn place_at(&self, offset: usize, path: String) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let before = self.text.get(self.lines[line - 1]..offset).unwrap_or_default();
        let column = before.trim_start_matches('\u{feff}').chars().count() + 1;
        let number = |n| u32::try_from(n).unwrap_or(u32::MAX);
        Place { source: self.source.clone(), position: Some((number(line), number(column))), path }
    }

    /// The path to where the text stops being JSON is found by a second
    /// reading, for which alone it is worth its cost.
    fn place_of_syntax_error(&self, error: &serde_json::Error) -> Place {
        let json = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let mut reader = serde_json::Deserializer::from_str(json);
        let path = match serde_path_to_error::deserialize::<_, serde_json::Value>(&mut reader) {
            Ok(_) => String::new(),
            Err(error) => error.path().to_string(),
        };
        // A dot alone is the document, a question mark a key that never came.
        let path = path.trim_end_matches('?').trim_end_matches('.').to_owned();
        let start = self.lines.get(error.line().saturating_sub(1)).copied().unwrap_or_default();
        let offset = (start + error.column().saturating_sub(1)).min(self.text.len());
        let offset = (0..=offset).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or_default();
        self.place_at(offset, path)
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    format!("not JSON: {}", text.split(" at line ").next().unwrap_or_default())
}

/// `.key`, `["odd key"]` or `[3]`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
        match self {
            Self::Root => Ok(()),
            Self::Item(index) => write!(f, "[{index}]"),
            Self::Key(name, _) if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) => {
                write!(f, ".{name}")
            }
            Self::Key(name, _) => write!(f, "[{:?}]", name.chars().take(64).collect::<String>()),
        }
    }
}

struct Refused {
    node: NodeId,
    on_key: bool,
    message: String,
}

struct Grower<'a> {
    nodes: Vec<Node>,
    refused: Vec<Refused>,
    text: &'a str,
    env: &'a Environment,
}

impl<'a> Grower<'a> {
    fn grown(raw: &RawValue, text: &'a str, env: &'a Environment) -> (Vec<Node>, Vec<Refused>) {
        let mut grower = Self { nodes: Vec::new(), refused: Vec::new(), text, env };
        grower.grow(raw, NodeId(0), Step::Root, 0);
        (grower.nodes, grower.refused)
    }

    fn grow(&mut self, raw: &RawValue, parent: NodeId, step: Step, depth: usize) -> NodeId {
        let node = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        let at = self.offset(raw);
        self.nodes.push(Node { parent, step, at, value: Value::Null, dropped: false });
        let value = match raw.get().as_bytes().first() {
            Some(b'{' | b'[') if depth == DEPTH_MAX => Err("nested deeper than any field here".to_owned()),
            Some(b'{') => self.grow_object(raw, node, depth),
            Some(b'[') => self.grow_list(raw, node, depth),
            Some(b'"') => parse::<String>(raw).and_then(|text| self.env.fill(text)).map(Value::Text),
            Some(b't' | b'f') => parse(raw).map(Value::Bool),
            Some(b'n') => Ok(Value::Null),
            _ => parse(raw).map(Value::Number),
        };
        match value {
            Ok(value) => self.nodes[node.0 as usize].value = value,
            Err(message) => self.refused.push(Refused { node, on_key: false, message }),
        }
        node
    }

    fn grow_object(&mut self, raw: &RawValue, node: NodeId, depth: usize) -> Result<Value, String> {
        let Entries(entries) = parse(raw)?;
        let mut children = Vec::with_capacity(entries.len());
        let mut seen = HashSet::new();
        for (key, value) in entries {
            let name: String = parse(key)?;
            let step = Step::Key(name.as_str().into(), self.offset(key));
            let child = self.grow(value, node, step, depth + 1);
            if !seen.insert(name) {
                let message = "this key stands in the same object before; keep one".to_owned();
                self.refused.push(Refused { node: child, on_key: true, message });
            }
            children.push(child);
        }
        Ok(Value::Object(children))
    }

    fn grow_list(&mut self, raw: &RawValue, node: NodeId, depth: usize) -> Result<Value, String> {
        let items: Vec<&RawValue> = parse(raw)?;
        let items = items.into_iter().enumerate();
        Ok(Value::List(items.map(|(at, item)| self.grow(item, node, Step::Item(at), depth + 1)).collect()))
    }

    fn offset(&self, raw: &RawValue) -> usize {
        (raw.get().as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }
}

fn parse<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(raw.get()).map_err(|error| without_position(&error))
}

struct Entries<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(&'de RawValue, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor).map(Self)
    }
}

#[cfg(test)]
mod tests;
