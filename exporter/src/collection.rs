//! The collectors that are switched on, and one pass over some of them.

use crate::cache::Cache;
use crate::collectors::{ALL, Gather, Settings, StartError};
use crate::crew::{Answer, Crew, Outcome, Work};
use crate::families::{Families, Kind};
use crate::flags::{CACHE, DEADLINE, SERIES_MAX};
use crate::host::{Failure, Host};
use cli::Parsed;
use runtime::Clock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

impl Running {
    /// One run. A failure or a panic costs only this collector; the answer is why it failed.
    fn run(&self, host: &Host, out: &mut Families) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(|| self.gather.gather(host, out))) {
            Ok(Ok(())) => None,
            Ok(Err(Failure::NoData(reason))) => {
                tracing::debug!(name = self.name, reason, "collector returned no data");
                Some(format!("no data: {reason}"))
            }
            Ok(Err(failure)) => {
                tracing::error!(name = self.name, err = %failure, "collector failed");
                Some(failure.to_string())
            }
            Err(_) => {
                tracing::error!(name = self.name, "collector panicked");
                Some("it panicked, which is a bug; the log says where".to_owned())
            }
        }
    }
}

/// The collectors as the threads of the crew see them.
struct Collectors {
    host: Host,
    running: Vec<Running>,
    /// Series that one of them may write; none for any number.
    series_max: Option<usize>,
}

impl Work for Arc<Collectors> {
    fn run(&self, place: usize, outcome: &mut Outcome) {
        if let Some(running) = self.running.get(place) {
            outcome.error = running.run(&self.host, &mut outcome.families);
            let wrote = outcome.families.len();
            if let Some(most) = self.series_max.filter(|most| wrote > *most) {
                outcome.families.reset();
                let error = format!("{wrote} series are more than --{SERIES_MAX}={most}, they are left out");
                tracing::error!(name = running.name, error, "collector failed");
                outcome.error = Some(error);
            }
        }
    }

    fn name(&self, place: usize) -> &'static str {
        self.running.get(place).map_or("", |running| running.name)
    }
}

/// Every collector that is on.
pub struct Collection {
    collectors: Arc<Collectors>,
    crew: Crew,
    deadline: Duration,
    /// Answers of passes that are over, with their buffers.
    answers: Mutex<Vec<Families>>,
    cache: Cache,
}

/// Answers that wait at most.
const ANSWERS_MAX: usize = 4;

/// How a collector did the last time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) collector: &'static str,
    pub(crate) seconds: f64,
    pub(crate) error: Option<String>,
}

impl std::fmt::Debug for Collection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

impl Collection {
    /// Checks the folders and builds what is switched on.
    pub fn start(parsed: &Parsed, clock: Clock) -> Result<Collection, StartError> {
        for flag in ["path.procfs", "path.sysfs"].iter().copied().filter(|_| cfg!(target_os = "linux")) {
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
        let deadline = Some(parsed.duration(DEADLINE)).filter(|deadline| !deadline.is_zero());
        let names: Vec<&str> = running.iter().map(|running| running.name).collect();
        let cache = Cache::new(parsed.list(CACHE), &names, host.clock())?;
        let (clock, places) = (host.clock().clone(), running.len());
        let series_max = usize::try_from(parsed.int(SERIES_MAX)).ok().filter(|most| *most > 0);
        let collectors = Arc::new(Collectors { host, running, series_max });
        let crew = Crew::new(Box::new(collectors.clone()), places, clock);
        Ok(Collection {
            collectors,
            crew,
            deadline: deadline.unwrap_or(Duration::MAX),
            cache,
            answers: Mutex::default(),
        })
    }

    /// The names of the collectors that are on.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.collectors.running.iter().map(|running| running.name)
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
        Ok((0..self.collectors.running.len()).filter(|index| wanted(self.collectors.running[*index].name)).collect())
    }

    /// Runs the chosen collectors one after the other on the calling thread, without a deadline.
    pub fn gather(&self, chosen: &[usize], out: &mut Families) {
        let clock = self.collectors.host.clock();
        self.collectors.host.begin_round();
        for running in chosen.iter().filter_map(|index| self.collectors.running.get(*index)) {
            let start = clock.now();
            let error = running.run(&self.collectors.host, out);
            show(running.name, (clock.now() - start).as_secs_f64(), error.is_none(), out);
        }
    }

    /// Runs the chosen collectors on the crew's threads, or joins runs of other passes, and waits for each until the
    /// deadline of the flag or `patience`, whichever is earlier. Those that are late count as failed.
    pub(crate) async fn pass(&self, chosen: &[usize], patience: Option<Duration>, out: &mut Families) {
        let patience = patience.map_or(self.deadline, |patience| patience.min(self.deadline));
        self.collectors.host.begin_round();
        let kept: Vec<_> = chosen.iter().map(|index| self.cache.get(*index)).collect();
        let to_run: Vec<usize> =
            chosen.iter().zip(&kept).filter(|(_, kept)| kept.is_none()).map(|(at, _)| *at).collect();
        let mut answers = self.crew.pass(&to_run, patience).await.into_iter();
        for (index, kept) in chosen.iter().zip(kept) {
            let name = self.collectors.name(*index);
            let answer = match kept {
                Some(outcome) => Answer::Done(outcome),
                None => match answers.next() {
                    Some(answer) => self.cache.put(*index, answer),
                    None => continue,
                },
            };
            if let Answer::Done(outcome) = &answer {
                out.append(&outcome.families);
            }
            let (seconds, error) = figures(answer);
            show(name, seconds, error.is_none(), out);
            self.cache.show(*index, name, out);
        }
    }

