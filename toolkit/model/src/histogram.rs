//! Whether a native histogram is one: the checks that upstream makes before it stores a histogram, with its texts.
//!
//! Source: `Validate` of upstream's `model/histogram`, and the native histogram specification of its documentation.
//! What histograms do with each other belongs to the query engine.

use crate::{FloatHistogram, Span};
use std::{fmt, ops::RangeInclusive};

/// The schemas with exponential buckets.
pub const EXPONENTIAL_SCHEMAS: RangeInclusive<i32> = -4..=8;
/// The schema with custom buckets.
pub const CUSTOM_SCHEMA: i32 = -53;

/// Above this a count of integers does not fit into a float exactly, and sums are compared loosely.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Which buckets are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistogramSide {
    /// Those above zero.
    Positive,
    /// Those below zero.
    Negative,
    /// Those of [`CUSTOM_SCHEMA`].
    Custom,
}

impl fmt::Display for HistogramSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positive => "positive side",
            Self::Negative => "negative side",
            Self::Custom => "custom buckets",
        })
    }
}

/// Why a histogram is refused; the texts are upstream's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are the numbers in the texts")]
pub enum HistogramError {
    /// Neither exponential nor custom.
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom \
         buckets, got schema {0}"
    )]
    Schema(i32),
    /// A span begins before the one in front of it ends.
    #[error("{side}: span number {number} with offset {offset}: histogram has a span whose offset is negative")]
    SpanOffset { side: HistogramSide, number: usize, offset: i32 },
    /// Spans and buckets do not fit together.
    #[error(
        "{side}: spans need {need} buckets, have {have} buckets: histogram spans specify different number of buckets \
         than provided"
    )]
    SpanBuckets { side: HistogramSide, need: u64, have: usize },
    /// Fewer than no observations in a bucket.
    #[error(
        "{side}: bucket number {number} has observation count of {count}: histogram has a bucket whose observation count \
         is negative"
    )]
    BucketCount { side: HistogramSide, number: usize, count: String },
    /// NaN observations are counted, but lie in no bucket.
    #[error(
        "{found:.0} observations found in buckets, but the Count field is {count:.0}: histogram's observation count \
         should be at least the number of observations found in the buckets"
    )]
    CountTooSmall { found: f64, count: f64 },
    /// Without NaN observations buckets and count agree.
    #[error(
        "{found:.0} observations found in buckets, but the Count field is {count:.0}: histogram's observation count \
         should equal the number of observations found in the buckets (in absence of NaN)"
    )]
    CountMismatch { found: f64, count: f64 },
    /// A bound is no number.
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    CustomNaN,
    /// Bounds out of order.
    #[error(
        "custom buckets: previous bound is {} and current is {}: histogram custom bounds must be in strictly \
         increasing order", fixed(*previous), fixed(*current)
    )]
    CustomOrder { previous: f64, current: f64 },
    /// The last bound is written though it goes without saying.
    #[error("custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite")]
    CustomInfinite,
    /// Buckets behind the last bound.
    #[error(
        "custom buckets: only {bounds} custom bounds defined which is insufficient to cover total span length of \
         {length}: histogram custom bounds are too few"
    )]
    CustomTooFew { bounds: usize, length: i64 },
    /// Custom buckets have no zero bucket.
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    /// Custom buckets have no zero bucket.
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    /// Custom buckets have one side.
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    /// Custom buckets have one side.
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    /// Bounds that nothing would use.
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialBounds,
}

