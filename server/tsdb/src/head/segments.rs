//! Sealed chunks: appended to segments, each pointing to the one before of its series, so that a series knows its newest
//! only. A full segment goes to a file and is mapped, so that it is page cache and not memory of ours.
//!
//! Layout of a chunk: `docs/format/head.md`. When segments are written and which count is the business of `snapshot` and
//! `flush`.

use crate::{Error, disk_format::Unreadable};
use chunk::{stream::decode, varint};
use runtime::{Disk, Mapped, Open};
use std::sync::Arc;

/// First bytes of a segment; the last one is the version.
pub(crate) const MAGIC: &[u8; 8] = b"NXCHNK\0\x01";
/// Bytes of a chunk beside its samples at most.
const CHUNK_HEAD_MAX: usize = 64;
/// What files of segments are called.
pub(crate) const PREFIX: &str = "chunks-";

/// Where a sealed chunk is. Segment 0 is nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// A chunk that takes no more samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) before: Position,
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) count: u16,
    pub(crate) repeats: u16,
    pub(crate) bytes: &'a [u8],
}

/// A segment that takes no more chunks.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) min: i64,
    pub(crate) max: i64,
    pub(crate) chunks: u64,
    /// Whether it is in a file that survives a power cut.
    pub(crate) saved: bool,
    pub(crate) bytes: Mapped,
}

/// All segments, oldest first, and the one that takes chunks.
#[derive(Debug)]
pub(crate) struct Segments {
    limit: usize,
    /// Chunks this far apart in time never share a segment, so that a segment's range tells where samples are.
    gap: i64,
    /// Readers hold it as it was when they came.
    sealed: Arc<Vec<Arc<Segment>>>,
    number: u32,
    open: Vec<u8>,
    range: Option<(i64, i64)>,
    chunks: u64,
}

pub(crate) fn name(number: u32) -> String {
    format!("{PREFIX}{number:08}")
}

impl Segments {
    pub(crate) fn new(limit: usize, gap: i64) -> Self {
        Self { limit, gap, sealed: Arc::default(), number: 1, open: Vec::new(), range: None, chunks: 0 }
    }

    /// Appends a chunk. O(its bytes).
    pub(crate) fn push(&mut self, chunk: &Sealed<'_>) -> Position {
        let apart = |(min, max): (i64, i64)| {
            chunk.min.saturating_sub(max) > self.gap || min.saturating_sub(chunk.max) > self.gap
        };
        if self.open.len() >= self.limit || self.range.is_some_and(apart) {
            self.freeze();
        }
        if self.open.is_empty() {
            // Pages not written to yet are not memory; growing by doubling would be.
            self.open.reserve_exact(self.limit + chunk.bytes.len() + CHUNK_HEAD_MAX);
            self.open.extend_from_slice(MAGIC);
        }
        let at = self.open.len();
        self.open.extend_from_slice(&[0; 4]);
        let back = if chunk.before.segment == 0 { 0 } else { self.number - chunk.before.segment + 1 };
        varint::put(back.into(), &mut self.open);
        varint::put(chunk.before.offset.into(), &mut self.open);
        varint::put_signed(chunk.min, &mut self.open);
        varint::put(chunk.max.wrapping_sub(chunk.min) as u64, &mut self.open);
        varint::put(chunk.count.into(), &mut self.open);
        varint::put(chunk.repeats.into(), &mut self.open);
        varint::put(chunk.bytes.len() as u64, &mut self.open);
        self.open.extend_from_slice(chunk.bytes);
        let sum = crc32c::crc32c(&self.open[at + 4..]);
        self.open[at..at + 4].copy_from_slice(&sum.to_le_bytes());
        let (min, max) = self.range.unwrap_or((chunk.min, chunk.max));
        self.range = Some((min.min(chunk.min), max.max(chunk.max)));
        self.chunks += 1;
        Position { segment: self.number, offset: at as u32 }
    }

    /// Ends the open segment.
    pub(crate) fn freeze(&mut self) {
        let Some((min, max)) = self.range.take() else { return };
        let mut bytes = std::mem::take(&mut self.open);
        bytes.shrink_to_fit();
        let segment =
            Segment { number: self.number, min, max, chunks: self.chunks, saved: false, bytes: Mapped::owned(bytes) };
        Arc::make_mut(&mut self.sealed).push(Arc::new(segment));
        self.chunks = 0;
        self.number += 1;
    }

    /// Segments that are only in memory.
    pub(crate) fn unsaved(&self) -> Vec<Arc<Segment>> {
        self.sealed.iter().filter(|segment| !segment.saved).cloned().collect()
    }

    /// Puts a segment in the place of the one with its number.
    pub(crate) fn replace(&mut self, saved: Segment) {
        if let Some(place) = Arc::make_mut(&mut self.sealed).iter_mut().find(|have| have.number == saved.number) {
            *place = Arc::new(saved);
        }
    }

    /// Adds a segment that was read at the start; numbers ascend.
    pub(crate) fn restore(&mut self, segment: Segment) {
        self.number = self.number.max(segment.number + 1);
        Arc::make_mut(&mut self.sealed).push(Arc::new(segment));
    }

