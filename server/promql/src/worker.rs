//! Rows made side by side: series are dealt to threads in order, and their rows are taken in that order, so that an
//! answer does not depend on how many threads there are.
//!
//! Left out: a pool shared by queries. Threads are begun for queries that are worth it and end with the operator.

use crate::{
    QueryError,
    eval::{Budget, Run},
    notes::Notes,
    plan::Context,
    table::{Done, Grid, Row, nameless},
};
use runtime::Clock;
use std::{sync::atomic::Ordering, thread};

/// Cells a thread makes before it is waited for.
const CELLS: usize = 1 << 19;
/// Cells below which beginning a thread costs more than it gains.
const CELLS_ALONE: usize = 1 << 18;

/// What making rows needs of a query.
pub(crate) struct Worker<'a> {
    pub(crate) grid: Grid,
    pub(crate) context: &'a Context,
    pub(crate) notes: Notes,
    clock: &'a Clock,
    budget: &'a Budget,
    held: usize,
}

impl Worker<'_> {
    /// Fails when the query was cancelled or has run for too long.
    pub(crate) fn alive(&self) -> Done<()> {
        alive(self.clock, self.budget)
    }

    /// Whether so many samples more could be held.
    pub(crate) fn fits(&self, samples: usize) -> Done<()> {
        let held = self.held.saturating_add(samples);
        if held > self.budget.samples_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Takes the name of a row away, at once or at the end of the query.
    pub(crate) fn unname(&self, row: &mut Row) {
        unname(self.context, row);
    }
}

pub(crate) fn alive(clock: &Clock, budget: &Budget) -> Done<()> {
    if budget.cancel.as_ref().is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
        return Err(QueryError::Canceled);
    }
    if clock.now() > budget.deadline { Err(QueryError::Timeout) } else { Ok(()) }
}

pub(crate) fn unname(context: &Context, row: &mut Row) {
    if context.features.delayed_name_removal {
        row.unnamed = true;
    } else {
        row.labels = nameless(&row.labels);
    }
}

/// Makes a row of every item with `make`, which keeps `S` from one item to the next, and gives it to `sink` in order.
pub(crate) fn rows<T: Sync, S: Default>(
    run: &mut Run<'_>,
    items: &[T],
    make: impl Fn(&mut Worker<'_>, &mut S, &T) -> Done<Option<Row>> + Sync,
    sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>,
) -> Done<()> {
    let steps = run.grid.steps.max(1);
    let alone = run.threads < 2 || items.len().saturating_mul(steps) < CELLS_ALONE;
    let (threads, part) = if alone { (1, 64) } else { (run.threads, (CELLS / steps).clamp(1, items.len())) };
    for round in items.chunks(part.saturating_mul(threads)) {
        let share = round.len().div_ceil(threads).max(1);
        let (context, clock, clone) = (run.context, run.clock, run.budget.clone());
        let work = |part: &[T]| {
            let mut worker = Worker {
                grid: run.grid,
                context: &context,
                notes: Notes::default(),
                clock,
                budget: &clone,
                held: run.held,
            };
            let (mut state, mut rows) = (S::default(), Vec::with_capacity(part.len()));
            for item in part {
                worker.alive()?;
                rows.extend(make(&mut worker, &mut state, item)?);
            }
            Ok((rows, worker.notes))
        };
        let made: Vec<Done<(Vec<Row>, Notes)>> = if threads == 1 {
            vec![work(round)]
        } else {
            let work = &work;
            thread::scope(|scope| {
                let begun: Vec<_> = round.chunks(share).map(|part| scope.spawn(move || work(part))).collect();
                let joined = begun.into_iter().map(|thread| thread.join());
                // A panic of a thread is this one's.
                joined.map(|made| made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
            })
        };
        for made in made {
            let (rows, notes) = made?;
            run.notes.absorb(notes);
            rows.into_iter().try_for_each(|row| sink(run, row))?;
        }
    }
    Ok(())
}
