//! Bodies, failures and what is stored of them.

use super::*;
use crate::target::tests::config;
use model::{MatchOp, Matcher, is_stale};
use storage::Memory;

struct Bench {
    store: Memory,
    target: Loop,
    at: i64,
}

impl Bench {
    fn new(config: ScrapeConfig) -> Self {
        Self::on(Memory::new(storage::Limits::default()), config)
    }

    fn on(store: Memory, config: ScrapeConfig) -> Self {
        let labels = Labels::from_pairs([("job", "j"), ("instance", "h:1")]);
        Self { store, target: Loop::new(Arc::new(config), labels), at: 1_000_000 }
    }

    fn scrape(&mut self, body: Result<&str, &str>) -> Outcome {
        self.at += 15_000;
        let fetched = body.map(|text| (text.as_bytes(), Format::Text004)).map_err(Failure::new);
        self.target.ingest(Timestamp(self.at), 0.5, fetched, &self.store)
    }

    fn series(&self, name: &str) -> Vec<(String, Vec<f64>)> {
        let querier = self.store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let matcher = Matcher::new(MatchOp::Equal, METRIC_NAME, name).expect("valid");
        let mut set = querier.select(&[matcher]).expect("readable");
        let mut batch = Vec::new();
        set.next_batch(100, &mut batch).expect("readable");
        batch.iter().map(|columns| (columns.labels.to_string(), columns.values.to_vec())).collect()
    }

    /// The samples of the only series of a name: a number, or `end` for a stale marker.
    fn shown(&self, name: &str) -> String {
        let series = self.series(name);
        assert!(series.len() <= 1, "{name} has {} series", series.len());
        let word = |value: &f64| if is_stale(*value) { "end".to_owned() } else { value.to_string() };
        series.first().map_or(String::new(), |(_, values)| values.iter().map(word).collect::<Vec<_>>().join(" "))
    }
}

#[test]
fn samples_and_reports_are_stored() {
    let mut bench = Bench::new(config(&[]));
    let outcome = bench.scrape(Ok("a{x=\"1\"} 1\na{x=\"2\"} 2\n"));
    assert_eq!((outcome.scraped, outcome.kept, outcome.added, outcome.error), (2, 2, 2, None));
    let again = bench.scrape(Ok("a{x=\"1\"} 3\na{x=\"2\"} 4\n"));
    assert_eq!((again.scraped, again.added), (2, 0));
    assert_eq!(bench.series("a")[0], ("a{instance=\"h:1\", job=\"j\", x=\"1\"}".into(), vec![1.0, 3.0]));
    assert_eq!((bench.shown("up"), bench.shown("scrape_series_added")), ("1 1".into(), "2 0".into()));
}

#[test]
fn a_vanished_series_and_a_failed_scrape_end_with_a_marker() {
    let mut bench = Bench::new(config(&[]));
    bench.scrape(Ok("a 1\nb 1\n"));
    bench.scrape(Ok("a 2\n"));
    assert_eq!(bench.shown("b"), "1 end");
    let failed = bench.scrape(Err("connection refused"));
    assert_eq!(failed.error, Some(Failure::new("connection refused")));
    bench.scrape(Err("connection refused"));
    assert_eq!((bench.shown("a"), bench.shown("up")), ("1 2 end".into(), "1 1 0 0".into()));
    let back = bench.scrape(Ok("a 5\n"));
    assert_eq!((bench.shown("a"), back.added), ("1 2 end 5".into(), 0));
    bench.scrape(Ok("b 6\na 6\n"));
    assert_eq!((bench.shown("a"), bench.shown("b")), ("1 2 end 5 6".into(), "1 end 6".into()));
}

#[test]
fn a_broken_body_stores_nothing_of_it() {
    let mut bench = Bench::new(config(&[]));
    for _ in 0..2 {
        assert!(bench.scrape(Ok("a 1\nb broken\n")).error.is_some());
    }
    assert_eq!((bench.shown("a"), bench.shown("b"), bench.shown("up")), (String::new(), String::new(), "0 0".into()));
    bench.scrape(Ok("a 1\nb 1\n"));
    bench.scrape(Ok("a 2\nb broken\n"));
    assert_eq!((bench.shown("a"), bench.shown("b")), ("1 end".into(), "1 end".into()));
}

