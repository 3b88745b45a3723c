//! The import of exposition text: samples with their own times, from a stream of any length, into storage.
//!
//! The stream is cut at line ends into blocks; each is a transaction, so what was stored before an error stays. Memory
//! is one block and the names of recent series. Formats: text 0.0.4 and OpenMetrics. Left out: protobuf, and the start
//! times of OpenMetrics' `_created` lines, which are stored as the samples they are written as.

use exposition::{
    Format,
    scrape::{Entry, Parser},
};
use model::{Builder, Exemplar, Sample, Timestamp, Value};
use std::collections::HashMap;
use storage::{AppendError, Appender, SeriesId, Storage};

/// Bytes that are read before they are cut at a line end.
const BLOCK: usize = 256 << 10;
/// Bytes of one line at most.
const LINE_MAX: usize = 1 << 20;
/// Bytes of series texts that are remembered.
const KNOWN_MAX: usize = 16 << 20;

/// Why an import ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A line is no line of the format.
    #[error("line {line}: {why}")]
    Syntax {
        /// From 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// Storage takes nothing.
    #[error("line {line}: {error}")]
    Storage {
        /// The first line of the block that was not stored.
        line: u64,
        /// What storage says.
        error: AppendError,
    },
}

/// What became of an import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Samples stored.
    pub samples: u64,
    /// Exemplars stored.
    pub exemplars: u64,
    /// Samples older than the newest of their series, and too old to come out of order.
    pub out_of_order: u64,
    /// Samples of another value than the one stored for their time.
    pub duplicates: u64,
    /// Samples outside the time range that may be written.
    pub out_of_bounds: u64,
    /// Samples of series without a name.
    pub nameless: u64,
}

/// An import under way.
pub struct Import<'a> {
    storage: &'a dyn Storage,
    now: Timestamp,
    format: Format,
    /// What has arrived and is not stored.
    pending: Vec<u8>,
    /// The TYPE line in force, which says how `le` and `quantile` are written.
    kind: Vec<u8>,
    /// Lines stored.
    lines: u64,
    known: HashMap<Vec<u8>, SeriesId>,
    known_bytes: usize,
    builder: Builder,
    exemplars: Vec<Exemplar>,
    done: Imported,
}

impl<'a> Import<'a> {
    /// Samples without a time get `now`.
    pub fn new(storage: &'a dyn Storage, now: Timestamp, format: Format) -> Self {
        Self {
            storage,
            now,
            format,
            pending: Vec::new(),
            kind: Vec::new(),
            lines: 0,
            known: HashMap::new(),
            known_bytes: 0,
            builder: Builder::default(),
            exemplars: Vec::new(),
            done: Imported::default(),
        }
    }

