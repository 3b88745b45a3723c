//! Native histograms as the query language computes with them.
//!
//! Truth: the native histogram specification of the Prometheus documentation and upstream's scripts. A value holds its
//! buckets as ascending (index, count) lists, so that arithmetic is merging; the stored form with spans is converted
//! at the border. Left out: how histograms are stored and exposed.

mod arithmetic;
pub(crate) mod classic;
mod quantile;
mod reset;
mod trim;

pub(crate) use arithmetic::Total;
pub use arithmetic::{Incompatible, Reconciled};
pub(crate) use quantile::NanObservations;

use model::{FloatHistogram, Span};
use std::{fmt, sync::Arc};

/// The schema of histograms with custom bounds.
pub const CUSTOM: i32 = -53;

/// What is known of a counter reset before this sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hint {
    /// Nothing.
    #[default]
    Unknown,
    /// The counter restarted.
    Reset,
    /// It did not.
    NotReset,
    /// It is no counter.
    Gauge,
}

/// Index and count of a bucket.
pub(crate) type Counts = Vec<(i32, f64)>;

/// A native histogram.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// What is known of a reset.
    pub hint: Hint,
    /// Resolution, or [`CUSTOM`].
    pub schema: i32,
    /// Half width of the zero bucket.
    pub zero_threshold: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// All observations.
    pub count: f64,
    /// Sum of the observations.
    pub sum: f64,
    pub(crate) positive: Counts,
    pub(crate) negative: Counts,
    pub(crate) custom: Arc<[f64]>,
}

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Lower bound.
    pub lower: f64,
    /// Upper bound.
    pub upper: f64,
    /// Whether the lower bound belongs to the bucket.
    pub lower_inclusive: bool,
    /// Whether the upper bound belongs to the bucket.
    pub upper_inclusive: bool,
    /// Observations.
    pub count: f64,
}

/// The upper bound of an exponential bucket: 2^(index * 2^-schema). The last finite bucket ends at the largest float.
pub(crate) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let (fraction, exponent) = if schema <= 0 {
        (1.0, i64::from(index) << schema.unsigned_abs().min(31))
    } else {
        let size = 1i64 << schema.min(31);
        let index = i64::from(index);
        ((index.rem_euclid(size) as f64 / size as f64).exp2(), index.div_euclid(size))
    };
    match exponent {
        1024 if fraction == 1.0 => f64::MAX,
        1024.. => f64::INFINITY,
        // Two factors, so that a subnormal bound is rounded once.
        ..-1022 => fraction * 2f64.powi(-1022) * 2f64.powi((exponent + 1022).max(-1100) as i32),
        _ => fraction * 2f64.powi(exponent as i32),
    }
}

impl Histogram {
    /// Whether the bounds are custom ones.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM
    }

    /// The upper bound of a positive bucket.
    pub(crate) fn bound(&self, index: i32) -> f64 {
        if !self.is_custom() {
            return exponential_bound(index, self.schema);
        }
        match usize::try_from(index) {
            Err(_) => f64::NEG_INFINITY,
            Ok(index) => self.custom.get(index).copied().unwrap_or(f64::INFINITY),
        }
    }

    pub(crate) fn positive_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (self.bound(index.saturating_sub(1)), self.bound(index));
        let lower_inclusive = lower < 0.0 && !self.is_custom() || self.is_custom() && lower == f64::NEG_INFINITY;
        Bucket { lower, upper, lower_inclusive, upper_inclusive: true, count }
    }

    pub(crate) fn negative_bucket(&self, (index, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (-self.bound(index), -self.bound(index.saturating_sub(1)));
        Bucket { lower, upper, lower_inclusive: true, upper_inclusive: false, count }
    }

    /// All buckets from the lowest, each cut at the zero bucket.
    pub fn buckets(&self) -> Vec<Bucket> {
        let width = self.zero_threshold;
        let negative = self.negative.iter().rev().map(|bucket| {
            let bucket = self.negative_bucket(*bucket);
            Bucket { upper: if bucket.upper > -width { -width } else { bucket.upper }, ..bucket }
        });
        let zero = (self.zero_count > 0.0).then_some(Bucket {
            lower: -width,
            upper: width,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        });
        let positive = self.positive.iter().map(|bucket| {
            let bucket = self.positive_bucket(*bucket);
            let cut = bucket.lower > 0.0 && bucket.lower < width;
            Bucket { lower: if cut { width } else { bucket.lower }, ..bucket }
        });
        negative.chain(zero).chain(positive).collect()
    }

    /// Drops empty buckets.
    pub fn compact(&mut self) {
        self.positive.retain(|(_, count)| *count != 0.0);
        self.negative.retain(|(_, count)| *count != 0.0);
    }

    /// Whether the data are equal, bit for bit; what is known of resets does not count.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let lists = |a: &Counts, b: &Counts| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && a.1.to_bits() == b.1.to_bits())
        };
        self.schema == other.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.bounds_match(other)
            && lists(&self.positive, &other.positive)
            && lists(&self.negative, &other.negative)
    }

    pub(crate) fn bounds_match(&self, other: &Self) -> bool {
        self.custom.len() == other.custom.len() && self.custom.iter().zip(&*other.custom).all(|(a, b)| a == b)
    }

    /// What one histogram weighs against the sample limit, in floats of 16 bytes.
    pub(crate) fn weight(&self) -> usize {
        (120 + 8 * (self.positive.len() + self.negative.len() + self.custom.len()) + 8) / 16
    }
}

