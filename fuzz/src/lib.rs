//! The properties that the targets check, shared with the tests that replay the corpora.

#[path = "../../toolkit/exposition/tests/fuzz/properties.rs"]
mod properties;

/// Text 0.0.4 and 1.0.0.
pub fn text(body: &[u8]) {
    properties::text(body);
}

/// OpenMetrics.
pub fn openmetrics(body: &[u8]) {
    properties::openmetrics(body);
}

/// Delimited protobuf.
pub fn protobuf(body: &[u8]) {
    properties::protobuf(body);
}
