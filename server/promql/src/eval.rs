//! Evaluation: every node gives all steps of the query at once.
//!
//! Left out: what one operator or function does with its operands, which is in `binary`, `aggregate` and `functions`.

use crate::{
    QueryError,
    expr::{Expr, Node},
    functions::{CallSite, Kernel, window},
    notes::Notes,
    plan::Context,
    select::Want,
    table::{Cell, Done, Grid, Row, Table, Value, merged, nameless},
    worker,
};
use runtime::{Clock, Monotonic};
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};
use storage::{Columns, Storage};

/// What a query may use.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) samples_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) deadline: Monotonic,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
}

/// One evaluation.
pub(crate) struct Run<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) grid: Grid,
    pub(crate) context: Context,
    pub(crate) notes: Notes,
    pub(crate) clock: &'a Clock,
    pub(crate) budget: Budget,
    /// Threads that may make rows.
    pub(crate) threads: usize,
    /// Samples held now.
    pub(crate) held: usize,
    /// Bytes of the rows held now.
    pub(crate) bytes: usize,
    /// Bytes of the columns read, which stay until the end.
    pub(crate) stored: usize,
    /// Columns read, by selector and times.
    pub(crate) shared: HashMap<(String, i64, i64), Arc<Vec<Columns>>>,
}

