//! A gzip stream made of pieces that were deflated once: a scrape compresses only what changed since the last one.
//!
//! Truth: RFC 1951 and 1952. Every piece ends at a byte boundary without being the last block, so pieces can follow
//! each other in any order; the checksum of the whole is combined from theirs.

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

/// The head of a stream without name and time.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// An empty block that is the last one.
const LAST: [u8; 2] = [3, 0];

/// Deflated bytes and what is known of their source.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    crc: Crc,
}

impl Piece {
    /// Deflates `text`. O(text).
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut crc = Crc::new();
        crc.update(text);
        let mut deflate = Compress::new(Compression::fast(), false);
        let mut out = Vec::with_capacity(text.len() / 6 + 64);
        loop {
            let done = deflate.total_in() as usize;
            let before = out.len();
            // With room in `out` the only error would be one of memory, and then nothing is appended.
            let _ = deflate.compress_vec(&text[done..], &mut out, FlushCompress::Full);
            if deflate.total_in() as usize == text.len() && out.len() < out.capacity() {
                break;
            }
            if out.len() == before && deflate.total_in() as usize == done && out.len() < out.capacity() {
                break;
            }
            out.reserve(out.capacity().max(256));
        }
        out.shrink_to_fit();
        Self { bytes: out.into(), crc }
    }
}

/// A whole stream from its pieces.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    frames: Vec<Bytes>,
    crc: Crc,
}

impl Stream {
    pub(crate) fn push(&mut self, piece: &Piece) {
        self.frames.push(piece.bytes.clone());
        self.crc.combine(&piece.crc);
    }

    /// The frames from head to checksum.
    pub(crate) fn finish(mut self) -> Vec<Bytes> {
        let mut end = LAST.to_vec();
        end.extend_from_slice(&self.crc.sum().to_le_bytes());
        end.extend_from_slice(&self.crc.amount().to_le_bytes());
        self.frames.insert(0, Bytes::from_static(&HEAD));
        self.frames.push(end.into());
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use testkit::Rng;

    #[test]
    fn pieces_inflate_to_their_texts_in_order() {
        let mut rng = Rng::new(3);
        for sizes in [vec![], vec![0], vec![1, 0, 5], vec![70_000, 3, 300_000, 9]] {
            let (mut stream, mut want) = (Stream::default(), Vec::new());
            for size in sizes {
                let mut text = rng.bytes(size);
                if size % 2 == 0 {
                    text.iter_mut().for_each(|byte| *byte %= 4);
                }
                stream.push(&Piece::new(&text));
                want.extend(text);
            }
            let all: Vec<u8> = stream.finish().concat();
            let mut found = Vec::new();
            flate2::read::GzDecoder::new(&all[..]).read_to_end(&mut found).expect("a gzip stream");
            assert!(found == want);
        }
    }
}
