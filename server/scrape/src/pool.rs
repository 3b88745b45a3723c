//! Which targets run: pools of the configuration, kept running across reloads where nothing changed for them.

use crate::{
    ActiveTarget, Counters, DroppedTarget, Loop, ScrapeConfig, TargetsView,
    failure_log::FailureLogs,
    fetch::{Bodies, Http},
    runner::{Orders, Progress, Runner, Shared},
    target::{self, Sorted, Spec},
};
use client::ProxyEnvironment;
use discovery::Group;
use model::{Labels, Metadata};
use parking_lot::Mutex;
use runtime::{Clock, OnPanic, Shutdown, Tasks};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use storage::Storage;
use tokio::sync::watch;

/// The scrape loops of a server.
pub struct Scraper {
    shared: Arc<Shared>,
    pools: Mutex<BTreeMap<String, Pool>>,
}

/// What families of one target say of themselves.
#[derive(Clone, Debug)]
pub struct TargetFamilies {
    /// Its labels.
    pub labels: Labels,
    /// Families by name.
    pub families: Vec<(String, Metadata)>,
}

/// A target's identity: its labels and what is fetched.
type Key = (Labels, String);

struct Pool {
    config: Arc<ScrapeConfig>,
    http: Http,
    /// What discovery found.
    found: Vec<Arc<Group>>,
    targets: HashMap<Key, Running>,
    /// Targets in the order they were found, for display.
    order: Vec<Key>,
    dropped: Vec<Labels>,
    dropped_count: u64,
}

/// Dropping it ends the target.
struct Running {
    runner: Arc<Runner>,
    orders: watch::Sender<Orders>,
}

impl Scraper {
    /// No targets yet. `seed` differs between servers of a pair, so that they scrape at different times; `proxies` is for
    /// jobs that take their proxy from the environment.
    pub fn new(
        storage: Arc<dyn Storage>,
        clock: Clock,
        tasks: &Tasks,
        shutdown: &Shutdown,
        counters: &Counters,
        seed: u64,
        proxies: ProxyEnvironment,
    ) -> Self {
        let shared = Shared {
            storage,
            clock,
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
            counters: counters.clone(),
            seed,
            proxies,
            bodies: Bodies::default(),
            failures: FailureLogs::default(),
        };
        Self { shared: Arc::new(shared), pools: Mutex::default() }
    }

    /// Makes these configurations the running ones. Must run inside the event loop. A target whose labels and address
    /// stay keeps its loop and its place in time; pools that are no longer named end.
    pub fn apply(&self, configs: Vec<ScrapeConfig>) {
        self.shared.failures.close();
        let mut pools = self.pools.lock();
        let names: Vec<String> = configs.iter().map(|config| config.job_name.clone()).collect();
        pools.retain(|name, _| {
            let stays = names.contains(name);
            if !stays {
                self.shared.counters.forget(name);
            }
            stays
        });
        for config in configs {
            let name = config.job_name.clone();
            match pools.get_mut(&name) {
                Some(pool) if *pool.config == config => {}
                Some(pool) => {
                    self.shared.counters.reloads.inc();
                    pool.config = Arc::new(config);
                    pool.http = Http::new(&pool.config, &self.shared);
                    if !pool.http.works() {
                        self.shared.counters.reloads_failed.inc();
                    }
                    pool.sync(&self.shared);
                }
                None => {
                    self.shared.counters.pools.inc();
                    let mut pool = Pool::new(config, &self.shared);
                    if !pool.http.works() {
                        self.shared.counters.pools_failed.inc();
                    }
                    pool.sync(&self.shared);
                    pools.insert(name, pool);
                }
            }
        }
    }

    /// Takes what discovery found for a job, all of it: groups that it found before and are not there are gone.
    pub fn update(&self, job: &str, groups: Vec<Arc<Group>>) {
        let mut pools = self.pools.lock();
        let Some(pool) = pools.get_mut(job) else { return };
        pool.found = groups;
        pool.sync(&self.shared);
    }

    /// What is scraped and how that goes.
    pub fn targets(&self) -> TargetsView {
        let pools = self.pools.lock();
        let mut view = TargetsView::default();
        for (name, pool) in &*pools {
            view.active.extend(pool.order.iter().filter_map(|key| pool.targets.get(key)).map(|one| one.shown(name)));
            let dropped = |labels: &Labels| DroppedTarget { pool: name.clone(), discovered: labels.clone() };
            view.dropped.extend(pool.dropped.iter().map(dropped));
            view.dropped_counts.push((name.clone(), pool.dropped_count));
        }
        view
    }

