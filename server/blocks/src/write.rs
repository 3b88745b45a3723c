//! Writing blocks: 2 hours each, chunks of 120 samples, as a server of upstream writes its own.

use crate::{
    Error,
    chunks::{ChunkPlace, FLOAT_HISTOGRAM, HISTOGRAM, Samples, XOR},
    floats, histograms,
    index_writer::index,
    meta::{BlockStats, Meta, ulid},
};
use chunk::varint;
use model::{Labels, Matcher, Timestamp};
use runtime::{Clock, Disk, File, Open};
use storage::{Columns, Storage};

/// Length of a block in milliseconds; blocks begin at multiples of it.
pub const BLOCK_MS: i64 = 2 * 3_600_000;
/// Bytes of a segment of chunks at most.
const SEGMENT: u64 = 512 << 20;
const HEADER: [u8; 8] = [0x85, 0xBD, 0x40, 0xDD, 1, 0, 0, 0];
/// Series read in one step.
const BATCH: usize = 64;

/// A block on its way to disk, in a folder that gets its name at the end.
pub struct BlockWriter<'a> {
    disk: &'a Disk,
    name: String,
    segment: u64,
    file: Option<File>,
    at: u64,
    series: Vec<(Labels, Vec<ChunkPlace>)>,
    stats: BlockStats,
    range: Option<(i64, i64)>,
}

impl<'a> BlockWriter<'a> {
    /// Begins a block.
    ///
    /// # Errors
    /// [`Error`].
    pub fn create(disk: &'a Disk) -> Result<Self, Error> {
        let name = ulid(Clock::system().unix_ms());
        let stats = BlockStats::default();
        let writer = Self { disk, name, segment: 0, file: None, at: 0, series: Vec::new(), stats, range: None };
        let folder = writer.path("chunks");
        disk.create_dir(&folder).map_err(Error::disk(format!("making {folder}")))?;
        Ok(writer)
    }

    fn path(&self, name: &str) -> String {
        // The suffix that upstream removes at a start.
        format!("{}.tmp-for-creation/{name}", self.name)
    }

    /// Adds a series; its labels are greater than those of the one before. One without samples is passed over.
    ///
    /// # Errors
    /// [`Error`].
    pub fn add(&mut self, labels: &Labels, samples: &Samples) -> Result<(), Error> {
        let mut chunks: Vec<ChunkPlace> = Vec::new();
        let (mut floats, mut histograms) = (samples.floats.as_slice(), samples.histograms.as_slice());
        // Chunks of a series do not overlap, so that floats and histograms take turns.
        loop {
            let next = (floats.first().map(|(at, _)| *at), histograms.first().map(|(at, _)| *at));
            let chunk = match next {
                (None, None) => break,
                (Some(float), histogram) if histogram.is_none_or(|histogram| float < histogram) => {
                    let own = floats.iter().take_while(|(at, _)| histogram.is_none_or(|until| *at < until)).count();
                    let (own, rest) = floats.split_at(own.min(floats::SAMPLES));
                    floats = rest;
                    let (times, values): (Vec<i64>, Vec<f64>) = own.iter().copied().unzip();
                    self.put(XOR, &times, &floats::put_xor(&times, &values))?
                }
                (float, _) => {
                    let until = float.unwrap_or(i64::MAX);
                    let own = histograms.iter().take_while(|(at, _)| *at < until).count();
                    // One at the time of a float cannot be; if it is, the float stays.
                    let Some(length) = (own > 0).then(|| histograms::run(&histograms[..own], floats::SAMPLES)) else {
                        histograms = &histograms[1..];
                        continue;
                    };
                    let (own, rest) = histograms.split_at(length);
                    histograms = rest;
                    let times: Vec<i64> = own.iter().map(|(at, _)| *at).collect();
                    let (integer, bytes) = histograms::put(own);
                    self.put(if integer { HISTOGRAM } else { FLOAT_HISTOGRAM }, &times, &bytes)?
                }
            };
            chunks.push(chunk);
        }
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else { return Ok(()) };
        let (min, max) = self.range.unwrap_or((i64::MAX, i64::MIN));
        self.range = Some((min.min(first.min), max.max(last.max)));
        self.stats.num_series += 1;
        self.stats.num_chunks += chunks.len() as u64;
        self.series.push((labels.clone(), chunks));
        Ok(())
    }

