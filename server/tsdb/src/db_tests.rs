//! The store against an oracle: contract, restarts, flushes, merges, retention, damage, crashes.

use super::*;
use model::{FloatHistogram, Labels, Matcher, Value};
use runtime::LogOptions;
use std::collections::BTreeMap;
use storage::AppendError;
use testkit::{Fault, Rng, SimDisk};

/// Minutes instead of hours.
const SMALL: Options = Options {
    part_ms: 60_000,
    merged_ms: &[240_000, 960_000],
    chunk_samples: 7,
    series_max: 1000,
    series_flag: "--x",
    job_series_max: 0,
    job_series_flag: "--y",
    out_of_order_ms: 0,
    exemplars_max: 10,
    segment_bytes: 600,
    snapshot_ms: 40_000,
    retention_ms: None,
    retention_bytes: None,
    retention_percentage: None,
    log: LogOptions { segment_bytes: 4000, record_bytes_max: 1 << 20, unsynced_bytes_max: 1 << 16 },
};

type Content = BTreeMap<String, Vec<(i64, String)>>;

fn open(disk: &Disk) -> Tsdb {
    Tsdb::open(disk.clone(), SMALL).expect("opens")
}

fn labels(series: u64) -> Labels {
    let (name, i) = (format!("m{}", series % 3), series.to_string());
    Labels::from_pairs([("__name__", name.as_str()), ("i", &i), ("long", &"é".repeat(1 + series as usize % 40))])
}

fn content(store: &dyn Storage, min: i64, max: i64) -> Content {
    let querier = store.querier(Timestamp(min), Timestamp(max));
    let mut set = querier.select(&[]).expect("readable");
    let (mut all, mut batch) = (Content::new(), Vec::new());
    loop {
        set.next_batch(13, &mut batch).expect("readable");
        if batch.is_empty() {
            return all;
        }
        for columns in &batch {
            let floats =
                columns.times.iter().zip(columns.values.iter()).map(|(at, v)| (*at, format!("{:x}", v.to_bits())));
            let histograms = columns.histograms.iter().map(|(at, value)| (*at, format!("{}", value.count)));
            let mut points: Vec<(i64, String)> = floats.chain(histograms).collect();
            points.sort();
            assert!(all.insert(columns.labels.to_string(), points).is_none(), "a series comes once");
        }
    }
}

fn clipped(content: &Content, min: i64, max: i64) -> Content {
    let clip = |points: &Vec<(i64, String)>| {
        points.iter().filter(|(at, _)| (min..=max).contains(at)).cloned().collect::<Vec<_>>()
    };
    content.iter().map(|(name, points)| (name.clone(), clip(points))).filter(|(_, points)| !points.is_empty()).collect()
}

/// One scrape of some series; what was committed goes into the oracle.
fn scrape(store: &Tsdb, at: i64, rng: &mut Rng, oracle: &mut Content) -> Result<(), AppendError> {
    let mut appender = store.appender();
    let mut mine = Vec::new();
    for number in 0..40 {
        if rng.chance(10) {
            continue;
        }
        let labels = labels(number);
        let series = appender.series(&labels)?;
        if number % 20 == 7 {
            let histogram = FloatHistogram { count: at as f64, positive: vec![1.0], ..FloatHistogram::default() };
            let value = Value::Histogram(Arc::new(histogram));
            appender.sample(series, model::Sample { at: Timestamp(at), start: None, value })?;
            mine.push((labels.to_string(), (at, (at as f64).to_string())));
        } else {
            let value = match number % 4 {
                0 => 1.0,
                1 => at as f64,
                2 => rng.below(1000) as f64 / 8.0,
                _ => f64::from_bits(rng.next_u64()),
            };
            appender.float(series, Timestamp(at), value)?;
            mine.push((labels.to_string(), (at, format!("{:x}", value.to_bits()))));
        }
    }
    appender.commit()?;
    mine.into_iter().for_each(|(series, point)| oracle.entry(series).or_default().push(point));
    Ok(())
}

#[test]
fn the_contract_holds_in_memory_and_in_parts() {
    storage::contract::check(&|| Box::new(open(&SimDisk::new(1).disk())));
    let options = Options { out_of_order_ms: storage::contract::WINDOW_MS, ..SMALL };
    storage::contract::check_out_of_order(&|| Box::new(Tsdb::open(SimDisk::new(1).disk(), options).expect("opens")));
}

