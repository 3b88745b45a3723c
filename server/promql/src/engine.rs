//! The engine: options and the two kinds of query.

use crate::{
    Answer, MatrixRow, QueryError, QueryValue, Report, Request, Stats, VectorRow,
    eval::{Budget, Run},
    expr::{Expr, Type},
    notes::Notes,
    parser::parse_with,
    plan::{Context, prepare, uses},
    report::Profile,
    select::Series,
    table::{Cell, Done, Grid, Row, Table},
    token::error,
    worker::{Helpers, Seen},
};
use model::{FloatHistogram, Timestamp, Value};
use runtime::Clock;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use storage::Storage;

/// What of the language is switched on. The names are upstream's feature flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// `promql-experimental-functions`.
    pub experimental_functions: bool,
    /// `promql-duration-expr`, on since 3.14.
    pub duration_expressions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_ranges: bool,
    /// `promql-binop-fill-modifiers`.
    pub fill: bool,
    /// `promql-delayed-name-removal`.
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`.
    pub start_timestamps: bool,
    /// `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
}

impl Features {
    /// Everything on.
    pub fn all() -> Self {
        Self {
            experimental_functions: true,
            duration_expressions: true,
            extended_ranges: true,
            fill: true,
            delayed_name_removal: true,
            start_timestamps: true,
            type_and_unit_labels: true,
        }
    }
}

impl Default for Features {
    fn default() -> Self {
        Self {
            experimental_functions: false,
            duration_expressions: true,
            extended_ranges: false,
            fill: false,
            delayed_name_removal: false,
            start_timestamps: false,
            type_and_unit_labels: false,
        }
    }
}

/// Threads a query uses by default at most: one folds what the others make, and cannot keep up with more.
const THREADS_MAX: usize = 8;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get().min(THREADS_MAX))
}

/// Limits and defaults of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How far an instant selector looks back.
    pub lookback: Duration,
    /// Samples one query may hold.
    pub max_samples: usize,
    /// Bytes of columns and rows one query may hold.
    pub max_memory: usize,
    /// How long one query may run.
    pub timeout: Duration,
    /// The step of subqueries that name none: the global evaluation interval.
    pub subquery_step: Duration,
    /// Threads one query may use at once; answers do not depend on it.
    pub threads: usize,
    /// The threads besides their own that queries may use, over all engines that share these.
    pub helpers: Helpers,
    /// What of the language is on.
    pub features: Features,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: Duration::from_millis(300_000),
            max_samples: 50_000_000,
            max_memory: 4 << 30,
            timeout: Duration::from_millis(120_000),
            subquery_step: Duration::from_millis(60_000),
            threads: threads(),
            helpers: Helpers::new(threads().saturating_sub(1)),
            features: Features::default(),
        }
    }
}

/// Evaluates queries.
#[derive(Clone, Debug)]
pub struct Engine {
    options: EngineOptions,
    clock: Clock,
}

impl Engine {
    /// An engine with these limits, taking the time from `clock`.
    pub fn new(options: EngineOptions, clock: Clock) -> Self {
        Self { options, clock }
    }

    /// The limits.
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The clock deadlines are measured by.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Evaluates at one moment.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn instant(&self, storage: &dyn Storage, text: &str, at: Timestamp) -> Result<Answer, QueryError> {
        self.ask(storage, &Request::instant(text, at)).map(|report| report.answer)
    }

    /// Evaluates at one moment, giving up once `cancel` is set.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn instant_until(
        &self,
        storage: &dyn Storage,
        text: &str,
        at: Timestamp,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Result<Answer, QueryError> {
        self.ask(storage, &Request { cancel, ..Request::instant(text, at) }).map(|report| report.answer)
    }

