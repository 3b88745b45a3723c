//! The numbers of the store under upstream's names, read when they are asked for.
//!
//! Source of the names and texts: `tsdb/head.go`, `tsdb/db.go`, `tsdb/exemplar.go` and `tsdb/wlog` of upstream. What a
//! garbage collector or a page of upstream's log would count is left out.

use crate::late::Late;
use exposition::Family;
use std::sync::Arc;
use storage::Storage;
use tsdb::{Metrics, Tsdb};

/// A name, its text and its value.
type Row = (&'static str, &'static str, f64);

/// Registers upstream's metrics of storage.
pub(crate) fn register(registry: &metrics::Registry, store: &Arc<Late>) {
    let store = store.clone();
    registry.collect(move |families| {
        let Some(store) = store.get() else { return };
        let numbers = store.metrics();
        for (name, help, value) in head(store, &numbers).into_iter().chain(files(store, &numbers)) {
            families.push(Family::gauge(name, help, value));
        }
        for (name, help, value) in counted(&numbers).into_iter().chain(exemplars_counted(&numbers)) {
            families.push(Family::counter(name, help, value));
        }
        for (name, help, value) in exemplars(&numbers) {
            families.push(Family::gauge(name, help, value));
        }
    });
}

fn seconds(time: Option<model::Timestamp>) -> f64 {
    time.map_or(0.0, |time| time.0 as f64 / 1000.0)
}

fn head(store: &Tsdb, numbers: &Metrics) -> Vec<Row> {
    let lowest = store.stats().min_time;
    let (oldest, newest) = (numbers.range.map(|(oldest, _)| oldest), numbers.range.map(|(_, newest)| newest));
    let time = |time: Option<model::Timestamp>| time.map_or(0.0, |time| time.0 as f64);
    vec![
        ("prometheus_tsdb_head_series", "Total number of series in the head block.", numbers.series as f64),
        (
            "prometheus_tsdb_head_chunks",
            "Total number of chunks in the head block.",
            (numbers.sealed_chunks + numbers.series) as f64,
        ),
        ("prometheus_tsdb_head_max_time", "Maximum timestamp of the head block.", time(newest)),
        ("prometheus_tsdb_head_min_time", "Minimum time bound of the head block.", time(oldest)),
        ("prometheus_tsdb_head_max_time_seconds", "Maximum timestamp of the head block.", seconds(newest)),
        ("prometheus_tsdb_head_min_time_seconds", "Minimum time bound of the head block.", seconds(oldest)),
        ("prometheus_tsdb_lowest_timestamp", "Lowest timestamp value stored in the database.", time(lowest)),
        ("prometheus_tsdb_lowest_timestamp_seconds", "Lowest timestamp value stored in the database.", seconds(lowest)),
        ("narthex_storage_head_bytes", "Memory of series, labels and open chunks.", numbers.head_bytes as f64),
    ]
}

fn files(store: &Tsdb, numbers: &Metrics) -> Vec<Row> {
    let (parts, part_bytes) = store.part_sizes();
    vec![
        ("prometheus_tsdb_blocks_loaded", "Number of currently loaded data blocks.", parts as f64),
        (
            "prometheus_tsdb_storage_blocks_bytes",
            "The number of bytes that are currently used for local storage by all blocks.",
            part_bytes as f64,
        ),
        ("prometheus_tsdb_wal_storage_size_bytes", "Size of the write log directory.", numbers.log_bytes as f64),
        ("narthex_storage_log_segments", "Segments of the write log.", numbers.log_segments as f64),
        (
            "prometheus_tsdb_head_chunks_storage_size_bytes",
            "Size of the chunks_head directory.",
            numbers.sealed_file_bytes as f64,
        ),
        (
            "narthex_storage_damaged_files",
            "Files and records that could not be read at the start.",
            store.damaged() as f64,
        ),
    ]
}

fn counted(numbers: &Metrics) -> Vec<Row> {
    vec![
        (
            "prometheus_tsdb_head_series_created_total",
            "Total number of series created in the head",
            numbers.series_created as f64,
        ),
        (
            "prometheus_tsdb_head_series_removed_total",
            "Total number of series removed in the head",
            numbers.series_removed as f64,
        ),
        ("narthex_storage_series_refused_total", "New series refused by a limit.", numbers.series_refused as f64),
        (
            "prometheus_tsdb_head_chunks_created_total",
            "Total number of chunks created in the head",
            numbers.chunks_sealed as f64,
        ),
        (
            "prometheus_tsdb_head_truncations_total",
            "Total number of head truncations attempted.",
            numbers.truncations as f64,
        ),
        (
            "prometheus_tsdb_wal_writes_failed_total",
            "Total number of write log writes that failed.",
            numbers.log_failures as f64,
        ),
        ("prometheus_tsdb_head_samples_appended_total", "Total number of appended samples.", numbers.samples as f64),
        (
            "prometheus_tsdb_head_out_of_order_samples_appended_total",
            "Total number of appended out of order samples.",
            numbers.late_samples as f64,
        ),
        (
            "prometheus_tsdb_out_of_order_samples_total",
            "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
            numbers.out_of_order as f64,
        ),
        (
            "prometheus_tsdb_out_of_bound_samples_total",
            "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
            numbers.out_of_bounds as f64,
        ),
        (
            "prometheus_tsdb_too_old_samples_total",
            "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
            numbers.too_old as f64,
        ),
    ]
}

fn exemplars_counted(numbers: &Metrics) -> Vec<Row> {
    vec![
        (
            "prometheus_tsdb_exemplar_exemplars_appended_total",
            "Total number of appended exemplars.",
            numbers.exemplars_appended as f64,
        ),
        (
            "prometheus_tsdb_exemplar_out_of_order_exemplars_total",
            "Total number of out of order exemplar ingestion failed attempts.",
            numbers.exemplars_out_of_order as f64,
        ),
    ]
}

fn exemplars(numbers: &Metrics) -> Vec<Row> {
    vec![
        (
            "prometheus_tsdb_exemplar_exemplars_in_storage",
            "Number of exemplars currently in circular storage.",
            numbers.exemplars as f64,
        ),
        (
            "prometheus_tsdb_exemplar_series_with_exemplars_in_storage",
            "Number of series with exemplars currently in circular storage.",
            numbers.exemplar_series as f64,
        ),
        (
            "prometheus_tsdb_exemplar_last_exemplars_timestamp_seconds",
            "The timestamp of the oldest exemplar stored in circular storage. Useful to check for what time range the current exemplar buffer limit allows. This usually means the last timestamp for all exemplars for a typical setup. This is not true though if one of the series timestamp is in future compared to rest series.",
            seconds(numbers.oldest_exemplar),
        ),
        (
            "prometheus_tsdb_exemplar_max_exemplars",
            "Total number of exemplars the exemplar storage can store, resizeable.",
            numbers.exemplars_max as f64,
        ),
    ]
}
