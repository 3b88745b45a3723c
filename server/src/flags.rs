//! The command line: upstream's flags for what is built, and ours.

use cli::{Command, Flag, Parsed};
use promql::Features;

/// The flag that bounds the series in memory.
pub(crate) const SERIES_FLAG: &str = "storage.head.series-max";

/// The flag that bounds the series of one job.
pub(crate) const JOB_SERIES_FLAG: &str = "storage.head.job-series-max";

/// The command line: upstream's flags for what is built, and ours.
pub fn command() -> Command {
    Command::new("prometheus", "The Prometheus monitoring server")
        .web_flags("0.0.0.0:9090")
        .log_flags()
        .flag(Flag::string("config.file", "prometheus.yml", "Prometheus configuration file path."))
        .flag(Flag::string("storage.tsdb.path", "data/", "Base path for metrics storage."))
        .flag(Flag::string("storage.tsdb.retention.time", "15d", "How long to retain samples in storage."))
        .flag(Flag::string(
            "storage.tsdb.retention.size",
            "",
            "Bytes of parts beyond which the oldest are removed, with a unit: B, KB, MB, GB, TB, PB or EB.",
        ))
        .flag(Flag::int(SERIES_FLAG, 10_000_000, "Series in memory at most; a scrape that would add more fails."))
        .flag(Flag::int(
            JOB_SERIES_FLAG,
            0,
            "Series of one job in memory beyond which it gets no new ones while three quarters of all are in use; 0 is no limit.",
        ))
        .flag(Flag::list("enable-feature", &[], "Comma separated feature names to enable."))
        .flag(Flag::boolean(
            "scrape.plain-on-loopback",
            false,
            "Ask targets on this machine for bodies without compression, which saves inflating them.",
        ))
        .flag(Flag::duration_prom("query.lookback-delta", "5m", "How far an instant selector looks back."))
        .flag(Flag::duration_prom("query.timeout", "2m", "Maximum time a query may take before being aborted."))
        .flag(Flag::int("query.max-concurrency", 20, "Maximum number of queries executed concurrently."))
        .flag(Flag::int(
            "query.max-samples",
            50_000_000,
            "Maximum number of samples a single query can load into memory.",
        ))
        .flag(Flag::string(
            "query.max-memory",
            "1GB",
            "Bytes a single query may hold, with a unit: B, KB, MB, GB, TB, PB or EB; 0 is no limit.",
        ))
        .flag(Flag::duration_prom(
            "web.read-timeout",
            "5m",
            "Maximum duration before timing out read of the request, and closing idle connections.",
        ))
        .flag(Flag::boolean("web.enable-lifecycle", false, "Enable shutdown and reload via HTTP request."))
        .flag(Flag::boolean("web.enable-admin-api", false, "Enable API endpoints for admin control actions."))
        .flag(Flag::boolean(
            "web.enable-remote-write-receiver",
            false,
            "Enable API endpoints that take series: remote write and the import of text.",
        ))
        .flag(Flag::int("web.max-connections", 512, "Maximum number of simultaneous connections across all listeners."))
}

/// A flag's number as a count; what is negative counts as none.
pub(crate) fn count(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// What `--enable-feature` switches on. Names that upstream knows and that change nothing here are accepted, others are
/// warned of, as upstream does.
pub(crate) fn features(parsed: &Parsed) -> Features {
    let mut features = Features::default();
    let names = parsed.list("enable-feature").iter().flat_map(|list| list.split(','));
    for name in names.filter(|name| !name.is_empty()) {
        match name {
            "promql-experimental-functions" => features.experimental_functions = true,
            "promql-duration-expr" => features.duration_expressions = true,
            "promql-extended-range-selectors" => features.extended_ranges = true,
            "promql-binop-fill-modifiers" => features.fill = true,
            "promql-delayed-name-removal" => features.delayed_name_removal = true,
            "use-start-timestamps" => features.start_timestamps = true,
            "type-and-unit-labels" => features.type_and_unit_labels = true,
            name if ALWAYS_ON.contains(&name) || OF_SCRAPING.contains(&name) => {}
            name => tracing::warn!(option = name, "Unknown or unbuilt option for --enable-feature"),
        }
    }
    features
}

/// What `--enable-feature` and the flags of scraping switch on.
pub(crate) fn scrape_features(parsed: &Parsed) -> scrape::Features {
    let names: Vec<&str> = parsed.list("enable-feature").iter().flat_map(|list| list.split(',')).collect();
    scrape::Features {
        type_and_unit_labels: names.contains(&"type-and-unit-labels"),
        exemplars: names.contains(&"exemplar-storage"),
        start_zero_samples: names.contains(&"created-timestamp-zero-ingestion"),
        plain_on_loopback: parsed.bool("scrape.plain-on-loopback"),
    }
}

/// Features that [`scrape_features`] knows.
const OF_SCRAPING: &[&str] = &["exemplar-storage", "created-timestamp-zero-ingestion"];

/// Features of upstream that are always on here, or that name something of its runtime.
const ALWAYS_ON: &[&str] =
    &["native-histograms", "memory-snapshot-on-shutdown", "promql-per-step-stats", "auto-gomaxprocs"];
