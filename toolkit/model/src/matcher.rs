//! Label matchers: `=`, `!=`, `=~`, `!~`; regular expressions are anchored and their dot matches a newline.
//!
//! What is known of the values that pass is for storage, which then reads an index instead of testing every value.

use crate::{Labels, accept::Accept, is_legacy_label_name, quote_into};
use re2::Expression;
use std::{fmt, slice, sync::Arc};

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }

    /// Whether a value passes by being accepted, and not by being refused.
    pub fn is_positive(self) -> bool {
        matches!(self, Self::Equal | Self::Regex)
    }
}

/// Why a matcher cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MatcherError(#[from] re2::Error);

/// A test of one label's value; an absent label has the value "". Clones share what was compiled.
#[derive(Clone, Debug)]
pub struct Matcher {
    op: MatchOp,
    name: String,
    value: String,
    test: Arc<Test>,
}

/// What a value is compared with.
#[derive(Debug)]
enum Test {
    Literal,
    Expression(Accept),
}

impl Matcher {
    /// Compiles a matcher.
    ///
    /// # Errors
    /// [`MatcherError`] when the expression is not Go's dialect.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, MatcherError> {
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => Test::Expression(Accept::new(&Expression::matcher(value)?)?),
        };
        Ok(Self { op, name: name.to_owned(), value: value.to_owned(), test: Arc::new(test) })
    }

    /// How it compares.
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The label it tests.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text or expression it compares with.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a value passes. O(length of the value), times the size of the program where an engine is needed.
    pub fn matches(&self, value: &str) -> bool {
        let accepted = match &*self.test {
            Test::Literal => value == self.value,
            Test::Expression(expression) => expression.accepts(value),
        };
        accepted == self.op.is_positive()
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// All values that the text or expression accepts, sorted, if those are a small set: of `=~"a|b"` and of `!~"a|b"`
    /// they are `a` and `b`. A negative operator passes everything else; see [`MatchOp::is_positive`].
    pub fn set_values(&self) -> Option<&[String]> {
        match &*self.test {
            Test::Literal => Some(slice::from_ref(&self.value)),
            Test::Expression(Accept::OneOf(set)) => Some(set.values()),
            _ => None,
        }
    }

    /// What every value begins with that the expression accepts, if anything, and if the values are no known set.
    pub fn prefix(&self) -> Option<&str> {
        match &*self.test {
            Test::Expression(expression) => Some(expression.prefix()).filter(|prefix| !prefix.is_empty()),
            Test::Literal => None,
        }
    }

    /// Whether the expression accepts every value, so that `=~` tests nothing and `!~` passes nothing.
    pub fn accepts_anything(&self) -> bool {
        matches!(*self.test, Test::Expression(Accept::Anything))
    }

    /// Whether a label set passes all matchers.
    pub fn all(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
    }
}

