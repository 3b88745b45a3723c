//! Classic histograms without a lock.

use crate::instruments::{Gauge, Instrument};
use exposition::MetricValue;
use prometheus_client::metrics::histogram;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Upstream's default bounds, for network requests in seconds.
pub const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// `count` bounds from `start` on, each `factor` times the one before.
pub fn exponential_buckets(start: f64, factor: f64, count: u16) -> Vec<f64> {
    histogram::exponential_buckets(start, factor, count).collect()
}

/// `count` bounds from `start` on, each `width` above the one before.
pub fn linear_buckets(start: f64, width: f64, count: u16) -> Vec<f64> {
    histogram::linear_buckets(start, width, count).collect()
}

/// Counts observations in buckets. Count and buckets always fit each other; the sum may be an observation behind.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bounds: Box<[f64]>,
    /// One for each bound and one for what is above all of them, not cumulative.
    counts: Box<[AtomicU64]>,
    sum: Gauge,
}

impl Histogram {
    /// A histogram with these upper bounds, in any order; NaN and infinite ones are left out.
    pub fn new(bounds: &[f64]) -> Self {
        let mut bounds: Vec<f64> = bounds.iter().copied().filter(|bound| bound.is_finite()).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(Inner { bounds: bounds.into(), counts, sum: Gauge::default() }))
    }

    /// Counts an observation. O(log buckets).
    pub fn observe(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        // NaN is below no bound and in no bucket but the last, as upstream counts it.
        let bucket = if value.is_nan() { self.0.bounds.len() } else { bucket };
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.add(value);
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Instrument for Histogram {
    fn value(&self) -> MetricValue {
        let mut count = 0u64;
        let mut add = |one: &AtomicU64| {
            count += one.load(Ordering::Relaxed);
            count as f64
        };
        let buckets = self.0.bounds.iter().zip(&self.0.counts).map(|(bound, count)| (*bound, add(count))).collect();
        let count = self.0.counts.last().map_or(0.0, add);
        let sum = self.0.sum.get();
        MetricValue::Histogram(Box::new(exposition::Histogram {
            count,
            sum,
            buckets,
            ..exposition::Histogram::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_fall_into_the_bucket_whose_bound_holds_them() {
        let histogram = Histogram::new(&[1.0, f64::INFINITY, 0.5, 1.0]);
        for value in [-2.0, 0.5, 0.75, 1.0, 9.0] {
            histogram.observe(value);
        }
        let MetricValue::Histogram(shown) = histogram.value() else { panic!("no histogram") };
        assert_eq!(shown.buckets, [(0.5, 2.0), (1.0, 4.0)]);
        assert_eq!((shown.count, shown.sum, histogram.count()), (5.0, 9.25, 5));
        assert_eq!(exponential_buckets(1.0, 2.0, 4), [1.0, 2.0, 4.0, 8.0]);
        assert_eq!(linear_buckets(1.0, 2.0, 3), [1.0, 3.0, 5.0]);
    }
}
