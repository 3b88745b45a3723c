//! The lexer: text to spanned tokens. Linear in the text.

use crate::{ParseError, expr::Text};

/// A token with the bytes it covers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Word(String),
    Number(f64),
    Text(Text),
    Mark(&'static str),
    /// What is no token, with what is wrong about it; nothing follows but the end.
    Bad(String),
    End,
}

/// Longest first, so that `==` is not two `=`.
const MARKS: [&str; 26] = [
    "==", "!=", "<=", ">=", "</", ">/", "=~", "!~", "(", ")", "{", "}", "[", "]", ",", ":", "@", "+", "-", "*", "/",
    "%", "^", "=", "<", ">",
];

/// Units of durations, largest first, in seconds.
const UNITS: [(&str, f64); 7] = [
    ("y", 365.0 * 86_400.0),
    ("w", 7.0 * 86_400.0),
    ("d", 86_400.0),
    ("h", 3_600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 0.001),
];

/// What is open where the lexer stands.
#[derive(Clone, Copy, Default)]
struct Open {
    parens: usize,
    bracket: bool,
    brace: bool,
}

/// Splits a text into tokens; the last one is [`Kind::End`]. A mistake is a token as well, so that one of the grammar
/// before it is reported first.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let (mut all, mut start, mut open) = (Vec::new(), 0, Open::default());
    loop {
        let rest = &text[start..];
        let Some(first) = rest.chars().next() else {
            let begun = all.last().is_some_and(|last: &Token| last.kind == Kind::Mark("["));
            all.extend(open.unclosed(begun).map(|why| Token { kind: Kind::Bad(why.to_owned()), start, end: start }));
            all.push(Token { kind: Kind::End, start, end: start });
            return all;
        };
        if first.is_ascii_whitespace() {
            start += 1;
            continue;
        }
        if first == '#' {
            start += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let token = open.check(first).and_then(|()| open.token(rest, first));
        let (kind, length) = token.unwrap_or_else(|(why, skip)| {
            start += skip;
            (Kind::Bad(why), text.len() - start)
        });
        let bad = matches!(kind, Kind::Bad(_));
        all.push(Token { kind, start, end: start + length });
        start += length;
        if bad {
            all.push(Token { kind: Kind::End, start, end: start });
            return all;
        }
    }
}

/// A mistake, and how many bytes after the token's beginning it is placed.
type Mistake = (String, usize);

impl Open {
    /// What the end of the text leaves open; `begun` right after a bracket.
    fn unclosed(self, begun: bool) -> Option<&'static str> {
        match self {
            Self { brace: true, .. } => Some("unexpected end of input inside braces"),
            Self { bracket: true, .. } if begun => Some("unexpected end of input in duration expression"),
            Self { bracket: true, .. } => Some("unclosed left bracket"),
            Self { parens: 1.., .. } => Some("unclosed left parenthesis"),
            _ => None,
        }
    }

    /// Follows parentheses, brackets and braces.
    fn check(&mut self, first: char) -> Result<(), Mistake> {
        let mistake = |what: &str, skip| Err((format!("unexpected {what} {}", character(first)), skip));
        match first {
            '(' if !self.brace => self.parens += 1,
            ')' if !self.brace => match self.parens.checked_sub(1) {
                Some(parens) => self.parens = parens,
                None => return mistake("right parenthesis", 1),
            },
            '{' if self.brace => return mistake("left brace", 0),
            '{' => self.brace = true,
            '}' if !self.brace => return Err((format!("unexpected character: {}", character(first)), 0)),
            '}' => self.brace = false,
            '[' if self.bracket && !self.brace => return mistake("left bracket", 0),
            '[' if !self.brace => self.bracket = true,
            ']' if !self.bracket && !self.brace => return mistake("right bracket", 0),
            ']' if !self.brace => self.bracket = false,
            _ => {}
        }
        Ok(())
    }

    fn token(self, rest: &str, first: char) -> Result<(Kind, usize), Mistake> {
        let plain = |why| (why, 0);
        let colon = !self.bracket && !self.brace;
        let second = rest[first.len_utf8()..].chars().next();
        let unknown = || {
            let place = match self {
                Self { brace: true, .. } => " inside braces",
                Self { bracket: true, .. } => " in duration expression",
                _ => "",
            };
            plain(format!("unexpected character{place}: {}", character(first)))
        };
        match first {
            '0'..='9' if !self.brace => number(rest).map_err(plain),
            '.' if !self.brace && second.is_some_and(|c| c.is_ascii_digit()) => number(rest).map_err(plain),
            '"' | '\'' | '`' if !self.bracket => string(rest).map_err(plain),
            'a'..='z' | 'A'..='Z' | '_' => Ok(word(rest, colon)),
            ':' if colon => Ok(word(rest, true)),
            '!' if !matches!(second, Some('=' | '~')) || !self.brace && second == Some('~') => {
                let place = if self.brace { " inside braces" } else { "" };
                let after = second.map_or("end of input".to_owned(), character);
                Err(plain(format!("unexpected character after '!'{place}: {after}")))
            }
            '=' if !self.brace && second == Some('~') => Err(plain("unexpected character after '=': '~'".to_owned())),
            _ if self.brace && !"{},=!".contains(first) => Err(unknown()),
            _ => mark(rest).ok_or_else(unknown),
        }
    }
}

