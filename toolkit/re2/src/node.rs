//! The tree between a pattern's text and what is made of it: the program of the engine, and the facts of `shape`.

use regex_syntax::hir::{ClassUnicode, Look};

/// One part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    /// The empty text.
    Empty,
    /// A run of characters, of any case when `fold`.
    Literal { text: String, fold: bool },
    /// One character of a set; the empty set matches nowhere.
    Class(ClassUnicode),
    /// Any character; `newline` says whether the line feed is one.
    Any { newline: bool },
    /// A condition on a position.
    Look(Look),
    /// A numbered group. Names stay outside of the tree, since several groups may share one.
    Capture { index: u32, sub: Box<Node> },
    /// `sub` at least `min` and at most `max` times.
    Repeat { min: u32, max: Option<u32>, greedy: bool, sub: Box<Node> },
    /// One after the other; never holds another `Concat`.
    Concat(Vec<Node>),
    /// The first that leads to a match; never holds another `Alternate`.
    Alternate(Vec<Node>),
}
