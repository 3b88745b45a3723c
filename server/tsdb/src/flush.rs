//! From head to part: when enough time has gathered, its oldest range becomes a file and leaves memory and log.

use crate::{
    Error, Tsdb,
    head::{Points, Side, segments},
    manifest::Manifest,
    part::Part,
    snapshot::{self, Cut},
    tombstones,
    writer::{PartWriter, WINDOW_MS},
};
use runtime::Log;
use std::sync::{Arc, atomic::Ordering};

/// Series decoded under one lock.
const STEP: usize = 32;
/// Series moved by one call of maintenance when slots have become free; some hundredths of a second.
const MOVES_MAX: usize = 50_000;
/// Samples out of order that wait in memory for the next part.
const LATE_MAX: usize = 1 << 20;

impl Tsdb {
    /// Does what is due: full segments of the head go to files, ranges of the head become parts, parts are merged, old
    /// parts go, the head is written as a snapshot. Call it every half minute, from a thread that may block. Memory: one
    /// group of series, and twelve bytes a series while they are put in order.
    ///
    /// # Errors
    /// [`Error`]; nothing is lost, and the next call tries again.
    pub fn maintain(&self) -> Result<(), Error> {
        self.head.write().compact(MOVES_MAX);
        let moved = self.move_due();
        // What is too old goes even when nothing can be written: it may be what fills the disk.
        self.expire()?;
        moved?;
        while self.merge(false)? {}
        if self.snapshot_due() {
            self.write_snapshot()?;
        }
        Ok(())
    }

    /// Moves what is due from memory to files.
    fn move_due(&self) -> Result<(), Error> {
        self.save_segments()?;
        let mut flushed = false;
        while let Some(end) = self.flush_due() {
            self.flush(end)?;
            flushed = true;
        }
        if flushed || self.late_due() {
            self.flush_late()?;
        }
        Ok(())
    }

    /// Writes the ended segments of the head into files.
    fn save_segments(&self) -> Result<(), Error> {
        let unsaved = self.head.read().segments.unsaved();
        for segment in unsaved {
            let saved = segments::save(&self.disk, &segment)?;
            self.head.write().segments.replace(saved);
        }
        Ok(())
    }

    /// The end of the oldest range of the head, once half a range more has gathered behind it.
    fn flush_due(&self) -> Option<i64> {
        let end = self.oldest_range()?;
        (self.head.read().max_time? >= end.saturating_add(self.options.part_ms / 2)).then_some(end)
    }

    /// The end of the oldest range of the head.
    fn oldest_range(&self) -> Option<i64> {
        let (head, length) = (self.head.read(), self.options.part_ms);
        let oldest = head.min_time?.max(head.floor).max(head.flush_from);
        oldest.div_euclid(length).checked_add(1)?.checked_mul(length)
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
        self.flush_late()?;
        while self.merge(true)? {}
        self.bury(&mut self.manifest.lock())
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
        let (moved, written) = self.write_part(&part_name, end)?;
        if moved == 0 {
            self.skip_gap(end);
            return Ok(());
        }
        let cut = Cut { floor: end, late: i64::MIN, samples: moved };
        let (old, record) = self.snapshot_into(&mut next, cut, None)?;
        let part = written.then(|| Part::open(&self.disk, &part_name)).transpose()?;
        next.parts.extend(part.as_ref().map(|part| part.name.clone()));
        next.floor = end;
        next.publish(&self.disk)?;
        *manifest = next;
        let dropped = {
            let mut parts = self.parts.write();
            let mut head = self.head.write();
            parts.extend(part.map(Arc::new));
            head.truncate(end, moved)
        };
        self.after_snapshot(old, record)?;
        for number in dropped {
            let name = segments::name(number);
            self.disk.remove(&name).map_err(Error::disk(format!("removing {name}")))?;
        }
        Ok(())
    }

    /// Finds where samples go on after a time before which there are none; ranges in between are not looked at one by
    /// one. O(samples in memory), which is for those who pause.
    fn skip_gap(&self, end: i64) {
        // Commits meanwhile lower it.
        self.head.write().flush_from = i64::MAX;
        let slots: Vec<u32> = self.head.read().slots().map(|(slot, _)| slot).collect();
        let (mut oldest, mut builder) = (i64::MAX, model::Builder::default());
        for step in slots.chunks(STEP) {
            let raws: Vec<_> = {
                let head = self.head.read();
                let shared = head.shared();
                step.iter().map(|slot| head.raw(*slot, &shared, &mut builder)).collect()
            };
            for raw in raws {
                oldest = oldest.min(raw.readable(end, i64::MAX).0.range().map_or(i64::MAX, |(first, _)| first));
            }
        }
        let mut head = self.head.write();
        head.flush_from = head.flush_from.min(oldest).max(end);
    }

