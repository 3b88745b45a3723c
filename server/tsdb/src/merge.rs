//! Several small parts become a larger one, so that a query over weeks opens few files.

use crate::{
    Error, Tsdb,
    part::Part,
    view::{Source, merge_next},
    writer::{LONG_WINDOW_MS, PartWriter, WINDOW_MS},
};
use std::sync::Arc;

impl Tsdb {
    /// Merges the oldest parts that fill a range and can be merged; answers whether there were any. A range to which the
    /// newest part belongs waits for more, unless `newest_too`. Memory: a group of series of each part.
    pub(crate) fn merge(&self, newest_too: bool) -> Result<bool, Error> {
        let mut manifest = self.manifest.lock();
        let parts = self.parts.read().clone();
        let bad = self.unmergeable.lock().clone();
        let Some((place, length)) = plan(&parts, self.options.merged_ms, newest_too, |part| bad.contains(&part.name))
        else {
            return Ok(false);
        };
        let sources = &parts[place..place + length];
        let mut next = manifest.clone();
        let name = next.name("part");
        manifest.next_file = next.next_file;
        let written = self.write_merged(&name, sources).inspect_err(|error| {
            // What cannot be read stays so, and these parts are left as they are; a full disk is tried again.
            if matches!(error, Error::Damaged { .. }) {
                self.unmergeable.lock().extend(sources.iter().map(|part| part.name.clone()));
            }
        })?;
        let gone: Vec<String> = sources.iter().map(|part| part.name.clone()).collect();
        // What was deleted may have been all there was.
        let part = written.then(|| Part::open(&self.disk, &name)).transpose()?;
        self.replace(&mut manifest, &gone, part.map(|part| (place, part)))?;
        self.bury(&mut manifest)?;
        Ok(true)
    }

    /// Answers whether anything is left to be a part.
    fn write_merged(&self, name: &str, parts: &[Arc<Part>]) -> Result<bool, Error> {
        let damaged = |error: storage::ReadError| {
            tracing::error!(%error, "parts are not merged");
            Error::damaged(name, "one of the parts it is made of cannot be read")
        };
        let tombstones = self.tombstones.read().clone();
        let mut sources = Vec::new();
        for part in parts {
            let all = part.select(&[]).map_err(damaged)?;
            sources.push(Source::new(part.clone(), all, i64::MIN, i64::MAX, tombstones.clone()).map_err(damaged)?);
        }
        let min = parts.iter().map(|part| part.summary.min).min().unwrap_or_default();
        let max = parts.iter().map(|part| part.summary.max).max().unwrap_or_default();
        let window_ms = if max.saturating_sub(min) > LONG_WINDOW_MS { LONG_WINDOW_MS } else { WINDOW_MS };
        let mut writer = PartWriter::create(&self.disk, name, window_ms)?;
        while let Some((labels, points)) = merge_next(&mut sources).map_err(damaged)? {
            writer.add(&labels, points)?;
        }
        Ok(writer.finish()?.is_some())
    }
}

/// The first run of at least two parts that lie within one range, smallest ranges first. The range must be past: a later
/// part begins after it; or `newest_too`.
fn plan(parts: &[Arc<Part>], ranges: &[i64], newest_too: bool, bad: impl Fn(&Part) -> bool) -> Option<(usize, usize)> {
    for range in ranges {
        let window = |part: &Part| {
            let first = part.summary.min.div_euclid(*range);
            (first == part.summary.max.div_euclid(*range) && !bad(part)).then_some(first)
        };
        let newest = parts.last()?.summary.min.div_euclid(*range);
        let mut place = 0;
        while place < parts.len() {
            let own = window(&parts[place]);
            let length = match own {
                Some(own) if own < newest || newest_too => {
                    parts[place..].iter().take_while(|part| window(part) == Some(own)).count()
                }
                _ => 1,
            };
            if length > 1 {
                return Some((place, length));
            }
            place += length;
        }
    }
    None
}
