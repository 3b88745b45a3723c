//! The names of PCI devices: a `pci.ids` file, whose form is described at its own top and at
//! <https://pci-ids.ucw.cz/read/PC>.

use super::Identity;
use crate::host::read_at;
use std::collections::HashMap;
use std::path::Path;

/// Where distributions put the file.
const PLACES: [&str; 2] = ["/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/// Names by number.
#[derive(Debug, Default)]
pub(super) struct Names {
    vendors: HashMap<u32, String>,
    devices: HashMap<(u32, u32), String>,
    subsystems: HashMap<[u32; 4], String>,
    classes: HashMap<u32, String>,
    subclasses: HashMap<(u32, u32), String>,
    interfaces: HashMap<[u32; 3], String>,
}

impl Names {
    /// Reads the file that was named or else the first of a distribution; without any there are no names.
    pub(super) fn load(named: &str) -> Names {
        let places: Vec<&str> = if named.is_empty() { PLACES.to_vec() } else { vec![named] };
        for place in &places {
            match read_at(Path::new(place)) {
                Ok(text) => return Names::parse(&text),
                Err(failure) => tracing::debug!(err = %failure, "no names of PCI devices there"),
            }
        }
        tracing::warn!(places = places.join(", "), "no names of PCI devices found, numbers are shown");
        Names::default()
    }

    /// Lines that are not understood are passed over.
    fn parse(text: &str) -> Names {
        let mut names = Names::default();
        // What the indented lines belong to.
        let (mut vendor, mut device) = (None, None);
        let (mut class, mut subclass) = (None, None);
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let depth = line.bytes().take_while(|byte| *byte == b'\t').count();
            let line = &line[depth..];
            match (depth, vendor, device, class, subclass) {
                (0, ..) => {
                    (vendor, device, class, subclass) = (None, None, None, None);
                    if let Some((number, name)) = line.strip_prefix("C ").and_then(entry) {
                        class = Some(number);
                        names.classes.insert(number, name);
                    } else if let Some((number, name)) = entry(line) {
                        vendor = Some(number);
                        names.vendors.insert(number, name);
                    }
                }
                (1, Some(vendor), ..) => {
                    device = entry(line).map(|(number, name)| {
                        names.devices.insert((vendor, number), name);
                        number
                    });
                }
                (1, _, _, Some(class), _) => {
                    subclass = entry(line).map(|(number, name)| {
                        names.subclasses.insert((class, number), name);
                        number
                    });
                }
                (2, Some(vendor), Some(device), ..) => {
                    let parts = line.split_once(' ').and_then(|(first, rest)| Some((hex(first)?, entry(rest)?)));
                    if let Some((owner, (number, name))) = parts {
                        names.subsystems.insert([vendor, device, owner, number], name);
                    }
                }
                (2, _, _, Some(class), Some(subclass)) => {
                    if let Some((number, name)) = entry(line) {
                        names.interfaces.insert([class, subclass, number], name);
                    }
                }
                _ => {}
            }
        }
        names
    }

    /// The five labels; what has no name shows its number.
    pub(super) fn labels(&self, device: &Identity) -> [(&'static str, String); 5] {
        let or_number = |name: Option<&String>, number: u32| name.cloned().unwrap_or_else(|| format!("{number:04x}"));
        let subsystem = [device.vendor, device.device, device.subsystem_vendor, device.subsystem_device];
        [
            ("vendor_name", or_number(self.vendors.get(&device.vendor), device.vendor)),
            ("device_name", or_number(self.devices.get(&(device.vendor, device.device)), device.device)),
            ("subsystem_vendor_name", or_number(self.vendors.get(&device.subsystem_vendor), device.subsystem_vendor)),
            ("subsystem_device_name", or_number(self.subsystems.get(&subsystem), device.subsystem_device)),
            ("class_name", self.class(device.class)),
        ]
    }

    /// The finest name there is.
    fn class(&self, number: u32) -> String {
        let (class, subclass, interface) = (number >> 16, (number >> 8) & 0xff, number & 0xff);
        let name = self
            .interfaces
            .get(&[class, subclass, interface])
            .or_else(|| self.subclasses.get(&(class, subclass)))
            .or_else(|| self.classes.get(&class));
        name.cloned().unwrap_or_else(|| format!("Unknown class ({number:06x})"))
    }
}

/// A number and the name after it.
fn entry(line: &str) -> Option<(u32, String)> {
    let (number, name) = line.split_once(' ')?;
    Some((hex(number)?, name.trim().to_owned()))
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{Identity, Names};

    #[test]
    fn names_and_what_stands_for_them() {
        let names = Names::parse(
            "# x\n8086  Intel\n\t1521  I350\n\t\t8086 00a3  OCP\nC 02  Network\n\t00  Ethernet\nbroken\n\tline\n\t\tx\n",
        );
        let device = Identity {
            class: 0x02_00_00,
            vendor: 0x8086,
            device: 0x1521,
            subsystem_vendor: 0x8086,
            subsystem_device: 0xa3,
        };
        assert_eq!(names.labels(&device).map(|(_, name)| name), ["Intel", "I350", "Intel", "OCP", "Ethernet"]);
        let device = Identity { class: 0x02_80_00, device: 1, subsystem_device: 2, ..device };
        assert_eq!(names.labels(&device).map(|(_, name)| name), ["Intel", "0001", "Intel", "0002", "Network"]);
        assert_eq!(names.class(0x01_08_02), "Unknown class (010802)");
    }
}
