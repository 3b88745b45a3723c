//! Reading: the series of parts and head, merged by labels, each with its samples in the order of time.

use crate::share::{Entry, Pending};
use crate::{
    db::Tsdb,
    head::{Head, Points, Raw},
    part::{ClockCache, Part},
    tombstones::{self, Tombstone},
    writer::GROUP,
};
use model::{Labels, Matcher};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};
use storage::{Columns, Querier, ReadError, SeriesSet, Share};

/// A time range of the store. Each selection is one consistent moment.
pub(crate) struct View<'a> {
    pub(crate) db: &'a Tsdb,
    pub(crate) min: i64,
    pub(crate) max: i64,
}

impl View<'_> {
    /// The parts that overlap the range, and what `read` takes from the head at the same moment.
    fn moment<T>(&self, read: impl FnOnce(&Head) -> T) -> (Vec<Arc<Part>>, T) {
        // Parts first, as whoever moves samples from the head to a part.
        let parts = self.db.parts.read();
        let head = self.db.head.read();
        let overlaps = |part: &&Arc<Part>| part.summary.max >= self.min && part.summary.min <= self.max;
        (parts.iter().filter(overlaps).cloned().collect(), read(&head))
    }

    fn head_overlaps(&self, head: &Head) -> bool {
        let overlaps = |(min, max): (i64, i64)| max >= self.min && min <= self.max;
        head.min_time.zip(head.max_time).is_some_and(overlaps) || head.late_range.is_some_and(overlaps)
    }

    /// The slots of the head that match, if any of it is in the range.
    fn slots(&self, head: &Head, matchers: &[Matcher]) -> roaring::RoaringBitmap {
        if self.head_overlaps(head) { head.select(matchers) } else { roaring::RoaringBitmap::new() }
    }

    /// Calls `visit` with the labels of everything that matches.
    fn each_labels(&self, matchers: &[Matcher], mut visit: impl FnMut(&Labels)) -> Result<(), ReadError> {
        let (parts, head) = self.moment(|head| {
            let mut builder = model::Builder::default();
            self.slots(head, matchers).iter().map(|slot| head.labels(slot, &mut builder)).collect::<Vec<_>>()
        });
        head.iter().for_each(&mut visit);
        for part in parts {
            for series in part.select(matchers)? {
                visit(&part.labels(series)?);
            }
        }
        Ok(())
    }
}

impl Querier for View<'_> {
    fn select(&self, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet + '_>, ReadError> {
        let (parts, (mut head, floor, tombstones)) = self.moment(|head| {
            let (slots, shared, mut builder) = (self.slots(head, matchers), head.shared(), model::Builder::default());
            let mut raws = Vec::with_capacity(slots.len() as usize);
            raws.extend(slots.iter().map(|slot| head.raw(slot, &shared, &mut builder)));
            (raws, head.floor, self.db.tombstones.read().clone())
        });
        head.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        let mut sources = Vec::new();
        for part in parts {
            let ids = part.select(matchers)?;
            sources.push(Source::new(part, ids, self.min, self.max, tombstones.clone())?);
        }
        Ok(Box::new(Merged { sources, head: head.into(), tombstones, floor, min: self.min, max: self.max }))
    }

    fn label_names(&self, matchers: &[Matcher]) -> Result<Vec<String>, ReadError> {
        let mut names = BTreeSet::new();
        if matchers.is_empty() {
            let (parts, head) =
                self.moment(|head| if self.head_overlaps(head) { head.label_names() } else { Vec::new() });
            names.extend(head);
            for part in parts {
                names.extend(part.label_names()?);
            }
        } else {
            self.each_labels(matchers, |labels| {
                for (name, _) in labels.iter() {
                    if !names.contains(name) {
                        names.insert(name.to_owned());
                    }
                }
            })?;
        }
        Ok(names.into_iter().collect())
    }

    fn label_values(&self, name: &str, matchers: &[Matcher]) -> Result<Vec<String>, ReadError> {
        let mut values = BTreeSet::new();
        if matchers.is_empty() {
            let (parts, head) =
                self.moment(|head| if self.head_overlaps(head) { head.label_values(name) } else { Vec::new() });
            values.extend(head);
            for part in parts {
                values.extend(part.label_values(name)?);
            }
        } else {
            self.each_labels(matchers, |labels| {
                if let Some(value) = labels.get(name)
                    && !values.contains(value)
                {
                    values.insert(value.to_owned());
                }
            })?;
        }
        Ok(values.into_iter().collect())
    }
}

/// The selected series of one part; samples are read a group at a time.
pub(crate) struct Source {
    part: Arc<Part>,
    ids: VecDeque<u32>,
    ready: VecDeque<Points>,
    clocks: ClockCache,
    tombstones: Arc<Vec<Tombstone>>,
    next: Option<Labels>,
    /// Texts of labels met, by their number in the part: series have most of them in common.
    texts: HashMap<u32, Box<str>>,
    min: i64,
    max: i64,
}

