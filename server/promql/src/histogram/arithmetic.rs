//! Sums, differences and products of histograms, plain and compensated.

use super::{Counts, Hint, Histogram, exponential_bound};
use crate::kernel::add;
use std::sync::Arc;

/// Exponential and custom buckets cannot be put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("histograms with exponential and with custom buckets cannot be combined")]
pub struct Incompatible;

/// What had to be settled to put two histograms together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// One came after a counter reset, the other did not.
    pub hints: bool,
    /// Their custom bounds differed; the common ones were kept.
    pub bounds: bool,
}

impl Histogram {
    /// Adds another histogram at the coarser of both layouts. O(buckets).
    ///
    /// # Errors
    /// [`Incompatible`].
    pub fn add(&mut self, other: &Self) -> Result<Reconciled, Incompatible> {
        self.combine(None, other, 1.0)
    }

    /// Subtracts another histogram at the coarser of both layouts.
    ///
    /// # Errors
    /// [`Incompatible`].
    pub fn sub(&mut self, other: &Self) -> Result<Reconciled, Incompatible> {
        self.combine(None, other, -1.0)
    }

    /// Multiplies all counts and the sum.
    pub fn scale(&mut self, factor: f64) {
        self.each(|value| value * factor);
        if factor < 0.0 {
            self.hint = Hint::Gauge;
        }
    }

    /// Divides all counts and the sum; a division by zero leaves no regular bucket.
    pub fn divide(&mut self, by: f64) {
        self.each(|value| value / by);
        if by == 0.0 {
            self.positive.clear();
            self.negative.clear();
        }
        if by < 0.0 {
            self.hint = Hint::Gauge;
        }
    }

    fn each(&mut self, apply: impl Fn(f64) -> f64) {
        let buckets = self.positive.iter_mut().chain(&mut self.negative).map(|(_, count)| count);
        for value in [&mut self.zero_count, &mut self.count, &mut self.sum].into_iter().chain(buckets) {
            *value = apply(*value);
        }
    }

    /// Lowers the resolution; a schema that is not lower changes nothing.
    pub(crate) fn reduce(&mut self, schema: i32) {
        if schema < self.schema && !self.is_custom() {
            self.positive = reduced(&self.positive, self.schema - schema);
            self.negative = reduced(&self.negative, self.schema - schema);
            self.schema = schema;
        }
    }

    /// The hint of a sum; true when the two contradict each other.
    fn settle_hint(&mut self, other: Hint) -> bool {
        let (hint, clash) = match (self.hint, other) {
            (a, b) if a == b => (a, false),
            (Hint::Gauge, _) | (_, Hint::Gauge) => (Hint::Gauge, false),
            (Hint::Unknown, _) | (_, Hint::Unknown) => (Hint::Unknown, false),
            _ => (Hint::Unknown, true),
        };
        self.hint = hint;
        clash
    }

    fn combine(&mut self, mut rest: Option<&mut Self>, other: &Self, sign: f64) -> Result<Reconciled, Incompatible> {
        if self.is_custom() != other.is_custom() {
            return Err(Incompatible);
        }
        let hints = self.settle_hint(other.hint);
        let bounds = self.is_custom() && !self.bounds_match(other);
        let mut aligned = None;
        if bounds {
            let common = common_bounds(&self.custom, &other.custom);
            self.rebound(&common);
            if let Some(rest) = rest.as_deref_mut() {
                rest.rebound(&common);
            }
            aligned.insert(other.clone()).rebound(&common);
        } else if !self.is_custom() && (self.schema != other.schema || self.zero_threshold != other.zero_threshold) {
            let other = aligned.insert(other.clone());
            self.align(rest.as_deref_mut(), other);
        }
        let other = aligned.as_ref().unwrap_or(other);
        let (zero, count, sum) = (sign * other.zero_count, sign * other.count, sign * other.sum);
        if let Some(rest) = rest {
            for (total, rest, value) in [
                (&mut self.zero_count, &mut rest.zero_count, zero),
                (&mut self.count, &mut rest.count, count),
                (&mut self.sum, &mut rest.sum, sum),
            ] {
                (*total, *rest) = add(value, *total, *rest);
            }
            merge(&mut self.positive, Some(&mut rest.positive), &other.positive, sign);
            merge(&mut self.negative, Some(&mut rest.negative), &other.negative, sign);
        } else {
            self.zero_count += zero;
            self.count += count;
            self.sum += sum;
            merge(&mut self.positive, None, &other.positive, sign);
            merge(&mut self.negative, None, &other.negative, sign);
        }
        Ok(Reconciled { hints, bounds })
    }

