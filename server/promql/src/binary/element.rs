//! One pair of samples under a binary operator.

use crate::{
    expr::Op,
    histogram::{Hint, Histogram, Incompatible},
    notes::{Note, Notes, Operation},
    table::{Cell, Row, Value},
};
use std::sync::Arc;

/// A sample on one side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl<'a> From<Cell<'a>> for Side<'a> {
    fn from(cell: Cell<'a>) -> Self {
        match cell {
            Cell::Float(value) => Self::Float(value),
            Cell::Histogram(value) => Self::Histogram(value),
        }
    }
}

impl Side<'_> {
    fn kind(self) -> &'static str {
        match self {
            Self::Float(_) => "float",
            Self::Histogram(_) => "histogram",
        }
    }

    pub(super) fn value(self) -> Value {
        match self {
            Self::Float(value) => Value::Float(value),
            Self::Histogram(value) => Value::Histogram(Arc::clone(value)),
        }
    }
}

/// What an operator makes of a pair.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// The operator is not for these kinds.
    Nothing,
    /// A new value.
    Value(Value),
    /// A comparison.
    Truth(bool),
}

/// The value of an operator on two numbers; comparisons give 0 or 1.
pub(super) fn number(op: Op, a: f64, b: f64) -> f64 {
    match op {
        Op::Add => a + b,
        Op::Sub => a - b,
        Op::Mul => a * b,
        Op::Div => a / b,
        Op::Mod => a % b,
        Op::Pow => a.powf(b),
        Op::Atan2 => a.atan2(b),
        _ => f64::from(u8::from(compares(op, a, b))),
    }
}

fn compares(op: Op, a: f64, b: f64) -> bool {
    match op {
        Op::Equal => a == b,
        Op::NotEqual => a != b,
        Op::Less => a < b,
        Op::Greater => a > b,
        Op::LessEqual => a <= b,
        Op::GreaterEqual => a >= b,
        _ => false,
    }
}

pub(super) fn combine(op: Op, left: Side<'_>, right: Side<'_>, at: usize, notes: &mut Notes) -> Outcome {
    let changed = |histogram: &Histogram, change: &dyn Fn(&mut Histogram)| {
        let mut histogram = histogram.clone();
        change(&mut histogram);
        histogram.compact();
        Outcome::Value(histogram.into())
    };
    match (left, op, right) {
        (Side::Float(a), op, Side::Float(b)) if op.compares() => Outcome::Truth(compares(op, a, b)),
        (Side::Float(a), op, Side::Float(b)) if op.drops_name() => Outcome::Value(number(op, a, b).into()),
        (Side::Float(factor), Op::Mul, Side::Histogram(histogram))
        | (Side::Histogram(histogram), Op::Mul, Side::Float(factor)) => {
            changed(histogram, &|histogram| histogram.scale(factor))
        }
        (Side::Histogram(histogram), Op::Div, Side::Float(by)) => changed(histogram, &|histogram| histogram.divide(by)),
        (Side::Histogram(histogram), Op::TrimUpper, Side::Float(cut)) => {
            changed(histogram, &|histogram| histogram.trim(cut, false))
        }
        (Side::Histogram(histogram), Op::TrimLower, Side::Float(cut)) => {
            changed(histogram, &|histogram| histogram.trim(cut, true))
        }
        (Side::Histogram(a), Op::Add | Op::Sub, Side::Histogram(b)) => summed(op, a, b, at, notes),
        (Side::Histogram(a), Op::Equal, Side::Histogram(b)) => Outcome::Truth(a.same(b)),
        (Side::Histogram(a), Op::NotEqual, Side::Histogram(b)) => Outcome::Truth(!a.same(b)),
        (left, op, right) => {
            notes.add(at, &Note::IncompatibleTypes(left.kind(), op.as_str(), right.kind()));
            Outcome::Nothing
        }
    }
}

