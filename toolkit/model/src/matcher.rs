//! Label matchers: `=`, `!=`, `=~`, `!~`; regular expressions are anchored and their dot matches a newline.

use crate::Labels;
use std::fmt;

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
}

/// Why a matcher cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MatcherError(#[from] re2::Error);

/// A test of one label's value; an absent label has the value "".
#[derive(Clone, Debug)]
pub struct Matcher {
    op: MatchOp,
    name: String,
    value: String,
    test: Test,
}

/// The cheapest way to decide an expression.
#[derive(Clone, Debug)]
enum Test {
    Literal,
    OneOf(Vec<String>),
    Prefix(String),
    Anything,
    NonEmpty,
    Engine(re2::Regex),
}

impl Matcher {
    /// Compiles a matcher.
    ///
    /// # Errors
    /// [`MatcherError`] when the expression is not Go's dialect.
    pub fn new(op: MatchOp, name: &str, value: &str) -> Result<Self, MatcherError> {
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => shortcut(value, re2::Regex::anchored(value)?),
        };
        Ok(Self { op, name: name.to_owned(), value: value.to_owned(), test })
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

    /// Whether a value passes.
    pub fn matches(&self, value: &str) -> bool {
        let hit = match &self.test {
            Test::Literal => value == self.value,
            Test::OneOf(set) => set.iter().any(|one| one == value),
            Test::Prefix(prefix) => value.starts_with(prefix.as_str()),
            Test::Anything => true,
            Test::NonEmpty => !value.is_empty(),
            Test::Engine(regex) => regex.is_match(value),
        };
        hit == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    /// Whether a series without the label passes.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }

    /// The finite set of values that can pass, if the matcher is positive and has one.
    pub fn values(&self) -> Option<Vec<&str>> {
        match (&self.test, self.op) {
            (Test::Literal, MatchOp::Equal) => Some(vec![&self.value]),
            (Test::OneOf(set), MatchOp::Regex) => Some(set.iter().map(String::as_str).collect()),
            _ => None,
        }
    }

    /// Whether a label set passes all matchers.
    pub fn all(matchers: &[Self], labels: &Labels) -> bool {
        matchers.iter().all(|matcher| matcher.matches(labels.get(&matcher.name).unwrap_or_default()))
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

/// Recognises the forms dashboards send most: alternations of plain texts, `text.*`, `.*`, `.+`.
fn shortcut(pattern: &str, regex: re2::Regex) -> Test {
    let plain = |text: &str| !text.contains(|c: char| "\\.+*?()|[]{}^$".contains(c));
    match pattern {
        ".*" => return Test::Anything,
        ".+" => return Test::NonEmpty,
        _ => {}
    }
    if pattern.split('|').all(plain) {
        return Test::OneOf(pattern.split('|').map(str::to_owned).collect());
    }
    match pattern.strip_suffix(".*") {
        Some(prefix) if plain(prefix) => Test::Prefix(prefix.to_owned()),
        _ => Test::Engine(regex),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: [&str; 9] = ["", "a", "b", "ab", "abc", "xab", "a\nb", "a|b", "é"];

    #[test]
    fn shortcuts_agree_with_the_engine() {
        for pattern in ["", "a", "a|b", "a|", "ab.*", ".*", ".+", ".*b", "a.b", "(a|b)c?", "é", "a||b"] {
            let matcher = Matcher::new(MatchOp::Regex, "l", pattern).expect(pattern);
            let not = Matcher::new(MatchOp::NotRegex, "l", pattern).expect(pattern);
            let engine = re2::Regex::anchored(pattern).expect(pattern);
            for value in VALUES {
                assert_eq!(matcher.matches(value), engine.is_match(value), "{pattern:?} on {value:?}");
                assert_eq!(not.matches(value), !engine.is_match(value), "{pattern:?} on {value:?}");
            }
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
}
