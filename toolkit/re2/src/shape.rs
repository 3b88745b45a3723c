//! What a tree says about the texts it matches as a whole, for matchers that want to do without an engine.
//!
//! Dashboards send alternations of names, prefixes and `.*` far more often than real expressions. Storage answers
//! those from an index, and a matcher from comparisons. Everything here is decided on the tree, never on the
//! pattern's text, so flags, groups and escapes are understood.

use crate::{node::Node, unicode};
use regex_syntax::hir::{ClassUnicode, Look};

/// Texts that may come from multiplying sets; alternations of plain texts may be longer.
const PRODUCT_MAX: usize = 1024;
/// Bytes of all texts that come from multiplying sets.
const PRODUCT_BYTES_MAX: usize = 256 << 10;
/// Texts that one literal of any case may stand for.
const FOLD_MAX: usize = 64;
/// Sequences worth trying one after the other.
const SEQUENCES_MAX: usize = 64;
/// The greatest count that is written out.
const COUNT_MAX: u32 = 16;

/// Which texts an expression matches as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing is known; ask the engine.
    Opaque,
    /// A condition on every match, which is not enough for one.
    Required(Sequence),
    /// Every text.
    Anything,
    /// Every text but the empty one.
    NonEmpty,
    /// Exactly these texts, sorted, none twice; maybe none at all.
    Literals(Vec<String>),
    /// Exactly this text in any case.
    AnyCase(AnyCase),
    /// Exactly the texts that one of these accepts.
    Sequences(Vec<Sequence>),
}

/// A text, then gaps with texts behind them: `a.*b.+c` is `a`, a gap of 0, `b`, a gap of 1, `c`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    prefix: String,
    /// Each gap as the least number of characters in it.
    rest: Vec<(usize, String)>,
}

impl Sequence {
    /// What every match begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What every match ends with.
    pub fn suffix(&self) -> &str {
        self.rest.last().map_or(&self.prefix, |(_, text)| text)
    }

    /// The texts between prefix and suffix, in order.
    pub fn inner(&self) -> impl Iterator<Item = &str> {
        let inner = self.rest.len().saturating_sub(1);
        self.rest[..inner].iter().map(|(_, text)| text.as_str()).filter(|text| !text.is_empty())
    }

    /// Whether `text` has all of it. O(length of the text).
    pub fn matches(&self, text: &str) -> bool {
        let Some(mut text) = text.strip_prefix(self.prefix.as_str()) else { return false };
        let Some((last, inner)) = self.rest.split_last() else { return text.is_empty() };
        // The first place of each text leaves the most room for those behind it.
        for (gap, wanted) in inner {
            let Some(at) = skip(text, *gap).and_then(|rest| rest.find(wanted).map(|at| text.len() - rest.len() + at))
            else {
                return false;
            };
            text = &text[at + wanted.len()..];
        }
        skip(text, last.0).is_some_and(|rest| rest.ends_with(&last.1))
    }

    /// Puts a text behind everything so far.
    fn append(&mut self, text: &str) {
        self.rest.last_mut().map_or(&mut self.prefix, |(_, last)| last).push_str(text);
    }

    fn with(&self, text: &str) -> Self {
        let mut longer = self.clone();
        longer.append(text);
        longer
    }

    fn is_void(&self) -> bool {
        self.prefix.is_empty() && self.rest.iter().all(|(gap, text)| *gap == 0 && text.is_empty())
    }
}

/// The text behind the first `count` characters.
fn skip(text: &str, count: usize) -> Option<&str> {
    match count {
        0 => Some(text),
        _ => text.char_indices().map(|(at, c)| at + c.len_utf8()).nth(count - 1).map(|at| &text[at..]),
    }
}

/// A text whose characters may have any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyCase(Vec<Box<[char]>>);

impl AnyCase {
    fn new(text: &str) -> Self {
        Self(text.chars().map(|c| characters(&unicode::orbit(c)).collect()).collect())
    }

    /// Whether `text` is it. O(length of the text).
    pub fn matches(&self, text: &str) -> bool {
        let mut cases = self.0.iter();
        text.chars().all(|c| cases.next().is_some_and(|case| case.contains(&c))) && cases.next().is_none()
    }
}

fn characters(class: &ClassUnicode) -> impl Iterator<Item = char> {
    class.iter().flat_map(|range| range.start()..=range.end())
}

/// A stretch of an expression.
#[derive(Clone, Debug)]
enum Piece {
    /// One of these texts.
    Texts(Vec<String>),
    /// At least so many characters, whichever they are.
    Gap(usize),
    /// Something else, maybe nothing.
    Unknown,
}

/// The shape of a tree that has to match a whole text.
pub(crate) fn of(node: &Node) -> Shape {
    let core = core(node);
    if let Node::Literal { text, fold: true } = core
        && texts_of_any_case(text).is_none()
    {
        return Shape::AnyCase(AnyCase::new(text));
    }
    if let Node::Alternate(subs) = core
        && let Some(shape) = alternation(subs)
    {
        return shape;
    }
    let mut pieces = Pieces::default();
    pieces.add(core, true, true);
    shape(pieces.all)
}

