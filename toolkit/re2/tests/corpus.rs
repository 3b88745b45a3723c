//! Verdicts of Go's own engine, recorded from a running Prometheus by `testdata/README.md`'s recipe.

use re2::{Error, Expression, Regex};

/// The fields of every line, with Rust's escapes undone.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    text.lines().map(|line| line.split('\t').map(unescape).collect())
}

fn unescape(field: &str) -> String {
    let mut out = String::new();
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let code: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                out.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
            }
            Some(c) => out.push(c),
            None => out.push('\\'),
        }
    }
    out
}

/// Prints what failed and fails when something did, or when there was nothing to do.
fn report(name: &str, count: usize, failures: &[String]) {
    for failure in failures.iter().take(40) {
        println!("{failure}");
    }
    println!("{name}: {} passed, {} failed", count - failures.len(), failures.len());
    assert!(failures.is_empty() && count > 0, "{name} failed");
}

fn verdict<T>(result: &Result<T, Error>) -> String {
    result.as_ref().err().map_or("ok".into(), Error::to_string)
}

#[test]
fn matchers_are_refused_with_go_s_text() {
    let (mut count, mut failures) = (0, Vec::new());
    for row in rows(include_str!("../testdata/errors.txt")) {
        let (matcher, anchored) = (Expression::matcher(&row[0]), Expression::anchored(&row[0]));
        count += 1;
        if verdict(&matcher) != row[1] || verdict(&anchored) != row[2] {
            failures.push(format!(
                "{:.200?}: want {:.200} and {:.200}, have {:.200} and {:.200}",
                row[0],
                row[1],
                row[2],
                verdict(&matcher),
                verdict(&anchored)
            ));
        }
    }
    report("errors.txt", count, &failures);
}

/// `none`, or `a` and the groups with U+0001 between them; a group that took no part reads as empty.
fn groups(regex: &Regex, text: &str, count: usize) -> String {
    let Some(captures) = regex.captures(text) else { return "none".into() };
    let groups: Vec<_> = (0..count).map(|i| captures.get(i).unwrap_or_default()).collect();
    format!("a{}", groups.join("\u{1}"))
}

#[test]
fn the_same_groups_match() {
    let (mut count, mut failures) = (0, Vec::new());
    for row in rows(include_str!("../testdata/matches.txt")) {
        let (pattern, text) = (&row[0], &row[1]);
        for (regex, want) in [(Regex::anchored(pattern), &row[2]), (Regex::new(pattern), &row[3])] {
            count += 1;
            let have = match regex {
                Ok(regex) => {
                    let have = groups(&regex, text, 8);
                    assert_eq!(regex.is_match(text), have != "none", "{pattern:?} on {text:?}");
                    have
                }
                Err(error) => error.to_string(),
            };
            if have != *want {
                failures.push(format!("{pattern:?} on {text:?}: want {want:?}, have {have:?}"));
            }
        }
    }
    report("matches.txt", count, &failures);
}
