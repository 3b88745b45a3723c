//! The store: opening, transactions, and the moments at which a change counts.

use crate::{
    Error, Options,
    head::{Head, admissible},
    manifest::Manifest,
    part::Part,
    record::{self, Entry, Sample},
    snapshot,
    view::View,
};
use model::{Exemplar, Labels, Metadata, Timestamp, Value};
use parking_lot::{Mutex, RwLock};
use runtime::{Disk, Log, Recovery};
use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::Arc,
};
use storage::{AppendError, Appender, Cardinality, Querier, SeriesId, Stats, Storage};

/// The folder of the log.
const LOG: &str = "wal";
/// Where files that cannot be read are kept.
const ASIDE: &str = "aside";

/// A store in a folder. Locks are taken in the order log, parts, head.
pub struct Tsdb {
    pub(crate) disk: Disk,
    pub(crate) options: Options,
    pub(crate) log: Mutex<Log>,
    pub(crate) parts: RwLock<Vec<Arc<Part>>>,
    pub(crate) head: RwLock<Head>,
    /// Held by whoever changes parts.
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) unmergeable: Mutex<BTreeSet<String>>,
    recovery: Recovery,
    damaged: u64,
}

impl Tsdb {
    /// Opens the store of a data folder, which nobody else may use: the caller holds its lock. Files that cannot be read
    /// are set aside and the rest is served.
    ///
    /// # Errors
    /// [`Error`]: the disk, or a manifest that is not one.
    pub fn open(disk: Disk, options: Options) -> Result<Self, Error> {
        let mut manifest = Manifest::read(&disk)?;
        remove_strangers(&disk, &manifest)?;
        let mut damaged = 0;
        let mut parts = Vec::new();
        for name in manifest.parts.clone() {
            match Part::open(&disk, &name) {
                Ok(part) => parts.push(Arc::new(part)),
                Err(error) => {
                    damaged += 1;
                    set_aside(&disk, &name, &error)?;
                    manifest.parts.retain(|have| *have != name);
                }
            }
        }
        let mut head = Head::new(options, manifest.floor);
        if let Some((name, _)) = manifest.snapshot.clone() {
            let read = disk.read(&name).map_err(Error::disk(format!("reading {name}")));
            match read.and_then(|bytes| snapshot::read(&name, &bytes, options, manifest.floor)) {
                Ok(read) => head = read,
                Err(error) => {
                    damaged += 1;
                    set_aside(&disk, &name, &error)?;
                }
            }
        }
        if damaged > 0 {
            manifest.publish(&disk)?;
        }
        let known = manifest.snapshot.as_ref().map_or(0, |(_, record)| *record);
        let replay = |number: u64, payload: &[u8]| {
            if number > known && record::take(payload, &mut head).is_err() {
                damaged += 1;
                tracing::error!(record = number, "a record of the log is not what was written and was passed over");
            }
            Ok(())
        };
        let (mut log, recovery) = Log::open(&disk, LOG, options.log, replay).map_err(Error::disk("reading the log"))?;
        log.skip_to(known);
        if recovery.lost > 0 {
            tracing::error!(records = recovery.lost, "records of the log are missing");
        }
        Ok(Self {
            disk,
            options,
            log: Mutex::new(log),
            parts: RwLock::new(parts),
            head: RwLock::new(head),
            manifest: Mutex::new(manifest),
            unmergeable: Mutex::default(),
            recovery,
            damaged,
        })
    }

    /// Makes everything committed survive a power cut.
    ///
    /// # Errors
    /// What the disk says; the store takes no more samples when it could not be mended.
    pub fn sync(&self) -> io::Result<()> {
        self.log.lock().sync().map(drop)
    }

    /// What reading the log found at the start.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Files and records that could not be read at the start and were set aside or passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Bytes of the log.
    pub fn log_bytes(&self) -> u64 {
        self.log.lock().bytes()
    }

    /// Oldest and newest sample in memory.
    pub fn head_range(&self) -> Option<(Timestamp, Timestamp)> {
        let head = self.head.read();
        head.min_time.zip(head.max_time).map(|(min, max)| (Timestamp(min), Timestamp(max)))
    }

    /// Number and bytes of the parts.
    pub fn part_sizes(&self) -> (usize, u64) {
        let parts = self.parts.read();
        (parts.len(), parts.iter().map(|part| part.len()).sum())
    }
}

/// Removes what a crash left behind: files that no manifest names.
fn remove_strangers(disk: &Disk, manifest: &Manifest) -> Result<(), Error> {
    let snapshot = manifest.snapshot.as_ref().map(|(name, _)| name);
    for name in disk.list("").map_err(Error::disk("listing the data folder"))? {
        let ours = name.starts_with("part-") || name.starts_with("head-");
        if ours && !manifest.parts.contains(&name) && Some(&name) != snapshot {
            disk.remove(&name).map_err(Error::disk(format!("removing {name}")))?;
        }
    }
    Ok(())
}

