//! Writing families in any format.
//!
//! Source of truth: upstream's `expfmt` writers, byte for byte where they write at all. Types only OpenMetrics knows
//! become gauges elsewhere, the one of an info named `…_info`; a gauge histogram is a `histogram` in the text format.
//! Nothing is allocated per sample but for names that must be escaped.

mod message;
mod protobuf;
mod prototext;

use crate::{
    Escaping, Family, Format, Histogram, Metric, MetricValue,
    escape::{label_name, metric_name},
    scrape::custom::CUSTOM_BOUNDS,
    text::escape,
    write_float, write_openmetrics_float,
};
use model::{Exemplar, Labels, MetricType, is_legacy_label_name, is_legacy_metric_name};
use std::borrow::Cow;

/// What is written beyond what upstream writes by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// `_created` lines in OpenMetrics for metrics whose start is known.
    pub created: bool,
}

/// Appends families in the given order. O(output).
pub fn write(families: &[Family], format: Format, escaping: Escaping, out: &mut Vec<u8>) {
    write_with(families, format, escaping, WriteOptions::default(), out);
}

/// As [`write`], with what `options` add.
pub fn write_with(families: &[Family], format: Format, escaping: Escaping, options: WriteOptions, out: &mut Vec<u8>) {
    match format {
        Format::Protobuf => return families.iter().for_each(|family| protobuf::write(family, escaping, out)),
        Format::ProtobufText => {
            return families.iter().for_each(|family| prototext::write(family, escaping, false, out));
        }
        Format::ProtobufCompactText => {
            return families.iter().for_each(|family| prototext::write(family, escaping, true, out));
        }
        Format::Text004 | Format::Text100 | Format::OpenMetrics001 | Format::OpenMetrics100 => {}
    }
    let mut text = Text { openmetrics: format.is_openmetrics(), escaping, options, out };
    families.iter().for_each(|family| text.family(family));
    if format.is_openmetrics() {
        out.extend_from_slice(b"# EOF\n");
    }
}

/// The name the series of a family have outside OpenMetrics, where infos are gauges.
fn plain_name(family: &Family) -> Cow<'_, str> {
    if family.kind == MetricType::Info && !family.name.ends_with("_info") {
        return Cow::Owned(format!("{}_info", family.name));
    }
    Cow::Borrowed(&family.name)
}

/// The count of all observations below each custom bound, which is what a classic histogram tells.
fn custom_buckets(histogram: &Histogram) -> Vec<(f64, f64)> {
    let Some(native) = histogram.native.as_ref().filter(|native| native.schema == CUSTOM_BOUNDS) else {
        return Vec::new();
    };
    let mut own = vec![0.0; native.custom_bounds.len()];
    let (mut index, mut counts) = (0i64, native.positive.iter());
    for span in &native.positive_spans {
        index = index.saturating_add(i64::from(span.offset));
        for count in counts.by_ref().take(span.length as usize) {
            if let Some(place) = usize::try_from(index).ok().and_then(|index| own.get_mut(index)) {
                *place = *count;
            }
            index = index.saturating_add(1);
        }
    }
    let mut sum = 0.0;
    let add = |(bound, count): (&f64, f64)| {
        sum += count;
        (*bound, sum)
    };
    native.custom_bounds.iter().zip(own).map(add).collect()
}

struct Text<'a> {
    openmetrics: bool,
    escaping: Escaping,
    options: WriteOptions,
    out: &'a mut Vec<u8>,
}

/// What a sample line carries behind its series.
#[derive(Clone, Copy)]
enum Number {
    Float(f64),
    /// A count, which OpenMetrics shows without a point.
    Count(f64),
}

/// A series: a metric of a family, one part of it.
#[derive(Clone, Copy)]
struct Part<'a> {
    name: &'a str,
    /// The name needs no quotes. Asked once a family.
    bare: bool,
    metric: &'a Metric,
    suffix: &'static str,
    bound: Option<(&'static str, f64)>,
}

