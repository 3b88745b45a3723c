//! The receiver: from a request's headers and body to samples in storage and an answer.
//!
//! Version 1.0 is all or nothing: a sample that storage refuses refuses the request. Version 2.0 stores what it can and
//! tells how much that was. A series whose labels cannot be one is passed over in 1.0 and named in 2.0.

use crate::{
    histogram,
    pieces::{self, Flaw, shown},
    request::{Head, Symbols, Unreadable, exemplar_labels},
};
use exposition::wire::{Field, Fields, WireError};
use model::{Labels, Sample, Timestamp, Value};
use std::sync::Arc;
use storage::{AppendError, Appender, SeriesId, Storage};

pub use crate::request::Message;

/// How far ahead of now a sample may lie, in milliseconds. Upstream's bound.
const AHEAD_MS_MAX: i64 = 600_000;
/// The media type of both messages.
const MEDIA: &str = "application/x-protobuf";
/// Errors of one request that are told; more are counted.
const ERRORS_MAX: usize = 100;

/// What one request may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the message, uncompressed.
    pub message_bytes: usize,
    /// Samples and histograms.
    pub samples: usize,
    /// Entries of the table of texts in 2.0.
    pub symbols: usize,
    /// Labels of one series.
    pub labels: usize,
    /// Bytes of one label set.
    pub label_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 32 << 20, samples: 1_000_000, symbols: 1_000_000, labels: 1_000, label_bytes: 1 << 20 }
    }
}

/// How much of a request was stored; told in 2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 204, 400 or 500.
    pub status: u16,
    /// Why, without a line end; empty with 204.
    pub text: String,
    /// What was stored.
    pub written: Written,
    /// Series passed over because their labels can name none.
    pub invalid_series: u64,
}

impl Outcome {
    fn refused(text: impl Into<String>) -> Self {
        Self { status: 400, text: text.into(), written: Written::default(), invalid_series: 0 }
    }

    fn failed(text: impl Into<String>) -> Self {
        Self { status: 500, ..Self::refused(text) }
    }
}

/// The message that headers speak of. An absent type or encoding is what version 1.0 has.
///
/// # Errors
/// The text for status 415.
pub fn accept(content_type: Option<&str>, encoding: Option<&str>) -> Result<Message, String> {
    let kind = content_type.filter(|kind| !kind.is_empty()).unwrap_or(MEDIA);
    let mut parts = kind.split(';');
    let media = parts.next().unwrap_or_default().trim();
    if media != MEDIA {
        return Err(format!("expected {MEDIA} as the first (media) part, got {kind} content-type"));
    }
    let mut message = Message::V1;
    for part in parts {
        let Some((name, value)) = part.split_once('=') else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got {part} \
                 in {kind} content-type"
            ));
        };
        if name.trim() == "proto" {
            let value = value.trim();
            let known = [Message::V1, Message::V2].into_iter().find(|message| message.name() == value);
            message = known.ok_or_else(|| {
                let [one, two] = [Message::V1, Message::V2].map(Message::name);
                format!(
                    "got {kind} content type; unknown remote write protobuf message {value}, supported: {one}, {two}"
                )
            })?;
            break;
        }
    }
    match encoding.filter(|encoding| !encoding.is_empty()) {
        Some(encoding) if !encoding.eq_ignore_ascii_case("snappy") => {
            Err(format!("{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"))
        }
        _ => Ok(message),
    }
}

/// Stores a request. `now` bounds how new a sample may be. O(its length).
pub fn receive(storage: &dyn Storage, now: Timestamp, message: Message, body: &[u8], limits: &Limits) -> Outcome {
    let plain = match unpack(body, limits.message_bytes) {
        Ok(plain) => plain,
        Err(text) => return Outcome::refused(text),
    };
    let symbols = match (message, Symbols::read(&plain, limits.symbols)) {
        (Message::V1, _) => Symbols::default(),
        (_, Ok(Some(symbols))) => symbols,
        (_, Ok(None)) => return Outcome::refused(format!("more than {} symbols, split the request", limits.symbols)),
        (_, Err(error)) => return Outcome::refused(error.to_string()),
    };
    let newest = now.0.saturating_add(AHEAD_MS_MAX);
    let mut request = Request {
        message,
        symbols,
        limits,
        newest,
        appender: storage.appender(),
        written: Written::default(),
        errors: Vec::new(),
        more: 0,
        invalid: 0,
    };
    match request.all(&plain) {
        Err(Stop::Refused(text)) => Outcome::refused(text),
        Err(Stop::Failed(text)) => Outcome::failed(text),
        Ok(()) => request.finish(),
    }
}

