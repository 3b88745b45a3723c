//! Range functions over a whole column of floats: the windows of all steps are laid out once for all series that share
//! their sample times, and a kernel then walks one series without looking at time again.
//!
//! These are shortcuts of the kernels in the families beside, for the plain case: floats alone, no start timestamps, no
//! extended range. They give the same bits.

use crate::{
    select::{Series, Windows},
    table::{Grid, Row},
    worker::Seen,
};
use std::sync::Arc;

/// A shortcut: fills the row from the column, or answers false when it is not for these arguments.
pub(crate) type Shortcut = fn(&mut Layout, &[f64], &[Vec<f64>], &mut Row) -> bool;

/// The windows of every step over one column of sample times.
pub(crate) struct Layout {
    times: Arc<[i64]>,
    /// First sample and the one after the last, by step.
    windows: Vec<(u32, u32)>,
    /// End of each window in milliseconds.
    ends: Vec<i64>,
    range: i64,
    longest: usize,
    /// Samples of all windows.
    total: u64,
    reaches: Option<Vec<Reach>>,
    /// Memory that kernels keep between windows.
    pub(crate) scratch: Vec<f64>,
    /// The same for places of samples.
    pub(crate) places: Vec<usize>,
}

/// What extrapolation needs of a window that depends on time alone, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) sampled: f64,
    pub(crate) to_start: f64,
    pub(crate) to_end: f64,
    /// By how much the growth between the samples is to be multiplied for that of the window.
    pub(crate) factor: f64,
}

impl Layout {
    fn new(times: Arc<[i64]>, windows: &Windows, grid: &Grid) -> Self {
        let mut layout = Self {
            windows: Vec::with_capacity(grid.steps),
            ends: Vec::with_capacity(grid.steps),
            range: windows.range,
            longest: 0,
            total: 0,
            reaches: None,
            scratch: Vec::new(),
            places: Vec::new(),
            times,
        };
        let (mut from, mut to) = (0, 0);
        for step in 0..grid.steps {
            let end = windows.end(grid, step);
            let (first, last) = windows.bounds(end);
            while layout.times.get(to).is_some_and(|time| *time <= last) {
                to += 1;
            }
            while from < to && layout.times[from] <= first {
                from += 1;
            }
            layout.windows.push((from as u32, to as u32));
            layout.ends.push(end);
            layout.longest = layout.longest.max(to - from);
            layout.total += (to - from) as u64;
        }
        layout
    }

    /// The layout for a series: the known one when its times are the same.
    pub(crate) fn of<'a>(known: &'a mut Option<Self>, series: &Series, windows: &Windows, grid: &Grid) -> &'a mut Self {
        let fits =
            known.as_ref().is_some_and(|known| Arc::ptr_eq(&known.times, &series.times) || known.times == series.times);
        if !fits {
            *known = None;
        }
        known.get_or_insert_with(|| Self::new(Arc::clone(&series.times), windows, grid))
    }

    /// Counts the samples of all windows.
    pub(crate) fn count(&self, seen: &mut Seen) {
        if seen.steps.is_none() {
            seen.total += self.total;
            return;
        }
        self.windows.iter().enumerate().for_each(|(step, (from, to))| seen.at(step, (to - from) as usize));
    }

    /// Samples in the longest window.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// Applies a kernel to the floats of every window that has some.
    #[inline]
    pub(crate) fn each(&self, values: &[f64], row: &mut Row, kernel: impl Fn(&[f64], usize) -> f64) {
        for (step, (from, to)) in self.windows.iter().enumerate() {
            let window = &values[*from as usize..*to as usize];
            if !window.is_empty() {
                row.cells[step] = kernel(window, step);
                row.present[step] = true;
            }
        }
    }

    /// The same with memory to work in.
    pub(crate) fn each_sorted(&mut self, values: &[f64], row: &mut Row, kernel: impl Fn(&mut [f64], usize) -> f64) {
        for (step, (from, to)) in self.windows.iter().enumerate() {
            self.scratch.clear();
            self.scratch.extend_from_slice(&values[*from as usize..*to as usize]);
            if !self.scratch.is_empty() {
                row.cells[step] = kernel(&mut self.scratch, step);
                row.present[step] = true;
            }
        }
    }

    /// First sample and the one after the last of a step's window, and how far it reaches beyond its samples.
    pub(crate) fn reaches(&mut self) -> (&[(u32, u32)], &[Reach]) {
        let (times, range) = (&self.times, self.range);
        let reaches = self.reaches.get_or_insert_with(|| {
            let seconds = |ms: i64| ms as f64 / 1000.0;
            let of = |(window, end): (&(u32, u32), &i64)| {
                let (from, to) = (window.0 as usize, window.1 as usize);
                if to - from < 2 {
                    return Reach { sampled: 0.0, to_start: 0.0, to_end: 0.0, factor: 0.0 };
                }
                let (first, last) = (times[from], times[to - 1]);
                let sampled = seconds(last - first);
                let gap = sampled / (to - from - 1) as f64;
                let held = |distance: f64| if distance >= gap * 1.1 { gap / 2.0 } else { distance };
                let to_start = held(seconds(first - end.saturating_sub(range)));
                let to_end = held(seconds(end - last));
                Reach { sampled, to_start, to_end, factor: (sampled + to_start + to_end) / sampled }
            };
            self.windows.iter().zip(&self.ends).map(of).collect()
        });
        (&self.windows, reaches)
    }

    /// The range in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.range as f64 / 1000.0
    }
}
