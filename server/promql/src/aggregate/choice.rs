//! Aggregation operators that choose elements or count values: `topk`, `bottomk`, `limitk`, `limit_ratio`,
//! `count_values`.

use super::Groups;
use crate::{
    QueryError,
    eval::Run,
    expr::{Aggregator, Text},
    keys::Subset,
    notes::Note,
    table::{Cell, Done, Row, Value},
};
use model::{Builder, Labels};
use std::{cmp::Ordering, collections::HashMap};

/// 2^63, the first float that is no `i64`.
const INT_END: f64 = 9_223_372_036_854_775_808.0;

impl Run<'_> {
    pub(super) fn chosen(
        &mut self,
        op: Aggregator,
        rows: Vec<Row>,
        grouping: Subset<'_>,
        param: &[f64],
        (at, place): (usize, usize),
    ) -> Done<Vec<Row>> {
        if op == Aggregator::LimitRatio {
            return self.by_ratio(rows, param, at);
        }
        for k in param {
            if k.is_nan() {
                return Err(QueryError::Execution("Parameter value is NaN".to_owned()));
            }
            if !(-INT_END..INT_END).contains(k) {
                let what = if *k > 0.0 { "overflows" } else { "underflows" };
                let value = crate::notes::general(*k);
                return Err(QueryError::Execution(format!("Scalar value {value} {what} int64")));
            }
        }
        let groups = Groups::new(&rows, grouping, 0);
        if op == Aggregator::Limitk {
            return Ok(limited(rows, &groups, param));
        }
        if rows.iter().any(|row| row.histograms.is_some()) && param.iter().any(|k| *k >= 1.0) {
            self.notes.add(place, &Note::IgnoredHistogram(op.as_str()));
        }
        ranked(op == Aggregator::Topk, rows, &groups, param, &|| self.alive())
    }

    /// Keeps an element when the hash of its labels falls into the asked share.
    fn by_ratio(&mut self, mut rows: Vec<Row>, param: &[f64], at: usize) -> Done<Vec<Row>> {
        let mut ratios = Vec::with_capacity(param.len());
        for ratio in param {
            if ratio.is_nan() {
                return Err(QueryError::Execution("Ratio value is NaN".to_owned()));
            }
            let held = ratio.clamp(-1.0, 1.0);
            if held != *ratio {
                self.notes.add(at, &Note::BadRatio(*ratio, held));
            }
            ratios.push(held);
        }
        for row in &mut rows {
            let offset = row.labels.hash64() as f64 / u64::MAX as f64;
            for (step, ratio) in ratios.iter().enumerate() {
                let keep = if *ratio >= 0.0 { offset < *ratio } else { offset >= 1.0 + ratio };
                if !keep {
                    row.clear(step);
                }
            }
        }
        Ok(rows)
    }

    /// Counts elements by value; the value becomes a label.
    pub(super) fn count_values(&mut self, rows: &[Row], grouping: Subset<'_>, label: &Text) -> Done<Vec<Row>> {
        if label.invalid.is_some() || label.value.is_empty() {
            let name = label.invalid.clone().unwrap_or_else(|| model::quote(&label.value));
            return Err(QueryError::Execution(format!("invalid label name {name}")));
        }
        let steps = self.grid.steps;
        let mut places: HashMap<Labels, usize> = HashMap::new();
        let mut out: Vec<Row> = Vec::new();
        for row in rows {
            self.alive()?;
            let group = grouping.labels(&row.labels);
            let made = out.len();
            let mut last: Option<(u64, usize)> = None;
            for step in 0..steps {
                let Some(cell) = row.get(step) else { continue };
                let bits = match cell {
                    Cell::Float(value) => Some(value.to_bits()),
                    Cell::Histogram(_) => None,
                };
                let known = last.filter(|(have, _)| Some(*have) == bits).map(|(_, place)| place);
                let place = known.unwrap_or_else(|| {
                    let mut labels = Builder::from(&group);
                    let labels = labels.set(&label.value, &text(cell)).build();
                    *places.entry(labels).or_insert_with_key(|labels| {
                        out.push(Row::empty(labels.clone(), steps));
                        out.len() - 1
                    })
                });
                last = bits.map(|bits| (bits, place));
                let counted = &mut out[place];
                counted.unnamed |= row.unnamed;
                let before = if counted.present[step] { counted.cells[step] } else { 0.0 };
                counted.set(step, before + 1.0);
            }
            self.claim(out[made..].iter().map(Row::bytes).sum())?;
        }
        Ok(out)
    }
}

/// Plain decimal digits, or the text of a histogram.
fn text(cell: Cell<'_>) -> String {
    match cell {
        Cell::Float(value) if value.is_infinite() => if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
        Cell::Float(value) => value.to_string(),
        Cell::Histogram(histogram) => histogram.to_string(),
    }
}

/// How many elements a step may keep; below one there is nothing to keep.
fn places(k: f64) -> usize {
    if k < 1.0 { 0 } else { k as usize }
}

