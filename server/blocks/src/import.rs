//! Blocks of upstream into our store: each becomes a part. Blocks may overlap; readers and merges put samples in order.

use crate::{Error, block::blocks, meta::is_ulid};
use runtime::Disk;
use storage::Columns;
use tsdb::Tsdb;

/// What came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Blocks that had samples.
    pub blocks: u64,
    /// Series, counted in every block.
    pub series: u64,
    /// Samples.
    pub samples: u64,
}

/// Whether a folder is the data folder of an upstream server: it has blocks, or upstream's log, and no manifest of ours.
///
/// # Errors
/// [`Error`].
pub fn is_upstream(disk: &Disk) -> Result<bool, Error> {
    let names = disk.list("").map_err(Error::disk("listing the folder"))?;
    let theirs = names.iter().any(|name| is_ulid(name) || name == "chunks_head");
    Ok(theirs && !names.iter().any(|name| name == "manifest"))
}

/// Takes all blocks of a folder in; the folder is only read. What was taken in before an error stays, and is taken in
/// again, without being there twice, when the import is repeated. Memory: a group of series.
///
/// # Errors
/// [`Error`].
pub fn import(from: &Disk, store: &Tsdb) -> Result<Imported, Error> {
    let mut all = Imported::default();
    for block in blocks(from)? {
        let mut series = block.series();
        let mut next = || -> Result<Option<Columns>, Error> {
            Ok(series.next_series()?.map(|(labels, samples, _)| {
                let (times, values): (Vec<i64>, Vec<f64>) = samples.floats.into_iter().unzip();
                let (histograms, starts) = (samples.histograms, samples.starts);
                Columns { labels, times: times.into(), values: values.into(), histograms, starts }
            }))
        };
        let counts = store.import(&mut next)?;
        if let Some((series, samples)) = counts {
            all.blocks += 1;
            all.series += series;
            all.samples += samples;
        }
    }
    Ok(all)
}

impl From<tsdb::Error> for Error {
    fn from(error: tsdb::Error) -> Self {
        Self::Store(error.to_string())
    }
}
