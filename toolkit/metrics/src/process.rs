//! `process_*`: what the kernel says of this process, from `/proc/self`.
//!
//! Source of truth: proc_pid_stat(5), and upstream's process collector for names and texts.

use crate::Registry;
use exposition::Family;
use nix::sys::resource::{Resource, getrlimit};
use parking_lot::Mutex;
use runtime::Clock;
use std::{fs::File, os::unix::fs::FileExt};

/// Ticks per second of `/proc/self/stat`: fixed by the kernel's user interface.
const TICKS: f64 = 100.0;

/// Registers `process_*`. On hosts without `/proc` the families are absent, but for the start time, which is then that
/// of this call. The files stay open: reading them again costs a third of opening them again.
pub fn process_collector(registry: &Registry, clock: &Clock) {
    process_collector_told(registry, clock, || None);
}

/// Like [`process_collector`], for a program that may know the octets received and sent already, because it reads the
/// same file for other reasons. The file is read when `octets` has none.
pub fn process_collector_told(
    registry: &Registry,
    clock: &Clock,
    octets: impl Fn() -> Option<[f64; 2]> + Send + Sync + 'static,
) {
    let started = started().unwrap_or(clock.unix_ms() as f64 / 1000.0);
    let (stat, netstat) = (Kept::new("/proc/self/stat"), Kept::new("/proc/self/net/netstat"));
    registry.collect(move |families| {
        stat.read(|text| from_stat(text, families));
        match octets() {
            Some(known) => push_octets(known.map(Some), families),
            None => netstat.read(|text| from_netstat(text, families)),
        }
        families.push(Family::gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            started,
        ));
        if let Some(open) = open_files() {
            families.push(Family::gauge("process_open_fds", "Number of open file descriptors.", open as f64));
        }
        for (resource, name, help) in [
            (Resource::RLIMIT_NOFILE, "process_max_fds", "Maximum number of open file descriptors."),
            #[cfg(target_os = "linux")]
            (
                Resource::RLIMIT_AS,
                "process_virtual_memory_max_bytes",
                "Maximum amount of virtual memory available in bytes.",
            ),
        ] {
            if let Ok((soft, _)) = getrlimit(resource) {
                families.push(Family::gauge(name, help, soft as f64));
            }
        }
    });
}

/// How many files the process has open. Since Linux 6.2 the folder's size says it; before, the entries are counted.
fn open_files() -> Option<u64> {
    const FOLDER: &str = "/proc/self/fd";
    match std::fs::metadata(FOLDER).ok()?.len() {
        0 => Some(std::fs::read_dir(FOLDER).ok()?.count() as u64),
        open => Some(open),
    }
}

/// A file of procfs that stays open, with the buffer it is read into. One that cannot be opened is not tried again.
struct Kept(Option<Mutex<(File, Vec<u8>)>>);

/// Longest text that is looked at.
const BYTES_MAX: usize = 1 << 20;

impl Kept {
    fn new(path: &str) -> Kept {
        Kept(File::open(path).ok().map(|file| Mutex::new((file, vec![0; 1024]))))
    }

