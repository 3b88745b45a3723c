//! Evaluation: every operator gives all steps of a series at once, as a row of cells and a mask of those present.

use crate::{
    MatrixRows, QueryError,
    expr::{At, Expr, Node, Selector, Type},
    functions::{Kernel, Sum, Window, average, bucket_quantile},
    join,
};
use model::{Builder, Labels, METRIC_NAME, MatchOp, Timestamp, is_stale};
use runtime::{Clock, Monotonic};
use std::collections::BTreeMap;
use storage::{Columns, Storage};

/// The steps of a query, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) start: i64,
    pub(crate) step: i64,
    pub(crate) steps: usize,
}

impl Grid {
    pub(crate) fn time(&self, step: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(step as i64))
    }

    fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }
}

/// One series over all steps; absent cells hold NaN that means nothing.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) labels: Labels,
    pub(crate) cells: Vec<f64>,
    pub(crate) present: Vec<bool>,
}

impl Row {
    pub(crate) fn empty(labels: Labels, steps: usize) -> Self {
        Self { labels, cells: vec![f64::NAN; steps], present: vec![false; steps] }
    }

    pub(crate) fn set(&mut self, step: usize, value: f64) {
        self.cells[step] = value;
        self.present[step] = true;
    }
}

/// What a node gives.
#[derive(Clone, Debug)]
pub(crate) enum Table {
    Scalar(Vec<f64>),
    Text(String),
    Rows(Vec<Row>),
}

/// One query in progress: its grid, budgets and deadline.
pub(crate) struct Run<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) grid: Grid,
    pub(crate) lookback: i64,
    pub(crate) samples_left: usize,
    pub(crate) clock: &'a Clock,
    pub(crate) deadline: Monotonic,
}

type Done<T> = Result<T, QueryError>;

/// Series read from storage between two looks at the clock.
const BATCH: usize = 64;

