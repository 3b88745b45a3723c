//! The store of the server: opened with the flags, kept in order, shown in metrics.

use crate::{
    Config, Environment, config,
    flags::{JOB_SERIES_FLAG, SERIES_FLAG, scrape_features},
    late::Late,
};
use anyhow::Context;
use cli::Parsed;
use runtime::Disk;
use std::{sync::Arc, time::Duration};
use tsdb::Tsdb;

/// How often what was committed is made to survive a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the store is put in order.
const MAINTAIN_EVERY: Duration = Duration::from_secs(30);

/// Sets what the configuration file says of the store.
pub(crate) fn apply(store: &Tsdb, config: &Config, exemplars: bool) {
    store.set_out_of_order_window(i64::try_from(config.out_of_order_window.as_millis()).unwrap_or(i64::MAX));
    store.set_exemplars_max(if exemplars { config.exemplars_max } else { 0 });
}

/// What flags and configuration file say of the store.
pub(crate) fn options(parsed: &Parsed, config: &Config) -> anyhow::Result<tsdb::Options> {
    let retention = parsed.str("storage.tsdb.retention.time");
    let retention =
        model::Duration::parse(retention).with_context(|| format!("--storage.tsdb.retention.time={retention}"))?;
    let size = parsed.str("storage.tsdb.retention.size");
    let bytes = if size.is_empty() {
        0
    } else {
        config::parse_size(size).with_context(|| {
            format!(
                "--storage.tsdb.retention.size={size}: not a number with one of the units B, KB, MB, GB, TB, PB, EB"
            )
        })?
    };
    Ok(tsdb::Options {
        series_max: parsed.int(SERIES_FLAG).unsigned_abs(),
        series_flag: "--storage.head.series-max",
        job_series_max: parsed.int(JOB_SERIES_FLAG).unsigned_abs(),
        job_series_flag: "--storage.head.job-series-max",
        // What is in the log is read with the same settings.
        out_of_order_ms: i64::try_from(config.out_of_order_window.as_millis()).unwrap_or(i64::MAX),
        exemplars_max: if scrape_features(parsed).exemplars { config.exemplars_max } else { 0 },
        retention_ms: i64::try_from(retention.as_millis()).ok().filter(|age| *age > 0),
        retention_bytes: (bytes > 0).then_some(bytes),
        ..tsdb::Options::default()
    })
}

/// Opens the store of the data folder and makes it the one that is asked. Takes as long as its log is.
pub(crate) fn open(disk: Disk, options: tsdb::Options, late: &Late) -> anyhow::Result<Arc<Tsdb>> {
    let store = Arc::new(Tsdb::open_watched(disk, options, &late.progress)?);
    let (records, torn) = (store.recovery().records, store.recovery().torn_bytes);
    tracing::info!(records, torn_bytes = torn, "The log was read");
    late.set(store.clone());
    Ok(store)
}

/// Runs what the store needs done: a sync every second, and order every half minute.
pub(crate) fn keep(env: &Environment, registry: &metrics::Registry, store: &Arc<Tsdb>) {
    let failures = registry.counter(
        "prometheus_tsdb_compactions_failed_total",
        "Total number of compactions that failed for the partition.",
    );
    let syncs = registry.counter("narthex_storage_sync_failures_total", "Syncs of the log that failed.");
    every(env, "storage sync", SYNC_EVERY, store, move |store| {
        if let Err(error) = store.sync() {
            syncs.inc();
            tracing::error!(%error, "the log could not be synced");
        }
    });
    every(env, "storage maintenance", MAINTAIN_EVERY, store, move |store| {
        if let Err(error) = store.maintain() {
            failures.inc();
            tracing::error!(%error, "putting the store in order failed, it is tried again");
        }
    });
}

/// Calls `work` on a thread that may block, again and again until shutdown.
fn every(
    env: &Environment,
    name: &'static str,
    period: Duration,
    store: &Arc<Tsdb>,
    work: impl Fn(&Tsdb) + Clone + Send + Sync + 'static,
) {
    let (env, store) = (env.clone(), store.clone());
    env.tasks.clone().spawn(name, runtime::OnPanic::Restart, move || {
        let (env, store, work) = (env.clone(), store.clone(), work.clone());
        async move {
            loop {
                tokio::select! {
                    biased;
                    () = env.shutdown.wait() => return,
                    () = env.clock.sleep(period) => {}
                }
                let (store, work) = (store.clone(), work.clone());
                // A panic is counted and logged there.
                let _ = env.tasks.blocking(name, move || work(&store)).await;
            }
        }
    });
}
