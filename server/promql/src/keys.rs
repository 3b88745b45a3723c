//! Numbers for label sets by some of their labels: groups of an aggregation, match groups of a join. The labels are
//! hashed and compared where they lie; a set of them is built only once a number.

use model::{Builder, Labels, METRIC_NAME};
use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hasher},
};

/// Which labels count.
#[derive(Clone, Copy)]
pub(crate) struct Subset<'a> {
    pub(crate) names: &'a [String],
    /// All but the names, and not the metric's name.
    pub(crate) without: bool,
}

impl Subset<'_> {
    fn has(&self, name: &str) -> bool {
        let named = self.names.iter().any(|have| have == name);
        if self.without { !named && name != METRIC_NAME } else { named }
    }

    /// The labels that count.
    fn of<'l>(&self, labels: &'l Labels) -> impl Iterator<Item = (&'l str, &'l str)> {
        labels.iter().filter(|(name, _)| self.has(name))
    }

    /// A set of them.
    pub(crate) fn labels(&self, labels: &Labels) -> Labels {
        if !self.without && self.names.is_empty() {
            return Labels::empty();
        }
        let mut builder = Builder::default();
        for (name, value) in self.of(labels) {
            builder.push(name, value);
        }
        builder.build()
    }
}

/// Numbers from 0 in the order in which sets are met.
pub(crate) struct Keys<'a> {
    subset: Subset<'a>,
    /// By hash; two sets of one hash are told apart.
    places: HashMap<u64, Vec<usize>>,
    heads: Vec<Labels>,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(subset: Subset<'a>) -> Self {
        Self { subset, places: HashMap::new(), heads: Vec::new() }
    }

    /// The number of a set, and whether it is new.
    pub(crate) fn number(&mut self, labels: &Labels) -> (usize, bool) {
        if !self.subset.without && self.subset.names.is_empty() {
            let new = self.heads.is_empty();
            if new {
                self.heads.push(Labels::empty());
            }
            return (0, new);
        }
        let mut hash = DefaultHasher::new();
        for (name, value) in self.subset.of(labels) {
            hash.write(name.as_bytes());
            hash.write_u8(0xff);
            hash.write(value.as_bytes());
            hash.write_u8(0xff);
        }
        let places = self.places.entry(hash.finish()).or_default();
        let known = places.iter().find(|place| self.subset.of(labels).eq(self.heads[**place].iter()));
        if let Some(place) = known {
            return (*place, false);
        }
        let place = self.heads.len();
        places.push(place);
        self.heads.push(self.subset.labels(labels));
        (place, true)
    }

    /// The labels that count, of every number.
    pub(crate) fn heads(&self) -> &[Labels] {
        &self.heads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_numbered_by_what_counts() {
        let labels = |a: &str, b: &str| Labels::from_pairs([("__name__", "x"), ("a", a), ("b", b)]);
        let (names, none) = (["a".to_owned()], []);
        let sets = [labels("1", "p"), labels("2", "p"), labels("1", "q"), labels("", "q")];
        let check = |subset: Subset<'_>, want: [usize; 4]| {
            let mut keys = Keys::new(subset);
            assert_eq!(sets.clone().map(|set| keys.number(&set).0), want);
            assert_eq!(keys.number(&sets[3]), (want[3], false));
            assert!(sets.iter().zip(want).all(|(set, number)| keys.heads()[number] == subset.labels(set)));
        };
        check(Subset { names: &names, without: false }, [0, 1, 0, 2]);
        check(Subset { names: &names, without: true }, [0, 0, 1, 1]);
        check(Subset { names: &none, without: false }, [0, 0, 0, 0]);
        check(Subset { names: &none, without: true }, [0, 1, 2, 3]);
    }
}
