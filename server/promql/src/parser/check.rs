//! Type rules of operators, aggregations and calls.

use super::Parser;
use crate::{
    expr::{Aggregator, Expr, Extension, Matching, Node, Op, Span, Type},
    functions::Function,
};

/// Functions that can make use of the sample before a window.
const ANCHORED: [&str; 5] = ["changes", "delta", "increase", "rate", "resets"];
/// Functions that can make use of interpolated values at both ends of a window.
const SMOOTHED: [&str; 3] = ["delta", "increase", "rate"];

impl Parser<'_> {
    pub(super) fn binary(
        &mut self,
        at: usize,
        op: Op,
        left: Expr,
        right: Expr,
        bool: bool,
        matching: Matching,
    ) -> Expr {
        for side in [&left, &right] {
            if !matches!(side.kind, Type::Scalar | Type::Vector) {
                self.late(side.span.start, "binary expression must contain only scalar and instant vector types");
            }
        }
        let scalars = left.kind == Type::Scalar && right.kind == Type::Scalar;
        let vectors = left.kind == Type::Vector && right.kind == Type::Vector;
        let name = op.as_str();
        if bool && !op.compares() {
            self.late(at, "bool modifier can only be used on comparison operators");
        }
        if op.compares() && scalars && !bool {
            self.late(at, "comparisons between scalars must use BOOL modifier");
        }
        if op.is_set() && matching.group.is_some() {
            self.late(at, format!("no grouping allowed for {name:?} operation"));
        }
        let fills = matching.fill_left.is_some() || matching.fill_right.is_some();
        if op.is_set() && fills {
            self.late(at, format!("filling in missing series not allowed for set operators, got {name:?}"));
        }
        if op.is_set() && !vectors {
            self.late(at, format!("set operator {name:?} not allowed in binary scalar expression"));
        }
        if (matching.on || !matching.labels.is_empty() || fills) && !vectors {
            self.late(at, "vector matching only allowed between instant vectors");
        }
        if let (true, Some((_, include))) = (matching.on, &matching.group)
            && let Some(label) = matching.labels.iter().find(|label| include.contains(label))
        {
            self.late(at, format!("label {label:?} must not occur in ON and GROUP clause at once"));
        }
        let kind = if scalars { Type::Scalar } else { Type::Vector };
        let span = Span { start: left.span.start, end: right.span.end };
        let node = Node::Binary { op, left: Box::new(left), right: Box::new(right), bool, matching };
        Expr::new(node, kind, span)
    }

    pub(super) fn aggregate(
        &mut self,
        start: usize,
        op: Aggregator,
        (without, labels): (bool, Vec<String>),
        mut args: Vec<Expr>,
    ) -> Expr {
        let span = self.span(start);
        let want = 1 + usize::from(op.parameter().is_some());
        if args.is_empty() {
            self.early(start, "no arguments for aggregate expression provided");
        } else if args.len() != want {
            let rule = "wrong number of arguments for aggregate expression provided";
            self.early(start, format!("{rule}, expected {want}, got {}", args.len()));
        }
        let (body, param) = (args.pop(), args.pop());
        // A mistake that is reported stands for the rest.
        let body = body.unwrap_or_else(|| Expr::new(Node::Number(f64::NAN, false), Type::Vector, span));
        if body.kind != Type::Vector {
            let got = body.kind.as_str();
            self.late(body.span.start, format!("expected type instant vector in aggregation expression, got {got}"));
        }
        if let (Some(param), Some(want)) = (&param, op.parameter())
            && param.kind != want
        {
            let (want, got) = (want.as_str(), param.kind.as_str());
            self.late(param.span.start, format!("expected type {want} in aggregation parameter, got {got}"));
        }
        let node = Node::Aggregate { op, param: param.map(Box::new), body: Box::new(body), without, labels };
        Expr::new(node, Type::Vector, span)
    }

    pub(super) fn counted(&mut self, start: usize, function: &Function, got: usize) {
        let (name, min, max) = (function.name, function.required, function.max);
        if min == max && got != min {
            self.late(start, format!("expected {min} argument(s) in call to {name:?}, got {got}"));
        } else if got < min {
            self.late(start, format!("expected at least {min} argument(s) in call to {name:?}, got {got}"));
        } else if got > max {
            self.late(start, format!("expected at most {max} argument(s) in call to {name:?}, got {got}"));
        }
    }

    pub(super) fn checked_call(&mut self, start: usize, function: &'static Function, args: Vec<Expr>) -> Expr {
        let name = function.name;
        for (place, arg) in args.iter().enumerate() {
            let Some(want) = function.args.get(place).or(function.args.last()) else { break };
            if arg.kind != *want {
                let (want, got) = (want.as_str(), arg.kind.as_str());
                self.late(arg.span.start, format!("expected type {want} in call to function {name:?}, got {got}"));
            }
            if let Node::Select(selector) = &arg.bare().node
                && selector.range.is_some()
            {
                self.extension(arg, name, selector.extension);
            }
        }
        if name == "info" && args.get(1).is_some_and(|arg| !matches!(arg.node, Node::Select(_))) {
            self.late(args[1].span.start, "expected label selectors only");
        }
        let span = self.span(start);
        Expr::new(Node::Call { function, args }, function.gives, span)
    }

    fn extension(&mut self, arg: &Expr, name: &str, extension: Extension) {
        let (word, fit) = match extension {
            Extension::None => return,
            Extension::Anchored => ("anchored", &ANCHORED[..]),
            Extension::Smoothed => ("smoothed", &SMOOTHED[..]),
        };
        if fit.contains(&name) {
            return;
        }
        let fit = fit.join(", ");
        self.late(arg.span.start, format!("{word} modifier can only be used with: {fit} - not with {name}"));
    }
}
