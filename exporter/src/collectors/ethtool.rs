//! What drivers of network devices say about themselves: link settings, driver and statistics by `SIOCETHTOOL`.
//!
//! Names of statistics are the driver's; two that become equal are both left out.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::attributes::{not_offered, sanitize};
use crate::ethtool::{Driver, Ethtool, Settings as Link};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use re2::Regex;
use std::collections::BTreeMap;
use std::io;

pub(super) const COLLECTOR: Collector = Collector { name: "ethtool", enabled: false, flags, deprecated: &[], build };

const FOLDER: &str = "class/net";
const INCLUDE: &str = "collector.ethtool.device-include";
const EXCLUDE: &str = "collector.ethtool.device-exclude";
const METRICS: &str = "collector.ethtool.metrics-include";
const AUTONEGOTIATION: u32 = 6;
const PAUSE: u32 = 13;
const ASYMMETRIC_PAUSE: u32 = 14;

/// Bit and name of the ports.
const PORTS: [(u32, &str); 6] = [(7, "TP"), (8, "AUI"), (9, "MII"), (10, "FIBRE"), (11, "BNC"), (16, "Backplane")];

/// Bit, Mbit/s, duplex and mode of the speeds the old settings can name.
const SPEEDS: [(u32, f64, &str, &str); 23] = [
    (0, 10.0, "half", "10baseT"),
    (1, 10.0, "full", "10baseT"),
    (2, 100.0, "half", "100baseT"),
    (3, 100.0, "full", "100baseT"),
    (4, 1000.0, "half", "1000baseT"),
    (5, 1000.0, "full", "1000baseT"),
    (12, 10_000.0, "full", "10000baseT"),
    (15, 2500.0, "full", "2500baseX"),
    (17, 1000.0, "full", "1000baseKX"),
    (18, 10_000.0, "full", "10000baseKX4"),
    (19, 10_000.0, "full", "10000baseKR"),
    (20, 10_000.0, "full", "10000baseR_FEC"),
    (21, 20_000.0, "full", "20000baseMLD2"),
    (22, 20_000.0, "full", "20000baseKR2"),
    (23, 40_000.0, "full", "40000baseKR4"),
    (24, 40_000.0, "full", "40000baseCR4"),
    (25, 40_000.0, "full", "40000baseSR4"),
    (26, 40_000.0, "full", "40000baseLR4"),
    (27, 56_000.0, "full", "56000baseKR4"),
    (28, 56_000.0, "full", "56000baseCR4"),
    (29, 56_000.0, "full", "56000baseSR4"),
    (30, 56_000.0, "full", "56000baseLR4"),
    (31, 25_000.0, "full", "25000baseCR"),
];

/// Statistics whose families have had fixed names for long.
const RENAMED: [(&str, &str); 7] = [
    ("rx_bytes", "received_bytes_total"),
    ("rx_dropped", "received_dropped_total"),
    ("rx_errors", "received_errors_total"),
    ("rx_packets", "received_packets_total"),
    ("tx_bytes", "transmitted_bytes_total"),
    ("tx_errors", "transmitted_errors_total"),
    ("tx_packets", "transmitted_packets_total"),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, "", "Pattern of the devices to show").without_default(),
        Flag::string(EXCLUDE, "", "Pattern of the devices to leave out").without_default(),
        Flag::string(METRICS, ".*", "Pattern of the statistics to show"),
    ]
}

struct Devices {
    filter: Filter,
    metrics: Option<Regex>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Devices { filter: settings.filter(INCLUDE, EXCLUDE)?, metrics: settings.pattern(METRICS)? }))
}

impl Gather for Devices {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let call = |source| Failure::Call { call: "opening a socket for ethtool", source };
        let ethtool = Ethtool::open().map_err(call)?;
        let names = host.sys_folders(FOLDER).map_err(Failure::absent_is_no_data)?;
        for device in names.iter().filter(|name| !self.filter.ignores(name)) {
            self.device(&ethtool, device, out);
        }
        Ok(())
    }
}

impl Devices {
    /// What one device says; what it does not offer is left out.
    fn device(&self, ethtool: &Ethtool, device: &str, out: &mut Families) {
        match ethtool.settings(device) {
            Ok(link) => show_link(device, &link, out),
            Err(error) => note(device, "link settings", &error),
        }
        let driver = match ethtool.driver(device) {
            Ok(driver) => driver,
            Err(error) => return note(device, "the driver", &error),
        };
        show_driver(device, &driver, out);
        match ethtool.statistics(device, &driver) {
            Ok(statistics) => self.show_statistics(device, &statistics, out),
            Err(error) => note(device, "statistics", &error),
        }
    }

    fn show_statistics(&self, device: &str, statistics: &[(String, u64)], out: &mut Families) {
        let mut families: BTreeMap<String, Option<(&str, u64)>> = BTreeMap::new();
        for (name, value) in statistics {
            let shown = sanitize(name);
            if self.metrics.as_ref().is_some_and(|pattern| !pattern.is_match(&shown)) {
                continue;
            }
            let entry = families.entry(family(&shown));
            entry.and_modify(|taken| *taken = None).or_insert(Some((name, *value)));
        }
        for (family, statistic) in &families {
            let Some((name, value)) = statistic else {
                tracing::debug!(device, family, "two statistics would have this name, both are left out");
                continue;
            };
            let fixed = RENAMED.iter().find(|(old, _)| old == name).map(|(_, new)| *new);
            let family = format!("node_ethtool_{}", fixed.unwrap_or(family));
            let help = format!("The driver's statistic {name}.");
            out.sample(Kind::Untyped, &family, &help, &[("device", device)], *value as f64);
        }
    }
}

