//! Targets in files that somebody else writes, in JSON or YAML.
//!
//! Source of truth: `file_sd_configs` on upstream's configuration page. Files are watched by looking at their times and
//! sizes every [`LOOK_EVERY`], which works on every file system; upstream asks the kernel to tell.

use crate::{
    Context, Group, Span,
    counters::QUANTILES,
    groups::{Written, listed},
    mechanism::{Key, Mechanism, MetaLabel, key, label},
};
use metrics::{Counter, GaugeVec, Registry, Summary};
use runtime::Clock;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How often files are looked at. Whoever asked is told at most every five seconds anyway.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a file at most: a million targets fit.
const FILE_MAX: u64 = 256 << 20;

/// One entry of `file_sd_configs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    files: Option<Vec<String>>,
    refresh_interval: Option<Span>,
}

impl Mechanism for Config {
    const KEY: &'static str = "file_sd_configs";
    const SUMMARY: &'static str = "Targets in files, JSON or YAML, read again when they change. A file that cannot be \
                                   read keeps its last targets.";
    const KEYS: &'static [Key] = &[
        key(
            "files",
            "required",
            "Paths that end in `.json`, `.yml` or `.yaml`; the last part may hold one `*`. Relative ones start at the \
             folder of the configuration file.",
        ),
        key("refresh_interval", "5m", "How often files are read even if they seem unchanged."),
    ];
    const LABELS: &'static [MetaLabel] = &[label("__meta_filepath", "The path of the file.")];
    const CLIENT: bool = false;
    type Metrics = Metrics;

    fn metrics(registry: &Registry, clock: &Clock) -> Metrics {
        Metrics::new(registry, clock)
    }

    fn check(&mut self, folder: &Path) -> Result<(), String> {
        let files = self.files.as_mut().filter(|files| !files.is_empty());
        let files = files.ok_or("file service discovery config must contain at least one path name")?;
        for file in files {
            if Pattern::parse(file).is_none() {
                return Err(format!("path name {file:?} is not valid for file discovery"));
            }
            if Path::new(file).is_relative() {
                *file = folder.join(&*file).to_string_lossy().into_owned();
            }
        }
        Ok(())
    }

    async fn run(self, context: Context, metrics: Metrics) {
        let patterns: Vec<Pattern> = self.files.iter().flatten().filter_map(|file| Pattern::parse(file)).collect();
        let refresh = self.refresh_interval.unwrap_or(Span::seconds(300)).0.as_std();
        let (mut known, mut last) = (Known::default(), None);
        loop {
            let now = context.clock().now();
            let all = last.is_none_or(|last| now - last >= refresh);
            if all {
                last = Some(now);
            }
            let (patterns, mut before, counted, clock) =
                (patterns.clone(), std::mem::take(&mut known), metrics.clone(), context.clock().clone());
            let look = move || {
                let began = clock.now();
                let groups = look(&patterns, all, &mut before, &counted);
                if all {
                    counted.scan_seconds.observe((clock.now() - began).as_secs_f64());
                }
                (before, groups)
            };
            // A panic is counted and logged there; all files are read again.
            if let Ok((after, groups)) = context.tasks().blocking("discovery file", look).await {
                known = after;
                if all || !groups.is_empty() {
                    context.send(groups);
                }
            } else {
                last = None;
            }
            context.clock().sleep(LOOK_EVERY.min(refresh)).await;
        }
    }
}

/// Instruments, under upstream's names.
#[derive(Clone)]
pub(crate) struct Metrics {
    errors: Counter,
    mtimes: GaugeVec,
    scan_seconds: Summary,
}

impl Metrics {
    fn new(registry: &Registry, clock: &Clock) -> Self {
        registry.counter(
            "prometheus_sd_file_watcher_errors_total",
            "The number of File-SD errors caused by filesystem watch failures.",
        );
        Self {
            errors: registry.counter("prometheus_sd_file_read_errors_total", "The number of File-SD read errors."),
            mtimes: registry.gauge_vec(
                "prometheus_sd_file_mtime_seconds",
                "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.",
                &["filename"],
            ),
            scan_seconds: registry.summary(
                "prometheus_sd_file_scan_duration_seconds",
                "The duration of the File-SD scan in seconds.",
                QUANTILES,
                clock,
            ),
        }
    }
}

