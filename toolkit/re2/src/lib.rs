//! Go's RE2 dialect of regular expressions, on a linear-time engine.
//!
//! Prometheus takes expressions in flags, matchers, relabelling and functions; all of them are Go's. The engine of
//! this crate, regex-automata, is as linear as Go's, but the parser around it speaks another dialect: `\d` is Unicode,
//! `[a&&b]` an intersection, `\<` a word boundary, all without an error. So the grammar here is our own, with Go's
//! error texts, and the engine gets a finished tree.
//!
//! - [`Regex`] searches, [`Captures`] and [`Template`] replace.
//! - [`Expression`] is a parsed pattern; its [`Shape`] says whether a matcher needs an engine at all.
//!
//! What Go does to texts that are no UTF-8 is left out: a `&str` is none of them.

mod error;
mod expand;
mod hir;
mod node;
mod parse;
mod shape;
#[cfg(test)]
mod tests;
mod unicode;

pub use error::{Error, ErrorCode};
pub use expand::Template;
pub use shape::{AnyCase, Sequence, Shape};

use regex_automata::{Anchored, Input, meta, nfa::thompson::WhichCaptures, util::captures};
use regex_syntax::hir::Hir;
use std::sync::Arc;

/// Bytes of a compiled program. Go has a limit of 128 MiB on an estimate; this one is on what is really held.
const PROGRAM_BYTES_MAX: usize = 32 << 20;
/// Bytes of a compiled program times slots of its groups, because a search holds a copy of all slots a state.
const PROGRAM_SLOT_BYTES_MAX: usize = 512 << 20;
/// Levels of a tree that any thread's stack has room to compile.
const SHALLOW: u32 = 64;
/// Stack to compile a tree of 1000 levels with, several times what a build without optimisation was seen to take.
const DEEP_STACK_BYTES: usize = 32 << 20;

/// A parsed pattern: what is known of it before a program is made.
#[derive(Clone, Debug)]
pub struct Expression {
    pattern: Arc<str>,
    parsed: parse::Parsed,
    whole: bool,
}

impl Expression {
    /// Parses for search anywhere in a text, as Go's `regexp.Compile` does.
    ///
    /// # Errors
    /// [`Error`], with Go's text.
    pub fn parse(pattern: &str) -> Result<Self, Error> {
        Ok(Self { pattern: pattern.into(), parsed: parse::parse(pattern)?, whole: false })
    }

    /// Parses for a match of the whole text with a dot that matches a line feed: `^(?s:PATTERN)$`, which is also what
    /// error texts show. This is how relabelling and `label_replace` read their expressions. The pattern cannot close
    /// the group around it.
    ///
    /// # Errors
    /// [`Error`], with Go's text.
    pub fn anchored(pattern: &str) -> Result<Self, Error> {
        Ok(Self { pattern: pattern.into(), parsed: parse::parse_wrapped(pattern)?, whole: true })
    }

    /// As [`Expression::anchored`], but error texts show the pattern alone and a quote `\Q` may stay open at its end.
    /// This is how label matchers read their expressions.
    ///
    /// # Errors
    /// [`Error`], with Go's text.
    pub fn matcher(pattern: &str) -> Result<Self, Error> {
        Ok(Self { pattern: pattern.into(), parsed: parse::parse_matcher(pattern)?, whole: true })
    }

    /// The pattern as given.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// The tree for the engine.
    pub fn hir(&self) -> Hir {
        hir::translate(&self.parsed.node)
    }

    /// What can be said of the texts that match as a whole; of an expression that may match a part of a text this is
    /// nothing.
    pub fn shape(&self) -> Shape {
        if self.whole { shape::of(&self.parsed.node) } else { Shape::Opaque }
    }

    /// Makes the program.
    ///
    /// # Errors
    /// [`ErrorCode::Large`] when it would hold more than 32 MiB, or less with many groups.
    pub fn compile(&self) -> Result<Regex, Error> {
        self.finish(&self.parsed.names, WhichCaptures::All)
    }

