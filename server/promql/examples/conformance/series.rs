//! The series notation of the scripts: labels, values, native histograms, start timestamps.

use anyhow::{Context, Result, bail, ensure};
use model::{FloatHistogram, Labels, Span, Value, stale_nan};
use promql::histogram::Histogram;
use std::sync::Arc;

/// One item of a sequence.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Missing,
    Sample(Value),
    /// A histogram and whether its hint is part of what is expected.
    Hinted(Arc<FloatHistogram>),
}

impl Item {
    pub(crate) fn value(&self) -> Option<Value> {
        match self {
            Self::Missing => None,
            Self::Sample(value) => Some(value.clone()),
            Self::Hinted(histogram) => Some(Value::Histogram(Arc::clone(histogram))),
        }
    }
}

/// A cursor over a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, text: &str) -> bool {
        let hit = self.rest.starts_with(text);
        if hit {
            self.rest = &self.rest[text.len()..];
        }
        hit
    }

    fn want(&mut self, text: &str) -> Result<()> {
        ensure!(self.take(text), "expected {text:?} before {:?}", self.rest);
        Ok(())
    }

    fn while_in(&mut self, fits: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn quoted(&mut self) -> Result<String> {
        let (text, length) = quoted(self.rest)?;
        self.rest = &self.rest[length..];
        Ok(text)
    }

    /// A number or a duration in seconds, with a sign.
    fn number(&mut self) -> Result<f64> {
        let minus = self.take("-");
        if !minus {
            self.take("+");
        }
        let sign = if minus { -1.0 } else { 1.0 };
        for (word, value) in [("inf", f64::INFINITY), ("nan", f64::NAN)] {
            if self.rest.len() >= 3 && self.rest.is_char_boundary(3) && self.rest[..3].eq_ignore_ascii_case(word) {
                self.rest = &self.rest[3..];
                return Ok(sign * value);
            }
        }
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(byte) = bytes.get(end) {
            let exponent = matches!(byte, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
            if !(byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'e' | b'E') || exponent) {
                break;
            }
            end += 1;
        }
        let units = self.rest[end..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(self.rest.len(), |at| end + at);
        let duration = &self.rest[..self.rest[..units].find('x').unwrap_or(units)];
        if let Ok(span) = model::Duration::parse(duration)
            && duration.len() > end
        {
            self.rest = &self.rest[duration.len()..];
            return Ok(sign * span.as_millis() as f64 / 1000.0);
        }
        let text = self.rest[..end].replace('_', "");
        let value: f64 = text.parse().with_context(|| format!("no number: {:?}", self.rest))?;
        self.rest = &self.rest[end..];
        Ok(sign * value)
    }
}

/// A Go string, and how many bytes it takes.
pub(crate) fn quoted(text: &str) -> Result<(String, usize)> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).context("expected a quoted string")?;
    let (mut out, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if escaped => {
                match c {
                    'n' => out.push('\n'),
                    't' => out.push('\t'),
                    'r' => out.push('\r'),
                    c => out.push(c),
                }
                escaped = false;
            }
            '\\' if quote != '`' => escaped = true,
            c if c == quote => return Ok((out, at + 1)),
            c => out.push(c),
        }
    }
    bail!("unterminated string: {text:?}")
}

/// Labels at the beginning of a line, whether `@st` follows, and the rest.
pub(crate) fn labels(line: &str) -> Result<(Labels, bool, &str)> {
    let mut cursor = Cursor { rest: line };
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':' || c == '.';
    let name = cursor.while_in(word);
    let mut pairs = vec![("__name__".to_owned(), name.to_owned())];
    if cursor.take("{") {
        loop {
            cursor.blanks();
            if cursor.take("}") {
                break;
            }
            let quoted = cursor.rest.starts_with(['"', '\'']);
            let label = if quoted { cursor.quoted()? } else { cursor.while_in(word).to_owned() };
            cursor.blanks();
            if quoted && !cursor.rest.starts_with('=') {
                pairs.push(("__name__".to_owned(), label));
            } else {
                cursor.want("=")?;
                cursor.blanks();
                pairs.push((label, cursor.quoted()?));
            }
            cursor.blanks();
            if !cursor.take(",") {
                ensure!(cursor.rest.starts_with('}'), "expected a comma before {:?}", cursor.rest);
            }
        }
    } else {
        ensure!(!name.is_empty(), "no series: {line:?}");
    }
    let starts = cursor.take("@st");
    Ok((Labels::from_pairs(pairs), starts, cursor.rest))
}

