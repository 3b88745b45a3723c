//! What an operator asks for: deleting series, freeing their room, and copies of the store. And retention that is not the
//! same for all series, which is made real by the same rewriting of parts.

use crate::{
    Error, Tsdb,
    manifest::{self, Manifest},
    part::Part,
    tombstones::{self, TOMBSTONES_MAX, Tombstone},
    view::Source,
    writer::{LONG_WINDOW_MS, PartWriter, WINDOW_MS},
};
use model::{Matcher, Timestamp};
use runtime::{Clock, Open};
use std::{
    collections::BTreeSet,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};
use storage::{Admin, AdminError};

/// The folder of copies.
const SNAPSHOTS: &str = "snapshots";
/// Bytes copied in one step.
const COPY: usize = 1 << 20;

/// What a part of a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// Its file.
    pub name: String,
    /// Time of the first sample.
    pub min: Timestamp,
    /// Time of the last sample.
    pub max: Timestamp,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// How long samples of some series are kept.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Who satisfies all of them is meant.
    pub matchers: Vec<Matcher>,
    /// Age in milliseconds beyond which samples go, relative to the newest one. A part is cut when all of it is so old.
    pub keep_ms: i64,
}

impl Tsdb {
    /// The parts, oldest first.
    pub fn part_list(&self) -> Vec<PartInfo> {
        let info = |part: &Arc<Part>| PartInfo {
            name: part.name.clone(),
            min: Timestamp(part.summary.min),
            max: Timestamp(part.summary.max),
            series: part.summary.series,
            samples: part.summary.samples,
            bytes: part.len(),
        };
        self.parts.read().iter().map(info).collect()
    }

    /// Replaces the retention of particular series. The first that matches a series decides, and
    /// [`crate::Options::retention_ms`] where none does. Counts from the next [`Tsdb::maintain`] on.
    pub fn set_retention(&self, rules: Vec<Retention>) {
        *self.retention.write() = Arc::new(rules);
    }

    /// Removes parts, or series out of them, that are older than their retention.
    pub(crate) fn expire_series(&self, newest: i64) -> Result<(), Error> {
        let rules = self.retention.read().clone();
        let shortest = rules.iter().map(|rule| rule.keep_ms).chain(self.options.retention_ms).min();
        let Some(cutoff) = shortest.map(|age| newest.saturating_sub(age)) else { return Ok(()) };
        let mut manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        for part in parts.iter().filter(|part| part.summary.max < cutoff) {
            let age = newest.saturating_sub(part.summary.max);
            let read = |error: storage::ReadError| {
                tracing::error!(%error, "a part is not cut");
                Error::damaged(&part.name, "its index cannot be read")
            };
            // Who is matched by a rule is none of the later ones' business.
            let mut rest: BTreeSet<u32> = part.select(&[]).map_err(read)?.into_iter().collect();
            let mut kept = Vec::new();
            for rule in rules.iter() {
                let own: Vec<u32> = part.select(&rule.matchers).map_err(read)?;
                let own = own.into_iter().filter(|id| rest.remove(id));
                kept.extend(own.filter(|_| age <= rule.keep_ms));
            }
            if self.options.retention_ms.is_none_or(|keep| age <= keep) {
                kept.extend(rest);
            }
            kept.sort_unstable();
            if (kept.len() as u64) < part.summary.series {
                self.rewrite(&mut manifest, part, kept)?;
            }
        }
        Ok(())
    }

    /// Writes a part anew with the named series and without what was deleted; the new one takes its place.
    fn rewrite(&self, manifest: &mut Manifest, part: &Arc<Part>, series: Vec<u32>) -> Result<(), Error> {
        let place = self.parts.read().iter().position(|have| have.name == part.name);
        let mut next = manifest.clone();
        let name = next.name("part");
        manifest.next_file = next.next_file;
        let found = if series.is_empty() { None } else { self.write_series(&name, part, series)? };
        let new = found.map(|_| Part::open(&self.disk, &name)).transpose()?;
        self.replace(manifest, std::slice::from_ref(&part.name), place.zip(new))
    }

    fn write_series(
        &self,
        name: &str,
        part: &Arc<Part>,
        series: Vec<u32>,
    ) -> Result<Option<crate::writer::Summary>, Error> {
        let read = |error: storage::ReadError| {
            tracing::error!(%error, "a part is not rewritten");
            Error::damaged(&part.name, "its samples cannot be read")
        };
        let tombstones = self.tombstones.read().clone();
        let mut source = Source::new(part.clone(), series, i64::MIN, i64::MAX, tombstones).map_err(read)?;
        let long = part.summary.max.saturating_sub(part.summary.min) > LONG_WINDOW_MS;
        let mut writer = PartWriter::create(&self.disk, name, if long { LONG_WINDOW_MS } else { WINDOW_MS })?;
        while let Some(labels) = source.labels().cloned() {
            writer.add(&labels, source.take().map_err(read)?)?;
        }
        writer.finish()
    }

