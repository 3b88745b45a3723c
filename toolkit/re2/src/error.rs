//! Why a pattern is refused: Go's codes with the fragment Go shows, in its words, because users search for them.
//!
//! Go's `invalid UTF-8` is left out because a `&str` cannot have it, `invalid character class` because Go never uses it.

use std::fmt;

/// What is wrong with a pattern; the texts are those of Go's `regexp/syntax`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// An unknown class name, or a range that runs backwards.
    InvalidCharRange,
    /// A backslash before something that has no meaning.
    InvalidEscape,
    /// A group name that is not made of ASCII letters, digits and underscores.
    InvalidNamedCapture,
    /// `(?` followed by something else than flags, `:` or a name.
    InvalidPerlOp,
    /// A repetition directly after a repetition.
    InvalidRepeatOp,
    /// A count above 1000, alone or multiplied by the counts around it.
    InvalidRepeatSize,
    /// `[` without `]`.
    MissingBracket,
    /// `(` without `)`.
    MissingParen,
    /// A repetition of nothing.
    MissingRepeatArgument,
    /// A backslash at the very end.
    TrailingBackslash,
    /// `)` without `(`.
    UnexpectedParen,
    /// More than 1000 levels.
    NestingDepth,
    /// Too many states, for Go's limit or for ours.
    Large,
}

impl ErrorCode {
    /// Go's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidCharRange => "invalid character class range",
            Self::InvalidEscape => "invalid escape sequence",
            Self::InvalidNamedCapture => "invalid named capture",
            Self::InvalidPerlOp => "invalid or unsupported Perl syntax",
            Self::InvalidRepeatOp => "invalid nested repetition operator",
            Self::InvalidRepeatSize => "invalid repeat count",
            Self::MissingBracket => "missing closing ]",
            Self::MissingParen => "missing closing )",
            Self::MissingRepeatArgument => "missing argument to repetition operator",
            Self::TrailingBackslash => "trailing backslash at end of expression",
            Self::UnexpectedParen => "unexpected )",
            Self::NestingDepth => "expression nests too deeply",
            Self::Large => "expression too large",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a pattern was refused. Its text is Go's, fragment included.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {code}: `{fragment}`")]
pub struct Error {
    code: ErrorCode,
    fragment: String,
}

impl Error {
    pub(crate) fn new(code: ErrorCode, fragment: &str) -> Self {
        Self { code, fragment: fragment.to_owned() }
    }

    /// What is wrong.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The part of the pattern that is wrong; of an anchored pattern this includes the anchors around it.
    pub fn fragment(&self) -> &str {
        &self.fragment
    }
}
