//! The tree of an expression, with byte ranges into the text.

use crate::functions::Function;
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
    /// The type as messages name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Vector => "instant vector",
            Self::Matrix => "range vector",
            Self::String => "string",
        }
    }
}

/// Where something stands in the text, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// `@`: a fixed time in milliseconds, or an end of the query.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum At {
    Time(i64),
    Start,
    End,
}

/// A length of time: known at once, or computed from the query's range and step.
#[derive(Clone, Debug, PartialEq)]
pub enum Length {
    /// Milliseconds.
    Fixed(i64),
    /// An expression, and where it begins.
    Computed(Box<Arithmetic>, usize),
}

/// A duration expression, in seconds.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names are the language's words")]
pub enum Arithmetic {
    Number(f64),
    Step,
    Range,
    Negate(Box<Arithmetic>),
    Min(Box<Arithmetic>, Box<Arithmetic>),
    Max(Box<Arithmetic>, Box<Arithmetic>),
    Binary(Op, Box<Arithmetic>, Box<Arithmetic>, usize),
}

/// How a selector looks beyond its window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extension {
    /// Not at all.
    #[default]
    None,
    /// The value at the start of the window is the newest before it.
    Anchored,
    /// The values at both ends are interpolated.
    Smoothed,
}

/// When a selector or subquery looks.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// How far back.
    pub offset: Length,
    /// Fixed time.
    pub at: Option<At>,
}

impl Default for When {
    fn default() -> Self {
        Self { offset: Length::Fixed(0), at: None }
    }
}

/// Which series, and when.
#[derive(Clone, Debug)]
pub struct Selector {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// Offset and pin.
    pub when: When,
    /// Window, for range selectors.
    pub range: Option<Length>,
    /// `anchored` or `smoothed`.
    pub extension: Extension,
    /// Whether the metric's name stands before the braces; it is the first matcher then.
    pub(crate) named: bool,
    /// Whether only count and sum of its histograms are asked for, which makes readers look for resets themselves.
    pub(crate) statistics: bool,
}

impl Selector {
    /// The metric's name when it stands before the braces; it is the first matcher then.
    pub fn name(&self) -> Option<&str> {
        self.matchers.first().filter(|_| self.named).map(Matcher::value)
    }
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
    /// What stands for a missing left partner.
    pub fill_left: Option<f64>,
    /// What stands for a missing right partner.
    pub fill_right: Option<f64>,
}

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl Op {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::Mod => "%",
            Self::Pow => "^",
            Self::Atan2 => "atan2",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::TrimUpper => "</",
            Self::TrimLower => ">/",
            Self::And => "and",
            Self::Or => "or",
            Self::Unless => "unless",
        }
    }

    /// Whether it answers true or false.
    pub fn compares(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual | Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual)
    }

    /// Whether it works on sets of series rather than values.
    pub fn is_set(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Unless)
    }

    /// Whether the result is another quantity, which has no name.
    pub(crate) fn drops_name(self) -> bool {
        !self.compares() && !self.is_set() && !matches!(self, Self::TrimUpper | Self::TrimLower)
    }
}

/// An aggregation operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the language's words")]
pub enum Aggregator {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl Aggregator {
    /// All of them with their words.
    pub const ALL: [(&'static str, Self); 14] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("count", Self::Count),
        ("min", Self::Min),
        ("max", Self::Max),
        ("group", Self::Group),
        ("stddev", Self::Stddev),
        ("stdvar", Self::Stdvar),
        ("topk", Self::Topk),
        ("bottomk", Self::Bottomk),
        ("count_values", Self::CountValues),
        ("quantile", Self::Quantile),
        ("limitk", Self::Limitk),
        ("limit_ratio", Self::LimitRatio),
    ];

    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self).map_or("", |(word, _)| word)
    }

    /// The operator of a word in any case.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(have, _)| have.eq_ignore_ascii_case(word)).map(|(_, one)| *one)
    }

    /// The type of its parameter, if it takes one.
    pub fn parameter(self) -> Option<Type> {
        match self {
            Self::Topk | Self::Bottomk | Self::Quantile | Self::Limitk | Self::LimitRatio => Some(Type::Scalar),
            Self::CountValues => Some(Type::String),
            _ => None,
        }
    }

    /// Whether it needs the experimental functions.
    pub fn experimental(self) -> bool {
        matches!(self, Self::Limitk | Self::LimitRatio)
    }
}

/// A string, with its escaped form when its bytes are no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The text; bytes that are no UTF-8 are replaced.
    pub value: String,
    /// Such a string between quotes.
    pub invalid: Option<String>,
}

/// A part of an expression.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the language's words")]
pub enum Node {
    /// A value, and whether it is written as a duration.
    Number(f64, bool),
    Text(Text),
    Paren(Box<Expr>),
    Select(Selector),
    Subquery {
        body: Box<Expr>,
        range: Length,
        step: Option<Length>,
        when: When,
    },
    Unary {
        minus: bool,
        body: Box<Expr>,
    },
    Binary {
        op: Op,
        left: Box<Expr>,
        right: Box<Expr>,
        bool: bool,
        matching: Matching,
    },
    Aggregate {
        op: Aggregator,
        param: Option<Box<Expr>>,
        body: Box<Expr>,
        without: bool,
        labels: Vec<String>,
    },
    Call {
        function: &'static Function,
        args: Vec<Expr>,
    },
}

/// A node, its type and where it stands.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub node: Node,
    /// What it gives.
    pub kind: Type,
    /// Where it stands.
    pub span: Span,
    /// Whether it gives the same at every step; known once a query is planned.
    pub(crate) invariant: bool,
}

impl Expr {
    pub(crate) fn new(node: Node, kind: Type, span: Span) -> Self {
        Self { node, kind, span, invariant: false }
    }

    /// The expression without parentheses around it.
    pub fn bare(&self) -> &Self {
        let mut expr = self;
        while let Node::Paren(inner) = &expr.node {
            expr = inner;
        }
        expr
    }
}
