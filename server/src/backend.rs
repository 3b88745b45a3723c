//! What the API answers from.

use crate::{
    Environment,
    flags::{count, features},
    reload::{Reload, Running},
};
use api::{Backend, Lifecycle, Readiness};
use cli::Parsed;
use promql::{Engine, EngineOptions};
use std::sync::Arc;
use tsdb::Tsdb;

/// Puts it together.
pub(crate) fn backend(
    parsed: &Parsed,
    env: &Environment,
    registry: &metrics::Registry,
    store: Arc<Tsdb>,
    running: Arc<Running>,
    reload: Reload,
) -> Backend {
    let options = EngineOptions {
        lookback: parsed.duration("query.lookback-delta"),
        max_samples: count(parsed.int("query.max-samples")),
        timeout: parsed.duration("query.timeout"),
        features: features(parsed),
        ..EngineOptions::default()
    };
    let shutdown = env.shutdown.clone();
    let lifecycle = parsed
        .bool("web.enable-lifecycle")
        .then(|| Lifecycle { reload: Box::new(move || reload()), quit: Box::new(move || shutdown.begin()) });
    let [targets, families, labels, last, shown] = std::array::from_fn(|_| running.clone());
    Backend {
        storage: store,
        engine: Engine::new(options, env.clock.clone()),
        targets: Box::new(move || targets.scraper.targets()),
        families: Box::new(move || families.scraper.families()),
        external_labels: Box::new(move || labels.external_labels.lock().clone()),
        reloaded: Box::new(move || *last.last.lock()),
        started_ms: env.clock.unix_ms(),
        retention: retention(parsed),
        config: Box::new(move || shown.text.lock().clone()),
        flags: parsed.all().map(|(name, value)| (name.to_owned(), value)).collect(),
        registry: registry.clone(),
        clock: env.clock.clone(),
        ready: Readiness::default(),
        queries: Arc::new(tokio::sync::Semaphore::new(count(parsed.int("query.max-concurrency")).max(1))),
        lifecycle,
    }
}

/// How long samples are kept, as upstream shows it.
fn retention(parsed: &Parsed) -> String {
    let (time, size) = (parsed.str("storage.tsdb.retention.time"), parsed.str("storage.tsdb.retention.size"));
    if size.is_empty() { time.to_owned() } else { format!("{time} or {size}") }
}
