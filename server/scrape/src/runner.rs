//! The life of one target: waits for its tick, fetches, ingests, and ends its series when it is gone.

use crate::{
    Counters, Failure, Loop, Outcome, ScrapeConfig,
    failure_log::{FailureLogs, Record},
    fetch::{Bodies, Http},
    schedule,
    target::{Health, Spec},
};
use client::ProxyEnvironment;
use model::Timestamp;
use parking_lot::Mutex;
use runtime::{Clock, Monotonic, Shutdown, Tasks};
use std::{sync::Arc, time::Duration};
use storage::Storage;
use tokio::sync::watch;

/// A body above this size is ingested on a thread of its own, so that it does not hold up the event loop.
const INLINE_BYTES_MAX: usize = 128 << 10;

/// What all targets of a server share.
pub(crate) struct Shared {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) shutdown: Shutdown,
    pub(crate) counters: Counters,
    /// Makes two servers scrape at different times.
    pub(crate) seed: u64,
    /// Where jobs that ask for it find their proxy.
    pub(crate) proxies: ProxyEnvironment,
    pub(crate) bodies: Bodies,
    pub(crate) failures: FailureLogs,
}

/// What the pool tells a running target.
#[derive(Clone)]
pub(crate) struct Orders {
    pub(crate) config: Arc<ScrapeConfig>,
    pub(crate) spec: Arc<Spec>,
    pub(crate) http: Http,
    /// Why it may not be scraped, if so.
    pub(crate) barred: Option<String>,
    pub(crate) gone: bool,
}

/// How scraping it goes, for display.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) health: Health,
    pub(crate) last_error: Option<String>,
    pub(crate) last_scrape_ms: Option<i64>,
    pub(crate) last_duration_seconds: f64,
    /// When it began, on the other clock.
    began: Option<Monotonic>,
}

/// One target while it is scraped.
pub(crate) struct Runner {
    pub(crate) shared: Arc<Shared>,
    pub(crate) progress: Mutex<Progress>,
    pub(crate) samples: Mutex<Loop>,
}

/// The next tick, by both clocks.
struct Tick {
    at: Monotonic,
    ideal_ms: i64,
}

impl Runner {
    pub(crate) async fn run(self: Arc<Self>, mut orders: watch::Receiver<Orders>) {
        let mut order = orders.borrow_and_update().clone();
        let mut tick = self.first_tick(&order);
        loop {
            tokio::select! {
                biased;
                () = self.shared.shutdown.wait() => return,
                changed = orders.changed() => {
                    let new = orders.borrow_and_update().clone();
                    if new.gone || changed.is_err() {
                        return self.end(&order, tick).await;
                    }
                    if !Arc::ptr_eq(&order.config, &new.config) {
                        self.samples.lock().reconfigure(new.config.clone());
                    }
                    if order.spec.interval != new.spec.interval {
                        tick = self.first_tick(&new);
                    }
                    order = new;
                }
                () = self.shared.clock.sleep_until(tick.at) => {
                    if !self.clone().scrape(&order, tick.ideal_ms).await {
                        return;
                    }
                    tick = self.next_tick(&order, tick);
                }
            }
        }
    }

    fn first_tick(&self, order: &Orders) -> Tick {
        let clock = &self.shared.clock;
        let place = schedule::place(&order.spec.labels, &order.spec.url, self.shared.seed);
        let now = clock.unix_ms();
        let wait = schedule::offset(order.spec.interval.as_std(), place, now);
        Tick { at: clock.now() + wait, ideal_ms: now.saturating_add(millis(wait)) }
    }

    fn next_tick(&self, order: &Orders, last: Tick) -> Tick {
        let (clock, interval) = (&self.shared.clock, order.spec.interval.as_std());
        let next = Tick { at: last.at + interval, ideal_ms: last.ideal_ms.saturating_add(millis(interval)) };
        // Ticks missed in a suspend are not made up for, and a wall clock that was set moves the ideal times with it.
        let behind = clock.now() > next.at;
        let jumped = (clock.unix_ms() - last.ideal_ms).unsigned_abs() > 2 * order.spec.interval.as_millis();
        if behind || jumped { self.first_tick(order) } else { next }
    }

