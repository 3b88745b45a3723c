//! Time on and in line for a processor: `/proc/schedstat`, see <https://docs.kernel.org/scheduler/sched-stats.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "schedstat",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "schedstat";

/// Position after the processor's name, family, factor, help.
const FIELDS: &[(usize, &str, f64, &str)] = &[
    (6, "node_schedstat_running_seconds_total", 1e9, "Time a processor ran tasks."),
    (7, "node_schedstat_waiting_seconds_total", 1e9, "Time tasks waited for a processor."),
    (8, "node_schedstat_timeslices_total", 1.0, "Time slices a processor ran."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for line in host.read_proc(PATH).map_err(Failure::absent_is_no_data)?.lines() {
        let Some((name, rest)) = line.split_once(' ') else { continue };
        let Some(cpu) = name.strip_prefix("cpu") else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        for (position, family, divisor, help) in FIELDS {
            let field =
                fields.get(*position).ok_or_else(|| Failure::form(PATH, "a cpu line of fewer than 9 fields"))?;
            out.sample(Kind::Counter, family, help, &[("cpu", cpu)], number(PATH, field)? / divisor);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn nano_seconds_become_seconds() {
        let text = "version 15\ntimestamp 1\ncpu3 498494191 0 3533438552 2553969831 3853684107 2465731542 \
                    2045936778163039 343796328169361 4767485306\ndomain0 00000003\n";
        let samples = Tree::new().file("proc/schedstat", text).samples("schedstat", &[]);
        let line = "node_schedstat_running_seconds_total{cpu=\"3\"} 2.045936778163039e+06\n";
        assert!(samples.contains(line), "{samples}");
        assert!(samples.contains("node_schedstat_timeslices_total{cpu=\"3\"} 4.767485306e+09\n"), "{samples}");
        assert!(Tree::new().failure("schedstat").contains("no data"));
    }
}
