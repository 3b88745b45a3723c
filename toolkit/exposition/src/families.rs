//! Whole families, as upstream's client libraries read and write them.

use crate::scrape::{Entry, Parser};
use model::{Builder, Exemplar, Labels, METRIC_NAME, MetricType};
use std::collections::BTreeMap;

/// A named group of metrics of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name without a series suffix.
    pub name: String,
    /// HELP.
    pub help: String,
    /// TYPE.
    pub kind: MetricType,
    /// UNIT.
    pub unit: String,
    /// Its metrics.
    pub metrics: Vec<Metric>,
}

impl Family {
    /// A family without metrics.
    pub fn new(name: &str, help: &str, kind: MetricType) -> Self {
        Self { name: name.into(), help: help.into(), kind, unit: String::new(), metrics: Vec::new() }
    }

    /// A gauge of one value.
    pub fn gauge(name: &str, help: &str, value: f64) -> Self {
        let mut family = Self::new(name, help, MetricType::Gauge);
        family.metrics.push(Metric { labels: Labels::empty(), value: MetricValue::Gauge(value), at: None });
        family
    }

    /// A counter of one value.
    pub fn counter(name: &str, help: &str, value: f64) -> Self {
        let mut family = Self::new(name, help, MetricType::Counter);
        let value = MetricValue::Counter { value, exemplar: None, start: None };
        family.metrics.push(Metric { labels: Labels::empty(), value, at: None });
        family
    }
}

/// One metric of a family; its labels have no name.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Labels without `__name__`, `le` and `quantile`.
    pub labels: Labels,
    /// What it holds.
    pub value: MetricValue,
    /// Exposed time in milliseconds.
    pub at: Option<i64>,
}

/// What a metric holds, by type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the types' own")]
pub enum MetricValue {
    Counter { value: f64, exemplar: Option<Exemplar>, start: Option<i64> },
    Gauge(f64),
    Untyped(f64),
    Summary { count: f64, sum: f64, quantiles: Vec<(f64, f64)> },
    Histogram(Box<Histogram>),
}

/// A classic histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Upper bound and cumulative count, ascending.
    pub buckets: Vec<(f64, f64)>,
}

/// Why a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("text format parsing error in line {line}: {why}")]
pub struct TextError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub why: String,
}

/// Reads text 0.0.4 into families in order of first appearance.
///
/// # Errors
/// [`TextError`] with the line.
pub fn parse_text(body: &[u8]) -> Result<Vec<Family>, TextError> {
    let mut parser = Parser::new(body, crate::Format::Text004);
    let (mut families, mut places) = (Vec::<Family>::new(), BTreeMap::<String, usize>::new());
    let mut builder = Builder::default();
    loop {
        let line = parser.line();
        let fail = |why: String| TextError { line, why };
        let entry = parser.next().map_err(|error| fail(error.to_string()))?;
        let mut family = |name: &str| -> usize {
            *places.entry(name.to_owned()).or_insert_with(|| {
                families.push(Family::new(name, "", MetricType::Unknown));
                families.len() - 1
            })
        };
        match entry {
            None => break,
            Some(Entry::Help { name, text }) => {
                let at = family(&name);
                families[at].help = text;
            }
            Some(Entry::Type { name, kind }) => {
                let at = family(&name);
                if !families[at].metrics.is_empty() {
                    return Err(fail(format!(
                        "second TYPE line for metric name {name:?}, or TYPE reported after samples"
                    )));
                }
                families[at].kind = kind;
            }
            Some(Entry::Unit { .. } | Entry::Comment) => {}
            Some(Entry::Series { value, at, .. }) => {
                parser.labels(&mut builder);
                let labels = builder.build();
                let name = labels.metric_name().to_owned();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                    let base = name.strip_suffix(suffix)?;
                    let kind = families.get(*places.get(base)?)?.kind;
                    let fits = kind == MetricType::Histogram || kind == MetricType::Summary && *suffix != "_bucket";
                    fits.then(|| (base.to_owned(), *suffix))
                });
                let (base, suffix) = base.unwrap_or((name, ""));
                let place = *places.entry(base.clone()).or_insert_with(|| {
                    families.push(Family::new(&base, "", MetricType::Unknown));
                    families.len() - 1
                });
                add(&mut families[place], &labels, suffix, value, at).map_err(fail)?;
            }
        }
    }
    families.retain(|family| !family.metrics.is_empty());
    Ok(families)
}

