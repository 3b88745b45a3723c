//! One task per target: waits for its tick, fetches, ingests.

use crate::{
    ActiveTarget, Failure, Loop, Outcome, ScrapeConfig, TargetsView,
    fetch::{Http, client, fetch},
    target,
};
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Shutdown, Tasks};
use std::{
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};
use storage::Storage;
use tokio::sync::watch;

/// Self-metrics of scraping; made once and shared by all reloads.
#[derive(Clone, Debug)]
pub struct Counters {
    duplicates: metrics::Counter,
    out_of_order: metrics::Counter,
    out_of_bounds: metrics::Counter,
    sample_limit: metrics::Counter,
    body_limit: metrics::Counter,
    targets: metrics::GaugeVec,
}

impl Counters {
    /// Registers them under upstream's names.
    pub fn new(registry: &metrics::Registry) -> Self {
        let counter = |name: &str, help: &str| registry.counter(&format!("prometheus_target_{name}"), help);
        Self {
            duplicates: counter(
                "scrapes_sample_duplicate_timestamp_total",
                "Samples rejected due to duplicate timestamps but different values.",
            ),
            out_of_order: counter("scrapes_sample_out_of_order_total", "Samples rejected due to not being in order."),
            out_of_bounds: counter(
                "scrapes_sample_out_of_bounds_total",
                "Samples rejected due to timestamps outside the allowed range.",
            ),
            sample_limit: counter(
                "scrapes_exceeded_sample_limit_total",
                "Scrapes that hit the sample limit and were rejected.",
            ),
            body_limit: counter("scrapes_exceeded_body_size_limit_total", "Scrapes that hit the body size limit."),
            targets: registry.gauge_vec(
                "prometheus_target_scrape_pool_targets",
                "Current number of targets in this scrape pool.",
                &["scrape_job"],
            ),
        }
    }

    fn count(&self, outcome: &Outcome) {
        self.duplicates.add(outcome.duplicates as f64);
        self.out_of_order.add(outcome.out_of_order as f64);
        self.out_of_bounds.add(outcome.out_of_bounds as f64);
        match outcome.error.as_ref().map(|error| error.0.as_str()) {
            Some("sample limit exceeded") => self.sample_limit.inc(),
            Some("body size limit exceeded") => self.body_limit.inc(),
            _ => {}
        }
    }
}

/// The running scrape loops of one configuration.
#[derive(Debug)]
pub struct Scraper {
    view: Arc<Mutex<TargetsView>>,
    stop: watch::Sender<bool>,
}

struct Target {
    place: usize,
    shown: ActiveTarget,
    config: ScrapeConfig,
    over_limit: Option<String>,
    view: Arc<Mutex<TargetsView>>,
    storage: Arc<dyn Storage>,
    clock: Clock,
    http: Http,
    counters: Counters,
    stop: watch::Receiver<bool>,
    shutdown: Shutdown,
}

impl Scraper {
    /// Starts a loop per target. Must run inside the event loop.
    pub fn start(
        configs: Vec<ScrapeConfig>,
        storage: Arc<dyn Storage>,
        clock: Clock,
        tasks: &Tasks,
        shutdown: &Shutdown,
        counters: &Counters,
    ) -> Self {
        let view = Arc::new(Mutex::new(TargetsView::default()));
        let (stop, stopped) = watch::channel(false);
        let http = client();
        for config in configs {
            let (active, dropped, refused) = target::targets(&config);
            for why in refused {
                tracing::error!(scrape_pool = config.job_name, error = why, "Creating target failed");
            }
            counters.targets.with(&[&config.job_name]).set(active.len() as f64);
            let (count, limit) = (active.len() as u64, config.target_limit);
            let over_limit = (limit > 0 && count > limit)
                .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
            view.lock().dropped.extend(dropped);
            for shown in active {
                let mut all = view.lock();
                all.active.push(shown.clone());
                let target = Target {
                    place: all.active.len() - 1,
                    shown,
                    config: config.clone(),
                    over_limit: over_limit.clone(),
                    view: view.clone(),
                    storage: storage.clone(),
                    clock: clock.clone(),
                    http: http.clone(),
                    counters: counters.clone(),
                    stop: stopped.clone(),
                    shutdown: shutdown.clone(),
                };
                drop(all);
                tasks.spawn_once(format!("scrape {}", target.shown.url), target.run());
            }
        }
        Self { view, stop }
    }

    /// What is scraped and how that goes.
    pub fn targets(&self) -> TargetsView {
        self.view.lock().clone()
    }

    /// Ends the loops; the series of their targets end with a marker, except at shutdown.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Target {
    async fn run(mut self) {
        let interval = self.shown.interval.as_std();
        let mut target = Loop::new(self.config.clone(), self.shown.labels.clone());
        let mut next = self.clock.now() + self.offset(interval);
        loop {
            tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                _ = self.stop.wait_for(|stop| *stop) => {
                    target.end(Timestamp(self.clock.unix_ms()), &*self.storage);
                    return;
                }
                () = self.clock.sleep_until(next) => {}
            }
            let at = Timestamp(self.clock.unix_ms());
            let began = self.clock.now();
            let fetched = tokio::select! {
                biased;
                () = self.shutdown.wait() => return,
                fetched = self.fetch() => fetched,
            };
            let seconds = (self.clock.now() - began).as_secs_f64();
            let body = fetched.as_ref().map(|(body, format)| (body.as_slice(), *format)).map_err(Clone::clone);
            let outcome = target.ingest(at, seconds, body, &*self.storage);
            self.note(at, seconds, &outcome);
            next = next + interval;
            // After a suspend the missed ticks are not made up for.
            if self.clock.now() > next {
                next = self.clock.now() + self.offset(interval);
            }
        }
    }

    /// A stable place within the interval, so that targets spread.
    fn offset(&self, interval: Duration) -> Duration {
        let hash =
            BuildHasherDefault::<DefaultHasher>::default().hash_one((self.shown.labels.hash64(), &self.shown.url));
        let interval = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
        let now = self.clock.unix_ms().unsigned_abs() % interval;
        Duration::from_millis((interval - now + hash % interval) % interval)
    }

    async fn fetch(&self) -> Result<(Vec<u8>, exposition::Format), Failure> {
        if let Some(why) = &self.over_limit {
            return Err(Failure::new(why.clone()));
        }
        let timeout = self.shown.timeout.as_std();
        let work = fetch(&self.http, &self.shown.url, &self.config, timeout.as_secs_f64());
        let late = |_| Err(Failure::new(format!("Get {:?}: context deadline exceeded", self.shown.url)));
        self.clock.timeout(timeout, work).await.unwrap_or_else(late)
    }

    fn note(&self, at: Timestamp, seconds: f64, outcome: &Outcome) {
        self.counters.count(outcome);
        if let Some(error) = &outcome.error {
            tracing::debug!(target = self.shown.url, %error, "Scrape failed");
        }
        if let Some(shown) = self.view.lock().active.get_mut(self.place) {
            shown.health = if outcome.error.is_some() { target::Health::Down } else { target::Health::Up };
            shown.last_error = outcome.error.as_ref().map(ToString::to_string);
            shown.last_scrape_ms = Some(at.0);
            shown.last_duration_seconds = seconds;
        }
    }
}
