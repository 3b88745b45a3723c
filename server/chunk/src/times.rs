//! A column of times in milliseconds, ascending. Regular ones cost a byte or two for each 128.

use crate::{Damaged, ints};

/// Appends a column; its length is not part of it.
pub fn put(times: &[i64], out: &mut Vec<u8>) {
    ints::put(times, out);
}

/// Takes a column of `count` times off the front.
///
/// # Errors
/// [`Damaged`], also when the times do not ascend.
pub fn take(bytes: &mut &[u8], count: usize) -> Result<Vec<i64>, Damaged> {
    let times = ints::take(bytes, count)?;
    if times.is_sorted_by(|a, b| a < b) { Ok(times) } else { Err(Damaged) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ascending_times_are_times() {
        for (times, good) in [(&[1, 2, 5][..], true), (&[2, 1], false), (&[1, 1], false), (&[], true)] {
            let mut out = Vec::new();
            put(times, &mut out);
            assert_eq!(take(&mut out.as_slice(), times.len()).is_ok(), good);
        }
    }
}
