//! Chunks: what they hold, by the number of their encoding.

use crate::{floats, histograms};
use chunk::Damaged;
use model::FloatHistogram;
use std::sync::Arc;

/// Encodings, as they are numbered in blocks.
pub(crate) const XOR: u8 = 1;
pub(crate) const HISTOGRAM: u8 = 2;
pub(crate) const FLOAT_HISTOGRAM: u8 = 3;
pub(crate) const XOR2: u8 = 4;

/// Where a chunk is, and the closed range of its times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPlace {
    /// Time of the first sample.
    pub min: i64,
    /// Time of the last sample.
    pub max: i64,
    /// Segment number from 0 in the upper half, place in the segment in the lower.
    pub place: u64,
}

/// Samples of one series, ascending by time.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    /// Floats, stale markers included.
    pub floats: Vec<(i64, f64)>,
    /// Native histograms.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
    /// Start timestamps: time of the sample, and when its counter started.
    pub starts: Vec<(i64, i64)>,
}

impl Samples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.floats.len() + self.histograms.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps what `keep` takes of the times.
    pub fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        self.floats.retain(|(at, _)| keep(*at));
        self.histograms.retain(|(at, _)| keep(*at));
        self.starts.retain(|(at, _)| keep(*at));
    }

    /// Appends the samples of a chunk; `Ok(false)` for an encoding that is not known.
    pub(crate) fn take(&mut self, encoding: u8, bytes: &[u8]) -> Result<bool, Damaged> {
        match encoding {
            XOR => floats::take_xor(bytes, self)?,
            XOR2 => floats::take_xor2(bytes, self)?,
            HISTOGRAM | FLOAT_HISTOGRAM => histograms::take(bytes, encoding == HISTOGRAM, self)?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}