impl From<&FloatHistogram> for Histogram {
    fn from(stored: &FloatHistogram) -> Self {
        let hint = match (stored.gauge, stored.reset) {
            (true, _) => Hint::Gauge,
            (_, Some(true)) => Hint::Reset,
            (_, Some(false)) => Hint::NotReset,
            (_, None) => Hint::Unknown,
        };
        Self {
            hint,
            schema: stored.schema,
            zero_threshold: stored.zero_threshold,
            zero_count: stored.zero_count,
            count: stored.count,
            sum: stored.sum,
            positive: counts(&stored.positive_spans, &stored.positive),
            negative: counts(&stored.negative_spans, &stored.negative),
            custom: Arc::from(stored.custom_bounds.as_slice()),
        }
    }
}

impl From<&Histogram> for FloatHistogram {
    fn from(histogram: &Histogram) -> Self {
        let (positive_spans, positive) = spans(&histogram.positive);
        let (negative_spans, negative) = spans(&histogram.negative);
        Self {
            integer: false,
            gauge: histogram.hint == Hint::Gauge,
            reset: match histogram.hint {
                Hint::Reset => Some(true),
                Hint::NotReset => Some(false),
                Hint::Unknown | Hint::Gauge => None,
            },
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            zero_count: histogram.zero_count,
            count: histogram.count,
            sum: histogram.sum,
            positive_spans,
            positive,
            negative_spans,
            negative,
            custom_bounds: histogram.custom.to_vec(),
        }
    }
}

/// Spans to indexes; a damaged layout ends where its counts or its indexes do.
fn counts(spans: &[Span], counts: &[f64]) -> Counts {
    let mut end = 0i64;
    let indexes = spans.iter().flat_map(move |span| {
        let start = end + i64::from(span.offset);
        end = start + i64::from(span.length);
        start..end
    });
    indexes.zip(counts).map_while(|(index, count)| Some((i32::try_from(index).ok()?, *count))).collect()
}

fn spans(counts: &Counts) -> (Vec<Span>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut end = 0;
    for (index, _) in counts {
        match spans.last_mut() {
            Some(span) if *index == end => span.length += 1,
            // Further apart than spans can say is further apart than floats can be.
            _ => spans.push(Span { offset: index.saturating_sub(end), length: 1 }),
        }
        end = index.saturating_add(1);
    }
    (spans, counts.iter().map(|(_, count)| *count).collect())
}

/// `{count:2, sum:3, [-2,-1):1, (1,2]:1}`, the text `count_values` labels with.
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = crate::notes::general;
        write!(f, "{{count:{}, sum:{}", number(self.count), number(self.sum))?;
        for bucket in self.buckets().into_iter().filter(|bucket| bucket.count != 0.0) {
            let open = if bucket.lower_inclusive { '[' } else { '(' };
            let close = if bucket.upper_inclusive { ']' } else { ')' };
            let (lower, upper) = (number(bucket.lower), number(bucket.upper));
            write!(f, ", {open}{lower},{upper}{close}:{}", number(bucket.count))?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_exponential_buckets() {
        for (index, schema, want) in [
            (0, 0, 1.0),
            (1, 0, 2.0),
            (-1, 0, 0.5),
            (1, 1, std::f64::consts::SQRT_2),
            (-1, 1, std::f64::consts::FRAC_1_SQRT_2),
            (1, -1, 4.0),
            (1024, 0, f64::MAX),
            (1025, 0, f64::INFINITY),
            (-1074, 0, f64::from_bits(1)),
        ] {
            assert_eq!(exponential_bound(index, schema), want, "{index} {schema}");
        }
    }

    #[test]
    fn spans_survive_both_ways() {
        let stored = FloatHistogram {
            positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
            positive: vec![1.0, 2.0, 3.0],
            reset: Some(false),
            ..FloatHistogram::default()
        };
        let histogram = Histogram::from(&stored);
        assert_eq!(histogram.positive, [(-2, 1.0), (-1, 2.0), (3, 3.0)]);
        assert_eq!(FloatHistogram::from(&histogram), stored);
    }

    #[test]
    fn the_text_lists_filled_buckets() {
        let histogram = Histogram {
            count: 4.0,
            sum: 1.5,
            zero_threshold: 0.5,
            zero_count: 1.0,
            positive: vec![(1, 2.0)],
            negative: vec![(1, 1.0)],
            ..Histogram::default()
        };
        assert_eq!(histogram.to_string(), "{count:4, sum:1.5, [-2,-1):1, [-0.5,0.5]:1, (1,2]:2}");
    }
}
