//! Processor time of `/proc/stat`, throttling and isolation of `/sys/devices/system/cpu`, and `/proc/cpuinfo` when
//! asked. Ticks are hundredths of a second on every architecture that Linux shows to programs.

use super::{Collector, Gather, Settings, StartError};
use crate::buffers::Short;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number, to_number};
use crate::processors::{FOLDER, Processors};
use cli::Flag;
use re2::Regex;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "cpu", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "stat";
const TICKS_A_SECOND: f64 = 100.0;
/// Idle time that falls by this much means that the processor was taken out and put back.
const IDLE_FELL_SECONDS: f64 = 3.0;
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const AGGREGATE: &str = "collector.cpu.aggregate";
const IDLE: usize = 3;
const TIMES: usize = 10;
const GUEST_HELP: &str = "Time spent for guests, by mode.";

fn flags() -> Vec<Flag> {
    vec![
        Flag::boolean("collector.cpu.guest", true, "Show time spent for guests"),
        Flag::boolean("collector.cpu.info", false, "Show model and frequency"),
        Flag::boolean(AGGREGATE, false, "Show sums over all processors, without the labels cpu, core and package"),
        Flag::string("collector.cpu.info.flags-include", "", "Pattern of the processor flags to show")
            .without_default(),
        Flag::string("collector.cpu.info.bugs-include", "", "Pattern of the processor bugs to show").without_default(),
    ]
}

struct Cpu {
    guest: bool,
    info: bool,
    aggregate: bool,
    frequency: bool,
    shown_flags: Option<Regex>,
    shown_bugs: Option<Regex>,
    isolated: Vec<u32>,
    last: Mutex<Last>,
    processors: Mutex<Processors>,
}

/// The last readings, for counters that never go back.
#[derive(Default)]
struct Last {
    /// And whether the processor was there the last time.
    by_cpu: BTreeMap<u32, ([f64; TIMES], bool)>,
    /// Over all processors there ever were: what one that was taken out has done stays done.
    sum: [f64; TIMES],
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let shown_flags = settings.pattern("collector.cpu.info.flags-include")?;
    let shown_bugs = settings.pattern("collector.cpu.info.bugs-include")?;
    let info = settings.parsed.bool("collector.cpu.info") || shown_flags.is_some() || shown_bugs.is_some();
    let isolated = settings.host.sys_value(&format!("{FOLDER}/isolated")).unwrap_or_default();
    Ok(Box::new(Cpu {
        guest: settings.parsed.bool("collector.cpu.guest"),
        info,
        aggregate: settings.parsed.bool(AGGREGATE),
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
        self.times(&host.read_stat()?, out)?;
        let help = "1 for a processor that the scheduler leaves alone.";
        if self.aggregate && !self.isolated.is_empty() {
            out.gauge("node_cpu_isolated", help, self.isolated.len() as f64);
        }
        for cpu in self.isolated.iter().filter(|_| !self.aggregate) {
            out.sample(Kind::Gauge, "node_cpu_isolated", help, &[("cpu", &Short::of(cpu))], 1.0);
        }
        let used = self.last.lock().unwrap_or_else(PoisonError::into_inner).by_cpu.len();
        let mut processors = self.processors.lock().unwrap_or_else(PoisonError::into_inner);
        processors.refresh(host, used);
        folders(&processors, host, self.aggregate, out);
        Ok(())
    }
}

impl Cpu {
    fn times(&self, text: &str, out: &mut Families) -> Result<(), Failure> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, seen) in last.by_cpu.values_mut() {
            *seen = false;
        }
        for line in text.lines() {
            let Some((key, rest)) = line.split_once(' ') else { continue };
            let Some(cpu) = key.strip_prefix("cpu").and_then(|digits| digits.parse::<u32>().ok()) else { continue };
            let mut now = [0.0; TIMES];
            for (slot, field) in now.iter_mut().zip(rest.split_ascii_whitespace()) {
                *slot = number(PATH, field)? / TICKS_A_SECOND;
            }
            let before = last.by_cpu.get(&cpu).map(|(times, _)| *times);
            let kept = guard(before.as_ref(), now);
            last.by_cpu.insert(cpu, (kept, true));
            for (mode, sum) in last.sum.iter_mut().enumerate() {
                // A processor that came back has counted from nothing again.
                let counted = before.map_or(0.0, |before| before[mode]);
                *sum += if kept[mode] >= counted { kept[mode] - counted } else { kept[mode] };
            }
            if !self.aggregate {
                self.show(&kept, Some(&Short::of(cpu)), out);
            }
        }
        last.by_cpu.retain(|_, (_, seen)| self.aggregate || *seen);
        if self.aggregate {
            self.show(&last.sum, None, out);
        }
        Ok(())
    }

