//! The connection tracking table: two files below `sys/net/netfilter` and the hexadecimal columns of
//! `/proc/net/stat/nf_conntrack`, summed over processors.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};

pub(super) const COLLECTOR: Collector = Collector {
    name: "conntrack",
    enabled: true,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "net/stat/nf_conntrack";
const COUNT: &str = "sys/net/netfilter/nf_conntrack_count";
const LIMIT: &str = "sys/net/netfilter/nf_conntrack_max";

/// Columns by the names in the file's first line.
const COLUMNS: &[(&str, &str)] = &[
    ("found", "Searched entries that were found."),
    ("invalid", "Packets that cannot be tracked."),
    ("ignore", "Packets that belong to a tracked connection already."),
    ("insert", "Entries inserted."),
    ("insert_failed", "Entries that could not be inserted."),
    ("drop", "Packets dropped because tracking failed."),
    ("early_drop", "Entries dropped to make room."),
    ("search_restart", "Searches started again because the table was resized."),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let file = |path: &str| host.proc_number(path).map_err(Failure::absent_is_no_data);
    out.gauge("node_nf_conntrack_entries", "Connections being tracked.", file(COUNT)?);
    out.gauge("node_nf_conntrack_entries_limit", "Connections that can be tracked.", file(LIMIT)?);
    let text = host.read_proc(PATH).map_err(Failure::absent_is_no_data)?;
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
    let mut sums = vec![0u64; names.len()];
    for line in lines {
        for (sum, field) in sums.iter_mut().zip(line.split_whitespace()) {
            let value = u64::from_str_radix(field, 16).map_err(|_| Failure::form(PATH, format!("line {line:?}")))?;
            *sum = sum.saturating_add(value);
        }
    }
    for (column, help) in COLUMNS {
        let sum = names.iter().position(|name| name == column).map_or(0, |position| sums[position]);
        let (name, help) = (format_args!("node_nf_conntrack_stat_{column}"), format_args!("{help}"));
        out.put(Kind::Gauge, name, help, &[], sum as f64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn sums_over_processors() {
        let tree = Tree::new()
            .file("proc/sys/net/netfilter/nf_conntrack_count", "123\n")
            .file("proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
            .file("proc/net/stat/nf_conntrack", "entries found drop\n0021 0010 1\n0021 0001 2\n");
        let samples = tree.samples("conntrack", &[]);
        assert!(samples.contains("node_nf_conntrack_entries 123\n"), "{samples}");
        assert!(samples.contains("node_nf_conntrack_stat_found 17\n"), "{samples}");
        assert!(samples.contains("node_nf_conntrack_stat_drop 3\n"), "{samples}");
        assert!(samples.contains("node_nf_conntrack_stat_ignore 0\n"), "{samples}");
    }
}
