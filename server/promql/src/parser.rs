//! The parser: a Pratt parser over spanned tokens that checks types as it builds the tree.
//!
//! Truth: `server-promql.md` sections 1 and 2, upstream's grammar of 3.14. Nesting and chains are bounded, so that no
//! text overflows the stack.

mod check;
mod length;
mod selector;

use crate::{
    Features, ParseError,
    expr::{Aggregator, Expr, Matching, Node, Op, Selector, Span, Type},
    functions,
    token::{Kind, Token, error, tokens},
};
pub(crate) use length::milliseconds;
use model::Matcher;

/// Nesting allowed: deep enough for any dashboard, shallow enough for the stack.
const DEPTH_MAX: usize = 128;

/// Operators in a row: each makes the tree one deeper on its left.
const CHAIN_MAX: usize = 1_000;

/// Parses an expression with the features that are on by default.
///
/// # Errors
/// [`ParseError`] with line and column.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    parse_with(text, &Features::default())
}

/// Parses an expression.
///
/// # Errors
/// [`ParseError`] with line and column.
pub fn parse_with(text: &str, features: &Features) -> Result<Expr, ParseError> {
    let mut parser = Parser::new(text, features);
    if text.is_empty() {
        return Err(nowhere("no expression found in input"));
    }
    if parser.peek() == &Kind::End {
        return Err(error(text, 0, "no expression found in input"));
    }
    let expr = parser
        .expression(0)
        .and_then(|expr| if parser.peek() == &Kind::End { Ok(expr) } else { Err(parser.unexpected("", "")) });
    match (parser.early, expr, parser.late) {
        (Some(early), ..) => Err(early),
        (None, Ok(_), Some(late)) => Err(late),
        (None, expr, _) => expr,
    }
}

/// Parses a bare instant selector, as `match[]` takes it: a name, braces, or both. It may match everything.
///
/// # Errors
/// [`ParseError`], also when anything follows.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>, ParseError> {
    let features = Features::default();
    let mut parser = Parser::new(text, &features);
    if text.is_empty() {
        return Err(nowhere("unexpected end of input"));
    }
    let name = match parser.peek() {
        Kind::Word(word) => Some((parser.at(), word.clone())),
        _ if parser.ahead("{") => None,
        _ => return Err(parser.unexpected("", "")),
    };
    parser.next += usize::from(name.is_some());
    let expr = parser.selector(name)?;
    match (expr.node, parser.peek()) {
        (Node::Select(Selector { matchers, .. }), Kind::End) => Ok(matchers),
        _ => Err(parser.unexpected("", "")),
    }
}

/// A mistake that has no place, since there is no text.
fn nowhere(message: &str) -> ParseError {
    ParseError { line: 0, column: 0, message: message.to_owned() }
}

struct Parser<'a> {
    text: &'a str,
    features: &'a Features,
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    /// Operators met so far in the longest chain.
    chain: usize,
    /// Aggregations whose arguments are open.
    aggregations: usize,
    /// Whether a selector may match everything: the second argument of `info`.
    empty_selectors: bool,
    /// The first mistake that does not end parsing and is reported before any other.
    early: Option<ParseError>,
    /// The first mistake of types, reported when the grammar is satisfied.
    late: Option<ParseError>,
}

type Step<T> = Result<T, ParseError>;

impl<'a> Parser<'a> {
    fn new(text: &'a str, features: &'a Features) -> Self {
        Self {
            text,
            features,
            tokens: tokens(text),
            next: 0,
            depth: 0,
            chain: 0,
            aggregations: 0,
            empty_selectors: false,
            early: None,
            late: None,
        }
    }
}

