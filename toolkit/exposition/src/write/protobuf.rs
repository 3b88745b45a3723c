//! Families as delimited binary messages.

use super::message::{Sink, family};
use crate::{Escaping, Family};

/// Appends a family with its length in front.
pub(super) fn write(one: &Family, escaping: Escaping, out: &mut Vec<u8>) {
    let start = out.len();
    let mut wire = Wire(out);
    family(&mut wire, one, escaping);
    wire.prefix_length(start);
}

struct Wire<'a>(&'a mut Vec<u8>);

impl Wire<'_> {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn tag(&mut self, number: u32, wire_type: u64) {
        self.varint(u64::from(number) << 3 | wire_type);
    }

    /// Puts the length of what was written since `start` in front of it. What is moved is small: messages are three
    /// levels deep.
    fn prefix_length(&mut self, start: usize) {
        let end = self.0.len();
        self.varint((end - start) as u64);
        let length = self.0.len() - end;
        self.0[start..].rotate_right(length);
    }
}

impl Sink for Wire<'_> {
    const DECLARED: bool = false;

    fn text(&mut self, number: u32, _name: &str, value: &str) {
        self.tag(number, 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value.as_bytes());
    }

    fn unsigned(&mut self, number: u32, _name: &str, value: u64) {
        self.tag(number, 0);
        self.varint(value);
    }

    fn signed(&mut self, number: u32, name: &str, value: i64) {
        self.unsigned(number, name, value as u64);
    }

    fn zigzag(&mut self, number: u32, name: &str, value: i64) {
        self.unsigned(number, name, ((value << 1) ^ (value >> 63)) as u64);
    }

    fn double(&mut self, number: u32, _name: &str, value: f64) {
        self.tag(number, 1);
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    fn word(&mut self, number: u32, name: &str, value: (u64, &str)) {
        self.unsigned(number, name, value.0);
    }

    fn message(&mut self, number: u32, _name: &str, fields: impl FnOnce(&mut Self)) {
        self.tag(number, 2);
        let start = self.0.len();
        fields(self);
        self.prefix_length(start);
    }
}