    /// Brings two exponential histograms to one schema and one zero bucket.
    fn align(&mut self, rest: Option<&mut Self>, other: &mut Self) {
        let schema = self.schema.min(other.schema);
        self.reduce(schema);
        other.reduce(schema);
        // Each round widens one of both, and a wider zero bucket swallows a bucket: the loop ends.
        while self.zero_threshold != other.zero_threshold {
            if self.zero_threshold > other.zero_threshold {
                other.widen(self.zero_threshold);
            } else {
                self.widen(other.zero_threshold);
            }
            if self.zero_threshold.is_nan() || other.zero_threshold.is_nan() {
                break;
            }
        }
        if let Some(rest) = rest {
            rest.reduce(schema);
            let lists = [(&mut rest.positive, &self.positive), (&mut rest.negative, &self.negative)];
            for (rest, total) in lists {
                let old = std::mem::take(rest);
                *rest = total.iter().map(|(index, _)| (*index, count_at(&old, *index))).collect();
            }
        }
    }

    /// Sets the zero threshold to at least `threshold`, further out when that would cut a filled bucket.
    fn widen(&mut self, threshold: f64) {
        let (count, threshold) = self.zero_count_within(threshold);
        let schema = self.schema;
        self.zero_count = count;
        self.zero_threshold = threshold;
        let outside = |(index, count): &(i32, f64)| {
            *count != 0.0 && exponential_bound(index.saturating_sub(1), schema) >= threshold
        };
        self.positive.retain(outside);
        self.negative.retain(outside);
    }

    /// The zero bucket's count were its threshold at least `threshold`, and the threshold that takes.
    pub(super) fn zero_count_within(&self, mut threshold: f64) -> (f64, f64) {
        if threshold == self.zero_threshold {
            return (self.zero_count, threshold);
        }
        'again: loop {
            let mut count = self.zero_count;
            for (side, restart) in [(&self.positive, false), (&self.negative, true)] {
                for (index, filled) in side {
                    if exponential_bound(index.saturating_sub(1), self.schema) >= threshold {
                        break;
                    }
                    count += filled;
                    let upper = exponential_bound(*index, self.schema);
                    if upper > threshold {
                        if *filled != 0.0 {
                            threshold = upper;
                            if restart {
                                continue 'again;
                            }
                        }
                        break;
                    }
                }
            }
            return (count, threshold);
        }
    }

    /// Moves the counts to a subset of the custom bounds.
    pub(super) fn rebound(&mut self, bounds: &Arc<[f64]>) {
        let mut moved: Counts = Vec::new();
        for (index, count) in &self.positive {
            let upper = self.bound(*index);
            let place = bounds.partition_point(|bound| *bound < upper) as i32;
            match moved.last_mut() {
                Some((last, sum)) if *last == place => *sum += count,
                _ => moved.push((place, *count)),
            }
        }
        self.positive = moved;
        self.custom = Arc::clone(bounds);
    }

    /// Whether a count or the sum has left the range of floats.
    fn overflows(&self) -> bool {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, count)| *count);
        [self.zero_count, self.count, self.sum].into_iter().chain(buckets).any(f64::is_infinite)
    }
}

fn count_at(counts: &Counts, index: i32) -> f64 {
    counts.binary_search_by_key(&index, |(index, _)| *index).map_or(0.0, |place| counts[place].1)
}

