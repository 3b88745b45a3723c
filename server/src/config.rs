//! The server's configuration file: strict YAML, upstream's keys and defaults.
//!
//! A key that is valid upstream but not built here is refused by name, never ignored in silence. A section that holds
//! nothing but a comment (null) means its defaults, as upstream. Source of truth: the configuration page of the
//! Prometheus documentation and `config/config.go` of release 3.14.

mod job;
mod keys;

pub(crate) use keys::parse_size;

use discovery::Configs;
use job::Defaults;
use keys::{Alerting, Alertmanager, File, JobFile, List, ScrapeJob};
use model::{Duration, Labels};
use scrape::ScrapeConfig;
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

/// Why a configuration was refused; names file, line and column where the text alone shows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    #[error("opening config file: {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not the YAML of a configuration.
    #[error("{place}: {text}")]
    Syntax {
        /// `file:line:column`.
        place: String,
        /// What is wrong there.
        text: String,
    },
    /// The text parses and means nothing that can run.
    #[error("{path}: {text}")]
    Meaning {
        /// The file, with line and column of the item that is meant where there is one.
        path: String,
        /// What is wrong and what to change.
        text: String,
    },
}

/// A configuration ready to run.
#[derive(Debug)]
pub struct Config {
    /// The text as read, for `/api/v1/status/config`.
    pub text: String,
    /// Labels added to what leaves this server.
    pub external_labels: Labels,
    /// Where queries are logged, if anywhere.
    pub query_log: Option<PathBuf>,
    /// Default step of subqueries, and the interval of rule groups.
    pub evaluation_interval: Duration,
    /// What to scrape.
    pub scrape: Vec<ScrapeConfig>,
    /// How the targets of each job are found, by its name.
    pub discovery: Vec<(String, Configs)>,
    /// How far behind the newest sample one may come out of order; 0 refuses all of them.
    pub out_of_order_window: Duration,
    /// Exemplars kept when the feature is on.
    pub exemplars_max: usize,
    /// How long samples are kept; what it says wins over the flags.
    pub retention: Retention,
}

/// How long samples are kept.
#[derive(Clone, Debug, Default)]
pub struct Retention {
    /// Age beyond which they go.
    pub time: Option<Duration>,
    /// Bytes of all parts beyond which the oldest go.
    pub bytes: Option<u64>,
    /// The same as a share of the disk, in percent.
    pub percentage: Option<f64>,
    /// Series that have an age of their own; the first that matches decides.
    pub series: Vec<tsdb::Retention>,
}

fn retention(keys: keys::RetentionKeys) -> Result<Retention, String> {
    let bytes = keys.size.map(|size| size.0).filter(|bytes| *bytes > 0);
    if let Some(percent) = keys.percentage.filter(|percent| !(0.0..=100.0).contains(percent)) {
        return Err(format!("storage.tsdb.retention.percentage must be from 0 to 100, and is {percent}"));
    }
    let mut series = Vec::new();
    for rule in keys.series {
        let matchers = promql::parse_selector(&rule.selector)
            .map_err(|error| format!("storage.tsdb.retention.series: {:?}: {error}", rule.selector))?;
        let keep_ms = i64::try_from(rule.time.0.as_millis()).unwrap_or(i64::MAX);
        series.push(tsdb::Retention { matchers, keep_ms });
    }
    let percentage = keys.percentage.filter(|percent| *percent > 0.0);
    Ok(Retention { time: keys.time.map(|span| span.0), bytes, percentage, series })
}

/// Exemplars kept when the configuration says nothing. Upstream's number.
const EXEMPLARS_MAX: i64 = 100_000;

/// Something wrong, and the line and column of the item if that is known.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) text: String,
}

impl Fault {
    /// Without a place of its own: that of the item around it counts.
    pub(crate) fn here(text: impl Into<String>) -> Self {
        Self { at: None, text: text.into() }
    }
}

