//! Swap areas: `/proc/swaps`, see <https://docs.kernel.org/filesystems/proc.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "swap", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "swaps";
const KIB: f64 = 1024.0;

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for line in host.read_proc(PATH)?.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [device, kind, size, used, priority] = fields.as_slice() else {
            return Err(Failure::form(PATH, format!("line {line:?} has not five fields")));
        };
        let labels = [("device", *device), ("swap_type", *kind)];
        for (name, help, value) in [
            ("node_swap_size_bytes", "Size of a swap area.", number(PATH, size)? * KIB),
            ("node_swap_used_bytes", "Part of a swap area in use.", number(PATH, used)? * KIB),
            ("node_swap_priority", "Priority of a swap area.", number(PATH, priority)?),
        ] {
            out.sample(Kind::Gauge, name, help, &labels, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn one_area() {
        let text = "Filename\tType\tSize\tUsed\tPriority\n/dev/zram0   partition\t8\t2\t\t-2\n";
        assert_eq!(
            Tree::new().file("proc/swaps", text).samples("swap", &["--collector.swap"]),
            "node_swap_priority{device=\"/dev/zram0\",swap_type=\"partition\"} -2\n\
             node_swap_size_bytes{device=\"/dev/zram0\",swap_type=\"partition\"} 8192\n\
             node_swap_used_bytes{device=\"/dev/zram0\",swap_type=\"partition\"} 2048\n"
        );
    }
}
