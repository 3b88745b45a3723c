//! Rows made side by side: units of work are numbered and made by whichever thread is free, and what comes of them is
//! taken in the order of the numbers, so that an answer does not depend on how many threads there are.
//!
//! The caller's thread always works too; helpers come from a number that all queries share, so that no query waits for
//! another one's, and begin only once there is a second unit.

use crate::{
    QueryError,
    eval::{Budget, Run},
    functions::column::Layout,
    notes::Notes,
    plan::Context,
    report::Spent,
    table::{Done, Row, nameless},
};
use parking_lot::{Condvar, Mutex};
use runtime::Clock;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// Finished units that may wait for their turn, for each thread.
const AHEAD: usize = 3;

/// How many threads may help queries at once, over all queries that share it.
#[derive(Clone, Debug)]
pub struct Helpers(Arc<AtomicUsize>);

impl Helpers {
    /// So many at most.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(most)))
    }

    /// Takes up to `wanted` of them; they come back with the value.
    fn take(&self, wanted: usize) -> Taken<'_> {
        let mut got = 0;
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
            got = wanted.min(free);
            Some(free - got)
        });
        Taken(self, got)
    }
}

struct Taken<'a>(&'a Helpers, usize);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(self.1, Ordering::Relaxed);
    }
}

/// What is kept from one row to the next, because series of one target share it.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) layout: Option<Layout>,
    /// Sample times, and one more than the place of the newest sample of each step.
    pub(crate) newest: Option<(Arc<[i64]>, Vec<u32>)>,
}

/// What making rows needs of a query.
pub(crate) struct Worker<'a> {
    pub(crate) context: &'a Context,
    pub(crate) notes: Notes,
    /// By stage; the source has the first.
    pub(crate) kept: Vec<Kept>,
    /// Samples in the longest window of the row in work.
    pub(crate) window: usize,
    /// Samples of the row in work before a subquery's windows were laid over them.
    pub(crate) inner: usize,
    pub(crate) seen: Seen,
    /// By part: decoding, the first stage, those that follow; empty unless asked for.
    spent: Vec<Spent>,
    clock: &'a Clock,
    budget: &'a Budget,
    /// Bytes held besides what workers hold.
    held: usize,
}

/// Samples that selectors and windows saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) total: u64,
    /// By step, when asked for.
    pub(crate) steps: Option<Vec<u64>>,
}

impl Seen {
    pub(crate) fn new(steps: Option<usize>) -> Self {
        Self { total: 0, steps: steps.map(|steps| vec![0; steps]) }
    }

    /// Counts samples at one step.
    pub(crate) fn at(&mut self, step: usize, samples: usize) {
        self.total += samples as u64;
        if let Some(count) = self.steps.as_mut().and_then(|steps| steps.get_mut(step)) {
            *count += samples as u64;
        }
    }

    /// Counts the samples of a row.
    pub(crate) fn row(&mut self, row: &Row) {
        if self.steps.is_none() {
            self.total += row.weight() as u64;
            return;
        }
        for step in 0..row.cells.len() {
            let histogram = row.histogram(step).map_or(0, |histogram| histogram.weight());
            self.at(step, usize::from(row.present[step]) + histogram);
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.total += other.total;
        if let (Some(steps), Some(more)) = (&mut self.steps, &other.steps) {
            steps.iter_mut().zip(more).for_each(|(count, more)| *count += more);
        }
    }
}

/// A row and what it took to make it, in samples.
pub(crate) struct Made {
    pub(crate) row: Row,
    pub(crate) window: usize,
    pub(crate) inner: usize,
}

/// What comes of a unit.
struct Unit {
    rows: Vec<Made>,
    notes: Notes,
    seen: Seen,
    spent: Vec<Spent>,
}

type Outcome = Done<Unit>;

impl Worker<'_> {
    /// Fails when the query was cancelled or has run for too long.
    pub(crate) fn alive(&self) -> Done<()> {
        alive(self.clock, self.budget)
    }

