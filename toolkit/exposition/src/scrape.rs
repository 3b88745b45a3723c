//! A streaming, zero-copy reader of text 0.0.4, text 1.0.0 and OpenMetrics, as upstream's server reads them.
//!
//! It is as lax as upstream: metric interleaving, counter signs and suffix rules are not enforced. Nothing is allocated
//! per series but what escapes demand; memory is bounded by the longest line, which is the body's.

use crate::Format;
use model::{Builder, Exemplar, Labels, METRIC_NAME, MetricType, Timestamp};

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}, at byte {at}")]
pub struct ParseError {
    /// Offset in the body.
    pub at: usize,
    /// What is wrong there.
    pub why: String,
}

/// One line that says something.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<'a> {
    /// A sample; its labels are asked for apart, since a known series needs none.
    Series {
        /// The text of the series, byte for byte: a key for caches.
        raw: &'a [u8],
        /// The value.
        value: f64,
        /// Exposed time in milliseconds.
        at: Option<i64>,
    },
    /// HELP
    Help {
        /// Of which family.
        name: String,
        /// The text, escapes resolved.
        text: String,
    },
    /// TYPE
    Type {
        /// Of which family.
        name: String,
        /// The type.
        kind: MetricType,
    },
    /// UNIT
    Unit {
        /// Of which family.
        name: String,
        /// The unit.
        unit: String,
    },
    /// Any other comment.
    Comment,
}

/// A reader over one body.
#[derive(Debug)]
pub struct Parser<'a> {
    body: &'a [u8],
    at: usize,
    line: usize,
    openmetrics: bool,
    ended: bool,
    kind: MetricType,
    raw: &'a [u8],
    exemplar: Option<Exemplar>,
}

type Step<T> = Result<T, String>;

impl<'a> Parser<'a> {
    /// Starts at the first byte.
    pub fn new(body: &'a [u8], format: Format) -> Self {
        let openmetrics = format.is_openmetrics();
        Self { body, at: 0, line: 0, openmetrics, ended: false, kind: MetricType::Unknown, raw: b"", exemplar: None }
    }

    /// The number of the line read next, from 1.
    pub fn line(&self) -> usize {
        self.line + 1
    }

