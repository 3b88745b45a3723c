//! Selectors: reading series, the newest sample of every step, and the windows of range functions.

use crate::{
    QueryError,
    eval::Run,
    expr::{At, Expr, Extension, Length, Node, Selector, When},
    histogram::{Hint, Histogram, Incompatible},
    notes::Note,
    plan::Context,
    report::Spent,
    table::{Cell, Done, Grid, Row, Value},
    worker::{self, Kept, Made, Worker},
};
use model::{FloatHistogram, Labels, Timestamp, is_stale};
use std::sync::Arc;
use storage::{Columns, Share};

/// Series fetched from storage at once.
const BATCH: usize = 256;

/// What an instant selector is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Value,
    /// When the sample was taken, in seconds.
    Time,
    /// When the counter behind the sample started, in seconds; 0 when that is not known.
    Start,
}

/// A series with the samples a range function may see; stale ones are gone.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Labels,
    pub(crate) unnamed: bool,
    pub(crate) times: Arc<[i64]>,
    pub(crate) values: Arc<[f64]>,
    /// Aligned with `times`, 0 where nothing is known; empty when nothing is known at all.
    pub(crate) starts: Vec<i64>,
    pub(crate) histograms: Vec<(i64, Arc<Histogram>)>,
    /// Aligned with `histograms`, or empty.
    pub(crate) histogram_starts: Vec<i64>,
}

/// Where the windows of a range argument lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) range: i64,
    offset: i64,
    pin: Option<i64>,
    pub(crate) extension: Extension,
    lookback: i64,
}

impl Windows {
    /// The end of the window at a step.
    pub(crate) fn end(&self, grid: &Grid, step: usize) -> i64 {
        self.pin.unwrap_or_else(|| grid.time(step)).saturating_sub(self.offset)
    }

    /// The times after which and until which samples are given.
    pub(crate) fn bounds(&self, end: i64) -> (i64, i64) {
        let before = if self.extension == Extension::None { 0 } else { self.lookback };
        let after = if self.extension == Extension::Smoothed { self.lookback } else { 0 };
        (end.saturating_sub(self.range).saturating_sub(before), end.saturating_add(after))
    }
}

/// The time a selector is fixed to.
fn pin(when: &When, context: &Context) -> Option<i64> {
    match when.at {
        Some(At::Time(at)) => Some(at),
        Some(At::Start) => Some(context.start),
        Some(At::End) => Some(context.end),
        None => None,
    }
}

/// The stored series of a selector with samples after `first` and until `last`.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    matchers: Vec<model::Matcher>,
    first: i64,
    last: i64,
}

impl Stored {
    /// What tells equal reads.
    fn key(&self) -> Key {
        (texts(&self.matchers), self.first, self.last)
    }
}

/// A selector's matchers as text, and the times it is read for.
pub(crate) type Key = (String, i64, i64);

/// Matchers as text.
pub(crate) fn texts(matchers: &[model::Matcher]) -> String {
    matchers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// What was read for a selector that the query has several times.
pub(crate) enum Shared {
    /// Everything, in order.
    Whole(Arc<Vec<Columns>>),
    /// Too much to keep.
    TooLarge,
}

/// Makes the rows of some series.
pub(crate) type MakeOf<'m> = dyn Fn(&mut Worker<'_>, &[Columns], &mut Vec<Made>) -> Done<()> + Sync + 'm;

/// Bytes of columns kept for a selector that comes again; more is rather decoded again.
const SHARED_MAX: usize = 64 << 20;

/// How an instant selector makes a row of a series.
#[derive(Clone, Copy)]
pub(crate) struct Instant {
    pin: Option<i64>,
    offset: i64,
    lookback: i64,
    grid: Grid,
    want: Want,
    smoothed: bool,
    statistics: bool,
    /// Where the selector stands.
    at: usize,
    /// Whether what it sees is counted.
    counts: bool,
}

/// Cells of a unit of work, about, so that it stays near the processor.
const CELLS: usize = 1 << 16;