    fn put(&mut self, encoding: u8, times: &[i64], bytes: &[u8]) -> Result<ChunkPlace, Error> {
        let mut out = Vec::new();
        varint::put(bytes.len() as u64, &mut out);
        let begin = out.len();
        out.push(encoding);
        out.extend_from_slice(bytes);
        let sum = crc32c::crc32c(&out[begin..]);
        out.extend_from_slice(&sum.to_be_bytes());
        if self.file.is_none() || self.at + out.len() as u64 > SEGMENT {
            self.next_segment()?;
        }
        let place = (self.segment - 1) << 32 | self.at;
        self.write(&out)?;
        let count = times.len() as u64;
        self.stats.num_samples += count;
        if encoding == XOR {
            self.stats.num_float_samples += count;
        } else {
            self.stats.num_histogram_samples += count;
        }
        let (min, max) = (times.first().copied().unwrap_or_default(), times.last().copied().unwrap_or_default());
        Ok(ChunkPlace { min, max, place })
    }

    fn next_segment(&mut self) -> Result<(), Error> {
        self.end_segment()?;
        self.segment += 1;
        let name = self.path(&format!("chunks/{:06}", self.segment));
        self.file = Some(self.disk.open_file(&name, Open::Create).map_err(Error::disk(format!("creating {name}")))?);
        self.at = 0;
        self.write(&HEADER)
    }

    fn end_segment(&mut self) -> Result<(), Error> {
        match self.file.take() {
            Some(file) => file.sync().map_err(Error::disk("syncing chunks")),
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Some(file) = &self.file {
            file.write_at(self.at, bytes).map_err(Error::disk("writing chunks"))?;
        }
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes index and meta data and names the folder; none, and no folder, when nothing was added.
    ///
    /// # Errors
    /// [`Error`].
    pub fn finish(mut self) -> Result<Option<Meta>, Error> {
        self.end_segment()?;
        let Some((min, max)) = self.range else {
            for name in ["chunks", ""] {
                let folder = self.path(name);
                let folder = folder.trim_end_matches('/');
                self.disk.remove(folder).map_err(Error::disk(format!("removing {folder}")))?;
            }
            return Ok(None);
        };
        let index =
            index(&self.series).ok_or_else(|| Error::damaged(&self.name, "more series than a block can hold"))?;
        let meta = Meta::new(self.name.clone(), min, max.saturating_add(1), self.stats);
        for (name, bytes) in [("index", index), ("meta.json", meta.text())] {
            let name = self.path(name);
            self.disk.publish(&name, &bytes).map_err(Error::disk(format!("writing {name}")))?;
        }
        let naming = |error| Error::disk(format!("naming {}", self.name))(error);
        self.disk.sync_dir(&self.path("chunks")).map_err(naming)?;
        self.disk.rename(&format!("{}.tmp-for-creation", self.name), &self.name).map_err(naming)?;
        self.disk.sync_dir("").map_err(naming)?;
        Ok(Some(meta))
    }
}

/// Writes the samples of a store in a closed range of milliseconds into blocks; what was written, oldest first. Memory: the index of a block.
///
/// # Errors
/// [`Error`].
pub fn export(
    store: &dyn Storage,
    disk: &Disk,
    (min, max): (i64, i64),
    matchers: &[Matcher],
    block_ms: i64,
) -> Result<Vec<Meta>, Error> {
    let stats = store.stats();
    let (Some(oldest), Some(newest)) = (stats.min_time, stats.max_time) else { return Ok(Vec::new()) };
    let (min, max) = (min.max(oldest.0), max.min(newest.0));
    let mut written = Vec::new();
    let mut from = min.div_euclid(block_ms).saturating_mul(block_ms);
    while from <= max {
        let to = from.saturating_add(block_ms);
        let querier = store.querier(Timestamp(from.max(min)), Timestamp((to - 1).min(max)));
        let mut set = querier.select(matchers).map_err(Error::read)?;
        let (mut writer, mut batch) = (BlockWriter::create(disk)?, Vec::new());
        loop {
            set.next_batch(BATCH, &mut batch).map_err(Error::read)?;
            if batch.is_empty() {
                break;
            }
            for columns in &batch {
                writer.add(&columns.labels, &samples(columns))?;
            }
        }
        written.extend(writer.finish()?);
        from = to;
    }
    Ok(written)
}

/// Columns of a store as the samples of a block.
pub fn samples(columns: &Columns) -> Samples {
    Samples {
        floats: columns.times.iter().copied().zip(columns.values.iter().copied()).collect(),
        histograms: columns.histograms.clone(),
        starts: columns.starts.clone(),
    }
}
