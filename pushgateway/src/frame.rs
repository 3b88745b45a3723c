//! Frames of the journal: length, checksum, number, record. Format: `docs/format/pushgateway.md`.

use xxhash_rust::xxh64::xxh64;

/// Bytes before a record: length (4), checksum (8), number (8).
pub(crate) const HEAD: usize = 20;
/// Largest record: one push, whose body is limited long before.
pub(crate) const RECORD_MAX: usize = 1 << 30;

/// Appends a frame around what `record` appends.
pub(crate) fn put(out: &mut Vec<u8>, number: u64, record: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out[start + 12..start + HEAD].copy_from_slice(&number.to_le_bytes());
    record(out);
    let length = (out.len() - start - HEAD) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(length, &out[start + 12..]);
    out[start + 4..start + 12].copy_from_slice(&sum.to_le_bytes());
}

/// Over number and record, seeded by the length, so that no field can change alone.
fn checksum(length: u32, rest: &[u8]) -> u64 {
    xxh64(rest, u64::from(length))
}

/// The whole frame at the start of `from`: its number, its record, and what follows. `None` when there is none.
pub(crate) fn take(from: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, rest) = from.split_first_chunk::<HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let length_bytes = usize::try_from(length).ok().filter(|length| *length <= RECORD_MAX)?;
    let (record, rest) = rest.split_at_checked(length_bytes)?;
    let sum = u64::from_le_bytes(head[4..12].try_into().ok()?);
    if sum != checksum(length, &from[12..HEAD + length_bytes]) {
        return None;
    }
    Some((u64::from_le_bytes(head[12..].try_into().ok()?), record, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_frame_counts() {
        let mut bytes = Vec::new();
        put(&mut bytes, 7, |out| out.extend_from_slice(b"record"));
        assert_eq!(take(&bytes), Some((7, &b"record"[..], &b""[..])));
        for at in 0..bytes.len() {
            assert_eq!(take(&bytes[..at]), None);
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert_eq!(take(&broken), None, "byte {at}");
        }
    }
}
