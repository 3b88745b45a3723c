//! The query side HTTP API, and the expression page that speaks to it.
//!
//! Every answer is upstream's envelope; an error is a typed [`Failure`] with upstream's status. How the server is wired
//! is not known here: storage, engine and targets come in through [`Backend`].

mod about;
mod admin;
mod exchange;
mod federate;
mod format;
mod json;
mod metadata;
mod number;
mod pages;
mod params;
mod query;
mod reply;
mod routes;
mod rules;
mod running;
mod search;
mod series;
mod status;
mod targets;
#[cfg(test)]
mod tests;

pub use exchange::{Chosen, Remote, Reply, Request};
pub use json::quoted as json_string;
pub use routes::router;
pub use running::Running;
pub use targets::{DroppedTarget, Target, TargetFamilies, Targets};

use model::Timestamp;
use runtime::Clock;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// The configuration of a scrape pool, by its name.
pub type PoolConfig = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Writes a line of the query log, which is made only where there is such a log.
pub type QueryLog = Box<dyn Fn(&dyn Fn() -> String) + Send + Sync>;

/// What the API answers from.
pub struct Backend {
    /// Where series are stored.
    pub storage: Arc<dyn storage::Storage>,
    /// What evaluates expressions.
    pub engine: promql::Engine,
    /// What is being scraped.
    pub targets: Box<dyn Fn() -> Targets + Send + Sync>,
    /// What the families of each target say of themselves.
    pub families: Box<dyn Fn() -> Vec<TargetFamilies> + Send + Sync>,
    /// Labels added to what leaves this server.
    pub external_labels: Box<dyn Fn() -> model::Labels + Send + Sync>,
    /// How the last reload went.
    pub reloaded: Box<dyn Fn() -> Reloaded + Send + Sync>,
    /// Files and records of the store that could not be read at the start.
    pub corruptions: Box<dyn Fn() -> u64 + Send + Sync>,
    /// When the process started, in milliseconds since 1970.
    pub started_ms: i64,
    /// How long samples are kept, as shown.
    pub retention: String,
    /// The configuration in force, without secrets.
    pub config: Box<dyn Fn() -> String + Send + Sync>,
    /// The section of a scrape pool in it.
    pub pool_config: PoolConfig,
    /// Flags by name.
    pub flags: Vec<(String, String)>,
    /// The server's own metrics.
    pub registry: metrics::Registry,
    /// The clock behind "now".
    pub clock: Clock,
    /// Whether queries are answered yet.
    pub ready: Readiness,
    /// Queries that may run at once.
    pub queries: Arc<tokio::sync::Semaphore>,
    /// Appends a line to the log of queries, if there is one.
    pub query_log: QueryLog,
    /// The queries that run now and the slowest that have.
    pub running: Running,
    /// Whether an operator may delete, snapshot and cancel.
    pub admin: bool,
    /// How many may listen to notifications at once.
    pub listeners: Arc<tokio::sync::Semaphore>,
    /// How far reading the log is: first, last and current piece.
    pub replay: Box<dyn Fn() -> (u64, u64, u64) + Send + Sync>,
    /// The protocols between servers.
    pub remote: Arc<dyn Remote>,
    /// Whether other servers may write.
    pub receives: bool,
    /// Whether `/-/reload` and `/-/quit` act, and what they do.
    pub lifecycle: Option<Lifecycle>,
}

impl Backend {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.unix_ms())
    }
}

/// How the last reload of the configuration went.
#[derive(Clone, Copy, Debug)]
pub struct Reloaded {
    /// Whether it worked.
    pub worked: bool,
    /// When it was tried, in milliseconds since 1970.
    pub tried_ms: i64,
    /// When the configuration in force was loaded, in milliseconds since 1970.
    pub at_ms: i64,
}

/// The acts of `--web.enable-lifecycle`.
pub struct Lifecycle {
    /// Reads the configuration again.
    pub reload: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Begins the shutdown.
    pub quit: Box<dyn Fn() + Send + Sync>,
}

/// A switch that the server sets once its storage is loaded, and clears when it stops.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Sets the state.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether queries are answered.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Why a request was refused: upstream's error types and the status of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: &'static str,
    status: u16,
    text: String,
}

impl Failure {
    fn bad(text: impl Into<String>) -> Self {
        Self { kind: "bad_data", status: 400, text: text.into() }
    }

    fn execution(text: impl Into<String>) -> Self {
        Self { kind: "execution", status: 422, text: text.into() }
    }

    fn unavailable(text: impl Into<String>) -> Self {
        Self { kind: "unavailable", status: 500, text: text.into() }
    }

    fn canceled(text: impl Into<String>) -> Self {
        Self { kind: "canceled", status: 499, text: text.into() }
    }

    fn missing(text: impl Into<String>) -> Self {
        Self { kind: "not_found", status: 404, text: text.into() }
    }

    fn timeout(text: impl Into<String>) -> Self {
        Self { kind: "timeout", status: 503, text: text.into() }
    }

    fn internal(text: impl Into<String>) -> Self {
        Self { kind: "internal", status: 500, text: text.into() }
    }
}

impl From<storage::ReadError> for Failure {
    fn from(error: storage::ReadError) -> Self {
        Self::internal(error.to_string())
    }
}