    /// New segments get numbers from here on.
    pub(crate) fn skip_to(&mut self, number: u32) {
        self.number = self.number.max(number);
    }

    /// The number of the open segment.
    pub(crate) fn next(&self) -> u32 {
        self.number
    }

    /// The ended segments.
    pub(crate) fn sealed(&self) -> &Arc<Vec<Arc<Segment>>> {
        &self.sealed
    }

    /// Gives up the segments wholly before a time; answers the numbers of those in files.
    pub(crate) fn drop_before(&mut self, cutoff: i64) -> Vec<u32> {
        let gone = |segment: &&Arc<Segment>| segment.max < cutoff && segment.saved;
        let gone = self.sealed.iter().filter(gone).map(|segment| segment.number).collect();
        Arc::make_mut(&mut self.sealed).retain(|segment| segment.max >= cutoff);
        gone
    }

    /// First and last time of each segment, the open one included.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.sealed.iter().map(|segment| (segment.min, segment.max)).chain(self.range)
    }

    /// Chunks of all segments.
    pub(crate) fn chunks(&self) -> u64 {
        self.chunks + self.sealed.iter().map(|segment| segment.chunks).sum::<u64>()
    }

    /// Bytes that are memory of ours, and bytes in files.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let (mut memory, mut files) = (self.open.capacity() as u64, 0);
        for segment in self.sealed.iter() {
            *(if segment.saved { &mut files } else { &mut memory }) += segment.bytes.len() as u64;
        }
        (memory, files)
    }

    /// The chunks of a series that are in the open segment, newest first, as bytes that can be read without this; and
    /// where to go on.
    pub(crate) fn open_chunks(&self, mut at: Position, out: &mut Vec<u8>) -> Position {
        while at.segment == self.number {
            let Ok((chunk, length)) = chunk(&self.open, at) else { break };
            out.extend_from_slice(&self.open[at.offset as usize..at.offset as usize + length]);
            at = chunk.before;
        }
        at
    }
}

/// The chunk at a place of a segment's bytes, and how many bytes it has.
pub(crate) fn chunk(bytes: &[u8], at: Position) -> Result<(Sealed<'_>, usize), Unreadable> {
    let damaged = || Unreadable(name(at.segment));
    let whole = bytes.get(at.offset as usize..).ok_or_else(damaged)?;
    let (sum, body) = whole.split_first_chunk::<4>().ok_or_else(damaged)?;
    let mut rest = body;
    let chunk = take(&mut rest, at.segment).map_err(|chunk::Damaged| damaged())?;
    let length = body.len() - rest.len();
    if crc32c::crc32c(&body[..length]) != u32::from_le_bytes(*sum) {
        return Err(damaged());
    }
    Ok((chunk, length + 4))
}

fn take<'a>(bytes: &mut &'a [u8], segment: u32) -> Result<Sealed<'a>, chunk::Damaged> {
    let small = |bytes: &mut &[u8]| u16::try_from(varint::take(bytes)?).map_err(|_| chunk::Damaged);
    let wide = |bytes: &mut &[u8]| u32::try_from(varint::take(bytes)?).map_err(|_| chunk::Damaged);
    let (back, offset) = (wide(bytes)?, wide(bytes)?);
    let before = match back {
        0 => Position::default(),
        back => Position { segment: (segment + 1).checked_sub(back).ok_or(chunk::Damaged)?, offset },
    };
    let min = varint::take_signed(bytes)?;
    let max = min.wrapping_add(varint::take(bytes)? as i64);
    let (count, repeats) = (small(bytes)?, small(bytes)?);
    let length = varint::take_length(bytes)?;
    Ok(Sealed { before, min, max, count, repeats, bytes: varint::take_bytes(bytes, length)? })
}

impl Sealed<'_> {
    /// Appends the samples to columns.
    pub(crate) fn decode(&self, times: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), chunk::Damaged> {
        decode(self.bytes, self.count, self.repeats, times, values)
    }
}

/// Writes a segment into its file and maps it.
pub(crate) fn save(disk: &Disk, segment: &Segment) -> Result<Segment, Error> {
    let name = name(segment.number);
    let write = || {
        let file = disk.open_file(&name, Open::Create)?;
        file.write_at(0, &segment.bytes)?;
        file.sync()?;
        disk.sync_dir("")
    };
    if let Err(error) = write() {
        // Room for others; a leftover is removed at the next start.
        let _ = disk.remove(&name);
        return Err(Error::disk(format!("writing {name}"))(error));
    }
    map(disk, segment.number, (segment.min, segment.max, segment.chunks), segment.bytes.len() as u64)
}

/// Maps the file of a segment, which was written whole.
pub(crate) fn map(
    disk: &Disk,
    number: u32,
    (min, max, chunks): (i64, i64, u64),
    length: u64,
) -> Result<Segment, Error> {
    let name = name(number);
    let file = disk.open_file(&name, Open::Read).map_err(Error::disk(format!("opening {name}")))?;
    let bytes = file.map(length).map_err(Error::disk(format!("mapping {name}")))?;
    if !bytes.starts_with(MAGIC) {
        return Err(Error::damaged(&name, "no segment of this version"));
    }
    Ok(Segment { number, min, max, chunks, saved: true, bytes })
}
