//! Selected series that are yet to be decoded: what a query's threads take away with them.
//!
//! Series of one target are scraped together and mostly have the same times: equal columns of times come out as one.

use crate::{
    disk_format::Unreadable,
    head::{Points, Raw},
    part::{ClockCache, Part},
    tombstones::{self, Tombstone},
    writer::GROUP,
};
use model::Labels;
use std::sync::Arc;
use storage::{Columns, ReadError, Share};

/// One series and what the head has of it.
pub(crate) struct Entry {
    pub(crate) labels: Labels,
    pub(crate) head: Option<Raw>,
}

/// A part, and which entry goes by which number there.
pub(crate) type Stored = (Arc<Part>, Vec<(usize, u32)>);

/// Some series in the order of their labels.
pub(crate) struct Pending {
    /// What is in parts, oldest first.
    pub(crate) stored: Vec<Stored>,
    pub(crate) series: Vec<Entry>,
    /// The closed range of times.
    pub(crate) range: (i64, i64),
    /// What the head has in order before this is in parts.
    pub(crate) floor: i64,
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
}

fn lost(file: Unreadable) -> ReadError {
    ReadError::Damaged(format!("{} is damaged; what is in the log of it is read at the next start", file.0))
}

impl Share for Pending {
    fn columns(self: Box<Self>) -> Result<Vec<Columns>, ReadError> {
        let mut all: Vec<Points> = Vec::new();
        all.resize_with(self.series.len(), Points::default);
        let (min, max) = self.range;
        for (part, stored) in &self.stored {
            let mut clocks = ClockCache::new();
            for group in stored.chunk_by(|(_, a), (_, b)| a / GROUP as u32 == b / GROUP as u32) {
                let ids: Vec<u32> = group.iter().map(|(_, series)| *series).collect();
                for ((entry, _), mut points) in group.iter().zip(part.points(&ids, min, max, &mut clocks)?) {
                    tombstones::cut_stored(&self.tombstones, part.number, &self.series[*entry].labels, &mut points);
                    all[*entry].append(points);
                }
            }
        }
        let mut out = Vec::with_capacity(self.series.len());
        let mut known: Option<Arc<[i64]>> = None;
        for (entry, mut points) in self.series.into_iter().zip(all) {
            if let Some(raw) = entry.head {
                let mut recent = raw.points(min, max, self.floor).map_err(lost)?;
                tombstones::cut(self.tombstones.iter(), &entry.labels, &mut recent);
                points.append(recent);
            }
            if points.is_empty() {
                continue;
            }
            let Points { times, values, histograms, starts } = points;
            let times = match known.take().filter(|known| **known == *times) {
                Some(known) => known,
                None => times.into(),
            };
            known = Some(Arc::clone(&times));
            out.push(Columns { labels: entry.labels, times, values: values.into(), histograms, starts });
        }
        Ok(out)
    }
}
