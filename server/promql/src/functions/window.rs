//! Range functions: a kernel for every window of every series.

use super::{
    CallSite,
    column::{Layout, Shortcut},
};
use crate::{
    eval::Run,
    expr::{Extension, Type},
    histogram::Histogram,
    notes::{Note, Notes},
    select::{Series, Windows},
    table::{Done, Grid, Row, Value},
    worker::{Kept, Worker},
};
use std::sync::Arc;

/// What a kernel gives: nothing, or the value of the step.
pub(crate) type Result = Done<Option<Value>>;

/// A range function.
#[derive(Clone, Copy)]
pub(crate) struct Kernel {
    pub(crate) run: fn(&mut Window<'_>) -> Result,
    pub(crate) keeps_name: bool,
    /// For floats alone.
    pub(crate) shortcut: Option<Shortcut>,
}

/// The samples of one window; never empty.
pub(crate) struct Window<'a> {
    pub(crate) times: &'a [i64],
    pub(crate) values: &'a [f64],
    /// Aligned with `values`, or empty.
    pub(crate) starts: &'a [i64],
    pub(crate) histograms: &'a [(i64, Arc<Histogram>)],
    /// Aligned with `histograms`, or empty.
    pub(crate) histogram_starts: &'a [i64],
    /// The window covers (start, end]; extended selectors give samples beyond.
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Length in milliseconds.
    pub(crate) range: i64,
    /// The time of the step.
    pub(crate) at: i64,
    pub(crate) extension: Extension,
    /// The scalar arguments at this step, in order.
    pub(crate) args: &'a [f64],
    name: &'a str,
    notes: &'a mut Notes,
    /// Where the range argument and the first argument begin.
    places: (usize, usize),
}

impl<'a> Window<'a> {
    /// A note at the range argument, made from the name of the metric.
    pub(crate) fn note(&mut self, make: impl Fn(&'a str) -> Note<'a>) {
        let note = make(self.name);
        self.notes.add(self.places.0, &note);
    }

    /// A note at the first argument, whichever that is.
    pub(crate) fn note_first(&mut self, note: &Note<'_>) {
        self.notes.add(self.places.1, note);
    }

    pub(crate) fn mixed(&self) -> bool {
        !self.values.is_empty() && !self.histograms.is_empty()
    }
}

/// A call of a range function, with everything that its windows share.
pub(crate) struct Windowed {
    pub(crate) windows: Windows,
    pub(crate) kernel: Kernel,
    grid: Grid,
    scalars: Vec<Vec<f64>>,
    places: (usize, usize),
    /// Whether the name must look like a counter's.
    counter: bool,
    /// Whether the samples of windows are counted.
    counts: bool,
}

impl Run<'_> {
    /// A call of a range function, and which of its arguments is the range.
    pub(crate) fn windowed(&mut self, site: &CallSite<'_>, kernel: Kernel) -> Done<(Windowed, usize)> {
        let range = site.args.iter().position(|arg| arg.kind == Type::Matrix).unwrap_or_default();
        let mut scalars = Vec::new();
        for (place, arg) in site.args.iter().enumerate() {
            if place != range {
                scalars.push(self.scalar(arg)?);
            }
        }
        let windowed = Windowed {
            windows: self.windows(&site.args[range])?,
            kernel,
            grid: self.grid,
            scalars,
            places: (site.place(range), site.place(0)),
            counter: matches!(site.function.name, "rate" | "increase"),
            counts: self.counts,
        };
        Ok((windowed, range))
    }
}

impl Windowed {
    /// The row of a series. O(samples + steps) besides the kernel.
    pub(crate) fn row(&self, worker: &mut Worker<'_>, kept: &mut Kept, series: &Series) -> Done<Row> {
        let mut row = match self.short(worker, kept, series) {
            Some(row) => row,
            None => self.long(worker, series)?,
        };
        if self.counter && row.present.contains(&true) {
            counted(worker, series, self.places.0);
        }
        if !self.kernel.keeps_name {
            worker.unname(&mut row);
        }
        Ok(row)
    }

