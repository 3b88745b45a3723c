//! The in-memory store: one map of series behind one lock, columns per series, an index from label to series.
//!
//! Everything is bounded: series by refusing new ones, samples by dropping the oldest. Appends wait in the appender and
//! enter under one write lock, so a reader sees all of a commit or nothing. Of exemplars the newest ten thousand are
//! kept; metadata is accepted and not kept, and nothing may come out of order. It serves tests and tools; what must survive the process belongs to the storage engine behind the same traits.

use crate::{
    AppendError, Appender, Cardinality, Columns, Exemplars, Querier, ReadError, SeriesExemplars, SeriesId, SeriesSet,
    Stats, Storage,
    head::{Head, admissible},
};
use model::{Duration, Exemplar, FloatHistogram, Labels, Matcher, Metadata, Sample, Timestamp, Value};
use parking_lot::{Mutex, RwLock};
use std::{collections::HashMap, sync::Arc};

/// The flag that sets [`Limits::series_max`].
pub const SERIES_FLAG: &str = "--storage.memory.series-max";
/// The flag that sets [`Limits::samples_max`].
pub const SAMPLES_FLAG: &str = "--storage.memory.samples-max";

/// Exemplars that a [`Memory`] keeps.
const EXEMPLARS_MAX: usize = 10_000;

/// How much a [`Memory`] may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Series held at once; a new one beyond is refused.
    pub series_max: u64,
    /// Samples held at once; the oldest are dropped beyond.
    pub samples_max: u64,
    /// Age relative to the newest sample beyond which samples are dropped; none keeps them until `samples_max`.
    pub retention: Option<Duration>,
}

/// A million series, a hundred million samples (1.6 GB), and upstream's fifteen days.
impl Default for Limits {
    fn default() -> Self {
        Self {
            series_max: 1_000_000,
            samples_max: 100_000_000,
            retention: Some(Duration::from_millis(15 * 24 * 3_600_000)),
        }
    }
}

/// A store that lives in memory.
pub struct Memory {
    pub(crate) head: RwLock<Head>,
    exemplars: Mutex<Exemplars>,
}

impl Memory {
    /// An empty store.
    pub fn new(limits: Limits) -> Self {
        Self { head: RwLock::new(Head::new(limits)), exemplars: Mutex::new(Exemplars::new(EXEMPLARS_MAX)) }
    }
}

impl Storage for Memory {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Transaction { memory: self, pending: Vec::new(), newest: HashMap::new(), exemplars: Vec::new() })
    }

    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_> {
        Box::new(View { memory: self, min: min.0, max: max.0 })
    }

    fn stats(&self) -> Stats {
        self.head.read().stats()
    }

    fn exemplars(
        &self,
        min: Timestamp,
        max: Timestamp,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        Ok(self.exemplars.lock().select(min.0, max.0, selectors))
    }

    fn cardinality(&self, top: usize) -> Cardinality {
        self.head.read().cardinality(top)
    }
}

/// One sample on its way in.
pub(crate) enum Entry {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Entry {
    /// Whether both are the same bits, which makes a repeated append harmless.
    pub(crate) fn same(&self, other: &Entry) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Histogram(a), Self::Histogram(b)) => a == b,
            _ => false,
        }
    }
}

struct Transaction<'a> {
    memory: &'a Memory,
    pending: Vec<(u64, i64, Option<i64>, Entry)>,
    /// Where the newest pending sample of a series is, by series.
    newest: HashMap<u64, usize>,
    exemplars: Vec<(Labels, Exemplar)>,
}

impl Transaction<'_> {
    fn add(&mut self, series: SeriesId, at: i64, start: Option<i64>, entry: Entry) -> Result<(), AppendError> {
        let head = self.memory.head.read();
        let known = head.series.get(&series.0).ok_or(AppendError::UnknownSeries)?;
        if head.cutoff().is_some_and(|cutoff| at < cutoff) {
            return Err(AppendError::OutOfBounds);
        }
        let limit = head.limits.samples_max;
        if self.pending.len() as u64 >= limit {
            return Err(AppendError::Full { what: "sample", limit, flag: SAMPLES_FLAG });
        }
        let fresh = match self.newest.get(&series.0).and_then(|place| self.pending.get(*place)) {
            Some((_, last, _, have)) => admissible(*last, at, || have.same(&entry))?,
            None => match known.newest() {
                Some((last, have)) => admissible(last, at, || have.same(&entry))?,
                None => true,
            },
        };
        drop(head);
        if fresh {
            self.newest.insert(series.0, self.pending.len());
            self.pending.push((series.0, at, start, entry));
        }
        Ok(())
    }
}

impl Appender for Transaction<'_> {
    fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError> {
        if let Some(id) = self.memory.head.read().ids.get(labels) {
            return Ok(SeriesId(*id));
        }
        self.memory.head.write().register(labels).map(SeriesId)
    }

    fn float(&mut self, series: SeriesId, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.add(series, at.0, None, Entry::Float(value))
    }

    fn sample(&mut self, series: SeriesId, sample: Sample) -> Result<(), AppendError> {
        let entry = match sample.value {
            Value::Float(value) => Entry::Float(value),
            Value::Histogram(histogram) => Entry::Histogram(histogram),
        };
        self.add(series, sample.at.0, sample.start.map(|start| start.0), entry)
    }

    fn exemplar(&mut self, series: SeriesId, exemplar: Exemplar) -> Result<(), AppendError> {
        let head = self.memory.head.read();
        let labels =
            head.series.get(&series.0).map(|series| series.labels.clone()).ok_or(AppendError::UnknownSeries)?;
        if self.memory.exemplars.lock().admit(&labels, &exemplar)? {
            self.exemplars.push((labels, exemplar));
        }
        Ok(())
    }

    fn metadata(&mut self, series: SeriesId, _: &Metadata) -> Result<(), AppendError> {
        self.memory.head.read().known(series.0)
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        self.memory.head.write().accept(self.pending);
        let mut ring = self.memory.exemplars.lock();
        for (labels, exemplar) in self.exemplars {
            // One that another transaction has overtaken is dropped.
            let _ = ring.add(labels, exemplar);
        }
        Ok(())
    }
}

/// Each select is one consistent moment.
struct View<'a> {
    memory: &'a Memory,
    min: i64,
    max: i64,
}

impl Querier for View<'_> {
    fn select(&self, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet + '_>, ReadError> {
        let head = self.memory.head.read();
        let mut found: Vec<Columns> =
            head.matching(matchers).filter_map(|(_, series)| series.columns(self.min, self.max)).collect();
        drop(head);
        found.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Box::new(Found(found.into_iter())))
    }

    fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<String>, ReadError> {
        let head = self.memory.head.read();
        let mut names = std::collections::BTreeSet::new();
        for (_, series) in head.matching(matchers).filter(|(_, series)| series.has_any(self.min, self.max)) {
            for (name, _) in series.labels.iter() {
                if !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, ReadError> {
        let head = self.memory.head.read();
        let mut values = std::collections::BTreeSet::new();
        for (_, series) in head.matching(matchers).filter(|(_, series)| series.has_any(self.min, self.max)) {
            if let Some(value) = series.labels.get(name)
                && !values.contains(value)
            {
                values.insert(value.to_owned());
            }
        }
        Ok(values.into_iter().collect())
    }
}

struct Found(std::vec::IntoIter<Columns>);

impl SeriesSet for Found {
    fn next_batch(&mut self, series_max: usize, batch: &mut Vec<Columns>) -> Result<(), ReadError> {
        batch.clear();
        batch.extend(self.0.by_ref().take(series_max));
        Ok(())
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
