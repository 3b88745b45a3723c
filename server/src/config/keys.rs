//! The keys of the file, as they are written. What they mean is decided elsewhere.

use client::{Inline, beside};
use discovery::{Configs, Span, Unbuilt};
use serde::{Deserialize, Deserializer, de};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

/// A list whose null items are an error that names the place, which their type alone would not be.
pub(crate) type List<T> = Option<Vec<Spanned<Option<T>>>>;

/// A size in bytes: a number with a unit B to EB (base 2), or 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

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
pub(crate) struct File {
    pub(crate) global: Option<Global>,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) alerting: Option<Alerting>,
    pub(crate) scrape_configs: List<ScrapeJob>,
    pub(crate) scrape_config_files: Option<Vec<Spanned<String>>>,
    pub(crate) rule_files: Unbuilt,
    pub(crate) remote_write: Unbuilt,
    pub(crate) remote_read: Unbuilt,
    pub(crate) storage: Option<Storage>,
    pub(crate) tracing: Unbuilt,
    pub(crate) otlp: Unbuilt,
}

/// What the store takes.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    pub(crate) tsdb: Option<StoreKeys>,
    pub(crate) exemplars: Option<ExemplarKeys>,
}

/// Of the engine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StoreKeys {
    pub(crate) out_of_order_time_window: Option<Span>,
    pub(crate) retention: Option<RetentionKeys>,
    pub(crate) stale_series_compaction_threshold: Unbuilt,
    pub(crate) chunk_encoding: Unbuilt,
}

/// How long samples are kept. `series` is ours.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RetentionKeys {
    pub(crate) time: Option<Span>,
    pub(crate) size: Option<Size>,
    pub(crate) percentage: Option<f64>,
    pub(crate) series: Vec<SeriesRetentionKeys>,
}

/// How long samples of the series are kept that a selector names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeriesRetentionKeys {
    #[serde(rename = "match")]
    pub(crate) selector: String,
    pub(crate) time: Span,
}

/// Of exemplars.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ExemplarKeys {
    pub(crate) max_exemplars: Option<i64>,
}

/// A file that `scrape_config_files` names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct JobFile {
    pub(crate) scrape_configs: List<ScrapeJob>,
}

/// Upstream's garbage collector setting: accepted, there is nothing to set.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Runtime {
    #[serde(rename = "gogc")]
    _gogc: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Alerting {
    pub(crate) alertmanagers: Option<Vec<Alertmanager>>,
    pub(crate) alert_relabel_configs: List<Rule>,
}

/// An Alertmanager: its own keys, those of its client, and those of target discovery, side by side.
#[derive(Debug)]
pub(crate) struct Alertmanager {
    pub(crate) own: AlertmanagerKeys,
    pub(crate) http: client::HttpConfig,
    pub(crate) targets: Configs,
}

impl<'de> Deserialize<'de> for Alertmanager {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Inline { own, http }, targets) = beside::<Inline<AlertmanagerKeys>, Configs, D>(deserializer)?;
        Ok(Self { own, http, targets })
    }
}

/// Keys are read to be checked, not to be used.
///
/// An Alertmanager without targets is accepted: that is how the sample configuration of upstream ships.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AlertmanagerKeys {
    pub(crate) scheme: Option<String>,
    #[serde(rename = "timeout")]
    pub(crate) _timeout: Option<Span>,
    pub(crate) api_version: Option<String>,
    #[serde(rename = "path_prefix")]
    pub(crate) _path_prefix: Option<String>,
    pub(crate) relabel_configs: List<Rule>,
    pub(crate) alert_relabel_configs: List<Rule>,
    #[serde(rename = "sigv4")]
    pub(crate) _sigv4: Unbuilt,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Global {
    pub(crate) scrape_interval: Option<Span>,
    pub(crate) scrape_timeout: Option<Span>,
    pub(crate) evaluation_interval: Option<Span>,
    pub(crate) external_labels: Option<BTreeMap<String, String>>,
    pub(crate) body_size_limit: Option<Size>,
    pub(crate) sample_limit: Option<u64>,
    pub(crate) target_limit: Option<u64>,
    pub(crate) label_limit: Option<u64>,
    pub(crate) label_name_length_limit: Option<u64>,
    pub(crate) label_value_length_limit: Option<u64>,
    pub(crate) keep_dropped_targets: Option<u64>,
    pub(crate) scrape_protocols: Option<Vec<String>>,
    pub(crate) rule_query_offset: Unbuilt,
    pub(crate) query_log_file: Option<String>,
    pub(crate) scrape_failure_log_file: Option<String>,
    pub(crate) metric_name_validation_scheme: Option<String>,
    pub(crate) metric_name_escaping_scheme: Option<String>,
    pub(crate) scrape_native_histograms: Option<bool>,
    pub(crate) convert_classic_histograms_to_nhcb: Option<bool>,
    pub(crate) always_scrape_classic_histograms: Option<bool>,
    pub(crate) extra_scrape_metrics: Option<bool>,
}

/// A scrape job: its own keys, those of its client, and those of target discovery, side by side.
#[derive(Debug)]
pub(crate) struct ScrapeJob {
    pub(crate) own: Job,
    pub(crate) http: client::HttpConfig,
    pub(crate) targets: Configs,
}

impl<'de> Deserialize<'de> for ScrapeJob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (Inline { own, http }, targets) = beside::<Inline<Job>, Configs, D>(deserializer)?;
        Ok(Self { own, http, targets })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Job {
    pub(crate) job_name: Option<String>,
    pub(crate) scrape_interval: Option<Span>,
    pub(crate) scrape_timeout: Option<Span>,
    pub(crate) metrics_path: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) honor_labels: Option<bool>,
    pub(crate) honor_timestamps: Option<bool>,
    pub(crate) track_timestamps_staleness: Option<bool>,
    pub(crate) params: Option<BTreeMap<String, Vec<String>>>,
    pub(crate) enable_compression: Option<bool>,
    pub(crate) fallback_scrape_protocol: Option<String>,
    pub(crate) body_size_limit: Option<Size>,
    pub(crate) sample_limit: Option<u64>,
    pub(crate) target_limit: Option<u64>,
    pub(crate) label_limit: Option<u64>,
    pub(crate) label_name_length_limit: Option<u64>,
    pub(crate) label_value_length_limit: Option<u64>,
    pub(crate) keep_dropped_targets: Option<u64>,
    pub(crate) relabel_configs: List<Rule>,
    pub(crate) metric_relabel_configs: List<Rule>,
    pub(crate) scrape_protocols: Option<Vec<String>>,
    pub(crate) scrape_failure_log_file: Option<String>,
    pub(crate) metric_name_validation_scheme: Option<String>,
    pub(crate) metric_name_escaping_scheme: Option<String>,
    pub(crate) native_histogram_bucket_limit: Option<u64>,
    pub(crate) native_histogram_min_bucket_factor: Option<f64>,
    pub(crate) scrape_native_histograms: Option<bool>,
    pub(crate) convert_classic_histograms_to_nhcb: Option<bool>,
    pub(crate) always_scrape_classic_histograms: Option<bool>,
    pub(crate) extra_scrape_metrics: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rule {
    pub(crate) source_labels: Option<Vec<String>>,
    pub(crate) separator: Option<String>,
    pub(crate) target_label: Option<String>,
    pub(crate) regex: Option<String>,
    pub(crate) modulus: Option<u64>,
    pub(crate) replacement: Option<String>,
    pub(crate) action: Option<String>,
}
