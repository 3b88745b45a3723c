//! Btrfs file systems: `/sys/fs/btrfs`, see <https://btrfs.readthedocs.io/en/latest/ch-sysfs.html>.
//!
//! A file that is missing or broken counts as 0, as upstream does.
//!
//! Left out: unused bytes and error counts of devices, which only an ioctl on a mounted file system tells; without the
//! right to call it upstream shows what is here.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "btrfs", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "fs/btrfs";
const SECTOR_BYTES: f64 = 512.0;
const MILLI: f64 = 1000.0;

/// Keys of `commit_stats`: type, name after `node_btrfs_`, divisor, help.
const COMMITS: &[(&str, Kind, &str, f64, &str)] = &[
    ("commits", Kind::Counter, "commits_total", 1.0, "Commits."),
    ("last_commit_ms", Kind::Gauge, "last_commit_seconds", MILLI, "Time the last commit took."),
    ("max_commit_ms", Kind::Gauge, "max_commit_seconds", MILLI, "Time the longest commit took."),
    ("total_commit_ms", Kind::Counter, "commit_seconds_total", MILLI, "Time all commits took."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = match host.sys_list(FOLDER) {
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    for uuid in names.iter().filter(|name| name.contains('-') && host.sys(&format!("{FOLDER}/{name}")).is_dir()) {
        let folder = format!("{FOLDER}/{uuid}");
        let label = host.sys_value(&format!("{folder}/label")).unwrap_or_default();
        let labels = [("label", label.as_str()), ("uuid", uuid.as_str())];
        out.sample(Kind::Gauge, "node_btrfs_info", "What a file system is called.", &labels, 1.0);
        let reserve = host.sys_number(&format!("{folder}/allocation/global_rsv_size")).unwrap_or(0.0);
        let help = "Size of the global reserve.";
        out.sample(Kind::Gauge, "node_btrfs_global_rsv_size_bytes", help, &labels[1..], reserve);
        commits(host, &folder, uuid, out)?;
        let devices = host.sys_list(&format!("{folder}/devices"))?;
        for device in &devices {
            let sectors = host.sys_number(&format!("{folder}/devices/{device}/size")).unwrap_or(0.0);
            let labels = [("device", device.as_str()), ("uuid", uuid.as_str())];
            let help = "Size of a device.";
            out.sample(Kind::Gauge, "node_btrfs_device_size_bytes", help, &labels, sectors * SECTOR_BYTES);
        }
        for group in ["data", "metadata", "system"] {
            allocation(host, &folder, uuid, group, devices.len(), out)?;
        }
    }
    Ok(())
}

/// Kernels before 6.0 do not have the file; zeros are shown then, as upstream does.
fn commits(host: &Host, folder: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let path = format!("{folder}/commit_stats");
    let text = match host.sys_table(&path) {
        Err(failure) if failure.is_absent() => String::new(),
        other => other?,
    };
    for (key, kind, name, divisor, help) in COMMITS {
        let found = text.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| found == key));
        let value = found.map_or(Ok(0.0), |(_, value)| number(&path, value.trim()))?;
        out.sample(*kind, &format!("node_btrfs_{name}"), help, &[("uuid", uuid)], value / divisor);
    }
    Ok(())
}

fn allocation(
    host: &Host,
    folder: &str,
    uuid: &str,
    group: &str,
    devices: usize,
    out: &mut Families,
) -> Result<(), Failure> {
    let folder = format!("{folder}/allocation/{group}");
    let modes = match host.sys_folders(&folder) {
        // A file system of mixed groups has no folder for each.
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    let reserved = host.sys_number(&format!("{folder}/bytes_reserved")).unwrap_or(0.0);
    let labels = [("block_group_type", group), ("uuid", uuid)];
    out.sample(Kind::Gauge, "node_btrfs_reserved_bytes", "Bytes reserved in a kind of group.", &labels, reserved);
    for mode in &modes {
        let labels = [("block_group_type", group), ("mode", mode.as_str()), ("uuid", uuid)];
        let used = host.sys_number(&format!("{folder}/{mode}/used_bytes")).unwrap_or(0.0);
        let size = host.sys_number(&format!("{folder}/{mode}/total_bytes")).unwrap_or(0.0);
        out.sample(Kind::Gauge, "node_btrfs_used_bytes", "Bytes in use in a kind of group.", &labels, used);
        out.sample(Kind::Gauge, "node_btrfs_size_bytes", "Bytes of a kind of group.", &labels, size);
        let help = "Bytes on devices for one byte of data.";
        out.sample(Kind::Gauge, "node_btrfs_allocation_ratio", help, &labels, ratio(mode, devices));
    }
    Ok(())
}

/// How many bytes on devices one byte of data takes; 0 for a mode nobody knows.
fn ratio(mode: &str, devices: usize) -> f64 {
    let devices = devices as f64;
    let of_parity = |parity: f64| if devices > parity { devices / (devices - parity) } else { 0.0 };
    match mode {
        "single" | "raid0" => 1.0,
        "dup" | "raid1" | "raid10" => 2.0,
        "raid1c3" => 3.0,
        "raid1c4" => 4.0,
        "raid5" => of_parity(1.0),
        "raid6" => of_parity(2.0),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::ratio;
    use crate::testing::Tree;

    #[test]
    fn ratios() {
        for (mode, devices, expected) in
            [("single", 1, 1.0), ("raid1c4", 4, 4.0), ("raid5", 3, 1.5), ("raid6", 2, 0.0), ("raid7", 9, 0.0)]
        {
            assert_eq!(ratio(mode, devices), expected, "{mode}");
        }
    }

    #[test]
    fn commits_of_a_new_kernel() {
        let folder = "sys/fs/btrfs/a-b";
        let tree = Tree::new()
            .file("sys/fs/btrfs/features/raid1c34", "0\n")
            .file(&format!("{folder}/label"), "\n")
            .file(&format!("{folder}/allocation/global_rsv_size"), "9\n")
            .file(&format!("{folder}/commit_stats"), "commits 3\nlast_commit_ms 1500\nmax_commit_ms 2000\n")
            .file(&format!("{folder}/devices/sda/size"), "2\n");
        let samples = tree.samples("btrfs", &[]);
        assert!(samples.contains("node_btrfs_last_commit_seconds{uuid=\"a-b\"} 1.5\n"), "{samples}");
        assert!(samples.contains("node_btrfs_device_size_bytes{device=\"sda\",uuid=\"a-b\"} 1024\n"), "{samples}");
        assert!(!samples.contains("reserved"), "{samples}");
        assert_eq!(Tree::new().samples("btrfs", &[]), "");
    }
}
