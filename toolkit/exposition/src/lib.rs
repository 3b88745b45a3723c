//! Reading and writing the metric exposition formats: text 0.0.4 and 1.0.0, OpenMetrics, delimited protobuf.
//!
//! Two kinds of readers. [`scrape`] streams over a body for the server, as lax and as fast as upstream's; [`families`]
//! builds whole families as upstream's client libraries see them, and reads OpenMetrics strictly. [`write()`] writes
//! families in every format; [`negotiate`], [`accept_header`] and [`content_type`] say which one is meant, [`Escaping`]
//! how names travel that not every reader knows.
//!
//! What this crate leaves out: HTTP, compression, and the OpenMetrics protobuf schema, which nobody scrapes.

mod escape;
pub mod families;
mod float;
mod media;
mod proto;
pub mod scrape;
mod text;
mod write;

/// The protobuf wire format, for other messages than the exposition's.
pub mod wire {
    pub use crate::proto::{Field, Fields, WireError, zigzag};
}

pub use escape::{Escaping, escape_label_name, escape_name, unescape_name};
pub use families::{Family, Histogram, Metric, MetricValue};
pub use float::{write_float, write_openmetrics_float};
pub use media::{
    Format, Protocol, accept_header, content_type, format_of_content_type, is_delimited_families, negotiate,
};
pub use model::MetricType;
pub use write::{WriteOptions, write, write_with};
