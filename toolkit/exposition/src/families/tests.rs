//! Family readers against each other, and against what a running pushgateway said: `testdata/push_verdicts.json` holds
//! the answers of 1.11.2 to each body, with and without UTF-8 names.

use super::*;
use crate::{Escaping, Format, WriteOptions, write, write_with};
use model::{Span, Timestamp};

#[test]
fn verdicts_and_texts_are_those_of_a_running_pushgateway() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../testdata/push_verdicts.json")).expect("valid JSON");
    assert!(cases.len() > 200, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let text = |key: &str| case[key].as_str().expect("a text");
        // Bytes are kept as the code points of the same number.
        let bytes = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect::<Vec<u8>>();
        let names = if case["utf8"] == true { Names::Utf8 } else { Names::Legacy };
        let (error, shown) = match parse_text_with(&bytes(text("body")), names) {
            Err(error) => (error.to_string(), Vec::new()),
            Ok(mut families) => {
                families.sort_by(|a, b| a.name.cmp(&b.name));
                families.iter_mut().for_each(|family| family.metrics.sort_by(|a, b| a.labels.cmp(&b.labels)));
                (String::new(), written(&families, Format::Text004))
            }
        };
        if error != text("error") || shown != text("text").as_bytes() {
            let (shown, body) = (String::from_utf8_lossy(&shown).into_owned(), text("body"));
            failures.push(format!("{body:?}\n  have {error} {shown:?}\n  want {} {:?}", text("error"), text("text")));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

fn written(families: &[Family], format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    write_with(families, format, Escaping::AllowUtf8, WriteOptions { created: true }, &mut out);
    out
}

#[test]
fn families_are_put_together() {
    let text = "# HELP h some \\\\ help\n# TYPE h histogram\nh_bucket{a=\"1\",le=\"0.5\"} 2\nh_bucket{a=\"1\",le=\"+Inf\"} 3\n\
                h_sum{a=\"1\"} 1.5\nh_count{a=\"1\"} 3\n# TYPE c counter\nc 7\nuntyped{x=\"y\"} 1\n";
    let families = parse_text(text.as_bytes()).expect("valid");
    assert_eq!(families.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["h", "c", "untyped"]);
    assert_eq!(families[0].help, "some \\ help");
    let buckets = vec![(0.5, 2.0), (f64::INFINITY, 3.0)];
    let histogram = Histogram { count: 3.0, sum: 1.5, buckets, ..Histogram::default() };
    assert_eq!(families[0].metrics[0].value, MetricValue::Histogram(Box::new(histogram)));
    let mut out = Vec::new();
    write(&families, Format::Text004, Escaping::AllowUtf8, &mut out);
    assert_eq!(parse_text(&out).expect("what was written is valid"), families);
}

#[test]
fn series_of_interleaved_metrics_are_found_at_once() {
    let mut text = String::from("# TYPE h histogram\n");
    for bound in 0..20 {
        for metric in 0..3000 {
            text.push_str(&format!("h_bucket{{m=\"{metric}\",le=\"{bound}\"}} {bound}\n"));
        }
    }
    let families = parse_text(text.as_bytes()).expect("valid");
    assert_eq!(families[0].metrics.len(), 3000);
    assert!(matches!(&families[0].metrics[7].value, MetricValue::Histogram(h) if h.buckets.len() == 20));
}

/// One family of each kind with everything it can carry.
fn everything() -> Vec<Family> {
    let exemplar =
        |value| Exemplar { labels: Labels::from_pairs([("trace", "x\"y")]), value, at: Some(Timestamp(1_500)) };
    let metric = |kind: MetricType, name: &str, value: MetricValue| {
        let mut family = Family::new(name, "Help \\ with\nlines.", kind);
        family.metrics.push(Metric {
            labels: Labels::from_pairs([("l", "é\"\n")]),
            value,
            at: Some(1_795_000_000_123),
        });
        family
    };
    let counter = MetricValue::Counter { value: 1e6, exemplar: Some(exemplar(0.25)), start: Some(1_000_500) };
    let quantiles = vec![(0.5, 1.0), (1.0, f64::INFINITY)];
    let summary = MetricValue::Summary { count: 4.0, sum: 5.5, quantiles, start: Some(7_000) };
    let classic = Histogram {
        count: 9.0,
        sum: 8.25,
        buckets: vec![(0.1, 2.0), (1.0, 5.0), (f64::INFINITY, 9.0)],
        bucket_exemplars: vec![(1, exemplar(0.5)), (2, exemplar(3.0))],
        start: Some(9_000),
        ..Histogram::default()
    };
    let gauge = Histogram { start: None, ..classic.clone() };
    let mut unit = metric(MetricType::Gauge, "age_seconds", MetricValue::Gauge(-0.5));
    unit.unit = "seconds".into();
    vec![
        metric(MetricType::Counter, "jobs_total", counter),
        unit,
        metric(MetricType::Unknown, "what", MetricValue::Untyped(12345.678)),
        metric(MetricType::Summary, "wait", summary),
        metric(MetricType::Histogram, "size", MetricValue::Histogram(Box::new(classic))),
        metric(MetricType::GaugeHistogram, "queue", MetricValue::Histogram(Box::new(gauge))),
    ]
}

#[test]
fn what_openmetrics_and_protobuf_write_they_read() {
    let families = everything();
    assert_eq!(parse_openmetrics(&written(&families, Format::OpenMetrics100)), Ok(families.clone()));
    assert_eq!(parse_protobuf(&written(&families, Format::Protobuf)), Ok(families));
    let info = "# TYPE build info\n# HELP build x\nbuild_info{v=\"1\"} 1.0\n# TYPE on stateset\non{on=\"a\"} 1.0\n\
                on{on=\"b\"} 0.0\n# EOF\n";
    let families = parse_openmetrics(info.as_bytes()).expect("valid");
    assert_eq!(
        (families[0].kind, families[0].name.as_str(), families[1].metrics.len()),
        (MetricType::Info, "build", 2)
    );
    let again = written(&families, Format::OpenMetrics100);
    assert_eq!(parse_openmetrics(&again), Ok(families));
}

#[test]
fn native_histograms_survive_protobuf() {
    let native = |integer: bool| FloatHistogram {
        integer,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 2.0,
        count: 19.0,
        sum: 30.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 5, length: 1 }],
        positive: vec![4.0, 7.0, 1.0],
        negative_spans: vec![Span { offset: 0, length: 2 }],
        negative: vec![3.0, 2.0],
        ..FloatHistogram::default()
    };
    let empty = FloatHistogram { integer: true, ..FloatHistogram::default() };
    for native in [native(true), native(false), empty] {
        let mut family = Family::new("h", "", MetricType::Histogram);
        let histogram =
            Histogram { count: native.count, sum: native.sum, native: Some(native), ..Histogram::default() };
        let value = MetricValue::Histogram(Box::new(histogram));
        family.metrics.push(Metric { labels: Labels::empty(), value, at: None });
        let read = parse_protobuf(&written(std::slice::from_ref(&family), Format::Protobuf)).expect("valid");
        let MetricValue::Histogram(have) = &read[0].metrics[0].value else { panic!("no histogram") };
        let MetricValue::Histogram(want) = &family.metrics[0].value else { panic!("no histogram") };
        let compact = |h: &Histogram| h.native.clone().map(|h| (h.positive, h.negative, h.zero_count, h.integer));
        assert_eq!((compact(have), have.count, have.sum), (compact(want), want.count, want.sum));
    }
}

#[test]
fn strict_reading_says_where_and_why() {
    let check = |text: &str, want: &str| {
        let error = parse_openmetrics(text.as_bytes()).expect_err(text);
        assert_eq!(error.to_string(), format!("not OpenMetrics in line {want}"), "{text}");
    };
    check("# TYPE a counter\na_total -1\n# EOF\n", "2: a_total is negative or no number");
    check("# TYPE a gauge\na 1\n# HELP a x\n# EOF\n", "3: metadata of a behind its samples");
    check("# TYPE h histogram\nh_bucket{le=\"1\"} 1\n# EOF\n", "3: h{}: no bucket for +Inf");
    check("", "1: data does not end with # EOF");
}