impl Text<'_> {
    fn family(&mut self, family: &Family) {
        let plain = plain_name(family);
        let name = metric_name(&plain, self.escaping);
        let (head, kind) = self.head(&name, family.kind);
        let head = head.to_owned();
        if !family.help.is_empty() {
            self.comment("HELP", &head);
            escape(&family.help, self.openmetrics, self.out);
            self.out.push(b'\n');
        }
        self.comment("TYPE", &head);
        self.out.extend_from_slice(kind.as_bytes());
        self.out.push(b'\n');
        let has_unit = head.strip_suffix(family.unit.as_str()).is_some_and(|rest| rest.ends_with('_'));
        if self.openmetrics && !family.unit.is_empty() && has_unit {
            self.comment("UNIT", &head);
            escape(&family.unit, true, self.out);
            self.out.push(b'\n');
        }
        let bare = is_legacy_metric_name(&name);
        for metric in &family.metrics {
            let part = Part { name: &name, bare, metric, suffix: "", bound: None };
            self.metric(part, &head, family.kind);
        }
    }

    /// The name and type that metadata shows.
    fn head<'n>(&self, name: &'n str, kind: MetricType) -> (&'n str, &'static str) {
        if !self.openmetrics {
            return (
                name,
                match kind {
                    MetricType::Unknown => "untyped",
                    MetricType::Info | MetricType::StateSet => "gauge",
                    MetricType::GaugeHistogram => "histogram",
                    kind => kind.as_str(),
                },
            );
        }
        match kind {
            // A counter without its suffix would be no OpenMetrics; upstream gives up its type too.
            MetricType::Counter => name.strip_suffix("_total").map_or((name, "unknown"), |name| (name, "counter")),
            MetricType::Info => (name.strip_suffix("_info").unwrap_or(name), "info"),
            kind => (name, kind.as_str()),
        }
    }

    fn comment(&mut self, word: &str, name: &str) {
        self.out.extend_from_slice(b"# ");
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b' ');
        if is_legacy_metric_name(name) {
            self.out.extend_from_slice(name.as_bytes())
        } else {
            self.quoted(name)
        }
        self.out.push(b' ');
    }

    fn metric(&mut self, part: Part<'_>, head: &str, kind: MetricType) {
        let mut started = None;
        match &part.metric.value {
            MetricValue::Counter { value, exemplar, start } => {
                self.sample(part, Number::Float(*value), exemplar.as_ref());
                started = *start;
            }
            MetricValue::Gauge(value) | MetricValue::Untyped(value) => self.sample(part, Number::Float(*value), None),
            MetricValue::Summary { count, sum, quantiles, start } => {
                for (quantile, value) in quantiles {
                    let bound = Some(("quantile", *quantile));
                    self.sample(Part { bound, ..part }, Number::Float(*value), None);
                }
                self.sample(Part { suffix: "_sum", ..part }, Number::Float(*sum), None);
                self.sample(Part { suffix: "_count", ..part }, Number::Count(*count), None);
                started = *start;
            }
            MetricValue::Histogram(histogram) => {
                self.histogram(part, histogram, self.openmetrics && kind == MetricType::GaugeHistogram);
                started = histogram.start;
            }
        }
        if self.openmetrics
            && self.options.created
            && let Some(start) = started
        {
            let part = Part { name: head, suffix: "_created", ..part };
            self.sample(part, Number::Float(start as f64 / 1000.0), None);
        }
    }

    fn histogram(&mut self, part: Part<'_>, histogram: &Histogram, gauge: bool) {
        let custom;
        let buckets = if histogram.buckets.is_empty() && histogram.native.is_some() {
            custom = custom_buckets(histogram);
            &custom
        } else {
            &histogram.buckets
        };
        let mut exemplars = histogram.bucket_exemplars.iter().peekable();
        for (i, (bound, count)) in buckets.iter().enumerate() {
            let exemplar = exemplars.next_if(|(place, _)| *place == i).map(|(_, exemplar)| exemplar);
            self.bucket(part, *bound, *count, exemplar);
        }
        if buckets.iter().all(|(bound, _)| *bound != f64::INFINITY) {
            self.bucket(part, f64::INFINITY, histogram.count, None);
        }
        let (sum, count) = if gauge { ("_gsum", "_gcount") } else { ("_sum", "_count") };
        self.sample(Part { suffix: sum, ..part }, Number::Float(histogram.sum), None);
        self.sample(Part { suffix: count, ..part }, Number::Count(histogram.count), None);
    }

    fn bucket(&mut self, part: Part<'_>, bound: f64, count: f64, exemplar: Option<&Exemplar>) {
        let part = Part { suffix: "_bucket", bound: Some(("le", bound)), ..part };
        self.sample(part, Number::Count(count), exemplar);
    }

    fn sample(&mut self, part: Part<'_>, number: Number, exemplar: Option<&Exemplar>) {
        let Part { name, bare, metric, suffix, bound } = part;
        let mut open = false;
        if bare {
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(suffix.as_bytes());
        } else {
            self.out.extend_from_slice(b"{\"");
            escape(name, true, self.out);
            self.out.extend_from_slice(suffix.as_bytes());
            self.out.push(b'"');
            open = true;
        }
        open = self.labels(&metric.labels, open);
        if let Some((label, bound)) = bound {
            self.out.push(if std::mem::replace(&mut open, true) { b',' } else { b'{' });
            self.out.extend_from_slice(label.as_bytes());
            self.out.extend_from_slice(b"=\"");
            self.float(bound);
            self.out.push(b'"');
        }
        if open {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        match number {
            Number::Float(value) => self.float(value),
            Number::Count(count) => self.count(count),
        }
        if let Some(at) = metric.at {
            self.out.push(b' ');
            if self.openmetrics {
                write_openmetrics_float(at as f64 / 1000.0, self.out);
            } else {
                self.out.extend_from_slice(itoa::Buffer::new().format(at).as_bytes());
            }
        }
        if self.openmetrics
            && let Some(exemplar) = exemplar
        {
            self.exemplar(exemplar);
        }
        self.out.push(b'\n');
    }

    /// Appends labels with what opens or separates them; true if a brace is open then.
    fn labels(&mut self, labels: &Labels, mut open: bool) -> bool {
        for (label, text) in labels.iter() {
            self.out.push(if std::mem::replace(&mut open, true) { b',' } else { b'{' });
            let label = label_name(label, self.escaping);
            if is_legacy_label_name(&label) {
                self.out.extend_from_slice(label.as_bytes());
            } else {
                self.quoted(&label);
            }
            self.out.push(b'=');
            self.quoted(text);
        }
        open
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.extend_from_slice(b" # ");
        if !self.labels(&exemplar.labels, false) {
            self.out.push(b'{');
        }
        self.out.extend_from_slice(b"} ");
        write_openmetrics_float(exemplar.value, self.out);
        if let Some(at) = exemplar.at {
            self.out.push(b' ');
            write_openmetrics_float(at.0 as f64 / 1000.0, self.out);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        escape(text, true, self.out);
        self.out.push(b'"');
    }

    fn float(&mut self, value: f64) {
        if self.openmetrics { write_openmetrics_float(value, self.out) } else { write_float(value, self.out) }
    }

    /// A whole count is written as one, whatever its size; one that is not is a float.
    fn count(&mut self, count: f64) {
        match message::whole(count).filter(|_| self.openmetrics) {
            Some(count) => self.out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes()),
            None => self.float(count),
        }
    }
}

#[cfg(test)]
mod tests;
