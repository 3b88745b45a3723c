//! Self-instrumentation with a registry passed by hand.
//!
//! `prometheus-client` is not used: it cannot list the values it holds, so text 0.0.4 and upstream's number texts could
//! only be had by parsing its own output again. What this crate leaves out: formats, which are `exposition`'s.

mod process;

pub use process::process_collector;

use exposition::{Family, Metric, MetricValue};
use model::{Labels, MetricType};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// A float that threads add to.
#[derive(Clone, Debug, Default)]
struct Cell(Arc<AtomicU64>);

impl Cell {
    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    fn add(&self, value: f64) {
        let step = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure never declines.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    }

    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// A number that only goes up.
#[derive(Clone, Debug, Default)]
pub struct Counter(Cell);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1.0);
    }

    /// Adds `value`, which is not negative.
    pub fn add(&self, value: f64) {
        self.0.add(value.max(0.0));
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Cell);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Adds `value`.
    pub fn add(&self, value: f64) {
        self.0.add(value);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.add(1.0);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.add(-1.0);
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// Counters or gauges of one family by label values. At most [`SERIES_MAX`]; the ones beyond share a hidden one.
#[derive(Clone, Debug)]
struct Cells {
    names: Arc<[String]>,
    cells: Arc<Mutex<BTreeMap<Vec<String>, Cell>>>,
}

/// Series of one family at most.
pub const SERIES_MAX: usize = 10_000;

impl Cells {
    fn new(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), cells: Arc::default() }
    }

    fn with(&self, values: &[&str]) -> Cell {
        let mut cells = self.cells.lock();
        let key: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        match cells.get(&key) {
            Some(cell) => cell.clone(),
            None if cells.len() >= SERIES_MAX => Cell::default(),
            None => cells.entry(key).or_default().clone(),
        }
    }
}

/// Counters of one family.
#[derive(Clone, Debug)]
pub struct CounterVec(Cells);

impl CounterVec {
    /// The counter of these label values, in the order of the names given at registration.
    pub fn with(&self, values: &[&str]) -> Counter {
        Counter(self.0.with(values))
    }
}

/// Gauges of one family.
#[derive(Clone, Debug)]
pub struct GaugeVec(Cells);

impl GaugeVec {
    /// The gauge of these label values.
    pub fn with(&self, values: &[&str]) -> Gauge {
        Gauge(self.0.with(values))
    }
}

type Source = Box<dyn Fn(&mut Vec<Family>) + Send + Sync>;

/// The instruments of one service; clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Vec<Source>>>);

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} sources)", self.0.lock().len())
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds families computed at each scrape.
    pub fn collect(&self, source: impl Fn(&mut Vec<Family>) + Send + Sync + 'static) {
        self.0.lock().push(Box::new(source));
    }

    /// Registers a counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.counter_vec(name, help, &[]).with(&[])
    }

    /// Registers counters by label values.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        CounterVec(self.cells(name, help, labels, MetricType::Counter))
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauge_vec(name, help, &[]).with(&[])
    }

    /// Registers gauges by label values.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        GaugeVec(self.cells(name, help, labels, MetricType::Gauge))
    }

    fn cells(&self, name: &str, help: &str, labels: &[&str], kind: MetricType) -> Cells {
        let cells = Cells::new(labels);
        let (source, name, help) = (cells.clone(), name.to_owned(), help.to_owned());
        self.collect(move |families| {
            let mut family = Family::new(&name, &help, kind);
            for (values, cell) in source.cells.lock().iter() {
                let labels = Labels::from_pairs(source.names.iter().zip(values));
                let value = match kind {
                    MetricType::Counter => MetricValue::Counter { value: cell.get(), exemplar: None, start: None },
                    _ => MetricValue::Gauge(cell.get()),
                };
                family.metrics.push(Metric { labels, value, at: None });
            }
            families.push(family);
        });
        cells
    }

    /// All families with metrics, by name; series of one name from several sources are put together.
    pub fn gather(&self) -> Vec<Family> {
        let mut found = Vec::new();
        for source in self.0.lock().iter() {
            source(&mut found);
        }
        found.retain(|family| !family.metrics.is_empty());
        found.sort_by(|a, b| a.name.cmp(&b.name));
        let mut families = Vec::<Family>::with_capacity(found.len());
        for family in found {
            match families.last_mut().filter(|last| last.name == family.name) {
                Some(last) => last.metrics.extend(family.metrics),
                None => families.push(family),
            }
        }
        families
    }
}

/// Registers `PROGRAM_build_info`.
pub fn build_info(registry: &Registry, program: &str) {
    let name = format!("{program}_build_info");
    let labels = ["branch", "goarch", "goos", "goversion", "revision", "tags", "version"];
    let gauge = registry.gauge_vec(&name, "A metric with a constant '1' value labeled by what this build is.", &labels);
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    gauge.with(&["unknown", arch, os, "rust", "unknown", "unknown", env!("CARGO_PKG_VERSION")]).set(1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_come_sorted_and_whole() {
        let registry = Registry::new();
        let requests = registry.counter_vec("z_total", "Requests.", &["code"]);
        requests.with(&["500"]).inc();
        requests.with(&["200"]).add(2.5);
        requests.with(&["200"]).add(-1.0);
        registry.gauge("a", "A gauge.").set(-1.0);
        registry.counter_vec("empty_total", "Nothing.", &["x"]);
        let mut out = Vec::new();
        exposition::write(&registry.gather(), exposition::Format::Text004, exposition::Escaping::AllowUtf8, &mut out);
        let text = "# HELP a A gauge.\n# TYPE a gauge\na -1\n# HELP z_total Requests.\n# TYPE z_total counter\n\
                    z_total{code=\"200\"} 2.5\nz_total{code=\"500\"} 1\n";
        assert_eq!(String::from_utf8_lossy(&out), text);
    }

    #[test]
    fn two_registries_share_nothing() {
        let (one, two) = (Registry::new(), Registry::new());
        one.counter("a_total", "").inc();
        assert!(two.gather().is_empty());
    }

    #[test]
    fn a_family_does_not_grow_without_bound() {
        let registry = Registry::new();
        let counters = registry.counter_vec("a_total", "", &["x"]);
        for i in 0..SERIES_MAX + 5 {
            counters.with(&[&i.to_string()]).inc();
        }
        assert_eq!(registry.gather()[0].metrics.len(), SERIES_MAX);
    }
}
