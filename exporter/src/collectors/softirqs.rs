//! Soft interrupts by vector and processor: `/proc/softirqs`, see <https://docs.kernel.org/filesystems/proc.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "softirqs",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "softirqs";
const VECTORS: [&str; 10] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mut lines = text.lines();
    if lines.next().is_none() {
        return Err(Failure::form(PATH, "the file is empty"));
    }
    for line in lines {
        let Some((vector, counts)) = line.split_once(':') else { continue };
        let vector = vector.trim();
        if !VECTORS.contains(&vector) {
            continue;
        }
        for (cpu, count) in counts.split_whitespace().enumerate() {
            let (cpu, count) = (cpu.to_string(), number(PATH, count)?);
            let labels = [("cpu", cpu.as_str()), ("type", vector)];
            let help = "Soft interrupts by vector.";
            out.sample(Kind::Counter, "node_softirqs_functions_total", help, &labels, count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn a_column_a_processor() {
        let tree = Tree::new().file("proc/softirqs", "     CPU0  CPU1\n  HI:  7  1\n  NEW: 3 4\n");
        assert_eq!(
            tree.samples("softirqs", &["--collector.softirqs"]),
            "node_softirqs_functions_total{cpu=\"0\",type=\"HI\"} 7\nnode_softirqs_functions_total{cpu=\"1\",type=\"HI\"} 1\n"
        );
    }
}
