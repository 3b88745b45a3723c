//! What a target exposed so far: series text to series id, found by place first and by hash only when the order changed.
//!
//! A target repeats itself. Each slot remembers which slot came after it in the last body, so a body in the same order
//! costs one comparison a line: no hash, no parse, no allocation.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;
use storage::SeriesId;

/// A place in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// No slot: before the first line of a body, or after the last known one.
const NOWHERE: u32 = u32::MAX;

/// One series text.
#[derive(Debug)]
pub(crate) struct Slot {
    text: Box<[u8]>,
    next: u32,
    /// The series it became; none was dropped by relabelling.
    pub(crate) id: Option<SeriesId>,
    /// The scrape that saw it last.
    pub(crate) seen: u64,
    /// The scrape that last stored a sample whose end must be marked; 0 is never.
    pub(crate) stored: u64,
    /// Whether a sample of it was ever stored: such a series is not new.
    pub(crate) known: bool,
    /// Whether `stored` replaced the last good scrape: what remains true when this scrape is undone.
    pub(crate) before: bool,
}

/// All series texts of one target.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: HashTable<u32>,
    hasher: DefaultHashBuilder,
    first: u32,
    at: u32,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            first: NOWHERE,
            at: NOWHERE,
        }
    }

    /// Series texts held.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Begins a body: the next text is compared with the first of the last body.
    pub(crate) fn rewind(&mut self) {
        self.at = NOWHERE;
    }

    /// The slot of a text, if it is known. O(length) in the order of the last body, else one hash more.
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<Place> {
        let guess = self.successor();
        let found = match self.slots.get(guess as usize) {
            Some(slot) if *slot.text == *text => guess,
            _ => {
                let hash = self.hasher.hash_one(text);
                *self.table.find(hash, |place| *self.slots[*place as usize].text == *text)?
            }
        };
        self.follow(found);
        Some(Place(found))
    }

    /// Adds a text that [`Cache::find`] did not know.
    pub(crate) fn insert(&mut self, text: &[u8], id: Option<SeriesId>) -> Place {
        let slot = Slot { text: text.into(), next: NOWHERE, id, seen: 0, stored: 0, known: false, before: false };
        let place = match self.free.pop() {
            Some(place) => {
                self.slots[place as usize] = slot;
                place
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("a body of less than 4 GiB has fewer lines than that")
            }
        };
        let (hasher, slots) = (&self.hasher, &self.slots);
        let hash = |place: &u32| hasher.hash_one(&*slots[*place as usize].text);
        self.table.insert_unique(hash(&place), place, hash);
        self.follow(place);
        Place(place)
    }

    pub(crate) fn slot(&mut self, place: Place) -> &mut Slot {
        &mut self.slots[place.0 as usize]
    }

    /// All slots in use.
    pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().filter(|slot| !slot.text.is_empty())
    }

    /// Drops the slots that `keep` refuses and gives their memory back. O(slots).
    pub(crate) fn retain(&mut self, keep: impl Fn(&Slot) -> bool) {
        for place in 0..self.slots.len() {
            let slot = &self.slots[place];
            if slot.text.is_empty() || keep(slot) {
                continue;
            }
            let hash = self.hasher.hash_one(&*slot.text);
            if let Ok(entry) = self.table.find_entry(hash, |have| *have as usize == place) {
                let (freed, _) = entry.remove();
                self.slots[place].text = Box::default();
                self.free.push(freed);
            }
        }
        if self.free.len() == self.slots.len() {
            *self = Self::new();
        }
    }

    fn successor(&self) -> u32 {
        self.slots.get(self.at as usize).map_or(self.first, |slot| slot.next)
    }

    fn follow(&mut self, place: u32) {
        match self.slots.get_mut(self.at as usize) {
            Some(slot) => slot.next = place,
            None => self.first = place,
        }
        self.at = place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(cache: &mut Cache, texts: &[&str]) -> Vec<bool> {
        cache.rewind();
        let mut known = Vec::new();
        for text in texts {
            let found = cache.find(text.as_bytes());
            known.push(found.is_some());
            if found.is_none() {
                cache.insert(text.as_bytes(), None);
            }
        }
        known
    }

    /// Whether every text is found at the place that the last body predicts.
    fn predicted(cache: &mut Cache, texts: &[&str]) -> bool {
        cache.rewind();
        texts.iter().all(|text| {
            let guess = cache.successor();
            cache.find(text.as_bytes()) == Some(Place(guess))
        })
    }

    #[test]
    fn the_same_body_is_found_by_place_and_a_changed_one_by_hash() {
        let mut cache = Cache::new();
        assert_eq!(walk(&mut cache, &["a", "b", "c"]), [false; 3]);
        assert!(predicted(&mut cache, &["a", "b", "c"]));
        assert_eq!(walk(&mut cache, &["a", "new", "b", "c"]), [true, false, true, true]);
        assert!(predicted(&mut cache, &["a", "new", "b", "c"]));
        assert_eq!(walk(&mut cache, &["c", "b", "a"]), [true; 3]);
        assert!(predicted(&mut cache, &["c", "b", "a"]));
    }

    #[test]
    fn dropped_slots_are_forgotten_and_used_again() {
        let mut cache = Cache::new();
        walk(&mut cache, &["a", "b", "c", "d"]);
        cache.retain(|slot| !matches!(&*slot.text, b"b" | b"c"));
        assert_eq!((cache.len(), cache.slots().count()), (2, 2));
        assert_eq!(walk(&mut cache, &["a", "b", "x", "d"]), [true, false, false, true]);
        assert_eq!(cache.slots.len(), 4);
        cache.retain(|_| false);
        assert_eq!((cache.len(), cache.slots.capacity()), (0, 0));
    }
}
