//! The place in a text body, its tokens, and the error texts that name them.
//!
//! Upstream's texts show the token that was found, one byte more, and everything since the start of the entry; the
//! names in capitals are its lexer's. They are matched since users search for them.

use super::ParseError;
use crate::text::quote;

/// A piece of the body by offsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Piece {
    pub(super) fn of(self, body: &[u8]) -> &[u8] {
        body.get(self.start..self.end).unwrap_or_default()
    }

    pub(super) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The piece without its first and last byte.
    pub(super) fn inner(self) -> Self {
        Self { start: self.start + 1, end: self.end.saturating_sub(1).max(self.start + 1) }
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Invalid,
    End,
    LineBreak,
    BraceOpen,
    BraceClose,
    LabelName,
    Quoted,
    Comma,
    Equal,
    Value,
    Timestamp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Invalid => "INVALID",
            Self::End => "EOF",
            Self::LineBreak => "LINEBREAK",
            Self::BraceOpen => "BOPEN",
            Self::BraceClose => "BCLOSE",
            Self::LabelName => "LNAME",
            Self::Quoted => "QSTRING",
            Self::Comma => "COMMA",
            Self::Equal => "EQUAL",
            Self::Value => "VALUE",
            Self::Timestamp => "TIMESTAMP",
        }
    }
}

/// A token and where it is; an invalid one ends before the byte that made it so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) piece: Piece,
}

/// Where reading is.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) body: &'a [u8],
    pub(super) at: usize,
    /// Where the entry began.
    pub(super) entry: usize,
    /// Where the last token began.
    pub(super) token: usize,
    /// OpenMetrics: no blanks but single spaces, nothing behind the body.
    pub(super) strict: bool,
}

const LABEL_NAME: u8 = 1;
const METRIC_NAME: u8 = 2;
const NAME_START: u8 = 4;
const NO_VALUE: u8 = 8;

/// What each byte may be part of: one look instead of several comparisons, in loops that see every byte.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_alphanumeric() || b == b'_' {
            classes[byte] |= LABEL_NAME | METRIC_NAME;
        }
        if b == b':' {
            classes[byte] |= METRIC_NAME | NAME_START;
        }
        if b.is_ascii_alphabetic() || b == b'_' {
            classes[byte] |= NAME_START;
        }
        if matches!(b, b'{' | b' ' | b'\t' | b'\n' | 0) {
            classes[byte] |= NO_VALUE;
        }
        byte += 1;
    }
    classes
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether a byte may be in a value of the lax format.
pub(super) fn in_value(byte: u8) -> bool {
    !is(byte, NO_VALUE)
}

impl<'a> Cursor<'a> {
    pub(super) fn new(body: &'a [u8], strict: bool) -> Self {
        Self { body, at: 0, entry: 0, token: 0, strict }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    pub(super) fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.at += 1;
        }
    }

    /// Takes a bare metric name, if there is one.
    pub(super) fn metric_name(&mut self) -> Option<Piece> {
        let start = self.at;
        self.peek().filter(|byte| is(*byte, NAME_START))?;
        self.at += run(self.rest(), |byte| is(byte, METRIC_NAME));
        self.token = start;
        Some(Piece { start, end: self.at })
    }

    /// Takes bytes while `wanted`.
    pub(super) fn take(&mut self, wanted: impl Fn(u8) -> bool) -> Piece {
        let start = self.at;
        self.at += run(self.rest(), wanted);
        Piece { start, end: self.at }
    }

    /// Reads a token inside braces; with `value` a quote begins a label value, which may hold NUL. Invalid tokens are
    /// not taken.
    pub(super) fn label_token(&mut self, value: bool) -> Token {
        if !self.strict {
            self.skip_blanks();
        }
        let start = self.at;
        let Some(first) = self.peek() else {
            let kind = if self.strict { Kind::End } else { Kind::Invalid };
            return Token { kind, piece: Piece { start: if self.strict { self.token } else { start }, end: start } };
        };
        self.token = start;
        let one = |kind| Token { kind, piece: Piece { start, end: start + 1 } };
        let token = match first {
            b'"' => self.quoted(value),
            _ if value => Token { kind: Kind::Invalid, piece: Piece { start, end: start } },
            b'}' => one(Kind::BraceClose),
            b'=' => one(Kind::Equal),
            b',' => one(Kind::Comma),
            byte if is(byte, NAME_START) && byte != b':' => {
                let length = run(self.rest(), |byte| is(byte, LABEL_NAME));
                Token { kind: Kind::LabelName, piece: Piece { start, end: start + length } }
            }
            _ => Token { kind: Kind::Invalid, piece: Piece { start, end: start } },
        };
        if token.kind != Kind::Invalid {
            self.at = token.piece.end;
        }
        token
    }

    /// A quoted text that begins here; line feeds in it are taken where upstream takes them.
    pub(super) fn quoted(&self, value: bool) -> Token {
        let start = self.at;
        let invalid = |end| Token { kind: Kind::Invalid, piece: Piece { start, end } };
        let mut at = start + 1;
        loop {
            let rest = self.body.get(at..).unwrap_or_default();
            let found = memchr::memchr2(b'"', b'\\', rest);
            if let Some(early) = self.breaks(&rest[..found.unwrap_or(rest.len())], value) {
                return invalid(at + early);
            }
            let Some(found) = found else { return invalid(self.body.len()) };
            at += found;
            if self.body[at] == b'"' {
                return Token { kind: Kind::Quoted, piece: Piece { start, end: at + 1 } };
            }
            match self.body.get(at + 1) {
                None => return invalid(self.body.len()),
                Some(b'\n') => return invalid(at + 1),
                Some(_) => at += 2,
            }
        }
    }

    /// Where a byte that ends a quoted text early is.
    fn breaks(&self, bytes: &[u8], value: bool) -> Option<usize> {
        let line_feed = if self.strict && value { memchr::memchr(b'\n', bytes) } else { None };
        let nul = if value { None } else { memchr::memchr(0, bytes) };
        match (line_feed, nul) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(super) fn error(&self, why: String) -> ParseError {
        ParseError { at: self.at, why }
    }

    /// `wanted` was not found, `token` was.
    pub(super) fn unexpected(&self, wanted: &str, token: Token) -> ParseError {
        let end = token.piece.end + 1;
        let (got, all) = (self.shown(token.piece.start, end), self.shown(self.entry, end));
        self.error(format!("{wanted}, got {} ({:?}) while parsing: {}", quote(&got), token.kind.name(), quote(&all)))
    }

    /// `why`, and the entry as far as it was read.
    pub(super) fn parsing(&self, why: &str) -> ParseError {
        self.error(format!("{why} while parsing: {}", quote(&self.shown(self.entry, self.at))))
    }

    /// A piece for an error text, cut so that a hostile line does not fill a page. The lax format is read as if it
    /// ended with a line feed.
    fn shown(&self, start: usize, end: usize) -> Vec<u8> {
        let piece = Piece { start, end: end.min(self.body.len()).min(start.saturating_add(SHOWN_MAX)) };
        let mut bytes = piece.of(self.body).to_vec();
        if !self.strict && end > self.body.len() && piece.end == self.body.len() {
            bytes.push(b'\n');
        }
        bytes
    }
}

/// How many bytes from the start are `wanted`.
pub(super) fn run(bytes: &[u8], wanted: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !wanted(*byte)).unwrap_or(bytes.len())
}

/// Bytes of a body in an error text.
const SHOWN_MAX: usize = 1024;
