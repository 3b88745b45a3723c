//! Binary operators: numbers, vectors with scalars, sets of series. Joins of two vectors are in `join`.

mod element;
mod join;

use crate::{
    QueryError,
    eval::Run,
    expr::{Expr, Matching, Op},
    table::{Done, Row, Table, Value, merged},
};
use element::{Outcome, Side, combine};
use model::{Builder, Labels, METRIC_NAME};
use std::collections::HashMap;

impl Run<'_> {
    pub(crate) fn binary(
        &mut self,
        expr: &Expr,
        op: Op,
        bool: bool,
        matching: &Matching,
        left: Table,
        right: Table,
    ) -> Done<Table> {
        let at = expr.span.start;
        match (left, right) {
            (Table::Scalar(a), Table::Scalar(b)) => {
                Ok(Table::Scalar(a.into_iter().zip(b).map(|(a, b)| element::number(op, a, b)).collect()))
            }
            (Table::Rows(rows), Table::Scalar(scalar)) => {
                self.with_scalar(op, rows, &scalar, (bool, false), at).map(Table::Rows)
            }
            (Table::Scalar(scalar), Table::Rows(rows)) => {
                self.with_scalar(op, rows, &scalar, (bool, true), at).map(Table::Rows)
            }
            (Table::Rows(left), Table::Rows(right)) if op.is_set() => {
                let rows = sets(op, left, right, matching, self.grid.steps);
                merged(rows).map(Table::Rows)
            }
            (Table::Rows(left), Table::Rows(right)) => {
                let joined = join::Join::new(self, op, bool, matching, at, &left, &right);
                joined.run(&left, &right).map(Table::Rows)
            }
            _ => Err(QueryError::Execution("binary operators take scalars and instant vectors".into())),
        }
    }

    /// Vector and scalar. A filter keeps the vector's value even when the scalar stands on the left.
    fn with_scalar(
        &mut self,
        op: Op,
        rows: Vec<Row>,
        scalar: &[f64],
        (bool, swapped): (bool, bool),
        at: usize,
    ) -> Done<Vec<Row>> {
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            if op.drops_name() || bool {
                self.unname(&mut row);
            }
            if row.histograms.is_none() && element::scaled(op, &mut row, scalar, (bool, swapped)) {
                out.push(row);
                continue;
            }
            for (step, scalar) in scalar.iter().enumerate() {
                let Some(cell) = row.get(step) else { continue };
                let (vector, scalar) = (Side::from(cell), Side::Float(*scalar));
                let (one, other) = if swapped { (scalar, vector) } else { (vector, scalar) };
                let value = match combine(op, one, other, at, &mut self.notes) {
                    Outcome::Nothing => None,
                    Outcome::Value(value) => Some(value),
                    Outcome::Truth(truth) if bool => Some(Value::Float(f64::from(u8::from(truth)))),
                    Outcome::Truth(true) => continue,
                    Outcome::Truth(false) => None,
                };
                row.clear(step);
                if let Some(value) = value {
                    row.set(step, value);
                }
            }
            out.push(row);
        }
        merged(out)
    }
}

/// The labels two sides must agree in.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    let mut builder = Builder::from(labels);
    builder.retain(|name, _| {
        let named = matching.labels.iter().any(|have| have == name);
        if matching.on { named } else { !named && name != METRIC_NAME }
    });
    builder.build()
}

/// Signatures of both sides as dense numbers.
struct Ordinals {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
}

impl Ordinals {
    fn new(left: &[Row], right: &[Row], matching: &Matching) -> Self {
        let mut known: HashMap<Labels, usize> = HashMap::new();
        let mut of = |rows: &[Row]| -> Vec<usize> {
            rows.iter()
                .map(|row| {
                    let next = known.len();
                    *known.entry(signature(&row.labels, matching)).or_insert(next)
                })
                .collect()
        };
        let (left, right) = (of(left), of(right));
        Self { left, right, count: known.len() }
    }
}

/// `and`, `or`, `unless`: by which steps the other side has something of the same signature. O(rows × steps).
fn sets(op: Op, left: Vec<Row>, right: Vec<Row>, matching: &Matching, steps: usize) -> Vec<Row> {
    let ordinals = Ordinals::new(&left, &right, matching);
    let mut masks: Vec<Option<Vec<bool>>> = vec![None; ordinals.count];
    let (seen, of) = if op == Op::Or { (&left, &ordinals.left) } else { (&right, &ordinals.right) };
    for (row, ordinal) in seen.iter().zip(of) {
        let mask = masks[*ordinal].get_or_insert_with(|| vec![false; steps]);
        mask.iter_mut().enumerate().for_each(|(step, seen)| *seen |= row.holds(step));
    }
    let keep = |(mut row, ordinal): (Row, &usize), wanted: bool| {
        let mask = masks[*ordinal].as_ref();
        for step in 0..steps {
            if mask.is_some_and(|mask| mask[step]) != wanted {
                row.clear(step);
            }
        }
        row
    };
    if op == Op::Or {
        let more: Vec<Row> = right.into_iter().zip(&ordinals.right).map(|pair| keep(pair, false)).collect();
        return left.into_iter().chain(more).collect();
    }
    left.into_iter().zip(&ordinals.left).map(|pair| keep(pair, op == Op::And)).collect()
}
