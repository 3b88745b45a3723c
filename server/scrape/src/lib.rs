//! Pulling targets into storage: target life, scrape loops, staleness.
//!
//! What a body means is decided in [`Loop`] and when it is fetched in `schedule`, both without any I/O; sockets and
//! timers are at the edge. Target groups come from [`discovery`] or the configuration. What this crate leaves out: the
//! formats, and the configuration file.

mod cache;
mod counters;
mod failure;
mod failure_log;
mod fetch;
mod ingest;
mod labels;
mod metadata;
mod pool;
mod resolution;
mod runner;
mod schedule;
mod target;

pub use counters::Counters;
pub use failure::Failure;
pub use ingest::{Loop, Outcome};
pub use metadata::Families;
pub use pool::{Scraper, TargetFamilies};
pub use target::{ActiveTarget, DroppedTarget, Features, Health, NameValidation, ScrapeConfig, TargetsView};
