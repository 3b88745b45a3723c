//! What writers print.

use super::*;
use crate::families::{parse_openmetrics, parse_text};
use model::FloatHistogram;

fn check(families: &[Family], format: Format, escaping: Escaping, want: &str) {
    let mut out = Vec::new();
    write(families, format, escaping, &mut out);
    assert_eq!(String::from_utf8_lossy(&out), want);
}

#[test]
fn the_same_families_in_each_text_format() {
    let text = "# HELP c_total Counts.\n# TYPE c_total counter\nc_total{a=\"\\\"x\\\\\\n\"} 1e+06 5\n# TYPE h histogram\n\
                h_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4\nh_count 3\n# TYPE s summary\n\
                s{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n# TYPE u untyped\nu 0\n";
    let families = parse_text(text.as_bytes()).expect("valid");
    check(&families, Format::Text004, Escaping::AllowUtf8, text);
    check(
        &families,
        Format::OpenMetrics100,
        Escaping::AllowUtf8,
        "# HELP c Counts.\n# TYPE c counter\nc_total{a=\"\\\"x\\\\\\n\"} 1e+06 0.005\n# TYPE h histogram\n\
         h_bucket{le=\"1.0\"} 2\nh_bucket{le=\"+Inf\"} 3\nh_sum 4.0\nh_count 3\n# TYPE s summary\n\
         s{quantile=\"0.5\"} 1.0\ns_sum 2.0\ns_count 3\n# TYPE u unknown\nu 0.0\n# EOF\n",
    );
    // A counter that is not named like one is none in OpenMetrics.
    let counter = Family::counter("odd", "", 1.0);
    check(&[counter], Format::OpenMetrics100, Escaping::AllowUtf8, "# TYPE odd unknown\nodd 1.0\n# EOF\n");
}

#[test]
fn types_of_openmetrics_become_gauges_elsewhere() {
    let text = "# TYPE build info\nbuild_info{v=\"1\"} 1.0\n# TYPE on stateset\non{on=\"a\"} 1.0\n\
                # TYPE q gaugehistogram\nq_bucket{le=\"+Inf\"} 3\nq_gsum 4.0\nq_gcount 3\n# EOF\n";
    let families = parse_openmetrics(text.as_bytes()).expect("valid");
    check(&families, Format::OpenMetrics100, Escaping::AllowUtf8, text);
    check(
        &families,
        Format::Text004,
        Escaping::AllowUtf8,
        "# TYPE build_info gauge\nbuild_info{v=\"1\"} 1\n# TYPE on gauge\non{on=\"a\"} 1\n# TYPE q histogram\n\
         q_bucket{le=\"+Inf\"} 3\nq_sum 4\nq_count 3\n",
    );
}

#[test]
fn names_are_quoted_or_escaped() {
    let mut family = Family::new("a.b", "x", MetricType::Gauge);
    let labels = Labels::from_pairs([("l:m", "v"), ("ok", "w")]);
    family.metrics.push(Metric { labels, value: MetricValue::Gauge(1.0), at: None });
    let families = [family];
    for (escaping, want) in [
        (Escaping::AllowUtf8, "# HELP \"a.b\" x\n# TYPE \"a.b\" gauge\n{\"a.b\",\"l:m\"=\"v\",ok=\"w\"} 1\n"),
        (Escaping::Underscores, "# HELP a_b x\n# TYPE a_b gauge\na_b{l_m=\"v\",ok=\"w\"} 1\n"),
        (Escaping::Dots, "# HELP a_dot_b x\n# TYPE a_dot_b gauge\na_dot_b{l__m=\"v\",ok=\"w\"} 1\n"),
        (Escaping::Values, "# HELP U__a_2e_b x\n# TYPE U__a_2e_b gauge\nU__a_2e_b{U__l_3a_m=\"v\",ok=\"w\"} 1\n"),
    ] {
        check(&families, Format::Text004, escaping, want);
    }
}

#[test]
fn protobuf_is_what_a_pushgateway_takes_and_shows() {
    let mut family = Family::new("p_x", "x", MetricType::Gauge);
    family.metrics.push(Metric { labels: Labels::empty(), value: MetricValue::Gauge(1.0), at: None });
    let mut out = Vec::new();
    write(std::slice::from_ref(&family), Format::Protobuf, Escaping::Underscores, &mut out);
    assert_eq!(out, b"\x17\x0a\x03p_x\x12\x01x\x18\x01\"\x0b\x12\x09\x09\0\0\0\0\0\0\xf0?");
    let families = parse_text(b"# TYPE h histogram\nh_bucket{a=\"\",le=\"1\"} 2\nh_sum 1e7\n").expect("valid");
    check(
        &families[..1],
        Format::ProtobufCompactText,
        Escaping::Underscores,
        "name:\"h\" type:HISTOGRAM metric:{label:{name:\"a\" value:\"\"} histogram:{sample_count:0 sample_sum:0 \
         bucket:{cumulative_count:2 upper_bound:1}}} metric:{histogram:{sample_count:0 sample_sum:1e+07}}\n",
    );
    check(
        &[family],
        Format::ProtobufText,
        Escaping::Underscores,
        "name: \"p_x\"\nhelp: \"x\"\ntype: GAUGE\nmetric: {\n  gauge: {\n    value: 1\n  }\n}\n\n",
    );
}

/// `testdata/pushgateway.*` are answers of push gateway 1.11.2 to one scrape in three formats, its own$
/// metrics left out and, in the protobuf text, the random second blanks.
#[test]
fn what_a_pushgateway_says_is_said_again() {
    let body = include_bytes!("../../testdata/pushgateway.pb");
    let families = crate::families::parse_protobuf(body).expect("valid");
    let mut out = Vec::new();
    write(&families, Format::Protobuf, Escaping::AllowUtf8, &mut out);
    assert_eq!(crate::families::parse_protobuf(&out).expect("valid"), families);
    assert!(out == body, "the messages differ from upstream's");
    let text = include_str!("../../testdata/pushgateway.prototext");
    check(&families, Format::ProtobufCompactText, Escaping::AllowUtf8, text);
    check(&families, Format::Text004, Escaping::AllowUtf8, include_str!("../../testdata/pushgateway.prom"));
}

#[test]
fn custom_bounds_travel_as_classic_buckets() {
    let native = FloatHistogram {
        schema: CUSTOM_BOUNDS,
        count: 6.0,
        sum: 9.0,
        custom_bounds: vec![1.0, 2.0, 5.0],
        positive_spans: vec![model::Span { offset: 0, length: 1 }, model::Span { offset: 1, length: 2 }],
        positive: vec![1.0, 2.0, 3.0],
        ..FloatHistogram::default()
    };
    let histogram = Histogram { count: 6.0, sum: 9.0, native: Some(native), ..Histogram::default() };
    let mut family = Family::new("h", "", MetricType::Histogram);
    let value = MetricValue::Histogram(Box::new(histogram));
    family.metrics.push(Metric { labels: Labels::empty(), value, at: None });
    let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"2\"} 1\nh_bucket{le=\"5\"} 3\n\
                h_bucket{le=\"+Inf\"} 6\nh_sum 9\nh_count 6\n";
    check(&[family], Format::Text004, Escaping::AllowUtf8, text);
}
