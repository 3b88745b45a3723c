//! The engine: options and the two kinds of query.

use crate::{
    Answer, MatrixRow, QueryError, QueryValue, VectorRow,
    eval::{Budget, Run},
    expr::{Expr, Type},
    notes::Notes,
    parser::parse_with,
    plan::{Context, prepare, uses},
    select::Series,
    table::{Cell, Done, Grid, Row, Table},
    token::error,
    worker::Helpers,
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
        let context = Context { end: at.0, step: 0, ..self.context(at.0) };
        prepare(text, &mut expr, &context)?;
        self.attempt(storage, (grid, context), &expr, cancel, |run| {
            let value = if expr.kind == Type::Matrix {
                QueryValue::Matrix(self.raw(run, &expr)?)
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
        })
    }

    /// Evaluates; once more with a table after every step when names taken away made series equal.
    fn attempt(
        &self,
        storage: &dyn Storage,
        (grid, context): (Grid, Context),
        expr: &Expr,
        cancel: Option<Arc<AtomicBool>>,
        evaluate: impl Fn(&mut Run<'_>) -> Done<Answer>,
    ) -> Done<Answer> {
        let mut run = self.run(storage, grid, context, cancel);
        run.uses = uses(expr);
        let answer = evaluate(&mut run);
        if answer.is_ok() || !run.clashed {
            return answer;
        }
        let budget = Budget { flying: Arc::default(), ..run.budget.clone() };
        let mut again = Run { staged: true, budget, ..self.run(storage, grid, context, None) };
        again.uses = std::mem::take(&mut run.uses);
        evaluate(&mut again)
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
        prepare(text, &mut expr, &context)?;
        self.attempt(storage, (grid, context), &expr, cancel, |run| {
            let rows = match run.eval(&expr)? {
                Table::Scalar(cells) => vec![Row { cells, ..Row::constant(0.0, steps) }],
                Table::Rows(rows) => run.finished(rows)?,
                Table::Text(_) => Vec::new(),
            };
            let mut matrix: Vec<MatrixRow> = rows.into_iter().map(|row| points(row, &grid)).collect();
            matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(answer(QueryValue::Matrix(matrix), &run.notes, text))
        })
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
mod tests {
    use super::*;
    use model::{Labels, Sample};
    use storage::{Limits, Memory};

    /// Series of one sample every 15 s, value `base + i * slope`, and one native histogram.
    fn store() -> Memory {
        let memory = Memory::new(Limits::default());
        let mut appender = memory.appender();
        type Row = (&'static str, &'static [(&'static str, &'static str)], f64, f64);
        let series: [Row; 5] = [
            ("x", &[("a", "1"), ("b", "p")], 0.0, 15.0),
            ("x", &[("a", "2"), ("b", "p")], 100.0, 0.0),
            ("y", &[("a", "1"), ("c", "q")], 10.0, 0.0),
            ("h_bucket", &[("le", "1")], 0.0, 1.0),
            ("h_bucket", &[("le", "+Inf")], 0.0, 2.0),
        ];
        for (name, labels, base, slope) in series {
            let labels = Labels::from_pairs(labels.iter().copied().chain([("__name__", name)]));
            let id = appender.series(&labels).expect("a series");
            for i in 0..41 {
                appender.float(id, Timestamp(i * 15_000), base + slope * i as f64).expect("in order");
            }
        }
        let id = appender.series(&Labels::from_pairs([("__name__", "n")])).expect("a series");
        let histogram = FloatHistogram { count: 4.0, sum: 9.0, ..FloatHistogram::default() };
        let value = Value::Histogram(Arc::new(histogram));
        appender.sample(id, Sample { at: Timestamp(600_000), start: None, value }).expect("in order");
        appender.commit().expect("committed");
        memory
    }

    fn engine(options: EngineOptions) -> Engine {
        Engine::new(options, Clock::simulated(0))
    }

    fn ask(text: &str) -> Result<String, String> {
        let answer = engine(EngineOptions::default()).instant(&store(), text, Timestamp(600_000));
        Ok(match answer.map_err(|error| error.to_string())?.value {
            QueryValue::Scalar(_, value) => value.to_string(),
            QueryValue::String(_, text) => text,
            QueryValue::Vector(rows) => {
                let line = |row: &VectorRow| match &row.value {
                    Value::Float(value) => format!("{} {value}", row.labels),
                    Value::Histogram(value) => format!("{} {{{} {}}}", row.labels, value.count, value.sum),
                };
                let mut lines: Vec<String> = rows.iter().map(line).collect();
                lines.sort();
                lines.join("; ")
            }
            QueryValue::Matrix(rows) => {
                let line = |row: &MatrixRow| format!("{} {}", row.labels, row.floats.len());
                rows.iter().map(line).collect::<Vec<_>>().join("; ")
            }
        })
    }

    #[test]
    fn expressions_and_their_answers() {
        for (text, want) in [
            ("1 + 2 * 3 ^ 2", "19"),
            ("-2 ^ 2", "-4"),
            ("2 ^ 3 ^ 2", "512"),
            ("1 > bool 2", "0"),
            ("time()", "600"),
            ("\"a\"", "a"),
            ("x", "x{a=\"1\", b=\"p\"} 600; x{a=\"2\", b=\"p\"} 100"),
            ("x{a=\"1\"}[1m]", "x{a=\"1\", b=\"p\"} 4"),
            ("rate(x[1m])", "{a=\"1\", b=\"p\"} 0.9999999999999999; {a=\"2\", b=\"p\"} 0"),
            ("max_over_time(rate(x[1m])[5m:1m])", "{a=\"1\", b=\"p\"} 0.9999999999999999; {a=\"2\", b=\"p\"} 0"),
            ("sum(x)", "{} 700"),
            ("sum by (a) (x) - 1", "{a=\"1\"} 599; {a=\"2\"} 99"),
            ("avg without (a) (x)", "{b=\"p\"} 350"),
            ("count(x) + min(x) + max(x)", "{} 702"),
            ("x > 200", "x{a=\"1\", b=\"p\"} 600"),
            ("200 < x", "x{a=\"1\", b=\"p\"} 600"),
            ("x > bool 200", "{a=\"1\", b=\"p\"} 1; {a=\"2\", b=\"p\"} 0"),
            ("x / on (a) y", "{a=\"1\"} 60"),
            ("x * on (a) group_left (c) y", "{a=\"1\", b=\"p\", c=\"q\"} 6000"),
            ("x and on (a) y", "x{a=\"1\", b=\"p\"} 600"),
            ("x unless on (a) y", "x{a=\"2\", b=\"p\"} 100"),
            ("y or on (a) x", "x{a=\"2\", b=\"p\"} 100; y{a=\"1\", c=\"q\"} 10"),
            ("x offset 5m", "x{a=\"1\", b=\"p\"} 300; x{a=\"2\", b=\"p\"} 100"),
            ("x @ 0", "x{a=\"1\", b=\"p\"} 0; x{a=\"2\", b=\"p\"} 100"),
            ("topk(1, x)", "x{a=\"1\", b=\"p\"} 600"),
            ("absent(nothing{a=\"b\"})", "{a=\"b\"} 1"),
            ("absent(x)", ""),
            ("quantile(0.5, x)", "{} 350"),
            ("histogram_quantile(0.25, rate(h_bucket[1m]))", "{} 0.5"),
            ("scalar(y) + 1", "11"),
            ("n * 2", "{} {8 18}"),
            ("histogram_avg(n)", "{} 2.25"),
        ] {
            assert_eq!(ask(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn ambiguous_matches_and_clashes_are_errors() {
        for (text, want) in [
            ("y / on () x", "found duplicate series for the match group {} on the right hand-side"),
            ("x / on () y", "many-to-one matching must be explicit"),
            ("x / on (b) group_left (a) x{a=\"1\"}", "grouping labels must ensure unique matches"),
            ("rate({__name__=~\"x|y\", a=\"1\"}[1m]) / 0 + on () x", "found duplicate series"),
            ("abs(label_replace(x, \"a\", \"\", \"\", \"\"))", "vector cannot contain metrics with the same labelset"),
            ("label_replace(x, \"\", \"\", \"\", \"\")", "invalid destination label name"),
        ] {
            let error = ask(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_is_evaluated_at_every_step_and_within_its_budget() {
        let memory = store();
        let (start, end) = (Timestamp(540_000), Timestamp(600_000));
        let text = "rate(x{a=\"1\"}[1m])";
        let answer = engine(EngineOptions::default()).range(&memory, text, start, end, 30_000).expect("an answer");
        let floats = [540_000, 570_000, 600_000].map(|at| (at, 0.999_999_999_999_999_9)).to_vec();
        let labels = Labels::from_pairs([("a", "1"), ("b", "p")]);
        assert_eq!(answer.value, QueryValue::Matrix(vec![MatrixRow { labels, floats, histograms: Vec::new() }]));
        let note =
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"x\" (1:6)";
        assert_eq!(answer.infos, [note]);
        let few = engine(EngineOptions { max_samples: 10, ..EngineOptions::default() });
        assert_eq!(few.range(&memory, "x", start, end, 1000), Err(QueryError::TooManySamples));
        assert_eq!(few.instant(&memory, "x[10m]", end), Err(QueryError::TooManySamples));
        let small = engine(EngineOptions { max_memory: 1_000, ..EngineOptions::default() });
        assert_eq!(small.range(&memory, "x", start, end, 100), Err(QueryError::TooMuchMemory(1_000)));
    }

    #[test]
    fn answers_do_not_depend_on_the_number_of_threads() {
        let memory = Memory::new(Limits::default());
        let mut appender = memory.appender();
        for series in 0..300 {
            let pairs = [("__name__", "x".to_owned()), ("a", (series % 7).to_string()), ("b", series.to_string())];
            let id = appender.series(&Labels::from_pairs(pairs)).expect("a series");
            for i in 0..40 {
                let value = f64::from((series * 31 + i * 17) % 101) / 7.0;
                appender.float(id, Timestamp(i64::from(i) * 30_000 + i64::from(series % 3)), value).expect("in order");
            }
        }
        appender.commit().expect("committed");
        let ask = |threads, text| {
            let engine = engine(EngineOptions { threads, ..EngineOptions::default() });
            engine.range(&memory, text, Timestamp(0), Timestamp(1_000_000), 1_000).expect("an answer")
        };
        for text in ["sum by (a) (rate(x[5m]))", "avg(x)", "stddev without (b) (max_over_time(x[2m]))", "x"] {
            assert_eq!(ask(1, text), ask(3, text), "{text}");
        }
    }

    #[test]
    fn a_query_ends_when_it_is_cancelled() {
        let cancel = Some(Arc::new(AtomicBool::new(true)));
        let answer = engine(EngineOptions::default()).instant_until(&store(), "sum(x)", Timestamp(0), cancel);
        assert_eq!(answer, Err(QueryError::Canceled));
    }

    #[test]
    fn long_chains_do_not_overflow_the_stack() {
        let text = vec!["x"; 900].join(" + ");
        assert!(ask(&text).is_ok());
        let text = format!("{}x{}", "abs(".repeat(100), ")".repeat(100));
        assert!(ask(&text).is_ok());
    }
}
