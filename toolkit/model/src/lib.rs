//! The data every service speaks: labels, samples, matchers, durations, relabelling.
//!
//! Nothing here reads a clock, a file or a socket, and nothing here knows a wire format: that is `exposition`.

mod accept;
mod calendar;
mod case;
mod duration;
mod histogram;
mod labels;
mod matcher;
mod quote;
mod relabel;
mod sample;
mod time;

pub use calendar::{date_of_day, day_of_date, month_days};
pub use duration::{Duration, DurationError};
pub use histogram::{CUSTOM_SCHEMA, EXPONENTIAL_SCHEMAS, HistogramError, HistogramSide};
pub use labels::{Builder, Labels, METRIC_NAME, is_legacy_label_name, is_legacy_metric_name};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use quote::{quote, quote_into};
pub use relabel::{Action, Relabel, RelabelError, RelabelRule};
pub use sample::{
    Exemplar, FloatHistogram, Metadata, MetricType, STALE_NAN, Sample, Span, Timestamp, Value, is_stale, stale_nan,
};
