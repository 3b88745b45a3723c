//! What a target exposed so far: series text to series id, found by place first and by table only when the order changed.
//!
//! A target repeats itself. Each slot remembers which slot came after it in the last body, so a body in the same order
//! costs one hash and one comparison of numbers a line: no look-up, no parse, no allocation. The text itself is not
//! kept: its 64-bit hash under a key that this process drew, with its length, stands for it. Two texts of a target with
//! the same length and hash would become one series; with a million texts the odds are one in 40 million.

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use storage::SeriesId;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A place in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

/// No slot: before the first line of a body, or after the last known one.
const NOWHERE: u32 = u32::MAX;

/// No series: the text was dropped by relabelling.
const DROPPED: u64 = u64::MAX;

/// One series text.
#[derive(Debug)]
pub(crate) struct Slot {
    hash: u64,
    id: u64,
    length: u32,
    next: u32,
    /// The scrape that saw it last.
    pub(crate) seen: u32,
    /// The scrape that last stored a sample whose end must be marked; 0 is never.
    pub(crate) stored: u32,
    used: bool,
    /// Whether a sample of it was ever stored: such a series is not new.
    pub(crate) known: bool,
    /// Whether `stored` replaced the last good scrape: what remains true when this scrape is undone.
    pub(crate) before: bool,
}

impl Slot {
    /// The series it became; none was dropped by relabelling.
    pub(crate) fn id(&self) -> Option<SeriesId> {
        (self.id != DROPPED).then_some(SeriesId(self.id))
    }

    /// Names the series it became.
    pub(crate) fn set_id(&mut self, id: Option<SeriesId>) {
        self.id = id.map_or(DROPPED, |id| id.0);
    }

    fn is(&self, text: Text) -> bool {
        self.hash == text.hash && self.length == text.length
    }
}

/// What stands for a text.
#[derive(Clone, Copy)]
struct Text {
    hash: u64,
    length: u32,
}

/// All series texts of one target. 40 bytes a text, and some nine of the table.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<Slot>,
    free: Vec<u32>,
    table: HashTable<u32>,
    key: u64,
    first: u32,
    at: u32,
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            // Different in every process, so that no target can aim at a collision.
            key: RandomState::new().hash_one(0),
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

    fn text(&self, text: &[u8]) -> Text {
        // No body is that long; a longer text would only be found under a wrong length, never as another one.
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        Text { hash: xxh3_64_with_seed(text, self.key), length }
    }

    /// The slot of a text, if it is known. O(length), in the order of the last body without a look-up.
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<Place> {
        let text = self.text(text);
        let guess = self.successor();
        let found = match self.slots.get(guess as usize) {
            Some(slot) if slot.used && slot.is(text) => guess,
            _ => *self.table.find(text.hash, |place| self.slots[*place as usize].is(text))?,
        };
        self.follow(found);
        Some(Place(found))
    }

    /// Adds a text that [`Cache::find`] did not know.
    pub(crate) fn insert(&mut self, text: &[u8], id: Option<SeriesId>) -> Place {
        let Text { hash, length } = self.text(text);
        let mut slot = Slot {
            hash,
            id: DROPPED,
            length,
            next: NOWHERE,
            seen: 0,
            stored: 0,
            used: true,
            known: false,
            before: false,
        };
        slot.set_id(id);
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
        let slots = &self.slots;
        self.table.insert_unique(hash, place, |place| slots[*place as usize].hash);
        self.follow(place);
        Place(place)
    }

    pub(crate) fn slot(&mut self, place: Place) -> &mut Slot {
        &mut self.slots[place.0 as usize]
    }

    /// All slots in use.
    pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().filter(|slot| slot.used)
    }

    /// Drops the slots that `keep` refuses and gives their memory back. O(slots).
    pub(crate) fn retain(&mut self, keep: impl Fn(&Slot) -> bool) {
        for place in 0..self.slots.len() {
            let slot = &self.slots[place];
            if !slot.used || keep(slot) {
                continue;
            }
            if let Ok(entry) = self.table.find_entry(slot.hash, |have| *have as usize == place) {
                let (freed, _) = entry.remove();
                self.slots[place].used = false;
                self.free.push(freed);
            }
        }
        if self.free.len() == self.slots.len() {
            *self = Self { key: self.key, ..Self::new() };
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
        for (place, round) in [(1, 0), (2, 0), (0, 1), (3, 1)] {
            cache.slot(Place(place)).seen = round;
        }
        cache.retain(|slot| slot.seen == 1);
        assert_eq!((cache.len(), cache.slots().count()), (2, 2));
        assert_eq!(walk(&mut cache, &["a", "b", "x", "d"]), [true, false, false, true]);
        assert_eq!(cache.slots.len(), 4);
        cache.retain(|_| false);
        assert_eq!((cache.len(), cache.slots.capacity()), (0, 0));
    }

    #[test]
    fn a_slot_is_small() {
        assert_eq!(size_of::<Slot>(), 40);
    }
}
