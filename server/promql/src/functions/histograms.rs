//! Functions of histograms: native ones, and classic ones made of series with the label `le`.

use super::{CallSite, Function, Kernel};
use crate::{
    eval::Run,
    expr::{
        Node,
        Type::{Scalar, String as Str, Vector},
    },
    histogram::{
        Histogram, NanObservations,
        classic::{self, Cumulative},
    },
    notes::Note,
    table::{Done, Row, Table, merged},
};
use model::{Builder, Labels};
use std::collections::HashMap;

pub(super) const FUNCTIONS: &[Function] = &[
    of("histogram_count", "The number of observations of native histograms.", |histogram| histogram.count),
    of("histogram_sum", "The sum of the observations of native histograms.", |histogram| histogram.sum),
    of("histogram_avg", "The mean of the observations of native histograms.", |histogram| {
        histogram.sum / histogram.count
    }),
    of("histogram_stddev", "The estimated standard deviation of the observations of native histograms.", |histogram| {
        histogram.variance().sqrt()
    }),
    of("histogram_stdvar", "The estimated variance of the observations of native histograms.", Histogram::variance),
    Function::new(
        "histogram_quantile",
        &[Scalar, Vector],
        Vector,
        "The quantile of histograms of both kinds.",
        Kernel::Call(quantile),
    ),
    Function::new(
        "histogram_quantiles",
        &[Vector, Str, Scalar],
        Vector,
        "Several quantiles of histograms, told apart by a label.",
        Kernel::Call(quantiles),
    )
    .between(3, 12)
    .experimental(),
    Function::new(
        "histogram_fraction",
        &[Scalar, Scalar, Vector],
        Vector,
        "The share of observations between two values.",
        Kernel::Call(fraction),
    ),
];

const fn of(name: &'static str, doc: &'static str, kernel: fn(&Histogram) -> f64) -> Function {
    Function::new(name, &[Vector], Vector, doc, Kernel::OfHistogram(kernel))
}

/// Rows that together are classic histograms, and rows that hold native ones.
struct Sorted {
    rows: Vec<Row>,
    groups: Vec<Group>,
    /// The classic group with the same labels, by row that holds native histograms.
    natives: Vec<(usize, Option<usize>)>,
    /// Where the vector argument begins.
    at: usize,
}

struct Group {
    /// Labels and whether the name goes.
    head: Row,
    /// Row and upper bound.
    members: Vec<(usize, f64)>,
    /// Members whose bound cannot be read, by row.
    broken: Vec<usize>,
}

fn sorted(run: &mut Run<'_>, site: &CallSite<'_>, arg: usize) -> Done<Sorted> {
    let rows = run.rows(&site.args[arg])?;
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for (place, row) in rows.iter().enumerate().filter(|(_, row)| row.present.contains(&true)) {
        let mut rest = Builder::from(&row.labels);
        let labels = rest.del("le").build();
        let group = *places.entry(labels.clone()).or_insert_with(|| {
            let head = Row { unnamed: row.unnamed, ..Row::empty(labels, 0) };
            groups.push(Group { head, members: Vec::new(), broken: Vec::new() });
            groups.len() - 1
        });
        let bound = row.labels.get("le").unwrap_or_default();
        match bound.strip_prefix('+').unwrap_or(bound).parse() {
            Ok(bound) => groups[group].members.push((place, bound)),
            Err(_) => groups[group].broken.push(place),
        }
    }
    let natives = rows.iter().enumerate().filter(|(_, row)| row.histograms.is_some());
    let natives = natives.map(|(place, row)| (place, places.get(&row.labels).copied())).collect();
    Ok(Sorted { rows, groups, natives, at: site.place(arg) })
}

