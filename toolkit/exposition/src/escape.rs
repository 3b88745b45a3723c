//! Escaping of names for readers that know only the legacy alphabet, and back.
//!
//! Source of truth: the name escaping schemes of upstream's common library. A name that is legacy already is never
//! changed, whatever the scheme.

use model::{is_legacy_label_name, is_legacy_metric_name};
use std::borrow::Cow;
use std::fmt::Write;

/// How names outside the legacy alphabet are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Escaping {
    /// As they are, quoted.
    AllowUtf8,
    /// Each bad character as `_`.
    #[default]
    Underscores,
    /// `.` as `_dot_`, `_` and every other bad character as `__`.
    Dots,
    /// `U__` in front, `_` as `__`, bad characters as `_HEX_`.
    Values,
}

impl Escaping {
    /// The word of the `escaping` parameter.
    pub fn word(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The scheme of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values].into_iter().find(|e| e.word() == word)
    }
}

/// A metric name as `escaping` writes it.
pub fn escape_name(name: &str, escaping: Escaping) -> String {
    metric_name(name, escaping).into_owned()
}

/// A label name as `escaping` writes it; unlike in a metric name, `:` is a bad character.
pub fn escape_label_name(name: &str, escaping: Escaping) -> String {
    label_name(name, escaping).into_owned()
}

pub(crate) fn metric_name(name: &str, escaping: Escaping) -> Cow<'_, str> {
    if escaping == Escaping::AllowUtf8 || name.is_empty() || is_legacy_metric_name(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(escaped(name, escaping, true))
}

pub(crate) fn label_name(name: &str, escaping: Escaping) -> Cow<'_, str> {
    if escaping == Escaping::AllowUtf8 || name.is_empty() || is_legacy_label_name(name) {
        return Cow::Borrowed(name);
    }
    Cow::Owned(escaped(name, escaping, false))
}

fn escaped(name: &str, escaping: Escaping, colon: bool) -> String {
    let good =
        |i: usize, c: char| c == '_' || colon && c == ':' || c.is_ascii_alphabetic() || i > 0 && c.is_ascii_digit();
    let mut out = String::with_capacity(name.len() + 8);
    if escaping == Escaping::Values {
        out.push_str("U__");
    }
    for (i, c) in name.chars().enumerate() {
        match (escaping, c) {
            (Escaping::Dots | Escaping::Values, '_') => out.push_str("__"),
            (Escaping::Dots, '.') => out.push_str("_dot_"),
            (_, c) if good(i, c) => out.push(c),
            (Escaping::Dots, _) => out.push_str("__"),
            (Escaping::Values, c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "_{:x}_", u32::from(c));
            }
            _ => out.push('_'),
        }
    }
    out
}

/// The name behind one written with [`Escaping::Values`]; a name that is not, or not rightly, escaped stays.
pub fn unescape_name(name: &str) -> Cow<'_, str> {
    name.strip_prefix("U__").and_then(unescaped).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// None when an escape is broken.
fn unescaped(mut rest: &str) -> Option<String> {
    let mut out = String::with_capacity(rest.len());
    while let Some(place) = rest.find('_') {
        out.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let (digits, after) = rest.split_once('_')?;
        let hex = (1..=6).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        out.push(hex.then(|| u32::from_str_radix(digits, 16).ok()).flatten().and_then(char::from_u32)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_by_scheme() {
        let check = |escaping, want: &str| assert_eq!(escape_name("a.b_c é", escaping), want);
        check(Escaping::AllowUtf8, "a.b_c é");
        check(Escaping::Underscores, "a_b_c__");
        check(Escaping::Dots, "a_dot_b__c____");
        check(Escaping::Values, "U__a_2e_b__c_20__e9_");
        for escaping in [Escaping::Underscores, Escaping::Dots, Escaping::Values] {
            assert_eq!(escape_name("a_b:c", escaping), "a_b:c");
            assert_eq!(escape_label_name("a_b", escaping), "a_b");
        }
        assert_eq!(escape_label_name("a:b", Escaping::Underscores), "a_b");
        assert_eq!(escape_label_name("1a:b", Escaping::Values), "U___31_a_3a_b");
    }

    #[test]
    fn values_can_be_read_back() {
        for name in ["a.b_c é", "x y", "1", "\u{10ffff}", "é:"] {
            assert_eq!(unescape_name(&escape_name(name, Escaping::Values)), name);
        }
        for broken in ["a_b", "U__a_", "U__a_zz_", "U__a_d800_", "U__a_2E_", "U__a_0000041_"] {
            assert_eq!(unescape_name(broken), broken);
        }
    }
}
