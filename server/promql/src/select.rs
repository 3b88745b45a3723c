//! Selectors: reading series, the newest sample of every step, and the windows of range functions.

use crate::{
    QueryError,
    eval::Run,
    expr::{At, Expr, Extension, Length, Node, Selector, When},
    histogram::{Hint, Histogram, Incompatible},
    notes::Note,
    plan::Context,
    table::{Cell, Done, Grid, Row, Table, Value},
    worker::{self, Worker},
};
use model::{FloatHistogram, Labels, Timestamp, is_stale};
use std::sync::Arc;
use storage::Columns;

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

/// The time a selector looks at, at one step.
fn look(when: &When, context: &Context, grid: &Grid, step: usize) -> i64 {
    pin(when, context).unwrap_or_else(|| grid.time(step)).saturating_sub(when.offset.ms())
}

impl Run<'_> {
    /// The stored series with samples after `first` and until `last`. Equal selectors are read once.
    pub(crate) fn read(&mut self, matchers: &[model::Matcher], first: i64, last: i64) -> Done<Arc<Vec<Columns>>> {
        self.alive()?;
        let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let key = (texts.join(","), first, last);
        if let Some(known) = self.shared.get(&key) {
            return Ok(Arc::clone(known));
        }
        let failed = |error: storage::ReadError| match error {
            storage::ReadError::Canceled => QueryError::Canceled,
            error => QueryError::Execution(error.to_string()),
        };
        let querier = self.storage.querier(Timestamp(first.saturating_add(1)), Timestamp(last));
        let mut set = querier.select(matchers).map_err(failed)?;
        let (mut batch, mut all) = (Vec::new(), Vec::new());
        loop {
            set.next_batch(BATCH, &mut batch).map_err(failed)?;
            if batch.is_empty() {
                break;
            }
            self.alive()?;
            for columns in &batch {
                let histograms: usize = columns.histograms.len() * size_of::<FloatHistogram>();
                self.store(columns.times.len() * 16 + histograms + columns.labels.packed_len() + 128)?;
            }
            all.append(&mut batch);
        }
        let all = Arc::new(all);
        self.shared.insert(key, Arc::clone(&all));
        Ok(all)
    }

    /// The newest sample of each step, at most `lookback` old and not stale.
    pub(crate) fn instant(&mut self, selector: &Selector, at: usize, want: Want) -> Done<Vec<Row>> {
        let mut rows = Vec::new();
        self.each_instant(selector, at, want, &mut |run, row| {
            run.hold_row(&row)?;
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The same, giving each row away. O(samples + steps) per series, O(steps) for those that share sample times.
    pub(crate) fn each_instant(
        &mut self,
        selector: &Selector,
        at: usize,
        want: Want,
        sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>,
    ) -> Done<()> {
        let lookback = self.context.lookback;
        let smoothed = selector.extension == Extension::Smoothed && want == Want::Value;
        let at_step = |step| look(&selector.when, &self.context, &self.grid, step);
        let (one, other) = (at_step(0), at_step(self.grid.steps.saturating_sub(1)));
        let last = one.max(other).saturating_add(if smoothed { lookback } else { 0 });
        let all = self.read(&selector.matchers, one.min(other).saturating_sub(lookback), last)?;
        let make = |worker: &mut Worker<'_>, newest: &mut Option<(Arc<[i64]>, Vec<u32>)>, columns: &Columns| {
            let row = if smoothed {
                worker.smoothed_row(selector, columns, at)
            } else if columns.histograms.is_empty() && want == Want::Value {
                let fits = newest.as_ref().is_some_and(|(times, _)| *times == columns.times);
                if !fits {
                    *newest = Some((Arc::clone(&columns.times), worker.newest(selector, &columns.times)));
                }
                gathered(columns, newest.as_ref().map_or(&[][..], |(_, places)| places))
            } else {
                worker.newest_row(selector, columns, want)
            };
            Ok(Some(row).filter(|row| !row.is_empty()))
        };
        worker::rows(self, &all, make, sink)
    }

    /// The series of a range argument and where its windows lie.
    pub(crate) fn windows(&mut self, arg: &Expr) -> Done<(Vec<Series>, Windows)> {
        match &arg.bare().node {
            Node::Select(selector) => {
                let range = selector.range.as_ref().map_or(0, Length::ms);
                let windows = self.windows_of(range, &selector.when, selector.extension);
                let (first, last) = self.reach(&windows);
                let all = self.read(&selector.matchers, first, last)?;
                Ok((all.iter().map(|columns| series(columns, selector.statistics)).collect(), windows))
            }
            Node::Subquery { body, range, step, when } => {
                let windows = self.windows_of(range.ms(), when, Extension::None);
                let step = step.as_ref().map_or(self.context.interval, Length::ms);
                Ok((self.subquery(body, &windows, step)?, windows))
            }
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

    /// Evaluates the body at the absolute multiples of the step that any window can see.
    fn subquery(&mut self, body: &Expr, windows: &Windows, step: i64) -> Done<Vec<Series>> {
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
            return Ok(Vec::new());
        }
        let steps =
            usize::try_from((i128::from(last) - i128::from(start)) / i128::from(step) + 1).unwrap_or(usize::MAX);
        if steps > self.samples_max() {
            return Err(QueryError::TooManySamples);
        }
        let outer = std::mem::replace(&mut self.grid, Grid { start, step, steps });
        let inner = self.grid;
        let table = self.eval(body);
        self.grid = outer;
        let Table::Rows(rows) = table? else {
            return Err(QueryError::Execution("subquery is only allowed on instant vector".to_owned()));
        };
        Ok(rows.into_iter().map(|row| points(row, &inner)).collect())
    }

    /// The samples of a bare range argument at the one step of an instant query.
    pub(crate) fn raw(&mut self, arg: &Expr) -> Done<Vec<Series>> {
        let (all, windows) = self.windows(arg)?;
        let (first, last) = windows.bounds(windows.end(&self.grid, 0));
        let mut out = Vec::new();
        for series in all {
            let floats = slice(&series.times, first, last);
            let histograms = part(&series.histograms, first, last).to_vec();
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            self.hold(floats.len() + histograms.iter().map(|(_, one)| one.weight()).sum::<usize>())?;
            let (times, values) = (series.times[floats.clone()].into(), series.values[floats].into());
            out.push(Series { times, values, histograms, ..series });
        }
        Ok(out)
    }
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

impl Worker<'_> {
    /// One more than the place of the newest sample of each step, 0 where there is none.
    fn newest(&self, selector: &Selector, times: &[i64]) -> Vec<u32> {
        let mut next = 0;
        let place = |step| {
            let at = look(&selector.when, self.context, &self.grid, step);
            while times.get(next).is_some_and(|time| *time <= at) {
                next += 1;
            }
            let fresh = next > 0 && times[next - 1] > at.saturating_sub(self.context.lookback);
            if fresh { next as u32 } else { 0 }
        };
        (0..self.grid.steps).map(place).collect()
    }

    fn newest_row(&self, selector: &Selector, columns: &Columns, want: Want) -> Row {
        let mut row = Row::empty(columns.labels.clone(), self.grid.steps);
        let (mut floats, mut histograms) = (0, 0);
        let mut converted: Option<(usize, Arc<Histogram>)> = None;
        for step in 0..self.grid.steps {
            let at = look(&selector.when, self.context, &self.grid, step);
            while columns.times.get(floats).is_some_and(|time| *time <= at) {
                floats += 1;
            }
            while columns.histograms.get(histograms).is_some_and(|(time, _)| *time <= at) {
                histograms += 1;
            }
            let oldest = at.saturating_sub(self.context.lookback);
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
            match (want, histogram, float) {
                (Want::Time, ..) => row.set(step, time as f64 / 1000.0),
                (Want::Start, ..) => row.set(step, started(columns, time) as f64 / 1000.0),
                (Want::Value, Some(place), _) => {
                    // Steps that see the same sample share it.
                    let known = converted.take().filter(|(have, _)| *have == place);
                    let (_, value) =
                        known.unwrap_or_else(|| (place, Arc::new(histogram_at(columns, place, selector.statistics))));
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
    fn smoothed_row(&mut self, selector: &Selector, columns: &Columns, position: usize) -> Row {
        let series = series(columns, selector.statistics);
        let mut row = Row::empty(series.labels.clone(), self.grid.steps);
        let name = series.labels.metric_name().to_owned();
        for step in 0..self.grid.steps {
            let at = look(&selector.when, self.context, &self.grid, step);
            let (first, last) = (at.saturating_sub(self.context.lookback), at.saturating_add(self.context.lookback));
            let floats = slice(&series.times, first, last);
            let histograms = part(&series.histograms, first, last);
            if !floats.is_empty() && !histograms.is_empty() {
                self.notes.add(position, &Note::Mixed(&name));
                continue;
            }
            if floats.is_empty() {
                match smooth_histogram(histograms, at) {
                    Ok(Some((value, bounds))) => {
                        bounds.iter().for_each(|operation| self.notes.add(position, &Note::Rebounded(*operation)));
                        row.set(step, value);
                    }
                    Ok(None) => {}
                    Err(Incompatible) => self.notes.add(position, &Note::MixedSchemas(&name)),
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
fn series(columns: &Columns, statistics: bool) -> Series {
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
