//! Whole families, as upstream's client libraries read and write them.

mod openmetrics;
mod protobuf;
mod rules;
mod text;

pub use openmetrics::{StrictError, parse_openmetrics};
pub use protobuf::{ProtobufError, parse_protobuf};
pub use text::{Names, TextError, parse_text, parse_text_with};

use model::{Exemplar, FloatHistogram, Labels, MetricType};

/// A named group of metrics of one type.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The name without a suffix for the parts of a metric; that of a counter ends in `_total` as its series does.
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
        Self::new(name, help, MetricType::Gauge).with(MetricValue::Gauge(value))
    }

    /// A counter of one value.
    pub fn counter(name: &str, help: &str, value: f64) -> Self {
        Self::new(name, help, MetricType::Counter).with(MetricValue::Counter { value, exemplar: None, start: None })
    }

    /// The family with one more metric, which has no labels.
    fn with(mut self, value: MetricValue) -> Self {
        self.metrics.push(Metric { labels: Labels::empty(), value, at: None });
        self
    }
}

/// One metric of a family; its labels have no name.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Labels without `__name__`, `le` and `quantile`. Empty values are kept if they were exposed.
    pub labels: Labels,
    /// What it holds.
    pub value: MetricValue,
    /// Exposed time in milliseconds.
    pub at: Option<i64>,
}

/// What a metric holds, by type; `start` is when it began to count, in milliseconds. Info and state sets are gauges.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the types' own")]
pub enum MetricValue {
    Counter { value: f64, exemplar: Option<Exemplar>, start: Option<i64> },
    Gauge(f64),
    Untyped(f64),
    Summary { count: f64, sum: f64, quantiles: Vec<(f64, f64)>, start: Option<i64> },
    Histogram(Box<Histogram>),
}

/// A histogram: classic, native or both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Observations.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// Upper bound and cumulative count, ascending.
    pub buckets: Vec<(f64, f64)>,
    /// Exemplars of the buckets, by their place in `buckets`, ascending.
    pub bucket_exemplars: Vec<(usize, Exemplar)>,
    /// The native histogram; its count and sum are those above.
    pub native: Option<FloatHistogram>,
    /// Exemplars of the native histogram.
    pub exemplars: Vec<Exemplar>,
    /// When it began to count, in milliseconds.
    pub start: Option<i64>,
}

#[cfg(test)]
mod tests;
