//! Memory by node: `/sys/devices/system/node/node*/meminfo` and `numastat`, see
//! <https://docs.kernel.org/admin-guide/numastat.html>. Whatever fields the kernel writes are shown.

use super::{Collector, no_flags};
use crate::attributes::digits_after;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "meminfo_numa",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "devices/system/node";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for name in host.sys_numbered(FOLDER, "node") {
        let Some(node) = digits_after(&name, "node") else { continue };
        let labels = [("node", node)];
        let path = format!("{FOLDER}/{name}/meminfo");
        for line in host.sys_table(&path)?.lines().filter(|line| !line.trim().is_empty()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (field, value) = match fields.as_slice() {
                [_, _, field, value] => (field, number(&path, value)?),
                [_, _, field, value, "kB"] => (field, number(&path, value)? * 1024.0),
                _ => return Err(Failure::form(&path, format!("line {line:?}"))),
            };
            let field = field.trim_end_matches(':').replace('(', "_").replace(')', "");
            let help = format!("The field {field} of a node's meminfo.");
            out.sample(Kind::Gauge, &format!("node_memory_numa_{field}"), &help, &labels, value);
        }
        let path = format!("{FOLDER}/{name}/numastat");
        for line in host.sys_table(&path)?.lines().filter(|line| !line.trim().is_empty()) {
            let wrong = || Failure::form(&path, format!("line {line:?}"));
            let (field, value) = line.split_once(' ').ok_or_else(wrong)?;
            let help = format!("The figure {field} of a node's numastat.");
            let value = number(&path, value.trim())?;
            out.sample(Kind::Counter, &format!("node_memory_numa_{field}_total"), &help, &labels, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn two_files_a_node() {
        let tree = Tree::new()
            .file(
                "sys/devices/system/node/node1/meminfo",
                "Node 1 Active(anon):     2 kB\nNode 1 HugePages_Total:     3\n",
            )
            .file("sys/devices/system/node/node1/numastat", "numa_hit 7\n")
            .file("sys/devices/system/node/possible", "1\n");
        assert_eq!(
            tree.samples("meminfo_numa", &["--collector.meminfo_numa"]),
            "node_memory_numa_Active_anon{node=\"1\"} 2048\nnode_memory_numa_HugePages_Total{node=\"1\"} 3\n\
             node_memory_numa_numa_hit_total{node=\"1\"} 7\n"
        );
    }
}
