//! Bytes of a sealed file, mapped into memory or held in it.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// Read-only bytes of a file that is no longer written.
#[derive(Debug)]
pub struct Mapped(Imp);

#[derive(Debug)]
enum Imp {
    Map(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Mapped {
    /// Bytes held in memory, for backends without mappings.
    pub fn owned(bytes: Vec<u8>) -> Mapped {
        Mapped(Imp::Owned(bytes))
    }

    /// Maps the first `len` bytes of `file`, which must have at least as many.
    #[allow(unsafe_code, reason = "a mapping is unsafe by nature; the proof stands below")]
    pub(crate) fn of_file(file: &File, len: u64) -> io::Result<Mapped> {
        let has = file.metadata()?.len();
        if len > has {
            let text = format!("cannot map {len} bytes of a file of {has}: the file was cut short, restore it");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        let len = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if len == 0 {
            return Ok(Mapped::owned(Vec::new()));
        }
        // SAFETY: a `&[u8]` over a mapping is sound while nobody changes the bytes under it. `Disk` hands out mappings
        // for sealed files only: names that our stores publish once and never open for writing again (a new version
        // is a new file renamed over the name, which leaves this inode alone), in a folder that one process holds by
        // its lock. The length was checked above, so no page lies beyond the end. Removal of the name keeps the inode
        // alive. Another program that writes into our files breaks this, as it would break any database.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Mapped(Imp::Map(map)))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Imp::Map(map) => map,
            Imp::Owned(bytes) => bytes,
        }
    }
}
