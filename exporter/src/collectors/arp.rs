//! Neighbours by device: `/proc/net/arp`.
//!
//! Upstream can ask by netlink instead, for the network of its own process; the same entries are in this process's
//! `/proc/net/arp`, which is read then.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, read_at};
use cli::Flag;
use std::collections::BTreeMap;
use std::path::Path;

pub(super) const COLLECTOR: Collector = Collector { name: "arp", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "net/arp";
const INCLUDE: &str = "collector.arp.device-include";
const EXCLUDE: &str = "collector.arp.device-exclude";
const NETLINK: &str = "collector.arp.netlink";

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show"),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out"),
        Flag::boolean(NETLINK, true, "Show the network of this process instead of the one below --path.procfs"),
    ]
}

struct Arp {
    filter: Filter,
    own: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: settings.pattern(INCLUDE)?, exclude: settings.pattern(EXCLUDE)? };
    Ok(Box::new(Arp { filter, own: settings.parsed.bool(NETLINK) }))
}

impl Gather for Arp {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = if self.own { read_at(Path::new("/proc/net/arp"))? } else { host.read_proc(PATH)? };
        let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
        for line in text.lines().skip(1) {
            let device = line.split_whitespace().nth(5).ok_or_else(|| Failure::form(PATH, format!("line {line:?}")))?;
            if !self.filter.ignores(device) {
                *entries.entry(device).or_default() += 1;
            }
        }
        for (device, count) in entries {
            out.sample(Kind::Gauge, "node_arp_entries", "Neighbours by device.", &[("device", device)], count as f64);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn entries_by_device() {
        let text = "IP address HW type Flags HW address Mask Device\n10.0.0.1 0x1 0x2 cc:aa * eth0\n10.0.0.2 0x1 0x2 cc:ab \
                    * eth0\n10.0.0.3 0x1 0x2 cc:ac * nope\n";
        let tree = Tree::new().file("proc/net/arp", text);
        let flags = ["--no-collector.arp.netlink", "--collector.arp.device-exclude=nope"];
        assert_eq!(tree.samples("arp", &flags), "node_arp_entries{device=\"eth0\"} 2\n");
    }
}
