//! Readers against a running Prometheus: `testdata/scrape_verdicts.json` holds what 3.5.3 said of each body when it
//! scraped it, error text and labels of the stored series.

use super::*;
use crate::Format;
use model::Labels;

type Sample = (Labels, f64, Option<i64>);

fn read_with(body: &[u8], format: Format, options: Options) -> Result<Vec<Sample>, ParseError> {
    let mut parser = Parser::with_options(body, format, options);
    let (mut labels, mut all) = (Builder::default(), Vec::new());
    while let Some(entry) = parser.next()? {
        if let Entry::Series { value, at, .. } = entry {
            parser.labels(&mut labels);
            all.push((labels.build(), value, at));
        }
    }
    Ok(all)
}

fn read(body: &str, format: Format) -> Result<Vec<(String, f64, Option<i64>)>, ParseError> {
    let samples = read_with(body.as_bytes(), format, Options::default())?;
    Ok(samples.into_iter().map(|(labels, value, at)| (labels.to_string(), value, at)).collect())
}

#[test]
fn verdicts_and_texts_are_those_of_a_running_server() {
    compare(include_str!("../../testdata/scrape_verdicts.json"), 150, Options::default());
}

/// The same with the feature `type-and-unit-labels`; native histograms were switched off.
#[test]
fn types_and_units_become_the_labels_of_a_running_server() {
    let options = Options { type_and_unit_labels: true, ..Options::default() };
    compare(include_str!("../../testdata/type_unit_verdicts.json"), 10, options);
}

