//! Reading a block: its meta data, its series with their samples, without what its tombstones hide.

use crate::{
    Error,
    chunks::Samples,
    index::{Index, Series},
    meta::{Meta, is_ulid},
};
use chunk::{Damaged, varint};
use model::Labels;
use runtime::{Disk, Mapped, Open};
use std::collections::HashMap;

const CHUNKS: u32 = 0x85BD_40DD;
const TOMBSTONES: u32 = 0x0130_BA30;
/// Bytes before the first chunk of a segment.
const HEADER: usize = 8;

/// A block of a folder of upstream.
pub struct Block {
    /// What it says of itself.
    pub meta: Meta,
    folder: String,
    index: Mapped,
    segments: Vec<Mapped>,
    /// Deleted ranges by series.
    hidden: HashMap<u64, Vec<(i64, i64)>>,
}

/// The blocks of a folder, oldest first; folders that are none, and those that upstream has not finished, are passed
/// over.
///
/// # Errors
/// [`Error`].
pub fn blocks(disk: &Disk) -> Result<Vec<Block>, Error> {
    let mut all = Vec::new();
    for name in disk.list("").map_err(Error::disk("listing the folder"))? {
        if is_ulid(&name) {
            all.push(Block::open(disk, &name)?);
        }
    }
    all.sort_by(|a, b| (a.meta.min_time, &a.meta.ulid).cmp(&(b.meta.min_time, &b.meta.ulid)));
    Ok(all)
}

impl Block {
    /// Opens a block and checks what is small of it.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(disk: &Disk, folder: &str) -> Result<Self, Error> {
        let path = |name: &str| format!("{folder}/{name}");
        let read = |name: &str| disk.read(&path(name)).map_err(Error::disk(format!("reading {folder}/{name}")));
        let map = |name: &str| {
            let opened = disk.open_file(&path(name), Open::Read);
            let mapped = opened.and_then(|file| file.map(file.len()?));
            mapped.map_err(Error::disk(format!("mapping {folder}/{name}")))
        };
        let meta: Meta = serde_json::from_slice(&read("meta.json")?)
            .map_err(|_| Error::damaged(&path("meta.json"), "no meta data of a block"))?;
        if meta.version != 1 {
            return Err(Error::damaged(&path("meta.json"), "a version that is not 1"));
        }
        let index = map("index")?;
        Index::open(&index).map_err(|Damaged| Error::damaged(&path("index"), "no index of version 1 or 2"))?;
        let mut names = disk.list(&path("chunks")).map_err(Error::disk(format!("listing {folder}/chunks")))?;
        names.retain(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        names.sort();
        let mut segments = Vec::new();
        for name in names {
            let segment = map(&format!("chunks/{name}"))?;
            if !segment.starts_with(&CHUNKS.to_be_bytes()) || segment.get(4) != Some(&1) {
                return Err(Error::damaged(&path("chunks"), "no chunks of version 1"));
            }
            segments.push(segment);
        }
        let hidden = match disk.read(&path("tombstones")) {
            Ok(bytes) => {
                tombstones(&bytes).map_err(|Damaged| Error::damaged(&path("tombstones"), "not what was written"))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => return Err(Error::disk(format!("reading {folder}/tombstones"))(error)),
        };
        Ok(Self { meta, folder: folder.to_owned(), index, segments, hidden })
    }

    /// Bytes of index and chunks.
    pub fn bytes(&self) -> u64 {
        (self.index.len() + self.segments.iter().map(|segment| segment.len()).sum::<usize>()) as u64
    }

    /// Gives every series with its samples to `visit`, by labels. Memory: one series.
    ///
    /// # Errors
    /// What `visit` says, and damage as an [`Error`].
    pub fn each<E: From<Error>>(
        &self,
        mut visit: impl FnMut(Labels, Samples, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut series = self.series();
        while let Some((labels, samples, chunks)) = series.next_series()? {
            visit(labels, samples, chunks)?;
        }
        Ok(())
    }

    /// The series from the first on.
    pub fn series(&self) -> SeriesReader<'_> {
        SeriesReader { block: self, at: 0, index: None }
    }

    fn samples(&self, series: &Series) -> Result<Samples, Error> {
        let mut samples = Samples::default();
        for chunk in &series.chunks {
            let (encoding, bytes) = self.chunk(chunk.place).map_err(|Damaged| {
                Error::damaged(&format!("{}/chunks", self.folder), "a chunk that is not what was written")
            })?;
            match samples.take(encoding, bytes) {
                Ok(true) => {}
                Ok(false) => return Err(Error::Encoding { file: self.folder.clone(), encoding }),
                Err(Damaged) => {
                    return Err(Error::damaged(&format!("{}/chunks", self.folder), "a chunk that cannot be decoded"));
                }
            }
        }
        if let Some(hidden) = self.hidden.get(&series.reference) {
            samples.retain(|at| hidden.iter().all(|(min, max)| !(*min..=*max).contains(&at)));
        }
        Ok(samples)
    }

    /// Encoding and bytes of a chunk.
    fn chunk(&self, place: u64) -> Result<(u8, &[u8]), Damaged> {
        let segment = self.segments.get((place >> 32) as usize).ok_or(Damaged)?;
        let mut rest =
            segment.get(place as u32 as usize..).filter(|_| place as u32 as usize >= HEADER).ok_or(Damaged)?;
        let length = varint::take_length(&mut rest)?;
        let body = varint::take_bytes(&mut rest, length + 1)?;
        let sum = varint::take_bytes(&mut rest, 4)?;
        if sum != crc32c::crc32c(body).to_be_bytes() {
            return Err(Damaged);
        }
        Ok((body[0], &body[1..]))
    }
}

/// The series of a block, one at a time.
pub struct SeriesReader<'a> {
    block: &'a Block,
    at: usize,
    index: Option<Index<'a>>,
}

impl SeriesReader<'_> {
    /// Labels, samples and count of chunks of the next series; none at the end.
    ///
    /// # Errors
    /// [`Error`].
    pub fn next_series(&mut self) -> Result<Option<(Labels, Samples, usize)>, Error> {
        let damaged = |Damaged| Error::damaged(&format!("{}/index", self.block.folder), "not what was written");
        let index = match self.index.take() {
            Some(index) => index,
            None => Index::open(&self.block.index).map_err(damaged)?,
        };
        let found = index.series(self.at).map_err(damaged)?;
        self.index = Some(index);
        let Some((series, next)) = found else { return Ok(None) };
        self.at = next;
        let samples = self.block.samples(&series)?;
        Ok(Some((series.labels, samples, series.chunks.len())))
    }
}

fn tombstones(bytes: &[u8]) -> Result<HashMap<u64, Vec<(i64, i64)>>, Damaged> {
    let rest = bytes.strip_prefix(&TOMBSTONES.to_be_bytes()).and_then(|rest| rest.strip_prefix(&[1])).ok_or(Damaged)?;
    let (body, sum) = rest.split_last_chunk::<4>().ok_or(Damaged)?;
    if *sum != crc32c::crc32c(body).to_be_bytes() {
        return Err(Damaged);
    }
    let mut rest = body;
    let mut hidden: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
    while !rest.is_empty() {
        let series = varint::take(&mut rest)?;
        let range = (varint::take_signed(&mut rest)?, varint::take_signed(&mut rest)?);
        hidden.entry(series).or_default().push(range);
    }
    Ok(hidden)
}
