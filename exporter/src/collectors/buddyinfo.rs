//! Free blocks of memory by order: `/proc/buddyinfo`, see <https://docs.kernel.org/filesystems/proc.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "buddyinfo",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "buddyinfo";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let mut orders = None;
    for line in host.read_proc(PATH)?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ["Node", node, "zone", zone, blocks @ ..] = fields.as_slice() else {
            return Err(Failure::form(PATH, format!("line {line:?}")));
        };
        if *orders.get_or_insert(blocks.len()) != blocks.len() {
            return Err(Failure::form(PATH, "zones have different numbers of columns"));
        }
        let node = node.trim_end_matches(',');
        for (order, count) in blocks.iter().enumerate() {
            let (order, count) = (order.to_string(), number(PATH, count)?);
            let labels = [("node", node), ("zone", *zone), ("size", order.as_str())];
            out.sample(Kind::Gauge, "node_buddyinfo_blocks", "Free blocks by power of two pages.", &labels, count);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn orders_by_zone() {
        let flags = ["--collector.buddyinfo"];
        let tree = Tree::new().file("proc/buddyinfo", "Node 0, zone      DMA      1      3 \n");
        assert_eq!(
            tree.samples("buddyinfo", &flags),
            "node_buddyinfo_blocks{node=\"0\",size=\"0\",zone=\"DMA\"} 1\n\
             node_buddyinfo_blocks{node=\"0\",size=\"1\",zone=\"DMA\"} 3\n"
        );
        let tree = Tree::new().file("proc/buddyinfo", "Knot 0, zone DMA 1\n");
        assert_eq!(tree.samples("buddyinfo", &flags), "");
    }
}
