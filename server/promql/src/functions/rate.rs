//! How much counters and gauges grow: `rate`, `increase`, `delta`.
//!
//! The growth between the samples of a window is extrapolated to its ends, at most by half the usual distance of
//! samples where they are further away, and for a counter never below zero. `anchored` and `smoothed` windows take
//! the values at their ends from beyond them instead. A counter that restarted counts from zero again; a start
//! timestamp tells of a restart that the values hide.

use super::{
    Function,
    column::Layout,
    window::{Result, Window},
};
use crate::{
    expr::Extension,
    histogram::{Hint, Histogram, Incompatible},
    notes::{Note, Operation},
    table::{Row, Value},
};
use std::sync::Arc;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::window("rate", "How much a counter grows per second.", |window| grown(window, true, true))
        .short(|layout, values, _, row| short(layout, values, row, true, true)),
    Function::window("increase", "How much a counter grows.", |window| grown(window, true, false))
        .short(|layout, values, _, row| short(layout, values, row, true, false)),
    Function::window("delta", "How much a gauge changes.", |window| grown(window, false, false))
        .short(|layout, values, _, row| short(layout, values, row, false, false)),
];

type Sample = (i64, Arc<Histogram>);

/// Whether the counter restarted between two samples, as far as their start timestamps tell; 0 is unknown.
///
/// A start between both is a restart. One at the sample before says so only if that sample knows its own start, since
/// some exporters give the first time they saw a counter of unknown start.
pub(super) fn restarted((start, at): (i64, i64), (next_start, next_at): (i64, i64)) -> bool {
    if next_start == 0 || next_start >= next_at || next_start < at {
        return false;
    }
    next_start > at || start != 0 && start < at
}

/// Whether a sample claims a start before the sample before it, and another one.
fn overlaps(start: i64, at: i64, next_start: i64) -> bool {
    next_start != 0 && next_start < at && next_start != start
}

fn grown(window: &mut Window<'_>, counter: bool, per_second: bool) -> Result {
    if window.mixed() {
        window.note(Note::Mixed);
        return Ok(None);
    }
    if window.extension != Extension::None {
        return if window.histograms.is_empty() {
            Ok(extended(window, counter, per_second).map(Value::Float))
        } else {
            Ok(extended_histogram(window, counter, per_second).map(Value::from))
        };
    }
    let floats = window.histograms.is_empty();
    let (first, last, n) = match (window.times, window.histograms) {
        ([first, .., last], _) => (*first, *last, window.times.len()),
        ([only], _) => (*only, *only, 1),
        ([], [(first, _), .., (last, _)]) => (*first, *last, window.histograms.len()),
        ([], [(only, _)]) => (*only, *only, 1),
        ([], []) => return Ok(None),
    };
    let growth = if floats {
        Growth::Float(difference(window, counter))
    } else if n > 1 {
        match histogram_difference(window, counter) {
            Some(histogram) => Growth::Histogram(histogram),
            None => return Ok(None),
        }
    } else {
        Growth::Nothing
    };
    let starts = if floats { window.starts } else { window.histogram_starts };
    let start =
        starts.first().copied().filter(|start| counter && *start != 0 && *start > window.start && *start < first);
    extrapolated(window, growth, Span { first, last, n, start }, counter, per_second)
}

/// All windows of a column of floats: `grown` with everything that depends on time alone known beforehand.
fn short(layout: &mut Layout, values: &[f64], row: &mut Row, counter: bool, per_second: bool) -> bool {
    let mut restarts = std::mem::take(&mut layout.places);
    restarts.clear();
    if counter {
        let pairs = values.windows(2).enumerate();
        restarts.extend(pairs.filter(|(_, pair)| pair[1] < pair[0]).map(|(before, _)| before + 1));
    }
    let range = layout.seconds();
    let (windows, reaches) = layout.reaches();
    let mut next = 0;
    let cells = row.cells.iter_mut().zip(&mut row.present);
    for (((cell, present), (from, to)), reach) in cells.zip(windows).zip(reaches) {
        let (from, to) = (*from as usize, *to as usize);
        if to < from + 2 {
            continue;
        }
        let first = values[from];
        let mut growth = values[to - 1] - first;
        if next < restarts.len() {
            while restarts.get(next).is_some_and(|at| *at <= from) {
                next += 1;
            }
            for at in restarts[next..].iter().take_while(|at| **at < to) {
                growth += values[at - 1];
            }
        }
        let mut factor = reach.factor;
        // The division is needed only when the counter may have been zero inside of the window.
        if counter && growth > 0.0 && first >= 0.0 && first * reach.sampled <= growth * reach.to_start * (1.0 + 1e-9) {
            let to_zero = reach.sampled * (first / growth);
            if to_zero < reach.to_start {
                factor = (reach.sampled + to_zero + reach.to_end) / reach.sampled;
            }
        }
        if per_second {
            factor /= range;
        }
        *cell = growth * factor;
        *present = true;
    }
    layout.places = restarts;
    true
}

