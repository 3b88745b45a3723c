//! Block caches: `/sys/fs/bcache`, see <https://docs.kernel.org/admin-guide/bcache.html>.
//!
//! The kernel shortens big numbers to `1.2k`, where the digits after the point count hundredths of 1024 and not tenths;
//! what is shown has that undone.

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use cli::Flag;

pub(super) const COLLECTOR: Collector = Collector { name: "bcache", enabled: true, flags, deprecated: &[], build };

const FOLDER: &str = "fs/bcache";
const PRIORITY: &str = "collector.bcache.priorityStats";

/// Files of a cache set: path, type, name after `node_bcache_`, factor, help.
const SET: &[(&str, Kind, &str, f64, &str)] = &[
    ("average_key_size", Kind::Gauge, "average_key_size_sectors", 1.0, "Mean size of a key in the tree."),
    ("btree_cache_size", Kind::Gauge, "btree_cache_size_bytes", 1.0, "Memory the tree takes."),
    ("cache_available_percent", Kind::Gauge, "cache_available_percent", 1.0, "Part of the cache without dirty data."),
    ("congested", Kind::Gauge, "congested", 1.0, "How congested the cache is."),
    ("root_usage_percent", Kind::Gauge, "root_usage_percent", 1.0, "Part of the root node in use."),
    ("tree_depth", Kind::Gauge, "tree_depth", 1.0, "Depth of the tree."),
    (
        "internal/active_journal_entries",
        Kind::Gauge,
        "active_journal_entries",
        1.0,
        "Journal entries newer than the index.",
    ),
    ("internal/btree_nodes", Kind::Gauge, "btree_nodes", 1.0, "Nodes of the tree."),
    (
        "internal/btree_read_average_duration_us",
        Kind::Gauge,
        "btree_read_average_duration_seconds",
        1e-9,
        "Mean time of reading the tree.",
    ),
    (
        "internal/cache_read_races",
        Kind::Counter,
        "cache_read_races_total",
        1.0,
        "Times a bucket was taken again while it was being read.",
    ),
];

/// Files below `stats_total` of a backing device.
const BACKING: &[(&str, &str, &str)] = &[
    ("bypassed", "bypassed_bytes_total", "Bytes that went around the cache."),
    ("cache_hits", "cache_hits_total", "Requests the cache answered."),
    ("cache_misses", "cache_misses_total", "Requests the cache did not answer."),
    ("cache_bypass_hits", "cache_bypass_hits_total", "Requests past the cache that it could have answered."),
    ("cache_bypass_misses", "cache_bypass_misses_total", "Requests past the cache that it could not have answered."),
    ("cache_miss_collisions", "cache_miss_collisions_total", "Misses whose data came into the cache meanwhile."),
    ("cache_readaheads", "cache_readaheads_total", "Times data were read ahead."),
];

/// Lines of `writeback_rate_debug`.
const WRITEBACK: &[(&str, &str, &str)] = &[
    ("rate", "writeback_rate", "Bytes a second at which dirty data are written back."),
    ("target", "dirty_target_bytes", "Amount of dirty data aimed at."),
    ("proportional", "writeback_rate_proportional_term", "Proportional part of the controller."),
    ("integral", "writeback_rate_integral_term", "Integral part of the controller."),
    ("change", "writeback_change", "Last change of the rate."),
];

const CACHE: &[(&str, Kind, &str, &str)] = &[
    ("io_errors", Kind::Gauge, "io_errors", "Errors met, fading with time."),
    ("metadata_written", Kind::Counter, "metadata_written_bytes_total", "Bytes written that are not data."),
    ("written", Kind::Counter, "written_bytes_total", "Bytes of data written to the cache."),
];

fn flags() -> Vec<Flag> {
    vec![Flag::boolean(PRIORITY, false, "Show the costly priority figures")]
}

struct Bcache {
    priority: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Bcache { priority: settings.parsed.bool(PRIORITY) }))
}

impl Gather for Bcache {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let sets = match host.sys_folders(FOLDER) {
            Err(failure) if failure.is_absent() => return Ok(()),
            other => other?,
        };
        for uuid in sets.iter().filter(|name| name.contains('-')) {
            let folder = format!("{FOLDER}/{uuid}");
            for (file, kind, name, factor, help) in SET {
                // A kernel without the file shows 0, as upstream does.
                let value = match value(host, &format!("{folder}/{file}")) {
                    Err(failure) if failure.is_absent() => 0.0,
                    other => other? * factor,
                };
                out.sample(*kind, &format!("node_bcache_{name}"), help, &[("uuid", uuid)], value);
            }
            for device in host.sys_numbered(&folder, "bdev") {
                backing(host, &folder, &[("backing_device", &device), ("uuid", uuid)], out)?;
            }
            for device in host.sys_numbered(&folder, "cache") {
                if host.sys(&format!("{folder}/{device}")).is_dir() {
                    self.cache(host, &folder, &[("cache_device", &device), ("uuid", uuid)], out)?;
                }
            }
        }
        Ok(())
    }
}

