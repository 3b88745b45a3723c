//! Numbers of the store for self-metrics; who shows them knows their names.

use crate::Tsdb;
use model::Timestamp;
use std::sync::atomic::{AtomicU64, Ordering};
use storage::AppendError;

/// Numbers of head, log and exemplars at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Series in memory.
    pub series: u64,
    /// Bytes of memory of the head, but for its segments.
    pub head_bytes: u64,
    /// Series registered since the start.
    pub series_created: u64,
    /// Series given up since the start.
    pub series_removed: u64,
    /// New series refused for the limits on their number.
    pub series_refused: u64,
    /// Samples taken since the start, those out of order included.
    pub samples: u64,
    /// Samples taken out of order.
    pub late_samples: u64,
    /// Samples refused because they came out of order.
    pub out_of_order: u64,
    /// Samples refused because they lie in a range that is closed.
    pub out_of_bounds: u64,
    /// Samples refused because they lie before the window for those out of order.
    pub too_old: u64,
    /// Sealed chunks in memory and in mapped files.
    pub sealed_chunks: u64,
    /// Chunks sealed since the start.
    pub chunks_sealed: u64,
    /// Bytes of sealed chunks in memory.
    pub sealed_memory_bytes: u64,
    /// Bytes of sealed chunks in mapped files.
    pub sealed_file_bytes: u64,
    /// Times that a range of the head became a part.
    pub truncations: u64,
    /// Oldest and newest sample in order in memory.
    pub range: Option<(Timestamp, Timestamp)>,
    /// Segments of the log.
    pub log_segments: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Commits that the log refused.
    pub log_failures: u64,
    /// Exemplars kept.
    pub exemplars: u64,
    /// Series that have exemplars.
    pub exemplar_series: u64,
    /// Exemplars that may be kept.
    pub exemplars_max: u64,
    /// Time of the oldest exemplar.
    pub oldest_exemplar: Option<Timestamp>,
    /// Exemplars taken since the start.
    pub exemplars_appended: u64,
    /// Exemplars refused because they came out of order.
    pub exemplars_out_of_order: u64,
}

/// How far the log is read at the start, in segments; for `/api/v1/status/walreplay`.
#[derive(Debug, Default)]
pub struct Progress {
    first: AtomicU64,
    current: AtomicU64,
    last: AtomicU64,
}

impl Progress {
    pub(crate) fn set(&self, first: u64, current: u64, last: u64) {
        self.first.store(first, Ordering::Relaxed);
        self.current.store(current, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
    }

    /// Numbers of the first segment, of the one being read or read last, and of the last; all 0 before the first.
    pub fn get(&self) -> (u64, u64, u64) {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (load(&self.first), load(&self.current), load(&self.last))
    }
}

/// Refusals, counted where they happen.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    out_of_order: AtomicU64,
    out_of_bounds: AtomicU64,
    too_old: AtomicU64,
    unwritable: AtomicU64,
}

impl Refusals {
    /// Counts an error on its way out.
    pub(crate) fn note<T>(&self, result: Result<T, AppendError>) -> Result<T, AppendError> {
        let counter = match &result {
            Err(AppendError::OutOfOrder) => &self.out_of_order,
            Err(AppendError::OutOfBounds) => &self.out_of_bounds,
            Err(AppendError::TooOld) => &self.too_old,
            Err(AppendError::Unwritable(_)) => &self.unwritable,
            _ => return result,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }
}

impl Tsdb {
    /// The numbers now. O(segments and label pairs of the head).
    pub fn metrics(&self) -> Metrics {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (log_segments, log_bytes) = {
            let log = self.log.lock();
            (log.segments() as u64, log.bytes())
        };
        let head = self.head.read();
        let ring = self.exemplars.lock();
        let (sealed_memory_bytes, sealed_file_bytes) = head.segments.bytes();
        let (exemplars, exemplar_series) = ring.len();
        Metrics {
            series: head.len(),
            head_bytes: head.bytes() as u64,
            series_created: head.counts.created,
            series_removed: head.counts.removed,
            series_refused: head.counts.refused,
            samples: head.counts.appended,
            late_samples: head.counts.late,
            out_of_order: load(&self.refusals.out_of_order),
            out_of_bounds: load(&self.refusals.out_of_bounds),
            too_old: load(&self.refusals.too_old),
            sealed_chunks: head.segments.chunks(),
            chunks_sealed: head.counts.sealed,
            sealed_memory_bytes,
            sealed_file_bytes,
            truncations: head.counts.truncations,
            range: head.min_time.zip(head.max_time).map(|(min, max)| (Timestamp(min), Timestamp(max))),
            log_segments,
            log_bytes,
            log_failures: load(&self.refusals.unwritable),
            exemplars: exemplars as u64,
            exemplar_series: exemplar_series as u64,
            exemplars_max: ring.max() as u64,
            oldest_exemplar: ring.oldest().map(Timestamp),
            exemplars_appended: ring.counts.appended,
            exemplars_out_of_order: ring.counts.out_of_order,
        }
    }

    /// Sets how far behind the newest sample one may come out of order, in milliseconds; 0 refuses all of them.
    pub fn set_out_of_order_window(&self, window_ms: i64) {
        self.head.write().options.out_of_order_ms = window_ms.max(0);
    }

    /// Sets how many exemplars are kept; 0 keeps none.
    pub fn set_exemplars_max(&self, max: usize) {
        self.exemplars.lock().resize(max);
    }

    /// What the family of a series said of itself through [`storage::Appender::metadata`].
    pub fn metadata(&self, labels: &model::Labels) -> Option<model::Metadata> {
        let head = self.head.read();
        let id = head.find(labels, &mut Vec::new())?;
        head.side(id)?.metadata.as_deref().cloned()
    }
}