fn compare(data: &str, least: usize, options: Options) {
    let cases: Vec<serde_json::Value> = serde_json::from_str(data).expect("valid JSON");
    assert!(cases.len() > least, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for case in &cases {
        let text = |key: &str| case[key].as_str().expect("a text");
        // Bytes are kept as the code points of the same number.
        let body: Vec<u8> = text("body").chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect();
        let format = crate::format_of_content_type(text("type")).expect("known");
        let (error, series) = match read_with(&body, format, options) {
            Ok(samples) => (String::new(), samples.into_iter().map(|sample| sample.0).collect()),
            Err(error) => (error.to_string(), Vec::new()),
        };
        let wanted: Vec<Labels> = case["series"].as_array().expect("a list").iter().map(labels_of).collect();
        let same = |a: &[Labels], b: &[Labels]| a.iter().all(|labels| b.contains(labels));
        if error != text("error") || !same(&series, &wanted) || !same(&wanted, &series) {
            failures.push(format!(
                "{:?}\n  have {error} {series:?}\n  want {} {wanted:?}",
                text("body"),
                text("error")
            ));
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

fn labels_of(json: &serde_json::Value) -> Labels {
    let pairs = json.as_object().expect("labels").iter();
    Labels::from_pairs(pairs.map(|(name, value)| (name.as_str(), value.as_str().expect("a text"))))
}

/// What a float sample and a native histogram are compared by: bounds as the API shows them.
fn shown(value: &FloatHistogram) -> serde_json::Value {
    let bound = |i: i64| match usize::try_from(i).ok().and_then(|i| value.custom_bounds.get(i)) {
        Some(bound) => bound.to_string(),
        None => if i < 0 { "-Inf" } else { "+Inf" }.to_owned(),
    };
    let (mut index, mut counts, mut buckets) = (0i64, value.positive.iter(), Vec::new());
    for span in &value.positive_spans {
        index += i64::from(span.offset);
        for count in counts.by_ref().take(span.length as usize) {
            buckets.push(serde_json::json!([bound(index - 1), bound(index), count]));
            index += 1;
        }
    }
    serde_json::json!({"count": value.count, "sum": value.sum, "buckets": buckets})
}

/// `testdata/custom_bucket_verdicts.json` holds what 3.5.3 stored of each body with
/// `convert_classic_histograms_to_nhcb`. A histogram without count and buckets is not in it: 3.5 stores one of count 0,
/// later versions and we drop it.
#[test]
fn classic_histograms_become_those_a_running_server_makes() {
    let data = include_str!("../../testdata/custom_bucket_verdicts.json");
    let cases: Vec<serde_json::Value> = serde_json::from_str(data).expect("valid JSON");
    assert!(cases.len() > 15, "only {} cases", cases.len());
    for case in &cases {
        let body = case["body"].as_str().expect("a text");
        let format = crate::format_of_content_type(case["type"].as_str().expect("a text")).expect("known");
        let options = Options { custom_buckets: true, ..Options::default() };
        let mut parser = Parser::with_options(body.as_bytes(), format, options);
        let (mut labels, mut have) = (Builder::default(), Vec::new());
        while let Some(entry) = parser.next().expect("valid") {
            let value = match entry {
                Entry::Series { value, .. } => serde_json::json!({ "value": value }),
                Entry::Histogram { value, .. } => serde_json::json!({ "histogram": shown(&value) }),
                _ => continue,
            };
            parser.labels(&mut labels);
            let labels = labels.build();
            // A second sample of a series is dropped when it is stored.
            if have.iter().all(|(seen, _)| *seen != labels) {
                have.push((labels, value));
            }
        }
        let mut want: Vec<_> = case["series"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| {
                let mut value = one.clone();
                let labels = labels_of(&one["labels"]);
                value.as_object_mut().expect("an object").remove("labels");
                (labels, value)
            })
            .collect();
        have.sort_by(|a, b| a.0.cmp(&b.0));
        want.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(have, want, "{body}");
    }
}

#[test]
fn a_custom_histogram_has_its_exemplars_and_may_leave_its_classic_series() {
    let body = "# TYPE h histogram\nh_bucket{l=\"x\",le=\"1\"} 2 # {t=\"a\"} 0.5 7\nh_bucket{l=\"x\",le=\"+Inf\"} 2 # {t=\"b\"} 9\n\
                h_count{l=\"x\"} 2\nh_created{l=\"x\"} 3\n# EOF\n";
    let options = Options { custom_buckets: true, keep_classic: true, start_timestamps: true, ..Options::default() };
    let mut parser = Parser::with_options(body.as_bytes(), Format::OpenMetrics100, options);
    let (mut labels, mut seen) = (Builder::default(), Vec::new());
    while let Some(entry) = parser.next().expect("valid") {
        let raw = match &entry {
            Entry::Series { raw, .. } | Entry::Histogram { raw, .. } => String::from_utf8_lossy(raw).into_owned(),
            _ => continue,
        };
        parser.labels(&mut labels);
        let mut exemplars = Vec::new();
        parser.exemplars(&mut exemplars);
        seen.push((raw.replace('\u{fffd}', "|"), labels.build().to_string(), exemplars.len(), parser.start()));
    }
    assert_eq!(
        seen,
        [
            ("h_bucket{l=\"x\",le=\"1\"}".into(), "h_bucket{l=\"x\", le=\"1.0\"}".into(), 1, Some(3000)),
            ("h_bucket{l=\"x\",le=\"+Inf\"}".into(), "h_bucket{l=\"x\", le=\"+Inf\"}".into(), 1, Some(3000)),
            ("h_count{l=\"x\"}".into(), "h_count{l=\"x\"}".into(), 0, Some(3000)),
            ("h|l|x".into(), "h{l=\"x\"}".into(), 1, Some(3000)),
        ]
    );
}

#[test]
fn text_is_read() {
    let body = "# TYPE h histogram\nh_bucket{le=\"1\",} 2\n\n go{a = \"b\\\"\\n\" , } 1e3\t 15\n{\"a.b\",\"l.x\"=\"v\"} 1\n# note\n";
    assert_eq!(
        read(body, Format::Text004).expect("valid"),
        [
            ("h_bucket{le=\"1.0\"}".into(), 2.0, None),
            ("go{a=\"b\\\"\\n\"}".into(), 1000.0, Some(15)),
            ("{\"a.b\", \"l.x\"=\"v\"}".into(), 1.0, None)
        ]
    );
    // Upstream names the first one " a" and the second "o".
    assert_eq!(read(" a 1\n", Format::Text004).expect("valid"), [("a".into(), 1.0, None)]);
    assert_eq!(read("{foo,} 1\n", Format::Text004).expect("valid"), [("foo".into(), 1.0, None)]);
}

#[test]
fn metadata_is_borrowed_and_resolved() {
    let body = "# HELP a x\\ny\\\"\n# TYPE \"b.c\" gauge\n#note\n";
    let mut parser = Parser::new(body.as_bytes(), Format::Text004);
    assert_eq!(parser.next(), Ok(Some(Entry::Help { name: "a".into(), text: "x\ny\\\"".into() })));
    let entry = parser.next().expect("valid");
    assert!(matches!(entry, Some(Entry::Type { name: Cow::Borrowed("b.c"), kind: MetricType::Gauge })));
    assert_eq!((parser.next(), parser.next()), (Ok(Some(Entry::Comment)), Ok(None)));
    let mut parser = Parser::new(b"# HELP a \\\"x\\\"\n# UNIT a_s s\n# EOF\n", Format::OpenMetrics100);
    assert_eq!(parser.next(), Ok(Some(Entry::Help { name: "a".into(), text: "\"x\"".into() })));
    assert_eq!(parser.next(), Ok(Some(Entry::Unit { name: "a_s".into(), unit: "s".into() })));
}

#[test]
fn exemplars_and_start_timestamps_of_openmetrics() {
    let body = "# TYPE a counter\n# HELP a x\na_total{x=\"1\"} 2 1.5 # {id=\"7\",n=\"8\"} 0.3 1\na_total{x=\"2\"} 3\n\
                a_created{x=\"1\"} 4.5\n# TYPE b gauge\nb 1\nb_created 7\n# EOF\n";
    let options = Options { start_timestamps: true, ..Options::default() };
    let mut parser = Parser::with_options(body.as_bytes(), Format::OpenMetrics100, options);
    let mut seen = Vec::new();
    while let Some(entry) = parser.next().expect("valid") {
        if let Entry::Series { raw, .. } = entry {
            let exemplar = parser.exemplar().map(|e| (e.labels.to_string(), e.value, e.at.map(|at| at.0)));
            seen.push((String::from_utf8_lossy(&raw).into_owned(), parser.start(), exemplar));
        }
    }
    let exemplar = Some(("{id=\"7\", n=\"8\"}".into(), 0.3, Some(1000)));
    assert_eq!(
        seen,
        [
            ("a_total{x=\"1\"}".into(), Some(4500), exemplar),
            ("a_total{x=\"2\"}".into(), None, None),
            ("b".into(), None, None),
            ("b_created".into(), None, None),
        ]
    );
    assert_eq!(read(body, Format::OpenMetrics100).expect("valid").len(), 5);
    // A time no clock reaches is kept at the edge, as it is on upstream's processors.
    let far = read("a 1 12345678901234567890\n# EOF", Format::OpenMetrics001).expect("valid");
    assert_eq!(far[0].2, Some(i64::MAX));
}

#[test]
fn many_labels_are_still_told_apart() {
    let labels: Vec<String> = (0..2000).rev().map(|i| format!("l{i}=\"x\"")).collect();
    let body = format!("a{{{}}} 1\n", labels.join(","));
    assert_eq!(read(&body, Format::Text004).expect("valid").len(), 1);
    let body = format!("a{{{},l7=\"y\"}} 1\n", labels.join(","));
    let error = read(&body, Format::Text004).expect_err("twice");
    assert_eq!(error.to_string(), "label name \"l7\" is not unique: invalid sample");
}

#[test]
fn the_key_of_a_protobuf_series_reuses_its_buffer() {
    use crate::{Escaping, Family, Metric, MetricValue};
    let mut family = Family::new("g", "help", MetricType::Gauge);
    for i in 0..3 {
        let labels = Labels::from_pairs([("i", i.to_string())]);
        family.metrics.push(Metric { labels, value: MetricValue::Gauge(f64::from(i)), at: Some(7) });
    }
    let mut body = Vec::new();
    crate::write(&[family], Format::Protobuf, Escaping::AllowUtf8, &mut body);
    let mut parser = Parser::new(&body, Format::Protobuf);
    let (mut keys, mut places) = (Vec::new(), Vec::new());
    while let Some(entry) = parser.next().expect("valid") {
        if let Entry::Series { raw, at, .. } = entry {
            assert_eq!(at, Some(7));
            places.push(raw.as_ptr());
            keys.push(raw.to_vec());
        }
    }
    assert_eq!(keys, [b"g\xffi\xff0", b"g\xffi\xff1", b"g\xffi\xff2"]);
    assert!(places[1] == places[2], "the buffer was not reused");
}
