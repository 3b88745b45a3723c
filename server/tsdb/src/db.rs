//! The store: opening, transactions, and the moments at which a change counts.

use crate::{
    Error, Options,
    admin::Retention,
    head::{Head, replay::Replay, segments},
    manifest::Manifest,
    metrics::{Progress, Refusals},
    part::Part,
    record::{self, Batch},
    snapshot::{self, Restored},
    tombstones::Tombstone,
    transaction::Transaction,
    view::View,
};
use model::{Matcher, Timestamp};
use parking_lot::{Mutex, RwLock};
use runtime::{Disk, Log, Recovery};
use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use storage::{Appender, Cardinality, Exemplars, Querier, ReadError, SeriesExemplars, Stats, Storage};

/// The folder of the log.
const LOG: &str = "wal";
/// Where files that cannot be read are kept.
const ASIDE: &str = "aside";

/// A store in a folder. Locks are taken in the order manifest, log, parts, head, the others.
pub struct Tsdb {
    pub(crate) disk: Disk,
    pub(crate) options: Options,
    pub(crate) log: Mutex<Log>,
    pub(crate) parts: RwLock<Vec<Arc<Part>>>,
    pub(crate) head: RwLock<Head>,
    /// Held by whoever changes parts.
    pub(crate) manifest: Mutex<Manifest>,
    pub(crate) unmergeable: Mutex<BTreeSet<String>>,
    /// Those of the manifest, for readers.
    pub(crate) tombstones: RwLock<Arc<Vec<Tombstone>>>,
    pub(crate) retention: RwLock<Arc<Vec<Retention>>>,
    pub(crate) exemplars: Mutex<Exemplars>,
    /// The newest sample when the head was last written.
    pub(crate) snapshot_at: Mutex<Option<i64>>,
    /// Memory of commits, for the next ones: a record unpacked and packed, and what its floats build on.
    pub(crate) scratch: Mutex<(Vec<u8>, Vec<u8>, Vec<u64>)>,
    pub(crate) batches: Mutex<Vec<Batch>>,
    pub(crate) refusals: Refusals,
    recovery: Recovery,
    pub(crate) damaged: AtomicU64,
}

impl Tsdb {
    /// Opens the store of a data folder, which nobody else may use: the caller holds its lock. Files that cannot be read
    /// are set aside and the rest is served.
    ///
    /// # Errors
    /// [`Error`]: the disk, or a manifest that is not one.
    pub fn open(disk: Disk, options: Options) -> Result<Self, Error> {
        Self::open_watched(disk, options, &Progress::default())
    }