    /// Takes the next bytes. O(their number).
    ///
    /// # Errors
    /// [`ImportError`]; the import is over then, and what was stored stays.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), ImportError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK));
            bytes = later;
            self.pending.extend_from_slice(now);
            if self.pending.len() < BLOCK {
                continue;
            }
            match self.pending.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => {
                    let rest = self.pending.split_off(end + 1);
                    let block = std::mem::replace(&mut self.pending, rest);
                    self.block(block, false)?;
                }
                None if self.pending.len() > LINE_MAX => {
                    let why = format!("longer than {LINE_MAX} bytes");
                    return Err(ImportError::Syntax { line: self.lines + 1, why });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Stores what is left.
    ///
    /// # Errors
    /// [`ImportError`].
    pub fn finish(mut self) -> (Imported, Result<(), ImportError>) {
        let mut block = std::mem::take(&mut self.pending);
        if !self.format.is_openmetrics() && block.last().is_some_and(|last| *last != b'\n') {
            block.push(b'\n');
        }
        let result = self.block(block, true);
        (self.done, result)
    }

    /// What has been stored so far.
    pub fn so_far(&self) -> Imported {
        self.done
    }

    fn block(&mut self, block: Vec<u8>, last: bool) -> Result<(), ImportError> {
        let lines = block.iter().filter(|byte| **byte == b'\n').count() as u64;
        let mut body = std::mem::take(&mut self.kind);
        let head = body.len();
        body.extend_from_slice(&block);
        // A block of OpenMetrics ends as a body does; the true end has to be there by itself.
        if self.format.is_openmetrics() && !last && !block.ends_with(b"# EOF\n") {
            body.extend_from_slice(b"# EOF\n");
        }
        self.kind = type_line(&block).map_or_else(|| body[..head].to_vec(), <[u8]>::to_vec);
        let mut appender = self.storage.appender();
        let stored = self.samples(&body, head, &mut *appender);
        let first = self.lines + 1;
        let done = stored.map_err(|error| match error {
            Stop::At(at, why) => {
                let before = body.get(head..at).unwrap_or_default();
                let line = first + before.iter().filter(|byte| **byte == b'\n').count() as u64;
                ImportError::Syntax { line, why }
            }
            Stop::Storage(error) => ImportError::Storage { line: first, error },
        })?;
        appender.commit().map_err(|error| ImportError::Storage { line: first, error })?;
        self.done = done;
        self.lines += lines;
        Ok(())
    }

    fn samples(&mut self, body: &[u8], head: usize, appender: &mut dyn Appender) -> Result<Imported, Stop> {
        let mut parser = Parser::new(body, self.format);
        let mut done = self.done;
        loop {
            let entry = parser.next().map_err(|error| Stop::At(error.at.max(head), error.why))?;
            let (raw, value, at) = match entry {
                None => return Ok(done),
                Some(Entry::Series { raw, value, at }) => (raw, Value::Float(value), at),
                Some(Entry::Histogram { raw, value, at }) => (raw, Value::Histogram(value), at),
                Some(_) => continue,
            };
            let at = at.map_or(self.now, Timestamp);
            let Some(id) = self.find(&raw, &parser, appender)? else {
                done.nameless += 1;
                continue;
            };
            let stored = match append(id, at, &value, appender) {
                Err(AppendError::UnknownSeries) => {
                    // Storage gave it up since an earlier block.
                    self.known.clear();
                    self.known_bytes = 0;
                    let Some(id) = self.find(&raw, &parser, appender)? else { continue };
                    append(id, at, &value, appender)
                }
                stored => stored,
            };
            match stored {
                Ok(()) => done.samples += 1,
                Err(AppendError::DuplicateTimestamp) => done.duplicates += 1,
                Err(AppendError::OutOfOrder | AppendError::TooOld) => done.out_of_order += 1,
                Err(AppendError::OutOfBounds) => done.out_of_bounds += 1,
                Err(error) => return Err(Stop::Storage(error)),
            }
            parser.exemplars(&mut self.exemplars);
            for exemplar in self.exemplars.drain(..) {
                let exemplar = Exemplar { at: exemplar.at.or(Some(at)), ..exemplar };
                done.exemplars += u64::from(appender.exemplar(id, exemplar).is_ok());
            }
        }
    }

    /// The series of a text; none for one without a name.
    fn find(&mut self, raw: &[u8], parser: &Parser<'_>, appender: &mut dyn Appender) -> Result<Option<SeriesId>, Stop> {
        if let Some(id) = self.known.get(raw) {
            return Ok(Some(*id));
        }
        parser.labels(&mut self.builder);
        let labels = self.builder.build();
        if labels.metric_name().is_empty() {
            return Ok(None);
        }
        let id = appender.series(&labels).map_err(Stop::Storage)?;
        self.known_bytes += raw.len();
        if self.known_bytes > KNOWN_MAX {
            self.known.clear();
            self.known_bytes = raw.len();
        }
        self.known.insert(raw.to_vec(), id);
        Ok(Some(id))
    }
}

/// What ends a block with nothing of it stored.
enum Stop {
    At(usize, String),
    Storage(AppendError),
}

fn append(id: SeriesId, at: Timestamp, value: &Value, appender: &mut dyn Appender) -> Result<(), AppendError> {
    match value {
        Value::Float(value) => appender.float(id, at, *value),
        Value::Histogram(_) => appender.sample(id, Sample { at, start: None, value: value.clone() }),
    }
}

/// The last TYPE line of a block, with its line end.
fn type_line(block: &[u8]) -> Option<&[u8]> {
    block.split_inclusive(|byte| *byte == b'\n').rev().find(|line| line.starts_with(b"# TYPE "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::Memory;

    fn store() -> Memory {
        Memory::new(storage::Limits { retention: None, ..storage::Limits::default() })
    }

    /// Imports in pieces of `step` bytes.
    fn import(store: &Memory, format: Format, text: &str, step: usize) -> (Imported, Result<(), ImportError>) {
        let mut import = Import::new(store, Timestamp(9_000), format);
        for piece in text.as_bytes().chunks(step) {
            if let Err(error) = import.push(piece) {
                return (import.so_far(), Err(error));
            }
        }
        import.finish()
    }

    fn series(store: &Memory) -> Vec<(String, Vec<i64>)> {
        let querier = store.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let mut batch = Vec::new();
        querier.select(&[]).expect("readable").next_batch(100, &mut batch).expect("readable");
        batch.into_iter().map(|one| (one.labels.to_string(), one.times.to_vec())).collect()
    }

    #[test]
    fn samples_keep_their_times_and_the_refused_are_counted() {
        let store = store();
        let text = "# HELP a x\n# TYPE a counter\na{x=\"1\"} 1 1000\na{x=\"1\"} 2 2000\na{x=\"1\"} 3 1500\na{x=\"1\"} 9 2000\nb 5\n";
        let (done, result) = import(&store, Format::Text004, text, 7);
        assert_eq!(result, Ok(()));
        assert_eq!(done, Imported { samples: 3, out_of_order: 1, duplicates: 1, ..Imported::default() });
        assert_eq!(series(&store), [("a{x=\"1\"}".to_owned(), vec![1000, 2000]), ("b".to_owned(), vec![9000])]);
    }

    #[test]
    fn openmetrics_is_read_in_seconds_with_its_exemplars_and_end() {
        let store = store();
        let text = "# TYPE a counter\na_total 1 1.5 # {trace=\"x\"} 1 1.4\n# EOF\n";
        let (done, result) = import(&store, Format::OpenMetrics100, text, 5);
        assert_eq!((done.samples, done.exemplars, result), (1, 1, Ok(())));
        assert_eq!(series(&store), [("a_total".to_owned(), vec![1500])]);
        let (_, result) = import(&store, Format::OpenMetrics100, "a_total 2 2.5\n", 100);
        assert!(result.is_err(), "a body without its end was cut short");
    }

    #[test]
    fn blocks_share_types_and_lines_are_counted_through() {
        let store = store();
        let mut text = String::from("# TYPE h histogram\n");
        let lines = 20_000;
        for i in 0..lines {
            text.push_str(&format!("h_bucket{{le=\"1\",x=\"some text to fill a block\"}} 1 {i}\n"));
        }
        assert!(text.len() > 3 * BLOCK);
        text.push_str("broken line here\n");
        let (done, result) = import(&store, Format::Text004, &text, 10_000);
        let found = series(&store);
        assert_eq!(found[0].0, "h_bucket{le=\"1.0\", x=\"some text to fill a block\"}", "canonical in every block");
        assert_eq!(found.len(), 1);
        assert!(done.samples > 3_000 && done.samples < lines, "whole blocks were stored: {}", done.samples);
        assert!(matches!(result, Err(ImportError::Syntax { line, .. }) if line == lines + 2), "{result:?}");
    }

    #[test]
    fn a_line_has_its_limit() {
        let (_, result) = import(&store(), Format::Text004, &"a".repeat(LINE_MAX + BLOCK), 1 << 16);
        assert!(matches!(result, Err(ImportError::Syntax { line: 1, .. })), "{result:?}");
    }
}
