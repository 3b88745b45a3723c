//! From our tree to the tree that regex-automata compiles.
//!
//! The engine's own parser never sees a pattern: its dialect differs from Go's, often without an error.

use crate::{node::Node, unicode};
use regex_syntax::hir::{Capture, Class, ClassUnicode, ClassUnicodeRange, Hir, Repetition};

/// Translates a tree. Recursion is bounded by the height that the parser allows.
pub(crate) fn translate(node: &Node) -> Hir {
    match node {
        Node::Empty => Hir::empty(),
        Node::Literal { text, fold: false } => Hir::literal(text.as_bytes()),
        Node::Literal { text, fold: true } => folded(text),
        Node::Class(class) => Hir::class(Class::Unicode(class.clone())),
        Node::Any { newline } => Hir::class(Class::Unicode(any(*newline))),
        Node::Look(look) => Hir::look(*look),
        Node::Capture { index, sub } => {
            Hir::capture(Capture { index: *index, name: None, sub: Box::new(translate(sub)) })
        }
        Node::Repeat { min, max, greedy, sub } => {
            Hir::repetition(Repetition { min: *min, max: *max, greedy: *greedy, sub: Box::new(translate(sub)) })
        }
        Node::Concat(subs) => Hir::concat(subs.iter().map(translate).collect()),
        Node::Alternate(subs) => Hir::alternation(subs.iter().map(translate).collect()),
    }
}

fn any(newline: bool) -> ClassUnicode {
    let all = ClassUnicodeRange::new('\0', char::MAX);
    if newline {
        return ClassUnicode::new([all]);
    }
    ClassUnicode::new([ClassUnicodeRange::new('\0', '\x09'), ClassUnicodeRange::new('\x0b', char::MAX)])
}

/// Each character as the set of its cases.
fn folded(text: &str) -> Hir {
    Hir::concat(text.chars().map(|c| Hir::class(Class::Unicode(unicode::orbit(c)))).collect())
}
