//! Native histograms made coarser until they fit the configuration. Pure.
//!
//! Halving the resolution merges two neighbours into one bucket. Source of truth: `native_histogram_bucket_limit` and
//! `native_histogram_min_bucket_factor` on upstream's configuration page, and the native histogram specification.

use model::{CUSTOM_SCHEMA, FloatHistogram, Span, Value};
use std::sync::Arc;

/// The coarsest and the finest exponential schema.
const SCHEMAS: (i32, i32) = (-4, 8);

/// What a job allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolution {
    /// 0 is off.
    buckets_max: u64,
    schema_max: i32,
}

impl Default for Resolution {
    fn default() -> Self {
        Self { buckets_max: 0, schema_max: SCHEMAS.1 }
    }
}

impl Resolution {
    /// `factor` is the growth from one bucket to the next, at least; 1 or less allows every resolution.
    pub(crate) fn new(buckets_max: u64, factor: f64) -> Self {
        let schema_max = if factor <= 1.0 { SCHEMAS.1 } else { schema(factor) };
        Self { buckets_max, schema_max }
    }

    /// Makes a histogram fit; false when it cannot. O(buckets) when something is to do.
    pub(crate) fn fit(self, value: &mut Value) -> bool {
        let Value::Histogram(histogram) = value else { return true };
        let over = |one: &FloatHistogram| {
            self.buckets_max > 0 && (one.positive.len() + one.negative.len()) as u64 > self.buckets_max
        };
        if histogram.schema == CUSTOM_SCHEMA {
            return !over(histogram);
        }
        if histogram.schema > self.schema_max {
            *histogram = Arc::new(coarser(histogram, self.schema_max));
        }
        while over(histogram) {
            if histogram.schema <= SCHEMAS.0 {
                return false;
            }
            *histogram = Arc::new(coarser(histogram, histogram.schema - 1));
        }
        true
    }
}

/// The finest schema whose buckets grow by `factor` at least.
fn schema(factor: f64) -> i32 {
    let floor = (-factor.log2().log2()).floor();
    (SCHEMAS.0..=SCHEMAS.1).rev().find(|schema| f64::from(*schema) <= floor).unwrap_or(SCHEMAS.0)
}

/// The histogram in a lower schema.
fn coarser(fine: &FloatHistogram, schema: i32) -> FloatHistogram {
    let shift = fine.schema.saturating_sub(schema).clamp(0, 31);
    let (positive_spans, positive) = merged(&fine.positive_spans, &fine.positive, shift);
    let (negative_spans, negative) = merged(&fine.negative_spans, &fine.negative, shift);
    FloatHistogram { schema, positive_spans, positive, negative_spans, negative, ..fine.clone() }
}

/// Buckets whose indices fall together after `shift` halvings become one.
fn merged(spans: &[Span], counts: &[f64], shift: i32) -> (Vec<Span>, Vec<f64>) {
    let (mut out_spans, mut out): (Vec<Span>, Vec<f64>) = (Vec::new(), Vec::new());
    let (mut index, mut last) = (0i32, None::<i32>);
    let mut counts = counts.iter();
    for span in spans {
        index = index.saturating_add(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            // The bucket with index i ends at the power i of the base, so that 1 and 2 become 1, not 0 and 1.
            let target = (index.saturating_sub(1) >> shift).saturating_add(1);
            match (last, out.last_mut(), out_spans.last_mut()) {
                (Some(last), Some(sum), _) if last == target => *sum += count,
                (Some(last), _, Some(run)) if target == last + 1 => {
                    run.length += 1;
                    out.push(*count);
                }
                _ => {
                    let offset = last.map_or(target, |last| target - last - 1);
                    out_spans.push(Span { offset, length: 1 });
                    out.push(*count);
                }
            }
            last = Some(target);
            index = index.saturating_add(1);
        }
    }
    (out_spans, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, spans: &[(i32, u32)], counts: &[f64]) -> FloatHistogram {
        let spans = spans.iter().map(|(offset, length)| Span { offset: *offset, length: *length }).collect();
        let count = counts.iter().sum();
        FloatHistogram {
            integer: true,
            schema,
            positive_spans: spans,
            positive: counts.to_vec(),
            count,
            ..Default::default()
        }
    }

    #[test]
    fn factors_choose_schemas_as_upstream() {
        for (factor, want) in [
            (65536.0, -4),
            (70000.0, -4),
            (256.0, -3),
            (16.0, -2),
            (4.0, -1),
            (2.0, 0),
            (1.4, 1),
            (1.1, 2),
            (1.09, 3),
            (1.04, 4),
            (1.02, 5),
            (1.01, 6),
            (1.005, 7),
            (1.002, 8),
            (1.0, 8),
            (0.0, 8),
            (f64::NAN, -4),
        ] {
            assert_eq!(Resolution::new(0, factor).schema_max, want, "{factor}");
        }
    }

    #[test]
    fn halving_merges_neighbours() {
        let fine = histogram(2, &[(-3, 3), (1, 2)], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        // Indices -3 -2 -1 1 2 become -1 -1 0 1 1.
        let half = coarser(&fine, 1);
        assert_eq!((half.positive_spans, half.positive), (vec![Span { offset: -1, length: 3 }], vec![3.0, 3.0, 9.0]));
        assert_eq!((half.schema, half.count), (1, 15.0));
        let apart = histogram(0, &[(0, 1), (5, 1)], &[1.0, 2.0]);
        let half = coarser(&apart, -1);
        assert_eq!(half.positive_spans, [Span { offset: 0, length: 1 }, Span { offset: 2, length: 1 }]);
        assert!(half.validate().is_ok());
    }

    #[test]
    fn a_histogram_is_made_to_fit_or_refused() {
        for (limit, factor, want) in [
            (0, 0.0, Some((2, 8))),
            (4, 0.0, Some((1, 4))),
            (3, 0.0, Some((0, 2))),
            (0, 4.0, Some((-1, 1))),
            (0, 2.0, Some((0, 2))),
        ] {
            let mut value = Value::Histogram(Arc::new(histogram(2, &[(1, 8)], &[1.0; 8])));
            let fits = Resolution::new(limit, factor).fit(&mut value);
            let Value::Histogram(made) = value else { panic!("still a histogram") };
            assert_eq!(fits.then_some((made.schema, made.positive.len())), want, "{limit} {factor}");
            assert!(made.validate().is_ok());
        }
        let mut far = Value::Histogram(Arc::new(histogram(-4, &[(0, 1), (9, 1)], &[1.0, 1.0])));
        assert!(!Resolution::new(1, 0.0).fit(&mut far), "two buckets at the coarsest schema");
        let custom = FloatHistogram { custom_bounds: vec![1.0, 2.0], ..histogram(CUSTOM_SCHEMA, &[(0, 3)], &[1.0; 3]) };
        assert!(!Resolution::new(2, 0.0).fit(&mut Value::Histogram(Arc::new(custom.clone()))));
        assert!(Resolution::new(3, 9.0).fit(&mut Value::Histogram(Arc::new(custom))));
    }
}
