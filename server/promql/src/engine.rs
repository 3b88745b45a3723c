//! The engine: options and the two kinds of query.

use crate::{
    Answer, QueryError, QueryValue,
    eval::{Grid, Row, Run, Table, ranged},
    expr::{Expr, Type},
    parse,
    token::error,
};
use model::Timestamp;
use runtime::Clock;
use std::time::Duration;
use storage::Storage;

/// Limits and defaults of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// How far an instant selector looks back.
    pub lookback: Duration,
    /// Samples one query may hold.
    pub max_samples: usize,
    /// How long one query may run.
    pub timeout: Duration,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            lookback: Duration::from_millis(300_000),
            max_samples: 50_000_000,
            timeout: Duration::from_millis(120_000),
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
        let expr = parse(text)?;
        if expr.kind == Type::Matrix {
            return self.raw(storage, &expr, at);
        }
        let grid = Grid { start: at.0, step: 1, steps: 1 };
        Ok(answer(match self.run(storage, grid).eval(&expr)? {
            Table::Scalar(cells) => QueryValue::Scalar(at.0, cells[0]),
            Table::Text(text) => QueryValue::String(at.0, text),
            Table::Rows(rows) => {
                let present = rows.into_iter().filter(|row| row.present[0]);
                QueryValue::Vector(present.map(|row| (row.labels, at.0, row.cells[0])).collect())
            }
        }))
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
        let expr = parse(text)?;
        if !ranged(expr.kind) {
            let message = format!(
                "invalid expression type {:?} for range query, must be Scalar or instant Vector",
                expr.kind.as_str()
            );
            return Err(error(text, 0, message).into());
        }
        let step = i64::try_from(step).ok().filter(|step| *step > 0);
        let Some(step) = step else {
            return Err(QueryError::Execution("the step must be positive: pass at least 1ms".to_owned()));
        };
        let span = end.0.saturating_sub(start.0).max(0);
        let steps = usize::try_from(span / step + 1).unwrap_or(usize::MAX);
        if steps > self.options.max_samples {
            return Err(QueryError::TooManySamples);
        }
        let grid = Grid { start: start.0, step, steps };
        let rows = match self.run(storage, grid).eval(&expr)? {
            Table::Scalar(cells) => vec![Row { labels: model::Labels::empty(), present: vec![true; steps], cells }],
            Table::Rows(rows) => rows,
            Table::Text(_) => Vec::new(),
        };
        let points = |row: &Row| -> Vec<(i64, f64)> {
            (0..steps).filter(|i| row.present[*i]).map(|i| (grid.time(i), row.cells[i])).collect()
        };
        let mut matrix: Vec<(model::Labels, Vec<(i64, f64)>)> = rows
            .into_iter()
            .map(|row| (row.labels.clone(), points(&row)))
            .filter(|(_, points)| !points.is_empty())
            .collect();
        matrix.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(answer(QueryValue::Matrix(matrix)))
    }

    fn run<'a>(&'a self, storage: &'a dyn Storage, grid: Grid) -> Run<'a> {
        Run {
            storage,
            grid,
            lookback: i64::try_from(self.options.lookback.as_millis()).unwrap_or(i64::MAX),
            samples_left: self.options.max_samples,
            clock: &self.clock,
            deadline: self.clock.now() + self.options.timeout,
        }
    }

    /// A bare range selector: the samples as they are stored.
    fn raw(&self, storage: &dyn Storage, expr: &Expr, at: Timestamp) -> Result<Answer, QueryError> {
        let mut run = self.run(storage, Grid { start: at.0, step: 1, steps: 1 });
        run.raw(expr).map(|rows| answer(QueryValue::Matrix(rows)))
    }
}

fn answer(value: QueryValue) -> Answer {
    Answer { value, warnings: Vec::new(), infos: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;
    use storage::{Limits, Memory};

    /// Series of one sample every 15 s, value `base + i * slope`.
    fn store(series: &[(&str, &[(&str, &str)], f64, f64)]) -> Memory {
        let memory = Memory::new(Limits::default());
        let mut appender = memory.appender();
        for (name, labels, base, slope) in series {
            let labels = Labels::from_pairs(labels.iter().copied().chain([("__name__", *name)]));
            let id = appender.series(&labels).expect("a series");
            for i in 0..41 {
                appender.float(id, Timestamp(i * 15_000), base + slope * i as f64).expect("in order");
            }
        }
        appender.commit().expect("committed");
        memory
    }

    fn ask(text: &str) -> Result<String, String> {
        let memory = store(&[
            ("x", &[("a", "1"), ("b", "p")], 0.0, 15.0),
            ("x", &[("a", "2"), ("b", "p")], 100.0, 0.0),
            ("y", &[("a", "1"), ("c", "q")], 10.0, 0.0),
            ("h_bucket", &[("le", "1")], 0.0, 1.0),
            ("h_bucket", &[("le", "+Inf")], 0.0, 2.0),
        ]);
        let engine = Engine::new(EngineOptions::default(), Clock::simulated(0));
        let value = engine.instant(&memory, text, Timestamp(600_000)).map_err(|error| error.to_string())?.value;
        Ok(match value {
            QueryValue::Scalar(_, value) => value.to_string(),
            QueryValue::String(_, text) => text,
            QueryValue::Vector(rows) => {
                let mut lines: Vec<String> =
                    rows.iter().map(|(labels, _, value)| format!("{labels} {value}")).collect();
                lines.sort();
                lines.join("; ")
            }
            QueryValue::Matrix(rows) => {
                rows.iter().map(|(labels, points)| format!("{labels} {}", points.len())).collect::<Vec<_>>().join("; ")
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
            ("x", "x{a=\"1\", b=\"p\"} 600; x{a=\"2\", b=\"p\"} 100"),
            ("x{a=\"1\"}[1m]", "x{a=\"1\", b=\"p\"} 4"),
            ("rate(x[1m])", "{a=\"1\", b=\"p\"} 0.9999999999999999; {a=\"2\", b=\"p\"} 0"),
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
        ] {
            assert_eq!(ask(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn ambiguous_matches_and_clashes_are_errors() {
        for (text, want) in [
            ("y / on () x", "found duplicate series for the match group {} on the right hand-side"),
            ("x / on () y", "many-to-one matching must be explicit"),
            ("rate({__name__=~\"x|y\", a=\"1\", b=\"\"}[1m]) / 0 + on () x", "found duplicate series"),
        ] {
            let error = ask(text).expect_err(text);
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_range_is_evaluated_at_every_step_and_within_its_budget() {
        let memory = store(&[("x", &[], 0.0, 15.0)]);
        let engine = Engine::new(EngineOptions::default(), Clock::simulated(0));
        let (start, end) = (Timestamp(540_000), Timestamp(600_000));
        let got = engine.range(&memory, "rate(x[1m])", start, end, 30_000).expect("an answer").value;
        let points = [540_000, 570_000, 600_000].map(|at| (at, 0.999_999_999_999_999_9)).to_vec();
        assert_eq!(got, QueryValue::Matrix(vec![(Labels::empty(), points)]));
        let small = EngineOptions { max_samples: 10, ..EngineOptions::default() };
        let engine = Engine::new(small, Clock::simulated(0));
        assert_eq!(engine.range(&memory, "x", start, end, 1000), Err(QueryError::TooManySamples));
    }
}
