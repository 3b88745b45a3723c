//! PCI devices: `/sys/bus/pci/devices`, see the kernel's `Documentation/ABI/testing/sysfs-bus-pci`. Names come from a
//! `pci.ids` file (<https://pci-ids.ucw.cz/>) when asked for.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

mod ids;
use ids::Names;

pub(super) const COLLECTOR: Collector = Collector { name: "pcidevice", enabled: false, flags, deprecated: &[], build };

const FOLDER: &str = "bus/pci/devices";
const NAMES: &str = "collector.pcidevice.names";
const FILE: &str = "collector.pcidevice.idsfile";
const POWER_STATES: [&str; 7] = ["D0", "D1", "D2", "D3hot", "D3cold", "unknown", "error"];
const GIGA: f64 = 1e9;

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(FILE, "", "The pci.ids file to take names from").without_default(),
        Flag::boolean(NAMES, false, "Show names from the pci.ids file"),
    ]
}

struct PciDevices {
    names: Option<Names>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let names = settings.parsed.bool(NAMES).then(|| Names::load(settings.parsed.str(FILE)));
    Ok(Box::new(PciDevices { names }))
}

impl Gather for PciDevices {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        for name in host.sys_list(FOLDER).map_err(Failure::absent_is_no_data)? {
            let location = Location::parse(&name)
                .ok_or_else(|| Failure::form(FOLDER, format!("{name:?} is not a place on the bus")))?;
            let folder = format!("{FOLDER}/{name}");
            self.identity(host, &folder, &location, out)?;
            figures(host, &folder, &location.labels(["segment", "bus", "device", "function"]), out)?;
        }
        Ok(())
    }
}

/// Segment, bus, device and function, as text.
#[derive(Debug, Clone, PartialEq)]
struct Location([String; 4]);

impl Location {
    /// `0000:00:02.1`.
    fn parse(name: &str) -> Option<Location> {
        let (rest, function) = name.split_once('.')?;
        let parts: Vec<&str> = rest.split(':').chain([function]).collect();
        let numbers: Vec<u32> = parts.iter().map(|part| u32::from_str_radix(part, 16).ok()).collect::<Option<_>>()?;
        let [segment, bus, device, function] = numbers.as_slice() else { return None };
        Some(Location([
            format!("{segment:04x}"),
            format!("{bus:02x}"),
            format!("{device:02x}"),
            format!("{function:x}"),
        ]))
    }

    /// The device above, by the path that the link leads to; stars at the root.
    fn parent(host: &Host, folder: &str) -> Location {
        let target = std::fs::read_link(host.sys(folder)).ok();
        let parent = target.as_deref().and_then(|target| target.parent()?.file_name()?.to_str());
        let root = || Location(["*"; 4].map(str::to_owned));
        parent.and_then(Location::parse).unwrap_or_else(root)
    }

    fn labels<'a>(&'a self, names: [&'a str; 4]) -> Vec<(&'a str, &'a str)> {
        names.into_iter().zip(self.0.iter().map(String::as_str)).collect()
    }
}

/// The numbers that say what a device is.
struct Identity {
    class: u32,
    vendor: u32,
    device: u32,
    subsystem_vendor: u32,
    subsystem_device: u32,
}

impl PciDevices {
    fn identity(&self, host: &Host, folder: &str, location: &Location, out: &mut Families) -> Result<(), Failure> {
        let hex = |file: &str| {
            let path = format!("{folder}/{file}");
            let text = host.sys_text(&path)?;
            let number = text.strip_prefix("0x").and_then(|digits| u32::from_str_radix(digits, 16).ok());
            number.ok_or_else(|| Failure::form(&path, format!("{text:?} is not hexadecimal")))
        };
        let (identity, revision) = (
            Identity {
                class: hex("class")?,
                vendor: hex("vendor")?,
                device: hex("device")?,
                subsystem_vendor: hex("subsystem_vendor")?,
                subsystem_device: hex("subsystem_device")?,
            },
            hex("revision")?,
        );
        let parent = Location::parent(host, folder);
        let mut labels = location.labels(["segment", "bus", "device", "function"]);
        labels.extend(parent.labels(["parent_segment", "parent_bus", "parent_device", "parent_function"]));
        let mut texts = vec![
            ("class_id", format!("0x{:06x}", identity.class)),
            ("vendor_id", format!("0x{:04x}", identity.vendor)),
            ("device_id", format!("0x{:04x}", identity.device)),
            ("subsystem_vendor_id", format!("0x{:04x}", identity.subsystem_vendor)),
            ("subsystem_device_id", format!("0x{:04x}", identity.subsystem_device)),
            ("revision", format!("0x{revision:02x}")),
        ];
        if let Some(names) = &self.names {
            texts.extend(names.labels(&identity));
        }
        labels.extend(texts.iter().map(|(name, text)| (*name, text.as_str())));
        out.sample(Kind::Gauge, "node_pcidevice_info", "What a device is.", &labels, 1.0);
        Ok(())
    }
}

