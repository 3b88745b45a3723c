//! Expressions as text: on one line, and pretty over several as upstream's `format_query`.
//!
//! Comments and the original spelling of numbers are lost, as they are upstream.

use crate::expr::{Arithmetic, At, Expr, Extension, Length, Matching, Node, Selector, When};
use model::{Duration, MatchOp, Matcher, is_legacy_label_name, is_legacy_metric_name};
use std::fmt::{self, Write};

/// Longer expressions are split over lines.
const LINE_MAX: usize = 100;

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Number(value) => f.write_str(&number(*value)),
            Node::Text(text) => match &text.invalid {
                Some(escaped) => write!(f, "\"{escaped}\""),
                None => write!(f, "{:?}", text.value),
            },
            Node::Paren(inner) => write!(f, "({inner})"),
            Node::Select(selector) => write!(f, "{selector}"),
            Node::Subquery { body, range, step, when } => write!(f, "{body}{}", Suffix(range, step.as_ref(), when)),
            Node::Unary { minus, body } => write!(f, "{}{body}", if *minus { '-' } else { '+' }),
            Node::Binary { op, left, right, bool, matching } => {
                write!(f, "{left} {}{}{} {right}", op.as_str(), if *bool { " bool" } else { "" }, Join(matching))
            }
            Node::Aggregate { param, body, .. } => {
                f.write_str(&head(self))?;
                match param {
                    Some(param) => write!(f, "({param}, {body})"),
                    None => write!(f, "({body})"),
                }
            }
            Node::Call { function, args } => {
                write!(f, "{}(", function.name)?;
                for (i, arg) in args.iter().enumerate() {
                    write!(f, "{}{arg}", if i > 0 { ", " } else { "" })?;
                }
                f.write_char(')')
            }
        }
    }
}

/// An aggregation up to its parenthesis.
fn head(expr: &Expr) -> String {
    let Node::Aggregate { op, without, labels, .. } = &expr.node else { return String::new() };
    match (without, labels.is_empty()) {
        (true, _) => format!("{} without ({}) ", op.as_str(), names(labels)),
        (false, true) => op.as_str().to_owned(),
        (false, false) => format!("{} by ({}) ", op.as_str(), names(labels)),
    }
}

fn names(labels: &[String]) -> String {
    labels.iter().map(|label| quoted(label)).collect::<Vec<_>>().join(", ")
}

fn quoted(label: &str) -> String {
    if is_legacy_label_name(label) { label.to_owned() } else { format!("{label:?}") }
}

/// The shortest digits, with an exponent below 1e-4 and from 1e6 on, as Go prints a float.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let power: i32 = exponent.parse().unwrap_or_default();
    if value == 0.0 || (-4..6).contains(&power) {
        return value.to_string();
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.unsigned_abs())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.matchers.iter().find(|matcher| {
            matcher.name() == model::METRIC_NAME && matcher.op() == MatchOp::Equal && !matcher.value().is_empty()
        });
        let bare = named.filter(|matcher| is_legacy_metric_name(matcher.value()));
        let mut parts: Vec<String> = Vec::new();
        if let Some(named) = named.filter(|_| bare.is_none()) {
            parts.push(format!("{:?}", named.value()));
        }
        let is_name = |matcher: &Matcher| named.is_some_and(|named| std::ptr::eq(named, matcher));
        for matcher in self.matchers.iter().filter(|matcher| !is_name(matcher)) {
            parts.push(format!("{}{}{:?}", quoted(matcher.name()), matcher.op().as_str(), matcher.value()));
        }
        if let Some(bare) = bare {
            f.write_str(bare.value())?;
        }
        if !parts.is_empty() || bare.is_none() {
            write!(f, "{{{}}}", parts.join(","))?;
        }
        if let Some(range) = &self.range {
            write!(f, "[{}]", Span(range))?;
        }
        f.write_str(match self.extension {
            Extension::None => "",
            Extension::Anchored => " anchored",
            Extension::Smoothed => " smoothed",
        })?;
        write!(f, "{}", Looks(&self.when))
    }
}

/// `[range:step]` and when it looks.
struct Suffix<'a>(&'a Length, Option<&'a Length>, &'a When);

impl fmt::Display for Suffix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}:", Span(self.0))?;
        if let Some(step) = self.1 {
            write!(f, "{}", Span(step))?;
        }
        write!(f, "]{}", Looks(self.2))
    }
}

/// `@` and `offset`.
struct Looks<'a>(&'a When);

impl fmt::Display for Looks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.at {
            Some(At::Time(ms)) => {
                write!(f, " @ {}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1000, ms.abs() % 1000)?
            }
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        match &self.0.offset {
            Length::Fixed(0) => Ok(()),
            offset => write!(f, " offset {}", Span(offset)),
        }
    }
}

