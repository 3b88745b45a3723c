//! Self-instrumentation with a registry passed by hand: counters, gauges, histograms, summaries, each alone or by label
//! values, families computed at each scrape, and what the kernel knows of the process.
//!
//! Where prometheus-client is, and where not:
//!
//! - Its atomics are the instruments: [`Counter`] and [`Gauge`] wrap its own.
//! - Its collectors and registries can be hosted ([`Registry::host`]), so that code written for it is scraped with the
//!   rest. Their output is taken through its only open door, the OpenMetrics text: `DescriptorEncoder` and
//!   `MetricEncoder` are closed over its own encoders, another cannot be plugged in.
//! - Its `Family` is not used: its series cannot be listed but by encoding, and come in hash order; upstream's come
//!   sorted.
//! - Its `Histogram` is not used: buckets cannot be read but by encoding, sum and count only in tests.
//! - It has no summaries, which upstream's own metrics need; ours are in [`Summary`].
//! - Its text encoder is never what is served: it knows no text 0.0.4, no quoted names, no negotiation, prints `1000000.0`
//!   for `1e+06` and puts a full stop behind every HELP. Formats are `exposition`'s.

mod histogram;
mod hosted;
mod instruments;
mod process;
mod summary;
mod vec;

pub use histogram::{DEFAULT_BUCKETS, Histogram, exponential_buckets, linear_buckets};
pub use hosted::prometheus_client;
pub use instruments::{Counter, Gauge};
pub use process::{process_collector, process_collector_told};
pub use summary::Summary;
pub use vec::{CounterVec, GaugeVec, HistogramVec, InstrumentVec, SERIES_MAX, SummaryVec};

use exposition::Family;
use model::MetricType;
use parking_lot::Mutex;
use runtime::Clock;
use std::{
    fmt,
    sync::{Arc, OnceLock},
};

type Source = Arc<dyn Fn(&mut Vec<Family>) + Send + Sync>;

/// The instruments of one service; clones share them.
#[derive(Clone, Default)]
pub struct Registry(Arc<Inner>);

#[derive(Default)]
struct Inner {
    sources: Mutex<Vec<Source>>,
    /// Shared by everything that is hosted; not there before something is.
    hosted_failures: OnceLock<Counter>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} sources)", self.0.sources.lock().len())
    }
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds families computed at each scrape.
    pub fn collect(&self, source: impl Fn(&mut Vec<Family>) + Send + Sync + 'static) {
        self.0.sources.lock().push(Arc::new(source));
    }

    /// Registers a counter.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.counter_vec(name, help, &[]).with(&[])
    }

    /// Registers counters by label values.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.vec(name, help, MetricType::Counter, labels, Counter::default)
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauge_vec(name, help, &[]).with(&[])
    }

    /// Registers gauges by label values.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.vec(name, help, MetricType::Gauge, labels, Gauge::default)
    }

    /// Registers a histogram with these upper bounds; see [`Histogram::new`].
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        self.histogram_vec(name, help, &[], bounds).with(&[])
    }

    /// Registers histograms by label values, all with these upper bounds.
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let bounds = bounds.to_vec();
        self.vec(name, help, MetricType::Histogram, labels, move || Histogram::new(&bounds))
    }

    /// Registers a summary of these quantiles; see [`Summary::new`].
    pub fn summary(&self, name: &str, help: &str, quantiles: &[(f64, f64)], clock: &Clock) -> Summary {
        self.summary_vec(name, help, &[], quantiles, clock).with(&[])
    }

    /// Registers summaries by label values, all of these quantiles.
    pub fn summary_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        quantiles: &[(f64, f64)],
        clock: &Clock,
    ) -> SummaryVec {
        let (quantiles, clock) = (quantiles.to_vec(), clock.clone());
        self.vec(name, help, MetricType::Summary, labels, move || Summary::new(&quantiles, &clock))
    }

    fn vec<T: instruments::Instrument>(
        &self,
        name: &str,
        help: &str,
        kind: MetricType,
        labels: &[&str],
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> InstrumentVec<T> {
        let vec = InstrumentVec::new(labels, make);
        let (source, name, help) = (vec.clone(), name.to_owned(), help.to_owned());
        self.collect(move |families| {
            let mut family = Family::new(&name, &help, kind);
            source.collect(&mut family.metrics);
            families.push(family);
        });
        vec
    }

    /// All families with metrics, by name, their metrics by labels; series of one name from several sources are put
    /// together, and of two with the same labels the one registered first stays. O(series log series).
    pub fn gather(&self) -> Vec<Family> {
        // A source may take its time or register another one, so the list is not locked meanwhile.
        let sources = self.0.sources.lock().clone();
        let mut found = Vec::new();
        for source in sources {
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
        for family in &mut families {
            family.metrics.sort_by(|a, b| a.labels.cmp(&b.labels));
            family.metrics.dedup_by(|later, first| later.labels == first.labels);
        }
        families
    }
}

/// Registers `PROGRAM_build_info`.
pub fn build_info(registry: &Registry, program: &str) {
    let name = format!("{program}_build_info");
    let labels = ["branch", "goarch", "goos", "goversion", "revision", "tags", "version"];
    let help = format!(
        "A metric with a constant '1' value labeled by version, revision, branch, goversion from which {program} was \
         built, and the goos and goarch for the build."
    );
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    let gauge = registry.gauge_vec(&name, &help, &labels);
    gauge.with(&["unknown", arch, os, "rust", "unknown", "unknown", env!("CARGO_PKG_VERSION")]).set(1.0);
}

/// What upstream's programs count about their own `/metrics` handler.
#[derive(Clone, Debug)]
pub struct HandlerMetrics {
    /// `promhttp_metric_handler_requests_total` by `code`.
    pub requests: CounterVec,
    /// `promhttp_metric_handler_requests_in_flight`.
    pub in_flight: Gauge,
    /// `promhttp_metric_handler_errors_total` by `cause`.
    pub errors: CounterVec,
}

/// Registers the `promhttp_*` families, with the series that upstream shows from the start.
pub fn handler_metrics(registry: &Registry) -> HandlerMetrics {
    let name = |what: &str| format!("promhttp_metric_handler_{what}");
    let requests =
        registry.counter_vec(&name("requests_total"), "Total number of scrapes by HTTP status code.", &["code"]);
    for code in ["200", "500", "503"] {
        requests.with(&[code]);
    }
    let in_flight = registry.gauge(&name("requests_in_flight"), "Current number of scrapes being served.");
    let help = "Total number of internal errors encountered by the promhttp metric handler.";
    let errors = registry.counter_vec(&name("errors_total"), help, &["cause"]);
    for cause in ["encoding", "gathering"] {
        errors.with(&[cause]);
    }
    HandlerMetrics { requests, in_flight, errors }
}

#[cfg(test)]
mod tests;
