//! Escapes that stand for one character, and those that stand for a set: `\d`, `\pN`, `\p{Greek}`.

use super::{Error, ErrorCode, Parser, class};
use crate::unicode;
use regex_syntax::hir::ClassUnicode;

impl Parser<'_> {
    /// The set behind `\d`, `\pN` and their kin, if one stands here.
    pub(super) fn class_escape(&mut self) -> Result<Option<ClassUnicode>, Error> {
        let name = match self.rest().as_bytes() {
            [b'\\', b'p' | b'P', ..] => return self.unicode_class().map(Some),
            [b'\\', name, ..] => *name,
            _ => return Ok(None),
        };
        let Some(ranges) = class::perl(name.to_ascii_lowercase()) else { return Ok(None) };
        self.at += 2;
        Ok(Some(class::of(ranges, name.is_ascii_uppercase(), self.flags.fold)))
    }

    /// `\pN`, `\PN`, `\p{Name}`, `\p{^Name}`; anything after `\p` is a name or an error.
    fn unicode_class(&mut self) -> Result<ClassUnicode, Error> {
        let start = self.at;
        let mut negated = self.rest().as_bytes()[1] == b'P';
        self.at += 2;
        let name_start = self.at;
        let mut name = match self.take() {
            Some('{') => {
                let Some(length) = self.rest().find('}') else {
                    return Err(Error::new(ErrorCode::InvalidCharRange, &self.text[start..]));
                };
                let name = &self.rest()[..length];
                self.at += length + 1;
                name
            }
            _ => &self.text[name_start..self.at],
        };
        if let Some(rest) = name.strip_prefix('^') {
            negated = !negated;
            name = rest;
        }
        let class = unicode::class(name, self.flags.fold);
        let mut class = class.ok_or_else(|| self.error_from(ErrorCode::InvalidCharRange, start))?;
        if negated {
            class.negate();
        }
        Ok(class)
    }

    /// The code point of the escape that starts here. It may be a surrogate.
    pub(super) fn escape(&mut self) -> Result<u32, Error> {
        let start = self.at;
        self.at += 1;
        let Some(c) = self.take() else {
            return Err(Error::new(ErrorCode::TrailingBackslash, ""));
        };
        let code = match c {
            '0' => Some(self.octal(0)),
            // A single digit would be a back reference.
            '1'..='7' if matches!(self.peek(), Some('0'..='7')) => Some(self.octal(c as u32 - '0' as u32)),
            'x' => self.hexadecimal(),
            'a' => Some(0x07),
            'f' => Some(0x0c),
            'n' => Some(0x0a),
            'r' => Some(0x0d),
            't' => Some(0x09),
            'v' => Some(0x0b),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c as u32),
            _ => None,
        };
        code.ok_or_else(|| self.error_from(ErrorCode::InvalidEscape, start))
    }

    /// Up to two more octal digits.
    fn octal(&mut self, first: u32) -> u32 {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.at += 1;
        }
        code
    }

    /// Two digits, or any number of them in braces. What was looked at before a failure belongs to the error text.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.take()?;
        if first != '{' {
            let second = self.take();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut code, mut digits) = (0, 0);
        loop {
            match self.take()? {
                '}' => return (digits > 0).then_some(code),
                c => code = code * 16 + c.to_digit(16)?,
            }
            if code > char::MAX as u32 {
                return None;
            }
            digits += 1;
        }
    }
}
