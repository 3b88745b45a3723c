//! One series as lines of text: writing them once, and ordering them by their own labels ever after.
//!
//! An entry is all lines of one metric. Its last line carries exactly the metric's labels, so order and identity are
//! read from there and stored nowhere else. Names outside the legacy alphabet stand quoted; other escapings are made
//! from that. Truth: text format 0.0.4, and the order in which upstream's registries sort metrics.

use crate::Key;
use exposition::{Escaping, Family, Format, Metric, MetricValue, escape_label_name, escape_name, write_float};
use model::{Builder, is_legacy_label_name, is_legacy_metric_name};
use std::cmp::Ordering;

/// Labels as they are exposed: those of the body, overruled by the grouping key, and an `instance` always.
pub(crate) fn exposed<'a>(metric: impl Iterator<Item = (&'a str, &'a str)>, key: &'a Key) -> Vec<(&'a str, &'a str)> {
    let mut all: Vec<(&str, &str)> = key.iter().collect();
    let grouping = all.len();
    all.extend(metric.filter(|(name, _)| key.get(name).is_none()));
    if all.iter().all(|(name, _)| *name != "instance") {
        all.push(("instance", ""));
    }
    if all.len() > grouping {
        all.sort_unstable();
    }
    all
}

/// The entry of one metric. O(its text).
pub(crate) fn entry(family: &Family, metric: &Metric, labels: &[(&str, &str)]) -> Vec<u8> {
    if let MetricValue::Histogram(histogram) = &metric.value
        && histogram.buckets.is_empty()
        && histogram.native.is_some()
    {
        return native_entry(family, metric, labels);
    }
    let mut out = Vec::with_capacity(64);
    let mut line = |suffix: &str, extra: Option<(&str, f64)>, value: f64| {
        write_line(&mut out, &family.name, suffix, labels, extra, value);
    };
    match &metric.value {
        MetricValue::Counter { value, .. } | MetricValue::Gauge(value) | MetricValue::Untyped(value) => {
            line("", None, *value);
        }
        MetricValue::Summary { count, sum, quantiles, .. } => {
            for (quantile, value) in quantiles {
                line("", Some(("quantile", *quantile)), *value);
            }
            line("_sum", None, *sum);
            line("_count", None, *count);
        }
        MetricValue::Histogram(histogram) => {
            for (bound, count) in &histogram.buckets {
                line("_bucket", Some(("le", *bound)), *count);
            }
            if histogram.buckets.iter().all(|(bound, _)| *bound != f64::INFINITY) {
                line("_bucket", Some(("le", f64::INFINITY)), histogram.count);
            }
            line("_sum", None, histogram.sum);
            line("_count", None, histogram.count);
        }
    }
    out
}

/// A native histogram, of which the text format has a part that `exposition` knows to choose.
fn native_entry(family: &Family, metric: &Metric, labels: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = Builder::default();
    for (name, value) in labels {
        builder.set(name, value);
    }
    let mut alone = Family::new(&family.name, "", family.kind);
    alone.metrics.push(Metric { labels: builder.build_with_empty(), ..metric.clone() });
    let mut text = Vec::new();
    exposition::write(&[alone], Format::Text004, Escaping::AllowUtf8, &mut text);
    // One line of TYPE comes before the series.
    let start = memchr::memchr(b'\n', &text).map_or(0, |at| at + 1);
    text.split_off(start)
}

/// A gauge that the gateway itself adds to every group.
pub(crate) fn gauge_entry(name: &str, labels: &[(&str, &str)], value: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    write_line(&mut out, name, "", labels, None, value);
    out
}

fn write_line(
    out: &mut Vec<u8>,
    name: &str,
    suffix: &str,
    labels: &[(&str, &str)],
    extra: Option<(&str, f64)>,
    value: f64,
) {
    let legacy = is_legacy_metric_name(name);
    // Only the gateway's own series have none.
    let bare = legacy && labels.is_empty() && extra.is_none();
    if legacy {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if !bare {
            out.push(b'{');
        }
    } else {
        out.push(b'{');
        quoted(out, &format!("{name}{suffix}"));
        out.push(b',');
    }
    for (i, (label, text)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        if is_legacy_label_name(label) {
            out.extend_from_slice(label.as_bytes())
        } else {
            quoted(out, label)
        }
        out.push(b'=');
        quoted(out, text);
    }
    if let Some((label, bound)) = extra {
        if !labels.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(label.as_bytes());
        out.extend_from_slice(b"=\"");
        write_float(bound, out);
        out.push(b'"');
    }
    out.extend_from_slice(if bare { b" " } else { b"} " });
    write_float(value, out);
    out.push(b'\n');
}

fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'"' => out.extend_from_slice(b"\\\""),
            byte => out.push(byte),
        }
    }
    out.push(b'"');
}

/// The labels of a line that [`entry`] wrote, still escaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pairs<'a>(&'a [u8]);

impl<'a> Pairs<'a> {
    /// The labels of an entry, which its last line has.
    pub(crate) fn of(entry: &'a [u8]) -> Self {
        let body = entry.strip_suffix(b"\n").unwrap_or(entry);
        let start = memchr::memrchr(b'\n', body).map_or(0, |at| at + 1);
        Self::of_line(&body[start..]).1
    }

    /// The name of a line, quoted or bare and with its suffix, and its labels.
    pub(crate) fn of_line(line: &'a [u8]) -> (&'a [u8], Self) {
        let open = memchr::memchr(b'{', line).unwrap_or(line.len());
        let rest = line.get(open + 1..).unwrap_or_default();
        if open > 0 {
            return (&line[..open], Self(rest));
        }
        let end = quote_end(rest);
        let after = rest.get(end..).unwrap_or_default();
        (&rest[..end], Self(after.strip_prefix(b",").unwrap_or(after)))
    }

