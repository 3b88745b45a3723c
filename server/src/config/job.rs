//! From the keys of a job to what is scraped, defaults of the file filled in.

use super::{
    Fault,
    keys::{Global, Job, List, Rule, ScrapeJob},
};
use discovery::Configs;
use exposition::{Escaping, Protocol};
use model::{Action, Duration, Relabel, RelabelRule};
use scrape::{Features, NameValidation, ScrapeConfig};
use std::path::{Path, PathBuf};

/// What a job inherits.
pub(crate) struct Defaults<'a> {
    global: &'a Global,
    interval: Duration,
    timeout: Duration,
    validation: NameValidation,
    escaping: Option<Escaping>,
    failure_log: Option<PathBuf>,
}

/// Upstream's default of intervals.
pub(crate) const MINUTE_MS: u64 = 60_000;

/// Upstream's default of timeouts, unless the interval is shorter.
const TIMEOUT_MS: u64 = 10_000;

impl<'a> Defaults<'a> {
    /// Relative paths start at `folder`.
    pub(crate) fn new(global: &'a Global, folder: &Path) -> Result<Self, String> {
        let interval = global.scrape_interval.map_or(Duration::from_millis(MINUTE_MS), |span| span.0);
        let ten = Duration::from_millis(TIMEOUT_MS);
        let timeout = global.scrape_timeout.map_or(ten.min(interval), |span| span.0);
        if timeout > interval {
            return Err("global scrape timeout greater than scrape interval; lower scrape_timeout".into());
        }
        if let Some(listed) = &global.scrape_protocols {
            protocols(Some(listed), false).map_err(|why| format!("{why} for global config"))?;
        }
        let validation = validation(global.metric_name_validation_scheme.as_deref())?.unwrap_or(NameValidation::Utf8);
        let escaping = escaping(global.metric_name_escaping_scheme.as_deref())?;
        agree(validation, escaping.unwrap_or(default_escaping(validation)))?;
        let failure_log = file(global.scrape_failure_log_file.as_deref(), folder);
        Ok(Self { global, interval, timeout, validation, escaping, failure_log })
    }
}

/// A path of the configuration; empty is none.
fn file(text: Option<&str>, folder: &Path) -> Option<PathBuf> {
    text.filter(|text| !text.is_empty()).map(|text| folder.join(text))
}

/// Checks a job and fills in what it does not say. Relative paths start at `folder`.
pub(crate) fn build(job: ScrapeJob, defaults: &Defaults<'_>, folder: &Path) -> Result<(ScrapeConfig, Configs), Fault> {
    let ScrapeJob { own, mut http, mut targets } = job;
    let name = own.job_name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(Fault::here("job_name is empty; give the job a name"));
    }
    let told = |text: String| Fault::here(format!("scrape config {name:?}: {text}"));
    http.validate().map_err(|error| told(error.to_string()))?;
    http.set_directory(folder);
    targets
        .check(folder)
        .map_err(|refused| Fault { at: Some((refused.line, refused.column)), ..told(refused.text) })?;
    let mut config =
        scrape_config(own, http, defaults, folder).map_err(|fault| Fault { at: fault.at, ..told(fault.text) })?;
    config.groups = targets.fixed();
    if config.relabel.is_empty() {
        let addresses = config.groups.iter().flat_map(|group| &group.targets).filter_map(|one| one.get("__address__"));
        if let Some(wrong) = addresses.into_iter().find(|address| address.contains('/')) {
            return Err(told(format!("{wrong:?} is not a valid hostname")));
        }
    }
    Ok((config, targets))
}

fn scrape_config(
    job: Job,
    http: client::HttpConfig,
    defaults: &Defaults<'_>,
    folder: &Path,
) -> Result<ScrapeConfig, Fault> {
    let global = defaults.global;
    let scheme = job.scheme.unwrap_or_else(|| "http".into());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(Fault::here(format!("scheme {scheme:?} is neither http nor https")));
    }
    let interval = job.scrape_interval.map_or(defaults.interval, |span| span.0);
    let timeout = job.scrape_timeout.map_or(defaults.timeout.min(interval), |span| span.0);
    if timeout > interval {
        return Err(Fault::here("scrape timeout greater than scrape interval; lower scrape_timeout"));
    }
    let validation = validation(job.metric_name_validation_scheme.as_deref())?.unwrap_or(defaults.validation);
    let escaping = escaping(job.metric_name_escaping_scheme.as_deref())?.or(defaults.escaping);
    let escaping = escaping.unwrap_or(default_escaping(validation));
    agree(validation, escaping)?;
    let limit = |own: Option<u64>, global: Option<u64>| own.filter(|n| *n > 0).or(global).unwrap_or_default();
    let switch = |own: Option<bool>, global: Option<bool>| own.or(global).unwrap_or(false);
    let size = job.body_size_limit.map(|size| size.0);
    let native = switch(job.scrape_native_histograms, global.scrape_native_histograms);
    Ok(ScrapeConfig {
        interval,
        timeout,
        scheme,
        http,
        metrics_path: job.metrics_path.unwrap_or_else(|| "/metrics".into()),
        honor_labels: job.honor_labels.unwrap_or(false),
        honor_timestamps: job.honor_timestamps.unwrap_or(true),
        params: job.params.unwrap_or_default(),
        compression: job.enable_compression.unwrap_or(true),
        relabel: rules(job.relabel_configs, "target relabeling rule in scrape config")?,
        metric_relabel: rules(job.metric_relabel_configs, "metric relabeling rule in scrape config")?,
        groups: Vec::new(),
        body_size_limit: limit(size, global.body_size_limit.map(|size| size.0)),
        sample_limit: limit(job.sample_limit, global.sample_limit),
        label_limit: limit(job.label_limit, global.label_limit),
        label_name_length_limit: limit(job.label_name_length_limit, global.label_name_length_limit),
        label_value_length_limit: limit(job.label_value_length_limit, global.label_value_length_limit),
        target_limit: limit(job.target_limit, global.target_limit),
        fallback: job.fallback_scrape_protocol.as_deref().map(fallback).transpose()?,
        protocols: protocols(job.scrape_protocols.as_ref().or(global.scrape_protocols.as_ref()), native)?,
        track_timestamps_staleness: job.track_timestamps_staleness.unwrap_or(false),
        extra_metrics: switch(job.extra_scrape_metrics, global.extra_scrape_metrics),
        native_histograms: native,
        always_scrape_classic: switch(job.always_scrape_classic_histograms, global.always_scrape_classic_histograms),
        convert_classic_histograms: switch(
            job.convert_classic_histograms_to_nhcb,
            global.convert_classic_histograms_to_nhcb,
        ),
        keep_dropped_targets: limit(job.keep_dropped_targets, global.keep_dropped_targets),
        validation,
        escaping,
        bucket_limit: job.native_histogram_bucket_limit.unwrap_or_default(),
        bucket_factor_min: job.native_histogram_min_bucket_factor.unwrap_or_default(),
        failure_log: file(job.scrape_failure_log_file.as_deref(), folder).or_else(|| defaults.failure_log.clone()),
        features: Features::default(),
        job_name: job.job_name.unwrap_or_default(),
    })
}

