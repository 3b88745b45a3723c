//! A simulated file: what reads see, what a power cut leaves, and the difference.

use std::collections::BTreeSet;

use crate::rng::Rng;

/// What disks write as a whole.
pub(crate) const SECTOR: usize = 512;

#[derive(Clone, Debug, Default)]
pub(crate) struct Inode {
    pub(crate) seen: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: BTreeSet<usize>,
    len_dirty: bool,
    /// Mapped once: writing would change bytes under a shared slice, cutting would end a real process.
    pub(crate) sealed: bool,
}

impl Inode {
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(!self.sealed, "a mapped file must never be written");
        let end = at + bytes.len();
        if bytes.is_empty() {
            return;
        }
        if end > self.seen.len() {
            self.set_len(end);
        }
        self.seen[at..end].copy_from_slice(bytes);
        self.dirty.extend(at / SECTOR..=(end - 1) / SECTOR);
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        assert!(!self.sealed || len == self.seen.len(), "a mapped file must never be cut or extended");
        let old = self.seen.len();
        if len == old {
            return;
        }
        self.seen.resize(len, 0);
        self.len_dirty = true;
        if len > old {
            self.dirty.extend(old / SECTOR..=(len - 1) / SECTOR);
        } else {
            self.dirty.retain(|sector| sector * SECTOR < len);
        }
    }

    fn persist(&mut self, sector: usize) {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(self.seen.len());
        if end <= start {
            return;
        }
        if self.durable.len() < end {
            self.durable.resize(end, 0);
        }
        self.durable[start..end].copy_from_slice(&self.seen[start..end]);
    }

    pub(crate) fn sync(&mut self) {
        if std::mem::take(&mut self.len_dirty) {
            self.durable.resize(self.seen.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            self.persist(sector);
        }
    }

    /// What kernels do when writing back fails: the pages count as clean although the disk never got them.
    pub(crate) fn forget_dirt(&mut self) {
        self.dirty.clear();
        self.len_dirty = false;
    }

    /// Drops the cache: reads now see the disk.
    pub(crate) fn drop_cache(&mut self) {
        self.seen.clone_from(&self.durable);
    }

    pub(crate) fn flip_bit(&mut self, bit: usize) {
        for bytes in [&mut self.seen, &mut self.durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Keeps each dirty sector with a chance of `percent`, and the new length or the old one.
    pub(crate) fn power_cut(&mut self, percent: u64, rng: &mut Rng) {
        let kept: Vec<usize> = self.dirty.iter().copied().filter(|_| rng.chance(percent)).collect();
        let new_len = if self.len_dirty && rng.chance(50) { self.seen.len() } else { self.durable.len() };
        let garbage = rng.chance(30);
        let old_len = self.durable.len();
        if new_len > old_len {
            self.durable.extend(if garbage { rng.bytes(new_len - old_len) } else { vec![0; new_len - old_len] });
        }
        for sector in kept {
            self.persist(sector);
        }
        self.durable.resize(new_len, 0);
        self.dirty.clear();
        self.len_dirty = false;
        self.sealed = false;
        self.drop_cache();
    }
}
