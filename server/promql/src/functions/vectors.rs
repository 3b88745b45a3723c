//! Functions of whole vectors: presence, times, order.

use super::{CallSite, Function, Kernel, window};
use crate::{
    eval::Run,
    expr::{
        Expr, Node,
        Type::{Matrix, Scalar, String, Vector},
    },
    kernel::nan_first,
    notes::Note,
    select::Want,
    table::{Done, Row, Table, merged},
};
use model::{Builder, Labels, METRIC_NAME, MatchOp};
use std::cmp::Ordering;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("vector", &[Scalar], Vector, "The scalar as a vector without labels.", Kernel::Call(vector)),
    Function::new("absent", &[Vector], Vector, "1 where the vector is empty.", Kernel::Call(absent)),
    Function::new(
        "absent_over_time",
        &[Matrix],
        Vector,
        "1 where no window holds a sample.",
        Kernel::Call(absent_over_time),
    ),
    Function::new("timestamp", &[Vector], Vector, "When each sample was taken, in seconds.", Kernel::Call(timestamp)),
    Function::new(
        "start_timestamp",
        &[Vector],
        Vector,
        "When the counter behind each sample started, in seconds.",
        Kernel::Call(start_timestamp),
    )
    .experimental(),
    Function::new(
        "sort",
        &[Vector],
        Vector,
        "The elements by ascending value.",
        Kernel::Call(|run, site| by_value(run, site, |a, b| a.is_nan().cmp(&b.is_nan()).then(nan_first(a, b)))),
    ),
    Function::new(
        "sort_desc",
        &[Vector],
        Vector,
        "The elements by descending value.",
        Kernel::Call(|run, site| by_value(run, site, |a, b| a.is_nan().cmp(&b.is_nan()).then(nan_first(b, a)))),
    ),
    Function::new(
        "sort_by_label",
        &[Vector, String],
        Vector,
        "The elements by ascending label values, numbers in them as numbers.",
        Kernel::Call(|run, site| by_label(run, site, false)),
    )
    .between(1, usize::MAX)
    .experimental(),
    Function::new(
        "sort_by_label_desc",
        &[Vector, String],
        Vector,
        "The elements by descending label values, numbers in them as numbers.",
        Kernel::Call(|run, site| by_label(run, site, true)),
    )
    .between(1, usize::MAX)
    .experimental(),
];

fn vector(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let cells = run.scalar(&site.args[0])?;
    Ok(Table::Rows(vec![Row { cells, ..Row::constant(0.0, run.grid.steps) }]))
}

/// Labels of an absent vector: those that one equality matcher alone names.
fn absent_labels(arg: &Expr) -> Labels {
    let Node::Select(selector) = &arg.node else { return Labels::empty() };
    let mut labels = Builder::default();
    let mut named = Vec::new();
    for matcher in selector.matchers.iter().filter(|matcher| matcher.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !named.contains(&matcher.name()) {
            labels.set(matcher.name(), matcher.value());
            named.push(matcher.name());
        } else {
            labels.del(matcher.name());
        }
    }
    labels.build()
}

fn missing(arg: &Expr, present: &[bool]) -> Table {
    let mut row = Row::empty(absent_labels(arg), present.len());
    for step in (0..present.len()).filter(|step| !present[*step]) {
        row.set(step, 1.0);
    }
    Table::Rows(vec![row])
}

fn absent(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let mut present = vec![false; run.grid.steps];
    run.stream(&site.args[0], &mut |_, row| {
        present.iter_mut().enumerate().for_each(|(step, present)| *present |= row.holds(step));
        Ok(())
    })?;
    run.replaced(before, &[])?;
    Ok(missing(&site.args[0], &present))
}

fn absent_over_time(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let mut present = vec![false; run.grid.steps];
    let kernel = window::Kernel { run: |_| Ok(Some(1.0.into())), keeps_name: true, shortcut: None };
    let (windowed, range) = run.windowed(site, kernel)?;
    run.over_windows(windowed, &site.args[range])?.run(run, &mut |_, row| {
        present.iter_mut().zip(&row.present).for_each(|(present, here)| *present |= here);
        Ok(())
    })?;
    run.replaced(before, &[])?;
    Ok(missing(&site.args[0], &present))
}

fn timestamp(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let arg = &site.args[0];
    let mut rows = match &arg.bare().node {
        Node::Select(selector) => run.instant(selector, arg.span.start, Want::Time)?,
        _ => {
            let rows = run.rows(arg)?;
            let mut timed = Vec::with_capacity(rows.len());
            for row in rows {
                let mut out = row.like();
                (0..run.grid.steps)
                    .filter(|step| row.holds(*step))
                    .for_each(|step| out.set(step, run.grid.time(step) as f64 / 1000.0));
                timed.push(out);
            }
            timed
        }
    };
    rows.iter_mut().for_each(|row| run.unname(row));
    let rows = merged(rows)?;
    run.replaced(before, &rows)?;
    Ok(Table::Rows(rows))
}

/// Known only of samples as they are stored.
fn start_timestamp(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let arg = &site.args[0];
    let Node::Select(selector) = &arg.bare().node else {
        run.rows(arg)?;
        return Ok(Table::Rows(Vec::new()));
    };
    if !run.context.features.start_timestamps {
        return Ok(Table::Rows(Vec::new()));
    }
    let mut rows = run.instant(selector, arg.span.start, Want::Start)?;
    rows.iter_mut().for_each(|row| run.unname(row));
    merged(rows).map(Table::Rows)
}

/// Orders an instant answer; a range is ordered by labels whatever is asked.
fn ordered(
    run: &mut Run<'_>,
    site: &CallSite<'_>,
    floats: bool,
    compare: impl Fn(&Row, &Row) -> Ordering,
) -> Done<Table> {
    let mut rows = run.rows(&site.args[0])?;
    if run.grid.steps > 1 {
        run.notes.add(site.at, &Note::SortOfRange);
        return Ok(Table::Rows(rows));
    }
    rows.retain(|row| row.present[0] || !floats && row.holds(0));
    rows.sort_by(compare);
    Ok(Table::Rows(rows))
}

fn by_value(run: &mut Run<'_>, site: &CallSite<'_>, compare: fn(f64, f64) -> Ordering) -> Done<Table> {
    ordered(run, site, true, |a, b| compare(a.cells[0], b.cells[0]))
}

fn by_label(run: &mut Run<'_>, site: &CallSite<'_>, descending: bool) -> Done<Table> {
    let names: Vec<&str> = site.args[1..]
        .iter()
        .filter_map(|arg| match &arg.bare().node {
            Node::Text(text) => Some(text.value.as_str()),
            _ => None,
        })
        .collect();
    ordered(run, site, false, |a, b| {
        let value = |row: &'_ Row, name: &str| row.labels.get(name).unwrap_or_default().to_owned();
        let by_names = names.iter().map(|name| natural(&value(a, name), &value(b, name)));
        let order = by_names.fold(Ordering::Equal, Ordering::then).then_with(|| a.labels.cmp(&b.labels));
        if descending { order.reverse() } else { order }
    })
}

/// Runs of digits compare as numbers, everything else as text.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while !left.is_empty() && !right.is_empty() {
        let ((one, rest), (other, others)) = (chunk(left), chunk(right));
        let order = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            _ => one.cmp(other),
        };
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (rest, others);
    }
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

fn chunk(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let mut texts = ["a10", "a9", "a", "b1", "a9b", "", "10", "9"];
        texts.sort_by(|a, b| natural(a, b));
        assert_eq!(texts, ["", "9", "10", "a", "a9", "a9b", "a10", "b1"]);
    }
}
