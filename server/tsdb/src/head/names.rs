//! Labels of the series in memory: every pair of name and value once, a series as the numbers of its pairs, and the way
//! back from a pair to its series.

use hashbrown::{DefaultHashBuilder, HashTable};
use model::{Builder, Labels, Matcher};
use roaring::RoaringBitmap;
use std::hash::BuildHasher;

/// Bytes of a page of label sets; one set lies in one page, or has a page of its own.
const PAGE: usize = 1 << 16;
/// Pages that a place can name.
const PAGES_MAX: usize = 1 << 16;

/// A set of slots: most pairs have one series or very many.
#[derive(Debug)]
enum Slots {
    One(u32),
    Many(Box<RoaringBitmap>),
}

impl Slots {
    fn len(&self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Many(slots) => slots.len(),
        }
    }

    fn insert(&mut self, slot: u32) {
        match self {
            Self::One(have) if *have == slot => {}
            Self::One(have) => *self = Self::Many(Box::new(RoaringBitmap::from_iter([*have, slot]))),
            Self::Many(slots) => drop(slots.insert(slot)),
        }
    }

    /// Takes a slot away; true when none is left.
    fn remove(&mut self, slot: u32) -> bool {
        match self {
            Self::One(have) => *have == slot,
            Self::Many(slots) => {
                slots.remove(slot);
                match (slots.len(), slots.min()) {
                    (0, _) => return true,
                    (1, Some(last)) => *self = Self::One(last),
                    _ => {}
                }
                false
            }
        }
    }

    fn add_to(&self, all: &mut RoaringBitmap) {
        match self {
            Self::One(slot) => drop(all.insert(*slot)),
            Self::Many(slots) => *all |= &**slots,
        }
    }
}

#[derive(Debug)]
struct Pair {
    name: u32,
    value: Box<str>,
    /// None for a number that is free.
    series: Option<Slots>,
}

#[derive(Debug)]
struct Name {
    text: Box<str>,
    pairs: Vec<u32>,
}

/// Where the pairs of a series are.
pub(crate) type Place = u32;

/// All pairs, and the label sets made of them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    hasher: DefaultHashBuilder,
    names: Vec<Name>,
    by_name: HashTable<u32>,
    pairs: Vec<Pair>,
    by_pair: HashTable<u32>,
    free: Vec<u32>,
    /// Label sets: a count and the numbers of the pairs, all varints.
    pages: Vec<Vec<u8>>,
    dead: usize,
    key: Vec<u8>,
}

impl Names {
    fn name(&self, text: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(text);
        self.by_name.find(hash, |name| *self.names[*name as usize].text == *text).copied()
    }

    fn pair(&self, name: u32, value: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((name, value));
        let same = |pair: &u32| {
            let pair = &self.pairs[*pair as usize];
            pair.name == name && *pair.value == *value
        };
        self.by_pair.find(hash, same).copied()
    }

    /// The key of a label set in `key`: equal sets have equal keys. False when a pair is not known.
    pub(crate) fn find_key(&self, labels: &Labels, key: &mut Vec<u8>) -> bool {
        key.clear();
        chunk::varint::put(labels.len() as u64, key);
        labels.iter().all(|(name, value)| {
            let pair = self.name(name).and_then(|name| self.pair(name, value));
            pair.inspect(|pair| chunk::varint::put(u64::from(*pair), key)).is_some()
        })
    }

    /// Adds a label set of a series, whose key is not known yet.
    pub(crate) fn add(&mut self, labels: &Labels, slot: u32) -> Place {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        chunk::varint::put(labels.len() as u64, &mut key);
        for (name, value) in labels.iter() {
            let pair = self.intern(name, value, slot);
            chunk::varint::put(u64::from(pair), &mut key);
        }
        let place = self.store(&key);
        self.key = key;
        place
    }

