//! Network device counters: netlink `RTM_GETLINK` for the network of this process, or `/proc/net/dev` below the prefix.
//!
//! Truth: the kernel's `struct rtnl_link_stats64` and `net/core/net-procfs.c`. Without detailed names the figures are
//! added up as the file shows them.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use crate::links::{self, Link};
use crate::netlink::{GET_ADDRESS, Netlink, address, attributes_after, u32_at};
use cli::Flag;
use std::net::IpAddr;

pub(super) const COLLECTOR: Collector = Collector {
    name: "netdev",
    enabled: true,
    flags,
    deprecated: &[("collector.netdev.device-whitelist", INCLUDE), ("collector.netdev.device-blacklist", EXCLUDE)],
    build,
};

const PATH: &str = "net/dev";
const INCLUDE: &str = "collector.netdev.device-include";
const EXCLUDE: &str = "collector.netdev.device-exclude";
const NETLINK: &str = "collector.netdev.netlink";
const ADDRESSES: &str = "collector.netdev.address-info";
const DETAILED: &str = "collector.netdev.enable-detailed-metrics";
const ALIAS: &str = "collector.netdev.label-ifalias";
/// Bytes of an `ifaddrmsg`.
const ADDRESS_HEAD: usize = 8;
const ADDRESS_OF_PEER: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;

/// The columns of the file, left to right: the name shown, and the one with detailed names where that differs.
const COLUMNS: [(&str, &str); 16] = [
    ("receive_bytes", "receive_bytes"),
    ("receive_packets", "receive_packets"),
    ("receive_errs", "receive_errors"),
    ("receive_drop", "receive_dropped"),
    ("receive_fifo", "receive_fifo"),
    ("receive_frame", "receive_frame"),
    ("receive_compressed", "receive_compressed"),
    ("receive_multicast", "receive_multicast"),
    ("transmit_bytes", "transmit_bytes"),
    ("transmit_packets", "transmit_packets"),
    ("transmit_errs", "transmit_errors"),
    ("transmit_drop", "transmit_dropped"),
    ("transmit_fifo", "transmit_fifo"),
    ("transmit_colls", "transmit_colls"),
    ("transmit_carrier", "transmit_carrier"),
    ("transmit_compressed", "transmit_compressed"),
];

/// What is shown without detailed names, and the sums it is made of.
const SUMS: [(&str, &[&str]); 17] = [
    ("receive_bytes", &["receive_bytes"]),
    ("receive_packets", &["receive_packets"]),
    ("receive_errs", &["receive_errors"]),
    ("receive_drop", &["receive_dropped", "receive_missed_errors"]),
    ("receive_fifo", &["receive_fifo_errors"]),
    ("receive_frame", &["receive_frame_errors", "receive_length_errors", "receive_over_errors", "receive_crc_errors"]),
    ("receive_compressed", &["receive_compressed"]),
    ("receive_multicast", &["multicast"]),
    ("receive_nohandler", &["receive_nohandler"]),
    ("transmit_bytes", &["transmit_bytes"]),
    ("transmit_packets", &["transmit_packets"]),
    ("transmit_errs", &["transmit_errors"]),
    ("transmit_drop", &["transmit_dropped"]),
    ("transmit_fifo", &["transmit_fifo_errors"]),
    ("transmit_colls", &["collisions"]),
    (
        "transmit_carrier",
        &["transmit_carrier_errors", "transmit_aborted_errors", "transmit_heartbeat_errors", "transmit_window_errors"],
    ),
    ("transmit_compressed", &["transmit_compressed"]),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show").without_default(),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out").without_default(),
        Flag::boolean(NETLINK, true, "Show the network of this process instead of the one below --path.procfs"),
        Flag::boolean(ADDRESSES, false, "Show the addresses of the devices"),
        Flag::boolean(DETAILED, false, "Show every figure under the kernel's name for it"),
        Flag::boolean(ALIAS, false, "Add the alias of a device as a label"),
    ]
}

struct Netdev {
    filter: Filter,
    own: bool,
    addresses: bool,
    detailed: bool,
    alias: bool,
    sums: Sums,
}

