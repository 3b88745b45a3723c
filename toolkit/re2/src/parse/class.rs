//! Sets of characters: brackets, POSIX names, and the ASCII sets of Perl.

use super::{Error, ErrorCode, Parser};
use crate::unicode;
use regex_syntax::hir::{ClassUnicode, ClassUnicodeRange};

type Ranges = &'static [(char, char)];

const DIGIT: Ranges = &[('0', '9')];
const WORD: Ranges = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];

/// The set of `\d`, `\s` or `\w`, given in lower case. Unlike POSIX's, Perl's space has no vertical tab.
pub(super) fn perl(name: u8) -> Option<Ranges> {
    match name {
        b'd' => Some(DIGIT),
        b's' => Some(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        b'w' => Some(WORD),
        _ => None,
    }
}

/// The set of `[:name:]`.
fn posix(name: &str) -> Option<Ranges> {
    Some(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => DIGIT,
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => WORD,
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    })
}

/// A set of ranges; other cases are added before it is turned around.
pub(super) fn of(ranges: Ranges, negated: bool, fold: bool) -> ClassUnicode {
    let mut class = ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)));
    if fold {
        unicode::fold(&mut class);
    }
    if negated {
        class.negate();
    }
    class
}

impl Parser<'_> {
    /// `[...]`. A `]` or `-` at the start is itself, a `-` at the end too; brackets and `&&` inside are text.
    pub(super) fn bracket(&mut self) -> Result<(), Error> {
        let start = self.at;
        self.at += 1;
        let negated = self.accept('^');
        let mut set = ClassUnicode::empty();
        let mut ranges = Vec::new();
        let mut first = true;
        while first || self.peek() != Some(']') {
            first = false;
            if let Some(class) = self.posix_class()? {
                set.union(&class);
            } else if let Some(class) = self.class_escape()? {
                set.union(&class);
            } else {
                ranges.extend(self.range(start)?);
            }
        }
        self.at += 1;
        let mut given = ClassUnicode::new(ranges);
        if self.flags.fold {
            unicode::fold(&mut given);
        }
        set.union(&given);
        if negated {
            set.negate();
        }
        self.class(set)
    }

    /// `[:name:]` or `[:^name:]`; without the closing `:]` the bracket is text.
    fn posix_class(&mut self) -> Result<Option<ClassUnicode>, Error> {
        let Some(inner) = self.rest().strip_prefix("[:").filter(|_| !self.no_posix_end) else { return Ok(None) };
        let Some(length) = inner.find(":]") else {
            self.no_posix_end = true;
            return Ok(None);
        };
        let start = self.at;
        let name = &inner[..length];
        self.at += length + 4;
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        match posix(name) {
            Some(ranges) => Ok(Some(of(ranges, negated, self.flags.fold))),
            None => Err(self.error_from(ErrorCode::InvalidCharRange, start)),
        }
    }

    /// `a` or `a-b`; nothing is left of a range of surrogates.
    fn range(&mut self, bracket: usize) -> Result<Option<ClassUnicodeRange>, Error> {
        let start = self.at;
        let low = self.class_char(bracket)?;
        let mut high = low;
        if let [b'-', next, ..] = self.rest().as_bytes()
            && *next != b']'
        {
            self.at += 1;
            high = self.class_char(bracket)?;
            if high < low {
                return Err(self.error_from(ErrorCode::InvalidCharRange, start));
            }
        }
        let low = char::from_u32(low).unwrap_or('\u{e000}');
        let high = char::from_u32(high).unwrap_or('\u{d7ff}');
        Ok((low <= high).then(|| ClassUnicodeRange::new(low, high)))
    }

    fn class_char(&mut self, bracket: usize) -> Result<u32, Error> {
        match self.peek() {
            None => Err(Error::new(ErrorCode::MissingBracket, &self.text[bracket..])),
            Some('\\') => self.escape(),
            Some(c) => {
                self.at += c.len_utf8();
                Ok(c as u32)
            }
        }
    }
}
