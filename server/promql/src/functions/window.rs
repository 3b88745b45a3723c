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
    table::{Done, Row, Value, duplicate},
    worker::{self, Worker},
};
use std::{collections::HashSet, sync::Arc};

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

/// Calls a kernel for all windows and collects the rows.
pub(crate) fn call(run: &mut Run<'_>, site: &CallSite<'_>, kernel: Kernel) -> Done<Vec<Row>> {
    let before = run.mark();
    let mut rows = Vec::new();
    stream(run, site, kernel, &mut |_, row| {
        rows.push(row);
        Ok(())
    })?;
    run.replaced(before, &rows)?;
    Ok(rows)
}

/// Calls a kernel for all windows and gives each row away. O(samples + steps) per series besides the kernel.
pub(crate) fn stream(
    run: &mut Run<'_>,
    site: &CallSite<'_>,
    kernel: Kernel,
    sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>,
) -> Done<()> {
    let range = site.args.iter().position(|arg| arg.kind == Type::Matrix).unwrap_or_default();
    let mut scalars = Vec::new();
    let mut found = None;
    for (place, arg) in site.args.iter().enumerate() {
        if place == range {
            found = Some(run.windows(arg)?);
        } else {
            scalars.push(run.scalar(arg)?);
        }
    }
    let Some((all, windows)) = found else { return Ok(()) };
    let places = (site.place(range), site.place(0));
    let counter = matches!(site.function.name, "rate" | "increase");
    let delayed = run.context.features.delayed_name_removal;
    let mut seen = HashSet::with_capacity(if delayed { 0 } else { all.len() });
    let make = |worker: &mut Worker<'_>, layout: &mut Option<Layout>, series: &Series| {
        let mut row = match short(worker, series, &windows, &scalars, kernel, layout)? {
            Some(row) => row,
            None => one(worker, series, &windows, &scalars, kernel, places)?,
        };
        if row.is_empty() {
            return Ok(None);
        }
        if counter && row.present.contains(&true) {
            counted(worker, series, places.0);
        }
        if !kernel.keeps_name {
            worker.unname(&mut row);
        }
        Ok(Some(row))
    };
    worker::rows(run, &all, make, &mut |run, row| {
        if !delayed && !seen.insert(row.labels.clone()) {
            return Err(duplicate());
        }
        sink(run, row)
    })
}

/// The row of a series by the kernel's shortcut, where there is one for it.
fn short(
    run: &Worker<'_>,
    series: &Series,
    windows: &Windows,
    scalars: &[Vec<f64>],
    kernel: Kernel,
    layout: &mut Option<Layout>,
) -> Done<Option<Row>> {
    let started = run.context.features.start_timestamps && !series.starts.is_empty();
    let plain = series.histograms.is_empty() && !started && windows.extension == Extension::None;
    let Some(shortcut) = kernel.shortcut.filter(|_| plain) else { return Ok(None) };
    let layout = Layout::of(layout, series, windows, &run.grid);
    run.fits(layout.longest())?;
    let mut row = Row { unnamed: series.unnamed, ..Row::empty(series.labels.clone(), run.grid.steps) };
    Ok(shortcut(layout, &series.values, scalars, &mut row).then_some(row))
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

fn one(
    run: &mut Worker<'_>,
    series: &Series,
    windows: &Windows,
    scalars: &[Vec<f64>],
    kernel: Kernel,
    places: (usize, usize),
) -> Done<Row> {
    let grid = run.grid;
    let use_starts = run.context.features.start_timestamps;
    let mut row = Row { unnamed: series.unnamed, ..Row::empty(series.labels.clone(), grid.steps) };
    let mut args = vec![0.0; scalars.len()];
    let (mut floats, mut histograms) = (0..0, 0..0);
    for step in 0..grid.steps {
        let end = windows.end(&grid, step);
        let (first, last) = windows.bounds(end);
        // The windows only move forward.
        advance(&mut floats, first, last, |place| series.times.get(place).copied());
        advance(&mut histograms, first, last, |place| series.histograms.get(place).map(|(at, _)| *at));
        if floats.is_empty() && histograms.is_empty() {
            continue;
        }
        run.fits(floats.len() + histograms.len())?;
        args.iter_mut().zip(scalars).for_each(|(arg, cells)| *arg = cells[step]);
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
            notes: &mut run.notes,
            places,
        };
        if let Some(value) = (kernel.run)(&mut window)? {
            row.set(step, value);
        }
    }
    Ok(row)
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