/// What came together between the samples of a window.
enum Growth {
    Nothing,
    Float(f64),
    Histogram(Histogram),
}

/// Where the samples of a window lie.
struct Span {
    first: i64,
    last: i64,
    n: usize,
    /// When the counter of the first sample started, if that is inside the window.
    start: Option<i64>,
}

fn extrapolated(window: &mut Window<'_>, mut growth: Growth, span: Span, counter: bool, per_second: bool) -> Result {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut to_start = seconds(span.first - window.start);
    let mut to_end = seconds(window.end - span.last);
    let mut sampled = seconds(span.last - span.first);
    let gap = if span.n > 1 { sampled / (span.n - 1) as f64 } else { 0.0 };
    let threshold = gap * 1.1;
    if let Some(start) = span.start {
        // The counter was zero at its start: nothing to guess on this side.
        to_start = 0.0;
        sampled = seconds(span.last - start);
        growth = match (growth, window.values.first(), window.histograms.first()) {
            (Growth::Float(growth), Some(first), _) => Growth::Float(growth + first),
            (Growth::Histogram(mut growth), _, Some((_, first))) => {
                if !note_sum(window, &mut growth, first, 1.0) {
                    return Ok(None);
                }
                Growth::Histogram(growth)
            }
            (_, _, Some((_, first))) => Growth::Histogram((**first).clone()),
            (growth, ..) => growth,
        };
    } else if span.n < 2 {
        return Ok(None);
    } else {
        if to_start >= threshold {
            to_start = gap / 2.0;
        }
        if counter {
            let (first, growth) = match (&growth, window.values.first(), window.histograms.first()) {
                (Growth::Float(growth), Some(first), _) => (*first, *growth),
                (Growth::Histogram(growth), _, Some((_, first))) => (first.count, growth.count),
                _ => (0.0, 0.0),
            };
            if growth > 0.0 && first >= 0.0 {
                let to_zero = sampled * (first / growth);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    let mut factor = if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled };
    if per_second {
        factor /= seconds(window.range);
    }
    Ok(match growth {
        Growth::Nothing => None,
        Growth::Float(growth) => Some(Value::Float(growth * factor)),
        Growth::Histogram(mut growth) => {
            growth.scale(factor);
            Some(growth.into())
        }
    })
}

/// Last minus first, and for a counter what was lost at each restart.
fn difference(window: &mut Window<'_>, counter: bool) -> f64 {
    let (times, values, starts) = (window.times, window.values, window.starts);
    let mut growth = values[values.len() - 1] - values[0];
    if !counter {
        return growth;
    }
    if starts.is_empty() {
        for pair in values.windows(2) {
            if pair[1] < pair[0] {
                growth += pair[0];
            }
        }
        return growth;
    }
    let mut overlap = false;
    for place in 1..values.len() {
        let (before, now) = ((starts[place - 1], times[place - 1]), (starts[place], times[place]));
        overlap |= overlaps(before.0, before.1, now.0);
        if values[place] < values[place - 1] || restarted(before, now) {
            growth += values[place - 1];
        }
    }
    if overlap {
        window.note(Note::StartOverlap);
    }
    growth
}

/// Adds (1) or subtracts (-1) and reports what had to be settled; false when that is impossible.
fn note_sum(window: &mut Window<'_>, into: &mut Histogram, other: &Histogram, sign: f64) -> bool {
    let met = if sign > 0.0 { into.add(other) } else { into.sub(other) };
    match met {
        Ok(met) => {
            if met.bounds {
                let operation = if sign > 0.0 { Operation::Addition } else { Operation::Subtraction };
                window.note(|_| Note::Rebounded(operation));
            }
            true
        }
        Err(Incompatible) => {
            window.note(Note::MixedSchemas);
            false
        }
    }
}

/// The same for at least two histograms.
fn histogram_difference(window: &mut Window<'_>, counter: bool) -> Option<Histogram> {
    let (samples, starts) = (window.histograms, window.histogram_starts);
    let ((_, first), (_, last)) = (samples.first()?, samples.last()?);
    let restarts = |place: usize, before: &Histogram| {
        let by_start = !starts.is_empty()
            && restarted((starts[place - 1], samples[place - 1].0), (starts[place], samples[place].0));
        by_start || samples[place].1.resets_after(before)
    };
    if counter && (first.hint == Hint::Gauge || last.hint == Hint::Gauge) {
        window.note(Note::NotCounter);
    }
    // Before a restart the first sample does not matter, nor does its layout.
    let empty;
    let mut before: &Histogram = first;
    if counter && restarts(1, first) {
        let second = &samples[1].1;
        empty = Histogram { schema: second.schema, custom: Arc::clone(&second.custom), ..Histogram::default() };
        before = &empty;
    }
    let custom = before.is_custom();
    if last.is_custom() != custom {
        window.note(Note::MixedSchemas);
        return None;
    }
    let mut schema = last.schema.min(before.schema);
    if counter {
        for (_, histogram) in &samples[1..samples.len() - 1] {
            if histogram.hint == Hint::Gauge {
                window.note(Note::NotCounter);
            }
            schema = schema.min(histogram.schema);
            if histogram.is_custom() != custom {
                window.note(Note::MixedSchemas);
                return None;
            }
        }
    }
    let mut growth = (**last).clone();
    growth.reduce(schema);
    if !note_sum(window, &mut growth, before, -1.0) {
        return None;
    }
    if counter {
        let mut overlap = false;
        for place in 1..samples.len() {
            if !starts.is_empty() {
                overlap |= overlaps(starts[place - 1], samples[place - 1].0, starts[place]);
            }
            if restarts(place, before) && !note_sum(window, &mut growth, before, 1.0) {
                return None;
            }
            before = &samples[place].1;
        }
        if overlap {
            window.note(Note::StartOverlap);
        }
    } else if first.hint != Hint::Gauge || last.hint != Hint::Gauge {
        window.note(Note::NotGauge);
    }
    growth.hint = Hint::Gauge;
    growth.compact();
    Some(growth)
}

/// The value between two samples; a counter that restarted rose from zero.
pub(crate) fn between(from: (i64, f64), to: (i64, f64), at: i64, counter: bool) -> f64 {
    let base = if counter && to.1 < from.1 { 0.0 } else { from.1 };
    base + (to.1 - base) * (at - from.0) as f64 / (to.0 - from.0) as f64
}

/// The same for histograms; `met` collects what had to be settled.
pub(crate) fn between_histograms(
    from: &Sample,
    to: &Sample,
    at: i64,
    counter: bool,
    met: &mut Vec<Operation>,
) -> std::result::Result<Histogram, Incompatible> {
    if at == from.0 {
        return Ok((*from.1).clone());
    }
    let mut result = (*to.1).clone();
    if at == to.0 {
        return Ok(result);
    }
    if from.1.is_custom() != to.1.is_custom() {
        return Err(Incompatible);
    }
    let share = (at - from.0) as f64 / (to.0 - from.0) as f64;
    if counter && to.1.resets_after(&from.1) {
        result.scale(share);
        return Ok(result);
    }
    if result.sub(&from.1)?.bounds {
        met.push(Operation::Subtraction);
    }
    result.scale(share);
    if result.add(&from.1)?.bounds {
        met.push(Operation::Addition);
    }
    Ok(result)
}

/// The samples that stand for both ends of an extended window; none when nothing of it is covered.
fn ends(window: &Window<'_>, n: usize, time: impl Fn(usize) -> i64) -> Option<(usize, usize)> {
    let smoothed = window.extension == Extension::Smoothed;
    let find = |fits: &dyn Fn(i64) -> bool| (0..n - 1).find(|place| fits(time(*place))).unwrap_or(n - 1);
    let first = find(&|at| at > window.start).saturating_sub(1);
    let last = if smoothed { find(&|at| at >= window.end) } else { n - 1 };
    (time(last) > window.start && !(smoothed && time(first) > window.end)).then_some((first, last))
}

fn extended(window: &Window<'_>, counter: bool, per_second: bool) -> Option<f64> {
    let (times, values) = (window.times, window.values);
    let (mut first, last) = ends(window, times.len(), |place| times[place])?;
    let smoothed = window.extension == Extension::Smoothed;
    let sample = |place: usize| (times[place], values[place]);
    let left = if smoothed && times[first] < window.start {
        between(sample(first), sample(first + 1), window.start, counter)
    } else {
        values[first]
    };
    let right = if smoothed && last > 0 && times[last] > window.end {
        between(sample(last - 1), sample(last), window.end, counter)
    } else {
        values[last]
    };
    let mut growth = right - left;
    if counter {
        // The ends stand for the samples at and beyond them.
        first += usize::from(times[first] <= window.start);
        let after = if times[last] >= window.end { last } else { last + 1 };
        let mut before = left;
        for value in values.get(first..after).unwrap_or_default().iter().chain([&right]) {
            if *value < before {
                growth += before;
            }
            before = *value;
        }
    }
    Some(if per_second { growth / (window.range as f64 / 1000.0) } else { growth })
}

fn extended_histogram(window: &mut Window<'_>, counter: bool, per_second: bool) -> Option<Histogram> {
    let samples = window.histograms;
    let (first, last) = ends(window, samples.len(), |place| samples[place].0)?;
    let custom = samples[first].1.is_custom();
    for (_, histogram) in &samples[first..=last] {
        if histogram.is_custom() != custom {
            window.note(Note::MixedSchemas);
            return None;
        }
        if counter && histogram.hint == Hint::Gauge {
            window.note(Note::NotCounter);
        }
    }
    let smoothed = window.extension == Extension::Smoothed;
    let left = if smoothed && samples[first].0 < window.start {
        edge(window, (first, first + 1), window.start, counter)?
    } else {
        (*samples[first].1).clone()
    };
    let right = if smoothed && last > 0 && samples[last].0 > window.end {
        edge(window, (last - 1, last), window.end, counter)?
    } else {
        (*samples[last].1).clone()
    };
    if !counter && (left.hint != Hint::Gauge || right.hint != Hint::Gauge) {
        window.note(Note::NotGauge);
    }
    let mut growth = right.clone();
    if !note_sum(window, &mut growth, &left, -1.0) {
        return None;
    }
    if counter {
        for lost in losses(window, (first, last), &left, &right) {
            if !note_sum(window, &mut growth, &lost, 1.0) {
                return None;
            }
        }
    }
    if per_second {
        growth.divide(window.range as f64 / 1000.0);
    }
    growth.hint = Hint::Gauge;
    growth.compact();
    Some(growth)
}

/// The interpolated histogram at an end of the window.
fn edge(window: &mut Window<'_>, (from, to): (usize, usize), at: i64, counter: bool) -> Option<Histogram> {
    let samples = window.histograms;
    let mut met = Vec::new();
    match between_histograms(&samples[from], &samples[to], at, counter, &mut met) {
        Ok(histogram) => {
            met.into_iter().for_each(|operation| window.note(|_| Note::Rebounded(operation)));
            Some(histogram)
        }
        Err(Incompatible) => {
            window.note(Note::MixedSchemas);
            None
        }
    }
}

/// What was counted before each restart between the ends, which stand for the first and the last sample.
fn losses(window: &Window<'_>, (first, last): (usize, usize), left: &Histogram, right: &Histogram) -> Vec<Histogram> {
    let samples = window.histograms;
    let (mut place, mut before) = (first + 1, left);
    let crossed = window.extension == Extension::Smoothed
        && samples[first].0 < window.start
        && samples.get(first + 1).is_some_and(|next| next.1.resets_after(&samples[first].1));
    if crossed {
        // The left end already rose from zero toward this sample.
        before = &samples[first + 1].1;
        place += 1;
    }
    let mut lost = Vec::new();
    if place > last {
        return lost;
    }
    for (_, histogram) in &samples[place..last] {
        if histogram.resets_after(before) {
            lost.push(before.clone());
        }
        before = histogram;
    }
    if right.resets_after(before) {
        lost.push(before.clone());
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_timestamps_tell_of_restarts() {
        for (before, now, want) in [
            ((0, 60), (0, 120), false),
            ((10, 60), (10, 120), false),
            ((10, 60), (90, 120), true),
            ((10, 60), (60, 120), true),
            ((0, 60), (60, 120), false),
            ((60, 60), (60, 120), false),
            ((70, 60), (60, 120), false),
            ((10, 60), (120, 120), false),
        ] {
            assert_eq!(restarted(before, now), want, "{before:?} {now:?}");
        }
        assert!(overlaps(10, 60, 50) && !overlaps(10, 60, 10) && !overlaps(10, 60, 60));
    }

    #[test]
    fn counters_rise_from_zero_after_a_restart() {
        assert_eq!(between((0, 10.0), (10, 20.0), 5, true), 15.0);
        assert_eq!(between((0, 10.0), (10, 4.0), 5, true), 2.0);
        assert_eq!(between((0, 10.0), (10, 4.0), 5, false), 7.0);
    }
}
