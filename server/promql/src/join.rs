//! Binary operators: arithmetic, comparison, sets, and the matching of two vectors.

use crate::{
    QueryError,
    eval::{Row, Run, Table, grouped, mapped, unique},
    expr::Matching,
};
use model::{Builder, Labels, METRIC_NAME};
use std::collections::{BTreeMap, BTreeSet};

type Done<T> = Result<T, QueryError>;

pub(crate) fn binary(
    run: &mut Run<'_>,
    op: &str,
    left: Table,
    right: Table,
    bool: bool,
    matching: &Matching,
) -> Done<Table> {
    match (left, right) {
        (Table::Scalar(a), Table::Scalar(b)) => Ok(Table::Scalar(
            a.into_iter().zip(b).map(|(a, b)| arithmetic(op, a, b).unwrap_or_else(|| truth(op, a, b))).collect(),
        )),
        (Table::Rows(rows), Table::Scalar(s)) => scaled(op, rows, &s, bool, false).map(Table::Rows),
        (Table::Scalar(s), Table::Rows(rows)) => scaled(op, rows, &s, bool, true).map(Table::Rows),
        (Table::Rows(left), Table::Rows(right)) => {
            run.charge((left.len() + right.len()) * run.grid.steps)?;
            let rows = match op {
                "and" | "unless" | "or" => sets(op, left, right, matching, run.grid.steps),
                _ => joined(op, left, right, bool, matching, run.grid.steps)?,
            };
            Ok(Table::Rows(rows))
        }
        _ => Err(QueryError::Execution("binary operators take scalars and instant vectors".into())),
    }
}

/// The value of an arithmetic operator; none for comparisons.
fn arithmetic(op: &str, a: f64, b: f64) -> Option<f64> {
    Some(match op {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "%" => a % b,
        "^" => a.powf(b),
        "atan2" => a.atan2(b),
        _ => return None,
    })
}

fn compares(op: &str, a: f64, b: f64) -> bool {
    match op {
        "==" => a == b,
        "!=" => a != b,
        "<" => a < b,
        ">" => a > b,
        "<=" => a <= b,
        _ => a >= b,
    }
}

fn truth(op: &str, a: f64, b: f64) -> f64 {
    f64::from(u8::from(compares(op, a, b)))
}

/// Vector and scalar. A filter keeps the vector's value even when the scalar stands on the left.
fn scaled(op: &str, rows: Vec<Row>, scalar: &[f64], bool: bool, swapped: bool) -> Done<Vec<Row>> {
    let sides = |v, step: usize| if swapped { (scalar[step], v) } else { (v, scalar[step]) };
    if arithmetic(op, 1.0, 1.0).is_some() || bool {
        let apply = |v, step| {
            let (a, b) = sides(v, step);
            arithmetic(op, a, b).unwrap_or_else(|| truth(op, a, b))
        };
        return unique(rows.into_iter().map(|row| mapped(row, &apply)).collect());
    }
    let filter = |mut row: Row| {
        for step in 0..row.cells.len() {
            let (a, b) = sides(row.cells[step], step);
            row.present[step] &= compares(op, a, b);
        }
        row
    };
    Ok(rows.into_iter().map(filter).collect())
}

/// The labels two sides must agree in.
fn key(labels: &Labels, matching: &Matching) -> Labels {
    grouped(labels, !matching.on, &matching.labels)
}

fn sets(op: &str, left: Vec<Row>, right: Vec<Row>, matching: &Matching, steps: usize) -> Vec<Row> {
    let mut masks: BTreeMap<Labels, Vec<bool>> = BTreeMap::new();
    for row in if op == "or" { &left } else { &right } {
        let mask = masks.entry(key(&row.labels, matching)).or_insert_with(|| vec![false; steps]);
        mask.iter_mut().zip(&row.present).for_each(|(have, present)| *have |= present);
    }
    let keep = |mut row: Row, wanted: bool| {
        let mask = masks.get(&key(&row.labels, matching));
        for step in 0..steps {
            row.present[step] &= mask.is_some_and(|mask| mask[step]) == wanted;
        }
        row
    };
    match op {
        "or" => {
            let more: Vec<Row> = right.into_iter().map(|row| keep(row, false)).collect();
            left.into_iter().chain(more).collect()
        }
        _ => left.into_iter().map(|row| keep(row, op == "and")).collect(),
    }
}

