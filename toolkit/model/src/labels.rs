//! Label sets: one immutable, sorted, packed allocation that clones for the price of a counter.
//!
//! The packed text is a run of `len name len value` entries ordered by name. A length below 127 is one byte; a longer
//! one is byte 127 followed by four 7-bit bytes, most significant first. Every length byte is ASCII, so the whole
//! allocation is valid UTF-8 and slices of it need no validation and no `unsafe`.

use crate::quote_into;
use std::{cmp::Ordering, fmt, sync::Arc};
use xxhash_rust::xxh64::Xxh64;

/// The label that carries the metric name.
pub const METRIC_NAME: &str = "__name__";

/// An immutable set of label names and values, ordered by the bytes of the name; no name twice, no empty value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Labels(Arc<str>);

impl Labels {
    /// The set without labels.
    pub fn empty() -> Self {
        Self(Arc::from(""))
    }

    /// Builds a set from pairs in any order. Empty values mean "absent"; of a repeated name the last one stays.
    /// Complexity O(n log n).
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = Builder::default();
        for (name, value) in pairs {
            builder.push(name.as_ref(), value.as_ref());
        }
        builder.build()
    }

    /// The value of `name`, if present. O(n) over a handful of entries, stopping at the first greater name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().take_while(|(have, _)| *have <= name).find(|(have, _)| *have == name).map(|(_, value)| value)
    }

    /// The metric name, or "" when there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or_default()
    }

    /// All pairs in name order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { rest: &self.0 }
    }

    /// The number of labels.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether the set holds no label.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of the packed form.
    pub fn packed_len(&self) -> usize {
        self.0.len()
    }

    /// Upstream's label hash: xxHash64 over `name 0xff value 0xff` of every pair. Stable across processes.
    pub fn hash64(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        for (name, value) in self.iter() {
            for part in [name, value] {
                hash.update(part.as_bytes());
                hash.update(&[0xff]);
            }
        }
        hash.digest()
    }

    /// The same set without the metric name.
    pub fn without_name(&self) -> Self {
        let mut builder = Builder::from(self);
        builder.del(METRIC_NAME);
        builder.build()
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::empty()
    }
}

impl PartialOrd for Labels {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Pairwise by name, then value; a prefix sorts first. This is upstream's order of query results.
impl Ord for Labels {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other.iter())
    }
}

/// `name{a="b"}`, quoted as Go quotes; names outside the legacy alphabet are quoted inside the braces.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let bare = is_legacy_metric_name(name);
        let mut text = String::with_capacity(self.packed_len() + 8);
        if bare {
            text.push_str(name);
        }
        let pairs = self.iter().filter(|(label, _)| *label != METRIC_NAME);
        if bare && pairs.clone().next().is_none() {
            return f.write_str(name);
        }
        text.push('{');
        if !bare && !name.is_empty() {
            quote_into(name, &mut text);
        }
        for (label, value) in pairs {
            if !text.ends_with('{') {
                text.push_str(", ");
            }
            if is_legacy_label_name(label) {
                text.push_str(label);
            } else {
                quote_into(label, &mut text);
            }
            text.push('=');
            quote_into(value, &mut text);
        }
        text.push('}');
        f.write_str(&text)
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The pairs of a [`Labels`] in name order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a str,
}

impl<'a> Iter<'a> {
    fn take(&mut self) -> &'a str {
        let bytes = self.rest.as_bytes();
        let (length, head) = match bytes[0] {
            127 => (bytes[1..5].iter().fold(0usize, |n, byte| n << 7 | usize::from(*byte)), 5),
            short => (usize::from(short), 1),
        };
        let (text, rest) = self.rest[head..].split_at(length);
        self.rest = rest;
        text
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let name = self.take();
        Some((name, self.take()))
    }
}

/// A label set under construction, with its memory kept between uses.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    pairs: Vec<(String, String)>,
}

impl From<&Labels> for Builder {
    fn from(labels: &Labels) -> Self {
        Self { pairs: labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect() }
    }
}