#[test]
fn flushes_merges_and_restarts_change_no_answer() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let mut store = open(&sim.disk());
    let (mut most, mut last) = (0, 0);
    for step in 0..600 {
        last = 1_000_000 + step * 5000;
        scrape(&store, last, &mut rng, &mut oracle).expect("stored");
        if step % 7 == 0 {
            store.maintain().expect("in order");
            most = most.max(store.part_sizes().0);
        }
        if step % 50 == 49 {
            drop(store);
            store = open(&sim.disk());
            assert_eq!(content(&store, i64::MIN, i64::MAX), oracle, "after a restart at step {step}");
        }
        if step % 20 == 0 {
            let from = 1_000_000 + rng.below(last as usize - 999_999) as i64;
            let to = from + rng.below(1_000_000) as i64;
            assert_eq!(content(&store, from, to), clipped(&oracle, from, to), "{from}..={to}");
        }
    }
    assert_eq!(content(&store, i64::MIN, i64::MAX), oracle);
    let (parts, _) = store.part_sizes();
    assert!(most > parts && parts < 12, "{most} parts at most, {parts} left of 49 ranges");
    assert!(store.log_bytes() < 200_000, "{} bytes of log", store.log_bytes());
    assert_eq!(store.stats().samples, oracle.values().map(Vec::len).sum::<usize>() as u64);
    assert_eq!(store.stats().max_time, Some(Timestamp(last)));
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    assert_eq!(querier.label_names(&[]).expect("readable"), ["__name__", "i", "long"]);
    assert_eq!(querier.label_values("__name__", &[]).expect("readable"), ["m0", "m1", "m2"]);
    let matcher = Matcher::new(model::MatchOp::Regex, "i", "1.*").expect("valid");
    assert_eq!(querier.label_values("i", &[matcher]).expect("readable").len(), 11);
}

#[test]
fn what_is_in_parts_is_selected_by_matchers_as_in_the_head() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let store = open(&sim.disk());
    for step in 0..100 {
        scrape(&store, 1_000_000 + step * 5000, &mut rng, &mut oracle).expect("stored");
    }
    let matchers = [
        ("=", "i", "7"),
        ("=~", "i", "1.|3"),
        ("!=", "i", "7"),
        ("!~", "long", "é{1,20}"),
        ("=", "x", ""),
        ("=~", "i", "x|9"),
    ];
    let ask = |store: &Tsdb| {
        let querier = store.querier(Timestamp(0), Timestamp(i64::MAX));
        let ask = |(op, name, value): &(&str, &str, &str)| {
            let op = match *op {
                "=" => model::MatchOp::Equal,
                "!=" => model::MatchOp::NotEqual,
                "=~" => model::MatchOp::Regex,
                _ => model::MatchOp::NotRegex,
            };
            querier.label_values("i", &[Matcher::new(op, name, value).expect("valid")]).expect("readable")
        };
        matchers.iter().map(ask).collect::<Vec<_>>()
    };
    let before = ask(&store);
    assert_eq!(before.iter().map(Vec::len).collect::<Vec<_>>(), [1, 11, 39, 20, 40, 1]);
    store.maintain().expect("in order");
    assert!(store.part_sizes().0 > 0);
    assert_eq!(ask(&store), before);
}

#[test]
fn retention_by_time_and_by_size_removes_the_oldest_parts() {
    let sim = SimDisk::new(3);
    let run = |options: Options| {
        let (mut rng, mut oracle) = (Rng::new(5), Content::new());
        let store = Tsdb::open(sim.fork().disk(), options).expect("opens");
        for step in 0..200 {
            scrape(&store, 1_000_000 + step * 5000, &mut rng, &mut oracle).expect("stored");
        }
        store.maintain().expect("in order");
        store
    };
    let whole = run(Options { merged_ms: &[], ..SMALL });
    let (parts, bytes) = whole.part_sizes();
    assert!(parts > 12);
    let young = run(Options { merged_ms: &[], retention_ms: Some(300_000), ..SMALL });
    let oldest = young.stats().min_time.expect("samples").0;
    assert!((1_000_000 + 995_000 - 300_000 - 60_000..1_000_000 + 995_000 - 300_000).contains(&oldest), "{oldest}");
    let small = run(Options { merged_ms: &[], retention_bytes: Some(bytes / 2), ..SMALL });
    assert!(small.part_sizes().1 <= bytes / 2 && small.part_sizes().0 + 2 >= parts / 2);
    assert_eq!(small.stats().max_time, whole.stats().max_time);
}

