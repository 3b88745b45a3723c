//! What every store must do, as a suite that each implementation runs in its tests (feature `contract`).
//!
//! Visibility, order, refusals, matchers and time ranges; limits and files belong to the implementation's own tests.

use crate::{AppendError, Appender, Columns, SeriesId, Storage};
use model::{Exemplar, FloatHistogram, Labels, MatchOp, Matcher, Sample, Span, Timestamp, Value, stale_nan};
use std::sync::Arc;

/// Runs the whole suite on empty stores that `open` makes.
///
/// # Panics
/// When the store breaks the contract.
pub fn check(open: &dyn Fn() -> Box<dyn Storage>) {
    for rule in [
        nothing_is_visible_before_the_commit,
        a_dropped_transaction_leaves_nothing,
        order_and_repetition,
        an_unknown_series_is_refused,
        values_come_back_bit_for_bit,
        histograms_come_back_beside_floats,
        ranges_are_closed,
        series_come_in_order_and_in_batches,
        matchers_select,
        names_and_values,
        statistics_count,
        a_reader_sees_all_of_a_commit_or_nothing,
        exemplars_come_back_by_series_and_time,
    ] {
        rule(&*open());
    }
}

/// How far behind the newest sample [`check_out_of_order`] wants samples to be taken, in milliseconds.
pub const WINDOW_MS: i64 = 100;

/// Runs the rules of samples out of order on empty stores that take them within [`WINDOW_MS`].
///
/// # Panics
/// When the store breaks the contract.
pub fn check_out_of_order(open: &dyn Fn() -> Box<dyn Storage>) {
    for rule in [late_samples_are_merged_by_time, late_samples_beyond_the_window_are_refused] {
        rule(&*open());
    }
}

fn labels(text: &str) -> Labels {
    // name,key=value,…
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let rest = parts.filter_map(|part| part.split_once('='));
    Labels::from_pairs(std::iter::once(("__name__", name)).chain(rest))
}

/// Registers a series and adds samples in one transaction.
fn put(store: &dyn Storage, series: &str, samples: &[(i64, f64)]) -> SeriesId {
    let mut appender = store.appender();
    let id = appender.series(&labels(series)).expect("a series");
    for (at, value) in samples {
        appender.float(id, Timestamp(*at), *value).expect("in order");
    }
    appender.commit().expect("committed");
    id
}

fn matcher(text: &str) -> Matcher {
    let at = text.find(['=', '!']).expect("an operator");
    let (name, rest) = text.split_at(at);
    let (op, value) = match rest.get(..2) {
        Some("=~") => (MatchOp::Regex, &rest[2..]),
        Some("!~") => (MatchOp::NotRegex, &rest[2..]),
        Some("!=") => (MatchOp::NotEqual, &rest[2..]),
        _ => (MatchOp::Equal, &rest[1..]),
    };
    Matcher::new(op, name, value).expect("a valid matcher")
}

/// All columns of a selection, read `batch` series at a time.
fn select(store: &dyn Storage, matchers: &[&str], min: i64, max: i64, batch: usize) -> Vec<Columns> {
    let matchers: Vec<Matcher> = matchers.iter().map(|text| matcher(text)).collect();
    let querier = store.querier(Timestamp(min), Timestamp(max));
    let mut set = querier.select(&matchers).expect("readable");
    let (mut all, mut columns) = (Vec::new(), Vec::new());
    loop {
        set.next_batch(batch, &mut columns).expect("readable");
        assert!(columns.len() <= batch, "a batch has at most {batch} series");
        if columns.is_empty() {
            return all;
        }
        all.append(&mut columns);
    }
}

/// `name@time=value …` of every series, for comparing.
fn shown(found: &[Columns]) -> Vec<String> {
    let one = |columns: &Columns| {
        assert_eq!(columns.times.len(), columns.values.len(), "columns of one length");
        let pairs = columns.times.iter().zip(columns.values.iter()).map(|(at, value)| format!(" {at}={value}"));
        format!("{}{}", columns.labels, pairs.collect::<String>())
    };
    found.iter().map(one).collect()
}

const ALL: (i64, i64) = (i64::MIN, i64::MAX);

fn everything(store: &dyn Storage) -> Vec<String> {
    shown(&select(store, &["__name__!="], ALL.0, ALL.1, 64))
}

