//! The storage engine: recent samples in memory behind a log, older ones in immutable part files.
//!
//! A commit is one record of the log and is visible at once; the end of the process loses nothing of it. Every two hours
//! of samples become a part, small parts are merged into larger ones, and old parts are removed. The manifest says which
//! parts and which head snapshot count: it is replaced in one step, and whatever it does not name is no part of the
//! store. Formats: `docs/format/part.md`, `head.md` and `log.md`. What this crate leaves out:
//! deletion of series, and blocks of upstream.

mod admin;
mod clocks;
mod db;
mod disk_format;
mod flush;
#[cfg(test)]
mod format_tests;
mod head;
mod index;
mod manifest;
mod merge;
mod metrics;
mod options;
mod part;
mod part_index;
mod record;
mod sections;
mod share;
mod snapshot;
mod tombstones;
mod transaction;
mod view;
mod writer;

pub use admin::{PartInfo, Retention};
pub use db::Tsdb;
pub use metrics::{Metrics, Progress};
pub use options::Options;

use std::io;

/// Why the store could not be opened or kept in order.
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
    /// A file is not what was written.
    #[error("{file} is damaged ({what}); move it out of the data folder to start without it")]
    Damaged {
        /// The file, in the data folder.
        file: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl Error {
    fn disk(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Disk { what, source }
    }

    fn damaged(file: &str, what: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), what }
    }
}