#[test]
fn over_the_sample_limit_nothing_is_stored_and_counting_goes_on() {
    let mut bench = Bench::new(ScrapeConfig { sample_limit: 1, ..config(&[]) });
    for _ in 0..3 {
        let outcome = bench.scrape(Ok("a 1\nb 1\nc 1\n"));
        assert_eq!((outcome.scraped, outcome.kept, outcome.added), (3, 3, 0));
        assert_eq!(outcome.error, Some(Failure::sample_limit()));
    }
    assert_eq!((bench.shown("a"), bench.shown("b")), (String::new(), String::new()));
    assert_eq!(bench.shown("scrape_samples_post_metric_relabeling"), "3 3 3");
}

#[test]
fn a_series_twice_is_counted_and_the_scrape_stays_good() {
    let mut bench = Bench::new(config(&[]));
    for round in 0..2 {
        let outcome = bench.scrape(Ok("a 1\na 1\n"));
        assert_eq!((outcome.duplicates, outcome.error), (1, None), "round {round}");
    }
    assert_eq!(bench.shown("a"), "1 1");
}

#[test]
fn the_same_series_written_two_ways_goes_on_when_one_way_vanishes() {
    let mut bench = Bench::new(config(&[]));
    bench.scrape(Ok("a{x=\"1\",y=\"2\"} 1\n"));
    bench.scrape(Ok("a{y=\"2\",x=\"1\"} 2\n"));
    bench.scrape(Ok("a{y=\"2\",x=\"1\"} 3\n"));
    assert_eq!(bench.shown("a"), "1 2 3");
}

#[test]
fn exposed_times_are_kept_untracked_and_bounded() {
    let mut bench = Bench::new(config(&[]));
    let stats = |bench: &Bench| storage::Storage::stats(&bench.store);
    let (soon, late) = (bench.at + 15_000 + 600_000, bench.at + 15_000 + 600_001);
    let outcome = bench.scrape(Ok(&format!("a 1 900000\nb 1 {soon}\nc 1 {late}\nd 1 9223372036854775\n")));
    assert_eq!((outcome.out_of_bounds, outcome.error), (2, None));
    assert_eq!(stats(&bench).max_time, Some(Timestamp(soon)));
    bench.scrape(Ok(""));
    assert_eq!((bench.shown("a"), bench.shown("b"), bench.shown("c")), ("1".into(), "1".into(), String::new()));
    let mut bench = Bench::new(ScrapeConfig { honor_timestamps: false, ..config(&[]) });
    bench.scrape(Ok("a 1 900000\n"));
    bench.scrape(Ok(""));
    assert_eq!(bench.shown("a"), "1 end");
    let mut bench = Bench::new(ScrapeConfig { track_timestamps_staleness: true, ..config(&[]) });
    bench.scrape(Ok("a 1 900000\n"));
    bench.scrape(Ok(""));
    assert_eq!(bench.shown("a"), "1 end");
}

#[test]
fn a_series_that_storage_gave_up_is_registered_again() {
    let limits = storage::Limits { retention: Some(model::Duration::from_millis(600_000)), ..Default::default() };
    let mut bench = Bench::on(Memory::new(limits), config(&[]));
    let fixed = bench.at;
    for i in 0..400 {
        let outcome = bench.scrape(Ok(&format!("a {i}\nold 1 {fixed}\n")));
        assert_eq!(outcome.error, None, "scrape {i}");
    }
    bench.scrape(Ok(&format!("old 2 {}\n", bench.at)));
    assert_eq!(bench.shown("old"), "2");
}

#[test]
fn relabelling_drops_series_from_storage_and_from_the_report() {
    let rule = model::RelabelRule {
        source_labels: vec![METRIC_NAME.into()],
        regex: Some("b.*".into()),
        action: model::Action::Drop,
        ..Default::default()
    };
    let rules = vec![model::Relabel::compile(&rule).expect("valid")];
    let mut bench = Bench::new(ScrapeConfig { metric_relabel: rules, ..config(&[]) });
    for _ in 0..3 {
        let outcome = bench.scrape(Ok("a 1\nb 1\nbb 1\n"));
        assert_eq!((outcome.scraped, outcome.kept), (3, 1));
    }
    assert_eq!((bench.shown("a"), bench.shown("b")), ("1 1 1".into(), String::new()));
}

