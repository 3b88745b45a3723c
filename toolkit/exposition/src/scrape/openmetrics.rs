//! OpenMetrics 0.0.1 and 1.0.0, as upstream's server reads them.
//!
//! Source of truth: upstream's `openmetricslex.l`. Single spaces, `# EOF` at the end and nothing behind it; an empty
//! body is a target without series, not a torn one.

use super::{
    Entry, ParseError, Raw,
    lexer::{Cursor, Kind, Piece, Token, run},
    series::{Series, unescape_piece},
};
use crate::{
    float::parse_float,
    text::{quote, unescape},
};
use model::{Builder, Exemplar, Labels, MetricType, Timestamp};
use std::collections::HashMap;

#[derive(Debug)]
pub(crate) struct OpenMetrics<'a> {
    cursor: Cursor<'a>,
    series: Series,
    /// The type read last, whatever family it was told of.
    kind: MetricType,
    exemplar: Option<FoundExemplar>,
    exemplar_labels: Series,
    starts: Option<Starts>,
    /// Times are rounded to milliseconds; upstream's server cuts them.
    rounds: bool,
}

/// The numbers of the exemplar read last; its labels are apart.
#[derive(Clone, Copy, Debug)]
struct FoundExemplar {
    value: f64,
    at: Option<i64>,
}

/// Start timestamps of the family being read, by the signature of the metric's labels.
#[derive(Debug, Default)]
struct Starts {
    family: String,
    found: HashMap<u64, i64>,
    here: Option<i64>,
}

/// A sample as read.
struct Sample<'a> {
    raw: &'a [u8],
    value: f64,
    at: Option<i64>,
}

impl<'a> OpenMetrics<'a> {
    pub(crate) fn new(body: &'a [u8], start_timestamps: bool) -> Self {
        Self {
            cursor: Cursor::new(body, true),
            series: Series::default(),
            kind: MetricType::Unknown,
            exemplar: None,
            exemplar_labels: Series::default(),
            starts: start_timestamps.then(Starts::default),
            rounds: false,
        }
    }