/// As upstream prints it; names outside the legacy alphabet are quoted.
impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        if is_legacy_label_name(&self.name) {
            text.push_str(&self.name);
        } else {
            quote_into(&self.name, &mut text);
        }
        text.push_str(self.op.as_str());
        quote_into(&self.value, &mut text);
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn matcher(op: MatchOp, value: &str) -> Matcher {
        Matcher::new(op, "l", value).unwrap_or_else(|error| panic!("{value}: {error}"))
    }

    /// Tests one pattern against its engine on `values` and on damaged ones of its own.
    fn agrees(pattern: &str, values: &[&str]) {
        let (is, not) = (matcher(MatchOp::Regex, pattern), matcher(MatchOp::NotRegex, pattern));
        let engine = re2::Regex::anchored(pattern).expect("valid");
        let own: Vec<String> =
            is.set_values().unwrap_or_default().iter().flat_map(|v| [v.clone(), format!("{v}x")]).collect();
        for value in values.iter().copied().chain(own.iter().map(String::as_str)) {
            assert_eq!(is.matches(value), engine.is_match(value), "{pattern:?} on {value:?}");
            assert_eq!(not.matches(value), !engine.is_match(value), "{pattern:?} on {value:?}");
        }
    }

    #[test]
    fn shortcuts_agree_with_the_engine() {
        let values =
            ["", "a", "b", "ab", "abc", "xab", "a\nb", "a|b", "é", "A", "Ab", "abab", "axb", "foo-1", "bar-", "n7"];
        for pattern in [
            "",
            "a",
            "a|b",
            "a|",
            "ab.*",
            ".*",
            ".+",
            ".*b",
            "a.b",
            "(a|b)c?",
            "é",
            "a||b",
            "^a$",
            "^ab.*$",
            ".*ab.*",
            "a.+b",
            "(?i)ab",
            "(?i:straße|abcdefghijklmnopqrst)",
            "(?i)abcdefghijklmnopqrst",
            "(foo|bar)-.*",
            "foo.*|bar.*|",
            "[ab]{2}",
            "a\\.b|\\Qa|b\\E",
            "(?-s)a.*",
            "n[0-9]",
            "(?i)[a-c]+",
            "[^a]",
            "a.{2,}",
            "(a|b).+(b|c)",
        ] {
            agrees(pattern, &values);
        }
        let many: Vec<String> = (0..500).map(|n| format!("pod-{n}")).collect();
        agrees(&many.join("|"), &["pod-7", "pod-500", "pod-", "", "pod-0"]);
    }

    #[test]
    fn shortcuts_agree_with_the_engine_on_generated_patterns() {
        const BITS: [&str; 16] = [
            "a", "b", "ab", ".*", ".+", "|", "(a|b)", "[ab]", "a?", "(?i:ab)", "b{2}", "^", "$", ".", "(.*)", "(b.*|a)",
        ];
        let mut rng = Rng::new(11);
        let mut text =
            |bits: &[&str], most| (0..rng.below(most)).map(|_| bits[rng.below(bits.len())]).collect::<String>();
        for _ in 0..800 {
            let pattern = text(&BITS, 6);
            let values: Vec<_> = (0..6).map(|_| text(&["a", "b", "A", "\n", "ab"], 5)).collect();
            agrees(&pattern, &values.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_absent_label_is_empty() {
        let labels = Labels::from_pairs([("a", "1")]);
        let check = |op, name, value| Matcher::all(&[Matcher::new(op, name, value).expect("valid")], &labels);
        assert!(check(MatchOp::Equal, "b", ""));
        assert!(!check(MatchOp::NotEqual, "b", ""));
        assert!(check(MatchOp::NotEqual, "b", "x"));
        assert!(check(MatchOp::Regex, "a", "[0-9]"));
        assert!(!check(MatchOp::Equal, "a", "2"));
    }

    #[test]
    fn what_storage_can_look_up() {
        for (op, value, set, prefix) in [
            (MatchOp::Equal, "a|b", Some(&["a|b"][..]), None),
            (MatchOp::NotEqual, "", Some(&[""]), None),
            (MatchOp::Regex, "b|a|b", Some(&["a", "b"]), None),
            (MatchOp::NotRegex, "(b|a)c?", Some(&["a", "ac", "b", "bc"]), None),
            (MatchOp::Regex, "", Some(&[""]), None),
            (MatchOp::Regex, "(?i)a1", Some(&["A1", "a1"]), None),
            (MatchOp::Regex, "[^\\x{0}-\\x{10ffff}]", Some(&[]), None),
            (MatchOp::Regex, "^api-.*$", None, Some("api-")),
            (MatchOp::Regex, "api-(v1|v2)/[0-9]+", None, Some("api-v")),
            (MatchOp::Regex, "(api-x.*|api-y.*)", None, Some("api-")),
            (MatchOp::Regex, ".*", None, None),
            (MatchOp::Regex, "(?i)api-.*", None, None),
        ] {
            let matcher = matcher(op, value);
            let have: Option<Vec<&str>> = matcher.set_values().map(|all| all.iter().map(String::as_str).collect());
            assert_eq!(have.as_deref(), set, "{value}");
            assert_eq!(matcher.prefix(), prefix, "{value}");
            assert_eq!(matcher.accepts_anything(), value == ".*", "{value}");
        }
    }

    #[test]
    fn printing_is_upstreams() {
        let print = |op, name: &str, value: &str| Matcher::new(op, name, value).expect("valid").to_string();
        assert_eq!(print(MatchOp::Equal, "job", "a\"b\\\n\u{200b}"), r#"job="a\"b\\\n\u200b""#);
        assert_eq!(print(MatchOp::NotRegex, "a.b", "x|y"), r#""a.b"!~"x|y""#);
    }

    #[test]
    fn errors_are_upstreams() {
        let refused = Matcher::new(MatchOp::Regex, "a", "x(").expect_err("unclosed");
        assert_eq!(refused.to_string(), "error parsing regexp: missing closing ): `x(`");
    }
}
