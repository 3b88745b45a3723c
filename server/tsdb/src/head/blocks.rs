//! Bits of open chunks in linked blocks of 32 bytes from own pages: a chunk grows without the allocator, and one that
//! ends gives its blocks to the next.

use chunk::stream::Sink;

/// Bytes of a block; the first four name the next one.
const BLOCK: usize = 32;
const NEXT: usize = 4;
/// Bits that a block holds.
const BITS: u32 = ((BLOCK - NEXT) * 8) as u32;
/// Blocks of a page.
const PAGE: u32 = 1 << 11;
/// No block.
const NONE: u32 = u32::MAX;
/// Blocks that may lie idle, as a fraction of all, before they are packed together.
const IDLE_MAX: (u32, u32) = (1, 8);

/// The bits of one chunk: where they begin and end, and how many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    first: u32,
    last: u32,
    bits: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self { first: NONE, last: NONE, bits: 0 }
    }
}

impl Chain {
    pub(crate) fn bits(&self) -> u32 {
        self.bits
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    pages: Vec<Box<[[u8; BLOCK]]>>,
    /// Blocks handed out at least once.
    top: u32,
    free: Option<u32>,
    idle: u32,
}

impl Blocks {
    fn block(&mut self, number: u32) -> &mut [u8; BLOCK] {
        &mut self.pages[(number / PAGE) as usize][(number % PAGE) as usize]
    }

    fn get(&self, number: u32) -> &[u8; BLOCK] {
        &self.pages[(number / PAGE) as usize][(number % PAGE) as usize]
    }

    fn next(block: &[u8; BLOCK]) -> u32 {
        u32::from_le_bytes([block[0], block[1], block[2], block[3]])
    }

    fn take(&mut self) -> u32 {
        if let Some(number) = self.free {
            let block = self.block(number);
            let next = Self::next(block);
            block.fill(0);
            self.free = (next != NONE).then_some(next);
            self.idle -= 1;
            return number;
        }
        if self.top / PAGE >= self.pages.len() as u32 {
            self.pages.push(vec![[0; BLOCK]; PAGE as usize].into_boxed_slice());
        }
        self.top += 1;
        self.top - 1
    }

    /// A place to append bits.
    pub(crate) fn sink<'a>(&'a mut self, chain: &'a mut Chain) -> Tail<'a> {
        Tail { blocks: self, chain }
    }

    /// Appends the bytes of a chunk, the last one filled up with zeros.
    pub(crate) fn read(&self, chain: &Chain, out: &mut Vec<u8>) {
        let (mut number, mut left) = (chain.first, chain.bits.div_ceil(8) as usize);
        while left > 0 {
            let block = self.get(number);
            let take = left.min(BLOCK - NEXT);
            out.extend_from_slice(&block[NEXT..NEXT + take]);
            left -= take;
            number = Self::next(block);
        }
    }

    /// The first bytes of a chunk, at most a block.
    pub(crate) fn beginning(&self, chain: &Chain) -> &[u8] {
        match chain.bits.min(BITS).div_ceil(8) as usize {
            0 => &[],
            length => &self.get(chain.first)[NEXT..NEXT + length],
        }
    }

    /// Gives the blocks of a chunk back; it is empty then.
    pub(crate) fn clear(&mut self, chain: &mut Chain) {
        if chain.first == NONE {
            return;
        }
        let free = self.free.unwrap_or(NONE);
        let last = self.block(chain.last);
        last[..NEXT].copy_from_slice(&free.to_le_bytes());
        self.free = Some(chain.first);
        self.idle += chain.bits.div_ceil(BITS);
        *chain = Chain::default();
    }

    /// Whether so many blocks lie idle that [`Blocks::pack`] is worth its time.
    pub(crate) fn is_sparse(&self) -> bool {
        self.top > PAGE && u64::from(self.idle) * u64::from(IDLE_MAX.1) > u64::from(self.top) * u64::from(IDLE_MAX.0)
    }

    /// Moves all chunks into pages of their own and drops the others. O(bytes of all open chunks).
    pub(crate) fn pack<'a>(&mut self, chains: impl Iterator<Item = &'a mut Chain>) {
        let mut packed = Self::default();
        for chain in chains {
            let (mut number, mut left) = (chain.first, chain.bits.div_ceil(BITS));
            let mut moved = Chain { bits: chain.bits, ..Chain::default() };
            while left > 0 {
                let place = packed.take();
                *packed.block(place) = *self.get(number);
                packed.link(&mut moved, place);
                number = Self::next(self.get(number));
                left -= 1;
            }
            *chain = moved;
        }
        *self = packed;
    }

    fn link(&mut self, chain: &mut Chain, block: u32) {
        if chain.first == NONE {
            chain.first = block;
        } else {
            self.block(chain.last)[..NEXT].copy_from_slice(&block.to_le_bytes());
        }
        chain.last = block;
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.len() * PAGE as usize * BLOCK
    }

    /// A chunk out of a snapshot.
    pub(crate) fn restore(&mut self, bytes: &[u8], bits: u32) -> Chain {
        let mut chain = Chain { bits, ..Chain::default() };
        for part in bytes.chunks(BLOCK - NEXT) {
            let number = self.take();
            self.block(number)[NEXT..NEXT + part.len()].copy_from_slice(part);
            self.link(&mut chain, number);
        }
        chain
    }
}

/// The end of a chunk, taking bits.
pub(crate) struct Tail<'a> {
    blocks: &'a mut Blocks,
    chain: &'a mut Chain,
}

impl Sink for Tail<'_> {
    fn put(&mut self, bits: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            let used = self.chain.bits % BITS;
            if used == 0 {
                let number = self.blocks.take();
                self.blocks.link(self.chain, number);
            }
            let take = left.min(BITS - used);
            let part = bits << (64 - left) >> (64 - take);
            // The bits span at most nine bytes: one window takes them.
            let (first, shift) = (NEXT + (used / 8) as usize, used % 8);
            let window = (u128::from(part) << (128 - take) >> shift).to_be_bytes();
            let block = self.blocks.block(self.chain.last);
            let touched = ((shift + take).div_ceil(8)) as usize;
            block[first..first + touched].iter_mut().zip(window).for_each(|(byte, bits)| *byte |= bits);
            self.chain.bits += take;
            left -= take;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chunk::stream::Writer;
    use testkit::Rng;

    #[test]
    fn chains_hold_what_a_vector_holds_through_growth_reuse_and_packing() {
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let mut blocks = Blocks::default();
            let mut chains = vec![(Chain::default(), Writer::default()); 40];
            for _ in 0..4000 {
                let (chain, writer) = &mut chains[rng.below(40)];
                if rng.chance(2) {
                    blocks.clear(chain);
                    *writer = Writer::default();
                }
                let count = rng.below(65) as u32;
                let bits = if count == 0 { 0 } else { rng.next_u64() >> (64 - count) };
                blocks.sink(chain).put(bits, count);
                writer.put(bits, count);
                if rng.chance(1) {
                    blocks.pack(chains.iter_mut().map(|(chain, _)| chain));
                    assert_eq!(blocks.idle, 0);
                }
            }
            for (chain, writer) in &chains {
                let mut bytes = Vec::new();
                blocks.read(chain, &mut bytes);
                assert_eq!(bytes, writer.bytes());
                assert_eq!(blocks.beginning(chain), &bytes[..bytes.len().min(28)]);
                let restored = blocks.restore(&bytes, chain.bits);
                let mut again = Vec::new();
                blocks.read(&restored, &mut again);
                assert_eq!(again, bytes);
            }
        }
    }
}