fn nothing_is_visible_before_the_commit(store: &dyn Storage) {
    let mut appender = store.appender();
    let id = appender.series(&labels("a")).expect("a series");
    appender.float(id, Timestamp(1), 1.0).expect("in order");
    assert!(everything(store).is_empty());
    appender.commit().expect("committed");
    assert_eq!(everything(store), ["a 1=1"]);
}

fn a_dropped_transaction_leaves_nothing(store: &dyn Storage) {
    let id = put(store, "a", &[(1, 1.0)]);
    let mut appender = store.appender();
    appender.float(id, Timestamp(2), 2.0).expect("in order");
    drop(appender);
    assert_eq!(everything(store), ["a 1=1"]);
    put(store, "a", &[(2, 3.0)]);
    assert_eq!(everything(store), ["a 1=1 2=3"]);
}

fn order_and_repetition(store: &dyn Storage) {
    let id = put(store, "a", &[(10, 1.0)]);
    let mut appender = store.appender();
    let add = |appender: &mut dyn Appender, at: i64, value: f64| appender.float(id, Timestamp(at), value);
    assert_eq!(add(&mut *appender, 9, 1.0), Err(AppendError::OutOfOrder));
    assert_eq!(add(&mut *appender, 10, 1.0), Ok(()), "the same sample again is harmless");
    assert_eq!(add(&mut *appender, 10, 2.0), Err(AppendError::DuplicateTimestamp));
    assert_eq!(add(&mut *appender, 11, 2.0), Ok(()));
    assert_eq!(add(&mut *appender, 11, 3.0), Err(AppendError::DuplicateTimestamp), "also within a transaction");
    assert_eq!(add(&mut *appender, 10, 1.0), Err(AppendError::OutOfOrder), "also within a transaction");
    appender.commit().expect("committed");
    assert_eq!(everything(store), ["a 10=1 11=2"]);
}

fn an_unknown_series_is_refused(store: &dyn Storage) {
    let mut appender = store.appender();
    assert_eq!(appender.float(SeriesId(u64::MAX), Timestamp(1), 1.0), Err(AppendError::UnknownSeries));
}

fn values_come_back_bit_for_bit(store: &dyn Storage) {
    let values = [
        0.0,
        -0.0,
        stale_nan(),
        f64::NAN,
        f64::INFINITY,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::from_bits(0x7ff8_dead_beef_0001),
    ];
    let samples: Vec<(i64, f64)> = (0..).step_by(15_000).zip(values).collect();
    put(store, "a", &samples);
    let found = select(store, &["__name__=a"], ALL.0, ALL.1, 8);
    let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&found[0].values), bits(&values));
}

fn histograms_come_back_beside_floats(store: &dyn Storage) {
    let histogram = Arc::new(FloatHistogram {
        integer: true,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 1.0,
        count: 6.0,
        sum: 12.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        positive: vec![1.0, 2.0, 2.0],
        ..FloatHistogram::default()
    });
    let id = put(store, "a", &[(10, 1.0)]);
    let mut appender = store.appender();
    let sample = Sample { at: Timestamp(20), start: None, value: Value::Histogram(histogram.clone()) };
    appender.sample(id, sample).expect("in order");
    appender.float(id, Timestamp(30), 3.0).expect("in order");
    appender.commit().expect("committed");
    let found = select(store, &["__name__=a"], ALL.0, ALL.1, 8);
    assert_eq!(shown(&found), ["a 10=1 30=3"]);
    assert_eq!(found[0].histograms, [(20, histogram)]);
    assert!(select(store, &["__name__=a"], 20, 20, 8)[0].times.is_empty(), "only the histogram is in this range");
}

fn ranges_are_closed(store: &dyn Storage) {
    put(store, "a", &[(-5, 0.0), (10, 1.0), (20, 2.0), (30, 3.0)]);
    for (min, max, want) in [
        (10, 20, "a 10=1 20=2"),
        (11, 29, "a 20=2"),
        (-5, -5, "a -5=0"),
        (i64::MIN, 10, "a -5=0 10=1"),
        (30, i64::MAX, "a 30=3"),
    ] {
        assert_eq!(shown(&select(store, &["__name__=a"], min, max, 8)), [want], "{min}..={max}");
    }
    assert!(select(store, &["__name__=a"], 11, 19, 8).is_empty(), "no samples, no series");
}

