//! A manager for tests: what it tells is written down, and configurations are YAML.

use crate::{Configs, Environment, Group, Manager};
use client::{ProxyEnvironment, beside};
use metrics::Registry;
use model::Builder;
use parking_lot::Mutex;
use runtime::{Clock, Shutdown, Tasks};
use serde::{Deserialize, Deserializer};
use std::{path::Path, sync::Arc, time::Duration};

/// Updates in the order they came: seconds since the start, the job, and its targets.
type Log = Arc<Mutex<Vec<(u64, String, Vec<String>)>>>;

pub(crate) struct Bench {
    pub(crate) manager: Manager,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    log: Log,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NoKeys {}

struct Read(Configs);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        beside::<NoKeys, _, _>(deserializer).map(|(_, configs)| Self(configs))
    }
}

/// Configurations of one job.
pub(crate) fn configs(yaml: &str, folder: &Path) -> Configs {
    let Read(mut configs) = serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    configs.check(folder).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    configs
}

/// Why a configuration is refused.
pub(crate) fn refusal(yaml: &str) -> String {
    match serde_saphyr::from_str::<Read>(yaml) {
        Err(error) => error.to_string(),
        Ok(Read(mut configs)) => configs.check(Path::new("")).expect_err(yaml).to_string(),
    }
}

/// A target with the labels of its group, as the consumer will see it.
fn shown(group: &Group) -> Vec<String> {
    let one = |target| {
        let mut labels = Builder::from(&group.labels);
        model::Labels::iter(target).for_each(|(name, value)| _ = labels.set(name, value));
        labels.build().to_string()
    };
    group.targets.iter().map(one).collect()
}

impl Bench {
    pub(crate) fn new(clock: Clock) -> Self {
        Self::paced(clock, Duration::from_secs(5))
    }

    /// With real time, for sockets: updates follow each other at once.
    pub(crate) fn quick() -> Self {
        Self::paced(Clock::system(), Duration::from_millis(1))
    }

    fn paced(clock: Clock, pause: Duration) -> Self {
        let (log, registry, tasks) = (Log::default(), Registry::new(), Tasks::new(clock.clone()));
        let environment = Environment {
            clock: clock.clone(),
            tasks,
            shutdown: Shutdown::new(),
            proxies: ProxyEnvironment::default(),
        };
        let deliver = {
            let (log, clock, start) = (log.clone(), clock.clone(), clock.now());
            Box::new(move |job: &str, groups: Vec<Arc<Group>>| {
                let mut targets: Vec<String> = groups.iter().flat_map(|group| shown(group)).collect();
                targets.sort();
                log.lock().push(((clock.now() - start).as_secs(), job.to_owned(), targets));
            })
        };
        let manager = Manager::with_pause("scrape", environment, &registry, deliver, pause);
        Self { manager, clock, registry, log }
    }

    pub(crate) fn apply(&self, jobs: &[(&str, Configs)]) {
        let jobs: Vec<_> = jobs.iter().map(|(name, configs)| ((*name).to_owned(), configs.clone())).collect();
        self.manager.apply(&jobs);
    }

    /// Lets simulated time pass.
    pub(crate) async fn pass(&self, seconds: u64) {
        self.clock.sleep(Duration::from_millis(seconds * 1000)).await;
    }

    /// Takes what was told so far.
    pub(crate) fn told(&self) -> Vec<(u64, String, Vec<String>)> {
        std::mem::take(&mut self.log.lock())
    }

    /// Waits until what was told last satisfies `fits`, and returns it. For mechanisms with sockets, whose time cannot
    /// be simulated.
    pub(crate) async fn until(&self, fits: impl Fn(&[String]) -> bool) -> Vec<String> {
        for _ in 0..3000 {
            if let Some((_, _, targets)) = self.log.lock().last().filter(|(_, _, targets)| fits(targets)) {
                return targets.clone();
            }
            self.clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("never told, last {:?}", self.log.lock().last());
    }

    /// The value of a metric without labels, or of the first with these.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name == name).unwrap_or_else(|| panic!("no {name}"));
        let fits = |metric: &&exposition::Metric| metric.labels.to_string() == labels;
        let metric = family.metrics.iter().find(fits).unwrap_or_else(|| panic!("no {name}{labels}: {family:?}"));
        match metric.value {
            exposition::MetricValue::Counter { value, .. } => value,
            exposition::MetricValue::Gauge(value) => value,
            ref other => panic!("{name} is {other:?}"),
        }
    }
}
