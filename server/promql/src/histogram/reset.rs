//! Whether a counter restarted between two histograms.

use super::{
    Counts, Hint, Histogram,
    arithmetic::{common_bounds, reduced},
    exponential_bound,
};

impl Histogram {
    /// Whether a reset lies between `before` and this histogram. A hint decides; otherwise any count that shrank, a
    /// finer schema or a narrower zero bucket. O(buckets).
    pub(crate) fn resets_after(&self, before: &Self) -> bool {
        match self.hint {
            Hint::Reset => return true,
            Hint::NotReset => return false,
            Hint::Unknown | Hint::Gauge => {}
        }
        if self.count < before.count {
            return true;
        }
        if self.is_custom() {
            if !before.is_custom() {
                return true;
            }
            if !self.bounds_match(before) {
                let common = common_bounds(&self.custom, &before.custom);
                let (mut now, mut before) = (self.clone(), before.clone());
                now.rebound(&common);
                before.rebound(&common);
                return shrank(&now.positive, &before.positive);
            }
        }
        if self.schema > before.schema || self.zero_threshold < before.zero_threshold {
            return true;
        }
        if !self.is_custom() {
            let (zero, threshold) = before.zero_count_within(self.zero_threshold);
            if threshold != self.zero_threshold || self.zero_count < zero {
                return true;
            }
        }
        let shift = before.schema - self.schema;
        [(&self.positive, &before.positive), (&self.negative, &before.negative)].into_iter().any(|(now, before)| {
            if shift == 0 && self.zero_threshold == 0.0 {
                return shrank(now, before);
            }
            shrank(&self.beyond_zero(now), &self.beyond_zero(&reduced(before, shift)))
        })
    }

    /// The buckets that reach beyond the zero bucket.
    fn beyond_zero(&self, counts: &Counts) -> Counts {
        let outside = |(index, _): &&(i32, f64)| {
            self.is_custom()
                || self.zero_threshold == 0.0
                || exponential_bound(*index, self.schema) > self.zero_threshold
        };
        counts.iter().filter(outside).copied().collect()
    }
}

/// Whether a bucket of `before` is lost or has fewer observations.
fn shrank(now: &Counts, before: &Counts) -> bool {
    let mut now = now.iter().peekable();
    before.iter().any(|(index, count)| {
        while now.next_if(|(other, _)| other < index).is_some() {}
        match now.peek() {
            Some((other, have)) if other == index => have < count,
            _ => *count != 0.0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shrinking_parts_are_resets() {
        let base = Histogram { count: 6.0, positive: vec![(0, 1.0), (1, 5.0)], ..Histogram::default() };
        let with = |change: &dyn Fn(&mut Histogram)| {
            let mut now = Histogram { count: 9.0, ..base.clone() };
            change(&mut now);
            now.resets_after(&base)
        };
        assert!(!with(&|_| {}));
        assert!(with(&|now| now.count = 5.0));
        assert!(with(&|now| now.positive = vec![(0, 9.0)]));
        assert!(with(&|now| now.positive = vec![(0, 9.0), (1, 4.0)]));
        assert!(with(&|now| now.schema = 1));
        assert!(with(&|now| now.hint = Hint::Reset));
        assert!(!with(&|now| {
            now.hint = Hint::NotReset;
            now.positive.clear();
        }));
        // A coarser schema keeps all observations: (0.25,1] and (1,4].
        assert!(!with(&|now| {
            now.schema = -1;
            now.positive = vec![(0, 1.0), (1, 5.0)];
        }));
    }
}