fn validation(word: Option<&str>) -> Result<Option<NameValidation>, String> {
    match word {
        None | Some("") => Ok(None),
        Some("utf8") => Ok(Some(NameValidation::Utf8)),
        Some("legacy") => Ok(Some(NameValidation::Legacy)),
        Some(other) => Err(format!(
            "unknown metric name validation method specified, must be either '', 'legacy' or 'utf8', got {other}"
        )),
    }
}

fn escaping(word: Option<&str>) -> Result<Option<Escaping>, String> {
    let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(None) };
    Escaping::parse(word).map(Some).ok_or_else(|| {
        format!(
            "unknown name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots' or 'values', \
             got {word:?}"
        )
    })
}

fn default_escaping(validation: NameValidation) -> Escaping {
    match validation {
        NameValidation::Utf8 => Escaping::AllowUtf8,
        NameValidation::Legacy => Escaping::Underscores,
    }
}

fn agree(validation: NameValidation, escaping: Escaping) -> Result<(), String> {
    if validation == NameValidation::Legacy && escaping == Escaping::AllowUtf8 {
        return Err("utf8 metric names requested but validation scheme is not set to UTF8".into());
    }
    Ok(())
}

/// The formats that are asked for: as listed, or upstream's, which begin with protobuf when native histograms are wanted.
fn protocols(listed: Option<&Vec<String>>, native: bool) -> Result<Vec<Protocol>, String> {
    let Some(listed) = listed else {
        return Ok(if native { Protocol::DEFAULT_NATIVE.to_vec() } else { Protocol::DEFAULT.to_vec() });
    };
    if listed.is_empty() {
        return Err("scrape_protocols cannot be empty; name a format or leave the key out".into());
    }
    let mut found: Vec<Protocol> = Vec::new();
    for name in listed {
        let protocol = Protocol::parse(name).ok_or_else(|| unknown_protocol(name))?;
        if found.contains(&protocol) {
            return Err(format!("duplicated protocol in scrape_protocols, got {name:?} twice"));
        }
        found.push(protocol);
    }
    Ok(found)
}

fn unknown_protocol(name: &str) -> String {
    let known = Protocol::ALL.map(Protocol::name).join(" ");
    format!("unknown scrape protocol {name}, supported: [{known}]")
}

fn fallback(name: &str) -> Result<exposition::Format, String> {
    let protocol = Protocol::parse(name);
    let protocol = protocol.ok_or_else(|| format!("invalid fallback_scrape_protocol: {}", unknown_protocol(name)))?;
    Ok(protocol.format())
}

/// Compiles a list of rules; `what` names them in messages.
pub(crate) fn rules(list: List<Rule>, what: &str) -> Result<Vec<Relabel>, Fault> {
    let compile = |item: serde_saphyr::Spanned<Option<Rule>>| {
        let at = Some((item.referenced.line(), item.referenced.column()));
        let fault = |text: String| Fault { at, text };
        let rule = item.value.ok_or_else(|| fault(format!("empty or null {what}")))?;
        let action = rule.action.as_deref().unwrap_or("replace");
        let action = Action::parse(action).ok_or_else(|| fault(format!("unknown relabel action {action:?}")))?;
        let rule = RelabelRule {
            source_labels: rule.source_labels.unwrap_or_default(),
            separator: rule.separator,
            target_label: rule.target_label,
            regex: rule.regex,
            modulus: rule.modulus,
            replacement: rule.replacement,
            action,
        };
        Relabel::compile(&rule).map_err(|error| fault(error.to_string()))
    };
    list.unwrap_or_default().into_iter().map(compile).collect()
}
