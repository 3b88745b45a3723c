//! The functions: a table of what they take and give, and the kernels behind them.
//!
//! A function is one line here. Range kernels see the samples of one window, `start < time <= end`, stale markers
//! removed. Source of the rules: upstream's `promql/functions.go`, release 3.14.

use crate::expr::Type::{self, Matrix, Scalar, Vector};

/// The samples of one window and its open start and closed end, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    /// Times.
    pub times: &'a [i64],
    /// Values.
    pub values: &'a [f64],
    /// Open start.
    pub start: i64,
    /// Closed end.
    pub end: i64,
}

/// How a function computes.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kernel {
    /// One value from one value and scalar arguments.
    Map(fn(f64, &[f64]) -> f64),
    /// One value from a window; keeps the metric name when the flag says so.
    Range(fn(Window<'_>) -> Option<f64>, bool),
    /// `scalar(v)`, `vector(s)`, `time()`, `absent(v)`, `histogram_quantile(q, v)`: by name, in the evaluator.
    Special,
}

/// One function.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// Types of its arguments.
    pub args: &'static [Type],
    /// How many of them must be given.
    pub required: usize,
    /// What it gives.
    pub gives: Type,
    /// How it computes.
    pub kernel: Kernel,
}

const fn map(name: &'static str, args: &'static [Type], required: usize, kernel: fn(f64, &[f64]) -> f64) -> Function {
    Function { name, args, required, gives: Vector, kernel: Kernel::Map(kernel) }
}

const fn range(name: &'static str, kernel: fn(Window<'_>) -> Option<f64>) -> Function {
    Function { name, args: &[Matrix], required: 1, gives: Vector, kernel: Kernel::Range(kernel, false) }
}

const fn special(name: &'static str, args: &'static [Type], gives: Type) -> Function {
    Function { name, args, required: args.len(), gives, kernel: Kernel::Special }
}

const ONE: &[Type] = &[Vector];

/// All functions that are built.
pub const ALL: &[Function] = &[
    map("abs", ONE, 1, |v, _| v.abs()),
    map("ceil", ONE, 1, |v, _| v.ceil()),
    map("floor", ONE, 1, |v, _| v.floor()),
    map("exp", ONE, 1, |v, _| v.exp()),
    map("ln", ONE, 1, |v, _| v.ln()),
    map("log2", ONE, 1, |v, _| v.log2()),
    map("log10", ONE, 1, |v, _| v.log10()),
    map("sqrt", ONE, 1, |v, _| v.sqrt()),
    map("sgn", ONE, 1, |v, _| {
        if v > 0.0 {
            1.0
        } else if v < 0.0 {
            -1.0
        } else {
            v
        }
    }),
    map("round", &[Vector, Scalar], 1, |v, to| {
        let inverse = 1.0 / to.first().copied().unwrap_or(1.0);
        (v * inverse + 0.5).floor() / inverse
    }),
    map("clamp_min", &[Vector, Scalar], 2, |v, a| go_max(v, a[0])),
    map("clamp_max", &[Vector, Scalar], 2, |v, a| go_min(v, a[0])),
    range("rate", |w| extrapolated(w, true, true)),
    range("increase", |w| extrapolated(w, true, false)),
    range("delta", |w| extrapolated(w, false, false)),
    range("irate", |w| last_two(w, true)),
    range("idelta", |w| last_two(w, false)),
    range("sum_over_time", |w| (!w.values.is_empty()).then(|| sum(w.values.iter().copied()))),
    range("avg_over_time", |w| (!w.values.is_empty()).then(|| average(w.values))),
    range("min_over_time", |w| w.values.iter().copied().reduce(|a, b| if b < a || a.is_nan() { b } else { a })),
    range("max_over_time", |w| w.values.iter().copied().reduce(|a, b| if b > a || a.is_nan() { b } else { a })),
    range("count_over_time", |w| (!w.values.is_empty()).then_some(w.values.len() as f64)),
    range("present_over_time", |w| (!w.values.is_empty()).then_some(1.0)),
    range("changes", |w| pairs(w, |a, b| a != b && !(a.is_nan() && b.is_nan()))),
    range("resets", |w| pairs(w, |a, b| b < a)),
    Function { kernel: Kernel::Range(|w| w.values.last().copied(), true), ..range("last_over_time", |_| None) },
    special("time", &[], Scalar),
    special("scalar", ONE, Scalar),
    special("vector", &[Scalar], Vector),
    special("absent", ONE, Vector),
    special("histogram_quantile", &[Scalar, Vector], Vector),
];