/// What is computed of one histogram at one step.
enum One<'a> {
    Native(&'a Histogram),
    Classic(&'a mut Vec<Cumulative>),
}

/// Computes one row for every histogram. O(buckets log buckets) per step.
fn each(
    run: &mut Run<'_>,
    sorted: &Sorted,
    mut compute: impl FnMut(&mut Run<'_>, usize, &str, One<'_>) -> f64,
) -> Done<Vec<Row>> {
    let steps = run.grid.steps;
    let mut out: Vec<Row> = sorted.natives.iter().map(|(place, _)| sorted.rows[*place].like()).collect();
    out.extend(
        sorted
            .groups
            .iter()
            .map(|group| Row { unnamed: group.head.unnamed, ..Row::empty(group.head.labels.clone(), steps) }),
    );
    let names: Vec<String> = out.iter().map(|row| row.labels.metric_name().to_owned()).collect();
    let classic_from = sorted.natives.len();
    let mut buckets = Vec::new();
    let mut clashing = vec![false; sorted.groups.len()];
    for step in 0..steps {
        run.alive()?;
        clashing.fill(false);
        for group in &sorted.groups {
            for place in group.broken.iter().filter(|place| sorted.rows[**place].present[step]) {
                let labels = &sorted.rows[*place].labels;
                let bound = labels.get("le").unwrap_or_default();
                run.notes.add(sorted.at, &Note::BadBucketLabel(labels.metric_name(), bound));
            }
        }
        for (index, (place, group)) in sorted.natives.iter().enumerate() {
            let Some(histogram) = sorted.rows[*place].histogram(step) else { continue };
            let classic = group.filter(|group| {
                sorted.groups[*group].members.iter().any(|(place, _)| sorted.rows[*place].present[step])
            });
            if let Some(group) = classic {
                run.notes.add(sorted.at, &Note::ClassicAndNative(&names[index]));
                clashing[group] = true;
                continue;
            }
            let value = compute(run, step, &names[index], One::Native(histogram));
            out[index].set(step, value);
        }
        for (index, group) in sorted.groups.iter().enumerate().filter(|(index, _)| !clashing[*index]) {
            buckets.clear();
            let present = group.members.iter().filter(|(place, _)| sorted.rows[*place].present[step]);
            buckets.extend(
                present.map(|(place, bound)| Cumulative { bound: *bound, count: sorted.rows[*place].cells[step] }),
            );
            if buckets.is_empty() {
                continue;
            }
            let index = classic_from + index;
            let value = compute(run, step, &names[index], One::Classic(&mut buckets));
            out[index].set(step, value);
        }
    }
    Ok(out)
}

/// The quantile of one histogram, and what is to be said about it.
fn quantile_of(run: &mut Run<'_>, q: f64, step: usize, name: &str, one: One<'_>, place: usize) -> f64 {
    match one {
        One::Native(histogram) => {
            let (value, nan) = histogram.quantile(q);
            match nan {
                NanObservations::None => {}
                NanObservations::Result => run.notes.add(place, &Note::NanResult(name)),
                NanObservations::Skew => run.notes.add(place, &Note::NanSkew(name)),
            }
            value
        }
        One::Classic(buckets) => {
            let (value, lifted) = classic::quantile(q, buckets);
            if let Some(lifted) = lifted {
                let name = if run.context.features.delayed_name_removal { name } else { "" };
                let (at, classic::Lifted { lowest, highest, difference }) = (run.grid.time(step), lifted);
                run.notes.add(place, &Note::Lifted { name, at, lowest, highest, difference });
            }
            value
        }
    }
}

fn check(run: &mut Run<'_>, cells: &[f64], place: usize) {
    for q in cells.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        run.notes.add(place, &Note::BadQuantile(*q));
    }
}

fn finished(run: &mut Run<'_>, before: (usize, usize), mut rows: Vec<Row>) -> Done<Table> {
    rows.iter_mut().for_each(|row| run.unname(row));
    let rows = merged(rows)?;
    run.replaced(before, &rows)?;
    Ok(Table::Rows(rows))
}

fn quantile(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let q = run.scalar(&site.args[0])?;
    let sorted = sorted(run, site, 1)?;
    check(run, &q, site.place(0));
    let place = sorted.at;
    let rows = each(run, &sorted, |run, step, name, one| quantile_of(run, q[step], step, name, one, place))?;
    finished(run, before, rows)
}

fn quantiles(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let sorted = sorted(run, site, 0)?;
    let label = match &site.args[1].bare().node {
        Node::Text(text) => text.value.clone(),
        _ => String::new(),
    };
    let mut out = Vec::new();
    for arg in 2..site.args.len() {
        let q = run.scalar(&site.args[arg])?;
        check(run, &q, site.place(arg));
        let place = sorted.at;
        let rows = each(run, &sorted, |run, step, name, one| quantile_of(run, q[step], step, name, one, place))?;
        for row in rows {
            out.extend(labelled(&row, &label, &q));
        }
    }
    finished(run, before, out)
}

/// The row with the quantile as a label; where that changes from step to step there are several.
fn labelled(row: &Row, label: &str, q: &[f64]) -> Vec<Row> {
    let mut out: Vec<(u64, Row)> = Vec::new();
    for step in (0..q.len()).filter(|step| row.holds(*step)) {
        let bits = q[step].to_bits();
        let place = out.iter().position(|(have, _)| *have == bits).unwrap_or_else(|| {
            let mut labels = Builder::from(&row.labels);
            let mut made = row.like();
            made.labels = labels.set(label, &open_metrics(q[step])).build();
            out.push((bits, made));
            out.len() - 1
        });
        out[place].1.set(step, row.cells[step]);
    }
    out.into_iter().map(|(_, row)| row).collect()
}

/// A float as OpenMetrics writes it: never without a point or an exponent.
fn open_metrics(value: f64) -> String {
    let text = crate::notes::general(value);
    if text.contains(|c: char| !c.is_ascii_digit() && c != '-') { text } else { format!("{text}.0") }
}

fn fraction(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let (lower, upper) = (run.scalar(&site.args[0])?, run.scalar(&site.args[1])?);
    let sorted = sorted(run, site, 2)?;
    let place = sorted.at;
    let rows = each(run, &sorted, |run, step, name, one| match one {
        One::Native(histogram) => {
            let (value, nan) = histogram.fraction(lower[step], upper[step]);
            if nan {
                run.notes.add(place, &Note::NanFraction(name));
            }
            value
        }
        One::Classic(buckets) => classic::fraction(lower[step], upper[step], buckets),
    })?;
    finished(run, before, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_as_labels() {
        for (value, text) in [(0.5, "0.5"), (1.0, "1.0"), (0.0, "0.0"), (f64::NAN, "NaN"), (1e-5, "1e-05")] {
            assert_eq!(open_metrics(value), text);
        }
    }
}
