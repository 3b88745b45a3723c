//! Bcachefs file systems: `/sys/fs/bcachefs`, see the file system's "Principles of Operation", chapter "sysfs interface".
//!
//! The kernel shortens big numbers to `2.05G`, powers of 1024; what is lost by that cannot be told.

use super::{Collector, no_flags};
use crate::attributes::sanitize;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "bcachefs",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const FOLDER: &str = "fs/bcachefs";
/// Figures are shown since then, not since the last mount.
const SINCE: &str = "since filesystem creation";

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for uuid in host.sys_folders(FOLDER).map_err(Failure::absent_is_no_data)? {
        let folder = format!("{FOLDER}/{uuid}");
        let labels = [("uuid", uuid.as_str())];
        out.sample(Kind::Gauge, "node_bcachefs_info", "A file system.", &labels, 1.0);
        let text = table(host, &format!("{folder}/btree_cache_size"))?;
        let size = text.as_deref().map_or(Some(0.0), |text| plain(text.trim()));
        let size = size.ok_or_else(|| wrong(&folder, "btree_cache_size", &text.unwrap_or_default()))?;
        let help = "Memory the trees take.";
        out.sample(Kind::Gauge, "node_bcachefs_btree_cache_size_bytes", help, &labels, size);
        compression(host, &folder, &uuid, out)?;
        errors(host, &folder, &uuid, out)?;
        writes(host, &folder, &uuid, out)?;
        counters(host, &folder, &uuid, out)?;
        for name in host.sys_folders(&folder)? {
            if let Some(device) = name.strip_prefix("dev-") {
                show_device(host, &format!("{folder}/{name}"), device, &uuid, out)?;
            }
        }
    }
    Ok(())
}

/// A file that an older or newer kernel may lack.
fn table(host: &Host, path: &str) -> Result<Option<String>, Failure> {
    match host.sys_table(path) {
        Ok(text) => Ok(Some(text)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn wrong(folder: &str, file: &str, line: &str) -> Failure {
    Failure::form(&format!("{folder}/{file}"), format!("line {line:?}"))
}

fn compression(host: &Host, folder: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let file = "compression_stats";
    let Some(text) = table(host, &format!("{folder}/{file}"))? else { return Ok(()) };
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [algorithm, packed, whole, ..] = fields.as_slice() else { return Err(wrong(folder, file, line)) };
        let labels = [("algorithm", *algorithm), ("uuid", uuid)];
        for (name, help, field) in [
            ("node_bcachefs_compression_compressed_bytes", "Size of packed data.", packed),
            ("node_bcachefs_compression_uncompressed_bytes", "Size of packed data when unpacked.", whole),
        ] {
            let value = plain(field).ok_or_else(|| wrong(folder, file, line))?;
            out.sample(Kind::Gauge, name, help, &labels, value);
        }
    }
    Ok(())
}

fn errors(host: &Host, folder: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let Some(text) = table(host, &format!("{folder}/errors"))? else { return Ok(()) };
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut fields = line.split_whitespace();
        let (Some(name), Some(count)) = (fields.next(), fields.next()) else {
            return Err(wrong(folder, "errors", line));
        };
        let count = plain(count).ok_or_else(|| wrong(folder, "errors", line))?;
        let labels = [("error_type", name), ("uuid", uuid)];
        out.sample(Kind::Counter, "node_bcachefs_errors_total", "Errors by type.", &labels, count);
    }
    Ok(())
}

fn writes(host: &Host, folder: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let file = "btree_write_stats";
    let Some(text) = table(host, &format!("{folder}/{file}"))? else { return Ok(()) };
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once(':') else { continue };
        let numbers: Vec<f64> = rest.split_whitespace().filter_map(plain).collect();
        let [count, size] = numbers.as_slice() else { return Err(wrong(folder, file, line)) };
        let labels = [("type", kind.trim()), ("uuid", uuid)];
        out.sample(Kind::Counter, "node_bcachefs_btree_writes_total", "Writes of trees.", &labels, *count);
        let help = "Mean size of a write of a tree.";
        out.sample(Kind::Gauge, "node_bcachefs_btree_write_average_size_bytes", help, &labels, *size);
    }
    Ok(())
}

