//! From configuration to targets: labels before relabelling, relabelling, what is refused.

use discovery::Group;
use model::{Builder, Duration, Labels, Relabel};
use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

/// One scrape configuration, defaults filled in. Limits of 0 are off.
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeConfig {
    /// Name of the pool and default `job` label.
    pub job_name: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Time a scrape may take.
    pub timeout: Duration,
    /// `http` or `https`.
    pub scheme: String,
    /// How targets are called.
    pub http: client::HttpConfig,
    /// Path of the metrics.
    pub metrics_path: String,
    /// Whether exposed labels win over the target's.
    pub honor_labels: bool,
    /// Whether exposed times are kept.
    pub honor_timestamps: bool,
    /// URL parameters.
    pub params: BTreeMap<String, Vec<String>>,
    /// Whether gzip is asked for.
    pub compression: bool,
    /// Rules for targets.
    pub relabel: Vec<Relabel>,
    /// Rules for samples.
    pub metric_relabel: Vec<Relabel>,
    /// Targets.
    pub groups: Vec<Group>,
    /// Bytes of a body, uncompressed.
    pub body_size_limit: u64,
    /// Samples after relabelling.
    pub sample_limit: u64,
    /// Labels of a sample.
    pub label_limit: u64,
    /// Bytes of a label name.
    pub label_name_length_limit: u64,
    /// Bytes of a label value.
    pub label_value_length_limit: u64,
    /// Targets of the pool.
    pub target_limit: u64,
    /// Format of a body that does not say what it is.
    pub fallback: Option<exposition::Format>,
    /// Formats asked for, the best first.
    pub protocols: Vec<exposition::Protocol>,
    /// Whether series with exposed times end with a marker too.
    pub track_timestamps_staleness: bool,
    /// Whether the report has three series more: timeout, sample limit, body size.
    pub extra_metrics: bool,
    /// Dropped targets kept for display.
    pub keep_dropped_targets: u64,
    /// Whether native histograms are stored as such.
    pub native_histograms: bool,
    /// Whether the classic series of a native histogram are stored as well.
    pub always_scrape_classic: bool,
    /// Whether classic histograms are stored as native ones with custom buckets.
    pub convert_classic_histograms: bool,
    /// Which names series may have.
    pub validation: NameValidation,
    /// How targets write names that older readers do not know.
    pub escaping: exposition::Escaping,
    /// Buckets of a native histogram; one with more is made coarser, and fails the scrape when that does not help.
    pub bucket_limit: u64,
    /// Growth from one bucket of a native histogram to the next, at least; finer ones are made coarser. 0 is off.
    pub bucket_factor_min: f64,
    /// File to which failures are written, a JSON object a line.
    pub failure_log: Option<PathBuf>,
    /// What the server has switched on.
    pub features: Features,
}

impl Default for ScrapeConfig {
    /// Upstream's defaults, without a name.
    fn default() -> Self {
        Self {
            job_name: String::new(),
            interval: Duration::from_millis(60_000),
            timeout: Duration::from_millis(10_000),
            scheme: "http".into(),
            http: client::HttpConfig::default(),
            metrics_path: "/metrics".into(),
            honor_labels: false,
            honor_timestamps: true,
            params: BTreeMap::new(),
            compression: true,
            relabel: Vec::new(),
            metric_relabel: Vec::new(),
            groups: Vec::new(),
            body_size_limit: 0,
            sample_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            target_limit: 0,
            fallback: None,
            protocols: exposition::Protocol::DEFAULT.to_vec(),
            track_timestamps_staleness: false,
            extra_metrics: false,
            keep_dropped_targets: 0,
            native_histograms: false,
            always_scrape_classic: false,
            convert_classic_histograms: false,
            validation: NameValidation::Utf8,
            escaping: exposition::Escaping::AllowUtf8,
            bucket_limit: 0,
            bucket_factor_min: 0.0,
            failure_log: None,
            features: Features::default(),
        }
    }
}

/// Switches of the server that change what a scrape stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Type and unit of a family become labels of its series.
    pub type_and_unit_labels: bool,
    /// Exemplars are stored.
    pub exemplars: bool,
    /// A counter that says when it started gets a sample 0 for that time.
    pub start_zero_samples: bool,
    /// Targets on this machine are asked for bodies without compression, which saves inflating them.
    pub plain_on_loopback: bool,
}

