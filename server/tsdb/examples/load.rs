//! Writes an OpenMetrics file into a new store, merges it, reads it back bit for bit and says how long that took.
//!
//! `cargo run --release -p tsdb --example load -- FILE FOLDER`. Lines must be in the order of time; of the format it knows
//! what the disk benchmark writes: no comments but the last line, no exemplars.

use model::{Builder, Labels, Timestamp};
use runtime::Disk;
use std::{
    collections::HashMap,
    error::Error,
    io::{BufRead, BufReader},
};
use storage::Storage;
use tsdb::{Options, Tsdb};

/// Samples of one transaction.
const BATCH: usize = 20_000;
/// Reads of everything that are timed; the fastest counts.
const READS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, folder] = args.as_slice() else { return Err("usage: load FILE FOLDER".into()) };
    std::fs::create_dir_all(folder)?;
    let store = Tsdb::open(Disk::open(folder)?, Options { retention_ms: None, ..Options::default() })?;
    let before = cpu_seconds()?;
    let (wanted, samples) = load(&store, file)?;
    let loaded = cpu_seconds()?;
    store.compact()?;
    let merged = cpu_seconds()?;
    println!(
        "loaded in {:.1} s of processor time, merged in {:.1} s; {:?}",
        loaded - before,
        merged - loaded,
        store.part_sizes()
    );
    let mut fastest = f64::MAX;
    for _ in 0..READS {
        let begin = cpu_seconds()?;
        let found = read(&store, false)?.1;
        assert_eq!(found, samples, "as many samples as were written");
        fastest = fastest.min(cpu_seconds()? - begin);
    }
    println!("read at {:.0} million samples per second of processor time", samples as f64 / fastest / 1e6);
    let found = read(&store, true)?.0;
    assert!(found == wanted, "every series has the bits that were written");
    println!("{samples} samples of {} series are there bit for bit", wanted.len());
    Ok(())
}

/// Folds a sample into the sum of its series; the order counts.
fn fold(sum: u64, time: i64, value: f64) -> u64 {
    (sum.rotate_left(5) ^ time as u64 ^ value.to_bits().rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn load(store: &Tsdb, file: &str) -> Result<(HashMap<Labels, u64>, u64), Box<dyn Error>> {
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(file)?);
    let (mut known, mut sums): (HashMap<String, usize>, Vec<(Labels, u64)>) = (HashMap::new(), Vec::new());
    let (mut line, mut samples, mut last) = (String::new(), 0, i64::MIN);
    loop {
        let (mut appender, mut count) = (store.appender(), 0);
        let newest = last;
        while count < BATCH {
            line.clear();
            if reader.read_line(&mut line)? == 0 || line.starts_with('#') {
                break;
            }
            let mut words = line.trim_end().rsplitn(3, ' ');
            let (Some(time), Some(value), Some(series)) = (words.next(), words.next(), words.next()) else {
                return Err(format!("no sample: {line}").into());
            };
            let (seconds, thousandths) = time.split_once('.').ok_or("a time without a point")?;
            let time = seconds.parse::<i64>()? * 1000 + thousandths.parse::<i64>()?;
            let value: f64 = value.parse()?;
            let place = match known.get(series) {
                Some(place) => *place,
                None => {
                    sums.push((labels(series).ok_or_else(|| format!("no series: {series}"))?, 0));
                    known.insert(series.to_owned(), sums.len() - 1);
                    sums.len() - 1
                }
            };
            let (labels, sum) = &mut sums[place];
            let id = appender.series(labels)?;
            appender.float(id, Timestamp(time), value)?;
            *sum = fold(*sum, time, value);
            (count, last) = (count + 1, time);
        }
        appender.commit()?;
        samples += count as u64;
        if count < BATCH {
            return Ok((sums.into_iter().collect(), samples));
        }
        if newest.div_euclid(1_800_000) != last.div_euclid(1_800_000) {
            store.maintain()?;
        }
    }
}

/// The labels of `name{a="b",…}`.
fn labels(text: &str) -> Option<Labels> {
    let (name, mut rest) = text.split_once('{')?;
    let mut builder = Builder::default();
    builder.set("__name__", name);
    while rest != "}" {
        let (label, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        builder.set(label, &value);
        rest = &quoted[end + 1..];
    }
    Some(builder.build())
}

fn read(store: &Tsdb, sum: bool) -> Result<(HashMap<Labels, u64>, u64), Box<dyn Error>> {
    let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
    let mut set = querier.select(&[])?;
    let (mut sums, mut samples, mut batch) = (HashMap::new(), 0, Vec::new());
    loop {
        set.next_batch(64, &mut batch)?;
        if batch.is_empty() {
            return Ok((sums, samples));
        }
        for columns in &batch {
            samples += columns.times.len() as u64;
            if sum {
                let points = columns.times.iter().zip(columns.values.iter());
                sums.insert(columns.labels.clone(), points.fold(0, |sum, (time, value)| fold(sum, *time, *value)));
            }
        }
    }
}

/// User and system time of this process so far.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no processor time")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
