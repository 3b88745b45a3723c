//! Kernel object caches: `/proc/slabinfo` of version 2.1, readable by root; see `slabinfo(5)`.

use super::{Collector, Filter, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, number};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "slabinfo", enabled: false, flags, deprecated: &[], build };

const PATH: &str = "slabinfo";
const INCLUDE: &str = "collector.slabinfo.slabs-include";
const EXCLUDE: &str = "collector.slabinfo.slabs-exclude";
const COLUMNS_COUNT: usize = 16;

/// The columns after the name.
const COLUMNS: [(&str, &str); 5] = [
    ("node_slabinfo_active_objects", "Objects in use."),
    ("node_slabinfo_objects", "Objects of a cache."),
    ("node_slabinfo_object_size_bytes", "Size of an object."),
    ("node_slabinfo_objects_per_slab", "Objects in one slab."),
    ("node_slabinfo_pages_per_slab", "Pages of one slab."),
];

fn flags() -> Vec<Flag> {
    vec![
        Flag::string(INCLUDE, ".*", "Pattern of the caches to show"),
        Flag::string(EXCLUDE, "", "Pattern of the caches to leave out"),
    ]
}

struct Slabinfo {
    filter: Filter,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let filter = Filter { include: settings.pattern(INCLUDE)?, exclude: settings.pattern(EXCLUDE)? };
    Ok(Box::new(Slabinfo { filter }))
}

impl Gather for Slabinfo {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let text = host.read_proc(PATH)?;
        let mut lines = text.lines();
        if lines.next() != Some("slabinfo - version: 2.1") {
            return Err(Failure::form(PATH, "the version is not 2.1"));
        }
        for line in lines.filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields.len() != COLUMNS_COUNT {
                return Err(Failure::form(PATH, format!("line {line:?} has not {COLUMNS_COUNT} columns")));
            }
            if self.filter.ignores(fields[0]) {
                continue;
            }
            for ((name, help), field) in COLUMNS.iter().zip(&fields[1..]) {
                out.sample(Kind::Gauge, name, help, &[("slab", fields[0])], number(PATH, field)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::Tree;

    const TEXT: &str = "slabinfo - version: 2.1\n# name <active_objs>\na 1 2 3 4 5 : tunables 0 0 0 : slabdata 6 7 0\nb 1 2 \
                        3 4 5 : tunables 0 0 0 : slabdata 6 7 0\n";

    #[test]
    fn filters() {
        let tree = Tree::new().file("proc/slabinfo", TEXT);
        let samples = tree.samples("slabinfo", &["--collector.slabinfo", "--collector.slabinfo.slabs-exclude=b"]);
        assert!(samples.contains("node_slabinfo_pages_per_slab{slab=\"a\"} 5\n"), "{samples}");
        assert!(!samples.contains("slab=\"b\""), "{samples}");
        let tree = Tree::new().file("proc/slabinfo", "slabinfo - version: 2.0\n");
        assert_eq!(tree.samples("slabinfo", &["--collector.slabinfo"]), "");
    }
}