/// A character between single quotes.
fn character(c: char) -> String {
    format!("{c:?}")
}

fn mark(rest: &str) -> Option<(Kind, usize)> {
    MARKS.iter().find(|mark| rest.starts_with(**mark)).map(|mark| (Kind::Mark(mark), mark.len()))
}

/// A name; a colon belongs to it outside of brackets and braces.
fn word(rest: &str, colon: bool) -> (Kind, usize) {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || colon && c == ':';
    let length = rest.find(|c| !part(c)).unwrap_or(rest.len());
    let word = &rest[..length];
    let kind = match word.to_ascii_lowercase().as_str() {
        "inf" => Kind::Number(f64::INFINITY),
        "nan" => Kind::Number(f64::NAN),
        _ => Kind::Word(word.to_owned()),
    };
    (kind, length)
}

/// A number, or a duration in seconds.
fn number(rest: &str) -> Result<(Kind, usize), String> {
    let joins = |length: usize| rest[length..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if let Some((seconds, length)) = duration(rest)
        && !joins(length)
    {
        return Ok((Kind::Number(seconds), length));
    }
    let length = digits(rest);
    let scanned = &rest[..length];
    if joins(length) {
        return Err(format!("bad number or duration syntax: {scanned:?}"));
    }
    let text = scanned.replace('_', "");
    let wrong = || format!("error parsing number: strconv.ParseFloat: parsing {scanned:?}: invalid syntax");
    value(&text).map(|value| (Kind::Number(value), length)).ok_or_else(wrong)
}

/// Hexadecimal, octal with a leading zero as in C, or decimal.
pub(crate) fn value(text: &str) -> Option<f64> {
    let lower = text.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok().map(|value| value as f64);
    }
    let octal = lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| byte.is_ascii_digit());
    if octal && let Ok(value) = i64::from_str_radix(&lower, 8) {
        return Some(value as f64);
    }
    text.parse().ok()
}

/// How far a number reaches: digits with underscores between them, a point, an exponent.
fn digits(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let run = |mut at: usize, digit: fn(&u8) -> bool| {
        while bytes.get(at).is_some_and(|byte| digit(byte) || *byte == b'_' && bytes.get(at + 1).is_some_and(digit)) {
            at += 1;
        }
        at
    };
    if rest.starts_with("0x") || rest.starts_with("0X") {
        return run(2, u8::is_ascii_hexdigit);
    }
    let mut at = run(0, u8::is_ascii_digit);
    if bytes.get(at) == Some(&b'.') {
        at = run(at + 1, u8::is_ascii_digit);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        if bytes.get(at + 1 + sign).is_some_and(u8::is_ascii_digit) {
            return run(at + 1 + sign, u8::is_ascii_digit);
        }
    }
    at
}

/// `1h30m`: units in descending order, each once.
fn duration(rest: &str) -> Option<(f64, usize)> {
    let (mut at, mut unit, mut total) = (0, 0, 0.0);
    loop {
        let tail = &rest[at..];
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let letters = tail[digits..].find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len() - digits);
        if digits == 0 {
            return (at > 0).then_some((total, at));
        }
        let name = &tail[digits..digits + letters];
        let place = UNITS.iter().position(|(have, _)| *have == name).filter(|place| *place >= unit)?;
        total += tail[..digits].parse::<u64>().ok()? as f64 * UNITS[place].1;
        unit = place + 1;
        at += digits + letters;
    }
}

