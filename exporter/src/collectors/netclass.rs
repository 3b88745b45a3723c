//! Attributes of network devices: `/sys/class/net`, see the kernel's `Documentation/ABI/testing/sysfs-class-net`.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;
use std::io;

pub(super) const COLLECTOR: Collector = Collector { name: "netclass", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "class/net";
const IGNORED: &str = "collector.netclass.ignored-devices";
const INVALID_SPEED: &str = "collector.netclass.ignore-invalid-speed";
/// EINVAL and EOPNOTSUPP: the driver does not have the attribute.
const NOT_THERE: [i32; 2] = [22, 95];

/// Attribute, type, name after `node_network_`.
const NUMBERS: &[(&str, Kind, &str)] = &[
    ("addr_assign_type", Kind::Gauge, "address_assign_type"),
    ("carrier", Kind::Gauge, "carrier"),
    ("carrier_changes", Kind::Counter, "carrier_changes_total"),
    ("carrier_up_count", Kind::Counter, "carrier_up_changes_total"),
    ("carrier_down_count", Kind::Counter, "carrier_down_changes_total"),
    ("dev_id", Kind::Gauge, "device_id"),
    ("dormant", Kind::Gauge, "dormant"),
    ("flags", Kind::Gauge, "flags"),
    ("ifindex", Kind::Gauge, "iface_id"),
    ("iflink", Kind::Gauge, "iface_link"),
    ("link_mode", Kind::Gauge, "iface_link_mode"),
    ("mtu", Kind::Gauge, "mtu_bytes"),
    ("name_assign_type", Kind::Gauge, "name_assign_type"),
    ("netdev_group", Kind::Gauge, "net_dev_group"),
    ("tx_queue_len", Kind::Gauge, "transmit_queue_length"),
    ("type", Kind::Gauge, "protocol_type"),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(IGNORED, "^$", "Pattern of the devices to leave out"),
        Flag::boolean(INVALID_SPEED, false, "Leave out a negative speed"),
        Flag::boolean("collector.netclass.netlink", false, "Accepted for compatibility, sysfs is read"),
        Flag::boolean("collector.netclass_rtnl.with-stats", false, "Accepted for compatibility"),
    ]
}

struct Netclass {
    filter: Filter,
    ignore_invalid_speed: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: None, exclude: settings.pattern(IGNORED)? };
    Ok(Box::new(Netclass { filter, ignore_invalid_speed: settings.parsed.bool(INVALID_SPEED) }))
}

impl Gather for Netclass {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let names = host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)?;
        for device in names.iter().filter(|name| !self.filter.ignores(name)) {
            if host.sys(&format!("{FOLDER}/{device}")).is_dir() {
                self.device(host, device, out)?;
            }
        }
        Ok(())
    }
}

impl Netclass {
    fn device(&self, host: &Host, device: &str, out: &mut Families) -> Result<(), Failure> {
        let mut set = |kind, name: &str, value| {
            let help = format!("The attribute {name} of a network device.");
            out.sample(kind, &format!("node_network_{name}"), &help, &[("device", device)], value);
        };
        let mut bits = None;
        for (attribute, kind, name) in NUMBERS {
            let Some(value) = number(host, device, attribute)? else { continue };
            if *attribute == "flags" {
                bits = Some(value as u64);
            }
            set(*kind, name, value);
        }
        let state = text(host, device, "operstate")?;
        set(Kind::Gauge, "up", f64::from(u8::from(state == "up")));
        if let Some(speed) = number(host, device, "speed")?
            && (speed >= 0.0 || !self.ignore_invalid_speed)
        {
            set(Kind::Gauge, "speed_bytes", ((speed as i64).saturating_mul(1_000_000) / 8) as f64);
        }
        let address = text(host, device, "address")?;
        let broadcast = text(host, device, "broadcast")?;
        let duplex = text(host, device, "duplex")?;
        let alias = text(host, device, "ifalias")?;
        let labels = [
            ("device", device),
            ("address", address.as_str()),
            ("broadcast", broadcast.as_str()),
            ("duplex", duplex.as_str()),
            ("operstate", state.as_str()),
            ("adminstate", bits.map_or("unknown", |bits| if bits & 1 == 1 { "up" } else { "down" })),
            ("ifalias", alias.as_str()),
        ];
        out.sample(Kind::Gauge, "node_network_info", "What a network device is.", &labels, 1.0);
        Ok(())
    }
}

fn number(host: &Host, device: &str, attribute: &str) -> Result<Option<f64>, Failure> {
    let path = format!("{FOLDER}/{device}/{attribute}");
    match host.sys_number(&path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        other => optional(host, &path, other),
    }
}

fn text(host: &Host, device: &str, attribute: &str) -> Result<String, Failure> {
    let path = format!("{FOLDER}/{device}/{attribute}");
    Ok(optional(host, &path, host.sys_value(&path))?.unwrap_or_default())
}

fn optional<T>(host: &Host, path: &str, result: io::Result<T>) -> Result<Option<T>, Failure> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
        Err(error) if error.raw_os_error().is_some_and(|code| NOT_THERE.contains(&code)) => Ok(None),
        Err(source) => Err(Failure::Read { path: host.sys(path), source }),
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    fn tree() -> Tree {
        Tree::new()
            .file("sys/class/net/bonding_masters", "bond0\n")
            .file("sys/class/net/eth0/flags", "0x1303\n")
            .file("sys/class/net/eth0/operstate", "up\n")
            .file("sys/class/net/eth0/speed", "-1\n")
            .file("sys/class/net/eth0/mtu", "1500\n")
    }

    #[test]
    fn attributes_of_one_device() {
        let samples = tree().samples("netclass", &[]);
        assert!(samples.contains("node_network_flags{device=\"eth0\"} 4867\n"), "{samples}");
        assert!(samples.contains("node_network_speed_bytes{device=\"eth0\"} -125000\n"), "{samples}");
        assert!(samples.contains("adminstate=\"up\"") && !samples.contains("bonding_masters"), "{samples}");
    }

    #[test]
    fn filters() {
        let samples = tree().samples("netclass", &["--collector.netclass.ignore-invalid-speed"]);
        assert!(!samples.contains("speed") && samples.contains("mtu_bytes"), "{samples}");
        assert_eq!(tree().samples("netclass", &["--collector.netclass.ignored-devices=eth"]), "");
        assert!(Tree::new().failure("netclass").contains("no data"));
    }
}
