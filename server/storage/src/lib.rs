//! The seam to stored series: appender and querier traits, and an in-memory store.
//!
//! Scraping, rules, PromQL and the API speak to these traits and never learn who stores. Series come out as columns,
//! in batches; appends of one [`Appender`] become visible together at its commit. What this crate leaves out: files,
//! retention on disk and compaction, which belong to the storage engine behind the same traits.

mod cardinality;
mod continuity;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod exemplars;
mod head;
mod memory;

pub use cardinality::Cardinality;
pub use continuity::hinted;
pub use exemplars::{ExemplarCounts, Exemplars};
pub use memory::{Limits, Memory, SAMPLES_FLAG, SERIES_FLAG};

use model::{Exemplar, FloatHistogram, Labels, Matcher, Metadata, Sample, Timestamp};
use std::sync::Arc;

/// A storage's name for a series while it is in the head. Never reused within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u64);

/// Why one sample or series was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Older than the newest sample of its series.
    #[error("out of order sample")]
    OutOfOrder,
    /// Same time as the newest sample, other bits.
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    /// Outside the time range that may be written.
    #[error("out of bounds")]
    OutOfBounds,
    /// Older than the window in which samples may come out of order.
    #[error("too old sample")]
    TooOld,
    /// The series is no longer known: register its labels again.
    #[error("unknown series reference")]
    UnknownSeries,
    /// The disk takes nothing now; nothing of the transaction was stored.
    #[error("storage cannot be written: {0}")]
    Unwritable(String),
    /// A budget is used up.
    #[error("{what} limit of {limit} reached, raise {flag}")]
    Full {
        /// What is counted.
        what: &'static str,
        /// How many there may be.
        limit: u64,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A new series is one too many.
    #[error("series limit of {limit} reached, raise {flag}; {most}")]
    Crowded {
        /// How many there may be.
        limit: u64,
        /// The flag that sets it.
        flag: &'static str,
        /// Who has the most.
        most: String,
    },
    /// Before the newest exemplar of its series.
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    /// The labels of an exemplar are too long.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    ExemplarLabels,
}

/// Why a read failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The reader's cancel flag was raised.
    #[error("query was canceled")]
    Canceled,
    /// The stored bytes cannot be trusted.
    #[error("storage: {0}")]
    Damaged(String),
}

/// Something that stores series.
pub trait Storage: Send + Sync {
    /// Begins a transaction.
    fn appender(&self) -> Box<dyn Appender + '_>;
    /// Reads samples with `min <= time <= max`.
    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_>;
    /// Sizes, for self-metrics. O(1).
    fn stats(&self) -> Stats;
    /// What the series in memory are made of, the `top` largest of each kind. O(series).
    fn cardinality(&self, top: usize) -> Cardinality;
    /// Exemplars of `min <= time <= max` of the series that satisfy any of the selectors, ordered by labels, those of a
    /// series by time. A store that keeps none answers with nothing.
    fn exemplars(
        &self,
        _min: Timestamp,
        _max: Timestamp,
        _selectors: &[Vec<Matcher>],
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        Ok(Vec::new())
    }
    /// What an operator may do to what is stored; none for a store that has no files.
    fn admin(&self) -> Option<&dyn Admin> {
        None
    }
}

/// Exemplars of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// The series' labels.
    pub labels: Labels,
    /// In the order of their times; each has one.
    pub exemplars: Vec<Exemplar>,
}

/// Work on what is stored that only an operator asks for; all of it may block on the disk.
pub trait Admin: Send + Sync {
    /// Hides the samples of `min <= time <= max` of the series that satisfy any of the selectors, at once and for good;
    /// their room is free when [`Admin::clean_tombstones`] or a merge comes by.
    fn delete_series(&self, min: Timestamp, max: Timestamp, selectors: &[Vec<Matcher>]) -> Result<(), AdminError>;
    /// Frees the room of what was deleted.
    fn clean_tombstones(&self) -> Result<(), AdminError>;
    /// Writes a copy of the store, without the head if so asked, into the folder `snapshots/NAME` beside it; the NAME.
    fn snapshot(&self, skip_head: bool) -> Result<String, AdminError>;
}