/// The message behind snappy's block format. What it claims to be is believed only as far as its length can bear.
pub(crate) fn unpack(body: &[u8], max: usize) -> Result<Vec<u8>, String> {
    /// Bytes that one byte of snappy stands for at most: a copy of 64 takes three.
    const GROWTH_MAX: usize = 22;
    let corrupt = || "snappy: corrupt input".to_owned();
    let length = snap::raw::decompress_len(body).map_err(|_| corrupt())?;
    if body.is_empty() || length > body.len().saturating_mul(GROWTH_MAX) {
        return Err(corrupt());
    }
    if length > max {
        return Err(format!("a message of {length} bytes is over the limit of {max}, send fewer samples at once"));
    }
    let mut plain = vec![0; length];
    let written = snap::raw::Decoder::new().decompress(body, &mut plain).map_err(|_| corrupt())?;
    plain.truncate(written);
    Ok(plain)
}

/// What ends a request with nothing of it stored.
enum Stop {
    Refused(String),
    Failed(String),
}

impl From<WireError> for Stop {
    fn from(error: WireError) -> Self {
        Self::Refused(error.to_string())
    }
}

struct Request<'a> {
    message: Message,
    symbols: Symbols<'a>,
    limits: &'a Limits,
    newest: i64,
    appender: Box<dyn Appender + 'a>,
    written: Written,
    errors: Vec<String>,
    more: usize,
    invalid: u64,
}

impl<'a> Request<'a> {
    fn all(&mut self, body: &'a [u8]) -> Result<(), Stop> {
        let (mut fields, mut head) = (Fields(body), Head::default());
        while let Some((number, field)) = fields.next()? {
            if number == self.message.series_field()
                && let Field::Bytes(series) = field
            {
                self.series(series, &mut head)?;
            }
        }
        Ok(())
    }

