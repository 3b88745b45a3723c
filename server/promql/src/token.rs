//! The lexer: text to spanned tokens. Linear in the text.

use crate::ParseError;

/// A token and the byte offset of its first character.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Word(String),
    Number(f64),
    Text(String),
    Mark(&'static str),
    End,
}

/// Longest first, so that `==` is not two `=`.
const MARKS: [&str; 25] = [
    "==", "!=", "<=", ">=", "=~", "!~", "(", ")", "{", "}", "[", "]", ",", ":", "@", "+", "-", "*", "/", "%", "^", "=",
    "<", ">", "#",
];

/// Splits a text into tokens; the last one is [`Kind::End`].
pub(crate) fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else { break };
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (kind, length) = if first.is_ascii_digit() || first == '.' {
            number(rest).ok_or_else(|| error(text, at, format!("bad number or duration syntax: {:.20?}", rest)))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            word(rest)
        } else if matches!(first, '"' | '\'' | '`') {
            quoted(rest, first).map_err(|why| error(text, at, why))?
        } else {
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark));
            match mark {
                Some(&"#") => {
                    at += rest.find('\n').unwrap_or(rest.len());
                    continue;
                }
                Some(mark) => (Kind::Mark(mark), mark.len()),
                None => return Err(error(text, at, format!("unexpected character: {first:?}"))),
            }
        };
        all.push(Token { kind, at });
        at += length;
    }
    all.push(Token { kind: Kind::End, at: text.len() });
    Ok(all)
}

/// An error at a byte offset.
pub(crate) fn error(text: &str, at: usize, message: impl Into<String>) -> ParseError {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().len() + 1;
    ParseError { line, column, message: message.into() }
}

fn word(rest: &str) -> (Kind, usize) {
    let name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    // A colon belongs to a metric name only when more of the name follows it.
    let mut length = rest.find(|c: char| !name(c)).unwrap_or(rest.len());
    while rest[..length].ends_with(':') {
        length -= 1;
    }
    let word = &rest[..length];
    let kind = match word.to_ascii_lowercase().as_str() {
        "inf" => Kind::Number(f64::INFINITY),
        "nan" => Kind::Number(f64::NAN),
        _ => Kind::Word(word.to_owned()),
    };
    (kind, length)
}

/// A number, or a duration as its seconds.
fn number(rest: &str) -> Option<(Kind, usize)> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let length = hex.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(hex.len());
        return Some((Kind::Number(u64::from_str_radix(&hex[..length], 16).ok()? as f64), length + 2));
    }
    let mut length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '_')).unwrap_or(rest.len());
    let exponent = rest[..length].ends_with(['e', 'E']) && rest[length..].starts_with(['+', '-']);
    if exponent {
        let tail = &rest[length + 1..];
        length += 1 + tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
    }
    let text = rest[..length].replace('_', "");
    if let Ok(number) = text.parse::<f64>() {
        return Some((Kind::Number(number), length));
    }
    let duration = model::Duration::parse(&text).ok()?;
    Some((Kind::Number(duration.as_millis() as f64 / 1000.0), length))
}

fn quoted(rest: &str, quote: char) -> Result<(Kind, usize), String> {
    let body = &rest[1..];
    if quote == '`' {
        let end = body.find('`').ok_or("unterminated raw string")?;
        return Ok((Kind::Text(body[..end].to_owned()), end + 2));
    }
    let (mut out, mut chars) = (String::new(), body.char_indices());
    while let Some((i, c)) = chars.next() {
        match c {
            c if c == quote => return Ok((Kind::Text(out), i + 2)),
            '\n' => break,
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, c @ ('\\' | '"' | '\''))) => out.push(c),
                other => return Err(format!("unknown escape sequence {:?}", other.map(|(_, c)| c))),
            },
            c => out.push(c),
        }
    }
    Err("unterminated quoted string".into())
}
