//! What `cargo xtask bench query` measures with: generated series written into a data folder or sent by remote write,
//! and the engine alone timed on such a folder.
//!
//! ```text
//! queries fill FOLDER INSTANCES HOURS [cpu]
//! queries send HOST:PORT INSTANCES HOURS [cpu]
//! queries engine FOLDER HOURS STEP_SECONDS [ROUNDS] < QUERIES
//! ```

mod data;
mod send;
mod time;

use anyhow::{Context, Result, bail};
use data::Data;
use runtime::Disk;
use storage::Storage;
use tsdb::{Options, Tsdb};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["fill", folder, rest @ ..] => fill(folder, Data::of(rest)?),
        ["send", to, rest @ ..] => send::all(to, Data::of(rest)?),
        ["engine", folder, hours, step, rest @ ..] => {
            let rounds = rest.first().map_or(Ok(3), |text| text.parse()).context("ROUNDS is a number")?;
            time::engine(folder, hours.parse().context("HOURS")?, step.parse().context("STEP_SECONDS")?, rounds)
        }
        _ => bail!("usage: queries fill FOLDER INSTANCES HOURS [cpu] | send HOST:PORT … | engine FOLDER HOURS STEP"),
    }
}

/// Series registered and committed at once.
const COMMIT: usize = 1_000;

fn fill(folder: &str, mut data: Data) -> Result<()> {
    let store = Tsdb::open(Disk::open(folder)?, Options { retention_ms: None, ..Options::default() })?;
    while let Some(slice) = data.next_slice() {
        for part in slice.chunks(COMMIT) {
            let mut appender = store.appender();
            for series in part {
                let id = appender.series(&series.labels)?;
                for (at, value) in series.times.iter().zip(&series.values) {
                    appender.float(id, model::Timestamp(*at), *value)?;
                }
            }
            appender.commit()?;
        }
        store.maintain()?;
    }
    store.sync()?;
    let (stats, (parts, bytes)) = (store.stats(), store.part_sizes());
    println!("{} series, {} samples, {parts} parts of {bytes} bytes", stats.series, stats.samples);
    Ok(())
}
