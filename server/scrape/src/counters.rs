//! Self-metrics of scraping, under upstream's names.

use crate::{Outcome, failure::Kind};
use metrics::{Counter, GaugeVec, Registry};

/// Made once and shared by all reloads.
#[derive(Clone, Debug)]
pub struct Counters {
    duplicates: Counter,
    out_of_order: Counter,
    out_of_bounds: Counter,
    sample_limit: Counter,
    body_limit: Counter,
    label_limit: Counter,
    pub(crate) target_limit: Counter,
    pub(crate) pools: Counter,
    pub(crate) reloads: Counter,
    pub(crate) targets: GaugeVec,
    pub(crate) limits: GaugeVec,
}

impl Counters {
    /// Registers all of them.
    pub fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str| registry.counter(&format!("prometheus_target_{name}"), help);
        let gauges =
            |name: &str, help: &str| registry.gauge_vec(&format!("prometheus_target_{name}"), help, &["scrape_job"]);
        Self {
            duplicates: counter(
                "scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
            ),
            out_of_order: counter(
                "scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
            ),
            out_of_bounds: counter(
                "scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
            ),
            sample_limit: counter(
                "scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
            ),
            body_limit: counter(
                "scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit",
            ),
            label_limit: counter(
                "scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits, during sync or config reload.",
            ),
            target_limit: counter(
                "scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
            ),
            pools: counter("scrape_pools_total", "Total number of scrape pool creation attempts."),
            reloads: counter("scrape_pool_reloads_total", "Total number of scrape pool reloads."),
            targets: gauges("scrape_pool_targets", "Current number of targets in this scrape pool."),
            limits: gauges("scrape_pool_target_limit", "Maximum number of targets allowed in this scrape pool."),
        }
    }

    /// A pool that is gone has no sizes.
    pub(crate) fn forget(&self, job: &str) {
        self.targets.remove(&[job]);
        self.limits.remove(&[job]);
    }

    pub(crate) fn count(&self, outcome: &Outcome) {
        self.duplicates.add(outcome.duplicates as f64);
        self.out_of_order.add(outcome.out_of_order as f64);
        self.out_of_bounds.add(outcome.out_of_bounds as f64);
        match outcome.error.as_ref().map(|error| error.kind) {
            Some(Kind::SampleLimit) => self.sample_limit.inc(),
            Some(Kind::BodySize) => self.body_limit.inc(),
            Some(Kind::LabelLimit) => self.label_limit.inc(),
            Some(Kind::Other) | None => {}
        }
    }
}