/// A path whose last part may hold one `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    folder: PathBuf,
    before: String,
    /// What follows the `*`, if there is one.
    after: Option<String>,
}

impl Pattern {
    /// None when it has another form.
    fn parse(text: &str) -> Option<Self> {
        let kinds = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"];
        let kind = kinds.iter().find(|kind| text.ends_with(**kind))?;
        let (folder, name) = text
            .rsplit_once('/')
            .map_or((".", text), |(folder, name)| (if folder.is_empty() { "/" } else { folder }, name));
        if folder.contains('*') || name.matches('*').count() > 1 || name == *kind && name.contains('*') {
            return None;
        }
        let (before, after) =
            name.split_once('*').map_or((name, None), |(before, after)| (before, Some(after.to_owned())));
        Some(Self { folder: folder.into(), before: before.to_owned(), after })
    }

    fn fits(&self, name: &str) -> bool {
        let Some(after) = &self.after else { return name == self.before };
        let hidden = name.starts_with('.') && !self.before.starts_with('.');
        !hidden && name.strip_prefix(self.before.as_str()).is_some_and(|rest| rest.ends_with(after.as_str()))
    }

    /// The files that fit. A folder that cannot be read has none.
    fn files(&self) -> Vec<PathBuf> {
        if self.after.is_none() {
            let file = self.folder.join(&self.before);
            return if file.exists() { vec![file] } else { Vec::new() };
        }
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| self.fits(name)))
            .map(|e| e.path())
            .collect()
    }
}

/// What is known of files: enough to see that one changed, and how many groups it had.
type Known = BTreeMap<PathBuf, File>;

#[derive(Clone, Copy, Debug, Default)]
struct File {
    seen: Option<(SystemTime, u64)>,
    groups: usize,
}

