//! Text 0.0.4 into families, as upstream's `expfmt` reads it for the push gateway and the textfile collector.
//!
//! Stricter than the server's reading: a last line must end, escapes must be known, metadata may not repeat. Error
//! texts are upstream's, since whoever pushes sees them.

use super::{Family, Histogram, Metric, MetricValue};
use crate::{
    float::parse_float,
    text::{quote, quote_byte},
};
use model::{Builder, Labels, METRIC_NAME, MetricType, is_legacy_label_name, is_legacy_metric_name};
use std::collections::{HashMap, HashSet};

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text format parsing error in line {line}: {why}")]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// Which names are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// Any UTF-8, quoted.
    #[default]
    Utf8,
    /// Only `[a-zA-Z_:][a-zA-Z0-9_:]*`, for labels without the colon.
    Legacy,
}

/// Reads text 0.0.4 into families in order of first appearance; those without metrics are left out. O(length).
///
/// # Errors
/// [`TextError`] with the line.
pub fn parse_text(body: &[u8]) -> Result<Vec<Family>, TextError> {
    parse_text_with(body, Names::Utf8)
}

/// As [`parse_text`], refusing names that `names` does not take.
///
/// # Errors
/// [`TextError`] with the line.
pub fn parse_text_with(body: &[u8], names: Names) -> Result<Vec<Family>, TextError> {
    let mut reader = Reader {
        body,
        at: 0,
        names,
        families: Vec::new(),
        places: HashMap::new(),
        metrics: HashMap::new(),
        labels: Builder::default(),
        names_seen: HashSet::new(),
    };
    let mut line = 0;
    loop {
        line += 1;
        match reader.line() {
            Ok(true) => {}
            Ok(false) => break,
            Err(why) => return Err(TextError { line, why }),
        }
    }
    Ok(reader.families.into_iter().map(|found| found.family).filter(|family| !family.metrics.is_empty()).collect())
}

/// A family and what was said of it.
struct Found {
    family: Family,
    helped: bool,
    typed: bool,
}

/// What part of a metric a series is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Whole,
    Sum,
    Count,
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    names: Names,
    families: Vec<Found>,
    places: HashMap<String, usize>,
    /// Summaries and histograms by family and labels, since their series may come in any order.
    metrics: HashMap<(usize, Labels), usize>,
    labels: Builder,
    /// Names of the labels, once there are so many that looking through them would cost more.
    names_seen: HashSet<String>,
}

/// Labels that are looked through one by one.
const FEW_LABELS: usize = 32;

type Step<T> = Result<T, String>;

const END: &str = "unexpected end of input stream";

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

