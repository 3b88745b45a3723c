//! Pipelines: what looks at one series at a time (selectors, range functions, functions of an element, operators with a
//! scalar, and subqueries of these) is done series by series on all threads, without a table in between.
//!
//! Left out: what needs rows beside each other. That makes a table, which may be the source of the next pipeline.
//!
//! Taking names away may make two series one. A pipeline notices equal labels when its rows come out: for a range function
//! that is upstream's error; for anything else the query is begun again with a table after every step, where rows of
//! equal labels are put together.

use crate::{
    QueryError,
    binary::Scaling,
    eval::Run,
    expr::{Expr, Node, Span, Type},
    functions::{CallSite, Kernel, window::Windowed},
    report::Spent,
    select::{Instant, Stored, Want, series, windowed_points},
    table::{Cell, Done, Row, Value, duplicate, merged},
    worker::{self, Kept, Made, Worker},
};
use std::{collections::HashSet, sync::Arc};
use storage::Columns;

/// What a worker makes of a row.
type Stage = Box<dyn Fn(&mut Worker<'_>, &mut Kept, Row) -> Done<Row> + Send + Sync>;

/// What a worker makes of a stored series; none when no sample of it is seen.
type First = Box<dyn Fn(&mut Worker<'_>, &mut Kept, &Columns) -> Done<Option<Row>> + Send + Sync>;

/// Where rows come from.
enum Source {
    Stored(Stored, First),
    Rows(Vec<Row>),
}

/// What took a name away first.
#[derive(Clone, Copy, PartialEq)]
enum Unnamed {
    ByWindow,
    ByElement,
}

/// A source and what is done to each of its rows.
pub(crate) struct Pipeline {
    source: Source,
    stages: Vec<Stage>,
    unnamed: Option<Unnamed>,
    /// Where what is decoded, the first stage and those that follow stand.
    spans: Vec<Span>,
}

/// Whether an expression goes through a pipeline.
fn fits(expr: &Expr) -> bool {
    match &expr.node {
        Node::Select(selector) => selector.range.is_none(),
        Node::Paren(inner) => fits(inner),
        Node::Unary { body, .. } => body.kind == Type::Vector,
        Node::Binary { left, right, op, .. } => {
            (left.kind == Type::Scalar) != (right.kind == Type::Scalar) && !op.is_set()
        }
        Node::Call { function, .. } => {
            matches!(function.kernel, Kernel::Map(_) | Kernel::OfHistogram(_) | Kernel::Window(_))
        }
        _ => false,
    }
}

impl Run<'_> {
    /// Whether one step of the expression is not all there is to it, and it goes through a pipeline.
    pub(crate) fn flows(&self, expr: &Expr) -> bool {
        expr.kind == Type::Vector && !self.is_pinned(expr) && fits(expr)
    }

    /// The rows of an expression, one by one, held in memory no longer than that where possible. The samples count
    /// against the limit as if they were held, as upstream; the bytes do not.
    pub(crate) fn stream(&mut self, expr: &Expr, sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>) -> Done<()> {
        if self.staged || !self.flows(expr) {
            return self.rows(expr)?.into_iter().try_for_each(|row| sink(self, row));
        }
        let pipeline = self.pipeline(expr)?;
        pipeline.run(self, &mut |run, row| {
            run.hold(row.weight())?;
            sink(run, row)
        })
    }

    /// The rows of an expression that goes through a pipeline.
    pub(crate) fn collected(&mut self, expr: &Expr) -> Done<Vec<Row>> {
        let before = self.mark();
        let pipeline = self.pipeline(expr)?;
        let merges = self.staged && pipeline.unnamed == Some(Unnamed::ByElement);
        let mut rows = Vec::new();
        pipeline.run(self, &mut |run, row| {
            run.hold_row(&row)?;
            rows.push(row);
            Ok(())
        })?;
        if merges {
            rows = merged(rows)?;
        }
        self.replaced(before, &rows)?;
        Ok(rows)
    }

    /// The operand of a stage.
    fn operand(&mut self, expr: &Expr) -> Done<Pipeline> {
        if !self.staged && self.flows(expr) {
            return self.pipeline(expr);
        }
        Ok(Pipeline::of(self.rows(expr)?))
    }

    fn pipeline(&mut self, expr: &Expr) -> Done<Pipeline> {
        let mut pipeline = self.unplaced(expr)?;
        pipeline.spans.resize(pipeline.stages.len() + 2, expr.span);
        Ok(pipeline)
    }

    /// A pipeline whose last parts do not know yet where they stand.
    fn unplaced(&mut self, expr: &Expr) -> Done<Pipeline> {
        match &expr.node {
            Node::Select(selector) => {
                let (stored, instant) = self.instant_source(selector, expr.span.start, Want::Value);
                Ok(Pipeline::stored(stored, instant.first()))
            }
            Node::Binary { .. } => self.scalings(expr),
            Node::Unary { minus: true, body } => {
                let mut pipeline = self.operand(body)?;
                pipeline.element(Box::new(|worker, _, mut row| {
                    worker.unname(&mut row);
                    row.cells.iter_mut().for_each(|cell| *cell = -*cell);
                    for histogram in row.histograms.iter_mut().flatten().flatten() {
                        Arc::make_mut(histogram).scale(-1.0);
                    }
                    Ok(row)
                }));
                Ok(pipeline)
            }
            Node::Paren(inner) | Node::Unary { body: inner, .. } => self.operand(inner),
            Node::Call { function, args } => {
                let site = CallSite { function, args, at: expr.span.start, invariant: expr.invariant };
                match function.kernel {
                    Kernel::Map(kernel) => self.mapping(&site, kernel),
                    Kernel::OfHistogram(kernel) => self.of_histogram(&site, kernel),
                    Kernel::Window(kernel) => {
                        let (windowed, range) = self.windowed(&site, kernel)?;
                        self.over_windows(windowed, &site.args[range])
                    }
                    Kernel::Call(_) => Err(unfit()),
                }
            }
            _ => Err(unfit()),
        }
    }

    /// A chain of operators with scalars, as long as it may be.
    fn scalings(&mut self, top: &Expr) -> Done<Pipeline> {
        let (mut chain, mut lowest) = (Vec::new(), top);
        while let Node::Binary { left, .. } = &lowest.node {
            chain.push(lowest);
            if self.staged || !matches!(left.node, Node::Binary { .. }) || !self.flows(left) {
                break;
            }
            lowest = left;
        }
        let mut pipeline = None;
        while let Some(expr) = chain.pop() {
            let Node::Binary { op, left, right, bool, .. } = &expr.node else { continue };
            let swapped = left.kind == Type::Scalar;
            let (scalar, mut under) = if swapped {
                let scalar = self.scalar(left)?;
                (scalar, self.operand(right)?)
            } else {
                let under = match pipeline.take() {
                    Some(under) => under,
                    None => self.operand(left)?,
                };
                (self.scalar(right)?, under)
            };
            let scaling = Scaling { op: *op, bool: *bool, swapped, at: expr.span.start, scalar };
            let stage: Stage = Box::new(move |worker, _, row| Ok(scaling.row(worker, row)));
            if op.drops_name() || *bool {
                under.element(stage);
            } else {
                under.stages.push(stage);
            }
            under.spans.resize(under.stages.len() + 2, expr.span);
            pipeline = Some(under);
        }
        pipeline.ok_or_else(unfit)
    }

    /// A function of floats; histograms are left out. The vector comes first, scalars follow.
    fn mapping(&mut self, site: &CallSite<'_>, kernel: fn(f64, &[f64]) -> Option<f64>) -> Done<Pipeline> {
        let mut pipeline = self.operand(&site.args[0])?;
        let scalars = site.args[1..].iter().map(|arg| self.scalar(arg)).collect::<Done<Vec<_>>>()?;
        pipeline.element(Box::new(move |worker, _, mut row| {
            worker.unname(&mut row);
            row.histograms = None;
            let mut given = vec![0.0; scalars.len()];
            for (step, (cell, present)) in row.cells.iter_mut().zip(&mut row.present).enumerate() {
                if !*present {
                    continue;
                }
                given.iter_mut().zip(&scalars).for_each(|(given, cells)| *given = cells[step]);
                match kernel(*cell, &given) {
                    Some(value) => *cell = value,
                    None => *present = false,
                }
            }
            Ok(row)
        }));
        Ok(pipeline)
    }

    /// A function of histograms; floats are left out.
    fn of_histogram(&mut self, site: &CallSite<'_>, kernel: fn(&crate::histogram::Histogram) -> f64) -> Done<Pipeline> {
        let mut pipeline = self.operand(&site.args[0])?;
        pipeline.element(Box::new(move |worker, _, row| {
            let mut made = row.like();
            worker.unname(&mut made);
            for step in 0..row.cells.len() {
                if let Some(Cell::Histogram(histogram)) = row.get(step) {
                    made.set(step, Value::Float(kernel(histogram)));
                }
            }
            Ok(made)
        }));
        Ok(pipeline)
    }

    /// A range function over stored series or over a subquery.
    pub(crate) fn over_windows(&mut self, windowed: Windowed, arg: &Expr) -> Done<Pipeline> {
        let takes_name = !windowed.kernel.keeps_name;
        let mut pipeline = match &arg.bare().node {
            Node::Select(selector) => {
                let stored = self.range_source(selector, &windowed.windows);
                let statistics = selector.statistics;
                let first: First = Box::new(move |worker, kept, columns| {
                    let row = windowed.row(worker, kept, &series(columns, statistics))?;
                    Ok(Some(row).filter(|row| !row.is_empty()))
                });
                Pipeline { spans: vec![arg.bare().span], ..Pipeline::stored(stored, first) }
            }
            Node::Subquery { body, step, .. } => {
                let Some(inner) = self.subquery_grid(&windowed.windows, step.as_ref())? else {
                    return Ok(Pipeline::of(Vec::new()));
                };
                let outer = std::mem::replace(&mut self.grid, inner);
                let counts = std::mem::replace(&mut self.counts, false);
                let pipeline = self.operand(body);
                (self.grid, self.counts) = (outer, counts);
                let mut pipeline = pipeline?;
                let times: Arc<[i64]> = (0..inner.steps).map(|step| inner.time(step)).collect();
                pipeline.stages.push(Box::new(move |worker, kept, row| {
                    worker.inner += row.weight();
                    windowed.row(worker, kept, &windowed_points(row, &inner, &times))
                }));
                pipeline
            }
            _ => return Err(QueryError::Execution("expected a range vector".to_owned())),
        };
        if takes_name {
            pipeline.unnamed = pipeline.unnamed.or(Some(Unnamed::ByWindow));
        }
        Ok(pipeline)
    }

    /// The newest samples of a selector.
    pub(crate) fn instant(&mut self, selector: &crate::expr::Selector, at: usize, want: Want) -> Done<Vec<Row>> {
        let (stored, instant) = self.instant_source(selector, at, want);
        let mut rows = Vec::new();
        Pipeline::stored(stored, instant.first()).run(self, &mut |run, row| {
            run.hold_row(&row)?;
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }
}

fn unfit() -> QueryError {
    QueryError::Execution("an expression was taken for one that goes series by series".to_owned())
}

impl Instant {
    fn first(self) -> First {
        Box::new(move |worker, kept, columns| {
            let row = self.row(worker, kept, columns);
            Ok(Some(row).filter(|row| !row.is_empty()))
        })
    }
}

impl Pipeline {
    fn stored(stored: Stored, first: First) -> Self {
        Self { source: Source::Stored(stored, first), ..Self::of(Vec::new()) }
    }

    fn of(rows: Vec<Row>) -> Self {
        Self { source: Source::Rows(rows), stages: Vec::new(), unnamed: None, spans: Vec::new() }
    }

    /// Adds what is done to each element and takes its name away.
    fn element(&mut self, stage: Stage) {
        self.stages.push(stage);
        self.unnamed = self.unnamed.or(Some(Unnamed::ByElement));
    }

    /// Makes all rows and gives those that are not empty to `sink`, in order.
    pub(crate) fn run(self, run: &mut Run<'_>, sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>) -> Done<()> {
        let Self { source, stages, unnamed, spans } = self;
        let unnamed = unnamed.filter(|_| !run.context.features.delayed_name_removal);
        let mut seen = HashSet::new();
        let mut sink = |run: &mut Run<'_>, made: Made| {
            run.hold(made.inner)?;
            let window = made.window;
            if unnamed.is_some() && !seen.insert(made.row.labels.clone()) {
                run.clashed |= unnamed == Some(Unnamed::ByElement) && !run.staged;
                // Put together by whoever collects the table.
                if !run.staged || unnamed == Some(Unnamed::ByWindow) {
                    return Err(duplicate());
                }
            }
            if !made.row.is_empty() {
                sink(run, made.row)?;
            }
            // As upstream, which gives the last window of a series up after its row is held.
            run.fits(window)
        };
        let finish = |worker: &mut Worker<'_>, mut row: Row| -> Done<Made> {
            for (number, stage) in stages.iter().enumerate() {
                let mut kept = std::mem::take(&mut worker.kept[number + 1]);
                let gave = |made: &Done<Row>| made.as_ref().map_or_else(|_| Spent::default(), Row::spent);
                let made = worker.spend(number + 2, |worker| stage(worker, &mut kept, row), gave);
                worker.kept[number + 1] = kept;
                row = made?;
            }
            let made = Made { row, window: worker.window, inner: worker.inner };
            (worker.window, worker.inner) = (0, 0);
            Ok(made)
        };
        if run.profile.is_some() {
            run.spent = vec![Spent::default(); stages.len() + 2];
        }
        let done = match source {
            Source::Rows(rows) => {
                let mut rows = rows.into_iter();
                let part = run.unit();
                let mut next = || {
                    let unit: Vec<Row> = rows.by_ref().take(part).collect();
                    Ok(Some(unit).filter(|unit| !unit.is_empty()))
                };
                let make = |worker: &mut Worker<'_>, unit: Vec<Row>, out: &mut Vec<Made>| {
                    for row in unit {
                        out.push(finish(worker, row)?);
                    }
                    Ok(())
                };
                worker::drive(run, stages.len(), &mut next, &make, &mut sink)
            }
            Source::Stored(stored, first) => {
                let make = |worker: &mut Worker<'_>, all: &[Columns], out: &mut Vec<Made>| {
                    for columns in all {
                        let mut kept = std::mem::take(&mut worker.kept[0]);
                        let gave = |made: &Done<Option<Row>>| match made {
                            Ok(Some(row)) => row.spent(),
                            _ => Spent::default(),
                        };
                        let row = worker.spend(1, |worker| first(worker, &mut kept, columns), gave);
                        worker.kept[0] = kept;
                        match row? {
                            Some(row) => out.push(finish(worker, row)?),
                            None => (worker.window, worker.inner) = (0, 0),
                        }
                    }
                    Ok(())
                };
                run.each_columns(&stored, stages.len(), &make, &mut sink)
            }
        };
        let mut spent = std::mem::take(&mut run.spent);
        if let ([decoded, first, ..], [stored, selected, ..]) = (spent.as_mut_slice(), spans.as_slice())
            && stored == selected
        {
            // One part: its series count when they are rows.
            (decoded.series, decoded.samples) = (0, 0);
            first.bytes = 0;
        }
        if let Some(profile) = &mut run.profile {
            spans
                .iter()
                .zip(&spent)
                .filter(|(_, spent)| spent.streamed)
                .for_each(|(span, spent)| profile.add(*span, spent));
        }
        done
    }
}
