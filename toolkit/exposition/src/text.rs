//! Small text tools that several readers and writers share: escapes, and quoting as upstream's error texts do it.

use std::borrow::Cow;

/// Resolves `\\`, `\n` and, with `quotes`, `\"`; any other backslash stays. Borrows when there is none.
pub(crate) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let resolved = match (c, chars.clone().next()) {
            ('\\', Some('\\')) => '\\',
            ('\\', Some('n')) => '\n',
            ('\\', Some('"')) if quotes => '"',
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push(resolved);
        chars.next();
    }
    Cow::Owned(out)
}

/// Appends `text` with `\`, line feeds and, with `quotes`, `"` escaped.
pub(crate) fn escape(text: &str, quotes: bool, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    let find = |rest: &[u8]| {
        if quotes { memchr::memchr3(b'\\', b'\n', b'"', rest) } else { memchr::memchr2(b'\\', b'\n', rest) }
    };
    while let Some(place) = find(rest) {
        out.extend_from_slice(&rest[..place]);
        out.extend_from_slice(match rest[place] {
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            _ => b"\\\"",
        });
        rest = &rest[place + 1..];
    }
    out.extend_from_slice(rest);
}

/// Bytes in double quotes as Go's `%q` shows them; what is not UTF-8 is `\xNN`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, '"', &mut out);
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

/// One byte in single quotes as Go's `%q` shows it, the byte taken as a code point.
pub(crate) fn quote_byte(byte: u8) -> String {
    let mut out = String::from("'");
    quote_char(char::from(byte), '\'', &mut out);
    out.push('\'');
    out
}

fn quote_char(c: char, mark: char, out: &mut String) {
    match c {
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        c if c == mark => {
            out.push('\\');
            out.push(c);
        }
        c if u32::from(c) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c if c.is_control() || c == '\u{ad}' || c.is_whitespace() && c != ' ' => {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_both_ways() {
        for (text, escaped) in [("a\\b\n\"", "a\\\\b\\n\\\""), ("plain", "plain"), ("", "")] {
            let mut out = Vec::new();
            escape(text, true, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), escaped);
            assert_eq!(unescape(escaped, true), text);
        }
        assert_eq!(unescape("a\\z\\\"\\", false), "a\\z\\\"\\");
    }

    #[test]
    fn quoting_is_gos() {
        assert_eq!(quote(b"a\"\xff\n\x01\x7f\xc3\xa9\xc2\xa0"), "\"a\\\"\\xff\\n\\x01\\x7fé\\u00a0\"");
        assert_eq!((quote_byte(b'}').as_str(), quote_byte(b'\n').as_str()), ("'}'", "'\\n'"));
    }
}
