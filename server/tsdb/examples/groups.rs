//! What the order of series does to the size of groups: the values of a store, encoded as part files do, in several orders.
//!
//! `cargo run --release -p tsdb --example groups -- FOLDER`, a store that `load` made. Answers whether a group should hold
//! one metric of many targets or many metrics of one target; the figures are in `docs/format/part.md`.

use chunk::values::Encoder;
use model::{Labels, Timestamp};
use runtime::Disk;
use std::error::Error;
use storage::Storage;
use tsdb::{Options, Tsdb};

/// Columns are cut at multiples of this, as in parts of a day and less.
const WINDOW_MS: i64 = 8 * 3_600_000;
const LEVEL: i32 = 3;

/// The values of one series in each window.
struct Series {
    labels: Labels,
    windows: Vec<(i64, Vec<f64>)>,
}

/// Name and key of an order.
type Order = (&'static str, fn(&Labels) -> Vec<String>);

const ORDERS: [Order; 4] = [
    ("labels (name, then labels as they are sorted)", |labels| {
        labels.iter().flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
    }),
    ("name, target, other labels", |labels| {
        let mut key = vec![labels.metric_name().to_owned()];
        key.extend(target(labels));
        key.extend(others(labels));
        key
    }),
    ("target, name, other labels", |labels| {
        let mut key = target(labels).to_vec();
        key.push(labels.metric_name().to_owned());
        key.extend(others(labels));
        key
    }),
    ("name, other labels, target", |labels| {
        let mut key = vec![labels.metric_name().to_owned()];
        key.extend(others(labels));
        key.extend(target(labels));
        key
    }),
];

fn target(labels: &Labels) -> [String; 2] {
    ["job", "instance"].map(|name| labels.get(name).unwrap_or_default().to_owned())
}

fn others(labels: &Labels) -> Vec<String> {
    let own = labels.iter().filter(|(name, _)| !["__name__", "job", "instance"].contains(name));
    own.flat_map(|(name, value)| [name.to_owned(), value.to_owned()]).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: groups FOLDER")?;
    let store = Tsdb::open(Disk::open(folder)?, Options { retention_ms: None, ..Options::default() })?;
    let mut all = read(&store)?;
    let samples: usize = all.iter().flat_map(|one| &one.windows).map(|(_, values)| values.len()).sum();
    println!("{} series, {samples} samples; bytes of values per sample, packed as they are and with zstd", all.len());
    for (name, key) in ORDERS {
        all.sort_by_cached_key(|one| key(&one.labels));
        for size in [32, 128, 1024] {
            let (plain, packed) = bytes(&all, size);
            let each = |bytes: usize| bytes as f64 / samples as f64;
            println!("{name}, groups of {size}: {:.4} {:.4}", each(plain), each(packed));
        }
    }
    Ok(())
}

fn read(store: &Tsdb) -> Result<Vec<Series>, Box<dyn Error>> {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[])?;
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    loop {
        set.next_batch(64, &mut batch)?;
        if batch.is_empty() {
            return Ok(all);
        }
        for columns in &batch {
            let mut windows: Vec<(i64, Vec<f64>)> = Vec::new();
            for (at, value) in columns.times.iter().zip(columns.values.iter()) {
                let window = at.div_euclid(WINDOW_MS);
                match windows.last_mut() {
                    Some((last, values)) if *last == window => values.push(*value),
                    _ => windows.push((window, vec![*value])),
                }
            }
            all.push(Series { labels: columns.labels.clone(), windows });
        }
    }
}

/// Bytes of all groups, packed bits alone and with zstd where that saves an eighth.
fn bytes(all: &[Series], size: usize) -> (usize, usize) {
    let (mut plain, mut packed) = (0, 0);
    for group in all.chunks(size) {
        let mut windows: Vec<i64> = group.iter().flat_map(|one| &one.windows).map(|(window, _)| *window).collect();
        windows.sort_unstable();
        windows.dedup();
        for window in windows {
            let (mut encoder, mut out) = (Encoder::default(), Vec::new());
            for (_, values) in group.iter().flat_map(|one| &one.windows).filter(|(have, _)| *have == window) {
                encoder.put(values, &mut out);
            }
            let small = zstd::bulk::compress(&out, LEVEL).map_or(out.len(), |small| small.len());
            plain += out.len();
            packed += if small + small / 8 < out.len() { small } else { out.len() };
        }
    }
    (plain, packed)
}
