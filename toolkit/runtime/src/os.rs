//! The disk of the machine.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::disk::{Backend, FileBackend, LockGuard, Open, Space};
use crate::mapped::Mapped;

/// A folder of the machine.
#[derive(Debug)]
pub(crate) struct OsDir {
    root: PathBuf,
    /// Permissions of files made here, before the mask of the process.
    mode: u32,
}

impl OsDir {
    pub(crate) fn open(path: &Path, mode: u32) -> io::Result<OsDir> {
        fs::create_dir_all(path)?;
        Ok(OsDir { root: path.to_owned(), mode })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Names may come from requests and manifests: none leads out of the root.
    fn resolve(&self, name: &str) -> io::Result<PathBuf> {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.contains('\0') {
            let text = format!("name {name:?} leads out of the data folder: use a relative name without '..'");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(self.root.join(name))
    }

    pub(crate) fn open_os(&self, name: &str, how: Open) -> io::Result<OsFile> {
        let path = self.resolve(name)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(self.mode);
        match how {
            Open::Read => {}
            Open::Create => drop(options.write(true).create(true).truncate(true)),
            Open::Write => drop(options.write(true)),
        }
        let file = options.open(path)?;
        if file.metadata()?.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(OsFile(file))
    }
}

impl Backend for OsDir {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn FileBackend>> {
        Ok(Box::new(self.open_os(name, how)?))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        fs::create_dir_all(self.resolve(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.resolve(name)?;
        if fs::symlink_metadata(&path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resolve(dir)?)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        fs::File::open(self.resolve(dir)?)?.sync_all()
    }

    fn space(&self) -> io::Result<Space> {
        let stat = nix::sys::statvfs::statvfs(&self.root)?;
        let unit = stat.fragment_size();
        // Macs count in 32 bits.
        #[allow(clippy::useless_conversion, reason = "of another type elsewhere")]
        let bytes = |blocks| u64::from(blocks).saturating_mul(unit);
        Ok(Space { total: bytes(stat.blocks()), available: bytes(stat.blocks_available()) })
    }

    fn lock(&self, name: &str) -> io::Result<LockGuard> {
        let path = self.resolve(name)?;
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(self.mode);
        let file = options.open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(LockGuard::new(file)),
            Err(fs::TryLockError::WouldBlock) => {
                let text = format!("{name} is locked: another process uses this folder, stop it first");
                Err(io::Error::new(io::ErrorKind::WouldBlock, text))
            }
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }
}

/// A file of the machine.
#[derive(Debug)]
pub(crate) struct OsFile(fs::File);

impl FileBackend for OsFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(bytes, at)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(into, at)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_and_forget(&self) -> io::Result<()> {
        self.0.sync_all()?;
        // Macs have no such advice.
        #[cfg(not(target_os = "macos"))]
        nix::fcntl::posix_fadvise(&self.0, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        Ok(())
    }

    fn map(&self, len: u64) -> io::Result<Mapped> {
        Mapped::of_file(&self.0, len)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Disk, Open};

    #[test]
    fn no_name_leads_out_of_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().join("data")).unwrap();
        for name in ["../x", "/etc/passwd", "a/../../x", "a\0b", "."] {
            assert!(disk.publish(name, b"x").is_err(), "{name:?}");
            assert!(disk.read(name).is_err(), "{name:?}");
        }
        assert!(!dir.path().join("x").exists());
    }

    #[test]
    fn a_mapping_longer_than_the_file_is_an_error_not_a_signal() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        disk.publish("f", b"four").unwrap();
        let file = disk.open_file("f", Open::Read).unwrap();
        assert_eq!(&*file.map(4).unwrap(), b"four");
        assert_eq!(&*file.map(0).unwrap(), b"");
        assert!(file.map(5).is_err());
    }

    #[test]
    fn the_space_of_a_real_folder_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let space = Disk::open(dir.path()).unwrap().space().unwrap();
        assert!(space.total > 0 && space.available <= space.total);
    }
}