    /// The next entry, or `None` at the end. O(length of the line).
    ///
    /// # Errors
    /// [`ParseError`]; the rest of the body is not worth reading then.
    #[allow(clippy::should_implement_trait, reason = "a fallible step that lends from the body")]
    pub fn next(&mut self) -> Result<Option<Entry<'a>>, ParseError> {
        loop {
            let start = self.at;
            if start >= self.body.len() {
                // An empty body is a target without series, not a torn one.
                let missing = self.openmetrics && !self.ended && !self.body.is_empty();
                return if missing { Err(self.fail(start, "data does not end with # EOF")) } else { Ok(None) };
            }
            if self.ended {
                return Err(self.fail(start, "unexpected data after # EOF"));
            }
            let rest = &self.body[start..];
            let end = memchr::memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            self.at = start + line.len() + 1;
            self.line += 1;
            if end.is_none() && line != b"# EOF" {
                return Err(self.fail(start, "unexpected end of input: the last line must end with a newline"));
            }
            let entry = if line.first() == Some(&b'#') { self.comment(line) } else { self.sample(line) };
            match entry {
                Ok(Some(entry)) => return Ok(Some(entry)),
                Ok(None) => {}
                Err(why) => return Err(self.fail(start, &why)),
            }
        }
    }

    fn fail(&self, at: usize, why: &str) -> ParseError {
        ParseError { at, why: why.to_owned() }
    }

    fn comment(&mut self, line: &'a [u8]) -> Step<Option<Entry<'a>>> {
        let text = std::str::from_utf8(line).map_err(|_| "invalid UTF-8 in a comment")?;
        if self.openmetrics && text == "# EOF" {
            self.ended = true;
            return Ok(None);
        }
        let blanks = |c: char| if self.openmetrics { c == ' ' } else { c == ' ' || c == '\t' };
        let body = text[1..].trim_start_matches(blanks);
        let (word, rest) = body.split_once(blanks).unwrap_or((body, ""));
        if !matches!(word, "HELP" | "TYPE" | "UNIT") || word == "UNIT" && !self.openmetrics {
            return if self.openmetrics { Err(format!("invalid comment {text:?}")) } else { Ok(Some(Entry::Comment)) };
        }
        let rest = if self.openmetrics { rest } else { rest.trim_start_matches(blanks) };
        let (name, rest) = family_name(rest, blanks)?;
        match word {
            "HELP" => Ok(Some(Entry::Help { name, text: unescape(rest, self.openmetrics) })),
            "TYPE" => {
                let kind = type_of(rest.trim_matches(blanks), self.openmetrics)?;
                self.kind = kind;
                Ok(Some(Entry::Type { name, kind }))
            }
            _ => {
                if !rest.is_empty() && !name.ends_with(&format!("_{rest}")) {
                    return Err(format!("unit {rest:?} is not a suffix of metric {name:?}"));
                }
                Ok(Some(Entry::Unit { name, unit: rest.to_owned() }))
            }
        }
    }

    fn sample(&mut self, line: &'a [u8]) -> Step<Option<Entry<'a>>> {
        if line.iter().all(|byte| matches!(byte, b' ' | b'\t')) {
            return if self.openmetrics { Err("blank line".into()) } else { Ok(None) };
        }
        let text = std::str::from_utf8(line).map_err(|_| "invalid UTF-8")?;
        let text = if self.openmetrics { text } else { text.trim_start_matches([' ', '\t']) };
        let length = series_length(text)?;
        let (series, tail) = text.split_at(length);
        self.raw = series.as_bytes();
        let (tail, exemplar) = match tail.split_once(" # ") {
            Some((tail, exemplar)) if self.openmetrics => (tail, Some(parse_exemplar(exemplar)?)),
            _ => (tail, None),
        };
        self.exemplar = exemplar;
        let mut words = tail.split([' ', '\t']).filter(|word| !word.is_empty());
        if self.openmetrics
            && (!tail.starts_with(' ') || tail.contains("  ") || tail.ends_with(' ') || tail.contains('\t'))
        {
            return Err("values are separated by single spaces".into());
        }
        let value = parse_float(words.next().ok_or("expected a value after the series")?)?;
        let at = words.next().map(|word| self.time(word)).transpose()?;
        if let Some(word) = words.next() {
            return Err(format!("unexpected {word:?} after the timestamp"));
        }
        Ok(Some(Entry::Series { raw: self.raw, value, at }))
    }

    fn time(&self, word: &str) -> Step<i64> {
        if !self.openmetrics {
            let digits = word.bytes().all(|byte| byte.is_ascii_digit());
            return digits.then(|| word.parse().ok()).flatten().ok_or_else(|| format!("invalid timestamp {word:?}"));
        }
        let seconds = parse_float(word)?;
        let ms = seconds * 1000.0;
        if !ms.is_finite() || ms.abs() > 9.2e18 {
            return Err(format!("invalid timestamp {word:?}"));
        }
        Ok(ms as i64)
    }

    /// The labels of the series just read, name included; `le` and `quantile` in canonical form.
    pub fn labels(&self, labels: &mut Builder) {
        labels.clear();
        let canonical = match self.kind {
            MetricType::Histogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        };
        // The series was checked when its line was read.
        let text = std::str::from_utf8(self.raw).unwrap_or_default();
        let _ = walk(text, &mut |name, value| {
            if name == canonical
                && let Some(float) = parse_float(value).ok().filter(|f| f.is_finite())
            {
                let mut out = Vec::new();
                crate::write_float(float, &mut out);
                let mut text = String::from_utf8_lossy(&out).into_owned();
                if !text.contains(['.', 'e', 'N', 'I']) {
                    text.push_str(".0");
                }
                labels.set(name, &text);
            } else {
                labels.set(name, value);
            }
        });
    }

    /// The exemplar of the series just read.
    pub fn exemplar(&self) -> Option<Exemplar> {
        self.exemplar.clone()
    }
}

fn type_of(word: &str, openmetrics: bool) -> Step<MetricType> {
    Ok(match word {
        "counter" => MetricType::Counter,
        "gauge" => MetricType::Gauge,
        "histogram" => MetricType::Histogram,
        "summary" => MetricType::Summary,
        "untyped" if !openmetrics => MetricType::Unknown,
        "unknown" if openmetrics => MetricType::Unknown,
        "gaugehistogram" if openmetrics => MetricType::GaugeHistogram,
        "info" if openmetrics => MetricType::Info,
        "stateset" if openmetrics => MetricType::StateSet,
        _ => return Err(format!("invalid metric type {word:?}")),
    })
}

/// The name at the start of a HELP, TYPE or UNIT line, quoted or bare, and what follows it.
fn family_name(text: &str, blanks: impl Fn(char) -> bool) -> Step<(String, &str)> {
    if text.starts_with('"') {
        let end = quoted_end(text)?;
        return Ok((unescape(&text[1..end - 1], true), text[end..].strip_prefix(' ').unwrap_or(&text[end..])));
    }
    let (name, rest) = text.split_once(blanks).unwrap_or((text, ""));
    if !model::is_legacy_metric_name(name) {
        return Err(format!("invalid metric name {name:?}"));
    }
    Ok((name.to_owned(), rest))
}

/// The index behind the closing quote of a text that begins with one.
fn quoted_end(text: &str) -> Step<usize> {
    let mut escaped = false;
    for (i, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(i + 1),
            _ => {}
        }
    }
    Err("unclosed quote".into())
}

