//! Remote read: selectors in, series out, as samples in one message or as chunks in a stream.
//!
//! Chunks hold floats; a query that meets native histograms is answered with samples when the client takes those. Truth:
//! the remote read protocol of the Prometheus documentation, `prompb` of release 3.14.

use crate::{pieces::Pairs, xor};
use exposition::wire::{Fields, WireError};
use model::{FloatHistogram, Labels, MatchOp, Matcher, Timestamp};
use storage::{Columns, Querier, ReadError, Storage};

/// Bytes of a request, uncompressed.
const REQUEST_MAX: usize = 4 << 20;
/// Queries of one request.
const QUERIES_MAX: usize = 100;
/// Samples of one answer that is not streamed; upstream's default.
const SAMPLES_MAX: usize = 50_000_000;
/// Bytes of one frame of a stream.
const FRAME_MAX: usize = 1 << 20;
/// Samples of one chunk, as upstream cuts them.
const CHUNK: usize = 120;

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One message of samples, compressed by snappy.
    Samples,
    /// A stream of frames of chunks.
    Chunks,
}

/// Why a read has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFailure {
    /// The request means nothing.
    #[error("{0}")]
    Refused(String),
    /// Storage could not be read.
    #[error("{0}")]
    Storage(#[from] ReadError),
    /// The client has left.
    #[error("the client has left")]
    Left,
}

impl From<WireError> for ReadFailure {
    fn from(error: WireError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// One query of a request.
#[derive(Debug)]
struct Query {
    min: i64,
    max: i64,
    matchers: Vec<Matcher>,
}

/// A request that is understood.
#[derive(Debug)]
pub struct Read {
    queries: Vec<Query>,
    /// How it is answered.
    pub kind: Kind,
}

impl Read {
    /// Reads a request as it was sent.
    ///
    /// # Errors
    /// [`ReadFailure::Refused`].
    pub fn parse(body: &[u8]) -> Result<Self, ReadFailure> {
        let plain = crate::receive::unpack(body, REQUEST_MAX).map_err(ReadFailure::Refused)?;
        let (mut queries, mut kinds) = (Vec::new(), Vec::new());
        let mut fields = Fields(&plain);
        while let Some((number, field)) = fields.next()? {
            match (number, field.bytes()) {
                (1, Some(message)) if queries.len() < QUERIES_MAX => queries.push(query(message)?),
                (1, Some(_)) => {
                    return Err(ReadFailure::Refused(format!("more than {QUERIES_MAX} queries, split them")));
                }
                (2, None) => kinds.push(field.varint()),
                (2, Some(packed)) => {
                    let mut packed = Fields(packed);
                    while !packed.0.is_empty() && kinds.len() < QUERIES_MAX {
                        kinds.push(packed.varint()?);
                    }
                }
                _ => {}
            }
        }
        let known = kinds.iter().find_map(|kind| match kind {
            0 => Some(Kind::Samples),
            1 => Some(Kind::Chunks),
            _ => None,
        });
        let kind = match known {
            Some(kind) => kind,
            None if kinds.is_empty() => Kind::Samples,
            None => {
                let text = format!("server does not support any of the requested response types: {kinds:?}");
                return Err(ReadFailure::Refused(text));
            }
        };
        Ok(Self { queries, kind })
    }

    /// Hands out the answer, piece by piece when it is streamed, until `take` wants no more. `external` labels are added
    /// to series that lack them.
    ///
    /// # Errors
    /// [`ReadFailure`]; what was handed out before is part of an answer.
    pub fn answer(
        &self,
        storage: &dyn Storage,
        external: &Labels,
        take: &mut dyn FnMut(Vec<u8>) -> bool,
    ) -> Result<(), ReadFailure> {
        let mut response = Vec::new();
        let mut budget = SAMPLES_MAX;
        for (index, query) in self.queries.iter().enumerate() {
            let querier = storage.querier(Timestamp(query.min), Timestamp(query.max));
            let matchers = relaxed(&query.matchers, external);
            let mut result = Vec::new();
            each(&*querier, &matchers, &mut |columns| {
                let labels = outside(&columns.labels, external);
                match self.kind {
                    Kind::Samples => {
                        let count = columns.times.len() + columns.histograms.len();
                        budget = budget.checked_sub(count).ok_or_else(|| {
                            ReadFailure::Refused(format!("exceeded sample limit ({SAMPLES_MAX}), ask for less"))
                        })?;
                        message(1, &samples(&labels, columns), &mut result);
                        Ok(())
                    }
                    Kind::Chunks => frames(&labels, columns, index as u64, take),
                }
            })?;
            message(1, &result, &mut response);
        }
        if self.kind == Kind::Samples {
            let packed = snap::raw::Encoder::new().compress_vec(&response);
            let packed = packed.map_err(|error| ReadFailure::Refused(error.to_string()))?;
            if !take(packed) {
                return Err(ReadFailure::Left);
            }
        }
        Ok(())
    }
}

fn query(message: &[u8]) -> Result<Query, ReadFailure> {
    let mut query = Query { min: 0, max: 0, matchers: Vec::new() };
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => query.min = field.varint() as i64,
            2 => query.max = field.varint() as i64,
            3 => query.matchers.push(matcher(field.bytes().unwrap_or_default())?),
            _ => {}
        }
    }
    Ok(query)
}

