//! Functions that give a scalar: of the query, of vectors, of scalars.

use super::{CallSite, Function, Kernel};
use crate::{
    eval::Run,
    expr::Type::{Scalar, Vector},
    kernel::{max, min},
    table::{Done, Table},
};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("pi", &[], Scalar, "The number pi.", Kernel::Call(|run, _| constant(run, std::f64::consts::PI))),
    Function::new(
        "time",
        &[],
        Scalar,
        "The time of evaluation in seconds.",
        Kernel::Call(|run, _| {
            Ok(Table::Scalar((0..run.grid.steps).map(|step| run.grid.time(step) as f64 / 1000.0).collect()))
        }),
    ),
    Function::new("scalar", &[Vector], Scalar, "The only float of a vector, otherwise NaN.", Kernel::Call(scalar)),
    Function::new(
        "start",
        &[],
        Scalar,
        "The start of the query in seconds.",
        Kernel::Call(|run, _| constant(run, run.context.start as f64 / 1000.0)),
    )
    .experimental(),
    Function::new(
        "end",
        &[],
        Scalar,
        "The end of the query in seconds.",
        Kernel::Call(|run, _| constant(run, run.context.end as f64 / 1000.0)),
    )
    .experimental(),
    Function::new(
        "range",
        &[],
        Scalar,
        "The length of the query in seconds.",
        Kernel::Call(|run, _| constant(run, run.context.end.saturating_sub(run.context.start) as f64 / 1000.0)),
    )
    .experimental(),
    Function::new(
        "step",
        &[],
        Scalar,
        "The step of the query in seconds.",
        Kernel::Call(|run, _| constant(run, run.context.step as f64 / 1000.0)),
    )
    .experimental(),
    Function::new(
        "min_of",
        &[Scalar, Scalar],
        Scalar,
        "The lesser of two scalars.",
        Kernel::Call(|run, site| both(run, site, min)),
    )
    .experimental(),
    Function::new(
        "max_of",
        &[Scalar, Scalar],
        Scalar,
        "The greater of two scalars.",
        Kernel::Call(|run, site| both(run, site, max)),
    )
    .experimental(),
];

fn constant(run: &Run<'_>, value: f64) -> Done<Table> {
    Ok(Table::Scalar(vec![value; run.grid.steps]))
}

fn both(run: &mut Run<'_>, site: &CallSite<'_>, pick: fn(f64, f64) -> f64) -> Done<Table> {
    let (one, other) = (run.scalar(&site.args[0])?, run.scalar(&site.args[1])?);
    Ok(Table::Scalar(one.into_iter().zip(other).map(|(one, other)| pick(one, other)).collect()))
}

fn scalar(run: &mut Run<'_>, site: &CallSite<'_>) -> Done<Table> {
    let before = run.mark();
    let mut found = vec![(0_u32, f64::NAN); run.grid.steps];
    run.stream(&site.args[0], &mut |_, row| {
        for (step, (n, value)) in found.iter_mut().enumerate().filter(|(step, _)| row.present[*step]) {
            (*n, *value) = (n.saturating_add(1), row.cells[step]);
        }
        Ok(())
    })?;
    let cells = found.into_iter().map(|(n, value)| if n == 1 { value } else { f64::NAN }).collect();
    run.replaced(before, &[])?;
    Ok(Table::Scalar(cells))
}
