//! Sizes and times of a store; small ones make tests quick.

use runtime::LogOptions;

/// Settings of a [`crate::Tsdb`].
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Time range of the smallest parts, in milliseconds; parts begin at multiples of it.
    pub part_ms: i64,
    /// Ranges into which parts are merged, ascending, each a multiple of the one before.
    pub merged_ms: &'static [i64],
    /// Samples after which a chunk of the head is sealed.
    pub chunk_samples: u16,
    /// Series held in memory at most; a new one beyond is refused.
    pub series_max: u64,
    /// The flag that sets it, for messages.
    pub series_flag: &'static str,
    /// Series of one job (the label `job`) beyond which it gets no new ones while the store is three quarters full; 0 is
    /// no such limit.
    pub job_series_max: u64,
    /// The flag that sets it, for messages.
    pub job_series_flag: &'static str,
    /// How far behind the newest sample one may come out of order, in milliseconds; 0 refuses all of them.
    pub out_of_order_ms: i64,
    /// Exemplars kept, the newest of all series; 0 keeps none.
    pub exemplars_max: usize,
    /// Bytes of sealed chunks that are memory before they go to a file.
    pub segment_bytes: usize,
    /// How far the newest sample advances, in milliseconds, between two snapshots of the head.
    pub snapshot_ms: i64,
    /// Age in milliseconds beyond which parts are removed, relative to the newest sample.
    pub retention_ms: Option<i64>,
    /// Bytes of all parts beyond which the oldest are removed.
    pub retention_bytes: Option<u64>,
    /// The same as a share of the disk, in percent, for parts and log together; the smaller one counts.
    pub retention_percentage: Option<f64>,
    /// Sizes of the log.
    pub log: LogOptions,
}

const HOUR_MS: i64 = 3_600_000;

impl Default for Options {
    fn default() -> Self {
        Self {
            part_ms: 2 * HOUR_MS,
            merged_ms: &[12 * HOUR_MS, 48 * HOUR_MS],
            chunk_samples: 120,
            series_max: 10_000_000,
            series_flag: "--storage.head.series-max",
            job_series_max: 0,
            job_series_flag: "--storage.head.job-series-max",
            out_of_order_ms: 0,
            exemplars_max: 0,
            segment_bytes: 1 << 20,
            snapshot_ms: HOUR_MS / 6,
            retention_ms: Some(15 * 24 * HOUR_MS),
            retention_bytes: None,
            retention_percentage: None,
            // A segment is read whole at the start, and should not count beside the head.
            log: LogOptions { segment_bytes: 16 << 20, ..LogOptions::default() },
        }
    }
}