impl Bcache {
    fn cache(&self, host: &Host, folder: &str, labels: &[(&str, &str)], out: &mut Families) -> Result<(), Failure> {
        let folder = format!("{folder}/{}", labels[0].1);
        for (file, kind, name, help) in CACHE {
            let value = value(host, &format!("{folder}/{file}"))?;
            out.sample(*kind, &format!("node_bcache_{name}"), help, labels, value);
        }
        if !self.priority {
            return Ok(());
        }
        let path = format!("{folder}/priority_stats");
        let text = host.sys_table(&path)?;
        for (key, name, help) in [
            ("Unused", "priority_stats_unused_percent", "Part of the cache without data."),
            ("Metadata", "priority_stats_metadata_percent", "Part of the cache that is not data."),
        ] {
            if let Some(share) = line(&text, key) {
                let share = share.trim_end_matches('%');
                let share = share.parse().map_err(|_| Failure::form(&path, format!("{key} is {share:?}")))?;
                out.sample(Kind::Gauge, &format!("node_bcache_{name}"), help, labels, share);
            }
        }
        Ok(())
    }
}

fn backing(host: &Host, folder: &str, labels: &[(&str, &str)], out: &mut Families) -> Result<(), Failure> {
    let folder = format!("{folder}/{}", labels[0].1);
    let dirty = value(host, &format!("{folder}/dirty_data"))?;
    out.sample(Kind::Gauge, "node_bcache_dirty_data_bytes", "Dirty data in the cache.", labels, dirty);
    let path = format!("{folder}/writeback_rate_debug");
    let text = host.sys_table(&path)?;
    for (key, name, help) in WRITEBACK {
        let Some(text) = line(&text, key) else { continue };
        let text = text.trim_end_matches("/sec");
        let value = plain(text).ok_or_else(|| Failure::form(&path, format!("{key} is {text:?}")))?;
        out.sample(Kind::Gauge, &format!("node_bcache_{name}"), help, labels, value);
    }
    for (file, name, help) in BACKING {
        let value = value(host, &format!("{folder}/stats_total/{file}"))?;
        // Kernels that no longer read ahead still show the file, with 0.
        if *file != "cache_readaheads" || value != 0.0 {
            out.sample(Kind::Counter, &format!("node_bcache_{name}"), help, labels, value);
        }
    }
    Ok(())
}

fn line<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, rest)| rest.trim()))
}

fn value(host: &Host, path: &str) -> Result<f64, Failure> {
    let text = match host.sys_text(path) {
        // Gone from newer kernels; reported as nothing.
        Err(failure) if failure.is_absent() && path.ends_with("/cache_readaheads") => return Ok(0.0),
        other => other?,
    };
    plain(&text).ok_or_else(|| Failure::form(path, format!("{text:?} is not a number")))
}

/// `427.5k` is 427 × 1024 + 500.
fn plain(text: &str) -> Option<f64> {
    let (digits, factor) = match text.char_indices().last()? {
        (place, unit) if unit.is_ascii_alphabetic() => {
            let power = "kMGTPEZY".find(unit)? as i32 + 1;
            (&text[..place], 1024f64.powi(power))
        }
        _ => return text.parse::<f64>().ok().filter(|value| value.is_finite()),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let whole: f64 = whole.parse().ok()?;
    let part: f64 = part.parse().ok()?;
    Some(((whole.abs() + part / 10.24) * factor).trunc().copysign(whole)).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::plain;
    use crate::testing::Tree;

    #[test]
    fn shortened_numbers() {
        for (text, expected) in [
            ("0", Some(0.0)),
            ("427.5k", Some(437_748.0)),
            ("1.1M", Some(1_150_976.0)),
            ("20.4G", Some(21_894_266_880.0)),
            ("-1.1k", Some(-1124.0)),
            ("12.x", None),
            ("1q", None),
            ("", None),
        ] {
            assert_eq!(plain(text), expected, "{text}");
        }
    }

    #[test]
    fn a_cache_set_needs_its_files() {
        let tree = Tree::new().file("sys/fs/bcache/dead-beef/tree_depth", "1\n");
        let samples = tree.samples("bcache", &[]);
        assert!(samples.contains("node_bcache_tree_depth{uuid=\"dead-beef\"} 1\n"), "{samples}");
        assert!(samples.contains("node_bcache_btree_nodes{uuid=\"dead-beef\"} 0\n"), "{samples}");
        let tree = tree.file("sys/fs/bcache/dead-beef/bdev0/running", "1\n");
        assert!(tree.failure("bcache").contains("dirty_data"));
        assert_eq!(Tree::new().samples("bcache", &[]), "");
    }
}
