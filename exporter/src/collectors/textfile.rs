//! Metrics that other programs leave in files: every `*.prom` of the given folders, text format 0.0.4.
//!
//! A file with anything wrong in it, or with a timestamp, is left out as a whole and `node_textfile_scrape_error` says
//! so; the other files are still read.
//!
//! Ours, when asked for: files that are too old are left out and shown as stale, and series that are defined twice are
//! counted and told with their files and lines.

mod duplicates;

use super::{Collector, Gather, Settings, StartError};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host, list};
use cli::Flag;
use exposition::Family;
use model::is_legacy_metric_name;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

pub(super) const COLLECTOR: Collector = Collector { name: "textfile", enabled: true, flags, deprecated: &[], build };

const FLAG: &str = "collector.textfile.directory";
const AGE: &str = "collector.textfile.max-age";
const DUPLICATES: &str = "collector.textfile.report-duplicates";
const FILE_BYTES_MAX: u64 = 64 << 20;
const FOLDERS_MAX: usize = 10_000;

fn flags() -> Vec<Flag> {
    vec![
        Flag::list(FLAG, &[""], "Folder of *.prom files, or a pattern of such folders; repeatable"),
        Flag::duration_go(
            AGE,
            "0s",
            "Leave out files that were written longer ago and show them as stale, 0 for no limit",
        ),
        Flag::boolean(DUPLICATES, false, "Count series that are defined twice, and log the files and lines that do so"),
    ]
}

struct Textfile {
    folders: Vec<String>,
    /// Seconds.
    age_max: Option<f64>,
    duplicates: bool,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    let folders = settings.parsed.list(FLAG).iter().filter(|folder| !folder.is_empty()).cloned().collect();
    let age_max = Some(settings.parsed.duration(AGE).as_secs_f64()).filter(|age| *age > 0.0);
    Ok(Box::new(Textfile { folders, age_max, duplicates: settings.parsed.bool(DUPLICATES) }))
}

/// A family put together from several files.
struct Merged {
    family: Family,
    has_help: bool,
    files: Vec<String>,
    /// Metrics of each file, in the order of both.
    counts: Vec<usize>,
}

impl Gather for Textfile {
    fn gather(&self, host: &Host, out: &mut Families) -> Result<(), Failure> {
        let mut failed = false;
        let now = host.clock().unix_ms() as f64 / 1000.0;
        let mut merged: BTreeMap<String, Merged> = BTreeMap::new();
        for folder in self.folders.iter().flat_map(|pattern| expand(pattern)) {
            let names = match list(Path::new(&folder)) {
                Ok(names) => names,
                Err(failure) => {
                    tracing::error!(%failure, "a textfile folder could not be read");
                    failed = true;
                    continue;
                }
            };
            for name in names.iter().filter(|name| name.ends_with(".prom")) {
                let path = format!("{}/{name}", folder.trim_end_matches('/'));
                match read(Path::new(&path)) {
                    Ok((families, seconds)) => {
                        let labels = [("file", path.as_str())];
                        let help = "When a textfile was last written, in Unix time.";
                        out.sample(Kind::Gauge, "node_textfile_mtime_seconds", help, &labels, seconds);
                        let stale = self.age_max.map(|most| now - seconds > most);
                        if let Some(stale) = stale {
                            let help = "1 for a textfile that is older than --collector.textfile.max-age and left out.";
                            let name = "narthex_exporter_textfile_stale";
                            out.sample(Kind::Gauge, name, help, &labels, f64::from(u8::from(stale)));
                        }
                        if stale != Some(true) {
                            failed |= !merge(&mut merged, families, &path);
                        }
                    }
                    Err(what) => {
                        tracing::error!(file = path, error = what, "a textfile is left out");
                        failed = true;
                    }
                }
            }
        }
        if self.duplicates {
            let help = "Series that textfiles define more than once; the log has their files and lines.";
            out.gauge("narthex_exporter_textfile_duplicates", help, duplicates::report(&merged) as f64);
        }
        for (_, mut merged) in merged {
            if !merged.has_help {
                merged.family.help = format!("Metric read from {}", merged.files.join(", "));
            }
            out.add(&merged.family);
        }
        let help = "1 when a textfile or a folder could not be read.";
        out.gauge("node_textfile_scrape_error", help, f64::from(u8::from(failed)));
        Ok(())
    }
}

