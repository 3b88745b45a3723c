//! A streaming reader of every format a server scrapes, as upstream's server reads them.
//!
//! It is as lax as upstream: metric interleaving, counter signs and suffix rules are not enforced; for a strict reading
//! of OpenMetrics see [`crate::families::parse_openmetrics`]. Error texts are upstream's, since they are shown on the
//! targets page. Text is read in place: nothing is allocated per line once the scratch space has its size, but for
//! escapes, which are resolved when labels are asked for. Memory is bounded by the widest series.
//!
//! Two readings of upstream's are not followed: blanks in front of a name are no part of it, and `{foo} 1` is named
//! `foo`, not `o`.

pub(crate) mod custom;
mod lexer;
pub(crate) mod openmetrics;
mod protobuf;
mod series;
mod text;

use crate::Format;
use model::{Builder, Exemplar, FloatHistogram, MetricType};
use std::{borrow::Cow, fmt, ops::Deref, sync::Arc};

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ParseError {
    /// Offset in the body.
    pub at: usize,
    /// What is wrong there, in upstream's words.
    pub why: String,
}

/// The bytes that identify a series: its text as exposed, or in protobuf its labels. A key for caches; it borrows from
/// the body or shares one buffer with the parser, which is reused once the key is dropped.
#[derive(Clone)]
pub enum Raw<'a> {
    /// A piece of the body.
    Text(&'a [u8]),
    /// Put together from several pieces.
    Built(Arc<Vec<u8>>),
}

impl Deref for Raw<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Text(bytes) => bytes,
            Self::Built(bytes) => bytes,
        }
    }
}

impl PartialEq for Raw<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self))
    }
}

/// One thing a body says.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// A sample; its labels are asked for apart, since a known series needs none.
    Series {
        /// Identifies the series.
        raw: Raw<'a>,
        /// The value.
        value: f64,
        /// Exposed time in milliseconds.
        at: Option<i64>,
    },
    /// A native histogram; protobuf only.
    Histogram {
        /// Identifies the series.
        raw: Raw<'a>,
        /// The value, without empty buckets.
        value: Arc<FloatHistogram>,
        /// Exposed time in milliseconds.
        at: Option<i64>,
    },
    /// HELP
    Help {
        /// Of which family.
        name: Cow<'a, str>,
        /// The text, escapes resolved.
        text: Cow<'a, str>,
    },
    /// TYPE
    Type {
        /// Of which family.
        name: Cow<'a, str>,
        /// The type.
        kind: MetricType,
    },
    /// UNIT
    Unit {
        /// Of which family.
        name: Cow<'a, str>,
        /// The unit.
        unit: Cow<'a, str>,
    },
    /// Any other comment.
    Comment,
}

/// What is read of a body beyond its float samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Native histograms are read as such; else as the classic histograms they may also be.
    /// `scrape_native_histograms`.
    pub native_histograms: bool,
    /// The classic series of a histogram that is read as a native one are read as well. `always_scrape_classic_histograms`.
    pub keep_classic: bool,
    /// Classic histograms are read as native ones with custom bounds; their classic series only with `keep_classic`.
    /// Implies `start_timestamps`, as upstream's conversion does. `convert_classic_histograms_to_nhcb`.
    pub custom_buckets: bool,
    /// `_created` lines of OpenMetrics are told by [`Parser::start`] instead of being samples.
    pub start_timestamps: bool,
    /// Series get the labels `__type__` and `__unit__` of the metadata read last, where it says something. Feature
    /// `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            native_histograms: true,
            keep_classic: false,
            custom_buckets: false,
            start_timestamps: false,
            type_and_unit_labels: false,
        }
    }
}

/// A reader over one body.
#[derive(Debug)]
pub struct Parser<'a> {
    reader: Reader<'a>,
    custom: Option<Box<custom::Custom<'a>>>,
}

#[derive(Debug)]
struct Reader<'a> {
    source: Source<'a>,
    about: Option<About>,
}

/// The metadata read last, whatever family it was of.
#[derive(Debug, Default)]
struct About {
    kind: MetricType,
    unit: String,
}

