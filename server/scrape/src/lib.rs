//! Pulling targets into storage: target life, scrape loops, staleness.
//!
//! What a body means is decided in [`ingest`] without any I/O; sockets and timers are at the edge, in [`fetch`] and
//! [`Scraper`]. Only plain HTTP is spoken; a configuration that asks for https is refused before it comes here.

mod fetch;
mod ingest;
mod pool;
mod target;

pub use ingest::{Failure, Loop, Outcome};
pub use pool::{Counters, Scraper};
pub use target::{ActiveTarget, DroppedTarget, Health, ScrapeConfig, TargetsView};