/// False when a family of this file had to be left out.
fn merge(merged: &mut BTreeMap<String, Merged>, families: Vec<(Family, bool)>, path: &str) -> bool {
    let mut complete = true;
    for (family, has_help) in families {
        match merged.get_mut(&family.name) {
            None => {
                let (files, counts) = (vec![path.to_owned()], vec![family.metrics.len()]);
                merged.insert(family.name.clone(), Merged { family, has_help, files, counts });
            }
            Some(first) => {
                let same_help = first.has_help == has_help && (!has_help || first.family.help == family.help);
                if !same_help || first.family.kind != family.kind {
                    tracing::error!(file = path, family = family.name, "help or type differs from an earlier textfile");
                    complete = false;
                    continue;
                }
                first.files.push(path.to_owned());
                first.counts.push(family.metrics.len());
                first.family.metrics.extend(family.metrics);
            }
        }
    }
    complete
}

/// The families of a file, each with whether it has a help line, and the time of its last change.
fn read(path: &Path) -> Result<(Vec<(Family, bool)>, f64), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("longer than {FILE_BYTES_MAX} bytes, split it"));
    }
    let families = exposition::families::parse_text(&bytes).map_err(|error| error.to_string())?;
    if let Some(family) = families.iter().find(|family| !is_legacy_metric_name(&family.name)) {
        return Err(format!("{:?} is not a plain metric name", family.name));
    }
    if families.iter().any(|family| family.metrics.iter().any(|metric| metric.at.is_some())) {
        return Err("a sample has a timestamp, write it without".to_owned());
    }
    let changed = file.metadata().and_then(|data| data.modified()).map_err(|error| error.to_string())?;
    let seconds = changed.duration_since(UNIX_EPOCH).map_or(0.0, |span| span.as_secs() as f64);
    let helped: BTreeSet<&[u8]> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"# HELP "))
        .filter_map(|rest| rest.split(|byte| *byte == b' ').next())
        .collect();
    let families: Vec<(Family, bool)> = families
        .into_iter()
        .map(|family| {
            let has_help = !family.help.is_empty() || helped.contains(family.name.as_bytes());
            (family, has_help)
        })
        .collect();
    Ok((families, seconds))
}

/// The folders a pattern means; a pattern that matches nothing is a folder.
fn expand(pattern: &str) -> Vec<String> {
    if !pattern.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let start = if pattern.starts_with('/') { "/" } else { "" };
    let mut found = vec![start.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for base in &found {
            if !part.contains(['*', '?', '[']) {
                next.push(format!("{base}{part}/"));
                continue;
            }
            let folder = if base.is_empty() { PathBuf::from(".") } else { PathBuf::from(base) };
            for name in list(&folder).unwrap_or_default() {
                if matches(part.as_bytes(), name.as_bytes()) && next.len() < FOLDERS_MAX {
                    next.push(format!("{base}{name}/"));
                }
            }
        }
        found = next;
    }
    let found: Vec<String> = found
        .into_iter()
        .map(|path| path.trim_end_matches('/').to_owned())
        .filter(|path| Path::new(path).exists())
        .collect();
    if found.is_empty() { vec![pattern.to_owned()] } else { found }
}

