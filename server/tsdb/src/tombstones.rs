//! What was deleted and is still stored: time ranges of the series that satisfy selectors.
//!
//! A tombstone has the number that the next file of the store would have got, so that it says of every part whether that
//! was written before, and is to be read with it, or after, and without what was deleted. It is a line of the manifest,
//! so that it counts at one moment, and is given up when nothing is left that it hides.

use crate::{
    disk_format::{put_text, take_text},
    head::Points,
};
use chunk::{Damaged, varint};
use model::{Labels, MatchOp, Matcher};
use std::fmt::Write;

/// Tombstones of a store at most.
pub(crate) const TOMBSTONES_MAX: usize = 10_000;
/// Selectors of one, and matchers of a selector, at most.
const ITEMS_MAX: usize = 1000;

/// One deletion.
#[derive(Clone, Debug)]
pub(crate) struct Tombstone {
    /// Files with a lower number were written before it.
    pub(crate) number: u64,
    pub(crate) min: i64,
    pub(crate) max: i64,
    /// Who satisfies all matchers of one of them is deleted.
    pub(crate) selectors: Vec<Vec<Matcher>>,
}

impl PartialEq for Tombstone {
    fn eq(&self, other: &Self) -> bool {
        self.line() == other.line()
    }
}

impl Eq for Tombstone {}

const OPS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

impl Tombstone {
    /// Whether it hides samples of a series.
    fn matches(&self, labels: &Labels) -> bool {
        let passes = |matcher: &Matcher| matcher.matches(labels.get(matcher.name()).unwrap_or_default());
        self.selectors.iter().any(|matchers| matchers.iter().all(passes))
    }

    pub(crate) fn overlaps(&self, min: i64, max: i64) -> bool {
        self.min <= max && self.max >= min
    }

    /// The words of its line in the manifest: number, first and last time, and the selectors as hexadecimal bytes.
    pub(crate) fn line(&self) -> String {
        let mut bytes = Vec::new();
        varint::put(self.selectors.len() as u64, &mut bytes);
        for matchers in &self.selectors {
            varint::put(matchers.len() as u64, &mut bytes);
            for matcher in matchers {
                bytes.push(OPS.iter().position(|op| *op == matcher.op()).unwrap_or_default() as u8);
                put_text(matcher.name(), &mut bytes);
                put_text(matcher.value(), &mut bytes);
            }
        }
        let mut line = format!("{} {} {} ", self.number, self.min, self.max);
        for byte in bytes {
            // Writing to a String cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
        line
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [number, min, max, hex] = words.as_slice() else { return None };
        let digits = hex.as_bytes().chunks(2);
        if hex.len() % 2 != 0 {
            return None;
        }
        let bytes: Option<Vec<u8>> =
            digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
        let selectors = take_selectors(&mut bytes?.as_slice()).ok()?;
        Some(Self { number: number.parse().ok()?, min: min.parse().ok()?, max: max.parse().ok()?, selectors })
    }
}

fn take_selectors(bytes: &mut &[u8]) -> Result<Vec<Vec<Matcher>>, Damaged> {
    let mut selectors = Vec::new();
    for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
        let mut matchers = Vec::new();
        for _ in 0..varint::take_count(bytes, ITEMS_MAX)? {
            let op = OPS.get(usize::from(varint::take_bytes(bytes, 1)?[0])).ok_or(Damaged)?;
            let name = take_text(bytes)?;
            matchers.push(Matcher::new(*op, name, take_text(bytes)?).map_err(|_| Damaged)?);
        }
        selectors.push(matchers);
    }
    if bytes.is_empty() { Ok(selectors) } else { Err(Damaged) }
}

/// Whether selectors are few enough to be kept.
pub(crate) fn fits(selectors: &[Vec<Matcher>]) -> bool {
    selectors.len() <= ITEMS_MAX && selectors.iter().all(|matchers| matchers.len() <= ITEMS_MAX)
}

/// Takes out of the samples of a series what the tombstones hide.
pub(crate) fn cut<'a>(tombstones: impl IntoIterator<Item = &'a Tombstone>, labels: &Labels, points: &mut Points) {
    for tombstone in tombstones {
        if points.range().is_some_and(|(min, max)| tombstone.overlaps(min, max)) && tombstone.matches(labels) {
            points.cut(tombstone.min, tombstone.max);
        }
    }
}

/// The same for samples of the part with this number: what was written after a tombstone is not hidden by it.
pub(crate) fn cut_stored(tombstones: &[Tombstone], part: u64, labels: &Labels, points: &mut Points) {
    cut(tombstones.iter().filter(|tombstone| part < tombstone.number), labels, points);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_comes_back_from_its_line() {
        let matcher = |op, name, value| Matcher::new(op, name, value).expect("valid");
        let selectors = vec![
            vec![matcher(MatchOp::Equal, "__name__", "é \n"), matcher(MatchOp::NotRegex, "a", "x.*")],
            vec![matcher(MatchOp::NotEqual, "b", "")],
            vec![],
        ];
        let tombstone = Tombstone { number: 7, min: i64::MIN, max: 5, selectors };
        let line = tombstone.line();
        assert_eq!(Tombstone::parse(&line), Some(tombstone));
        for end in 0..line.len() {
            // Shorter ones are refused, or are another one; none panics.
            let _ = Tombstone::parse(&line[..end]);
        }
        assert_eq!(Tombstone::parse("7 0 5 0"), None);
        assert_eq!(Tombstone::parse("7 0 5 01ff"), None);
    }

    #[test]
    fn only_what_is_named_is_cut() {
        let matcher = Matcher::new(MatchOp::Equal, "a", "1").expect("valid");
        let tombstone = Tombstone { number: 1, min: 10, max: 20, selectors: vec![vec![matcher]] };
        let left = |a: &str| {
            let times: Vec<i64> = (0..6).map(|i| i * 5).collect();
            let mut points = Points { values: vec![0.5; times.len()], times, ..Points::default() };
            cut([&tombstone], &Labels::from_pairs([("a", a)]), &mut points);
            assert_eq!(points.times.len(), points.values.len());
            points.times
        };
        assert_eq!(left("1"), [0, 5, 25]);
        assert_eq!(left("2"), [0, 5, 10, 15, 20, 25]);
    }
}