impl FloatHistogram {
    /// Checks that it is well formed, in upstream's order. Of an integer histogram the count has to agree with the
    /// buckets; of a float histogram it need not, because sums of floats are not exact. O(spans + buckets).
    ///
    /// # Errors
    /// [`HistogramError`], the first that applies.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.schema == CUSTOM_SCHEMA {
            self.validate_custom()?;
        } else if EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            check_spans(HistogramSide::Positive, &self.positive_spans, self.positive.len())?;
            check_spans(HistogramSide::Negative, &self.negative_spans, self.negative.len())?;
            self.check_buckets(HistogramSide::Negative, &self.negative)?;
            if !self.custom_bounds.is_empty() {
                return Err(HistogramError::ExponentialBounds);
            }
        } else {
            return Err(HistogramError::Schema(self.schema));
        }
        self.check_buckets(HistogramSide::Positive, &self.positive)?;
        if self.integer { self.validate_count() } else { Ok(()) }
    }

    fn validate_custom(&self) -> Result<(), HistogramError> {
        check_bounds(&self.custom_bounds)?;
        // Even the first span may not begin before the first bucket.
        check_offsets(HistogramSide::Custom, &self.positive_spans, 0)?;
        check_lengths(HistogramSide::Custom, &self.positive_spans, self.positive.len())?;
        let length: i64 = self.positive_spans.iter().map(|span| i64::from(span.length) + i64::from(span.offset)).sum();
        let bounds = self.custom_bounds.len();
        if i64::try_from(bounds).unwrap_or(i64::MAX) + 1 < length {
            return Err(HistogramError::CustomTooFew { bounds, length });
        }
        for (wrong, error) in [
            (self.zero_count != 0.0, HistogramError::CustomZeroCount),
            (self.zero_threshold != 0.0, HistogramError::CustomZeroThreshold),
            (!self.negative_spans.is_empty(), HistogramError::CustomNegativeSpans),
            (!self.negative.is_empty(), HistogramError::CustomNegativeBuckets),
        ] {
            if wrong {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Custom buckets are the positive side of their histogram, and errors say so.
    fn check_buckets(&self, side: HistogramSide, buckets: &[f64]) -> Result<(), HistogramError> {
        let wrong = buckets.iter().enumerate().find(|(_, count)| **count < 0.0);
        wrong.map_or(Ok(()), |(at, count)| {
            let count = if self.integer { format!("{count:.0}") } else { general(*count) };
            Err(HistogramError::BucketCount { side, number: at + 1, count })
        })
    }

    fn validate_count(&self) -> Result<(), HistogramError> {
        let buckets = self.positive.len() + self.negative.len() + 1;
        let found = self.zero_count + self.negative.iter().sum::<f64>() + self.positive.iter().sum::<f64>();
        let count = self.count;
        let slack = if found.max(count) < EXACT_MAX { 0.0 } else { found.max(count) * f64::EPSILON * buckets as f64 };
        if self.sum.is_nan() && found - count > slack {
            return Err(HistogramError::CountTooSmall { found, count });
        }
        if !self.sum.is_nan() && (found - count).abs() > slack {
            return Err(HistogramError::CountMismatch { found, count });
        }
        Ok(())
    }
}

fn check_spans(side: HistogramSide, spans: &[Span], buckets: usize) -> Result<(), HistogramError> {
    check_offsets(side, spans, 1)?;
    check_lengths(side, spans, buckets)
}

/// From span `from` on no offset may be negative; what stands before has its index there.
fn check_offsets(side: HistogramSide, spans: &[Span], from: usize) -> Result<(), HistogramError> {
    let wrong = spans.iter().enumerate().skip(from).find(|(_, span)| span.offset < 0);
    wrong.map_or(Ok(()), |(at, span)| Err(HistogramError::SpanOffset { side, number: at + 1, offset: span.offset }))
}

fn check_lengths(side: HistogramSide, spans: &[Span], have: usize) -> Result<(), HistogramError> {
    let need: u64 = spans.iter().map(|span| u64::from(span.length)).sum();
    if need == have as u64 { Ok(()) } else { Err(HistogramError::SpanBuckets { side, need, have }) }
}

fn check_bounds(bounds: &[f64]) -> Result<(), HistogramError> {
    for (at, current) in bounds.iter().enumerate() {
        if current.is_nan() {
            return Err(HistogramError::CustomNaN);
        }
        if at > 0 && *current <= bounds[at - 1] {
            return Err(HistogramError::CustomOrder { previous: bounds[at - 1], current: *current });
        }
    }
    if bounds.last() == Some(&f64::INFINITY) { Err(HistogramError::CustomInfinite) } else { Ok(()) }
}

/// Go's `%f`.
fn fixed(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.into() } else { format!("{value:.6}") }
}

/// Go's `%v` of a float: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
fn general(value: f64) -> String {
    if value.is_infinite() {
        return fixed(value);
    }
    let size = value.abs();
    if size == 0.0 || (1e-4..1e6).contains(&size) {
        return value.to_string();
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or_default();
            format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        None => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(offset: i32, length: u32) -> Span {
        Span { offset, length }
    }

    /// Two positive buckets with a gap, one negative one, and the zero bucket.
    fn exponential() -> FloatHistogram {
        FloatHistogram {
            integer: true,
            schema: 3,
            zero_threshold: 1e-128,
            zero_count: 1.0,
            count: 11.0,
            sum: 2.5,
            positive_spans: vec![span(-5, 1), span(2, 1)],
            positive: vec![2.0, 3.0],
            negative_spans: vec![span(7, 1)],
            negative: vec![5.0],
            ..FloatHistogram::default()
        }
    }

    fn custom() -> FloatHistogram {
        FloatHistogram {
            integer: true,
            schema: CUSTOM_SCHEMA,
            count: 5.0,
            sum: 2.5,
            positive_spans: vec![span(0, 1), span(1, 1)],
            positive: vec![2.0, 3.0],
            custom_bounds: vec![0.5, 1.0],
            ..FloatHistogram::default()
        }
    }

    /// Asserts the text after `change`; an empty one when the histogram stays valid.
    #[track_caller]
    fn check(mut histogram: FloatHistogram, change: impl Fn(&mut FloatHistogram), text: &str) {
        change(&mut histogram);
        let have = histogram.validate().map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(have, text);
    }

    #[test]
    fn well_formed_histograms_pass() {
        check(exponential(), |_| (), "");
        check(custom(), |_| (), "");
        check(FloatHistogram::default(), |_| (), "");
        for schema in EXPONENTIAL_SCHEMAS {
            check(exponential(), |h| h.schema = schema, "");
        }
        check(custom(), |h| h.custom_bounds = vec![f64::NEG_INFINITY, 1.0], "");
        check(custom(), |h| h.custom_bounds = vec![0.5, 1.0, 2.0, 3.0], "");
    }

    #[test]
    fn schemas() {
        let text = |schema| {
            format!(
                "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for \
                 custom buckets, got schema {schema}"
            )
        };
        for schema in [-5, 9, 52, -52, -54] {
            check(exponential(), |h| h.schema = schema, &text(schema));
        }
    }

    #[test]
    fn spans() {
        let offset = "histogram has a span whose offset is negative";
        let lengths = "histogram spans specify different number of buckets than provided";
        check(
            exponential(),
            |h| h.positive_spans[1].offset = -1,
            &format!("positive side: span number 2 with offset -1: {offset}"),
        );
        check(
            exponential(),
            |h| h.negative_spans.push(span(-3, 0)),
            &format!("negative side: span number 2 with offset -3: {offset}"),
        );
        check(
            exponential(),
            |h| h.positive_spans[0].length = u32::MAX,
            &format!("positive side: spans need 4294967296 buckets, have 2 buckets: {lengths}"),
        );
        check(
            exponential(),
            |h| h.negative.clear(),
            &format!("negative side: spans need 1 buckets, have 0 buckets: {lengths}"),
        );
        check(
            custom(),
            |h| h.positive_spans[0].offset = -1,
            &format!("custom buckets: span number 1 with offset -1: {offset}"),
        );
        check(
            custom(),
            |h| h.positive.push(0.0),
            &format!("custom buckets: spans need 2 buckets, have 3 buckets: {lengths}"),
        );
    }

    #[test]
    fn counts() {
        let negative = "histogram has a bucket whose observation count is negative";
        check(
            exponential(),
            |h| h.positive[1] = -1_234_567.0,
            &format!("positive side: bucket number 2 has observation count of -1234567: {negative}"),
        );
        for (count, text) in
            [(-1_234_567.0, "-1.234567e+06"), (-0.5, "-0.5"), (-1e-7, "-1e-07"), (-100_000.0, "-100000")]
        {
            check(
                exponential(),
                |h| (h.integer, h.negative[0]) = (false, count),
                &format!("negative side: bucket number 1 has observation count of {text}: {negative}"),
            );
        }
        check(
            exponential(),
            |h| h.count = 10.0,
            "11 observations found in buckets, but the Count field is 10: histogram's observation count should equal \
             the number of observations found in the buckets (in absence of NaN)",
        );
        check(
            exponential(),
            |h| (h.count, h.sum) = (10.0, f64::NAN),
            "11 observations found in buckets, but the Count field is 10: histogram's observation count should be at \
             least the number of observations found in the buckets",
        );
        check(exponential(), |h| (h.count, h.sum) = (12.0, f64::NAN), "");
        check(exponential(), |h| (h.count, h.integer) = (0.5, false), "");
        // Such counts are rounded on their way into a float, each on its own.
        let large = |h: &mut FloatHistogram| {
            h.positive = vec![9_007_199_254_740_993_u64 as f64, 3.0];
            h.count = 9_007_199_254_741_003_u64 as f64;
        };
        check(exponential(), large, "");
    }

    #[test]
    fn custom_buckets() {
        check(
            custom(),
            |h| h.custom_bounds = vec![1.0, 0.5],
            "custom buckets: previous bound is 1.000000 and current is 0.500000: histogram custom bounds must be in \
             strictly increasing order",
        );
        check(
            custom(),
            |h| h.custom_bounds = vec![f64::NEG_INFINITY, f64::NEG_INFINITY],
            "custom buckets: previous bound is -Inf and current is -Inf: histogram custom bounds must be in strictly \
             increasing order",
        );
        check(
            custom(),
            |h| h.custom_bounds.push(f64::INFINITY),
            "custom buckets: last +Inf bound must not be explicitly defined: histogram custom bounds must be finite",
        );
        check(custom(), |h| h.custom_bounds[0] = f64::NAN, "custom buckets: histogram custom bounds must not be NaN");
        check(
            custom(),
            |h| h.positive_spans[1].offset = 2,
            "custom buckets: only 2 custom bounds defined which is insufficient to cover total span length of 4: \
             histogram custom bounds are too few",
        );
        check(custom(), |h| h.zero_count = 1.0, "custom buckets: must have zero count of 0");
        check(custom(), |h| h.zero_threshold = 1.0, "custom buckets: must have zero threshold of 0");
        check(custom(), |h| h.negative_spans = vec![span(0, 0)], "custom buckets: must not have negative spans");
        check(custom(), |h| h.negative = vec![0.0], "custom buckets: must not have negative buckets");
        check(
            exponential(),
            |h| h.custom_bounds = vec![1.0],
            "histogram with exponential schema must not have custom bounds",
        );
    }
}
