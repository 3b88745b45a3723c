//! The files behind the journal: a snapshot, segments of records after it, and how a start finds its way in them.
//!
//! Format: `docs/format/pushgateway.md`. What is assumed of the disk: after a sync that said yes, and a sync of the
//! folder, bytes stay; a file whose sync failed is dead; a torn write is any mixture. So frames are checksummed and
//! numbered, a segment is left as soon as it is doubtful, the next one overrules what it repeats, and the snapshot is
//! only ever replaced whole. What cannot be read is set aside under another name and never overwritten.

use crate::{
    Key, frame, gob,
    graves::Graves,
    packed::{Corrupt, put_bytes, put_i64, take_bytes, take_i64},
    record::{Groups, Record, put_group, take_group},
};
use runtime::{Disk, File, Open};
use std::io;
use xxhash_rust::xxh64::xxh64;

const SNAPSHOT: &[u8; 8] = b"NXPGSNP1";
const SEGMENT: &[u8; 8] = b"NXPGLOG1";

/// Where the files are: a folder and the name that `--persistence.file` gave.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) disk: Disk,
    pub(crate) base: String,
}

/// What a start found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) groups: Groups,
    /// Number of the last record in `groups`.
    pub(crate) last: u64,
    /// What an operator must know.
    pub(crate) warnings: Vec<String>,
    /// Whether upstream's file was taken over.
    pub(crate) imported: bool,
    /// Segments to fold, those that are damaged apart.
    segments: Vec<String>,
    damaged: Vec<String>,
    next_segment: u64,
}

impl Place {
    fn segment(&self, number: u64) -> String {
        format!("{}.log.{number:08}", self.base)
    }

    /// Reads all there is, and makes one snapshot of it when there are segments. Safe to be cut off anywhere.
    ///
    /// # Errors
    /// When the disk cannot be read; what is damaged is no error.
    pub(crate) fn recover(&self) -> io::Result<Recovered> {
        let mut found = Recovered { next_segment: 1, ..Recovered::default() };
        self.read_snapshot(&mut found)?;
        self.read_segments(&mut found)?;
        if found.imported || !found.segments.is_empty() || !found.damaged.is_empty() {
            match self.fold_all(&found) {
                Ok(()) => found.segments.clear(),
                Err(error) => found.warnings.push(format!("the journal could not be folded at the start: {error}")),
            }
        }
        Ok(found)
    }