/// [`SUMS`] with positions in [`links::FIGURES`].
type Sums = Vec<(&'static str, Vec<usize>)>;

fn sums() -> Sums {
    let position = |part: &&str| links::FIGURES.iter().position(|figure| figure == part);
    SUMS.iter().map(|(name, parts)| (*name, parts.iter().filter_map(position).collect())).collect()
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let on = |flag| settings.parsed.bool(flag);
    Ok(Box::new(Netdev {
        filter: settings.filter(INCLUDE, EXCLUDE)?,
        own: on(NETLINK),
        addresses: on(ADDRESSES),
        detailed: on(DETAILED),
        alias: on(ALIAS),
        sums: sums(),
    }))
}

impl Gather for Netdev {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        if self.own {
            for link in host.links().read(host.round())?.iter().filter(|link| !self.filter.ignores(&link.name)) {
                let alias = self.alias.then_some(link.alias.as_str());
                self.link(link, alias, out);
            }
        } else {
            self.file(host, out)?;
        }
        if self.addresses {
            self.show_addresses(host, out)?;
        }
        Ok(())
    }
}

impl Netdev {
    fn link(&self, link: &Link, alias: Option<&str>, out: &mut Families) {
        let Some(figures) = &link.figures else { return };
        if self.detailed {
            for (name, value) in links::FIGURES.iter().zip(figures) {
                counter(name, &link.name, alias, *value as f64, out);
            }
            return;
        }
        for (name, parts) in &self.sums {
            let part = |position: &usize| figures.get(*position).copied().unwrap_or(0);
            let sum = parts.iter().map(part).fold(0u64, u64::wrapping_add);
            counter(name, &link.name, alias, sum as f64, out);
        }
    }

    fn file(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = host.read_proc(PATH)?;
        for line in text.lines().skip(2) {
            let Some((device, rest)) = line.rsplit_once(':') else { continue };
            let device = device.trim();
            if self.filter.ignores(device) {
                continue;
            }
            let alias = self.alias.then(|| host.sys_value(&format!("class/net/{device}/ifalias")).unwrap_or_default());
            for ((short, detailed), field) in COLUMNS.iter().zip(rest.split_whitespace()) {
                let name = if self.detailed { detailed } else { short };
                counter(name, device, alias.as_deref(), number(PATH, field)?, out);
            }
        }
        Ok(())
    }

    fn show_addresses(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let links = host.links().read(host.round())?;
        let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.as_str());
        let answer = Netlink::route()?.dump(GET_ADDRESS, &[0; ADDRESS_HEAD])?;
        for (index, address, prefix) in answer.iter().filter_map(parse_address) {
            let Some(device) = name(index).filter(|name| !self.filter.ignores(name)) else { continue };
            let (shown, prefix) = (address.to_string(), prefix.to_string());
            let labels = [
                ("device", device),
                ("address", shown.as_str()),
                ("netmask", prefix.as_str()),
                ("scope", scope(address)),
            ];
            out.sample(Kind::Gauge, "node_network_address_info", "An address of a network device.", &labels, 1.0);
        }
        Ok(())
    }
}

/// Device index, address and length of its prefix.
fn parse_address(message: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (prefix, index) = (*message.get(1)?, u32_at(message, 4)?);
    let find = |wanted| {
        attributes_after(message, ADDRESS_HEAD).find(|(kind, _)| *kind == wanted).and_then(|(_, value)| address(value))
    };
    // On a point-to-point device the other attribute is the far end.
    Some((index, find(ADDRESS_LOCAL).or_else(|| find(ADDRESS_OF_PEER))?, prefix))
}

fn scope(address: IpAddr) -> &'static str {
    let near = match address {
        IpAddr::V4(address) => address.is_link_local() || address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => {
            if address.segments()[0] & 0xff0f == 0xff01 {
                return "interface-local";
            }
            address.is_unicast_link_local() || address.segments()[0] & 0xff0f == 0xff02
        }
    };
    match () {
        () if near || address.is_loopback() => "link-local",
        () if address.is_unspecified() || address.is_multicast() => "",
        () => "global",
    }
}

