//! Steps between neighbouring samples: `changes`, `resets`, `irate`, `idelta`.

use super::{
    Function,
    column::Layout,
    rate::restarted,
    window::{Result, Window},
};
use crate::{
    expr::Extension,
    histogram::{Hint, Histogram, Incompatible},
    notes::{Note, Operation},
    table::{Cell, Row, Value},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::window("changes", "How often the value changed.", |window| {
        counted(window, |before, now| match (before.cell, now.cell) {
            (Cell::Float(a), Cell::Float(b)) => changed(a, b),
            (Cell::Histogram(a), Cell::Histogram(b)) => !a.same(b),
            _ => true,
        })
    })
    .short(|layout, values, _, row| short(layout, values, row, changed)),
    Function::window("resets", "How often a counter restarted.", |window| {
        counted(window, |before, now| {
            let by_start = restarted((before.start, before.at), (now.start, now.at));
            match (before.cell, now.cell) {
                (Cell::Float(a), Cell::Float(b)) => b < a || by_start,
                (Cell::Histogram(a), Cell::Histogram(b)) => by_start || b.resets_after(a),
                _ => true,
            }
        })
    })
    .short(|layout, values, _, row| short(layout, values, row, |a, b| b < a)),
    Function::window("irate", "How much a counter grows per second, by the last two samples.", |window| {
        newest(window, true)
    }),
    Function::window("idelta", "How much a gauge changed between the last two samples.", |window| {
        newest(window, false)
    }),
];

fn changed(a: f64, b: f64) -> bool {
    a != b && !(a.is_nan() && b.is_nan())
}

/// Counts the neighbours that differ in every window of a column of floats.
fn short(layout: &Layout, values: &[f64], row: &mut Row, differs: impl Fn(f64, f64) -> bool) -> bool {
    layout.each(values, row, |values, _| values.windows(2).filter(|pair| differs(pair[0], pair[1])).count() as f64);
    true
}

#[derive(Clone, Copy)]
struct Sample<'a> {
    at: i64,
    start: i64,
    cell: Cell<'a>,
}

/// Floats and histograms in the order of time.
fn samples<'a>(window: &Window<'a>) -> Vec<Sample<'a>> {
    let start = |starts: &[i64], place: usize| starts.get(place).copied().unwrap_or_default();
    let (starts, histogram_starts) = (window.starts, window.histogram_starts);
    let floats = window.times.iter().zip(window.values).enumerate();
    let floats =
        floats.map(|(place, (at, value))| Sample { at: *at, start: start(starts, place), cell: Cell::Float(*value) });
    let histograms = window.histograms.iter().enumerate().map(|(place, (at, value))| Sample {
        at: *at,
        start: start(histogram_starts, place),
        cell: Cell::Histogram(value),
    });
    let mut all: Vec<_> = floats.chain(histograms).collect();
    if window.mixed() {
        all.sort_by_key(|sample| sample.at);
    }
    all
}

fn counted(window: &mut Window<'_>, differs: impl Fn(Sample<'_>, Sample<'_>) -> bool) -> Result {
    let all = samples(window);
    let mut seen = all.as_slice();
    if window.extension == Extension::Anchored {
        // The newest sample before the window is what the first one inside is compared with.
        let inside = seen.partition_point(|sample| sample.at <= window.start);
        if inside == seen.len() {
            return Ok(None);
        }
        seen = &seen[inside.saturating_sub(1)..];
    }
    let count = seen.windows(2).filter(|pair| differs(pair[0], pair[1])).count();
    Ok(Some((count as f64).into()))
}

fn newest(window: &mut Window<'_>, counter: bool) -> Result {
    let all = samples(window);
    let [.., before, now] = all.as_slice() else { return Ok(None) };
    let seconds = (now.at - before.at) as f64 / 1000.0;
    if seconds == 0.0 {
        return Ok(None);
    }
    let by_start = restarted((before.start, before.at), (now.start, now.at));
    match (before.cell, now.cell) {
        (Cell::Float(a), Cell::Float(b)) => {
            let value = if counter && (b < a || by_start) { b } else { b - a };
            Ok(Some(Value::Float(if counter { value / seconds } else { value })))
        }
        (Cell::Histogram(a), Cell::Histogram(b)) => {
            let value = newest_histogram(window, a, b, counter, by_start);
            Ok(value.map(|mut value| {
                if counter {
                    value.divide(seconds);
                }
                value.into()
            }))
        }
        _ => {
            window.note(Note::Mixed);
            Ok(None)
        }
    }
}

fn newest_histogram(
    window: &mut Window<'_>,
    before: &Histogram,
    now: &Histogram,
    counter: bool,
    by_start: bool,
) -> Option<Histogram> {
    let gauges = [before, now].map(|histogram| histogram.hint == Hint::Gauge);
    if counter && gauges.contains(&true) {
        window.note(Note::NotCounter);
    }
    if !counter && gauges.contains(&false) {
        window.note(Note::NotGauge);
    }
    let mut value = now.clone();
    if !counter || !by_start && !now.resets_after(before) {
        match value.sub(before) {
            Ok(met) if met.bounds => window.note(|_| Note::Rebounded(Operation::Subtraction)),
            Ok(_) => {}
            Err(Incompatible) => {
                window.note(Note::MixedSchemas);
                return None;
            }
        }
    }
    value.hint = Hint::Gauge;
    value.compact();
    Some(value)
}
