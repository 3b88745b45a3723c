//! What OpenMetrics demands of one family while its lines are read.

use super::{Family, Histogram, Metric, MetricValue};
use model::{Builder, Exemplar, Labels, MetricType};
use std::collections::HashSet;

/// Characters of an exemplar's labels at most.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// One sample without its name and labels.
pub(super) struct MetricPart {
    pub(super) value: f64,
    pub(super) at: Option<i64>,
    pub(super) exemplar: Option<Exemplar>,
}

/// A family being read.
pub(super) struct Current {
    pub(super) name: String,
    help: Option<String>,
    kind: Option<MetricType>,
    unit: Option<String>,
    metrics: Vec<Metric>,
    group: Option<Group>,
    /// Labels of the groups seen; one may not come back.
    groups: HashSet<Labels>,
}

/// The samples of one metric, which stand together.
struct Group {
    labels: Labels,
    at: Option<i64>,
    /// Series seen at this time: one whose times differ by less than a millisecond comes again and is left out.
    seen: HashSet<(&'static str, Labels)>,
    has_count: bool,
    has_sum: bool,
}

type Step<T> = Result<T, String>;

fn suffixes(kind: MetricType) -> &'static [&'static str] {
    match kind {
        MetricType::Counter => &["_total", "_created"],
        MetricType::Summary => &["_count", "_sum", "_created", ""],
        MetricType::Histogram => &["_count", "_sum", "_bucket", "_created"],
        MetricType::GaugeHistogram => &["_gcount", "_gsum", "_bucket"],
        MetricType::Info => &["_info"],
        _ => &[""],
    }
}

fn set<T>(slot: &mut Option<T>, value: T, what: &str, name: &str) -> Step<()> {
    if slot.is_some() {
        return Err(format!("second {what} line of {name}"));
    }
    *slot = Some(value);
    Ok(())
}

impl Current {
    pub(super) fn new(name: &str, kind: Option<MetricType>) -> Self {
        let name = name.to_owned();
        Self { name, help: None, kind, unit: None, metrics: Vec::new(), group: None, groups: HashSet::new() }
    }

    pub(super) fn has_samples(&self) -> bool {
        !self.metrics.is_empty()
    }

    pub(super) fn set_help(&mut self, text: &str) -> Step<()> {
        set(&mut self.help, text.to_owned(), "HELP", &self.name)
    }

    pub(super) fn set_kind(&mut self, kind: MetricType) -> Step<()> {
        set(&mut self.kind, kind, "TYPE", &self.name)
    }

    pub(super) fn set_unit(&mut self, unit: &str) -> Step<()> {
        set(&mut self.unit, unit.to_owned(), "UNIT", &self.name)
    }

    fn kind(&self) -> MetricType {
        self.kind.unwrap_or_default()
    }

