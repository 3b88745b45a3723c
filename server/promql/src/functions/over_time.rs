//! Reductions of a window to one value.

use super::{
    Function,
    column::Layout,
    window::{self, Kernel, Result, Window},
};
use crate::{
    expr::Type::{Matrix, Scalar, Vector},
    histogram::Total,
    kernel::{Mean, add, quantile, sum},
    notes::{Note, Operation},
    table::{Row, Value},
};
use std::sync::Arc;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::window("sum_over_time", "The sum of the samples.", |window| {
        totalled(window, false, |window| sum(window.values))
    })
    .short(|layout, values, _, row| plain(layout, values, row, sum)),
    Function::window("avg_over_time", "The mean of the samples.", |window| {
        totalled(window, true, |window| mean(window.values))
    })
    .short(|layout, values, _, row| plain(layout, values, row, mean)),
    Function::window("count_over_time", "The number of samples.", |window| {
        Ok(Some(Value::Float((window.values.len() + window.histograms.len()) as f64)))
    })
    .short(|layout, values, _, row| plain(layout, values, row, |values| values.len() as f64)),
    Function::window("present_over_time", "1 where there is a sample.", |_| Ok(Some(Value::Float(1.0))))
        .short(|layout, values, _, row| plain(layout, values, row, |_| 1.0)),
    Function::window("min_over_time", "The least float.", |window| {
        reduced(window, |window| extreme(window.values, |a, b| a < b).1)
    })
    .short(|layout, values, _, row| plain(layout, values, row, |values| extreme(values, |a, b| a < b).1)),
    Function::window("max_over_time", "The greatest float.", |window| {
        reduced(window, |window| extreme(window.values, |a, b| a > b).1)
    })
    .short(|layout, values, _, row| plain(layout, values, row, |values| extreme(values, |a, b| a > b).1)),
    Function::window("stddev_over_time", "The standard deviation of the floats.", |window| {
        reduced(window, |window| variance(window.values).sqrt())
    })
    .short(|layout, values, _, row| plain(layout, values, row, |values| variance(values).sqrt())),
    Function::window("stdvar_over_time", "The variance of the floats.", |window| {
        reduced(window, |window| variance(window.values))
    })
    .short(|layout, values, _, row| plain(layout, values, row, variance)),
    Function::window("quantile_over_time", "The quantile of the floats.", |window| {
        let q = window.args[0];
        if !window.values.is_empty() && !(0.0..=1.0).contains(&q) {
            window.note_first(&Note::BadQuantile(q));
        }
        reduced(window, |window| quantile(q, &mut window.values.to_vec()))
    })
    .taking(&[Scalar, Matrix])
    .short(|layout, values, args, row| {
        let q = &args[0];
        // What is out of range must be reported, which the kernel does.
        let fits = q.iter().all(|q| (0.0..=1.0).contains(q));
        if fits {
            layout.each_sorted(values, row, |values, step| quantile(q[step], values));
        }
        fits
    }),
    Function::window("mad_over_time", "The median distance of the floats from their median.", |window| {
        reduced(window, |window| deviation(window.values))
    })
    .experimental(),
    keeping("last_over_time", "The newest sample.", |window| Ok(end_of(window, true)))
        .short(|layout, values, _, row| plain(layout, values, row, |values| values[values.len() - 1])),
    keeping("first_over_time", "The oldest sample.", |window| Ok(end_of(window, false)))
        .short(|layout, values, _, row| plain(layout, values, row, |values| values[0])),
    Function::window("ts_of_min_over_time", "When the last of the least floats was taken, in seconds.", |window| {
        reduced(window, |window| seconds(window.times[extreme(window.values, |a, b| a <= b).0]))
    })
    .experimental(),
    Function::window("ts_of_max_over_time", "When the last of the greatest floats was taken, in seconds.", |window| {
        reduced(window, |window| seconds(window.times[extreme(window.values, |a, b| a >= b).0]))
    })
    .experimental(),
    Function::window("ts_of_first_over_time", "When the oldest sample was taken, in seconds.", |window| {
        let times = [window.times.first().copied(), window.histograms.first().map(|(at, _)| *at)];
        Ok(times.into_iter().flatten().min().map(|at| seconds(at).into()))
    })
    .experimental(),
    Function::window("ts_of_last_over_time", "When the newest sample was taken, in seconds.", |window| {
        let times = [window.times.last().copied(), window.histograms.last().map(|(at, _)| *at)];
        Ok(times.into_iter().flatten().max().map(|at| seconds(at).into()))
    })
    .experimental(),
];

