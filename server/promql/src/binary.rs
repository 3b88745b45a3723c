//! Binary operators: numbers, vectors with scalars (as stages of a pipeline), sets of series. Joins of two vectors are in
//! `join`.

mod element;
mod join;

use crate::{
    QueryError,
    eval::Run,
    expr::{Expr, Matching, Op},
    keys::{Keys, Subset},
    table::{Done, Row, Table, Value, merged},
    worker::Worker,
};
use element::{Outcome, Side, combine};
use model::Labels;

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
}

/// An operator with a scalar. A filter keeps the vector's value even when the scalar stands on the left.
pub(crate) struct Scaling {
    pub(crate) op: Op,
    pub(crate) bool: bool,
    /// Whether the scalar stands on the left.
    pub(crate) swapped: bool,
    /// Where the expression stands.
    pub(crate) at: usize,
    /// By step.
    pub(crate) scalar: Vec<f64>,
}

impl Scaling {
    pub(crate) fn row(&self, worker: &mut Worker<'_>, mut row: Row) -> Row {
        let Self { op, bool, swapped, at, ref scalar } = *self;
        if op.drops_name() || bool {
            worker.unname(&mut row);
        }
        if row.histograms.is_none() && element::scaled(op, &mut row, scalar, (bool, swapped)) {
            return row;
        }
        for (step, scalar) in scalar.iter().enumerate() {
            let Some(cell) = row.get(step) else { continue };
            let (vector, scalar) = (Side::from(cell), Side::Float(*scalar));
            let (one, other) = if swapped { (scalar, vector) } else { (vector, scalar) };
            let value = match combine(op, one, other, at, &mut worker.notes) {
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
        row
    }
}

/// The labels two sides must agree in.
fn subset(matching: &Matching) -> Subset<'_> {
    Subset { names: &matching.labels, without: !matching.on }
}

/// A set of them.
fn signature(labels: &Labels, matching: &Matching) -> Labels {
    subset(matching).labels(labels)
}

/// Signatures of both sides as dense numbers.
struct Ordinals {
    left: Vec<usize>,
    right: Vec<usize>,
    count: usize,
}

impl Ordinals {
    fn new(left: &[Row], right: &[Row], matching: &Matching) -> Self {
        let mut keys = Keys::new(subset(matching));
        let mut of = |rows: &[Row]| -> Vec<usize> { rows.iter().map(|row| keys.number(&row.labels).0).collect() };
        let (left, right) = (of(left), of(right));
        Self { left, right, count: keys.heads().len() }
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
