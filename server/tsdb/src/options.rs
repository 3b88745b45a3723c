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
    /// Age in milliseconds beyond which parts are removed, relative to the newest sample.
    pub retention_ms: Option<i64>,
    /// Bytes of all parts beyond which the oldest are removed.
    pub retention_bytes: Option<u64>,
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
            retention_ms: Some(15 * 24 * HOUR_MS),
            retention_bytes: None,
            log: LogOptions::default(),
        }
    }
}
