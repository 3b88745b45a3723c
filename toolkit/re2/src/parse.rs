//! The parser of Go's `regexp/syntax` grammar with the flags of `regexp.Compile`.
//!
//! Its truth is what Go accepts, refuses and answers, recorded in `testdata/`. One pass from left to right over the
//! text; open groups are a stack of their own, so nesting costs no recursion until the tree is known to be shallow.
//! Invalid UTF-8 cannot occur in a `&str`; POSIX mode and `regexp/syntax` flags that nobody can reach are left out.

mod class;
mod escape;
mod group;
mod repeat;
mod stack;

use crate::{
    error::{Error, ErrorCode},
    node::Node,
};
use regex_syntax::hir::Look;
use stack::{Frame, Item};

/// What `(?flags)` changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Flags {
    /// `i`: any case.
    fold: bool,
    /// `m`: `^` and `$` also match beside a line feed.
    multi_line: bool,
    /// `s`: the dot matches a line feed.
    dot_newline: bool,
    /// `U`: repetitions prefer less, and `?` after them means more.
    swap_greed: bool,
}

/// A parsed pattern.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) node: Node,
    /// The names of all groups; of group 0, the whole match, there is none.
    pub(crate) names: Vec<Option<Box<str>>>,
    /// Levels of the tree.
    pub(crate) height: u32,
}

/// The text around a pattern that has to match a whole text. The pattern is parsed inside of it, so that error texts
/// and unfinished quotes at its end come out as upstream's.
const WRAPPER: (&str, &str) = ("^(?s:", ")$");

/// Parses a pattern.
pub(crate) fn parse(pattern: &str) -> Result<Parsed, Error> {
    Parser::new(pattern, Flags::default(), None).run()
}

/// Parses a pattern as label matchers read it: on its own, then put between anchors, where it may nest too deeply.
pub(crate) fn parse_matcher(pattern: &str) -> Result<Parsed, Error> {
    let flags = Flags { dot_newline: true, ..Flags::default() };
    let mut parsed = Parser::new(pattern, flags, None).run()?;
    let inner = if matches!(parsed.node, Node::Concat(_)) { parsed.height - 1 } else { parsed.height };
    if inner >= stack::HEIGHT_MAX {
        let text = format!("{}{pattern}{}", WRAPPER.0, WRAPPER.1);
        return Err(Error::new(ErrorCode::NestingDepth, &text));
    }
    parsed.node = match parsed.node {
        Node::Concat(mut subs) => {
            subs.insert(0, Node::Look(Look::Start));
            subs.push(Node::Look(Look::End));
            Node::Concat(subs)
        }
        node => Node::Concat(vec![Node::Look(Look::Start), node, Node::Look(Look::End)]),
    };
    Ok(parsed)
}

/// Parses a pattern between [`WRAPPER`], which a parenthesis of the pattern cannot close.
pub(crate) fn parse_wrapped(pattern: &str) -> Result<Parsed, Error> {
    let text = format!("{}{pattern}{}", WRAPPER.0, WRAPPER.1);
    let end = text.len() - WRAPPER.1.len();
    Parser::new(&text, Flags::default(), Some(end)).run()
}

struct Parser<'p> {
    text: &'p str,
    /// Where the next character is.
    at: usize,
    flags: Flags,
    /// Open groups, the whole pattern first.
    frames: Vec<Frame>,
    names: Vec<Option<Box<str>>>,
    /// Where the repetition starts that ends at `at`, if one does.
    repeated: Option<usize>,
    /// Characters and class bounds so far.
    runes: usize,
    /// Whether `:]` is known not to follow, so that nobody searches the rest of the pattern for it again.
    no_posix_end: bool,
    /// Where the parenthesis of the wrapper stands.
    wrapper_end: Option<usize>,
}

impl<'p> Parser<'p> {
    fn new(text: &'p str, flags: Flags, wrapper_end: Option<usize>) -> Self {
        let frames = vec![Frame::default()];
        Self {
            text,
            at: 0,
            flags,
            frames,
            names: vec![None],
            repeated: None,
            runes: 0,
            no_posix_end: false,
            wrapper_end,
        }
    }

    fn run(mut self) -> Result<Parsed, Error> {
        while let Some(c) = self.peek() {
            let repeated = self.repeated.take();
            match c {
                '(' => self.open_group()?,
                ')' => self.close_group()?,
                '|' => self.next_alternative()?,
                '[' => self.bracket()?,
                '*' | '+' | '?' | '{' => self.repetition(c, repeated)?,
                '\\' => self.backslash()?,
                '.' => self.single(Node::Any { newline: self.flags.dot_newline })?,
                '^' if self.flags.multi_line => self.single(Node::Look(Look::StartLF))?,
                '^' => self.single(Node::Look(Look::Start))?,
                '$' if self.flags.multi_line => self.single(Node::Look(Look::EndLF))?,
                '$' => self.single(Node::Look(Look::End))?,
                c => {
                    self.at += c.len_utf8();
                    self.literal(c)?;
                }
            }
        }
        let whole = self.finish_alternatives()?;
        if self.frames.len() != 1 {
            return Err(self.whole_error(ErrorCode::MissingParen));
        }
        Ok(Parsed { node: whole.node, names: self.names, height: whole.height })
    }

    fn rest(&self) -> &'p str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the next character.
    fn take(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Takes the next character if it is `wanted`.
    fn accept(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    /// Pushes what one ASCII character of the text stands for.
    fn single(&mut self, node: Node) -> Result<(), Error> {
        self.at += 1;
        self.push(Item::leaf(node, 1))
    }

    fn literal(&mut self, c: char) -> Result<(), Error> {
        self.runes += 1;
        self.push(Item::leaf(Node::Literal { text: c.to_string(), fold: self.flags.fold }, 1))
    }

    /// A code point from an escape; surrogates exist in no text.
    fn code_point(&mut self, code: u32) -> Result<(), Error> {
        match char::from_u32(code) {
            Some(c) => self.literal(c),
            None => self.class(regex_syntax::hir::ClassUnicode::empty()),
        }
    }

    fn backslash(&mut self) -> Result<(), Error> {
        let look = match self.rest().as_bytes().get(1) {
            Some(b'A') => Look::Start,
            Some(b'z') => Look::End,
            Some(b'b') => Look::WordAscii,
            Some(b'B') => Look::WordAsciiNegate,
            Some(b'Q') => return self.quoted(),
            // One byte of a character, which Go does not support.
            Some(b'C') => return Err(Error::new(ErrorCode::InvalidEscape, &self.rest()[..2])),
            _ => {
                if let Some(class) = self.class_escape()? {
                    return self.class(class);
                }
                let code = self.escape()?;
                return self.code_point(code);
            }
        };
        self.at += 2;
        self.push(Item::leaf(Node::Look(look), 1))
    }

    /// `\Q...\E`, where the end may lack.
    fn quoted(&mut self) -> Result<(), Error> {
        let inner = &self.rest()[2..];
        let (literal, skip) = match inner.find("\\E") {
            Some(end) => (&inner[..end], end + 2),
            None => (inner, inner.len()),
        };
        for c in literal.chars() {
            self.literal(c)?;
        }
        self.at += 2 + skip;
        Ok(())
    }

    fn whole_error(&self, code: ErrorCode) -> Error {
        Error::new(code, self.text)
    }

    /// An error that shows the text from `start` up to here.
    fn error_from(&self, code: ErrorCode, start: usize) -> Error {
        Error::new(code, &self.text[start..self.at])
    }
}
