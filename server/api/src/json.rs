//! JSON as upstream's API writes it: numbers of samples are strings, times have three fraction digits or none.

use crate::number;
use model::{Exemplar, FloatHistogram, Labels, Value};
use promql::{Answer, MatrixRow, PlanNode, QueryValue, Stats, histogram::Histogram};
use std::time::Duration;

/// Appends a JSON string. O(n).
pub(crate) fn string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Appends a JSON string as Go's encoder writes it where it does not know that no page reads it: with `<`, `>`, `&` and
/// the line separators of Unicode escaped. O(n).
pub(crate) fn escaped(text: &str, out: &mut String) {
    let start = out.len();
    string(text, out);
    let plain = |c: char| !matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if out[start..].chars().all(plain) {
        return;
    }
    let written = out.split_off(start);
    for c in written.chars() {
        if plain(c) {
            out.push(c);
        } else {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
    }
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::new();
    escaped(text, &mut out);
    out
}

/// Appends a list of strings.
pub(crate) fn strings<T: AsRef<str>>(items: impl IntoIterator<Item = T>, out: &mut String) {
    list(items, out, |item, out| escaped(item.as_ref(), out));
}

/// Appends `[…]` with `each` writing one item.
pub(crate) fn list<T>(items: impl IntoIterator<Item = T>, out: &mut String, mut each: impl FnMut(T, &mut String)) {
    out.push('[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(']');
}

/// Appends `{…}` of labels, in which pages' special characters are not escaped.
pub(crate) fn map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut String) {
    object(pairs, out, string);
}

/// Appends `{…}` of texts.
pub(crate) fn text_map<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>, out: &mut String) {
    object(pairs, out, escaped);
}

fn object<'a>(
    pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    out: &mut String,
    write: impl Fn(&str, &mut String),
) {
    out.push('{');
    for (i, (name, value)) in pairs.into_iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write(name, out);
        out.push(':');
        write(value, out);
    }
    out.push('}');
}

/// Appends milliseconds as seconds: no fraction, or three digits of it.
pub(crate) fn time(ms: i64, out: &mut String) {
    let (seconds, fraction) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
    if ms < 0 {
        out.push('-');
    }
    out.push_str(itoa::Buffer::new().format(seconds));
    if fraction > 0 {
        out.push_str(&format!(".{fraction:03}"));
    }
}

/// The text of a sample value: shortest digits that read back equal; an exponent below 1e-6 and from 1e21 on.
pub(crate) fn float(value: f64) -> String {
    let mut text = String::new();
    number::write(value, &mut text);
    text
}

/// Bytes of a float of a matrix, about.
const POINT_BYTES: usize = 28;

fn point(at: i64, value: f64, out: &mut String) {
    out.push('[');
    time(at, out);
    out.push_str(",\"");
    number::write(value, out);
    out.push_str("\"]");
}

/// Appends milliseconds and a value as Go writes a pair of bare numbers: times without padding, values without an
/// exponent.
fn bare(at: i64, value: f64, out: &mut String) {
    let value = if value.is_finite() { value.to_string() } else { float(value) };
    out.push_str(&format!("[{},\"{value}\"]", at as f64 / 1000.0));
}

/// Appends an exemplar; its time is a number.
pub(crate) fn exemplar(exemplar: &Exemplar, out: &mut String) {
    out.push_str("{\"labels\":");
    map(exemplar.labels.iter(), out);
    out.push_str(&format!(",\"value\":\"{}\",\"timestamp\":", float(exemplar.value)));
    time(exemplar.at.map_or(0, |at| at.0), out);
    out.push('}');
}

/// Count, sum and the buckets that are not empty. A bucket begins with which of its bounds belong to it: 0 the upper
/// one, 1 the lower one, 2 none, 3 both.
fn histogram(at: i64, histogram: &FloatHistogram, out: &mut String) {
    out.push('[');
    time(at, out);
    out.push_str(&format!(",{{\"count\":\"{}\",\"sum\":\"{}\"", float(histogram.count), float(histogram.sum)));
    let buckets = Histogram::from(histogram).buckets();
    let filled: Vec<_> = buckets.iter().filter(|bucket| bucket.count != 0.0).collect();
    if !filled.is_empty() {
        out.push_str(",\"buckets\":");
        list(filled, out, |bucket, out| {
            let bounds = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => 0,
                (true, false) => 1,
                (false, false) => 2,
                (true, true) => 3,
            };
            let [lower, upper, count] = [bucket.lower, bucket.upper, bucket.count].map(float);
            out.push_str(&format!("[{bounds},\"{lower}\",\"{upper}\",\"{count}\"]"));
        });
    }
    out.push_str("}]");
}

/// Floats and histograms of a series, each member only when there is something in it.
fn series(row: &MatrixRow, out: &mut String) {
    if !row.floats.is_empty() || row.histograms.is_empty() {
        out.push_str(",\"values\":");
        out.reserve(row.floats.len() * POINT_BYTES);
        list(&row.floats, out, |(at, value), out| point(*at, *value, out));
    }
    if !row.histograms.is_empty() {
        out.push_str(",\"histograms\":");
        list(&row.histograms, out, |(at, value), out| histogram(*at, value, out));
    }
}

fn metric(labels: &Labels, out: &mut String) {
    out.push_str("{\"metric\":");
    map(labels.iter(), out);
}