impl Reader<'_> {
    /// The byte here; the text may not end yet.
    fn byte(&self) -> Step<u8> {
        self.body.get(self.at).copied().ok_or_else(|| END.into())
    }

    fn skip_blanks(&mut self) {
        while self.body.get(self.at).copied().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// Bytes up to one that `ends` them, which is there.
    fn until(&mut self, ends: impl Fn(u8) -> bool) -> Step<&[u8]> {
        let rest = self.body.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|byte| ends(*byte)).ok_or(END)?;
        self.at += length;
        Ok(&rest[..length])
    }

    /// Reads one line; false at the end of the text.
    fn line(&mut self) -> Step<bool> {
        self.skip_blanks();
        match self.body.get(self.at) {
            None => return Ok(false),
            Some(b'\n') => self.at += 1,
            Some(b'#') => {
                self.at += 1;
                self.comment()?;
                self.until(|byte| byte == b'\n')?;
                self.at += 1;
            }
            Some(_) => self.sample()?,
        }
        Ok(true)
    }

    /// Reads a comment up to its line feed.
    fn comment(&mut self) -> Step<()> {
        self.skip_blanks();
        let is_type = match self.until(|byte| is_blank(byte) || byte == b'\n')? {
            b"TYPE" => true,
            b"HELP" => false,
            _ => return Ok(()),
        };
        self.skip_blanks();
        if self.byte()? == b'\n' {
            return Ok(());
        }
        let name = self.name(b':', "metric")?;
        match self.byte()? {
            b'\n' => return Ok(()),
            byte if is_blank(byte) => {}
            _ => return Err("invalid metric name in comment".into()),
        }
        let (place, _) = self.family(&name)?;
        self.skip_blanks();
        if self.byte()? == b'\n' {
            return Ok(());
        }
        if is_type { self.read_type(place) } else { self.read_help(place) }
    }

    fn read_type(&mut self, place: usize) -> Step<()> {
        let found = &self.families[place];
        if found.typed {
            let name = quote(found.family.name.as_bytes());
            return Err(format!("second TYPE line for metric name {name}, or TYPE reported after samples"));
        }
        let word = self.until(|byte| byte == b'\n')?;
        let kind = match word.to_ascii_lowercase().as_slice() {
            b"counter" => MetricType::Counter,
            b"gauge" => MetricType::Gauge,
            b"summary" => MetricType::Summary,
            b"untyped" => MetricType::Unknown,
            b"histogram" => MetricType::Histogram,
            b"gauge_histogram" => MetricType::GaugeHistogram,
            _ => return Err(format!("unknown metric type {}", quote(word))),
        };
        self.families[place].typed = true;
        self.families[place].family.kind = kind;
        Ok(())
    }

    fn read_help(&mut self, place: usize) -> Step<()> {
        if self.families[place].helped {
            return Err(format!(
                "second HELP line for metric name {}",
                quote(self.families[place].family.name.as_bytes())
            ));
        }
        let mut text = Vec::new();
        while self.byte()? != b'\n' {
            self.escaped(&mut text)?;
        }
        self.families[place].helped = true;
        self.families[place].family.help = String::from_utf8_lossy(&text).into_owned();
        Ok(())
    }

    /// Takes one byte of a text, or an escape as what it stands for.
    fn escaped(&mut self, out: &mut Vec<u8>) -> Step<()> {
        let mut byte = self.byte()?;
        self.at += 1;
        if byte == b'\\' {
            byte = match self.byte()? {
                b'n' => b'\n',
                known @ (b'\\' | b'"') => known,
                other => return Err(format!("invalid escape sequence '\\{}'", char::from(other))),
            };
            self.at += 1;
        }
        out.push(byte);
        Ok(())
    }

    /// A bare name, with `extra` in its alphabet, or a quoted one; empty if there is none here.
    fn name(&mut self, extra: u8, what: &str) -> Step<Vec<u8>> {
        let mut name = Vec::new();
        if self.byte()? != b'"' {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == extra;
            if !self.byte()?.is_ascii_digit() {
                name.extend_from_slice(self.until(|byte| !good(byte))?);
            }
            return Ok(name);
        }
        self.at += 1;
        loop {
            match self.byte()? {
                b'"' => {
                    self.at += 1;
                    return Ok(name);
                }
                b'\n' => return Err(format!("{what} name {} contains unescaped new-line", quote(&name))),
                _ => self.escaped(&mut name)?,
            }
        }
    }

    /// The family a name belongs to, new or known, and what part of its metrics the name is.
    fn family(&mut self, name: &[u8]) -> Step<(usize, Part)> {
        let valid = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        let taken = valid.filter(|name| self.names == Names::Utf8 || is_legacy_metric_name(name));
        let Some(name) = taken else { return Err(format!("invalid metric name {}", quote(name))) };
        if let Some(place) = self.places.get(name) {
            return Ok((*place, Part::Whole));
        }
        for (suffix, part) in [("_count", Part::Count), ("_sum", Part::Sum), ("_bucket", Part::Whole)] {
            let base = name.strip_suffix(suffix).filter(|base| !base.is_empty());
            let Some(place) = base.and_then(|base| self.places.get(base)) else { continue };
            match self.families[*place].family.kind {
                MetricType::Summary if suffix != "_bucket" => return Ok((*place, part)),
                MetricType::Histogram | MetricType::GaugeHistogram => return Ok((*place, part)),
                _ => {}
            }
        }
        let family = Family::new(name, "", MetricType::Unknown);
        self.families.push(Found { family, helped: false, typed: false });
        self.places.insert(name.to_owned(), self.families.len() - 1);
        Ok((self.families.len() - 1, Part::Whole))
    }

    fn sample(&mut self) -> Step<()> {
        self.labels.clear();
        let mut place = None;
        if self.byte()? != b'{' {
            let name = self.name(b':', "metric")?;
            if name.is_empty() {
                return Err("invalid metric name".into());
            }
            place = Some(self.family(&name)?);
            self.skip_blanks();
        }
        let mut bound = f64::NAN;
        if self.byte()? == b'{' {
            self.at += 1;
            self.read_labels(&mut place, &mut bound)?;
            self.skip_blanks();
        }
        let (place, part) = place.ok_or("invalid metric name")?;
        self.families[place].typed = true;
        self.take_bound(self.families[place].family.kind, &mut bound)?;
        let word = self.until(|byte| is_blank(byte) || byte == b'\n')?;
        let value = parse_float(word).map_err(|_| format!("expected float as value, got {}", quote(word)))?;
        let at = if self.byte()? == b'\n' { None } else { Some(self.time()?) };
        self.at += 1;
        self.add(place, part, value, bound, at)
    }

    /// Reads labels up to and with the closing brace; a name without value is the metric's.
    fn read_labels(&mut self, place: &mut Option<(usize, Part)>, bound: &mut f64) -> Step<()> {
        let inside = place.is_none();
        loop {
            self.skip_blanks();
            if self.byte()? == b'}' {
                self.at += 1;
                return Ok(());
            }
            let name = self.name(b'_', "label")?;
            if name.is_empty() {
                return Err(format!("invalid label name for metric {}", self.shown(*place)));
            }
            self.skip_blanks();
            let next = self.byte()?;
            if next == b'=' {
                self.at += 1;
                self.read_label(name, *place, bound)?;
            } else if !inside {
                return Err(format!("expected '=' after label name, found {}", quote_byte(next)));
            } else if matches!(next, b',' | b'}') {
                *place = Some(self.family(&name)?);
            } else {
                return Err(format!("unexpected end of metric name {}", quote_byte(next)));
            }
            if self.byte()? == b',' {
                self.at += 1;
            }
        }
    }

    /// The quoted name of a family that may not be known yet.
    fn shown(&self, place: Option<(usize, Part)>) -> String {
        quote(place.map_or("", |(place, _)| &self.families[place].family.name).as_bytes())
    }

    /// Reads a label's value behind its equals sign.
    fn read_label(&mut self, name: Vec<u8>, place: Option<(usize, Part)>, bound: &mut f64) -> Step<()> {
        if name == METRIC_NAME.as_bytes() {
            return Err(format!("label name {METRIC_NAME:?} is reserved"));
        }
        let valid = std::str::from_utf8(&name).ok();
        let taken = valid.filter(|name| self.names == Names::Utf8 || is_legacy_label_name(name));
        let Some(name) = taken else { return Err(format!("invalid label name {}", quote(&name))) };
        let kind = place.map_or(MetricType::Unknown, |(place, _)| self.families[place].family.kind);
        let special = bound_label(kind) == Some(name);
        if !special && self.is_repeated(name) {
            return Err(format!("duplicate label names for metric {}", self.shown(place)));
        }
        self.skip_blanks();
        let quotation = self.byte()?;
        if quotation != b'"' {
            return Err(format!("expected '\"' at start of label value, found {}", quote_byte(quotation)));
        }
        self.at += 1;
        let mut value = Vec::new();
        loop {
            match self.byte()? {
                b'"' => break,
                b'\n' => return Err(format!("label value {} contains unescaped new-line", quote(&value))),
                _ => self.escaped(&mut value)?,
            }
        }
        self.at += 1;
        let Ok(text) = std::str::from_utf8(&value) else {
            return Err(format!("invalid label value {}", quote(&value)));
        };
        if special {
            *bound = parse_bound(name, &value)?;
        } else {
            self.labels.push(name, text);
        }
        self.skip_blanks();
        if matches!(self.byte()?, b',' | b'}') {
            return Ok(());
        }
        Err(format!("unexpected end of label value {}", quote(&value)))
    }

    /// Whether a label of that name was read before. O(1) with many labels.
    fn is_repeated(&mut self, name: &str) -> bool {
        let count = self.labels.pairs().len();
        if count < FEW_LABELS {
            return self.labels.pairs().any(|(have, _)| have == name);
        }
        if count == FEW_LABELS {
            self.names_seen.clear();
            self.names_seen.extend(self.labels.pairs().map(|(name, _)| name.to_owned()));
        }
        !self.names_seen.insert(name.to_owned())
    }

    /// Takes the bound off the labels where the family was named behind it.
    fn take_bound(&mut self, kind: MetricType, bound: &mut f64) -> Step<()> {
        let Some(label) = bound_label(kind) else { return Ok(()) };
        let found = self.labels.pairs().find(|(name, _)| *name == label);
        if let Some(parsed) = found.map(|(_, value)| parse_bound(label, value.as_bytes())) {
            *bound = parsed?;
            self.labels.del(label);
        }
        Ok(())
    }

    /// Reads a time up to the line feed.
    fn time(&mut self) -> Step<i64> {
        self.skip_blanks();
        let word = self.until(|byte| is_blank(byte) || byte == b'\n')?;
        let time = std::str::from_utf8(word).ok().and_then(|word| word.parse().ok());
        let time = time.ok_or_else(|| format!("expected integer as timestamp, got {}", quote(word)))?;
        match self.until(|byte| byte == b'\n')? {
            b"" => Ok(time),
            rest => Err(format!("spurious string after timestamp: {}", quote(rest))),
        }
    }

    /// Puts one sample where it belongs. O(labels).
    fn add(&mut self, place: usize, part: Part, value: f64, bound: f64, at: Option<i64>) -> Step<()> {
        let labels = self.labels.build_with_empty();
        let family = &mut self.families[place].family;
        let empty = match family.kind {
            MetricType::Counter => MetricValue::Counter { value, exemplar: None, start: None },
            MetricType::Gauge => MetricValue::Gauge(value),
            MetricType::Summary => MetricValue::Summary { count: 0.0, sum: 0.0, quantiles: Vec::new(), start: None },
            MetricType::Histogram | MetricType::GaugeHistogram => MetricValue::Histogram(Box::default()),
            _ => MetricValue::Untyped(value),
        };
        if !matches!(empty, MetricValue::Summary { .. } | MetricValue::Histogram(_)) {
            family.metrics.push(Metric { labels, value: empty, at });
            return Ok(());
        }
        let i = *self.metrics.entry((place, labels)).or_insert_with_key(|(_, labels)| {
            family.metrics.push(Metric { labels: labels.clone(), value: empty, at: None });
            family.metrics.len() - 1
        });
        let metric = &mut family.metrics[i];
        metric.at = at.or(metric.at);
        match &mut metric.value {
            MetricValue::Summary { count, sum, quantiles, .. } => match part {
                // What Go's conversion makes of a negative number.
                Part::Count if value < 0.0 => *count = (value as i64) as u64 as f64,
                Part::Count => *count = value as u64 as f64,
                Part::Sum => *sum = value,
                Part::Whole if bound.is_nan() => {}
                Part::Whole => quantiles.push((bound, value)),
            },
            MetricValue::Histogram(histogram) => {
                add_to_histogram(histogram, part, value, bound)
                    .map_err(|what| format!("negative {what} for histogram {}", quote(family.name.as_bytes())))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The label that is no part of a metric's identity.
fn bound_label(kind: MetricType) -> Option<&'static str> {
    match kind {
        MetricType::Summary => Some("quantile"),
        MetricType::Histogram | MetricType::GaugeHistogram => Some("le"),
        _ => None,
    }
}

fn parse_bound(label: &str, value: &[u8]) -> Step<f64> {
    parse_float(value).map_err(|_| format!("expected float as value for '{label}' label, got {}", quote(value)))
}

/// The error names what may not be negative.
fn add_to_histogram(histogram: &mut Histogram, part: Part, value: f64, bound: f64) -> Result<(), &'static str> {
    match part {
        Part::Count if value < 0.0 => return Err("count"),
        Part::Count => histogram.count = value,
        Part::Sum => histogram.sum = value,
        Part::Whole if bound.is_nan() => {}
        Part::Whole if value < 0.0 => return Err("bucket population"),
        Part::Whole => histogram.buckets.push((bound, value)),
    }
    Ok(())
}
