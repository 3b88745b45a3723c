//! Flags in a YAML file: keys are their names, nested at the dots or not, so that `a.b: 1` and `a: {b: 1}` are the same.
//!
//! Upstream has no such file. Switches take `true` and `false`, lists take lists; a key without a value is not there. A
//! switch that has flags below it (`collector.cpu`, `collector.cpu.guest`) is written beside them with a dot.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::command::Command;
use crate::flag::{Flag, Kind};
use crate::text::quote;

/// Bytes of the file.
const FILE_MAX: u64 = 1 << 20;
/// How deep it may be nested; no flag has as many dots.
const DEPTH_MAX: usize = 16;

/// A flag as the file gives it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Written {
    pub(crate) texts: Vec<String>,
    /// `file:line:column`.
    pub(crate) place: String,
}

/// The flags that a file gives, by their number in the command.
pub(crate) fn read(path: &str, command: &Command) -> Result<BTreeMap<usize, Written>, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
    file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(|error| format!("{path}: {error}"))?;
    if text.len() as u64 > FILE_MAX {
        return Err(format!("{path}: longer than {FILE_MAX} bytes"));
    }
    parse(&text, path, command)
}

fn parse(text: &str, path: &str, command: &Command) -> Result<BTreeMap<usize, Written>, String> {
    let tree: Option<Spanned<Node>> = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map_or_else(|| path.to_owned(), |at| place(path, &at));
        let said = error.without_snippet().to_string();
        let said = said.strip_prefix("error: ").unwrap_or(&said).to_owned();
        format!("{place}: {said}")
    })?;
    let mut walk = Walk { path, command, found: BTreeMap::new() };
    match tree {
        None | Some(Spanned { value: Node::Null, .. }) => {}
        Some(Spanned { value: Node::Map(pairs), .. }) => walk.map("", pairs, 0)?,
        Some(other) => return Err(format!("{}: expected flags by their names", place(path, &other.referenced))),
    }
    Ok(walk.found)
}

fn place(path: &str, at: &Location) -> String {
    format!("{path}:{}:{}", at.line(), at.column())
}

/// Goes through the file with the name so far.
struct Walk<'a> {
    path: &'a str,
    command: &'a Command,
    found: BTreeMap<usize, Written>,
}

impl Walk<'_> {
    fn map(&mut self, prefix: &str, pairs: Vec<(Spanned<String>, Spanned<Node>)>, depth: usize) -> Result<(), String> {
        for (key, node) in pairs {
            let at = place(self.path, &key.referenced);
            if depth >= DEPTH_MAX {
                return Err(format!("{at}: nested too deep"));
            }
            let name = if prefix.is_empty() { key.value } else { format!("{prefix}.{}", key.value) };
            let below = format!("{name}.");
            let known = self.command.flags.iter().position(|flag| flag.name == name);
            let has_more = self.command.flags.iter().any(|flag| flag.name.starts_with(&below));
            match (node.value, known) {
                (Node::Map(pairs), _) if has_more => self.map(&name, pairs, depth + 1)?,
                (Node::Null, None) if has_more => {}
                (node, Some(index)) => self.flag(index, node, at)?,
                _ => return Err(format!("{at}: unknown key {}, keys are names of flags", quote(&name))),
            }
        }
        Ok(())
    }

    fn flag(&mut self, index: usize, node: Node, place: String) -> Result<(), String> {
        let flag = &self.command.flags[index];
        if ["help", "help-long", "help-man", "version"].contains(&flag.name.as_str())
            || self.command.config.as_ref() == Some(&flag.name)
        {
            return Err(format!("{place}: {} belongs on the command line alone", flag.name));
        }
        let Some(texts) = texts(flag, node).map_err(|wanted| format!("{place}: {} takes {wanted}", flag.name))? else {
            return Ok(());
        };
        match self.found.get(&index) {
            Some(first) => Err(format!("{place}: {} stands at {} already", flag.name, first.place)),
            None => {
                self.found.insert(index, Written { texts, place });
                Ok(())
            }
        }
    }
}

/// The texts of a flag; none when it has no value. The error is what it takes instead.
fn texts(flag: &Flag, node: Node) -> Result<Option<Vec<String>>, &'static str> {
    match (node, &flag.kind) {
        (Node::Null, _) => Ok(None),
        (Node::Truth(on), Kind::Boolean) => Ok(Some(vec![on.to_string()])),
        (_, Kind::Boolean) => Err("true or false"),
        (Node::List(items), Kind::List) => items.into_iter().map(scalar).collect::<Result<Vec<_>, _>>().map(Some),
        (node, _) => scalar(node).map(|text| Some(vec![text])),
    }
}

fn scalar(node: Node) -> Result<String, &'static str> {
    match node {
        Node::Text(text) => Ok(text),
        Node::Truth(on) => Ok(on.to_string()),
        Node::Null | Node::List(_) | Node::Map(_) => Err("a text or a number"),
    }
}

/// Any YAML.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Null,
    Truth(bool),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(AnyNode)
    }
}

struct AnyNode;

impl<'de> Visitor<'de> for AnyNode {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value of a flag")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, on: bool) -> Result<Node, E> {
        Ok(Node::Truth(on))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            map.push(pair);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
