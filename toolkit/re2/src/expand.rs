//! Templates with references to groups, after the rules of Go's `Regexp.Expand`.
//!
//! `$name` takes the longest run of letters, digits and underscores; `${name}` ends at the brace; `$$` is a dollar.
//! A name of digits without a leading zero is a group's number. A group that is unknown or took no part is empty;
//! a dollar before anything else is itself.

use crate::{Captures, unicode};

/// A template, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
    Named(String),
}

impl Template {
    /// Reads a template. There are no wrong ones.
    pub fn new(template: &str) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('$') {
            text.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('$') {
                text.push('$');
                rest = after;
            } else if let Some((part, after)) = reference(rest) {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(part);
                rest = after;
            } else {
                text.push('$');
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Self { parts }
    }

    /// Appends the template with its references replaced. O(length of the result), times groups for names.
    pub fn expand(&self, captures: &Captures<'_>, out: &mut String) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Group(index) => out.push_str(captures.get(*index).unwrap_or_default()),
                Part::Named(name) => out.push_str(captures.name(name).unwrap_or_default()),
            }
        }
    }

    /// The text of a template without references.
    pub fn as_text(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }
}

/// The reference after a dollar, and what follows it.
fn reference(text: &str) -> Option<(Part, &str)> {
    let braced = text.strip_prefix('{');
    let body = braced.unwrap_or(text);
    let end = body.find(|c| c != '_' && !unicode::is_letter_or_digit(c)).unwrap_or(body.len());
    let (name, rest) = body.split_at(end);
    if name.is_empty() {
        return None;
    }
    let rest = if braced.is_some() { rest.strip_prefix('}')? } else { rest };
    Some((part(name), rest))
}

fn part(name: &str) -> Part {
    let number = name.bytes().all(|byte| byte.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    match name.parse() {
        Ok(index) if number => Part::Group(index),
        // Above a hundred million Go takes digits for a name, which no group has either.
        _ => Part::Named(name.to_owned()),
    }
}
