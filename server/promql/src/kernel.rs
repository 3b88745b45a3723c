//! Arithmetic shared by aggregators and functions: compensated sums, quantiles, and Go's rules for NaN.

use std::cmp::Ordering;

/// Neumaier's step: adds `value` to the compensated sum (`sum`, `rest`).
#[inline]
pub(crate) fn add(value: f64, sum: f64, rest: f64) -> (f64, f64) {
    let total = sum + value;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let lost = if sum.abs() >= value.abs() { (sum - total) + value } else { (value - total) + sum };
    (total, rest + lost)
}

/// The compensated sum of values.
pub(crate) fn sum(values: &[f64]) -> f64 {
    let (total, rest) = values.iter().fold((0.0, 0.0), |(sum, rest), value| add(*value, sum, rest));
    if total.is_infinite() { total } else { total + rest }
}

/// A mean that stays in range: from the sum while that is finite, carried from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean {
    sum: f64,
    rest: f64,
    n: f64,
    running: bool,
}

impl Mean {
    pub(crate) fn new(first: f64) -> Self {
        Self { sum: first, rest: 0.0, n: 1.0, running: false }
    }

    /// The mean of `n` values by their compensated sum.
    pub(crate) fn of(sum: f64, rest: f64, n: u32) -> Self {
        Self { sum, rest, n: f64::from(n), running: false }
    }

    #[inline]
    pub(crate) fn push(&mut self, value: f64) {
        self.n += 1.0;
        if !self.running {
            let (sum, rest) = add(value, self.sum, self.rest);
            if !sum.is_infinite() {
                (self.sum, self.rest) = (sum, rest);
                return;
            }
            self.running = true;
            self.sum /= self.n - 1.0;
            self.rest /= self.n - 1.0;
        }
        let share = (self.n - 1.0) / self.n;
        (self.sum, self.rest) = add(value / self.n, share * self.sum, share * self.rest);
    }

    pub(crate) fn value(&self) -> f64 {
        if self.running { self.sum + self.rest } else { self.sum / self.n + self.rest / self.n }
    }
}

/// NaN before everything, then by value; equal zeros stay in order.
pub(crate) fn nan_first(a: f64, b: f64) -> Ordering {
    b.is_nan().cmp(&a.is_nan()).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
}

/// Linear between ranks; a NaN is the smallest value. Reorders the values.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0);
    let weight = rank - lower;
    // Only the two values around the rank are put in place. O(n).
    let place = (lower as usize).min(values.len() - 1);
    let (_, low, above) = values.select_nth_unstable_by(place, |a, b| nan_first(*a, *b));
    let low = *low;
    let high = above.iter().copied().min_by(|a, b| nan_first(*a, *b)).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// The greater; +Inf when either is, otherwise NaN when either is.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    match (a, b) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        (a, b) if a.is_nan() || b.is_nan() => f64::NAN,
        (a, b) => a.max(b),
    }
}

/// The lesser; -Inf when either is, otherwise NaN when either is.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_lose_nothing_to_rounding() {
        assert_eq!(sum(&[1e100, 1.0, -1e100]), 1.0);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        let mut mean = Mean::new(1e308);
        mean.push(1e308);
        mean.push(1e308);
        assert!((mean.value() / 1e308 - 1.0).abs() < 1e-15);
    }

    #[test]
    fn quantiles_lie_between_ranks() {
        for (q, values, want) in
            [(0.5, vec![3.0, 1.0, 2.0], 2.0), (0.25, vec![0.0, 1.0], 0.25), (1.0, vec![f64::NAN, 7.0], 7.0)]
        {
            assert_eq!(quantile(q, &mut values.clone()), want);
        }
        assert!(quantile(0.0, &mut [1.0, f64::NAN]).is_nan());
    }
}
