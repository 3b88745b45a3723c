//! A log in segments of framed, checksummed records: what an accepted record costs is one write.
//!
//! [`Log::append`] returns once the record is with the kernel, so that a killed process loses nothing; [`Log::sync`]
//! makes all records before it survive a power cut. The format is `docs/format/log.md`. What this leaves out: what a
//! record means, compression, and when to sync or forget, which belong to the store above.

use crate::disk::{Disk, File, Open};
use std::io;

/// First bytes of every segment; the last one is the version.
const MAGIC: &[u8; 8] = b"NXLOG\0\0\x01";
/// The folder inside the log's own where unreadable bytes are kept.
const ASIDE: &str = "aside";

/// Sizes of a log, small ones for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A segment that has reached this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// The largest payload.
    pub record_bytes_max: usize,
    /// Unsynced records are kept in memory until they are durable; beyond this many bytes an append syncs first.
    pub unsynced_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, record_bytes_max: 64 << 20, unsynced_bytes_max: 4 << 20 }
    }
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Records given to the caller.
    pub records: u64,
    /// Bytes that were no whole record and were set aside.
    pub torn_bytes: u64,
    /// Numbers missing between readable records: damage, not a torn end.
    pub lost: u64,
}

/// A log open for writing.
#[derive(Debug)]
pub struct Log {
    disk: Disk,
    folder: String,
    options: LogOptions,
    /// None after a failure that left the last segment unusable: the next append opens another.
    segment: Option<Segment>,
    /// Earlier segments, oldest first, with the number of their last record.
    sealed: Vec<(String, u64, u64)>,
    names: u64,
    next: u64,
    synced: u64,
    /// The frames after `synced`, to be written again should a sync fail.
    unsynced: Vec<u8>,
    read_only: bool,
}

#[derive(Debug)]
struct Segment {
    file: File,
    name: String,
    at: u64,
}

/// Why the log takes nothing more; [`io::ErrorKind::ReadOnlyFilesystem`] tells it from a full disk.
fn read_only() -> io::Error {
    let text = "the log could not be made durable and takes no more records; mend the disk and restart";
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, text)
}

fn frame(number: u64, payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_le_bytes();
    let number = number.to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, number, payload).to_le_bytes());
    out.extend_from_slice(&number);
    out.extend_from_slice(payload);
}

/// Over length, number and payload: a damaged length must not pass for a shorter record.
fn checksum(length: [u8; 4], number: [u8; 8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&length), &number), payload)
}

/// The first record of `bytes` and what follows it, if it is whole.
fn unframe(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (checksum(*length, *number, payload) == u32::from_le_bytes(*sum)).then_some((
        u64::from_le_bytes(*number),
        payload,
        rest,
    ))
}

