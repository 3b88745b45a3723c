//! Which mechanisms run, and what is told of their groups to whom.
//!
//! Jobs whose configuration of a mechanism is equal share one task, and an equal one goes on across reloads. The groups
//! of a job are told whole: at once when they are complete and nothing was told in the last [`PAUSE`], else when that is
//! over. There are no queues: a mechanism's groups replace each other in a table.

use crate::{
    Configs, Context, Group,
    counters::Counters,
    groups::Table,
    mechanisms::{Any, Metrics},
};
use client::ProxyEnvironment;
use metrics::Registry;
use parking_lot::Mutex;
use runtime::{Clock, Monotonic, OnPanic, Shutdown, Task, Tasks};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// The shortest time between two updates of a job, and how long the first one waits for mechanisms that have not
/// answered. Upstream's number.
const PAUSE: Duration = Duration::from_secs(5);

/// Told the groups of a job whenever they changed: all of them, in no order that means anything.
pub type Deliver = Box<dyn Fn(&str, Vec<Arc<Group>>) + Send + Sync>;

/// A job and all its groups.
type Told = (String, Vec<Arc<Group>>);

/// What mechanisms need of their process.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Time.
    pub clock: Clock,
    /// Where they run.
    pub tasks: Tasks,
    /// When they end.
    pub shutdown: Shutdown,
    /// For clients that take their proxy from the environment.
    pub proxies: ProxyEnvironment,
}

/// The running mechanisms of one consumer. Dropping it ends them.
pub struct Manager(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) environment: Environment,
    pub(crate) counters: Counters,
    metrics: Metrics,
    /// Who asks, as metrics name it.
    name: &'static str,
    deliver: Deliver,
    /// [`PAUSE`], but in tests whose time is real.
    pause: Duration,
    state: Mutex<State>,
    /// Something is due, or due earlier than before.
    woken: Notify,
}

#[derive(Default)]
struct State {
    providers: BTreeMap<u64, Provider>,
    jobs: BTreeMap<String, Job>,
    made: u64,
    /// Tells jobs what is due.
    teller: Option<Task>,
}

/// One mechanism at work.
struct Provider {
    config: Any,
    table: Table,
    /// Whether it told anything yet, be it nothing.
    answered: bool,
    task: Task,
}

/// What is known of a job.
#[derive(Default)]
struct Job {
    providers: Vec<u64>,
    /// Targets written in the configuration, for the metric alone.
    fixed: usize,
    /// Since when it has not been told the latest.
    due_since: Option<Monotonic>,
    told: Option<Monotonic>,
    /// Whether the latest had to wait.
    delayed: bool,
}

impl Manager {
    /// Nothing runs yet. `name` is who asks, as metrics name it: `scrape`.
    pub fn new(name: &'static str, environment: Environment, registry: &Registry, deliver: Deliver) -> Self {
        Self::with_pause(name, environment, registry, deliver, PAUSE)
    }

    pub(crate) fn with_pause(
        name: &'static str,
        environment: Environment,
        registry: &Registry,
        deliver: Deliver,
        pause: Duration,
    ) -> Self {
        let counters = Counters::new(registry, &environment.clock, name);
        let metrics = Metrics::new(registry, &environment.clock);
        let (state, woken) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { environment, counters, metrics, name, deliver, pause, state, woken }))
    }

    /// Makes these jobs the running ones. Must run inside the event loop, after the consumer knows the jobs.
    pub fn apply(&self, jobs: &[(String, Configs)]) {
        let now = self.0.environment.clock.now();
        let mut state = self.0.state.lock();
        let mut old = std::mem::take(&mut state.jobs);
        for (name, configs) in jobs {
            let mut providers: Vec<u64> = configs.running().map(|config| self.provider(&mut state, config)).collect();
            providers.sort_unstable();
            providers.dedup();
            let mut job = old.remove(name).unwrap_or_default();
            if job.providers != providers {
                job.due_since = Some(now);
                job.providers = providers;
            }
            job.fixed = configs.fixed().iter().map(|group| group.targets.len()).sum();
            self.0.counters.targets.with(&[self.0.name, name]).set(state.targets(&job) as f64);
            state.jobs.insert(name.clone(), job);
        }
        for name in old.keys() {
            self.0.counters.targets.remove(&[self.0.name, name]);
        }
        let State { providers, jobs, teller, .. } = &mut *state;
        providers.retain(|id, provider| {
            let used = jobs.values().any(|job| job.providers.contains(id));
            if !used {
                provider.task.stop();
            }
            used
        });
        if teller.is_none() {
            let inner = self.0.clone();
            let tell = move || inner.clone().tell();
            *teller = Some(self.0.environment.tasks.spawn("discovery", OnPanic::Restart, tell));
        }
        drop(state);
        self.0.woken.notify_one();
    }

    /// The provider of a configuration: the running one, or a new one.
    fn provider(&self, state: &mut State, config: &Any) -> u64 {
        if let Some((id, _)) = state.providers.iter().find(|(_, have)| have.config == *config) {
            return *id;
        }
        state.made += 1;
        let id = state.made;
        let name = config.key().trim_end_matches("_sd_configs");
        let context = Context { manager: self.0.clone(), provider: id, name };
        let run = {
            let config = config.clone();
            move || {
                let (config, context) = (config.clone(), context.clone());
                async move {
                    let (shutdown, inner) = (context.manager.environment.shutdown.clone(), context.manager.clone());
                    tokio::select! {
                        biased;
                        () = shutdown.wait() => {}
                        () = config.run(context, &inner.metrics) => {}
                    }
                }
            }
        };
        let task = self.0.environment.tasks.spawn(format!("discovery {name}"), OnPanic::Restart, run);
        let provider = Provider { config: config.clone(), table: Table::default(), answered: false, task };
        state.providers.insert(id, provider);
        id
    }

    /// Mechanisms that run.
    pub fn running(&self) -> usize {
        self.0.state.lock().providers.len()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let state = std::mem::take(&mut *self.0.state.lock());
        state.providers.values().for_each(|provider| provider.task.stop());
        if let Some(teller) = state.teller {
            teller.stop();
        }
    }
}

