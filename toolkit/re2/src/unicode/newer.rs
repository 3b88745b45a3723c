//! What Unicode 17 says and the tables of regex-syntax, of Unicode 16, do not yet.
//!
//! Recorded from a Prometheus built with Go 1.27. When regex-syntax moves on, this file can go; the test of
//! `testdata/classes.txt` says so by passing without it.

use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

/// New characters: first, last, general category, script.
const ADDED: &[(char, char, &str, &str)] = &[
    ('\u{88f}', '\u{88f}', "lo", "arabic"),
    ('\u{c5c}', '\u{c5c}', "lo", "telugu"),
    ('\u{cdc}', '\u{cdc}', "lo", "kannada"),
    ('\u{1acf}', '\u{1add}', "mn", "inherited"),
    ('\u{1ae0}', '\u{1aeb}', "mn", "inherited"),
    ('\u{20c1}', '\u{20c1}', "sc", "common"),
    ('\u{2b96}', '\u{2b96}', "so", "common"),
    ('\u{a7ce}', '\u{a7ce}', "lu", "latin"),
    ('\u{a7cf}', '\u{a7cf}', "ll", "latin"),
    ('\u{a7d2}', '\u{a7d2}', "lu", "latin"),
    ('\u{a7d4}', '\u{a7d4}', "lu", "latin"),
    ('\u{a7f1}', '\u{a7f1}', "lm", "latin"),
    ('\u{fbc3}', '\u{fbd2}', "so", "arabic"),
    ('\u{fd90}', '\u{fd91}', "so", "arabic"),
    ('\u{fdc8}', '\u{fdce}', "so", "arabic"),
    ('\u{10940}', '\u{10959}', "lo", "sidetic"),
    ('\u{10ec5}', '\u{10ec5}', "lm", "arabic"),
    ('\u{10ec6}', '\u{10ec7}', "lo", "arabic"),
    ('\u{10ed0}', '\u{10ed0}', "po", "arabic"),
    ('\u{10ed1}', '\u{10ed8}', "so", "arabic"),
    ('\u{10efa}', '\u{10efb}', "mn", "arabic"),
    ('\u{11b60}', '\u{11b60}', "mn", "sharada"),
    ('\u{11b61}', '\u{11b61}', "mc", "sharada"),
    ('\u{11b62}', '\u{11b64}', "mn", "sharada"),
    ('\u{11b65}', '\u{11b65}', "mc", "sharada"),
    ('\u{11b66}', '\u{11b66}', "mn", "sharada"),
    ('\u{11b67}', '\u{11b67}', "mc", "sharada"),
    ('\u{11db0}', '\u{11dd8}', "lo", "tolongsiki"),
    ('\u{11dd9}', '\u{11dd9}', "lm", "tolongsiki"),
    ('\u{11dda}', '\u{11ddb}', "lo", "tolongsiki"),
    ('\u{11de0}', '\u{11de9}', "nd", "tolongsiki"),
    ('\u{16ea0}', '\u{16eb8}', "lu", "beriaerfe"),
    ('\u{16ebb}', '\u{16ed3}', "ll", "beriaerfe"),
    ('\u{16ff2}', '\u{16ff3}', "lm", "han"),
    ('\u{16ff4}', '\u{16ff6}', "nl", "han"),
    ('\u{187f8}', '\u{187ff}', "lo", "tangut"),
    ('\u{18d09}', '\u{18d1e}', "lo", "tangut"),
    ('\u{18d80}', '\u{18df2}', "lo", "tangut"),
    ('\u{1ccfa}', '\u{1ccfc}', "so", "common"),
    ('\u{1ceba}', '\u{1ced0}', "so", "common"),
    ('\u{1cee0}', '\u{1ceef}', "so", "common"),
    ('\u{1cef0}', '\u{1cef0}', "sm", "common"),
    ('\u{1e6c0}', '\u{1e6de}', "lo", "taiyo"),
    ('\u{1e6e0}', '\u{1e6e2}', "lo", "taiyo"),
    ('\u{1e6e3}', '\u{1e6e3}', "mn", "taiyo"),
    ('\u{1e6e4}', '\u{1e6e5}', "lo", "taiyo"),
    ('\u{1e6e6}', '\u{1e6e6}', "mn", "taiyo"),
    ('\u{1e6e7}', '\u{1e6ed}', "lo", "taiyo"),
    ('\u{1e6ee}', '\u{1e6ef}', "mn", "taiyo"),
    ('\u{1e6f0}', '\u{1e6f4}', "lo", "taiyo"),
    ('\u{1e6f5}', '\u{1e6f5}', "mn", "taiyo"),
    ('\u{1e6fe}', '\u{1e6fe}', "lo", "taiyo"),
    ('\u{1e6ff}', '\u{1e6ff}', "lm", "taiyo"),
    ('\u{1f6d8}', '\u{1f6d8}', "so", "common"),
    ('\u{1f777}', '\u{1f77a}', "so", "common"),
    ('\u{1f8d0}', '\u{1f8d8}', "sm", "common"),
    ('\u{1fa54}', '\u{1fa57}', "so", "common"),
    ('\u{1fa8a}', '\u{1fa8a}', "so", "common"),
    ('\u{1fa8e}', '\u{1fa8e}', "so", "common"),
    ('\u{1fac8}', '\u{1fac8}', "so", "common"),
    ('\u{1facd}', '\u{1facd}', "so", "common"),
    ('\u{1faea}', '\u{1faea}', "so", "common"),
    ('\u{1faef}', '\u{1faef}', "so", "common"),
    ('\u{1fbfa}', '\u{1fbfa}', "so", "common"),
    ('\u{2b73a}', '\u{2b73f}', "lo", "han"),
    ('\u{2cea2}', '\u{2cea4}', "lo", "han"),
    ('\u{2cead}', '\u{2cead}', "lo", "han"),
    ('\u{323b0}', '\u{33479}', "lo", "han"),
];