    /// A reader that keeps the millisecond nearest to each time.
    pub(crate) fn rounding(body: &'a [u8]) -> Self {
        Self { rounds: true, ..Self::new(body, false) }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.cursor.entry = self.cursor.at;
            self.cursor.token = self.cursor.at;
            match self.cursor.peek() {
                None if self.cursor.body.is_empty() => return Ok(None),
                None | Some(0) => return Err(self.no_eof()),
                Some(b'#') => return self.comment(),
                Some(_) => {}
            }
            let sample = self.sample()?;
            if !self.find_start() {
                let Sample { raw, value, at } = sample;
                return Ok(Some(Entry::Series { raw: Raw::Text(raw), value, at }));
            }
        }
    }

    pub(crate) fn labels(&self, labels: &mut Builder) {
        self.series.build(self.cursor.body, self.kind, labels);
    }

    pub(crate) fn exemplar(&self) -> Option<Exemplar> {
        let found = self.exemplar?;
        let mut labels = Builder::default();
        self.exemplar_labels.build(self.cursor.body, MetricType::Unknown, &mut labels);
        let labels: Labels = labels.build();
        Some(Exemplar { labels, value: found.value, at: found.at.map(Timestamp) })
    }

    /// A label's value as exposed.
    pub(crate) fn exposed(&self, name: &str) -> Option<&'a str> {
        self.series.exposed(self.cursor.body, name)
    }

    /// Where reading is.
    pub(crate) fn at(&self) -> usize {
        self.cursor.at
    }

    pub(super) fn start(&self) -> Option<i64> {
        self.starts.as_ref()?.here
    }

    fn no_eof(&self) -> ParseError {
        self.cursor.error("data does not end with # EOF".into())
    }

    fn comment(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        let rest = self.cursor.rest();
        if rest.starts_with(b"# EOF") {
            self.cursor.at += 5;
            if self.cursor.peek() == Some(b'\n') {
                self.cursor.at += 1;
            }
            let end = self.cursor.at == self.cursor.body.len();
            return if end { Ok(None) } else { Err(self.cursor.error("unexpected data after # EOF".into())) };
        }
        let word = ["HELP", "TYPE", "UNIT"].into_iter().find(|word| {
            rest.get(2..6) == Some(word.as_bytes()) && rest.get(6) == Some(&b' ') && rest.get(1) == Some(&b' ')
        });
        let Some(word) = word else {
            let right = ["# HELP ", "# TYPE ", "# UNIT ", "# EOF"]
                .iter()
                .map(|word| rest.iter().zip(word.bytes()).take_while(|(a, b)| **a == *b).count())
                .max();
            let start = self.cursor.at;
            let piece = Piece { start, end: start + right.unwrap_or(0) };
            return Err(self.cursor.unexpected("expected a valid start token", Token { kind: Kind::Invalid, piece }));
        };
        self.cursor.at += 7;
        let name = self.family_name(word)?;
        let rest = self.cursor.rest();
        let Some(length) = memchr::memchr(b'\n', rest).filter(|_| rest.first() == Some(&b' ')) else {
            return Err(self.cursor.error(format!("expected text in {word}")));
        };
        let text = &rest[1..length];
        self.cursor.at += length + 1;
        self.metadata(word, name, text).map(Some)
    }

    fn metadata(&mut self, word: &str, name: Piece, text: &'a [u8]) -> Result<Entry<'a>, ParseError> {
        let body = self.cursor.body;
        let shown = unescape_piece(name, body);
        match word {
            "TYPE" => {
                self.kind =
                    kind_of(text).ok_or_else(|| self.cursor.error(format!("invalid metric type {}", quote(text))))?;
                self.look_ahead(name);
                Ok(Entry::Type { name: shown, kind: self.kind })
            }
            "HELP" => match std::str::from_utf8(text) {
                Ok(help) => Ok(Entry::Help { name: shown, text: unescape(help, true) }),
                Err(_) => Err(self.cursor.error(format!("help text {} is not a valid utf8 string", quote(text)))),
            },
            _ => {
                let rest = name.of(body).strip_suffix(text);
                if !text.is_empty() && !rest.is_some_and(|rest| rest.ends_with(b"_")) {
                    let (unit, name) = (quote(text), quote(name.of(body)));
                    return Err(self.cursor.error(format!("unit {unit} not a suffix of metric {name}")));
                }
                // A suffix of a name that is UTF-8 and begins behind ASCII is UTF-8.
                Ok(Entry::Unit { name: shown, unit: String::from_utf8_lossy(text) })
            }
        }
    }

    fn family_name(&mut self, word: &str) -> Result<Piece, ParseError> {
        self.cursor.token = self.cursor.at;
        if self.cursor.peek() == Some(b'"') {
            let token = self.cursor.quoted(false);
            if token.kind == Kind::Quoted {
                self.cursor.at = token.piece.end;
                return Ok(token.piece.inner());
            }
        }
        let at = self.cursor.at;
        let invalid = Token { kind: Kind::Invalid, piece: Piece { start: at, end: at } };
        self.cursor
            .metric_name()
            .ok_or_else(|| self.cursor.unexpected(&format!("expected metric name after {word}"), invalid))
    }

    /// Reads one sample line whole, exemplar included.
    fn sample(&mut self) -> Result<Sample<'a>, ParseError> {
        self.series.clear();
        self.exemplar = None;
        let cursor = &mut self.cursor;
        let start = cursor.at;
        self.series.name = cursor.metric_name();
        if cursor.peek() == Some(b'{') {
            cursor.token = cursor.at;
            cursor.at += 1;
            self.series.read_labels(cursor, false)?;
        } else if self.series.name.is_none() {
            let invalid = Token { kind: Kind::Invalid, piece: Piece { start, end: start } };
            return Err(cursor.unexpected("expected a valid start token", invalid));
        }
        let raw = &cursor.body[start..cursor.at];
        let value = self.number("expected value after metric", true)?;
        let mut at = None;
        let mut word = self.cursor.spaced();
        if word.kind == Kind::Timestamp {
            self.cursor.token = word.piece.start;
            at = Some(self.time(word, "timestamp")?);
            word = self.cursor.spaced();
        }
        match word.kind {
            Kind::LineBreak => self.cursor.at += 1,
            // A comment opens the labels of an exemplar.
            Kind::BraceOpen => {
                self.cursor.token = word.piece.start;
                self.cursor.at = word.piece.end;
                self.read_exemplar()?;
            }
            Kind::End if at.is_none() => return Err(self.no_eof()),
            Kind::End => {
                let piece = Piece { start: self.cursor.token, end: self.cursor.at };
                let token = Token { kind: Kind::End, piece };
                return Err(self.cursor.unexpected("expected next entry after timestamp", token));
            }
            _ if at.is_some() => return Err(self.cursor.unexpected("expected next entry after timestamp", word)),
            _ => return Err(self.bad_tail(word)),
        }
        self.series.check(&self.cursor)?;
        Ok(Sample { raw, value, at })
    }

    /// What stands behind a value and is neither a time nor an exemplar. Upstream notices it only as the next entry.
    fn bad_tail(&mut self, word: Token) -> ParseError {
        let at = word.piece.end.min(self.cursor.body.len());
        (self.cursor.entry, self.cursor.at) = (at, at);
        let kind = if self.cursor.peek() == Some(b'\n') { Kind::LineBreak } else { Kind::Invalid };
        let end = if kind == Kind::LineBreak { at + 1 } else { at };
        self.cursor.unexpected("expected a valid start token", Token { kind, piece: Piece { start: at, end } })
    }

    /// Takes a space and a number.
    fn number(&mut self, wanted: &str, metric: bool) -> Result<f64, ParseError> {
        if metric && self.series.name.is_none() {
            let word = self.cursor.spaced();
            self.cursor.at = word.piece.end.max(self.cursor.at);
            return Err(self.cursor.parsing("metric name not set"));
        }
        let mut word = self.cursor.spaced_word();
        match word.kind {
            Kind::End => word.piece.start = self.cursor.token,
            // A line feed is a token only behind a value.
            Kind::LineBreak => {
                word = Token { kind: Kind::Invalid, piece: Piece { end: word.piece.start, ..word.piece } }
            }
            _ => {}
        }
        if word.kind != Kind::Value {
            return Err(self.cursor.unexpected(wanted, word));
        }
        self.cursor.token = word.piece.start;
        self.cursor.at = word.piece.end;
        let digits = &self.cursor.body[word.piece.start + 1..word.piece.end];
        parse_float(digits).map_err(|error| self.cursor.parsing(&error.describe(digits)))
    }

    /// Takes a time in seconds and gives milliseconds; what is out of range becomes the nearest there is.
    fn time(&mut self, word: Token, what: &str) -> Result<i64, ParseError> {
        self.cursor.at = word.piece.end;
        let digits = &self.cursor.body[word.piece.start + 1..word.piece.end];
        let seconds = parse_float(digits).map_err(|error| self.cursor.parsing(&error.describe(digits)))?;
        if !seconds.is_finite() {
            let shown = if seconds.is_nan() {
                "NaN"
            } else if seconds > 0.0 {
                "+Inf"
            } else {
                "-Inf"
            };
            return Err(self.cursor.error(format!("invalid {what} {shown}")));
        }
        Ok(if self.rounds { (seconds * 1000.0).round() as i64 } else { (seconds * 1000.0) as i64 })
    }

    /// The labels, value and time of an exemplar, and the line feed behind them.
    fn read_exemplar(&mut self) -> Result<(), ParseError> {
        self.exemplar_labels.clear();
        self.exemplar_labels.read_labels(&mut self.cursor, true)?;
        let value = self.number("expected value after exemplar labels", false)?;
        let mut at = None;
        let mut word = self.cursor.spaced_word();
        if word.kind == Kind::Value {
            self.cursor.token = word.piece.start;
            at = Some(self.time(word, "exemplar timestamp")?);
            word = self.cursor.spaced_word();
            if word.kind == Kind::Value {
                word.kind = Kind::Timestamp;
            }
        }
        self.exemplar = Some(FoundExemplar { value, at });
        match word.kind {
            Kind::LineBreak => {
                self.cursor.at += 1;
                Ok(())
            }
            Kind::End => Err(self.no_eof()),
            _ if at.is_some() => Err(self.cursor.unexpected("expected next entry after exemplar timestamp", word)),
            _ => Err(self.cursor.unexpected("expected timestamp or comment", word)),
        }
    }

    /// Finds the `_created` lines of the family whose TYPE line was just read. O(lines of the family), once a family.
    fn look_ahead(&mut self, name: Piece) {
        let body = self.cursor.body;
        let counts = matches!(self.kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
        let Some(starts) = &mut self.starts else { return };
        starts.found.clear();
        starts.here = None;
        starts.family.clear();
        if !counts {
            return;
        }
        starts.family.push_str(&unescape_piece(name, body));
        let mut ahead = OpenMetrics::new(body, false);
        ahead.cursor.at = self.cursor.at;
        loop {
            ahead.cursor.entry = ahead.cursor.at;
            let rest = ahead.cursor.rest();
            if rest.starts_with(b"# TYPE ") || rest.starts_with(b"# EOF") || rest.is_empty() {
                return;
            }
            if rest[0] == b'#' {
                ahead.cursor.at += memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                continue;
            }
            let Ok(sample) = ahead.sample() else { return };
            let own = ahead.series.name.map(|name| unescape_piece(name, body));
            let Some(suffix) = own.as_deref().and_then(|name| name.strip_prefix(starts.family.as_str())) else {
                return;
            };
            if suffix == "_created" {
                starts.found.insert(ahead.series.signature(body), (sample.value * 1000.0) as i64);
            }
        }
    }

    /// Sets the start of the series just read. True for a `_created` line, which is no sample then.
    fn find_start(&mut self) -> bool {
        let body = self.cursor.body;
        let Some(starts) = &mut self.starts else { return false };
        starts.here = None;
        if starts.family.is_empty() {
            return false;
        }
        let name = self.series.name.map(|name| unescape_piece(name, body)).unwrap_or_default();
        match name.strip_prefix(starts.family.as_str()) {
            Some("_created") => return true,
            Some("" | "_total" | "_sum" | "_count" | "_bucket") if !starts.found.is_empty() => {
                starts.here = starts.found.get(&self.series.signature(body)).copied();
            }
            _ => {}
        }
        false
    }
}