const fn keeping(name: &'static str, doc: &'static str, run: fn(&mut Window<'_>) -> window::Result) -> Function {
    Function::new(name, &[Matrix], Vector, doc, super::Kernel::Window(Kernel { run, keeps_name: true, shortcut: None }))
}

/// A shortcut that applies to every window.
fn plain(layout: &Layout, values: &[f64], row: &mut Row, kernel: impl Fn(&[f64]) -> f64) -> bool {
    layout.each(values, row, |values, _| kernel(values));
    true
}

fn mean(values: &[f64]) -> f64 {
    let mut mean = Mean::new(values[0]);
    values[1..].iter().for_each(|value| mean.push(*value));
    mean.value()
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A reduction of floats; histograms beside them are left out and reported.
fn reduced(window: &mut Window<'_>, kernel: impl Fn(&Window<'_>) -> f64) -> Result {
    if window.values.is_empty() {
        return Ok(None);
    }
    if window.mixed() {
        window.note(Note::IgnoredHistogramsInRange);
    }
    Ok(Some(kernel(window).into()))
}

/// A sum or mean of floats or of histograms, not of both.
fn totalled(window: &mut Window<'_>, mean: bool, kernel: impl Fn(&Window<'_>) -> f64) -> Result {
    if window.mixed() {
        window.note(Note::Mixed);
        return Ok(None);
    }
    let Some(((_, first), rest)) = window.histograms.split_first() else { return Ok(Some(kernel(window).into())) };
    let mut total = Total::new(first, mean);
    for (_, histogram) in rest {
        if total.push(histogram).is_err() {
            window.note(Note::MixedSchemas);
            return Ok(None);
        }
    }
    if total.met.hints {
        window.note(|_| Note::ConflictingResets(Operation::Aggregation));
    }
    if total.met.bounds {
        window.note(|_| Note::Rebounded(Operation::Aggregation));
    }
    Ok(Some(total.finish().into()))
}

/// Place and value of the extreme; a NaN gives way to anything.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> (usize, f64) {
    let mut best = (0, values[0]);
    for (place, value) in values.iter().enumerate() {
        if better(*value, best.1) || best.1.is_nan() {
            best = (place, *value);
        }
    }
    best
}

/// Welford's running variance, compensated.
fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut mean_rest, mut square, mut square_rest, mut n) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for value in values {
        n += 1.0;
        let delta = value - (mean + mean_rest);
        (mean, mean_rest) = add(delta / n, mean, mean_rest);
        (square, square_rest) = add(delta * (value - (mean + mean_rest)), square, square_rest);
    }
    (square + square_rest) / n
}

fn deviation(values: &[f64]) -> f64 {
    if values.iter().any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let mut values = values.to_vec();
    let median = quantile(0.5, &mut values);
    values.iter_mut().for_each(|value| *value = (*value - median).abs());
    quantile(0.5, &mut values)
}

fn end_of(window: &Window<'_>, newest: bool) -> Option<Value> {
    let (float, histogram) = if newest {
        (window.times.last().zip(window.values.last()), window.histograms.last())
    } else {
        (window.times.first().zip(window.values.first()), window.histograms.first())
    };
    match (float, histogram) {
        (Some((time, value)), Some((at, _))) if (time > at) == newest => Some((*value).into()),
        (_, Some((_, histogram))) => Some(Value::Histogram(Arc::clone(histogram))),
        (float, None) => float.map(|(_, value)| (*value).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reductions_of_floats() {
        assert_eq!(extreme(&[f64::NAN, 2.0, 1.0, 1.0], |a, b| a < b), (2, 1.0));
        assert_eq!(extreme(&[2.0, 1.0, 1.0], |a, b| a <= b), (2, 1.0));
        assert_eq!(variance(&[1.0, 3.0]), 1.0);
        assert_eq!(deviation(&[4.0, 6.0, 2.0, 1.0, 999.0, 1.0, 2.0]), 1.0);
    }
}
