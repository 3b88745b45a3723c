//! Times of a part, once for each target and window: the series of a target are scraped together.
//!
//! A series names a clock, and which of its times it has, as runs of what is skipped and what is there. Memory while a
//! part is written: the encoded clocks, and of each target and window the last few as they are.

use chunk::{Damaged, times, varint};
use model::Labels;
use std::collections::HashMap;

/// Clocks of a target and window that later series are compared with.
const CANDIDATES: usize = 4;
/// Runs that are always cheaper than a clock of one's own.
const RUNS_CHEAP: usize = 4;

/// Which times of a clock a series has: how many are skipped and how many follow, in turn. None is all.
pub(crate) type Runs = Vec<(usize, usize)>;

/// Target and window.
type Key = (u32, i64);

/// The clocks of a part on its way out.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    targets: HashMap<(String, String), u32>,
    /// Newest last.
    candidates: HashMap<Key, Vec<(u32, Vec<i64>)>>,
    known: HashMap<Vec<u8>, u32>,
}

impl Clocks {
    /// A number for the target of a series: what its job and instance say.
    pub(crate) fn target(&mut self, labels: &Labels) -> u32 {
        let of = |name: &str| labels.get(name).unwrap_or_default().to_owned();
        let next = self.targets.len() as u32;
        *self.targets.entry((of("job"), of("instance"))).or_insert(next)
    }

