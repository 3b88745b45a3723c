//! What was expected against what was answered.

use crate::series::Item;
use anyhow::{Result, bail, ensure};
use model::{FloatHistogram, Labels, Span, Value, is_stale};
use promql::{MatrixRow, QueryValue};

const TOLERANCE: f64 = 1e-6;

fn near(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// Index and count of the buckets that are not empty.
fn filled(spans: &[Span], counts: &[f64]) -> Vec<(i32, f64)> {
    let mut end = 0;
    let indexes = spans.iter().flat_map(|span| {
        let start = end + span.offset;
        end = start + span.length as i32;
        start..end
    });
    indexes.zip(counts.iter().copied()).filter(|(_, count)| *count != 0.0).collect()
}

fn same_histogram(want: &FloatHistogram, got: &FloatHistogram, hinted: bool) -> bool {
    let lists = |a: Vec<(i32, f64)>, b: Vec<(i32, f64)>| {
        a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
    };
    want.schema == got.schema
        && want.zero_threshold == got.zero_threshold
        && near(want.zero_count, got.zero_count)
        && near(want.count, got.count)
        && near(want.sum, got.sum)
        && want.custom_bounds == got.custom_bounds
        && lists(filled(&want.positive_spans, &want.positive), filled(&got.positive_spans, &got.positive))
        && lists(filled(&want.negative_spans, &want.negative), filled(&got.negative_spans, &got.negative))
        && (!hinted || (want.gauge, want.reset) == (got.gauge, got.reset))
}

fn same(want: &Item, got: &Value) -> bool {
    match (want, got) {
        (Item::Sample(Value::Float(want)), Value::Float(got)) => near(*want, *got),
        (Item::Sample(Value::Histogram(want)), Value::Histogram(got)) => same_histogram(want, got, false),
        (Item::Hinted(want), Value::Histogram(got)) => same_histogram(want, got, true),
        _ => false,
    }
}

/// A vector: as a set, or in order.
pub(crate) fn vector(want: &[(Labels, Vec<Item>)], got: &[(Labels, Value)], ordered: bool) -> Result<()> {
    for (place, (labels, value)) in got.iter().enumerate() {
        let Some(at) = want.iter().position(|(have, _)| have == labels) else {
            bail!("unexpected {labels} {value:?}");
        };
        ensure!(!ordered || at == place, "{labels} at {place}, expected at {at}");
        let items = &want[at].1;
        ensure!(items.len() == 1, "{} values expected of an instant", items.len());
        ensure!(same(&items[0], value), "{labels}: expected {:?}, got {value:?}", items[0]);
    }
    for (labels, items) in want {
        ensure!(got.iter().any(|(have, _)| have == labels), "missing {labels} {:?}", items);
    }
    Ok(())
}

/// A matrix over steps; what is not listed must be absent.
pub(crate) fn matrix(
    want: &[(Labels, Vec<Item>)],
    got: &[MatrixRow],
    (start, end, step): (i64, i64, i64),
) -> Result<()> {
    for pair in got.windows(2) {
        ensure!(pair[0].labels < pair[1].labels, "{} and {} are out of order", pair[0].labels, pair[1].labels);
    }
    for row in got {
        let Some((_, items)) = want.iter().find(|(have, _)| *have == row.labels) else {
            bail!("unexpected {} {:?} {:?}", row.labels, row.floats, row.histograms);
        };
        let floats = row.floats.iter().map(|(at, value)| (*at, Value::Float(*value)));
        let histograms = row.histograms.iter().map(|(at, value)| (*at, Value::Histogram(value.clone())));
        let mut points: Vec<(i64, Value)> = floats.chain(histograms).collect();
        points.sort_by_key(|(at, _)| *at);
        let expected: Vec<(i64, &Item)> = items
            .iter()
            .enumerate()
            .map(|(place, item)| (start + place as i64 * step, item))
            .filter(|(_, item)| !matches!(item, Item::Missing))
            .collect();
        let inside = expected.iter().all(|(at, _)| *at <= end);
        ensure!(inside, "{}: more values than steps", row.labels);
        let fits = expected.len() == points.len()
            && expected.iter().zip(&points).all(|(want, got)| want.0 == got.0 && same(want.1, &got.1));
        ensure!(fits, "{}: expected {expected:?}, got {points:?}", row.labels);
    }
    for (labels, items) in want.iter().filter(|(_, items)| !items.iter().all(|item| matches!(item, Item::Missing))) {
        ensure!(got.iter().any(|row| row.labels == *labels), "missing {labels} {items:?}");
    }
    Ok(())
}

/// The elements of a vector, or none for anything else.
pub(crate) fn elements(value: &QueryValue) -> Option<Vec<(Labels, Value)>> {
    match value {
        QueryValue::Vector(rows) => Some(rows.iter().map(|row| (row.labels.clone(), row.value.clone())).collect()),
        _ => None,
    }
}

/// The elements a matrix has at one time.
pub(crate) fn at(rows: &[MatrixRow], time: i64) -> Vec<(Labels, Value)> {
    let mut out = Vec::new();
    for row in rows {
        let float = row.floats.iter().find(|(at, _)| *at == time).map(|(_, value)| Value::Float(*value));
        let histogram =
            row.histograms.iter().find(|(at, _)| *at == time).map(|(_, value)| Value::Histogram(value.clone()));
        out.extend(float.or(histogram).map(|value| (row.labels.clone(), value)));
    }
    out
}

pub(crate) fn scalar(want: f64, got: f64) -> Result<()> {
    ensure!(near(want, got), "expected {want}, got {got}");
    Ok(())
}