impl Log {
    /// Opens the log in `folder`, made when missing, and gives every record to `replay` in the order of its number,
    /// from 1. Bytes that are no whole record are moved to the folder `aside`. Memory: one segment.
    ///
    /// # Errors
    /// What the disk says, or what `replay` answers.
    pub fn open(
        disk: &Disk,
        folder: &str,
        options: LogOptions,
        replay: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<(Self, Recovery)> {
        Self::open_watched(disk, folder, options, replay, |_, _, _| {})
    }

    /// As [`Log::open`]; tells `watch` before each segment the numbers of the first one, of this one and of the last.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn open_watched(
        disk: &Disk,
        folder: &str,
        options: LogOptions,
        mut replay: impl FnMut(u64, &[u8]) -> io::Result<()>,
        mut watch: impl FnMut(u64, u64, u64),
    ) -> io::Result<(Self, Recovery)> {
        disk.create_dir(folder)?;
        disk.sync_dir("")?;
        let mut log = Self {
            disk: disk.clone(),
            folder: folder.to_owned(),
            options,
            segment: None,
            sealed: Vec::new(),
            names: 1,
            next: 1,
            synced: 0,
            unsynced: Vec::new(),
            read_only: false,
        };
        let mut recovery = Recovery::default();
        let number = |name: &String| name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok());
        let names = disk.list(folder)?;
        let segments: Vec<(u64, &String)> = names.iter().filter_map(|name| Some((number(name)?, name))).collect();
        for (number, name) in &segments {
            let (first, last) =
                (segments.first().map_or(0, |(number, _)| *number), segments.last().map_or(0, |(n, _)| *n));
            watch(first, *number, last);
            log.names = log.names.max(number.saturating_add(1));
            log.recover(name, &mut recovery, &mut replay)?;
        }
        disk.sync_dir(folder)?;
        log.synced = log.next - 1;
        Ok((log, recovery))
    }

    /// Reads one segment and cuts what is torn off its end.
    fn recover(
        &mut self,
        name: &str,
        recovery: &mut Recovery,
        replay: &mut impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = self.path(name);
        let file = self.disk.open_file(&path, Open::Write)?;
        // What a killed predecessor left in the cache may never reach the disk: read what is really there.
        file.sync_and_forget()?;
        let bytes = self.disk.read(&path)?;
        let mut rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
        let mut good = if bytes.starts_with(MAGIC) { MAGIC.len() } else { 0 };
        let mut any = false;
        while let Some((number, payload, after)) = unframe(rest) {
            // Records written twice, because a sync failed in between, are met again and passed over.
            if number >= self.next {
                // What comes before the first record was forgotten.
                recovery.lost += if recovery.records > 0 { number - self.next } else { 0 };
                replay(number, payload)?;
                recovery.records += 1;
                self.next = number + 1;
            }
            any = true;
            good = bytes.len() - after.len();
            rest = after;
        }
        if good < bytes.len() {
            recovery.torn_bytes += (bytes.len() - good) as u64;
            self.set_aside(name, good, &bytes[good..])?;
            file.set_len(good as u64)?;
            file.sync()?;
        }
        if any {
            self.sealed.push((name.to_owned(), self.next - 1, good as u64));
        } else {
            self.disk.remove(&path)?;
        }
        Ok(())
    }

    fn set_aside(&self, name: &str, at: usize, bytes: &[u8]) -> io::Result<()> {
        let folder = self.path(ASIDE);
        self.disk.create_dir(&folder)?;
        self.disk.sync_dir(&self.folder)?;
        self.disk.publish(&format!("{folder}/{name}-{at}"), bytes)?;
        tracing::warn!(
            segment = name,
            at,
            bytes = bytes.len(),
            "the end of a log segment is no whole record, set aside"
        );
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    /// Adds a record and answers its number. On `Ok` it survives the end of the process. After an error it is not in
    /// the log, and the next append may work: a full disk leaves the log as it was.
    ///
    /// # Errors
    /// What the disk says; `InvalidInput` for a payload over the limit; `ReadOnlyFilesystem` when nothing more is taken.
    pub fn append(&mut self, payload: &[u8]) -> io::Result<u64> {
        if payload.len() > self.options.record_bytes_max {
            let text = format!("a record of {} bytes is over the limit of the log", payload.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        if self.unsynced.len() >= self.options.unsynced_bytes_max {
            self.sync()?;
        }
        self.ready()?;
        let before = self.unsynced.len();
        frame(self.next, payload, &mut self.unsynced);
        if let Err(error) = self.write_tail(before) {
            self.unsynced.truncate(before);
            return Err(error);
        }
        self.next += 1;
        Ok(self.next - 1)
    }

    /// Writes the unsynced bytes from `from` on; after an error the segment ends where it did.
    fn write_tail(&mut self, from: usize) -> io::Result<()> {
        let Some(segment) = &mut self.segment else { return Err(read_only()) };
        let bytes = &self.unsynced[from..];
        if let Err(error) = segment.file.write_at(segment.at, bytes) {
            if segment.file.set_len(segment.at).is_err() {
                self.abandon();
            }
            return Err(error);
        }
        segment.at += bytes.len() as u64;
        Ok(())
    }

    /// Makes all records durable and answers the number of the last one.
    ///
    /// # Errors
    /// What the disk says. A failed sync is final for its file: the records are written to a new segment once, and when
    /// that fails too the log takes nothing more.
    pub fn sync(&mut self) -> io::Result<u64> {
        if self.read_only {
            return Err(read_only());
        }
        if self.unsynced.is_empty() {
            return Ok(self.synced);
        }
        let first = self.segment.as_ref().map_or_else(|| Err(read_only()), |segment| segment.file.sync());
        if let Err(error) = first {
            tracing::error!(%error, "syncing the log failed, writing its records to a new segment");
            self.abandon();
            if let Err(error) = self.rewrite() {
                self.read_only = true;
                return Err(error);
            }
        }
        self.unsynced.clear();
        self.synced = self.next - 1;
        Ok(self.synced)
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.new_segment()?;
        self.write_tail(0)?;
        self.segment.as_ref().map_or_else(|| Err(read_only()), |segment| segment.file.sync())
    }

    /// A segment that takes a record.
    fn ready(&mut self) -> io::Result<()> {
        if self.read_only {
            return Err(read_only());
        }
        match &self.segment {
            Some(segment) if segment.at < self.options.segment_bytes => return Ok(()),
            Some(_) => {
                self.sync()?;
                self.abandon();
            }
            // Records that only an unusable segment holds come first.
            None if !self.unsynced.is_empty() => {
                self.rewrite()?;
                self.unsynced.clear();
                self.synced = self.next - 1;
                return Ok(());
            }
            None => {}
        }
        self.new_segment()
    }

    /// Writes no more to the last segment.
    fn abandon(&mut self) {
        if let Some(segment) = self.segment.take() {
            self.sealed.push((segment.name, self.next - 1, segment.at));
        }
    }

    fn new_segment(&mut self) -> io::Result<()> {
        let name = format!("{:08}.log", self.names);
        self.names += 1;
        let file = self.disk.open_file(&self.path(&name), Open::Create)?;
        file.write_at(0, MAGIC)?;
        self.disk.sync_dir(&self.folder)?;
        self.segment = Some(Segment { file, name, at: MAGIC.len() as u64 });
        Ok(())
    }

    /// Ends the segment in use, so that [`Log::forget`] may remove it once its records are stored elsewhere.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        self.abandon();
        Ok(())
    }

    /// Removes the segments whose records all have numbers up to `number`. What stays is kept whole.
    ///
    /// # Errors
    /// What the disk says; what could not be removed stays known.
    pub fn forget(&mut self, number: u64) -> io::Result<()> {
        while let Some((name, _, _)) = self.sealed.first().filter(|(_, last, _)| *last <= number) {
            self.disk.remove(&self.path(name))?;
            // One at a time, so that a crash leaves no gap that looks like damage.
            self.disk.sync_dir(&self.folder)?;
            self.sealed.remove(0);
        }
        Ok(())
    }

    /// Whether the next record begins a segment, unless it is refused.
    pub fn begins_segment(&self) -> bool {
        self.segment.as_ref().is_none_or(|segment| segment.at >= self.options.segment_bytes)
    }

    /// The number of the last record; 0 before the first.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The number of the last durable record.
    pub fn synced(&self) -> u64 {
        self.synced
    }

    /// Numbers go on after `number`: for a store that knows of records which the log no longer holds.
    pub fn skip_to(&mut self, number: u64) {
        if self.next <= number {
            self.next = number + 1;
            self.synced = number;
        }
    }

    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.sealed.iter().map(|(_, _, bytes)| bytes).sum::<u64>() + self.segment.as_ref().map_or(0, |open| open.at)
    }

    /// Segments on disk.
    pub fn segments(&self) -> usize {
        self.sealed.len() + usize::from(self.segment.is_some())
    }

    /// Whether a failure ended the log for this process.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }
}