fn counters(host: &Host, folder: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let folder = format!("{folder}/counters");
    let names = match host.sys_list(&folder) {
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    for name in names {
        let text = host.sys_table(&format!("{folder}/{name}"))?;
        let line = text.lines().find(|line| line.starts_with(SINCE));
        let line = line.ok_or_else(|| Failure::form(&format!("{folder}/{name}"), format!("no line {SINCE:?}")))?;
        let value = line.split_once(':').and_then(|(_, value)| plain(value.trim()));
        let value = value.ok_or_else(|| wrong(&folder, &name, line))?;
        let help = format!("The counter {name} since the file system was made.");
        let family = format!("node_bcachefs_{}_total", sanitize(&name));
        out.sample(Kind::Counter, &family, &help, &[("uuid", uuid)], value);
    }
    Ok(())
}

fn show_device(host: &Host, folder: &str, device: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let text = |file: &str| host.sys_optional(&format!("{folder}/{file}"));
    let (label, state) = (text("label")?.unwrap_or_default(), text("state")?.unwrap_or_default());
    let labels = [("device", device), ("label", label.as_str()), ("state", state.as_str()), ("uuid", uuid)];
    out.sample(Kind::Gauge, "node_bcachefs_device_info", "A device of a file system.", &labels, 1.0);
    let labels = [("device", device), ("uuid", uuid)];
    for (file, name, help) in [
        ("bucket_size", "node_bcachefs_device_bucket_size_bytes", "Size of a bucket."),
        ("nbuckets", "node_bcachefs_device_buckets", "Buckets of a device."),
        ("durability", "node_bcachefs_device_durability", "How many copies a copy on a device counts for."),
    ] {
        let text = text(file)?.unwrap_or_else(|| "0".to_owned());
        let value = plain(&text).ok_or_else(|| wrong(folder, file, &text))?;
        out.sample(Kind::Gauge, name, help, &labels, value);
    }
    transfers(host, folder, device, uuid, out)?;
    device_errors(host, folder, device, uuid, out)
}

fn transfers(host: &Host, folder: &str, device: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let Some(text) = table(host, &format!("{folder}/io_done"))? else { return Ok(()) };
    let mut operation = "";
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if value.trim().is_empty() {
            operation = name.trim();
            continue;
        }
        let value = plain(value.trim()).ok_or_else(|| wrong(folder, "io_done", line))?;
        let labels = [("device", device), ("operation", operation), ("data_type", name.trim()), ("uuid", uuid)];
        let help = "Bytes read and written by type of data.";
        out.sample(Kind::Counter, "node_bcachefs_device_io_done_bytes_total", help, &labels, value);
    }
    Ok(())
}

fn device_errors(host: &Host, folder: &str, device: &str, uuid: &str, out: &mut Families) -> Result<(), Failure> {
    let Some(text) = table(host, &format!("{folder}/io_errors"))? else { return Ok(()) };
    let lines = text.lines().skip_while(|line| !line.contains(SINCE)).skip(1);
    for line in lines.take_while(|line| line.starts_with(' ')) {
        let Some((kind, count)) = line.split_once(':') else { continue };
        let count = plain(count.trim()).ok_or_else(|| wrong(folder, "io_errors", line))?;
        let labels = [("device", device), ("type", kind.trim()), ("uuid", uuid)];
        let help = "Failed reads and writes.";
        out.sample(Kind::Counter, "node_bcachefs_device_io_errors_total", help, &labels, count);
    }
    Ok(())
}

/// `2.05G` is 2.05 × 2^30, whole.
fn plain(text: &str) -> Option<f64> {
    let place = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(place);
    let value: f64 = digits.parse().ok()?;
    let power = match unit {
        "" => return Some(value),
        unit if unit.len() == 1 => "kMGTPE".find(unit)? as i32 + 1,
        _ => return None,
    };
    Some((value * 1024f64.powi(power)).trunc())
}

#[cfg(test)]
mod tests {
    use super::plain;
    use crate::testing::Tree;

    #[test]
    fn shortened_numbers() {
        for (text, expected) in [
            ("720", Some(720.0)),
            ("2.05G", Some(2_201_170_739.0)),
            ("1.26k", Some(1290.0)),
            ("1x", None),
            ("1kk", None),
            ("k", None),
            ("", None),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn files_a_kernel_lacks_show_nothing_or_zero() {
        let tree = Tree::new().file(
            "sys/fs/bcachefs/u/dev-0/io_errors",
            "IO errors since filesystem creation\n  read:    3\nIO errors since 8 y ago\n  read:    4\n",
        );
        assert_eq!(
            tree.samples("bcachefs", &[]),
            "node_bcachefs_btree_cache_size_bytes{uuid=\"u\"} 0\n\
             node_bcachefs_device_bucket_size_bytes{device=\"0\",uuid=\"u\"} 0\n\
             node_bcachefs_device_buckets{device=\"0\",uuid=\"u\"} 0\n\
             node_bcachefs_device_durability{device=\"0\",uuid=\"u\"} 0\n\
             node_bcachefs_device_info{device=\"0\",label=\"\",state=\"\",uuid=\"u\"} 1\n\
             node_bcachefs_device_io_errors_total{device=\"0\",type=\"read\",uuid=\"u\"} 3\nnode_bcachefs_info{uuid=\"u\"} \
             1\n"
        );
        assert!(Tree::new().failure("bcachefs").contains("no data"));
    }
}
