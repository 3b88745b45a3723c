//! Go's RE2 regular expression dialect on a linear-time engine.

use regex_automata::{Anchored, Input, meta};

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {0}")]
pub struct Error(String);

/// A compiled expression.
#[derive(Clone, Debug)]
pub struct Regex {
    pattern: String,
    engine: meta::Regex,
    whole: bool,
}

impl Regex {
    /// Compiles for search anywhere in a text.
    ///
    /// # Errors
    /// [`Error`].
    pub fn new(pattern: &str) -> Result<Self, Error> {
        Self::build(pattern, pattern, false)
    }
    /// Compiles for a match of the whole text; the dot matches a newline.
    ///
    /// # Errors
    /// [`Error`].
    pub fn anchored(pattern: &str) -> Result<Self, Error> {
        Self::build(pattern, &format!("^(?s:{pattern})$"), true)
    }
    fn build(pattern: &str, text: &str, whole: bool) -> Result<Self, Error> {
        Ok(Self { pattern: pattern.into(), engine: meta::Regex::new(text).map_err(|e| Error(e.to_string()))?, whole })
    }
    /// The pattern as given.
    pub fn as_str(&self) -> &str {
        &self.pattern
    }
    /// Whether it matches.
    pub fn is_match(&self, text: &str) -> bool {
        let input = Input::new(text);
        self.engine.is_match(if self.whole { input.anchored(Anchored::Yes) } else { input })
    }
    /// The groups of the first match.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        let mut groups = self.engine.create_captures();
        self.engine.captures(text, &mut groups);
        groups.is_match().then_some(Captures { text, groups })
    }
}
/// The groups of one match.
#[derive(Clone, Debug)]
pub struct Captures<'t> {
    text: &'t str,
    groups: regex_automata::util::captures::Captures,
}
impl<'t> Captures<'t> {
    /// The text of a group.
    pub fn get(&self, group: usize) -> Option<&'t str> {
        self.groups.get_group(group).map(|s| &self.text[s.start..s.end])
    }
    /// Appends a template with its references replaced.
    pub fn expand(&self, template: &str, out: &mut String) {
        self.groups.interpolate_string_into(self.text, template, out);
    }
}