    /// Whether a part still holds something that a tombstone hides.
    fn is_hidden(&self, tombstone: &Tombstone, part: &Part) -> Result<bool, Error> {
        if part.number >= tombstone.number || !tombstone.overlaps(part.summary.min, part.summary.max) {
            return Ok(false);
        }
        for matchers in &tombstone.selectors {
            let found = part.select(matchers).map_err(|error| {
                tracing::error!(%error, "a part is not cleaned");
                Error::damaged(&part.name, "its index cannot be read")
            })?;
            if !found.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives up tombstones that hide nothing any more.
    pub(crate) fn bury(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let parts = self.parts.read().clone();
        let (oldest, late) = {
            let head = self.head.read();
            (head.min_time.map(|min| min.max(head.floor)), head.late_range.map(|(min, _)| min))
        };
        let mut next = manifest.clone();
        let mut kept = Vec::new();
        for tombstone in manifest.tombstones.iter() {
            let in_head = oldest.into_iter().chain(late).any(|oldest| tombstone.max >= oldest);
            let mut hides = in_head;
            for part in &parts {
                hides = hides || self.is_hidden(tombstone, part)?;
            }
            if hides {
                kept.push(tombstone.clone());
            }
        }
        if kept.len() == manifest.tombstones.len() {
            return Ok(());
        }
        next.tombstones = Arc::new(kept);
        next.publish(&self.disk)?;
        *self.tombstones.write() = next.tombstones.clone();
        *manifest = next;
        Ok(())
    }

    fn delete(&self, min: i64, max: i64, selectors: &[Vec<Matcher>]) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        // What comes later was not meant.
        let newest = storage::Storage::stats(self).max_time;
        let Some(max) = newest.map(|newest| newest.0.min(max)).filter(|max| *max >= min) else { return Ok(()) };
        let mut next = manifest.clone();
        let mut all = next.tombstones.to_vec();
        all.push(Tombstone { number: next.next_file, min, max, selectors: selectors.to_vec() });
        next.tombstones = Arc::new(all);
        next.publish(&self.disk)?;
        *self.tombstones.write() = next.tombstones.clone();
        *manifest = next;
        Ok(())
    }

    fn clean(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        for part in parts {
            let mut hidden = false;
            for tombstone in manifest.tombstones.clone().iter() {
                hidden = hidden || self.is_hidden(tombstone, &part)?;
            }
            if hidden {
                let all = (0..u32::try_from(part.summary.series).unwrap_or(u32::MAX)).collect();
                self.rewrite(&mut manifest, &part, all)?;
            }
        }
        self.bury(&mut manifest)
    }

    fn copy(&self, name: &str, skip_head: bool) -> Result<(), Error> {
        let folder = format!("{SNAPSHOTS}/{name}");
        self.disk.create_dir(&folder).map_err(Error::disk(format!("making {folder}")))?;
        // Nothing moves meanwhile.
        let manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        let mut copy = Manifest {
            parts: parts.iter().map(|part| part.name.clone()).collect(),
            floor: manifest.floor,
            next_file: manifest.next_file,
            tombstones: manifest.tombstones.clone(),
            snapshot: None,
        };
        for part in &parts {
            self.copy_file(&part.name, &format!("{folder}/{}", part.name))?;
        }
        if !skip_head {
            let part = copy.name("part");
            if self.write_head(&format!("{folder}/{part}"))? {
                copy.floor = self.head.read().max_time.map_or(copy.floor, |max| max.saturating_add(1));
                copy.parts.push(part);
            }
        }
        let sync = |folder: &str| self.disk.sync_dir(folder).map_err(Error::disk(format!("syncing {folder}")));
        sync(&folder)?;
        copy.publish_as(&self.disk, &format!("{folder}/{}", manifest::NAME))?;
        sync(SNAPSHOTS)?;
        sync("")
    }

    fn copy_file(&self, from: &str, to: &str) -> Result<(), Error> {
        let failed = |error| Error::disk(format!("copying {from} to {to}"))(error);
        let source = self.disk.open_file(from, Open::Read).map_err(failed)?;
        let target = self.disk.open_file(to, Open::Create).map_err(failed)?;
        let (mut at, mut bytes) = (0, vec![0; COPY]);
        loop {
            match source.read_at(at, &mut bytes).map_err(failed)? {
                0 => return target.sync().map_err(failed),
                length => {
                    target.write_at(at, &bytes[..length]).map_err(failed)?;
                    at += length as u64;
                }
            }
        }
    }
}

impl Admin for Tsdb {
    fn delete_series(&self, min: Timestamp, max: Timestamp, selectors: &[Vec<Matcher>]) -> Result<(), AdminError> {
        if !tombstones::fits(selectors) {
            return Err(AdminError("too many selectors or matchers in one deletion".into()));
        }
        if self.tombstones.read().len() >= TOMBSTONES_MAX {
            let text = format!("there are {TOMBSTONES_MAX} deletions already; clean the tombstones first");
            return Err(AdminError(text));
        }
        self.delete(min.0, max.0, selectors).map_err(|error| AdminError(error.to_string()))
    }

    fn clean_tombstones(&self) -> Result<(), AdminError> {
        self.clean().map_err(|error| AdminError(error.to_string()))
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, AdminError> {
        let now = Timestamp(Clock::system().unix_ms().div_euclid(1000) * 1000).to_rfc3339();
        let date: String = now.chars().filter(|char| !matches!(char, '-' | ':')).collect();
        // Two copies of one second have different names.
        let name = format!("{date}-{:016x}", RandomState::new().build_hasher().finish());
        self.copy(&name, skip_head).map_err(|error| AdminError(error.to_string()))?;
        Ok(name)
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
