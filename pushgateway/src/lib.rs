//! A cache of pushed series for jobs that do not live long enough to be scraped.
//!
//! Pushes are text 0.0.4, plain or gzipped. Not built yet: protobuf and snappy bodies, persistence, the JSON API.

mod service;
mod store;

pub use service::{Environment, command, main, run};
pub use store::{Group, Refusal, Store};
