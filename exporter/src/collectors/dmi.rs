//! What the firmware says of the machine: `/sys/class/dmi/id`, read once at start because it cannot change.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "dmi", enabled: true, flags: super::no_flags, deprecated: &[], build };

const FOLDER: &str = "class/dmi/id";

/// File and label.
const FILES: &[(&str, &str)] = &[
    ("bios_date", "bios_date"),
    ("bios_release", "bios_release"),
    ("bios_vendor", "bios_vendor"),
    ("bios_version", "bios_version"),
    ("board_asset_tag", "board_asset_tag"),
    ("board_name", "board_name"),
    ("board_serial", "board_serial"),
    ("board_vendor", "board_vendor"),
    ("board_version", "board_version"),
    ("chassis_asset_tag", "chassis_asset_tag"),
    ("chassis_serial", "chassis_serial"),
    ("chassis_vendor", "chassis_vendor"),
    ("chassis_version", "chassis_version"),
    ("product_family", "product_family"),
    ("product_name", "product_name"),
    ("product_serial", "product_serial"),
    ("product_sku", "product_sku"),
    ("product_uuid", "product_uuid"),
    ("product_version", "product_version"),
    ("sys_vendor", "system_vendor"),
];

struct Dmi {
    labels: Vec<(&'static str, String)>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let value = |file: &str| settings.host.sys_value(&format!("{FOLDER}/{file}")).ok();
    let labels = FILES.iter().filter_map(|(file, label)| Some((*label, value(file)?))).collect();
    Ok(Box::new(Dmi { labels }))
}

impl Gather for Dmi {
    fn gather(&self, _: &Host, out: &mut Families) -> Result<(), Failure> {
        if self.labels.is_empty() {
            return Err(Failure::NoData("the firmware says nothing of this machine".to_owned()));
        }
        let labels: Vec<(&str, &str)> = self.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        out.sample(Kind::Gauge, "node_dmi_info", "What the firmware says of this machine.", &labels, 1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn a_label_for_each_readable_file() {
        let tree = Tree::new()
            .file("sys/class/dmi/id/sys_vendor", "Dell Inc.\n")
            .file("sys/class/dmi/id/chassis_asset_tag", "\n");
        let expected = "node_dmi_info{chassis_asset_tag=\"\",system_vendor=\"Dell Inc.\"} 1\n";
        assert_eq!(tree.samples("dmi", &[]), expected);
        assert!(Tree::new().failure("dmi").contains("no data"));
    }
}