/// Why an operator's wish was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AdminError(pub String);

/// Sizes for `/api/v1/status/tsdb` and self-metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Series held.
    pub series: u64,
    /// Samples held.
    pub samples: u64,
    /// Samples accepted since the start.
    pub appended: u64,
    /// Oldest sample.
    pub min_time: Option<Timestamp>,
    /// Newest sample.
    pub max_time: Option<Timestamp>,
}

/// One transaction. Nothing is visible before [`Appender::commit`]; dropping it forgets everything.
pub trait Appender: Send {
    /// The id of a series, registered if new. The labels must include `__name__`.
    fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError>;
    /// Adds a float; the hot path of scraping. No allocation once warm.
    fn float(&mut self, series: SeriesId, at: Timestamp, value: f64) -> Result<(), AppendError>;
    /// Adds any kind of sample.
    fn sample(&mut self, series: SeriesId, sample: Sample) -> Result<(), AppendError>;
    /// Adds an exemplar; one without a time is refused as out of bounds.
    fn exemplar(&mut self, series: SeriesId, exemplar: Exemplar) -> Result<(), AppendError>;
    /// Remembers what a family says of itself.
    fn metadata(&mut self, series: SeriesId, metadata: &Metadata) -> Result<(), AppendError>;
    /// Makes all of it visible at once.
    fn commit(self: Box<Self>) -> Result<(), AppendError>;
}

/// A consistent view of a time range.
pub trait Querier: Send {
    /// The series that satisfy all matchers, ordered by labels, as batches of columns.
    fn select(&self, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet + '_>, ReadError>;
    /// Sorted names of labels on the series that satisfy the matchers.
    fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<String>, ReadError>;
    /// Sorted values of a label on the series that satisfy the matchers.
    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, ReadError>;
}

/// Series on their way out, a batch at a time.
pub trait SeriesSet: Send {
    /// Fills `batch` with the next series, at most `series_max` of them; an empty batch is the end.
    fn next_batch(&mut self, series_max: usize, batch: &mut Vec<Columns>) -> Result<(), ReadError>;
    /// The next series before their samples are decoded, at most `series_max` of them; none is the end. Shares follow
    /// each other as batches do, whoever decodes them and when.
    fn next_share(&mut self, series_max: usize) -> Result<Option<Box<dyn Share>>, ReadError> {
        let mut batch = Vec::new();
        self.next_batch(series_max, &mut batch)?;
        Ok(if batch.is_empty() { None } else { Some(Box::new(Decoded(batch))) })
    }
}

/// Some series of a [`SeriesSet`] that are yet to be decoded, on whichever thread has time.
pub trait Share: Send {
    /// The series in their order; those without a sample in the range are left out, so that there may be none.
    fn columns(self: Box<Self>) -> Result<Vec<Columns>, ReadError>;
}

/// A share of what lies decoded.
struct Decoded(Vec<Columns>);

impl Share for Decoded {
    fn columns(self: Box<Self>) -> Result<Vec<Columns>, ReadError> {
        Ok(self.0)
    }
}

/// One series as columns: `times[i]` goes with `values[i]`. Histogram samples are listed apart by time; a float
/// column of such a series holds the float samples only. Shared, so that a reader never copies sealed data.
#[derive(Clone, Debug)]
pub struct Columns {
    /// The series' labels.
    pub labels: Labels,
    /// Sample times in milliseconds, strictly ascending.
    pub times: Arc<[i64]>,
    /// Float values, stale markers included.
    pub values: Arc<[f64]>,
    /// Native histogram samples, strictly ascending by time.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
    /// Start timestamps of the samples that have one: time of the sample and time the counter started, ascending by
    /// the first. Empty for nearly every series.
    pub starts: Vec<(i64, i64)>,
}
