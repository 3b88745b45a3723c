//! `format_query` and `parse_query`: an expression as text and as a tree.
//!
//! The node types and members of the tree are upstream's, since its pages and other tools read them.

use crate::json;
use model::Matcher;
use promql::{
    expr::{Arithmetic, At, Expr, Extension, Length, Matching, Node, Selector, When},
    functions::Function,
};
use std::fmt::Write;

/// Appends a tree as JSON. O(size of the expression).
pub(crate) fn tree(expr: &Expr, out: &mut String) {
    let mut object = Object::new(out);
    match &expr.node {
        Node::Number(value, _) => object.kind("numberLiteral").text("val", &json::float(*value)),
        Node::Text(text) => object.kind("stringLiteral").text("val", &text.value),
        Node::Paren(inner) => object.kind("parenExpr").expr("expr", inner),
        Node::Unary { minus, body } => {
            object.kind("unaryExpr").text("op", if *minus { "-" } else { "+" }).expr("expr", body)
        }
        Node::Select(selector) => select(selector, &mut object),
        Node::Subquery { body, range, step, when } => {
            object.kind("subquery").expr("expr", body);
            length("range", "rangeExpr", Some(range), &mut object);
            length("step", "stepExpr", step.as_ref(), &mut object);
            looks(when, &mut object)
        }
        Node::Binary { op, left, right, bool, matching } => {
            object.kind("binaryExpr").text("op", op.as_str()).expr("lhs", left).expr("rhs", right);
            let vectors = left.kind == promql::expr::Type::Vector && right.kind == promql::expr::Type::Vector;
            object.member(
                "matching",
                |out| if vectors { join(op.is_set(), matching, out) } else { out.push_str("null") },
            );
            object.raw("bool", if *bool { "true" } else { "false" })
        }
        Node::Aggregate { op, param, body, without, labels } => {
            object.kind("aggregation").text("op", op.as_str()).expr("expr", body);
            object.member("param", |out| match param {
                Some(param) => tree(param, out),
                None => out.push_str("null"),
            });
            object.member("grouping", |out| json::strings(labels, out));
            object.raw("without", if *without { "true" } else { "false" })
        }
        Node::Call { function: called, args } => {
            object.kind("call").member("func", |out| function(called, out));
            object.member("args", |out| json::list(args, out, tree))
        }
    };
    object.end();
}

/// Appends the matchers of every selector. O(size of the expression).
pub(crate) fn selectors(expr: &Expr, out: &mut Vec<Vec<Matcher>>) {
    match &expr.node {
        Node::Number(..) | Node::Text(_) => {}
        Node::Select(selector) => out.push(selector.matchers.clone()),
        Node::Paren(body) | Node::Unary { body, .. } | Node::Subquery { body, .. } => selectors(body, out),
        Node::Binary { left, right, .. } => {
            selectors(left, out);
            selectors(right, out);
        }
        Node::Aggregate { param, body, .. } => {
            if let Some(param) = param {
                selectors(param, out);
            }
            selectors(body, out);
        }
        Node::Call { args, .. } => args.iter().for_each(|arg| selectors(arg, out)),
    }
}

/// Members of an object, which go out in the order of their names.
struct Object<'a> {
    out: &'a mut String,
    members: Vec<(String, String)>,
}

impl<'a> Object<'a> {
    fn new(out: &'a mut String) -> Self {
        Self { out, members: Vec::new() }
    }

    fn member(&mut self, name: &str, value: impl FnOnce(&mut String)) -> &mut Self {
        let mut text = String::new();
        value(&mut text);
        self.members.push((name.to_owned(), text));
        self
    }

    fn kind(&mut self, kind: &str) -> &mut Self {
        self.text("type", kind)
    }

    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.member(name, |out| json::escaped(text, out))
    }

    fn raw(&mut self, name: &str, value: &str) -> &mut Self {
        self.member(name, |out| out.push_str(value))
    }

    fn expr(&mut self, name: &str, expr: &Expr) -> &mut Self {
        self.member(name, |out| tree(expr, out))
    }

    fn end(mut self) {
        self.members.sort();
        self.out.push('{');
        for (i, (name, value)) in self.members.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(self.out, "{}\"{name}\":{value}", if i > 0 { "," } else { "" });
        }
        self.out.push('}');
    }
}