/// Which names metrics and labels may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// Any UTF-8.
    #[default]
    Utf8,
    /// ASCII letters, digits, `_`, and `:` in names of metrics.
    Legacy,
}

/// Whether the last scrape worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the API's words")]
pub enum Health {
    Up,
    Down,
    #[default]
    Unknown,
}

impl Health {
    /// The API's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        }
    }
}

/// A target that is scraped, and how that went.
#[derive(Clone, Debug)]
pub struct ActiveTarget {
    /// Its pool.
    pub pool: String,
    /// Labels before relabelling.
    pub discovered: Labels,
    /// Labels on its samples.
    pub labels: Labels,
    /// What is fetched.
    pub url: String,
    /// Time between scrapes.
    pub interval: Duration,
    /// Time a scrape may take.
    pub timeout: Duration,
    /// How the last scrape went.
    pub health: Health,
    /// Why it failed.
    pub last_error: Option<String>,
    /// When it was, in milliseconds.
    pub last_scrape_ms: Option<i64>,
    /// How long it took.
    pub last_duration_seconds: f64,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug)]
pub struct DroppedTarget {
    /// Its pool.
    pub pool: String,
    /// Labels before relabelling.
    pub discovered: Labels,
}

/// What the API shows.
#[derive(Clone, Debug, Default)]
pub struct TargetsView {
    /// Scraped ones.
    pub active: Vec<ActiveTarget>,
    /// Dropped ones, as many as the configuration keeps.
    pub dropped: Vec<DroppedTarget>,
    /// How many were dropped, by pool, in the order of their names.
    pub dropped_counts: Vec<(String, u64)>,
}

/// What is scraped, and under which labels: what a scrape loop is made for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub(crate) discovered: Labels,
    pub(crate) labels: Labels,
    pub(crate) url: String,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// The targets of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) active: Vec<Spec>,
    /// As many dropped ones as are kept, and how many there were.
    pub(crate) dropped: Vec<Labels>,
    pub(crate) dropped_count: u64,
    /// Why targets were refused.
    pub(crate) refused: Vec<String>,
}

/// Sorts the targets of groups: scraped, dropped, refused. Equal labels and address make one target.
pub(crate) fn targets<'a>(config: &ScrapeConfig, groups: impl IntoIterator<Item = &'a Group>) -> Sorted {
    let (mut sorted, mut have) = (Sorted::default(), HashSet::new());
    for group in groups {
        for target in &group.targets {
            let discovered = before_relabelling(config, &group.labels, target);
            let mut labels = Builder::from(&discovered);
            if !Relabel::apply(&config.relabel, &mut labels) {
                sorted.dropped_count += 1;
                if config.keep_dropped_targets == 0 || sorted.dropped_count <= config.keep_dropped_targets {
                    sorted.dropped.push(discovered);
                }
                continue;
            }
            match finish(config, discovered, &mut labels) {
                Ok(spec) => {
                    if have.insert((spec.labels.clone(), spec.url.clone())) {
                        sorted.active.push(spec);
                    }
                }
                Err(why) => sorted.refused.push(why),
            }
        }
    }
    sorted
}

fn before_relabelling(config: &ScrapeConfig, group: &Labels, target: &Labels) -> Labels {
    let mut labels = Builder::from(group);
    for (name, value) in target.iter() {
        labels.set(name, value);
    }
    let own = [
        ("job", config.job_name.clone()),
        ("__scrape_interval__", config.interval.to_string()),
        ("__scrape_timeout__", config.timeout.to_string()),
        ("__metrics_path__", config.metrics_path.clone()),
        ("__scheme__", config.scheme.clone()),
    ];
    for (name, value) in own {
        if labels.get(name).is_empty() {
            labels.set(name, &value);
        }
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            labels.set(&format!("__param_{name}"), first);
        }
    }
    labels.build()
}

