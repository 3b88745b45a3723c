//! The store on disk between a clean stop and the next start.
//!
//! Layout, little endian: magic `NXMEM\0\0\x01`, xxHash64 of the rest (8 bytes), then per series the count of labels
//! (4), each name and value as length (4) and bytes, the count of samples (4), their times (8 each) and value bits (8
//! each). Float samples only: nothing else reaches this store yet.

use crate::{Columns, Limits, Memory, SeriesId, Storage};
use model::{Labels, Timestamp};
use runtime::Disk;
use std::io;
use xxhash_rust::xxh64::xxh64;

const MAGIC: &[u8; 8] = b"NXMEM\0\0\x01";

impl Memory {
    /// Writes all series into the file `name`, replacing it in one step. Holds twice the samples in memory meanwhile.
    ///
    /// # Errors
    /// What the disk says; the old file is kept then.
    pub fn save(&self, disk: &Disk, name: &str) -> io::Result<()> {
        let querier = self.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let mut set = querier.select(&[]).map_err(io::Error::other)?;
        let (mut batch, mut body) = (Vec::new(), Vec::new());
        loop {
            set.next_batch(256, &mut batch).map_err(io::Error::other)?;
            if batch.is_empty() {
                break;
            }
            batch.drain(..).for_each(|columns| put_series(&columns, &mut body));
        }
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&xxh64(&body, 0).to_le_bytes());
        file.extend_from_slice(&body);
        disk.publish(name, &file)
    }

    /// Reads what [`Memory::save`] wrote; no file is an empty store. A damaged file is set aside as `NAME.damaged`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn load(disk: &Disk, name: &str, limits: Limits) -> io::Result<Self> {
        let memory = Self::new(limits);
        let bytes = match disk.read(name) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(memory),
            Err(error) => return Err(error),
        };
        match sound(&bytes).and_then(|body| memory.fill(body)) {
            Some(()) => Ok(memory),
            None => {
                disk.rename(name, &format!("{name}.damaged"))?;
                tracing::error!(file = name, "the stored series are damaged and were set aside; starting empty");
                Ok(Self::new(memory.head.read().limits))
            }
        }
    }

    fn fill(&self, body: &[u8]) -> Option<()> {
        let mut reader = Reader(body);
        while !reader.0.is_empty() {
            let labels = reader.labels()?;
            let count = reader.number()?;
            let (times, values) = (reader.words(count)?, reader.words(count)?);
            let mut appender = self.appender();
            // A lower limit than before drops what no longer fits, as it would while running.
            let Ok(series) = appender.series(&labels) else { continue };
            for (time, bits) in times.zip(values) {
                let _: Result<(), _> = appender.float(SeriesId(series.0), Timestamp(time as i64), f64::from_bits(bits));
            }
            appender.commit().ok()?;
        }
        Some(())
    }
}

/// The body behind magic and checksum, when both are right.
fn sound(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (sum, body) = rest.split_first_chunk::<8>()?;
    (u64::from_le_bytes(*sum) == xxh64(body, 0)).then_some(body)
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_series(columns: &Columns, out: &mut Vec<u8>) {
    out.extend_from_slice(&(columns.labels.len() as u32).to_le_bytes());
    for (name, value) in columns.labels.iter() {
        put_text(name, out);
        put_text(value, out);
    }
    out.extend_from_slice(&(columns.times.len() as u32).to_le_bytes());
    columns.times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
    columns.values.iter().for_each(|value| out.extend_from_slice(&value.to_bits().to_le_bytes()));
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn number(&mut self) -> Option<usize> {
        let (number, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        usize::try_from(u32::from_le_bytes(*number)).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.number()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn labels(&mut self) -> Option<Labels> {
        let count = self.number()?;
        let mut builder = model::Builder::default();
        for _ in 0..count {
            let name = self.text()?;
            builder.set(name, self.text()?);
        }
        Some(builder.build())
    }

    fn words(&mut self, count: usize) -> Option<impl Iterator<Item = u64> + use<'a>> {
        let (words, rest) = self.0.split_at_checked(count.checked_mul(8)?)?;
        self.0 = rest;
        Some(words.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Memory {
        let memory = Memory::new(Limits::default());
        let mut appender = memory.appender();
        for (name, value) in [("a", 1.5), ("b", model::stale_nan())] {
            let series = appender.series(&Labels::from_pairs([("__name__", name), ("x", "é")])).expect("a series");
            appender.float(series, Timestamp(1000), value).expect("in order");
            appender.float(series, Timestamp(2000), -0.0).expect("in order");
        }
        appender.commit().expect("committed");
        memory
    }

    fn contents(memory: &Memory) -> Vec<(String, Vec<i64>, Vec<u64>)> {
        let querier = memory.querier(Timestamp(i64::MIN), Timestamp(i64::MAX));
        let mut set = querier.select(&[]).expect("readable");
        let mut batch = Vec::new();
        set.next_batch(100, &mut batch).expect("readable");
        let bits = |columns: &Columns| columns.values.iter().map(|value| value.to_bits()).collect();
        batch.iter().map(|columns| (columns.labels.to_string(), columns.times.to_vec(), bits(columns))).collect()
    }

    #[test]
    fn what_was_saved_is_loaded_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a disk");
        assert!(contents(&Memory::load(&disk, "s", Limits::default()).expect("an empty store")).is_empty());
        let memory = filled();
        memory.save(&disk, "s").expect("saved");
        let again = Memory::load(&disk, "s", Limits::default()).expect("loaded");
        assert_eq!(contents(&again), contents(&memory));
    }

    #[test]
    fn any_damaged_byte_sets_the_file_aside() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk::open(folder.path()).expect("a disk");
        filled().save(&disk, "s").expect("saved");
        let whole = disk.read("s").expect("read");
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x40;
            disk.publish("s", &bytes).expect("written");
            assert!(contents(&Memory::load(&disk, "s", Limits::default()).expect("loaded")).is_empty(), "byte {place}");
            assert_eq!(disk.read("s.damaged").expect("set aside"), bytes);
        }
    }
}