#[test]
fn series_without_samples_are_forgotten_and_come_back() {
    let store = open(&SimDisk::new(1).disk());
    let put = |at: i64, number: u64| {
        let mut appender = store.appender();
        let series = appender.series(&labels(number)).expect("a series");
        appender.float(series, Timestamp(at), 1.0).expect("in order");
        appender.commit().expect("stored");
    };
    for step in 0..100_i64 {
        put(step * 10_000, step as u64 % 5 + 5 * (step as u64 / 20));
        store.maintain().expect("in order");
    }
    assert!(store.stats().series <= 15, "{} of 25 series", store.stats().series);
    put(1_000_000, 0);
    assert_eq!(content(&store, i64::MIN, i64::MAX).len(), 25);
}

#[test]
fn a_damaged_part_costs_itself_and_is_set_aside_or_named() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let store = open(&sim.disk());
    for step in 0..100 {
        scrape(&store, 1_000_000 + step * 5000, &mut rng, &mut oracle).expect("stored");
    }
    store.maintain().expect("in order");
    drop(store);
    let part = sim.disk().list("").expect("listed").into_iter().find(|name| name.starts_with("part-")).expect("a part");
    let length = sim.disk().read(&part).expect("read").len();
    let (mut aside, mut named) = (0, 0);
    for at in (0..length).step_by(11) {
        let broken = sim.fork();
        assert!(broken.flip_bit(&part, at * 8 + 3));
        let store = open(&broken.disk());
        if store.damaged() > 0 {
            aside += 1;
            assert_eq!(broken.disk().list("aside").expect("kept"), [part.as_str()]);
            let rest = content(&store, i64::MIN, i64::MAX);
            assert!(rest.iter().all(|(name, points)| points.iter().all(|point| oracle[name].contains(point))));
            continue;
        }
        let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let mut batch = Vec::new();
        let read = querier.select(&[]).and_then(|mut set| set.next_batch(100, &mut batch));
        match read {
            Err(error) => {
                named += 1;
                assert!(error.to_string().contains(&part), "{error}");
            }
            Ok(()) => panic!("byte {at} of {length} is not protected"),
        }
    }
    assert!(aside > 10 && named > 10, "{aside} set aside, {named} named");
}

#[test]
fn a_full_disk_keeps_the_head_and_leaves_no_half_part() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let store = open(&sim.disk());
    for step in 0..200 {
        scrape(&store, 1_000_000 + step * 5000, &mut rng, &mut oracle).expect("stored");
    }
    let files = |sim: &SimDisk| sim.disk().list("").expect("listed");
    for room in [0, 3_000, 20_000, 60_000] {
        sim.inject(Fault::Full(room));
        assert!(store.maintain().is_err(), "with room for {room} bytes");
        assert_eq!(files(&sim).iter().find(|name| name.ends_with(".tmp")), None, "with room for {room} bytes");
        assert_eq!(content(&store, i64::MIN, i64::MAX), oracle);
        sim.heal();
    }
    store.maintain().expect("in order once there is room");
    assert!(store.unmergeable.lock().is_empty());
    assert_eq!(content(&store, i64::MIN, i64::MAX), oracle);
}

/// As [`SMALL`], with samples out of order.
const LATE: Options = Options { out_of_order_ms: 150_000, ..SMALL };

/// Some samples that come out of order, by times that no scrape has.
fn scrape_late(store: &Tsdb, newest: i64, rng: &mut Rng, oracle: &mut Content) -> Result<(), AppendError> {
    let mut appender = store.appender();
    let mut mine = Vec::new();
    for _ in 0..5 {
        let (labels, at) = (labels(rng.below(40) as u64), newest - 1 - 2 * rng.below(70_000) as i64);
        let value = rng.below(1000) as f64 / 8.0;
        let series = appender.series(&labels)?;
        appender.float(series, Timestamp(at), value)?;
        let point = (labels.to_string(), (at, format!("{:x}", value.to_bits())));
        if !mine.iter().any(|(have, (time, _)): &(String, (i64, String))| *have == point.0 && *time == at) {
            mine.push(point);
        }
    }
    appender.commit()?;
    mine.into_iter().for_each(|(series, point)| oracle.entry(series).or_default().push(point));
    Ok(())
}

