//! A commit on its way: samples are judged as they come, written to the log together, and visible together.

use crate::{
    Tsdb,
    head::{Admission, Head},
    record::{self, Batch, Entry, Float, Sample},
};
use model::{Exemplar, Labels, Metadata, Timestamp, Value};
use std::collections::HashMap;
use storage::{AppendError, Appender, SeriesId};

/// Ascending runs of series after which pending floats are found by a table.
const RUNS_MAX: usize = 16;
/// Floats that a batch kept for the next transaction may have room for.
const KEPT_MAX: usize = 1 << 16;
/// Batches kept for the next transactions.
const BATCHES_MAX: usize = 8;

/// The series of the pending floats, for finding the newest of one. A scrape brings them in ascending order, which
/// costs a comparison each; other orders are searched run by run, and wild ones by a table.
#[derive(Default)]
struct Order {
    /// Where each ascending run begins.
    runs: Vec<usize>,
    highest: u64,
    table: Option<HashMap<u64, usize>>,
}

impl Order {
    fn newest<'a>(&self, floats: &'a [Float], series: u64) -> Option<&'a Float> {
        let last = floats.last()?;
        if last.series == series {
            return Some(last);
        }
        if series > self.highest {
            return None;
        }
        if let Some(table) = &self.table {
            return table.get(&series).map(|place| &floats[*place]);
        }
        let mut end = floats.len();
        for start in self.runs.iter().rev() {
            let run = &floats[*start..end];
            let place = run.partition_point(|float| float.series <= series);
            if let Some(found) = run[..place].last().filter(|float| float.series == series) {
                return Some(found);
            }
            end = *start;
        }
        None
    }

    /// Notes a float that is about to be pushed.
    fn push(&mut self, floats: &[Float], series: u64) {
        if floats.last().is_none_or(|last| series < last.series) {
            self.runs.push(floats.len());
            if self.runs.len() > RUNS_MAX && self.table.is_none() {
                self.table = Some(floats.iter().zip(0..).map(|(float, place)| (float.series, place)).collect());
            }
        }
        self.highest = self.highest.max(series);
        if let Some(table) = &mut self.table {
            table.insert(series, floats.len());
        }
    }
}

/// One transaction.
pub(crate) struct Transaction<'a> {
    db: &'a Tsdb,
    batch: Batch,
    order: Order,
    /// Where the newest of the others of a series is.
    others: HashMap<u64, usize>,
    /// Series whose labels the log does not know.
    unlogged: Vec<u64>,
    /// The state of the head in which the ids were valid.
    stamp: u64,
    key: Vec<u8>,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        let mut kept = self.db.batches.lock();
        if kept.len() < BATCHES_MAX && batch.floats.capacity() <= KEPT_MAX {
            batch.clear();
            kept.push(batch);
        }
    }
}

impl<'a> Transaction<'a> {
    pub(crate) fn new(db: &'a Tsdb) -> Self {
        let batch = db.batches.lock().pop().unwrap_or_default();
        let stamp = db.head.read().stamp;
        Self {
            db,
            batch,
            order: Order::default(),
            others: HashMap::new(),
            unlogged: Vec::new(),
            stamp,
            key: Vec::new(),
        }
    }

    /// The newest pending sample of a series.
    fn pending(&self, series: u64) -> Option<(i64, Entry)> {
        if !self.others.is_empty()
            && let Some(sample) = self.others.get(&series).and_then(|place| self.batch.others.get(*place))
        {
            return Some((sample.at, sample.entry.clone()));
        }
        self.order.newest(&self.batch.floats, series).map(|float| (float.at, Entry::Float(float.value)))
    }

