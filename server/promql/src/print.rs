//! Expressions as text: in one line, and laid out as upstream's formatter does it.
//!
//! Lines longer than a hundred characters are broken: arguments and operands go on lines of their own, two blanks
//! deeper. Lengths that were computed from constants are printed as what they are.

use crate::expr::{Aggregator, Arithmetic, At, Expr, Extension, Length, Matching, Node, Op, Selector, When};
use model::{Duration, METRIC_NAME, Matcher, is_legacy_label_name, quote};
use std::fmt;

/// Characters a line may have before it is broken.
const LINE_MAX: usize = 100;

/// The expression over as many lines as it needs.
pub fn pretty(expr: &Expr) -> String {
    laid_out(expr, 0)
}

fn laid_out(expr: &Expr, level: usize) -> String {
    let indent = "  ".repeat(level);
    let line = expr.to_string();
    let long = line.len() > LINE_MAX;
    let inner = |expr: &Expr| laid_out(expr, level + 1);
    match &expr.node {
        Node::Unary { minus, body } => {
            let sign = if *minus { '-' } else { '+' };
            format!("{indent}{sign}{}", laid_out(body, level).trim())
        }
        Node::Paren(body) if long => format!("{indent}(\n{}\n{indent})", inner(body)),
        Node::Subquery { body, range, step, when } if long => {
            format!("{}{}", laid_out(body, level), subquery(range, step.as_ref(), when))
        }
        Node::Binary { op, left, right, bool, matching } if long => {
            format!("{}\n{indent}{}\n{}", inner(left), operator(*op, *bool, matching), inner(right))
        }
        Node::Aggregate { op, param, body, without, labels } if long => {
            let param = param.as_ref().map_or(String::new(), |param| format!("{},\n", inner(param)));
            format!("{indent}{}(\n{param}{}\n{indent})", aggregation(*op, *without, labels), inner(body))
        }
        Node::Call { function, args } if long && !args.is_empty() => {
            let args: Vec<String> = args.iter().map(inner).collect();
            format!("{indent}{}(\n{}\n{indent})", function.name, args.join(",\n"))
        }
        _ => format!("{indent}{line}"),
    }
}

/// One line, with the blanks upstream puts.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A chain of operators is walked, not descended into.
        let (mut chain, mut lowest) = (Vec::new(), self);
        while let Node::Binary { op, left, right, bool, matching } = &lowest.node {
            chain.push((*op, *bool, matching, right));
            lowest = left;
        }
        node(&lowest.node, f)?;
        for (op, bool, matching, right) in chain.into_iter().rev() {
            write!(f, " {} {right}", operator(op, bool, matching))?;
        }
        Ok(())
    }
}

fn node(node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match node {
        Node::Number(value, true) => f.write_str(&seconds(*value)),
        Node::Number(value, false) => f.write_str(&number(*value)),
        Node::Text(text) => f.write_str(&text.invalid.clone().unwrap_or_else(|| quote(&text.value))),
        Node::Paren(body) => write!(f, "({body})"),
        Node::Select(selector) => f.write_str(&select(selector)),
        Node::Subquery { body, range, step, when } => write!(f, "{body}{}", subquery(range, step.as_ref(), when)),
        Node::Unary { minus, body } => write!(f, "{}{body}", if *minus { '-' } else { '+' }),
        Node::Binary { op, left, right, bool, matching } => {
            write!(f, "{left} {} {right}", operator(*op, *bool, matching))
        }
        Node::Aggregate { op, param, body, without, labels } => {
            let param = param.as_ref().map_or(String::new(), |param| format!("{param}, "));
            write!(f, "{}({param}{body})", aggregation(*op, *without, labels))
        }
        Node::Call { function, args } => {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            write!(f, "{}({})", function.name, args.join(", "))
        }
    }
}

/// Plain decimal digits.
fn number(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned() } else { value.to_string() }
}

fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", Duration::from_millis(ms.unsigned_abs()))
}

/// Seconds as a duration.
fn seconds(value: f64) -> String {
    duration((value * 1000.0).round() as i64)
}