    /// Does one part's work and notes what it took, when asked for.
    pub(crate) fn spend<T>(
        &mut self,
        part: usize,
        work: impl FnOnce(&mut Self) -> T,
        gave: impl FnOnce(&T) -> Spent,
    ) -> T {
        if self.spent.is_empty() {
            return work(self);
        }
        let began = self.clock.now();
        let made = work(self);
        let spent = Spent { time: self.clock.now() - began, streamed: true, ..gave(&made) };
        if let Some(part) = self.spent.get_mut(part) {
            part.add(&spent);
        }
        made
    }

    /// Counts bytes that a worker holds until it gives them back by [`Worker::release`].
    pub(crate) fn hold(&self, bytes: usize) -> Done<()> {
        let flying = self.budget.flying.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let limit = self.budget.bytes_max;
        if flying.saturating_add(self.held) > limit { Err(QueryError::TooMuchMemory(limit)) } else { Ok(()) }
    }

    pub(crate) fn release(&self, bytes: usize) {
        self.budget.flying.fetch_sub(bytes, Ordering::Relaxed);
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

/// Gives the next unit of work; none is the end.
pub(crate) type Supply<'s, W> = dyn FnMut() -> Done<Option<W>> + Send + 's;

/// Makes the rows of a unit.
pub(crate) type Make<'m, W> = dyn Fn(&mut Worker<'_>, W, &mut Vec<Made>) -> Done<()> + Sync + 'm;

/// Makes rows of every unit with `make` and gives them to `sink` in order.
pub(crate) fn drive<W: Send>(
    run: &mut Run<'_>,
    stages: usize,
    next: &mut Supply<'_, W>,
    make: &Make<'_, W>,
    sink: &mut dyn FnMut(&mut Run<'_>, Made) -> Done<()>,
) -> Done<()> {
    let (context, clock, budget, helpers) = (run.context, run.clock, run.budget.clone(), run.helpers.clone());
    let (threads, held) = (run.threads, run.bytes.saturating_add(run.stored));
    let by_step = run.seen.steps.as_ref().map(Vec::len);
    let parts = if run.profile.is_some() { stages + 2 } else { 0 };
    let worker = || Worker {
        context: &context,
        notes: Notes::default(),
        kept: (0..=stages).map(|_| Kept::default()).collect(),
        window: 0,
        inner: 0,
        seen: Seen::new(by_step),
        spent: vec![Spent::default(); parts],
        clock,
        budget: &budget,
        held,
    };
    let work = |worker: &mut Worker<'_>, unit: Done<W>| -> Outcome {
        worker.alive()?;
        let mut rows = Vec::new();
        make(worker, unit?, &mut rows)?;
        let seen = std::mem::replace(&mut worker.seen, Seen::new(by_step));
        let spent = std::mem::replace(&mut worker.spent, vec![Spent::default(); parts]);
        Ok(Unit { rows, notes: std::mem::take(&mut worker.notes), seen, spent })
    };
    let mut own = worker();
    let Some(first) = next()? else { return Ok(()) };
    let made = work(&mut own, Ok(first));
    taken(run, made, sink)?;
    let helpers = helpers.take(threads.saturating_sub(1));
    let queue = Queue {
        supply: Mutex::new((next, Some(0))),
        ready: Mutex::new(Ready { made: BTreeMap::new(), folded: 0, end: None, stopped: false }),
        changed: Condvar::new(),
        ahead: AHEAD * (helpers.1 + 1),
    };
    // A second unit decides whether helpers are worth their start.
    let Some((number, unit)) = queue.take() else { return Ok(()) };
    queue.put(number, work(&mut own, unit));
    thread::scope(|scope| {
        let _stop = Stop(&queue);
        for _ in 0..helpers.1 {
            scope.spawn(|| {
                let _stop = Unwinding(&queue);
                let mut worker = worker();
                while queue.room() {
                    let Some((number, unit)) = queue.take() else { break };
                    queue.put(number, work(&mut worker, unit));
                }
            });
        }
        loop {
            while let Some(made) = queue.due() {
                taken(run, made, sink)?;
            }
            if let Some((number, unit)) = queue.take() {
                queue.put(number, work(&mut own, unit));
            } else if !queue.wait() {
                return Ok(());
            }
        }
    })
}

fn taken(run: &mut Run<'_>, made: Outcome, sink: &mut dyn FnMut(&mut Run<'_>, Made) -> Done<()>) -> Done<()> {
    let Unit { rows, notes, seen, spent } = made?;
    run.notes.absorb(notes);
    run.seen.add(&seen);
    run.spent.iter_mut().zip(&spent).for_each(|(all, spent)| all.add(spent));
    rows.into_iter().try_for_each(|row| sink(run, row))
}