/// The bounds both ladders have.
pub(super) fn common_bounds(a: &[f64], b: &[f64]) -> Arc<[f64]> {
    let mut b = b.iter().peekable();
    let both = a.iter().filter(|bound| {
        while b.next_if(|other| *other < *bound).is_some() {}
        b.peek() == Some(bound)
    });
    both.copied().collect()
}

/// A bucket keeps the observations of 2^shift finer ones; their runs end where its upper bound is.
pub(super) fn reduced(counts: &Counts, shift: i32) -> Counts {
    let mut out: Counts = Vec::with_capacity(counts.len());
    for (index, count) in counts {
        let index = ((i64::from(*index) - 1) >> shift.clamp(0, 62)) as i32 + 1;
        match out.last_mut() {
            Some((last, sum)) if *last == index => *sum += count,
            _ => out.push((index, *count)),
        }
    }
    out
}

/// Adds `other` into `counts`; `rest` collects what rounding loses and stays aligned with it.
fn merge(counts: &mut Counts, mut rest: Option<&mut Counts>, other: &Counts, sign: f64) {
    if counts.len() == other.len() && counts.iter().zip(other).all(|(a, b)| a.0 == b.0) {
        for (place, (mine, theirs)) in counts.iter_mut().zip(other).enumerate() {
            match rest.as_deref_mut() {
                Some(rest) => (mine.1, rest[place].1) = add(sign * theirs.1, mine.1, rest[place].1),
                None => mine.1 += sign * theirs.1,
            }
        }
        return;
    }
    let old = std::mem::take(counts);
    let old_rest = rest.as_deref_mut().map(std::mem::take);
    let mut theirs = other.iter().peekable();
    for (place, (index, count)) in old.into_iter().enumerate() {
        while let Some((index, count)) = theirs.next_if(|(other, _)| *other < index) {
            counts.push((*index, sign * count));
            rest.as_deref_mut().into_iter().for_each(|rest| rest.push((*index, 0.0)));
        }
        let lost = old_rest.as_ref().map_or(0.0, |rest| rest[place].1);
        let more = theirs.next_if(|(other, _)| *other == index).map_or(0.0, |(_, count)| sign * count);
        let (count, lost) = if rest.is_some() { add(more, count, lost) } else { (count + more, 0.0) };
        counts.push((index, count));
        rest.as_deref_mut().into_iter().for_each(|rest| rest.push((index, lost)));
    }
    for (index, count) in theirs {
        counts.push((*index, sign * count));
        rest.as_deref_mut().into_iter().for_each(|rest| rest.push((*index, 0.0)));
    }
}

/// A compensated sum of histograms, or their mean; begins with the first of them.
#[derive(Clone, Debug)]
pub(crate) struct Total {
    sum: Histogram,
    rest: Histogram,
    n: f64,
    mean: bool,
    running: bool,
    /// What was met on the way.
    pub(crate) met: Reconciled,
    resets: bool,
    continues: bool,
}

impl Total {
    pub(crate) fn new(first: &Histogram, mean: bool) -> Self {
        let zeros = |counts: &Counts| counts.iter().map(|(index, _)| (*index, 0.0)).collect();
        let rest = Histogram {
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            positive: zeros(&first.positive),
            negative: zeros(&first.negative),
            custom: Arc::clone(&first.custom),
            ..Histogram::default()
        };
        let mut total = Self {
            sum: first.clone(),
            rest,
            n: 1.0,
            mean,
            running: false,
            met: Reconciled::default(),
            resets: false,
            continues: false,
        };
        total.watch(first.hint);
        total
    }

    /// A reset and a continuation among the summands contradict each other even with others between them.
    fn watch(&mut self, hint: Hint) {
        self.resets |= hint == Hint::Reset;
        self.continues |= hint == Hint::NotReset;
        self.met.hints = self.resets && self.continues;
    }

