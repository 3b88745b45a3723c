//! Reading a body: decompressed as it comes, into memory of the caller, up to a limit.
//!
//! The limit is on what comes out, checked after each piece of at most [`PIECE`] bytes: a small body that inflates
//! without end costs no more than one that is sent in full.

use crate::{
    Cause, FetchError,
    gzip::{Inflaters, Leased},
};
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Bytes decompressed at a time.
const PIECE: usize = 32 << 10;

/// Binary logarithm of the largest zstd window, 8 MiB: what RFC 9659 lets a server use.
const WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// `gzip`.
    Gzip,
    /// `deflate`: zlib's format.
    Deflate,
    /// `zstd`.
    Zstd,
}

impl Encoding {
    /// The name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn of_header(name: &str) -> Option<Self> {
        let same = |one: &&Self| name.eq_ignore_ascii_case(one.name());
        [Self::Gzip, Self::Deflate, Self::Zstd].iter().find(same).copied()
    }
}

/// Takes a body as it comes.
pub(crate) struct Reader<'a> {
    body: &'a mut Vec<u8>,
    limit: u64,
    decoder: Option<Inflate<'a>>,
}

enum Inflate<'a> {
    /// gzip that is gathered and inflated at its end.
    Whole(Leased<'a>),
    Zlib(Box<Decompress>, Encoding, State),
    Zstd(Box<Decoder<'static>>, State),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came yet.
    Empty,
    Within,
    /// A stream ended; gzip and zstd may start another.
    Ended,
}

impl<'a> Reader<'a> {
    /// Empties `body` and reads into it; a body of `limit` bytes or more fails. `encoding` is the header of the answer,
    /// empty when it has none.
    pub(crate) fn new(body: &'a mut Vec<u8>, limit: u64, encoding: &str) -> Result<Self, FetchError> {
        body.clear();
        let decoder = match Encoding::of_header(encoding.trim()) {
            // There are servers that name a character set here: as upstream, what is unknown is taken as it is.
            None => None,
            Some(Encoding::Zstd) => {
                let mut decoder = Decoder::new().map_err(|error| bad(Encoding::Zstd, &error))?;
                let bounded = decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX));
                bounded.map_err(|error| bad(Encoding::Zstd, &error))?;
                Some(Inflate::Zstd(Box::new(decoder), State::Empty))
            }
            Some(zlib) => Some(Inflate::Zlib(Box::new(decompress(zlib)), zlib, State::Empty)),
        };
        Ok(Self { body, limit, decoder })
    }

    /// As [`Reader::new`], for a body that is of no use before its end: gzip is gathered and inflated at once.
    pub(crate) fn whole(
        body: &'a mut Vec<u8>,
        limit: u64,
        encoding: &str,
        inflaters: &'a Inflaters,
    ) -> Result<Self, FetchError> {
        let mut reader = Self::new(body, limit, encoding)?;
        if matches!(reader.decoder, Some(Inflate::Zlib(_, Encoding::Gzip, _))) {
            reader.decoder = Some(Inflate::Whole(inflaters.lease()));
        }
        Ok(reader)
    }

    /// Reads what was gathered piece by piece after all.
    fn in_pieces(&mut self, leased: &Leased<'_>) -> Result<(), FetchError> {
        self.decoder = Some(Inflate::Zlib(Box::new(decompress(Encoding::Gzip)), Encoding::Gzip, State::Empty));
        self.push(leased.packed())
    }

    /// Takes the next bytes as they were sent. O(bytes that come out).
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        if let Some(Inflate::Whole(leased)) = &mut self.decoder {
            if leased.push(bytes) {
                return Ok(());
            }
            if let Some(Inflate::Whole(leased)) = self.decoder.take() {
                self.in_pieces(&leased)?;
            }
        }
        match &mut self.decoder {
            Some(Inflate::Whole(_)) => Ok(()),
            None => {
                if self.body.len() as u64 + bytes.len() as u64 >= self.limit {
                    return Err(FetchError::BodyLimit);
                }
                self.body.extend_from_slice(bytes);
                Ok(())
            }
            Some(Inflate::Zlib(decoder, encoding, state)) => {
                let (encoding, limit) = (*encoding, self.limit);
                pump(bytes, self.body, limit, state, |input, out, state| {
                    if *state == State::Ended {
                        if encoding == Encoding::Deflate {
                            return Err(bad(encoding, &"bytes after the end"));
                        }
                        **decoder = decompress(encoding);
                    }
                    let before = (decoder.total_in(), decoder.total_out());
                    let status = decoder.decompress(input, out, FlushDecompress::None);
                    let status = status.map_err(|error| corrupt(encoding, &error, decoder.total_in()))?;
                    *state = if status == Status::StreamEnd { State::Ended } else { State::Within };
                    Ok((amount(decoder.total_in(), before.0), amount(decoder.total_out(), before.1)))
                })
            }
            Some(Inflate::Zstd(decoder, state)) => pump(bytes, self.body, self.limit, state, |input, out, state| {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(out));
                let left = decoder.run(&mut from, &mut to).map_err(|error| bad(Encoding::Zstd, &error))?;
                *state = if left == 0 { State::Ended } else { State::Within };
                Ok((from.pos(), to.pos()))
            }),
        }
    }

    /// Bytes that came out.
    pub(crate) fn len(&self) -> usize {
        self.body.len()
    }

    /// The body has ended.
    pub(crate) fn finish(mut self) -> Result<(), FetchError> {
        if let Some(Inflate::Whole(mut leased)) = self.decoder.take_if(|one| matches!(one, Inflate::Whole(_))) {
            if leased.inflate(self.body, self.limit) {
                return Ok(());
            }
            self.in_pieces(&leased)?;
        }
        match self.decoder {
            Some(Inflate::Zlib(_, _, State::Empty) | Inflate::Zstd(_, State::Empty)) => broken("EOF"),
            Some(Inflate::Zlib(_, _, State::Within) | Inflate::Zstd(_, State::Within)) => broken("unexpected EOF"),
            _ => Ok(()),
        }
    }
}