fn finish(config: &ScrapeConfig, discovered: Labels, labels: &mut Builder) -> Result<Spec, String> {
    let address = labels.get("__address__").to_owned();
    if address.is_empty() {
        return Err("no address".into());
    }
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let span = |name: &str, labels: &Builder| {
        let text = labels.get(name);
        Duration::parse(text).map_err(|error| format!("error parsing {name}: {error}"))
    };
    let (interval, timeout) = (span("__scrape_interval__", labels)?, span("__scrape_timeout__", labels)?);
    if interval.as_millis() == 0 || timeout.as_millis() == 0 {
        return Err("scrape interval and timeout cannot be 0".into());
    }
    if timeout > interval {
        return Err(format!("scrape timeout cannot be greater than scrape interval ({timeout} > {interval})"));
    }
    let scheme = labels.get("__scheme__");
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported scheme {scheme:?}; it is http or https"));
    }
    let url = url(config, &address, labels);
    if labels.get("instance").is_empty() {
        labels.set("instance", &address);
    }
    labels.retain(|name, _| !name.starts_with("__"));
    Ok(Spec { discovered, labels: labels.build(), url, interval, timeout })
}

fn url(config: &ScrapeConfig, address: &str, labels: &Builder) -> String {
    let mut params: BTreeMap<String, Vec<String>> = config.params.clone();
    for (name, value) in labels.pairs() {
        if let Some(param) = name.strip_prefix("__param_").filter(|_| !value.is_empty()) {
            let values = params.entry(param.to_owned()).or_default();
            if values.is_empty() { values.push(value.to_owned()) } else { value.clone_into(&mut values[0]) }
        }
    }
    let path = labels.get("__metrics_path__");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut url = format!("{}://{address}{slash}{path}", labels.get("__scheme__"));
    let mut mark = '?';
    for (name, value) in params.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value))) {
        url.push(mark);
        mark = '&';
        for (part, end) in [(name, "="), (value, "")] {
            url.extend(form_urlencoded::byte_serialize(part.as_bytes()));
            url.push_str(end);
        }
    }
    url
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use model::RelabelRule;

    pub(crate) fn config(targets: &[&str]) -> ScrapeConfig {
        let targets = targets.iter().map(|address| Labels::from_pairs([("__address__", *address)])).collect();
        ScrapeConfig {
            job_name: "j".into(),
            interval: Duration::from_millis(15_000),
            groups: vec![Group { source: "0".into(), targets, labels: Labels::from_pairs([("dc", "a")]) }],
            ..ScrapeConfig::default()
        }
    }

    #[test]
    fn labels_and_address_of_a_target() {
        let mut one = config(&["h:1", "h:1", "bad/x"]);
        one.params.insert("module".into(), vec!["a b".into(), "c".into()]);
        let Sorted { active, dropped, refused, .. } = targets(&one, &one.groups);
        assert_eq!((active.len(), dropped.len(), refused.len()), (1, 0, 1));
        assert_eq!(active[0].labels.to_string(), "{dc=\"a\", instance=\"h:1\", job=\"j\"}");
        assert_eq!(active[0].url, "http://h:1/metrics?module=a+b&module=c");
        assert_eq!(active[0].discovered.get("__scrape_interval__"), Some("15s"));
        one.scheme = "https".into();
        assert_eq!(targets(&one, &one.groups).active[0].url, "https://h:1/metrics?module=a+b&module=c");
        one.scheme = "gopher".into();
        assert!(targets(&one, &one.groups).refused[0].starts_with("unsupported scheme \"gopher\""));
    }

    #[test]
    fn relabelling_drops_and_rewrites() {
        let mut one = config(&["a:1", "b:1", "c:1"]);
        let rule = RelabelRule {
            source_labels: vec!["__address__".into()],
            regex: Some("a.*".into()),
            action: model::Action::Keep,
            ..RelabelRule::default()
        };
        one.relabel = vec![Relabel::compile(&rule).expect("valid")];
        let sorted = targets(&one, &one.groups);
        assert_eq!((sorted.active.len(), sorted.dropped_count), (1, 2));
        assert_eq!(sorted.dropped[0].get("__address__"), Some("b:1"));
        one.keep_dropped_targets = 1;
        let sorted = targets(&one, &one.groups);
        assert_eq!((sorted.dropped.len(), sorted.dropped_count), (1, 2));
    }
}
