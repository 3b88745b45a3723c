//! What the gateway exposes of itself: the names that pushes must not contradict, and its own instruments.
//!
//! Upstream's names include those of the Go runtime, which we do not have; a push that upstream refuses because of them
//! is refused here too. Truth: `/metrics` of an upstream gateway.

use exposition::MetricType;
use metrics::{CounterVec, Registry, SummaryVec};
use runtime::Clock;
use std::collections::BTreeMap;

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

/// Quantiles of pushes and how exact each is.
const QUANTILES: [(f64, f64); 3] = [(0.1, 0.01), (0.5, 0.05), (0.9, 0.01)];

/// The instruments of the HTTP side.
#[derive(Debug)]
pub(crate) struct Instruments {
    /// By handler, method and code.
    pub(crate) requests: CounterVec,
    pub(crate) push_bytes: SummaryVec,
    pub(crate) push_seconds: SummaryVec,
    /// By why.
    pub(crate) over_limit: CounterVec,
    pub(crate) expired: metrics::Counter,
    /// By what became of them.
    pub(crate) received: CounterVec,
}

impl Instruments {
    pub(crate) fn new(registry: &Registry, clock: &Clock) -> Self {
        Self {
            requests: registry.counter_vec(
                "pushgateway_http_requests_total",
                "Total HTTP requests processed by the Pushgateway, excluding scrapes.",
                &["code", "handler", "method"],
            ),
            push_bytes: registry.summary_vec(
                "pushgateway_http_push_size_bytes",
                "HTTP request size for pushes to the Pushgateway.",
                &["method"],
                &QUANTILES,
                clock,
            ),
            push_seconds: registry.summary_vec(
                "pushgateway_http_push_duration_seconds",
                "HTTP request duration for pushes to the Pushgateway.",
                &["method"],
                &QUANTILES,
                clock,
            ),
            over_limit: registry.counter_vec(
                "narthex_pushgateway_refused_over_limit_total",
                "Pushes refused because of a limit set by a flag.",
                &["limit"],
            ),
            received: registry.counter_vec(
                "narthex_pushgateway_replication_received_total",
                "Groups and deletions that peers sent.",
                &["result"],
            ),
            expired: registry
                .counter("narthex_pushgateway_groups_expired_total", "Groups forgotten because their time was over."),
        }
    }
}