/// Scrapes and maintenance by seed; what was committed, and what of it was synced.
fn work(sim: &SimDisk, seed: u64, steps: i64, options: Options) -> (Content, Content) {
    let (mut rng, mut committed, mut durable) = (Rng::new(seed), Content::new(), Content::new());
    let Ok(store) = Tsdb::open(sim.disk(), options) else { return (committed, durable) };
    for step in 0..steps {
        // Whatever fails, the next step is tried, as a server does.
        let at = 1_000_000 + step * 20_000;
        let _ = scrape(&store, at, &mut rng, &mut committed);
        if options.out_of_order_ms > 0 {
            let _ = scrape_late(&store, at, &mut rng, &mut committed);
        }
        if rng.chance(30) && store.sync().is_ok() {
            durable = committed.clone();
        }
        if rng.chance(30) {
            let _ = store.maintain();
        }
    }
    (committed, durable)
}

fn includes(found: &Content, wanted: &Content, what: &str) {
    for (series, points) in wanted {
        let have = found.get(series).map_or(&[][..], Vec::as_slice);
        for point in points {
            assert!(have.contains(point), "{what}: {series} lost {point:?}");
        }
    }
}

/// Both are the same, or the first difference is told.
fn same(found: &Content, wanted: &Content, what: &str) {
    includes(found, wanted, what);
    for (series, points) in found {
        let have = wanted.get(series).map_or(&[][..], Vec::as_slice);
        let strange = points.iter().find(|point| !have.contains(point));
        assert_eq!((strange, points.len()), (None, have.len()), "{what}: {series}");
    }
}

/// A calm start finds what is wanted, nothing that was never tried, and goes on.
fn restart(sim: &SimDisk, wanted: &Content, from: i64, what: &str, options: Options) -> Content {
    let store = Tsdb::open(sim.disk(), options).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!((store.damaged(), store.recovery().lost), (0, 0), "{what}");
    let mut found = content(&store, i64::MIN, i64::MAX);
    includes(&found, wanted, what);
    for step in 0..3 {
        let at = from + step * 40_000;
        scrape(&store, at, &mut Rng::new(1), &mut found).unwrap_or_else(|error| panic!("{what}: {error}"));
        store.maintain().unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    store.sync().unwrap_or_else(|error| panic!("{what}: {error}"));
    same(&content(&store, i64::MIN, i64::MAX), &found, &format!("{what}: after going on"));
    found
}

#[test]
fn a_crash_at_any_operation_loses_nothing_promised() {
    crash_everywhere(SMALL, 2, 7);
}

#[test]
fn a_crash_at_any_operation_loses_no_sample_out_of_order() {
    crash_everywhere(LATE, 1, 13);
}

fn crash_everywhere(options: Options, seeds: u64, step: usize) {
    for seed in 0..seeds {
        for at in (seed..).step_by(step) {
            let sim = SimDisk::new(seed);
            sim.inject(Fault::Crash(at));
            let (committed, durable) = work(&sim, seed, 14, options);
            let crashed = sim.is_crashed();
            let what = format!("seed {seed}, crash at operation {at}");
            let killed = sim.fork();
            killed.kill();
            restart(&killed, &committed, 10_000_000, &format!("{what}, killed"), options);
            let dark = sim.fork();
            dark.power_cut(seed + at);
            let found = restart(&dark, &durable, 10_000_000, &format!("{what}, power cut"), options);
            dark.power_cut(seed + at + 1);
            restart(&dark, &found, 20_000_000, &format!("{what}, second power cut"), options);
            if !crashed {
                assert!(at > 100, "only {at} operations");
                break;
            }
        }
    }
}

#[test]
fn a_single_fault_anywhere_loses_nothing_promised() {
    for (seed, options) in [(0, SMALL), (1, LATE)] {
        for at in (0..400).step_by(29) {
            for fault in [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short, Fault::Full] {
                let sim = SimDisk::new(seed);
                let fault = fault(if matches!(fault(0), Fault::Full(_)) { at * 200 } else { at });
                sim.inject(fault);
                let (committed, durable) = work(&sim, seed, 14, options);
                sim.heal();
                let what = format!("seed {seed}, {fault:?}");
                let killed = sim.fork();
                killed.kill();
                restart(&killed, &committed, 10_000_000, &format!("{what}, killed"), options);
                sim.power_cut(seed);
                restart(&sim, &durable, 10_000_000, &format!("{what}, power cut"), options);
            }
        }
    }
}

#[test]
fn samples_behind_a_long_gap_stay_when_what_is_before_it_is_flushed() {
    let store = open(&SimDisk::new(1).disk());
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    for step in 0..14 {
        scrape(&store, 1_000_000 + step * 20_000, &mut rng, &mut oracle).expect("stored");
    }
    for step in 0..3 {
        scrape(&store, 10_000_000 + step * 40_000, &mut rng, &mut oracle).expect("stored");
        same(&content(&store, i64::MIN, i64::MAX), &oracle, &format!("before {step}"));
        store.maintain().expect("in order");
        same(&content(&store, i64::MIN, i64::MAX), &oracle, &format!("after {step}"));
    }
}

#[test]
fn samples_out_of_order_go_into_parts_of_their_own_and_are_read_with_the_others() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let mut store = Tsdb::open(sim.disk(), LATE).expect("opens");
    for step in 0..300 {
        let at = 1_000_000 + step * 5000;
        scrape(&store, at, &mut rng, &mut oracle).expect("stored");
        scrape_late(&store, at, &mut rng, &mut oracle).expect("stored");
        if step % 7 == 0 {
            store.maintain().expect("in order");
        }
        if step % 50 == 49 {
            same(&content(&store, i64::MIN, i64::MAX), &oracle, &format!("before a restart at step {step}"));
            drop(store);
            store = Tsdb::open(sim.disk(), LATE).expect("opens");
            same(&content(&store, i64::MIN, i64::MAX), &oracle, &format!("after a restart at step {step}"));
        }
        if step % 20 == 0 {
            let from = 1_000_000 + rng.below(1_500_000) as i64;
            let to = from + rng.below(500_000) as i64;
            same(&content(&store, from, to), &clipped(&oracle, from, to), &format!("{from}..={to}"));
        }
    }
    assert!(store.metrics().late_samples > 0 && store.head.read().late_range.is_some_and(|(min, _)| min > 2_000_000));
    assert_eq!(store.stats().samples, oracle.values().map(Vec::len).sum::<usize>() as u64);
}