fn matcher(message: &[u8]) -> Result<Matcher, ReadFailure> {
    let (mut op, mut name, mut value) = (MatchOp::Equal, "", "");
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match number {
            1 => {
                op = match field.varint() {
                    0 => MatchOp::Equal,
                    1 => MatchOp::NotEqual,
                    2 => MatchOp::Regex,
                    3 => MatchOp::NotRegex,
                    _ => return Err(ReadFailure::Refused("invalid matcher type".to_owned())),
                }
            }
            2 => name = field.text()?,
            3 => value = field.text()?,
            _ => {}
        }
    }
    Matcher::new(op, name, value).map_err(|error| ReadFailure::Refused(error.to_string()))
}

/// The matchers without those that only ask for what every series has outside: an external label's own value.
fn relaxed(matchers: &[Matcher], external: &Labels) -> Vec<Matcher> {
    let asks = |one: &&Matcher| one.op() == MatchOp::Equal && external.get(one.name()) == Some(one.value());
    let (own, rest): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(asks);
    // A series may have the label itself, with this value or without any.
    let either = own.into_iter().filter_map(|one| {
        let quoted: String = one.value().chars().flat_map(escaped).collect();
        Matcher::new(MatchOp::Regex, one.name(), &format!("(|{quoted})")).ok()
    });
    rest.into_iter().cloned().chain(either).collect()
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let special = r"\.+*?()|[]{}^$".contains(c);
    special.then_some('\\').into_iter().chain([c])
}

fn outside(labels: &Labels, external: &Labels) -> Labels {
    let mut builder = model::Builder::from(labels);
    for (name, value) in external.iter().filter(|(name, _)| labels.get(name).is_none()) {
        builder.push(name, value);
    }
    builder.build()
}

