//! Attributes of network devices: `/sys/class/net`, see the kernel's `Documentation/ABI/testing/sysfs-class-net`, or,
//! with `--collector.netclass.netlink`, what netlink says about the network of this process.
//!
//! The netlink answer differs from the files as it does upstream: no `adminstate`, other names of a device, `dormant`
//! repeats the link mode, the statistics are gauges, and an unknown speed is 2^32-1 Mbit/s unless
//! `--collector.netclass.ignore-invalid-speed` is given.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::buffers::Short;
use crate::families::{Families, Kind};
use crate::generic::{Generic, HEAD};
use crate::host::{Failure, Host, read_at, to_number};
use crate::link_files::{FOLDER, Known, LinkFiles};
use crate::links::{FIGURES, Link};
use crate::netlink::{attributes, attributes_after, text as text_of, u32_at};
use cli::Flag;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector { name: "netclass", enabled: true, flags, deprecated: &[], build };

const IGNORED: &str = "collector.netclass.ignored-devices";
const NETLINK: &str = "collector.netclass.netlink";
const WITH_STATS: &str = "collector.netclass_rtnl.with-stats";
const LINK_MODES_GET: u8 = 4;
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
        Flag::boolean(NETLINK, false, "Ask by netlink instead of reading sysfs"),
        Flag::boolean(WITH_STATS, false, "Show the statistics too when asking by netlink"),
    ]
}

struct Netclass {
    filter: Filter,
    ignore_invalid_speed: bool,
    netlink: bool,
    with_stats: bool,
    files: Mutex<LinkFiles>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: None, exclude: settings.pattern(IGNORED)? };
    let on = |flag| settings.parsed.bool(flag);
    let (netlink, with_stats) = (on(NETLINK), on(WITH_STATS));
    let files = Mutex::default();
    Ok(Box::new(Netclass { filter, ignore_invalid_speed: on(INVALID_SPEED), netlink, with_stats, files }))
}

impl Gather for Netclass {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        if self.netlink {
            return self.asked(host, out);
        }
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(links) = files.devices(host)? {
            for (link, known) in links.iter().zip(files.known()).filter(|(link, _)| !self.filter.ignores(&link.name)) {
                self.link(host, link, known, out);
            }
            return Ok(());
        }
        let names = host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)?;
        for device in names.iter().filter(|name| !self.filter.ignores(name)) {
            if host.is_device(&format!("{FOLDER}/{device}")) {
                self.device(host, device, out)?;
            }
        }
        Ok(())
    }
}

impl Netclass {
    fn asked(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let modes = match link_modes() {
            Err(Failure::NoData(reason)) => {
                tracing::info!(reason, "speed and duplex of network devices are not shown");
                BTreeMap::new()
            }
            other => other?,
        };
        for link in host.links().read(host.round())?.iter().filter(|link| !self.filter.ignores(&link.name)) {
            let mode = modes.get(&link.name);
            show_link(link, mode, out);
            if let Some(mode) = mode.filter(|mode| mode.speed >= 0 && !(self.ignore_invalid_speed && mode.unknown())) {
                let help = "The attribute speed_bytes of a network device.";
                let (labels, speed) = ([("device", link.name.as_str())], (mode.speed * 1_000_000 / 8) as f64);
                out.sample(Kind::Gauge, "node_network_speed_bytes", help, &labels, speed);
            }
            if self.with_stats && link.figures.is_some() {
                show_figures(link, out);
            }
        }
        Ok(())
    }

    /// What the files say, out of netlink.
    fn link(&self, host: &Host, link: &Link, known: &Known, out: &mut Families) {
        let device = link.name.as_str();
        let up = link.is_up();
        let when_up = |value: u32| up.then_some(f64::from(value));
        let always = |value: u32| Some(f64::from(value));
        let speed = link.has_speed().then(|| known.speed(host)).flatten();
        for (kind, name, value) in [
            (Kind::Gauge, "address_assign_type", known.address_assign_type),
            (Kind::Gauge, "carrier", when_up(link.carrier.into())),
            (Kind::Counter, "carrier_changes_total", always(link.carrier_changes)),
            (Kind::Counter, "carrier_up_changes_total", always(link.carrier_up)),
            (Kind::Counter, "carrier_down_changes_total", always(link.carrier_down)),
            (Kind::Gauge, "device_id", known.device_id),
            (Kind::Gauge, "dormant", when_up(link.is_dormant().into())),
            (Kind::Gauge, "flags", always(link.file_flags())),
            (Kind::Gauge, "iface_id", always(link.index)),
            (Kind::Gauge, "iface_link", always(link.lower.unwrap_or(link.index))),
            (Kind::Gauge, "iface_link_mode", always(link.mode.into())),
            (Kind::Gauge, "mtu_bytes", always(link.mtu)),
            (Kind::Gauge, "name_assign_type", known.name_assign_type),
            (Kind::Gauge, "net_dev_group", always(link.group)),
            (Kind::Gauge, "transmit_queue_length", always(link.queue_length)),
            (Kind::Gauge, "protocol_type", always(link.hardware.into())),
            (Kind::Gauge, "up", always((link.state == "up").into())),
            (Kind::Gauge, "speed_bytes", speed.and_then(|speed| self.speed_bytes(speed))),
        ] {
            if let Some(value) = value {
                set(kind, name, device, value, out);
            }
        }
        let duplex = link.has_speed().then(|| known.duplex(host)).flatten();
        let labels = [
            ("device", device),
            ("address", link.address.as_str()),
            ("broadcast", link.broadcast.as_str()),
            ("duplex", duplex.as_deref().unwrap_or("")),
            ("operstate", link.state),
            ("adminstate", if up { "up" } else { "down" }),
            ("ifalias", as_file(&link.alias)),
        ];
        out.sample(Kind::Gauge, "node_network_info", "What a network device is.", &labels, 1.0);
    }

