//! Merging of equal pages: `/sys/kernel/mm/ksm`, see <https://docs.kernel.org/admin-guide/mm/ksm.html>.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector =
    Collector { name: "ksmd", enabled: false, flags: no_flags, deprecated: &[], build: |_| Collector::plain(gather) };

const FOLDER: &str = "kernel/mm/ksm";

/// File, type, family, divisor, help.
const FILES: &[(&str, Kind, &str, f64, &str)] = &[
    ("full_scans", Kind::Counter, "node_ksmd_full_scans_total", 1.0, "Times all areas were looked at."),
    ("general_profit", Kind::Gauge, "node_ksmd_general_profit_bytes", 1.0, "Memory saved, less what saving it takes."),
    (
        "merge_across_nodes",
        Kind::Gauge,
        "node_ksmd_merge_across_nodes",
        1.0,
        "1 when pages of two nodes may be merged.",
    ),
    ("pages_shared", Kind::Gauge, "node_ksmd_pages_shared", 1.0, "Shared pages in use."),
    ("pages_sharing", Kind::Gauge, "node_ksmd_pages_sharing", 1.0, "Places that use shared pages."),
    ("pages_to_scan", Kind::Gauge, "node_ksmd_pages_to_scan", 1.0, "Pages looked at before each sleep."),
    (
        "pages_unshared",
        Kind::Gauge,
        "node_ksmd_pages_unshared",
        1.0,
        "Pages that were looked at and are like no other.",
    ),
    ("pages_volatile", Kind::Gauge, "node_ksmd_pages_volatile", 1.0, "Pages that change too fast."),
    ("run", Kind::Gauge, "node_ksmd_run", 1.0, "0 stopped, 1 running, 2 undoing."),
    ("sleep_millisecs", Kind::Gauge, "node_ksmd_sleep_seconds", 1000.0, "Sleep between two looks."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    for (file, kind, name, divisor, help) in FILES {
        match host.sys_figure(&format!("{FOLDER}/{file}")) {
            Ok(value) => out.sample(*kind, name, help, &[], value / divisor),
            Err(failure) if failure.is_absent() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn files_of_an_older_kernel() {
        let tree = Tree::new()
            .file("sys/kernel/mm/ksm/sleep_millisecs", "20\n")
            .file("sys/kernel/mm/ksm/general_profit", "-64\n");
        let expected = "node_ksmd_general_profit_bytes -64\nnode_ksmd_sleep_seconds 0.02\n";
        assert_eq!(tree.samples("ksmd", &["--collector.ksmd"]), expected);
    }
}