/// `*`, `?`, `[a-z]` and `[^a]`, within one path component.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return name.is_empty() };
    match first {
        b'*' => (0..=name.len()).any(|skipped| matches(rest, &name[skipped..])),
        b'?' => !name.is_empty() && matches(rest, &name[1..]),
        b'[' => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            let Some((byte, name)) = name.split_first() else { return false };
            let (negated, set) = match rest[..end].split_first() {
                Some((b'^' | b'!', set)) => (true, set),
                _ => (false, &rest[..end]),
            };
            let within = set.contains(byte)
                || set.windows(3).any(|range| range[1] == b'-' && (range[0]..=range[2]).contains(byte));
            within != negated && matches(&rest[end + 1..], name)
        }
        literal => name.first() == Some(literal) && matches(rest, &name[1..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Tree;

    fn samples(tree: &Tree) -> String {
        let folder = format!("--collector.textfile.directory={}", tree.path("text").display());
        tree.samples("textfile", &[&folder])
    }

    #[test]
    fn files_become_families() {
        let tree = Tree::new()
            .file("text/a.prom", "# TYPE a counter\na{x=\"1\"} 1\na{y=\"2\"} 2\n")
            .file("text/.b.prom", "b 3\n")
            .file("text/c.txt", "c 4\n");
        let samples = samples(&tree);
        assert!(samples.contains("a{x=\"1\",y=\"\"} 1\n") && samples.contains("a{x=\"\",y=\"2\"} 2\n"), "{samples}");
        assert!(samples.contains("b 3\n") && !samples.contains("c 4"), "{samples}");
        assert!(samples.contains("node_textfile_scrape_error 0\n"), "{samples}");
        assert_eq!(samples.matches("node_textfile_mtime_seconds").count(), 2, "{samples}");
    }

    #[test]
    fn a_broken_file_is_left_out_alone() {
        for broken in ["x 1 1234\n", "x{ 1\n", "x 1"] {
            let tree = Tree::new().file("text/a.prom", "a 1\n").file("text/b.prom", broken);
            let samples = samples(&tree);
            assert!(samples.contains("a 1\n") && !samples.contains("x 1"), "{samples}");
            assert!(samples.contains("node_textfile_scrape_error 1\n"), "{broken:?}: {samples}");
        }
    }

    #[test]
    fn differing_help_drops_the_later_family() {
        let tree = Tree::new()
            .file("text/a.prom", "# HELP m One.\nm{a=\"1\"} 1\n")
            .file("text/b.prom", "# HELP m Two.\nm{a=\"2\"} 2\n");
        let samples = samples(&tree);
        assert!(samples.contains("m{a=\"1\"} 1\n") && !samples.contains("a=\"2\""), "{samples}");
        assert!(samples.contains("node_textfile_scrape_error 1\n"), "{samples}");
    }

    #[test]
    fn histograms_stay_whole() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n";
        let samples = samples(&Tree::new().file("text/a.prom", text));
        assert!(samples.contains("h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"), "{samples}");
    }

    #[test]
    fn old_files_are_left_out_when_asked_for() {
        let tree = Tree::new().file("text/new.prom", "new 1\n").file("text/old.prom", "old 1\n");
        let old = File::options().write(true).open(tree.path("text/old.prom")).expect("a file");
        old.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(1)).expect("an old file");
        let folder = tree.path("text").display().to_string();
        let flag = format!("--collector.textfile.directory={folder}");
        let shown = tree.samples("textfile", &[&flag]);
        assert!(shown.contains("old 1\n") && !shown.contains("stale"), "{shown}");
        let shown = tree.samples("textfile", &[&flag, "--collector.textfile.max-age=1h"]);
        assert!(shown.contains("new 1\n") && !shown.contains("old 1\n"), "{shown}");
        for (name, stale) in [("new", 0), ("old", 1)] {
            let line = format!("narthex_exporter_textfile_stale{{file=\"{folder}/{name}.prom\"}} {stale}\n");
            assert!(shown.contains(&line), "{line} in {shown}");
        }
        assert!(shown.contains("mtime_seconds") && shown.contains("node_textfile_scrape_error 0\n"), "{shown}");
    }

    #[test]
    fn duplicates_are_counted_within_files_and_across() {
        let tree = Tree::new()
            .file("text/a.prom", "m{a=\"1\"} 1\nm{a=\"2\"} 1\nm{a=\"1\"} 3\n")
            .file("text/b.prom", "m{a=\"2\",b=\"\"} 1\nm{a=\"2\",b=\"x\"} 1\n");
        let flag = format!("--collector.textfile.directory={}", tree.path("text").display());
        let shown = tree.samples("textfile", &[&flag, "--collector.textfile.report-duplicates"]);
        assert!(shown.contains("narthex_exporter_textfile_duplicates 2\n"), "{shown}");
        assert!(shown.contains("m{a=\"1\",b=\"\"} 1\n") && shown.contains("node_textfile_scrape_error 0\n"), "{shown}");
        assert!(!tree.samples("textfile", &[&flag]).contains("duplicates"));
    }

    #[test]
    fn folders_by_pattern() {
        let tree = Tree::new().file("text/one/a.prom", "a 1\n").file("text/two/b.prom", "b 2\n");
        let pattern = format!("--collector.textfile.directory={}/t*o", tree.path("text").display());
        let samples = tree.samples("textfile", &[&pattern]);
        assert!(samples.contains("b 2\n") && !samples.contains("a 1\n"), "{samples}");
        assert!(matches(b"a[0-9]?*", b"a7xyz") && !matches(b"a[^0-9]", b"a7"));
        assert!(tree.samples("textfile", &[]).contains("node_textfile_scrape_error 0"));
    }
}
