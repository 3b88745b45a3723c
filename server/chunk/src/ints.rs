//! Columns of whole numbers: values, differences or differences of differences, as a packed stream.

use crate::{Damaged, pack, varint};

/// How often neighbours are subtracted at most.
const ORDER_MAX: u8 = 2;

/// A column on its way out, with neighbours subtracted as often as pays.
pub(crate) struct Column {
    /// About how many bits the stream takes.
    pub(crate) cost: u64,
    order: u8,
    work: Vec<i64>,
}

impl Column {
    /// Finds the order. O(numbers).
    pub(crate) fn plan(numbers: &[i64]) -> Self {
        let mut work = numbers.to_vec();
        let mut best = Self { cost: cost(&work), order: 0, work: work.clone() };
        for order in 1..=ORDER_MAX {
            subtract(&mut work, usize::from(order) - 1);
            let cost = cost(work.get(usize::from(order)..).unwrap_or_default());
            if cost < best.cost {
                best = Self { cost, order, work: work.clone() };
            }
        }
        best
    }

    /// Appends the column; its length is not part of it.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.order);
        let (first, rest) = self.work.split_at(usize::from(self.order).min(self.work.len()));
        first.iter().for_each(|number| varint::put_signed(*number, out));
        pack::put(rest, out);
    }
}

/// Appends a column; its length is not part of it. O(numbers).
pub(crate) fn put(numbers: &[i64], out: &mut Vec<u8>) {
    Column::plan(numbers).put(out);
}

/// About how many bits a stream takes: what tells two of them apart.
pub(crate) fn cost(numbers: &[i64]) -> u64 {
    numbers.iter().map(|number| bits(*number)).sum()
}

/// About how many bits a number takes: nothing for none.
pub(crate) fn bits(number: i64) -> u64 {
    u64::from(65 - pack::zigzag(number).leading_zeros()) * u64::from(number != 0)
}

/// Replaces every number after the first `skip` + 1 by its distance from the one before.
fn subtract(numbers: &mut [i64], skip: usize) {
    for i in (skip + 1..numbers.len()).rev() {
        numbers[i] = numbers[i].wrapping_sub(numbers[i - 1]);
    }
}

fn add(numbers: &mut [i64], skip: usize) {
    for i in skip + 1..numbers.len() {
        numbers[i] = numbers[i].wrapping_add(numbers[i - 1]);
    }
}

/// Takes a column of `count` numbers off the front. O(count).
pub(crate) fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Damaged> {
    let order = varint::take_bytes(bytes, 1)?[0];
    if order > ORDER_MAX {
        return Err(Damaged);
    }
    let order = usize::from(order);
    let mut numbers = Vec::new();
    for _ in 0..order.min(count) {
        numbers.push(varint::take_signed(bytes)?);
    }
    numbers.append(&mut pack::take(bytes, count - numbers.len())?);
    for skip in (0..order).rev() {
        add(&mut numbers, skip);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Rng;

    fn check(numbers: &[i64]) -> usize {
        let mut out = Vec::new();
        put(numbers, &mut out);
        let mut rest = out.as_slice();
        assert_eq!(take(&mut rest, numbers.len()).as_deref(), Ok(numbers));
        assert!(rest.is_empty());
        out.len()
    }

    #[test]
    fn columns_come_back() {
        check(&[]);
        check(&[i64::MAX]);
        check(&[i64::MIN, i64::MAX, 0, -1]);
        assert!(check(&(0..1000).map(|i| 1_700_000_000_000 + i * 15_000).collect::<Vec<_>>()) < 12);
        assert!(check(&[7; 1000]) < 5);
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let width = rng.below(64) as u32;
            let numbers: Vec<i64> = (0..rng.below(400)).map(|_| (rng.next_u64() >> width) as i64).collect();
            check(&numbers);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        for seed in 0..5000 {
            let mut rng = Rng::new(seed);
            let length = rng.below(50);
            let bytes = rng.bytes(length);
            let count = rng.below(5000);
            if let Ok(numbers) = take(&mut bytes.as_slice(), count) {
                assert_eq!(numbers.len(), count);
            }
        }
    }
}