    /// The times of one processor, or of all.
    fn show(&self, times: &[f64; TIMES], cpu: Option<&str>, out: &mut Families) {
        let mut show = |name, help, mode, value| match cpu {
            Some(cpu) => out.sample(Kind::Counter, name, help, &[("cpu", cpu), ("mode", mode)], value),
            None => out.sample(Kind::Counter, name, help, &[("mode", mode)], value),
        };
        for (mode, value) in MODES.iter().zip(times) {
            show("node_cpu_seconds_total", "Processor time by mode.", mode, *value);
        }
        if self.guest {
            for (mode, value) in [("user", times[8]), ("nice", times[9])] {
                show("node_cpu_guest_seconds_total", GUEST_HELP, mode, value);
            }
        }
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
fn folders(processors: &Processors, host: &Host, aggregate: bool, out: &mut Families) {
    let read = |path: &Option<String>| host.device_short(path.as_ref()?).ok().and_then(|text| to_number(&text).ok());
    let (mut core_sum, mut package_sum) = (None, None);
    for processor in processors.list() {
        let labels = [("package", processor.package.as_str()), ("core", processor.core.as_str())];
        if let Some(throttles) = read(&processor.core_throttles) {
            throttled(CORE, &labels, throttles, aggregate.then_some(&mut core_sum), out);
        }
        if let Some(throttles) = read(&processor.package_throttles) {
            throttled(PACKAGE, &labels[..1], throttles, aggregate.then_some(&mut package_sum), out);
        }
    }
    for ((name, help), sum) in [(CORE, core_sum), (PACKAGE, package_sum)] {
        if let Some(sum) = sum {
            out.counter(name, help, sum);
        }
    }
    let (name, help) = ("node_cpu_online", "1 when a processor is online.");
    let online = processors.list().iter().filter(|processor| processor.online.is_some());
    if aggregate {
        if online.clone().next().is_some() {
            out.gauge(name, help, online.map(|processor| read(&processor.online).unwrap_or(0.0)).sum());
        }
        return;
    }
    for processor in online {
        let (value, labels) = (read(&processor.online).unwrap_or(0.0), [("cpu", processor.cpu.as_str())]);
        out.sample(Kind::Gauge, name, help, &labels, value);
    }
}

const CORE: (&str, &str) = ("node_cpu_core_throttles_total", "Times a core was slowed down because of heat.");
const PACKAGE: (&str, &str) = ("node_cpu_package_throttles_total", "Times a package was slowed down because of heat.");

/// Shows a count, or adds it up.
fn throttled(
    (name, help): (&str, &str),
    labels: &[(&str, &str)],
    count: f64,
    sum: Option<&mut Option<f64>>,
    out: &mut Families,
) {
    match sum {
        Some(sum) => *sum = Some(sum.unwrap_or(0.0) + count),
        None => out.sample(Kind::Counter, name, help, labels, count),
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
    fn sums_never_go_back_when_processors_do() {
        let tree = Tree::new();
        let collection = tree.start(&["--collector.cpu.aggregate"]).expect("start");
        let chosen = collection.select(&["cpu".to_owned()], &[]).expect("collector");
        let idle = |text: &str| {
            tree.put("proc/stat", text);
            let mut out = Families::new();
            collection.gather(&chosen, &mut out);
            let text = String::from_utf8(out.finish().0).expect("utf-8");
            assert!(!text.contains("cpu=\""), "{text}");
            let line = text.lines().find_map(|line| line.strip_prefix("node_cpu_seconds_total{mode=\"idle\"} "));
            line.expect("idle").parse::<f64>().expect("a number")
        };
        assert_eq!(idle("cpu0 0 0 0 1000\ncpu1 0 0 0 2000\n"), 30.0);
        assert_eq!(idle("cpu0 0 0 0 1100\ncpu1 0 0 0 2200\n"), 33.0);
        assert_eq!(idle("cpu0 0 0 0 1200\n"), 34.0, "one is taken out");
        assert_eq!(idle("cpu0 0 0 0 1200\ncpu1 0 0 0 100\n"), 35.0, "and comes back from nothing");
        assert_eq!(idle("cpu0 0 0 0 1200\ncpu1 0 0 0 300\n"), 37.0);
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
        let samples = tree.samples("cpu", &["--collector.cpu.aggregate"]);
        for line in
            ["node_cpu_core_throttles_total 14\n", "node_cpu_package_throttles_total 5\n", "node_cpu_isolated 3\n"]
        {
            assert!(samples.contains(line), "{line}: {samples}");
        }
    }
}
