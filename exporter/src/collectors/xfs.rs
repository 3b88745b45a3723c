//! XFS file systems: `/sys/fs/xfs/*/stats/stats`, see <https://docs.kernel.org/admin-guide/xfs.html> and
//! `fs/xfs/xfs_stats.c` of the kernel.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};

pub(super) const COLLECTOR: Collector =
    Collector { name: "xfs", enabled: true, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "fs/xfs";

/// First word of a line, and the names of its numbers between `node_xfs_` and `_total`.
const LINES: &[(&str, &[&str])] = &[
    (
        "extent_alloc",
        &[
            "extent_allocation_extents_allocated",
            "extent_allocation_blocks_allocated",
            "extent_allocation_extents_freed",
            "extent_allocation_blocks_freed",
        ],
    ),
    (
        "abt",
        &[
            "allocation_btree_lookups",
            "allocation_btree_compares",
            "allocation_btree_records_inserted",
            "allocation_btree_records_deleted",
        ],
    ),
    (
        "blk_map",
        &[
            "block_mapping_reads",
            "block_mapping_writes",
            "block_mapping_unmaps",
            "block_mapping_extent_list_insertions",
            "block_mapping_extent_list_deletions",
            "block_mapping_extent_list_lookups",
            "block_mapping_extent_list_compares",
        ],
    ),
    (
        "bmbt",
        &[
            "block_map_btree_lookups",
            "block_map_btree_compares",
            "block_map_btree_records_inserted",
            "block_map_btree_records_deleted",
        ],
    ),
    (
        "dir",
        &[
            "directory_operation_lookup",
            "directory_operation_create",
            "directory_operation_remove",
            "directory_operation_getdents",
        ],
    ),
    (
        "ig",
        &[
            "inode_operation_attempts",
            "inode_operation_found",
            "inode_operation_recycled",
            "inode_operation_missed",
            "inode_operation_duplicates",
            "inode_operation_reclaims",
            "inode_operation_attribute_changes",
        ],
    ),
    ("rw", &["write_calls", "read_calls"]),
    (
        "vnodes",
        &[
            "vnode_active",
            "vnode_allocate",
            "vnode_get",
            "vnode_hold",
            "vnode_release",
            "vnode_reclaim",
            "vnode_remove",
        ],
    ),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let names = match host.sys_list(FOLDER) {
        Err(failure) if failure.is_absent() => return Ok(()),
        other => other?,
    };
    // The folder `stats` holds the sums of all file systems and is none itself.
    for device in names.iter().filter(|name| *name != "stats") {
        let path = format!("{FOLDER}/{device}/stats/stats");
        let text = match host.sys_table(&path) {
            // What holds settings has no such file.
            Err(failure) if failure.is_absent() || !host.sys(&path).exists() => continue,
            other => other?,
        };
        if !text.lines().any(|line| LINES.iter().any(|(word, _)| line.split_whitespace().next() == Some(word))) {
            return Err(Failure::form(&path, "no line of figures"));
        }
        for (word, names) in LINES {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(word)).unwrap_or("");
            let mut fields = line.split_whitespace().skip(1);
            for name in *names {
                let value = fields.next().map_or(Ok(0.0), |field| number(&path, field))?;
                let help = format!("The figure {name} of a file system.");
                let family = format!("node_xfs_{name}_total");
                out.sample(Kind::Counter, &family, &help, &[("device", device)], value);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn writes_come_before_reads() {
        let tree = Tree::new()
            .file("sys/fs/xfs/sda1/stats/stats", "rw 28 7\nvnodes 4 0 0 0 1 1 1 0\n")
            .file("sys/fs/xfs/debug/bug_on_assert", "1\n");
        let samples = tree.samples("xfs", &[]);
        assert!(samples.contains("node_xfs_read_calls_total{device=\"sda1\"} 7\n"), "{samples}");
        assert!(samples.contains("node_xfs_directory_operation_lookup_total{device=\"sda1\"} 0\n"), "{samples}");
        assert_eq!(samples.lines().count(), 39, "{samples}");
        assert!(Tree::new().file("sys/fs/xfs/sda1/stats/stats", "rw x\n").failure("xfs").contains("not a number"));
        assert_eq!(Tree::new().samples("xfs", &[]), "");
    }
}
