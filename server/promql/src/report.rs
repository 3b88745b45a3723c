//! What a query says of itself besides its answer: times, samples, and the tree of what was done.

use crate::{
    Answer,
    expr::{Expr, Node, Span},
    print,
};
use model::Timestamp;
use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// A question to the engine.
#[derive(Clone, Debug)]
pub struct Request<'t> {
    /// The query.
    pub text: &'t str,
    /// The first moment.
    pub start: Timestamp,
    /// The last moment at most; not looked at without a step.
    pub end: Timestamp,
    /// Milliseconds between moments; none asks for the first moment alone.
    pub step: Option<u64>,
    /// Raised by whoever no longer wants the answer; looked at between series.
    pub cancel: Option<Arc<AtomicBool>>,
    /// Whether samples are to be counted for each step.
    pub per_step: bool,
    /// Whether to tell what each part of the query took.
    pub explain: bool,
}

impl<'t> Request<'t> {
    /// A query at one moment.
    pub fn instant(text: &'t str, at: Timestamp) -> Self {
        Self { text, start: at, end: at, step: None, cancel: None, per_step: false, explain: false }
    }

    /// A query at `start`, `start + step` … up to `end`; `step` in milliseconds.
    pub fn range(text: &'t str, start: Timestamp, end: Timestamp, step: u64) -> Self {
        Self { end, step: Some(step), ..Self::instant(text, start) }
    }
}

/// An answer and what it took.
#[derive(Clone, Debug)]
pub struct Report {
    /// The answer.
    pub answer: Answer,
    /// Times and samples.
    pub stats: Stats,
    /// What each part took, when that was asked for.
    pub plan: Option<PlanNode>,
}

/// Times and samples of a query, as upstream's `stats=all` has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    /// Parsing and planning.
    pub preparation: Duration,
    /// Reading and computing.
    pub inner_eval: Duration,
    /// Bringing series into the order of their labels.
    pub result_sort: Duration,
    /// All of it.
    pub eval_total: Duration,
    /// Samples that selectors and windows saw, over all steps; a histogram counts by its size.
    pub total_samples: u64,
    /// The same by step, when that was asked for: time in milliseconds, samples.
    pub per_step: Vec<(i64, u64)>,
    /// Samples held at once at most, by upstream's way of counting, which `--query.max-samples` limits.
    pub peak_samples: u64,
}

/// A part of a query and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanNode {
    /// The part, as it prints.
    pub text: String,
    /// What it is: `selector`, `subquery`, `aggregation`, `function`, `operator`, `number`, `string`.
    pub kind: &'static str,
    /// Whether its series went on one by one instead of making a table.
    pub streamed: bool,
    /// Series it gave.
    pub series: u64,
    /// Samples it gave.
    pub samples: u64,
    /// Bytes of those, or of what was decoded for a selector.
    pub bytes: u64,
    /// For a streamed part what all threads spent on it alone, otherwise what passed while it and its operands were
    /// evaluated.
    pub time: Duration,
    /// Its operands.
    pub operands: Vec<PlanNode>,
}

/// What one part took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Spent {
    pub(crate) streamed: bool,
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Spent {
    pub(crate) fn add(&mut self, other: &Self) {
        self.streamed |= other.streamed;
        self.series += other.series;
        self.samples += other.samples;
        self.bytes += other.bytes;
        self.time += other.time;
    }
}

/// What the parts of a query took, by where they stand.
#[derive(Debug, Default)]
pub(crate) struct Profile(HashMap<(usize, usize), Spent>);

impl Profile {
    pub(crate) fn add(&mut self, span: Span, spent: &Spent) {
        self.0.entry((span.start, span.end)).or_default().add(spent);
    }

    /// The tree of an expression. A chain of operators may be longer than the stack is deep: it becomes one part with
    /// many operands.
    pub(crate) fn tree(&self, expr: &Expr) -> PlanNode {
        let expr = expr.bare();
        let spent = self.0.get(&(expr.span.start, expr.span.end)).copied().unwrap_or_default();
        let (kind, operands): (_, Vec<&Expr>) = match &expr.node {
            Node::Number(..) => ("number", Vec::new()),
            Node::Text(_) => ("string", Vec::new()),
            Node::Paren(inner) => ("operator", vec![inner]),
            Node::Select(_) => ("selector", Vec::new()),
            Node::Subquery { body, .. } => ("subquery", vec![body]),
            Node::Unary { body, .. } => ("operator", vec![body]),
            Node::Binary { .. } => ("operator", chain(expr)),
            Node::Aggregate { param, body, .. } => {
                ("aggregation", param.as_deref().into_iter().chain([&**body]).collect())
            }
            Node::Call { args, .. } => ("function", args.iter().collect()),
        };
        let Spent { streamed, series, samples, bytes, time } = spent;
        let operands = operands.into_iter().map(|operand| self.tree(operand)).collect();
        PlanNode { text: print::pretty(expr), kind, streamed, series, samples, bytes, time, operands }
    }
}

/// The operands of a chain of operators; two when it is no longer than a person writes.
fn chain(top: &Expr) -> Vec<&Expr> {
    const LONG: usize = 32;
    let (mut operands, mut lowest) = (Vec::new(), top);
    while let Node::Binary { left, right, .. } = &lowest.node {
        operands.push(&**right);
        lowest = left;
    }
    if operands.len() <= LONG
        && let Node::Binary { left, right, .. } = &top.node
    {
        return vec![left, right];
    }
    operands.push(lowest);
    operands.reverse();
    operands
}
