//! Multipath devices of the device mapper: `/sys/block/dm-*` whose identity begins with `mpath-`, and the states of the
//! devices below them.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use std::io::ErrorKind;

pub(super) const COLLECTOR: Collector = Collector {
    name: "dmmultipath",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "block";
const SECTOR_BYTES: f64 = 512.0;

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = host.sys_list(FOLDER).map_err(missing)?;
    for name in names.iter().filter(|name| name.starts_with("dm-")) {
        let folder = format!("{FOLDER}/{name}");
        let Some(uuid) = host.sys_optional(&format!("{folder}/dm/uuid"))? else { continue };
        if uuid.starts_with("mpath-") {
            device(host, &folder, name, &uuid, out).map_err(missing)?;
        }
    }
    Ok(())
}

/// A device that goes away or that is forbidden to look at is no data.
fn missing(failure: Failure) -> Failure {
    match failure {
        Failure::Read { path, source }
            if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) =>
        {
            Failure::NoData(format!("{}: {source}", path.display()))
        }
        other => other,
    }
}

fn device(host: &Host, folder: &str, sysfs_name: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let device = host.sys_text(&format!("{folder}/dm/name"))?;
    let suspended = host.sys_text(&format!("{folder}/dm/suspended"))?;
    let size = host.sys_figure(&format!("{folder}/size"))? * SECTOR_BYTES;
    let (mut paths, mut active) = (0u32, 0u32);
    for path in host.sys_list(&format!("{folder}/slaves"))? {
        let state = host.sys_optional(&format!("{FOLDER}/{path}/device/state"))?;
        let state = state.as_deref().unwrap_or("unknown");
        paths += 1;
        active += u32::from(matches!(state, "running" | "live"));
        let labels = [("device", device.as_str()), ("path", path.as_str()), ("state", state)];
        let help = "What the device below says of a path.";
        out.sample(Kind::Gauge, "node_dmmultipath_path_state", help, &labels, 1.0);
    }
    let labels = [("device", device.as_str()), ("sysfs_name", sysfs_name), ("uuid", uuid)];
    let help = "What a multipath device is.";
    out.sample(Kind::Gauge, "node_dmmultipath_device_info", help, &labels, 1.0);
    for (name, help, value) in [
        ("device_active", "1 when a device is not suspended.", f64::from(u8::from(suspended == "0"))),
        ("device_size_bytes", "Size of a device.", size),
        ("device_paths", "Paths of a device.", f64::from(paths)),
        ("device_paths_active", "Paths that work.", f64::from(active)),
        ("device_paths_failed", "Paths that do not work.", f64::from(paths - active)),
    ] {
        out.sample(Kind::Gauge, &format!("node_dmmultipath_{name}"), help, &labels[..2], value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn only_multipath_devices() {
        let tree = Tree::new()
            .file("sys/block/dm-0/dm/uuid", "LVM-x\n")
            .file("sys/block/dm-1/dm/uuid", "mpath-1\n")
            .file("sys/block/dm-1/dm/name", "a\n")
            .file("sys/block/dm-1/dm/suspended", "1\n")
            .file("sys/block/dm-1/size", "2\n")
            .file("sys/block/dm-1/slaves/sda/x", "")
            .file("sys/block/dm-1/slaves/nvme0n1/x", "")
            .file("sys/block/nvme0n1/device/state", "live\n");
        let samples = tree.samples("dmmultipath", &[]);
        for expected in [
            "device_active{device=\"a\",sysfs_name=\"dm-1\"} 0\n",
            "device_size_bytes{device=\"a\",sysfs_name=\"dm-1\"} 1024\n",
            "device_paths_failed{device=\"a\",sysfs_name=\"dm-1\"} 1\n",
            "path_state{device=\"a\",path=\"sda\",state=\"unknown\"} 1\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
        assert!(!samples.contains("dm-0"), "{samples}");
        assert!(Tree::new().failure("dmmultipath").contains("no data"));
    }
}