/// Units on their way from the supply through the workers to the sink.
struct Queue<'q, 's, W> {
    /// The supply and the number of the next unit; none once it has ended.
    supply: Mutex<(&'q mut Supply<'s, W>, Option<u64>)>,
    ready: Mutex<Ready>,
    changed: Condvar,
    /// Finished units that may wait.
    ahead: usize,
}

struct Ready {
    made: BTreeMap<u64, Outcome>,
    /// The number whose turn it is.
    folded: u64,
    /// The number after the last, once that is known.
    end: Option<u64>,
    stopped: bool,
}

impl<W> Queue<'_, '_, W> {
    /// The next unit and its number.
    fn take(&self) -> Option<(u64, Done<W>)> {
        let mut supply = self.supply.lock();
        let number = supply.1?;
        let unit = (supply.0)();
        let (found, end) = match unit {
            Ok(Some(unit)) => (Some((number, Ok(unit))), None),
            Ok(None) => (None, Some(number)),
            Err(error) => (Some((number, Err(error))), Some(number + 1)),
        };
        supply.1 = if end.is_some() { None } else { Some(number + 1) };
        drop(supply);
        if end.is_some() {
            self.ready.lock().end = end;
            self.changed.notify_all();
        }
        found
    }

    fn put(&self, number: u64, made: Outcome) {
        self.ready.lock().made.insert(number, made);
        self.changed.notify_all();
    }

    /// What has its turn, if it is finished.
    fn due(&self) -> Option<Outcome> {
        let mut ready = self.ready.lock();
        let number = ready.folded;
        let made = ready.made.remove(&number)?;
        ready.folded += 1;
        drop(ready);
        self.changed.notify_all();
        Some(made)
    }

    /// Waits until what has its turn is finished; false when there is nothing more.
    fn wait(&self) -> bool {
        let mut ready = self.ready.lock();
        loop {
            if ready.stopped || ready.end == Some(ready.folded) {
                return false;
            }
            if ready.made.contains_key(&ready.folded) {
                return true;
            }
            self.changed.wait(&mut ready);
        }
    }

    /// Waits until a helper may go on; false when it need not.
    fn room(&self) -> bool {
        let mut ready = self.ready.lock();
        while !ready.stopped && ready.made.len() >= self.ahead {
            self.changed.wait(&mut ready);
        }
        !ready.stopped
    }

    fn stop(&self) {
        self.ready.lock().stopped = true;
        self.changed.notify_all();
    }
}

/// Ends helpers when the caller's thread is done, however that came.
struct Stop<'a, 'q, 's, W>(&'a Queue<'q, 's, W>);

impl<W> Drop for Stop<'_, '_, '_, W> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Ends everything when a helper panics; the scope then passes its panic on.
struct Unwinding<'a, 'q, 's, W>(&'a Queue<'q, 's, W>);

impl<W> Drop for Unwinding<'_, '_, '_, W> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helpers_are_lent_and_come_back() {
        let helpers = Helpers::new(3);
        let two = helpers.take(2);
        assert_eq!((two.1, helpers.take(5).1), (2, 1));
        drop(two);
        assert_eq!(helpers.take(9).1, 3);
    }
}
