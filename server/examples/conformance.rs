//! Judges the configuration reader by upstream's samples: `conformance FOLDER`.
//!
//! A sample that must load passes when it loads, one that must be refused when it is refused. What is refused because a
//! section is not built yet is counted apart, whichever of both it should be: such a sample judges nothing. Samples of
//! target groups (`sd/`) go through the mechanism of files.

use server::{Config, ConfigError};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// What upstream does with a sample.
#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Loads,
    Refused,
}

/// Samples whose refusal has a reason that the collection tells, and a piece of what must be said.
const REASONS: &[(&str, &str)] = &[
    ("scrape_config_files_double_import.bad.yml", "multiple scrape configs with job name"),
    ("scrape_config_files_duplicate.bad.yml", "multiple scrape configs with job name"),
    ("scrape_config_files_global_duplicate.bad.yml", "multiple scrape configs with job name"),
    ("scrape_config_files_global.bad.yml", "scrape timeout greater than scrape interval"),
    ("jobname_dup.bad.yml", "multiple scrape configs with job name"),
    ("unknown_attr.bad.yml", "unknown field"),
    ("unknown_global_attr.bad.yml", "unknown field"),
];

/// The rules of the collection's README, by name.
fn verdict(name: &str) -> Option<Verdict> {
    let stem = name.strip_suffix(".yml")?;
    if stem.ends_with(".good") {
        return Some(Verdict::Loads);
    }
    if stem.ends_with(".bad") || stem.ends_with(".incompatible") {
        return Some(Verdict::Refused);
    }
    match stem {
        "config_with_deprecated_am_api_config" => Some(Verdict::Refused),
        "otlp_empty" => Some(Verdict::Loads),
        _ if stem.starts_with("scrape_config_") => Some(Verdict::Loads),
        _ => None,
    }
}

#[derive(Default)]
struct Count {
    passed: usize,
    failed: usize,
    unbuilt: usize,
}

impl Count {
    fn judge(&mut self, name: &str, verdict: Verdict, loaded: &Result<Config, ConfigError>) {
        let said = loaded.as_ref().err().map(ToString::to_string);
        let reason = REASONS.iter().find(|(of, _)| *of == name).map(|(_, text)| *text);
        match (verdict, said) {
            (_, Some(said)) if said.contains(discovery::Unbuilt::REFUSAL) => {
                self.unbuilt += 1;
                println!("{name}: not built: {said}");
            }
            (Verdict::Refused, Some(said)) if reason.is_none_or(|reason| said.contains(reason)) => self.passed += 1,
            (Verdict::Loads, None) => self.passed += 1,
            (_, said) => {
                self.failed += 1;
                let said = said.unwrap_or_else(|| "it loads".into());
                println!("{name}: FAILED: {said}");
            }
        }
    }
}

fn samples(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Targets that a file of groups gives through the running mechanism of files; none when it is refused.
async fn targets(path: &Path) -> Result<usize, String> {
    let yaml = format!("scrape_configs: [{{job_name: j, file_sd_configs: [{{files: ['{}']}}]}}]", path.display());
    let config = Config::parse(&yaml, Path::new("sample.yml")).map_err(|error| error.to_string())?;
    let clock = runtime::Clock::system();
    let environment = discovery::Environment {
        tasks: runtime::Tasks::new(clock.clone()),
        shutdown: runtime::Shutdown::new(),
        proxies: client::ProxyEnvironment::default(),
        clock: clock.clone(),
    };
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let deliver = move |_: &str, groups: Vec<std::sync::Arc<discovery::Group>>| {
        let _ = tell.send(groups.iter().map(|group| group.targets.len()).sum::<usize>());
    };
    let manager = discovery::Manager::new("scrape", environment, &metrics::Registry::new(), Box::new(deliver));
    manager.apply(&config.discovery);
    let first = clock.timeout(std::time::Duration::from_secs(60), told.recv()).await;
    first.ok().flatten().ok_or_else(|| "the mechanism never answered".into())
}

/// Judges the samples of target groups: those called valid or good give targets, the others are refused.
fn judge_groups(folder: &Path, count: &mut Count) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            count.failed += 1;
            return println!("sd: FAILED: {error}");
        }
    };
    for path in samples(&folder.join("sd/file")).into_iter().chain(samples(&folder.join("sd/http"))) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let good = name.starts_with("valid") || name.contains(".good.");
        match runtime.block_on(targets(&path)) {
            Ok(found) if (found > 0) == good => count.passed += 1,
            other => {
                count.failed += 1;
                println!("sd/{name}: FAILED: {other:?}");
            }
        }
    }
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: conformance FOLDER");
        return ExitCode::FAILURE;
    };
    let mut count = Count::default();
    for part in [folder.clone(), folder.join("scrape_configs")] {
        for path in samples(&part) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with("agent_mode.") {
                count.unbuilt += 1;
                println!("{name}: not built: agent mode");
            } else if let Some(verdict) = verdict(name) {
                count.judge(name, verdict, &Config::read(&path));
            }
        }
    }
    judge_groups(&folder, &mut count);
    println!("config: {} passed, {} failed, {} not built", count.passed, count.failed, count.unbuilt);
    if count.failed > 0 || count.passed == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
