//! Aggregations that need one pass: rows come in one by one and are forgotten.
//!
//! The state of a group is columns over the steps, so that memory is groups × steps whatever the number of series.

use crate::{
    eval::Run,
    expr::Aggregator,
    histogram::{Histogram, Total},
    kernel::{Mean, add},
    keys::{Keys, Subset},
    notes::{Note, Operation},
    table::{Cell, Row, Value},
};
use model::Labels;
use std::collections::BTreeMap;

/// A fold in progress.
pub(super) struct Fold<'a> {
    op: Aggregator,
    steps: usize,
    keys: Keys<'a>,
    groups: Vec<Group>,
    /// Histograms met by an operator that is not for them.
    ignored: bool,
    /// Metric name of the first row.
    name: Option<String>,
}

/// The columns of a group. Which are in use depends on the operator.
struct Group {
    head: Row,
    /// Floats met, at each step.
    n: Vec<u32>,
    /// Sum, extreme or squared deviations.
    value: Vec<f64>,
    /// What rounding took from the sum, or the mean that deviations are taken from.
    rest: Vec<f64>,
    /// Means whose sum left the finite numbers, by step.
    means: BTreeMap<usize, Mean>,
    totals: BTreeMap<usize, Summed>,
}

/// Histograms summed at one step.
enum Summed {
    Total(Box<Total>),
    /// Exponential and custom buckets met.
    Incompatible,
}

impl<'a> Fold<'a> {
    pub(super) fn new(op: Aggregator, grouping: Subset<'a>, steps: usize) -> Self {
        Self { op, steps, keys: Keys::new(grouping), groups: Vec::new(), ignored: false, name: None }
    }

    /// Adds a row; how many bytes more are held now. O(steps).
    pub(super) fn push(&mut self, row: &Row) -> usize {
        if self.name.is_none() {
            self.name = Some(row.labels.metric_name().to_owned());
        }
        let (groups, op, steps) = (&mut self.groups, self.op, self.steps);
        let (place, new) = self.keys.number(&row.labels);
        let mut bytes = 0;
        if new {
            groups.push(Group::new(op, self.keys.heads()[place].clone(), steps));
            bytes = groups[place].bytes();
        }
        let group = &mut groups[place];
        group.head.unnamed |= row.unnamed;
        group.floats(op, row);
        if row.histograms.is_some() {
            for step in 0..steps {
                if let Some(Cell::Histogram(histogram)) = row.get(step) {
                    self.ignored |= !group.histogram(op, step, histogram);
                }
            }
        }
        bytes
    }

    /// The aggregated rows, in the order their groups were met.
    pub(super) fn finish(self, run: &mut Run<'_>, place: usize) -> Vec<Row> {
        if self.ignored {
            run.notes.add(place, &Note::IgnoredHistogram(self.op.as_str()));
        }
        let (op, name) = (self.op, self.name.unwrap_or_default());
        self.groups.into_iter().map(|group| group.finish(op, run, &name, place)).collect()
    }
}

impl Group {
    fn new(op: Aggregator, labels: Labels, steps: usize) -> Self {
        let column = |used: bool| vec![0.0; if used { steps } else { 0 }];
        let deviates = matches!(op, Aggregator::Stddev | Aggregator::Stdvar);
        let sums = matches!(op, Aggregator::Sum | Aggregator::Avg);
        let value = if matches!(op, Aggregator::Min | Aggregator::Max) {
            // A NaN gives way to anything.
            vec![f64::NAN; steps]
        } else {
            column(sums || deviates)
        };
        let (n, rest) = (vec![0; steps], column(sums || deviates));
        Self { head: Row::empty(labels, steps), n, value, rest, means: BTreeMap::new(), totals: BTreeMap::new() }
    }

    fn bytes(&self) -> usize {
        self.head.bytes() + self.n.len() * 4 + (self.value.len() + self.rest.len()) * 8
    }

    /// Adds the floats of a row.
    fn floats(&mut self, op: Aggregator, row: &Row) {
        match op {
            Aggregator::Sum => self.sum(row),
            Aggregator::Avg => self.mean(row),
            Aggregator::Min => self.keep(row, |a, b| a < b),
            Aggregator::Max => self.keep(row, |a, b| a > b),
            Aggregator::Stddev | Aggregator::Stdvar => {
                for (step, cell) in row.cells.iter().enumerate().filter(|(step, _)| row.present[*step]) {
                    self.deviate(step, *cell);
                }
            }
            _ => self.n.iter_mut().zip(&row.present).for_each(|(n, present)| *n += u32::from(*present)),
        }
    }