fn series_come_in_order_and_in_batches(store: &dyn Storage) {
    for i in (0..300).rev() {
        put(store, &format!("a,i={i:03}"), &[(1, f64::from(i))]);
    }
    for batch in [1, 7, 300, 1000] {
        let found = select(store, &["__name__=a"], ALL.0, ALL.1, batch);
        assert_eq!(found.len(), 300);
        assert!(found.is_sorted_by(|a, b| a.labels < b.labels), "in the order of labels, each once");
    }
}

fn matchers_select(store: &dyn Storage) {
    for series in ["a,x=1", "a,x=2,y=é", "b,x=1", "b"] {
        put(store, series, &[(1, 1.0)]);
    }
    for (matchers, want) in [
        (&["__name__=a"][..], "1 2"),
        (&["x=1"], "1 3"),
        (&["x="], "4"),
        (&["x!="], "1 2 3"),
        (&["x!=1"], "2 4"),
        (&["x=~1|2"], "1 2 3"),
        (&["x=~.*"], "1 2 3 4"),
        (&["x!~1"], "2 4"),
        (&["__name__=b", "x=~.+"], "3"),
        (&["y=é"], "2"),
        (&["__name__=a", "__name__=b"], ""),
        (&["z=1"], ""),
        (&[], "1 2 3 4"),
    ] {
        let all = ["a{x=\"1\"}", "a{x=\"2\", y=\"é\"}", "b{x=\"1\"}", "b"];
        let mut found: Vec<usize> = select(store, matchers, ALL.0, ALL.1, 8)
            .iter()
            .map(|columns| 1 + all.iter().position(|text| *text == columns.labels.to_string()).expect("one of ours"))
            .collect();
        found.sort_unstable();
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), want, "{matchers:?}");
    }
}

fn names_and_values(store: &dyn Storage) {
    put(store, "a,x=2", &[(10, 1.0)]);
    put(store, "a,x=1,y=3", &[(20, 1.0)]);
    put(store, "b,z=9", &[(20, 1.0)]);
    let querier = store.querier(Timestamp(0), Timestamp(100));
    assert_eq!(querier.label_names(&[]).expect("readable"), ["__name__", "x", "y", "z"]);
    assert_eq!(querier.label_names(&[matcher("__name__=a")]).expect("readable"), ["__name__", "x", "y"]);
    assert_eq!(querier.label_values("x", &[]).expect("readable"), ["1", "2"]);
    assert_eq!(querier.label_values("x", &[matcher("y=~.+")]).expect("readable"), ["1"]);
    assert!(querier.label_values("none", &[]).expect("readable").is_empty());
}

fn statistics_count(store: &dyn Storage) {
    assert_eq!((store.stats().series, store.stats().max_time), (0, None));
    put(store, "a", &[(10, 1.0), (20, 1.0)]);
    put(store, "b", &[(15, 1.0)]);
    let stats = store.stats();
    assert_eq!((stats.series, stats.samples, stats.appended), (2, 3, 3));
    assert_eq!((stats.min_time, stats.max_time), (Some(Timestamp(10)), Some(Timestamp(20))));
    let counted = store.cardinality(1);
    assert_eq!((counted.series, counted.chunks, counted.label_pairs), (2, 2, 2));
    assert_eq!(counted.range, Some((Timestamp(10), Timestamp(20))));
    assert_eq!(counted.series_by_metric, [("a".to_owned(), 1)]);
}

/// One thread commits, another reads: all series always have as many samples.
fn a_reader_sees_all_of_a_commit_or_nothing(store: &dyn Storage) {
    const SERIES: usize = 40;
    const COMMITS: i64 = 60;
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for at in 0..COMMITS {
                let mut appender = store.appender();
                for series in 0..SERIES {
                    let id = appender.series(&labels(&format!("a,i={series:02}"))).expect("a series");
                    appender.float(id, Timestamp(at), at as f64 * 0.1).expect("in order");
                }
                appender.commit().expect("committed");
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut ended = false;
        while !ended {
            ended = done.load(std::sync::atomic::Ordering::Acquire);
            let found = select(store, &["__name__=a"], ALL.0, ALL.1, SERIES);
            let lengths: std::collections::BTreeSet<usize> = found.iter().map(|columns| columns.times.len()).collect();
            assert!(lengths.len() <= 1 && [0, SERIES].contains(&found.len()), "{lengths:?} of {}", found.len());
        }
    });
}

