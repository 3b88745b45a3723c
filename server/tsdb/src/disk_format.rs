//! Small things that all files of a store share: texts, checksums, compression.

use chunk::{Damaged, varint};
use model::{Builder, Labels};

/// Text beyond this many bytes is damage: labels are limited long before.
const TEXT_MAX: usize = 1 << 28;
/// Labels of one series beyond this many are damage.
const LABELS_MAX: usize = 1 << 16;
/// Below this many bytes compression saves nothing.
const PACK_MIN: usize = 256;

pub(crate) fn put_text(text: &str, out: &mut Vec<u8>) {
    varint::put(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, Damaged> {
    let length = varint::take_count(bytes, TEXT_MAX)?;
    std::str::from_utf8(varint::take_bytes(bytes, length)?).map_err(|_| Damaged)
}

pub(crate) fn put_labels(labels: &Labels, out: &mut Vec<u8>) {
    varint::put(labels.len() as u64, out);
    for (name, value) in labels.iter() {
        put_text(name, out);
        put_text(value, out);
    }
}

pub(crate) fn take_labels(bytes: &mut &[u8]) -> Result<Labels, Damaged> {
    let mut builder = Builder::default();
    for _ in 0..varint::take_count(bytes, LABELS_MAX)? {
        let name = take_text(bytes)?;
        builder.set(name, take_text(bytes)?);
    }
    Ok(builder.build())
}

/// Appends bytes, compressed when that saves an eighth: the length they have unpacked, the length that follows, 0 for
/// "as they are", and the bytes.
pub(crate) fn pack(bytes: &[u8], level: i32, out: &mut Vec<u8>) {
    varint::put(bytes.len() as u64, out);
    let packed = if bytes.len() >= PACK_MIN { zstd::bulk::compress(bytes, level).ok() } else { None };
    match packed.filter(|packed| packed.len() + packed.len() / 8 < bytes.len()) {
        Some(packed) => {
            varint::put(packed.len() as u64, out);
            out.extend_from_slice(&packed);
        }
        None => {
            varint::put(0, out);
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends bytes as they are, in the form of [`pack`].
pub(crate) fn put_plain(bytes: &[u8], out: &mut Vec<u8>) {
    varint::put(bytes.len() as u64, out);
    varint::put(0, out);
    out.extend_from_slice(bytes);
}

/// A file whose bytes cannot be trusted, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable(pub(crate) String);

/// Gives what [`pack`] or [`put_plain`] got to `read`; `max` bounds its length.
pub(crate) fn unpack<T>(
    bytes: &mut &[u8],
    max: usize,
    read: impl FnOnce(&[u8]) -> Result<T, Damaged>,
) -> Result<T, Damaged> {
    let length = varint::take_count(bytes, max)?;
    match varint::take_count(bytes, max)? {
        0 => read(varint::take_bytes(bytes, length)?),
        packed => {
            let plain = zstd::bulk::decompress(varint::take_bytes(bytes, packed)?, length).map_err(|_| Damaged)?;
            if plain.len() == length { read(&plain) } else { Err(Damaged) }
        }
    }
}
