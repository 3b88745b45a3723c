//! What a reload changes, how it is asked for, and how it went.

use crate::{Config, ConfigError, Environment};
use anyhow::Context;
use model::Labels;
use parking_lot::Mutex;
use runtime::Clock;
use std::sync::Arc;

/// What a reload changes.
pub(crate) struct Running {
    pub(crate) scraper: Arc<scrape::Scraper>,
    pub(crate) discovery: discovery::Manager,
    pub(crate) text: Mutex<String>,
    pub(crate) external_labels: Mutex<Labels>,
    pub(crate) last: Mutex<api::Reloaded>,
}

/// Registers what is remembered of families, counted when it is asked for.
pub(crate) fn register(registry: &metrics::Registry, running: &Arc<Running>) {
    let running = running.clone();
    registry.collect(move |families| {
        let sizes = running.scraper.family_sizes();
        let gauge = |value: usize, job: &str| exposition::Metric {
            labels: Labels::from_pairs([("scrape_job", job)]),
            value: exposition::MetricValue::Gauge(value as f64),
            at: None,
        };
        let (mut counts, mut bytes) = (Vec::new(), Vec::new());
        for (job, count, size) in &sizes {
            counts.push(gauge(*count, job));
            bytes.push(gauge(*size, job));
        }
        for (name, help, metrics) in [
            (
                "prometheus_target_metadata_cache_entries",
                "Total number of metric metadata entries in the cache",
                counts,
            ),
            (
                "prometheus_target_metadata_cache_bytes",
                "The number of bytes that are currently used for storing metric metadata in the cache",
                bytes,
            ),
        ] {
            let mut family = exposition::Family::new(name, help, model::MetricType::Gauge);
            family.metrics = metrics;
            families.push(family);
        }
    });
}

/// What tells dashboards whether the last reload worked.
pub(crate) struct ReloadGauges {
    successful: metrics::Gauge,
    at: metrics::Gauge,
    clock: Clock,
}

impl ReloadGauges {
    pub(crate) fn new(registry: &metrics::Registry, clock: &Clock) -> Self {
        let gauges = Self {
            successful: registry.gauge(
                "prometheus_config_last_reload_successful",
                "Whether the last configuration reload attempt was successful.",
            ),
            at: registry.gauge(
                "prometheus_config_last_reload_success_timestamp_seconds",
                "Timestamp of the last successful configuration reload.",
            ),
            clock: clock.clone(),
        };
        gauges.set(true);
        gauges
    }

    fn set(&self, worked: bool) {
        self.successful.set(f64::from(u8::from(worked)));
        if worked {
            self.at.set(self.clock.unix_ms() as f64 / 1000.0);
        }
    }
}

/// Reads the configuration again; a broken one changes nothing.
pub(crate) fn reload(
    load: &dyn Fn() -> Result<Config, ConfigError>,
    running: &Running,
    gauges: &ReloadGauges,
    apply: &dyn Fn(&Config),
) -> Result<(), String> {
    let loaded = load();
    gauges.set(loaded.is_ok());
    {
        let mut last = running.last.lock();
        (last.worked, last.tried_ms) = (loaded.is_ok(), gauges.clock.unix_ms());
    }
    let config = loaded.map_err(|error| {
        tracing::error!(%error, "Error reloading config");
        error.to_string()
    })?;
    apply(&config);
    running.scraper.apply(config.scrape);
    running.discovery.apply(&config.discovery);
    *running.text.lock() = config.text;
    *running.external_labels.lock() = config.external_labels;
    running.last.lock().at_ms = gauges.clock.unix_ms();
    tracing::info!("Completed loading of configuration file");
    Ok(())
}

/// Asks for a reload; the error is what to tell whoever asked.
pub(crate) type Reload = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Reloads on SIGHUP.
pub(crate) fn watch_hangups(env: &Environment, reload: Reload) -> anyhow::Result<()> {
    let mut hangups = runtime::hangups().context("watching SIGHUP")?;
    let shutdown = env.shutdown.clone();
    env.tasks.spawn_once("reload on SIGHUP", async move {
        loop {
            tokio::select! {
                biased;
                () = shutdown.wait() => return,
                () = hangups.next() => drop(reload()),
            }
        }
    });
    Ok(())
}