/// Feeds all of `bytes` to `step`, which says how much it took and gave.
fn pump(
    bytes: &[u8],
    body: &mut Vec<u8>,
    limit: u64,
    state: &mut State,
    mut step: impl FnMut(&[u8], &mut [u8], &mut State) -> Result<(usize, usize), FetchError>,
) -> Result<(), FetchError> {
    let mut input = bytes;
    // A full piece may leave more inside the decoder.
    let mut more = false;
    while !input.is_empty() || more && *state == State::Within {
        let start = body.len();
        body.resize(start + PIECE, 0);
        let (took, gave) = step(input, &mut body[start..], state).inspect_err(|_| body.truncate(start))?;
        body.truncate(start + gave);
        if body.len() as u64 >= limit {
            return Err(FetchError::BodyLimit);
        }
        if took == 0 && gave == 0 && !input.is_empty() {
            return Err(FetchError::Body(Cause::Encoding("compressed data that leads nowhere".into())));
        }
        input = &input[took..];
        more = gave == PIECE;
    }
    Ok(())
}

fn decompress(encoding: Encoding) -> Decompress {
    if encoding == Encoding::Gzip { Decompress::new_gzip(15) } else { Decompress::new(true) }
}

fn amount(after: u64, before: u64) -> usize {
    usize::try_from(after - before).unwrap_or(usize::MAX)
}

fn broken(text: &str) -> Result<(), FetchError> {
    Err(FetchError::Body(Cause::Encoding(text.into())))
}

/// What is wrong with gzip or zlib, in Go's words.
fn corrupt(encoding: Encoding, error: &flate2::DecompressError, offset: u64) -> FetchError {
    let format = if encoding == Encoding::Gzip { "gzip" } else { "zlib" };
    let why = match error.message() {
        Some(
            "incorrect header check"
            | "unknown compression method"
            | "invalid window size"
            | "unknown header flags set",
        ) => {
            format!("{format}: invalid header")
        }
        Some("incorrect data check" | "incorrect length check") => format!("{format}: invalid checksum"),
        _ => format!("flate: corrupt input before offset {offset}"),
    };
    FetchError::Body(Cause::Encoding(why))
}

