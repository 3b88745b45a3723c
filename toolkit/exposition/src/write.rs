//! Writing families as text.

use crate::{Escaping, Family, Format, MetricValue, escape_name, write_float};
use model::{MetricType, is_legacy_label_name, is_legacy_metric_name};

/// Appends families in the given order. O(output).
pub fn write(families: &[Family], format: Format, escaping: Escaping, out: &mut Vec<u8>) {
    for family in families {
        let openmetrics = format.is_openmetrics();
        let name = escape_name(&family.name, escaping);
        let shown = if openmetrics && family.kind == MetricType::Counter {
            name.strip_suffix("_total").unwrap_or(&name)
        } else {
            &name
        };
        if !family.help.is_empty() {
            head(out, "HELP", shown);
            out.push(b' ');
            escape(&family.help, openmetrics, out);
            out.push(b'\n');
        }
        head(out, "TYPE", shown);
        let kind = match family.kind {
            MetricType::Unknown if !openmetrics => "untyped",
            kind => kind.as_str(),
        };
        out.extend_from_slice(format!(" {kind}\n").as_bytes());
        if openmetrics && !family.unit.is_empty() {
            head(out, "UNIT", shown);
            out.extend_from_slice(format!(" {}\n", family.unit).as_bytes());
        }
        let total = if openmetrics && family.kind == MetricType::Counter { "_total" } else { "" };
        for metric in &family.metrics {
            let mut line = Line { name: shown, metric, openmetrics, escaping, out };
            match &metric.value {
                MetricValue::Counter { value, .. } => line.write(total, None, *value),
                MetricValue::Gauge(value) | MetricValue::Untyped(value) => line.write("", None, *value),
                MetricValue::Summary { count, sum, quantiles } => {
                    for (quantile, value) in quantiles {
                        line.write("", Some(("quantile", *quantile)), *value);
                    }
                    line.write("_sum", None, *sum);
                    line.write("_count", None, *count);
                }
                MetricValue::Histogram(histogram) => {
                    for (bound, count) in &histogram.buckets {
                        line.write("_bucket", Some(("le", *bound)), *count);
                    }
                    if histogram.buckets.last().is_none_or(|(bound, _)| *bound != f64::INFINITY) {
                        line.write("_bucket", Some(("le", f64::INFINITY)), histogram.count);
                    }
                    line.write("_sum", None, histogram.sum);
                    line.write("_count", None, histogram.count);
                }
            }
        }
    }
    if format.is_openmetrics() {
        out.extend_from_slice(b"# EOF\n");
    }
}

fn head(out: &mut Vec<u8>, word: &str, name: &str) {
    out.extend_from_slice(format!("# {word} ").as_bytes());
    if is_legacy_metric_name(name) { out.extend_from_slice(name.as_bytes()) } else { quoted(name, out) }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, true, out);
    out.push(b'"');
}

fn escape(text: &str, quotes: bool, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' if quotes => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
}

struct Line<'a> {
    name: &'a str,
    metric: &'a crate::Metric,
    openmetrics: bool,
    escaping: Escaping,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn write(&mut self, suffix: &str, extra: Option<(&str, f64)>, value: f64) {
        let name = format!("{}{suffix}", self.name);
        let bare = is_legacy_metric_name(&name);
        let mut comma = !bare;
        let braces = !bare || extra.is_some() || !self.metric.labels.is_empty();
        if bare {
            self.out.extend_from_slice(name.as_bytes());
        }
        if braces {
            self.out.push(b'{');
        }
        if !bare {
            quoted(&name, self.out);
        }
        for (label, text) in self.metric.labels.iter() {
            self.label(&mut comma, label);
            quoted(text, self.out);
        }
        if let Some((label, bound)) = extra {
            self.label(&mut comma, label);
            self.out.push(b'"');
            self.float(bound);
            self.out.push(b'"');
        }
        if braces {
            self.out.push(b'}');
        }
        self.out.push(b' ');
        write_float(value, self.out);
        if let Some(at) = self.metric.at {
            let text = if self.openmetrics { format!(" {}", at as f64 / 1000.0) } else { format!(" {at}") };
            self.out.extend_from_slice(text.as_bytes());
        }
        self.out.push(b'\n');
    }

    fn label(&mut self, comma: &mut bool, label: &str) {
        if std::mem::replace(comma, true) {
            self.out.push(b',');
        }
        let label = escape_name(label, self.escaping);
        if is_legacy_label_name(&label) {
            self.out.extend_from_slice(label.as_bytes())
        } else {
            quoted(&label, self.out)
        }
        self.out.push(b'=');
    }

    /// Bounds in OpenMetrics always have a point.
    fn float(&mut self, value: f64) {
        let start = self.out.len();
        write_float(value, self.out);
        if self.openmetrics
            && value.is_finite()
            && !self.out[start..].contains(&b'.')
            && !self.out[start..].contains(&b'e')
        {
            self.out.extend_from_slice(b".0");
        }
    }
}