    /// A pair's number; the series at `slot` is one that has it.
    fn intern(&mut self, name: &str, value: &str, slot: u32) -> u32 {
        let name = self.name(name).unwrap_or_else(|| self.add_name(name));
        if let Some(pair) = self.pair(name, value) {
            self.attach(pair, slot);
            return pair;
        }
        let new = Pair { name, value: value.into(), series: Some(Slots::One(slot)) };
        let number = match self.free.pop() {
            Some(number) => {
                self.pairs[number as usize] = new;
                number
            }
            None => {
                self.pairs.push(new);
                self.pairs.len() as u32 - 1
            }
        };
        self.names[name as usize].pairs.push(number);
        let (hasher, pairs) = (&self.hasher, &self.pairs);
        let hash = |pair: &u32| hasher.hash_one((pairs[*pair as usize].name, &*pairs[*pair as usize].value));
        self.by_pair.insert_unique(hash(&number), number, hash);
        number
    }

    fn attach(&mut self, pair: u32, slot: u32) {
        match &mut self.pairs[pair as usize].series {
            Some(series) => series.insert(slot),
            none => *none = Some(Slots::One(slot)),
        }
    }

    /// The next pair of a snapshot, which has no series yet; none is a number that is free.
    pub(crate) fn restore_pair(&mut self, pair: Option<(&str, &str)>) {
        let number = self.pairs.len() as u32;
        let Some((name, value)) = pair else {
            self.pairs.push(Pair { name: 0, value: Box::default(), series: None });
            self.free.push(number);
            return;
        };
        let name = self.name(name).unwrap_or_else(|| self.add_name(name));
        self.pairs.push(Pair { name, value: value.into(), series: None });
        self.names[name as usize].pairs.push(number);
        let (hasher, pairs) = (&self.hasher, &self.pairs);
        let hash = |pair: &u32| hasher.hash_one((pairs[*pair as usize].name, &*pairs[*pair as usize].value));
        self.by_pair.insert_unique(hash(&number), number, hash);
    }

