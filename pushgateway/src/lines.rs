//! The entries of one family in order, in chunks that a scrape shares and a push copies only when both meet.

use crate::line::order;
use std::{
    cmp::Ordering,
    sync::{Arc, OnceLock},
};

/// Bytes of text at which a chunk is divided: large enough that a scrape is few pieces, small enough that a push moves
/// little.
const CHUNK_MAX: usize = 16 << 10;

/// A run of entries.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    text: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<u32>,
    /// The text deflated, once somebody asked.
    pub(crate) deflated: OnceLock<crate::gzip::Piece>,
}

impl Clone for Chunk {
    /// A copy is made to be changed, so it has no deflated form.
    fn clone(&self) -> Self {
        Self { text: self.text.clone(), ends: self.ends.clone(), deflated: OnceLock::new() }
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl Chunk {
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before] as usize)
    }

    fn get(&self, index: usize) -> &[u8] {
        &self.text[self.start(index)..self.ends[index] as usize]
    }

    fn find(&self, entry: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match order(self.get(middle), entry) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Puts `entry` in place of `count` entries from `index`; an empty one only removes.
    fn splice(&mut self, index: usize, count: usize, entry: &[u8]) {
        self.deflated.take();
        let start = self.start(index);
        let end = if count == 0 { start } else { self.ends[index + count - 1] as usize };
        if entry.len() == end - start && count == 1 {
            self.text[start..end].copy_from_slice(entry);
            return;
        }
        // Growing by doubling would leave half of a large store unused.
        let grown = (self.text.len() + entry.len()).saturating_sub(end - start);
        if grown > self.text.capacity() {
            self.text.reserve_exact(entry.len() + 1024);
        }
        self.text.splice(start..end, entry.iter().copied());
        let new = (!entry.is_empty()).then_some((start + entry.len()) as u32);
        self.ends.splice(index..index + count, new);
        let first = index + usize::from(new.is_some());
        for later in &mut self.ends[first..] {
            *later = (*later as usize + entry.len() - (end - start)) as u32;
        }
    }

    /// Divides the chunk in two; answers the second half.
    fn divide(&mut self) -> Self {
        let middle = self.ends.partition_point(|end| (*end as usize) < self.text.len() / 2).max(1);
        let at = self.start(middle);
        let text = self.text.split_off(at);
        self.text.shrink_to(at + 1024);
        let mut ends = self.ends.split_off(middle);
        self.ends.shrink_to_fit();
        ends.iter_mut().for_each(|end| *end -= at as u32);
        Self { text, ends, deflated: OnceLock::new() }
    }
}

/// Entries in order, no two equal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    chunks: Vec<Arc<Chunk>>,
}

impl Lines {
    pub(crate) fn chunks(&self) -> &[Arc<Chunk>] {
        &self.chunks
    }

    /// Which chunk has or would get the entry.
    fn chunk_of(&self, entry: &[u8]) -> usize {
        self.chunks.partition_point(|chunk| order(chunk.get(0), entry).is_le()).saturating_sub(1)
    }

    /// Whether there is an entry with the labels of this one. O(log n) comparisons.
    pub(crate) fn contains(&self, entry: &[u8]) -> bool {
        self.chunks.get(self.chunk_of(entry)).is_some_and(|chunk| chunk.find(entry).is_ok())
    }

    /// Adds an entry, or replaces the one with its labels. O(log n) comparisons and a move within one chunk.
    pub(crate) fn set(&mut self, entry: &[u8]) {
        let at = self.chunk_of(entry);
        if self.chunks.is_empty() {
            self.chunks.push(Arc::default());
        }
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        match chunk.find(entry) {
            Ok(index) => chunk.splice(index, 1, entry),
            Err(index) => chunk.splice(index, 0, entry),
        }
        if chunk.text.len() > CHUNK_MAX && chunk.ends.len() > 1 {
            let second = chunk.divide();
            self.chunks.insert(at + 1, Arc::new(second));
        }
    }

    /// Removes the entry with these labels, if there is one.
    pub(crate) fn remove(&mut self, entry: &[u8]) {
        let at = self.chunk_of(entry);
        let Some(index) = self.chunks.get(at).and_then(|chunk| chunk.find(entry).ok()) else { return };
        let chunk = Arc::make_mut(&mut self.chunks[at]);
        chunk.splice(index, 1, b"");
        let size = chunk.text.len();
        if size == 0 {
            self.chunks.remove(at);
        } else if at > 0 && size + self.chunks[at - 1].text.len() < CHUNK_MAX / 2 {
            let second = self.chunks.remove(at);
            let first = Arc::make_mut(&mut self.chunks[at - 1]);
            first.deflated.take();
            let base = first.text.len() as u32;
            first.text.extend_from_slice(&second.text);
            first.ends.extend(second.ends.iter().map(|end| base + end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use testkit::Rng;

    fn entry(number: usize, value: usize) -> Vec<u8> {
        crate::line::gauge_entry("m", &[("job", &format!("{number:05}{}", "x".repeat(number % 90)))], value as f64)
    }

    #[test]
    fn chunks_behave_as_a_map() {
        for seed in 0..6 {
            let (mut rng, mut lines, mut model) = (Rng::new(seed), Lines::default(), BTreeMap::new());
            let span = [10, 300, 3000][seed as usize % 3];
            for step in 0..3000 {
                let number = rng.below(span);
                if rng.chance(if step < 2000 { 75 } else { 30 }) {
                    lines.set(&entry(number, step));
                    model.insert(number, step);
                } else {
                    lines.remove(&entry(number, 0));
                    model.remove(&number);
                }
                assert_eq!(lines.contains(&entry(number, 1)), model.contains_key(&number));
            }
            let text: Vec<u8> = lines.chunks().iter().flat_map(|chunk| chunk.text.clone()).collect();
            let want: Vec<u8> = model.iter().flat_map(|(number, step)| entry(*number, *step)).collect();
            assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&want), "seed {seed}");
            assert!(lines.chunks().iter().all(|chunk| chunk.text.len() <= CHUNK_MAX && !chunk.ends.is_empty()));
        }
    }

    #[test]
    fn a_reader_keeps_what_it_saw() {
        let mut lines = Lines::default();
        lines.set(&entry(1, 1));
        let seen = lines.chunks().to_vec();
        lines.set(&entry(1, 2));
        assert_eq!(seen[0].text, entry(1, 1));
        assert_eq!(lines.chunks()[0].text, entry(1, 2));
    }
}
