//! Where Go's dialect differs from the engine's own, and what an engine must not do: panic, or take forever.

use crate::{ErrorCode, Expression, Regex, Shape};
use testkit::Rng;

/// Asserts what a pattern, given a whole text, makes of it.
fn check(pattern: &str, matching: &[&str], failing: &[&str]) {
    let regex = Regex::anchored(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for text in matching {
        assert!(regex.is_match(text), "{pattern} must match {text:?}");
    }
    for text in failing {
        assert!(!regex.is_match(text), "{pattern} must not match {text:?}");
    }
}

fn refused(pattern: &str, text: &str) {
    let error = Regex::new(pattern).expect_err(pattern).to_string();
    assert_eq!(error, format!("error parsing regexp: {text}"));
}

#[test]
fn perl_classes_are_ascii() {
    check(r"\d", &["7"], &["٣", "x"]);
    check(r"\w", &["z", "_"], &["é", "-"]);
    check(r"\s", &[" ", "\t", "\n", "\x0c", "\r"], &["\x0b", "\u{a0}"]);
    check(r"\D\W\S", &["٣é\u{a0}"], &["1a "]);
    check(r".\b.", &["éa"], &["éé", "aa"]);
    check(r".\B.", &["éé", "aa"], &["éa"]);
}

#[test]
fn ampersands_in_a_class_are_characters() {
    check("[a&&b]", &["a", "&", "b"], &["&&", "c", ""]);
}

#[test]
fn a_bracket_in_a_class_is_a_character() {
    check("[[a]]", &["[]", "a]"], &["a", "[", "]"]);
}

#[test]
fn escaped_angles_are_characters() {
    check(r"\<a\>", &["<a>"], &["a"]);
}

#[test]
fn braces_without_counts_are_characters() {
    check("{", &["{"], &[""]);
    check("a{", &["a{"], &["a"]);
    check("a{,2}", &["a{,2}"], &["a", "aa", ""]);
    check("a{1", &["a{1"], &["a"]);
    check("a{01}", &["a{01}"], &["a"]);
}

#[test]
fn quotes() {
    check(r"\Qa.b*\E+", &["a.b*", "a.b**"], &["a.b*a.b*", "axb*"]);
    check(r"\Q(\E|\Q[\E", &["(", "["], &["Q"]);
    assert!(Regex::new(r"\Qa(b").is_ok_and(|regex| regex.is_match("a(b")));
}

#[test]
fn a_class_has_no_difference() {
    refused("[a--b]", "invalid character class range: `a--`");
}

#[test]
fn what_perl_has_and_go_has_not() {
    refused("a**", "invalid nested repetition operator: `**`");
    refused("x*+", "invalid nested repetition operator: `*+`");
    refused("(?x: )", "invalid or unsupported Perl syntax: `(?x`");
    refused("(?R)", "invalid or unsupported Perl syntax: `(?R`");
    refused(r"\C", r"invalid escape sequence: `\C`");
    refused(r"\1", r"invalid escape sequence: `\1`");
}

#[test]
fn counts_have_a_limit_which_nesting_shares() {
    refused("a{1001}", "invalid repeat count: `{1001}`");
    refused("(a{500}){500}", "invalid repeat count: `{500}`");
    check("(a{500}){2}", &[&"a".repeat(1000)], &[&"a".repeat(999)]);
}

#[test]
fn the_wrapper_stays_closed() {
    for pattern in ["a)(b", "a)|(b", ")|(", "a)"] {
        let error = Regex::anchored(pattern).expect_err(pattern);
        assert_eq!(error.to_string(), format!("error parsing regexp: unexpected ): `^(?s:{pattern})$`"));
        let error = Expression::matcher(pattern).expect_err(pattern);
        assert_eq!(error.to_string(), format!("error parsing regexp: unexpected ): `{pattern}`"));
    }
    check("a|b", &["a", "b"], &["ab", "xa", "bx"]);
    check("(?i)a", &["A"], &[]);
    check("a.b", &["a\nb"], &[]);
    check("a$", &["a"], &["a\n"]);
}

#[test]
fn names_of_groups() {
    let regex = Regex::new("(a)(?P<one>b)(?<two>c)(?:d)(?P<one>e)?").expect("valid");
    let names: Vec<_> = regex.group_names().collect();
    assert_eq!(names, [None, None, Some("one"), Some("two"), Some("one")]);
    let captures = regex.captures("abcd").expect("a match");
    assert_eq!((captures.name("one"), captures.name("two"), captures.name("no")), (Some("b"), Some("c"), None));
    assert_eq!((captures.get(0), captures.get(4), captures.get(9)), (Some("abcd"), None, None));
}

/// Expands against `(?P<first>\w+)-(?P<second>\d+)?(?P<é>x)?`, without the group that Go would refuse.
#[track_caller]
fn expand(template: &str, expected: &str) {
    let regex = Regex::anchored(r"(?P<first>\w+)-(?P<second>\d+)?(z)?").expect("valid");
    let mut out = String::from("|");
    regex.captures("ab-12").expect("a match").expand(template, &mut out);
    assert_eq!(out, format!("|{expected}"), "{template}");
}

#[test]
fn templates() {
    expand("", "");
    expand("plain", "plain");
    expand("$1/$2", "ab/12");
    expand("${1}x$1x", "abx");
    expand("$first:$second:$0", "ab:12:ab-12");
    expand("$first_", "");
    expand("${first}_", "ab_");
    expand("$$1 $$$1", "$1 $ab");
    expand("$", "$");
    expand("$-${}${-}$ 1", "$-${}${-}$ 1");
    expand("${1", "${1");
    expand("${1x", "${1x");
    expand("$3$4$01${01}$99999999999", "");
    expand("$1é", "");
    expand("$1\u{301}", "ab\u{301}");
    expand("$1٣", "");
    expand("$1$", "ab$");
}

#[test]
fn the_deepest_expressions_run_on_a_small_stack() {
    let deep = format!("{}a{}", "(".repeat(997), ")".repeat(997));
    let stars = format!("{}a{}", "(?:".repeat(990), ")*".repeat(990));
    let mixed = format!("{}a{}", "(?:y|x*".repeat(330), ")+".repeat(330));
    for pattern in [deep, stars, mixed] {
        let regex = Regex::anchored(&pattern).expect("within the limit");
        assert!(regex.is_match("a") && !regex.is_match("b"));
        let matcher = Expression::matcher(&pattern).expect("within the limit");
        assert_ne!(matcher.shape(), Shape::Anything);
    }
    let error = Regex::anchored(&"(".repeat(100_000)).expect_err("unclosed");
    assert_eq!(error.code(), ErrorCode::MissingParen);
    let closed = format!("{}{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(Regex::new(&closed).expect_err("deep").code(), ErrorCode::NestingDepth);
}

#[test]
fn what_is_large_is_refused() {
    // Too many bounds of classes; too large a program; too many slots for a program of that size.
    let groups = format!("{}{}", "(a)".repeat(4_000), r"\pL{100}");
    for pattern in [r"\pL".repeat(5_000), r"\pL{1000}".into(), groups] {
        let result = Regex::new(&pattern);
        assert!(result.as_ref().is_err_and(|error| error.code() == ErrorCode::Large), "{pattern:.40}");
    }
    assert!(Regex::new(r"\pL{200}").is_ok());
    assert!(Regex::new(r"[^a]{1000}(.{0,1000}x)?").is_ok());
}

#[test]
fn a_program_without_groups_matches_the_same() {
    let expression = Expression::parse("(a+)(b)?").expect("valid");
    let (all, one) = (expression.compile().expect("small"), expression.compile_without_groups().expect("small"));
    let (all, one) = (all.captures("xaab").expect("a match"), one.captures("xaab").expect("a match"));
    assert_eq!((all.get(0), all.get(1)), (Some("aab"), Some("aa")));
    assert_eq!((one.get(0), one.get(1)), (Some("aab"), None));
}

/// Each of these takes a moment, or hours when something looks at everything again for every character.
#[test]
fn long_patterns_take_no_longer_than_they_are() {
    let units = [
        "a",
        ".*a",
        ".*ab.+",
        "(a)",
        "(a)(b|c)",
        "[ab]",
        "[[:",
        "[[:alpha:]",
        "{",
        "{1",
        "{1,",
        "a{2}",
        "$",
        "^",
        "^$",
        "|",
        "a|",
        "ab|",
        "a.*|",
        "\\Q",
        "\\Qa\\E",
        "(?i)k",
        "(?i:é)",
        "(?:",
        "(?",
        "[",
        "[a",
        "(?P<n>a)",
        "(?<n>",
        "\\",
        "\\x{",
        "a?",
        "(a|)",
        "(?i)[a-z]",
        "\n",
        "é",
        "\\b",
        "\\d",
        "(?s)(?-s)",
    ];
    for unit in units {
        for tail in ["", ")", "]", "a"] {
            let pattern = unit.repeat(6_000) + tail;
            if let Ok(expression) = Expression::matcher(&pattern) {
                expression.shape();
            }
            let _ = Expression::anchored(&pattern);
        }
    }
}

/// Bits of patterns, whole ones and broken ones.
const BITS: &[&str] = &[
    "a",
    "b",
    "é",
    "日",
    "\n",
    ".",
    "*",
    "+",
    "?",
    "|",
    "(",
    ")",
    "[",
    "]",
    "^",
    "$",
    "-",
    "{",
    "}",
    "{2}",
    "{0,3}",
    "{1000}",
    "{2,",
    "\\",
    "\\d",
    "\\W",
    "\\b",
    "\\B",
    "\\pL",
    "\\p{Greek}",
    "\\p{",
    "\\Q",
    "\\E",
    "\\x41",
    "\\x{",
    "\\07",
    "(?i)",
    "(?s:",
    "(?-m:",
    "(?U)",
    "(?P<n>",
    "(?<",
    "[^",
    "[:alpha:]",
    "[[:^digit:]]",
    "&&",
    "[a-",
    "\\x{d800}",
    ",",
    "1",
];

fn random(rng: &mut Rng, bits: &[&str], most: usize) -> String {
    (0..rng.below(most)).map(|_| bits[rng.below(bits.len())]).collect()
}

#[test]
fn no_pattern_panics_and_shapes_agree_with_the_engine() {
    let mut rng = Rng::new(0x5eed);
    let mut valid = 0;
    for _ in 0..3_000 {
        let pattern = random(&mut rng, BITS, 9);
        let (Ok(expression), Ok(_)) = (Expression::matcher(&pattern), Expression::parse(&pattern)) else { continue };
        let Ok(engine) = expression.compile() else { continue };
        valid += 1;
        let shape = expression.shape();
        for _ in 0..6 {
            let text = random(&mut rng, &["a", "b", "é", "日", "\n", "A", "1", "-", "aa", "{2,"], 5);
            agree(&pattern, &shape, &engine, &text);
        }
    }
    assert!(valid > 1_000, "{valid}");
}

/// Pieces that matchers of dashboards are made of.
const COMMON: &[&str] = &[
    "a",
    "ab",
    "b",
    ".*",
    ".+",
    "|",
    "(a|b)",
    "(?:ab|b|)",
    "[ab]",
    "a?",
    "^",
    "$",
    "(?i:a)",
    "b{2}",
    "(.*)",
    "(?:)",
    "\\.",
    "(a.*|b)",
    "()",
    ".{2,}",
    "[\\x{0}-\\x{10ffff}]*",
    "é",
    "(?-s:.*)",
    "(?m:^)",
    "(?m:$)",
];

#[test]
fn shapes_agree_on_what_dashboards_send() {
    let mut rng = Rng::new(7);
    let mut decided = 0;
    for _ in 0..3_000 {
        let pattern = random(&mut rng, COMMON, 7);
        let expression = Expression::matcher(&pattern).expect("valid");
        let engine = expression.compile().expect("small");
        let shape = expression.shape();
        decided += u32::from(!matches!(shape, Shape::Opaque | Shape::Required(_)));
        for _ in 0..8 {
            let text = random(&mut rng, &["a", "b", "ab", "é", "\n", "A", ".", "bb"], 6);
            agree(&pattern, &shape, &engine, &text);
        }
    }
    assert!(decided > 1_500, "{decided}");
}

fn agree(pattern: &str, shape: &Shape, engine: &Regex, text: &str) {
    let matches = engine.is_match(text);
    let said = match shape {
        Shape::Opaque => return,
        Shape::Required(sequence) => {
            assert!(!matches || sequence.matches(text), "{pattern:?}, {text:?}: {sequence:?} is not required");
            return;
        }
        Shape::Anything => true,
        Shape::NonEmpty => !text.is_empty(),
        Shape::Literals(texts) => texts.iter().any(|one| one == text),
        Shape::AnyCase(one) => one.matches(text),
        Shape::Sequences(all) => all.iter().any(|one| one.matches(text)),
    };
    assert_eq!(said, matches, "{pattern:?}, {text:?}, {shape:?}");
}