impl Inner {
    /// Takes what a provider tells; one that was stopped meanwhile tells nothing.
    pub(crate) fn take(&self, provider: u64, change: impl FnOnce(&mut Table) -> bool) {
        self.counters.received.inc();
        let now = self.environment.clock.now();
        let mut state = self.state.lock();
        let Some(found) = state.providers.get_mut(&provider) else { return };
        let first = !std::mem::replace(&mut found.answered, true);
        if change(&mut found.table) {
            for job in state.jobs.values_mut().filter(|job| job.providers.contains(&provider)) {
                job.due_since.get_or_insert(now);
            }
        } else if !first {
            return;
        }
        drop(state);
        self.woken.notify_one();
    }

    /// Tells jobs their groups, each when it is time.
    async fn tell(self: Arc<Self>) {
        loop {
            let (due, next) = self.due();
            for (job, groups) in due {
                (self.deliver)(&job, groups);
                self.counters.sent.inc();
                self.counters.last_update.set(self.environment.clock.unix_ms() as f64 / 1000.0);
            }
            let until = async {
                match next {
                    Some(next) => self.environment.clock.sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.environment.shutdown.wait() => return,
                () = self.woken.notified() => {}
                () = until => {}
            }
        }
    }

    /// Jobs to tell now, and when the next one will be.
    fn due(&self) -> (Vec<Told>, Option<Monotonic>) {
        let now = self.environment.clock.now();
        let mut state = self.state.lock();
        let State { providers, jobs, .. } = &mut *state;
        let (mut due, mut next) = (Vec::new(), None::<Monotonic>);
        for (name, job) in jobs {
            let Some(since) = job.due_since else { continue };
            let used: HashMap<u64, &Provider> =
                job.providers.iter().filter_map(|id| providers.get(id).map(|found| (*id, found))).collect();
            let complete = used.values().all(|provider| provider.answered);
            let at =
                job.told.map_or(now, |told| told + self.pause).max(if complete { now } else { since + self.pause });
            if at > now {
                if next.is_none_or(|next| at < next) {
                    next = Some(at);
                }
                if !std::mem::replace(&mut job.delayed, true) {
                    self.counters.delayed.inc();
                }
                continue;
            }
            (job.due_since, job.told, job.delayed) = (None, Some(now), false);
            let groups: Vec<Arc<Group>> = job
                .providers
                .iter()
                .filter_map(|id| used.get(id))
                .flat_map(|one| one.table.groups())
                .cloned()
                .collect();
            let targets = job.fixed + groups.iter().map(|group| group.targets.len()).sum::<usize>();
            self.counters.targets.with(&[self.name, name]).set(targets as f64);
            due.push((name.clone(), groups));
        }
        (due, next)
    }
}

impl State {
    /// Targets of a job as far as they are known. O(groups).
    fn targets(&self, job: &Job) -> usize {
        let found = job.providers.iter().filter_map(|id| self.providers.get(id));
        job.fixed + found.flat_map(|one| one.table.groups()).map(|group| group.targets.len()).sum::<usize>()
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