fn note(device: &str, what: &str, error: &io::Error) {
    if not_offered(error) {
        tracing::debug!(device, what, %error, "ethtool does not say");
    } else {
        tracing::error!(device, what, %error, "ethtool failed");
    }
}

/// The part of the family's name that comes from a statistic's.
fn family(name: &str) -> String {
    let name = name.to_lowercase();
    let name = replace_word(name.trim_start_matches('_'), "rx", "received");
    replace_word(&name, "tx", "transmitted")
}

/// Replaces a word between underscores. Of two in a row the second stays, because they share the underscore.
fn replace_word(name: &str, word: &str, by: &str) -> String {
    let mut replaced = false;
    let words = name.split('_').map(|part| {
        replaced = part == word && !replaced;
        if replaced { by } else { part }
    });
    words.collect::<Vec<_>>().join("_")
}

fn show_link(device: &str, link: &Link, out: &mut Families) {
    let bit = |modes: u32, bit: u32| modes & (1 << bit) != 0;
    for (prefix, modes) in [("supported", link.supported), ("advertised", link.advertised)] {
        for (name, wanted) in
            [("autonegotiate", AUTONEGOTIATION), ("pause", PAUSE), ("asymmetricpause", ASYMMETRIC_PAUSE)]
        {
            let (family, value) = (format!("node_network_{name}_{prefix}"), f64::from(u8::from(bit(modes, wanted))));
            let help = format!("1 when {name} is {prefix} by a network device.");
            out.sample(Kind::Gauge, &family, &help, &[("device", device)], value);
        }
        for (_, mbit, duplex, mode) in SPEEDS.iter().filter(|(wanted, ..)| bit(modes, *wanted)) {
            let labels = [("device", device), ("duplex", *duplex), ("mode", *mode)];
            let help = format!("A speed that is {prefix} by a network device, in bytes a second.");
            let family = format!("node_network_{prefix}_speed_bytes");
            out.sample(Kind::Gauge, &family, &help, &labels, mbit * 1e6 / 8.0);
        }
    }
    for (_, port) in PORTS.iter().filter(|(wanted, _)| bit(link.supported, *wanted)) {
        let labels = [("device", device), ("type", *port)];
        out.sample(Kind::Gauge, "node_network_supported_port_info", "A port a network device has.", &labels, 1.0);
    }
    let help = "1 when a network device negotiates.";
    let negotiates = f64::from(link.negotiates);
    out.sample(Kind::Gauge, "node_network_autonegotiate", help, &[("device", device)], negotiates);
}

fn show_driver(device: &str, driver: &Driver, out: &mut Families) {
    let labels = [
        ("bus_info", driver.bus.as_str()),
        ("device", device),
        ("driver", driver.name.as_str()),
        ("expansion_rom_version", driver.expansion_rom.as_str()),
        ("firmware_version", driver.firmware.as_str()),
        ("version", driver.version.as_str()),
    ];
    out.sample(Kind::Gauge, "node_ethtool_info", "What drives a network device.", &labels, 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(out: Families) -> String {
        String::from_utf8(out.finish().0).expect("text")
    }

    #[test]
    fn names_of_statistics() {
        let check = |name: &str, expected: &str| assert_eq!(family(&sanitize(name)), expected, "{name}");
        check("port.rx_dropped", "port_received_dropped");
        check("tx_single_collisions", "transmitted_single_collisions");
        check("Rx Queue 0", "received_queue_0");
        check("_tx", "transmitted");
        check("rx_rx_rx", "received_rx_received");
        check("prx_txq", "prx_txq");
    }

    #[test]
    fn statistics_that_collide_are_left_out() {
        let filter = Filter { include: None, exclude: None };
        let devices = Devices { filter, metrics: Regex::new("^[^c]*$").ok() };
        let statistics: Vec<(String, u64)> = [
            ("rx_packets", 5),
            ("port.rx_dropped", 12_028),
            ("duplicate metri", 1),
            ("duplicate_metri", 2),
            ("collisions", 3),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        let mut out = Families::new();
        devices.show_statistics("eth0", &statistics, &mut out);
        let text = text(out);
        assert!(!text.contains("packets") && !text.contains("collisions"), "the pattern excludes a letter: {text}");
        assert!(text.contains("# TYPE node_ethtool_port_received_dropped untyped\n"), "{text}");
        assert!(text.contains("node_ethtool_port_received_dropped{device=\"eth0\"} 12028\n"), "{text}");
        assert!(!text.contains("duplicate"), "{text}");
    }

    #[test]
    fn settings_as_bits() {
        let modes = 1 << 0 | 1 << 5 | 1 << AUTONEGOTIATION | 1 << 7 | 1 << PAUSE;
        let mut out = Families::new();
        show_link("eth0", &Link { supported: modes, advertised: 1 << 5, negotiates: 1 }, &mut out);
        let text = text(out);
        for line in [
            "node_network_autonegotiate{device=\"eth0\"} 1\n",
            "node_network_autonegotiate_supported{device=\"eth0\"} 1\n",
            "node_network_autonegotiate_advertised{device=\"eth0\"} 0\n",
            "node_network_pause_supported{device=\"eth0\"} 1\n",
            "node_network_asymmetricpause_supported{device=\"eth0\"} 0\n",
            "node_network_supported_port_info{device=\"eth0\",type=\"TP\"} 1\n",
            "node_network_supported_speed_bytes{device=\"eth0\",duplex=\"half\",mode=\"10baseT\"} 1.25e+06\n",
            "node_network_advertised_speed_bytes{device=\"eth0\",duplex=\"full\",mode=\"1000baseT\"} 1.25e+08\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