impl From<String> for Fault {
    fn from(text: String) -> Self {
        Self::here(text)
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]; upstream's exit code for it is 2.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&text(path)?, path)
    }

    /// Checks a configuration text. `path` is for messages, and its folder is where relative paths start; files that
    /// `scrape_config_files` names are read.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let name = path.display().to_string();
        let file = parse::<File>(text, &name)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let plain = |text: String| ConfigError::Meaning { path: name.clone(), text };
        let global = file.global.unwrap_or_default();
        let defaults = Defaults::new(&global, folder).map_err(plain)?;
        let mut jobs = Jobs::default();
        jobs.add(file.scrape_configs, &defaults, path)?;
        jobs.add_files(&file.scrape_config_files.unwrap_or_default(), &defaults, path)?;
        alerting(file.alerting.unwrap_or_default(), folder).map_err(plain)?;
        let external_labels = external_labels(global.external_labels.unwrap_or_default(), &variable).map_err(plain)?;
        let minute = Duration::from_millis(job::MINUTE_MS);
        let storage = file.storage.unwrap_or_default();
        let tsdb = storage.tsdb.unwrap_or_default();
        let window = tsdb.out_of_order_time_window;
        let retention = retention(tsdb.retention.unwrap_or_default()).map_err(plain)?;
        let exemplars = storage.exemplars.unwrap_or_default().max_exemplars.unwrap_or(EXEMPLARS_MAX);
        let query_log = global.query_log_file.filter(|name| !name.is_empty()).map(|name| folder.join(name));
        Ok(Self {
            query_log,
            text: text.to_owned(),
            external_labels,
            evaluation_interval: global.evaluation_interval.map_or(minute, |span| span.0),
            scrape: jobs.scrape,
            discovery: jobs.discovery,
            out_of_order_window: window.map_or(Duration::from_millis(0), |span| span.0),
            exemplars_max: usize::try_from(exemplars).unwrap_or(0),
            retention,
        })
    }
}

impl Config {
    /// Tells all jobs what the server has switched on.
    pub(crate) fn switch(&mut self, features: scrape::Features) {
        for job in &mut self.scrape {
            job.features = features;
            // Only protobuf says of every kind of counter when it started.
            if features.start_zero_samples && job.protocols == exposition::Protocol::DEFAULT {
                job.protocols = exposition::Protocol::DEFAULT_NATIVE.to_vec();
            }
        }
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.display().to_string(), source })
}

fn parse<T: Default + for<'de> serde::Deserialize<'de>>(text: &str, path: &str) -> Result<T, ConfigError> {
    let file: Option<T> = serde_saphyr::from_str(text).map_err(|error| syntax(path, &error))?;
    Ok(file.unwrap_or_default())
}

fn syntax(path: &str, error: &serde_saphyr::Error) -> ConfigError {
    let at = error.location();
    let place = at.map_or_else(|| path.to_owned(), |at| format!("{path}:{}:{}", at.line(), at.column()));
    ConfigError::Syntax { place, text: plain(&error.to_string()) }
}

/// What the reader says without the place, which stands before it already, and without its drawing of the lines, which a
/// log line cannot show.
fn plain(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    match first.split_once(": ") {
        Some((place, said)) if place.starts_with("line ") => said.to_owned(),
        _ => first.to_owned(),
    }
}

/// The jobs of a file and of those it names.
#[derive(Default)]
struct Jobs {
    scrape: Vec<ScrapeConfig>,
    discovery: Vec<(String, Configs)>,
    names: HashSet<String>,
}

impl Jobs {
    fn add(&mut self, list: List<ScrapeJob>, defaults: &Defaults<'_>, path: &Path) -> Result<(), ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        for item in list.unwrap_or_default() {
            let (line, column) = (item.referenced.line(), item.referenced.column());
            let refused = |fault: Fault| {
                let (line, column) = fault.at.unwrap_or((line, column));
                ConfigError::Meaning { path: format!("{}:{line}:{column}", path.display()), text: fault.text }
            };
            let job = item.value.ok_or_else(|| refused(Fault::here("empty or null scrape config section")))?;
            let (scrape, targets) = job::build(job, defaults, folder).map_err(refused)?;
            let name = scrape.job_name.clone();
            if !self.names.insert(name.clone()) {
                let text = format!("found multiple scrape configs with job name {name:?}; give each its own job_name");
                return Err(refused(Fault::here(text)));
            }
            self.scrape.push(scrape);
            self.discovery.push((name, targets));
        }
        Ok(())
    }

    /// Adds the jobs of the files that patterns name.
    fn add_files(
        &mut self,
        patterns: &[Spanned<String>],
        defaults: &Defaults<'_>,
        path: &Path,
    ) -> Result<(), ConfigError> {
        let folder = path.parent().unwrap_or(Path::new(""));
        for pattern in patterns {
            let at = pattern.referenced;
            let refused = |text: String| ConfigError::Meaning {
                path: format!("{}:{}:{}", path.display(), at.line(), at.column()),
                text,
            };
            for file in matching(&folder.join(&pattern.value)).map_err(refused)? {
                let jobs = parse::<JobFile>(&text(&file)?, &file.display().to_string())?;
                self.add(jobs.scrape_configs, defaults, &file)?;
            }
        }
        Ok(())
    }
}