    fn add(&mut self, sample: Sample) -> Result<(), AppendError> {
        let pending = self.pending(sample.series);
        let (admission, logged) = {
            let head = self.db.head.read();
            let admission = match &pending {
                Some((last, entry)) => head.judge(Some((*last, entry)), sample.at, &sample.entry)?,
                None => head.admit(sample.series, sample.at, &sample.entry)?,
            };
            (admission, head.get(sample.series).is_some_and(crate::head::Series::is_logged))
        };
        if !logged && admission != Admission::Known {
            self.unlogged.push(sample.series);
        }
        match admission {
            Admission::Known => {}
            Admission::Late => self.batch.late.push(sample),
            Admission::Next => {
                self.others.insert(sample.series, self.batch.others.len());
                self.batch.others.push(sample);
            }
        }
        Ok(())
    }

    /// The hot path: one lock, no allocation, no search when series come in ascending order.
    fn add_float(&mut self, id: u64, at: i64, value: f64) -> Result<(), AppendError> {
        let new = self.order.newest(&self.batch.floats, id).is_none();
        let follows = self.batch.floats.last().is_some_and(|last| last.series == id);
        // Behind a sample that is no plain float, or apart from the others of its series, it goes the long way.
        if !new && !follows || self.others.contains_key(&id) {
            return self.add(Sample { series: id, at, start: None, entry: Entry::Float(value) });
        }
        let (admission, logged) = {
            let head = self.db.head.read();
            match self.batch.floats.last().filter(|_| !new) {
                // It was noted with the first of its series.
                Some(last) => (head.judge(Some((last.at, &Entry::Float(last.value))), at, &Entry::Float(value))?, true),
                None => head.admit_float(id, at, value)?,
            }
        };
        if !logged && admission != Admission::Known {
            self.unlogged.push(id);
        }
        match admission {
            Admission::Known => {}
            Admission::Late => {
                self.batch.late.push(Sample { series: id, at, start: None, entry: Entry::Float(value) });
            }
            Admission::Next => {
                self.order.push(&self.batch.floats, id);
                self.batch.floats.push(Float { series: id, at, value });
            }
        }
        Ok(())
    }

    /// Makes the ids those of the head as it is now, and drops what it does not take any more. Answers whether the log
    /// has the values that the floats build on, which are put into `bases`.
    fn revalidate(&mut self, head: &Head, bases: &mut Vec<u64>) -> bool {
        let moved = head.stamp != self.stamp;
        let current = |id: &mut u64| !moved || head.current(*id).map(|now| *id = now).is_some();
        let next = |id: u64, at: i64| {
            let newest = head.get(id).and_then(|series| head.newest_time(id, series));
            at >= head.admit_from && newest.is_none_or(|last| at > last)
        };
        let Batch { floats, others, late, exemplars, metadata } = &mut self.batch;
        // What has moved into parts, or was overtaken, since it was admitted comes too late.
        let mut at_hand = true;
        bases.clear();
        floats.retain_mut(|float| {
            if !current(&mut float.series) {
                return false;
            }
            let Some(series) = head.get(float.series) else { return false };
            let newest = head.newest_time(float.series, series);
            if float.at < head.admit_from || newest.is_some_and(|last| float.at <= last) {
                return false;
            }
            at_hand &= series.epoch == head.epoch;
            bases.push(series.state.value);
            true
        });
        others.retain_mut(|sample| current(&mut sample.series) && next(sample.series, sample.at));
        late.retain_mut(|sample| current(&mut sample.series));
        exemplars.retain_mut(|(series, _)| current(series));
        metadata.retain_mut(|(series, _)| current(series));
        if moved {
            self.unlogged.clear();
            let all = floats.iter().map(|float| float.series);
            let all = all.chain(others.iter().chain(late.iter()).map(|sample| sample.series));
            let all = all.chain(exemplars.iter().map(|(series, _)| *series));
            self.unlogged.extend(all.chain(metadata.iter().map(|(series, _)| *series)));
        }
        self.unlogged.sort_unstable();
        self.unlogged.dedup();
        self.unlogged.retain(|id| head.get(*id).is_some_and(|series| !series.is_logged()));
        at_hand
    }
}