/// The values of a line.
pub(crate) fn items(text: &str) -> Result<Vec<Item>> {
    let mut cursor = Cursor { rest: text };
    let mut out = Vec::new();
    loop {
        cursor.blanks();
        if cursor.rest.is_empty() {
            return Ok(out);
        }
        if cursor.take("_") {
            let times = if cursor.take("x") { count(&mut cursor)? } else { 1 };
            out.extend(std::iter::repeat_n(Item::Missing, times));
        } else if cursor.take("stale") {
            out.push(Item::Sample(Value::Float(stale_nan())));
        } else if cursor.rest.starts_with("{{") {
            histograms(&mut cursor, &mut out)?;
        } else {
            floats(&mut cursor, &mut out)?;
        }
        ensure!(cursor.rest.is_empty() || cursor.rest.starts_with([' ', '\t']), "bad values at {:?}", cursor.rest);
    }
}

fn count(cursor: &mut Cursor<'_>) -> Result<usize> {
    Ok(cursor.while_in(|c| c.is_ascii_digit()).parse()?)
}

fn floats(cursor: &mut Cursor<'_>, out: &mut Vec<Item>) -> Result<()> {
    let mut value = cursor.number()?;
    let step = if cursor.rest.starts_with(['+', '-']) { cursor.number()? } else { 0.0 };
    let more = if cursor.take("x") { count(cursor)? } else { 0 };
    for _ in 0..=more {
        out.push(Item::Sample(Value::Float(value)));
        value += step;
    }
    Ok(())
}

fn histograms(cursor: &mut Cursor<'_>, out: &mut Vec<Item>) -> Result<()> {
    let (first, hinted) = histogram(cursor)?;
    let sign = if cursor.take("+") {
        1.0
    } else if cursor.take("-") {
        -1.0
    } else {
        0.0
    };
    let step = if sign == 0.0 { None } else { Some(Histogram::from(&histogram(cursor)?.0)) };
    let more = if cursor.take("x") { count(cursor)? } else { 0 };
    let mut value = Histogram::from(&first);
    for place in 0..=more {
        let stored = Arc::new(FloatHistogram::from(&value));
        // The first keeps its own layout.
        let stored = if place == 0 { Arc::new(first.clone()) } else { stored };
        out.push(if hinted { Item::Hinted(stored) } else { Item::Sample(Value::Histogram(stored)) });
        if let Some(step) = &step {
            if sign > 0.0 {
                value.add(step)?
            } else {
                value.sub(step)?
            };
        }
    }
    Ok(())
}

fn histogram(cursor: &mut Cursor<'_>) -> Result<(FloatHistogram, bool)> {
    cursor.want("{{")?;
    let mut out = FloatHistogram::default();
    let (mut offset, mut negative_offset, mut hinted) = (0, 0, false);
    loop {
        cursor.blanks();
        if cursor.take("}}") {
            break;
        }
        let key = cursor.while_in(|c| c.is_ascii_lowercase() || c == '_');
        cursor.want(":")?;
        match key {
            "schema" => out.schema = cursor.number()? as i32,
            "sum" => out.sum = cursor.number()?,
            "count" => out.count = cursor.number()?,
            "z_bucket" => out.zero_count = cursor.number()?,
            "z_bucket_w" => out.zero_threshold = cursor.number()?,
            "offset" => offset = cursor.number()? as i32,
            "n_offset" => negative_offset = cursor.number()? as i32,
            "buckets" => out.positive = list(cursor)?,
            "n_buckets" => out.negative = list(cursor)?,
            "custom_values" => out.custom_bounds = list(cursor)?,
            "counter_reset_hint" => {
                hinted = true;
                match cursor.while_in(|c| c.is_ascii_lowercase() || c == '_') {
                    "unknown" => hinted = false,
                    "reset" => out.reset = Some(true),
                    "not_reset" => out.reset = Some(false),
                    "gauge" => out.gauge = true,
                    other => bail!("no hint: {other:?}"),
                }
            }
            other => bail!("no key of a histogram: {other:?}"),
        }
    }
    let spans = |offset, counts: &[f64]| match counts.len() {
        0 => Vec::new(),
        length => vec![Span { offset, length: length as u32 }],
    };
    out.positive_spans = spans(offset, &out.positive);
    out.negative_spans = spans(negative_offset, &out.negative);
    Ok((out, hinted))
}

fn list(cursor: &mut Cursor<'_>) -> Result<Vec<f64>> {
    cursor.want("[")?;
    let mut out = Vec::new();
    loop {
        cursor.blanks();
        if cursor.take("]") {
            return Ok(out);
        }
        out.push(cursor.number()?);
    }
}