impl Run<'_> {
    /// Counts samples against the budget and looks at the clock.
    pub(crate) fn charge(&mut self, samples: usize) -> Done<()> {
        self.samples_left = self.samples_left.checked_sub(samples).ok_or(QueryError::TooManySamples)?;
        if self.clock.now() > self.deadline { Err(QueryError::Timeout) } else { Ok(()) }
    }

    pub(crate) fn eval(&mut self, expr: &Expr) -> Done<Table> {
        match &expr.node {
            Node::Number(number) => Ok(Table::Scalar(vec![*number; self.grid.steps])),
            Node::Text(text) => Ok(Table::Text(text.clone())),
            Node::Select(selector) => self.instant(selector).map(Table::Rows),
            Node::Negate(inner) => Ok(match self.eval(inner)? {
                Table::Scalar(cells) => Table::Scalar(cells.into_iter().map(|cell| -cell).collect()),
                Table::Rows(rows) => {
                    Table::Rows(unique(rows.into_iter().map(|row| mapped(row, &|v, _| -v)).collect())?)
                }
                text => text,
            }),
            Node::Binary { op, left, right, bool, matching } => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                join::binary(self, op, left, right, *bool, matching)
            }
            Node::Aggregate { op, param, body, without, labels } => {
                let param = param.as_ref().map(|param| self.scalar(param)).transpose()?;
                let rows = self.rows(body)?;
                self.charge(rows.len() * self.grid.steps)?;
                aggregate(op, param, rows, *without, labels, self.grid.steps).map(Table::Rows)
            }
            Node::Call { function, args } => self.call(function.name, function.kernel, args),
        }
    }

    fn scalar(&mut self, expr: &Expr) -> Done<Vec<f64>> {
        match self.eval(expr)? {
            Table::Scalar(cells) => Ok(cells),
            _ => Err(QueryError::Execution("expected a scalar".into())),
        }
    }

    fn rows(&mut self, expr: &Expr) -> Done<Vec<Row>> {
        match self.eval(expr)? {
            Table::Rows(rows) => Ok(rows),
            _ => Err(QueryError::Execution("expected an instant vector".into())),
        }
    }

    /// The time a selector looks at, at one step.
    fn look(&self, selector: &Selector, step: usize) -> i64 {
        let base = match selector.at {
            None => self.grid.time(step),
            Some(At::Time(at)) => at,
            Some(At::Start) => self.grid.start,
            Some(At::End) => self.grid.end(),
        };
        base.saturating_sub(selector.offset)
    }

    /// Reads the series of a selector and turns each into a row.
    fn select(
        &mut self,
        selector: &Selector,
        width: i64,
        mut row: impl FnMut(&Self, &Columns) -> Option<Row>,
    ) -> Done<Vec<Row>> {
        let looks = [self.look(selector, 0), self.look(selector, self.grid.steps.saturating_sub(1))];
        let (first, last) = (looks[0].min(looks[1]).saturating_sub(width), looks[0].max(looks[1]));
        let storage = self.storage;
        let querier = storage.querier(Timestamp(first), Timestamp(last));
        let failed = |error: storage::ReadError| QueryError::Execution(error.to_string());
        let mut set = querier.select(&selector.matchers).map_err(failed)?;
        let (mut batch, mut rows) = (Vec::new(), Vec::new());
        loop {
            set.next_batch(BATCH, &mut batch).map_err(failed)?;
            if batch.is_empty() {
                return Ok(rows);
            }
            for columns in batch.drain(..) {
                self.charge(columns.times.len().max(self.grid.steps))?;
                rows.extend(row(self, &columns));
            }
        }
    }

    /// The newest sample of each step, at most `lookback` old and not stale.
    fn instant(&mut self, selector: &Selector) -> Done<Vec<Row>> {
        let lookback = self.lookback;
        self.select(selector, lookback, |run, columns| {
            let mut row = Row::empty(columns.labels.clone(), run.grid.steps);
            for step in 0..run.grid.steps {
                let at = run.look(selector, step);
                let end = columns.times.partition_point(|time| *time <= at);
                let Some(place) = end.checked_sub(1) else { continue };
                let fresh = columns.times[place] > at.saturating_sub(lookback);
                if fresh && !is_stale(columns.values[place]) {
                    row.set(step, columns.values[place]);
                }
            }
            row.present.contains(&true).then_some(row)
        })
    }

    /// The stored samples of a bare range selector, ordered by labels.
    pub(crate) fn raw(&mut self, expr: &Expr) -> Done<MatrixRows> {
        let Node::Select(selector) = &expr.node else {
            return Err(QueryError::Execution("expected a range selector".into()));
        };
        let (width, end) = (selector.range.unwrap_or_default(), self.look(selector, 0));
        let mut out = Vec::new();
        self.select(selector, width, |_, columns| {
            let points = columns.times.iter().copied().zip(columns.values.iter().copied());
            let inside =
                |(time, value): &(i64, f64)| *time > end.saturating_sub(width) && *time <= end && !is_stale(*value);
            let points: Vec<(i64, f64)> = points.filter(inside).collect();
            if !points.is_empty() {
                out.push((columns.labels.clone(), points));
            }
            None
        })?;
        Ok(out)
    }

    /// A range function over every window of every series.
    fn windows(&mut self, arg: &Expr, kernel: fn(Window<'_>) -> Option<f64>, keep_name: bool) -> Done<Table> {
        let Node::Select(selector) = &arg.node else {
            return Err(QueryError::Execution("range functions take a range selector".into()));
        };
        let width = selector.range.unwrap_or_default();
        let rows = self.select(selector, width, |run, columns| {
            let live = |i: &usize| !is_stale(columns.values[*i]);
            let places: Vec<usize> = (0..columns.times.len()).filter(live).collect();
            let times: Vec<i64> = places.iter().map(|i| columns.times[*i]).collect();
            let values: Vec<f64> = places.iter().map(|i| columns.values[*i]).collect();
            let labels = if keep_name { columns.labels.clone() } else { columns.labels.without_name() };
            let mut row = Row::empty(labels, run.grid.steps);
            for step in 0..run.grid.steps {
                let end = run.look(selector, step);
                let start = end.saturating_sub(width);
                let (from, to) = (times.partition_point(|t| *t <= start), times.partition_point(|t| *t <= end));
                if let Some(value) = kernel(Window { times: &times[from..to], values: &values[from..to], start, end }) {
                    row.set(step, value);
                }
            }
            row.present.contains(&true).then_some(row)
        })?;
        unique(rows).map(Table::Rows)
    }

    fn call(&mut self, name: &str, kernel: Kernel, args: &[Expr]) -> Done<Table> {
        match kernel {
            Kernel::Range(kernel, keep_name) => self.windows(&args[0], kernel, keep_name),
            Kernel::Map(kernel) => {
                let rows = self.rows(&args[0])?;
                let scalars = args[1..].iter().map(|arg| self.scalar(arg)).collect::<Done<Vec<_>>>()?;
                let apply = |value, step: usize| {
                    let given: Vec<f64> = scalars.iter().map(|cells| cells[step]).collect();
                    kernel(value, &given)
                };
                unique(rows.into_iter().map(|row| mapped(row, &apply)).collect()).map(Table::Rows)
            }
            Kernel::Special => self.special(name, args),
        }
    }

    fn special(&mut self, name: &str, args: &[Expr]) -> Done<Table> {
        let steps = self.grid.steps;
        match name {
            "time" => Ok(Table::Scalar((0..steps).map(|step| self.grid.time(step) as f64 / 1000.0).collect())),
            "vector" => {
                let cells = self.scalar(&args[0])?;
                Ok(Table::Rows(vec![Row { labels: Labels::empty(), cells, present: vec![true; steps] }]))
            }
            "scalar" => {
                let rows = self.rows(&args[0])?;
                let one = |step: usize| {
                    let mut found = rows.iter().filter(|row| row.present[step]);
                    match (found.next(), found.next()) {
                        (Some(row), None) => row.cells[step],
                        _ => f64::NAN,
                    }
                };
                Ok(Table::Scalar((0..steps).map(one).collect()))
            }
            "absent" => {
                let rows = self.rows(&args[0])?;
                let mut row = Row::empty(absent_labels(&args[0]), steps);
                for step in (0..steps).filter(|step| !rows.iter().any(|row| row.present[*step])) {
                    row.set(step, 1.0);
                }
                Ok(Table::Rows(vec![row]))
            }
            _ => {
                let q = self.scalar(&args[0])?;
                let rows = self.rows(&args[1])?;
                quantiles(&q, &rows, steps).map(Table::Rows)
            }
        }
    }
}

