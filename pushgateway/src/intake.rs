//! Bodies on their way in: read and inflated up to a limit each, and up to a limit all together.
//!
//! A body is held once as it came and once inflated; what is made of it later costs more, so that large bodies
//! are read one at a time ([`crate::http`]).

use crate::{http::Refused, own::Instruments};
use futures_util::StreamExt;
use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use web::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};

/// Bytes of every body for which there is always room, so that large ones keep out no small one.
const SMALL: usize = 64 << 10;
/// Bytes inflated at a time, after which the limits are looked at.
const PIECE: usize = 64 << 10;
/// Bytes of a body that may be read without leaving the event loop.
const LARGE: usize = 128 << 10;
/// The same of one that is compressed, a thousand times at most.
const LARGE_CODED: usize = 1 << 10;

/// Room for the bodies of one gateway; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Intake {
    held: Arc<AtomicUsize>,
    /// Bytes of one body.
    max: usize,
    /// Bytes of all.
    all_max: usize,
}

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Taken {
    /// As it came, or as it was meant.
    pub(crate) bytes: Vec<u8>,
    /// Bytes it came in.
    pub(crate) size: usize,
    coding: Option<Coding>,
    room: Room,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug)]
enum Coding {
    Gzip,
    Snappy,
}

/// A share of the room, given back when it is dropped.
#[derive(Debug)]
struct Room {
    intake: Intake,
    bytes: usize,
}

impl Room {
    /// Makes the share as large as bodies of these lengths need; false when there is not so much.
    fn hold(&mut self, lengths: [usize; 2]) -> bool {
        let bytes: usize = lengths.iter().map(|length| length.saturating_sub(SMALL)).sum();
        let (held, mine, all_max) = (&self.intake.held, self.bytes, self.intake.all_max);
        let next = |have: usize| Some(have - mine + bytes).filter(|all| bytes <= mine || *all <= all_max);
        let done = held.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).is_ok();
        if done {
            self.bytes = bytes;
        }
        done
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.intake.held.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// Why a body is not taken.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Over the limit of one.
    Long,
    /// Over that of all.
    Full,
    Bad(&'static str),
}

impl Intake {
    /// Room for bodies of `max` bytes; for several of them, but not for as many as there may be connections.
    pub(crate) fn new(max: usize) -> Self {
        Self { held: Arc::default(), max, all_max: max.saturating_mul(3) }
    }

    /// A body as it came.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) async fn receive(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Stop> {
        let coding = headers.get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let coding = match coding.to_ascii_lowercase().as_str() {
            "gzip" => Some(Coding::Gzip),
            "snappy" => Some(Coding::Snappy),
            _ => None,
        };
        let room = Room { intake: self.clone(), bytes: 0 };
        let mut taken = Taken { bytes: Vec::new(), size: 0, coding, room };
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| {
                tracing::debug!(%error, "Body not read");
                if is_limit(&error) { Stop::Long } else { Stop::Bad("the body ended early or stood still") }
            })?;
            taken.add(&piece, 0)?;
        }
        taken.size = taken.bytes.len();
        Ok(taken)
    }

    /// The answer to who sent a body that was not taken.
    pub(crate) fn refusal(&self, stop: &Stop, instruments: &Instruments) -> Refused {
        let max = self.max;
        match stop {
            Stop::Bad(why) => Refused::new(StatusCode::BAD_REQUEST, why),
            Stop::Long => {
                instruments.over_limit.with(&["body bytes"]).inc();
                let text =
                    format!("the body is over {max} bytes once inflated; push less or raise --push.max-body-bytes");
                Refused::new(StatusCode::PAYLOAD_TOO_LARGE, &text)
            }
            Stop::Full => {
                instruments.over_limit.with(&["bodies at once"]).inc();
                let text = "too many large bodies are pushed at once; try again";
                Refused::new(StatusCode::SERVICE_UNAVAILABLE, &text)
            }
        }
    }
}

/// Whether the web server's limit ended a body.
fn is_limit(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Taken {
    /// Adds bytes to the body, of which another form of some length is held too.
    fn add(&mut self, piece: &[u8], other: usize) -> Result<(), Stop> {
        let length = self.bytes.len() + piece.len();
        if length > self.room.intake.max {
            return Err(Stop::Long);
        }
        if !self.room.hold([length, other]) {
            return Err(Stop::Full);
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Whether it costs so much to read that nobody should wait for it.
    pub(crate) fn is_large(&self) -> bool {
        self.size > if self.coding.is_some() { LARGE_CODED } else { LARGE }
    }

    /// The body as it was meant; what it came in is let go. Never more than the limits, whatever it says.
    ///
    /// # Errors
    /// Why it was not taken.
    pub(crate) fn inflated(mut self) -> Result<Self, Stop> {
        let Some(coding) = self.coding.take() else { return Ok(self) };
        let compressed = std::mem::take(&mut self.bytes);
        let (mut from, bad): (Box<dyn Read + '_>, _) = match coding {
            Coding::Gzip => (Box::new(flate2::read::MultiGzDecoder::new(&compressed[..])), "gzip: invalid header"),
            Coding::Snappy => (Box::new(snap::read::FrameDecoder::new(&compressed[..])), "snappy: corrupt input"),
        };
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => self.add(&piece[..read], compressed.len())?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(Stop::Bad("unexpected EOF"));
                }
                Err(_) => return Err(Stop::Bad(bad)),
            }
        }
        self.room.hold([self.bytes.len(), 0]);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
    }

    fn headers(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_ENCODING, web::http::HeaderValue::from_static(coding))])
    }

    #[tokio::test]
    async fn bodies_are_bounded_one_by_one_and_together() {
        const MAX: usize = SMALL * 2;
        let intake = Intake::new(MAX);
        let take = async |coding: &'static str, bytes: Vec<u8>| {
            let taken = intake.receive(&headers(coding), Body::from(bytes)).await;
            taken.and_then(Taken::inflated)
        };
        assert_eq!(take("GZIP", gzip(&[b'a'; MAX])).await.expect("taken").bytes, [b'a'; MAX]);
        assert_eq!(take("br", vec![1; MAX]).await.expect("an unknown coding is none").bytes, [1; MAX]);
        assert!(matches!(take("gzip", gzip(&[b'a'; MAX + 1])).await, Err(Stop::Long)));
        assert!(matches!(take("", vec![0; MAX + 1]).await, Err(Stop::Long)));
        assert!(matches!(take("gzip", gzip(b"a")[..8].to_vec()).await, Err(Stop::Bad("unexpected EOF"))));
        assert!(matches!(take("gzip", b"a".repeat(20)).await, Err(Stop::Bad("gzip: invalid header"))));
        assert!(matches!(take("snappy", b"a".to_vec()).await, Err(Stop::Bad(_))));
        assert_eq!(intake.held.load(Ordering::Acquire), 0, "all room is given back");
        let mut held = Vec::new();
        while let Ok(taken) = take("", vec![0; MAX]).await {
            held.push(taken);
        }
        assert_eq!(held.len(), 6, "three times the limit beside what is always free");
        assert!(matches!(take("", vec![0; MAX]).await, Err(Stop::Full)));
        assert!(take("", vec![0; SMALL]).await.is_ok(), "small ones go on");
        drop(held);
        assert_eq!(intake.held.load(Ordering::Acquire), 0);
    }
}
