//! The store of the server: opened with the flags, kept in order, shown in metrics.

use crate::{Environment, config, flags::SERIES_FLAG};
use anyhow::Context;
use cli::Parsed;
use runtime::Disk;
use std::{sync::Arc, time::Duration};
use tsdb::Tsdb;

/// How often what was committed is made to survive a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How often the store is put in order.
const MAINTAIN_EVERY: Duration = Duration::from_secs(30);

/// Opens the store of the data folder.
pub(crate) fn open(parsed: &Parsed, disk: Disk) -> anyhow::Result<Tsdb> {
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
    let options = tsdb::Options {
        series_max: parsed.int(SERIES_FLAG).unsigned_abs(),
        series_flag: "--storage.head.series-max",
        retention_ms: i64::try_from(retention.as_millis()).ok().filter(|age| *age > 0),
        retention_bytes: (bytes > 0).then_some(bytes),
        ..tsdb::Options::default()
    };
    let store = Tsdb::open(disk, options)?;
    let (records, torn) = (store.recovery().records, store.recovery().torn_bytes);
    tracing::info!(records, torn_bytes = torn, "The log was read");
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

/// Registers upstream's metrics of storage.
pub(crate) fn register(registry: &metrics::Registry, store: &Arc<Tsdb>) {
    let store = store.clone();
    registry.collect(move |families| {
        let stats = storage::Storage::stats(&*store);
        let (parts, part_bytes) = store.part_sizes();
        let time = |time: Option<model::Timestamp>| time.map_or(0.0, |time| time.0 as f64);
        let head = store.head_range();
        for (name, help, value) in [
            ("prometheus_tsdb_head_series", "Total number of series in the head block.", stats.series as f64),
            (
                "prometheus_tsdb_head_max_time",
                "Maximum timestamp of the head block.",
                time(head.map(|(_, newest)| newest)),
            ),
            (
                "prometheus_tsdb_head_min_time",
                "Minimum time bound of the head block.",
                time(head.map(|(oldest, _)| oldest)),
            ),
            (
                "prometheus_tsdb_lowest_timestamp",
                "Lowest timestamp value stored in the database.",
                time(stats.min_time),
            ),
            ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", parts as f64),
            (
                "prometheus_tsdb_storage_blocks_bytes",
                "The number of bytes that are currently used for local storage by all blocks.",
                part_bytes as f64,
            ),
            ("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", store.log_bytes() as f64),
            (
                "narthex_storage_damaged_files",
                "Files and records that could not be read at the start.",
                store.damaged() as f64,
            ),
        ] {
            families.push(exposition::Family::gauge(name, help, value));
        }
        families.push(exposition::Family::counter(
            "prometheus_tsdb_head_samples_appended_total",
            "Total number of appended samples.",
            stats.appended as f64,
        ));
    });
}
