//! Network device counters. Truth: `net/dev_seq_printf_stats` of the kernel.
//!
//! Upstream asks the kernel by netlink, which means the network of the exporter's own process, whatever the procfs
//! prefix says. The same figures are in `/proc/net/dev` of this process, so with `--collector.netdev.netlink` that file
//! is read, and without it the file below the prefix. Left out: detailed names, address-info and ifalias.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number, read_at};
use cli::Flag;
use std::path::Path;

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

/// The columns of the file, left to right.
const COLUMNS: [&str; 16] = [
    "receive_bytes",
    "receive_packets",
    "receive_errs",
    "receive_drop",
    "receive_fifo",
    "receive_frame",
    "receive_compressed",
    "receive_multicast",
    "transmit_bytes",
    "transmit_packets",
    "transmit_errs",
    "transmit_drop",
    "transmit_fifo",
    "transmit_colls",
    "transmit_carrier",
    "transmit_compressed",
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show"),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out"),
        Flag::boolean(NETLINK, true, "Show the network of this process instead of the one below --path.procfs"),
        Flag::boolean("collector.netdev.address-info", false, "Accepted for compatibility, shows nothing"),
        Flag::boolean("collector.netdev.enable-detailed-metrics", false, "Accepted for compatibility"),
        Flag::boolean("collector.netdev.label-ifalias", false, "Accepted for compatibility"),
    ]
}

struct Netdev {
    filter: Filter,
    own: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    for flag in ["address-info", "enable-detailed-metrics", "label-ifalias"] {
        if settings.parsed.bool(&format!("collector.netdev.{flag}")) {
            tracing::warn!(flag, "this netdev flag has no effect in this build");
        }
    }
    Ok(Box::new(Netdev { filter: settings.filter(INCLUDE, EXCLUDE)?, own: settings.parsed.bool(NETLINK) }))
}

impl Gather for Netdev {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = if self.own { read_at(Path::new("/proc/net/dev"))? } else { host.read_proc(PATH)? };
        for line in text.lines().skip(2) {
            let Some((device, rest)) = line.rsplit_once(':') else { continue };
            let device = device.trim();
            if self.filter.ignores(device) {
                continue;
            }
            for (name, field) in COLUMNS.iter().zip(rest.split_whitespace()) {
                counter(name, device, number(PATH, field)?, out);
            }
            if self.own {
                let path = format!("/sys/class/net/{device}/statistics/rx_nohandler");
                let value = read_at(Path::new(&path)).ok().and_then(|text| text.trim().parse().ok());
                counter("receive_nohandler", device, value.unwrap_or(0.0), out);
            }
        }
        Ok(())
    }
}

fn counter(name: &str, device: &str, value: f64, out: &mut Families) {
    let help = format!("The figure {name} of a network device.");
    out.sample(Kind::Counter, &format!("node_network_{name}_total"), &help, &[("device", device)], value);
}

#[cfg(test)]
mod tests {
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
}
