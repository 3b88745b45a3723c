//! The stack of open groups, and Go's limits on what grows on it.
//!
//! Every item carries its height, its compiled size and its largest product of counts, each computed from its
//! parts when it is made. That keeps the checks O(1) an item where a walk of the tree would be quadratic.

use super::{Error, ErrorCode, Flags, Node, Parser};
use regex_syntax::hir::ClassUnicode;

/// Levels of a tree, Go's limit; all recursion over a tree relies on it.
pub(super) const HEIGHT_MAX: u32 = 1000;
/// Instructions of a program, Go's limit: 128 MiB of 40 bytes each.
const SIZE_MAX: u64 = (128 << 20) / 40;
/// Characters and class bounds of a tree. Go's limit is 32 Mi, which here would be 256 MiB held; patterns beyond ours
/// compile to far more than the engine may use, so nothing usable is lost.
const RUNES_MAX: usize = 4 << 20;

/// A finished part of an expression.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) node: Node,
    /// Instructions after Go's estimate.
    pub(super) size: u64,
    /// Levels.
    pub(super) height: u32,
    /// The largest product of nested counts.
    pub(super) copies: u64,
}

impl Item {
    pub(super) fn leaf(node: Node, size: u64) -> Self {
        Self { node, size, height: 1, copies: 1 }
    }
}

/// An open group.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The number of a capturing group; number 0 captures nothing.
    pub(super) index: u32,
    /// The flags to go back to when it closes.
    pub(super) outside: Flags,
    /// Finished alternatives.
    pub(super) alternatives: Vec<Item>,
    /// The parts of the alternative at work.
    pub(super) parts: Vec<Item>,
}

impl Parser<'_> {
    pub(super) fn frame(&mut self) -> &mut Frame {
        if self.frames.is_empty() {
            self.frames.push(Frame::default());
        }
        let top = self.frames.len() - 1;
        &mut self.frames[top]
    }

    /// Adds a part. Only the newest part can still be repeated, so the two before it may grow together.
    pub(super) fn push(&mut self, item: Item) -> Result<(), Error> {
        self.check(&item)?;
        let parts = &mut self.frame().parts;
        join_literals(parts);
        parts.push(item);
        Ok(())
    }

    pub(super) fn class(&mut self, class: ClassUnicode) -> Result<(), Error> {
        self.runes += 2 * class.ranges().len();
        self.push(Item::leaf(Node::Class(class), 1))
    }

    /// Go's limits.
    pub(super) fn check(&self, item: &Item) -> Result<(), Error> {
        if item.size > SIZE_MAX || self.runes > RUNES_MAX {
            return Err(self.whole_error(ErrorCode::Large));
        }
        if item.height > HEIGHT_MAX {
            return Err(self.whole_error(ErrorCode::NestingDepth));
        }
        Ok(())
    }

    /// `|`
    pub(super) fn next_alternative(&mut self) -> Result<(), Error> {
        self.at += 1;
        self.finish_parts()
    }

    /// Makes one alternative of the parts at work.
    fn finish_parts(&mut self) -> Result<(), Error> {
        let frame = self.frame();
        let mut parts = std::mem::take(&mut frame.parts);
        join_literals(&mut parts);
        let item = match parts.len() {
            0 => Item::leaf(Node::Empty, 1),
            1 => parts.remove(0),
            _ => gather(parts, true),
        };
        self.check(&item)?;
        self.frame().alternatives.push(item);
        Ok(())
    }

    /// Makes one item of everything in the innermost group.
    pub(super) fn finish_alternatives(&mut self) -> Result<Item, Error> {
        self.finish_parts()?;
        let mut alternatives = std::mem::take(&mut self.frame().alternatives);
        let item = if alternatives.len() == 1 { alternatives.remove(0) } else { gather(alternatives, false) };
        self.check(&item)?;
        Ok(item)
    }
}

/// Joins the two newest parts if both are literals of one kind.
fn join_literals(parts: &mut Vec<Item>) {
    let [.., below, top] = parts.as_mut_slice() else { return };
    let (Node::Literal { text, fold }, Node::Literal { text: more, fold: same }) = (&mut below.node, &top.node) else {
        return;
    };
    if fold == same {
        text.push_str(more);
        below.size += top.size;
        parts.pop();
    }
}

/// A concatenation or an alternation without another of its kind directly inside.
fn gather(items: Vec<Item>, concat: bool) -> Item {
    let bars = if concat { 0 } else { items.len() as u64 - 1 };
    let size = items.iter().fold(bars, |sum, item| sum.saturating_add(item.size));
    let copies = items.iter().map(|item| item.copies).max().unwrap_or(1);
    let mut height = 0;
    let mut nodes = Vec::with_capacity(items.len());
    for item in items {
        match item.node {
            Node::Concat(subs) if concat => {
                height = height.max(item.height - 1);
                nodes.extend(subs);
            }
            Node::Alternate(subs) if !concat => {
                height = height.max(item.height - 1);
                nodes.extend(subs);
            }
            node => {
                height = height.max(item.height);
                nodes.push(node);
            }
        }
    }
    let node = if concat { Node::Concat(nodes) } else { Node::Alternate(nodes) };
    Item { node, size: size.max(1), height: height + 1, copies }
}
