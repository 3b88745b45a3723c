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

fn protobuf(native: model::FloatHistogram) -> Vec<u8> {
    let histogram = exposition::Histogram {
        count: native.count,
        sum: 1.0,
        native: Some(native),
        ..exposition::Histogram::default()
    };
    let value = exposition::MetricValue::Histogram(Box::new(histogram));
    let mut family = exposition::Family::new("h", "Help.", model::MetricType::Histogram);
    family.metrics.push(exposition::Metric { labels: Labels::empty(), value, at: None });
    let mut body = Vec::new();
    exposition::write(&[family], Format::Protobuf, exposition::Escaping::AllowUtf8, &mut body);
    body
}

#[test]
fn native_histograms_are_made_coarser_and_too_many_buckets_fail_the_scrape() {
    let spans = |gap| vec![model::Span { offset: 1, length: 4 }, model::Span { offset: gap, length: 4 }];
    let native = |schema, gap| model::FloatHistogram {
        integer: true,
        schema,
        zero_threshold: 0.001,
        count: 8.0,
        positive_spans: spans(gap),
        positive: vec![1.0; 8],
        ..Default::default()
    };
    let scraped = |bucket_limit, bucket_factor_min, native| {
        let config = ScrapeConfig { native_histograms: true, bucket_limit, bucket_factor_min, ..config(&[]) };
        let mut bench = Bench::new(config);
        let outcome =
            bench.target.ingest(Timestamp(bench.at), 0.1, Ok((&protobuf(native), Format::Protobuf)), &bench.store);
        let querier = bench.store.querier(Timestamp(0), Timestamp(i64::MAX));
        let matcher = Matcher::new(MatchOp::Equal, METRIC_NAME, "h").expect("valid");
        let mut batch = Vec::new();
        querier.select(&[matcher]).expect("readable").next_batch(9, &mut batch).expect("readable");
        let schemas: Vec<_> = batch.iter().flat_map(|one| &one.histograms).map(|(_, h)| h.schema).collect();
        (schemas, outcome.error.map(|error| error.to_string()), bench.shown("up"))
    };
    assert_eq!(scraped(0, 0.0, native(3, 0)), (vec![3], None, "1".into()));
    assert_eq!(scraped(4, 0.0, native(3, 0)), (vec![2], None, "1".into()));
    assert_eq!(scraped(0, 2.0, native(3, 0)), (vec![0], None, "1".into()));
    let far = (vec![], Some("histogram bucket limit exceeded".into()), "0".into());
    assert_eq!(scraped(2, 0.0, native(-4, 50)), far);
}

fn openmetrics(bench: &mut Bench, body: &str) -> Outcome {
    bench.at += 15_000;
    bench.target.ingest(Timestamp(bench.at), 0.1, Ok((body.as_bytes(), Format::OpenMetrics100)), &bench.store)
}

/// A store that keeps exemplars as they are handed over, refusing those that are older than the last.
mod exemplars {
    use super::*;
    use parking_lot::Mutex;

    pub(super) struct Store(pub(super) Memory, pub(super) Mutex<Vec<model::Exemplar>>);

    impl Storage for Store {
        fn appender(&self) -> Box<dyn Appender + '_> {
            Box::new(Transaction(self.0.appender(), &self.1))
        }

        fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn storage::Querier + '_> {
            self.0.querier(min, max)
        }

        fn stats(&self) -> storage::Stats {
            self.0.stats()
        }

        fn cardinality(&self, top: usize) -> storage::Cardinality {
            self.0.cardinality(top)
        }
    }

    struct Transaction<'a>(Box<dyn Appender + 'a>, &'a Mutex<Vec<model::Exemplar>>);

    impl Appender for Transaction<'_> {
        fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError> {
            self.0.series(labels)
        }

        fn float(&mut self, series: SeriesId, at: Timestamp, value: f64) -> Result<(), AppendError> {
            self.0.float(series, at, value)
        }

        fn sample(&mut self, series: SeriesId, sample: Sample) -> Result<(), AppendError> {
            self.0.sample(series, sample)
        }

        fn exemplar(&mut self, _: SeriesId, exemplar: model::Exemplar) -> Result<(), AppendError> {
            let mut kept = self.1.lock();
            match kept.last() {
                Some(last) if *last == exemplar => return Err(AppendError::DuplicateTimestamp),
                Some(last) if last.at > exemplar.at => return Err(AppendError::OutOfOrder),
                _ => kept.push(exemplar),
            }
            Ok(())
        }

        fn metadata(&mut self, series: SeriesId, metadata: &model::Metadata) -> Result<(), AppendError> {
            self.0.metadata(series, metadata)
        }

        fn commit(self: Box<Self>) -> Result<(), AppendError> {
            self.0.commit()
        }
    }
}

#[test]
fn exemplars_are_handed_over_with_a_time_when_they_are_wanted() {
    let body = |value: &str| format!("# TYPE a counter\na_total 1 # {{id=\"x\"}} {value}\n# EOF\n");
    for (wanted, want) in [(false, vec![]), (true, vec![(1.0, 15_000), (2.0, 20_000)])] {
        let store = exemplars::Store(Memory::new(storage::Limits::default()), Default::default());
        let features = crate::Features { exemplars: wanted, ..Default::default() };
        let mut target = Loop::new(Arc::new(ScrapeConfig { features, ..config(&[]) }), Labels::empty());
        let mut late = 0;
        for (at, value) in [(15_000, "1"), (30_000, "2 20"), (45_000, "2 20"), (60_000, "3 10")] {
            let text = body(value);
            let outcome = target.ingest(Timestamp(at), 0.1, Ok((text.as_bytes(), Format::OpenMetrics100)), &store);
            assert_eq!(outcome.error, None);
            late += outcome.exemplars_out_of_order;
        }
        let kept: Vec<_> = store.1.lock().iter().map(|one| (one.value, one.at.map_or(0, |at| at.0))).collect();
        assert_eq!((kept, late), (want, u64::from(wanted)));
    }
}

#[test]
fn a_counter_that_says_when_it_started_begins_with_zero_when_that_is_wanted() {
    for (wanted, want, created) in [(false, "5 6 1", 1), (true, "0 5 6 0 1", 0)] {
        let features = crate::Features { start_zero_samples: wanted, ..Default::default() };
        let mut bench = Bench::new(ScrapeConfig { features, ..config(&[]) });
        let start = bench.at as f64 / 1000.0;
        let body = |value: u32, start: f64| format!("# TYPE a counter\na_total {value}\na_created {start}\n# EOF\n");
        for (value, start) in [(5, start), (6, start), (1, start + 31.0)] {
            let outcome = openmetrics(&mut bench, &body(value, start));
            assert_eq!((outcome.error, outcome.out_of_order), (None, 0));
        }
        assert_eq!(bench.shown("a_total"), want);
        assert_eq!(bench.series("a_created").len(), created);
    }
}
