//! What a query answers and how it fails.

use model::Labels;

/// Rows of a vector: labels, time, value.
pub type VectorRows = Vec<(Labels, i64, f64)>;
/// Rows of a matrix: labels and points in time order.
pub type MatrixRows = Vec<(Labels, Vec<(i64, f64)>)>;

/// The value of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryValue {
    /// One number.
    Scalar(i64, f64),
    /// One text.
    String(i64, String),
    /// One value per series.
    Vector(VectorRows),
    /// Many values per series.
    Matrix(MatrixRows),
}

/// A value with its annotations.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The value.
    pub value: QueryValue,
    /// Annotations that doubt the value.
    pub warnings: Vec<String>,
    /// Annotations that explain the value.
    pub infos: Vec<String>,
}

/// A text that is no query, with the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: parse error: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
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
}