/// A quoted string with Go's escapes, or a raw one between backquotes.
pub(crate) fn string(rest: &str) -> Result<(Kind, usize), String> {
    let quote = rest.as_bytes()[0];
    let inside = &rest.as_bytes()[1..];
    let text = |bytes: Vec<u8>, length| match String::from_utf8(bytes) {
        Ok(value) => (Kind::Text(Text { value, invalid: None }), length),
        Err(failed) => {
            let value = String::from_utf8_lossy(failed.as_bytes()).into_owned();
            (Kind::Text(Text { value, invalid: Some(escaped(failed.as_bytes())) }), length)
        }
    };
    let (mut bytes, mut at) = (Vec::new(), 0);
    loop {
        match inside.get(at) {
            None => {
                return Err(if quote == b'`' { "unterminated raw string" } else { "unterminated quoted string" }.into());
            }
            Some(byte) if *byte == quote => return Ok(text(bytes, at + 2)),
            Some(b'\n') if quote != b'`' => return Err("unterminated quoted string".into()),
            Some(b'\\') if quote != b'`' => at += escape(&inside[at + 1..], quote, &mut bytes)? + 1,
            Some(byte) => {
                bytes.push(*byte);
                at += 1;
            }
        }
    }
}

/// Reads what follows a backslash; answers its length.
fn escape(rest: &[u8], quote: u8, out: &mut Vec<u8>) -> Result<usize, String> {
    let Some(letter) = rest.first() else { return Err("escape sequence not terminated".into()) };
    let simple = match letter {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' => b'\\',
        byte if *byte == quote => quote,
        _ => 0,
    };
    if simple != 0 {
        out.push(simple);
        return Ok(1);
    }
    let (skip, digits, radix) = match letter {
        b'x' => (1, 2, 16),
        b'u' => (1, 4, 16),
        b'U' => (1, 8, 16),
        b'0'..=b'7' => (0, 3, 8),
        letter => return Err(format!("unknown escape sequence {:?}", char::from(*letter))),
    };
    let code = rest
        .get(skip..skip + digits)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u32::from_str_radix(digits, radix).ok())
        .ok_or("illegal character in escape sequence")?;
    if digits > 3 {
        let c = char::from_u32(code).ok_or("escape sequence is an invalid Unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    } else {
        out.push(u8::try_from(code).map_err(|_| "escape sequence is an invalid Unicode code point")?);
    }
    Ok(skip + digits)
}

/// Bytes between quotes, those that are no UTF-8 as `\xhh`.
fn escaped(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let inner = model::quote(chunk.valid());
        out.push_str(&inner[1..inner.len() - 1]);
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
    }
    out.push('"');
    out
}

/// Line and column of a byte, both from 1.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// An error at a byte of the text.
pub(crate) fn error(text: &str, at: usize, message: impl Into<String>) -> ParseError {
    let (line, column) = place(text, at);
    ParseError { line, column, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        tokens(text).into_iter().map(|token| token.kind).collect()
    }

    fn is_bad(text: &str) -> bool {
        kinds(text).iter().any(|kind| matches!(kind, Kind::Bad(_)))
    }

    #[test]
    fn numbers_and_durations() {
        for (text, want) in [
            ("1", 1.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-3", 0.001),
            ("0x1F", 31.0),
            ("017", 15.0),
            ("08", 8.0),
            ("1_000", 1000.0),
            ("1h30m", 5400.0),
            ("5ms", 0.005),
            ("Inf", f64::INFINITY),
        ] {
            assert_eq!(kinds(text), [Kind::Number(want), Kind::End], "{text}");
        }
        for text in ["1.5h", "0x5m", "1m1h", "5x", "1__0", "12w5"] {
            assert!(is_bad(text), "{text}");
        }
    }

    #[test]
    fn strings_and_their_escapes() {
        for (text, want) in [(r#""a\"\n\x41\u00e9\101""#, "a\"\nAéA"), ("'it\"s'", "it\"s"), ("`raw\\\n`", "raw\\\n")]
        {
            let Kind::Text(got) = kinds(text).remove(0) else { panic!("{text} is a string") };
            assert_eq!(got, Text { value: want.to_owned(), invalid: None });
        }
        let Kind::Text(got) = kinds(r#""a\xc5z""#).remove(0) else { panic!("a string") };
        assert_eq!(got.invalid.as_deref(), Some(r#""a\xc5z""#));
        for text in ["\"a", "'a\n'", r#""\q""#, r#""\x4""#, "`a"] {
            assert!(is_bad(text), "{text}");
        }
    }

    #[test]
    fn colons_belong_to_names_outside_of_brackets() {
        assert_eq!(kinds("a:b"), [Kind::Word("a:b".into()), Kind::End]);
        assert_eq!(kinds(":b"), [Kind::Word(":b".into()), Kind::End]);
        assert_eq!(kinds("[a:b]")[2], Kind::Mark(":"));
    }
}