    /// What the families of each target say of themselves.
    pub fn families(&self) -> Vec<TargetFamilies> {
        let pools = self.pools.lock();
        let running = pools.values().flat_map(|pool| pool.targets.values());
        running.map(Running::families).collect()
    }

    /// How many families are remembered, and the bytes of what they say, by pool.
    pub fn family_sizes(&self) -> Vec<(String, usize, usize)> {
        let pools = self.pools.lock();
        let size = |(name, pool): (&String, &Pool)| {
            let (mut count, mut bytes) = (0, 0);
            for one in pool.targets.values() {
                let samples = one.runner.samples.lock();
                count += samples.families().len();
                bytes += samples.families().bytes();
            }
            (name.clone(), count, bytes)
        };
        pools.iter().map(size).collect()
    }

    /// Ends all loops; their series end with a marker unless the process is shutting down.
    pub fn stop(&self) {
        self.pools.lock().clear();
    }
}

impl Pool {
    fn new(config: ScrapeConfig, shared: &Shared) -> Self {
        Self {
            http: Http::new(&config, shared),
            config: Arc::new(config),
            found: Vec::new(),
            targets: HashMap::new(),
            order: Vec::new(),
            dropped: Vec::new(),
            dropped_count: 0,
        }
    }

    /// Starts, changes and ends loops until they are what configuration and groups say.
    fn sync(&mut self, shared: &Arc<Shared>) {
        let began = shared.clock.now();
        let sorted =
            target::targets(&self.config, self.config.groups.iter().chain(self.found.iter().map(|group| &**group)));
        let Sorted { active, dropped, dropped_count, refused } = sorted;
        let job = self.config.job_name.as_str();
        let counters = &shared.counters;
        counters.syncs.with(&[job]).inc();
        counters.syncs_failed.with(&[job]).add(refused.len() as f64);
        for why in refused {
            tracing::error!(scrape_pool = job, error = why, "Creating target failed");
        }
        let (count, limit) = (active.len() as u64, self.config.target_limit);
        shared.counters.targets.with(&[job]).set(count as f64);
        shared.counters.limits.with(&[job]).set(limit as f64);
        let barred = (limit > 0 && count > limit).then(|| {
            shared.counters.target_limit.inc();
            format!("target_limit exceeded (number of targets: {count}, limit: {limit})")
        });
        (self.dropped, self.dropped_count) = (dropped, dropped_count);
        let mut old = std::mem::take(&mut self.targets);
        self.order.clear();
        for spec in active {
            let key = (spec.labels.clone(), spec.url.clone());
            let orders = Orders {
                config: self.config.clone(),
                spec: Arc::new(spec),
                http: self.http.clone(),
                barred: barred.clone(),
                gone: false,
            };
            let running = match old.remove(&key) {
                Some(running) => {
                    running.orders.send_replace(orders);
                    running
                }
                None => Running::start(orders, shared),
            };
            self.order.push(key.clone());
            self.targets.insert(key, running);
        }
        let seconds = shared.counters.sync_seconds.with(&[&self.config.job_name]);
        seconds.observe((shared.clock.now() - began).as_secs_f64());
    }
}

impl Running {
    fn start(orders: Orders, shared: &Arc<Shared>) -> Self {
        let samples = Mutex::new(Loop::new(orders.config.clone(), orders.spec.labels.clone()));
        let name = format!("scrape {}", orders.spec.url);
        let runner = Arc::new(Runner { shared: shared.clone(), progress: Mutex::new(Progress::default()), samples });
        let (orders, received) = watch::channel(orders);
        let started = runner.clone();
        shared.tasks.spawn(name, OnPanic::Restart, move || {
            let runner = started.clone();
            // After a panic nothing of the cache is trusted; series that no longer come end at the next scrape.
            let config = received.borrow().config.clone();
            runner.samples.lock().reconfigure(config);
            runner.run(received.clone())
        });
        Self { runner, orders }
    }

    fn shown(&self, pool: &str) -> ActiveTarget {
        let Spec { discovered, labels, url, interval, timeout } = (*self.orders.borrow().spec).clone();
        let Progress { health, last_error, last_scrape_ms, last_duration_seconds, .. } =
            self.runner.progress.lock().clone();
        ActiveTarget {
            pool: pool.to_owned(),
            discovered,
            labels,
            url,
            interval,
            timeout,
            health,
            last_error,
            last_scrape_ms,
            last_duration_seconds,
        }
    }

    fn families(&self) -> TargetFamilies {
        let samples = self.runner.samples.lock();
        let families = samples.families().iter().map(|(name, metadata)| (name.to_owned(), metadata.clone())).collect();
        TargetFamilies { labels: self.orders.borrow().spec.labels.clone(), families }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| orders.gone = true);
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
