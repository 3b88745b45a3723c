//! Interrupts, context switches, forks, boot time and run queue of `/proc/stat`; soft interrupts when asked.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "stat", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "stat";
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

fn flags() -> Vec<Flag> {
    vec![Flag::boolean("collector.stat.softirq", false, "Show soft interrupts by vector")]
}

struct Stat {
    softirq: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Stat { softirq: settings.parsed.bool("collector.stat.softirq") }))
}

impl Gather for Stat {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for line in host.read_stat()?.lines() {
            let mut fields = line.split_ascii_whitespace();
            let (Some(key), Some(first)) = (fields.next(), fields.next()) else { continue };
            let (name, help, kind) = match key {
                "intr" => ("node_intr_total", "Interrupts serviced since boot.", Kind::Counter),
                "ctxt" => ("node_context_switches_total", "Context switches since boot.", Kind::Counter),
                "processes" => ("node_forks_total", "Processes and threads created since boot.", Kind::Counter),
                "btime" => ("node_boot_time_seconds", "When the machine booted, in Unix time.", Kind::Gauge),
                "procs_running" => ("node_procs_running", "Processes that want a processor.", Kind::Gauge),
                "procs_blocked" => ("node_procs_blocked", "Processes that wait for input or output.", Kind::Gauge),
                "softirq" if self.softirq => {
                    for (vector, field) in VECTORS.iter().zip(fields) {
                        let help = "Soft interrupts by vector.";
                        let labels = [("vector", *vector)];
                        out.sample(Kind::Counter, "node_softirqs_total", help, &labels, number(PATH, field)?);
                    }
                    continue;
                }
                _ => continue,
            };
            out.sample(kind, name, help, &[], number(PATH, first)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    const TEXT: &str = "cpu  1 2 3 4 5 6 7 8 0 0\nintr 8885917 17 0\nctxt 38014093\nbtime 1418183276\n\
                        processes 26442\nprocs_running 2\nprocs_blocked 1\nsoftirq 55 1 2 3 4 5 6 7 8 9 10\n";

    #[test]
    fn the_named_lines() {
        let samples = Tree::new().file("proc/stat", TEXT).samples("stat", &[]);
        assert_eq!(
            samples,
            "node_boot_time_seconds 1.418183276e+09\nnode_context_switches_total 3.8014093e+07\n\
             node_forks_total 26442\nnode_intr_total 8.885917e+06\nnode_procs_blocked 1\nnode_procs_running 2\n"
        );
    }

    #[test]
    fn soft_interrupts_when_asked() {
        let samples = Tree::new().file("proc/stat", TEXT).samples("stat", &["--collector.stat.softirq"]);
        assert!(samples.contains("node_softirqs_total{vector=\"rcu\"} 10\n"), "{samples}");
    }
}
