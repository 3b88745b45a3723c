//! Instruments of one family by label values.

use crate::{Counter, Gauge, Histogram, Summary, instruments::Instrument};
use exposition::Metric;
use model::Builder;
use parking_lot::Mutex;
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Series of one family at most.
pub const SERIES_MAX: usize = 10_000;

/// Counters of one family.
pub type CounterVec = InstrumentVec<Counter>;
/// Gauges of one family.
pub type GaugeVec = InstrumentVec<Gauge>;
/// Histograms of one family.
pub type HistogramVec = InstrumentVec<Histogram>;
/// Summaries of one family.
pub type SummaryVec = InstrumentVec<Summary>;

/// Instruments of one family; clones share them. At most [`SERIES_MAX`]: the ones beyond are one that is not shown.
#[derive(Clone)]
pub struct InstrumentVec<T>(Arc<Inner<T>>);

struct Inner<T> {
    names: Box<[String]>,
    make: Box<dyn Fn() -> T + Send + Sync>,
    made: Mutex<BTreeMap<Vec<String>, T>>,
    hidden: T,
}

impl<T> fmt::Debug for InstrumentVec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstrumentVec({:?}, {} series)", self.0.names, self.0.made.lock().len())
    }
}

impl<T: Clone> InstrumentVec<T> {
    pub(crate) fn new(names: &[&str], make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let hidden = make();
        Self(Arc::new(Inner { names, make: Box::new(make), made: Mutex::default(), hidden }))
    }

    /// The instrument of these label values, in the order of the names given at registration. A missing value is empty,
    /// one too many is dropped. Where it is hot, keep what it returns.
    pub fn with(&self, values: &[&str]) -> T {
        let key = self.key(values);
        let mut made = self.0.made.lock();
        match made.get(&key) {
            Some(instrument) => instrument.clone(),
            None if made.len() >= SERIES_MAX => self.0.hidden.clone(),
            None => made.entry(key).or_insert_with(|| (self.0.make)()).clone(),
        }
    }

    /// Forgets the instrument of these label values; true if there was one.
    pub fn remove(&self, values: &[&str]) -> bool {
        self.0.made.lock().remove(&self.key(values)).is_some()
    }

    /// Forgets all.
    pub fn clear(&self) {
        self.0.made.lock().clear();
    }

    fn key(&self, values: &[&str]) -> Vec<String> {
        let values = values.iter().copied().chain(std::iter::repeat(""));
        self.0.names.iter().zip(values).map(|(_, value)| value.to_owned()).collect()
    }
}

impl<T: Instrument> InstrumentVec<T> {
    /// Appends a metric for each.
    pub(crate) fn collect(&self, metrics: &mut Vec<Metric>) {
        let mut builder = Builder::default();
        for (values, instrument) in self.0.made.lock().iter() {
            builder.clear();
            for (name, value) in self.0.names.iter().zip(values) {
                builder.set(name, value);
            }
            metrics.push(Metric { labels: builder.build_with_empty(), value: instrument.value(), at: None });
        }
    }
}
