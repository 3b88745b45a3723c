//! Self-metrics of scraping, under upstream's names.

use crate::{Outcome, failure::Kind};
use metrics::{Counter, CounterVec, GaugeVec, Registry, SummaryVec};
use runtime::Clock;

/// The quantiles of upstream's summaries of scraping, with the error allowed.
const QUANTILES: &[(f64, f64)] = &[(0.01, 0.001), (0.05, 0.005), (0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];

/// Made once and shared by all reloads.
#[derive(Clone, Debug)]
pub struct Counters {
    duplicates: Counter,
    out_of_order: Counter,
    out_of_bounds: Counter,
    sample_limit: Counter,
    body_limit: Counter,
    label_limit: Counter,
    bucket_limit: Counter,
    exemplars_out_of_order: Counter,
    pub(crate) target_limit: Counter,
    pub(crate) pools: Counter,
    pub(crate) pools_failed: Counter,
    pub(crate) reloads: Counter,
    pub(crate) reloads_failed: Counter,
    pub(crate) syncs: CounterVec,
    pub(crate) syncs_failed: CounterVec,
    pub(crate) sync_seconds: SummaryVec,
    pub(crate) intervals: SummaryVec,
    pub(crate) targets: GaugeVec,
    pub(crate) limits: GaugeVec,
}

impl Counters {
    /// Registers all of them.
    pub fn new(registry: &Registry, clock: &Clock) -> Self {
        let counter = |name: &str, help: &str| registry.counter(&format!("prometheus_target_{name}"), help);
        let gauges =
            |name: &str, help: &str| registry.gauge_vec(&format!("prometheus_target_{name}"), help, &["scrape_job"]);
        let counters =
            |name: &str, help: &str| registry.counter_vec(&format!("prometheus_target_{name}"), help, &["scrape_job"]);
        let summaries = |name: &str, help: &str, label: &str| {
            registry.summary_vec(&format!("prometheus_target_{name}"), help, &[label], QUANTILES, clock)
        };
        // What is known of a target goes with a failed scrape only by relabelling: nothing is ever flushed by force.
        counter(
            "scrapes_cache_flush_forced_total",
            "How many times a scrape cache was flushed due to getting big while scrapes are failing.",
        );
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
            bucket_limit: counter(
                "scrapes_exceeded_native_histogram_bucket_limit_total",
                "Total number of scrapes that hit the native histogram bucket limit and were rejected.",
            ),
            exemplars_out_of_order: counter(
                "scrapes_exemplar_out_of_order_total",
                "Total number of exemplar rejected due to not being out of the expected order.",
            ),
            target_limit: counter(
                "scrape_pool_exceeded_target_limit_total",
                "Total number of times scrape pools hit the target limit, during sync or config reload.",
            ),
            pools: counter("scrape_pools_total", "Total number of scrape pool creation attempts."),
            pools_failed: counter("scrape_pools_failed_total", "Total number of scrape pool creations that failed."),
            reloads: counter("scrape_pool_reloads_total", "Total number of scrape pool reloads."),
            reloads_failed: counter("scrape_pool_reloads_failed_total", "Total number of failed scrape pool reloads."),
            syncs: counters("scrape_pool_sync_total", "Total number of syncs that were executed on a scrape pool."),
            syncs_failed: counters("sync_failed_total", "Total number of target sync failures."),
            sync_seconds: summaries("sync_length_seconds", "Actual interval to sync the scrape pool.", "scrape_job"),
            intervals: summaries("interval_length_seconds", "Actual intervals between scrapes.", "interval"),
            targets: gauges("scrape_pool_targets", "Current number of targets in this scrape pool."),
            limits: gauges("scrape_pool_target_limit", "Maximum number of targets allowed in this scrape pool."),
        }
    }

    /// A pool that is gone has no sizes.
    pub(crate) fn forget(&self, job: &str) {
        self.targets.remove(&[job]);
        self.limits.remove(&[job]);
        self.syncs.remove(&[job]);
        self.syncs_failed.remove(&[job]);
        self.sync_seconds.remove(&[job]);
    }

    pub(crate) fn count(&self, outcome: &Outcome) {
        self.duplicates.add(outcome.duplicates as f64);
        self.out_of_order.add(outcome.out_of_order as f64);
        self.out_of_bounds.add(outcome.out_of_bounds as f64);
        self.exemplars_out_of_order.add(outcome.exemplars_out_of_order as f64);
        match outcome.error.as_ref().map(|error| error.kind) {
            Some(Kind::SampleLimit) => self.sample_limit.inc(),
            Some(Kind::BucketLimit) => self.bucket_limit.inc(),
            Some(Kind::BodySize) => self.body_limit.inc(),
            Some(Kind::LabelLimit) => self.label_limit.inc(),
            Some(Kind::Other) | None => {}
        }
    }
}
