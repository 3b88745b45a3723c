//! What the gateway exposes of itself: the names that pushes must not contradict, and its own instruments.
//!
//! Upstream's names include those of the Go runtime, which we do not have; a push that upstream refuses because of them
//! is refused here too. Truth: `/metrics` of an upstream gateway.

use exposition::{Family, Metric, MetricType, MetricValue};
use metrics::{CounterVec, Registry};
use model::Labels;
use parking_lot::Mutex;
use runtime::{Clock, Monotonic};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

const GAUGES: &[&str] = &[
    "go_gc_gogc_percent",
    "go_gc_gomemlimit_bytes",
    "go_goroutines",
    "go_info",
    "go_memstats_alloc_bytes",
    "go_memstats_buck_hash_sys_bytes",
    "go_memstats_gc_sys_bytes",
    "go_memstats_heap_alloc_bytes",
    "go_memstats_heap_idle_bytes",
    "go_memstats_heap_inuse_bytes",
    "go_memstats_heap_objects",
    "go_memstats_heap_released_bytes",
    "go_memstats_heap_sys_bytes",
    "go_memstats_last_gc_time_seconds",
    "go_memstats_mcache_inuse_bytes",
    "go_memstats_mcache_sys_bytes",
    "go_memstats_mspan_inuse_bytes",
    "go_memstats_mspan_sys_bytes",
    "go_memstats_next_gc_bytes",
    "go_memstats_other_sys_bytes",
    "go_memstats_stack_inuse_bytes",
    "go_memstats_stack_sys_bytes",
    "go_memstats_sys_bytes",
    "go_sched_gomaxprocs_threads",
    "go_threads",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
    "process_virtual_memory_max_bytes",
    "pushgateway_build_info",
];
const COUNTERS: &[&str] = &[
    "go_memstats_alloc_bytes_total",
    "go_memstats_frees_total",
    "go_memstats_mallocs_total",
    "process_cpu_seconds_total",
    "process_network_receive_bytes_total",
    "process_network_transmit_bytes_total",
    "pushgateway_http_requests_total",
];
const SUMMARIES: &[&str] =
    &["go_gc_duration_seconds", "pushgateway_http_push_duration_seconds", "pushgateway_http_push_size_bytes"];

/// The types of the gateway's own families.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own(BTreeMap<String, MetricType>);

impl Own {
    /// Upstream's names and those of `registry`.
    pub(crate) fn of(registry: &Registry) -> Self {
        let mut kinds = BTreeMap::new();
        let lists = [(GAUGES, MetricType::Gauge), (COUNTERS, MetricType::Counter), (SUMMARIES, MetricType::Summary)];
        for (names, kind) in lists {
            kinds.extend(names.iter().map(|name| ((*name).to_owned(), kind)));
        }
        kinds.extend(registry.gather().into_iter().map(|family| (family.name, family.kind)));
        Self(kinds)
    }

    pub(crate) fn kind(&self, name: &str) -> Option<MetricType> {
        self.0.get(name).copied()
    }
}

/// The instruments of the HTTP side.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// By handler, method and code.
    pub(crate) requests: CounterVec,
    pub(crate) push_bytes: Window,
    pub(crate) push_seconds: Window,
    /// By why.
    pub(crate) over_limit: CounterVec,
    pub(crate) expired: metrics::Counter,
}

impl Instruments {
    pub(crate) fn new(registry: &Registry, clock: &Clock) -> Self {
        Self {
            requests: registry.counter_vec(
                "pushgateway_http_requests_total",
                "Total HTTP requests processed by the Pushgateway, excluding scrapes.",
                &["code", "handler", "method"],
            ),
            push_bytes: Window::new(
                registry,
                clock,
                "pushgateway_http_push_size_bytes",
                "HTTP request size for pushes to the Pushgateway.",
            ),
            push_seconds: Window::new(
                registry,
                clock,
                "pushgateway_http_push_duration_seconds",
                "HTTP request duration for pushes to the Pushgateway.",
            ),
            over_limit: registry.counter_vec(
                "narthex_pushgateway_refused_over_limit_total",
                "Pushes refused because of a limit set by a flag.",
                &["limit"],
            ),
            expired: registry
                .counter("narthex_pushgateway_groups_expired_total", "Groups forgotten because their time was over."),
        }
    }
}

/// Observations that quantiles are taken of at most.
const WINDOW_MAX: usize = 512;
const WINDOW_AGE: Duration = Duration::from_secs(600);

/// A summary by method, with quantiles 0.1, 0.5 and 0.9 of the last ten minutes' last observations.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    clock: Clock,
    methods: Arc<Mutex<BTreeMap<&'static str, Observed>>>,
}

#[derive(Debug, Default)]
struct Observed {
    count: f64,
    sum: f64,
    recent: VecDeque<(Monotonic, f64)>,
}

impl Window {
    fn new(registry: &Registry, clock: &Clock, name: &'static str, help: &'static str) -> Self {
        let window = Self { clock: clock.clone(), methods: Arc::default() };
        let source = window.clone();
        registry.collect(move |families| {
            let mut family = Family::new(name, help, MetricType::Summary);
            for (method, observed) in &mut *source.methods.lock() {
                let value = observed.summary(source.clock.now());
                family.metrics.push(Metric { labels: Labels::from_pairs([("method", method)]), value, at: None });
            }
            families.push(family);
        });
        window
    }

    pub(crate) fn observe(&self, method: &'static str, value: f64) {
        let mut methods = self.methods.lock();
        let observed = methods.entry(method).or_default();
        observed.count += 1.0;
        observed.sum += value;
        if observed.recent.len() == WINDOW_MAX {
            observed.recent.pop_front();
        }
        observed.recent.push_back((self.clock.now(), value));
    }
}

impl Observed {
    fn summary(&mut self, now: Monotonic) -> MetricValue {
        while self.recent.front().is_some_and(|(at, _)| now - *at > WINDOW_AGE) {
            self.recent.pop_front();
        }
        let mut sorted: Vec<f64> = self.recent.iter().map(|(_, value)| *value).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |quantile: f64| {
            let rank = (quantile * sorted.len() as f64).ceil().max(1.0) as usize;
            sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
        };
        let quantiles = [0.1, 0.5, 0.9].map(|quantile| (quantile, at(quantile))).to_vec();
        MetricValue::Summary { count: self.count, sum: self.sum, quantiles, start: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_window_forgets_what_is_old() {
        let (registry, clock) = (Registry::new(), Clock::simulated(0));
        let window = Window::new(&registry, &clock, "w", "");
        window.observe("put", 100.0);
        clock.sleep(Duration::from_secs(601)).await;
        (1..=10).for_each(|value| window.observe("put", f64::from(value)));
        let family = &registry.gather()[0];
        let quantiles = vec![(0.1, 1.0), (0.5, 5.0), (0.9, 9.0)];
        assert_eq!(family.metrics[0].value, MetricValue::Summary { count: 11.0, sum: 155.0, quantiles, start: None });
    }
}