impl Cursor<'_> {
    /// What comes next: a space and a word; a line feed; or the end.
    fn spaced_word(&self) -> Token {
        let start = self.at;
        match self.peek() {
            None => Token { kind: Kind::End, piece: Piece { start, end: start } },
            Some(b'\n') => Token { kind: Kind::LineBreak, piece: Piece { start, end: start + 1 } },
            Some(b' ') => {
                let word = run(&self.body[start + 1..], |byte| !matches!(byte, b' ' | b'\n'));
                let kind = if word == 0 { Kind::Invalid } else { Kind::Value };
                Token { kind, piece: Piece { start, end: start + 1 + word } }
            }
            Some(_) => Token { kind: Kind::Invalid, piece: Piece { start, end: start } },
        }
    }

    /// As [`Self::spaced_word`] behind a value: a word is a time, ` # {` opens an exemplar.
    fn spaced(&self) -> Token {
        let start = self.at;
        if self.rest().starts_with(b" # {") {
            return Token { kind: Kind::BraceOpen, piece: Piece { start, end: start + 4 } };
        }
        let mut token = self.spaced_word();
        if self.rest().starts_with(b" # ") {
            token = Token { kind: Kind::Invalid, piece: Piece { start, end: start + 3 } };
        } else if token.kind == Kind::Value {
            token.kind = Kind::Timestamp;
        }
        token
    }
}

fn kind_of(word: &[u8]) -> Option<MetricType> {
    Some(match word {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"gaugehistogram" => MetricType::GaugeHistogram,
        b"summary" => MetricType::Summary,
        b"info" => MetricType::Info,
        b"stateset" => MetricType::StateSet,
        b"unknown" => MetricType::Unknown,
        _ => return None,
    })
}