    /// A speed in Mbit/s as it is shown.
    fn speed_bytes(&self, speed: f64) -> Option<f64> {
        let shown = speed >= 0.0 || !self.ignore_invalid_speed;
        shown.then(|| ((speed as i64).saturating_mul(1_000_000) / 8) as f64)
    }

    fn device(&self, host: &Host, device: &str, out: &mut Families) -> Result<(), Failure> {
        let mut bits = None;
        for (attribute, kind, name) in NUMBERS {
            let Some(value) = number(host, device, attribute)? else { continue };
            if *attribute == "flags" {
                bits = Some(value as u64);
            }
            set(*kind, name, device, value, out);
        }
        let state = text(host, device, "operstate")?;
        set(Kind::Gauge, "up", device, f64::from(u8::from(state == "up")), out);
        if let Some(bytes) = number(host, device, "speed")?.and_then(|speed| self.speed_bytes(speed)) {
            set(Kind::Gauge, "speed_bytes", device, bytes, out);
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

fn set(kind: Kind, name: &str, device: &str, value: f64, out: &mut Families) {
    let help = format_args!("The attribute {name} of a network device.");
    out.put(kind, format_args!("node_network_{name}"), help, &[("device", device)], value);
}

/// A text as one read of its file brings it.
fn as_file(text: &str) -> &str {
    let mut end = text.len().min(Short::BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim()
}

/// Speed in Mbit/s, negative when the driver says none, and the word for the duplex mode.
#[derive(Debug, PartialEq)]
struct Mode {
    speed: i64,
    duplex: &'static str,
}

impl Mode {
    /// The kernel's number for a speed it does not know.
    fn unknown(&self) -> bool {
        self.speed == i64::from(u32::MAX)
    }
}

/// What the ethtool family says by device name.
fn link_modes() -> Result<BTreeMap<String, Mode>, Failure> {
    let answer = Generic::open("ethtool")?.dump(LINK_MODES_GET, &[])?;
    Ok(answer.iter().filter_map(link_mode).collect())
}

fn link_mode(message: &[u8]) -> Option<(String, Mode)> {
    let (mut name, mut mode) = (None, Mode { speed: -1, duplex: "Unknown" });
    for (kind, value) in attributes_after(message, HEAD) {
        match kind {
            1 => name = attributes(value).find(|(kind, _)| *kind == 2).map(|(_, name)| text_of(name)),
            5 => mode.speed = u32_at(value, 0).map_or(-1, i64::from),
            6 => {
                mode.duplex = match value.first() {
                    Some(0) => "Half",
                    Some(1) => "Full",
                    _ => "Unknown",
                };
            }
            _ => {}
        }
    }
    Some((name?, mode))
}

fn show_link(link: &Link, mode: Option<&Mode>, out: &mut Families) {
    let device = link.name.as_str();
    let mut set = |kind, name: &str, value: f64| set(kind, name, device, value, out);
    // Three attributes are in files only; their place is fixed, because the question concerns this process's network.
    for (attribute, name) in
        [("addr_assign_type", "address_assign_type"), ("dev_id", "device_id"), ("name_assign_type", "name_assign_type")]
    {
        if let Some(value) = own_attribute(device, attribute) {
            set(Kind::Gauge, name, value);
        }
    }
    set(Kind::Gauge, "up", f64::from(u8::from(link.state == "up")));
    set(Kind::Gauge, "carrier", f64::from(link.carrier));
    set(Kind::Counter, "carrier_changes_total", f64::from(link.carrier_changes));
    set(Kind::Counter, "carrier_up_changes_total", f64::from(link.carrier_up));
    set(Kind::Counter, "carrier_down_changes_total", f64::from(link.carrier_down));
    set(Kind::Gauge, "flags", f64::from(link.flags));
    set(Kind::Gauge, "iface_id", f64::from(link.index));
    set(Kind::Gauge, "iface_link", f64::from(link.lower.filter(|lower| *lower > 0).unwrap_or(link.index)));
    set(Kind::Gauge, "iface_link_mode", f64::from(link.mode));
    set(Kind::Gauge, "dormant", f64::from(link.mode));
    set(Kind::Gauge, "mtu_bytes", f64::from(link.mtu));
    set(Kind::Gauge, "net_dev_group", f64::from(link.group));
    set(Kind::Gauge, "transmit_queue_length", f64::from(link.queue_length));
    set(Kind::Gauge, "protocol_type", f64::from(link.hardware));
    for name in &link.other_names {
        let labels = [("device", device), ("altname", name.as_str())];
        out.sample(Kind::Gauge, "node_network_altnames_info", "Another name of a network device.", &labels, 1.0);
    }
    let labels = [
        ("device", device),
        ("address", link.address.as_str()),
        ("broadcast", link.broadcast.as_str()),
        ("duplex", mode.map_or("", |mode| mode.duplex)),
        ("operstate", link.state),
        ("ifalias", link.alias.as_str()),
    ];
    out.sample(Kind::Gauge, "node_network_info", "What a network device is.", &labels, 1.0);
}

fn own_attribute(device: &str, attribute: &str) -> Option<f64> {
    let text = read_at(Path::new(&format!("/sys/class/net/{device}/{attribute}"))).ok()?;
    match text.trim().strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|value| value as f64),
        None => text.trim().parse().ok(),
    }
}

fn show_figures(link: &Link, out: &mut Families) {
    for (name, value) in FIGURES.iter().zip(link.figures.iter().flatten()) {
        let help = format!("The figure {name} of a network device.");
        let labels = [("device", link.name.as_str())];
        out.sample(Kind::Gauge, &format!("node_network_{name}_total"), &help, &labels, *value as f64);
    }
}

fn number(host: &Host, device: &str, attribute: &str) -> Result<Option<f64>, Failure> {
    let path = format!("{FOLDER}/{device}/{attribute}");
    match host.device_value(&path).and_then(|text| to_number(&text)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        other => optional(host, &path, other),
    }
}

fn text(host: &Host, device: &str, attribute: &str) -> Result<String, Failure> {
    let path = format!("{FOLDER}/{device}/{attribute}");
    Ok(optional(host, &path, host.device_value(&path))?.unwrap_or_default())
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
    use super::*;
    use crate::netlink::push_attribute;
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
    fn netlink_says_what_the_files_say() {
        let tree = Tree::new();
        let files = |name: &str| {
            // A link to the same folder is another prefix, below which files are read.
            let text = tree.text(name, &[&format!("--path.sysfs={}", tree.path("link").display())]);
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        std::os::unix::fs::symlink("/sys", tree.path("link")).expect("link");
        let asked = tree.text("netclass", &["--path.sysfs=/sys"]);
        assert_eq!(asked.lines().collect::<Vec<_>>(), files("netclass"));
        assert!(asked.contains("node_network_flags{device=\"lo\"} "), "{asked}");
        assert_eq!(as_file(&format!(" {}", "ü".repeat(100))).len(), 126);
    }

    #[test]
    fn filters() {
        let samples = tree().samples("netclass", &["--collector.netclass.ignore-invalid-speed"]);
        assert!(!samples.contains("speed") && samples.contains("mtu_bytes"), "{samples}");
        assert_eq!(tree().samples("netclass", &["--collector.netclass.ignored-devices=eth"]), "");
        assert!(Tree::new().failure("netclass").contains("no data"));
    }

    #[test]
    fn link_modes_of_the_kernel() {
        let mut name = Vec::new();
        push_attribute(&mut name, 2, b"eth0\0");
        let mut message = vec![0; HEAD];
        push_attribute(&mut message, 1, &name);
        push_attribute(&mut message, 5, &1000u32.to_ne_bytes());
        push_attribute(&mut message, 6, &[1]);
        assert_eq!(link_mode(&message), Some(("eth0".to_owned(), Mode { speed: 1000, duplex: "Full" })));
        push_attribute(&mut message, 5, &u32::MAX.to_ne_bytes());
        assert_eq!(link_mode(&message).map(|(_, mode)| mode.unknown()), Some(true));
    }

    #[test]
    fn netlink_instead_of_files() {
        let flags = ["--collector.netclass.netlink", "--collector.netclass_rtnl.with-stats"];
        let text = Tree::new().text("netclass", &flags);
        for line in [
            "# TYPE node_network_receive_bytes_total gauge\n",
            "node_network_iface_id{device=\"lo\"} ",
            "node_network_info{address=\"00:00:00:00:00:00\",broadcast=\"00:00:00:00:00:00\",device=\"lo\",",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(!text.contains("adminstate"), "{text}");
    }
}
