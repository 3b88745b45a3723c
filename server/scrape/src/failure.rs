//! Why a scrape failed.

/// What went wrong, as far as self-metrics tell failures apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Other,
    BodySize,
    SampleLimit,
    BucketLimit,
    LabelLimit,
}

/// Why a scrape failed; its series end with it. The text is what `lastError` shows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    text: String,
    pub(crate) kind: Kind,
}

impl Failure {
    /// Any failure without a counter of its own.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kind: Kind::Other }
    }

    /// The body, uncompressed, reached its limit.
    pub fn body_limit() -> Self {
        Self { text: "body size limit exceeded".into(), kind: Kind::BodySize }
    }

    pub(crate) fn sample_limit() -> Self {
        Self { text: "sample limit exceeded".into(), kind: Kind::SampleLimit }
    }

    pub(crate) fn bucket_limit() -> Self {
        Self { text: "histogram bucket limit exceeded".into(), kind: Kind::BucketLimit }
    }

    pub(crate) fn label_limit(text: String) -> Self {
        Self { text, kind: Kind::LabelLimit }
    }
}
