//! Inflating a whole gzip body at once, which costs less than half of doing it piece by piece.
//!
//! libdeflate needs the whole input and the size of the output. gzip ends with that size; a body for which it cannot be
//! right, that has more than one member, or that is broken in any way is not inflated here: whoever asked reads it piece
//! by piece, which finds the limit and the words for what is wrong.

use libdeflater::Decompressor;
use parking_lot::Mutex;

/// Bytes of the largest compressed body that is gathered.
pub(crate) const PACKED_MAX: usize = 4 << 20;

/// Bytes of gathered bodies whose memory is kept.
const KEPT_MAX: usize = 256 << 10;

/// Inflaters kept: for about as many bodies as come at one time.
const INFLATERS_MAX: usize = 8;

/// No byte of deflate becomes more than these.
const RATIO_MAX: usize = 1032;

/// How every member begins.
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];

/// Inflaters between bodies.
#[derive(Default)]
pub(crate) struct Inflaters(Mutex<Vec<Whole>>);

/// A body that is gathered.
pub(crate) struct Whole {
    packed: Vec<u8>,
    inflater: Decompressor,
}

/// An inflater in use; it goes back when it is dropped.
pub(crate) struct Leased<'a> {
    inflaters: &'a Inflaters,
    whole: Option<Whole>,
}

impl Inflaters {
    pub(crate) fn lease(&self) -> Leased<'_> {
        let whole = self.0.lock().pop();
        let whole = whole.unwrap_or_else(|| Whole { packed: Vec::new(), inflater: Decompressor::new() });
        Leased { inflaters: self, whole: Some(whole) }
    }
}

impl Leased<'_> {
    /// Gathers the next bytes; false when they would be too many.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let Some(whole) = &mut self.whole else { return false };
        let fits = whole.packed.len() + bytes.len() <= PACKED_MAX;
        if fits {
            whole.packed.extend_from_slice(bytes);
        }
        fits
    }

    /// What was gathered.
    pub(crate) fn packed(&self) -> &[u8] {
        self.whole.as_ref().map_or(&[], |whole| &whole.packed)
    }

    /// Inflates what was gathered, to less than `limit` bytes; false when that is not for here to do.
    pub(crate) fn inflate(&mut self, body: &mut Vec<u8>, limit: u64) -> bool {
        let Some(Whole { packed, inflater }) = &mut self.whole else { return false };
        let Some(size) = packed.last_chunk().map(|last| u32::from_le_bytes(*last)) else { return false };
        let Ok(size) = usize::try_from(size) else { return false };
        let one_member = memchr::memmem::find(&packed[1..], &MAGIC).is_none();
        if !one_member || size as u64 >= limit || size > packed.len().saturating_mul(RATIO_MAX) {
            return false;
        }
        body.clear();
        body.resize(size, 0);
        let done = inflater.gzip_decompress(packed, body) == Ok(size);
        if !done {
            body.clear();
        }
        done
    }
}

impl Drop for Leased<'_> {
    fn drop(&mut self) {
        let Some(mut whole) = self.whole.take().filter(|whole| whole.packed.capacity() <= KEPT_MAX) else { return };
        whole.packed.clear();
        let mut kept = self.inflaters.0.lock();
        if kept.len() < INFLATERS_MAX {
            kept.push(whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn only_one_whole_member_that_says_its_size_is_inflated() {
        let inflaters = Inflaters::default();
        let mut lying = gzip(&[7; 1000]);
        let last = lying.len() - 1;
        lying[last] = 0x7f;
        for (packed, limit, want) in [
            (gzip(b"hello"), 6, Some(&b"hello"[..])),
            (gzip(b""), 1, Some(&b""[..])),
            (gzip(b"hello"), 5, None),
            ([gzip(b"same"), gzip(b"same")].concat(), 99, None),
            ([gzip(b"hello"), b"junk".to_vec()].concat(), 99, None),
            (lying, 1 << 40, None),
            (gzip(b"hello")[..20].to_vec(), 99, None),
            (vec![], 99, None),
        ] {
            let (mut leased, mut body) = (inflaters.lease(), b"old".to_vec());
            assert!(leased.push(&packed));
            let done = leased.inflate(&mut body, limit);
            assert_eq!(done.then_some(&body[..]), want, "{packed:?}");
            assert!(body.capacity() < 1 << 20, "a size that cannot be is not made room for");
        }
        assert_eq!(inflaters.0.lock().len(), 1, "the same one was used for all");
        let mut leased = inflaters.lease();
        assert!(leased.packed().is_empty() && !leased.push(&vec![0; PACKED_MAX + 1]));
    }
}
