//! Processor time of `/proc/stat`, throttling and isolation of `/sys/devices/system/cpu`, and `/proc/cpuinfo` when
//! asked. Ticks are hundredths of a second on every architecture that Linux shows to programs.

use super::{Collector, Gather, Settings, StartError};
use crate::buffers::Short;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number, to_number};
use crate::kept::ABSENT;
use cli::Flag;
use re2::Regex;
use runtime::Monotonic;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "cpu", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "stat";
const FOLDER: &str = "devices/system/cpu";
const TICKS_A_SECOND: f64 = 100.0;
/// Idle time that falls by this much means that the processor was taken out and put back.
const IDLE_FELL_SECONDS: f64 = 3.0;
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
const TIMES: usize = 10;
const GUEST_HELP: &str = "Time spent for guests, by mode.";

fn flags() -> Vec<Flag> {
    vec![
        Flag::boolean("collector.cpu.guest", true, "Show time spent for guests"),
        Flag::boolean("collector.cpu.info", false, "Show model and frequency"),
        Flag::string("collector.cpu.info.flags-include", "", "Pattern of the processor flags to show")
            .without_default(),
        Flag::string("collector.cpu.info.bugs-include", "", "Pattern of the processor bugs to show").without_default(),
    ]
}

struct Cpu {
    guest: bool,
    info: bool,
    frequency: bool,
    shown_flags: Option<Regex>,
    shown_bugs: Option<Regex>,
    isolated: Vec<u32>,
    last: Mutex<BTreeMap<u32, Last>>,
    processors: Mutex<Processors>,
}

/// What was shown of a processor.
#[derive(Debug)]
struct Last {
    times: [f64; TIMES],
    seen: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let shown_flags = settings.pattern("collector.cpu.info.flags-include")?;
    let shown_bugs = settings.pattern("collector.cpu.info.bugs-include")?;
    let info = settings.parsed.bool("collector.cpu.info") || shown_flags.is_some() || shown_bugs.is_some();
    let isolated = settings.host.sys_value(&format!("{FOLDER}/isolated")).unwrap_or_default();
    Ok(Box::new(Cpu {
        guest: settings.parsed.bool("collector.cpu.guest"),
        info,
        frequency: info && settings.is_on("cpufreq"),
        shown_flags,
        shown_bugs,
        isolated: cpu_list(&isolated),
        last: Mutex::default(),
        processors: Mutex::default(),
    }))
}

impl Gather for Cpu {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        if self.info {
            self.cpuinfo(host, out)?;
        }
        self.times(&host.read_proc(PATH)?, out)?;
        for cpu in &self.isolated {
            let help = "1 for a processor that the scheduler leaves alone.";
            out.sample(Kind::Gauge, "node_cpu_isolated", help, &[("cpu", &Short::of(cpu))], 1.0);
        }
        let used = self.last.lock().unwrap_or_else(PoisonError::into_inner).len();
        let mut processors = self.processors.lock().unwrap_or_else(PoisonError::into_inner);
        processors.refresh(host, used);
        show(&processors, host, out);
        Ok(())
    }
}