#[derive(Debug)]
enum Source<'a> {
    Text(text::Text<'a>),
    OpenMetrics(openmetrics::OpenMetrics<'a>),
    Protobuf(Box<protobuf::Protobuf<'a>>),
}

impl<'a> Parser<'a> {
    /// Starts at the first byte.
    pub fn new(body: &'a [u8], format: Format) -> Self {
        Self::with_options(body, format, Options::default())
    }

    /// Starts at the first byte and reads what `options` want. The protobuf text notations are not read: they are taken
    /// for protobuf and refused.
    pub fn with_options(body: &'a [u8], format: Format, options: Options) -> Self {
        let source = if format.is_openmetrics() {
            Source::OpenMetrics(openmetrics::OpenMetrics::new(body, options.start_timestamps || options.custom_buckets))
        } else if format.is_protobuf() {
            Source::Protobuf(Box::new(protobuf::Protobuf::new(body, options)))
        } else {
            Source::Text(text::Text::new(body))
        };
        let about = options.type_and_unit_labels.then(About::default);
        Self { reader: Reader { source, about }, custom: custom::Custom::new(options) }
    }

    /// The next entry, or `None` at the end. O(length of the entry).
    ///
    /// # Errors
    /// [`ParseError`]; the rest of the body is not worth reading then.
    #[allow(clippy::should_implement_trait, reason = "a fallible step that lends from the body")]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match &mut self.custom {
            Some(custom) => custom.next(&mut self.reader),
            None => self.reader.next(),
        }
    }

    /// The labels of the series just read, name included; `le` and `quantile` in canonical form.
    pub fn labels(&self, labels: &mut Builder) {
        labels.clear();
        if !self.custom.as_ref().is_some_and(|custom| custom.labels(labels)) {
            self.reader.labels(labels);
        }
    }

    /// The exemplar of the series just read, the first one of a native histogram.
    pub fn exemplar(&self) -> Option<Exemplar> {
        let mut all = Vec::new();
        self.exemplars(&mut all);
        all.into_iter().next()
    }

    /// Appends all exemplars of the series just read. Those of a native histogram have a time; others are left out.
    pub fn exemplars(&self, out: &mut Vec<Exemplar>) {
        match self.custom.as_ref().and_then(|custom| custom.exemplars()) {
            Some(exemplars) => out.extend(exemplars),
            None => self.reader.exemplars(out),
        }
    }

    /// When the counter behind the series just read started, in milliseconds. In OpenMetrics only with
    /// [`Options::start_timestamps`].
    pub fn start(&self) -> Option<i64> {
        self.custom.as_ref().and_then(|custom| custom.start()).unwrap_or_else(|| self.reader.start())
    }
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let entry = self.source.next()?;
        if let Some(about) = &mut self.about {
            match &entry {
                Some(Entry::Type { kind, .. }) => about.kind = *kind,
                Some(Entry::Unit { unit, .. }) => unit.as_ref().clone_into(&mut about.unit),
                // A protobuf family begins with its HELP; a line of text says nothing of what other lines said.
                Some(Entry::Help { .. }) if matches!(self.source, Source::Protobuf(_)) => about.unit.clear(),
                _ => {}
            }
        }
        Ok(entry)
    }

    fn labels(&self, labels: &mut Builder) {
        self.source.labels(labels);
        let Some(about) = &self.about else { return };
        if about.kind != MetricType::Unknown {
            labels.set("__type__", about.kind.as_str());
        }
        if !about.unit.is_empty() {
            labels.set("__unit__", &about.unit);
        }
    }

    fn exemplars(&self, out: &mut Vec<Exemplar>) {
        self.source.exemplars(out);
    }

    fn start(&self) -> Option<i64> {
        self.source.start()
    }
}

impl<'a> Source<'a> {
    fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        match self {
            Self::Text(reader) => reader.next(),
            Self::OpenMetrics(reader) => reader.next(),
            Self::Protobuf(reader) => reader.next(),
        }
    }

    fn labels(&self, labels: &mut Builder) {
        match self {
            Self::Text(reader) => reader.labels(labels),
            Self::OpenMetrics(reader) => reader.labels(labels),
            Self::Protobuf(reader) => reader.labels(labels),
        }
    }

    fn exemplars(&self, out: &mut Vec<Exemplar>) {
        match self {
            Self::Text(_) => {}
            Self::OpenMetrics(reader) => out.extend(reader.exemplar()),
            Self::Protobuf(reader) => reader.exemplars(out),
        }
    }

    fn start(&self) -> Option<i64> {
        match self {
            Self::Text(_) => None,
            Self::OpenMetrics(reader) => reader.start(),
            Self::Protobuf(reader) => reader.start(),
        }
    }
}

#[cfg(test)]
mod tests;