fn joined(op: &str, left: Vec<Row>, right: Vec<Row>, bool: bool, matching: &Matching, steps: usize) -> Done<Vec<Row>> {
    let many_left = matching.group.as_ref().is_none_or(|(left, _)| *left);
    let (many, one) = if many_left { (left, right) } else { (right, left) };
    let side = if many_left { "right" } else { "left" };
    let one = one_side(one, matching, side)?;
    let filter = arithmetic(op, 1.0, 1.0).is_none() && !bool;
    let mut out = Vec::new();
    let mut taken: BTreeMap<Labels, Vec<bool>> = BTreeMap::new();
    for row in many {
        let group = key(&row.labels, matching);
        for partner in one.get(&group).into_iter().flatten() {
            let labels = result_labels(&row.labels, &partner.labels, op, filter, matching);
            let mut joined = Row::empty(labels, steps);
            for step in (0..steps).filter(|step| row.present[*step] && partner.present[*step]) {
                // One many-side series may meet a step; two would make the answer ambiguous.
                let unique = if matching.group.is_some() { &joined.labels } else { &group };
                let seen = match taken.get_mut(unique) {
                    Some(seen) => seen,
                    None => taken.entry(unique.clone()).or_insert_with(|| vec![false; steps]),
                };
                if std::mem::replace(&mut seen[step], true) {
                    let text = if matching.group.is_some() {
                        "multiple matches for labels: grouping labels must ensure unique matches"
                    } else {
                        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    };
                    return Err(QueryError::Execution(text.into()));
                }
                let (mine, other) = (row.cells[step], partner.cells[step]);
                let (a, b) = if many_left { (mine, other) } else { (other, mine) };
                match arithmetic(op, a, b) {
                    Some(value) => joined.set(step, value),
                    None if bool => joined.set(step, truth(op, a, b)),
                    None if compares(op, a, b) => joined.set(step, a),
                    None => {}
                }
            }
            out.push(joined);
        }
    }
    unique(out)
}

/// The side that must be unique per group at each step.
fn one_side(rows: Vec<Row>, matching: &Matching, side: &str) -> Done<BTreeMap<Labels, Vec<Row>>> {
    let mut groups: BTreeMap<Labels, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let group = groups.entry(key(&row.labels, matching)).or_default();
        let clash = |have: &&Row| have.present.iter().zip(&row.present).any(|(a, b)| *a && *b);
        if let Some(other) = group.iter().find(clash) {
            let text = format!(
                "found duplicate series for the match group {} on the {side} hand-side of the operation: [{}, {}];many-to-many \
                 matching not allowed: matching labels must be unique on one side",
                key(&row.labels, matching),
                row.labels,
                other.labels
            );
            return Err(QueryError::Execution(text));
        }
        group.push(row);
    }
    Ok(groups)
}

fn result_labels(many: &Labels, one: &Labels, _op: &str, filter: bool, matching: &Matching) -> Labels {
    let mut builder = Builder::from(many);
    if !filter {
        builder.del(METRIC_NAME);
    }
    match &matching.group {
        None => {
            let names: BTreeSet<&str> = matching.labels.iter().map(String::as_str).collect();
            builder.retain(|name, _| if matching.on { names.contains(name) } else { !names.contains(name) });
        }
        Some((_, include)) => {
            for name in include {
                builder.set(name, one.get(name).unwrap_or_default());
            }
        }
    }
    builder.build()
}
