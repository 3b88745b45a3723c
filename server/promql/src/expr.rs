//! The tree of an expression, with byte offsets.

use model::Matcher;

/// What a value is, before it is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the language's words")]
pub enum Type {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl Type {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

/// `@`: a fixed time in milliseconds, or an end of the query.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum At {
    Time(i64),
    Start,
    End,
}

/// Which series, and when.
#[derive(Clone, Debug)]
pub struct Selector {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Milliseconds back.
    pub offset: i64,
    /// Fixed time.
    pub at: Option<At>,
    /// Window in milliseconds, for range selectors.
    pub range: Option<i64>,
}

/// How two vectors are joined.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// `on` rather than `ignoring`.
    pub on: bool,
    /// The named labels.
    pub labels: Vec<String>,
    /// `group_left` (true) or `group_right` (false) with the copied labels.
    pub group: Option<(bool, Vec<String>)>,
}

/// A part of an expression.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the language's words")]
pub enum Node {
    Number(f64),
    Text(String),
    Select(Selector),
    Negate(Box<Expr>),
    Binary { op: &'static str, left: Box<Expr>, right: Box<Expr>, bool: bool, matching: Matching },
    Aggregate { op: &'static str, param: Option<Box<Expr>>, body: Box<Expr>, without: bool, labels: Vec<String> },
    Call { function: &'static crate::functions::Function, args: Vec<Expr> },
}

/// A node, its type and where it begins.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub node: Node,
    /// What it gives.
    pub kind: Type,
    /// Byte offset in the text.
    pub position: usize,
}
