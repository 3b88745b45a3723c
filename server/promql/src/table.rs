//! Tables of an evaluation: one row per series, one cell per step.
//!
//! `present` alone says whether a float is there; what an absent cell holds means nothing. A step holds a float, a
//! histogram or nothing.

use crate::{QueryError, histogram::Histogram, report::Spent};
use model::{Builder, Labels, METRIC_NAME};
use std::{collections::HashMap, sync::Arc};

pub(crate) type Done<T> = Result<T, QueryError>;

/// The steps of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn time(&self, step: usize) -> i64 {
        let ahead = i64::try_from(step).unwrap_or(i64::MAX).saturating_mul(self.step);
        self.start.saturating_add(ahead)
    }
}

/// What a step of a row holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

/// What a kernel gives for a step.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Histogram> for Value {
    fn from(value: Histogram) -> Self {
        Self::Histogram(Arc::new(value))
    }
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::Float(value) => Self::Float(value),
            Cell::Histogram(value) => Self::Histogram(Arc::clone(value)),
        }
    }
}

/// One series over all steps.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    /// Whether the name goes away at the end of the query.
    pub(crate) unnamed: bool,
    pub(crate) cells: Vec<f64>,
    pub(crate) present: Vec<bool>,
    pub(crate) histograms: Option<Vec<Option<Arc<Histogram>>>>,
}

impl Row {
    pub(crate) fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, unnamed: false, cells: vec![0.0; steps], present: vec![false; steps], histograms: None }
    }

    /// An empty row that goes by the labels of this one.
    pub(crate) fn like(&self) -> Self {
        Self { unnamed: self.unnamed, ..Self::empty(self.labels.clone(), self.cells.len()) }
    }

    pub(crate) fn constant(value: f64, steps: usize) -> Self {
        Self { present: vec![true; steps], cells: vec![value; steps], ..Self::empty(Labels::empty(), 0) }
    }

    pub(crate) fn set(&mut self, step: usize, value: impl Into<Value>) {
        match value.into() {
            Value::Float(value) => {
                self.cells[step] = value;
                self.present[step] = true;
            }
            Value::Histogram(value) => {
                let steps = self.cells.len();
                self.histograms.get_or_insert_with(|| vec![None; steps])[step] = Some(value);
            }
        }
    }

    #[inline]
    pub(crate) fn get(&self, step: usize) -> Option<Cell<'_>> {
        if self.present[step] {
            return Some(Cell::Float(self.cells[step]));
        }
        self.histogram(step).map(Cell::Histogram)
    }

    #[inline]
    pub(crate) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        self.histograms.as_ref()?[step].as_ref()
    }

    #[inline]
    pub(crate) fn holds(&self, step: usize) -> bool {
        self.present[step] || self.histogram(step).is_some()
    }

    pub(crate) fn clear(&mut self, step: usize) {
        self.present[step] = false;
        if let Some(histograms) = &mut self.histograms {
            histograms[step] = None;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        !(0..self.cells.len()).any(|step| self.holds(step))
    }

    /// What the row weighs against the sample limit.
    pub(crate) fn weight(&self) -> usize {
        let floats = self.present.iter().filter(|present| **present).count();
        let histograms = self.histograms.iter().flatten().flatten();
        floats + histograms.map(|histogram| histogram.weight()).sum::<usize>()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.cells.len() * if self.histograms.is_some() { 17 } else { 9 } + 96
    }

    /// The row as something a part of the query gave.
    pub(crate) fn spent(&self) -> Spent {
        Spent { series: 1, samples: self.weight() as u64, bytes: self.bytes() as u64, ..Spent::default() }
    }

    /// The one step of this row at every step.
    pub(crate) fn spread(self, steps: usize) -> Self {
        Self {
            labels: self.labels,
            unnamed: self.unnamed,
            cells: vec![self.cells[0]; steps],
            present: vec![self.present[0]; steps],
            histograms: self.histograms.map(|mut first| vec![first.swap_remove(0); steps]),
        }
    }
}

/// What an expression gives.
#[derive(Clone, Debug)]
pub(crate) enum Table {
    Scalar(Vec<f64>),
    Text(String),
    Rows(Vec<Row>),
}

/// Labels that describe the metric rather than a series of it.
const METADATA: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// The labels without name, type and unit.
pub(crate) fn nameless(labels: &Labels) -> Labels {
    if METADATA.iter().all(|name| labels.get(name).is_none()) {
        return labels.clone();
    }
    let mut builder = Builder::from(labels);
    builder.retain(|name, _| !METADATA.contains(&name));
    builder.build()
}

/// Puts rows of equal labels together; at one step they must not both hold something.
pub(crate) fn merged(rows: Vec<Row>) -> Done<Vec<Row>> {
    let mut places: HashMap<Labels, usize> = HashMap::with_capacity(rows.len());
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for mut row in rows {
        let Some(place) = places.get(&row.labels) else {
            places.insert(row.labels.clone(), out.len());
            out.push(row);
            continue;
        };
        let kept = &mut out[*place];
        kept.unnamed |= row.unnamed;
        for step in 0..row.cells.len() {
            let Some(cell) = row.get(step) else { continue };
            if kept.holds(step) {
                return Err(duplicate());
            }
            let value = Value::from(cell);
            kept.set(step, value);
            row.clear(step);
        }
    }
    Ok(out)
}

/// Two elements of a vector with the same labels.
pub(crate) fn duplicate() -> QueryError {
    QueryError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, present: &[bool]) -> Row {
        let mut row = Row::empty(Labels::from_pairs([("a", label)]), present.len());
        (0..present.len()).filter(|step| present[*step]).for_each(|step| row.set(step, step as f64));
        row
    }

    #[test]
    fn equal_labels_merge_where_they_do_not_clash() {
        let rows = merged(vec![row("x", &[true, false]), row("y", &[true, true]), row("x", &[false, true])]);
        let rows = rows.expect("no clash");
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].present.as_slice(), rows[0].cells.as_slice()), (&[true, true][..], &[0.0, 1.0][..]));
        assert_eq!(merged(vec![row("x", &[true]), row("x", &[true])]).err(), Some(duplicate()));
    }

    #[test]
    fn metadata_goes_with_the_name() {
        let labels = Labels::from_pairs([("__name__", "x"), ("__type__", "counter"), ("__unit__", "s"), ("a", "b")]);
        assert_eq!(nameless(&labels), Labels::from_pairs([("a", "b")]));
    }
}
