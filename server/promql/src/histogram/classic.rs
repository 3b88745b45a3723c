//! Classic histograms: cumulative buckets told apart by the label `le`.

/// Counts that differ relatively by less are equal.
const TOLERANCE: f64 = 1e-12;

/// The upper bound of a bucket and how many observations are at most that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cumulative {
    pub(crate) bound: f64,
    pub(crate) count: f64,
}

/// Counts that decreased had to be lifted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Lifted {
    pub(crate) lowest: f64,
    pub(crate) highest: f64,
    pub(crate) difference: f64,
}

/// The quantile of cumulative buckets in any order, linear within a bucket. O(n log n).
pub(crate) fn quantile(q: f64, buckets: &mut Vec<Cumulative>) -> (f64, Option<Lifted>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&q) {
        return (if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    if !sorted(buckets) {
        return (f64::NAN, None);
    }
    let lifted = lift(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, None);
    }
    let mut rank = q * observations;
    let place = buckets[..last].partition_point(|bucket| bucket.count < rank);
    let bucket = buckets[place];
    if place == last {
        return (buckets[last - 1].bound, lifted);
    }
    if place == 0 && bucket.bound <= 0.0 {
        return (bucket.bound, lifted);
    }
    let (mut start, mut count) = (0.0, bucket.count);
    if let Some(before) = place.checked_sub(1).map(|before| buckets[before]) {
        start = before.bound;
        count -= before.count;
        rank -= before.count;
    }
    (start + (bucket.bound - start) * (rank / count), lifted)
}

/// The share of observations between two values.
pub(crate) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Cumulative>) -> f64 {
    if !sorted(buckets) {
        return f64::NAN;
    }
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank = |value: f64| {
        let mut start = if buckets[0].bound > 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let mut below = 0.0;
        for bucket in buckets.iter() {
            if start >= value {
                return below;
            }
            if bucket.bound > value {
                // A bucket without a lower end cannot be divided.
                let open = start == f64::NEG_INFINITY;
                let part = (bucket.count - below) * (value - start) / (bucket.bound - start);
                return if open { bucket.count } else { below + part }.min(count);
            }
            (start, below) = (bucket.bound, bucket.count);
        }
        count
    };
    (rank(upper) - rank(lower)) / count
}

/// Orders the buckets and merges those of equal bounds; false when the highest is not unlimited.
fn sorted(buckets: &mut Vec<Cumulative>) -> bool {
    buckets.sort_by(|a, b| a.bound.total_cmp(&b.bound));
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return false;
    }
    buckets.dedup_by(|later, kept| {
        let equal = later.bound == kept.bound;
        if equal {
            kept.count += later.count;
        }
        equal
    });
    true
}

/// Evens out differences that rounding made, then lifts counts that decrease.
fn lift(buckets: &mut [Cumulative]) -> Option<Lifted> {
    let mut lifted: Option<Lifted> = None;
    let mut before = buckets.first()?.count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if nearly(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            let all =
                lifted.get_or_insert(Lifted { lowest: f64::INFINITY, highest: f64::NEG_INFINITY, difference: 0.0 });
            all.lowest = all.lowest.min(bucket.bound);
            all.highest = all.highest.max(bucket.bound);
            all.difference = all.difference.max(before - bucket.count);
            bucket.count = before;
        } else {
            before = bucket.count;
        }
    }
    lifted
}

fn nearly(a: f64, b: f64) -> bool {
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Cumulative> {
        pairs.iter().map(|(bound, count)| Cumulative { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn quantiles_of_cumulative_buckets() {
        let inf = f64::INFINITY;
        for (q, pairs, want) in [
            (0.25, &[(inf, 4.0), (0.1, 1.0), (0.5, 3.0)][..], 0.1),
            (0.5, &[(0.1, 1.0), (0.5, 3.0), (inf, 4.0)], 0.1 + 0.4 * 0.5),
            (1.0, &[(0.1, 1.0), (0.5, 3.0), (inf, 4.0)], 0.5),
            (0.5, &[(-1.0, 3.0), (inf, 4.0)], -1.0),
            (0.5, &[(1.0, 1.0), (1.0, 1.0), (inf, 4.0)], 1.0),
        ] {
            assert_eq!(quantile(q, &mut buckets(pairs)).0, want, "{q} {pairs:?}");
        }
        assert!(quantile(0.5, &mut buckets(&[(1.0, 1.0)])).0.is_nan());
        assert!(quantile(0.5, &mut buckets(&[(inf, 1.0)])).0.is_nan());
        let lifted = quantile(0.5, &mut buckets(&[(1.0, 2.0), (2.0, 1.0), (inf, 4.0)])).1;
        assert_eq!(lifted, Some(Lifted { lowest: 2.0, highest: 2.0, difference: 1.0 }));
    }

    #[test]
    fn fractions_of_cumulative_buckets() {
        let set = || buckets(&[(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 8.0)]);
        assert_eq!(fraction(0.0, 1.5, &mut set()), 3.0 / 8.0);
        assert_eq!(fraction(1.0, f64::INFINITY, &mut set()), 6.0 / 8.0);
        assert_eq!(fraction(2.0, 1.0, &mut set()), 0.0);
    }
}
