//! Folders of stored data, ours or upstream's, as series in order.

use anyhow::{Context, bail};
use blocks::{Block, Samples, SeriesReader};
use model::{Labels, Matcher, Timestamp};
use runtime::{Disk, LockGuard};
use std::{ops::Deref, path::Path};
use storage::Storage;
use tsdb::{Options, Tsdb};

/// Series read in one step.
const BATCH: usize = 64;

/// A store that nobody else uses meanwhile.
pub(crate) struct Store {
    store: Tsdb,
    _lock: LockGuard,
}

impl Deref for Store {
    type Target = Tsdb;

    fn deref(&self) -> &Tsdb {
        &self.store
    }
}

/// A folder that is there; none is made.
pub(crate) fn disk(path: &str) -> anyhow::Result<Disk> {
    if !Path::new(path).is_dir() {
        bail!("opening the db dir: {path} is no folder");
    }
    Disk::open(path).with_context(|| format!("opening {path}"))
}

/// Whether a folder is a store of ours.
pub(crate) fn is_ours(disk: &Disk) -> anyhow::Result<bool> {
    let names = disk.list("").context("listing the folder")?;
    Ok(names.iter().any(|name| name == "manifest" || name == "wal") && !blocks::is_upstream(disk)?)
}

/// Opens a store of ours, made if so wished.
pub(crate) fn store(path: &str, make: bool) -> anyhow::Result<Store> {
    let disk = if make { Disk::open(path).with_context(|| format!("opening {path}"))? } else { disk(path)? };
    if blocks::is_upstream(&disk)? {
        bail!("{path} is a folder of upstream; take it into another one by `narthex tsdb import {path} FOLDER`");
    }
    let lock = disk.lock("lock").with_context(|| format!("locking {path}; a server may use it"))?;
    let options = Options { retention_ms: None, ..Options::default() };
    let store = Tsdb::open(disk, options).with_context(|| format!("opening the store in {path}"))?;
    Ok(Store { store, _lock: lock })
}

/// Gives every series that satisfies any of the selectors and has samples in the closed range to `visit`, by labels.
pub(crate) fn each(
    path: &str,
    range: (i64, i64),
    selectors: &[Vec<Matcher>],
    mut visit: impl FnMut(&Labels, Samples) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let disk = disk(path)?;
    if !is_ours(&disk)? {
        let all = blocks::blocks(&disk).with_context(|| format!("reading {path}"))?;
        return each_of_blocks(&all, range, selectors, visit);
    }
    drop(disk);
    let store = store(path, false)?;
    let querier = store.querier(Timestamp(range.0), Timestamp(range.1));
    // Selectors are looked at one by one, so that a store is not read in whole for a few series.
    let shared: &[Matcher] = match selectors {
        [one] => one,
        _ => &[],
    };
    let mut set = querier.select(shared)?;
    let mut batch = Vec::new();
    loop {
        set.next_batch(BATCH, &mut batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        for columns in &batch {
            if matches(selectors, &columns.labels) {
                visit(&columns.labels, blocks::samples(columns))?;
            }
        }
    }
}

fn matches(selectors: &[Vec<Matcher>], labels: &Labels) -> bool {
    let passes = |matcher: &Matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default());
    selectors.iter().any(|matchers| matchers.iter().all(passes))
}

/// The same of blocks, which may overlap.
pub(crate) fn each_of_blocks(
    all: &[Block],
    (min, max): (i64, i64),
    selectors: &[Vec<Matcher>],
    mut visit: impl FnMut(&Labels, Samples) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut readers: Vec<(SeriesReader<'_>, Option<(Labels, Samples, usize)>)> = Vec::new();
    for block in all.iter().filter(|block| block.meta.min_time <= max && block.meta.max_time > min) {
        let mut reader = block.series();
        let first = reader.next_series()?;
        readers.push((reader, first));
    }
    loop {
        let first = readers.iter().filter_map(|(_, next)| next.as_ref()).map(|(labels, ..)| labels).min();
        let Some(labels) = first.cloned() else { return Ok(()) };
        let mut samples = Samples::default();
        for (reader, next) in &mut readers {
            if next.as_ref().is_some_and(|(have, ..)| *have == labels)
                && let Some((_, mut found, _)) = std::mem::replace(next, reader.next_series()?)
            {
                samples.floats.append(&mut found.floats);
                samples.histograms.append(&mut found.histograms);
                samples.starts.append(&mut found.starts);
            }
        }
        samples.retain(|at| (min..=max).contains(&at));
        samples.floats.sort_by_key(|(at, _)| *at);
        samples.floats.dedup_by_key(|(at, _)| *at);
        samples.histograms.sort_by_key(|(at, _)| *at);
        samples.histograms.dedup_by_key(|(at, _)| *at);
        if !samples.is_empty() && matches(selectors, &labels) {
            visit(&labels, samples)?;
        }
    }
}
