//! Blocks of upstream's storage: read (2.x and 3.x), written, taken into our store.
//!
//! Source: upstream's pages of the formats of block, index, chunks and tombstones, and its code where they differ. Left
//! out: postings, which are written and not read since whole blocks are; the encodings of histograms with start
//! timestamps, which upstream still changes; upstream's log and head.

mod bits;
mod block;
mod chunks;
mod floats;
mod histograms;
mod import;
mod index;
mod index_writer;
mod meta;
mod write;

pub use block::{Block, SeriesReader, blocks};
pub use chunks::{ChunkPlace, Samples};
pub use import::{Imported, import, is_upstream};
pub use meta::{BlockStats, Compaction, Meta};
pub use write::{BLOCK_MS, BlockWriter, export, samples};

use std::io;

/// Why blocks could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The disk refused.
    #[error("{what}: {source}")]
    Disk {
        /// What was being done, and to which file.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what upstream writes.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// The file, in its folder.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A chunk of a kind that is not known.
    #[error("{file} has chunks of encoding {encoding}, which cannot be read; leave the block out")]
    Encoding {
        /// The block.
        file: String,
        /// The number of the encoding.
        encoding: u8,
    },
    /// Our store.
    #[error("{0}")]
    Store(String),
}

impl Error {
    fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Disk { what, source }
    }

    fn damaged(file: &str, what: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), what }
    }

    fn read(error: storage::ReadError) -> Self {
        Self::Store(error.to_string())
    }
}

#[cfg(test)]
mod tests;
