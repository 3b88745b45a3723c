//! Hardware, software and cache counters and tracepoints of every processor: `perf_event_open(2)`.
//!
//! The counters are opened once at start, a set for each processor, and count all processes there, kernel included.
//! What the machine does not have, or does not let this process see, is left out; a tracepoint that is named and
//! cannot be opened is an error at start.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Hardware, Software, Tracepoint};
use perf_event::{Builder, Counter};
use std::io;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "perf", enabled: false, flags, deprecated: &[], build };

const CPUS: &str = "collector.perf.cpus";
const TRACEPOINTS: &str = "collector.perf.tracepoint";
const NO_HARDWARE: &str = "collector.perf.disable-hardware-profilers";
const HARDWARE: &str = "collector.perf.hardware-profilers";
const NO_SOFTWARE: &str = "collector.perf.disable-software-profilers";
const SOFTWARE: &str = "collector.perf.software-profilers";
const NO_CACHE: &str = "collector.perf.disable-cache-profilers";
const CACHE: &str = "collector.perf.cache-profilers";
const CPUS_MAX: u32 = 1 << 16;
/// Where the kernel shows its tracepoints, newest place first.
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Name for the flag, name of the family, event.
type Event<T> = (&'static str, &'static str, T);

const HARDWARE_EVENTS: [Event<Hardware>; 9] = [
    ("CpuCycles", "cpucycles", Hardware::CPU_CYCLES),
    ("CpuInstr", "instructions", Hardware::INSTRUCTIONS),
    ("CacheRef", "cache_refs", Hardware::CACHE_REFERENCES),
    ("CacheMisses", "cache_misses", Hardware::CACHE_MISSES),
    ("BranchInstr", "branch_instructions", Hardware::BRANCH_INSTRUCTIONS),
    ("BranchMisses", "branch_misses", Hardware::BRANCH_MISSES),
    ("StalledCyclesBackend", "stalled_cycles_backend", Hardware::STALLED_CYCLES_BACKEND),
    ("StalledCyclesFrontend", "stalled_cycles_frontend", Hardware::STALLED_CYCLES_FRONTEND),
    ("RefCpuCycles", "ref_cpucycles", Hardware::REF_CPU_CYCLES),
];

const SOFTWARE_EVENTS: [Event<Software>; 5] = [
    ("PageFault", "page_faults", Software::PAGE_FAULTS),
    ("ContextSwitch", "context_switches", Software::CONTEXT_SWITCHES),
    ("CpuMigration", "cpu_migrations", Software::CPU_MIGRATIONS),
    ("MinorFault", "minor_faults", Software::PAGE_FAULTS_MIN),
    ("MajorFault", "major_faults", Software::PAGE_FAULTS_MAJ),
];

const fn cache(which: CacheId, operation: CacheOp, result: CacheResult) -> Cache {
    Cache { which, operation, result }
}

