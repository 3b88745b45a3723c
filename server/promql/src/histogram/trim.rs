//! `h </ x` and `h >/ x`: the part of a histogram below or above a value.
//!
//! The count of a trimmed histogram is what its buckets keep. Its sum cannot be known, so that it is estimated anew
//! from the middle of what each bucket keeps; a trim that removes nothing leaves the histogram as it is.

use super::{Bucket, Histogram};
use crate::kernel::add;

impl Histogram {
    /// Keeps what lies above (`keep_above`) or below `cut`. O(buckets).
    pub(crate) fn trim(&mut self, cut: f64, keep_above: bool) {
        let (mut count, mut sum, mut rest, mut removed) = (0.0, 0.0, 0.0, false);
        let mut keep = |bucket: Bucket, histogram: &Self| {
            let (kept, middle) = histogram.kept(bucket, cut, keep_above);
            removed |= kept != bucket.count;
            count += kept;
            if kept != 0.0 {
                (sum, rest) = add(kept * middle, sum, rest);
            }
            kept
        };
        let width = self.zero_threshold;
        let positive = self.positive.iter().map(|pair| {
            let bucket = self.positive_bucket(*pair);
            let cut_off = bucket.lower > 0.0 && bucket.lower < width;
            (pair.0, keep(Bucket { lower: if cut_off { width } else { bucket.lower }, ..bucket }, self))
        });
        let positive: Vec<_> = positive.collect();
        let negative: Vec<_> = self
            .negative
            .iter()
            .map(|pair| {
                let bucket = self.negative_bucket(*pair);
                (pair.0, keep(Bucket { upper: bucket.upper.min(-width), ..bucket }, self))
            })
            .collect();
        let zero = if self.zero_count == 0.0 { 0.0 } else { keep(self.zero_bucket(), self) };
        if !removed {
            return;
        }
        (self.positive, self.negative, self.zero_count) = (positive, negative, zero);
        (self.count, self.sum) = (count, sum + rest);
        self.compact();
    }

    /// The zero bucket, one-sided when all other buckets lie on one side.
    fn zero_bucket(&self) -> Bucket {
        let one_sided = |mine: &[(i32, f64)], other: &[(i32, f64)]| mine.is_empty() && !other.is_empty();
        Bucket {
            lower: if one_sided(&self.negative, &self.positive) { 0.0 } else { -self.zero_threshold },
            upper: if one_sided(&self.positive, &self.negative) { 0.0 } else { self.zero_threshold },
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// How many observations a bucket keeps, and their middle.
    fn kept(&self, mut bucket: Bucket, cut: f64, keep_above: bool) -> (f64, f64) {
        let nothing = (0.0, 0.0);
        if cut.is_infinite() {
            let all = keep_above == (cut == f64::NEG_INFINITY);
            return if all { (bucket.count, self.middle(bucket.lower, bucket.upper)) } else { nothing };
        }
        if bucket.lower == f64::NEG_INFINITY && bucket.upper > 0.0 && bucket.upper < f64::INFINITY {
            // The lowest custom bucket begins at zero; below of it nothing is known.
            if cut < 0.0 {
                return nothing;
            }
            bucket.lower = 0.0;
        }
        let (lower, upper, count) = (bucket.lower, bucket.upper, bucket.count);
        if keep_above {
            return match () {
                () if lower == f64::NEG_INFINITY || cut >= upper => nothing,
                () if upper == f64::INFINITY => (count, cut.max(lower)),
                () if cut <= lower => (count, self.middle(lower, upper)),
                () => (count * (1.0 - self.share_below(&bucket, cut)), self.middle(cut, upper)),
            };
        }
        match () {
            () if upper == f64::INFINITY => nothing,
            () if lower == f64::NEG_INFINITY => (count, cut.min(upper)),
            () if cut <= lower => nothing,
            () if cut >= upper => (count, self.middle(lower, upper)),
            () => (count * self.share_below(&bucket, cut), self.middle(lower, cut)),
        }
    }

    fn middle(&self, lower: f64, upper: f64) -> f64 {
        if self.is_custom()
            || lower <= 0.0 && upper >= 0.0
            || lower.abs() <= self.zero_threshold && upper.abs() <= self.zero_threshold
        {
            return (lower + upper) / 2.0;
        }
        (lower * upper).sqrt().copysign(upper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_make_the_whole() {
        let whole = Histogram {
            count: 34.0,
            sum: 123.75,
            zero_threshold: 0.001,
            zero_count: 1.0,
            positive: vec![(0, 2.0), (1, 4.0), (2, 8.0), (3, 16.0)],
            negative: vec![(0, 1.0), (1, 2.0)],
            ..Histogram::default()
        };
        for cut in [-2.0, -0.7, 0.0, 0.0005, 1.3, 2.0, 7.0] {
            let (mut above, mut below) = (whole.clone(), whole.clone());
            above.trim(cut, true);
            below.trim(cut, false);
            assert!((above.count + below.count - 34.0).abs() < 1e-9, "{cut}");
            assert!((below.count / 34.0 - whole.fraction(f64::NEG_INFINITY, cut).0).abs() < 1e-9, "{cut}");
        }
        let mut all = whole.clone();
        all.trim(f64::INFINITY, false);
        assert_eq!(all.sum, 123.75);
    }
}