    /// Something is wrong with one series or sample: the rest of a 2.0 request goes on.
    fn complain(&mut self, text: String) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(text);
        } else {
            self.more += 1;
        }
    }

    fn series(&mut self, series: &'a [u8], head: &mut Head<'a>) -> Result<(), Stop> {
        let labels = match self.labels(series, head)? {
            Ok(labels) => labels,
            Err(text) => {
                self.invalid(text);
                return Ok(());
            }
        };
        if self.message == Message::V2 && !head.filled {
            let set = shown(&labels);
            self.complain(format!("TimeSeries must contain at least one sample or histogram for series {set}"));
            return Ok(());
        }
        let id = self.appender.series(&labels).map_err(|error| Stop::Failed(error.to_string()))?;
        if let Some(metadata) = head.metadata(&self.symbols)? {
            // What a family says of itself is no reason to refuse its samples.
            let _ = self.appender.metadata(id, &metadata);
        }
        self.samples(series, id, &labels, head.start)
    }

    /// The labels of a series, or why they can be none.
    fn labels(&self, series: &'a [u8], head: &mut Head<'a>) -> Result<Result<Labels, String>, Stop> {
        match head.read(self.message, series, &self.symbols, self.limits.labels) {
            Ok(()) => {}
            Err(Unreadable::Wire(error)) => return Err(error.into()),
            Err(Unreadable::Labels(text)) => return Ok(Err(text)),
        }
        let size: usize = head.pairs.0.iter().map(|(name, value)| name.len() + value.len()).sum();
        if size > self.limits.label_bytes {
            let max = self.limits.label_bytes;
            return Ok(Err(format!("labels of {size} bytes are over the limit of {max}, shorten their values")));
        }
        Ok(head.pairs.check().map_err(|flaw| {
            let set = head.pairs.shown();
            match flaw {
                Flaw::Invalid => format!("invalid metric name or labels, got {set}"),
                Flaw::Repeated(name) => format!("invalid labels for series, labels {set}, duplicated label {name}"),
            }
        }))
    }

    fn invalid(&mut self, text: String) {
        self.invalid += 1;
        if self.message == Message::V2 {
            self.complain(text);
        }
    }

    fn samples(&mut self, series: &'a [u8], id: SeriesId, labels: &Labels, start: Option<i64>) -> Result<(), Stop> {
        let (float, native, exemplar) = self.message.fields();
        let mut fields = Fields(series);
        while let Some((number, field)) = fields.next()? {
            let Field::Bytes(bytes) = field else { continue };
            if number == float {
                self.float(id, bytes, labels, start)?;
            } else if number == native {
                self.histogram(id, bytes, labels, start)?;
            } else if number == exemplar {
                self.exemplar(id, bytes, labels)?;
            }
        }
        Ok(())
    }

    fn float(&mut self, id: SeriesId, bytes: &[u8], labels: &Labels, start: Option<i64>) -> Result<(), Stop> {
        let point = pieces::point(bytes)?;
        let at = Timestamp(point.at);
        let stored = match point.start.or(start) {
            _ if at.0 > self.newest => return self.future(labels),
            None => self.appender.float(id, at, point.value),
            Some(start) => {
                let value = Value::Float(point.value);
                self.appender.sample(id, Sample { at, start: Some(Timestamp(start)), value })
            }
        };
        let counted = self.account(stored, labels)?;
        self.written.samples += u64::from(counted);
        Ok(())
    }

    fn histogram(&mut self, id: SeriesId, bytes: &[u8], labels: &Labels, start: Option<i64>) -> Result<(), Stop> {
        let histogram::Stamped { at, start: own, value } = histogram::read(bytes)?;
        if at > self.newest {
            return self.future(labels);
        }
        if let Err(error) = value.validate() {
            return self.refuse(&error.to_string(), labels);
        }
        let start = own.or(start).map(Timestamp);
        let stored =
            self.appender.sample(id, Sample { at: Timestamp(at), start, value: Value::Histogram(Arc::new(value)) });
        let counted = self.account(stored, labels)?;
        self.written.histograms += u64::from(counted);
        Ok(())
    }

    fn exemplar(&mut self, id: SeriesId, bytes: &[u8], labels: &Labels) -> Result<(), Stop> {
        match exemplar_labels(self.message, bytes, &self.symbols, self.limits.labels) {
            Ok(own) => {
                let exemplar = pieces::exemplar(bytes, own)?;
                // As upstream: an exemplar that storage does not take is no fault of the request.
                self.written.exemplars += u64::from(self.appender.exemplar(id, exemplar).is_ok());
            }
            Err(Unreadable::Wire(error)) => return Err(error.into()),
            Err(Unreadable::Labels(why)) if self.message == Message::V2 => {
                self.complain(format!("parsing exemplar for series {}: {why}", shown(labels)));
            }
            Err(Unreadable::Labels(_)) => {}
        }
        Ok(())
    }

    fn future(&mut self, labels: &Labels) -> Result<(), Stop> {
        self.refuse("out of bounds: timestamp is too far in the future", labels)
    }

    /// Whether the sample was stored; what ends the request is an error.
    fn account(&mut self, stored: Result<(), AppendError>, labels: &Labels) -> Result<bool, Stop> {
        let count = self.written.samples + self.written.histograms;
        if count >= self.limits.samples as u64 {
            return Err(Stop::Refused(format!("more than {} samples, split the request", self.limits.samples)));
        }
        match stored {
            Ok(()) => Ok(true),
            Err(
                error @ (AppendError::OutOfOrder
                | AppendError::DuplicateTimestamp
                | AppendError::OutOfBounds
                | AppendError::TooOld),
            ) => self.refuse(&error.to_string(), labels).map(|()| false),
            Err(error) => Err(Stop::Failed(error.to_string())),
        }
    }

    /// One sample is refused: in 1.0 all are.
    fn refuse(&mut self, why: &str, labels: &Labels) -> Result<(), Stop> {
        if self.message == Message::V1 {
            return Err(Stop::Refused(why.to_owned()));
        }
        self.complain(format!("{why} for series {}", shown(labels)));
        Ok(())
    }

    fn finish(self) -> Outcome {
        let (mut errors, written, invalid_series) = (self.errors, self.written, self.invalid);
        if let Err(error) = self.appender.commit() {
            return Outcome::failed(error.to_string());
        }
        if self.more > 0 {
            errors.push(format!("{} more errors", self.more));
        }
        let status = if errors.is_empty() { 204 } else { 400 };
        Outcome { status, text: errors.join("\n"), written, invalid_series }
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