    /// Adds to the sums by Knuth's two-sum, which has no branch and gives the bits of Neumaier's for finite numbers. Once a
    /// sum is not finite it stays so and what rounding took means nothing.
    fn sum(&mut self, row: &Row) {
        let sums = self.value.iter_mut().zip(&mut self.rest).zip(&mut self.n);
        for (((sum, rest), n), (cell, present)) in sums.zip(row.cells.iter().zip(&row.present)) {
            *n += u32::from(*present);
            let cell = if *present { *cell } else { 0.0 };
            let total = *sum + cell;
            let added = total - *sum;
            *rest += (*sum - (total - added)) + (cell - added);
            *sum = total;
        }
    }

    /// The same for means. One whose sum is no longer finite is carried on by itself.
    fn mean(&mut self, row: &Row) {
        for (step, cell) in row.cells.iter().enumerate().filter(|(step, _)| row.present[*step]) {
            self.n[step] += 1;
            if let Some(mean) = self.means.get_mut(&step) {
                mean.push(*cell);
                continue;
            }
            let (total, rest) = add(*cell, self.value[step], self.rest[step]);
            if total.is_infinite() && self.n[step] > 1 {
                let mut mean = Mean::of(self.value[step], self.rest[step], self.n[step] - 1);
                mean.push(*cell);
                self.means.insert(step, mean);
                continue;
            }
            (self.value[step], self.rest[step]) = (total, rest);
        }
    }

    /// Keeps the better values; a NaN gives way to anything.
    #[inline]
    fn keep(&mut self, row: &Row, better: impl Fn(f64, f64) -> bool) {
        let best = self.value.iter_mut().zip(&mut self.n);
        for ((have, n), (cell, present)) in best.zip(row.cells.iter().zip(&row.present)) {
            *n += u32::from(*present);
            *have = if *present & (better(*cell, *have) | have.is_nan()) { *cell } else { *have };
        }
    }

    /// Welford's running variance, not compensated, as upstream.
    #[inline]
    fn deviate(&mut self, step: usize, value: f64) {
        self.n[step] += 1;
        if self.n[step] == 1 {
            self.rest[step] = value;
            self.value[step] = if value.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = value - self.rest[step];
        self.rest[step] += delta / f64::from(self.n[step]);
        self.value[step] += delta * (value - self.rest[step]);
    }

    /// Adds a histogram; false when the operator is not for them.
    fn histogram(&mut self, op: Aggregator, step: usize, histogram: &Histogram) -> bool {
        match op {
            Aggregator::Sum | Aggregator::Avg => {
                let mut added = true;
                let fresh = || Summed::Total(Box::new(Total::new(histogram, op == Aggregator::Avg)));
                let summed = self.totals.entry(step).and_modify(|summed| {
                    if let Summed::Total(total) = summed {
                        added = total.push(histogram).is_ok();
                    }
                });
                let summed = summed.or_insert_with(fresh);
                if !added {
                    *summed = Summed::Incompatible;
                }
            }
            Aggregator::Count | Aggregator::Group => self.n[step] += 1,
            _ => return false,
        }
        true
    }

    fn finish(mut self, op: Aggregator, run: &mut Run<'_>, name: &str, place: usize) -> Row {
        let mut row = self.head;
        for step in 0..row.cells.len() {
            if let Some(summed) = self.totals.remove(&step) {
                match summed {
                    Summed::Incompatible => run.notes.add(place, &Note::MixedSchemas(name)),
                    Summed::Total(_) if self.n[step] > 0 => run.notes.add(place, &Note::MixedAggregation),
                    Summed::Total(total) => row.set(step, settled(*total, run, place)),
                }
                continue;
            }
            let n = self.n[step];
            if n == 0 {
                continue;
            }
            row.present[step] = true;
            row.cells[step] = match op {
                Aggregator::Sum if !self.value[step].is_finite() => self.value[step],
                Aggregator::Sum => self.value[step] + self.rest[step],
                Aggregator::Avg => match self.means.get(&step) {
                    Some(mean) => mean.value(),
                    None => Mean::of(self.value[step], self.rest[step], n).value(),
                },
                Aggregator::Count => f64::from(n),
                Aggregator::Group => 1.0,
                Aggregator::Stddev => (self.value[step] / f64::from(n)).sqrt(),
                Aggregator::Stdvar => self.value[step] / f64::from(n),
                _ => self.value[step],
            };
        }
        row
    }
}

/// A sum of histograms, and what is to be said about it.
fn settled(total: Total, run: &mut Run<'_>, place: usize) -> Value {
    if total.met.hints {
        run.notes.add(place, &Note::ConflictingResets(Operation::Aggregation));
    }
    if total.met.bounds {
        run.notes.add(place, &Note::Rebounded(Operation::Aggregation));
    }
    let mut sum = total.finish();
    sum.compact();
    sum.into()
}
