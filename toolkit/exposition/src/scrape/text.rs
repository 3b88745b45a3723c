//! Text 0.0.4 and 1.0.0.
//!
//! Source of truth: upstream's `promlex.l`. Blanks separate tokens, a last line needs no line feed, a quoted text may
//! hold line feeds, and a NUL where an entry would begin ends the body.

use super::{
    Entry, ParseError, Raw,
    lexer::{Cursor, Kind, Piece, Token, in_value},
    series::{Series, unescape_piece},
};
use crate::{
    float::parse_float,
    text::{quote, unescape},
};
use model::{Builder, MetricType};

#[derive(Debug)]
pub(super) struct Text<'a> {
    cursor: Cursor<'a>,
    series: Series,
    /// The type read last, whatever family it was told of.
    kind: MetricType,
}

impl<'a> Text<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { cursor: Cursor::new(body, false), series: Series::default(), kind: MetricType::Unknown }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            self.cursor.entry = self.cursor.at;
            self.cursor.skip_blanks();
            match self.cursor.peek() {
                None | Some(0) => return Ok(None),
                Some(b'\n') => self.cursor.at += 1,
                Some(b'#') => return self.comment(),
                Some(_) => return self.sample().map(Some),
            }
        }
    }

    pub(super) fn labels(&self, labels: &mut Builder) {
        self.series.build(self.cursor.body, self.kind, labels);
    }

    /// The rest of the line; the line feed is taken with it.
    fn line(&mut self) -> Piece {
        let rest = self.cursor.rest();
        let start = self.cursor.at;
        let end = start + memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        self.cursor.at = (end + 1).min(self.cursor.body.len());
        Piece { start, end }
    }

    fn comment(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        self.cursor.at += 1;
        let blanks = self.cursor.take(|byte| matches!(byte, b' ' | b'\t'));
        let rest = self.cursor.rest();
        let word = [&b"HELP"[..], b"TYPE"].into_iter().find(|word| {
            !blanks.is_empty() && rest.starts_with(word) && matches!(rest.get(word.len()), Some(b' ' | b'\t'))
        });
        let Some(word) = word else {
            self.line();
            return Ok(Some(Entry::Comment));
        };
        self.cursor.at += word.len();
        self.cursor.skip_blanks();
        let is_type = word == b"TYPE";
        let name = self.family_name(if is_type { "TYPE" } else { "HELP" })?;
        let mut text = self.line();
        // Upstream cuts one byte, which is a blank in anything well formed.
        text.start = (text.start + 1).min(text.end);
        let body = self.cursor.body;
        if text.of(body).iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            text.start = text.end;
        }
        let name = unescape_piece(name, body);
        if is_type {
            self.kind = kind_of(text.of(body))
                .ok_or_else(|| self.cursor.error(format!("invalid metric type {}", quote(text.of(body)))))?;
            return Ok(Some(Entry::Type { name, kind: self.kind }));
        }
        match std::str::from_utf8(text.of(body)) {
            Ok(help) => Ok(Some(Entry::Help { name, text: unescape(help, false) })),
            Err(_) => Err(self.cursor.error(format!("help text {} is not a valid utf8 string", quote(text.of(body))))),
        }
    }

    fn family_name(&mut self, word: &str) -> Result<Piece, ParseError> {
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

    fn sample(&mut self) -> Result<Entry<'a>, ParseError> {
        self.series.clear();
        let cursor = &mut self.cursor;
        let start = cursor.at;
        self.series.name = cursor.metric_name();
        if self.series.name.is_none() && cursor.peek() != Some(b'{') {
            let invalid = Token { kind: Kind::Invalid, piece: Piece { start, end: start } };
            return Err(cursor.unexpected("expected a valid start token", invalid));
        }
        let mut end = cursor.at;
        cursor.skip_blanks();
        if cursor.peek() == Some(b'{') {
            cursor.token = cursor.at;
            cursor.at += 1;
            self.series.read_labels(cursor, false)?;
            end = cursor.at;
        }
        let raw = Raw::Text(&cursor.body[start..end]);
        let (value, at) = self.value()?;
        self.series.check(&self.cursor)?;
        Ok(Entry::Series { raw, value, at })
    }

    fn value(&mut self) -> Result<(f64, Option<i64>), ParseError> {
        let cursor = &mut self.cursor;
        cursor.skip_blanks();
        let word = cursor.take(in_value);
        if self.series.name.is_none() {
            return Err(cursor.parsing("metric name not set"));
        }
        if word.is_empty() {
            let (kind, end) =
                if cursor.peek() == Some(b'{') { (Kind::BraceOpen, word.end + 1) } else { (Kind::Invalid, word.end) };
            let token = Token { kind, piece: Piece { start: word.start, end } };
            return Err(cursor.unexpected("expected value after metric", token));
        }
        let value =
            parse_float(word.of(cursor.body)).map_err(|error| cursor.parsing(&error.describe(word.of(cursor.body))))?;
        cursor.skip_blanks();
        if self.end_of_line() {
            return Ok((value, None));
        }
        let cursor = &mut self.cursor;
        let digits = cursor.take(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            let token = Token { kind: Kind::Invalid, piece: digits };
            return Err(cursor.unexpected("expected timestamp or new record", token));
        }
        let at = parse_milliseconds(digits.of(cursor.body)).map_err(|why| cursor.parsing(&why))?;
        cursor.skip_blanks();
        if self.end_of_line() {
            return Ok((value, Some(at)));
        }
        let cursor = &mut self.cursor;
        let found = cursor.take(|byte| byte.is_ascii_digit());
        let kind = if found.is_empty() { Kind::Invalid } else { Kind::Timestamp };
        Err(cursor.unexpected("expected next entry after timestamp", Token { kind, piece: found }))
    }

    fn end_of_line(&mut self) -> bool {
        match self.cursor.peek() {
            None => true,
            Some(b'\n') => {
                self.cursor.at += 1;
                true
            }
            Some(_) => false,
        }
    }
}

fn kind_of(word: &[u8]) -> Option<MetricType> {
    Some(match word {
        b"counter" => MetricType::Counter,
        b"gauge" => MetricType::Gauge,
        b"histogram" => MetricType::Histogram,
        b"summary" => MetricType::Summary,
        b"untyped" => MetricType::Unknown,
        _ => return None,
    })
}

/// Digits as a number; the error is Go's text.
fn parse_milliseconds(digits: &[u8]) -> Result<i64, String> {
    let text = std::str::from_utf8(digits).unwrap_or_default();
    text.parse().map_err(|_| format!("strconv.ParseInt: parsing {}: value out of range", quote(digits)))
}