impl Parser<'_> {
    fn token(&self, ahead: usize) -> &Token {
        &self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Kind {
        &self.token(0).kind
    }

    fn at(&self) -> usize {
        self.token(0).start
    }

    /// Where the token before ended.
    fn end(&self) -> usize {
        self.next.checked_sub(1).map_or(0, |last| self.tokens[last.min(self.tokens.len() - 1)].end)
    }

    fn span(&self, start: usize) -> Span {
        Span { start, end: self.end() }
    }

    fn fail<T>(&self, at: usize, message: impl Into<String>) -> Step<T> {
        Err(error(self.text, at, message))
    }

    /// Notes a mistake and goes on, unless there was one before.
    fn early(&mut self, at: usize, message: impl Into<String>) {
        if self.early.is_none() {
            self.early = Some(error(self.text, at, message));
        }
    }

    /// Notes a mistake of types.
    fn late(&mut self, at: usize, message: impl Into<String>) {
        if self.late.is_none() {
            self.late = Some(error(self.text, at, message));
        }
    }

    /// `unexpected X in CONTEXT, expected Y` at the token ahead. Without a context of its own a mistake belongs to the
    /// aggregation around it.
    fn unexpected(&self, context: &str, expected: &str) -> ParseError {
        let token = self.token(0);
        let context = if context.is_empty() && self.aggregations > 0 { "aggregation" } else { context };
        let text = &self.text[token.start..token.end];
        let found = match &token.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Bad(why) => return error(self.text, token.start, why.clone()),
            Kind::Word(word) if context == "label matching" => format!("identifier {word:?}"),
            Kind::Word(word) if ["start", "end"].iter().any(|key| word.eq_ignore_ascii_case(key)) => {
                format!("{:?}", word.to_ascii_lowercase())
            }
            Kind::Word(word) if Aggregator::parse(word).is_some() => format!("<aggr:{}>", word.to_ascii_lowercase()),
            Kind::Word(word) if keyword(word) => format!("<{}>", word.to_ascii_lowercase()),
            Kind::Word(word) => format!("identifier {word:?}"),
            Kind::Number(_) if is_duration(text) => format!("duration {text:?}"),
            Kind::Number(_) => format!("number {text:?}"),
            Kind::Text(_) => format!("string {}", model::quote(text)),
            Kind::Mark(mark) if "()[]{},:=".contains(mark) => format!("{mark:?}"),
            Kind::Mark(mark) => format!("<op:{mark}>"),
        };
        let context = if context.is_empty() { String::new() } else { format!(" in {context}") };
        let expected = if expected.is_empty() { String::new() } else { format!(", expected {expected}") };
        error(self.text, token.start, format!("unexpected {found}{context}{expected}"))
    }

    fn ahead(&self, mark: &str) -> bool {
        matches!(self.peek(), Kind::Mark(have) if *have == mark)
    }

    fn take(&mut self, mark: &str) -> bool {
        let hit = self.ahead(mark);
        self.next += usize::from(hit);
        hit
    }

    fn want(&mut self, mark: &str, context: &str) -> Step<()> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected(context, &format!("{mark:?}"))) }
    }

    /// The same where nothing is said about what else could stand there.
    fn want_plain(&mut self, mark: &str) -> Step<()> {
        if self.take(mark) { Ok(()) } else { Err(self.unexpected("", "")) }
    }

    fn word_ahead(&self, wanted: &str) -> bool {
        matches!(self.peek(), Kind::Word(word) if word.eq_ignore_ascii_case(wanted))
    }

    fn word(&mut self, wanted: &str) -> bool {
        let hit = self.word_ahead(wanted);
        self.next += usize::from(hit);
        hit
    }

    /// Goes one level deeper; the caller lowers `depth` again.
    fn deeper(&mut self) -> Step<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(self.at(), format!("expression is nested more than {DEPTH_MAX} deep; simplify it"));
        }
        Ok(())
    }

    /// Binding power and operator of the token ahead.
    fn operator(&self) -> Option<(u8, Op)> {
        Some(match self.peek() {
            Kind::Mark(mark) => match *mark {
                "==" => (3, Op::Equal),
                "!=" => (3, Op::NotEqual),
                "<=" => (3, Op::LessEqual),
                ">=" => (3, Op::GreaterEqual),
                "<" => (3, Op::Less),
                ">" => (3, Op::Greater),
                "</" => (3, Op::TrimUpper),
                ">/" => (3, Op::TrimLower),
                "+" => (4, Op::Add),
                "-" => (4, Op::Sub),
                "*" => (5, Op::Mul),
                "/" => (5, Op::Div),
                "%" => (5, Op::Mod),
                "^" => (6, Op::Pow),
                _ => return None,
            },
            Kind::Word(word) => match word.to_ascii_lowercase().as_str() {
                "or" => (1, Op::Or),
                "and" => (2, Op::And),
                "unless" => (2, Op::Unless),
                "atan2" => (5, Op::Atan2),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn expression(&mut self, power: u8) -> Step<Expr> {
        self.deeper()?;
        let mut left = self.unary()?;
        while let Some((binding, op)) = self.operator().filter(|(binding, _)| *binding > power) {
            let at = self.at();
            self.next += 1;
            self.chain += 1;
            if self.chain > CHAIN_MAX {
                return self.fail(at, format!("more than {CHAIN_MAX} operators; split the expression"));
            }
            let bool = self.word("bool");
            let matching = self.matching()?;
            // The power is right associative.
            let right = self.expression(if op == Op::Pow { binding - 1 } else { binding })?;
            left = self.binary(at, op, left, right, bool, matching);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn matching(&mut self) -> Step<Matching> {
        let mut matching = Matching::default();
        let opens = |parser: &Self| matches!(parser.token(1).kind, Kind::Mark("("));
        let on = self.word("on");
        if on || self.word("ignoring") {
            matching.on = on;
            matching.labels = self.names()?;
            for (word, left) in [("group_left", true), ("group_right", false)] {
                if matching.group.is_none() && self.word(word) {
                    let labels = if self.ahead("(") { self.names()? } else { Vec::new() };
                    matching.group = Some((left, labels));
                }
            }
        }
        while let Some(word) = ["fill", "fill_left", "fill_right"].into_iter().find(|word| self.word_ahead(word)) {
            // Without a value it is a metric of that name.
            if !opens(self) {
                break;
            }
            if !self.features.fill {
                return self.fail(self.at(), "fill modifiers are experimental and not enabled");
            }
            self.next += 2;
            let value = self.signed_number("fill value", "number")?;
            self.want(")", "fill value")?;
            if word != "fill_right" {
                matching.fill_left = Some(value);
            }
            if word != "fill_left" {
                matching.fill_right = Some(value);
            }
        }
        Ok(matching)
    }

    fn signed_number(&mut self, context: &str, expected: &str) -> Step<f64> {
        let minus = self.take("-");
        if !minus {
            self.take("+");
        }
        let Kind::Number(value) = *self.peek() else { return Err(self.unexpected(context, expected)) };
        self.next += 1;
        Ok(if minus { -value } else { value })
    }

    /// Label names between parentheses, quoted or not.
    fn names(&mut self) -> Step<Vec<String>> {
        let context = "grouping opts";
        self.want("(", context)?;
        let mut names = Vec::new();
        while !self.take(")") {
            match self.peek().clone() {
                Kind::Word(name) if !name.contains(':') => names.push(name),
                Kind::Text(name) if name.invalid.is_none() && !name.value.is_empty() => names.push(name.value),
                _ => return Err(self.unexpected(context, "label")),
            }
            self.next += 1;
            if !self.ahead(")") && !self.take(",") {
                return Err(self.unexpected(context, "\",\" or \")\""));
            }
        }
        Ok(names)
    }

    fn unary(&mut self) -> Step<Expr> {
        let start = self.at();
        let minus = self.take("-");
        if !minus && !self.take("+") {
            let inner = self.primary()?;
            return self.postfix(inner);
        }
        // Looser than the power, as tight as multiplication.
        let body = self.expression(5)?;
        if !matches!(body.kind, Type::Scalar | Type::Vector) {
            let kind = body.kind.as_str();
            let rule = "unary expression only allowed on expressions of type scalar or instant vector";
            self.late(start, format!("{rule}, got {kind:?}"));
        }
        let kind = body.kind;
        let span = self.span(start);
        if let Node::Number(value, duration) = body.node {
            return Ok(Expr::new(Node::Number(if minus { -value } else { value }, duration), kind, span));
        }
        Ok(Expr::new(Node::Unary { minus, body: Box::new(body) }, kind, span))
    }

    fn primary(&mut self) -> Step<Expr> {
        let start = self.at();
        match self.peek().clone() {
            Kind::Number(number) => {
                let token = self.token(0);
                let duration = is_duration(&self.text[token.start..token.end]);
                self.next += 1;
                Ok(Expr::new(Node::Number(number, duration), Type::Scalar, self.span(start)))
            }
            Kind::Text(text) => {
                self.next += 1;
                Ok(Expr::new(Node::Text(text), Type::String, self.span(start)))
            }
            Kind::Mark("(") => {
                self.next += 1;
                let inner = self.expression(0)?;
                self.want_plain(")")?;
                let kind = inner.kind;
                Ok(Expr::new(Node::Paren(Box::new(inner)), kind, self.span(start)))
            }
            Kind::Mark("{") => self.selector(None),
            Kind::Word(word) => {
                self.next += 1;
                self.named(start, word)
            }
            _ => Err(self.unexpected("", "")),
        }
    }

    /// An aggregation, a call or a metric name.
    fn named(&mut self, start: usize, word: String) -> Step<Expr> {
        let opens = self.ahead("(") && (!keyword(&word) || Aggregator::parse(&word).is_some());
        let groups = self.word_ahead("by") || self.word_ahead("without");
        if let Some(op) = Aggregator::parse(&word).filter(|_| opens || groups) {
            return self.aggregation(start, op);
        }
        if opens {
            return self.call(start, &word);
        }
        if never_a_name(&word) {
            self.next -= 1;
            return Err(self.unexpected("", ""));
        }
        self.selector(Some((start, word)))
    }

    fn grouping(&mut self) -> Step<Option<(bool, Vec<String>)>> {
        for (word, without) in [("by", false), ("without", true)] {
            if self.word(word) {
                return Ok(Some((without, self.names()?)));
            }
        }
        Ok(None)
    }

    fn aggregation(&mut self, start: usize, op: Aggregator) -> Step<Expr> {
        if op.experimental() && !self.features.experimental_functions {
            return self.fail(
                start,
                format!(
                    "{}() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
                    op.as_str()
                ),
            );
        }
        let before = self.grouping()?;
        self.aggregations += 1;
        let args = self.arguments(false)?;
        self.aggregations -= 1;
        let after = if before.is_none() { self.grouping()? } else { None };
        Ok(self.aggregate(start, op, before.or(after).unwrap_or_default(), args))
    }

    /// Arguments between parentheses; the second one of `info` may match everything.
    fn arguments(&mut self, info: bool) -> Step<Vec<Expr>> {
        self.want_plain("(")?;
        let mut args = Vec::new();
        if self.take(")") {
            return Ok(args);
        }
        loop {
            let outer = std::mem::replace(&mut self.empty_selectors, info && args.len() == 1);
            args.push(self.expression(0)?);
            self.empty_selectors = outer;
            let at = self.at();
            if !self.take(",") {
                self.want_plain(")")?;
                return Ok(args);
            }
            if !self.begins() {
                self.early(at, "trailing commas not allowed in function call args");
                self.want_plain(")")?;
                return Ok(args);
            }
        }
    }

    /// Whether an expression can begin with the token ahead.
    fn begins(&self) -> bool {
        match self.peek() {
            Kind::Mark(mark) => matches!(*mark, "(" | "{" | "+" | "-"),
            Kind::Word(word) => !never_a_name(word),
            Kind::End => false,
            // A bad token speaks for itself.
            Kind::Bad(_) | Kind::Number(_) | Kind::Text(_) => true,
        }
    }

    fn call(&mut self, start: usize, name: &str) -> Step<Expr> {
        let outer = self.late.take();
        let args = self.arguments(name == "info")?;
        let inner = std::mem::replace(&mut self.late, outer);
        let Some(function) = functions::find(name) else {
            self.early(start, format!("unknown function with name {name:?}"));
            return Ok(Expr::new(Node::Number(f64::NAN, false), Type::Vector, self.span(start)));
        };
        if function.experimental && !self.features.experimental_functions {
            self.early(start, format!("function {name:?} is not enabled"));
        }
        // A wrong number of arguments is reported before mistakes inside of them.
        self.counted(start, function, args.len());
        self.late = self.late.take().or(inner);
        Ok(self.checked_call(start, function, args))
    }
}

/// Whether a number is written as a duration.
fn is_duration(text: &str) -> bool {
    let letter = text.ends_with(|c: char| c.is_ascii_alphabetic());
    letter && text.starts_with(|c: char| c.is_ascii_digit()) && !text.starts_with("0x") && !text.starts_with("0X")
}

/// Words that are no metric's name.
fn never_a_name(word: &str) -> bool {
    ["on", "ignoring", "bool", "group_left", "group_right"].iter().any(|key| word.eq_ignore_ascii_case(key))
}

/// Words with a meaning in the grammar.
fn keyword(word: &str) -> bool {
    const WORDS: [&str; 17] = [
        "and",
        "or",
        "unless",
        "atan2",
        "offset",
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "bool",
        "fill",
        "fill_left",
        "fill_right",
        "smoothed",
        "anchored",
    ];
    Aggregator::parse(word).is_some() || WORDS.iter().any(|key| key.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Features {
        Features::all()
    }

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
            "sum(x) without (\"a.b\")",
            "a + on (x) group_left (y) b",
            "a + on (x) group_left fill(-Inf) b",
            "a + fill_left(1) fill_right(2) fill",
            "a and b or c unless d",
            "x offset -5m @ 100",
            "x[5m] @ end()",
            "x[5m] offset -(1m * 2)",
            "x[step() + 1m]",
            "x[1m:step()]",
            "rate(x[5m] smoothed)",
            "x @ -1.5 smoothed + 0",
            "max_over_time(rate(x[5m])[1h:] offset 5m)",
            "1 > bool 2",
            "topk(3, x)",
            "a % b ^ c",
            "sum",
            "start + end + step + range + by + offset",
            "x{by=\"1\", offset=\"2\"}",
            "x:y:z",
            "rate(x[1h30m]) # why",
            "`raw` ",
            "h </ 3 >/ 2",
            "info(x, {data=~\".*\"})",
            "time() + start() + step() + range()",
            "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
        ] {
            if let Err(error) = parse_with(text, &all()) {
                panic!("{text}: {error}");
            }
        }
    }

    #[test]
    fn mistakes_have_a_place_and_a_text() {
        for (text, want) in [
            ("", "unknown position: parse error: no expression found in input"),
            (" ", "parse error: no expression found in input"),
            ("1 >\n 2", "comparisons between scalars must use BOOL modifier"),
            ("foo()", "unknown function with name \"foo\""),
            ("Rate(x[5m])", "unknown function with name \"Rate\""),
            (
                "rate(x)",
                "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
            ),
            ("rate()", "expected 1 argument(s) in call to \"rate\", got 0"),
            ("round(x, 1, 2)", "expected at most 2 argument(s) in call to \"round\", got 3"),
            ("x{a=~\"(\"}", "1:3: parse error:"),
            ("{a=\"\"}", "vector selector must contain at least one non-empty matcher"),
            ("sum(x[5m])", "expected type instant vector in aggregation expression, got range vector"),
            ("x y", "1:3: parse error: unexpected identifier \"y\""),
            ("1 and x", "set operator \"and\" not allowed in binary scalar expression"),
            ("\"a", "unterminated"),
            ("x[0s]", "duration must be greater than 0"),
            ("x[5m][5m]", "ranges only allowed for vector selectors"),
            ("(x)[5m]", "ranges only allowed for vector selectors"),
            ("x offset 1m offset 2m", "offset may not be set multiple times"),
            ("x @ 1 @ 2", "@ <timestamp> may not be set multiple times"),
            ("x @ Inf", "timestamp out of bounds for @ modifier"),
            ("1 offset 5m", "offset modifier must be preceded by"),
            ("a{b=\"c\", __name__=\"d\"}", "metric name must not be set twice"),
            ("sum(1, x)", "wrong number of arguments for aggregate expression provided, expected 1, got 2"),
            (
                "deriv(x[3m] smoothed)",
                "smoothed modifier can only be used with: delta, increase, rate - not with deriv",
            ),
            ("rate(x[5m],)", "1:11: parse error: trailing commas not allowed in function call args"),
        ] {
            let error = parse_with(text, &all()).expect_err(text).to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn selectors_alone_are_a_grammar_of_their_own() {
        for (text, want) in [
            ("x", "1"),
            (" x{a=\"b\",} # why", "2"),
            ("{\"a.b\"}", "1"),
            ("{}", "0"),
            ("x{__name__=\"y\"}", "2"),
            ("", "unknown position: parse error: unexpected end of input"),
            ("x(", "1:2: parse error: unexpected \"(\""),
            ("sum(x)", "1:4: parse error: unexpected \"(\""),
            ("x[5m]", "1:2: parse error: unexpected \"[\""),
            ("(x)", "1:1: parse error: unexpected \"(\""),
            ("1", "1:1: parse error: unexpected number \"1\""),
            ("\"a\"", "1:1: parse error: unexpected string \"\\\"a\\\"\""),
            ("x offset 5m", "1:3: parse error: unexpected <offset>"),
            ("x{a=~\"(\"}", "1:3: parse error: error parsing regexp: missing closing ): `(`"),
        ] {
            let found = parse_selector(text);
            let shown = found.map_or_else(|error| error.to_string(), |matchers| matchers.len().to_string());
            assert_eq!(shown, want, "{text}");
        }
    }

    #[test]
    fn experiments_need_their_switch() {
        for text in ["mad_over_time(x[5m])", "limitk(1, x)", "a + fill(0) b", "rate(x[5m] anchored)"] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("enabled"), "{text}: {error}");
        }
        assert!(parse("x[1m + 1m]").is_ok());
    }

    #[test]
    fn hostile_texts_end_in_bounded_time() {
        for text in [
            "(".repeat(100_000),
            "-".repeat(100_000),
            "1+".repeat(100_000),
            "2^".repeat(100_000),
            format!("x[{}", "(".repeat(100_000)),
            format!("x[{}", "-".repeat(100_000)),
            format!("x[{}", "1+".repeat(100_000)),
            "x".to_owned() + &"[1m:]".repeat(100_000),
        ] {
            assert!(parse_with(&text, &all()).is_err());
        }
        // Go's dialect takes this one; what counts is that it ends.
        drop(parse_with(&format!("x{{a=~\"{}\"}}", "(a|b)*".repeat(100_000)), &all()));
        let seed = "sum by (a) (rate(x{b=~\"c|d\",e!=\"é\"}[5m:1m+2] offset 1m)) > bool on (f) 1.5e3 and y @ 10";
        for cut in (0..seed.len()).filter(|cut| seed.is_char_boundary(*cut)) {
            for insert in ["", "(", "\"", "é", "\0", "}"] {
                drop(parse_with(&format!("{}{insert}{}", &seed[..cut], &seed[cut..]), &all()));
                drop(parse_with(&format!("{}{insert}", &seed[..cut]), &all()));
            }
        }
    }
}