fn unescape(text: &str, quotes: bool) -> String {
    if !text.contains('\\') {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('"')) if quotes => out.push('"'),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    out
}

/// The length of the series text, which is checked on the way.
fn series_length(text: &str) -> Step<usize> {
    walk(text, &mut |_, _| {})
}

/// Walks a series text and shows each name and value, the metric name as `__name__`. Returns its length.
fn walk(text: &str, show: &mut dyn FnMut(&str, &str)) -> Step<usize> {
    let name_end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let name = &text[..name_end];
    let mut named = !name.is_empty();
    if named {
        if !model::is_legacy_metric_name(name) {
            return Err(format!("invalid metric name {name:?}"));
        }
        show(METRIC_NAME, name);
    }
    let skip = |at: usize| at + text[at..].len() - text[at..].trim_start_matches([' ', '\t']).len();
    let open = skip(name_end);
    if !text[open..].starts_with('{') {
        return if named { Ok(name_end) } else { Err("expected a metric name".into()) };
    }
    let mut at = skip(open + 1);
    loop {
        let rest = &text[at..];
        if rest.starts_with('}') {
            return if named { Ok(at + 1) } else { Err("metric name not set".into()) };
        }
        let (label, end) = if rest.starts_with('"') {
            let end = quoted_end(rest)?;
            (unescape(&rest[1..end - 1], true), at + end)
        } else {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            if !model::is_legacy_label_name(&rest[..end]) {
                return Err(format!("invalid label name {:?}", &rest[..end]));
            }
            (rest[..end].to_owned(), at + end)
        };
        at = skip(end);
        if let Some(after) = text[at..].strip_prefix('=') {
            at = skip(text.len() - after.len());
            if !text[at..].starts_with('"') {
                return Err("expected a quoted label value".into());
            }
            let end = quoted_end(&text[at..])?;
            show(&label, &unescape(&text[at + 1..at + end - 1], true));
            at = skip(at + end);
        } else if rest.starts_with('"') && !named {
            named = true;
            show(METRIC_NAME, &label);
        } else {
            return Err("expected \"=\" after a label name".into());
        }
        match text.as_bytes().get(at) {
            Some(b',') => at = skip(at + 1),
            Some(b'}') => {}
            _ => return Err("expected \",\" or \"}\" after a label".into()),
        }
    }
}

/// Go's ParseFloat without hexadecimal exponents and underscores; every NaN becomes the same NaN.
fn parse_float(word: &str) -> Step<f64> {
    let bad = || format!("invalid number {word:?}");
    let lower = word.to_ascii_lowercase();
    match lower.trim_start_matches(['+', '-']) {
        "nan" if !lower.starts_with(['+', '-']) => return Ok(f64::from_bits(0x7ff8_0000_0000_0001)),
        "inf" | "infinity" => return Ok(if lower.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ => {}
    }
    if !word.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-')) {
        return Err(bad());
    }
    fast_float2::parse(word).map_err(|_| bad())
}