    /// Evaluates at `start`, `start + step` … up to `end`; `step` in milliseconds.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn range(
        &self,
        storage: &dyn Storage,
        text: &str,
        start: Timestamp,
        end: Timestamp,
        step: u64,
    ) -> Result<Answer, QueryError> {
        self.ask(storage, &Request::range(text, start, end, step)).map(|report| report.answer)
    }

    /// Evaluates at start, start + step … up to end, giving up once `cancel` is set.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn range_until(
        &self,
        storage: &dyn Storage,
        text: &str,
        (start, end, step): (Timestamp, Timestamp, u64),
        cancel: Option<Arc<AtomicBool>>,
    ) -> Result<Answer, QueryError> {
        self.ask(storage, &Request { cancel, ..Request::range(text, start, end, step) }).map(|report| report.answer)
    }

    /// Answers a question and says what that took.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask(&self, storage: &dyn Storage, request: &Request<'_>) -> Result<Report, QueryError> {
        let began = self.clock.now();
        let text = request.text;
        let mut expr = parse_with(text, &self.options.features)?;
        let (grid, context) = match request.step {
            Some(step) => self.range_grid(&expr, request, step)?,
            None => (Grid { start: request.start.0, step: 1, steps: 1 }, self.context(request.start.0)),
        };
        prepare(text, &mut expr, &context)?;
        let preparation = self.clock.now() - began;
        let mut report = self.attempts(storage, request, (grid, context), &expr)?;
        report.stats.preparation = preparation;
        report.stats.eval_total = self.clock.now() - began;
        report.stats.inner_eval = report.stats.eval_total.saturating_sub(preparation + report.stats.result_sort);
        Ok(report)
    }

    /// The steps of a range query.
    fn range_grid(&self, expr: &Expr, request: &Request<'_>, step: u64) -> Done<(Grid, Context)> {
        if !matches!(expr.kind, Type::Scalar | Type::Vector) {
            let kind = expr.kind.as_str();
            let message = format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
            return Err(error(request.text, 0, message).into());
        }
        let Some(step) = i64::try_from(step).ok().filter(|step| *step > 0) else {
            return Err(QueryError::Execution("the step must be positive: pass at least 1ms".to_owned()));
        };
        let (start, end) = (request.start.0, request.end.0);
        let span = end.saturating_sub(start).max(0);
        let steps = usize::try_from(span / step).unwrap_or(usize::MAX).saturating_add(1);
        if steps > self.options.max_samples {
            return Err(QueryError::TooManySamples);
        }
        Ok((Grid { start, step, steps }, Context { end, step, ..self.context(start) }))
    }

    /// Evaluates; once more with a table after every step when names taken away made series equal.
    fn attempts(
        &self,
        storage: &dyn Storage,
        request: &Request<'_>,
        (grid, context): (Grid, Context),
        expr: &Expr,
    ) -> Done<Report> {
        let mut run = self.run(storage, grid, context, request);
        run.uses = uses(expr);
        let answer = self.evaluate(&mut run, request, expr);
        if !run.clashed {
            return answer.map(|answer| reported(run, answer, expr));
        }
        let deadline = run.budget.deadline;
        let mut again = Run { staged: true, uses: run.uses, ..self.run(storage, grid, context, request) };
        again.budget.deadline = deadline;
        let answer = self.evaluate(&mut again, request, expr);
        answer.map(|answer| reported(again, answer, expr))
    }

    fn evaluate(&self, run: &mut Run<'_>, request: &Request<'_>, expr: &Expr) -> Done<Answer> {
        let (at, grid) = (request.start.0, run.grid);
        let value = if expr.kind == Type::Matrix {
            QueryValue::Matrix(self.raw(run, expr)?)
        } else if request.step.is_none() {
            match run.eval(expr)? {
                Table::Scalar(cells) => QueryValue::Scalar(at, cells[0]),
                Table::Text(text) => QueryValue::String(at, text),
                Table::Rows(rows) => {
                    let rows = run.finished(rows)?;
                    QueryValue::Vector(rows.into_iter().filter_map(|row| element(row, at)).collect())
                }
            }
        } else {
            let rows = match run.eval(expr)? {
                Table::Scalar(cells) => vec![Row { cells, ..Row::constant(0.0, grid.steps) }],
                Table::Rows(rows) => run.finished(rows)?,
                Table::Text(_) => Vec::new(),
            };
            let mut matrix: Vec<MatrixRow> = rows.into_iter().map(|row| points(row, &grid)).collect();
            let began = self.clock.now();
            matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
            run.sorting = self.clock.now() - began;
            QueryValue::Matrix(matrix)
        };
        Ok(answer(value, &run.notes, request.text))
    }

    fn context(&self, start: i64) -> Context {
        let ms = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Context {
            start,
            end: start,
            step: 0,
            interval: ms(self.options.subquery_step),
            lookback: ms(self.options.lookback),
            features: self.options.features,
        }
    }

    fn run<'a>(&'a self, storage: &'a dyn Storage, grid: Grid, context: Context, request: &Request<'_>) -> Run<'a> {
        let budget = Budget {
            samples_max: self.options.max_samples,
            bytes_max: self.options.max_memory,
            deadline: self.clock.now() + self.options.timeout,
            cancel: request.cancel.clone(),
            flying: Arc::default(),
        };
        Run {
            storage,
            grid,
            context,
            notes: Notes::default(),
            clock: &self.clock,
            budget,
            threads: self.options.threads,
            helpers: self.options.helpers.clone(),
            staged: false,
            clashed: false,
            uses: HashMap::new(),
            seen: Seen::new(request.per_step.then_some(grid.steps)),
            counts: true,
            peak: 0,
            spent: Vec::new(),
            profile: request.explain.then(Profile::default),
            sorting: Duration::ZERO,
            held: 0,
            bytes: 0,
            stored: 0,
            aggregations: HashMap::new(),
            shared: HashMap::new(),
        }
    }

    /// A range vector at the root: the samples as they are stored.
    fn raw(&self, run: &mut Run<'_>, expr: &Expr) -> Result<Vec<MatrixRow>, QueryError> {
        let row = |series: Series| MatrixRow {
            labels: if series.unnamed { crate::table::nameless(&series.labels) } else { series.labels },
            floats: series.times.iter().copied().zip(series.values.iter().copied()).collect(),
            histograms: series
                .histograms
                .iter()
                .map(|(at, histogram)| (*at, Arc::new(FloatHistogram::from(&**histogram))))
                .collect(),
        };
        let mut rows: Vec<MatrixRow> = run.raw(expr)?.into_iter().map(row).collect();
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(rows)
    }
}

