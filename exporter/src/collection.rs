//! The collectors that are switched on, and one pass over some of them.

use crate::collectors::{ALL, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Parsed;
use runtime::Clock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A request that names collectors wrongly; the texts are upstream's, scripts look for them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectError {
    /// Both lists were given.
    #[error("Combined collect and exclude queries are not allowed.")]
    Both,
    /// No such collector.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: missing collector: {0}")]
    Missing(String),
    /// It exists and is off.
    #[error("Couldn't create filtered metrics handler: couldn't create collector: disabled collector: {0}")]
    Disabled(String),
}

struct Running {
    name: &'static str,
    gather: Box<dyn Gather>,
}

/// Every collector that is on.
pub struct Collection {
    host: Host,
    running: Vec<Running>,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

impl Collection {
    /// Checks the folders and builds what is switched on.
    pub fn start(parsed: &Parsed, clock: Clock) -> Result<Collection, StartError> {
        for flag in ["path.procfs", "path.sysfs"] {
            let path = parsed.str(flag);
            if !Path::new(path).is_dir() {
                return Err(StartError::Folder { flag, path: path.to_owned() });
            }
        }
        let path = |flag| parsed.str(flag);
        let host =
            Host::new(path("path.procfs"), path("path.sysfs"), path("path.rootfs"), path("path.udev.data"), clock);
        let settings = Settings { parsed, host: &host };
        let mut running = Vec::new();
        for collector in ALL {
            if settings.is_on(collector.name) {
                running.push(Running { name: collector.name, gather: (collector.build)(&settings)? });
            }
        }
        Ok(Collection { host, running })
    }

    /// The names of the collectors that are on.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.running.iter().map(|running| running.name)
    }

    /// Which collectors a request asks for. Excluding all of them leaves none; upstream serves all then.
    pub fn select(&self, collect: &[String], exclude: &[String]) -> Result<Vec<usize>, SelectError> {
        if !collect.is_empty() && !exclude.is_empty() {
            return Err(SelectError::Both);
        }
        for name in collect {
            if !ALL.iter().any(|collector| collector.name == name) {
                return Err(SelectError::Missing(name.clone()));
            }
            if !self.names().any(|running| running == name) {
                return Err(SelectError::Disabled(name.clone()));
            }
        }
        let wanted = |name: &str| {
            let named = |list: &[String]| list.iter().any(|listed| listed == name);
            if collect.is_empty() { !named(exclude) } else { named(collect) }
        };
        Ok((0..self.running.len()).filter(|index| wanted(self.running[*index].name)).collect())
    }

    /// Runs the chosen collectors one after the other. A failure or a panic costs only the collector it is in.
    pub fn gather(&self, chosen: &[usize], out: &mut Families) {
        for running in chosen.iter().filter_map(|index| self.running.get(*index)) {
            let clock = self.host.clock();
            let start = clock.now();
            let result = catch_unwind(AssertUnwindSafe(|| running.gather.gather(&self.host, out)));
            let seconds = (clock.now() - start).as_secs_f64();
            let success = match result {
                Ok(Ok(())) => true,
                Ok(Err(Failure::NoData(reason))) => {
                    tracing::debug!(name = running.name, reason, "collector returned no data");
                    false
                }
                Ok(Err(failure)) => {
                    tracing::error!(name = running.name, err = %failure, "collector failed");
                    false
                }
                Err(_) => {
                    tracing::error!(name = running.name, "collector panicked");
                    false
                }
            };
            let labels = [("collector", running.name)];
            let help = "How long a collector took.";
            out.sample(Kind::Gauge, "node_scrape_collector_duration_seconds", help, &labels, seconds);
            let (help, success) = ("1 when a collector succeeded.", f64::from(u8::from(success)));
            out.sample(Kind::Gauge, "node_scrape_collector_success", help, &labels, success);
        }
    }