fn bad(encoding: Encoding, error: &dyn std::fmt::Display) -> FetchError {
    FetchError::Body(Cause::Encoding(format!("{}: invalid data: {error}", encoding.name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use std::io::Write;

    fn compress(encoding: &str, bytes: &[u8]) -> Vec<u8> {
        match encoding {
            "gzip" => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).expect("in memory");
                encoder.finish().expect("in memory")
            }
            "deflate" => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes).expect("in memory");
                encoder.finish().expect("in memory")
            }
            "zstd" => zstd::encode_all(bytes, 3).expect("in memory"),
            _ => bytes.to_vec(),
        }
    }

    fn read(encoding: &str, limit: u64, sent: &[u8], piece: usize) -> (Vec<u8>, Result<(), FetchError>) {
        let (mut body, inflaters) = (b"old".to_vec(), Inflaters::default());
        let mut work = || {
            let mut reader = match piece % 2 {
                0 => Reader::whole(&mut body, limit, encoding, &inflaters)?,
                _ => Reader::new(&mut body, limit, encoding)?,
            };
            sent.chunks(piece).try_for_each(|bytes| reader.push(bytes))?;
            reader.finish()
        };
        let done = work();
        (body, done)
    }

    #[test]
    fn every_encoding_comes_out_as_it_went_in() {
        let text: Vec<u8> = (0..50_000u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for encoding in ["", "identity", "gzip", "deflate", "zstd"] {
            for (text, piece) in [
                (&text[..], 1 << 20),
                (&text[..], 777),
                (&text[..99], 1),
                (&text[..99], 2),
                (b"x", 1),
                (b"x", 2),
                (b"", 1),
                (b"", 2),
            ] {
                let (body, done) = read(encoding, u64::MAX, &compress(encoding, text), piece);
                assert_eq!(done, Ok(()), "{encoding} {piece}");
                assert!(body == text, "{encoding} {} bytes of {}", body.len(), text.len());
            }
        }
        for encoding in ["gzip", "zstd"] {
            let twice = [compress(encoding, b"a"), compress(encoding, b"b")].concat();
            for piece in [2, 3] {
                assert_eq!(read(encoding, 9, &twice, piece), (b"ab".to_vec(), Ok(())), "{encoding}");
            }
        }
    }

    #[test]
    fn a_body_at_its_limit_fails_wherever_it_comes_from() {
        for encoding in ["", "gzip", "deflate", "zstd"] {
            let sent = compress(encoding, &[0; 100]);
            for piece in [6, 7] {
                assert_eq!(read(encoding, 101, &sent, piece).1, Ok(()), "{encoding}");
                assert_eq!(read(encoding, 100, &sent, piece).1, Err(FetchError::BodyLimit), "{encoding}");
            }
        }
    }

    #[test]
    fn a_bomb_costs_little_more_than_its_limit() {
        let bomb = vec![0; 8 << 20];
        for encoding in ["gzip", "deflate", "zstd"] {
            let (body, done) = read(encoding, 1 << 20, &compress(encoding, &bomb), 1 << 20);
            assert_eq!(done, Err(FetchError::BodyLimit), "{encoding}");
            assert!(body.capacity() <= (2 << 20) + 2 * PIECE, "{encoding}: {}", body.capacity());
        }
    }

    #[test]
    fn broken_bodies_are_told_apart_from_whole_ones() {
        for encoding in ["gzip", "deflate", "zstd"] {
            let mut sent = compress(encoding, &[7; 1000]);
            for piece in [4, 5] {
                let cut = read(encoding, 9999, &sent[..sent.len() - 1], piece).1.expect_err(encoding).to_string();
                assert_eq!(cut, "unexpected EOF", "{encoding}");
                assert_eq!(read(encoding, 9999, b"", piece).1.expect_err(encoding).to_string(), "EOF");
            }
            let last = sent.len() - 1;
            for (place, expected) in [(0, "header"), (last, "checksum")] {
                sent[place] ^= 0xff;
                let told = [4, 5].map(|piece| {
                    let read = read(encoding, 9999, &sent, piece).1;
                    read.map_or_else(|error| error.to_string(), |()| String::new())
                });
                let expected = match encoding {
                    "gzip" => format!("gzip: invalid {expected}"),
                    "deflate" => format!("zlib: invalid {expected}"),
                    _ if place == 0 => "zstd: invalid data: Unknown frame descriptor".into(),
                    _ => "zstd: invalid data: Data corruption detected".into(),
                };
                assert_eq!(told, [expected.as_str(); 2], "{encoding}");
                sent[place] ^= 0xff;
            }
        }
        let trailing = [compress("deflate", b"a"), b"junk".to_vec()].concat();
        assert!(read("deflate", 9999, &trailing, 5).1.is_err());
        assert_eq!(read("utf-8", 9, b"a", 1), (b"a".to_vec(), Ok(())), "no compression");
    }
}