const CACHE_EVENTS: [Event<Cache>; 16] = {
    use CacheId as Id;
    const READ: CacheOp = CacheOp::READ;
    const WRITE: CacheOp = CacheOp::WRITE;
    const HIT: CacheResult = CacheResult::ACCESS;
    const MISS: CacheResult = CacheResult::MISS;
    [
        ("L1DataReadHit", "cache_l1d_read_hits", cache(Id::L1D, READ, HIT)),
        ("L1DataReadMiss", "cache_l1d_read_misses", cache(Id::L1D, READ, MISS)),
        ("L1DataWriteHit", "cache_l1d_write_hits", cache(Id::L1D, WRITE, HIT)),
        ("L1InstrReadMiss", "cache_l1_instr_read_misses", cache(Id::L1I, READ, MISS)),
        ("LLReadHit", "cache_ll_read_hits", cache(Id::LL, READ, HIT)),
        ("LLReadMiss", "cache_ll_read_misses", cache(Id::LL, READ, MISS)),
        ("LLWriteHit", "cache_ll_write_hits", cache(Id::LL, WRITE, HIT)),
        ("LLWriteMiss", "cache_ll_write_misses", cache(Id::LL, WRITE, MISS)),
        ("InstrTLBReadHit", "cache_tlb_instr_read_hits", cache(Id::ITLB, READ, HIT)),
        ("InstrTLBReadMiss", "cache_tlb_instr_read_misses", cache(Id::ITLB, READ, MISS)),
        ("BPUReadHit", "cache_bpu_read_hits", cache(Id::BPU, READ, HIT)),
        ("BPUReadMiss", "cache_bpu_read_misses", cache(Id::BPU, READ, MISS)),
        ("DataTLBReadHit", "cache_tlb_data_read_hits", cache(Id::DTLB, READ, HIT)),
        ("DataTLBReadMiss", "cache_tlb_data_read_misses", cache(Id::DTLB, READ, MISS)),
        ("DataTLBWriteHit", "cache_tlb_data_write_hits", cache(Id::DTLB, WRITE, HIT)),
        ("DataTLBWriteMiss", "cache_tlb_data_write_misses", cache(Id::DTLB, WRITE, MISS)),
    ]
};

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(CPUS, "", "Processors to count on, such as 0,2-6,8-20:4; empty for all"),
        Flag::list(TRACEPOINTS, &[], "Tracepoint to count, as subsystem:event"),
        Flag::boolean(NO_HARDWARE, false, "Leave out the hardware counters"),
        Flag::list(HARDWARE, &[], "Hardware counter to show; all when none is given"),
        Flag::boolean(NO_SOFTWARE, false, "Leave out the software counters"),
        Flag::list(SOFTWARE, &[], "Software counter to show; all when none is given"),
        Flag::boolean(NO_CACHE, false, "Leave out the cache counters"),
        Flag::list(CACHE, &[], "Cache counter to show; all when none is given"),
    ]
}

/// One counter of one processor.
struct Open {
    family: String,
    cpu: String,
    counter: Mutex<Counter>,
}

struct Perf {
    counters: Vec<Open>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let parsed = settings.parsed;
    let wanted = parsed.str(CPUS);
    let cpus = if wanted.is_empty() {
        let online = settings.host.sys_value("devices/system/cpu/online").unwrap_or_else(|_| "0".to_owned());
        parse_cpus(&online)
    } else {
        parse_cpus(wanted)
    };
    let cpus = cpus.ok_or_else(|| StartError::Setting {
        flag: CPUS,
        reason: format!("{wanted:?} is no list of processors such as 0,2-6,8-20:4"),
    })?;
    let mut counters = Vec::new();
    for cpu in cpus {
        if !parsed.bool(NO_HARDWARE) {
            open_group(cpu, "hardware", &chosen(&HARDWARE_EVENTS, HARDWARE, settings), &mut counters);
        }
        if !parsed.bool(NO_SOFTWARE) {
            open_group(cpu, "software", &chosen(&SOFTWARE_EVENTS, SOFTWARE, settings), &mut counters);
        }
        if !parsed.bool(NO_CACHE) {
            open_group(cpu, "cache", &chosen(&CACHE_EVENTS, CACHE, settings), &mut counters);
        }
        for name in parsed.list(TRACEPOINTS) {
            counters.push(tracepoint(cpu, name)?);
        }
    }
    Ok(Box::new(Perf { counters }))
}

/// The events a flag names, or all.
fn chosen<T: Clone>(events: &[Event<T>], flag: &str, settings: &Settings<'_>) -> Vec<(&'static str, T)> {
    let names = settings.parsed.list(flag);
    for name in names {
        if !events.iter().any(|(known, _, _)| known == name) {
            tracing::error!(flag, name, "unknown perf counter, it is left out");
        }
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|listed| listed == name);
    events.iter().filter(|(name, _, _)| wanted(name)).map(|(_, family, event)| (*family, event.clone())).collect()
}