/// An answer with what is known of the evaluation.
fn reported(run: Run<'_>, answer: Answer, expr: &Expr) -> Report {
    let steps = run.seen.steps.unwrap_or_default();
    let stats = Stats {
        result_sort: run.sorting,
        total_samples: run.seen.total,
        per_step: steps.into_iter().enumerate().map(|(step, seen)| (run.grid.time(step), seen)).collect(),
        peak_samples: run.peak as u64,
        ..Stats::default()
    };
    Report { answer, stats, plan: run.profile.map(|profile| profile.tree(expr)) }
}

fn answer(value: QueryValue, notes: &Notes, text: &str) -> Answer {
    let (warnings, infos) = notes.texts(text);
    Answer { value, warnings, infos }
}

fn element(row: Row, at: i64) -> Option<VectorRow> {
    let value = match row.get(0)? {
        Cell::Float(value) => Value::Float(value),
        Cell::Histogram(value) => Value::Histogram(Arc::new(FloatHistogram::from(&**value))),
    };
    Some(VectorRow { labels: row.labels, at, value })
}

fn points(row: Row, grid: &Grid) -> MatrixRow {
    let count = row.present.iter().filter(|present| **present).count();
    let (mut floats, mut histograms) = (Vec::with_capacity(count), Vec::new());
    for step in 0..grid.steps {
        match row.get(step) {
            Some(Cell::Float(value)) => floats.push((grid.time(step), value)),
            Some(Cell::Histogram(value)) => {
                histograms.push((grid.time(step), Arc::new(FloatHistogram::from(&**value))));
            }
            None => {}
        }
    }
    MatrixRow { labels: row.labels, floats, histograms }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
