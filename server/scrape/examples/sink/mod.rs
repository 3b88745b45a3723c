//! A storage that forgets samples and only counts them: what the loop itself costs can be measured on it.

use model::{Exemplar, Labels, Metadata, Sample, Timestamp};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, Ordering},
};
use storage::{AppendError, Appender, Cardinality, Limits, Memory, Querier, SeriesId, Stats, Storage};

/// Knows series by their labels, and how many samples came.
pub(crate) struct Sink {
    series: Mutex<HashMap<Labels, u64>>,
    samples: AtomicU64,
    empty: Memory,
}

impl Sink {
    /// Nothing came yet.
    pub(crate) fn new() -> Self {
        Self { series: Mutex::default(), samples: AtomicU64::new(0), empty: Memory::new(Limits::default()) }
    }

    /// Samples so far.
    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

impl Storage for Sink {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Transaction(self, 0))
    }

    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_> {
        self.empty.querier(min, max)
    }

    fn stats(&self) -> Stats {
        self.empty.stats()
    }

    fn cardinality(&self, top: usize) -> Cardinality {
        self.empty.cardinality(top)
    }
}

struct Transaction<'a>(&'a Sink, u64);

impl Appender for Transaction<'_> {
    fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError> {
        let mut series = self.0.series.lock();
        let next = series.len() as u64;
        Ok(SeriesId(*series.entry(labels.clone()).or_insert(next)))
    }

    fn float(&mut self, _: SeriesId, _: Timestamp, _: f64) -> Result<(), AppendError> {
        self.1 += 1;
        Ok(())
    }

    fn sample(&mut self, _: SeriesId, _: Sample) -> Result<(), AppendError> {
        self.1 += 1;
        Ok(())
    }

    fn exemplar(&mut self, _: SeriesId, _: Exemplar) -> Result<(), AppendError> {
        Ok(())
    }

    fn metadata(&mut self, _: SeriesId, _: &Metadata) -> Result<(), AppendError> {
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        self.0.samples.fetch_add(self.1, Ordering::Relaxed);
        Ok(())
    }
}