/// Times and samples of a query, in upstream's members and seconds.
pub(crate) fn stats(stats: &Stats, queued: Duration) -> String {
    let total = queued + stats.eval_total;
    let [eval, sort, preparation, inner, queue, total] =
        [stats.eval_total, stats.result_sort, stats.preparation, stats.inner_eval, queued, total]
            .map(|span| span.as_secs_f64());
    let mut out = format!(
        "{{\"timings\":{{\"evalTotalTime\":{eval},\"resultSortTime\":{sort},\"queryPreparationTime\":{preparation},\
         \"innerEvalTime\":{inner},\"execQueueTime\":{queue},\"execTotalTime\":{total}}},\"samples\":{{"
    );
    if !stats.per_step.is_empty() {
        out.push_str("\"totalQueryableSamplesPerStep\":");
        list(&stats.per_step, &mut out, |(at, samples), out| {
            out.push('[');
            time(*at, out);
            out.push_str(&format!(",{samples}]"));
        });
        out.push(',');
    }
    let (samples, peak) = (stats.total_samples, stats.peak_samples);
    out.push_str(&format!("\"totalQueryableSamples\":{samples},\"peakSamples\":{peak}}}}}"));
    out
}

/// Appends the tree of what a query did. The engine bounds its depth.
pub(crate) fn plan(node: &PlanNode, out: &mut String) {
    out.push_str("{\"text\":");
    escaped(&node.text, out);
    let PlanNode { kind, streamed, series, samples, bytes, time, .. } = node;
    out.push_str(&format!(
        ",\"kind\":\"{kind}\",\"streamed\":{streamed},\"series\":{series},\"samples\":{samples},\"bytes\":{bytes},\
         \"seconds\":{},\"operands\":",
        time.as_secs_f64()
    ));
    list(&node.operands, out, plan);
    out.push('}');
}

/// Appends the data member of a query's answer, with its statistics if there are any.
pub(crate) fn result(value: &QueryValue, stats: Option<&str>, out: &mut String) {
    let kind = match value {
        QueryValue::Scalar(..) => "scalar",
        QueryValue::String(..) => "string",
        QueryValue::Vector(_) => "vector",
        QueryValue::Matrix(_) => "matrix",
    };
    out.push_str(&format!("{{\"resultType\":\"{kind}\",\"result\":"));
    match value {
        QueryValue::Scalar(at, value) => bare(*at, *value, out),
        QueryValue::String(at, text) => {
            out.push_str(&format!("[{},", *at as f64 / 1000.0));
            escaped(text, out);
            out.push(']');
        }
        QueryValue::Vector(rows) => list(rows, out, |row, out| {
            metric(&row.labels, out);
            match &row.value {
                Value::Float(value) => {
                    out.push_str(",\"value\":");
                    point(row.at, *value, out);
                }
                Value::Histogram(value) => {
                    out.push_str(",\"histogram\":");
                    histogram(row.at, value, out);
                }
            }
            out.push('}');
        }),
        QueryValue::Matrix(rows) => list(rows, out, |row, out| {
            metric(&row.labels, out);
            series(row, out);
            out.push('}');
        }),
    }
    if let Some(stats) = stats {
        out.push_str(&format!(",\"stats\":{stats}"));
    }
    out.push('}');
}

/// Appends `,"warnings":[…],"infos":[…]`, at most ten of each.
pub(crate) fn notes(answer: &Answer, out: &mut String) {
    for (member, word, texts) in [("warnings", "warning", &answer.warnings), ("infos", "info", &answer.infos)] {
        if texts.is_empty() {
            continue;
        }
        let more = texts.len().saturating_sub(10);
        let rest = (more > 0).then(|| format!("{more} more {word} annotations omitted"));
        out.push_str(&format!(",\"{member}\":"));
        strings(texts.iter().take(10).map(String::as_str).chain(rest.as_deref()), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_upstream() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1e-6, "0.000001"),
            (1e-7, "1e-07"),
            (-2.5e-300, "-2.5e-300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn times_have_three_digits_or_none() {
        for (ms, text) in [(1_435_781_451_781, "1435781451.781"), (10_000, "10"), (500, "0.500"), (-1_500, "-1.500")] {
            let mut out = String::new();
            time(ms, &mut out);
            assert_eq!(out, text);
        }
    }

    #[test]
    fn histograms_list_their_filled_buckets() {
        let value = FloatHistogram {
            count: 4.0,
            sum: 1.5,
            zero_threshold: 0.5,
            zero_count: 1.0,
            positive_spans: vec![model::Span { offset: 1, length: 2 }],
            positive: vec![3.0, 0.0],
            ..FloatHistogram::default()
        };
        let mut out = String::new();
        histogram(1_000, &value, &mut out);
        let want =
            "[1,{\"count\":\"4\",\"sum\":\"1.5\",\"buckets\":[[3,\"-0.5\",\"0.5\",\"1\"],[0,\"1\",\"2\",\"3\"]]}]";
        assert_eq!(out, want);
    }

    #[test]
    fn lone_values_are_bare() {
        let shown = |value| {
            let mut out = String::new();
            result(&value, None, &mut out);
            out.split_once("\"result\":").map(|(_, rest)| rest.to_owned()).unwrap_or_default()
        };
        assert_eq!(shown(QueryValue::Scalar(1500, 1e-9)), "[1.5,\"0.000000001\"]}");
        assert_eq!(shown(QueryValue::Scalar(-1500, f64::NEG_INFINITY)), "[-1.5,\"-Inf\"]}");
        assert_eq!(shown(QueryValue::String(1, "<b>&\u{2028}".into())), "[0.001,\"\\u003cb\\u003e\\u0026\\u2028\"]}");
    }

    #[test]
    fn strings_are_escaped() {
        let mut out = String::new();
        string("a\"\\\n\u{1}é", &mut out);
        assert_eq!(out, "\"a\\\"\\\\\\n\\u0001é\"");
    }
}
