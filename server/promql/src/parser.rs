//! The parser: a Pratt parser over spanned tokens that checks types as it builds the tree.

use crate::{
    ParseError,
    expr::{At, Expr, Matching, Node, Selector, Type},
    functions,
    token::{Kind, Token, error, tokens},
};
use model::{METRIC_NAME, MatchOp, Matcher};

/// Nesting allowed: deep enough for any dashboard, shallow enough for the stack.
const DEPTH_MAX: usize = 128;

/// Operators in a row: each makes the tree one deeper on its left.
const CHAIN_MAX: usize = 400;

/// Aggregators that are built.
const AGGREGATORS: [&str; 11] =
    ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar", "topk", "bottomk", "quantile"];
/// Words of the language that this version does not build.
const UNBUILT: [&str; 3] = ["count_values", "limitk", "limit_ratio"];

/// Parses an expression.
///
/// # Errors
/// [`ParseError`] with line and column.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser { text, tokens: tokens(text)?, next: 0, depth: 0 };
    if parser.peek() == &Kind::End {
        return Err(error(text, 0, "no expression found in input"));
    }
    let expr = parser.expression(0)?;
    if parser.peek() != &Kind::End {
        return Err(parser.unexpected("after the expression"));
    }
    Ok(expr)
}

/// Parses a bare instant selector, as `match[]` takes it.
///
/// # Errors
/// [`ParseError`], also when the expression is something else.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    match parse(text)?.node {
        Node::Select(Selector { matchers, offset: 0, at: None, range: None }) => Ok(matchers),
        _ => Err(error(text, 0, "expected an instant vector selector")),
    }
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

type Step<T> = Result<T, ParseError>;

