//! Memory figures of `/proc/meminfo`. Only the fields in the list are shown, as upstream does.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "meminfo", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const PATH: &str = "meminfo";

const FIELDS: &[&str] = &[
    "Active",
    "Active(anon)",
    "Active(file)",
    "AnonHugePages",
    "AnonPages",
    "Bounce",
    "Buffers",
    "Cached",
    "CmaFree",
    "CmaTotal",
    "CommitLimit",
    "Committed_AS",
    "DirectMap1G",
    "DirectMap2M",
    "DirectMap4k",
    "Dirty",
    "HardwareCorrupted",
    "HugePages_Free",
    "HugePages_Rsvd",
    "HugePages_Surp",
    "HugePages_Total",
    "Hugepagesize",
    "Inactive",
    "Inactive(anon)",
    "Inactive(file)",
    "KernelStack",
    "Mapped",
    "MemAvailable",
    "MemFree",
    "MemTotal",
    "Mlocked",
    "NFS_Unstable",
    "PageTables",
    "Percpu",
    "SReclaimable",
    "SUnreclaim",
    "Shmem",
    "ShmemHugePages",
    "ShmemPmdMapped",
    "Slab",
    "SwapCached",
    "SwapFree",
    "SwapTotal",
    "Unevictable",
    "VmallocChunk",
    "VmallocTotal",
    "VmallocUsed",
    "Writeback",
    "WritebackTmp",
    "Zswap",
    "Zswapped",
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for line in host.read_proc(PATH)?.lines() {
        let Some((field, rest)) = line.split_once(':') else {
            return Err(Failure::form(PATH, format!("line {line:?} has no colon")));
        };
        if !FIELDS.contains(&field) {
            continue;
        }
        let mut parts = rest.split_whitespace();
        let value = number(PATH, parts.next().unwrap_or_default())?;
        let (value, unit) = match parts.next() {
            Some("kB") => (value * 1024.0, "_bytes"),
            Some(other) => return Err(Failure::form(PATH, format!("{field} has the unit {other:?}"))),
            None => (value, ""),
        };
        // `Active(anon)` becomes `Active_anon`.
        let (plain, rest) = field.split_once('(').unwrap_or((field, ""));
        let (line, rest) = (if rest.is_empty() { "" } else { "_" }, rest.trim_end_matches(')'));
        let help = format_args!("The field {field} of /proc/meminfo.");
        out.put(Kind::Gauge, format_args!("node_memory_{plain}{line}{rest}{unit}"), help, &[], value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;
    use procfs_core::FromRead;

    #[test]
    fn kilobytes_become_bytes_and_counts_stay() {
        let tree = Tree::new().file(
            "proc/meminfo",
            "MemTotal:       3742148 kB\nActive(anon): 2 kB\nHugePages_Total:       3\nSecPageTables: 9 kB\n",
        );
        assert_eq!(
            tree.samples("meminfo", &[]),
            "node_memory_Active_anon_bytes 2048\nnode_memory_HugePages_Total 3\nnode_memory_MemTotal_bytes \
             3.831959552e+09\n"
        );
    }

    #[test]
    fn agrees_with_the_oracle() {
        let text = include_str!("testdata/meminfo");
        let oracle = procfs_core::Meminfo::from_read(text.as_bytes()).expect("oracle");
        let samples = Tree::new().file("proc/meminfo", text).samples("meminfo", &[]);
        for (name, value) in [
            ("node_memory_MemTotal_bytes", oracle.mem_total),
            ("node_memory_MemFree_bytes", oracle.mem_free),
            ("node_memory_Dirty_bytes", oracle.dirty),
        ] {
            let line = samples.lines().find(|line| line.starts_with(name)).expect(name);
            let ours: f64 = line[name.len() + 1..].parse().expect("number");
            assert_eq!(ours, value as f64, "{name}");
        }
    }
}