/// Labels of an absent vector: those that exactly one equality matcher names.
fn absent_labels(arg: &Expr) -> Labels {
    let Node::Select(selector) = &arg.node else { return Labels::empty() };
    let matchers = &selector.matchers;
    let once = |name: &str| matchers.iter().filter(|m| m.name() == name).count() == 1;
    let fit = matchers.iter().filter(|m| m.op() == MatchOp::Equal && m.name() != METRIC_NAME && once(m.name()));
    Labels::from_pairs(fit.map(|m| (m.name(), m.value())))
}

fn quantiles(q: &[f64], rows: &[Row], steps: usize) -> Done<Vec<Row>> {
    let mut groups: BTreeMap<Labels, Vec<(f64, &Row)>> = BTreeMap::new();
    for row in rows {
        let mut rest = Builder::from(&row.labels);
        if let Ok(bound) = rest.get("le").trim_start_matches('+').parse::<f64>() {
            let labels = rest.del("le").del(METRIC_NAME).build();
            groups.entry(labels).or_default().push((bound, row));
        }
    }
    let finish = |(labels, members): (Labels, Vec<(f64, &Row)>)| {
        let mut out = Row::empty(labels, steps);
        for (step, q) in q.iter().enumerate() {
            let present = members.iter().filter(|(_, row)| row.present[step]);
            let mut buckets: Vec<(f64, f64)> = present.map(|(bound, row)| (*bound, row.cells[step])).collect();
            if !buckets.is_empty() {
                out.set(step, bucket_quantile(*q, &mut buckets));
            }
        }
        out
    };
    Ok(groups.into_iter().map(finish).collect())
}

/// A row with each present cell replaced, without its metric name.
pub(crate) fn mapped(mut row: Row, apply: &dyn Fn(f64, usize) -> f64) -> Row {
    row.labels = row.labels.without_name();
    for step in 0..row.cells.len() {
        if row.present[step] {
            row.cells[step] = apply(row.cells[step], step);
        }
    }
    row
}

/// Puts rows of equal labels together; at one step they must not both be present.
pub(crate) fn unique(rows: Vec<Row>) -> Done<Vec<Row>> {
    let mut places: BTreeMap<Labels, usize> = BTreeMap::new();
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(place) = places.get(&row.labels) else {
            places.insert(row.labels.clone(), out.len());
            out.push(row);
            continue;
        };
        let kept = &mut out[*place];
        for step in 0..row.cells.len() {
            if row.present[step] && kept.present[step] {
                return Err(QueryError::Execution("vector cannot contain metrics with the same labelset".into()));
            }
            if row.present[step] {
                kept.set(step, row.cells[step]);
            }
        }
    }
    Ok(out)
}