impl Parser<'_> {
    fn peek(&self) -> &Kind {
        &self.tokens[self.next.min(self.tokens.len() - 1)].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next.min(self.tokens.len() - 1)].at
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Step<T> {
        Err(error(self.text, at, message))
    }

    fn unexpected(&self, place: &str) -> ParseError {
        let found = match self.peek() {
            Kind::End => "end of input".to_owned(),
            Kind::Word(word) => format!("identifier {word:?}"),
            Kind::Number(number) => format!("number {number}"),
            Kind::Text(text) => format!("string {text:?}"),
            Kind::Mark(mark) => format!("{mark:?}"),
        };
        error(self.text, self.at(), format!("unexpected {found} {place}"))
    }

    fn take(&mut self, mark: &str) -> bool {
        let hit = matches!(self.peek(), Kind::Mark(have) if *have == mark);
        self.next += usize::from(hit);
        hit
    }

    fn want(&mut self, mark: &str, place: &str) -> Step<()> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected(&format!("{place}, expected {mark:?}"))) }
    }

    fn word(&mut self, wanted: &str) -> bool {
        let hit = matches!(self.peek(), Kind::Word(word) if word.eq_ignore_ascii_case(wanted));
        self.next += usize::from(hit);
        hit
    }

    /// Binding power and operator of the token ahead.
    fn operator(&self) -> Option<(u8, &'static str)> {
        let find = |set: &[&'static str], word: &str| set.iter().find(|op| op.eq_ignore_ascii_case(word)).copied();
        match self.peek() {
            Kind::Mark(mark) => match *mark {
                "==" | "!=" | "<=" | ">=" | "<" | ">" => Some((3, mark)),
                "+" | "-" => Some((4, mark)),
                "*" | "/" | "%" => Some((5, mark)),
                "^" => Some((6, mark)),
                _ => None,
            },
            Kind::Word(word) => find(&["or"], word)
                .map(|op| (1, op))
                .or_else(|| find(&["and", "unless"], word).map(|op| (2, op)))
                .or_else(|| find(&["atan2"], word).map(|op| (5, op))),
            _ => None,
        }
    }

    fn expression(&mut self, power: u8) -> Step<Expr> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(self.at(), format!("expression is nested more than {DEPTH_MAX} deep; simplify it"));
        }
        let mut left = self.unary()?;
        let mut chain = 0;
        while let Some((binding, op)) = self.operator().filter(|(binding, _)| *binding > power) {
            let at = self.at();
            self.next += 1;
            chain += 1;
            if chain > CHAIN_MAX {
                return self.fail(at, format!("more than {CHAIN_MAX} operators in a row; split the expression"));
            }
            let bool = self.word("bool");
            let matching = self.matching()?;
            // The power is right associative.
            let right = self.expression(if op == "^" { binding - 1 } else { binding })?;
            left = self.binary(at, op, left, right, bool, matching)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn binary(
        &self,
        at: usize,
        op: &'static str,
        left: Expr,
        right: Expr,
        bool: bool,
        matching: Matching,
    ) -> Step<Expr> {
        let compares = matches!(op, "==" | "!=" | "<=" | ">=" | "<" | ">");
        let set = matches!(op, "and" | "or" | "unless");
        for side in [&left, &right] {
            if !matches!(side.kind, Type::Scalar | Type::Vector) {
                return self.fail(side.position, "binary expression must contain only scalar and instant vector types");
            }
        }
        let scalars = left.kind == Type::Scalar && right.kind == Type::Scalar;
        if set && (left.kind == Type::Scalar || right.kind == Type::Scalar) {
            return self.fail(at, format!("set operator {op:?} not allowed in binary scalar expression"));
        }
        if bool && !compares {
            return self.fail(at, "bool modifier can only be used on comparison operators");
        }
        if compares && scalars && !bool {
            return self.fail(at, "comparisons between scalars must use BOOL modifier");
        }
        if set && matching.group.is_some() {
            return self.fail(at, format!("no grouping allowed for {op:?} operation"));
        }
        let both = left.kind == Type::Vector && right.kind == Type::Vector;
        if (matching.on || !matching.labels.is_empty()) && !both {
            return self.fail(at, "vector matching only allowed between instant vectors");
        }
        let kind = if scalars { Type::Scalar } else { Type::Vector };
        let position = left.position;
        let node = Node::Binary { op, left: Box::new(left), right: Box::new(right), bool, matching };
        Ok(Expr { node, kind, position })
    }

    fn matching(&mut self) -> Step<Matching> {
        let mut matching = Matching::default();
        let on = self.word("on");
        if on || self.word("ignoring") {
            matching.on = on;
            matching.labels = self.names()?;
        }
        for (word, left) in [("group_left", true), ("group_right", false)] {
            if self.word(word) {
                let labels = if matches!(self.peek(), Kind::Mark("(")) { self.names()? } else { Vec::new() };
                matching.group = Some((left, labels));
            }
        }
        Ok(matching)
    }

    fn names(&mut self) -> Step<Vec<String>> {
        self.want("(", "in grouping opts")?;
        let mut names = Vec::new();
        while !self.take(")") {
            match self.peek().clone() {
                Kind::Word(name) | Kind::Text(name) => names.push(name),
                _ => return Err(self.unexpected("in grouping opts, expected label")),
            }
            self.next += 1;
            if !matches!(self.peek(), Kind::Mark(")")) {
                self.want(",", "in grouping opts")?;
            }
        }
        Ok(names)
    }

    fn unary(&mut self) -> Step<Expr> {
        let position = self.at();
        let minus = self.take("-");
        if !minus && !self.take("+") {
            let inner = self.primary()?;
            return self.postfix(inner);
        }
        // Looser than the power, as tight as multiplication.
        let inner = self.expression(5)?;
        if !matches!(inner.kind, Type::Scalar | Type::Vector) {
            return self.fail(
                position,
                format!(
                    "unary expression only allowed on expressions of type scalar or instant vector, got {:?}",
                    inner.kind.as_str()
                ),
            );
        }
        if !minus {
            return Ok(inner);
        }
        let kind = inner.kind;
        Ok(Expr { node: Node::Negate(Box::new(inner)), kind, position })
    }

    fn primary(&mut self) -> Step<Expr> {
        let position = self.at();
        match self.peek().clone() {
            Kind::Number(number) => {
                self.next += 1;
                Ok(Expr { node: Node::Number(number), kind: Type::Scalar, position })
            }
            Kind::Text(text) => {
                self.next += 1;
                Ok(Expr { node: Node::Text(text), kind: Type::String, position })
            }
            Kind::Mark("(") => {
                self.next += 1;
                let inner = self.expression(0)?;
                self.want(")", "in paren expression")?;
                Ok(inner)
            }
            Kind::Mark("{") => self.selector(None),
            Kind::Word(word) => {
                self.next += 1;
                self.named(position, word)
            }
            _ => Err(self.unexpected("in expression")),
        }
    }

    /// An aggregation, a call or a metric name.
    fn named(&mut self, position: usize, word: String) -> Step<Expr> {
        let lower = word.to_ascii_lowercase();
        let opens = matches!(self.peek(), Kind::Mark("("));
        let groups =
            matches!(self.peek(), Kind::Word(next) if matches!(next.to_ascii_lowercase().as_str(), "by" | "without"));
        if let Some(op) = AGGREGATORS.iter().find(|op| **op == lower).filter(|_| opens || groups) {
            return self.aggregation(position, op);
        }
        if opens && UNBUILT.contains(&lower.as_str()) {
            return self
                .fail(position, format!("aggregation {lower:?} is valid upstream but not built in narthex yet"));
        }
        if opens {
            return self.call(position, &word);
        }
        self.selector(Some((position, word)))
    }

    fn grouping(&mut self) -> Step<Option<(bool, Vec<String>)>> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.word(word) {
                return Ok(Some((without, self.names()?)));
            }
        }
        Ok(None)
    }

    fn aggregation(&mut self, position: usize, op: &'static str) -> Step<Expr> {
        let before = self.grouping()?;
        let mut args = self.arguments()?;
        let after = if before.is_none() { self.grouping()? } else { None };
        let (without, labels) = before.or(after).unwrap_or_default();
        let takes = matches!(op, "topk" | "bottomk" | "quantile");
        if args.len() != 1 + usize::from(takes) {
            let want = 1 + usize::from(takes);
            return self.fail(
                position,
                format!(
                    "wrong number of arguments for aggregate expression provided, expected {want}, got {}",
                    args.len()
                ),
            );
        }
        let (Some(body), param) = (args.pop(), args.pop()) else {
            return self.fail(position, "no arguments for aggregate expression provided");
        };
        if body.kind != Type::Vector {
            return self.fail(
                body.position,
                format!("expected type instant vector in aggregation expression, got {}", body.kind.as_str()),
            );
        }
        if param.as_ref().is_some_and(|param| param.kind != Type::Scalar) {
            return self.fail(position, "expected type scalar in aggregation parameter");
        }
        let node = Node::Aggregate { op, param: param.map(Box::new), body: Box::new(body), without, labels };
        Ok(Expr { node, kind: Type::Vector, position })
    }

    fn arguments(&mut self) -> Step<Vec<Expr>> {
        self.want("(", "in call")?;
        let mut args = Vec::new();
        while !self.take(")") {
            args.push(self.expression(0)?);
            if !matches!(self.peek(), Kind::Mark(")")) {
                self.want(",", "in call")?;
            }
        }
        Ok(args)
    }

    fn call(&mut self, position: usize, name: &str) -> Step<Expr> {
        let Some(function) = functions::find(name) else {
            let text = if functions::UPSTREAM.contains(&name) {
                format!("function {name:?} is valid upstream but not built in narthex yet")
            } else {
                format!("unknown function with name {name:?}")
            };
            return self.fail(position, text);
        };
        let args = self.arguments()?;
        let (min, max) = (function.required, function.args.len());
        if args.len() < min || args.len() > max {
            let got = args.len();
            return self.fail(position, format!("expected {max} argument(s) in call to {name:?}, got {got}"));
        }
        for (arg, want) in args.iter().zip(function.args) {
            if arg.kind != *want {
                let (want, got) = (want.as_str(), arg.kind.as_str());
                return self
                    .fail(arg.position, format!("expected type {want} in call to function {name:?}, got {got}"));
            }
        }
        Ok(Expr { node: Node::Call { function, args }, kind: function.gives, position })
    }

    fn selector(&mut self, name: Option<(usize, String)>) -> Step<Expr> {
        let position = name.as_ref().map_or(self.at(), |(at, _)| *at);
        let mut matchers = Vec::new();
        let matcher = |parser: &Self, at, op, label: &str, value: &str| {
            Matcher::new(op, label, value).or_else(|why| parser.fail(at, why.to_string()))
        };
        if let Some((at, name)) = &name {
            matchers.push(matcher(self, *at, MatchOp::Equal, METRIC_NAME, name)?);
        }
        if self.take("{") {
            while !self.take("}") {
                let at = self.at();
                let (label, quoted) = match self.peek().clone() {
                    Kind::Word(label) => (label, false),
                    Kind::Text(label) => (label, true),
                    _ => return Err(self.unexpected("in label matching, expected identifier or \"}\"")),
                };
                self.next += 1;
                let op = match self.peek() {
                    Kind::Mark("=") => MatchOp::Equal,
                    Kind::Mark("!=") => MatchOp::NotEqual,
                    Kind::Mark("=~") => MatchOp::Regex,
                    Kind::Mark("!~") => MatchOp::NotRegex,
                    _ if quoted => {
                        matchers.push(matcher(self, at, MatchOp::Equal, METRIC_NAME, &label)?);
                        self.take(",");
                        continue;
                    }
                    _ => return Err(self.unexpected("in label matching, expected label matching operator")),
                };
                self.next += 1;
                let Kind::Text(value) = self.peek().clone() else {
                    return Err(self.unexpected("in label matching, expected string"));
                };
                self.next += 1;
                matchers.push(matcher(self, at, op, &label, &value)?);
                if !matches!(self.peek(), Kind::Mark("}")) {
                    self.want(",", "in label matching")?;
                }
            }
        }
        let names = matchers.iter().filter(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal).count();
        if name.is_some() && names > 1 {
            return self.fail(position, "metric name must not be set twice");
        }
        if matchers.iter().all(Matcher::matches_empty) {
            return self.fail(position, "vector selector must contain at least one non-empty matcher");
        }
        let node = Node::Select(Selector { matchers, offset: 0, at: None, range: None });
        Ok(Expr { node, kind: Type::Vector, position })
    }

    /// A duration in milliseconds.
    fn duration(&mut self) -> Step<i64> {
        let minus = self.take("-");
        let Kind::Number(seconds) = *self.peek() else { return Err(self.unexpected("expected a duration")) };
        let at = self.at();
        self.next += 1;
        let ms = (seconds * 1000.0).round();
        if !ms.is_finite() || ms.abs() > 9e15 {
            return self.fail(at, "duration out of range");
        }
        Ok(if minus { -(ms as i64) } else { ms as i64 })
    }

    fn postfix(&mut self, mut expr: Expr) -> Step<Expr> {
        loop {
            let at = self.at();
            let bracket = self.take("[");
            let offset = !bracket && self.word("offset");
            let pin = !bracket && !offset && self.take("@");
            if !bracket && !offset && !pin {
                return Ok(expr);
            }
            let Node::Select(selector) = &mut expr.node else {
                let text = if bracket {
                    "subqueries are valid upstream but not built in narthex yet; ranges only allowed for vector selectors"
                } else {
                    "offset and @ modifiers must be preceded by a selector"
                };
                return self.fail(at, text);
            };
            if bracket {
                if selector.range.is_some() {
                    return self.fail(at, "ranges only allowed for vector selectors");
                }
                let range = self.duration()?;
                if matches!(self.peek(), Kind::Mark(":")) {
                    return self.fail(at, "subqueries are valid upstream but not built in narthex yet");
                }
                self.want("]", "in range")?;
                if range <= 0 {
                    return self.fail(at, "duration must be greater than 0");
                }
                let Node::Select(selector) = &mut expr.node else { continue };
                selector.range = Some(range);
                expr.kind = Type::Matrix;
            } else if offset {
                let by = self.duration()?;
                let Node::Select(selector) = &mut expr.node else { continue };
                selector.offset = by;
            } else {
                let pinned = self.pinned()?;
                let Node::Select(selector) = &mut expr.node else { continue };
                selector.at = Some(pinned);
            }
        }
    }

    fn pinned(&mut self) -> Step<At> {
        for (word, at) in [("start", At::Start), ("end", At::End)] {
            if self.word(word) {
                self.want("(", "in @ modifier")?;
                self.want(")", "in @ modifier")?;
                return Ok(at);
            }
        }
        self.duration().map(At::Time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_expressions() {
        for text in [
            "1",
            "-1^2",
            "up",
            "up{}",
            "{__name__=\"x\"}",
            "{\"my.metric\", \"l.x\"=\"v\"}",
            "sum by (a, b,) (rate(x[5m]))",
            "sum(x) without (a)",
            "a + on (x) group_left (y) b",
            "a and b or c unless d",
            "x offset -5m @ 100",
            "x[5m] @ end()",
            "1 > bool 2",
            "topk(3, x)",
            "a % b ^ c",
            "sum",
            "x:y:z",
            "rate(x[1h30m]) # why",
            "`raw` ",
            "0x1F",
            "1e-3",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
        ] {
            if let Err(error) = parse(text) {
                panic!("{text}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_have_a_place_and_a_text() {
        for (text, want) in [
            ("", "1:1: parse error: no expression found in input"),
            ("1 >\n 2", "comparisons between scalars must use BOOL modifier"),
            ("foo(", "unknown function with name \"foo\""),
            (
                "rate(x)",
                "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
            ),
            ("rate()", "expected 1 argument(s) in call to \"rate\", got 0"),
            ("x{a=~\"(\"}", "1:3: parse error:"),
            ("{a=\"\"}", "at least one non-empty matcher"),
            ("x[5m:1m]", "not built"),
            ("sum(x[5m])", "expected type instant vector"),
            ("x y", "1:3: parse error: unexpected identifier \"y\""),
            ("1 and x", "set operator"),
            ("\"a", "unterminated"),
            ("x[0s]", "greater than 0"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn hostile_texts_end_in_bounded_time() {
        for text in [
            "(".repeat(100_000),
            "-".repeat(100_000),
            "1+".repeat(100_000),
            format!("x{{a=~\"{}\"}}", "(a|b)*".repeat(100_000)),
        ] {
            assert!(parse(&text).is_err());
        }
        let seed = "sum by (a) (rate(x{b=~\"c|d\",e!=\"é\"}[5m] offset 1m)) > bool on (f) 1.5e3 and y @ 10";
        for cut in (0..seed.len()).filter(|cut| seed.is_char_boundary(*cut)) {
            for insert in ["", "(", "\"", "é", "\0", "}"] {
                drop(parse(&format!("{}{insert}{}", &seed[..cut], &seed[cut..])));
                drop(parse(&format!("{}{insert}", &seed[..cut])));
            }
        }
    }
}
