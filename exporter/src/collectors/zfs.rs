//! ZFS: the kstat files below `/proc/spl/kstat/zfs`, see the module parameters and kstat pages of
//! <https://openzfs.github.io/openzfs-docs/>. Whatever keys a file holds are shown.

use super::{Collector, no_flags};
use crate::buffers::Text;
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, list, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "zfs", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "spl/kstat/zfs";
/// The types of whole numbers with and without a sign.
const NUMBERS: [&str; 2] = ["3", "4"];
const STATES: [&str; 7] = ["online", "degraded", "faulted", "offline", "removed", "unavail", "suspended"];

/// File and the start of the families' names.
const FILES: [(&str, &str); 11] = [
    ("abdstats", "node_zfs_abd"),
    ("arcstats", "node_zfs_arc"),
    ("dbufstats", "node_zfs_dbuf"),
    ("dmu_tx", "node_zfs_dmu_tx"),
    ("dnodestats", "node_zfs_dnode"),
    ("fm", "node_zfs_fm"),
    ("vdev_cache_stats", "node_zfs_vdev_cache"),
    ("vdev_mirror_stats", "node_zfs_vdev_mirror"),
    ("xuio_stats", "node_zfs_xuio"),
    ("zfetchstats", "node_zfs_zfetch"),
    ("zil", "node_zfs_zil"),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = host.proc_list(FOLDER).map_err(Failure::absent_is_no_data)?;
    for (file, prefix) in FILES {
        // Which files there are depends on the version.
        let Some(text) = optional(host, &format!("{FOLDER}/{file}"))? else { continue };
        for (key, value) in entries(file, &text)? {
            let family = format!("{prefix}_{}", key.replace('-', "_"));
            let value = number(file, value)?;
            out.sample(Kind::Untyped, &family, &format!("The key {key} of {file}."), &[], value);
        }
    }
    for pool in names.iter().filter(|name| host.proc(&format!("{FOLDER}/{name}")).is_dir()) {
        show_pool(host, pool, out)?;
    }
    Ok(())
}

fn optional(host: &Host, path: &str) -> Result<Option<Text>, Failure> {
    match host.read_proc(path) {
        Ok(text) => Ok(Some(text)),
        Err(failure) if failure.is_absent() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Keys and values of whole numbers, after the heading.
fn entries<'a>(path: &str, text: &'a str) -> Result<impl Iterator<Item = (&'a str, &'a str)>, Failure> {
    let mut lines = text.lines();
    if !lines.any(|line| line.split_whitespace().eq(["name", "type", "data"])) {
        return Err(Failure::form(path, "no heading of name, type and data"));
    }
    Ok(lines.filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (key, kind, value) = (fields.next()?, fields.next()?, fields.next()?);
        NUMBERS.contains(&kind).then_some((key, value))
    }))
}

fn show_pool(host: &Host, pool: &str, out: &mut Families) -> Result<(), Failure> {
    let folder = format!("{FOLDER}/{pool}");
    for name in list(&host.proc(&folder))? {
        let path = format!("{folder}/{name}");
        if name.starts_with("objset-") {
            if let Some(text) = optional(host, &path)? {
                show_dataset(pool, &path, &text, out)?;
            }
        } else if name == "io" {
            if let Some(text) = optional(host, &path)? {
                show_transfers(pool, &path, &text, out)?;
            }
        } else if name == "state"
            && let Some(text) = optional(host, &path)?
        {
            let present = text.trim().to_ascii_lowercase();
            for state in STATES {
                let labels = [("zpool", pool), ("state", state)];
                let value = f64::from(u8::from(state == present));
                out.sample(Kind::Gauge, "node_zfs_zpool_state", "1 for the state of a pool.", &labels, value);
            }
        }
    }
    Ok(())
}

fn show_transfers(pool: &str, path: &str, text: &str, out: &mut Families) -> Result<(), Failure> {
    let mut lines = text.lines().skip_while(|line| !line.trim_start().starts_with("nread"));
    // A pool that is going away may have an empty file.
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return Ok(()) };
    for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
        let help = format!("The column {name} of a pool.");
        let value = number(path, value)?;
        out.sample(Kind::Untyped, &format!("node_zfs_zpool_{name}"), &help, &[("zpool", pool)], value);
    }
    Ok(())
}

fn show_dataset(pool: &str, path: &str, text: &str, out: &mut Families) -> Result<(), Failure> {
    // A name may hold blanks.
    let name = text.lines().find_map(|line| {
        let rest = line.strip_prefix("dataset_name")?.trim_start();
        Some(rest.split_once(char::is_whitespace)?.1.trim_start())
    });
    let Some(name) = name else { return Err(Failure::form(path, "no dataset_name")) };
    for (key, value) in entries(path, text)? {
        let labels = [("zpool", pool), ("dataset", name)];
        let help = format!("The key {key} of a dataset.");
        let family = format!("node_zfs_zpool_dataset_{}", key.replace('-', "_"));
        out.sample(Kind::Untyped, &family, &help, &labels, number(path, value)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn keys_pools_and_datasets() {
        let head = "0 1 0x00 1 80 7 3\nname                            type data\n";
        let tree = Tree::new()
            .file("proc/spl/kstat/zfs/fm", &format!("{head}erpt-dropped  4  18\nsome-text 7 x\nloss 3 -5\n"))
            .file("proc/spl/kstat/zfs/dbgmsg", "junk\n")
            .file("proc/spl/kstat/zfs/p/state", "ONLINE\n")
            .file("proc/spl/kstat/zfs/p/io", "12 3 0x00 1\nnread    reads\n5  6\n")
            .file("proc/spl/kstat/zfs/p/objset-1", &format!("{head}dataset_name  7    p/a  b\nwrites 4 9\n"));
        let samples = tree.samples("zfs", &[]);
        for expected in [
            "node_zfs_fm_erpt_dropped 18\n",
            "node_zfs_fm_loss -5\n",
            "node_zfs_zpool_reads{zpool=\"p\"} 6\n",
            "node_zfs_zpool_dataset_writes{dataset=\"p/a  b\",zpool=\"p\"} 9\n",
            "node_zfs_zpool_state{state=\"online\",zpool=\"p\"} 1\n",
        ] {
            assert!(samples.contains(expected), "{expected} in {samples}");
        }
        assert!(!samples.contains("text"), "{samples}");
        assert!(Tree::new().failure("zfs").contains("no data"));
        assert!(Tree::new().file("proc/spl/kstat/zfs/fm", "junk\n").failure("zfs").contains("heading"));
    }
}
