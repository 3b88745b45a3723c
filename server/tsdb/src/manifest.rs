//! The list of what counts: parts, head snapshot, and where the log goes on from it.

use crate::{Error, tombstones::Tombstone};
use runtime::Disk;
use std::{fmt::Write, io, sync::Arc};

/// The file's name in the data folder.
pub(crate) const NAME: &str = "manifest";
const FIRST_LINE: &str = "narthex manifest 1";

/// What a store consists of, besides the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Part files, oldest first.
    pub(crate) parts: Vec<String>,
    /// The head snapshot, and the last record of the log that is in it.
    pub(crate) snapshot: Option<(String, u64)>,
    /// Samples before this time are in parts only.
    pub(crate) floor: i64,
    /// What was deleted and is still stored.
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
    /// The number that the next file gets.
    pub(crate) next_file: u64,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { parts: Vec::new(), snapshot: None, floor: i64::MIN, tombstones: Arc::default(), next_file: 1 }
    }
}

impl Manifest {
    /// The manifest of a data folder; none is an empty store.
    pub(crate) fn read(disk: &Disk) -> Result<Self, Error> {
        let bytes = match disk.read(NAME) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::disk("reading the manifest")(error)),
        };
        std::str::from_utf8(&bytes)
            .ok()
            .and_then(Self::parse)
            .ok_or_else(|| Error::damaged(NAME, "not a manifest of this version, or not the one that was written"))
    }

    /// Replaces the manifest in one step: the moment at which a change of the store counts.
    pub(crate) fn publish(&self, disk: &Disk) -> Result<(), Error> {
        self.publish_as(disk, NAME)
    }

    /// The same for the manifest of a copy.
    pub(crate) fn publish_as(&self, disk: &Disk, name: &str) -> Result<(), Error> {
        disk.publish(name, self.text().as_bytes()).map_err(Error::disk(format!("writing {name}")))
    }

    fn text(&self) -> String {
        let mut text = format!("{FIRST_LINE}\nfloor {}\nnext {}\n", self.floor, self.next_file);
        if let Some((name, record)) = &self.snapshot {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "snapshot {name} {record}");
        }
        for part in &self.parts {
            let _ = writeln!(text, "part {part}");
        }
        for tombstone in self.tombstones.iter() {
            let _ = writeln!(text, "tombstone {}", tombstone.line());
        }
        let sum = crc32c::crc32c(text.as_bytes());
        let _ = writeln!(text, "checksum {sum:08x}");
        text
    }

    fn parse(text: &str) -> Option<Self> {
        let (body, sum) = text.trim_end_matches('\n').rsplit_once('\n')?;
        let sum = u32::from_str_radix(sum.strip_prefix("checksum ")?, 16).ok()?;
        if crc32c::crc32c(format!("{body}\n").as_bytes()) != sum {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let (mut manifest, mut tombstones) = (Self::default(), Vec::new());
        for line in lines {
            if let Some(words) = line.strip_prefix("tombstone ") {
                tombstones.push(Tombstone::parse(words)?);
                continue;
            }
            let mut words = line.split(' ');
            match (words.next()?, words.next()?, words.next()) {
                ("floor", time, None) => manifest.floor = time.parse().ok()?,
                ("next", number, None) => manifest.next_file = number.parse().ok()?,
                ("snapshot", name, Some(record)) => manifest.snapshot = Some((name.to_owned(), record.parse().ok()?)),
                ("part", name, None) => manifest.parts.push(name.to_owned()),
                _ => return None,
            }
        }
        manifest.tombstones = Arc::new(tombstones);
        Some(manifest)
    }

    /// A name for a new file.
    pub(crate) fn name(&mut self, kind: &str) -> String {
        self.next_file += 1;
        format!("{kind}-{:08}", self.next_file - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_any_changed_byte_is_seen() {
        let manifest = Manifest {
            parts: vec!["part-00000001".into(), "part-00000004".into()],
            snapshot: Some(("head-00000005".into(), 77)),
            floor: -5,
            tombstones: Arc::new(vec![Tombstone { number: 3, min: -1, max: 2, selectors: vec![vec![]] }]),
            next_file: 6,
        };
        let text = manifest.text();
        assert_eq!(Manifest::parse(&text), Some(manifest));
        for place in 0..text.len() - 1 {
            let mut bytes = text.clone().into_bytes();
            bytes[place] ^= 1;
            let found = std::str::from_utf8(&bytes).ok().and_then(Manifest::parse);
            assert_eq!(found, None, "byte {place}");
        }
        assert_eq!(Manifest::parse(&Manifest::default().text()), Some(Manifest::default()));
    }
}
