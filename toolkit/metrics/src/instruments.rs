//! Counters and gauges: prometheus-client's atomics, read as `exposition` values.

use exposition::MetricValue;
use prometheus_client::metrics::{counter, gauge};
use std::sync::atomic::AtomicU64;

/// What a registry can show. Clones share the value.
pub trait Instrument: Clone + Send + Sync + 'static {
    /// The value now.
    fn value(&self) -> MetricValue;
}

/// A number that only goes up.
#[derive(Clone, Debug, Default)]
pub struct Counter(counter::Counter<f64, AtomicU64>);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Adds `value`; a negative one or NaN adds nothing.
    pub fn add(&self, value: f64) {
        self.0.inc_by(value.max(0.0));
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl Instrument for Counter {
    fn value(&self) -> MetricValue {
        MetricValue::Counter { value: self.get(), exemplar: None, start: None }
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(gauge::Gauge<f64, AtomicU64>);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// Adds `value`.
    pub fn add(&self, value: f64) {
        self.0.inc_by(value);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// The value now.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

impl Instrument for Gauge {
    fn value(&self) -> MetricValue {
        MetricValue::Gauge(self.get())
    }
}