    /// Makes a smaller and quicker program that knows no group but the whole match.
    ///
    /// # Errors
    /// [`ErrorCode::Large`] when it would hold more than 32 MiB.
    pub fn compile_without_groups(&self) -> Result<Regex, Error> {
        self.finish(&[None], WhichCaptures::Implicit)
    }

    fn finish(&self, names: &[Option<Box<str>>], groups: WhichCaptures) -> Result<Regex, Error> {
        let bytes = PROGRAM_BYTES_MAX.min(PROGRAM_SLOT_BYTES_MAX / (2 * names.len()));
        let config = meta::Config::new().nfa_size_limit(Some(bytes)).which_captures(groups);
        let engine = if self.parsed.height <= SHALLOW { self.build(config) } else { self.build_deep(config) };
        let engine = engine.ok_or_else(|| Error::new(ErrorCode::Large, &self.pattern))?;
        Ok(Regex { pattern: self.pattern.clone(), engine, names: names.into(), whole: self.whole })
    }

    fn build(&self, config: meta::Config) -> Option<meta::Regex> {
        meta::Builder::new().configure(config).build_from_hir(&self.hir()).ok()
    }

    /// The engine's compiler descends the tree with frames of some kilobytes; who calls may have little stack left.
    fn build_deep(&self, config: meta::Config) -> Option<meta::Regex> {
        std::thread::scope(|scope| {
            let compiler = std::thread::Builder::new().name("re2-compile".into()).stack_size(DEEP_STACK_BYTES);
            compiler.spawn_scoped(scope, || self.build(config)).ok()?.join().ok()?
        })
    }
}

/// A compiled expression; clones share the program.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: Arc<str>,
    engine: meta::Regex,
    names: Arc<[Option<Box<str>>]>,
    whole: bool,
}

impl Regex {
    /// Compiles for search anywhere in a text, as Go's `regexp.Compile` does.
    ///
    /// # Errors
    /// [`Error`], with Go's text.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Expression::parse(pattern)?.compile()
    }

    /// Compiles for a match of the whole text; see [`Expression::anchored`].
    ///
    /// # Errors
    /// [`Error`], with Go's text.
    pub fn anchored(pattern: &str) -> Result<Self, Error> {
        Expression::anchored(pattern)?.compile()
    }

    /// The pattern as given.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }

    /// The names of the groups, the whole match first, which has none.
    pub fn group_names(&self) -> impl ExactSizeIterator<Item = Option<&str>> {
        self.names.iter().map(Option::as_deref)
    }

    /// Whether it matches. O(length of the text × size of the program).
    pub fn is_match(&self, text: &str) -> bool {
        self.engine.is_match(self.input(text))
    }

    /// The groups of the first match; of several matches at one place, Perl's choice.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let mut groups = self.engine.create_captures();
        self.engine.captures(self.input(text), &mut groups);
        groups.is_match().then(|| Captures { text, groups, names: self.names.clone() })
    }

    fn input<'t>(&self, text: &'t str) -> Input<'t> {
        Input::new(text).anchored(if self.whole { Anchored::Yes } else { Anchored::No })
    }
}

/// The groups of one match.
#[derive(Clone, Debug)]
pub struct Captures<'t> {
    text: &'t str,
    groups: captures::Captures,
    names: Arc<[Option<Box<str>>]>,
}

impl<'t> Captures<'t> {
    /// The text of a group; group 0 is the whole match.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.groups.get_group(group).map(|span| &self.text[span.range()])
    }

    /// The text of the first group with a name that took part in the match; Go lets groups share a name.
    pub fn name(&self, name: &str) -> Option<&'t str> {
        let named = self.names.iter().enumerate().filter(|(_, have)| have.as_deref() == Some(name));
        named.filter_map(|(index, _)| self.get(index)).next()
    }

    /// Appends a template with its references replaced; see [`Template`].
    pub fn expand(&self, template: &str, out: &mut String) {
        Template::new(template).expand(self, out);
    }
}
