//! Files of procfs and sysfs that stay open between scrapes: reading again costs a tenth of opening again.
//!
//! Only files of the kernel's own file systems are kept, where a file is generated at every read; a copy of `/proc` in
//! a folder, or a file that another program mounts over one of them, is opened each time. A kept file follows its
//! object: when a device goes, reading says so and the path is opened again; when a device is renamed, its old path
//! would go on answering for it, so paths below a device that can be renamed are kept only as long as its folder is
//! the same ([`Kept::check_folder`]).

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files kept at most, and part of the process's limit that they may use.
const KEPT_MAX: u64 = 1024;
const LIMIT_PART: u64 = 4;
/// Room offered beyond what the last read needed.
const ROOM: usize = 1024;
/// ENOENT, ESRCH, ENODEV, ENOTCONN, ESTALE: the object behind the file is gone.
const GONE: [i32; 5] = [2, 3, 19, 107, 116];

#[derive(Debug, Clone)]
struct Entry {
    file: Arc<File>,
    /// What the last read of the whole file brought.
    size: usize,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Entry>,
    /// Inode of each folder that was checked.
    folders: HashMap<String, u64>,
}

/// The files that are open.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Mutex<State>,
    max: usize,
}

impl Kept {
    /// Nothing open yet.
    pub(crate) fn new() -> Kept {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let max = usize::try_from(KEPT_MAX.min(limit / LIMIT_PART)).unwrap_or(0);
        Kept { state: Mutex::default(), max }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole file, `max` bytes at most. `key` names the path in short.
    pub(crate) fn read(&self, key: &str, path: &Path, max: u64) -> io::Result<Vec<u8>> {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        let mut entry = self.open(key, path)?;
        let result = match whole(&entry, max) {
            Err(error) if is_gone(&error) => {
                self.state().files.remove(key);
                entry = self.open(key, path)?;
                whole(&entry, max)
            }
            other => other,
        };
        if let Ok(bytes) = &result
            && bytes.len() > entry.size
            && let Some(entry) = self.state().files.get_mut(key)
        {
            entry.size = bytes.len();
        }
        result
    }

    /// One read of a small file into `buffer`; how many bytes came.
    pub(crate) fn read_once(&self, key: &str, path: &Path, buffer: &mut [u8]) -> io::Result<usize> {
        match self.open(key, path)?.file.read_at(buffer, 0) {
            Err(error) if is_gone(&error) => {
                self.state().files.remove(key);
                self.open(key, path)?.file.read_at(buffer, 0)
            }
            other => other,
        }
    }

    /// Says whether `path` is a folder, and forgets the files below it when it is another one than before.
    pub(crate) fn check_folder(&self, key: &str, path: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let mut state = self.state();
        if state.folders.get(key) != Some(&metadata.ino()) {
            let below = |name: &str| name.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
            state.files.retain(|name, _| !below(name));
            if state.folders.len() >= self.max {
                state.folders.clear();
            }
            state.folders.insert(key.to_owned(), metadata.ino());
        }
        metadata.is_dir()
    }

    fn open(&self, key: &str, path: &Path) -> io::Result<Entry> {
        if let Some(entry) = self.state().files.get(key) {
            return Ok(entry.clone());
        }
        let entry = Entry { file: Arc::new(File::open(path)?), size: 0 };
        if keepable(&entry.file) && self.max > 0 {
            let mut state = self.state();
            if state.files.len() >= self.max {
                // Rare: what is still read comes back by itself.
                state.files.clear();
            }
            state.files.insert(key.to_owned(), entry.clone());
        }
        Ok(entry)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.state().files.len()
    }
}

fn keepable(file: &File) -> bool {
    let kernel = |kind: FsType| kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC;
    fstatfs(file).is_ok_and(|answer| kernel(answer.filesystem_type()))
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| GONE.contains(&code))
}

/// Reads until the end; a short read is not the end in procfs.
fn whole(entry: &Entry, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; (entry.size + ROOM).min(max)];
    let mut length = 0;
    loop {
        match entry.file.read_at(&mut bytes[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length == bytes.len() {
            if length >= max {
                break;
            }
            bytes.resize((length * 2).min(max), 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn files_of_the_kernel_are_kept() {
        let kept = Kept::new();
        let read = |max| kept.read("proc/self/maps", Path::new("/proc/self/maps"), max).expect("readable");
        let first = read(1 << 20);
        assert!(first.len() > ROOM, "more than one round");
        assert!(read(1 << 20).starts_with(&first[..40]));
        assert_eq!(read(10).len(), 10);
        assert_eq!(kept.count(), 1);
        let mut buffer = [0; 4];
        assert_eq!(kept.read_once("stat", Path::new("/proc/stat"), &mut buffer).ok(), Some(4));
        assert_eq!((&buffer, kept.count()), (b"cpu ", 2));
    }

    #[test]
    fn files_of_a_folder_are_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("stat");
        let kept = Kept::new();
        for text in ["first", "second text"] {
            let fresh = folder.path().join("fresh");
            File::create(&fresh).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
            std::fs::rename(&fresh, &path).expect("renamed");
            assert_eq!(kept.read("stat", &path, 1 << 20).expect("readable"), text.as_bytes());
        }
        assert_eq!(kept.count(), 0);
        assert!(kept.read("none", &folder.path().join("none"), 1).is_err());
    }

    #[test]
    fn another_folder_of_the_same_name_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let kept = Kept::new();
        for _ in 0..2 {
            assert!(kept.check_folder("class/net/eth0", folder.path()));
            let _ = kept.read("class/net/eth0/mtu", Path::new("/proc/version"), 100);
            let _ = kept.read("class/net/eth01/mtu", Path::new("/proc/version"), 100);
            assert_eq!(kept.count(), 2);
        }
        let other = tempfile::tempdir().expect("folder");
        assert!(kept.check_folder("class/net/eth0", other.path()));
        assert_eq!(kept.count(), 1, "only what lies below it is forgotten");
        assert!(!kept.check_folder("class/net/eth0", Path::new("/nowhere")));
    }
}