fn select<'a, 'b>(selector: &Selector, object: &'a mut Object<'b>) -> &'a mut Object<'b> {
    object.kind(if selector.range.is_some() { "matrixSelector" } else { "vectorSelector" });
    object.text("name", selector.name().unwrap_or_default());
    if selector.range.is_some() {
        length("range", "rangeExpr", selector.range.as_ref(), object);
    }
    // The name before the braces comes last.
    let (first, rest) = selector.matchers.split_at(usize::from(selector.name().is_some()));
    object.member("matchers", |out| {
        json::list(rest.iter().chain(first), out, |matcher, out| {
            let mut one = Object::new(out);
            one.text("name", matcher.name()).text("value", matcher.value()).text("type", matcher.op().as_str());
            one.end();
        });
    });
    looks(&selector.when, object);
    let is = |extension| if selector.extension == extension { "true" } else { "false" };
    object.raw("anchored", is(Extension::Anchored)).raw("smoothed", is(Extension::Smoothed))
}

/// Offset and pin of a selector or subquery.
fn looks<'a, 'b>(when: &When, object: &'a mut Object<'b>) -> &'a mut Object<'b> {
    length("offset", "offsetExpr", Some(&when.offset), object);
    match when.at {
        Some(At::Time(ms)) => object.raw("timestamp", &ms.to_string()).raw("startOrEnd", "null"),
        Some(At::Start) => object.raw("timestamp", "null").text("startOrEnd", "start"),
        Some(At::End) => object.raw("timestamp", "null").text("startOrEnd", "end"),
        None => object.raw("timestamp", "null").raw("startOrEnd", "null"),
    }
}

/// Milliseconds known at once, and the expression of those that are not.
fn length(name: &str, computed: &str, length: Option<&Length>, object: &mut Object<'_>) {
    let ms = match length {
        Some(Length::Fixed(ms)) => *ms,
        Some(Length::Computed(..)) | None => 0,
    };
    object.raw(name, &ms.to_string());
    object.member(computed, |out| match length {
        Some(Length::Computed(arithmetic, _)) => duration(arithmetic, out),
        _ => out.push_str("null"),
    });
}

fn duration(arithmetic: &Arithmetic, out: &mut String) {
    let mut object = Object::new(out);
    let nothing = |out: &mut String| out.push_str("null");
    match arithmetic {
        Arithmetic::Number(seconds) => {
            object.kind("numberLiteral").text("val", &json::float(*seconds));
            return object.end();
        }
        Arithmetic::Step | Arithmetic::Range => {
            object.kind("durationExpr").text("op", if *arithmetic == Arithmetic::Step { "step" } else { "range" });
            object.member("lhs", nothing).member("rhs", nothing);
        }
        Arithmetic::Negate(body) => {
            object.kind("durationExpr").text("op", "-");
            object.member("lhs", nothing).member("rhs", |out| duration(body, out));
        }
        Arithmetic::Min(left, right) | Arithmetic::Max(left, right) => {
            object
                .kind("durationExpr")
                .text("op", if matches!(arithmetic, Arithmetic::Min(..)) { "min" } else { "max" });
            object.member("lhs", |out| duration(left, out)).member("rhs", |out| duration(right, out));
        }
        Arithmetic::Binary(op, left, right, _) => {
            object.kind("durationExpr").text("op", op.as_str());
            object.member("lhs", |out| duration(left, out)).member("rhs", |out| duration(right, out));
        }
    }
    object.raw("wrapped", "false");
    object.end();
}

fn join(set: bool, matching: &Matching, out: &mut String) {
    let (card, copied) = match &matching.group {
        _ if set => ("many-to-many", &[][..]),
        Some((true, copied)) => ("many-to-one", copied.as_slice()),
        Some((false, copied)) => ("one-to-many", copied.as_slice()),
        None => ("one-to-one", &[][..]),
    };
    let mut object = Object::new(out);
    object.text("card", card).member("labels", |out| json::strings(&matching.labels, out));
    object.raw("on", if matching.on { "true" } else { "false" });
    object.member("include", |out| json::strings(copied, out));
    let value = |value: Option<f64>| value.map_or_else(|| "null".to_owned(), json::float);
    object.member("fillValues", |out| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{{\"lhs\":{},\"rhs\":{}}}", value(matching.fill_left), value(matching.fill_right));
    });
    object.end();
}

fn function(function: &Function, out: &mut String) {
    let word = |kind: promql::expr::Type| match kind {
        promql::expr::Type::Scalar => "scalar",
        promql::expr::Type::Vector => "vector",
        promql::expr::Type::Matrix => "matrix",
        promql::expr::Type::String => "string",
    };
    let mut object = Object::new(out);
    object.text("name", function.name);
    object.member("argTypes", |out| json::strings(function.args.iter().map(|kind| word(*kind)), out));
    object.raw("variadic", &function.variadic().to_string()).text("returnType", word(function.gives));
    object.end();
}
