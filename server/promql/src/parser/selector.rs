//! Selectors and what may follow them: ranges, subqueries, offsets, pins, extensions.

use super::{Parser, Step};
use crate::{
    expr::{At, Expr, Extension, Length, Node, Selector, Type, When},
    token::Kind,
};
use model::{METRIC_NAME, MatchOp, Matcher};

impl Parser<'_> {
    pub(super) fn selector(&mut self, name: Option<(usize, String)>) -> Step<Expr> {
        let start = name.as_ref().map_or(self.at(), |(at, _)| *at);
        let mut matchers = Vec::new();
        let mut named = name.as_ref().map(|(_, name)| name.clone());
        if let Some((at, name)) = &name {
            matchers.push(self.matcher(*at, MatchOp::Equal, METRIC_NAME, name)?);
        }
        if self.take("{") {
            while !self.take("}") {
                let at = self.at();
                if let Some(quoted) = self.quoted_name() {
                    if let Some(name) = named.replace(quoted.clone()) {
                        self.late(start, format!("metric name must not be set twice: {name:?} or {quoted:?}"));
                    }
                    matchers.push(self.matcher(at, MatchOp::Equal, METRIC_NAME, &quoted)?);
                } else {
                    let matcher = self.label_matcher()?;
                    let equal = matcher.name() == METRIC_NAME && matcher.op() == MatchOp::Equal;
                    if let Some((_, name)) = name.as_ref().filter(|_| equal) {
                        let other = matcher.value();
                        self.late(start, format!("metric name must not be set twice: {name:?} or {other:?}"));
                    }
                    matchers.push(matcher);
                }
                if !self.ahead("}") && !self.take(",") {
                    return Err(self.unexpected("label matching", "\",\" or \"}\""));
                }
            }
        }
        if !self.empty_selectors && matchers.iter().all(Matcher::matches_empty) {
            self.late(start, "vector selector must contain at least one non-empty matcher");
        }
        let selector = Selector {
            matchers,
            when: When::default(),
            range: None,
            extension: Extension::None,
            statistics: false,
            named: name.is_some(),
        };
        Ok(Expr::new(Node::Select(selector), Type::Vector, self.span(start)))
    }

    fn matcher(&self, at: usize, op: MatchOp, label: &str, value: &str) -> Step<Matcher> {
        Matcher::new(op, label, value).or_else(|why| self.fail(at, why.to_string()))
    }

    /// A string that stands alone between braces is the metric's name.
    fn quoted_name(&mut self) -> Option<String> {
        let Kind::Text(name) = self.peek() else { return None };
        let alone = matches!(self.token(1).kind, Kind::Mark("," | "}"));
        let name = name.value.clone();
        self.next += usize::from(alone);
        alone.then_some(name)
    }

    fn label_matcher(&mut self) -> Step<Matcher> {
        let at = self.at();
        let label = match self.peek().clone() {
            Kind::Word(label) => label,
            Kind::Text(label) => label.value,
            // `inf` and `nan` are numbers elsewhere.
            Kind::Number(_) if self.text[at..].starts_with(|c: char| c.is_ascii_alphabetic()) => {
                self.text[at..self.token(0).end].to_owned()
            }
            _ => return Err(self.unexpected("label matching", "identifier or \"}\"")),
        };
        self.next += 1;
        let op = match self.peek() {
            Kind::Mark("=") => MatchOp::Equal,
            Kind::Mark("!=") => MatchOp::NotEqual,
            Kind::Mark("=~") => MatchOp::Regex,
            Kind::Mark("!~") => MatchOp::NotRegex,
            _ => return Err(self.unexpected("label matching", "label matching operator")),
        };
        self.next += 1;
        let Kind::Text(value) = self.peek().clone() else {
            return Err(self.unexpected("label matching", "string"));
        };
        self.next += 1;
        self.matcher(at, op, &label, &value.value)
    }

    pub(super) fn postfix(&mut self, mut expr: Expr) -> Step<Expr> {
        let mut subqueries = 0;
        let (mut offset, mut pinned) = (false, false);
        loop {
            let at = self.at();
            if self.take("[") {
                // Each subquery makes the tree one deeper.
                subqueries += 1;
                if subqueries > super::DEPTH_MAX {
                    return self.fail(at, "too many subqueries; simplify the expression");
                }
                if matches!(expr.node, Node::Select(_)) && (offset || pinned) && !self.is_subquery() {
                    return self.fail(at, "no offset and @ modifiers allowed before range");
                }
                expr = self.ranged(at, expr)?;
                (offset, pinned) = (false, false);
            } else if self.word_ahead("offset") {
                self.next += 1;
                let length = self.offset()?;
                let what = "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                match when(&mut expr) {
                    None => self.early(expr.span.start, what),
                    Some(_) if offset => self.early(expr.span.start, "offset may not be set multiple times"),
                    Some(when) => when.offset = length,
                }
                offset = true;
            } else if self.take("@") {
                let place = self.pinned()?;
                let what =
                    "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery";
                match when(&mut expr) {
                    None => self.early(expr.span.start, what),
                    Some(_) if pinned => self.early(expr.span.start, "@ <timestamp> may not be set multiple times"),
                    Some(when) => when.at = Some(place),
                }
                pinned = true;
            } else if self.word_ahead("anchored") || self.word_ahead("smoothed") {
                self.extended(at, &mut expr)?;
            } else {
                return Ok(expr);
            }
            expr.span = self.span(expr.span.start);
        }
    }

    fn extended(&mut self, at: usize, expr: &mut Expr) -> Step<()> {
        let extension = if self.word("anchored") { Extension::Anchored } else { Extension::Smoothed };
        if extension == Extension::Smoothed {
            self.next += 1;
        }
        let word = if extension == Extension::Anchored { "anchored" } else { "smoothed" };
        if !self.features.extended_ranges {
            return self.fail(at, format!("{word} modifier is experimental and not enabled"));
        }
        let Node::Select(selector) = &mut expr.node else {
            return self.fail(at, format!("{word} modifier not supported here, it must follow a selector"));
        };
        if selector.extension != Extension::None {
            return self.fail(at, "anchored and smoothed modifiers cannot be used together");
        }
        selector.extension = extension;
        Ok(())
    }

    /// Whether the brackets that just opened hold a colon on their level.
    fn is_subquery(&self) -> bool {
        let rest = self.tokens[self.next.min(self.tokens.len())..].iter();
        rest.take_while(|token| token.kind != Kind::Mark("]")).any(|token| token.kind == Kind::Mark(":"))
    }

    /// What stands between brackets: a range, or range and step.
    fn ranged(&mut self, at: usize, mut expr: Expr) -> Step<Expr> {
        let range = self.bracketed()?;
        if self.take(":") {
            let step = if self.ahead("]") { None } else { Some(self.bracketed()?) };
            self.want("]", "subquery selector")?;
            if expr.kind != Type::Vector {
                let got = if expr.kind == Type::Matrix { "matrix" } else { expr.kind.as_str() };
                self.late(expr.span.start, format!("subquery is only allowed on instant vector, got {got} instead"));
            }
            let span = self.span(expr.span.start);
            let node = Node::Subquery { body: Box::new(expr), range, step, when: When::default() };
            return Ok(Expr::new(node, Type::Matrix, span));
        }
        if !self.take("]") {
            return Err(self.unexpected("subquery or range", "\":\" or \"]\""));
        }
        match &mut expr.node {
            Node::Select(selector) if selector.range.is_none() && selector.extension == Extension::None => {
                selector.range = Some(range);
            }
            _ => return self.fail(at, "ranges only allowed for vector selectors"),
        }
        expr.kind = Type::Matrix;
        expr.span = self.span(expr.span.start);
        Ok(expr)
    }

    fn pinned(&mut self) -> Step<At> {
        for (word, place) in [("start", At::Start), ("end", At::End)] {
            if self.word(word) {
                self.want("(", "@")?;
                self.want(")", "@")?;
                return Ok(place);
            }
        }
        let at = self.at();
        let seconds = self.signed_number("@", "timestamp")?;
        let ms = (seconds * 1000.0).round();
        // The bounds of 64-bit milliseconds; the upper one is no float.
        if ms.is_nan() || !(-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&ms) {
            return self.fail(at, format!("timestamp out of bounds for @ modifier: {seconds:.6}"));
        }
        Ok(At::Time(ms as i64))
    }
}

/// Where a selector or subquery keeps its time.
fn when(expr: &mut Expr) -> Option<&mut When> {
    match &mut expr.node {
        Node::Select(selector) => Some(&mut selector.when),
        Node::Subquery { when, .. } => Some(when),
        _ => None,
    }
}

impl Length {
    /// Milliseconds, known after planning.
    pub(crate) fn ms(&self) -> i64 {
        match self {
            Self::Fixed(ms) => *ms,
            Self::Computed(..) => 0,
        }
    }
}