    /// What follows the labels: `} 1\n`.
    fn tail(self) -> &'a [u8] {
        let mut rest = self;
        while rest.next().is_some() {}
        rest.0
    }
}

/// Where the quoted text at the start of `text` ends, behind its quote.
fn quote_end(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(step) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += step;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

impl<'a> Iterator for Pairs<'a> {
    /// Name, bare or quoted, and value without its quotes.
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0;
        let equals = match text.first()? {
            b'}' => return None,
            b'"' => quote_end(text),
            _ => memchr::memchr(b'=', text)?,
        };
        let value = text.get(equals + 1..)?;
        let end = quote_end(value);
        let rest = &value[end..];
        self.0 = rest.strip_prefix(b",").unwrap_or(rest);
        Some((&text[..equals], value.get(1..end - 1)?))
    }
}

/// The order of two entries of one family: number of labels, then values in order of their names, then names. Equal
/// means the same series.
pub(crate) fn order(left: &[u8], right: &[u8]) -> Ordering {
    let (left, right) = (Pairs::of(left), Pairs::of(right));
    // Side by side, so that one with very many labels costs no more than the other.
    let (mut some, mut others) = (left, right);
    let counts = loop {
        match (some.next(), others.next()) {
            (None, None) => break Ordering::Equal,
            (None, Some(_)) => break Ordering::Less,
            (Some(_), None) => break Ordering::Greater,
            (Some(_), Some(_)) => {}
        }
    };
    counts
        .then_with(|| left.zip(right).map(|(l, r)| text_order(l.1, r.1)).find(|o| o.is_ne()).unwrap_or(Ordering::Equal))
        .then_with(|| left.map(|pair| pair.0).cmp(right.map(|pair| pair.0)))
}

/// The order of two escaped texts is that of what they stand for.
fn text_order(left: &[u8], right: &[u8]) -> Ordering {
    if memchr::memchr(b'\\', left).is_none() && memchr::memchr(b'\\', right).is_none() {
        return left.cmp(right);
    }
    unescaped(left).cmp(unescaped(right))
}

fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = text.iter().copied();
    std::iter::from_fn(move || match bytes.next()? {
        b'\\' => bytes.next().map(|byte| if byte == b'n' { b'\n' } else { byte }),
        byte => Some(byte),
    })
}

/// Appends lines with their names in another escaping. O(text).
pub(crate) fn rename(lines: &[u8], escaping: Escaping, out: &mut Vec<u8>) {
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        let (name, pairs) = Pairs::of_line(line);
        let tail = pairs.tail();
        out.extend_from_slice(escape_name(&plain(name), escaping).as_bytes());
        let mut open = b'{';
        for (label, value) in pairs {
            out.push(std::mem::replace(&mut open, b','));
            out.extend_from_slice(escape_label_name(&plain(label), escaping).as_bytes());
            out.extend_from_slice(b"=\"");
            out.extend_from_slice(value);
            out.push(b'"');
        }
        out.extend_from_slice(tail);
    }
}

/// The name as it was given.
fn plain(name: &[u8]) -> String {
    let quoted = name.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let text: Vec<u8> = quoted.map_or_else(|| name.to_vec(), |quoted| unescaped(quoted).collect());
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, labels: &[(&str, &str)]) -> Vec<u8> {
        gauge_entry(name, labels, 1.0)
    }

    #[test]
    fn labels_are_read_back() {
        let text = line("a.b", &[("l", "x\\y\"z\nw"), ("ö", "}")]);
        assert_eq!(String::from_utf8_lossy(&text), "{\"a.b\",l=\"x\\\\y\\\"z\\nw\",\"ö\"=\"}\"} 1\n");
        let pairs: Vec<_> = Pairs::of(&text).collect();
        assert_eq!(pairs, [(&b"l"[..], &b"x\\\\y\\\"z\\nw"[..]), ("\"ö\"".as_bytes(), b"}")]);
        let mut out = Vec::new();
        rename(&text, Escaping::Underscores, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "a_b{l=\"x\\\\y\\\"z\\nw\",_=\"}\"} 1\n");
    }

    #[test]
    fn order_is_count_then_values_then_names() {
        let check = |left: &[(&str, &str)], right: &[(&str, &str)], want| {
            assert_eq!(order(&line("m", left), &line("m", right)), want, "{left:?} {right:?}");
            assert_eq!(order(&line("m", right), &line("m", left)), want.reverse(), "{right:?} {left:?}");
        };
        check(&[("z", "z")], &[("a", "a"), ("b", "b")], Ordering::Less);
        check(&[("a", "1"), ("z", "2")], &[("b", "1"), ("z", "3")], Ordering::Less);
        check(&[("a", "1")], &[("b", "1")], Ordering::Less);
        check(&[("a", "\n")], &[("a", "!")], Ordering::Less);
        check(&[("a", "\\")], &[("a", "a")], Ordering::Less);
        check(&[("a", "")], &[("a", "x")], Ordering::Less);
        check(&[("a", "1")], &[("a", "1")], Ordering::Equal);
    }

    #[test]
    fn the_last_line_of_a_histogram_has_its_labels() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_sum 3\nh_count 2\n";
        let family = &exposition::families::parse_text(text.as_bytes()).expect("valid")[0];
        let text = entry(family, &family.metrics[0], &[("job", "j")]);
        let want = "h_bucket{job=\"j\",le=\"1\"} 1\nh_bucket{job=\"j\",le=\"+Inf\"} 2\nh_sum{job=\"j\"} 3\n\
                    h_count{job=\"j\"} 2\n";
        assert_eq!(String::from_utf8_lossy(&text), want);
        assert_eq!(Pairs::of(&text).count(), 1);
    }
}