fn exemplars_come_back_by_series_and_time(store: &dyn Storage) {
    let (a, b) = (put(store, "a,x=1", &[(10, 1.0)]), put(store, "b", &[(10, 1.0)]));
    let one = |at: i64, trace: &str| Exemplar {
        labels: Labels::from_pairs([("trace_id", trace)]),
        value: 0.5,
        at: Some(Timestamp(at)),
    };
    let mut appender = store.appender();
    appender.exemplar(b, one(5, "early")).expect("in order");
    appender.exemplar(a, one(10, "first")).expect("in order");
    appender.exemplar(a, one(20, "second")).expect("in order");
    assert_eq!(appender.exemplar(a, Exemplar { at: None, ..one(0, "x") }), Err(AppendError::OutOfBounds));
    assert_eq!(appender.exemplar(SeriesId(u64::MAX), one(20, "x")), Err(AppendError::UnknownSeries));
    appender.commit().expect("committed");
    let mut appender = store.appender();
    assert_eq!(appender.exemplar(a, one(20, "second")), Ok(()), "the same again is harmless");
    assert_eq!(appender.exemplar(a, one(19, "third")), Err(AppendError::OutOfOrderExemplar));
    assert_eq!(appender.exemplar(a, one(30, &"x".repeat(200))), Err(AppendError::ExemplarLabels));
    appender.exemplar(a, one(40, "dropped")).expect("in order");
    drop(appender);
    let ask = |min: i64, max: i64, selectors: &[&[&str]]| {
        let selectors: Vec<Vec<Matcher>> =
            selectors.iter().map(|matchers| matchers.iter().map(|text| matcher(text)).collect()).collect();
        let found = store.exemplars(Timestamp(min), Timestamp(max), &selectors).expect("readable");
        let shown = found.iter().map(|one| {
            let traces = one.exemplars.iter().map(|exemplar| exemplar.labels.get("trace_id").unwrap_or_default());
            format!("{} {}", one.labels, traces.collect::<Vec<_>>().join(" "))
        });
        shown.collect::<Vec<_>>()
    };
    assert_eq!(ask(0, 100, &[&["__name__=~.+"]]), ["a{x=\"1\"} first second", "b early"]);
    assert_eq!(ask(11, 20, &[&["x=1"], &["__name__=b"]]), ["a{x=\"1\"} second"]);
    assert!(ask(0, 100, &[&["__name__=c"]]).is_empty());
    assert!(ask(0, 100, &[]).is_empty());
}

fn late_samples_are_merged_by_time(store: &dyn Storage) {
    let id = put(store, "a", &[(100, 1.0), (120, 3.0)]);
    let mut appender = store.appender();
    assert_eq!(appender.float(id, Timestamp(110), 2.0), Ok(()));
    assert_eq!(appender.float(id, Timestamp(130), 4.0), Ok(()), "in order beside it");
    assert_eq!(appender.float(id, Timestamp(90), 0.0), Ok(()));
    assert_eq!(appender.float(id, Timestamp(120), 9.0), Ok(()), "late now, and dropped for the one that is there");
    appender.commit().expect("committed");
    assert_eq!(everything(store), ["a 90=0 100=1 110=2 120=3 130=4"]);
    let mut appender = store.appender();
    assert_eq!(appender.float(id, Timestamp(110), 7.0), Ok(()), "a late one for a time that is there is dropped");
    appender.commit().expect("committed");
    assert_eq!(everything(store), ["a 90=0 100=1 110=2 120=3 130=4"]);
    assert_eq!(shown(&select(store, &["__name__=a"], 105, 115, 8)), ["a 110=2"]);
    put(store, "b", &[(95, 1.0)]);
    assert_eq!(everything(store), ["a 90=0 100=1 110=2 120=3 130=4", "b 95=1"]);
}

fn late_samples_beyond_the_window_are_refused(store: &dyn Storage) {
    let id = put(store, "a", &[(1000, 1.0)]);
    let mut appender = store.appender();
    assert_eq!(appender.float(id, Timestamp(1000 - WINDOW_MS - 1), 1.0), Err(AppendError::TooOld));
    assert_eq!(appender.float(id, Timestamp(1000 - WINDOW_MS), 1.0), Ok(()));
    assert_eq!(appender.float(id, Timestamp(1000), 2.0), Err(AppendError::DuplicateTimestamp));
    appender.commit().expect("committed");
    assert_eq!(everything(store), ["a 900=1 1000=1"]);
}