/// The files of a pattern whose last part may hold one `*`, in the order of their names. One without a star must exist.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = pattern.to_string_lossy();
    let (folder, name) = shown.rsplit_once('/').unwrap_or((".", &shown));
    let Some((before, after)) = name.split_once('*') else {
        return if shown.contains('*') { Err(no_path(&shown)) } else { Ok(vec![pattern.to_owned()]) };
    };
    if folder.contains('*') || after.contains('*') {
        return Err(no_path(&shown));
    }
    let folder = if folder.is_empty() { "/" } else { folder };
    let fits = |name: &str| {
        (before.starts_with('.') || !name.starts_with('.'))
            && name.strip_prefix(before).is_some_and(|rest| rest.ends_with(after))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter(|entry| entry.file_name().to_str().is_some_and(fits)).map(|entry| entry.path());
    let mut files: Vec<PathBuf> = found.filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

fn no_path(pattern: &str) -> String {
    format!("invalid scrape config file path {pattern:?}; one * may stand in its last part")
}

/// Checks the section. Alerts are not sent yet: who would be told is refused.
fn alerting(section: Alerting, folder: &Path) -> Result<(), String> {
    let plain = |fault: Fault| format!("alerting: {}", fault.text);
    job::rules(section.alert_relabel_configs, "alert relabeling rule").map_err(plain)?;
    for Alertmanager { own, http, mut targets } in section.alertmanagers.unwrap_or_default() {
        let word = |value: &Option<String>, allowed: &[&str], key: &str| match value {
            Some(text) if !allowed.contains(&text.as_str()) => {
                Err(format!("alerting: {key} {text:?} is not one of {allowed:?}"))
            }
            _ => Ok(()),
        };
        word(&own.scheme, &["http", "https"], "scheme")?;
        word(&own.api_version, &["v2"], "api_version")?;
        http.validate().map_err(|error| format!("alerting: {error}"))?;
        job::rules(own.relabel_configs, "Alertmanager target relabeling rule").map_err(plain)?;
        job::rules(own.alert_relabel_configs, "Alertmanager alert relabeling rule").map_err(plain)?;
        targets.check(folder).map_err(|refused| format!("alerting: {refused}"))?;
        if !targets.is_idle() {
            return Err(format!("alertmanagers: {}", discovery::Unbuilt::REFUSAL));
        }
    }
    Ok(())
}

/// Checks names and fills in variables of the environment: `$v` and `${v}`, `$$` is a dollar.
fn external_labels(labels: BTreeMap<String, String>, variable: &dyn Fn(&str) -> String) -> Result<Labels, String> {
    if let Some(wrong) = labels.keys().find(|name| name.is_empty()) {
        return Err(format!("{wrong:?} is not a valid label name"));
    }
    Ok(Labels::from_pairs(labels.iter().map(|(name, value)| (name, expanded(value, variable)))))
}

fn expanded(text: &str, variable: &dyn Fn(&str) -> String) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            out.push_str(&variable(name));
            rest = after;
        } else {
            let end = after.find(|c| !word(c)).unwrap_or(after.len());
            match end {
                // As Go: no name leaves the dollar as it is, and a brace that is not closed is eaten with it.
                0 if after.starts_with('{') => {}
                0 => out.push('$'),
                _ => out.push_str(&variable(&after[..end])),
            }
            let end = if after.starts_with('{') { 1 } else { end };
            rest = &after[end..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