/// What is left without groups and without anchors that say nothing.
fn core(node: &Node) -> &Node {
    match node {
        Node::Capture { sub, .. } => core(sub),
        Node::Concat(subs) => {
            let lead = subs.iter().take_while(|sub| is_start(sub)).count();
            let tail = subs.iter().rev().take_while(|sub| is_end(sub)).count();
            match subs.get(lead..subs.len() - tail) {
                Some([only]) => core(only),
                _ => node,
            }
        }
        node => node,
    }
}

fn is_start(node: &Node) -> bool {
    matches!(node, Node::Look(Look::Start | Look::StartLF))
}

fn is_end(node: &Node) -> bool {
    matches!(node, Node::Look(Look::End | Look::EndLF))
}

/// The shape of alternatives that each say everything about themselves.
fn alternation(subs: &[Node]) -> Option<Shape> {
    let mut literals = Vec::new();
    let mut sequences = Vec::new();
    for sub in subs {
        let mut pieces = Pieces::default();
        pieces.add(sub, true, true);
        match shape(pieces.all) {
            Shape::Anything => return Some(Shape::Anything),
            Shape::NonEmpty => sequences.push(Sequence { prefix: String::new(), rest: vec![(1, String::new())] }),
            Shape::Literals(more) => literals.extend(more),
            Shape::Sequences(more) => sequences.extend(more),
            Shape::Opaque | Shape::Required(_) | Shape::AnyCase(_) => return None,
        }
        if sequences.len() > SEQUENCES_MAX || literals.len() > PRODUCT_MAX.max(subs.len()) {
            return None;
        }
    }
    if sequences.is_empty() {
        return Some(literal_set(literals));
    }
    sequences.extend(literals.into_iter().map(|prefix| Sequence { prefix, rest: Vec::new() }));
    (sequences.len() <= SEQUENCES_MAX).then_some(Shape::Sequences(sequences))
}

fn literal_set(mut texts: Vec<String>) -> Shape {
    texts.sort_unstable();
    texts.dedup();
    Shape::Literals(texts)
}

fn shape(pieces: Vec<Piece>) -> Shape {
    match pieces.as_slice() {
        [] => return Shape::Literals(vec![String::new()]),
        [Piece::Gap(0)] => return Shape::Anything,
        [Piece::Gap(1)] => return Shape::NonEmpty,
        _ => {}
    }
    match sequences(&pieces) {
        Some(all) if all.iter().all(|one| one.rest.is_empty()) => {
            literal_set(all.into_iter().map(|one| one.prefix).collect())
        }
        Some(all) if all.len() <= SEQUENCES_MAX => Shape::Sequences(all),
        _ => required(&pieces),
    }
}

/// All sequences that pieces stand for, if nothing in them is unknown.
fn sequences(pieces: &[Piece]) -> Option<Vec<Sequence>> {
    let mut all = vec![Sequence::default()];
    for piece in pieces {
        match piece {
            Piece::Unknown => return None,
            Piece::Gap(gap) => all.iter_mut().for_each(|one| one.rest.push((*gap, String::new()))),
            Piece::Texts(texts) => {
                // Pieces of one expression, so only a text between gaps multiplies.
                if pieces.len() > 1 && all.len() * texts.len() > SEQUENCES_MAX {
                    return None;
                }
                match texts.as_slice() {
                    [text] => all.iter_mut().for_each(|one| one.append(text)),
                    texts => all = all.iter().flat_map(|one| texts.iter().map(|text| one.with(text))).collect(),
                }
            }
        }
    }
    Some(all)
}

/// What every match has: the common start of the first piece, single texts in between, the common end of the last.
fn required(pieces: &[Piece]) -> Shape {
    let mut sequence = Sequence::default();
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Texts(texts) if at == 0 => {
                sequence.prefix = common_prefix(texts).to_owned();
                if texts.len() > 1 {
                    sequence.rest.push((0, String::new()));
                }
            }
            Piece::Texts(texts) if texts.len() == 1 => sequence.append(&texts[0]),
            Piece::Texts(texts) => {
                sequence.rest.push((0, if at == last { common_suffix(texts).to_owned() } else { String::new() }));
            }
            Piece::Gap(gap) => sequence.rest.push((*gap, String::new())),
            Piece::Unknown => sequence.rest.push((0, String::new())),
        }
    }
    if sequence.is_void() { Shape::Opaque } else { Shape::Required(sequence) }
}

fn common_prefix(texts: &[String]) -> &str {
    let Some((first, rest)) = texts.split_first() else { return "" };
    let end = rest.iter().fold(first.len(), |end, text| {
        first[..end]
            .char_indices()
            .zip(text.chars())
            .find(|((_, a), b)| a != b)
            .map_or(end.min(text.len()), |((at, _), _)| at)
    });
    &first[..end]
}