    /// The clock of these times, which are not empty, and which of its times they are. O(times).
    pub(crate) fn place(&mut self, target: u32, window: i64, times: &[i64]) -> (u32, Runs) {
        let candidates = self.candidates.entry((target, window)).or_default();
        if let Some((number, _)) = candidates.iter().rev().find(|(_, clock)| clock == times) {
            return (*number, Vec::new());
        }
        let partly = candidates.iter().rev().find_map(|(number, clock)| Some((*number, runs(clock, times)?)));
        if let Some((number, runs)) = &partly
            && runs.len() <= RUNS_CHEAP
        {
            return (*number, runs.clone());
        }
        let mut column = Vec::new();
        varint::put(times.len() as u64, &mut column);
        chunk::times::put(times, &mut column);
        if let Some((number, runs)) = partly
            && runs.len() * 2 <= column.len()
        {
            return (number, runs);
        }
        let next = self.known.len() as u32;
        let number = *self.known.entry(column).or_insert(next);
        candidates.push((number, times.to_vec()));
        if candidates.len() > CANDIDATES {
            // The first is the one that most series have.
            candidates.remove(1);
        }
        (number, Vec::new())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    /// The section: a table of places, 8 bytes each, and for each clock a count and a column of times.
    pub(crate) fn section(&self) -> Vec<u8> {
        let mut columns: Vec<(&u32, &Vec<u8>)> = self.known.iter().map(|(column, number)| (number, column)).collect();
        columns.sort_unstable();
        let (mut table, mut data) = (Vec::new(), Vec::new());
        for (_, column) in columns {
            table.extend_from_slice(&(data.len() as u64).to_le_bytes());
            data.extend_from_slice(column);
        }
        table.extend_from_slice(&data);
        table
    }
}

/// Which of a clock's times these are; none when one is no time of the clock.
fn runs(clock: &[i64], times: &[i64]) -> Option<Runs> {
    let (mut runs, mut at, mut rest) = (Vec::new(), 0, times);
    while let Some(first) = rest.first() {
        let skipped = clock[at..].binary_search(first).ok()?;
        at += skipped;
        let length = clock[at..].iter().zip(rest).take_while(|(a, b)| a == b).count();
        runs.push((skipped, length));
        at += length;
        rest = &rest[length..];
    }
    Some(runs)
}

/// Takes a clock out of its section. `count_max` bounds its length.
pub(crate) fn take(section: &[u8], clocks: usize, number: u32, count_max: usize) -> Result<Vec<i64>, Damaged> {
    let at = number as usize * 8;
    let place = section.get(at..at + 8).filter(|_| (number as usize) < clocks).ok_or(Damaged)?;
    let place = u64::from_le_bytes(place.try_into().map_err(|_| Damaged)?);
    let from = usize::try_from(place).ok().and_then(|place| place.checked_add(clocks * 8)).ok_or(Damaged)?;
    let mut data = section.get(from..).ok_or(Damaged)?;
    let count = varint::take_count(&mut data, count_max)?;
    times::take(&mut data, count)
}

/// Writes which clock and which of its times: 0 runs for all.
pub(crate) fn put_runs(runs: &Runs, out: &mut Vec<u8>) {
    for (skipped, length) in runs {
        varint::put(*skipped as u64, out);
        varint::put(*length as u64, out);
    }
}

/// Reads `count` runs of a clock that is long enough for them.
pub(crate) fn take_runs(bytes: &mut &[u8], count: usize) -> Result<Runs, Damaged> {
    let mut runs = Vec::new();
    for _ in 0..count {
        runs.push((varint::take_count(bytes, u32::MAX as usize)?, varint::take_count(bytes, u32::MAX as usize)?));
    }
    Ok(runs)
}

/// Appends the times of a clock that the runs name.
pub(crate) fn pick(clock: &[i64], runs: &Runs, times: &mut Vec<i64>) -> Result<(), Damaged> {
    if runs.is_empty() {
        times.extend_from_slice(clock);
        return Ok(());
    }
    let mut rest = clock;
    for (skipped, length) in runs {
        rest = rest.get(*skipped..).ok_or(Damaged)?;
        times.extend_from_slice(rest.get(..*length).ok_or(Damaged)?);
        rest = &rest[*length..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_share_the_clock_of_their_target() {
        let labels = |instance: &str| Labels::from_pairs([("__name__", "x"), ("instance", instance), ("job", "j")]);
        let mut clocks = Clocks::default();
        let (a, b) = (clocks.target(&labels("a")), clocks.target(&labels("b")));
        let all: Vec<i64> = (0..100).map(|i| i * 15_000 + i % 3).collect();
        let ours: Vec<i64> = all.iter().map(|at| at + 7).collect();
        let gaps: Vec<i64> = all[10..50].iter().chain(&all[60..]).copied().collect();
        assert_eq!(clocks.place(a, 0, &all), (0, vec![]));
        assert_eq!(clocks.place(a, 0, &all), (0, vec![]));
        assert_eq!(clocks.place(a, 0, &gaps), (0, vec![(10, 40), (10, 40)]));
        assert_eq!(clocks.place(b, 0, &ours), (1, vec![]));
        assert_eq!(clocks.place(b, 0, &all), (0, vec![]), "the same times are the same clock, whoever has them");
        let own: Vec<i64> = (0..30).map(|i| i * 15_000 + 5).collect();
        assert_eq!(clocks.place(a, 0, &own), (2, vec![]));
        for step in 0..50 {
            let other: Vec<i64> = own.iter().map(|at| at + 100 + step).collect();
            assert_eq!(clocks.place(a, 0, &other).1, []);
        }
        assert_eq!(clocks.place(a, 0, &gaps).0, 0, "the first clock of a target is never forgotten");
        let section = clocks.section();
        assert_eq!(take(&section, clocks.len(), 1, 1000), Ok(ours));
        assert_eq!(take(&section, clocks.len(), 0, 99), Err(Damaged));
        assert_eq!(take(&section, clocks.len(), 900, 1000), Err(Damaged));
        let mut times = Vec::new();
        assert_eq!(pick(&all, &vec![(10, 40), (10, 40)], &mut times), Ok(()));
        assert_eq!(times, gaps);
        assert_eq!(pick(&all, &vec![(10, 91)], &mut times), Err(Damaged));
        assert_eq!(pick(&all, &vec![(101, 0)], &mut times), Err(Damaged));
    }
}