#[test]
fn exemplars_and_metadata_survive_restarts_with_and_without_a_snapshot() {
    let sim = SimDisk::new(3);
    let metadata =
        model::Metadata { kind: model::MetricType::Counter, help: "what it counts".into(), unit: "s".into() };
    let exemplar = |at: i64| model::Exemplar {
        labels: Labels::from_pairs([("trace_id", at.to_string())]),
        value: 1.5,
        at: Some(Timestamp(at)),
    };
    let mut store = open(&sim.disk());
    for round in 0..16_i64 {
        let mut appender = store.appender();
        let series = appender.series(&labels(1)).expect("a series");
        appender.float(series, Timestamp(round * 10_000), 1.0).expect("in order");
        appender.exemplar(series, exemplar(round)).expect("in order");
        appender.metadata(series, &metadata).expect("known");
        appender.commit().expect("stored");
        if round % 5 == 4 {
            store.maintain().expect("in order");
        }
        drop(store);
        store = open(&sim.disk());
        let matcher = Matcher::new(model::MatchOp::Equal, "i", "1").expect("valid");
        let found = store.exemplars(Timestamp(0), Timestamp(i64::MAX), &[vec![matcher]]).expect("readable");
        let first = (round - 9).max(0);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].exemplars, (first..=round).map(exemplar).collect::<Vec<_>>(), "round {round}");
        assert_eq!(store.metadata(&labels(1)).as_ref(), Some(&metadata), "round {round}");
    }
}

#[test]
fn a_start_tells_how_many_segments_of_the_log_it_has_read() {
    let sim = SimDisk::new(3);
    let store = open(&sim.disk());
    for step in 0..60 {
        scrape(&store, 1_000_000 + step * 5000, &mut Rng::new(5), &mut Content::new()).expect("stored");
    }
    let segments = store.metrics().log_segments;
    drop(store);
    let progress = Progress::default();
    assert_eq!(progress.get(), (0, 0, 0));
    Tsdb::open_watched(sim.disk(), SMALL, &progress).expect("opens");
    assert!(segments > 1);
    assert_eq!(progress.get(), (1, segments, segments));
}

