//! Block devices: `/proc/diskstats`, see <https://docs.kernel.org/admin-guide/iostats.html>, with what udev knows.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, Stamp, number, stamp, udev_properties};
use cli::Flag;
use hashbrown::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

pub(super) const COLLECTOR: Collector = Collector {
    name: "diskstats",
    enabled: true,
    flags,
    deprecated: &[("collector.diskstats.ignored-devices", EXCLUDE)],
    build,
};

const PATH: &str = "diskstats";
const INCLUDE: &str = "collector.diskstats.device-include";
const EXCLUDE: &str = "collector.diskstats.device-exclude";
const EXCLUDED: &str = r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$";
const SECTOR_BYTES: f64 = 512.0;
/// Multiplied, not divided by 1000: the last digit of the answer differs.
const MILLI: f64 = 0.001;

/// The fields in the kernel's order: type, name after `node_disk_`, factor, help.
const FIELDS: &[(Kind, &str, f64, &str)] = &[
    (Kind::Counter, "reads_completed_total", 1.0, "Reads that ended well."),
    (Kind::Counter, "reads_merged_total", 1.0, "Reads joined with a neighbour."),
    (Kind::Counter, "read_bytes_total", SECTOR_BYTES, "Bytes read."),
    (Kind::Counter, "read_time_seconds_total", MILLI, "Time of all reads."),
    (Kind::Counter, "writes_completed_total", 1.0, "Writes that ended well."),
    (Kind::Counter, "writes_merged_total", 1.0, "Writes joined with a neighbour."),
    (Kind::Counter, "written_bytes_total", SECTOR_BYTES, "Bytes written."),
    (Kind::Counter, "write_time_seconds_total", MILLI, "Time of all writes."),
    (Kind::Gauge, "io_now", 1.0, "Requests under way."),
    (Kind::Counter, "io_time_seconds_total", MILLI, "Time with a request under way."),
    (Kind::Counter, "io_time_weighted_seconds_total", MILLI, "Time weighted by requests under way."),
    (Kind::Counter, "discards_completed_total", 1.0, "Discards that ended well."),
    (Kind::Counter, "discards_merged_total", 1.0, "Discards joined with a neighbour."),
    (Kind::Counter, "discarded_sectors_total", 1.0, "Sectors discarded."),
    (Kind::Counter, "discard_time_seconds_total", MILLI, "Time of all discards."),
    (Kind::Counter, "flush_requests_total", 1.0, "Flushes that ended well."),
    (Kind::Counter, "flush_requests_time_seconds_total", MILLI, "Time of all flushes."),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(EXCLUDE, EXCLUDED, "Pattern of the devices to leave out"),
        Flag::string(INCLUDE, "", "Pattern of the devices to show, instead of leaving some out").without_default(),
    ]
}

struct Diskstats {
    filter: Filter,
    disks: Mutex<HashMap<String, Disk>>,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Diskstats { filter: settings.filter(INCLUDE, EXCLUDE)?, disks: Mutex::default() }))
}

/// What does not change from scrape to scrape.
struct Disk {
    major: String,
    minor: String,
    /// What udev knows, and which state of its file that is.
    udev: Option<PathBuf>,
    stamp: Option<Stamp>,
    properties: Vec<(String, String)>,
    /// Path below sysfs.
    rotational: String,
    seen: bool,
}

impl Gather for Diskstats {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut disks = self.disks.lock().unwrap_or_else(PoisonError::into_inner);
        for disk in disks.values_mut() {
            disk.seen = false;
        }
        for line in host.read_proc(PATH)?.lines() {
            let mut fields = line.split_ascii_whitespace().peekable();
            let (Some(major), Some(minor), Some(device)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(Failure::form(PATH, "a line of fewer than three fields"));
            };
            if fields.peek().is_none() {
                return Err(Failure::form(PATH, format!("no figures of {device:?}")));
            }
            if self.filter.ignores(device) {
                continue;
            }
            let disk = disks.entry_ref(device).or_insert_with(|| Disk::new(host, major, minor, device));
            disk.refresh(host, major, minor, device);
            identity(host, disk, device, out);
            for ((kind, name, factor, help), field) in FIELDS.iter().zip(fields) {
                let value = number(PATH, field)? * factor;
                let (name, help) = (format_args!("node_disk_{name}"), format_args!("{help}"));
                out.put(*kind, name, help, &[("device", device)], value);
            }
        }
        disks.retain(|_, disk| disk.seen);
        Ok(())
    }
}

impl Disk {
    fn new(host: &Host, major: &str, minor: &str, device: &str) -> Disk {
        Disk {
            major: major.to_owned(),
            minor: minor.to_owned(),
            udev: host.udev_path(&format!("b{major}:{minor}")),
            stamp: None,
            properties: Vec::new(),
            rotational: format!("block/{device}/queue/rotational"),
            seen: true,
        }
    }

    /// Reads udev's file again when it is another one than before.
    fn refresh(&mut self, host: &Host, major: &str, minor: &str, device: &str) {
        if self.major != major || self.minor != minor {
            *self = Disk::new(host, major, minor, device);
        }
        self.seen = true;
        let Some(path) = &self.udev else { return };
        let stamp = stamp(path);
        if stamp.is_none() || stamp != self.stamp {
            (self.stamp, self.properties) = (stamp, udev_properties(path));
        }
    }
}