impl Cpu {
    fn times(&self, text: &str, out: &mut Families) -> Result<(), Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for old in last.values_mut() {
            old.seen = false;
        }
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(' ') else { continue };
            let Some(cpu) = key.strip_prefix("cpu").and_then(|digits| digits.parse::<u32>().ok()) else { continue };
            let mut now = [0.0; TIMES];
            for (slot, field) in now.iter_mut().zip(rest.split_ascii_whitespace()) {
                *slot = number(PATH, field)? / TICKS_A_SECOND;
            }
            let kept = guard(last.get(&cpu).map(|old| &old.times), now);
            last.insert(cpu, Last { times: kept, seen: true });
            let cpu = Short::of(cpu);
            for (mode, value) in MODES.iter().zip(kept) {
                let labels = [("cpu", &*cpu), ("mode", *mode)];
                out.sample(Kind::Counter, "node_cpu_seconds_total", "Processor time by mode.", &labels, value);
            }
            if self.guest {
                for (mode, value) in [("user", kept[8]), ("nice", kept[9])] {
                    let labels = [("cpu", &*cpu), ("mode", mode)];
                    out.sample(Kind::Counter, "node_cpu_guest_seconds_total", GUEST_HELP, &labels, value);
                }
            }
        }
        last.retain(|_, old| old.seen);
        Ok(())
    }

    fn cpuinfo(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = host.read_proc("cpuinfo")?;
        for (position, block) in text.split("\n\n").filter(|block| block.contains("processor")).enumerate() {
            let field = |name: &str| {
                let line = block.lines().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    (key.trim() == name).then(|| value.trim())
                });
                line.unwrap_or("")
            };
            let place = [("package", field("physical id")), ("core", field("core id")), ("cpu", field("processor"))];
            let mut labels = place.to_vec();
            labels.extend([
                ("vendor", field("vendor_id")),
                ("family", field("cpu family")),
                ("model", field("model")),
                ("model_name", field("model name")),
                ("microcode", field("microcode")),
                ("stepping", field("stepping")),
                ("cachesize", field("cache size")),
            ]);
            out.sample(Kind::Gauge, "node_cpu_info", "What /proc/cpuinfo says of a processor.", &labels, 1.0);
            if let (true, Ok(mega_hertz)) = (self.frequency, field("cpu MHz").parse::<f64>()) {
                let help = "Present frequency of a processor.";
                out.sample(Kind::Gauge, "node_cpu_frequency_hertz", help, &place, mega_hertz * 1e6);
            }
            if position == 0 {
                let help = "1 for a feature of the first processor.";
                words(&self.shown_flags, "node_cpu_flag_info", help, "flag", field("flags"), out);
                let help = "1 for a fault of the first processor.";
                words(&self.shown_bugs, "node_cpu_bug_info", help, "bug", field("bugs"), out);
            }
        }
        Ok(())
    }
}

fn words(shown: &Option<Regex>, name: &str, help: &str, label: &str, text: &str, out: &mut Families) {
    let Some(shown) = shown else { return };
    for word in text.split_whitespace().filter(|word| shown.is_match(word)) {
        out.sample(Kind::Gauge, name, help, &[(label, word)], 1.0);
    }
}

/// Counters only move up, unless the processor came back from being taken out.
fn guard(last: Option<&[f64; TIMES]>, now: [f64; TIMES]) -> [f64; TIMES] {
    let Some(last) = last else { return now };
    if last[IDLE] - now[IDLE] >= IDLE_FELL_SECONDS {
        return now;
    }
    std::array::from_fn(|mode| now[mode].max(last[mode]))
}

/// Throttling counters, once a core and once a package, and which processors are online.
fn show(processors: &Processors, host: &Host, out: &mut Families) {
    let read = |path: &Option<String>| host.device_short(path.as_ref()?).ok().and_then(|text| to_number(&text).ok());
    for core in &processors.list {
        let labels = [("package", core.package.as_str()), ("core", core.core.as_str())];
        if let Some(throttles) = read(&core.core_throttles) {
            let help = "Times a core was slowed down because of heat.";
            out.sample(Kind::Counter, "node_cpu_core_throttles_total", help, &labels, throttles);
        }
        if let Some(throttles) = read(&core.package_throttles) {
            let help = "Times a package was slowed down because of heat.";
            out.sample(Kind::Counter, "node_cpu_package_throttles_total", help, &labels[..1], throttles);
        }
    }
    for core in &processors.list {
        if core.online.is_some() {
            let (value, labels) = (read(&core.online).unwrap_or(0.0), [("cpu", core.cpu.as_str())]);
            out.sample(Kind::Gauge, "node_cpu_online", "1 when a processor is online.", &labels, value);
        }
    }
}

/// The processors' folders, and which of their files there are. They change only when a processor comes or goes.
#[derive(Debug, Default)]
struct Processors {
    list: Vec<Processor>,
    /// Processors in use when they were read.
    used: usize,
    since: Option<Monotonic>,
}

#[derive(Debug)]
struct Processor {
    cpu: String,
    package: String,
    core: String,
    /// Paths below sysfs of files that are to be read at each scrape.
    core_throttles: Option<String>,
    package_throttles: Option<String>,
    online: Option<String>,
}