#[test]
fn too_many_series_are_refused_and_the_message_says_who_has_them() {
    let options = Options { series_max: 8, job_series_max: 4, ..SMALL };
    let store = Tsdb::open(SimDisk::new(1).disk(), options).expect("opens");
    let register = |job: &str, number: u64| {
        let labels = Labels::from_pairs([("__name__", "m"), ("job", job), ("i", &number.to_string())]);
        store.appender().series(&labels).map(drop).map_err(|error| error.to_string())
    };
    for number in 0..5 {
        register("big", number).expect("more than its share, in a store with room");
    }
    register("small", 0).expect("room");
    let refused = register("big", 6).expect_err("over its share");
    assert!(
        refused.starts_with("series limit of 4 reached, raise --y; 6 of 8 series are in use and job \"big\""),
        "{refused}"
    );
    assert!(refused.ends_with("metrics with the most: m 6; jobs with the most: big 5 small 1"), "{refused}");
    register("small", 1).expect("room");
    register("small", 2).expect("room");
    let refused = register("other", 0).expect_err("full");
    assert!(refused.starts_with("series limit of 8 reached, raise --x; metrics with the most: m 8"), "{refused}");
    register("big", 3).expect("known already");
    assert_eq!(store.metrics().series_refused, 2);
}

/// Memory that a head of some hundred series holds, by its parts.
fn held(store: &Tsdb) -> usize {
    store.head.read().bytes()
}

#[test]
fn series_that_come_and_go_give_their_memory_back() {
    const SERIES: u64 = 3000;
    let options = Options { series_max: 1 << 20, part_ms: 600_000, chunk_samples: 20, segment_bytes: 1 << 16, ..SMALL };
    let options =
        Options { log: LogOptions { segment_bytes: 1 << 20, ..options.log }, snapshot_ms: 600_000, ..options };
    let run = |churn: u64| {
        let store = Tsdb::open(SimDisk::new(1).disk(), options).expect("opens");
        let mut rng = Rng::new(1);
        let mut names: Vec<u64> = (0..SERIES).collect();
        let mut next = SERIES;
        for minute in 0..95_i64 {
            // An hour of change, and as long as the head reaches back after it.
            for _ in 0..if minute < 60 { SERIES * churn / 100 } else { 0 } {
                names[rng.below(SERIES as usize)] = next;
                next += 1;
            }
            let mut appender = store.appender();
            for name in &names {
                let labels = Labels::from_pairs([("__name__", "m"), ("pod", &format!("pod-{name:08}"))]);
                let series = appender.series(&labels).expect("a series");
                appender.float(series, Timestamp(minute * 60_000), minute as f64).expect("in order");
            }
            appender.commit().expect("stored");
            store.maintain().expect("in order");
        }
        assert_eq!(store.stats().series, SERIES);
        assert_eq!(content(&store, 94 * 60_000, i64::MAX).len() as u64, SERIES);
        held(&store)
    };
    let (calm, churned) = (run(0), run(10));
    assert!(
        churned * 10 <= calm * 12 && calm > 100 * SERIES as usize,
        "{churned} bytes after an hour of change, {calm} without"
    );
}

#[test]
fn a_damaged_log_costs_what_builds_on_it_and_never_a_wrong_value() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let log = LogOptions { segment_bytes: 2000, ..SMALL.log };
    let options = Options { snapshot_ms: i64::MAX, log, ..SMALL };
    let store = Tsdb::open(sim.disk(), options).expect("opens");
    for step in 0..120 {
        scrape(&store, 1_000_000 + step * 100, &mut rng, &mut oracle).expect("stored");
    }
    drop(store);
    let disk = sim.disk();
    let segments: Vec<String> =
        disk.list("wal").expect("listed").into_iter().filter(|name| name.ends_with(".log")).collect();
    assert!(segments.len() > 4);
    let whole: usize = oracle.values().map(Vec::len).sum();
    // The first segment has the names; what is in the others is lost up to the end of the segment.
    for segment in &segments[1..4] {
        let length = disk.read(&format!("wal/{segment}")).expect("read").len();
        for at in (8..length).step_by(211) {
            let broken = sim.fork();
            assert!(broken.flip_bit(&format!("wal/{segment}"), at * 8 + 5));
            let store = Tsdb::open(broken.disk(), options).expect("opens");
            assert!(store.recovery().torn_bytes > 0, "{segment} byte {at}");
            let found = content(&store, i64::MIN, i64::MAX);
            includes(&oracle, &found, &format!("{segment} byte {at}"));
            let left: usize = found.values().map(Vec::len).sum();
            assert!(
                left < whole && left * segments.len() > whole * (segments.len() - 2),
                "{segment}: {left} of {whole}"
            );
        }
    }
}