fn counter(name: &str, device: &str, alias: Option<&str>, value: f64, out: &mut Families) {
    let help = format_args!("The figure {name} of a network device.");
    let labels = [("device", device), ("ifalias", alias.unwrap_or(""))];
    let labels = if alias.is_some() { &labels[..] } else { &labels[..1] };
    out.put(Kind::Counter, format_args!("node_network_{name}_total"), help, labels, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::push_attribute;
    use crate::testing::Tree;

    const TEXT: &str = "Inter-| Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n    \
                        lo:435303245 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn the_file_below_the_prefix() {
        let tree = Tree::new().file("proc/net/dev", TEXT);
        let samples = tree.samples("netdev", &["--no-collector.netdev.netlink"]);
        assert!(samples.contains("node_network_receive_bytes_total{device=\"lo\"} 4.35303245e+08\n"), "{samples}");
        assert!(samples.contains("node_network_transmit_colls_total{device=\"eth0\"} 14\n"), "{samples}");
        assert!(!samples.contains("nohandler"), "{samples}");
    }

    #[test]
    fn old_names_still_filter() {
        let tree = Tree::new().file("proc/net/dev", TEXT);
        let flags = ["--no-collector.netdev.netlink", "--collector.netdev.device-blacklist=^lo$"];
        let samples = tree.samples("netdev", &flags);
        assert!(samples.contains("eth0") && !samples.contains("\"lo\""), "{samples}");
    }

    #[test]
    fn both_filters_are_a_conflict() {
        let flags = ["--collector.netdev.device-include=a", "--collector.netdev.device-exclude=b"];
        assert!(Tree::new().refusal(&flags).contains("mutually exclusive"));
        let flags = ["--collector.netdev.device-exclude=a", "--collector.netdev.device-blacklist=b"];
        assert!(Tree::new().refusal(&flags).contains("mutually exclusive"));
        assert!(Tree::new().refusal(&["--collector.netdev.device-include=("]).contains("device-include"));
    }

    #[test]
    fn figures_of_the_kernel() {
        let figures = std::array::from_fn(|position| 1 << position);
        let link = Link { name: "eth0".to_owned(), figures: Some(figures), ..Link::default() };
        let filter = Filter { include: None, exclude: None };
        let mut netdev = Netdev { filter, own: true, addresses: false, detailed: false, alias: false, sums: sums() };
        let show = |netdev: &Netdev, alias| {
            let mut out = Families::new();
            netdev.link(&link, alias, &mut out);
            String::from_utf8(out.finish().0).expect("text")
        };
        let text = show(&netdev, None);
        assert!(text.contains(&format!("receive_drop_total{{device=\"eth0\"}} {}\n", 64 + (1 << 15))), "{text}");
        let frame = (1 << 13) + (1 << 10) + (1 << 11) + (1 << 12);
        assert!(text.contains(&format!("receive_frame_total{{device=\"eth0\"}} {frame}\n")), "{text}");
        assert!(text.contains("receive_nohandler_total{device=\"eth0\"} 8.388608e+06\n"), "{text}");
        assert!(!text.contains("over_errors"), "{text}");
        netdev.detailed = true;
        let text = show(&netdev, Some("up link"));
        assert!(text.contains("node_network_collisions_total{device=\"eth0\",ifalias=\"up link\"} 512\n"), "{text}");
    }

    #[test]
    fn detailed_names_and_aliases_of_files() {
        let tree = Tree::new().file("proc/net/dev", TEXT).file("sys/class/net/eth0/ifalias", "uplink\n");
        let flags = [
            "--no-collector.netdev.netlink",
            "--collector.netdev.enable-detailed-metrics",
            "--collector.netdev.label-ifalias",
        ];
        let samples = tree.samples("netdev", &flags);
        let expected = "node_network_receive_dropped_total{device=\"eth0\",ifalias=\"uplink\"} 4\n";
        assert!(samples.contains(expected), "{samples}");
        assert!(samples.contains("ifalias=\"\"} 4.35303245e+08\n"), "{samples}");
    }

    #[test]
    fn addresses_and_their_scopes() {
        let mut message = vec![2, 24, 0, 0, 3, 0, 0, 0];
        push_attribute(&mut message, ADDRESS_OF_PEER, &[10, 0, 0, 1]);
        let found = parse_address(&message).map(|(index, address, prefix)| (index, address.to_string(), prefix));
        assert_eq!(found, Some((3, "10.0.0.1".to_owned(), 24)));
        push_attribute(&mut message, ADDRESS_LOCAL, &[10, 0, 0, 2]);
        assert_eq!(parse_address(&message).map(|(_, address, _)| address.to_string()).as_deref(), Some("10.0.0.2"));
        for (address, expected) in [
            ("127.0.0.1", "link-local"),
            ("169.254.1.1", "link-local"),
            ("fe80::1", "link-local"),
            ("ff02::1", "link-local"),
            ("ff01::1", "interface-local"),
            ("10.0.0.1", "global"),
            ("2001:db8::1", "global"),
            ("0.0.0.0", ""),
        ] {
            assert_eq!(scope(address.parse().expect("an address")), expected, "{address}");
        }
        let samples = Tree::new().samples("netdev", &["--collector.netdev.address-info"]);
        let expected =
            "node_network_address_info{address=\"127.0.0.1\",device=\"lo\",netmask=\"8\",scope=\"link-local\"} 1\n";
        assert!(samples.contains(expected), "{samples}");
    }
}