impl Appender for Transaction<'_> {
    fn series(&mut self, labels: &Labels) -> Result<SeriesId, AppendError> {
        if let Some(id) = self.db.head.read().find(labels, &mut self.key) {
            return Ok(SeriesId(id));
        }
        self.db.head.write().register(labels).map(SeriesId)
    }

    fn float(&mut self, series: SeriesId, at: Timestamp, value: f64) -> Result<(), AppendError> {
        let result = self.add_float(series.0, at.0, value);
        self.db.refusals.note(result)
    }

    fn sample(&mut self, series: SeriesId, sample: model::Sample) -> Result<(), AppendError> {
        let entry = match sample.value {
            Value::Float(value) if sample.start.is_none() => return self.float(series, sample.at, value),
            Value::Float(value) => Entry::Float(value),
            Value::Histogram(histogram) => Entry::Histogram(histogram),
        };
        let start = sample.start.map(|start| start.0);
        let result = self.add(Sample { series: series.0, at: sample.at.0, start, entry });
        self.db.refusals.note(result)
    }

    fn exemplar(&mut self, series: SeriesId, exemplar: Exemplar) -> Result<(), AppendError> {
        let labels = {
            let head = self.db.head.read();
            head.known(series.0)?;
            head.labels(series.0 as u32, &mut model::Builder::default())
        };
        let mut ring = self.db.exemplars.lock();
        if !ring.is_off() && ring.admit(&labels, &exemplar)? {
            self.batch.exemplars.push((series.0, exemplar));
        }
        Ok(())
    }

    fn metadata(&mut self, series: SeriesId, metadata: &Metadata) -> Result<(), AppendError> {
        let head = self.db.head.read();
        head.known(series.0)?;
        let have = head.side(series.0).and_then(|side| side.metadata.as_deref());
        if have != Some(metadata) {
            self.batch.metadata.push((series.0, metadata.clone()));
            self.unlogged.push(series.0);
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), AppendError> {
        let db = self.db;
        let mut log = db.log.lock();
        if log.begins_segment() {
            db.head.write().next_epoch();
        }
        {
            let head = db.head.read();
            let (plain, payload, bases) = &mut *db.scratch.lock();
            let at_hand = self.revalidate(&head, bases);
            if self.batch.is_empty() {
                return Ok(());
            }
            let mut builder = model::Builder::default();
            let names: Vec<(u64, Labels)> =
                self.unlogged.iter().map(|id| (*id, head.labels(*id as u32, &mut builder))).collect();
            payload.clear();
            record::put(&names, &self.batch, at_hand.then_some(&bases[..]), plain, payload);
        }
        let written = log.append(&db.scratch.lock().1);
        db.refusals.note(written.map_err(|error| AppendError::Unwritable(error.to_string())))?;
        let mut head = db.head.write();
        self.apply(&mut head);
        Ok(())
    }
}

impl Transaction<'_> {
    /// Takes in what the log has.
    fn apply(&mut self, head: &mut Head) {
        self.unlogged.iter().for_each(|id| head.set_logged(*id));
        let batch = &mut self.batch;
        for float in &batch.floats {
            head.push_float(float.series, float.at, float.value);
        }
        for sample in batch.others.drain(..) {
            head.push(sample.series, sample.at, sample.start, sample.entry);
        }
        for sample in batch.late.drain(..) {
            head.push_late(sample.series, sample.at, sample.entry);
        }
        for (series, metadata) in batch.metadata.drain(..) {
            head.set_metadata(series, &metadata);
        }
        if batch.exemplars.is_empty() {
            return;
        }
        let (mut ring, mut builder) = (self.db.exemplars.lock(), model::Builder::default());
        for (series, exemplar) in batch.exemplars.drain(..) {
            // One that another transaction has overtaken is dropped.
            let _ = ring.add(head.labels(series as u32, &mut builder), exemplar);
        }
    }
}
