//! The engine: options and the two kinds of query.

use crate::{
    Answer, MatrixRow, QueryError, QueryValue, VectorRow,
    eval::{Budget, Run},
    expr::{Expr, Type},
    notes::Notes,
    parser::parse_with,
    plan::{Context, prepare},
    select::Series,
    table::{Cell, Grid, Row, Table},
    token::error,
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
        self.instant_until(storage, text, at, None)
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
        let mut expr = parse_with(text, &self.options.features)?;
        let grid = Grid { start: at.0, step: 1, steps: 1 };
        let mut run = self.run(storage, grid, Context { end: at.0, step: 0, ..self.context(at.0) }, cancel);
        prepare(text, &mut expr, &run.context)?;
        let value = if expr.kind == Type::Matrix {
            QueryValue::Matrix(self.raw(&mut run, &expr)?)
        } else {
            match run.eval(&expr)? {
                Table::Scalar(cells) => QueryValue::Scalar(at.0, cells[0]),
                Table::Text(text) => QueryValue::String(at.0, text),
                Table::Rows(rows) => {
                    let rows = run.finished(rows)?;
                    QueryValue::Vector(rows.into_iter().filter_map(|row| element(row, at.0)).collect())
                }
            }
        };
        Ok(answer(value, &run.notes, text))
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
        self.range_until(storage, text, (start, end, step), None)
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
        let mut expr = parse_with(text, &self.options.features)?;
        if !matches!(expr.kind, Type::Scalar | Type::Vector) {
            let kind = expr.kind.as_str();
            let message = format!("invalid expression type {kind:?} for range query, must be Scalar or instant Vector");
            return Err(error(text, 0, message).into());
        }
        let Some(step) = i64::try_from(step).ok().filter(|step| *step > 0) else {
            return Err(QueryError::Execution("the step must be positive: pass at least 1ms".to_owned()));
        };
        let span = end.0.saturating_sub(start.0).max(0);
        let steps = usize::try_from(span / step).unwrap_or(usize::MAX).saturating_add(1);
        if steps > self.options.max_samples {
            return Err(QueryError::TooManySamples);
        }
        let grid = Grid { start: start.0, step, steps };
        let context = Context { end: end.0, step, ..self.context(start.0) };
        let mut run = self.run(storage, grid, context, cancel);
        prepare(text, &mut expr, &run.context)?;
        let rows = match run.eval(&expr)? {
            Table::Scalar(cells) => vec![Row { cells, ..Row::constant(0.0, steps) }],
            Table::Rows(rows) => run.finished(rows)?,
            Table::Text(_) => Vec::new(),
        };
        let mut matrix: Vec<MatrixRow> = rows.into_iter().map(|row| points(row, &grid)).collect();
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(answer(QueryValue::Matrix(matrix), &run.notes, text))
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

    fn run<'a>(
        &'a self,
        storage: &'a dyn Storage,
        grid: Grid,
        context: Context,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Run<'a> {
        let budget = Budget {
            samples_max: self.options.max_samples,
            bytes_max: self.options.max_memory,
            deadline: self.clock.now() + self.options.timeout,
            cancel,
        };
        Run {
            storage,
            grid,
            context,
            notes: Notes::default(),
            clock: &self.clock,
            budget,
            held: 0,
            bytes: 0,
            stored: 0,
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
    let (mut floats, mut histograms) = (Vec::new(), Vec::new());
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
