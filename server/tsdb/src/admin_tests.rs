//! Deletions, copies and retention against what a list of samples says.

use super::*;
use crate::Options;
use model::{Labels, MatchOp};
use runtime::Disk;
use std::collections::BTreeMap;
use storage::Storage;
use testkit::{Fault, SimDisk};

/// Series by name, times of their samples.
type Times = BTreeMap<String, Vec<i64>>;

const OPTIONS: Options = Options { part_ms: 60_000, merged_ms: &[240_000], chunk_samples: 7, ..small() };

const fn small() -> Options {
    Options {
        part_ms: 0,
        merged_ms: &[],
        chunk_samples: 0,
        series_max: 1000,
        series_flag: "",
        job_series_max: 0,
        job_series_flag: "",
        out_of_order_ms: 0,
        exemplars_max: 0,
        segment_bytes: 1 << 16,
        snapshot_ms: 600_000,
        retention_ms: None,
        retention_bytes: None,
        retention_percentage: None,
        log: runtime::LogOptions { segment_bytes: 4000, record_bytes_max: 1 << 20, unsynced_bytes_max: 1 << 16 },
    }
}

fn open(disk: &Disk, options: Options) -> Tsdb {
    Tsdb::open(disk.clone(), options).expect("opens")
}

fn fill(store: &Tsdb, times: impl Iterator<Item = i64>) {
    for at in times {
        let mut appender = store.appender();
        for name in ["a", "b", "c"] {
            let labels = Labels::from_pairs([("__name__", name), ("job", "x")]);
            let series = appender.series(&labels).expect("registered");
            appender.float(series, Timestamp(at), at as f64).expect("in order");
        }
        appender.commit().expect("stored");
    }
}

fn content(store: &Tsdb) -> Times {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[]).expect("readable");
    let (mut all, mut batch) = (Times::new(), Vec::new());
    loop {
        set.next_batch(2, &mut batch).expect("readable");
        if batch.is_empty() {
            return all;
        }
        for columns in &batch {
            assert!(columns.times.iter().zip(columns.values.iter()).all(|(at, value)| *at as f64 == *value));
            all.insert(columns.labels.metric_name().to_owned(), columns.times.to_vec());
        }
    }
}

fn named(name: &str) -> Vec<Matcher> {
    vec![Matcher::new(MatchOp::Equal, "__name__", name).expect("valid")]
}

fn every(from: i64, to: i64) -> impl Iterator<Item = i64> {
    (from..=to).step_by(5000)
}

/// Three series over ten minutes: parts, merged parts and a head.
fn store(sim: &SimDisk) -> Tsdb {
    let store = open(&sim.disk(), OPTIONS);
    fill(&store, every(0, 600_000));
    store.maintain().expect("in order");
    assert!(store.part_sizes().0 >= 2 && store.head_range().is_some());
    store
}

fn wanted() -> Times {
    let times = |from: i64, to: i64| every(0, 600_000).filter(|at| !(from..=to).contains(at)).collect();
    [("a", times(100_000, 590_000)), ("b", times(1, 0)), ("c", times(0, 300_000))]
        .map(|(name, times)| (name.to_owned(), times))
        .into()
}

fn delete(store: &Tsdb) {
    store.delete_series(Timestamp(100_000), Timestamp(590_000), &[named("a"), named("none")]).expect("deleted");
    store.delete_series(Timestamp(i64::MIN), Timestamp(300_000), &[named("c")]).expect("deleted");
}

#[test]
fn what_is_deleted_is_gone_at_once_and_stays_gone() {
    let sim = SimDisk::new(1);
    let mut store = store(&sim);
    delete(&store);
    assert_eq!(content(&store), wanted());
    drop(store);
    sim.power_cut(1);
    store = open(&sim.disk(), OPTIONS);
    assert_eq!(content(&store), wanted(), "after a power cut");
    let before = store.part_sizes().1;
    store.clean_tombstones().expect("cleaned");
    assert_eq!(content(&store), wanted(), "after cleaning");
    assert!(store.part_sizes().1 < before, "{before} bytes have become fewer");
    assert_eq!(store.tombstones.read().len(), 1, "one still hides samples of the head");
    // What comes later was not meant, and flushing and merging make the rest real.
    fill(&store, every(605_000, 1_800_000));
    store.maintain().expect("in order");
    assert_eq!(store.tombstones.read().len(), 0);
    let mut later = wanted();
    later.values_mut().for_each(|times| times.extend(every(605_000, 1_800_000)));
    assert_eq!(content(&store), later);
    drop(store);
    assert_eq!(content(&open(&sim.disk(), OPTIONS)), later);
}