fn figures(host: &Host, folder: &str, labels: &[(&str, &str)], out: &mut Families) -> Result<(), Failure> {
    let text = |file: &str| host.sys_optional(&format!("{folder}/{file}"));
    // The first word as a number; an attribute that is missing or unknown is no number.
    let number = |file: &str| {
        let Some(text) = text(file)?.filter(|text| !text.starts_with("Unknown")) else { return Ok(None) };
        let number = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
        number.map(Some).ok_or_else(|| Failure::form(&format!("{folder}/{file}"), format!("{text:?} is not a number")))
    };
    for which in ["max", "current"] {
        let speed = number(&format!("{which}_link_speed"))?.map_or(-1.0, |speed| speed * GIGA);
        let name = format!("node_pcidevice_{which}_link_transfers_per_second");
        out.sample(Kind::Gauge, &name, "Transfers a second of a link, -1 when unknown.", labels, speed);
        let width = number(&format!("{which}_link_width"))?.unwrap_or(-1.0);
        let name = format!("node_pcidevice_{which}_link_width");
        out.sample(Kind::Gauge, &name, "Lanes of a link, -1 when unknown.", labels, width);
    }
    for file in ["d3cold_allowed", "sriov_drivers_autoprobe", "sriov_numvfs", "sriov_totalvfs", "sriov_vf_total_msix"] {
        let value = number(file)?.unwrap_or(0.0);
        let help = format!("The attribute {file}, 0 for a device without it.");
        out.sample(Kind::Gauge, &format!("node_pcidevice_{file}"), &help, labels, value);
    }
    if let Some(node) = number("numa_node")?.filter(|node| *node != -1.0) {
        out.sample(Kind::Gauge, "node_pcidevice_numa_node", "The memory node of a device.", labels, node);
    }
    if let Some(present) = text("power_state")?.filter(|state| !state.is_empty()) {
        for state in POWER_STATES {
            let mut labels = labels.to_vec();
            labels.push(("state", state));
            let value = f64::from(u8::from(state == present));
            out.sample(Kind::Gauge, "node_pcidevice_power_state", "1 for the state of a device.", &labels, value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Location;
    use crate::testing::Tree;

    #[test]
    fn places() {
        let place = |name: &str| Location::parse(name).map(|place| place.0.join(" "));
        assert_eq!(place("0000:00:1f.1").as_deref(), Some("0000 00 1f 1"));
        assert_eq!(place("10000:00:02.1").as_deref(), Some("10000 00 02 1"));
        assert_eq!(place("pci0000:00"), None);
        assert_eq!(place("0000:00:02"), None);
    }

    #[test]
    fn a_device_without_a_link() {
        let mut tree = Tree::new();
        for (file, text) in [
            ("class", "0x060000"),
            ("vendor", "0x8086"),
            ("device", "0x0d57"),
            ("subsystem_vendor", "0x0000"),
            ("subsystem_device", "0x0000"),
            ("revision", "0x00"),
            ("max_link_speed", "Unknown"),
            ("numa_node", "-1"),
        ] {
            tree = tree.file(&format!("sys/bus/pci/devices/0000:00:00.0/{file}"), &format!("{text}\n"));
        }
        let samples = tree.samples("pcidevice", &["--collector.pcidevice"]);
        let labels = "{bus=\"00\",device=\"00\",function=\"0\",segment=\"0000\"}";
        assert!(samples.contains(&format!("node_pcidevice_max_link_transfers_per_second{labels} -1\n")), "{samples}");
        assert!(samples.contains(&format!("node_pcidevice_current_link_width{labels} -1\n")), "{samples}");
        assert!(samples.contains("class_id=\"0x060000\"") && samples.contains("parent_bus=\"*\""), "{samples}");
        assert!(!samples.contains("numa_node") && !samples.contains("power_state"), "{samples}");
    }
}
