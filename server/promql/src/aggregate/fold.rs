//! Aggregations that need one pass: rows come in one by one and are forgotten.
//!
//! The state of a group is columns over the steps, so that memory is groups × steps whatever the number of series.

use super::Grouping;
use crate::{
    eval::Run,
    expr::Aggregator,
    histogram::{Histogram, Total},
    kernel::{Mean, add},
    notes::{Note, Operation},
    table::{Cell, Row, Value},
};
use model::Labels;
use std::collections::{BTreeMap, HashMap};

/// A fold in progress.
pub(super) struct Fold<'a> {
    op: Aggregator,
    grouping: Grouping<'a>,
    steps: usize,
    places: HashMap<Labels, usize>,
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
    means: Vec<Mean>,
    totals: BTreeMap<usize, Summed>,
}

/// Histograms summed at one step.
enum Summed {
    Total(Box<Total>),
    /// Exponential and custom buckets met.
    Incompatible,
}

impl<'a> Fold<'a> {
    pub(super) fn new(op: Aggregator, grouping: Grouping<'a>, steps: usize) -> Self {
        Self { op, grouping, steps, places: HashMap::new(), groups: Vec::new(), ignored: false, name: None }
    }

    /// O(steps).
    pub(super) fn push(&mut self, row: &Row) {
        if self.name.is_none() {
            self.name = Some(row.labels.metric_name().to_owned());
        }
        let labels = self.grouping.labels(&row.labels);
        let (groups, op, steps) = (&mut self.groups, self.op, self.steps);
        let place = *self.places.entry(labels).or_insert_with_key(|labels| {
            groups.push(Group::new(op, labels.clone(), steps));
            groups.len() - 1
        });
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
        let sums = op == Aggregator::Sum;
        Self {
            head: Row::empty(labels, steps),
            n: vec![0; steps],
            value: column(sums || deviates || matches!(op, Aggregator::Min | Aggregator::Max)),
            rest: column(sums || deviates),
            means: if op == Aggregator::Avg { vec![Mean::new(0.0); steps] } else { Vec::new() },
            totals: BTreeMap::new(),
        }
    }

    /// Adds the floats of a row.
    fn floats(&mut self, op: Aggregator, row: &Row) {
        let present = row.present.iter().enumerate().filter(|(_, present)| **present).map(|(step, _)| step);
        let cells = &row.cells;
        match op {
            Aggregator::Sum => {
                let sums = self.value.iter_mut().zip(&mut self.rest).zip(&mut self.n);
                for (((sum, rest), n), (cell, present)) in sums.zip(cells.iter().zip(&row.present)) {
                    if *present {
                        *n += 1;
                        (*sum, *rest) = add(*cell, *sum, *rest);
                    }
                }
            }
            Aggregator::Avg => present.for_each(|step| {
                self.n[step] += 1;
                match self.n[step] {
                    1 => self.means[step] = Mean::new(cells[step]),
                    _ => self.means[step].push(cells[step]),
                }
            }),
            Aggregator::Min => present.for_each(|step| self.keep(step, cells[step], |a, b| a < b)),
            Aggregator::Max => present.for_each(|step| self.keep(step, cells[step], |a, b| a > b)),
            Aggregator::Stddev | Aggregator::Stdvar => present.for_each(|step| self.deviate(step, cells[step])),
            _ => present.for_each(|step| self.n[step] += 1),
        }
    }

    /// Keeps the better value; a NaN gives way to anything.
    #[inline]
    fn keep(&mut self, step: usize, value: f64, better: impl Fn(f64, f64) -> bool) {
        let have = self.value[step];
        if self.n[step] == 0 || better(value, have) || have.is_nan() {
            self.value[step] = value;
        }
        self.n[step] += 1;
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
                Aggregator::Sum if self.value[step].is_infinite() => self.value[step],
                Aggregator::Sum => self.value[step] + self.rest[step],
                Aggregator::Avg => self.means[step].value(),
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
