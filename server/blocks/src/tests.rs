//! Store to blocks and back; what upstream says of them is compared by `cargo xtask peers blocks`.

use crate::{BLOCK_MS, Block, BlockWriter, Samples, blocks, export, import, is_upstream};
use model::{FloatHistogram, Labels, Span, Timestamp, Value};
use runtime::Disk;
use std::{collections::BTreeMap, sync::Arc};
use storage::Storage;
use testkit::{Rng, SimDisk};
use tsdb::{Options, Tsdb};

/// Series and their samples as text.
type Content = BTreeMap<String, Vec<String>>;

fn content(store: &dyn Storage) -> Content {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[]).expect("readable");
    let (mut all, mut batch) = (Content::new(), Vec::new());
    loop {
        set.next_batch(10, &mut batch).expect("readable");
        if batch.is_empty() {
            return all;
        }
        for columns in &batch {
            all.insert(columns.labels.to_string(), text(&crate::samples(columns)));
        }
    }
}

fn text(samples: &Samples) -> Vec<String> {
    let floats = samples.floats.iter().map(|(at, value)| (*at, format!("{:x}", value.to_bits())));
    // What is known of resets depends on where chunks begin.
    let plain = |one: &FloatHistogram| format!("{:?}", FloatHistogram { reset: None, ..one.clone() });
    let histograms = samples.histograms.iter().map(|(at, one)| (*at, plain(one)));
    let mut all: Vec<(i64, String)> = floats.chain(histograms).collect();
    all.sort();
    all.into_iter().map(|(at, text)| format!("{at} {text}")).collect()
}

/// Series of every kind over nine hours.
fn fill(store: &dyn Storage) {
    let mut rng = Rng::new(7);
    let mut histogram = FloatHistogram {
        integer: true,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive: vec![0.0; 3],
        ..FloatHistogram::default()
    };
    for step in 0..1080 {
        let at = 1_700_000_000_000 + step * 30_000 + rng.below(20) as i64;
        let mut appender = store.appender();
        for number in 0..12_u64 {
            let name = if number == 11 { "h" } else { "m" };
            let labels = Labels::from_pairs([("__name__", name), ("é", "ü\n\""), ("i", &number.to_string())]);
            let series = appender.series(&labels).expect("a series");
            let float = match number {
                0 => 1.0,
                1 => step as f64,
                2 => f64::from_bits(0x7ff0_0000_0000_0002),
                3 => f64::from_bits(rng.next_u64()),
                _ => rng.below(1000) as f64 / 8.0,
            };
            let value = if number == 11 && step % 100 != 0 {
                histogram.positive[rng.below(3)] += 1.0;
                histogram.count += 1.0;
                histogram.sum += 0.5;
                Value::Histogram(Arc::new(histogram.clone()))
            } else {
                Value::Float(float)
            };
            if number == 4 && step > 300 {
                continue;
            }
            appender.sample(series, model::Sample { at: Timestamp(at), start: None, value }).expect("in order");
        }
        appender.commit().expect("stored");
    }
}

fn open(disk: Disk) -> Tsdb {
    Tsdb::open(disk, Options { retention_ms: None, ..Options::default() }).expect("opens")
}

#[test]
fn a_store_goes_into_blocks_and_comes_back() {
    let store = open(SimDisk::new(1).disk());
    fill(&store);
    let (sim, wanted) = (SimDisk::new(2), content(&store));
    let metas = export(&store, &sim.disk(), (i64::MIN, i64::MAX), &[], BLOCK_MS).expect("written");
    assert_eq!(metas.len(), 5, "blocks begin at multiples of two hours");
    let samples: u64 = metas.iter().map(|meta| meta.stats.num_samples).sum();
    assert_eq!(samples, wanted.values().map(|samples| samples.len() as u64).sum::<u64>());
    assert!(metas.iter().all(|meta| meta.min_time.div_euclid(BLOCK_MS) == (meta.max_time - 1).div_euclid(BLOCK_MS)));
    sim.power_cut(5);
    let folder = sim.disk();
    assert_eq!(is_upstream(&folder).ok(), Some(true));
    let target = SimDisk::new(3);
    let other = open(target.disk());
    for times in 1..=2 {
        let found = import(&folder, &other).expect("taken in");
        assert_eq!((found.blocks, found.samples), (5, samples));
        assert_eq!(content(&other), wanted, "taken in {times} times");
        other.maintain().expect("in order");
        assert_eq!(content(&other), wanted, "merged, taken in {times} times");
    }
    assert_eq!(is_upstream(&target.disk()).ok(), Some(false));
    // It goes on with new samples, and old ones are refused as ever.
    let mut appender = other.appender();
    let labels = Labels::from_pairs([("__name__", "new")]);
    let series = appender.series(&labels).expect("a series");
    appender.float(series, Timestamp(1_800_000_000_000), 1.0).expect("in order");
    appender.commit().expect("stored");
    drop(other);
    target.kill();
    let other = open(target.disk());
    assert_eq!(content(&other).len(), wanted.len() + 1);
}

#[test]
fn nothing_leaves_no_block() {
    let sim = SimDisk::new(1);
    let store = open(SimDisk::new(2).disk());
    assert_eq!(export(&store, &sim.disk(), (0, 1), &[], BLOCK_MS).expect("nothing").len(), 0);
    assert!(BlockWriter::create(&sim.disk()).expect("begun").finish().expect("ended").is_none());
    assert_eq!(sim.disk().list("").expect("listed"), Vec::<String>::new());
}

#[test]
fn a_changed_byte_is_damage_and_nothing_else() {
    let (sim, store) = (SimDisk::new(2), open(SimDisk::new(1).disk()));
    fill(&store);
    let range = (1_700_000_000_000, 1_700_002_000_000);
    let meta = export(&store, &sim.disk(), range, &[], BLOCK_MS).expect("written").remove(0);
    let read = |disk: &Disk| -> Result<u64, crate::Error> {
        let mut samples = 0;
        Block::open(disk, &meta.ulid)?.each(|_, found, _| {
            samples += found.len() as u64;
            Ok::<(), crate::Error>(())
        })?;
        Ok(samples)
    };
    assert_eq!(read(&sim.disk()).ok(), Some(meta.stats.num_samples));
    let mut refused = 0;
    for file in ["index", "chunks/000001"] {
        let name = format!("{}/{file}", meta.ulid);
        let length = sim.disk().read(&name).expect("read").len();
        for at in (0..length).step_by(37) {
            let broken = sim.fork();
            assert!(broken.flip_bit(&name, at * 8 + 5));
            // Postings and padding are not read.
            match read(&broken.disk()) {
                Ok(samples) => assert_eq!(samples, meta.stats.num_samples),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(refused > 100, "{refused} refused");
    assert_eq!(blocks(&sim.disk()).expect("read").len(), 1);
}