fn common_suffix(texts: &[String]) -> &str {
    let Some((first, rest)) = texts.split_first() else { return "" };
    let start = rest.iter().fold(0, |start, text| {
        let tail = &first[start..];
        let same: usize =
            tail.chars().rev().zip(text.chars().rev()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
        first.len() - same
    });
    &first[start..]
}

/// Pieces under construction; neighbours of one kind are joined where that stays small.
#[derive(Default)]
struct Pieces {
    all: Vec<Piece>,
    /// Whether a piece is unknown. Then sets behind it say nothing that would be worth multiplying them.
    loose: bool,
}

impl Pieces {
    /// Adds a node; `start` and `end` say whether it touches the edges of the text.
    fn add(&mut self, node: &Node, start: bool, end: bool) {
        match node {
            Node::Capture { sub, .. } => self.add(sub, start, end),
            Node::Concat(subs) => {
                let tail = subs.iter().rev().take_while(|sub| is_end(sub)).count();
                let last = subs.len() - tail;
                for (at, sub) in subs.iter().enumerate() {
                    self.add(sub, start && (at == 0 || self.all.is_empty()), end && at + 1 >= last);
                }
            }
            node if start && self.all.is_empty() && is_start(node) || end && is_end(node) => {}
            Node::Repeat { min, max: None, sub, .. } if is_any(sub) => self.gap(*min as usize),
            node => match texts(node) {
                Some(texts) => self.texts(texts),
                None => self.unknown(),
            },
        }
    }

    fn gap(&mut self, least: usize) {
        match self.all.last_mut() {
            Some(Piece::Gap(gap)) => *gap += least,
            _ => self.all.push(Piece::Gap(least)),
        }
    }

    fn texts(&mut self, more: Vec<String>) {
        if let Some(Piece::Texts(have)) = self.all.last_mut() {
            let small = !self.loose || have.len() == 1 && more.len() == 1;
            if small && multiply(have, &more) {
                return;
            }
            self.unknown();
        }
        self.all.push(Piece::Texts(more));
    }

    fn unknown(&mut self) {
        self.loose = true;
        self.all.push(Piece::Unknown);
    }
}

fn is_any(node: &Node) -> bool {
    match node {
        Node::Any { newline } => *newline,
        Node::Class(class) => class.ranges().first().is_some_and(|r| r.start() == '\0' && r.end() == char::MAX),
        Node::Capture { sub, .. } => is_any(sub),
        _ => false,
    }
}

/// The texts of a node, if there are few of them.
fn texts(node: &Node) -> Option<Vec<String>> {
    match node {
        Node::Empty => Some(vec![String::new()]),
        Node::Literal { text, fold: false } => Some(vec![text.clone()]),
        Node::Literal { text, fold: true } => texts_of_any_case(text),
        Node::Class(class) => {
            let few: Vec<_> = characters(class).take(PRODUCT_MAX + 1).map(String::from).collect();
            (few.len() <= PRODUCT_MAX).then_some(few)
        }
        Node::Capture { sub, .. } => texts(sub),
        Node::Concat(subs) => {
            let mut all = vec![String::new()];
            let small = subs.iter().all(|sub| texts(sub).is_some_and(|more| multiply(&mut all, &more)));
            small.then_some(all)
        }
        Node::Alternate(subs) => {
            let mut all = Vec::new();
            for sub in subs {
                all.extend(texts(sub)?);
                if all.len() > PRODUCT_MAX.max(subs.len()) {
                    return None;
                }
            }
            Some(all)
        }
        Node::Repeat { min, max: Some(max), sub, .. } if max <= &COUNT_MAX => repeated(&texts(sub)?, *min, *max),
        Node::Repeat { .. } | Node::Any { .. } | Node::Look(_) => None,
    }
}

fn repeated(texts: &[String], min: u32, max: u32) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut power = vec![String::new()];
    for count in 0..=max {
        if count >= min {
            all.extend_from_slice(&power);
        }
        if count < max && !multiply(&mut power, texts) || all.len() > PRODUCT_MAX {
            return None;
        }
    }
    Some(all)
}

fn texts_of_any_case(text: &str) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for c in text.chars() {
        let cases: Vec<_> = characters(&unicode::orbit(c)).map(String::from).collect();
        if !multiply(&mut all, &cases) || all.len() > FOLD_MAX {
            return None;
        }
    }
    Some(all)
}

/// Makes every text of `left` followed by every text of `right`; false, and `left` as it was, when those are too many.
fn multiply(left: &mut Vec<String>, right: &[String]) -> bool {
    if let [one] = right
        && (left.len() <= 1 || one.len() * left.len() <= PRODUCT_BYTES_MAX)
    {
        left.iter_mut().for_each(|text| text.push_str(one));
        return true;
    }
    let bytes = |texts: &[String]| texts.iter().map(String::len).sum::<usize>();
    let total = bytes(left).saturating_mul(right.len()).saturating_add(bytes(right).saturating_mul(left.len()));
    if left.len().saturating_mul(right.len()) > PRODUCT_MAX || total > PRODUCT_BYTES_MAX {
        return false;
    }
    *left = left.iter().flat_map(|a| right.iter().map(move |b| format!("{a}{b}"))).collect();
    true
}