    pub(crate) fn push(&mut self, histogram: &Histogram) -> Result<(), Incompatible> {
        self.watch(histogram.hint);
        self.n += 1.0;
        if !self.running {
            let before = self.mean.then(|| (self.sum.clone(), self.rest.clone()));
            let met = self.sum.combine(Some(&mut self.rest), histogram, 1.0)?;
            self.met.bounds |= met.bounds;
            let Some((sum, rest)) = before.filter(|_| self.sum.overflows()) else { return Ok(()) };
            // From here on the mean is carried, which stays in range.
            (self.sum, self.rest, self.running) = (sum, rest, true);
            self.sum.divide(self.n - 1.0);
            self.rest.divide(self.n - 1.0);
        }
        let share = (self.n - 1.0) / self.n;
        self.sum.scale(share);
        self.rest.scale(share);
        let mut part = histogram.clone();
        part.divide(self.n);
        let met = self.sum.combine(Some(&mut self.rest), &part, 1.0)?;
        self.met.bounds |= met.bounds;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Histogram {
        if self.mean && !self.running {
            self.sum.divide(self.n);
            self.rest.divide(self.n);
        }
        self.rest.hint = self.sum.hint;
        // Equal layouts: this cannot fail.
        let _ = self.sum.add(&self.rest);
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(schema: i32, positive: &[(i32, f64)]) -> Histogram {
        let count = positive.iter().map(|(_, count)| count).sum();
        Histogram { schema, count, positive: positive.to_vec(), ..Histogram::default() }
    }

    #[test]
    fn a_sum_has_the_coarser_layout() {
        let mut fine = histogram(1, &[(0, 1.0), (1, 2.0), (2, 3.0)]);
        fine.add(&histogram(0, &[(1, 10.0), (5, 1.0)])).expect("both exponential");
        assert_eq!((fine.schema, fine.count), (0, 17.0));
        assert_eq!(fine.positive, [(0, 1.0), (1, 15.0), (5, 1.0)]);
    }

    #[test]
    fn a_wider_zero_bucket_swallows_buckets() {
        let mut narrow = histogram(0, &[(-1, 1.0), (0, 2.0), (3, 4.0)]);
        let wide = Histogram { zero_threshold: 0.75, zero_count: 5.0, ..histogram(0, &[]) };
        narrow.add(&wide).expect("both exponential");
        assert_eq!((narrow.zero_threshold, narrow.zero_count), (1.0, 8.0));
        assert_eq!(narrow.positive, [(3, 4.0)]);
    }

    #[test]
    fn custom_bounds_meet_in_their_intersection() {
        let with = |bounds: &[f64], counts: &[(i32, f64)]| Histogram {
            custom: Arc::from(bounds),
            ..histogram(crate::histogram::CUSTOM, counts)
        };
        let mut a = with(&[1.0, 2.0, 3.0], &[(0, 1.0), (1, 1.0), (3, 1.0)]);
        let met = a.add(&with(&[2.0, 4.0], &[(0, 5.0), (1, 7.0)])).expect("both custom");
        assert!(met.bounds);
        assert_eq!((&*a.custom, a.positive.as_slice()), (&[2.0][..], &[(0, 7.0), (1, 8.0)][..]));
        assert_eq!(a.add(&histogram(0, &[])), Err(Incompatible));
    }

    #[test]
    fn totals_lose_nothing_to_rounding_and_means_do_not_overflow() {
        let mut total = Total::new(&histogram(0, &[(0, 1e100)]), false);
        for part in [histogram(0, &[(0, 1.0), (1, 1.0)]), histogram(0, &[(0, -1e100)])] {
            total.push(&part).expect("compatible");
        }
        assert_eq!(total.finish().positive, [(0, 1.0), (1, 1.0)]);
        let big = histogram(0, &[(0, 1e308)]);
        let mut mean = Total::new(&big, true);
        mean.push(&big).expect("compatible");
        mean.push(&big).expect("compatible");
        assert!((mean.finish().positive[0].1 / 1e308 - 1.0).abs() < 1e-12);
    }
}
