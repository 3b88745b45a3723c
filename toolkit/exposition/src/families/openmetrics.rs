//! OpenMetrics into families, with everything the specification demands enforced: the strict mode.
//!
//! Source of truth: the OpenMetrics 1.0 text; the judge is its own test suite. The server's reading, which is far
//! laxer, is [`crate::scrape`]; this one is for checking an exposition and for taking one over whole.

use super::{
    Family,
    rules::{Current, MetricPart},
};
use crate::scrape::{Entry, openmetrics::OpenMetrics};
use model::{Builder, METRIC_NAME, MetricType};
use std::collections::HashSet;

/// Why an exposition is not OpenMetrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not OpenMetrics in line {line}: {why}")]
pub struct StrictError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there, or in the family that ends before it.
    pub why: String,
}

/// Reads OpenMetrics strictly. Counters are named with their `_total`. O(length).
///
/// # Errors
/// [`StrictError`] with the line.
pub fn parse_openmetrics(body: &[u8]) -> Result<Vec<Family>, StrictError> {
    let mut reader = Strict { current: None, names: HashSet::new(), families: Vec::new() };
    let mut lines = OpenMetrics::rounding(body);
    let mut builder = Builder::default();
    let mut at = 0;
    // Lines are counted only up to a mistake.
    let fail = |at: usize, why: String| StrictError { line: memchr::memchr_iter(b'\n', &body[..at]).count() + 1, why };
    if body.is_empty() {
        return Err(fail(0, "data does not end with # EOF".into()));
    }
    loop {
        let entry = lines.next().map_err(|error| fail(at, error.to_string()))?;
        let done = match &entry {
            None => reader.finish().map(|()| true),
            Some(entry) => reader.entry(entry, &lines, &mut builder).map(|()| false),
        };
        if done.map_err(|why| fail(at, why))? {
            return Ok(reader.families);
        }
        at = lines.at();
    }
}

struct Strict {
    current: Option<Current>,
    /// Names that families and their series have taken.
    names: HashSet<String>,
    families: Vec<Family>,
}

impl Strict {
    fn entry(&mut self, entry: &Entry<'_>, lines: &OpenMetrics<'_>, builder: &mut Builder) -> Result<(), String> {
        match entry {
            Entry::Help { name, text } => self.about(name)?.set_help(text),
            Entry::Type { name, kind } => self.about(name)?.set_kind(*kind),
            Entry::Unit { name, unit } => self.about(name)?.set_unit(unit),
            Entry::Series { raw, value, at } => {
                if raw.ends_with(b",}") {
                    return Err("a comma behind the last label".into());
                }
                builder.clear();
                lines.labels(builder);
                let name = builder.get(METRIC_NAME).to_owned();
                builder.del(METRIC_NAME);
                let current = self.sampled(&name)?;
                let exposed = |label: &str| lines.exposed(label);
                current.add(
                    &name,
                    builder,
                    &exposed,
                    &MetricPart { value: *value, at: *at, exemplar: lines.exemplar() },
                )
            }
            _ => Ok(()),
        }
    }

    /// The family that metadata is of; another one ends the one before.
    fn about(&mut self, name: &str) -> Result<&mut Current, String> {
        if self.current.as_ref().is_none_or(|current| current.name != name) {
            self.finish()?;
        }
        let current = self.current.get_or_insert_with(|| Current::new(name, None));
        if current.has_samples() {
            return Err(format!("metadata of {name} behind its samples"));
        }
        Ok(current)
    }

    /// The family that a sample is of; a name that is not the current one's begins a family of unknown type.
    fn sampled(&mut self, name: &str) -> Result<&mut Current, String> {
        if !self.current.as_ref().is_some_and(|current| current.owns(name)) {
            self.finish()?;
        }
        Ok(self.current.get_or_insert_with(|| Current::new(name, Some(MetricType::Unknown))))
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(current) = self.current.take() else { return Ok(()) };
        for name in current.names() {
            if let Some(name) = self.names.replace(name) {
                return Err(format!("the name {name} is taken twice"));
            }
        }
        self.families.push(current.finish()?);
        Ok(())
    }
}