    /// Writes a snapshot into the manifest to be, without what was cut off. Commits wait for it, all along when the log
    /// is given. Answers the snapshot that it replaces, and the last record of the log that is in it.
    fn snapshot_into(
        &self,
        next: &mut Manifest,
        cut: Cut,
        held: Option<&mut Log>,
    ) -> Result<(Option<String>, u64), Error> {
        let name = next.name("head");
        let write = |log: &mut Log| {
            log.rotate().map_err(Error::disk("syncing the log"))?;
            self.head.write().segments.freeze();
            let (head, ring) = (self.head.read(), self.exemplars.lock());
            snapshot::write(&self.disk, &name, &head, &ring, cut)?;
            Ok(log.last())
        };
        let record = match held {
            Some(log) => write(log)?,
            None => write(&mut self.log.lock())?,
        };
        let published = self.save_segments().and_then(|()| snapshot::publish(&self.disk, &name));
        if let Err(error) = published {
            // Best effort: a leftover is removed at the next start.
            let _ = self.disk.remove(&snapshot::temporary(&name));
            return Err(error);
        }
        let old = next.snapshot.replace((name, record)).map(|(name, _)| name);
        Ok((old, record))
    }

    /// Gives up what a snapshot that counts has made needless.
    fn after_snapshot(&self, old: Option<String>, record: u64) -> Result<(), Error> {
        if let Some(name) = old {
            self.disk.remove(&name).map_err(Error::disk(format!("removing {name}")))?;
        }
        *self.snapshot_at.lock() = self.head.read().max_time;
        self.log.lock().forget(record).map_err(Error::disk("removing log segments"))
    }

    /// Whether the newest sample has advanced enough since the last snapshot.
    fn snapshot_due(&self) -> bool {
        let (newest, at) = (self.head.read().max_time, *self.snapshot_at.lock());
        newest.is_some_and(|newest| at.is_none_or(|at| newest.saturating_sub(at) >= self.options.snapshot_ms))
    }

    /// Writes the head as a snapshot, so that the next start reads only what comes after.
    fn write_snapshot(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        let cut = Cut { floor: manifest.floor, late: i64::MIN, samples: 0 };
        let (old, record) = self.snapshot_into(&mut next, cut, None)?;
        next.publish(&self.disk)?;
        *manifest = next;
        self.after_snapshot(old, record)
    }

    /// Writes the samples before `end` that came in order; answers how many there were, and whether any is left of them.
    fn write_part(&self, name: &str, end: i64) -> Result<(u64, bool), Error> {
        let (slots, mut moved) = (self.head.read().sorted_slots(), 0);
        let tombstones = self.tombstones.read().clone();
        let mut writer = PartWriter::create(&self.disk, name, WINDOW_MS)?;
        let mut builder = model::Builder::default();
        for step in slots.chunks(STEP) {
            let (raws, floor) = {
                let head = self.head.read();
                let shared = head.shared();
                let raws: Vec<_> = step.iter().map(|slot| head.raw(*slot, &shared, &mut builder)).collect();
                (raws, head.floor)
            };
            for raw in raws {
                let (mut points, damage) = raw.readable(floor, end - 1);
                if let Some(file) = damage {
                    // Waiting would not mend it, and would keep all others in memory.
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(series = %raw.labels, file = file.0, "samples of a series cannot be read and are lost");
                }
                moved += points.len() as u64;
                tombstones::cut(tombstones.iter(), &raw.labels, &mut points);
                writer.add(&raw.labels, points)?;
            }
        }
        Ok((moved, writer.finish()?.is_some()))
    }