/// The labels a group goes by.
pub(crate) fn grouped(labels: &Labels, without: bool, names: &[String]) -> Labels {
    let mut builder = Builder::from(labels);
    if without {
        builder.retain(|name, _| name != METRIC_NAME && !names.iter().any(|have| have == name));
    } else {
        builder.retain(|name, _| names.iter().any(|have| have == name));
    }
    builder.build()
}

fn aggregate(
    op: &str,
    param: Option<Vec<f64>>,
    rows: Vec<Row>,
    without: bool,
    names: &[String],
    steps: usize,
) -> Done<Vec<Row>> {
    let mut groups: BTreeMap<Labels, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(grouped(&row.labels, without, names)).or_default().push(row);
    }
    if matches!(op, "topk" | "bottomk") {
        let k = param.unwrap_or_default();
        if k.iter().any(|k| k.is_nan()) {
            return Err(QueryError::Execution("Parameter value is NaN".into()));
        }
        return Ok(groups.into_values().flat_map(|members| best(op == "topk", &k, members, steps)).collect());
    }
    let mut out = Vec::with_capacity(groups.len());
    for (labels, members) in groups {
        let mut row = Row::empty(labels, steps);
        let mut cells = Vec::with_capacity(members.len());
        for step in 0..steps {
            cells.clear();
            cells.extend(members.iter().filter(|member| member.present[step]).map(|member| member.cells[step]));
            if !cells.is_empty() {
                row.set(step, fold(op, param.as_ref().map_or(f64::NAN, |param| param[step]), &mut cells));
            }
        }
        out.push(row);
    }
    Ok(out)
}

fn fold(op: &str, param: f64, cells: &mut [f64]) -> f64 {
    let count = cells.len() as f64;
    match op {
        "sum" => {
            let mut total = Sum::default();
            cells.iter().for_each(|cell| total.add(*cell));
            total.value()
        }
        "avg" => average(cells),
        "min" => cells.iter().copied().reduce(|a, b| if b < a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        "max" => cells.iter().copied().reduce(|a, b| if b > a || a.is_nan() { b } else { a }).unwrap_or(f64::NAN),
        "count" => count,
        "group" => 1.0,
        "quantile" => quantile(param, cells),
        _ => {
            // Welford's running variance.
            let (mut mean, mut square) = (0.0, 0.0);
            for (cell, n) in cells.iter().zip(1..) {
                let delta = cell - mean;
                mean += delta / f64::from(n);
                square += delta * (cell - mean);
            }
            if op == "stdvar" { square / count } else { (square / count).sqrt() }
        }
    }
}

/// Linear between ranks; a NaN is the smallest value.
fn quantile(q: f64, cells: &mut [f64]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if !(0.0..=1.0).contains(&q) {
        return if q < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    cells.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(a.total_cmp(b)));
    let rank = q * (cells.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(cells.len() - 1);
    let weight = rank - rank.floor();
    cells[lower] * (1.0 - weight) + cells[upper] * weight
}

/// The k best cells of each step stay; rows keep their labels.
fn best(top: bool, k: &[f64], members: Vec<Row>, steps: usize) -> Vec<Row> {
    let mut kept: Vec<Row> = members.iter().map(|row| Row::empty(row.labels.clone(), steps)).collect();
    for (step, k) in k.iter().enumerate().take(steps) {
        let mut order: Vec<usize> = (0..members.len()).filter(|i| members[*i].present[step]).collect();
        let value = |i: &usize| members[*i].cells[step];
        order.sort_by(|a, b| {
            let (a, b) = (value(a), value(b));
            let by_value = if top { b.total_cmp(&a) } else { a.total_cmp(&b) };
            a.is_nan().cmp(&b.is_nan()).then(by_value)
        });
        // Below one there is nothing to keep; the cast saturates.
        for i in order.into_iter().take(if *k < 1.0 { 0 } else { *k as usize }) {
            kept[i].set(step, members[i].cells[step]);
        }
    }
    // At a single step the order is part of the answer.
    if steps == 1 {
        let key = |row: &Row| row.cells[0];
        kept.retain(|row| row.present[0]);
        kept.sort_by(|a, b| if top { key(b).total_cmp(&key(a)) } else { key(a).total_cmp(&key(b)) });
    }
    kept
}

/// Whether a value can be the root of a range query.
pub(crate) fn ranged(kind: Type) -> bool {
    matches!(kind, Type::Scalar | Type::Vector)
}
