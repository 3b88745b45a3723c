//! Control group subsystems of version 1: `/proc/cgroups`, see `cgroups(7)`.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector = Collector {
    name: "cgroups",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "cgroups";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for line in host.read_proc(PATH)?.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, _, groups, enabled] = fields.as_slice() else {
            return Err(Failure::form(PATH, format!("line {line:?} has not four fields")));
        };
        let labels = [("subsys_name", *name)];
        let help = "Control groups of a subsystem.";
        out.sample(Kind::Gauge, "node_cgroups_cgroups", help, &labels, number(PATH, groups)?);
        let help = "1 when a subsystem is on.";
        out.sample(Kind::Gauge, "node_cgroups_enabled", help, &labels, number(PATH, enabled)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn one_subsystem() {
        let text = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t3\t172\t1\n";
        let samples = Tree::new().file("proc/cgroups", text).samples("cgroups", &["--collector.cgroups"]);
        let expected = "node_cgroups_cgroups{subsys_name=\"cpu\"} 172\nnode_cgroups_enabled{subsys_name=\"cpu\"} 1\n";
        assert_eq!(samples, expected);
    }
}