    fn suffix(&self, name: &str) -> Option<&'static str> {
        let rest = name.strip_prefix(self.name.as_str())?;
        suffixes(self.kind()).iter().find(|suffix| **suffix == rest).copied()
    }

    /// Whether a series of that name belongs to the family.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.suffix(name).is_some()
    }

    /// All names the family takes.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        let parts = suffixes(self.kind()).iter().filter(|suffix| !suffix.is_empty());
        std::iter::once(&"").chain(parts).map(|suffix| format!("{}{suffix}", self.name))
    }

    /// Takes a sample that the family owns.
    pub(super) fn add<'a>(
        &mut self,
        name: &str,
        labels: &mut Builder,
        exposed: &dyn Fn(&str) -> Option<&'a str>,
        part: &MetricPart,
    ) -> Step<()> {
        let suffix = self.suffix(name).unwrap_or("");
        let kind = self.kind();
        check_value(kind, suffix, name, part)?;
        let series = labels.build();
        let bound = match (kind, suffix) {
            (MetricType::Histogram | MetricType::GaugeHistogram, "_bucket") => Some(bound(labels, "le", exposed)?),
            (MetricType::Summary, "") => {
                let quantile = bound(labels, "quantile", exposed)?;
                if !(0.0..=1.0).contains(&quantile) {
                    return Err(format!("a quantile of {name} outside 0 to 1"));
                }
                Some(quantile)
            }
            (MetricType::StateSet, _) if series.get(&self.name).is_none() => {
                return Err(format!("a state of {name} without the label {name}"));
            }
            _ => None,
        };
        // States and infos carry the telling label with them, yet are one group.
        let metric_labels = labels.build();
        let group_labels = match kind {
            MetricType::Info => Labels::empty(),
            MetricType::StateSet => {
                labels.del(&self.name);
                labels.build()
            }
            _ => metric_labels.clone(),
        };
        if self.enter_group(group_labels, part.at, (suffix, series))? {
            self.add_part(suffix, metric_labels, bound, part)?;
        }
        Ok(())
    }

    /// Checks the order of groups and times. False for a sample that repeats one.
    fn enter_group(&mut self, labels: Labels, at: Option<i64>, series: (&'static str, Labels)) -> Step<bool> {
        if let Some(group) = &mut self.group
            && group.labels == labels
        {
            if group.at.is_some() != at.is_some() {
                return Err(format!("samples of {}{labels} with and without time", self.name));
            }
            if at < group.at && self.kind != Some(MetricType::Info) {
                return Err(format!("the time of {}{labels} goes backwards", self.name));
            }
            if group.at == at {
                return Ok(group.seen.insert(series));
            }
        } else if !self.groups.insert(labels.clone()) {
            return Err(format!("samples of {}{labels} do not stand together", self.name));
        }
        self.end_group()?;
        let seen = HashSet::from([series]);
        self.group = Some(Group { labels, at, seen, has_count: false, has_sum: false });
        Ok(true)
    }

    /// Checks the metric that is now complete.
    fn end_group(&mut self) -> Step<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        if let Some(MetricValue::Histogram(histogram)) = self.metrics.last_mut().map(|metric| &mut metric.value) {
            let gauge = self.kind == Some(MetricType::GaugeHistogram);
            finish_histogram(histogram, &group, gauge)
                .map_err(|why| format!("{}{}: {why}", self.name, group.labels))?;
        }
        Ok(())
    }

    /// Puts the sample into the metric of its group.
    fn add_part(&mut self, suffix: &str, labels: Labels, bound: Option<f64>, part: &MetricPart) -> Step<()> {
        let value = part.value;
        let empty = match self.kind() {
            MetricType::Counter => MetricValue::Counter { value: 0.0, exemplar: None, start: None },
            MetricType::Summary => MetricValue::Summary { count: 0.0, sum: 0.0, quantiles: Vec::new(), start: None },
            MetricType::Histogram | MetricType::GaugeHistogram => MetricValue::Histogram(Box::default()),
            MetricType::Unknown => MetricValue::Untyped(value),
            _ => MetricValue::Gauge(value),
        };
        let single = matches!(empty, MetricValue::Gauge(_) | MetricValue::Untyped(_));
        let fresh = self.group.as_ref().is_none_or(|group| group.seen.len() == 1);
        if single || fresh {
            self.metrics.push(Metric { labels, value: empty, at: part.at });
        }
        let (Some(metric), Some(group)) = (self.metrics.last_mut(), &mut self.group) else { return Ok(()) };
        group.has_count |= suffix.ends_with("count");
        group.has_sum |= suffix.ends_with("sum");
        let created = (value * 1000.0).round() as i64;
        match (&mut metric.value, suffix) {
            (MetricValue::Counter { start, .. } | MetricValue::Summary { start, .. }, "_created") => {
                *start = Some(created);
            }
            (MetricValue::Counter { value: total, exemplar, .. }, _) => {
                *total = value;
                exemplar.clone_from(&part.exemplar);
            }
            (MetricValue::Summary { count, .. }, "_count") => *count = value,
            (MetricValue::Summary { sum, .. }, "_sum") => *sum = value,
            (MetricValue::Summary { quantiles, .. }, _) => quantiles.extend(bound.map(|quantile| (quantile, value))),
            (MetricValue::Histogram(histogram), "_created") => histogram.start = Some(created),
            (MetricValue::Histogram(histogram), "_count" | "_gcount") => histogram.count = value,
            (MetricValue::Histogram(histogram), "_sum" | "_gsum") => histogram.sum = value,
            (MetricValue::Histogram(histogram), _) => add_bucket(histogram, bound.unwrap_or(f64::NAN), part)?,
            _ => {}
        }
        Ok(())
    }

    /// The family, once it is complete.
    pub(super) fn finish(mut self) -> Step<Family> {
        self.end_group()?;
        let kind = self.kind();
        let unit = self.unit.unwrap_or_default();
        if !unit.is_empty() && matches!(kind, MetricType::Info | MetricType::StateSet) {
            return Err(format!("{} has a unit, which its type forbids", self.name));
        }
        if kind == MetricType::Counter {
            self.name.push_str("_total");
        }
        Ok(Family { name: self.name, help: self.help.unwrap_or_default(), kind, unit, metrics: self.metrics })
    }
}