fn identity(host: &Host, disk: &Disk, device: &str, out: &mut Families) {
    let known = |key: &str| disk.properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let property = |key: &str| known(key).unwrap_or("");
    let serial = ["SCSI_IDENT_SERIAL", "ID_SERIAL_SHORT", "ID_SERIAL"].iter().map(|key| property(key));
    let serial = serial.clone().find(|value| !value.is_empty()).unwrap_or("");
    let rotational = host.device_short(&disk.rotational).is_ok_and(|value| &*value == "1");
    let labels = [
        ("device", device),
        ("major", disk.major.as_str()),
        ("minor", disk.minor.as_str()),
        ("path", property("ID_PATH")),
        ("wwn", property("ID_WWN")),
        ("model", property("ID_MODEL")),
        ("serial", serial),
        ("revision", property("ID_REVISION")),
        ("rotational", if rotational { "1" } else { "0" }),
    ];
    out.sample(Kind::Gauge, "node_disk_info", "What a block device is.", &labels, 1.0);
    if !property("ID_FS_TYPE").is_empty() {
        let labels = [
            ("device", device),
            ("type", property("ID_FS_TYPE")),
            ("usage", property("ID_FS_USAGE")),
            ("uuid", property("ID_FS_UUID")),
            ("version", property("ID_FS_VERSION")),
        ];
        out.sample(Kind::Gauge, "node_disk_filesystem_info", "The file system on a device.", &labels, 1.0);
    }
    if !property("DM_NAME").is_empty() {
        let labels = [
            ("device", device),
            ("name", property("DM_NAME")),
            ("uuid", property("DM_UUID")),
            ("vg_name", property("DM_VG_NAME")),
            ("lv_name", property("DM_LV_NAME")),
            ("lv_layer", property("DM_LV_LAYER")),
        ];
        out.sample(Kind::Gauge, "node_disk_device_mapper_info", "What the device mapper made.", &labels, 1.0);
    }
    if known("ID_ATA").is_none() {
        return;
    }
    for (key, name, help) in [
        ("ID_ATA_WRITE_CACHE", "node_disk_ata_write_cache", "1 when the disk has a write cache."),
        ("ID_ATA_WRITE_CACHE_ENABLED", "node_disk_ata_write_cache_enabled", "1 when the write cache is on."),
        ("ID_ATA_ROTATION_RATE_RPM", "node_disk_ata_rotation_rate_rpm", "Turns a minute; 0 for a solid state disk."),
    ] {
        if let Some(value) = known(key).and_then(|value| value.parse().ok()) {
            out.sample(Kind::Gauge, name, help, &[("device", device)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    const TEXT: &str = "   8 0 sda 25354637 34367663 1003346126 18492372 28444756 11134226 505697032 63877960 0 9653880 \
                        82621804\n   8 1 sda1 1 2 3 4\n 259 0 nvme0n1 1 2 3 4\n";

    #[test]
    fn sectors_and_milliseconds() {
        let samples = Tree::new().file("proc/diskstats", TEXT).samples("diskstats", &[]);
        assert!(samples.contains("node_disk_read_bytes_total{device=\"sda\"} 5.13713216512e+11\n"), "{samples}");
        assert!(samples.contains("node_disk_io_time_seconds_total{device=\"sda\"} 9653.880000000001\n"), "{samples}");
        assert!(!samples.contains("sda1"), "{samples}");
        assert!(!samples.contains("discards"), "{samples}");
    }

    #[test]
    fn an_include_replaces_the_default_exclude() {
        let tree = Tree::new().file("proc/diskstats", TEXT);
        let samples = tree.samples("diskstats", &["--collector.diskstats.device-include=^sda1$"]);
        assert!(samples.contains("device=\"sda1\"") && !samples.contains("nvme0n1"), "{samples}");
    }

    #[test]
    fn what_udev_says_later_is_shown() {
        let tree = Tree::new().file("proc/diskstats", "8 0 sda 1\n").file("udev/b8:0", "E:ID_MODEL=First\n");
        let collection = tree.start(&[]).expect("start");
        let model = |name: &str| {
            let mut out = Families::new();
            collection.gather(&collection.select(&["diskstats".to_owned()], &[]).expect("one"), &mut out);
            String::from_utf8_lossy(&out.finish().0).contains(&format!("model=\"{name}\""))
        };
        assert!(model("First") && model("First"));
        // Another inode, as when udev replaces the file.
        let tree = tree.file("udev/fresh", "E:ID_MODEL=Second\n");
        std::fs::rename(tree.path("udev/fresh"), tree.path("udev/b8:0")).expect("renamed");
        assert!(model("Second"));
        let _tree = tree.file("proc/diskstats", "8 16 sda 1\n");
        assert!(model(""), "another device of the same name");
    }

    #[test]
    fn udev_tells_the_model() {
        let tree = Tree::new()
            .file("proc/diskstats", "8 0 sda 1\n")
            .file("sys/block/sda/queue/rotational", "1\n")
            .file("udev/b8:0", "S:x\nE:ID_MODEL=Disk_1\nE:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\nE:ID_FS_TYPE=xfs\n");
        let samples = tree.samples("diskstats", &[]);
        assert!(samples.contains("model=\"Disk_1\"") && samples.contains("serial=\"short\""), "{samples}");
        assert!(samples.contains("rotational=\"1\"") && samples.contains("type=\"xfs\""), "{samples}");
    }
}
