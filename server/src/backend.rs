//! What the API answers from.

use crate::{
    Environment,
    exchange::Exchange,
    flags::count,
    late::Late,
    reload::{Reload, Running},
    shown,
};
use anyhow::Context;
use api::{Backend, Lifecycle, Readiness};
use cli::Parsed;
use model::Timestamp;
use promql::{Engine, EngineOptions, Features};
use std::sync::Arc;

/// Clients that may listen to notifications at once.
const LISTENERS: usize = 16;

/// Puts it together.
pub(crate) fn backend(
    parsed: &Parsed,
    features: Features,
    env: &Environment,
    registry: &metrics::Registry,
    store: Arc<Late>,
    running: Arc<Running>,
    reload: Reload,
) -> anyhow::Result<Backend> {
    let options = EngineOptions {
        max_memory: max_memory(parsed)?,
        lookback: parsed.duration("query.lookback-delta"),
        max_samples: count(parsed.int("query.max-samples")),
        timeout: parsed.duration("query.timeout"),
        features,
        ..EngineOptions::default()
    };
    let shutdown = env.shutdown.clone();
    let lifecycle = parsed
        .bool("web.enable-lifecycle")
        .then(|| Lifecycle { reload: Box::new(move || reload()), quit: Box::new(move || shutdown.begin()) });
    let (damaged, progress) = (store.clone(), store.clone());
    let [targets, families, labels, last, whole, pools] = std::array::from_fn(|_| running.clone());
    Ok(Backend {
        engine: Engine::new(options, env.clock.clone()),
        targets: Box::new(move || shown_targets(targets.scraper.targets())),
        families: Box::new(move || families.scraper.families().into_iter().map(shown_families).collect()),
        corruptions: Box::new(move || damaged.get().map_or(0, |store| store.damaged())),
        external_labels: Box::new(move || labels.external_labels.lock().clone()),
        reloaded: Box::new(move || *last.last.lock()),
        started_ms: env.clock.unix_ms(),
        retention: retention(parsed),
        config: Box::new(move || shown::all(&whole.text.lock())),
        pool_config: Box::new(move |name| shown::pool(&pools.text.lock(), name)),
        flags: parsed.all().map(|(name, value)| (name.to_owned(), value)).collect(),
        registry: registry.clone(),
        clock: env.clock.clone(),
        ready: Readiness::default(),
        queries: Arc::new(tokio::sync::Semaphore::new(count(parsed.int("query.max-concurrency")).max(1))),
        running: api::Running::default(),
        admin: parsed.bool("web.enable-admin-api"),
        // The log is read before anything is served, and in one piece.
        replay: Box::new(move || {
            let (first, current, last) = progress.progress.get();
            (first, last, current)
        }),
        listeners: Arc::new(tokio::sync::Semaphore::new(LISTENERS)),
        remote: Arc::new(Exchange::new(registry)),
        receives: parsed.bool("web.enable-remote-write-receiver"),
        lifecycle,
        storage: store,
    })
}

/// Bytes that a query may hold.
fn max_memory(parsed: &Parsed) -> anyhow::Result<usize> {
    let text = parsed.str("query.max-memory");
    let bytes = if text == "0" {
        u64::MAX
    } else {
        crate::config::parse_size(text).with_context(|| {
            format!("--query.max-memory={text}: not a number with one of the units B, KB, MB, GB, TB, PB, EB, nor 0")
        })?
    };
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// How long samples are kept, as upstream shows it.
fn retention(parsed: &Parsed) -> String {
    let (time, size) = (parsed.str("storage.tsdb.retention.time"), parsed.str("storage.tsdb.retention.size"));
    if size.is_empty() { time.to_owned() } else { format!("{time} or {size}") }
}

/// Targets in the API's words.
fn shown_targets(view: scrape::TargetsView) -> api::Targets {
    let active = |target: scrape::ActiveTarget| api::Target {
        pool: target.pool,
        discovered: target.discovered,
        labels: target.labels,
        global_url: global(&target.url),
        url: target.url,
        interval: target.interval,
        timeout: target.timeout,
        health: target.health.as_str(),
        last_error: target.last_error.unwrap_or_default(),
        last_scrape: target.last_scrape_ms.map(Timestamp),
        last_duration_seconds: target.last_duration_seconds,
    };
    let dropped =
        |target: scrape::DroppedTarget| api::DroppedTarget { pool: target.pool, discovered: target.discovered };
    api::Targets {
        active: view.active.into_iter().map(active).collect(),
        dropped: view.dropped.into_iter().map(dropped).collect(),
        dropped_counts: view.dropped_counts,
    }
}

/// The address of a target as others reach it: one of this host by the host's name.
fn global(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let local = ["localhost", "127.0.0.1", "[::1]"].into_iter().find_map(|host| rest.strip_prefix(host));
    match local.filter(|rest| rest.starts_with([':', '/', '?']) || rest.is_empty()) {
        Some(rest) => format!("{scheme}://{}{rest}", runtime::host_name()),
        None => url.to_owned(),
    }
}

fn shown_families(target: scrape::TargetFamilies) -> api::TargetFamilies {
    api::TargetFamilies { labels: target.labels, families: target.families }
}
