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

/// Scrapes and maintenance by seed; what was committed, and what of it was synced.
fn work(sim: &SimDisk, seed: u64, steps: i64) -> (Content, Content) {
    let (mut rng, mut committed, mut durable) = (Rng::new(seed), Content::new(), Content::new());
    let Ok(store) = Tsdb::open(sim.disk(), SMALL) else { return (committed, durable) };
    for step in 0..steps {
        // Whatever fails, the next step is tried, as a server does.
        let _ = scrape(&store, 1_000_000 + step * 20_000, &mut rng, &mut committed);
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
fn restart(sim: &SimDisk, wanted: &Content, from: i64, what: &str) -> Content {
    let store = Tsdb::open(sim.disk(), SMALL).unwrap_or_else(|error| panic!("{what}: {error}"));
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
    for seed in 0..2 {
        for at in (seed..).step_by(4) {
            let sim = SimDisk::new(seed);
            sim.inject(Fault::Crash(at));
            let (committed, durable) = work(&sim, seed, 14);
            let crashed = sim.is_crashed();
            let what = format!("seed {seed}, crash at operation {at}");
            let killed = sim.fork();
            killed.kill();
            restart(&killed, &committed, 10_000_000, &format!("{what}, killed"));
            let dark = sim.fork();
            dark.power_cut(seed + at);
            let found = restart(&dark, &durable, 10_000_000, &format!("{what}, power cut"));
            dark.power_cut(seed + at + 1);
            restart(&dark, &found, 20_000_000, &format!("{what}, second power cut"));
            if !crashed {
                assert!(at > 100, "only {at} operations");
                break;
            }
        }
    }
}

#[test]
fn a_single_fault_anywhere_loses_nothing_promised() {
    for seed in 0..1 {
        for at in (0..260).step_by(9) {
            for fault in [Fault::Io as fn(u64) -> Fault, Fault::Torn, Fault::Sync, Fault::Short, Fault::Full] {
                let sim = SimDisk::new(seed);
                let fault = fault(if matches!(fault(0), Fault::Full(_)) { at * 200 } else { at });
                sim.inject(fault);
                let (committed, durable) = work(&sim, seed, 14);
                sim.heal();
                let what = format!("seed {seed}, {fault:?}");
                let killed = sim.fork();
                killed.kill();
                restart(&killed, &committed, 10_000_000, &format!("{what}, killed"));
                sim.power_cut(seed);
                restart(&sim, &durable, 10_000_000, &format!("{what}, power cut"));
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
