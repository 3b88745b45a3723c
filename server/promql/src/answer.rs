//! What a query answers and how it fails.

use model::{FloatHistogram, Labels, Value};
use std::sync::Arc;

/// One element of a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorRow {
    /// Its labels.
    pub labels: Labels,
    /// Its time in milliseconds.
    pub at: i64,
    /// Its value.
    pub value: Value,
}

/// One series of a matrix, with floats and histograms apart, each in time order.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixRow {
    /// Its labels.
    pub labels: Labels,
    /// Times in milliseconds and values.
    pub floats: Vec<(i64, f64)>,
    /// Times in milliseconds and histograms.
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// One number.
    Scalar(i64, f64),
    /// One text.
    String(i64, String),
    /// One value per series.
    Vector(Vec<VectorRow>),
    /// Many values per series.
    Matrix(Vec<MatrixRow>),
}

/// A value with its annotations.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// Annotations that doubt the value: `PromQL warning: TEXT (LINE:COLUMN)`.
    pub warnings: Vec<String>,
    /// Annotations that explain the value: `PromQL info: TEXT (LINE:COLUMN)`.
    pub infos: Vec<String>,
}

/// A text that is no query, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", place(*line, *column))]
pub struct ParseError {
    /// Line, from 1; 0 when there is no text to be wrong.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
}

fn place(line: usize, column: usize) -> String {
    if line == 0 { "unknown position".to_owned() } else { format!("{line}:{column}") }
}

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is no query.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// The query cannot be evaluated.
    #[error("{0}")]
    Execution(String),
    /// The query took longer than it may.
    #[error("query timed out in expression evaluation")]
    Timeout,
    /// The caller went away.
    #[error("query was canceled in expression evaluation")]
    Canceled,
    /// The query holds more samples than it may.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The query holds more bytes than it may.
    #[error("query processing would need more than {0} bytes of memory, raise --query.max-memory or ask for less")]
    TooMuchMemory(usize),
}