    /// As [`Tsdb::open`]; `progress` tells meanwhile how far it is.
    ///
    /// # Errors
    /// As [`Tsdb::open`].
    pub fn open_watched(disk: Disk, options: Options, progress: &Progress) -> Result<Self, Error> {
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
        let (restored, known) = restore_head(&disk, options, &manifest, &mut damaged)?;
        let Restored { mut head, ring: mut exemplars, .. } = restored;
        if damaged > 0 {
            manifest.publish(&disk)?;
        }
        let snapshot_at = head.max_time;
        let mut row = Vec::new();
        let replay = |number: u64, payload: &[u8]| {
            let mut receiver = Replay { head: &mut head, exemplars: &mut exemplars };
            if number > known && record::take(payload, &mut receiver, &mut row).is_err() {
                damaged += 1;
                tracing::error!(record = number, "a record of the log is not what was written and was passed over");
            }
            Ok(())
        };
        let watch = |first, current, last| progress.set(first, current, last);
        let (mut log, recovery) =
            Log::open_watched(&disk, LOG, options.log, replay, watch).map_err(Error::disk("reading the log"))?;
        log.skip_to(manifest.snapshot.as_ref().map_or(0, |(_, record)| *record));
        if recovery.lost > 0 {
            tracing::error!(records = recovery.lost, "records of the log are missing");
        }
        Ok(Self {
            disk,
            options,
            log: Mutex::new(log),
            parts: RwLock::new(parts),
            head: RwLock::new(head),
            tombstones: RwLock::new(manifest.tombstones.clone()),
            retention: RwLock::default(),
            manifest: Mutex::new(manifest),
            unmergeable: Mutex::default(),
            exemplars: Mutex::new(exemplars),
            snapshot_at: Mutex::new(snapshot_at),
            scratch: Mutex::default(),
            batches: Mutex::default(),
            refusals: Refusals::default(),
            recovery,
            damaged: AtomicU64::new(damaged),
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

    /// Files and records that could not be read and were set aside or passed over.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
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
    let snapshot = manifest.snapshot.as_ref().map(|(name, _)| name.as_str());
    remove_all(disk, |name| {
        let ours = name.starts_with("part-") || name.starts_with("head-");
        ours && !manifest.parts.iter().any(|part| part == name) && Some(name) != snapshot
    })
}

fn remove_all(disk: &Disk, gone: impl Fn(&str) -> bool) -> Result<(), Error> {
    for name in disk.list("").map_err(Error::disk("listing the data folder"))? {
        if gone(&name) {
            disk.remove(&name).map_err(Error::disk(format!("removing {name}")))?;
        }
    }
    Ok(())
}

/// The head of the snapshot that counts, and the last record of the log that is in it. What cannot be read of it is set
/// aside, its segments too; segments that no snapshot names are removed.
fn restore_head(
    disk: &Disk,
    options: Options,
    manifest: &Manifest,
    damaged: &mut u64,
) -> Result<(Restored, u64), Error> {
    let is_segment = |name: &str| name.starts_with(segments::PREFIX);
    let Some((name, record)) = &manifest.snapshot else {
        remove_all(disk, is_segment)?;
        return Ok((Restored::empty(options, manifest.floor), 0));
    };
    match snapshot::read(disk, name, options, manifest.floor) {
        Ok(restored) => {
            for (name, error) in &restored.missing {
                *damaged += 1;
                set_aside(disk, name, error)?;
            }
            let sealed = restored.head.segments.sealed();
            let kept: BTreeSet<String> = sealed.iter().map(|segment| segments::name(segment.number)).collect();
            remove_all(disk, |name| is_segment(name) && !kept.contains(name))?;
            Ok((restored, *record))
        }
        Err(error) => {
            *damaged += 1;
            set_aside(disk, name, &error)?;
            let all = disk.list("").map_err(Error::disk("listing the data folder"))?;
            all.iter().filter(|name| is_segment(name)).try_for_each(|name| set_aside(disk, name, &error))?;
            Ok((Restored::empty(options, manifest.floor), 0))
        }
    }
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
        Box::new(Transaction::new(self))
    }

    fn querier(&self, min: Timestamp, max: Timestamp) -> Box<dyn Querier + '_> {
        Box::new(View { db: self, min: min.0, max: max.0 })
    }

    fn exemplars(
        &self,
        min: Timestamp,
        max: Timestamp,
        selectors: &[Vec<Matcher>],
    ) -> Result<Vec<SeriesExemplars>, ReadError> {
        Ok(self.exemplars.lock().select(min.0, max.0, selectors))
    }

    fn cardinality(&self, top: usize) -> Cardinality {
        self.head.read().cardinality(top)
    }

    fn admin(&self) -> Option<&dyn storage::Admin> {
        Some(self)
    }

    fn stats(&self) -> Stats {
        let parts = self.parts.read();
        let head = self.head.read();
        let stored = parts.iter().map(|part| part.summary.samples).sum::<u64>();
        let late = head.late_range.map(|(min, _)| min);
        let oldest = parts.iter().map(|part| part.summary.min).chain(head.min_time).chain(late).min();
        let newest = parts.iter().map(|part| part.summary.max).chain(head.max_time).max();
        Stats {
            series: head.len(),
            samples: stored + head.samples,
            appended: head.counts.appended,
            min_time: oldest.map(Timestamp),
            max_time: newest.map(Timestamp),
        }
    }
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
