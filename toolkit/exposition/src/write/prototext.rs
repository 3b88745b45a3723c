//! Families in the protobuf text notation, for people.
//!
//! Source of truth: what a running pushgateway answers. Its library varies the blanks on purpose, so that nobody
//! relies on them; here they are always one.

use super::message::{Sink, family};
use crate::{Escaping, Family, write_float};

/// Appends a family: on one line, or on many with an empty one behind them.
pub(super) fn write(one: &Family, escaping: Escaping, compact: bool, out: &mut Vec<u8>) {
    let mut notation = Notation { out, compact, depth: 0, first: true };
    family(&mut notation, one, escaping);
    out.push(b'\n');
}

struct Notation<'a> {
    out: &'a mut Vec<u8>,
    compact: bool,
    depth: usize,
    /// Nothing stands in front on the same level.
    first: bool,
}

impl Notation<'_> {
    fn field(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        if self.compact {
            if !std::mem::replace(&mut self.first, false) {
                self.out.push(b' ');
            }
        } else {
            self.indent();
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b':');
        if !self.compact {
            self.out.push(b' ');
        }
        value(self.out);
        if !self.compact {
            self.out.push(b'\n');
        }
    }

    fn indent(&mut self) {
        self.out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

impl Sink for Notation<'_> {
    const DECLARED: bool = true;

    fn text(&mut self, _number: u32, name: &str, value: &str) {
        self.field(name, |out| quoted(value, out));
    }

    fn unsigned(&mut self, _number: u32, name: &str, value: u64) {
        self.field(name, |out| out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()));
    }

    fn signed(&mut self, _number: u32, name: &str, value: i64) {
        self.field(name, |out| out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes()));
    }

    fn zigzag(&mut self, number: u32, name: &str, value: i64) {
        self.signed(number, name, value);
    }

    fn double(&mut self, _number: u32, name: &str, value: f64) {
        self.field(name, |out| match value {
            value if value.is_nan() => out.extend_from_slice(b"nan"),
            f64::INFINITY => out.extend_from_slice(b"inf"),
            f64::NEG_INFINITY => out.extend_from_slice(b"-inf"),
            value if value == 0.0 && value.is_sign_negative() => out.extend_from_slice(b"-0"),
            value => write_float(value, out),
        });
    }

    fn word(&mut self, _number: u32, name: &str, value: (u64, &str)) {
        self.field(name, |out| out.extend_from_slice(value.1.as_bytes()));
    }

    fn message(&mut self, _number: u32, name: &str, fields: impl FnOnce(&mut Self)) {
        if self.compact {
            self.field(name, |out| out.push(b'{'));
            self.first = true;
            fields(self);
            self.first = false;
        } else {
            self.indent();
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b": {\n");
            self.depth += 1;
            fields(self);
            self.depth -= 1;
            self.indent();
        }
        self.out.extend_from_slice(if self.compact { b"}" } else { b"}\n" });
    }
}

fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend_from_slice(&[b'\\', c as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                out.extend_from_slice(format!("\\x{:02x}", c as u32).as_bytes())
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}
