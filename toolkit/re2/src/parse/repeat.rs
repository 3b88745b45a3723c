//! Repetitions: `*`, `+`, `?`, `{n}`, `{n,}`, `{n,m}`, each with `?` behind it or not.

use super::{Error, ErrorCode, Node, Parser, stack::Item};

/// The greatest count, alone or multiplied by the counts around it.
const REPEAT_MAX: u32 = 1000;
/// Stands for a count too long to read.
const TOO_BIG: u32 = u32::MAX;

impl Parser<'_> {
    /// `previous` is where a repetition starts that ends here.
    pub(super) fn repetition(&mut self, operator: char, previous: Option<usize>) -> Result<(), Error> {
        let start = self.at;
        let (min, max) = match operator {
            '*' => (0, None),
            '+' => (1, None),
            '?' => (0, Some(1)),
            _ => match counts(self.rest()) {
                Some((min, max, length)) => {
                    self.at += length;
                    if min > REPEAT_MAX || max.is_some_and(|max| max > REPEAT_MAX || min > max) {
                        return Err(self.error_from(ErrorCode::InvalidRepeatSize, start));
                    }
                    (min, max)
                }
                // Braces that are no counts are text.
                None => {
                    self.at += 1;
                    return self.literal('{');
                }
            },
        };
        if operator != '{' {
            self.at += 1;
        }
        let lazy = self.accept('?');
        if let Some(previous) = previous {
            return Err(self.error_from(ErrorCode::InvalidRepeatOp, previous));
        }
        let greedy = lazy == self.flags.swap_greed;
        let Some(item) = self.frame().parts.pop() else {
            return Err(self.error_from(ErrorCode::MissingRepeatArgument, start));
        };
        let item = repeat(item, min, max, greedy);
        self.check(&item)?;
        if operator == '{' && (min >= 2 || max.is_some_and(|max| max >= 2)) && item.copies > u64::from(REPEAT_MAX) {
            return Err(self.error_from(ErrorCode::InvalidRepeatSize, start));
        }
        self.frame().parts.push(item);
        self.repeated = Some(start);
        Ok(())
    }
}

fn repeat(item: Item, min: u32, max: Option<u32>, greedy: bool) -> Item {
    let (low, sub) = (u64::from(min), item.size);
    let size = match max {
        None if min == 0 => sub.saturating_add(2),
        None => low.saturating_mul(sub).saturating_add(1),
        Some(max) => u64::from(max).saturating_mul(sub).saturating_add(u64::from(max) - low),
    };
    let copies = match max.unwrap_or(min) {
        // `x{0}` holds no copy of anything; `x*` and `x{0,}` multiply by nothing.
        0 if max.is_some() => 1,
        0 => item.copies,
        count => item.copies.saturating_mul(u64::from(count)),
    };
    let node = Node::Repeat { min, max, greedy, sub: Box::new(item.node) };
    Item { node, size: size.max(1), height: item.height + 1, copies }
}

/// The least and the greatest count and the length of `{n}`, `{n,}` or `{n,m}`.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    let body = &text[1..];
    let body =
        &body[..body.find(|c: char| c != ',' && !c.is_ascii_digit()).filter(|end| body[*end..].starts_with('}'))?];
    let (min, max) = match body.split_once(',') {
        None => (number(body)?, Some(number(body)?)),
        Some((min, "")) => (number(min)?, None),
        Some((min, max)) => (number(min)?, Some(number(max)?)),
    };
    Some((min, max, body.len() + 2))
}

/// A decimal without leading zeros.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().unwrap_or(TOO_BIG))
}