/// Every function of upstream 3.14, to tell "not built" from "unknown".
pub(crate) const UPSTREAM: &[&str] = &[
    "absent_over_time",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "clamp",
    "cos",
    "cosh",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "deriv",
    "double_exponential_smoothing",
    "end",
    "first_over_time",
    "histogram_avg",
    "histogram_count",
    "histogram_fraction",
    "histogram_quantiles",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "hour",
    "info",
    "label_join",
    "label_replace",
    "mad_over_time",
    "max_of",
    "min_of",
    "minute",
    "month",
    "pi",
    "predict_linear",
    "quantile_over_time",
    "rad",
    "sin",
    "sinh",
    "sort",
    "sort_by_label",
    "sort_by_label_desc",
    "sort_desc",
    "start",
    "start_timestamp",
    "stddev_over_time",
    "stdvar_over_time",
    "step",
    "tan",
    "tanh",
    "timestamp",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "year",
    "range",
];

/// The function of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    ALL.iter().find(|function| function.name == name)
}

/// Go's `math.Max`: a NaN stays.
fn go_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

fn go_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// A compensated running sum (Neumaier); the correction is left out once the sum is infinite.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    sum: f64,
    correction: f64,
}

impl Sum {
    pub(crate) fn add(&mut self, value: f64) {
        let next = self.sum + value;
        if next.is_infinite() {
            self.correction = 0.0;
        } else if self.sum.abs() >= value.abs() {
            self.correction += (self.sum - next) + value;
        } else {
            self.correction += (value - next) + self.sum;
        }
        self.sum = next;
    }

    pub(crate) fn value(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.correction }
    }

    pub(crate) fn mean(self, count: f64) -> f64 {
        if self.sum.is_infinite() { self.sum / count } else { self.sum / count + self.correction / count }
    }
}

pub(crate) fn sum(values: impl Iterator<Item = f64>) -> f64 {
    let mut total = Sum::default();
    values.for_each(|value| total.add(value));
    total.value()
}

/// The mean; when finite values overflow their sum, the running mean takes over.
pub(crate) fn average(values: &[f64]) -> f64 {
    let mut total = Sum::default();
    values.iter().for_each(|value| total.add(*value));
    if total.sum.is_infinite() && values.iter().all(|value| value.is_finite()) {
        return values
            .iter()
            .zip(1..)
            .fold(0.0, |mean, (value, n)| mean + (value / f64::from(n) - mean / f64::from(n)));
    }
    total.mean(values.len() as f64)
}

fn pairs(window: Window<'_>, test: fn(f64, f64) -> bool) -> Option<f64> {
    let count = window.values.windows(2).filter(|pair| test(pair[0], pair[1])).count();
    (!window.values.is_empty()).then_some(count as f64)
}

fn last_two(window: Window<'_>, rate: bool) -> Option<f64> {
    let ([.., t0, t1], [.., v0, v1]) = (window.times, window.values) else { return None };
    let seconds = (t1 - t0) as f64 / 1000.0;
    match rate {
        _ if seconds == 0.0 => None,
        false => Some(v1 - v0),
        true if v1 < v0 => Some(v1 / seconds),
        true => Some((v1 - v0) / seconds),
    }
}