impl Run<'_> {
    /// Fails when the query was cancelled or has run for too long.
    pub(crate) fn alive(&self) -> Done<()> {
        worker::alive(self.clock, &self.budget)
    }

    pub(crate) fn samples_max(&self) -> usize {
        self.budget.samples_max
    }

    /// Counts samples that are now held.
    pub(crate) fn hold(&mut self, samples: usize) -> Done<()> {
        self.held = self.held.saturating_add(samples);
        if self.held > self.budget.samples_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Counts bytes of columns read.
    pub(crate) fn store(&mut self, bytes: usize) -> Done<()> {
        self.stored = self.stored.saturating_add(bytes);
        self.in_memory()
    }

    fn in_memory(&self) -> Done<()> {
        let limit = self.budget.bytes_max;
        if self.stored.saturating_add(self.bytes) > limit { Err(QueryError::TooMuchMemory(limit)) } else { Ok(()) }
    }

    pub(crate) fn hold_row(&mut self, row: &Row) -> Done<()> {
        self.bytes = self.bytes.saturating_add(row.bytes());
        self.in_memory()?;
        self.hold(row.weight())
    }

    /// Forgets rows that an operator has used up and counts those it made.
    pub(crate) fn replaced(&mut self, before: (usize, usize), rows: &[Row]) -> Done<()> {
        self.alive()?;
        (self.held, self.bytes) = before;
        rows.iter().try_for_each(|row| self.hold_row(row))
    }

    /// What is held now, to come back to.
    pub(crate) fn mark(&self) -> (usize, usize) {
        (self.held, self.bytes)
    }

    /// Evaluates an expression. A chain of operators is walked, not descended into.
    pub(crate) fn eval(&mut self, expr: &Expr) -> Done<Table> {
        let mut chain = Vec::new();
        let mut lowest = expr;
        while let Node::Binary { left, .. } = &lowest.node {
            if self.is_pinned(lowest) {
                break;
            }
            chain.push(lowest);
            lowest = left;
        }
        let before = self.mark();
        let mut table = self.node(lowest)?;
        while let Some(expr) = chain.pop() {
            let Node::Binary { op, right, bool, matching, .. } = &expr.node else { continue };
            let right = self.eval(right)?;
            table = self.binary(expr, *op, *bool, matching, table, right)?;
            self.settle(before, &table)?;
        }
        Ok(table)
    }

    fn settle(&mut self, before: (usize, usize), table: &Table) -> Done<()> {
        let rows = if let Table::Rows(rows) = table { rows.as_slice() } else { &[] };
        self.replaced(before, rows)
    }

    /// Whether one step of the expression stands for all.
    fn is_pinned(&self, expr: &Expr) -> bool {
        expr.invariant && self.grid.steps > 1 && !matches!(expr.node, Node::Number(..) | Node::Text(_))
    }

    fn node(&mut self, expr: &Expr) -> Done<Table> {
        if self.is_pinned(expr) {
            return self.once(expr);
        }
        match &expr.node {
            Node::Number(value, _) => Ok(Table::Scalar(vec![*value; self.grid.steps])),
            Node::Text(text) => Ok(Table::Text(text.value.clone())),
            Node::Paren(inner) => self.eval(inner),
            Node::Select(selector) if selector.range.is_none() => {
                self.instant(selector, expr.span.start, Want::Value).map(Table::Rows)
            }
            Node::Select(_) | Node::Subquery { .. } => {
                Err(QueryError::Execution("a range vector is no operand".to_owned()))
            }
            Node::Unary { minus, body } => {
                let table = self.eval(body)?;
                if *minus { self.negated(table) } else { Ok(table) }
            }
            // Reached for a pinned chain on its one step.
            Node::Binary { .. } => self.eval(expr),
            Node::Aggregate { op, param, body, without, labels } => {
                self.aggregated(*op, param.as_deref(), body, *without, labels).map(Table::Rows)
            }
            Node::Call { function, args } => {
                let site = CallSite { function, args, at: expr.span.start, invariant: expr.invariant };
                match function.kernel {
                    Kernel::Map(kernel) => self.mapped(&site, kernel).map(Table::Rows),
                    Kernel::OfHistogram(kernel) => self.of_histogram(&site, kernel).map(Table::Rows),
                    Kernel::Window(kernel) => window::call(self, &site, kernel).map(Table::Rows),
                    Kernel::Call(kernel) => kernel(self, &site),
                }
            }
        }
    }

    /// Evaluates an expression and gives its rows away one by one, held in memory no longer than that where possible:
    /// selectors and range functions never become a table.
    pub(crate) fn stream(&mut self, expr: &Expr, sink: &mut dyn FnMut(&mut Run<'_>, Row) -> Done<()>) -> Done<()> {
        if !self.is_pinned(expr) {
            // The samples count against the limit as if they were held, as upstream; the bytes do not.
            let mut counted = |run: &mut Run<'_>, row: Row| {
                run.hold(row.weight())?;
                sink(run, row)
            };
            match &expr.node {
                Node::Paren(inner) => return self.stream(inner, sink),
                Node::Select(selector) if selector.range.is_none() => {
                    return self.each_instant(selector, expr.span.start, Want::Value, &mut counted);
                }
                Node::Call { function, args } => {
                    if let Kernel::Window(kernel) = function.kernel {
                        let site = CallSite { function, args, at: expr.span.start, invariant: expr.invariant };
                        return window::stream(self, &site, kernel, &mut counted);
                    }
                }
                _ => {}
            }
        }
        self.rows(expr)?.into_iter().try_for_each(|row| sink(self, row))
    }

    /// Evaluates at the first step only.
    fn once(&mut self, expr: &Expr) -> Done<Table> {
        let outer = self.grid;
        self.grid = Grid { steps: 1, ..outer };
        let table = self.eval(expr);
        self.grid = outer;
        let steps = outer.steps;
        Ok(match table? {
            Table::Scalar(cells) => Table::Scalar(vec![cells[0]; steps]),
            Table::Text(text) => Table::Text(text),
            Table::Rows(rows) => {
                let rows: Vec<Row> = rows.into_iter().map(|row| row.spread(steps)).collect();
                rows.iter().try_for_each(|row| self.hold_row(row))?;
                Table::Rows(rows)
            }
        })
    }

    pub(crate) fn scalar(&mut self, expr: &Expr) -> Done<Vec<f64>> {
        match self.eval(expr)? {
            Table::Scalar(cells) => Ok(cells),
            _ => Err(QueryError::Execution("expected a scalar".into())),
        }
    }

    pub(crate) fn rows(&mut self, expr: &Expr) -> Done<Vec<Row>> {
        match self.eval(expr)? {
            Table::Rows(rows) => Ok(rows),
            _ => Err(QueryError::Execution("expected an instant vector".into())),
        }
    }

    /// Takes the name of a row away, at once or at the end of the query.
    pub(crate) fn unname(&self, row: &mut Row) {
        worker::unname(&self.context, row);
    }

    fn negated(&mut self, table: Table) -> Done<Table> {
        match table {
            Table::Scalar(cells) => Ok(Table::Scalar(cells.into_iter().map(|cell| -cell).collect())),
            Table::Text(text) => Ok(Table::Text(text)),
            Table::Rows(mut rows) => {
                for row in &mut rows {
                    self.unname(row);
                    row.cells.iter_mut().for_each(|cell| *cell = -*cell);
                    for histogram in row.histograms.iter_mut().flatten().flatten() {
                        Arc::make_mut(histogram).scale(-1.0);
                    }
                }
                merged(rows).map(Table::Rows)
            }
        }
    }

    /// A function of floats; histograms are left out. The vector comes first, scalars follow.
    fn mapped(&mut self, site: &CallSite<'_>, kernel: fn(f64, &[f64]) -> Option<f64>) -> Done<Vec<Row>> {
        let before = self.mark();
        let rows = self.rows(&site.args[0])?;
        let scalars = site.args[1..].iter().map(|arg| self.scalar(arg)).collect::<Done<Vec<_>>>()?;
        let steps = self.grid.steps;
        let mut given = vec![0.0; scalars.len()];
        let mut out = Vec::with_capacity(rows.len());
        for mut row in rows {
            self.unname(&mut row);
            row.histograms = None;
            for step in (0..steps).filter(|step| row.present[*step]).collect::<Vec<_>>() {
                given.iter_mut().zip(&scalars).for_each(|(given, cells)| *given = cells[step]);
                match kernel(row.cells[step], &given) {
                    Some(value) => row.cells[step] = value,
                    None => row.present[step] = false,
                }
            }
            out.push(row);
        }
        let out = merged(out)?;
        self.replaced(before, &out)?;
        Ok(out)
    }

    /// A function of histograms; floats are left out.
    fn of_histogram(&mut self, site: &CallSite<'_>, kernel: fn(&crate::histogram::Histogram) -> f64) -> Done<Vec<Row>> {
        let before = self.mark();
        let mut out = Vec::new();
        for row in self.rows(&site.args[0])? {
            let mut made = row.like();
            self.unname(&mut made);
            for step in 0..self.grid.steps {
                if let Some(Cell::Histogram(histogram)) = row.get(step) {
                    made.set(step, Value::Float(kernel(histogram)));
                }
            }
            out.push(made);
        }
        let out = merged(out)?;
        self.replaced(before, &out)?;
        Ok(out)
    }

    /// Removes the names that were to go at the end.
    pub(crate) fn finished(&self, mut rows: Vec<Row>) -> Done<Vec<Row>> {
        let late = rows.iter().any(|row| row.unnamed);
        for row in rows.iter_mut().filter(|row| row.unnamed) {
            row.labels = nameless(&row.labels);
            row.unnamed = false;
        }
        rows.retain(|row| !row.is_empty());
        if late { merged(rows) } else { Ok(rows) }
    }
}