/// A length of time.
struct Span<'a>(&'a Length);

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Length::Fixed(ms) => {
                let sign = if *ms < 0 { "-" } else { "" };
                write!(f, "{sign}{}", Duration::from_millis(ms.unsigned_abs()))
            }
            Length::Computed(arithmetic, _) => write!(f, "{arithmetic}"),
        }
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(seconds) => {
                let ms = (seconds.abs() * 1000.0).round() as u64;
                write!(f, "{}{}", if *seconds < 0.0 { "-" } else { "" }, Duration::from_millis(ms))
            }
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negate(body) => write!(f, "-{body}"),
            Self::Min(left, right) => write!(f, "min({left}, {right})"),
            Self::Max(left, right) => write!(f, "max({left}, {right})"),
            Self::Binary(op, left, right, _) => write!(f, "{left} {} {right}", op.as_str()),
        }
    }
}

/// How two vectors are joined, as it stands behind the operator.
struct Join<'a>(&'a Matching);

impl fmt::Display for Join<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matching = self.0;
        if matching.on || !matching.labels.is_empty() || matching.group.is_some() {
            write!(f, " {} ({})", if matching.on { "on" } else { "ignoring" }, names(&matching.labels))?;
        }
        if let Some((left, copied)) = &matching.group {
            write!(f, " group_{} ({})", if *left { "left" } else { "right" }, names(copied))?;
        }
        match (matching.fill_left, matching.fill_right) {
            (Some(left), Some(right)) if left.to_bits() == right.to_bits() => write!(f, " fill ({})", number(left)),
            (left, right) => {
                left.map_or(Ok(()), |left| write!(f, " fill_left ({})", number(left)))?;
                right.map_or(Ok(()), |right| write!(f, " fill_right ({})", number(right)))
            }
        }
    }
}

/// The expression over as many lines as make it readable, two spaces a level.
pub fn pretty(expr: &Expr) -> String {
    level(expr, 0)
}

fn level(expr: &Expr, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let line = expr.to_string();
    if line.chars().count() <= LINE_MAX {
        return format!("{indent}{line}");
    }
    match &expr.node {
        Node::Aggregate { param, body, .. } => {
            let param = param.as_ref().map_or(String::new(), |param| format!("{},\n", level(param, depth + 1)));
            format!("{indent}{}(\n{param}{}\n{indent})", head(expr), level(body, depth + 1))
        }
        Node::Binary { op, left, right, bool, matching } => format!(
            "{}\n{indent}{}{}{}\n{}",
            level(left, depth + 1),
            op.as_str(),
            if *bool { " bool" } else { "" },
            Join(matching),
            level(right, depth + 1)
        ),
        Node::Call { function, args } => {
            let args: Vec<String> = args.iter().map(|arg| level(arg, depth + 1)).collect();
            format!("{indent}{}(\n{}\n{indent})", function.name, args.join(",\n"))
        }
        Node::Paren(inner) => format!("{indent}(\n{}\n{indent})", level(inner, depth + 1)),
        Node::Subquery { body, range, step, when } => {
            format!("{}{}", level(body, depth), Suffix(range, step.as_ref(), when))
        }
        Node::Unary { minus, body } => {
            format!("{indent}{}{}", if *minus { '-' } else { '+' }, level(body, depth).trim_start())
        }
        Node::Number(_) | Node::Text(_) | Node::Select(_) => format!("{indent}{line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &str) {
        let expr = crate::parse(text).expect("parses");
        assert_eq!(expr.to_string(), want);
        let again = crate::parse(want).expect("what is printed parses");
        assert_eq!(again.to_string(), want);
        assert_eq!(crate::parse(&pretty(&expr)).expect("what is pretty parses").to_string(), want);
    }

    #[test]
    fn expressions_are_printed_as_upstream() {
        check("  sum  by(a,b)(rate(x{c='d' , e=~\"f\"}[5m]))", "sum by (a, b) (rate(x{c=\"d\",e=~\"f\"}[5m]))");
        check("sum(x) without(a)", "sum without (a) (x)");
        check("topk(5,x)", "topk(5, x)");
        check("a*on(l)group_left(m)b offset 300s", "a * on (l) group_left (m) b offset 5m");
        check("a>bool 1e6", "a > bool 1e+06");
        check("-max_over_time(x[1h:]@ 12.5)", "-max_over_time(x[1h:] @ 12.500)");
        check("{\"a.b\",\"c d\"=\"e\"}[1m] offset -1m", "{\"a.b\",\"c d\"=\"e\"}[1m] offset -1m");
        check("{__name__=~\"x.*\"}", "{__name__=~\"x.*\"}");
        check("(a or b)and c", "(a or b) and c");
        check("label_replace(a,\"b\",'$1',\"c\",\"(.*)\")", "label_replace(a, \"b\", \"$1\", \"c\", \"(.*)\")");
        check("0.00001 + 123456 + 1234567", "1e-05 + 123456 + 1.234567e+06");
    }

    #[test]
    fn long_expressions_are_split() {
        let name = "a_metric_with_a_name_of_fifty_characters_in_length";
        let text = format!("sum(rate({name}[5m])) / ignoring(x) topk(3, {name} offset 1h)");
        let want = format!("  sum(rate({name}[5m]))\n/ ignoring (x)\n  topk(3, {name} offset 1h)");
        assert_eq!(pretty(&crate::parse(&text).expect("parses")), want);
    }
}