    /// A file as the disk has it, not as the cache of a predecessor that died would have it. `None` when there is none.
    fn read_truly(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match self.disk.open_file(name, Open::Write) {
            Ok(file) => file.sync_and_forget()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
        self.disk.read(name).map(Some)
    }

    fn read_snapshot(&self, found: &mut Recovered) -> io::Result<()> {
        let Some(bytes) = self.read_truly(&self.base)?.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if bytes.starts_with(SNAPSHOT)
            && let Ok((last, groups)) = take_snapshot(&bytes)
        {
            (found.last, found.groups) = (last, groups);
            return Ok(());
        }
        if !bytes.starts_with(SNAPSHOT)
            && let Ok(groups) = gob::read(&bytes)
        {
            let kept = format!("{}.upstream", self.base);
            self.disk.publish(&kept, &bytes)?;
            found.warnings.push(format!(
                "{} groups were taken over from a file of an upstream gateway, which is kept as {kept}",
                groups.0.len()
            ));
            (found.groups, found.imported) = (groups, true);
            return Ok(());
        }
        let aside = self.set_aside(&self.base)?;
        found.warnings.push(format!(
            "{} is damaged or no persistence file; it is kept as {aside}, and the gateway starts with what its journal \
             has",
            self.base
        ));
        Ok(())
    }

    fn set_aside(&self, name: &str) -> io::Result<String> {
        let names = self.disk.list("")?;
        let free = (1u32..).map(|n| format!("{}.damaged.{n}", self.base)).find(|name| !names.contains(name));
        let aside = free.ok_or(io::ErrorKind::AlreadyExists)?;
        self.disk.rename(name, &aside)?;
        self.disk.sync_dir("")?;
        Ok(aside)
    }

    fn read_segments(&self, found: &mut Recovered) -> io::Result<()> {
        let start = format!("{}.log.", self.base);
        let names = self.disk.list("")?;
        let numbered = names.iter().filter_map(|name| Some((name.strip_prefix(&start)?.parse::<u64>().ok()?, name)));
        let mut numbered: Vec<(u64, &String)> = numbered.collect();
        numbered.sort_unstable();
        let mut all: Vec<(u64, Record)> = Vec::new();
        for (number, name) in numbered {
            found.next_segment = found.next_segment.max(number + 1);
            let Some(bytes) = self.read_truly(name)? else { continue };
            let segment = take_segment(&bytes);
            // What is repeated was written anew after the earlier copy had become doubtful.
            if let Some((first, _)) = segment.records.first() {
                while all.last().is_some_and(|(number, _)| number >= first) {
                    all.pop();
                }
            }
            all.extend(segment.records);
            if segment.damaged {
                found.warnings.push(format!("{name} is damaged; what can be read of it is used, and it is kept aside"));
                found.damaged.push(name.clone());
            } else {
                found.segments.push(name.clone());
            }
        }
        let mut missing = 0;
        for (number, record) in all {
            // Below are the records that the snapshot has.
            let Some(skipped) = number.checked_sub(found.last + 1) else { continue };
            missing += skipped;
            found.last = number;
            found.groups.apply(record);
        }
        if missing > 0 {
            found.warnings.push(format!("{missing} changes are missing in the journal {}.log.*", self.base));
        }
        Ok(())
    }

    fn fold_all(&self, found: &Recovered) -> io::Result<()> {
        self.write_snapshot(found.last, &found.groups)?;
        for name in &found.damaged {
            self.set_aside(name)?;
        }
        self.remove(&found.segments)
    }

    /// Replaces the snapshot, answering its size.
    pub(crate) fn write_snapshot(&self, last: u64, groups: &Groups) -> io::Result<u64> {
        let bytes = snapshot(last, groups);
        self.disk.publish(&self.base, &bytes)?;
        Ok(bytes.len() as u64)
    }

    /// Removes segments whose records are in the snapshot.
    pub(crate) fn remove(&self, names: &[String]) -> io::Result<()> {
        for name in names {
            match self.disk.remove(name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if names.is_empty() { Ok(()) } else { self.disk.sync_dir("") }
    }
}

fn snapshot(last: u64, groups: &Groups) -> Vec<u8> {
    let mut out = SNAPSHOT.to_vec();
    put_i64(&mut out, last as i64);
    put_i64(&mut out, groups.0.len() as i64);
    for (key, group) in &groups.0 {
        put_group(&mut out, key, group);
    }
    if groups.1 != Graves::default() {
        put_i64(&mut out, groups.1.wiped());
        for (key, at) in groups.1.by_key() {
            put_bytes(&mut out, key.packed());
            put_i64(&mut out, *at);
        }
    }
    let sum = xxh64(&out, 0);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

fn take_snapshot(bytes: &[u8]) -> Result<(u64, Groups), Corrupt> {
    let (body, sum) = bytes.split_last_chunk::<8>().ok_or(Corrupt)?;
    if u64::from_le_bytes(*sum) != xxh64(body, 0) {
        return Err(Corrupt);
    }
    let mut rest = body.strip_prefix(SNAPSHOT).ok_or(Corrupt)?;
    let last = take_i64(&mut rest)? as u64;
    let count = take_i64(&mut rest)?;
    let mut groups = Groups::default();
    for _ in 0..count {
        let (key, group) = take_group(&mut rest)?;
        groups.0.insert(key, group);
    }
    if !rest.is_empty() {
        groups.1.wipe(take_i64(&mut rest)?);
    }
    while !rest.is_empty() {
        let key = Key::from_packed(take_bytes(&mut rest)?)?;
        groups.1.set(&key, Some(take_i64(&mut rest)?));
    }
    Ok((last, groups))
}

#[derive(Debug, Default)]
struct Segment {
    records: Vec<(u64, Record)>,
    /// Whole frames come after bytes that are none: more than an unfinished write at the end.
    damaged: bool,
}

fn take_segment(bytes: &[u8]) -> Segment {
    let mut segment = Segment::default();
    let mut rest = match bytes.strip_prefix(SEGMENT) {
        Some(rest) => rest,
        // A start that was cut off, or a damaged one: what follows tells.
        None => bytes.get(1..).unwrap_or_default(),
    };
    let mut broken = !bytes.starts_with(SEGMENT);
    while !rest.is_empty() {
        let Some((number, record, after)) = frame::take(rest) else {
            broken = true;
            rest = &rest[1..];
            continue;
        };
        segment.damaged |= broken;
        match Record::take(record) {
            Ok(record) => segment.records.push((number, record)),
            Err(Corrupt) => segment.damaged = true,
        }
        rest = after;
    }
    segment
}

/// The segments being written.
#[derive(Debug)]
pub(crate) struct Log {
    place: Place,
    open: Option<(File, String, u64)>,
    next_segment: u64,
    /// Segments that are no longer written and not yet in a snapshot.
    closed: Vec<String>,
    /// Bytes written since the last snapshot was begun.
    pub(crate) bytes: u64,
}

impl Log {
    /// A log that goes on after what was recovered, in a segment of its own.
    pub(crate) fn new(place: Place, found: &Recovered) -> Self {
        let closed = found.segments.clone();
        Self { place, open: None, next_segment: found.next_segment, closed, bytes: 0 }
    }

    /// Makes frames durable, or fails with nothing of them to be read back as long as the process lives.
    ///
    /// # Errors
    /// What the disk said; a later call may succeed.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let error = match self.try_append(frames) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        // A full disk is full for a new file too; anything else may be the fault of this one.
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(error);
        }
        tracing::warn!(error = %error, "The journal could not be written and is continued in a new file");
        self.close();
        self.try_append(frames)
    }

    fn try_append(&mut self, frames: &[u8]) -> io::Result<()> {
        let Some((file, _, length)) = &mut self.open else { return self.begin(frames) };
        let written = file.write_at(*length, frames).and_then(|()| file.sync());
        match written {
            Ok(()) => {
                *length += frames.len() as u64;
                self.bytes += frames.len() as u64;
                Ok(())
            }
            Err(error) => {
                // A failed sync has made the file dead, and then this fails as well.
                if file.set_len(*length).is_err() {
                    self.close();
                }
                Err(error)
            }
        }
    }

    /// Opens a segment whose first frames these are.
    fn begin(&mut self, frames: &[u8]) -> io::Result<()> {
        let name = self.place.segment(self.next_segment);
        self.next_segment += 1;
        let bytes = [SEGMENT, frames].concat();
        let disk = &self.place.disk;
        let file = disk.open_file(&name, Open::Create)?;
        let written = file.write_at(0, &bytes).and_then(|()| file.sync()).and_then(|()| disk.sync_dir(""));
        if let Err(error) = written {
            if disk.remove(&name).is_err() {
                self.closed.push(name);
            }
            return Err(error);
        }
        self.bytes += bytes.len() as u64;
        self.open = Some((file, name, bytes.len() as u64));
        Ok(())
    }

    fn close(&mut self) {
        if let Some((_, name, _)) = self.open.take() {
            self.closed.push(name);
        }
    }

    /// Leaves the open segment, so that a snapshot of now covers all of the segments named in the answer.
    pub(crate) fn rotate(&mut self) -> Vec<String> {
        self.close();
        self.bytes = 0;
        self.closed.clone()
    }

    /// Forgets segments that were removed.
    pub(crate) fn removed(&mut self, names: &[String]) {
        self.closed.retain(|name| !names.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key::key, store::Push};

    /// The bytes of the example in the format's page.
    fn example() -> Vec<u8> {
        let page = include_str!("../../docs/format/pushgateway.md");
        let block = page.split("## Example").nth(1).and_then(|rest| rest.split("```").nth(1)).expect("a block");
        block.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal")).collect()
    }

    #[test]
    fn the_example_of_the_page_is_what_is_written_and_read() {
        let families = exposition::families::parse_text(b"m 1\n").expect("valid");
        let key = key(&[("job", "a")]);
        let push = Push::new(key.clone(), crate::body::Body { families, mismatch: None });
        let record = Record::Push { key, at: 1000, ttl: 0, replace: true, families: push.packed(1000) };
        let mut bytes = SEGMENT.to_vec();
        frame::put(&mut bytes, 1, |out| record.put(out));
        assert_eq!(bytes, example(), "{bytes:02x?}");
        let segment = take_segment(&example());
        assert!(!segment.damaged);
        assert_eq!(segment.records, [(1, record)]);
    }

    #[test]
    fn a_snapshot_is_read_back_and_every_bit_of_it_counts() {
        let mut groups = Groups::default();
        groups.apply(Record::Failed { key: key(&[("job", "a"), ("x", "")]), at: 7 });
        groups.apply(Record::Wipe { at: 5 });
        groups.apply(Record::Delete { key: key(&[("job", "gone")]), at: 8 });
        let bytes = snapshot(9, &groups);
        assert_eq!(take_snapshot(&bytes), Ok((9, groups)));
        for bit in 0..bytes.len() * 8 {
            let mut broken = bytes.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(take_snapshot(&broken), Err(Corrupt), "bit {bit}");
        }
    }
}