#[test]
fn a_transaction_that_is_open_while_series_move_finds_them_again() {
    // No snapshot follows the move: the log alone says what the new ids are.
    let options = Options { series_max: 10_000, snapshot_ms: i64::MAX, ..SMALL };
    let sim = SimDisk::new(1);
    let store = Tsdb::open(sim.disk(), options).expect("opens");
    let labels = |number: u64| Labels::from_pairs([("__name__", "m"), ("i", &number.to_string())]);
    let put = |numbers: std::ops::Range<u64>, at: i64| {
        let mut appender = store.appender();
        let ids: Vec<_> = numbers.map(|number| appender.series(&labels(number)).expect("a series")).collect();
        ids.iter().for_each(|id| appender.float(*id, Timestamp(at), at as f64).expect("in order"));
        appender.commit().expect("stored");
        ids
    };
    put(0..4000, 0);
    let at = (1..12).map(|minute| minute * 60_000).find(|at| {
        let kept = put(3900..4000, *at);
        store.maintain().expect("in order");
        let mut open = store.appender();
        kept.iter().for_each(|id| open.float(*id, Timestamp(at + 1), 0.5).expect("in order"));
        store.maintain().expect("in order");
        let moved = store.head.read().get(kept[99].0).is_none();
        if moved {
            assert_eq!(store.appender().float(kept[99], Timestamp(at + 2), 1.0), Err(AppendError::UnknownSeries));
            open.commit().expect("stored");
        }
        moved
    });
    let at = at.expect("the last slots move to free ones") + 1;
    let check = |store: &Tsdb| {
        let found = content(store, at, i64::MAX);
        assert_eq!(found.len(), 100);
        assert!(found.values().all(|points| points.len() == 1 && points[0].1 == format!("{:x}", 0.5_f64.to_bits())));
    };
    check(&store);
    assert_eq!(store.stats().series, 100);
    drop(store);
    check(&Tsdb::open(sim.disk(), options).expect("opens"));
}

#[test]
fn a_damaged_snapshot_or_segment_is_set_aside_and_the_rest_is_served() {
    let sim = SimDisk::new(3);
    let (mut rng, mut oracle) = (Rng::new(5), Content::new());
    let store = open(&sim.disk());
    for step in 0..60 {
        scrape(&store, 1_000_000 + step * 3000, &mut rng, &mut oracle).expect("stored");
        if step % 10 == 9 {
            store.maintain().expect("in order");
        }
    }
    drop(store);
    let names = sim.disk().list("").expect("listed");
    let snapshot = names.iter().find(|name| name.starts_with("head-")).expect("a snapshot");
    let segment = names.iter().rfind(|name| name.starts_with("chunks-")).expect("a segment");
    let length = sim.disk().read(snapshot).expect("read").len();
    for at in (0..length).step_by(97) {
        let broken = sim.fork();
        assert!(broken.flip_bit(snapshot, at * 8 + 1));
        let store = open(&broken.disk());
        assert_eq!(store.damaged(), 1, "byte {at} of {length}");
        let aside = broken.disk().list("aside").expect("kept");
        assert!(aside.contains(snapshot) && aside.contains(segment));
        includes(&oracle, &content(&store, i64::MIN, i64::MAX), "what is left");
    }
    let broken = sim.fork();
    assert!(broken.flip_bit(segment, 11));
    let store = open(&broken.disk());
    assert_eq!((store.damaged(), broken.disk().list("aside").expect("kept")), (1, vec![segment.clone()]));
    includes(&oracle, &content(&store, i64::MIN, i64::MAX), "what is left");
    let broken = sim.fork();
    assert!(broken.flip_bit(segment, 60 * 8));
    let store = open(&broken.disk());
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut batch = Vec::new();
    let read = querier.select(&[]).and_then(|mut set| set.next_batch(100, &mut batch));
    assert!(read.expect_err("its checksum is wrong").to_string().contains(segment));
    store.maintain().expect("what is damaged keeps nothing back");
}