fn names(labels: &[String]) -> String {
    let name = |label: &String| if is_legacy_label_name(label) { label.clone() } else { quote(label) };
    labels.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The operator with what follows it.
fn operator(op: Op, bool: bool, matching: &Matching) -> String {
    let mut out = op.as_str().to_owned();
    if bool {
        out.push_str(" bool");
    }
    let mut add = |text: String| {
        out.push(' ');
        out.push_str(&text);
    };
    if matching.on || !matching.labels.is_empty() || matching.group.is_some() {
        add(format!("{} ({})", if matching.on { "on" } else { "ignoring" }, names(&matching.labels)));
    }
    if let Some((left, include)) = &matching.group {
        add(format!("group_{} ({})", if *left { "left" } else { "right" }, names(include)));
    }
    match (matching.fill_left, matching.fill_right) {
        (Some(left), Some(right)) if left.to_bits() == right.to_bits() => add(format!("fill ({})", number(left))),
        (left, right) => {
            left.into_iter().for_each(|value| add(format!("fill_left ({})", number(value))));
            right.into_iter().for_each(|value| add(format!("fill_right ({})", number(value))));
        }
    }
    out
}

/// The aggregator with its grouping, up to the parenthesis.
fn aggregation(op: Aggregator, without: bool, labels: &[String]) -> String {
    let word = if without { "without" } else { "by" };
    if without || !labels.is_empty() {
        format!("{} {word} ({}) ", op.as_str(), names(labels))
    } else {
        op.as_str().to_owned()
    }
}

fn length(length: &Length) -> String {
    match length {
        Length::Fixed(ms) => duration(*ms),
        Length::Computed(expr, _) => arithmetic(expr, false),
    }
}

/// A duration expression; `inside` of another one its operators are between parentheses.
fn arithmetic(expr: &Arithmetic, inside: bool) -> String {
    let part = |expr: &Arithmetic| arithmetic(expr, true);
    match expr {
        Arithmetic::Number(value) => seconds(*value),
        Arithmetic::Step => "step()".to_owned(),
        Arithmetic::Range => "range()".to_owned(),
        Arithmetic::Negate(inner) => format!("-{}", part(inner)),
        Arithmetic::Min(a, b) => format!("min_of({}, {})", arithmetic(a, false), arithmetic(b, false)),
        Arithmetic::Max(a, b) => format!("max_of({}, {})", arithmetic(a, false), arithmetic(b, false)),
        Arithmetic::Binary(op, a, b, _) if inside => format!("({} {} {})", part(a), op.as_str(), part(b)),
        Arithmetic::Binary(op, a, b, _) => format!("{} {} {}", part(a), op.as_str(), part(b)),
    }
}

fn subquery(range: &Length, step: Option<&Length>, time: &When) -> String {
    format!("[{}:{}]{}", length(range), step.map_or(String::new(), length), when(time))
}

fn when(when: &When) -> String {
    let mut out = match when.at {
        None => String::new(),
        Some(At::Start) => " @ start()".to_owned(),
        Some(At::End) => " @ end()".to_owned(),
        Some(At::Time(ms)) => {
            let sign = if ms < 0 { "-" } else { "" };
            format!(" @ {sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
        }
    };
    match &when.offset {
        Length::Fixed(0) => {}
        Length::Fixed(ms) => out.push_str(&format!(" offset {}", duration(*ms))),
        Length::Computed(expr, _) => out.push_str(&format!(" offset ({})", arithmetic(expr, false))),
    }
    out
}

fn select(selector: &Selector) -> String {
    let mut out = String::new();
    let mut matchers = selector.matchers.as_slice();
    if let Some((name, rest)) =
        matchers.split_first().filter(|(first, _)| selector.named && first.name() == METRIC_NAME)
    {
        out.push_str(name.value());
        matchers = rest;
    }
    let text = |matcher: &Matcher| {
        let (name, op, value) = (matcher.name(), matcher.op().as_str(), quote(matcher.value()));
        if is_legacy_label_name(name) { format!("{name}{op}{value}") } else { format!("{}{op}{value}", quote(name)) }
    };
    if !matchers.is_empty() || !selector.named {
        let mut texts: Vec<String> = matchers.iter().map(text).collect();
        texts.sort();
        out.push_str(&format!("{{{}}}", texts.join(",")));
    }
    if let Some(range) = &selector.range {
        out.push_str(&format!("[{}]", length(range)));
    }
    out.push_str(match selector.extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    });
    out.push_str(&when(&selector.when));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Features, parse_with};

    #[test]
    fn texts_as_upstream_writes_them() {
        let long = "a".repeat(98);
        let broken_sum = format!("sum by (a) (\n  {long}\n)");
        let broken_unary = format!("-(\n    {long}\n  +\n    b\n)");
        let broken_call =
            format!("max_over_time(\n  sum(\n    rate(\n      {long}[5m]\n    )\n  )[1h:1m] offset 5m\n)");
        for (text, want) in [
            (
                "sum  by(a,b)(rate(x{c=\"d\",e=~\"f.*\"}[5m] offset 1m))",
                "sum by (a, b) (rate(x{c=\"d\",e=~\"f.*\"}[5m] offset 1m))",
            ),
            ("a + on(b) group_left(c) d", "a + on (b) group_left (c) d"),
            ("topk(3,x) > bool 5", "topk(3, x) > bool 5"),
            ("x @ 100", "x @ 100.000"),
            ("x @ start() offset -5m", "x @ start() offset -5m"),
            ("(a+b)*c", "(a + b) * c"),
            ("rate(x[1h30m:15s] @ 5.5 offset 90s)", "rate(x[1h30m:15s] @ 5.500 offset 1m30s)"),
            ("x[300]", "x[5m]"),
            ("-x^2", "-x ^ 2"),
            ("sum(x)without(a)", "sum without (a) (x)"),
            ("\"a\\nb\"", "\"a\\nb\""),
            ("{\"a.b\"}", "{__name__=\"a.b\"}"),
            ("a and ignoring() b", "a and b"),
            ("a * on() b", "a * on () b"),
            ("1e10 + 1e-7 + Inf + NaN", "10000000000 + 0.0000001 + +Inf + NaN"),
            ("sum by (\"a.b\", c) (x)", "sum by (\"a.b\", c) (x)"),
            ("5m", "5m"),
            ("x[2w1d]", "x[15d]"),
            ("x offset 0s", "x"),
            ("a == bool on(x) b", "a == bool on (x) b"),
            ("sum(x)by()", "sum(x)"),
            ("x{b=\"1\",a=\"2\"}", "x{a=\"2\",b=\"1\"}"),
            ("a + fill(1) b", "a + fill (1) b"),
            ("x[step()+1m] smoothed", "x[step() + 1m] smoothed"),
            (&format!("sum by (a) ({long})"), &broken_sum),
            (&format!("-({long} + b)"), &broken_unary),
            (&format!("max_over_time(sum(rate({long}[5m]))[1h:1m] offset 5m)"), &broken_call),
        ] {
            let expr = parse_with(text, &Features::all()).expect(text);
            assert_eq!(pretty(&expr), want);
            // What is printed means the same.
            let again = parse_with(want, &Features::all()).expect(want);
            assert_eq!(pretty(&again), want);
        }
    }
}