/// A bound, which is taken off the labels; infinity has one spelling.
fn bound<'a>(labels: &mut Builder, label: &str, exposed: &dyn Fn(&str) -> Option<&'a str>) -> Step<f64> {
    let text = exposed(label).ok_or_else(|| format!("no label {label}"))?;
    let bound = crate::float::parse_float(text.as_bytes()).ok().filter(|bound| !bound.is_nan());
    let bound = bound.filter(|bound| bound.is_finite() || text == "+Inf" || text == "-Inf");
    labels.del(label);
    bound.ok_or_else(|| format!("the label {label} is {text:?}, not a number"))
}

/// What the value and exemplar of a single line may be.
fn check_value(kind: MetricType, suffix: &str, name: &str, part: &MetricPart) -> Step<()> {
    let value = part.value;
    let counts = matches!(suffix, "_total" | "_count" | "_bucket" | "_gcount" | "_sum");
    if (counts || suffix == "_gsum") && value.is_nan() || counts && value < 0.0 {
        return Err(format!("{name} is negative or no number"));
    }
    match kind {
        MetricType::StateSet if value != 0.0 && value != 1.0 => return Err(format!("{name} is neither 0 nor 1")),
        MetricType::Info if value != 1.0 => return Err(format!("{name} is not 1")),
        MetricType::Summary if suffix.is_empty() && value < 0.0 => return Err(format!("{name} is negative")),
        _ => {}
    }
    let Some(exemplar) = &part.exemplar else { return Ok(()) };
    if !matches!(suffix, "_bucket" | "_total") {
        return Err(format!("{name} has an exemplar, which only buckets and counters may have"));
    }
    let chars = exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum::<usize>();
    if chars > EXEMPLAR_CHARS_MAX {
        return Err(format!("an exemplar of {name} has {chars} characters in its labels, over {EXEMPLAR_CHARS_MAX}"));
    }
    Ok(())
}

fn add_bucket(histogram: &mut Histogram, bound: f64, part: &MetricPart) -> Step<()> {
    if let Some((last, count)) = histogram.buckets.last() {
        if bound <= *last {
            return Err("buckets are not in the order of their bounds".into());
        }
        if part.value < *count {
            return Err("buckets are not cumulative".into());
        }
    }
    if let Some(exemplar) = &part.exemplar {
        histogram.bucket_exemplars.push((histogram.buckets.len(), exemplar.clone()));
    }
    histogram.buckets.push((bound, part.value));
    Ok(())
}

fn finish_histogram(histogram: &mut Histogram, group: &Group, gauge: bool) -> Step<()> {
    let Some((_, all)) = histogram.buckets.last().filter(|(bound, _)| *bound == f64::INFINITY).copied() else {
        return Err("no bucket for +Inf".into());
    };
    let negative = histogram.buckets.iter().any(|(bound, _)| *bound < 0.0);
    if group.has_count && histogram.count != all {
        return Err("the count is not that of the bucket for +Inf".into());
    }
    if group.has_sum != group.has_count && !(negative && !gauge && !group.has_sum) {
        return Err("count and sum do not come together".into());
    }
    if negative && !gauge && group.has_sum {
        return Err("a sum beside buckets for negative values".into());
    }
    if gauge && !negative && histogram.sum < 0.0 {
        return Err("a negative sum without buckets for negative values".into());
    }
    histogram.count = all;
    Ok(())
}