impl Processors {
    /// Reads the folders again when `used` processors are other than before, now and then, and always where sysfs is
    /// not the kernel's.
    fn refresh(&mut self, host: &Host, used: usize) {
        let now = host.clock().now();
        let young = self.since.is_some_and(|since| now - since < ABSENT);
        if young && self.used == used && host.is_kernel_sys() {
            return;
        }
        (self.used, self.since) = (used, Some(now));
        self.list.clear();
        let Ok(names) = host.sys_list(FOLDER) else { return };
        let cpus = names.iter().filter_map(|name| name.strip_prefix("cpu"));
        let (mut cores, mut packages) = (HashSet::new(), HashSet::new());
        let mut online = None;
        for cpu in cpus.filter(|cpu| !cpu.is_empty() && cpu.bytes().all(|byte| byte.is_ascii_digit())) {
            let path = |file: &str| format!("{FOLDER}/cpu{cpu}/{file}");
            let there = |path: String| host.sys_number(&path).is_ok().then_some(path);
            let value = |file: &str| host.sys_value(&path(file));
            // When the first processor does not say whether it is online, none does.
            let online = *online.get_or_insert_with(|| there(path("online")).is_some());
            let mut processor = Processor {
                cpu: cpu.to_owned(),
                package: String::new(),
                core: String::new(),
                core_throttles: None,
                package_throttles: None,
                online: online.then(|| path("online")),
            };
            if let (Ok(package), Ok(core)) = (value("topology/physical_package_id"), value("topology/core_id")) {
                if cores.insert((package.clone(), core.clone())) {
                    processor.core_throttles = there(path("thermal_throttle/core_throttle_count"));
                }
                if packages.insert(package.clone()) {
                    processor.package_throttles = there(path("thermal_throttle/package_throttle_count"));
                }
                (processor.package, processor.core) = (package, core);
            }
            self.list.push(processor);
        }
    }
}

/// `1,3-5` is 1, 3, 4, 5. A list longer than any machine's is cut.
pub(super) fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            cpus.extend((first..=last).take(65_536));
        }
    }
    cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const STAT: &str = "cpu  1 1 1 1 1 1 1 1 1 1\ncpu0 10 20 30 4000 50 60 70 80 90 100\nintr 5\n";

    #[test]
    fn ticks_become_seconds() {
        let tree = Tree::new().file("proc/stat", STAT);
        let samples = tree.samples("cpu", &["--no-collector.cpu.guest"]);
        assert!(samples.contains("node_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} 40\n"), "{samples}");
        assert!(samples.contains("node_cpu_seconds_total{cpu=\"0\",mode=\"steal\"} 0.8\n"), "{samples}");
        assert!(!samples.contains("guest"), "{samples}");
        let samples = tree.samples("cpu", &[]);
        assert!(samples.contains("node_cpu_guest_seconds_total{cpu=\"0\",mode=\"nice\"} 1\n"), "{samples}");
    }

    #[test]
    fn counters_do_not_go_back() {
        let mut first = [5.0; TIMES];
        first[IDLE] = 100.0;
        let mut second = [4.0; TIMES];
        second[IDLE] = 98.0;
        assert_eq!(guard(Some(&first), second), first);
        second[IDLE] = 97.0;
        assert_eq!(guard(Some(&first), second), second, "hot-plug starts again");
    }

    #[test]
    fn throttling_once_a_core() {
        let mut tree = Tree::new().file("proc/stat", STAT).file("sys/devices/system/cpu/isolated", "1,3-4\n");
        for (cpu, package, core, count) in [("0", "0", "0", "5"), ("1", "0", "0", "7"), ("2", "0", "1", "9")] {
            let folder = format!("sys/devices/system/cpu/cpu{cpu}");
            tree = tree
                .file(&format!("{folder}/topology/physical_package_id"), package)
                .file(&format!("{folder}/topology/core_id"), core)
                .file(&format!("{folder}/thermal_throttle/core_throttle_count"), count)
                .file(&format!("{folder}/thermal_throttle/package_throttle_count"), count);
        }
        let samples = tree.samples("cpu", &[]);
        assert!(samples.contains("node_cpu_core_throttles_total{core=\"0\",package=\"0\"} 5\n"), "{samples}");
        assert!(samples.contains("node_cpu_core_throttles_total{core=\"1\",package=\"0\"} 9\n"), "{samples}");
        assert_eq!(samples.matches("package_throttles").count(), 1, "{samples}");
        assert!(samples.contains("node_cpu_isolated{cpu=\"4\"} 1\n"), "{samples}");
    }
}