/// Puts one sample where it belongs. O(metrics of the family) only when they come out of order.
fn add(family: &mut Family, labels: &Labels, suffix: &str, value: f64, at: Option<i64>) -> Result<(), String> {
    let mut rest = Builder::from(labels);
    rest.del(METRIC_NAME);
    let special = match (family.kind, suffix) {
        (MetricType::Histogram, "_bucket") => Some("le"),
        (MetricType::Summary, "") => Some("quantile"),
        _ => None,
    };
    let bound = match special {
        None => None,
        Some(label) => {
            let text = rest.get(label).to_owned();
            rest.del(label);
            Some(
                text.parse::<f64>()
                    .map_err(|_| format!("expected float as value for {label:?} label, got {text:?}"))?,
            )
        }
    };
    let labels = rest.build();
    let empty = match family.kind {
        MetricType::Counter => MetricValue::Counter { value, exemplar: None, start: None },
        MetricType::Gauge => MetricValue::Gauge(value),
        MetricType::Summary => MetricValue::Summary { count: 0.0, sum: 0.0, quantiles: Vec::new() },
        MetricType::Histogram => MetricValue::Histogram(Box::default()),
        _ => MetricValue::Untyped(value),
    };
    if !matches!(family.kind, MetricType::Summary | MetricType::Histogram) {
        family.metrics.push(Metric { labels, value: empty, at });
        return Ok(());
    }
    let last = family.metrics.len().checked_sub(1).filter(|last| family.metrics[*last].labels == labels);
    let place =
        last.or_else(|| family.metrics.iter().position(|metric| metric.labels == labels)).unwrap_or_else(|| {
            family.metrics.push(Metric { labels, value: empty, at });
            family.metrics.len() - 1
        });
    match (&mut family.metrics[place].value, suffix, bound) {
        (MetricValue::Summary { count, .. }, "_count", _) => *count = value,
        (MetricValue::Summary { sum, .. }, "_sum", _) => *sum = value,
        (MetricValue::Summary { quantiles, .. }, _, Some(quantile)) => quantiles.push((quantile, value)),
        (MetricValue::Histogram(h), "_count", _) => h.count = value,
        (MetricValue::Histogram(h), "_sum", _) => h.sum = value,
        (MetricValue::Histogram(h), _, Some(bound)) => h.buckets.push((bound, value)),
        _ => return Err(format!("sample of {} without le or a known suffix", family.name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_put_together() {
        let text = "# HELP h some \\\\ help\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 3\n\
                    h_sum{a=\"1\"} 1.5\nh_count{a=\"1\"} 3\n# TYPE c counter\nc 7\nuntyped{x=\"y\"} 1\n";
        let families = parse_text(text.as_bytes()).expect("valid");
        assert_eq!(families.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["h", "c", "untyped"]);
        assert_eq!(families[0].help, "some \\ help");
        let histogram = Histogram { count: 3.0, sum: 1.5, buckets: vec![(0.5, 2.0), (f64::INFINITY, 3.0)] };
        assert_eq!(families[0].metrics[0].value, MetricValue::Histogram(Box::new(histogram)));
        let mut out = Vec::new();
        crate::write(&families, crate::Format::Text004, crate::Escaping::AllowUtf8, &mut out);
        assert_eq!(parse_text(&out).expect("what was written is valid"), families);
    }

    #[test]
    fn the_line_of_a_mistake_is_named() {
        let error = parse_text(b"a 1\nb x\n").expect_err("must be refused");
        assert_eq!(error.line, 2);
    }
}