    /// Hands the whole text to `look`; nothing when it cannot be read.
    fn read(&self, look: impl FnOnce(&str)) {
        let Some(kept) = &self.0 else { return };
        let mut kept = kept.lock();
        let (file, buffer) = &mut *kept;
        loop {
            // Both files are made in one piece, so that a read that leaves room has brought all.
            match file.read_at(buffer, 0) {
                Ok(length) if length < buffer.len() || length >= BYTES_MAX => {
                    return std::str::from_utf8(&buffer[..length]).map_or((), look);
                }
                Ok(length) => buffer.resize(length * 2, 0),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

/// Unix seconds at which the process began: the boot's, and its own ticks since.
fn started() -> Option<f64> {
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    Some(boot + field(&fields(&stat)?, 22) / TICKS)
}

/// The fields behind the program's name, which is in parentheses and may hold anything.
fn fields(stat: &str) -> Option<Vec<f64>> {
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
}

/// Numbers as in the manual, which counts from 1 and the name is field 2.
fn field(fields: &[f64], number: usize) -> f64 {
    fields.get(number - 3).copied().unwrap_or(0.0)
}

fn from_stat(stat: &str, families: &mut Vec<Family>) {
    let Some(fields) = fields(stat) else { return };
    let cpu = (field(&fields, 14) + field(&fields, 15)) / TICKS;
    families.push(Family::counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        cpu,
    ));
    let virtual_size = field(&fields, 23);
    families.push(Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_size));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as f64;
    let resident = field(&fields, 24) * page;
    families.push(Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.", resident));
}

/// Octets of the process's network namespace: a line of names, then one of numbers, for each protocol.
fn from_netstat(netstat: &str, families: &mut Vec<Family>) {
    let lines: Vec<&str> = netstat.lines().filter_map(|line| line.strip_prefix("IpExt: ")).collect();
    let [names, numbers] = lines.as_slice() else { return };
    let value = |wanted: &str| {
        let mut pairs = names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace());
        pairs.find(|(name, _)| *name == wanted).and_then(|(_, number)| number.parse().ok())
    };
    push_octets([value("InOctets"), value("OutOctets")], families);
}

fn push_octets(octets: [Option<f64>; 2], families: &mut Vec<Family>) {
    for (octets, (name, help)) in octets.into_iter().zip([
        ("process_network_receive_bytes_total", "Number of bytes received by the process over the network."),
        ("process_network_transmit_bytes_total", "Number of bytes sent by the process over the network."),
    ]) {
        families.extend(octets.map(|octets| Family::counter(name, help, octets)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exposition::MetricValue;

    fn value(families: &[Family], name: &str) -> Option<MetricValue> {
        families.iter().find(|family| family.name == name).map(|family| family.metrics[0].value.clone())
    }

    fn count(value: f64) -> Option<MetricValue> {
        Some(MetricValue::Counter { value, exemplar: None, start: None })
    }

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let mut families = Vec::new();
        from_stat("7 (a) b (c) S 1 1 1 0 -1 4 5 6 7 8 150 50 0 0 20 0 9 0 100 4096000 10 184", &mut families);
        assert_eq!(value(&families, "process_cpu_seconds_total"), count(2.0));
        assert_eq!(value(&families, "process_virtual_memory_bytes"), Some(MetricValue::Gauge(4_096_000.0)));
    }

    #[test]
    fn octets_are_found_by_name() {
        let mut families = Vec::new();
        let text = "TcpExt: InOctets X\nTcpExt: 1 2\nIpExt: InNoRoutes InOctets OutOctets\nIpExt: 5 600 7000\n";
        from_netstat(text, &mut families);
        assert_eq!(value(&families, "process_network_receive_bytes_total"), count(600.0));
        assert_eq!(value(&families, "process_network_transmit_bytes_total"), count(7000.0));
    }

    #[test]
    fn known_octets_are_not_read_again() {
        let registry = Registry::new();
        process_collector_told(&registry, &Clock::system(), || Some([5.0, 6.0]));
        let families = registry.gather();
        assert_eq!(value(&families, "process_network_receive_bytes_total"), count(5.0));
        assert_eq!(value(&families, "process_network_transmit_bytes_total"), count(6.0));
    }

    #[test]
    fn this_process_has_a_size_and_began_before_now() {
        let (registry, clock) = (Registry::new(), Clock::system());
        process_collector(&registry, &clock);
        let families = registry.gather();
        let gauge = |name: &str| match value(&families, name) {
            Some(MetricValue::Gauge(value)) => value,
            other => panic!("{name}: {other:?}"),
        };
        assert!(gauge("process_resident_memory_bytes") > 100_000.0);
        let age = clock.unix_ms() as f64 / 1000.0 - gauge("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "began {age} s ago");
    }
}