impl Run<'_> {
    /// Series of a unit of work.
    pub(crate) fn unit(&self) -> usize {
        (CELLS / self.grid.steps.max(1)).clamp(16, 128)
    }

    /// Gives stored series to `make`, a few at a time, on all threads. Those of a selector that the query has again are
    /// kept while they are not too many.
    pub(crate) fn each_columns(
        &mut self,
        stored: &Stored,
        stages: usize,
        make: &MakeOf<'_>,
        sink: &mut dyn FnMut(&mut Run<'_>, Made) -> Done<()>,
    ) -> Done<()> {
        self.alive()?;
        let (key, unit) = (stored.key(), self.unit());
        let again = self.uses.get(&key.0).is_some_and(|uses| *uses > 1);
        if again && !self.shared.contains_key(&key) {
            let kept = self.read_at_most(stored, SHARED_MAX)?.map_or(Shared::TooLarge, Shared::Whole);
            self.shared.insert(key.clone(), kept);
        }
        if let Some(Shared::Whole(all)) = self.shared.get(&key) {
            let all = Arc::clone(all);
            let mut parts = all.chunks(unit);
            return worker::drive(self, stages, &mut || Ok(parts.next()), make, sink);
        }
        let querier = self.storage.querier(Timestamp(stored.first.saturating_add(1)), Timestamp(stored.last));
        let mut set = querier.select(&stored.matchers).map_err(failed)?;
        let mut next = || set.next_share(unit).map_err(failed);
        let make = |worker: &mut Worker<'_>, share: Box<dyn Share>, out: &mut Vec<Made>| {
            let gave = |all: &Result<Vec<Columns>, storage::ReadError>| {
                let all = all.as_deref().unwrap_or_default();
                let samples = all.iter().map(|one| one.times.len() + one.histograms.len()).sum::<usize>();
                Spent {
                    series: all.len() as u64,
                    samples: samples as u64,
                    bytes: weigh(all) as u64,
                    ..Spent::default()
                }
            };
            let all = worker.spend(0, |_| share.columns(), gave).map_err(failed)?;
            let bytes = weigh(&all);
            worker.hold(bytes)?;
            worker.alive()?;
            let made = make(worker, &all, out);
            worker.release(bytes);
            made
        };
        worker::drive(self, stages, &mut next, &make, sink)
    }

    /// The stored series, unless they have more than `most` bytes.
    fn read_at_most(&mut self, stored: &Stored, most: usize) -> Done<Option<Arc<Vec<Columns>>>> {
        let querier = self.storage.querier(Timestamp(stored.first.saturating_add(1)), Timestamp(stored.last));
        let mut set = querier.select(&stored.matchers).map_err(failed)?;
        let (mut batch, mut all, mut bytes) = (Vec::new(), Vec::new(), 0_usize);
        loop {
            set.next_batch(BATCH, &mut batch).map_err(failed)?;
            if batch.is_empty() {
                break;
            }
            self.alive()?;
            let more = weigh(&batch);
            bytes = bytes.saturating_add(more);
            if bytes > most {
                self.stored = self.stored.saturating_sub(bytes - more);
                return Ok(None);
            }
            self.store(more)?;
            all.append(&mut batch);
        }
        Ok(Some(Arc::new(all)))
    }

    /// The series an instant selector reads, and how it makes rows of them: the newest sample of each step, at most
    /// `lookback` old and not stale. O(samples + steps) per series, O(steps) for those that share sample times.
    pub(crate) fn instant_source(&self, selector: &Selector, at: usize, want: Want) -> (Stored, Instant) {
        let smoothed = selector.extension == Extension::Smoothed && want == Want::Value;
        let instant = Instant {
            pin: pin(&selector.when, &self.context),
            offset: selector.when.offset.ms(),
            lookback: self.context.lookback,
            grid: self.grid,
            want,
            smoothed,
            statistics: selector.statistics,
            at,
            counts: self.counts,
        };
        let (one, other) = (instant.look(0), instant.look(self.grid.steps.saturating_sub(1)));
        let last = one.max(other).saturating_add(if smoothed { instant.lookback } else { 0 });
        let first = one.min(other).saturating_sub(instant.lookback);
        (Stored { matchers: selector.matchers.clone(), first, last }, instant)
    }

    /// The series that a range selector reads.
    pub(crate) fn range_source(&self, selector: &Selector, windows: &Windows) -> Stored {
        let (first, last) = self.reach(windows);
        Stored { matchers: selector.matchers.clone(), first, last }
    }

    /// Where the windows of a range argument lie.
    pub(crate) fn windows(&self, arg: &Expr) -> Done<Windows> {
        match &arg.bare().node {
            Node::Select(selector) => {
                let range = selector.range.as_ref().map_or(0, Length::ms);
                Ok(self.windows_of(range, &selector.when, selector.extension))
            }
            Node::Subquery { range, when, .. } => Ok(self.windows_of(range.ms(), when, Extension::None)),
            _ => Err(QueryError::Execution("expected a range vector".to_owned())),
        }
    }

    fn windows_of(&self, range: i64, when: &When, extension: Extension) -> Windows {
        let lookback = self.context.lookback;
        Windows { range, offset: when.offset.ms(), pin: pin(when, &self.context), extension, lookback }
    }

    /// The times after which and until which all windows lie.
    fn reach(&self, windows: &Windows) -> (i64, i64) {
        let (one, other) = (windows.end(&self.grid, 0), windows.end(&self.grid, self.grid.steps.saturating_sub(1)));
        (windows.bounds(one.min(other)).0, windows.bounds(one.max(other)).1)
    }

    /// The absolute multiples of a subquery's step that any window can see; none when there are none.
    pub(crate) fn subquery_grid(&self, windows: &Windows, step: Option<&Length>) -> Done<Option<Grid>> {
        let step = step.map_or(self.context.interval, Length::ms);
        if step <= 0 {
            return Err(QueryError::Execution("the step of a subquery must be positive".to_owned()));
        }
        let (first, last) = self.reach(windows);
        // Division truncates toward zero, as upstream.
        let mut start = step.saturating_mul(first / step);
        if start <= first {
            start = start.saturating_add(step);
        }
        if start > last {
            return Ok(None);
        }
        let steps =
            usize::try_from((i128::from(last) - i128::from(start)) / i128::from(step) + 1).unwrap_or(usize::MAX);
        if steps > self.samples_max() {
            return Err(QueryError::TooManySamples);
        }
        Ok(Some(Grid { start, step, steps }))
    }

    /// All series of a range argument.
    fn all_series(&mut self, arg: &Expr, windows: &Windows) -> Done<Vec<Series>> {
        match &arg.bare().node {
            Node::Select(selector) => {
                let stored = self.range_source(selector, windows);
                let most = self.budget.bytes_max;
                let all = self.read_at_most(&stored, usize::MAX)?.ok_or(QueryError::TooMuchMemory(most))?;
                Ok(all.iter().map(|columns| series(columns, selector.statistics)).collect())
            }
            Node::Subquery { body, step, .. } => {
                let Some(inner) = self.subquery_grid(windows, step.as_ref())? else { return Ok(Vec::new()) };
                let outer = std::mem::replace(&mut self.grid, inner);
                let rows = self.rows(body);
                self.grid = outer;
                Ok(rows?.into_iter().map(|row| points(row, &inner)).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The samples of a bare range argument at the one step of an instant query.
    pub(crate) fn raw(&mut self, arg: &Expr) -> Done<Vec<Series>> {
        let windows = self.windows(arg)?;
        let subquery = matches!(arg.bare().node, Node::Subquery { .. });
        let seen = std::mem::take(&mut self.seen);
        let all = self.all_series(arg, &windows);
        let inner = std::mem::replace(&mut self.seen, seen);
        self.seen.at(0, inner.total as usize);
        let all = all?;
        let (first, last) = windows.bounds(windows.end(&self.grid, 0));
        let mut out = Vec::new();
        for series in all {
            let floats = slice(&series.times, first, last);
            let histograms = part(&series.histograms, first, last).to_vec();
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            let weight = floats.len() + histograms.iter().map(|(_, one)| one.weight()).sum::<usize>();
            self.hold(weight)?;
            if !subquery {
                self.seen.at(0, weight);
            }
            let (times, values) = (series.times[floats.clone()].into(), series.values[floats].into());
            out.push(Series { times, values, histograms, ..series });
        }
        Ok(out)
    }
}

fn failed(error: storage::ReadError) -> QueryError {
    match error {
        storage::ReadError::Canceled => QueryError::Canceled,
        error => QueryError::Execution(error.to_string()),
    }
}

/// Bytes of columns; times that neighbours share count once.
fn weigh(all: &[Columns]) -> usize {
    let mut bytes = 0;
    let mut known: Option<&Arc<[i64]>> = None;
    for columns in all {
        let own = known.is_none_or(|known| !Arc::ptr_eq(known, &columns.times));
        bytes += columns.values.len() * 8 + if own { columns.times.len() * 8 } else { 0 };
        bytes += columns.histograms.len() * size_of::<FloatHistogram>() + columns.labels.packed_len() + 128;
        known = Some(&columns.times);
    }
    bytes
}

/// The floats at places counted from 1, stale ones left out.
fn gathered(columns: &Columns, places: &[u32]) -> Row {
    let mut row = Row::empty(columns.labels.clone(), places.len());
    for (step, place) in places.iter().enumerate().filter(|(_, place)| **place > 0) {
        let value = columns.values[*place as usize - 1];
        row.cells[step] = value;
        row.present[step] = !is_stale(value);
    }
    row
}

impl Instant {
    /// The time looked at, at one step.
    fn look(&self, step: usize) -> i64 {
        self.pin.unwrap_or_else(|| self.grid.time(step)).saturating_sub(self.offset)
    }

    /// The row of a series.
    pub(crate) fn row(&self, worker: &mut Worker<'_>, kept: &mut Kept, columns: &Columns) -> Row {
        let row = self.uncounted(worker, kept, columns);
        if self.counts {
            worker.seen.row(&row);
        }
        row
    }

    fn uncounted(&self, worker: &mut Worker<'_>, kept: &mut Kept, columns: &Columns) -> Row {
        if self.smoothed {
            return self.smoothed_row(worker, columns);
        }
        if !columns.histograms.is_empty() || self.want != Want::Value {
            return self.newest_row(columns);
        }
        let same = |times: &Arc<[i64]>| Arc::ptr_eq(times, &columns.times) || *times == columns.times;
        if !kept.newest.as_ref().is_some_and(|(times, _)| same(times)) {
            kept.newest = Some((Arc::clone(&columns.times), self.newest(&columns.times)));
        }
        gathered(columns, kept.newest.as_ref().map_or(&[][..], |(_, places)| places))
    }

    /// One more than the place of the newest sample of each step, 0 where there is none.
    fn newest(&self, times: &[i64]) -> Vec<u32> {
        let mut next = 0;
        let place = |step| {
            let at = self.look(step);
            while times.get(next).is_some_and(|time| *time <= at) {
                next += 1;
            }
            let fresh = next > 0 && times[next - 1] > at.saturating_sub(self.lookback);
            if fresh { next as u32 } else { 0 }
        };
        (0..self.grid.steps).map(place).collect()
    }

    fn newest_row(&self, columns: &Columns) -> Row {
        let mut row = Row::empty(columns.labels.clone(), self.grid.steps);
        let (mut floats, mut histograms) = (0, 0);
        let mut converted: Option<(usize, Arc<Histogram>)> = None;
        for step in 0..self.grid.steps {
            let at = self.look(step);
            while columns.times.get(floats).is_some_and(|time| *time <= at) {
                floats += 1;
            }
            while columns.histograms.get(histograms).is_some_and(|(time, _)| *time <= at) {
                histograms += 1;
            }
            let oldest = at.saturating_sub(self.lookback);
            let float = floats.checked_sub(1).map(|place| (columns.times[place], place));
            let histogram = histograms.checked_sub(1).map(|place| (columns.histograms[place].0, place));
            let Some(time) = float.map(|one| one.0).max(histogram.map(|one| one.0)).filter(|time| *time > oldest)
            else {
                continue;
            };
            let histogram = histogram.filter(|one| one.0 == time).map(|(_, place)| place);
            let stale = match (histogram, float) {
                (Some(place), _) => is_stale(columns.histograms[place].1.sum),
                (None, Some((_, place))) => is_stale(columns.values[place]),
                (None, None) => true,
            };
            if stale {
                continue;
            }
            match (self.want, histogram, float) {
                (Want::Time, ..) => row.set(step, time as f64 / 1000.0),
                (Want::Start, ..) => row.set(step, started(columns, time) as f64 / 1000.0),
                (Want::Value, Some(place), _) => {
                    // Steps that see the same sample share it.
                    let known = converted.take().filter(|(have, _)| *have == place);
                    let (_, value) =
                        known.unwrap_or_else(|| (place, Arc::new(histogram_at(columns, place, self.statistics))));
                    row.set(step, Value::Histogram(Arc::clone(&value)));
                    converted = Some((place, value));
                }
                (Want::Value, None, Some((_, place))) => row.set(step, columns.values[place]),
                (Want::Value, None, None) => {}
            }
        }
        row
    }

    /// `smoothed`: between the neighbours of a step, or the newest sample when none follows.
    fn smoothed_row(&self, worker: &mut Worker<'_>, columns: &Columns) -> Row {
        let series = series(columns, self.statistics);
        let mut row = Row::empty(series.labels.clone(), self.grid.steps);
        let name = series.labels.metric_name().to_owned();
        for step in 0..self.grid.steps {
            let at = self.look(step);
            let (first, last) = (at.saturating_sub(self.lookback), at.saturating_add(self.lookback));
            let floats = slice(&series.times, first, last);
            let histograms = part(&series.histograms, first, last);
            if !floats.is_empty() && !histograms.is_empty() {
                worker.notes.add(self.at, &Note::Mixed(&name));
                continue;
            }
            if floats.is_empty() {
                match smooth_histogram(histograms, at) {
                    Ok(Some((value, bounds))) => {
                        bounds.iter().for_each(|operation| worker.notes.add(self.at, &Note::Rebounded(*operation)));
                        row.set(step, value);
                    }
                    Ok(None) => {}
                    Err(Incompatible) => worker.notes.add(self.at, &Note::MixedSchemas(&name)),
                }
                continue;
            }
            let (times, values) = (&series.times[floats.clone()], &series.values[floats]);
            let next = times.partition_point(|time| *time < at);
            let value = match (next.checked_sub(1), times.get(next)) {
                (_, Some(time)) if *time == at => values[next],
                (Some(before), Some(_)) => {
                    let (from, to) = ((times[before], values[before]), (times[next], values[next]));
                    crate::functions::rate::between(from, to, at, false)
                }
                (Some(before), None) => values[before],
                (None, _) => continue,
            };
            row.set(step, value);
        }
        row
    }
}

/// When the counter of the sample at `time` started; 0 when that is not known.
fn started(columns: &Columns, time: i64) -> i64 {
    columns.starts.binary_search_by_key(&time, |(at, _)| *at).map_or(0, |place| columns.starts[place].1)
}

/// A stored histogram; when only its statistics are asked for, a reset nothing is known of is looked for.
fn histogram_at(columns: &Columns, place: usize, statistics: bool) -> Histogram {
    let mut histogram = Histogram::from(&*columns.histograms[place].1);
    if statistics && histogram.hint == Hint::Unknown {
        let before = columns.histograms[..place].iter().rev().find(|(_, before)| !is_stale(before.sum));
        if let Some((_, before)) = before {
            let reset = histogram.resets_after(&Histogram::from(&**before));
            histogram.hint = if reset { Hint::Reset } else { Hint::NotReset };
        }
    }
    histogram
}

/// A stored series without stale samples.
pub(crate) fn series(columns: &Columns, statistics: bool) -> Series {
    let stale = columns.values.iter().any(|value| is_stale(*value));
    let (times, values) = if stale {
        let live = columns.times.iter().zip(columns.values.iter()).filter(|(_, value)| !is_stale(**value));
        let (times, values): (Vec<i64>, Vec<f64>) = live.unzip();
        (times.into(), values.into())
    } else {
        (Arc::clone(&columns.times), Arc::clone(&columns.values))
    };
    let live = columns.histograms.iter().enumerate().filter(|(_, (_, value))| !is_stale(value.sum));
    let histograms: Vec<_> =
        live.map(|(place, (at, _))| (*at, Arc::new(histogram_at(columns, place, statistics)))).collect();
    let known = !columns.starts.is_empty();
    let starts = if known { times.iter().map(|time| started(columns, *time)).collect() } else { Vec::new() };
    let histogram_starts =
        if known { histograms.iter().map(|(time, _)| started(columns, *time)).collect() } else { Vec::new() };
    Series { labels: columns.labels.clone(), unnamed: false, times, values, starts, histograms, histogram_starts }
}

/// A row as a series; `times` are those of all steps, for rows without a hole.
pub(crate) fn windowed_points(row: Row, grid: &Grid, times: &Arc<[i64]>) -> Series {
    if row.histograms.is_some() || row.present.contains(&false) {
        return points(row, grid);
    }
    Series {
        labels: row.labels,
        unnamed: row.unnamed,
        times: Arc::clone(times),
        values: row.cells.into(),
        starts: Vec::new(),
        histograms: Vec::new(),
        histogram_starts: Vec::new(),
    }
}

/// A row as a series.
fn points(row: Row, grid: &Grid) -> Series {
    let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..grid.steps {
        match row.get(step) {
            Some(Cell::Float(value)) => {
                times.push(grid.time(step));
                values.push(value);
            }
            Some(Cell::Histogram(value)) => {
                let mut value = Arc::clone(value);
                // What was known of a reset was known against a sample that may not be the one before now.
                if matches!(value.hint, Hint::Reset | Hint::NotReset) {
                    Arc::make_mut(&mut value).hint = Hint::Unknown;
                }
                histograms.push((grid.time(step), value));
            }
            None => {}
        }
    }
    Series {
        labels: row.labels,
        unnamed: row.unnamed,
        times: times.into(),
        values: values.into(),
        starts: Vec::new(),
        histograms,
        histogram_starts: Vec::new(),
    }
}

/// The places of the times after `first` and until `last`.
pub(crate) fn slice(times: &[i64], first: i64, last: i64) -> std::ops::Range<usize> {
    let start = times.partition_point(|time| *time <= first);
    start..times.partition_point(|time| *time <= last).max(start)
}

fn part(histograms: &[(i64, Arc<Histogram>)], first: i64, last: i64) -> &[(i64, Arc<Histogram>)] {
    let start = histograms.partition_point(|(time, _)| *time <= first);
    &histograms[start..histograms.partition_point(|(time, _)| *time <= last).max(start)]
}

type Smooth = Option<(Value, Vec<crate::notes::Operation>)>;

fn smooth_histogram(histograms: &[(i64, Arc<Histogram>)], at: i64) -> Result<Smooth, Incompatible> {
    let next = histograms.partition_point(|(time, _)| *time < at);
    let plain = |place: usize| Ok(Some((Value::Histogram(Arc::clone(&histograms[place].1)), Vec::new())));
    match (next.checked_sub(1), histograms.get(next)) {
        (_, Some((time, _))) if *time == at => plain(next),
        (Some(before), Some(after)) => {
            let mut met = Vec::new();
            let counter = histograms[before].1.hint != Hint::Gauge;
            let value = crate::functions::rate::between_histograms(&histograms[before], after, at, counter, &mut met)?;
            Ok(Some((value.into(), met)))
        }
        (Some(before), None) => plain(before),
        (None, _) => Ok(None),
    }
}