/// Groups of the files that changed (of all files if `all`), and empty ones for those that vanished.
fn look(patterns: &[Pattern], all: bool, known: &mut Known, metrics: &Metrics) -> Vec<Group> {
    let mut paths: Vec<PathBuf> = patterns.iter().flat_map(Pattern::files).collect();
    paths.sort();
    paths.dedup();
    let mut told = Vec::new();
    let gone: Vec<PathBuf> = known.keys().filter(|path| paths.binary_search(path).is_err()).cloned().collect();
    for path in gone {
        let name = path.to_string_lossy();
        metrics.mtimes.remove(&[&name]);
        let file = known.remove(&path).unwrap_or_default();
        told.extend((0..file.groups).map(|i| empty(&name, i)));
    }
    for path in paths {
        let name = path.to_string_lossy().into_owned();
        let file = known.entry(path.clone()).or_default();
        let seen = fs::metadata(&path).ok().map(|data| (data.modified().unwrap_or(UNIX_EPOCH), data.len()));
        if !all && seen == file.seen {
            continue;
        }
        file.seen = seen;
        match read(&path, &name) {
            Ok(groups) => {
                let age = seen.and_then(|(time, _)| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
                metrics.mtimes.with(&[&name]).set(age.as_secs_f64());
                told.extend((groups.len()..file.groups).map(|i| empty(&name, i)));
                file.groups = groups.len();
                told.extend(groups);
            }
            Err(error) => {
                metrics.errors.inc();
                tracing::error!(path = name, error, "Error reading file");
            }
        }
    }
    told
}

fn empty(name: &str, i: usize) -> Group {
    Group { source: format!("{name}:{i}"), ..Group::default() }
}

fn read(path: &Path, name: &str) -> Result<Vec<Group>, String> {
    let size = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_MAX {
        return Err(format!("{size} bytes are more than {FILE_MAX}; split the file"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let items: Vec<Option<Written>> = if name.to_ascii_lowercase().ends_with(".json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())?
    } else {
        let items: Option<_> = serde_saphyr::from_str(&text).map_err(|error| plain(&error.to_string()))?;
        items.unwrap_or_default()
    };
    listed(&items, name, &[("__meta_filepath", name)])
}

/// The first line: the others draw what a log line cannot show.
fn plain(error: &str) -> String {
    error.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, configs, refusal};
    use std::io::Write;

    fn write(folder: &Path, name: &str, text: &str) {
        let mut file = fs::File::create(folder.join(name)).expect("made");
        file.write_all(text.as_bytes()).expect("written");
    }

    #[test]
    fn paths_are_checked_and_globs_fit_one_star_in_the_last_part() {
        for (yaml, want) in [
            ("file_sd_configs: [{files: []}]", "must contain at least one path name"),
            ("file_sd_configs: [{files: ['a.txt']}]", "path name \"a.txt\" is not valid for file discovery"),
            ("file_sd_configs: [{files: ['*/a.json']}]", "is not valid"),
            ("file_sd_configs: [{files: ['*a*.json']}]", "is not valid"),
            ("file_sd_configs: [{file: ['a.json']}]", "unknown field"),
        ] {
            assert!(refusal(yaml).contains(want), "{yaml}: {}", refusal(yaml));
        }
        let pattern = Pattern::parse("/x/a*.yml").expect("valid");
        for (name, fits) in [("a.yml", true), ("abc.yml", true), ("b.yml", false), ("a.yaml", false), ("a.ym", false)] {
            assert_eq!(pattern.fits(name), fits, "{name}");
        }
        assert!(!Pattern::parse("*.yml").expect("valid").fits(".hidden.yml"));
    }

    #[test]
    fn files_come_change_break_and_go() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, &Clock::system());
        let patterns =
            ["*.json", "b*.yml"].map(|glob| Pattern::parse(&path.join(glob).to_string_lossy()).expect("valid"));
        let mut known = Known::default();
        let mut check = |all: bool, want: &[(&str, usize)]| {
            let groups = look(&patterns, all, &mut known, &metrics);
            let name = |group: &Group| group.source.rsplit('/').next().unwrap_or_default().to_owned();
            let have: Vec<_> = groups.iter().map(|group| (name(group), group.targets.len())).collect();
            assert_eq!(have, want.iter().map(|(n, c)| ((*n).to_owned(), *c)).collect::<Vec<_>>());
        };
        check(true, &[]);
        write(path, "a.json", r#"[{"targets": ["x", "y"]}, {"targets": ["z"], "labels": {"k": "v"}}]"#);
        write(path, "b1.yml", "- targets: [q]\n  labels: {port: 80}\n");
        write(path, "c.yml", "- targets: [no]\n");
        check(false, &[("a.json:0", 2), ("a.json:1", 1), ("b1.yml:0", 1)]);
        check(false, &[]);
        check(true, &[("a.json:0", 2), ("a.json:1", 1), ("b1.yml:0", 1)]);
        for broken in ["[{\"targets\": [\"only\"]}, null]", "[{\"target\": []}]", "", "[{\"labels\": {\"a\": 1}}]"] {
            write(path, "a.json", broken);
            check(true, &[("b1.yml:0", 1)]);
        }
        assert_eq!(metrics.errors.get(), 4.0);
        write(path, "a.json", r#"[{"targets": ["x"]}]"#);
        check(false, &[("a.json:1", 0), ("a.json:0", 1)]);
        write(path, "b1.yml", "");
        check(false, &[("b1.yml:0", 0)]);
        fs::remove_file(path.join("a.json")).expect("removed");
        check(false, &[("a.json:0", 0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_changed_file_changes_targets_within_seconds() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "a.json", r#"[{"targets": ["x"]}]"#);
        let bench = Bench::new(Clock::simulated(0));
        bench.apply(&[("j", configs("file_sd_configs: [{files: ['*.json']}]", folder.path()))]);
        let label = format!("__meta_filepath=\"{}\"", folder.path().join("a.json").display());
        let first = bench.until(|targets| !targets.is_empty()).await;
        assert_eq!(first, [format!("{{__address__=\"x\", {label}}}")]);
        write(folder.path(), "a.json", r#"[{"targets": ["longer"]}]"#);
        let second = bench.until(|targets| *targets != first).await;
        assert_eq!(second, [format!("{{__address__=\"longer\", {label}}}")]);
        fs::remove_file(folder.path().join("a.json")).expect("removed");
        bench.until(<[String]>::is_empty).await;
    }
}