fn summed(op: Op, a: &Histogram, b: &Histogram, at: usize, notes: &mut Notes) -> Outcome {
    let mut sum = a.clone();
    let (met, operation) =
        if op == Op::Add { (sum.add(b), Operation::Addition) } else { (sum.sub(b), Operation::Subtraction) };
    match met {
        Ok(met) => {
            if met.hints {
                notes.add(at, &Note::ConflictingResets(operation));
            }
            if met.bounds {
                notes.add(at, &Note::Rebounded(operation));
            }
        }
        Err(Incompatible) => {
            notes.add(at, &Note::IncompatibleBuckets(op.as_str()));
            return Outcome::Nothing;
        }
    }
    if op == Op::Sub {
        sum.hint = Hint::Gauge;
    }
    sum.compact();
    Outcome::Value(sum.into())
}

/// Calls a loop with the function of an arithmetic operator, so that it is chosen once a row and not once a cell.
macro_rules! arithmetic {
    ($op:expr, $run:ident($($arg:expr),*)) => {
        match $op {
            Op::Add => $run($($arg,)* |a, b| a + b),
            Op::Sub => $run($($arg,)* |a, b| a - b),
            Op::Mul => $run($($arg,)* |a, b| a * b),
            Op::Div => $run($($arg,)* |a, b| a / b),
            Op::Mod => $run($($arg,)* |a, b| a % b),
            Op::Pow => $run($($arg,)* f64::powf),
            Op::Atan2 => $run($($arg,)* f64::atan2),
            _ => return false,
        }
    };
}

/// The same for comparisons.
macro_rules! comparison {
    ($op:expr, $run:ident($($arg:expr),*)) => {
        match $op {
            Op::Equal => $run($($arg,)* |a, b| a == b),
            Op::NotEqual => $run($($arg,)* |a, b| a != b),
            Op::Less => $run($($arg,)* |a, b| a < b),
            Op::Greater => $run($($arg,)* |a, b| a > b),
            Op::LessEqual => $run($($arg,)* |a, b| a <= b),
            Op::GreaterEqual => $run($($arg,)* |a, b| a >= b),
            _ => return false,
        }
    };
}

/// A row of floats with a scalar; false when the operator is not for floats.
pub(super) fn scaled(op: Op, row: &mut Row, scalar: &[f64], (bool, swapped): (bool, bool)) -> bool {
    if op.compares() {
        comparison!(op, filter_scaled(row, scalar, bool, swapped));
    } else {
        arithmetic!(op, apply_scaled(row, scalar, swapped));
    }
    true
}

fn apply_scaled(row: &mut Row, scalar: &[f64], swapped: bool, value: impl Fn(f64, f64) -> f64) {
    for (cell, scalar) in row.cells.iter_mut().zip(scalar) {
        *cell = if swapped { value(*scalar, *cell) } else { value(*cell, *scalar) };
    }
}

fn filter_scaled(row: &mut Row, scalar: &[f64], bool: bool, swapped: bool, holds: impl Fn(f64, f64) -> bool) {
    for ((cell, present), scalar) in row.cells.iter_mut().zip(&mut row.present).zip(scalar) {
        let truth = if swapped { holds(*scalar, *cell) } else { holds(*cell, *scalar) };
        if bool {
            *cell = f64::from(u8::from(truth));
        } else {
            *present &= truth;
        }
    }
}

/// Two rows of floats into a third, where both are present; false when the operator is not for floats.
pub(super) fn joined(op: Op, bool: bool, left: &Row, right: &Row, out: &mut Row) -> bool {
    if op.compares() {
        comparison!(op, filter_joined(left, right, out, bool));
    } else {
        arithmetic!(op, apply_joined(left, right, out));
    }
    true
}

fn apply_joined(left: &Row, right: &Row, out: &mut Row, value: impl Fn(f64, f64) -> f64) {
    for step in 0..out.cells.len() {
        out.present[step] = left.present[step] & right.present[step];
        out.cells[step] = value(left.cells[step], right.cells[step]);
    }
}

fn filter_joined(left: &Row, right: &Row, out: &mut Row, bool: bool, holds: impl Fn(f64, f64) -> bool) {
    for step in 0..out.cells.len() {
        let truth = holds(left.cells[step], right.cells[step]);
        out.present[step] = left.present[step] & right.present[step] & (bool | truth);
        out.cells[step] = if bool { f64::from(u8::from(truth)) } else { left.cells[step] };
    }
}