#[test]
fn a_changed_configuration_ends_what_it_no_longer_yields() {
    let mut bench = Bench::new(config(&[]));
    bench.scrape(Ok("a 1\nb 1\n"));
    let rule = model::RelabelRule {
        source_labels: vec![METRIC_NAME.into()],
        regex: Some("b".into()),
        action: model::Action::Drop,
        ..Default::default()
    };
    let metric_relabel = vec![model::Relabel::compile(&rule).expect("valid")];
    bench.target.reconfigure(Arc::new(ScrapeConfig { metric_relabel, ..config(&[]) }));
    bench.scrape(Ok("a 2\nb 2\n"));
    bench.scrape(Ok("a 3\nb 3\n"));
    assert_eq!(
        (bench.shown("a"), bench.shown("b"), bench.shown("up")),
        ("1 2 3".into(), "1 end".into(), "1 1 1".into())
    );
}

#[test]
fn a_target_that_is_gone_ends_its_series_and_reports() {
    let mut bench = Bench::new(config(&[]));
    bench.scrape(Ok("a 1\n"));
    bench.target.end(Timestamp(bench.at + 15_000), &bench.store);
    assert_eq!((bench.shown("a"), bench.shown("up")), ("1 end".into(), "1 end".into()));
}

#[test]
fn extra_reports_tell_limits_and_size() {
    let mut bench = Bench::new(ScrapeConfig { extra_metrics: true, sample_limit: 5, ..config(&[]) });
    bench.scrape(Ok("a 1\n"));
    bench.scrape(Err("refused"));
    bench.at += 15_000;
    bench.target.ingest(Timestamp(bench.at), 0.1, Err(Failure::body_limit()), &bench.store);
    assert_eq!(bench.shown("scrape_body_size_bytes"), "4 0 -1");
    assert_eq!(
        (bench.shown("scrape_timeout_seconds"), bench.shown("scrape_sample_limit")),
        ("10 10 10".into(), "5 5 5".into())
    );
}

#[test]
fn families_are_remembered_for_ten_scrapes() {
    let mut bench = Bench::new(config(&[]));
    bench.scrape(Ok("# HELP a Help me.\n# TYPE a counter\na 1\n"));
    let known: Vec<_> = bench.target.families().iter().map(|(n, m)| (n.to_owned(), m.help.clone(), m.kind)).collect();
    assert_eq!(known, [("a".to_owned(), "Help me.".to_owned(), model::MetricType::Counter)]);
    for _ in 0..9 {
        bench.scrape(Ok("b 1\n"));
    }
    assert_eq!(bench.target.families().len(), 1);
    for _ in 0..10 {
        bench.scrape(Ok("b 1\n"));
    }
    assert!(bench.target.families().is_empty());
}

#[test]
fn native_histograms_of_protobuf_are_stored_as_such_when_wanted() {
    let native = model::FloatHistogram {
        integer: true,
        count: 3.0,
        sum: 4.5,
        zero_threshold: 0.001,
        positive_spans: vec![model::Span { offset: 1, length: 2 }],
        positive: vec![1.0, 2.0],
        ..Default::default()
    };
    let histogram = exposition::Histogram {
        count: 3.0,
        sum: 4.5,
        buckets: vec![(1.0, 1.0), (f64::INFINITY, 3.0)],
        native: Some(native),
        ..Default::default()
    };
    let value = exposition::MetricValue::Histogram(Box::new(histogram));
    let mut family = exposition::Family::new("h", "Help.", model::MetricType::Histogram);
    family.metrics.push(exposition::Metric { labels: Labels::empty(), value, at: None });
    let mut body = Vec::new();
    exposition::write(&[family], Format::Protobuf, exposition::Escaping::AllowUtf8, &mut body);
    for (native_histograms, always_scrape_classic, classic) in [(true, false, 0), (true, true, 2), (false, false, 2)] {
        let mut bench = Bench::new(ScrapeConfig { native_histograms, always_scrape_classic, ..config(&[]) });
        for _ in 0..2 {
            bench.at += 15_000;
            let fetched = Ok((body.as_slice(), Format::Protobuf));
            let outcome = bench.target.ingest(Timestamp(bench.at), 0.1, fetched, &bench.store);
            assert_eq!(outcome.error, None);
        }
        let querier = bench.store.querier(Timestamp(0), Timestamp(i64::MAX));
        let matcher = Matcher::new(MatchOp::Equal, METRIC_NAME, "h").expect("valid");
        let mut batch = Vec::new();
        querier.select(&[matcher]).expect("readable").next_batch(9, &mut batch).expect("readable");
        let stored: Vec<f64> = batch.iter().flat_map(|columns| &columns.histograms).map(|(_, h)| h.count).collect();
        assert_eq!(stored, if native_histograms { vec![3.0, 3.0] } else { vec![] });
        assert_eq!(bench.series("h_bucket").len(), classic);
    }
}