    /// Takes in series from elsewhere as a part of their own, which may overlap others: `next` gives them by labels until
    /// there are none, samples ascending by time. Answers the counts of series and samples. Memory: a group of series.
    ///
    /// # Errors
    /// What `next` says, and [`Error`]; nothing was taken in then.
    pub fn import<E: From<Error>>(
        &self,
        next: &mut dyn FnMut() -> Result<Option<storage::Columns>, E>,
    ) -> Result<Option<(u64, u64)>, E> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        let name = changed.name("part");
        manifest.next_file = changed.next_file;
        let mut writer = PartWriter::create(&self.disk, &name, WINDOW_MS)?;
        while let Some(columns) = next()? {
            let points = Points {
                times: columns.times.to_vec(),
                values: columns.values.to_vec(),
                histograms: columns.histograms,
                starts: columns.starts,
            };
            writer.add(&columns.labels, points)?;
        }
        let Some(summary) = writer.finish()? else { return Ok(None) };
        let part = Part::open(&self.disk, &name)?;
        let place = self.parts.read().partition_point(|have| have.summary.min <= summary.min);
        self.replace(&mut manifest, &[], Some((place, part)))?;
        Ok(Some((summary.series, summary.samples)))
    }

    /// Writes the whole head as a part, for a copy of the store; answers whether there was anything.
    pub(crate) fn write_head(&self, name: &str) -> Result<bool, Error> {
        let (slots, tombstones) = (self.head.read().sorted_slots(), self.tombstones.read().clone());
        let mut writer = PartWriter::create(&self.disk, name, WINDOW_MS)?;
        let mut builder = model::Builder::default();
        for slot in slots {
            let (raw, floor) = {
                let head = self.head.read();
                (head.raw(slot, &head.shared(), &mut builder), head.floor)
            };
            let mut points =
                raw.points(i64::MIN, i64::MAX, floor).map_err(|file| Error::damaged(&file.0, "unreadable"))?;
            tombstones::cut(tombstones.iter(), &raw.labels, &mut points);
            writer.add(&raw.labels, points)?;
        }
        Ok(writer.finish()?.is_some())
    }

    /// Whether too many samples that came out of order wait in memory for the next part.
    fn late_due(&self) -> bool {
        let head = self.head.read();
        let waits = head.late_range.is_some_and(|(min, _)| min < head.floor);
        waits && head.sides.values().map(|side| side.late.len()).sum::<usize>() > LATE_MAX
    }

    /// Moves the samples that came out of order, from ranges that are in parts already, into parts of their own. Commits
    /// wait until they have left memory.
    fn flush_late(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let floor = manifest.floor;
        if self.head.read().late_range.is_none_or(|(min, _)| min >= floor) {
            return Ok(());
        }
        let mut next = manifest.clone();
        let mut log = self.log.lock();
        let (mut new, mut from, mut samples) = (Vec::new(), i64::MIN, 0);
        while let Some(end) = self.late_range_from(from, floor) {
            let name = next.name("part");
            let (moved, written) = self.write_late(&name, from, end)?;
            samples += moved;
            if written {
                new.push(Arc::new(Part::open(&self.disk, &name)?));
            }
            from = end;
        }
        let cut = Cut { floor, late: floor, samples };
        let (old, record) = self.snapshot_into(&mut next, cut, Some(&mut log))?;
        let mut all = self.parts.read().clone();
        for part in new {
            all.insert(all.partition_point(|have| have.summary.min <= part.summary.min), part);
        }
        next.parts = all.iter().map(|part| part.name.clone()).collect();
        next.publish(&self.disk)?;
        *manifest = next;
        {
            let mut parts = self.parts.write();
            *parts = all;
            self.head.write().drop_late(floor, samples);
        }
        drop(log);
        self.after_snapshot(old, record)
    }

    /// The end of the first range that has samples out of order from `from` on and before `floor`.
    fn late_range_from(&self, from: i64, floor: i64) -> Option<i64> {
        let (head, length) = (self.head.read(), self.options.part_ms);
        let first = |side: &Side| side.late.iter().map(|(at, _)| *at).find(|at| *at >= from);
        let first = head.sides.values().filter_map(|side| first(side)).min().filter(|first| *first < floor)?;
        Some(first.div_euclid(length).saturating_add(1).saturating_mul(length).min(floor))
    }

    fn write_late(&self, name: &str, from: i64, end: i64) -> Result<(u64, bool), Error> {
        let (tombstones, mut moved) = (self.tombstones.read().clone(), 0);
        let head = self.head.read();
        let (mut builder, shared) = (model::Builder::default(), head.shared());
        let mut raws: Vec<_> = head
            .sides
            .iter()
            .filter(|(_, side)| !side.late.is_empty())
            .map(|(slot, _)| head.raw(*slot, &shared, &mut builder))
            .collect();
        drop(head);
        raws.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let mut writer = PartWriter::create(&self.disk, name, WINDOW_MS)?;
        for raw in raws {
            let mut points = raw.late(from, end - 1);
            moved += points.len() as u64;
            tombstones::cut(tombstones.iter(), &raw.labels, &mut points);
            writer.add(&raw.labels, points)?;
        }
        Ok((moved, writer.finish()?.is_some()))
    }

    /// Removes parts that are too old or too many.
    fn expire(&self) -> Result<(), Error> {
        let mut manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        let newest = self.head.read().max_time.into_iter().chain(parts.iter().map(|part| part.summary.max)).max();
        // Where series have a retention of their own, parts are cut and not dropped.
        let same = self.retention.read().is_empty();
        let age = self.options.retention_ms.filter(|_| same);
        let cutoff = newest.zip(age).map(|(newest, age)| newest.saturating_sub(age));
        let mut room = self.room();
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
        if !gone.is_empty() {
            self.replace(&mut manifest, &gone, None)?;
        }
        self.bury(&mut manifest)?;
        drop(manifest);
        if same { Ok(()) } else { newest.map_or(Ok(()), |newest| self.expire_series(newest)) }
    }

    /// Bytes that parts may have: what was set, or the share of the disk without the log.
    fn room(&self) -> u64 {
        let bytes = self.options.retention_bytes.unwrap_or(u64::MAX);
        let share = self.options.retention_percentage.and_then(|percent| {
            let total = self.disk.space().ok()?.total as f64;
            Some(((total * percent / 100.0) as u64).saturating_sub(self.log_bytes()))
        });
        bytes.min(share.unwrap_or(u64::MAX))
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