impl Builder {
    /// Sets a label; an empty value deletes it.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        match self.pairs.iter_mut().find(|(have, _)| have == name) {
            Some(pair) => value.clone_into(&mut pair.1),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
        self
    }

    /// Adds a label without looking for one of that name, so that many cost no more than they weigh. Of a repeated name
    /// the last one stays once the set is built; until then [`Self::get`] and [`Self::set`] see the first.
    pub fn push(&mut self, name: &str, value: &str) -> &mut Self {
        self.pairs.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes a label.
    pub fn del(&mut self, name: &str) -> &mut Self {
        self.pairs.retain(|(have, _)| have != name);
        self
    }

    /// The value set for `name`, or "" when absent.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(have, _)| have == name).map_or("", |(_, value)| value)
    }

    /// Keeps the labels for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) -> &mut Self {
        self.pairs.retain(|(name, value)| keep(name, value));
        self
    }

    /// The pairs as they stand, unordered.
    pub fn pairs(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Forgets all labels and keeps the memory.
    pub fn clear(&mut self) -> &mut Self {
        self.pairs.clear();
        self
    }

    /// The finished set. Names or values of 256 MiB and more are cut at a character boundary.
    pub fn build(&mut self) -> Labels {
        self.settle();
        self.pairs.retain(|(_, value)| !value.is_empty());
        self.packed()
    }

    /// The finished set with its labels of empty value, which client libraries keep and show. Never for a series.
    pub fn build_with_empty(&mut self) -> Labels {
        self.settle();
        self.packed()
    }

    /// Sorts by name and drops all but the last of a repeated one.
    fn settle(&mut self) {
        self.pairs.sort_by(|a, b| a.0.cmp(&b.0));
        self.pairs.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                // The earlier one is dropped in the later one's place.
                std::mem::swap(later, first);
            }
            same
        });
    }

    fn packed(&self) -> Labels {
        let mut packed = String::with_capacity(self.pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum());
        for (name, value) in &self.pairs {
            pack(&mut packed, name);
            pack(&mut packed, value);
        }
        Labels(Arc::from(packed))
    }
}

fn pack(out: &mut String, text: &str) {
    let text = &text[..text.floor_char_boundary((1 << 28) - 1)];
    let length = text.len();
    if length < 127 {
        out.push(length as u8 as char);
    } else {
        out.push(127 as char);
        for shift in [21, 14, 7, 0] {
            out.push((length >> shift & 127) as u8 as char);
        }
    }
    out.push_str(text);
}

/// Whether `name` is `[a-zA-Z_:][a-zA-Z0-9_:]*`.
pub fn is_legacy_metric_name(name: &str) -> bool {
    legacy(name, true)
}

/// Whether `name` is `[a-zA-Z_][a-zA-Z0-9_]*`.
pub fn is_legacy_label_name(name: &str) -> bool {
    legacy(name, false)
}

fn legacy(name: &str, colon: bool) -> bool {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || colon && byte == b':';
    !name.is_empty() && name.bytes().all(ok) && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_unique_and_without_empty_values() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "0"), ("gone", ""), ("a", "1")]);
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!((labels.get("b"), labels.get("gone"), labels.len()), (Some("2"), None, 2));
    }

    #[test]
    fn pushed_labels_are_sorted_and_unique_once_built() {
        let mut builder = Builder::default();
        builder.push("b", "1").push("a", "2").push("b", "3").push("c", "").push("b", "4");
        assert_eq!(builder.build_with_empty().iter().collect::<Vec<_>>(), [("a", "2"), ("b", "4"), ("c", "")]);
        assert_eq!(builder.push("b", "").build().iter().collect::<Vec<_>>(), [("a", "2")]);
    }

    #[test]
    fn long_and_multibyte_texts_survive_packing() {
        for length in [126, 127, 128, 16_383, 16_384, 3_000_000] {
            let value = "é".repeat(length / 2);
            let labels = Labels::from_pairs([("ключ", value.as_str()), ("x", "y")]);
            assert_eq!(labels.get("ключ"), Some(value.as_str()));
            assert_eq!(labels.get("x"), Some("y"));
        }
    }

    #[test]
    fn the_hash_is_upstreams() {
        assert_eq!(Labels::empty().hash64(), 0xef46_db37_51d8_e999);
        let one = Labels::from_pairs([("a", "b")]);
        assert_eq!(one.hash64(), xxhash_rust::xxh64::xxh64(b"a\xffb\xff", 0));
    }

    #[test]
    fn order_is_by_pairs_not_by_packed_bytes() {
        let short = Labels::from_pairs([("a", "z")]);
        let long = Labels::from_pairs([("a", "aaaaaaaaaaaa")]);
        assert!(long < short);
        assert!(Labels::empty() < long);
    }

    #[test]
    fn printing_quotes_what_needs_it() {
        let labels = Labels::from_pairs([(METRIC_NAME, "up"), ("job", "a\"b\\\n")]);
        assert_eq!(labels.to_string(), "up{job=\"a\\\"b\\\\\\n\"}");
        let utf8 = Labels::from_pairs([(METRIC_NAME, "my.metric"), ("l.x", "v")]);
        assert_eq!(utf8.to_string(), "{\"my.metric\", \"l.x\"=\"v\"}");
        assert_eq!(Labels::empty().to_string(), "{}");
    }
}