/// Calls `work` for every series, in the order of their labels.
fn each(
    querier: &dyn Querier,
    matchers: &[Matcher],
    work: &mut dyn FnMut(&Columns) -> Result<(), ReadFailure>,
) -> Result<(), ReadFailure> {
    let mut series = querier.select(matchers)?;
    let mut batch = Vec::new();
    loop {
        series.next_batch(64, &mut batch)?;
        if batch.is_empty() {
            return Ok(());
        }
        batch.iter().try_for_each(&mut *work)?;
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn number(field: u64, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        varint(field << 3, out);
        varint(value, out);
    }
}

fn zigzag(field: u64, value: i64, out: &mut Vec<u8>) {
    number(field, (value << 1 ^ value >> 63) as u64, out);
}

fn double(field: u64, value: f64, out: &mut Vec<u8>) {
    varint(field << 3 | 1, out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

fn message(field: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(field << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn labels_of(labels: &Labels, out: &mut Vec<u8>) {
    for (name, value) in labels.iter() {
        let mut one = Vec::new();
        message(1, name.as_bytes(), &mut one);
        message(2, value.as_bytes(), &mut one);
        message(1, &one, out);
    }
}

/// A `TimeSeries` message.
fn samples(labels: &Labels, columns: &Columns) -> Vec<u8> {
    let (mut out, mut one) = (Vec::new(), Vec::new());
    labels_of(labels, &mut out);
    for (at, value) in columns.times.iter().zip(columns.values.iter()) {
        one.clear();
        double(1, *value, &mut one);
        number(2, *at as u64, &mut one);
        message(2, &one, &mut out);
    }
    for (at, value) in &columns.histograms {
        message(4, &histogram(*at, value), &mut out);
    }
    out
}

/// A `Histogram` message.
fn histogram(at: i64, h: &FloatHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    if h.integer {
        varint(1 << 3, &mut out);
        varint(h.count as u64, &mut out);
    } else {
        double(2, h.count, &mut out);
    }
    double(3, h.sum, &mut out);
    zigzag(4, i64::from(h.schema), &mut out);
    double(5, h.zero_threshold, &mut out);
    if h.integer {
        varint(6 << 3, &mut out);
        varint(h.zero_count as u64, &mut out);
    } else {
        double(7, h.zero_count, &mut out);
    }
    for (spans, counts, field) in [(&h.negative_spans, &h.negative, 8), (&h.positive_spans, &h.positive, 11)] {
        for span in spans {
            let mut one = Vec::new();
            zigzag(1, i64::from(span.offset), &mut one);
            number(2, u64::from(span.length), &mut one);
            message(field, &one, &mut out);
        }
        let mut packed = Vec::new();
        if h.integer {
            let mut last = 0;
            for count in counts {
                let delta = *count as i64 - last;
                last = *count as i64;
                varint((delta << 1 ^ delta >> 63) as u64, &mut packed);
            }
        } else {
            counts.iter().for_each(|count| packed.extend_from_slice(&count.to_bits().to_le_bytes()));
        }
        if !counts.is_empty() {
            message(if h.integer { field + 1 } else { field + 2 }, &packed, &mut out);
        }
    }
    let hint = match (h.gauge, h.reset) {
        (true, _) => 3,
        (_, Some(true)) => 1,
        (_, Some(false)) => 2,
        (_, None) => 0,
    };
    number(14, hint, &mut out);
    number(15, at as u64, &mut out);
    if !h.custom_bounds.is_empty() {
        let bytes: Vec<u8> = h.custom_bounds.iter().flat_map(|bound| bound.to_bits().to_le_bytes()).collect();
        message(16, &bytes, &mut out);
    }
    out
}

/// A series as frames of chunks: length, checksum and message of each.
fn frames(
    labels: &Labels,
    columns: &Columns,
    index: u64,
    take: &mut dyn FnMut(Vec<u8>) -> bool,
) -> Result<(), ReadFailure> {
    if !columns.histograms.is_empty() {
        let set = Pairs(labels.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()).shown();
        let text = format!("{set} has native histograms, which are not streamed: ask for samples");
        return Err(ReadFailure::Refused(text));
    }
    let mut head = Vec::new();
    labels_of(labels, &mut head);
    let mut series = head.clone();
    let samples: Vec<(i64, f64)> = columns.times.iter().copied().zip(columns.values.iter().copied()).collect();
    for chunk in samples.chunks(CHUNK) {
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { continue };
        let mut one = Vec::new();
        number(1, first.0 as u64, &mut one);
        number(2, last.0 as u64, &mut one);
        number(3, 1, &mut one);
        message(4, &xor::encode(chunk), &mut one);
        if series.len() > head.len() && series.len() + one.len() > FRAME_MAX {
            frame(&series, index, take)?;
            series.clone_from(&head);
        }
        message(2, &one, &mut series);
    }
    if series.len() > head.len() { frame(&series, index, take) } else { Ok(()) }
}

fn frame(series: &[u8], index: u64, take: &mut dyn FnMut(Vec<u8>) -> bool) -> Result<(), ReadFailure> {
    let (mut body, mut out) = (Vec::with_capacity(series.len() + 16), Vec::new());
    message(1, series, &mut body);
    number(2, index, &mut body);
    varint(body.len() as u64, &mut out);
    out.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    out.extend_from_slice(&body);
    if take(out) { Ok(()) } else { Err(ReadFailure::Left) }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
