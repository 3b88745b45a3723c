//! Evaluation: every node gives all steps of the query at once.
//!
//! Left out: what one operator or function does with its operands, which is in `binary`, `aggregate` and `functions`.

use crate::{
    QueryError,
    expr::{Expr, Node},
    functions::{CallSite, Kernel},
    notes::Notes,
    plan::{Context, aggregation},
    report::{Profile, Spent},
    select::{Key, Shared},
    table::{Done, Grid, Row, Table, merged, nameless},
    worker::{self, Helpers, Seen},
};
use runtime::{Clock, Monotonic};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};
use storage::Storage;

/// What a query may use.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pub(crate) samples_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) deadline: Monotonic,
    pub(crate) cancel: Option<Arc<AtomicBool>>,
    /// Bytes that workers hold now.
    pub(crate) flying: Arc<AtomicUsize>,
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
    pub(crate) helpers: Helpers,
    /// Whether every step makes a table, because names taken away made series equal.
    pub(crate) staged: bool,
    /// Whether they did.
    pub(crate) clashed: bool,
    /// How often the query has a selector of these matchers.
    pub(crate) uses: HashMap<String, usize>,
    /// Samples seen, while `counts`.
    pub(crate) seen: Seen,
    /// Whether selectors count what they see: those of a subquery do not, its windows do.
    pub(crate) counts: bool,
    /// Samples held at once at most.
    pub(crate) peak: usize,
    /// What the parts of the pipeline in work took.
    pub(crate) spent: Vec<Spent>,
    /// What the parts of the query took, when asked for.
    pub(crate) profile: Option<Profile>,
    /// Time that went into bringing results in order.
    pub(crate) sorting: Duration,
    /// Samples held now.
    pub(crate) held: usize,
    /// Bytes of the rows held now.
    pub(crate) bytes: usize,
    /// Bytes of the columns read, which stay until the end.
    pub(crate) stored: usize,
    /// Aggregations that come again, with what they saw: by text and steps.
    pub(crate) aggregations: HashMap<(String, Grid), (Vec<Row>, Seen)>,
    /// Columns of selectors that come again.
    pub(crate) shared: HashMap<Key, Shared>,
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
        self.peak = self.peak.max(self.held);
        if self.held > self.budget.samples_max { Err(QueryError::TooManySamples) } else { Ok(()) }
    }

    /// Whether so many samples more could be held.
    pub(crate) fn fits(&mut self, samples: usize) -> Done<()> {
        let held = self.held.saturating_add(samples);
        self.peak = self.peak.max(held);
        if held > self.budget.samples_max { Err(QueryError::TooManySamples) } else { Ok(()) }
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

    /// Counts bytes of rows in work, until [`Run::replaced`] counts the rows that are made.
    pub(crate) fn claim(&mut self, bytes: usize) -> Done<()> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.in_memory()
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
            if self.is_pinned(lowest) || self.flows(lowest) {
                break;
            }
            chain.push(lowest);
            lowest = left;
        }
        let (before, began) = (self.mark(), self.clock.now());
        let mut table = self.node(lowest)?;
        self.spent_on(lowest, began, &table);
        while let Some(expr) = chain.pop() {
            let Node::Binary { op, right, bool, matching, .. } = &expr.node else { continue };
            let right = self.eval(right)?;
            table = self.binary(expr, *op, *bool, matching, table, right)?;
            self.settle(before, &table)?;
            self.spent_on(expr, began, &table);
        }
        Ok(table)
    }

    /// Notes what a part that made a table took, when asked for.
    fn spent_on(&mut self, expr: &Expr, began: Monotonic, table: &Table) {
        let flows = self.flows(expr);
        let Some(profile) = self.profile.as_mut().filter(|_| !flows) else { return };
        let mut spent = Spent { time: self.clock.now() - began, ..Spent::default() };
        match table {
            Table::Scalar(cells) => {
                (spent.series, spent.samples, spent.bytes) = (1, cells.len() as u64, cells.len() as u64 * 8)
            }
            Table::Text(text) => spent.bytes = text.len() as u64,
            Table::Rows(rows) => rows.iter().for_each(|row| spent.add(&row.spent())),
        }
        profile.add(expr.span, &spent);
    }

    fn settle(&mut self, before: (usize, usize), table: &Table) -> Done<()> {
        let rows = if let Table::Rows(rows) = table { rows.as_slice() } else { &[] };
        self.replaced(before, rows)
    }

    /// Whether one step of the expression stands for all.
    pub(crate) fn is_pinned(&self, expr: &Expr) -> bool {
        expr.invariant && self.grid.steps > 1 && !matches!(expr.node, Node::Number(..) | Node::Text(_))
    }

    fn node(&mut self, expr: &Expr) -> Done<Table> {
        if self.is_pinned(expr) {
            return self.once(expr);
        }
        if self.flows(expr) {
            return self.collected(expr).map(Table::Rows);
        }
        match &expr.node {
            Node::Number(value, _) => Ok(Table::Scalar(vec![*value; self.grid.steps])),
            Node::Text(text) => Ok(Table::Text(text.value.clone())),
            Node::Paren(inner) => self.eval(inner),
            Node::Select(_) | Node::Subquery { .. } => {
                Err(QueryError::Execution("a range vector is no operand".to_owned()))
            }
            Node::Unary { minus, body } => match self.eval(body)? {
                Table::Scalar(cells) if *minus => Ok(Table::Scalar(cells.into_iter().map(|cell| -cell).collect())),
                table => Ok(table),
            },
            // Reached for a pinned chain on its one step.
            Node::Binary { .. } => self.eval(expr),
            Node::Aggregate { .. } => self.aggregated_once(expr).map(Table::Rows),
            Node::Call { function, args } => {
                let site = CallSite { function, args, at: expr.span.start, invariant: expr.invariant };
                match function.kernel {
                    Kernel::Call(kernel) => kernel(self, &site),
                    _ => self.collected(expr).map(Table::Rows),
                }
            }
        }
    }

    /// Evaluates an aggregation; one that the query has again, and that says nothing, is evaluated once.
    fn aggregated_once(&mut self, expr: &Expr) -> Done<Vec<Row>> {
        let Node::Aggregate { op, param, body, without, labels } = &expr.node else { return Ok(Vec::new()) };
        let again = self.uses.get(&aggregation(expr)).is_some_and(|uses| *uses > 1);
        let key = again.then(|| (aggregation(expr), self.grid));
        if let Some((rows, seen)) = key.as_ref().and_then(|key| self.aggregations.get(key)) {
            self.seen.add(&seen.clone());
            let rows = rows.clone();
            rows.iter().try_for_each(|row| self.hold_row(row))?;
            return Ok(rows);
        }
        let said = self.notes.said();
        let fresh = Seen::new(self.seen.steps.as_ref().map(Vec::len));
        let before = std::mem::replace(&mut self.seen, fresh);
        let rows = self.aggregated(*op, param.as_deref(), body, *without, labels);
        let seen = std::mem::replace(&mut self.seen, before);
        self.seen.add(&seen);
        let rows = rows?;
        // A note tells where it was met last.
        if let Some(key) = key.filter(|_| self.notes.said() == said) {
            self.store(rows.iter().map(Row::bytes).sum())?;
            self.aggregations.insert(key, (rows.clone(), seen));
        }
        Ok(rows)
    }

    /// Evaluates at the first step only.
    fn once(&mut self, expr: &Expr) -> Done<Table> {
        let (outer, before) = (self.grid, self.mark());
        self.grid = Grid { steps: 1, ..outer };
        let by_step = self.seen.steps.as_ref().map(|_| 1);
        let seen = std::mem::replace(&mut self.seen, Seen::new(by_step));
        let table = self.eval(expr);
        self.grid = outer;
        // What one step saw, every step would have seen.
        let once = std::mem::replace(&mut self.seen, seen).total as usize;
        (0..outer.steps).for_each(|step| self.seen.at(step, once));
        let steps = outer.steps;
        Ok(match table? {
            Table::Scalar(cells) => Table::Scalar(vec![cells[0]; steps]),
            Table::Text(text) => Table::Text(text),
            Table::Rows(rows) => {
                let rows: Vec<Row> = rows.into_iter().map(|row| row.spread(steps)).collect();
                self.replaced(before, &rows)?;
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
