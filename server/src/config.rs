//! The server's configuration file: strict YAML, upstream's keys and defaults.
//!
//! A key that is valid upstream but not built here is refused by name, never ignored in silence. A section that holds
//! nothing but a comment (null) means its defaults, as upstream. Source of truth: the configuration page of the
//! Prometheus documentation and `config/config.go` of release 3.14.

use client::{HttpConfig, Inline};
use model::{Action, Duration, Labels, Relabel, RelabelRule};
use scrape::ScrapeConfig;
use serde::{Deserialize, Deserializer, de};
use std::{collections::BTreeMap, fmt, path::Path};

/// Why a configuration was refused; names file, line and column where the text alone shows it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
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
        /// The file.
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
    /// Default step of subqueries, and the interval of rule groups.
    pub evaluation_interval: Duration,
    /// What to scrape.
    pub scrape: Vec<ScrapeConfig>,
}

/// A key that upstream knows and this version does not build: null and empty values pass, anything else is refused.
#[derive(Debug, Default)]
struct Unbuilt;

impl<'de> Deserialize<'de> for Unbuilt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Unbuilt;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nothing: this key is valid upstream but not built in narthex yet, remove it")
            }

            fn visit_unit<E>(self) -> Result<Unbuilt, E> {
                Ok(Unbuilt)
            }

            fn visit_none<E>(self) -> Result<Unbuilt, E> {
                Ok(Unbuilt)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Unbuilt, E> {
                if matches!(text, "" | "~" | "null") { Ok(Unbuilt) } else { Err(not_built()) }
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Unbuilt, E> {
                Err(not_built())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Unbuilt, E> {
                Err(not_built())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Unbuilt, E> {
                Err(not_built())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Unbuilt, E> {
                Err(not_built())
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Unbuilt, A::Error> {
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(Unbuilt),
                    Some(_) => Err(not_built()),
                }
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Unbuilt, A::Error> {
                match map.next_key::<de::IgnoredAny>()? {
                    None => Ok(Unbuilt),
                    Some(_) => Err(not_built()),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

fn not_built<E: de::Error>() -> E {
    E::custom("this key is valid upstream but not built in narthex yet; remove it to start")
}

/// A duration in upstream's notation.
#[derive(Clone, Copy, Debug)]
struct Span(Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Duration::parse(&text).map(Span).map_err(de::Error::custom)
    }
}

/// A size in bytes: a number with a unit B to EB (base 2), or 0.
#[derive(Clone, Copy, Debug)]
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text).map(Size).ok_or_else(|| {
            de::Error::custom(format!("size {text:?} is not a number with one of the units B, KB, MB, GB, TB, PB, EB"))
        })
    }
}

/// Bytes of a size such as `15MB`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let power = ["B", "KB", "MB", "GB", "TB", "PB", "EB"].iter().position(|have| *have == unit)?;
    number.parse::<u64>().ok()?.checked_mul(1 << (10 * power))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    global: Option<Global>,
    runtime: Option<Runtime>,
    alerting: Option<Alerting>,
    scrape_configs: Option<Vec<Inline<Job>>>,
    rule_files: Unbuilt,
    scrape_config_files: Unbuilt,
    remote_write: Unbuilt,
    remote_read: Unbuilt,
    storage: Unbuilt,
    tracing: Unbuilt,
    otlp: Unbuilt,
}

/// Upstream's garbage collector setting: accepted, there is nothing to set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Runtime {
    #[serde(rename = "gogc")]
    _gogc: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Alerting {
    alertmanagers: Option<Vec<Alertmanager>>,
    alert_relabel_configs: Unbuilt,
}

/// Keys are read to be checked, not to be used.
///
/// An Alertmanager without targets is accepted: that is how the sample configuration of upstream ships.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Alertmanager {
    static_configs: Option<Vec<NoTargets>>,
    scheme: Option<String>,
    timeout: Option<Span>,
    api_version: Option<String>,
    path_prefix: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NoTargets {
    targets: Unbuilt,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    evaluation_interval: Option<Span>,
    external_labels: Option<BTreeMap<String, String>>,
    body_size_limit: Option<Size>,
    sample_limit: Option<u64>,
    target_limit: Option<u64>,
    label_limit: Option<u64>,
    label_name_length_limit: Option<u64>,
    label_value_length_limit: Option<u64>,
    keep_dropped_targets: Option<u64>,
    scrape_protocols: Option<Vec<String>>,
    rule_query_offset: Unbuilt,
    query_log_file: Unbuilt,
    scrape_failure_log_file: Unbuilt,
    metric_name_validation_scheme: Unbuilt,
    metric_name_escaping_scheme: Unbuilt,
    scrape_native_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    extra_scrape_metrics: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Job {
    job_name: String,
    scrape_interval: Option<Span>,
    scrape_timeout: Option<Span>,
    metrics_path: Option<String>,
    scheme: Option<String>,
    honor_labels: Option<bool>,
    honor_timestamps: Option<bool>,
    track_timestamps_staleness: Option<bool>,
    params: Option<BTreeMap<String, Vec<String>>>,
    enable_compression: Option<bool>,
    fallback_scrape_protocol: Option<String>,
    body_size_limit: Option<Size>,
    sample_limit: Option<u64>,
    target_limit: Option<u64>,
    label_limit: Option<u64>,
    label_name_length_limit: Option<u64>,
    label_value_length_limit: Option<u64>,
    keep_dropped_targets: Option<u64>,
    relabel_configs: Option<Vec<Rule>>,
    metric_relabel_configs: Option<Vec<Rule>>,
    static_configs: Option<Vec<Static>>,
    scrape_protocols: Option<Vec<String>>,
    scrape_failure_log_file: Unbuilt,
    metric_name_validation_scheme: Unbuilt,
    metric_name_escaping_scheme: Unbuilt,
    native_histogram_bucket_limit: Unbuilt,
    native_histogram_min_bucket_factor: Unbuilt,
    scrape_native_histograms: Option<bool>,
    convert_classic_histograms_to_nhcb: Option<bool>,
    always_scrape_classic_histograms: Option<bool>,
    extra_scrape_metrics: Option<bool>,
    aws_sd_configs: Unbuilt,
    azure_sd_configs: Unbuilt,
    consul_sd_configs: Unbuilt,
    digitalocean_sd_configs: Unbuilt,
    dns_sd_configs: Unbuilt,
    docker_sd_configs: Unbuilt,
    dockerswarm_sd_configs: Unbuilt,
    ec2_sd_configs: Unbuilt,
    ecs_sd_configs: Unbuilt,
    eureka_sd_configs: Unbuilt,
    file_sd_configs: Unbuilt,
    gce_sd_configs: Unbuilt,
    hetzner_sd_configs: Unbuilt,
    http_sd_configs: Unbuilt,
    ionos_sd_configs: Unbuilt,
    kubernetes_sd_configs: Unbuilt,
    kuma_sd_configs: Unbuilt,
    lightsail_sd_configs: Unbuilt,
    linode_sd_configs: Unbuilt,
    marathon_sd_configs: Unbuilt,
    msk_sd_configs: Unbuilt,
    nerve_sd_configs: Unbuilt,
    nomad_sd_configs: Unbuilt,
    openstack_sd_configs: Unbuilt,
    outscale_sd_configs: Unbuilt,
    ovhcloud_sd_configs: Unbuilt,
    puppetdb_sd_configs: Unbuilt,
    rds_sd_configs: Unbuilt,
    scaleway_sd_configs: Unbuilt,
    serverset_sd_configs: Unbuilt,
    stackit_sd_configs: Unbuilt,
    triton_sd_configs: Unbuilt,
    uyuni_sd_configs: Unbuilt,
    vultr_sd_configs: Unbuilt,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Static {
    targets: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    source_labels: Option<Vec<String>>,
    separator: Option<String>,
    target_label: Option<String>,
    regex: Option<String>,
    modulus: Option<u64>,
    replacement: Option<String>,
    action: Option<String>,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`]; upstream's exit code for it is 2.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
        Self::parse(&text, path)
    }

    /// Checks a configuration text; `path` is only for messages.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let path = path.display().to_string();
        let file: Option<File> = serde_saphyr::from_str(text).map_err(|error| syntax(&path, &error))?;
        let folder = Path::new(&path).parent().unwrap_or(Path::new(""));
        build(file.unwrap_or_default(), text, folder).map_err(|text| ConfigError::Meaning { path: path.clone(), text })
    }
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

fn build(file: File, text: &str, folder: &Path) -> Result<Config, String> {
    let global = file.global.unwrap_or_default();
    let defaults = Defaults::new(&global)?;
    let mut scrape = Vec::new();
    for Inline { own: job, mut http } in file.scrape_configs.unwrap_or_default() {
        let name = job.job_name.clone();
        if scrape.iter().any(|have: &ScrapeConfig| have.job_name == name) {
            return Err(format!("found multiple scrape configs with job name {name:?}; give each its own job_name"));
        }
        let refused = |text: String| format!("scrape config {name:?}: {text}");
        http.validate().map_err(|error| refused(error.to_string()))?;
        http.set_directory(folder);
        scrape.push(scrape_config(job, http, &global, &defaults).map_err(refused)?);
    }
    for manager in file.alerting.unwrap_or_default().alertmanagers.unwrap_or_default() {
        check_alertmanager(&manager)?;
    }
    let external_labels = Labels::from_pairs(global.external_labels.unwrap_or_default());
    let evaluation_interval = global.evaluation_interval.map_or(defaults.interval_upstream, |span| span.0);
    Ok(Config { text: text.to_owned(), external_labels, evaluation_interval, scrape })
}

/// Interval and timeout that a job inherits.
struct Defaults {
    interval: Duration,
    timeout: Duration,
    interval_upstream: Duration,
}

impl Defaults {
    fn new(global: &Global) -> Result<Self, String> {
        let minute = Duration::from_millis(60_000);
        let interval = global.scrape_interval.map_or(minute, |span| span.0);
        let ten = Duration::from_millis(10_000);
        let timeout = global.scrape_timeout.map_or(ten.min(interval), |span| span.0);
        if timeout > interval {
            return Err("global scrape timeout greater than scrape interval; lower scrape_timeout".into());
        }
        Ok(Self { interval, timeout, interval_upstream: minute })
    }
}

fn check_alertmanager(manager: &Alertmanager) -> Result<(), String> {
    let word = |value: &Option<String>, allowed: &[&str], key: &str| match value {
        Some(text) if !allowed.contains(&text.as_str()) => {
            Err(format!("alerting: {key} {text:?} is not one of {allowed:?}"))
        }
        _ => Ok(()),
    };
    word(&manager.scheme, &["http", "https"], "scheme")?;
    word(&manager.api_version, &["v2"], "api_version")
}

fn scrape_config(job: Job, http: HttpConfig, global: &Global, defaults: &Defaults) -> Result<ScrapeConfig, String> {
    if job.job_name.is_empty() {
        return Err("job_name is empty; give the job a name".into());
    }
    let scheme = job.scheme.unwrap_or_else(|| "http".into());
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err(format!("scheme {scheme:?} is neither http nor https"));
    }
    let interval = job.scrape_interval.map_or(defaults.interval, |span| span.0);
    let timeout = job.scrape_timeout.map_or(defaults.timeout.min(interval), |span| span.0);
    if timeout > interval {
        return Err("scrape timeout greater than scrape interval; lower scrape_timeout".into());
    }
    let limit = |own: Option<u64>, global: Option<u64>| own.filter(|n| *n > 0).or(global).unwrap_or_default();
    let size = job.body_size_limit.map(|size| size.0);
    let native = job.scrape_native_histograms.or(global.scrape_native_histograms).unwrap_or(false);
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
        relabel: rules(job.relabel_configs, "relabel_configs")?,
        metric_relabel: rules(job.metric_relabel_configs, "metric_relabel_configs")?,
        groups: groups(job.static_configs.unwrap_or_default()),
        body_size_limit: limit(size, global.body_size_limit.map(|size| size.0)),
        sample_limit: limit(job.sample_limit, global.sample_limit),
        label_limit: limit(job.label_limit, global.label_limit),
        label_name_length_limit: limit(job.label_name_length_limit, global.label_name_length_limit),
        label_value_length_limit: limit(job.label_value_length_limit, global.label_value_length_limit),
        target_limit: limit(job.target_limit, global.target_limit),
        fallback: job.fallback_scrape_protocol.as_deref().map(fallback).transpose()?,
        protocols: protocols(job.scrape_protocols.as_ref().or(global.scrape_protocols.as_ref()), native)?,
        track_timestamps_staleness: job.track_timestamps_staleness.unwrap_or(false),
        extra_metrics: job.extra_scrape_metrics.or(global.extra_scrape_metrics).unwrap_or(false),
        native_histograms: native,
        always_scrape_classic: job
            .always_scrape_classic_histograms
            .or(global.always_scrape_classic_histograms)
            .unwrap_or(false),
        convert_classic_histograms: job
            .convert_classic_histograms_to_nhcb
            .or(global.convert_classic_histograms_to_nhcb)
            .unwrap_or(false),
        type_and_unit_labels: false,
        keep_dropped_targets: limit(job.keep_dropped_targets, global.keep_dropped_targets),
        job_name: job.job_name,
    })
}

fn groups(statics: Vec<Static>) -> Vec<discovery::Group> {
    let group = |(place, one): (usize, Static)| discovery::Group {
        source: place.to_string(),
        targets: one
            .targets
            .unwrap_or_default()
            .iter()
            .map(|target| Labels::from_pairs([("__address__", target)]))
            .collect(),
        labels: Labels::from_pairs(one.labels.unwrap_or_default()),
    };
    statics.into_iter().enumerate().map(group).collect()
}

/// The formats that are asked for: as listed, or upstream's, which begin with protobuf when native histograms are wanted.
fn protocols(listed: Option<&Vec<String>>, native: bool) -> Result<Vec<exposition::Protocol>, String> {
    use exposition::Protocol;
    let Some(listed) = listed else {
        return Ok(if native { Protocol::DEFAULT_NATIVE.to_vec() } else { Protocol::DEFAULT.to_vec() });
    };
    if listed.is_empty() {
        return Err("scrape_protocols is empty; name a format or leave the key out".into());
    }
    let mut found = Vec::new();
    for name in listed {
        let protocol = Protocol::parse(name).ok_or_else(|| format!("unknown scrape protocol {name:?}"))?;
        if found.contains(&protocol) {
            return Err(format!("duplicated protocol in scrape_protocols, got {name:?} twice"));
        }
        found.push(protocol);
    }
    Ok(found)
}

fn fallback(name: &str) -> Result<exposition::Format, String> {
    let protocol = exposition::Protocol::parse(name);
    Ok(protocol.ok_or_else(|| format!("unknown fallback_scrape_protocol {name:?}"))?.format())
}

fn rules(list: Option<Vec<Rule>>, key: &str) -> Result<Vec<Relabel>, String> {
    let compile = |(i, rule): (usize, Rule)| {
        let action = rule.action.as_deref().unwrap_or("replace");
        let action = Action::parse(action).ok_or_else(|| format!("{key}[{i}]: unknown relabel action {action:?}"))?;
        let rule = RelabelRule {
            source_labels: rule.source_labels.unwrap_or_default(),
            separator: rule.separator,
            target_label: rule.target_label,
            regex: rule.regex,
            modulus: rule.modulus,
            replacement: rule.replacement,
            action,
        };
        Relabel::compile(&rule).map_err(|error| format!("{key}[{i}]: {error}"))
    };
    list.unwrap_or_default().into_iter().enumerate().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("p.yml")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_sample_configuration_loads_with_its_null_keys() {
        let text = "global:\n  scrape_interval:     15s\n  scrape_timeout:      10s\n\nalerting:\n  alertmanagers:\n  - static_configs:\n    \
                    - targets:\n      # - alertmanager:9093\n\nrule_files:\n  # - \"first_rules.yml\"\n\nscrape_configs:\n  - job_name: \
                    'prometheus'\n    static_configs:\n    - targets: ['localhost:9090']\n";
        let config = parse(text).expect("must load");
        assert_eq!(config.scrape[0].job_name, "prometheus");
        assert_eq!(config.scrape[0].interval.as_millis(), 15_000);
        assert_eq!(config.scrape[0].groups[0].targets[0].get("__address__"), Some("localhost:9090"));
        assert!(parse("").expect("empty is fine").scrape.is_empty());
    }

    #[test]
    fn client_keys_of_a_job_reach_its_client_and_files_start_at_the_folder() {
        let text = "scrape_configs:\n- job_name: a\n  scheme: https\n  basic_auth: {username: u, password_file: pw}\n  \
                    follow_redirects: false\n";
        let config = Config::parse(text, Path::new("/etc/p/p.yml")).expect("must load");
        let job = &config.scrape[0];
        let basic = job.http.basic_auth.as_ref().expect("given");
        assert_eq!(basic.password_file.as_deref(), Some(Path::new("/etc/p/pw")));
        assert_eq!((job.scheme.as_str(), job.http.follow_redirects), ("https", Some(false)));
    }

    #[test]
    fn what_is_refused_says_where_and_why() {
        for (text, want) in [
            ("global:\n  scrape_intervall: 15s\n", "p.yml:2:3: unknown field `scrape_intervall`, expected one of"),
            ("remote_write:\n- url: http://x\n", "not built"),
            ("scrape_configs:\n- job_name: k\n  kubernetes_sd_configs:\n  - role: node\n", "not built"),
            ("scrape_configs:\n- job_name: k\n  scheme: gopher\n", "neither http nor https"),
            ("scrape_configs:\n- job_name: k\n  basic_auth:\n    user: x\n", "p.yml:4:"),
            (
                "scrape_configs:\n- job_name: k\n  bearer_token: a\n  bearer_token_file: b\n",
                "at most one of bearer_token",
            ),
            ("scrape_configs:\n- job_name: a\n- job_name: a\n", "multiple scrape configs"),
            ("scrape_configs:\n- job_name: a\n  scrape_interval: 5x\n", "p.yml:3:"),
            ("scrape_configs:\n- job_name: a\n  scrape_interval: 5s\n  scrape_timeout: 9s\n", "greater than"),
            ("scrape_configs:\n- job_name: a\n  relabel_configs: [{action: hashmod, target_label: x}]\n", "modulus"),
            ("scrape_configs:\n- {job_name: a, scrape_protocols: [PrometheusText9]}\n", "unknown scrape protocol"),
            ("scrape_configs:\n- {job_name: a, scrape_protocols: []}\n", "is empty"),
            ("rule_files: [a.yml]\n", "not built"),
            ("alerting: {alertmanagers: [{static_configs: [{targets: ['x:1']}]}]}\n", "not built"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }
}