/// New pairs of cases: first and last of the upper ones, and how far behind the lower ones are.
const CASES: &[(char, char, u32)] = &[
    ('\u{a7ce}', '\u{a7ce}', 1),
    ('\u{a7d2}', '\u{a7d2}', 1),
    ('\u{a7d4}', '\u{a7d4}', 1),
    ('\u{16ea0}', '\u{16eb8}', 27),
];

/// A letter that is no longer a lower case one.
const RECLASSED: char = '\u{295}';

fn set(ranges: impl Iterator<Item = (char, char)>) -> ClassUnicode {
    ClassUnicode::new(ranges.map(|(low, high)| ClassUnicodeRange::new(low, high)))
}

/// Brings a general category up to date.
pub(super) fn amend_category(short: &str, class: &mut ClassUnicode) {
    if matches!(short, "c" | "cn") {
        class.difference(&set(ADDED.iter().map(|(low, high, ..)| (*low, *high))));
        return;
    }
    let within = |category: &str| match short {
        "lc" => matches!(category, "lu" | "ll" | "lt"),
        short => category.starts_with(short),
    };
    class.union(&set(ADDED.iter().filter(|row| within(row.2)).map(|(low, high, ..)| (*low, *high))));
    let reclassed = set([(RECLASSED, RECLASSED)].into_iter());
    match short {
        "lo" => class.union(&reclassed),
        "ll" | "lc" => class.difference(&reclassed),
        _ => {}
    }
}

/// Brings a script up to date.
pub(super) fn amend_script(name: &str, class: &mut ClassUnicode) {
    class.union(&set(ADDED.iter().filter(|row| row.3 == name).map(|(low, high, ..)| (*low, *high))));
}

/// Adds the other cases of new characters.
pub(super) fn fold(class: &mut ClassUnicode) {
    let shifted = |c: char, by: u32| char::from_u32(c as u32 + by).unwrap_or(c);
    for (low, high, by) in CASES {
        let upper = set([(*low, *high)].into_iter());
        let mut lower = set([(shifted(*low, *by), shifted(*high, *by))].into_iter());
        let mut found = upper.clone();
        found.intersect(class);
        lower.intersect(class);
        let more = found.iter().map(|r| (shifted(r.start(), *by), shifted(r.end(), *by)));
        let back = |c: char| char::from_u32(c as u32 - by).unwrap_or(c);
        let more: Vec<_> = more.chain(lower.iter().map(|r| (back(r.start()), back(r.end())))).collect();
        if !more.is_empty() {
            class.union(&set(more.into_iter()));
        }
    }
}