impl Source {
    pub(crate) fn new(
        part: Arc<Part>,
        ids: Vec<u32>,
        min: i64,
        max: i64,
        tombstones: Arc<Vec<Tombstone>>,
    ) -> Result<Self, ReadError> {
        let (ids, ready, texts, clocks) = (ids.into(), VecDeque::new(), HashMap::new(), ClockCache::new());
        let mut source = Self { part, ids, ready, clocks, tombstones, next: None, texts, min, max };
        source.look()?;
        Ok(source)
    }

    fn look(&mut self) -> Result<(), ReadError> {
        let next = self.ids.front().copied();
        self.next = next.map(|series| self.part.labels_with(series, &mut self.texts)).transpose()?;
        Ok(())
    }

    /// Passes the next series by without reading its samples; its number in the part.
    fn pass(&mut self) -> Result<Option<u32>, ReadError> {
        let series = self.ids.pop_front();
        self.look()?;
        Ok(series)
    }

    /// Whether the next series begins a group, or there is none.
    fn at_group(&self) -> bool {
        self.ids.front().is_none_or(|series| (*series as usize).is_multiple_of(GROUP))
    }

    /// The labels of the series that [`Source::take`] gives next.
    pub(crate) fn labels(&self) -> Option<&Labels> {
        self.next.as_ref()
    }

    /// The samples of the next series.
    pub(crate) fn take(&mut self) -> Result<Points, ReadError> {
        if self.ready.is_empty() {
            let group = self.ids.front().map(|series| series / GROUP as u32);
            let same: Vec<u32> =
                self.ids.iter().copied().take_while(|series| Some(series / GROUP as u32) == group).collect();
            self.ready = self.part.points(&same, self.min, self.max, &mut self.clocks)?.into();
        }
        self.ids.pop_front();
        let mut points = self.ready.pop_front().unwrap_or_default();
        if let Some(labels) = &self.next {
            tombstones::cut_stored(&self.tombstones, self.part.number, labels, &mut points);
        }
        self.look()?;
        Ok(points)
    }
}

/// Takes the next series off several sources that are ordered by time.
pub(crate) fn merge_next(sources: &mut [Source]) -> Result<Option<(Labels, Points)>, ReadError> {
    let Some(labels) = sources.iter().filter_map(Source::labels).min().cloned() else { return Ok(None) };
    let mut points = Points::default();
    for source in sources.iter_mut().filter(|source| source.labels() == Some(&labels)) {
        points.append(source.take()?);
    }
    Ok(Some((labels, points)))
}

struct Merged {
    sources: Vec<Source>,
    head: VecDeque<Raw>,
    tombstones: Arc<Vec<Tombstone>>,
    floor: i64,
    min: i64,
    max: i64,
}

impl Merged {
    /// Puts the next series into a share; false at the end.
    fn next(&mut self, share: &mut Pending) -> Result<bool, ReadError> {
        let stored = self.sources.iter().filter_map(Source::labels).min();
        let recent = self.head.front().map(|raw| &raw.labels);
        let from_head = recent.is_some_and(|recent| stored.is_none_or(|stored| recent <= stored));
        let head = if from_head { self.head.pop_front() } else { None };
        let labels = match (&head, stored) {
            (Some(raw), _) => raw.labels.clone(),
            (None, Some(labels)) => labels.clone(),
            (None, None) => return Ok(false),
        };
        for (source, stored) in self.sources.iter_mut().zip(&mut share.stored) {
            if source.labels() == Some(&labels)
                && let Some(series) = source.pass()?
            {
                stored.1.push((share.series.len(), series));
            }
        }
        share.series.push(Entry { labels, head });
        Ok(true)
    }
}

impl SeriesSet for Merged {
    fn next_batch(&mut self, series_max: usize, batch: &mut Vec<Columns>) -> Result<(), ReadError> {
        batch.clear();
        while batch.is_empty() {
            let Some(share) = self.next_share(series_max)? else { break };
            *batch = share.columns()?;
        }
        Ok(())
    }

    fn next_share(&mut self, series_max: usize) -> Result<Option<Box<dyn Share>>, ReadError> {
        let mut share = Pending {
            stored: self.sources.iter().map(|source| (Arc::clone(&source.part), Vec::new())).collect(),
            series: Vec::new(),
            range: (self.min, self.max),
            floor: self.floor,
            tombstones: Arc::clone(&self.tombstones),
        };
        // A group is decoded as a whole: a share better ends where one ends.
        let split = |sources: &[Source]| sources.iter().any(|source| !source.at_group());
        while share.series.len() < series_max && (share.series.len() < series_max.div_ceil(2) || split(&self.sources)) {
            if !self.next(&mut share)? {
                break;
            }
        }
        Ok(if share.series.is_empty() { None } else { Some(Box::new(share)) })
    }
}
