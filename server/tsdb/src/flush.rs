//! From head to part: when enough time has gathered, its oldest range becomes a file and leaves memory and log.

use crate::{Error, Tsdb, part::Part, snapshot, writer::PartWriter};
use model::Labels;
use std::sync::Arc;

/// Series decoded under one lock.
const STEP: usize = 32;

impl Tsdb {
    /// Does what is due: ranges of the head become parts, parts are merged, old parts go. Call it every half minute, from
    /// a thread that may block. Memory: one group of series, and the head once as it lies.
    ///
    /// # Errors
    /// [`Error`]; nothing is lost, and the next call tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        while let Some(end) = self.flush_due() {
            self.flush(end)?;
        }
        self.expire()?;
        while self.merge(false)? {}
        Ok(())
    }

    /// Moves the whole head into parts and merges all that lie in one range, the newest too: what an import ends with.
    /// Samples older than the newest one are refused afterwards.
    ///
    /// # Errors
    /// [`Error`]; nothing is lost.
    pub fn compact(&self) -> Result<(), Error> {
        while let Some(end) = self.oldest_range() {
            self.flush(end)?;
        }
        while self.merge(true)? {}
        Ok(())
    }

    /// The end of the oldest range of the head.
    fn oldest_range(&self) -> Option<i64> {
        let (head, length) = (self.head.read(), self.options.part_ms);
        let oldest = head.min_time?.max(head.floor);
        oldest.div_euclid(length).checked_add(1)?.checked_mul(length)
    }

    /// The end of the oldest range of the head, once half a range more has gathered behind it.
    fn flush_due(&self) -> Option<i64> {
        let end = self.oldest_range()?;
        (self.head.read().max_time? >= end.saturating_add(self.options.part_ms / 2)).then_some(end)
    }

    /// Moves the samples before `end` into a part.
    fn flush(&self, end: i64) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        {
            // Commits under way end before; later ones see the new bound.
            let _log = self.log.lock();
            self.head.write().admit_from = end;
        }
        let part_name = next.name("part");
        let moved = self.write_part(&part_name, end)?;
        let (snapshot_name, snapshot, record) = {
            let mut log = self.log.lock();
            log.rotate().map_err(Error::disk("syncing the log"))?;
            (next.name("head"), snapshot::write(&self.head.read(), end, moved), log.last())
        };
        self.disk.publish(&snapshot_name, &snapshot).map_err(Error::disk(format!("writing {snapshot_name}")))?;
        drop(snapshot);
        let part = (moved > 0).then(|| Part::open(&self.disk, &part_name)).transpose()?;
        next.parts.extend(part.as_ref().map(|part| part.name.clone()));
        let old = next.snapshot.replace((snapshot_name, record));
        next.floor = end;
        next.publish(&self.disk)?;
        *manifest = next;
        {
            let mut parts = self.parts.write();
            let mut head = self.head.write();
            parts.extend(part.map(Arc::new));
            head.truncate(end, moved);
        }
        if let Some((name, _)) = old {
            self.disk.remove(&name).map_err(Error::disk(format!("removing {name}")))?;
        }
        self.log.lock().forget(record).map_err(Error::disk("removing log segments"))
    }

    /// Writes the samples before `end`; answers how many there were.
    fn write_part(&self, name: &str, end: i64) -> Result<u64, Error> {
        let mut all: Vec<(Labels, u64)> =
            self.head.read().ids.iter().map(|(labels, id)| (labels.clone(), *id)).collect();
        all.sort_unstable();
        let mut writer = PartWriter::create(&self.disk, name)?;
        for step in all.chunks(STEP) {
            let (raws, floor) = {
                let head = self.head.read();
                let raws: Vec<_> = step.iter().filter_map(|(_, id)| head.series.get(id)).map(|one| one.raw()).collect();
                (raws, head.floor)
            };
            for raw in raws {
                writer.add(&raw.labels, raw.points(floor, end - 1))?;
            }
        }
        Ok(writer.finish()?.map_or(0, |summary| summary.samples))
    }

    /// Removes parts that are too old or too many.
    fn expire(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        let newest = self.head.read().max_time.into_iter().chain(parts.iter().map(|part| part.summary.max)).max();
        let cutoff = newest.zip(self.options.retention_ms).map(|(newest, age)| newest.saturating_sub(age));
        let mut room = self.options.retention_bytes.unwrap_or(u64::MAX);
        let mut gone = Vec::new();
        // The newest are kept first.
        for part in parts.iter().rev() {
            let old = cutoff.is_some_and(|cutoff| part.summary.max < cutoff);
            match room.checked_sub(part.len()).filter(|_| !old) {
                Some(left) => room = left,
                None => {
                    room = 0;
                    gone.push(part.name.clone());
                }
            }
        }
        if gone.is_empty() { Ok(()) } else { self.replace(&mut manifest, &gone, None) }
    }

    /// Takes parts out of the store and puts another in, in one step; the files of those that left are removed.
    pub(crate) fn replace(
        &self,
        manifest: &mut crate::manifest::Manifest,
        gone: &[String],
        new: Option<(usize, Part)>,
    ) -> Result<(), Error> {
        let mut next = manifest.clone();
        next.parts.retain(|name| !gone.contains(name));
        if let Some((place, part)) = &new {
            next.parts.insert((*place).min(next.parts.len()), part.name.clone());
        }
        next.publish(&self.disk)?;
        *manifest = next;
        {
            let mut parts = self.parts.write();
            parts.retain(|part| !gone.contains(&part.name));
            if let Some((place, part)) = new {
                let place = place.min(parts.len());
                parts.insert(place, Arc::new(part));
            }
        }
        // Readers that still hold a part keep its pages; the name may go.
        gone.iter().try_for_each(|name| self.disk.remove(name).map_err(Error::disk(format!("removing {name}"))))
    }
}