fn open_group<T: perf_event::events::Event + Clone>(
    cpu: u32,
    group: &str,
    events: &[(&'static str, T)],
    into: &mut Vec<Open>,
) {
    for (family, event) in events {
        match open(cpu, event.clone()) {
            Ok(counter) => into.push(Open { family: format!("node_perf_{family}_total"), ..shown(cpu, counter) }),
            Err(error) => tracing::debug!(cpu, group, family, %error, "a perf counter is left out"),
        }
    }
}

fn shown(cpu: u32, counter: Counter) -> Open {
    Open { family: String::new(), cpu: cpu.to_string(), counter: Mutex::new(counter) }
}

fn open<T: perf_event::events::Event>(cpu: u32, event: T) -> io::Result<Counter> {
    let mut builder = Builder::new(event);
    builder.any_pid().one_cpu(cpu as usize).include_kernel();
    let mut counter = builder.build()?;
    counter.enable()?;
    Ok(counter)
}

fn tracepoint(cpu: u32, name: &str) -> Result<Open, StartError> {
    let refuse = |reason: String| StartError::Setting { flag: TRACEPOINTS, reason };
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let (subsystem, event) = name
        .split_once(':')
        .filter(|(subsystem, event)| plain(subsystem) && plain(event))
        .ok_or_else(|| refuse(format!("{name:?} is not of the form subsystem:event")))?;
    let id = TRACING.iter().find_map(|folder| {
        std::fs::read_to_string(format!("{folder}/events/{subsystem}/{event}/id")).ok()?.trim().parse().ok()
    });
    let id = id.ok_or_else(|| refuse(format!("the kernel shows no tracepoint {name:?} to this process")))?;
    let counter = open(cpu, Tracepoint::with_id(id)).map_err(|error| refuse(format!("{name}: {error}")))?;
    let family = format!("node_perf_{subsystem}_{event}").replace('-', "_");
    Ok(Open { family, ..shown(cpu, counter) })
}

/// `0,2-6,8-20:4`: single numbers, ranges, ranges with a stride.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (range, stride) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        let stride: usize = stride.trim().parse().ok().filter(|stride| *stride > 0)?;
        if first > last || last > CPUS_MAX {
            return None;
        }
        cpus.extend((first..=last).step_by(stride));
    }
    Some(cpus)
}

impl Gather for Perf {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        for open in &self.counters {
            let value = open.counter.lock().unwrap_or_else(PoisonError::into_inner).read();
            let value = value.map_err(|source| Failure::Call { call: "reading a perf counter", source })?;
            let labels = [("cpu", open.cpu.as_str())];
            out.sample(Kind::Counter, &open.family, "Events a processor counted.", &labels, value as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    #[test]
    fn lists_of_processors() {
        let check = |text: &str, expected: Option<&[u32]>| assert_eq!(parse_cpus(text).as_deref(), expected, "{text}");
        check("0", Some(&[0]));
        check("0,2-4", Some(&[0, 2, 3, 4]));
        check("8-20:4", Some(&[8, 12, 16, 20]));
        check("", None);
        check("4-2", None);
        check("0-4:0", None);
        check("0-99999999", None);
    }

    #[test]
    fn settings_that_cannot_work() {
        let refusal = |flags: &[&str]| {
            let off = ["--collector.perf", "--collector.perf.disable-hardware-profilers"];
            let more = ["--collector.perf.disable-software-profilers", "--collector.perf.disable-cache-profilers"];
            Tree::new().refusal(&[&off[..], &more[..], flags].concat())
        };
        assert!(refusal(&["--collector.perf.cpus=x"]).contains("list of processors"));
        assert!(refusal(&["--collector.perf.tracepoint=sched"]).contains("subsystem:event"));
        assert!(refusal(&["--collector.perf.tracepoint=../x:y"]).contains("subsystem:event"));
    }

    #[test]
    fn software_counters_where_they_are_allowed() {
        let flags = [
            "--collector.perf",
            "--collector.perf.disable-hardware-profilers",
            "--collector.perf.disable-cache-profilers",
            "--collector.perf.software-profilers=PageFault",
            "--collector.perf.software-profilers=Nope",
        ];
        let tree = Tree::new().file("sys/devices/system/cpu/online", "0\n");
        let samples = tree.samples("perf", &flags);
        // Not every machine lets a process count on whole processors.
        let expected = if open(0, Software::PAGE_FAULTS).is_ok() { 1 } else { 0 };
        assert_eq!(samples.matches("node_perf_page_faults_total{cpu=\"0\"} ").count(), expected, "{samples}");
        assert_eq!(samples.lines().count(), expected, "{samples}");
    }
}