#[test]
fn everything_may_be_deleted() {
    let sim = SimDisk::new(1);
    let store = store(&sim);
    store.delete_series(Timestamp(i64::MIN), Timestamp(i64::MAX), &[vec![]]).expect("deleted");
    assert_eq!(content(&store), Times::new());
    store.clean_tombstones().expect("cleaned");
    assert_eq!(store.part_sizes().0, 0);
    store.compact().expect("in order");
    assert_eq!((content(&store), store.part_sizes().0), (Times::new(), 0));
    assert_eq!(store.tombstones.read().len(), 0);
}

#[test]
fn a_crash_at_any_operation_of_a_deletion_leaves_all_or_nothing() {
    let sim = SimDisk::new(1);
    let whole = content(&store(&sim));
    sim.power_cut(3);
    drop(open(&sim.disk(), OPTIONS).sync());
    for at in 0.. {
        let disk = sim.fork();
        let store = open(&disk.disk(), OPTIONS);
        disk.inject(Fault::Crash(disk.operations() + at));
        let deleted = store.delete_series(Timestamp(0), Timestamp(300_000), &[named("c")]);
        let _ = store.clean_tombstones();
        let done = !disk.is_crashed();
        drop(store);
        disk.power_cut(at);
        let found = content(&open(&disk.disk(), OPTIONS));
        let mut without = whole.clone();
        without.entry("c".into()).and_modify(|times| times.retain(|at| *at > 300_000));
        assert!(found == without || (deleted.is_err() && found == whole), "crash at operation {at}");
        if done {
            assert!(at > 10, "only {at} operations");
            break;
        }
    }
}

#[test]
fn a_copy_is_a_store_of_its_own() {
    let sim = SimDisk::new(1);
    let store = store(&sim);
    delete(&store);
    for (skip_head, newest) in [(false, 600_000), (true, store.head_range().expect("a head").0.0 - 1)] {
        let name = store.snapshot(skip_head).expect("copied");
        let (date, rest) = name.split_once("Z-").expect("date and number");
        assert!(date.len() == 15 && date.contains('T') && rest.len() == 16, "{name}");
        let after = sim.fork();
        after.power_cut(9);
        // A copy is opened where it was moved to.
        let (from, copy) = (after.disk(), SimDisk::new(2));
        for file in from.list(&format!("snapshots/{name}")).expect("listed") {
            let bytes = from.read(&format!("snapshots/{name}/{file}")).expect(&file);
            copy.disk().publish(&file, &bytes).expect("written");
        }
        let mut wanted = wanted();
        wanted.values_mut().for_each(|times| times.retain(|at| *at <= newest));
        assert_eq!(content(&open(&copy.disk(), OPTIONS)), wanted, "without head: {skip_head}");
    }
}

#[test]
fn series_have_a_retention_of_their_own() {
    let sim = SimDisk::new(1);
    let store = open(&sim.disk(), Options { retention_ms: Some(600_000), ..OPTIONS });
    store.set_retention(vec![
        Retention { matchers: named("b"), keep_ms: 3_000_000 },
        Retention { matchers: named("c"), keep_ms: 60_000 },
    ]);
    fill(&store, every(0, 2_000_000));
    store.maintain().expect("in order");
    let oldest: BTreeMap<String, i64> = content(&store).into_iter().map(|(name, times)| (name, times[0])).collect();
    assert_eq!(oldest["b"], 0);
    assert!((1_100_000..1_400_000).contains(&oldest["a"]), "{oldest:?}");
    assert!((1_600_000..1_940_000).contains(&oldest["c"]), "{oldest:?}");
    let sizes = store.part_sizes();
    store.maintain().expect("in order");
    assert_eq!(store.part_sizes(), sizes, "nothing is rewritten twice");
}

#[test]
fn parts_may_have_a_share_of_the_disk() {
    let sim = SimDisk::new(1);
    let total = sim.disk().space().expect("known").total as f64;
    let store = open(&sim.disk(), OPTIONS);
    fill(&store, every(0, 2_000_000));
    store.maintain().expect("in order");
    let bytes = store.part_sizes().1;
    drop(store);
    let percent = (bytes as f64 / 2.0) / total * 100.0;
    let store = open(&sim.disk(), Options { retention_percentage: Some(percent), ..OPTIONS });
    store.maintain().expect("in order");
    assert!(store.part_sizes().1 <= bytes / 2);
}