    /// An empty answer, with the buffers and the order of an earlier one.
    pub(crate) fn answer(&self) -> Families {
        let mut answer = self.answers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        answer.reset();
        answer
    }

    /// Keeps the buffers of an answer for later ones.
    pub(crate) fn give_back(&self, answer: Families) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() < ANSWERS_MAX {
            answers.push(answer);
        }
    }

    /// How every collector that has run did the last time.
    pub(crate) fn reports(&self) -> Vec<Report> {
        let report = |(place, running): (usize, &Running)| {
            let (seconds, error) = figures(self.crew.latest(place)?);
            Some(Report { collector: running.name, seconds, error })
        };
        self.collectors.running.iter().enumerate().filter_map(report).collect()
    }

    /// Octets received and sent in the network of this process, where the last pass has met them.
    pub(crate) fn octets(&self) -> Option<[f64; 2]> {
        self.collectors.host.octets()
    }

    /// Threads that a collector has kept past its deadline.
    pub(crate) fn stuck(&self) -> usize {
        self.crew.stuck() + self.collectors.host.stuck().count()
    }

    /// What the last pass of one collector failed with.
    #[cfg(test)]
    pub(crate) fn failure(&self, name: &str) -> Option<Failure> {
        let running = self.collectors.running.iter().find(|running| running.name == name)?;
        running.gather.gather(&self.collectors.host, &mut Families::new()).err()
    }
}

/// How long a run took, and why it failed.
fn figures(answer: Answer) -> (f64, Option<String>) {
    match answer {
        Answer::Done(outcome) => (outcome.seconds, outcome.error.clone()),
        Answer::Late(age) => (age.as_secs_f64(), Some("it does not answer, and its thread still waits".to_owned())),
    }
}

/// The two figures every collector has.
fn show(name: &str, seconds: f64, success: bool, out: &mut Families) {
    let labels = [("collector", name)];
    let help = "How long a collector took.";
    out.sample(Kind::Gauge, "node_scrape_collector_duration_seconds", help, &labels, seconds);
    let (help, success) = ("1 when a collector succeeded.", f64::from(u8::from(success)));
    out.sample(Kind::Gauge, "node_scrape_collector_success", help, &labels, success);
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

    #[tokio::test]
    async fn no_deadline_is_no_limit() {
        let tree = Tree::new().file("proc/loadavg", "0.1 0.2 0.3 1/2 3\n");
        for deadline in ["0s", "-5s"] {
            let deadline = format!("--collector.deadline={deadline}");
            let collection = tree.start(&[&deadline]).expect("start");
            let chosen = collection.select(&list(&["loadavg"]), &[]).expect("collector");
            let mut out = Families::new();
            collection.pass(&chosen, None, &mut out).await;
            let text = String::from_utf8(out.finish().0).expect("utf-8");
            assert!(text.contains("node_scrape_collector_success{collector=\"loadavg\"} 1\n"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_collector_with_too_many_series_is_left_out_and_says_so() {
        let tree = Tree::new().file("proc/loadavg", "0.1 0.2 0.3 1/2 3\n");
        for (most, success) in [("2", 0), ("3", 1), ("0", 1)] {
            let collection = tree.start(&[&format!("--collector.series-max={most}")]).expect("start");
            let chosen = collection.select(&list(&["loadavg"]), &[]).expect("collector");
            let mut out = Families::new();
            collection.pass(&chosen, None, &mut out).await;
            let text = String::from_utf8(out.finish().0).expect("utf-8");
            assert!(text.contains(&format!("success{{collector=\"loadavg\"}} {success}\n")), "{text}");
            assert_eq!(text.contains("node_load1 "), success == 1, "{text}");
            let error = collection.reports()[0].error.clone();
            assert_eq!(error.is_some_and(|error| error.contains("3 series")), success == 0);
        }
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

    #[tokio::test]
    async fn a_pass_says_what_the_calling_thread_would() {
        let tree = Tree::new().file("proc/loadavg", "0.1 0.2 0.3 1/2 3\n").file("proc/stat", "intr x\n");
        let collection = tree.start(&[]).expect("start");
        let chosen = collection.select(&list(&["loadavg", "stat"]), &[]).expect("two");
        let lines = |out: Families| {
            let text = String::from_utf8(out.finish().0).expect("text");
            text.lines().filter(|line| !line.contains("duration_seconds{")).map(str::to_owned).collect::<Vec<_>>()
        };
        let (mut alone, mut passed) = (Families::new(), Families::new());
        collection.gather(&chosen, &mut alone);
        collection.pass(&chosen, None, &mut passed).await;
        assert_eq!(lines(alone), lines(passed));
        let reports = collection.reports();
        assert_eq!(reports[0].error, None);
        assert!(reports[1].error.as_ref().is_some_and(|error| error.contains("stat")), "{reports:?}");
        for _ in 0..3 {
            let mut again = Families::new();
            collection.pass(&chosen, Some(Duration::from_secs(60)), &mut again).await;
            assert!(String::from_utf8_lossy(&again.finish().0).contains("node_load1 0.1\n"));
        }
        assert_eq!(collection.stuck(), 0);
    }
}