fn set_aside(disk: &Disk, name: &str, error: &Error) -> Result<(), Error> {
    tracing::error!(file = name, %error, "a file of the store cannot be read and is set aside; the rest is served");
    disk.create_dir(ASIDE).map_err(Error::disk("making the folder aside"))?;
    match disk.rename(name, &format!("{ASIDE}/{name}")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::disk(format!("setting {name} aside"))(error))
        }
        _ => Ok(()),
    }
}

impl Storage for Tsdb {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(Transaction { db: self, pending: Vec::new(), newest: HashMap::new() })
    }

    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_> {
        Box::new(View { db: self, min: min.0, max: max.0 })
    }

    fn cardinality(&self, top: usize) -> Cardinality {
        self.head.read().cardinality(top)
    }

    fn stats(&self) -> Stats {
        let parts = self.parts.read();
        let head = self.head.read();
        let stored = parts.iter().map(|part| part.summary.samples).sum::<u64>();
        let oldest = parts.iter().map(|part| part.summary.min).chain(head.min_time).min();
        let newest = parts.iter().map(|part| part.summary.max).chain(head.max_time).max();
        Stats {
            series: head.series.len() as u64,
            samples: stored + head.samples,
            appended: head.appended,
            min_time: oldest.map(Timestamp),
            max_time: newest.map(Timestamp),
        }
    }
}

struct Transaction<'a> {
    db: &'a Tsdb,
    pending: Vec<Sample>,
    /// Where the newest pending sample of a series is, by series.
    newest: HashMap<u64, usize>,
}

impl Transaction<'_> {
    fn add(&mut self, sample: Sample) -> Result<(), AppendError> {
        let fresh = match self.newest.get(&sample.series).and_then(|place| self.pending.get(*place)) {
            Some(last) => admissible(last.at, sample.at, || last.entry.same(&sample.entry))?,
            None => self.db.head.read().admit(sample.series, sample.at, &sample.entry)?,
        };
        if fresh {
            self.newest.insert(sample.series, self.pending.len());
            self.pending.push(sample);
        }
        Ok(())
    }
}

impl Appender for Transaction<'_> {
    fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError> {
        if let Some(id) = self.db.head.read().ids.get(labels) {
            return Ok(SeriesId(*id));
        }
        self.db.head.write().register(labels).map(SeriesId)
    }

    fn float(&mut self, series: SeriesId, at: Timestamp, value: f64) -> Result<(), AppendError> {
        self.add(Sample { series: series.0, at: at.0, start: None, entry: Entry::Float(value) })
    }

    fn sample(&mut self, series: SeriesId, sample: model::Sample) -> Result<(), AppendError> {
        let entry = match sample.value {
            Value::Float(value) => Entry::Float(value),
            Value::Histogram(histogram) => Entry::Histogram(histogram),
        };
        self.add(Sample { series: series.0, at: sample.at.0, start: sample.start.map(|start| start.0), entry })
    }

    fn exemplar(&mut self, series: SeriesId, _: Exemplar) -> Result<(), AppendError> {
        self.db.head.read().known(series.0)
    }

    fn metadata(&mut self, series: SeriesId, _: &Metadata) -> Result<(), AppendError> {
        self.db.head.read().known(series.0)
    }

    fn commit(self: Box<Self>) -> Result<(), AppendError> {
        let Self { db, mut pending, .. } = *self;
        let mut log = db.log.lock();
        let mut payload = Vec::new();
        let unlogged: Vec<u64> = {
            let head = db.head.read();
            // What has moved into parts since it was admitted comes too late.
            pending.retain(|sample| sample.at >= head.admit_from && head.series.contains_key(&sample.series));
            let unlogged: BTreeSet<u64> = pending.iter().map(|sample| sample.series).collect();
            let unlogged: Vec<u64> =
                unlogged.into_iter().filter(|id| head.series.get(id).is_some_and(|series| !series.logged)).collect();
            let named: Vec<(u64, &Labels)> =
                unlogged.iter().filter_map(|id| Some((*id, &head.series.get(id)?.labels))).collect();
            record::put(named.into_iter(), &pending, &mut payload);
            unlogged
        };
        if pending.is_empty() {
            return Ok(());
        }
        log.append(&payload).map_err(|error| AppendError::Unwritable(error.to_string()))?;
        let mut head = db.head.write();
        for id in unlogged {
            if let Some(series) = head.series.get_mut(&id) {
                series.logged = true;
            }
        }
        head.apply(pending);
        Ok(())
    }
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