    /// One scrape; false at shutdown.
    async fn scrape(self: Arc<Self>, order: &Orders, ideal_ms: i64) -> bool {
        let clock = self.shared.clock.clone();
        let at = Timestamp(schedule::aligned(ideal_ms, clock.unix_ms(), order.spec.interval.as_std()));
        let began = clock.now();
        if let Some(before) = self.progress.lock().began.replace(began) {
            let interval = order.spec.interval.to_string();
            self.shared.counters.intervals.with(&[&interval]).observe((began - before).as_secs_f64());
        }
        let mut body = self.shared.bodies.take();
        let fetched = tokio::select! {
            biased;
            () = self.shared.shutdown.wait() => return false,
            fetched = get(order, &mut body) => fetched,
        };
        let seconds = (clock.now() - began).as_secs_f64();
        let large = body.len() > INLINE_BYTES_MAX;
        let (this, url) = (self.clone(), order.spec.url.clone());
        let work = move || {
            let fetched = fetched.map(|format| (body.as_slice(), format));
            let outcome = this.samples.lock().ingest(at, seconds, fetched, &*this.shared.storage);
            this.shared.bodies.give(body);
            this.note(&url, at, seconds, &outcome);
        };
        if large {
            // A panic is counted and logged there; what the cache says then cannot be trusted.
            if self.shared.tasks.blocking("ingest", work).await.is_err() {
                self.samples.lock().reconfigure(order.config.clone());
            }
        } else {
            work();
        }
        self.write_down(order, at).await;
        true
    }

    /// Writes a failure to the file of the job, if it wants that.
    async fn write_down(&self, order: &Orders, at: Timestamp) {
        let Some(path) = order.config.failure_log.clone() else { return };
        let Some(error) = self.progress.lock().last_error.clone() else { return };
        let (job, target) = (order.config.job_name.clone(), order.spec.url.clone());
        let (record, shared) = (Record { at_ms: at.0, job, target, error }, self.shared.clone());
        let write = move || {
            if let Err(error) = shared.failures.write(&path, &record) {
                tracing::error!(path = %path.display(), %error, "A failed scrape could not be written down");
            }
        };
        // A panic is counted and logged there.
        let _ = self.shared.tasks.blocking("scrape failure log", write).await;
    }

    fn note(&self, url: &str, at: Timestamp, seconds: f64, outcome: &Outcome) {
        self.shared.counters.count(outcome);
        let dropped = outcome.duplicates + outcome.out_of_order + outcome.out_of_bounds;
        if dropped > 0 {
            let Outcome { duplicates, out_of_order, out_of_bounds, .. } = outcome;
            tracing::warn!(target = url, duplicates, out_of_order, out_of_bounds, "Samples of a scrape were dropped");
        }
        if let Some(error) = &outcome.error {
            tracing::debug!(target = url, %error, "Scrape failed");
        }
        let mut progress = self.progress.lock();
        *progress = Progress {
            began: progress.began,
            health: if outcome.error.is_some() { Health::Down } else { Health::Up },
            last_error: outcome.error.as_ref().map(ToString::to_string),
            last_scrape_ms: Some(at.0),
            last_duration_seconds: seconds,
        };
    }

    /// Ends the series of a target that is gone, with the time of the first tick it misses. Waits two ticks before, so
    /// that a target which only moved to another job or server goes on without a gap.
    async fn end(&self, order: &Orders, tick: Tick) {
        let interval = order.spec.interval.as_std();
        let late = tick.at + interval + interval / 10;
        tokio::select! {
            biased;
            () = self.shared.shutdown.wait() => {}
            () = self.shared.clock.sleep_until(late) => {
                self.samples.lock().end(Timestamp(tick.ideal_ms), &*self.shared.storage);
            }
        }
    }
}

/// Fetches into `body`.
async fn get(order: &Orders, body: &mut Vec<u8>) -> Result<exposition::Format, Failure> {
    match &order.barred {
        Some(why) => Err(Failure::new(why.clone())),
        None => order.http.fetch(&order.spec.url, &order.config, order.spec.timeout.as_std(), body).await,
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
