//! Quantiles, fractions and moments of one histogram.
//!
//! Inside an exponential bucket the observations are taken to be spread evenly over the logarithm; inside the zero
//! bucket and custom buckets evenly over the value.

use super::{Bucket, Histogram};
use crate::kernel::add;

/// What observations of NaN did to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NanObservations {
    /// None were seen.
    None,
    /// The result is NaN because of them.
    Result,
    /// The result is too high because of them.
    Skew,
}

impl Histogram {
    /// The value below which the share `q` of the observations lies.
    pub(crate) fn quantile(&self, q: f64) -> (f64, NanObservations) {
        let plain = |value| (value, NanObservations::None);
        if q < 0.0 {
            return plain(f64::NEG_INFINITY);
        }
        if q > 1.0 {
            return plain(f64::INFINITY);
        }
        if self.count == 0.0 || q.is_nan() {
            return plain(f64::NAN);
        }
        // From the nearer end. Observations of NaN are in no bucket but in the count, so that only the lower end
        // can be counted from when there may be some.
        let upward = self.sum.is_nan() || q < 0.5;
        let rank = if upward { q } else { 1.0 - q } * self.count;
        let buckets = self.buckets();
        let (bucket, count) = self.reach(&buckets, rank, upward);
        let count = count.min(self.count);
        if count < rank {
            let nan = (f64::NAN, NanObservations::Result);
            return if self.sum.is_nan() { nan } else { plain(bucket.upper) };
        }
        let mut bucket = self.clamped(bucket);
        if self.is_custom() {
            if bucket.lower == f64::NEG_INFINITY {
                if bucket.upper <= 0.0 {
                    return plain(bucket.upper);
                }
                bucket.lower = 0.0;
            } else if bucket.upper == f64::INFINITY {
                return plain(bucket.lower);
            }
        }
        let within = if upward { rank - (count - bucket.count) } else { count - rank };
        let all: f64 = buckets.iter().map(|bucket| bucket.count).sum();
        let skewed = self.sum.is_nan() && all < self.count;
        let value = self.inside(&bucket, within / bucket.count);
        (value, if skewed { NanObservations::Skew } else { NanObservations::None })
    }

    /// The bucket in which a running count reaches the rank, and that count.
    fn reach(&self, buckets: &[Bucket], rank: f64, upward: bool) -> (Bucket, f64) {
        let empty = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
        let (mut last, mut count) = (empty, 0.0);
        let mut step = |bucket: &Bucket| {
            last = *bucket;
            count += bucket.count;
            bucket.count != 0.0 && count >= rank
        };
        // The closure stops at the bucket that reaches the rank.
        let _ = if upward { buckets.iter().any(&mut step) } else { buckets.iter().rev().any(&mut step) };
        (last, count)
    }

    /// The zero bucket has one side only when all other buckets lie on that side.
    fn clamped(&self, mut bucket: Bucket) -> Bucket {
        if !self.is_custom() && bucket.lower < 0.0 && bucket.upper > 0.0 {
            if self.negative.is_empty() && !self.positive.is_empty() {
                bucket.lower = 0.0;
            } else if self.positive.is_empty() && !self.negative.is_empty() {
                bucket.upper = 0.0;
            }
        }
        bucket
    }

    fn inside(&self, bucket: &Bucket, fraction: f64) -> f64 {
        if self.is_custom() || bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            return bucket.lower + (bucket.upper - bucket.lower) * fraction;
        }
        let (lower, upper) = (bucket.lower.abs().log2(), bucket.upper.abs().log2());
        if bucket.lower > 0.0 {
            (lower + (upper - lower) * fraction).exp2()
        } else {
            -(upper + (lower - upper) * (1.0 - fraction)).exp2()
        }
    }

    /// The share of a bucket's observations that lie below `value`, which is inside of it.
    pub(super) fn share_below(&self, bucket: &Bucket, value: f64) -> f64 {
        if self.is_custom() || bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            return (value - bucket.lower) / (bucket.upper - bucket.lower);
        }
        let (lower, upper, at) = (bucket.lower.abs().log2(), bucket.upper.abs().log2(), value.abs().log2());
        if value > 0.0 { (at - lower) / (upper - lower) } else { 1.0 - (at - upper) / (lower - upper) }
    }

    /// The share of observations between two values; true when observations of NaN were left out.
    pub(crate) fn fraction(&self, lower: f64, upper: f64) -> (f64, bool) {
        if self.count == 0.0 || lower.is_nan() || upper.is_nan() {
            return (f64::NAN, false);
        }
        if lower >= upper {
            return (0.0, false);
        }
        let buckets = self.buckets();
        let in_buckets: f64 = buckets.iter().map(|bucket| bucket.count).sum();
        let left_out = self.sum.is_nan() && in_buckets < self.count;
        let count = if self.sum.is_nan() { in_buckets } else { self.count };
        let rank = |value: f64| self.rank_of(&buckets, value).unwrap_or(count).min(count);
        ((rank(upper) - rank(lower)) / self.count, left_out)
    }

    /// How many observations lie below `value`; none when it is beyond all buckets.
    fn rank_of(&self, buckets: &[Bucket], value: f64) -> Option<f64> {
        let mut below = 0.0;
        for bucket in buckets {
            let mut bucket = *bucket;
            // Custom buckets that hold zero are cut the same way.
            if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                if self.negative.is_empty() && !self.positive.is_empty() {
                    bucket.lower = 0.0;
                } else if self.positive.is_empty() && !self.negative.is_empty() {
                    bucket.upper = 0.0;
                }
            }
            if bucket.lower >= value {
                return Some(below);
            }
            if bucket.lower < value && bucket.upper > value {
                // A bucket without a lower end cannot be divided.
                let open = bucket.lower == f64::NEG_INFINITY;
                return Some(if open { bucket.count } else { below + bucket.count * self.share_below(&bucket, value) });
            }
            below += bucket.count;
        }
        None
    }

    /// The variance, each bucket represented by its middle.
    pub(crate) fn variance(&self) -> f64 {
        let mean = self.sum / self.count;
        let (mut total, mut rest) = (0.0, 0.0);
        for bucket in self.buckets().iter().filter(|bucket| bucket.count != 0.0) {
            let middle = if self.is_custom() {
                (bucket.upper + bucket.lower) / 2.0
            } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
                0.0
            } else {
                (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
            };
            let delta = middle - mean;
            (total, rest) = add(bucket.count * delta * delta, total, rest);
        }
        (total + rest) / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_fractions_are_inverse() {
        let histogram = Histogram {
            count: 12.0,
            sum: 100.0,
            zero_threshold: 0.001,
            zero_count: 2.0,
            positive: vec![(0, 4.0), (1, 6.0)],
            ..Histogram::default()
        };
        for q in [0.05, 0.3, 0.5, 0.75, 0.9] {
            let (value, nan) = histogram.quantile(q);
            assert_eq!(nan, NanObservations::None);
            assert!((histogram.fraction(f64::NEG_INFINITY, value).0 - q).abs() < 1e-12, "{q}");
        }
        assert_eq!(histogram.quantile(0.75).0, std::f64::consts::SQRT_2);
        assert_eq!(histogram.quantile(-1.0).0, f64::NEG_INFINITY);
        assert_eq!(histogram.quantile(2.0).0, f64::INFINITY);
    }
}
