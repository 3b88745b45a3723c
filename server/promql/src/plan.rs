//! What must be known of a tree before it is evaluated: lengths computed from the query, and what no step changes.

use crate::{
    Features, QueryError,
    expr::{At, Expr, Length, Node, When},
    functions::Function,
    parser::milliseconds,
    print::pretty,
    select::texts,
    table::Done,
    token::error,
};
use std::collections::HashMap;

/// What the lengths and functions of a query may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) start: i64,
    pub(crate) end: i64,
    /// Zero for an instant query.
    pub(crate) step: i64,
    /// Step of subqueries that name none.
    pub(crate) interval: i64,
    pub(crate) lookback: i64,
    pub(crate) features: Features,
}

/// Fills in all lengths and marks step-invariant parts.
pub(crate) fn prepare(text: &str, expr: &mut Expr, context: &Context) -> Done<()> {
    Walk { text, context }.walk(expr, Above::default()).map(|_| ())
}

/// What tells an aggregation from all selectors and from other ones.
pub(crate) fn aggregation(expr: &Expr) -> String {
    format!("({})", pretty(expr))
}

/// How often the expression has a selector of the same matchers, or the same aggregation.
pub(crate) fn uses(expr: &Expr) -> HashMap<String, usize> {
    let (mut found, mut rest) = (HashMap::new(), vec![expr]);
    while let Some(expr) = rest.pop() {
        match &expr.node {
            Node::Number(..) | Node::Text(_) => {}
            Node::Select(selector) => *found.entry(texts(&selector.matchers)).or_default() += 1,
            Node::Paren(inner) | Node::Unary { body: inner, .. } | Node::Subquery { body: inner, .. } => {
                rest.push(inner)
            }
            Node::Binary { left, right, .. } => rest.extend([&**left, &**right]),
            Node::Aggregate { param, body, .. } => {
                *found.entry(aggregation(expr)).or_default() += 1;
                rest.extend(param.as_deref());
                rest.push(body);
            }
            Node::Call { args, .. } => rest.extend(args),
        }
    }
    found
}

struct Walk<'a> {
    text: &'a str,
    context: &'a Context,
}

/// Which functions of histograms an expression is under.
#[derive(Clone, Copy, Default)]
struct Above {
    /// One that asks for count or sum alone.
    statistics: bool,
    /// Something that needs the buckets.
    buckets: bool,
}

impl Walk<'_> {
    /// Answers whether the expression gives the same at every step.
    fn walk(&self, expr: &mut Expr, above: Above) -> Done<bool> {
        let invariant = match &mut expr.node {
            Node::Number(..) | Node::Text(_) => true,
            Node::Paren(inner) => self.walk(inner, above)?,
            Node::Unary { body, .. } => self.walk(body, above)?,
            Node::Select(selector) => {
                self.when(&mut selector.when)?;
                if let Some(range) = &mut selector.range {
                    self.length(range, true)?;
                }
                selector.statistics = above.statistics && !above.buckets;
                selector.when.at.is_some()
            }
            Node::Subquery { body, range, step, when, .. } => {
                self.walk(body, Above { buckets: true, ..above })?;
                self.when(when)?;
                self.length(range, true)?;
                if let Some(step) = step {
                    self.length(step, true)?;
                }
                when.at.is_some()
            }
            Node::Binary { .. } => self.chain(expr)?,
            // Only what is aggregated counts, as upstream: the parameter of the first step then serves all.
            Node::Aggregate { param, body, .. } => {
                if let Some(param) = param {
                    self.walk(param, above)?;
                }
                self.walk(body, above)?
            }
            Node::Call { function, args } => {
                let statistics = matches!(function.name, "histogram_count" | "histogram_sum" | "histogram_avg");
                let above = Above {
                    statistics: above.statistics || statistics,
                    buckets: above.buckets || !statistics && function.name.starts_with("histogram_"),
                };
                let mut all = true;
                for arg in args {
                    all &= self.walk(arg, above)?;
                }
                all && !volatile(function)
            }
        };
        expr.invariant = invariant;
        Ok(invariant)
    }

    /// A chain of operators, as long as it may be: down its left side twice, not into it.
    fn chain(&self, top: &mut Expr) -> Done<bool> {
        let mut rights = Vec::new();
        let mut lowest = &mut *top;
        let mut invariant = loop {
            if !matches!(lowest.node, Node::Binary { .. }) {
                break self.walk(lowest, Above::default())?;
            }
            let Node::Binary { left, right, .. } = &mut lowest.node else { break false };
            rights.push(self.walk(right, Above::default())?);
            lowest = left;
        };
        for right in rights.iter_mut().rev() {
            invariant &= *right;
            *right = invariant;
        }
        let mut known = rights.into_iter();
        let mut lowest = &mut *top;
        while let (Node::Binary { .. }, Some(invariant)) = (&lowest.node, known.next()) {
            lowest.invariant = invariant;
            let Node::Binary { left, .. } = &mut lowest.node else { break };
            lowest = left;
        }
        Ok(invariant)
    }

    fn when(&self, when: &mut When) -> Done<()> {
        self.length(&mut when.offset, false)?;
        match when.at {
            Some(At::Start) => when.at = Some(At::Time(self.context.start)),
            Some(At::End) => when.at = Some(At::Time(self.context.end)),
            Some(At::Time(_)) | None => {}
        }
        Ok(())
    }

    fn length(&self, length: &mut Length, positive: bool) -> Done<()> {
        let Length::Computed(expr, at) = length else { return Ok(()) };
        let at = *at;
        let fail = |why: String| QueryError::Parse(error(self.text, at, why));
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let range = self.context.end.saturating_sub(self.context.start);
        let value = expr.seconds(seconds(self.context.step), seconds(range)).map_err(fail)?;
        let ms = milliseconds(value).map_err(fail)?;
        if positive && ms <= 0 {
            return Err(fail("duration must be greater than 0".to_owned()));
        }
        *length = Length::Fixed(ms);
        Ok(())
    }
}

/// Functions that look at the time of evaluation.
fn volatile(function: &Function) -> bool {
    const TIMED: [&str; 11] = [
        "days_in_month",
        "day_of_month",
        "day_of_week",
        "day_of_year",
        "hour",
        "minute",
        "month",
        "year",
        "predict_linear",
        "time",
        "timestamp",
    ];
    TIMED.contains(&function.name)
}
