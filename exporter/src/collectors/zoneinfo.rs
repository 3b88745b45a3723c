//! Zones of memory: `/proc/zoneinfo`, see <https://docs.kernel.org/mm/physical_memory.html>. Only the fields in the list
//! are shown, as upstream does; figures of a whole node stand in its first zone.

use super::{Collector, no_flags};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use std::collections::BTreeMap;

pub(super) const COLLECTOR: Collector = Collector {
    name: "zoneinfo",
    enabled: false,
    flags: no_flags,
    deprecated: &[],
    build: |_| Collector::plain(gather),
};

const PATH: &str = "zoneinfo";

/// The kernel's name, type, name after `node_zoneinfo_`.
const FIELDS: &[(&str, Kind, &str)] = &[
    ("nr_free_pages", Kind::Gauge, "nr_free_pages"),
    ("min", Kind::Gauge, "min_pages"),
    ("low", Kind::Gauge, "low_pages"),
    ("high", Kind::Gauge, "high_pages"),
    ("scanned", Kind::Gauge, "scanned_pages"),
    ("spanned", Kind::Gauge, "spanned_pages"),
    ("present", Kind::Gauge, "present_pages"),
    ("managed", Kind::Gauge, "managed_pages"),
    ("nr_active_anon", Kind::Gauge, "nr_active_anon_pages"),
    ("nr_inactive_anon", Kind::Gauge, "nr_inactive_anon_pages"),
    ("nr_isolated_anon", Kind::Gauge, "nr_isolated_anon_pages"),
    ("nr_anon_pages", Kind::Gauge, "nr_anon_pages"),
    ("nr_anon_transparent_hugepages", Kind::Gauge, "nr_anon_transparent_hugepages"),
    ("nr_active_file", Kind::Gauge, "nr_active_file_pages"),
    ("nr_inactive_file", Kind::Gauge, "nr_inactive_file_pages"),
    ("nr_isolated_file", Kind::Gauge, "nr_isolated_file_pages"),
    ("nr_file_pages", Kind::Gauge, "nr_file_pages"),
    ("nr_slab_reclaimable", Kind::Gauge, "nr_slab_reclaimable_pages"),
    ("nr_slab_unreclaimable", Kind::Gauge, "nr_slab_unreclaimable_pages"),
    ("nr_mlock_stack", Kind::Gauge, "nr_mlock_stack_pages"),
    ("nr_kernel_stack", Kind::Gauge, "nr_kernel_stacks"),
    ("nr_mapped", Kind::Gauge, "nr_mapped_pages"),
    ("nr_dirty", Kind::Gauge, "nr_dirty_pages"),
    ("nr_writeback", Kind::Gauge, "nr_writeback_pages"),
    ("nr_unevictable", Kind::Gauge, "nr_unevictable_pages"),
    ("nr_shmem", Kind::Gauge, "nr_shmem_pages"),
    ("nr_dirtied", Kind::Counter, "nr_dirtied_total"),
    ("nr_written", Kind::Counter, "nr_written_total"),
    ("numa_hit", Kind::Counter, "numa_hit_total"),
    ("numa_miss", Kind::Counter, "numa_miss_total"),
    ("numa_foreign", Kind::Counter, "numa_foreign_total"),
    ("numa_interleave", Kind::Counter, "numa_interleave_total"),
    ("numa_local", Kind::Counter, "numa_local_total"),
    ("numa_other", Kind::Counter, "numa_other_total"),
];

fn gather(host: &Host, out: &mut Families) -> Result<(), Failure> {
    let text = host.read_proc(PATH)?;
    let mut place: Option<(&str, &str)> = None;
    let mut values: BTreeMap<usize, f64> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let ["Node", node, "zone", zone] = fields.as_slice() {
            show(place, &values, out);
            values.clear();
            place = Some((node.trim_end_matches(','), zone));
        } else if let Some(protection) = line.trim_start().strip_prefix("protection:") {
            show_protection(place, protection, out)?;
        } else if let [key, value] = fields.as_slice()
            && let Some(field) = FIELDS.iter().position(|(name, ..)| name == key)
        {
            // The last line of a name counts.
            values.insert(field, number(PATH, value)?);
        }
    }
    show(place, &values, out);
    Ok(())
}

fn show(place: Option<(&str, &str)>, values: &BTreeMap<usize, f64>, out: &mut Families) {
    let Some((node, zone)) = place else { return };
    for (field, value) in values {
        let (key, kind, name) = FIELDS[*field];
        let help = format!("The figure {key} of a zone.");
        out.sample(kind, &format!("node_zoneinfo_{name}"), &help, &[("node", node), ("zone", zone)], *value);
    }
}

fn show_protection(place: Option<(&str, &str)>, text: &str, out: &mut Families) -> Result<(), Failure> {
    let Some((node, zone)) = place else { return Ok(()) };
    let inner = text.trim().trim_start_matches('(').trim_end_matches(')');
    for (index, value) in inner.split(',').enumerate() {
        let help = "Pages kept from allocations that could use another zone.";
        let value = number(PATH, value.trim())?;
        let name = format!("node_zoneinfo_protection_{index}");
        out.sample(Kind::Gauge, &name, help, &[("node", node), ("zone", zone)], value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    #[test]
    fn zones_of_a_node() {
        let text = "Node 0, zone      DMA\n  per-node stats\n      nr_mapped    5\n  pages free     9\n        high     14\n        \
                    protection: (0, 2039)\n  pagesets\n    cpu: 0\n              high:  0\nNode 0, zone   Normal\n  pages \
                    free     1\n        high     3\n        high     4\n";
        assert_eq!(
            Tree::new().file("proc/zoneinfo", text).samples("zoneinfo", &["--collector.zoneinfo"]),
            "node_zoneinfo_high_pages{node=\"0\",zone=\"DMA\"} 14\nnode_zoneinfo_high_pages{node=\"0\",zone=\"Normal\"} 4\n\
             node_zoneinfo_nr_mapped_pages{node=\"0\",zone=\"DMA\"} 5\n\
             node_zoneinfo_protection_0{node=\"0\",zone=\"DMA\"} 0\nnode_zoneinfo_protection_1{node=\"0\",zone=\"DMA\"} \
             2039\n"
        );
    }
}
