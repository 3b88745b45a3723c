//! Reading the index of a block: symbols and series, in the order in which they lie. Postings are not needed for that.
//!
//! Source: upstream's format page of the index; versions 1 and 2.

use crate::chunks::ChunkPlace;
use chunk::{Damaged, varint};
use model::{Builder, Labels};

const MAGIC: [u8; 4] = 0xBAAA_D700_u32.to_be_bytes();
/// Bytes of the table of contents.
const TOC: usize = 6 * 8 + 4;
/// Series begin at multiples of this.
const ALIGN: usize = 16;
/// Labels of a series beyond this many are damage.
const LABELS_MAX: usize = 1 << 16;

/// The index of a block.
pub(crate) struct Index<'a> {
    bytes: &'a [u8],
    version: u8,
    /// Places of the symbols' texts.
    symbols: Vec<usize>,
    series: (usize, usize),
}

/// One series of an index.
#[derive(Debug)]
pub(crate) struct Series {
    /// What tombstones call it.
    pub(crate) reference: u64,
    pub(crate) labels: Labels,
    pub(crate) chunks: Vec<ChunkPlace>,
}

fn word(bytes: &[u8], at: usize) -> Result<u32, Damaged> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Damaged)?;
    Ok(u32::from_be_bytes(*bytes))
}

fn long(bytes: &[u8], at: usize) -> Result<usize, Damaged> {
    let bytes = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or(Damaged)?;
    usize::try_from(u64::from_be_bytes(*bytes)).map_err(|_| Damaged)
}

/// A section: its length before it, its checksum behind it.
fn section(bytes: &[u8], at: usize) -> Result<&[u8], Damaged> {
    let length = word(bytes, at)? as usize;
    let body = bytes.get(at + 4..).and_then(|rest| rest.get(..length)).ok_or(Damaged)?;
    if word(bytes, at + 4 + length)? == crc32c::crc32c(body) { Ok(body) } else { Err(Damaged) }
}

impl<'a> Index<'a> {
    /// Checks the table of contents and the symbols.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let version = *bytes.get(4).ok_or(Damaged)?;
        if !bytes.starts_with(&MAGIC) || !(1..=2).contains(&version) {
            return Err(Damaged);
        }
        let at = bytes.len().checked_sub(TOC).ok_or(Damaged)?;
        let toc = &bytes[at..];
        if word(toc, TOC - 4)? != crc32c::crc32c(&toc[..TOC - 4]) {
            return Err(Damaged);
        }
        let mut places = [0; 6];
        for (place, offset) in places.iter_mut().enumerate() {
            *offset = long(toc, place * 8)?;
        }
        let [symbols, series, rest @ ..] = places;
        // What comes behind the series is whatever begins next.
        let end = rest.into_iter().filter(|offset| *offset > series).min().unwrap_or(at).min(at);
        let body = section(bytes, symbols)?;
        let start = body.as_ptr() as usize - bytes.as_ptr() as usize;
        let mut rest = body.get(4..).ok_or(Damaged)?;
        let mut places = Vec::new();
        for _ in 0..word(body, 0)? {
            places.push(start + body.len() - rest.len());
            let length = varint::take_length(&mut rest)?;
            varint::take_bytes(&mut rest, length)?;
        }
        Ok(Self { bytes, version, symbols: places, series: (series, end) })
    }

    fn symbol(&self, reference: u64) -> Result<&'a str, Damaged> {
        let reference = usize::try_from(reference).map_err(|_| Damaged)?;
        let place = if self.version == 1 { reference } else { *self.symbols.get(reference).ok_or(Damaged)? };
        let mut rest = self.bytes.get(place..).ok_or(Damaged)?;
        let length = varint::take_length(&mut rest)?;
        std::str::from_utf8(varint::take_bytes(&mut rest, length)?).map_err(|_| Damaged)
    }

    /// The series from a place on, 0 being the first, and the place behind it; none at the end.
    pub(crate) fn series(&self, from: usize) -> Result<Option<(Series, usize)>, Damaged> {
        let at = from.max(self.series.0).next_multiple_of(ALIGN);
        if self.series.0 == 0 || at >= self.series.1 {
            return Ok(None);
        }
        let mut rest = self.bytes.get(at..self.series.1).ok_or(Damaged)?;
        let before = rest.len();
        let length = varint::take_length(&mut rest)?;
        if length == 0 {
            // Version 1 may fill up what is left before the next section.
            return Ok(None);
        }
        let body = varint::take_bytes(&mut rest, length)?;
        if word(rest, 0)? != crc32c::crc32c(body) {
            return Err(Damaged);
        }
        let next = at + before - rest.len() + 4;
        let reference = if self.version == 1 { at } else { at / ALIGN } as u64;
        let (labels, chunks) = self.body(body)?;
        Ok(Some((Series { reference, labels, chunks }, next)))
    }

    fn body(&self, mut body: &[u8]) -> Result<(Labels, Vec<ChunkPlace>), Damaged> {
        let bytes = &mut body;
        let mut builder = Builder::default();
        for _ in 0..varint::take_count(bytes, LABELS_MAX)? {
            let name = self.symbol(varint::take(bytes)?)?;
            builder.set(name, self.symbol(varint::take(bytes)?)?);
        }
        let mut chunks: Vec<ChunkPlace> = Vec::new();
        for _ in 0..varint::take_length(bytes)? {
            let chunk = match chunks.last() {
                None => {
                    let min = varint::take_signed(bytes)?;
                    let max = min.wrapping_add(varint::take(bytes)? as i64);
                    ChunkPlace { min, max, place: varint::take(bytes)? }
                }
                Some(last) => {
                    let min = last.max.wrapping_add(varint::take(bytes)? as i64);
                    let max = min.wrapping_add(varint::take(bytes)? as i64);
                    ChunkPlace { min, max, place: last.place.wrapping_add(varint::take_signed(bytes)? as u64) }
                }
            };
            chunks.push(chunk);
        }
        Ok((builder.build(), chunks))
    }
}