fn parse_exemplar(text: &str) -> Step<Exemplar> {
    let mut pairs = Vec::new();
    // A name in front makes the label set a series text.
    let series = format!("x{text}");
    let length = walk(&series, &mut |name, value| pairs.push((name.to_owned(), value.to_owned())))?;
    pairs.remove(0);
    let mut words = series[length..].split(' ').filter(|word| !word.is_empty());
    let value = parse_float(words.next().ok_or("expected a value in the exemplar")?)?;
    let at = words.next().map(parse_float).transpose()?.map(|seconds| Timestamp((seconds * 1000.0) as i64));
    if words.next().is_some() {
        return Err("unexpected text after the exemplar".into());
    }
    Ok(Exemplar { labels: Labels::from_pairs(pairs), value, at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str, format: Format) -> Result<Vec<(String, f64, Option<i64>)>, ParseError> {
        let mut parser = Parser::new(body.as_bytes(), format);
        let (mut labels, mut all) = (Builder::default(), Vec::new());
        while let Some(entry) = parser.next()? {
            if let Entry::Series { value, at, .. } = entry {
                parser.labels(&mut labels);
                all.push((labels.build().to_string(), value, at));
            }
        }
        Ok(all)
    }

    #[test]
    fn text_is_read() {
        let body = "# TYPE h histogram\nh_bucket{le=\"1\",} 2\n\n go{a = \"b\\\"\\n\" , } 1e3\t 15\n{\"a.b\",\"l.x\"=\"v\"} 1\n# note\n";
        assert_eq!(
            read(body, Format::Text004).expect("valid"),
            [
                ("h_bucket{le=\"1.0\"}".into(), 2.0, None),
                ("go{a=\"b\\\"\\n\"}".into(), 1000.0, Some(15)),
                ("{\"a.b\", \"l.x\"=\"v\"}".into(), 1.0, None)
            ]
        );
    }

    #[test]
    fn openmetrics_is_read() {
        let body = "# TYPE a counter\n# UNIT a_seconds seconds\na_total{x=\"1\"} 2 1.5 # {id=\"7\"} 0.3 1\n# EOF\n";
        assert_eq!(read(body, Format::OpenMetrics100).expect("valid"), [("a_total{x=\"1\"}".into(), 2.0, Some(1500))]);
        assert_eq!(read("", Format::OpenMetrics100), Ok(Vec::new()));
        for bad in ["a 1\n", "a 1\n# EOF\nb 1\n", "\n# EOF\n", "# note\n# EOF\n", "a  1\n# EOF\n", "a 1 NaN\n# EOF\n"] {
            assert!(read(bad, Format::OpenMetrics100).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_text_refuses() {
        for bad in [
            "a 1",
            "a\n",
            "a 1 -5\n",
            "a 1\r\n",
            "a{b=\"c\" 1\n",
            "1a 1\n",
            "a{1=\"b\"} 1\n",
            "a 0x1p3\n",
            "a 1_0\n",
            "{a=\"b\"} 1\n",
        ] {
            assert!(read(bad, Format::Text004).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn hostile_bodies_end_in_an_error_or_an_answer() {
        let body = "# HELP a b\\n\n# TYPE a counter\na{b=\"c\\\\\",d=\"é\"} 1 2 # {x=\"y\"} 1\n# EOF\n".as_bytes();
        for format in [Format::Text004, Format::OpenMetrics100] {
            for end in 0..=body.len() {
                for (place, byte) in [(end / 2, 0), (end / 3, 0xff), (end, b'"'), (end, b'{')] {
                    let mut bytes = body[..end].to_vec();
                    bytes.insert(place, byte);
                    let mut parser = Parser::new(&bytes, format);
                    while let Ok(Some(_)) = parser.next() {
                        parser.labels(&mut Builder::default());
                    }
                }
            }
        }
        assert!(read(&"a".repeat(10_000_000), Format::Text004).is_err());
    }
}