    /// What the last pass of one collector failed with.
    #[cfg(test)]
    pub(crate) fn failure(&self, name: &str) -> Option<Failure> {
        let running = self.running.iter().find(|running| running.name == name)?;
        running.gather.gather(&self.host, &mut Families::new()).err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn selection_and_its_refusals() {
        let tree = Tree::new();
        let collection = tree.start(&["--no-collector.cpu"]).expect("start");
        let error = |collect: &[&str], exclude: &[&str]| {
            collection.select(&list(collect), &list(exclude)).expect_err("refused").to_string()
        };
        assert_eq!(error(&["stat"], &["time"]), "Combined collect and exclude queries are not allowed.");
        assert!(error(&["nope"], &[]).ends_with("couldn't create collector: missing collector: nope"));
        assert!(error(&[""], &[]).ends_with("missing collector: "));
        assert!(error(&["cpu"], &[]).ends_with("disabled collector: cpu"));
        assert_eq!(collection.select(&list(&["stat"]), &[]).expect("one").len(), 1);
        let all = collection.select(&[], &[]).expect("all").len();
        assert_eq!(collection.select(&[], &list(&["stat", "nope"])).expect("most").len(), all - 1);
    }

    #[test]
    fn disable_defaults_keeps_what_is_named() {
        let tree = Tree::new();
        let collection = tree.start(&["--collector.stat", "--collector.disable-defaults"]).expect("start");
        assert_eq!(collection.names().collect::<Vec<_>>(), ["stat"]);
    }

    #[test]
    fn a_missing_procfs_is_refused() {
        let error = Tree::new().refusal(&["--path.sysfs=/nowhere/at/all"]);
        assert!(error.contains("--path.sysfs: /nowhere/at/all is not a directory"), "{error}");
    }

    #[test]
    fn a_failing_collector_costs_only_itself() {
        let tree = Tree::new().file("proc/loadavg", "0.1 0.2 0.3 1/2 3\n").file("proc/stat", "intr x\n");
        let collection = tree.start(&[]).expect("start");
        let mut out = Families::new();
        collection.gather(&collection.select(&list(&["loadavg", "stat"]), &[]).expect("two"), &mut out);
        let text = String::from_utf8(out.finish().0).expect("text");
        assert!(text.contains("node_scrape_collector_success{collector=\"loadavg\"} 1\n"), "{text}");
        assert!(text.contains("node_scrape_collector_success{collector=\"stat\"} 0\n"), "{text}");
        assert!(text.contains("node_load15 0.3\n"), "{text}");
    }

    #[test]
    fn junk_fails_its_collector_and_says_where() {
        for (collector, file) in [
            ("bonding", "sys/class/net/bonding_masters"),
            ("buddyinfo", "proc/buddyinfo"),
            ("cgroups", "proc/cgroups"),
            ("diskstats", "proc/diskstats"),
            ("ipvs", "proc/net/ip_vs_stats"),
            ("lnstat", "proc/net/stat/arp_cache"),
            ("loadavg", "proc/loadavg"),
            ("mdadm", "proc/mdstat"),
            ("meminfo", "proc/meminfo"),
            ("mountstats", "proc/self/mountinfo"),
            ("nfs", "proc/net/rpc/nfs"),
            ("nfsd", "proc/net/rpc/nfsd"),
            ("pressure", "proc/pressure/cpu"),
            ("processes", "proc/1/stat"),
            ("slabinfo", "proc/slabinfo"),
            ("sockstat", "proc/net/sockstat"),
            ("swap", "proc/swaps"),
            ("vmstat", "proc/vmstat"),
            ("xfrm", "proc/net/xfrm_stat"),
            ("zfs", "proc/spl/kstat/zfs/arcstats"),
        ] {
            let tree = Tree::new().file("proc/self/mountstats", "").file(file, "first\njunk \u{1}x 1\n");
            let collection = tree.start(&[&format!("--collector.{collector}")]).expect("start");
            let failure = collection.failure(collector).map(|failure| failure.to_string()).unwrap_or_default();
            assert!(failure.starts_with("cannot "), "{collector}: {failure:?}");
        }
    }

    #[test]
    fn a_small_machine_as_a_golden_text() {
        let tree = Tree::new().file("proc/loadavg", "0.21 0.37 0.39 1/719 19737\n");
        assert_eq!(
            tree.text("loadavg", &[]),
            "# HELP node_load1 Load average over one minute.\n# TYPE node_load1 gauge\nnode_load1 0.21\n\
             # HELP node_load15 Load average over fifteen minutes.\n# TYPE node_load15 gauge\nnode_load15 0.39\n\
             # HELP node_load5 Load average over five minutes.\n# TYPE node_load5 gauge\nnode_load5 0.37\n"
        );
    }
}
