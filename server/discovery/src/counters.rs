//! Self-metrics of discovery, under upstream's names.

use metrics::{Counter, CounterVec, Gauge, GaugeVec, Registry, SummaryVec};
use runtime::Clock;

/// The quantiles of upstream's summaries, with the error allowed.
pub(crate) const QUANTILES: &[(f64, f64)] = &[(0.5, 0.05), (0.9, 0.01), (0.99, 0.001)];

/// Counted for all mechanisms alike.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
    pub(crate) delayed: Counter,
    pub(crate) last_update: Gauge,
    pub(crate) targets: GaugeVec,
    pub(crate) refresh_failures: CounterVec,
    pub(crate) refresh_seconds: SummaryVec,
}

impl Counters {
    /// `name` is who asks: `scrape` or `notify`.
    pub(crate) fn new(registry: &Registry, clock: &Clock, name: &str) -> Self {
        let counter = |metric: &str, help: &str| registry.counter_vec(metric, help, &["name"]).with(&[name]);
        let gauge = |metric: &str, help: &str| registry.gauge_vec(metric, help, &["name"]).with(&[name]);
        // What is wrong with a configuration is said when it is read: none fails to start later.
        gauge(
            "prometheus_sd_failed_configs",
            "Current number of service discovery configurations that failed to load.",
        );
        Self {
            received: counter(
                "prometheus_sd_received_updates_total",
                "Total number of update events received from the SD providers.",
            ),
            sent: counter("prometheus_sd_updates_total", "Total number of update events sent to the SD consumers."),
            delayed: counter(
                "prometheus_sd_updates_delayed_total",
                "Total number of update events that couldn't be sent immediately.",
            ),
            last_update: gauge(
                "prometheus_sd_last_update_timestamp_seconds",
                "Timestamp of the last update sent to the SD consumers.",
            ),
            targets: registry.gauge_vec(
                "prometheus_sd_discovered_targets",
                "Current number of discovered targets.",
                &["name", "config"],
            ),
            refresh_failures: registry.counter_vec(
                "prometheus_sd_refresh_failures_total",
                "Number of refresh failures for the given SD mechanism.",
                &["mechanism"],
            ),
            refresh_seconds: registry.summary_vec(
                "prometheus_sd_refresh_duration_seconds",
                "The duration of a refresh in seconds for the given SD mechanism.",
                &["mechanism"],
                QUANTILES,
                clock,
            ),
        }
    }
}
