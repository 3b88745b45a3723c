//! `process_*`: what the kernel says of this process, from `/proc/self`.

use crate::Registry;
use exposition::Family;
use runtime::Clock;

/// Ticks per second of `/proc/self/stat`: fixed by the kernel's user interface.
const TICKS: f64 = 100.0;

/// Registers `process_*`. On hosts without `/proc` the families are absent.
pub fn process_collector(registry: &Registry, clock: &Clock) {
    let started = clock.unix_ms() as f64 / 1000.0;
    registry.collect(move |families| {
        if let Ok(stat) = std::fs::read_to_string("/proc/self/stat") {
            from_stat(&stat, families);
        }
        families.push(Family::gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            started,
        ));
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            families.push(Family::gauge("process_open_fds", "Number of open file descriptors.", open.count() as f64));
        }
        if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
            families.push(Family::gauge("process_max_fds", "Maximum number of open file descriptors.", soft as f64));
        }
    });
}

/// The fields behind the program's name, which is in parentheses and may hold anything.
fn from_stat(stat: &str, families: &mut Vec<Family>) {
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<f64> = rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
    // Numbers as in proc_pid_stat(5), which counts from 1 and the name is field 2.
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    let cpu = (field(14) + field(15)) / TICKS;
    families.push(Family::counter(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        cpu,
    ));
    families.push(Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", field(23)));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as f64;
    families.push(Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.", field(24) * page));
}

#[cfg(test)]
mod tests {
    use super::*;
    use exposition::MetricValue;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let mut families = Vec::new();
        from_stat("7 (a) b (c) S 1 1 1 0 -1 4 5 6 7 8 150 50 0 0 20 0 9 0 100 4096000 10 184", &mut families);
        let value = |name: &str| families.iter().find(|f| f.name == name).map(|f| f.metrics[0].value.clone());
        assert_eq!(
            value("process_cpu_seconds_total"),
            Some(MetricValue::Counter { value: 2.0, exemplar: None, start: None })
        );
        assert_eq!(value("process_virtual_memory_bytes"), Some(MetricValue::Gauge(4_096_000.0)));
    }

    #[test]
    fn this_process_has_a_size() {
        let registry = Registry::new();
        process_collector(&registry, &Clock::system());
        let families = registry.gather();
        let resident = families.iter().find(|f| f.name == "process_resident_memory_bytes").expect("on Linux");
        assert!(matches!(resident.metrics[0].value, MetricValue::Gauge(bytes) if bytes > 100_000.0));
    }
}