/// Upstream's extrapolation: to the window's ends, but at most half a sample gap beyond the first and last sample when
/// they are farther than 1.1 gaps away, and never below zero for a counter.
fn extrapolated(window: Window<'_>, counter: bool, rate: bool) -> Option<f64> {
    let Window { times, values, start, end } = window;
    let ([first_at, .., last_at], [first, .., last]) = (times, values) else { return None };
    let mut delta = last - first;
    if counter {
        for pair in values.windows(2).filter(|pair| pair[1] < pair[0]) {
            delta += pair[0];
        }
    }
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let (mut to_start, mut to_end) = (seconds(first_at - start), seconds(end - last_at));
    let sampled = seconds(last_at - first_at);
    let gap = sampled / (times.len() - 1) as f64;
    let threshold = gap * 1.1;
    if to_start >= threshold {
        to_start = gap / 2.0;
    }
    if counter && delta > 0.0 && *first >= 0.0 {
        to_start = to_start.min(sampled * (first / delta));
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if rate {
        factor /= seconds(end - start);
    }
    Some(delta * factor)
}

/// `histogram_quantile` of classic buckets: bounds and cumulative counts, in any order.
pub(crate) fn bucket_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0.0 };
        same
    });
    // Counts that went down between scrapes of different moments are lifted.
    for i in 1..buckets.len() {
        buckets[i].1 = buckets[i].1.max(buckets[i - 1].1);
    }
    let (Some(last), true) = (buckets.last().copied(), buckets.len() >= 2) else { return f64::NAN };
    if last.0 != f64::INFINITY || last.1 == 0.0 || last.1.is_nan() {
        return f64::NAN;
    }
    let rank = q * last.1;
    let at = buckets.iter().position(|bucket| bucket.1 >= rank).unwrap_or(buckets.len() - 1);
    let upper = buckets[at].0;
    if at == buckets.len() - 1 {
        return buckets[at - 1].0;
    }
    if at == 0 && upper <= 0.0 {
        return upper;
    }
    let (lower, below) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
    lower + (upper - lower) * ((rank - below) / (buckets[at].1 - below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, samples: &[(i64, f64)], start: i64, end: i64) -> Option<f64> {
        let (times, values): (Vec<i64>, Vec<f64>) = samples.iter().copied().unzip();
        match find(name).expect("built").kernel {
            Kernel::Range(kernel, _) => kernel(Window { times: &times, values: &values, start, end }),
            _ => panic!("not a range function"),
        }
    }

    #[test]
    fn rate_extrapolates_as_upstream() {
        let steady: Vec<_> = (1..=4).map(|i| (i * 15_000, i as f64 * 15.0 + 1000.0)).collect();
        assert_eq!(run("rate", &steady, 0, 60_000), Some(0.999_999_999_999_999_9));
        assert_eq!(run("increase", &steady, 0, 60_000), Some(60.0));
        let reset = [(15_000, 10.0), (30_000, 20.0), (45_000, 5.0), (60_000, 15.0)];
        assert_eq!(run("increase", &reset, 0, 60_000), Some(25.0 * (60.0 / 45.0)));
        let from_zero = [(15_000, 0.0), (30_000, 10.0)];
        assert_eq!(run("increase", &from_zero, 0, 30_000), Some(10.0));
        assert_eq!(run("rate", &steady[..1], 0, 60_000), None);
    }

    #[test]
    fn windows_are_reduced() {
        let samples = [(1, 3.0), (2, 1.0), (3, f64::NAN), (4, 2.0)];
        assert_eq!(run("max_over_time", &samples, 0, 9), Some(3.0));
        assert_eq!(run("min_over_time", &samples, 0, 9), Some(1.0));
        assert_eq!(run("count_over_time", &samples, 0, 9), Some(4.0));
        assert_eq!(run("changes", &samples, 0, 9), Some(3.0));
        assert_eq!(run("last_over_time", &samples, 0, 9), Some(2.0));
        assert_eq!(run("sum_over_time", &[], 0, 9), None);
        let cancel = [(1, 1e100), (2, 1.0), (3, -1e100)];
        assert_eq!(run("sum_over_time", &cancel, 0, 9), Some(1.0));
    }

    #[test]
    fn quantiles_of_buckets() {
        let buckets = || vec![(0.1, 1.0), (0.5, 3.0), (f64::INFINITY, 4.0)];
        assert_eq!(bucket_quantile(0.25, &mut buckets()), 0.1);
        assert_eq!(bucket_quantile(0.5, &mut buckets()), 0.1 + 0.4 * 0.5);
        assert_eq!(bucket_quantile(1.0, &mut buckets()), 0.5);
        assert!(bucket_quantile(0.5, &mut vec![(1.0, 1.0)]).is_nan());
    }
}
