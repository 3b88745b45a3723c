//! Reading and writing the metric exposition formats.
//!
//! Two readers: [`scrape`] streams over a body for the server, [`families`] builds whole families as upstream's client
//! libraries see them. What this crate leaves out: HTTP, and the delimited protobuf format, which is not built yet and
//! therefore never asked for and never offered.

pub mod families;
mod float;
mod media;
pub mod scrape;
mod write;

pub use families::{Family, Histogram, Metric, MetricValue};
pub use float::write_float;
pub use media::{Escaping, Format, content_type, escape_name, format_of_content_type, negotiate};
pub use model::MetricType;
pub use write::write;