/// The first k elements of each group.
fn limited(mut rows: Vec<Row>, groups: &Groups, param: &[f64]) -> Vec<Row> {
    let mut taken = vec![0usize; groups.heads.len()];
    for (step, k) in param.iter().enumerate() {
        taken.fill(0);
        for (row, group) in rows.iter_mut().zip(&groups.of).filter(|(row, _)| row.holds(step)) {
            taken[*group] += 1;
            if taken[*group] > places(*k) {
                row.clear(step);
            }
        }
    }
    rows
}

/// The k best floats of each group. At a single step their order is part of the answer.
///
/// Which of equal values stay, and in what order, follows from upstream's binary heap with the worst on top.
fn ranked(top: bool, rows: Vec<Row>, groups: &Groups, param: &[f64], alive: &dyn Fn() -> Done<()>) -> Done<Vec<Row>> {
    // Most rows are never among the best: only those that are get cells.
    let mut kept: Vec<Option<Row>> = vec![None; rows.len()];
    let mut heaps: Vec<Vec<(f64, usize)>> = vec![Vec::new(); groups.heads.len()];
    let single = param.len() == 1;
    let mut order = Vec::new();
    // A NaN is worse than anything, also than itself.
    let worse = |a: f64, b: f64| a.is_nan() || if top { a < b } else { a > b };
    for (step, k) in param.iter().enumerate() {
        alive()?;
        heaps.iter_mut().for_each(Vec::clear);
        let keep = places(*k);
        for (place, group) in groups.of.iter().enumerate().filter(|(place, _)| keep > 0 && rows[*place].present[step]) {
            let (heap, value) = (&mut heaps[*group], rows[place].cells[step]);
            if heap.len() < keep {
                heap.push((value, place));
                rise(heap, worse);
            } else if heap[0].0.is_nan() && !value.is_nan() || !heap[0].0.is_nan() && worse(heap[0].0, value) {
                heap[0] = (value, place);
                sink(heap, worse);
            }
        }
        for heap in &mut heaps {
            if single {
                insertion_sort(heap, |a, b| worse(b, a));
                order.extend(heap.iter().map(|(_, place)| *place));
            }
            for (value, place) in heap.iter() {
                kept[*place].get_or_insert_with(|| rows[*place].like()).set(step, Value::Float(*value));
            }
        }
    }
    if !single {
        return Ok(kept.into_iter().flatten().collect());
    }
    Ok(order.into_iter().filter_map(|place| kept[place].take()).collect())
}

/// Moves the last element up while it is worse than its parent.
fn rise(heap: &mut [(f64, usize)], worse: impl Fn(f64, f64) -> bool) {
    let mut at = heap.len() - 1;
    while at > 0 && worse(heap[at].0, heap[(at - 1) / 2].0) {
        heap.swap(at, (at - 1) / 2);
        at = (at - 1) / 2;
    }
}

/// Moves the first element down while a child is worse than it.
fn sink(heap: &mut [(f64, usize)], worse: impl Fn(f64, f64) -> bool) {
    let mut at = 0;
    while let Some(mut child) = Some(2 * at + 1).filter(|child| *child < heap.len()) {
        if child + 1 < heap.len() && worse(heap[child + 1].0, heap[child].0) {
            child += 1;
        }
        if !worse(heap[child].0, heap[at].0) {
            break;
        }
        heap.swap(at, child);
        at = child;
    }
}

/// Go sorts up to twelve elements this way. More of them may differ in the order of equals.
fn insertion_sort(items: &mut [(f64, usize)], less: impl Fn(f64, f64) -> bool) {
    if items.len() > 12 {
        let key = |a: &(f64, usize), b: &(f64, usize)| match (less(a.0, b.0), less(b.0, a.0)) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => Ordering::Equal,
        };
        items.sort_by(|a, b| a.0.is_nan().cmp(&b.0.is_nan()).then_with(|| key(a, b)));
        return;
    }
    for end in 1..items.len() {
        let mut at = end;
        while at > 0 && less(items[at].0, items[at - 1].0) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_stay_in_the_order_of_upstreams_heap() {
        let rows = |values: &[f64]| -> Vec<Row> {
            let of = |(place, value): (usize, &f64)| {
                let mut row = Row::empty(Labels::from_pairs([("a", place.to_string())]), 1);
                row.set(0, *value);
                row
            };
            values.iter().enumerate().map(of).collect()
        };
        let names: [String; 0] = [];
        for (top, k, values, want) in [
            (true, 2.0, &[1.0, 3.0, 2.0][..], &["1", "2"][..]),
            (false, 2.0, &[1.0, 3.0, 2.0], &["0", "2"]),
            (true, 2.0, &[f64::NAN, 1.0, 2.0], &["2", "1"]),
            (true, 9.0, &[f64::NAN, 1.0], &["1", "0"]),
            (true, 2.0, &[0.0, 0.0, 0.0, 1.0], &["3", "1"]),
            (true, 0.9, &[1.0], &[]),
        ] {
            let rows = rows(values);
            let groups = Groups::new(&rows, Subset { without: false, names: &names }, 0);
            let got = ranked(top, rows, &groups, &[k], &|| Ok(())).expect("in time");
            let got: Vec<&str> = got.iter().map(|row| row.labels.get("a").unwrap_or_default()).collect();
            assert_eq!(got, want, "{values:?}");
        }
    }
}
