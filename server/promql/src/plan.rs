//! What must be known of a tree before it is evaluated: lengths computed from the query, and what no step changes.

use crate::{
    Features, QueryError,
    expr::{At, Expr, Length, Node, When},
    functions::Function,
    parser::milliseconds,
    table::Done,
    token::error,
};

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
    walk(text, expr, context).map(|_| ())
}

/// Answers whether the expression gives the same at every step.
fn walk(text: &str, expr: &mut Expr, context: &Context) -> Done<bool> {
    let invariant = match &mut expr.node {
        Node::Number(_) | Node::Text(_) => true,
        Node::Paren(inner) => walk(text, inner, context)?,
        Node::Unary { body, .. } => walk(text, body, context)?,
        Node::Select(selector) => {
            when(text, &mut selector.when, context)?;
            if let Some(range) = &mut selector.range {
                length(text, range, context, true)?;
            }
            selector.when.at.is_some()
        }
        Node::Subquery { body, range, step, when: time, .. } => {
            walk(text, body, context)?;
            when(text, time, context)?;
            length(text, range, context, true)?;
            if let Some(step) = step {
                length(text, step, context, true)?;
            }
            time.at.is_some()
        }
        Node::Binary { left, right, .. } => {
            let left = walk(text, left, context)?;
            walk(text, right, context)? && left
        }
        // Only what is aggregated counts, as upstream: the parameter of the first step then serves all.
        Node::Aggregate { param, body, .. } => {
            if let Some(param) = param {
                walk(text, param, context)?;
            }
            walk(text, body, context)?
        }
        Node::Call { function, args } => {
            let mut all = true;
            for arg in args {
                all &= walk(text, arg, context)?;
            }
            all && !volatile(function)
        }
    };
    expr.invariant = invariant;
    Ok(invariant)
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

fn when(text: &str, when: &mut When, context: &Context) -> Done<()> {
    length(text, &mut when.offset, context, false)?;
    match when.at {
        Some(At::Start) => when.at = Some(At::Time(context.start)),
        Some(At::End) => when.at = Some(At::Time(context.end)),
        Some(At::Time(_)) | None => {}
    }
    Ok(())
}

fn length(text: &str, length: &mut Length, context: &Context, positive: bool) -> Done<()> {
    let Length::Computed(expr, at) = length else { return Ok(()) };
    let at = *at;
    let fail = |why: String| QueryError::Parse(error(text, at, why));
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let range = context.end.saturating_sub(context.start);
    let value = expr.seconds(seconds(context.step), seconds(range)).map_err(fail)?;
    let ms = milliseconds(value).map_err(fail)?;
    if positive && ms <= 0 {
        return Err(fail("duration must be greater than 0".to_owned()));
    }
    *length = Length::Fixed(ms);
    Ok(())
}