    /// The row of a series by the kernel's shortcut, where there is one for it.
    fn short(&self, worker: &mut Worker<'_>, kept: &mut Kept, series: &Series) -> Option<Row> {
        let started = worker.context.features.start_timestamps && !series.starts.is_empty();
        let plain = series.histograms.is_empty() && !started && self.windows.extension == Extension::None;
        let shortcut = self.kernel.shortcut.filter(|_| plain)?;
        let layout = Layout::of(&mut kept.layout, series, &self.windows, &self.grid);
        worker.window = worker.window.max(layout.longest());
        let mut row = Row { unnamed: series.unnamed, ..Row::empty(series.labels.clone(), self.grid.steps) };
        if !shortcut(layout, &series.values, &self.scalars, &mut row) {
            return None;
        }
        if self.counts {
            layout.count(&mut worker.seen);
        }
        Some(row)
    }

    fn long(&self, worker: &mut Worker<'_>, series: &Series) -> Done<Row> {
        let (grid, windows) = (&self.grid, &self.windows);
        let use_starts = worker.context.features.start_timestamps;
        let mut row = Row { unnamed: series.unnamed, ..Row::empty(series.labels.clone(), grid.steps) };
        let mut args = vec![0.0; self.scalars.len()];
        let (mut floats, mut histograms) = (0..0, 0..0);
        for step in 0..grid.steps {
            let end = windows.end(grid, step);
            let (first, last) = windows.bounds(end);
            // The windows only move forward.
            advance(&mut floats, first, last, |place| series.times.get(place).copied());
            advance(&mut histograms, first, last, |place| series.histograms.get(place).map(|(at, _)| *at));
            if floats.is_empty() && histograms.is_empty() {
                continue;
            }
            worker.window = worker.window.max(floats.len() + histograms.len());
            if self.counts {
                let weight: usize = series.histograms[histograms.clone()].iter().map(|(_, one)| one.weight()).sum();
                worker.seen.at(step, floats.len() + weight);
            }
            args.iter_mut().zip(&self.scalars).for_each(|(arg, cells)| *arg = cells[step]);
            let known = |starts: &[i64]| use_starts && !starts.is_empty();
            let mut window = Window {
                times: &series.times[floats.clone()],
                values: &series.values[floats.clone()],
                starts: if known(&series.starts) { &series.starts[floats.clone()] } else { &[] },
                histograms: &series.histograms[histograms.clone()],
                histogram_starts: if known(&series.histogram_starts) {
                    &series.histogram_starts[histograms.clone()]
                } else {
                    &[]
                },
                start: end.saturating_sub(windows.range),
                end,
                range: windows.range,
                at: grid.time(step),
                extension: windows.extension,
                args: &args,
                name: series.labels.metric_name(),
                notes: &mut worker.notes,
                places: self.places,
            };
            if let Some(value) = (self.kernel.run)(&mut window)? {
                row.set(step, value);
            }
        }
        Ok(row)
    }
}

/// Says so when the name of a series does not look like a counter's.
fn counted(run: &mut Worker<'_>, series: &Series, place: usize) {
    let name = series.labels.metric_name();
    if name.is_empty() {
        return;
    }
    if run.context.features.type_and_unit_labels {
        let kind = series.labels.get("__type__").unwrap_or_default();
        if !matches!(kind, "counter" | "histogram") {
            run.notes.add(place, &Note::TypeNoCounter(name, kind));
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|end| name.ends_with(end)) {
        run.notes.add(place, &Note::MaybeNoCounter(name));
    }
}

/// Moves a range of places to the times after `first` and until `last`.
fn advance(range: &mut std::ops::Range<usize>, first: i64, last: i64, time: impl Fn(usize) -> Option<i64>) {
    while time(range.end).is_some_and(|time| time <= last) {
        range.end += 1;
    }
    while range.start < range.end && time(range.start).is_some_and(|time| time <= first) {
        range.start += 1;
    }
}
