//! Codecs of samples: pure functions from columns to bytes and back, bit for bit.
//!
//! [`stream`] grows a sample at a time and serves the head; [`times`], [`values`] and [`histograms`] take whole columns
//! and serve part files. A decoder accepts any bytes: what is no column is an error, never a panic and never more memory
//! than the samples announced and allowed. The formats are described in `docs/format/part.md` and `docs/format/head.md`.
//! What this crate leaves out: files, checksums, and which samples belong together.

mod bits;
pub mod histograms;
mod ints;
mod pack;
pub mod stream;
pub mod times;
pub mod values;
pub mod varint;

/// The bytes are no column of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged column")]
pub struct Damaged;