    /// Adds a label set of a series by the numbers of its pairs; none when one of them is free.
    pub(crate) fn add_numbers(&mut self, numbers: &[u32], slot: u32) -> Option<Place> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        chunk::varint::put(numbers.len() as u64, &mut key);
        for number in numbers {
            self.pairs.get(*number as usize).filter(|pair| !pair.value.is_empty())?;
            self.attach(*number, slot);
            chunk::varint::put(u64::from(*number), &mut key);
        }
        let place = self.store(&key);
        self.key = key;
        Some(place)
    }

    /// Every pair by its number; none is a number that is free.
    pub(crate) fn all_pairs(&self) -> impl ExactSizeIterator<Item = Option<(&str, &str)>> {
        (0..self.pairs.len()).map(|number| self.pairs[number].series.is_some().then(|| self.text(number as u32)))
    }

    fn add_name(&mut self, text: &str) -> u32 {
        let number = self.names.len() as u32;
        self.names.push(Name { text: text.into(), pairs: Vec::new() });
        let (hasher, names) = (&self.hasher, &self.names);
        let hash = |name: &u32| hasher.hash_one(&*names[*name as usize].text);
        self.by_name.insert_unique(hash(&number), number, hash);
        number
    }

    /// Whether there is no room for another label set.
    pub(crate) fn is_full(&self) -> bool {
        self.pages.len() + 1 >= PAGES_MAX
    }

    fn store(&mut self, key: &[u8]) -> Place {
        let fits = |page: &Vec<u8>| page.len() + key.len() <= PAGE;
        if !self.pages.last().is_some_and(fits) {
            self.pages.push(Vec::with_capacity(PAGE.max(key.len())));
        }
        let page = self.pages.len() - 1;
        let place = page * PAGE + self.pages[page].len();
        self.pages[page].extend_from_slice(key);
        u32::try_from(place).expect("nothing is added when the pages are full")
    }

    /// The key of the set at a place.
    pub(crate) fn key(&self, place: Place) -> &[u8] {
        let bytes = &self.pages[place as usize / PAGE][place as usize % PAGE..];
        let mut rest = bytes;
        let count = chunk::varint::take(&mut rest).unwrap_or_default();
        for _ in 0..count {
            // Written by us.
            let _ = chunk::varint::take(&mut rest);
        }
        &bytes[..bytes.len() - rest.len()]
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The numbers of the pairs of a set, in the order of the names.
    pub(crate) fn numbers(&self, place: Place) -> impl Iterator<Item = u32> + '_ {
        let mut rest = self.key(place);
        let _ = chunk::varint::take(&mut rest);
        std::iter::from_fn(move || chunk::varint::take(&mut rest).ok().map(|number| number as u32))
    }

    /// The pairs of a set.
    pub(crate) fn pairs(&self, place: Place) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.numbers(place).map(|number| self.text(number))
    }

    /// Name and value of a pair.
    pub(crate) fn text(&self, number: u32) -> (&str, &str) {
        let pair = &self.pairs[number as usize];
        (&self.names[pair.name as usize].text, &pair.value)
    }

    /// The labels at a place, built with the memory of `builder`.
    pub(crate) fn labels(&self, place: Place, builder: &mut Builder) -> Labels {
        builder.clear();
        for (name, value) in self.pairs(place) {
            builder.push(name, value);
        }
        builder.build()
    }

    /// Takes a series away from the lists of its pairs. Pairs that no series has any more stay until [`Names::sweep`].
    pub(crate) fn remove(&mut self, place: Place, slot: u32) {
        let key = self.key(place).to_vec();
        self.dead += key.len();
        let mut rest = key.as_slice();
        let _ = chunk::varint::take(&mut rest);
        while let Ok(number) = chunk::varint::take(&mut rest) {
            let pair = &mut self.pairs[number as usize];
            if pair.series.as_mut().is_some_and(|series| series.remove(slot)) {
                pair.series = None;
            }
        }
    }

    /// Says that the series at one slot is at another now.
    pub(crate) fn move_slot(&mut self, place: Place, from: u32, to: u32) {
        let numbers: Vec<u32> = self.numbers(place).collect();
        for number in numbers {
            if let Some(series) = &mut self.pairs[number as usize].series {
                series.insert(to);
                series.remove(from);
            }
        }
    }

    /// Forgets pairs and names that no series has. O(pairs).
    pub(crate) fn sweep(&mut self) {
        let Self { hasher, names, pairs, by_pair, free, .. } = self;
        for name in names.iter_mut() {
            let before = name.pairs.len();
            name.pairs.retain(|number| {
                let pair = &mut pairs[*number as usize];
                if pair.series.is_some() {
                    return true;
                }
                let hash = hasher.hash_one((pair.name, &*pair.value));
                if let Ok(entry) = by_pair.find_entry(hash, |have| have == number) {
                    entry.remove();
                }
                pair.value = Box::default();
                free.push(*number);
                false
            });
            if name.pairs.len() < before / 2 {
                name.pairs.shrink_to_fit();
            }
        }
        while self.pairs.last().is_some_and(|pair| pair.series.is_none()) {
            self.pairs.pop();
        }
        let top = self.pairs.len() as u32;
        self.free.retain(|number| *number < top);
        self.free.shrink_to_fit();
        self.pairs.shrink_to(self.pairs.len() * 5 / 4);
        let (hasher, pairs) = (&self.hasher, &self.pairs);
        let hash = |pair: &u32| hasher.hash_one((pairs[*pair as usize].name, &*pairs[*pair as usize].value));
        self.by_pair.shrink_to(self.by_pair.len() * 5 / 4, hash);
        for pair in &mut self.pairs {
            if let Some(Slots::Many(slots)) = &mut pair.series {
                slots.optimize();
            }
        }
    }

    /// Whether so much is dead that [`Names::repack`] is worth its time.
    pub(crate) fn is_sparse(&self) -> bool {
        self.dead > PAGE && self.dead * 8 > self.pages.len() * PAGE
            || self.free.len() * 8 > self.pairs.len() + PAGE / 64
    }

    /// Gives the pairs new numbers without gaps and moves the label sets of all series into pages of their own: keys are
    /// others than before. O(bytes).
    pub(crate) fn repack<'a>(&mut self, places: impl Iterator<Item = &'a mut Place>) {
        let mut numbers = vec![0; self.pairs.len()];
        let mut pairs = Vec::with_capacity(self.pairs.len() - self.free.len());
        for (pair, number) in std::mem::take(&mut self.pairs).into_iter().zip(&mut numbers) {
            if pair.series.is_some() {
                *number = pairs.len() as u32;
                pairs.push(pair);
            }
        }
        self.pairs = pairs;
        self.free = Vec::new();
        self.names.iter_mut().flat_map(|name| &mut name.pairs).for_each(|pair| *pair = numbers[*pair as usize]);
        let (hasher, pairs) = (&self.hasher, &self.pairs);
        let hash = |pair: &u32| hasher.hash_one((pairs[*pair as usize].name, &*pairs[*pair as usize].value));
        let mut table = HashTable::with_capacity(pairs.len());
        for number in 0..pairs.len() as u32 {
            table.insert_unique(hash(&number), number, hash);
        }
        self.by_pair = table;
        let old = Self { pages: std::mem::take(&mut self.pages), ..Self::default() };
        self.dead = 0;
        let mut key = Vec::new();
        for place in places {
            key.clear();
            let all = old.numbers(*place).map(|number| numbers[number as usize]);
            chunk::varint::put(old.numbers(*place).count() as u64, &mut key);
            all.for_each(|number| chunk::varint::put(u64::from(number), &mut key));
            *place = self.store(&key);
        }
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let lists = |pair: &Pair| match &pair.series {
            Some(Slots::Many(slots)) => size_of::<RoaringBitmap>() + slots.serialized_size(),
            _ => 0,
        };
        let pairs: usize = self.pairs.iter().map(|pair| pair.value.len() + lists(pair)).sum();
        let names: usize = self.names.iter().map(|name| name.text.len() + name.pairs.capacity() * 4).sum();
        pairs
            + names
            + self.pairs.capacity() * size_of::<Pair>()
            + self.free.capacity() * 4
            + self.by_pair.allocation_size()
            + self.pages.iter().map(Vec::capacity).sum::<usize>()
    }

    /// For every pair its rank in the order of name and value: sets compare as the ranks of their pairs do.
    pub(crate) fn ranks(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.pairs.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.text(*a).cmp(&self.text(*b)));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in (0..).zip(order) {
            ranks[number as usize] = rank;
        }
        ranks
    }

    /// Names that some series has, in no order, each with its values and how many series have them.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = (&str, u64)>)> {
        let counted = |number: &u32| {
            let pair = &self.pairs[*number as usize];
            (&*pair.value, pair.series.as_ref().map_or(0, Slots::len))
        };
        self.names
            .iter()
            .filter(|name| name.pairs.iter().any(|number| self.pairs[*number as usize].series.is_some()))
            .map(move |name| (&*name.text, name.pairs.iter().map(counted).filter(|(_, series)| *series > 0)))
    }

    /// The number of series that have a pair.
    pub(crate) fn series_with(&self, name: &str, value: &str) -> u64 {
        let pair = self.name(name).and_then(|name| self.pair(name, value));
        pair.and_then(|pair| self.pairs[pair as usize].series.as_ref()).map_or(0, Slots::len)
    }

    /// The slots that satisfy all matchers; none means all.
    pub(crate) fn select(&self, matchers: &[Matcher], all: impl FnOnce() -> RoaringBitmap) -> RoaringBitmap {
        let (mut narrow, wide): (Vec<&Matcher>, Vec<&Matcher>) =
            matchers.iter().partition(|matcher| !matcher.matches_empty());
        // What is cheap and takes much away goes first.
        narrow.sort_by_key(|matcher| usize::from(matcher.op() != model::MatchOp::Equal));
        let mut found: Option<RoaringBitmap> = None;
        for matcher in narrow {
            if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                return RoaringBitmap::new();
            }
            let slots = match matcher.op() {
                model::MatchOp::Equal => self.with_pair(matcher.name(), matcher.value()),
                _ => self.with_values(matcher.name(), |value| matcher.matches(value)),
            };
            found = Some(match found {
                Some(have) => have & slots,
                None => slots,
            });
        }
        let mut found = found.unwrap_or_else(all);
        for matcher in wide {
            found -= self.with_values(matcher.name(), |value| !matcher.matches(value));
        }
        found
    }

    fn with_pair(&self, name: &str, value: &str) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        let pair = self.name(name).and_then(|name| self.pair(name, value));
        if let Some(series) = pair.and_then(|pair| self.pairs[pair as usize].series.as_ref()) {
            series.add_to(&mut found);
        }
        found
    }

    fn with_values(&self, name: &str, keep: impl Fn(&str) -> bool) -> RoaringBitmap {
        let mut found = RoaringBitmap::new();
        let Some(name) = self.name(name) else { return found };
        let pairs = self.names[name as usize].pairs.iter().map(|number| &self.pairs[*number as usize]);
        for series in pairs.filter(|pair| keep(&pair.value)).filter_map(|pair| pair.series.as_ref()) {
            series.add_to(&mut found);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::MatchOp;

    fn labels(number: u32) -> Labels {
        let (odd, i) = (if number % 2 == 1 { "yes" } else { "" }, number.to_string());
        Labels::from_pairs([("__name__", "m"), ("i", &i), ("odd", odd)])
    }

    /// The slots that a matcher selects of those in use.
    fn select(names: &Names, slots: &[u32], op: MatchOp, name: &str, value: &str) -> Vec<u32> {
        let matcher = Matcher::new(op, name, value).expect("valid");
        names.select(&[matcher], || slots.iter().copied().collect()).iter().collect()
    }

    #[test]
    fn label_sets_come_back_through_removal_sweeping_moving_and_packing() {
        let (mut names, mut builder, mut key) = (Names::default(), Builder::default(), Vec::new());
        let mut places: Vec<(u32, Place)> = (0..3000).map(|slot| (slot, names.add(&labels(slot), slot))).collect();
        assert!(names.find_key(&labels(7), &mut key) && key == names.key(places[7].1));
        assert!(!names.find_key(&labels(3000), &mut key));
        for (slot, place) in places.iter().filter(|(slot, _)| slot % 3 > 0) {
            names.remove(*place, *slot);
        }
        places.retain(|(slot, _)| slot % 3 == 0);
        names.sweep();
        assert!(names.is_sparse() && !names.find_key(&labels(1), &mut key));
        names.move_slot(places[5].1, 15, 1);
        for packed in [false, true] {
            if packed {
                names.repack(places.iter_mut().map(|(_, place)| place));
                assert!(!names.is_sparse());
            }
            for (slot, place) in &places {
                assert_eq!(names.labels(*place, &mut builder), labels(*slot));
                assert!(names.find_key(&labels(*slot), &mut key) && key == names.key(*place));
            }
            let slots: Vec<u32> = places.iter().map(|(slot, _)| if *slot == 15 { 1 } else { *slot }).collect();
            assert_eq!(select(&names, &slots, MatchOp::Equal, "i", "15"), [1]);
            assert_eq!(select(&names, &slots, MatchOp::Equal, "i", "16"), []);
            assert_eq!(select(&names, &slots, MatchOp::Equal, "odd", "yes").len(), 500);
            assert_eq!(select(&names, &slots, MatchOp::NotEqual, "odd", "yes").len(), 500);
            assert_eq!(select(&names, &slots, MatchOp::Regex, "i", "29.[69]").len(), 6);
            assert_eq!(names.series_with("__name__", "m"), 1000);
            assert_eq!(names.each().map(|(_, values)| values.count()).sum::<usize>(), 1002);
        }
        let ranks = names.ranks();
        let by_rank = |place: Place| names.numbers(place).map(|number| ranks[number as usize]).collect::<Vec<_>>();
        for pair in places.windows(2) {
            let (a, b) = (labels(pair[0].0), labels(pair[1].0));
            assert_eq!(by_rank(pair[0].1).cmp(&by_rank(pair[1].1)), a.cmp(&b), "{a} and {b}");
        }
    }
}
