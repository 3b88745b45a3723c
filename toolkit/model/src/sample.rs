//! Every kind of sample: float, native histogram, stale marker, exemplar, start timestamp, metadata.

use crate::Labels;
use std::sync::Arc;

/// Milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// Bits of the NaN that says "this series ended here".
pub const STALE_NAN: u64 = 0x7ff0_0000_0000_0002;

/// The stale marker as a value.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN)
}

/// Whether `value` is the stale marker, bit for bit.
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN
}

/// What one sample holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A float, stale marker included.
    Float(f64),
    /// A native histogram; integer histograms are marked by `integer`.
    Histogram(Arc<FloatHistogram>),
}

/// One sample of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it was taken.
    pub at: Timestamp,
    /// When the counter behind it started, if known.
    pub start: Option<Timestamp>,
    /// What was measured.
    pub value: Value,
}

/// A run of consecutive native histogram buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Buckets skipped since the previous span; for the first span, the index of its first bucket.
    pub offset: i32,
    /// Buckets in the span.
    pub length: u32,
}

/// A native histogram with absolute bucket counts.
///
/// Schemas -4..=8 are exponential (bucket i ends at 2^(i * 2^-schema)); -53 has `custom_bounds`. Source: the native
/// histogram specification of the Prometheus documentation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FloatHistogram {
    /// Whether the exposed counts were integers.
    pub integer: bool,
    /// Whether it may go down, so that rate() of it makes no sense.
    pub gauge: bool,
    /// Whether the counter restarted since the sample before, if that is known; means nothing for a gauge.
    pub reset: Option<bool>,
    /// Resolution.
    pub schema: i32,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of the observations; the stale marker here ends the series.
    pub sum: f64,
    /// Runs of the positive buckets.
    pub positive_spans: Vec<Span>,
    /// Counts of the positive buckets.
    pub positive: Vec<f64>,
    /// Runs of the negative buckets.
    pub negative_spans: Vec<Span>,
    /// Counts of the negative buckets.
    pub negative: Vec<f64>,
    /// Upper bounds of custom buckets, +Inf left out.
    pub custom_bounds: Vec<f64>,
}

/// A reference from a sample to the trace behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Usually a trace id.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// When it was observed, if exposed.
    pub at: Option<Timestamp>,
}

/// What kind of family a series belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricType {
    /// Only goes up, or restarts from zero.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
    /// A histogram that goes up and down.
    GaugeHistogram,
    /// Quantiles, sum and count.
    Summary,
    /// Constant 1 with descriptive labels.
    Info,
    /// One series per state.
    StateSet,
    /// Nothing is known.
    #[default]
    Unknown,
}

const TYPES: [MetricType; 8] = [
    MetricType::Counter,
    MetricType::Gauge,
    MetricType::Histogram,
    MetricType::GaugeHistogram,
    MetricType::Summary,
    MetricType::Info,
    MetricType::StateSet,
    MetricType::Unknown,
];

impl MetricType {
    /// The type of a word of OpenMetrics and the API.
    pub fn parse(word: &str) -> Option<Self> {
        TYPES.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The word OpenMetrics and the API use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }
}

/// What a family says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// TYPE.
    pub kind: MetricType,
    /// HELP.
    pub help: String,
    /// UNIT.
    pub unit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_nan_is_stale() {
        assert!(is_stale(stale_nan()) && stale_nan().is_nan());
        for value in [f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001), -stale_nan(), 0.0, f64::INFINITY] {
            assert!(!is_stale(value), "{:x}", value.to_bits());
        }
    }

    #[test]
    fn words_of_types() {
        for kind in TYPES {
            assert_eq!(MetricType::parse(kind.as_str()), Some(kind));
        }
        assert_eq!((MetricType::parse("untyped"), MetricType::parse("Counter")), (None, None));
    }
}
