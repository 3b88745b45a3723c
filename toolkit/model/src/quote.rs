//! Quoting as Go's `%q` and `strconv.Quote` do it: what label sets, matchers and error texts show.

use std::fmt::Write;

/// `text` in double quotes with Go's escapes.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    quote_into(text, &mut out);
    out
}

/// Appends `text` in double quotes with Go's escapes.
pub fn quote_into(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        let written = match c {
            '"' => out.write_str("\\\""),
            '\\' => out.write_str("\\\\"),
            '\x07' => out.write_str("\\a"),
            '\x08' => out.write_str("\\b"),
            '\x0c' => out.write_str("\\f"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\x0b' => out.write_str("\\v"),
            c if is_print(c) => out.write_char(c),
            c if c.is_ascii() => write!(out, "\\x{:02x}", c as u32),
            c if (c as u32) < 0x1_0000 => write!(out, "\\u{:04x}", c as u32),
            c => write!(out, "\\U{:08x}", c as u32),
        };
        // A String takes everything.
        debug_assert!(written.is_ok());
    }
    out.push('"');
}

/// Go's `IsPrint`: letters, marks, numbers, punctuation, symbols, and of the spaces the ASCII one.
fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // The standard library escapes the same categories, and leading marks besides, so the character comes second.
    let mut buffer = [b'a'; 5];
    c.encode_utf8(&mut buffer[1..]);
    std::str::from_utf8(&buffer[..1 + c.len_utf8()]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (text, quoted) in [
            ("", r#""""#),
            ("a b'c", r#""a b'c""#),
            ("\"\\", r#""\"\\""#),
            ("\x07\x08\x0c\n\r\t\x0b", r#""\a\b\f\n\r\t\v""#),
            ("\0\x1f\x7f", r#""\x00\x1f\x7f""#),
            ("é日\u{301}\u{1f600}", "\"é日\u{301}\u{1f600}\""),
            ("\u{80}\u{a0}\u{ad}\u{200b}\u{2028}\u{e000}\u{feff}", r#""\u0080\u00a0\u00ad\u200b\u2028\ue000\ufeff""#),
            ("\u{e0001}\u{10ffff}", r#""\U000e0001\U0010ffff""#),
        ] {
            assert_eq!(quote(text), quoted);
        }
    }
}
