//! Neighbours by device: netlink `RTM_GETNEIGH` for the network of this process, or `/proc/net/arp` below the prefix.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use crate::netlink::{GET_NEIGHBOUR, Netlink, u16_at, u32_at};
use cli::Flag;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "arp", enabled: true, flags, deprecated: &[], build };

const PATH: &str = "net/arp";
const INCLUDE: &str = "collector.arp.device-include";
const EXCLUDE: &str = "collector.arp.device-exclude";
const NETLINK: &str = "collector.arp.netlink";
/// Bytes of an `ndmsg`.
const HEAD: usize = 12;
const INET: u8 = 2;
/// A neighbour that needs no resolution, such as that of the loopback device.
const NO_ARP: u16 = 0x40;

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show").without_default(),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out").without_default(),
        Flag::boolean(NETLINK, true, "Show the network of this process instead of the one below --path.procfs"),
    ]
}

struct Arp {
    filter: Filter,
    own: bool,
    socket: Mutex<Option<Netlink>>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: settings.pattern(INCLUDE)?, exclude: settings.pattern(EXCLUDE)? };
    Ok(Box::new(Arp { filter, own: settings.parsed.bool(NETLINK), socket: Mutex::default() }))
}

impl Gather for Arp {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let entries = if self.own { self.asked(host)? } else { listed(&host.read_proc(PATH)?)? };
        for (device, count) in entries.iter().filter(|(device, _)| !self.filter.ignores(device)) {
            out.sample(Kind::Gauge, "node_arp_entries", "Neighbours by device.", &[("device", device)], *count as f64);
        }
        Ok(())
    }
}

fn listed(text: &str) -> Result<BTreeMap<String, u64>, Failure> {
    let mut entries = BTreeMap::new();
    for line in text.lines().skip(1) {
        let device = line.split_whitespace().nth(5).ok_or_else(|| Failure::form(PATH, format!("line {line:?}")))?;
        *entries.entry(device.to_owned()).or_default() += 1;
    }
    Ok(entries)
}

impl Arp {
    fn asked(&self, host: &Host) -> Result<BTreeMap<String, u64>, Failure> {
        let mut request = [0; HEAD];
        request[0] = INET;
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // A socket that failed is not asked again.
        let mut netlink = socket.take().map_or_else(Netlink::route, Ok)?;
        let answer = netlink.dump(GET_NEIGHBOUR, &request)?;
        *socket = Some(netlink);
        let mut by_index: BTreeMap<u32, u64> = BTreeMap::new();
        for index in answer.iter().filter_map(neighbour) {
            *by_index.entry(index).or_default() += 1;
        }
        if by_index.is_empty() {
            return Ok(BTreeMap::new());
        }
        let links = host.links().read(host.round())?;
        let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
        Ok(by_index.iter().filter_map(|(index, count)| Some((name(*index)?, *count))).collect())
    }
}

/// The device of an entry that counts.
fn neighbour(message: &[u8]) -> Option<u32> {
    let counts = *message.first()? == INET && u16_at(message, 8)? & NO_ARP == 0;
    u32_at(message, 4).filter(|_| counts)
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

    #[test]
    fn entries_of_the_kernel() {
        let entry = |family: u8, state: u16| {
            let mut message = vec![family, 0, 0, 0, 7, 0, 0, 0];
            message.extend_from_slice(&state.to_ne_bytes());
            message.extend_from_slice(&[0, 1]);
            message
        };
        assert_eq!(super::neighbour(&entry(2, 2)), Some(7));
        assert_eq!(super::neighbour(&entry(2, 0x40)), None);
        assert_eq!(super::neighbour(&entry(10, 2)), None);
        assert!(Tree::new().start(&[]).expect("start").failure("arp").is_none());
    }
}
