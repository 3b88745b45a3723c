//! Files and folders of procfs and sysfs that stay open between scrapes: reading again costs a tenth of opening again.
//!
//! Only what lies in the kernel's own file systems is kept, where a file is generated at every read; a copy of `/proc`
//! in a folder, or a file that another program mounts over one of them, is opened each time. A kept file follows its
//! object: when a device goes, reading says so and the path is opened again; when a device is renamed, its old path
//! would go on answering for it, so paths below a device that can be renamed are kept only as long as its folder is
//! the same ([`Kept::check_folder`]).
//!
//! That a path is missing is remembered for [`ABSENT`], since a driver that is not loaded is rarely loaded later.

use hashbrown::HashMap;
use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};
use runtime::{Clock, Monotonic};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Files kept at most, and part of the process's limit that they may use.
const KEPT_MAX: u64 = 1024;
const LIMIT_PART: u64 = 4;
/// Room offered beyond what the last read needed, and at first.
const ROOM: usize = 1024;
/// ENOENT, ESRCH, ENODEV, ENOTCONN, ESTALE: the object behind the file is gone.
const GONE: [i32; 5] = [2, 3, 19, 107, 116];
/// ENOENT and ENOTDIR: there is no such path.
const MISSING: [i32; 2] = [2, 20];
/// How long a missing path is taken for missing.
pub(crate) const ABSENT: Duration = Duration::from_secs(60);
/// Missing paths remembered at most.
const ABSENT_MAX: usize = 1024;
/// Files that the kernel makes in one piece: a read that leaves room in the buffer was the last. A name that ends with
/// a slash stands for all below it.
const ONE_PIECE: &[&str] = &[
    "loadavg",
    "meminfo",
    "net/netstat",
    "net/snmp",
    "net/snmp6",
    "net/sockstat",
    "net/sockstat6",
    "pressure/",
    "stat",
    "sys/",
];
/// Files whose records are short: a first read that ends well before the kernel's page is full has brought all.
const SHORT_RECORDS: &[&str] =
    &["diskstats", "net/arp", "net/softnet_stat", "net/stat/nf_conntrack", "net/udp", "net/udp6", "vmstat"];
/// The kernel's page, less more than the longest of those records.
const PAGE_LEFT: usize = 4096 - 512;

#[derive(Debug, Clone)]
struct Entry {
    file: Arc<File>,
    /// What the last read of the whole file brought.
    size: usize,
    /// A read that leaves room and ends below this has brought all.
    ends_below: usize,
}

/// A folder, and when it was last found under its name.
#[derive(Debug)]
struct Listing {
    dir: Dir,
    found: Monotonic,
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<String, Entry>,
    listings: HashMap<String, Arc<Mutex<Listing>>>,
    /// Inode of each folder that was checked.
    folders: HashMap<String, u64>,
    /// Since when a path is known to be missing.
    absent: HashMap<String, Monotonic>,
    /// When everything was closed because there was no room.
    emptied: Option<Monotonic>,
}

impl State {
    fn forget_below(&mut self, key: &str) {
        let below = |name: &str| name.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
        self.files.retain(|name, _| !below(name));
    }

    /// Whether there is room for one more. When there is none everything is closed now and then: what is still read
    /// comes back by itself.
    fn has_room(&mut self, max: usize, now: Monotonic) -> bool {
        if self.files.len() + self.listings.len() < max {
            return true;
        }
        if max == 0 || self.emptied.is_some_and(|emptied| now - emptied < ABSENT) {
            return false;
        }
        self.emptied = Some(now);
        self.files.clear();
        self.listings.clear();
        true
    }
}

/// The files that are open.
#[derive(Debug)]
pub(crate) struct Kept {
    state: Mutex<State>,
    max: usize,
    clock: Clock,
}

impl Kept {
    /// Nothing open yet.
    pub(crate) fn new(clock: Clock) -> Kept {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let max = usize::try_from(KEPT_MAX.min(limit / LIMIT_PART)).unwrap_or(0);
        Kept { state: Mutex::default(), max, clock }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A whole file, `max` bytes at most, in place of what `into` holds. `key` names the path in short; `path` is asked
    /// for only when the file is not open.
    pub(crate) fn read(&self, key: &str, path: impl Fn() -> PathBuf, max: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let mut entry = self.open(key, &path)?;
        let result = match whole(&entry, max, into) {
            Err(error) if is_gone(&error) => {
                self.state().files.remove(key);
                entry = self.open(key, &path)?;
                whole(&entry, max, into)
            }
            other => other,
        };
        if result.is_ok()
            && into.len() > entry.size
            && let Some(entry) = self.state().files.get_mut(key)
        {
            entry.size = into.len();
        }
        result
    }

    /// One read of a small file into `buffer`; how many bytes came.
    pub(crate) fn read_once(&self, key: &str, path: impl Fn() -> PathBuf, buffer: &mut [u8]) -> io::Result<usize> {
        match self.open(key, &path)?.file.read_at(buffer, 0) {
            Err(error) if is_gone(&error) => {
                self.state().files.remove(key);
                self.open(key, &path)?.file.read_at(buffer, 0)
            }
            other => other,
        }
    }

    /// The names in a folder that exists as long as what it is about; sorted. Two calls of the system when the folder
    /// is open.
    pub(crate) fn list(&self, key: &str, path: &Path) -> io::Result<Vec<String>> {
        let open = self.state().listings.get(key).cloned();
        if let Some(dir) = open {
            let mut listing = dir.lock().unwrap_or_else(PoisonError::into_inner);
            let found = names(&mut listing.dir)?;
            // An empty answer may also mean that the folder is gone and another one has its name.
            let now = self.clock.now();
            if !found.is_empty() || now - listing.found < ABSENT {
                return Ok(found);
            }
            if same(&listing.dir, path) {
                listing.found = now;
                return Ok(found);
            }
            self.state().listings.remove(key);
        }
        let mut dir = Dir::open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        let found = names(&mut dir)?;
        if kernel(&dir) {
            let mut state = self.state();
            if state.has_room(self.max, self.clock.now()) {
                let listing = Listing { dir, found: self.clock.now() };
                state.listings.insert(key.to_owned(), Arc::new(Mutex::new(listing)));
            }
        }
        Ok(found)
    }

    /// Says whether `path` is a folder, and forgets the files below it when it is another one than before.
    pub(crate) fn check_folder(&self, key: &str, path: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else { return false };
        let mut state = self.state();
        if state.folders.get(key) != Some(&metadata.ino()) {
            state.forget_below(key);
            if state.folders.len() >= self.max {
                state.folders.clear();
            }
            state.folders.insert(key.to_owned(), metadata.ino());
        }
        metadata.is_dir()
    }

    /// Closes the files below a folder.
    pub(crate) fn forget_below(&self, key: &str) {
        self.state().forget_below(key);
    }

    /// Asks `open` for something below the kernel's file systems, unless it was missing not long ago.
    pub(crate) fn unless_absent<T>(&self, key: &str, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let since = self.state().absent.get(key).copied();
        if since.is_some_and(|since| self.clock.now() - since < ABSENT) {
            return Err(io::Error::from_raw_os_error(MISSING[0]));
        }
        let result = open();
        let missing =
            result.as_ref().is_err_and(|error| error.raw_os_error().is_some_and(|code| MISSING.contains(&code)));
        if missing {
            let mut state = self.state();
            if state.absent.len() >= ABSENT_MAX {
                state.absent.clear();
            }
            state.absent.insert(key.to_owned(), self.clock.now());
        } else if since.is_some() {
            self.state().absent.remove(key);
        }
        result
    }

    fn open(&self, key: &str, path: &impl Fn() -> PathBuf) -> io::Result<Entry> {
        if let Some(entry) = self.state().files.get(key) {
            return Ok(entry.clone());
        }
        let entry = Entry { file: Arc::new(File::open(path())?), size: 0, ends_below: ends_below(key) };
        if !kernel(&*entry.file) {
            return Ok(Entry { ends_below: 0, ..entry });
        }
        let mut state = self.state();
        if state.has_room(self.max, self.clock.now()) {
            state.files.insert(key.to_owned(), entry.clone());
        }
        drop(state);
        Ok(entry)
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.state().files.len()
    }
}

/// Below which length a read that leaves room was the last, by the file's name.
fn ends_below(key: &str) -> usize {
    let named = |name: &&str| if name.ends_with('/') { key.starts_with(*name) } else { key == *name };
    match () {
        () if ONE_PIECE.iter().any(named) => usize::MAX,
        () if SHORT_RECORDS.iter().any(named) => PAGE_LEFT,
        () => 0,
    }
}

/// Whether something open lies in a file system of the kernel's own.
fn kernel(opened: &impl std::os::fd::AsFd) -> bool {
    fstatfs(opened).is_ok_and(|answer| is_kernel(answer.filesystem_type()))
}

/// Whether it is procfs or sysfs.
pub(crate) fn is_kernel(kind: FsType) -> bool {
    kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC
}

fn same(dir: &Dir, path: &Path) -> bool {
    matches!((fstat(dir), std::fs::metadata(path)), (Ok(a), Ok(b)) if a.st_ino == b.ino())
}

fn names(dir: &mut Dir) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| GONE.contains(&code))
}

/// Reads until the end. A short read is not the end in procfs, where a record that does not fit waits for the next
/// read, except for the files that are known.
fn whole(entry: &Entry, max: usize, into: &mut Vec<u8>) -> io::Result<()> {
    into.resize((entry.size + ROOM).min(max), 0);
    let mut length = 0;
    loop {
        match entry.file.read_at(&mut into[length..], length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < into.len().min(entry.ends_below) {
            break;
        }
        if length == into.len() {
            if length >= max {
                break;
            }
            into.resize((length * 2).min(max), 0);
        }
    }
    into.truncate(length);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn kept() -> Kept {
        Kept::new(Clock::system())
    }

    fn read(kept: &Kept, key: &str, path: &str, max: usize) -> io::Result<Vec<u8>> {
        let mut bytes = b"left over".to_vec();
        kept.read(key, || path.into(), max, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn files_of_the_kernel_are_kept() {
        let kept = kept();
        let maps = |max| read(&kept, "proc/self/maps", "/proc/self/maps", max).expect("readable");
        let first = maps(1 << 20);
        assert!(first.len() > ROOM, "more than one round");
        assert!(maps(1 << 20).starts_with(&first[..40]));
        assert_eq!(maps(10).len(), 10);
        assert_eq!(kept.count(), 1);
        let mut buffer = [0; 4];
        assert_eq!(kept.read_once("stat", || "/proc/stat".into(), &mut buffer).ok(), Some(4));
        assert_eq!((&buffer, kept.count()), (b"cpu ", 2));
    }

    #[test]
    fn a_file_of_one_piece_is_whole() {
        let kept = kept();
        for _ in 0..3 {
            let ours = read(&kept, "net/netstat", "/proc/net/netstat", 1 << 20).expect("readable");
            assert_eq!(ours.iter().filter(|byte| **byte == b'\n').count() % 2, 0, "pairs of lines");
            assert!(ours.ends_with(b"\n") && ours.starts_with(b"TcpExt: "));
        }
    }

    #[test]
    fn which_reads_are_the_last() {
        for (key, length) in [
            ("stat", usize::MAX),
            ("sys/fs/file-nr", usize::MAX),
            ("pressure/io", usize::MAX),
            ("net/udp6", PAGE_LEFT),
            ("interrupts", 0),
            ("statistics", 0),
            ("schedstat", 0),
        ] {
            assert_eq!(ends_below(key), length, "{key}");
        }
        for name in SHORT_RECORDS {
            let path = format!("/proc/{name}");
            let Ok(all) = std::fs::read_to_string(&path) else { continue };
            let longest = all.split_inclusive('\n').map(str::len).max().unwrap_or(0);
            assert!(longest < 4096 - PAGE_LEFT, "{name} has a record of {longest} bytes");
        }
    }

    #[test]
    fn files_of_a_folder_are_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("stat");
        let kept = kept();
        for text in ["first", "second text"] {
            let fresh = folder.path().join("fresh");
            File::create(&fresh).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
            std::fs::rename(&fresh, &path).expect("renamed");
            let path = path.to_str().expect("utf-8");
            assert_eq!(read(&kept, "stat", path, 1 << 20).expect("readable"), text.as_bytes());
            assert_eq!(kept.list("x", folder.path()).expect("names"), ["stat"]);
        }
        assert_eq!((kept.count(), kept.state().listings.len()), (0, 0));
        assert!(read(&kept, "none", "/nowhere", 1).is_err());
    }

    #[test]
    fn an_open_folder_says_what_is_in_it_now() {
        let kept = kept();
        for _ in 0..2 {
            let path = PathBuf::from(format!("/proc/{}/task", std::process::id()));
            let (tasks, names) = std::thread::scope(|scope| {
                let names = scope.spawn(|| kept.list("task", &path).expect("names"));
                (kept.list("task", &path).expect("names"), names.join().expect("no panic"))
            });
            assert!(tasks.contains(&std::process::id().to_string()) && !names.is_empty(), "{tasks:?}");
        }
        assert_eq!(kept.state().listings.len(), 1);
    }

    #[test]
    fn another_folder_of_the_same_name_is_noticed() {
        let folder = tempfile::tempdir().expect("folder");
        let kept = kept();
        for _ in 0..2 {
            assert!(kept.check_folder("class/net/eth0", folder.path()));
            let _ = read(&kept, "class/net/eth0/mtu", "/proc/version", 100);
            let _ = read(&kept, "class/net/eth01/mtu", "/proc/version", 100);
            assert_eq!(kept.count(), 2);
        }
        let other = tempfile::tempdir().expect("folder");
        assert!(kept.check_folder("class/net/eth0", other.path()));
        assert_eq!(kept.count(), 1, "only what lies below it is forgotten");
        assert!(!kept.check_folder("class/net/eth0", Path::new("/nowhere")));
    }

    #[test]
    fn no_more_files_than_there_is_room_for() {
        let mut kept = kept();
        kept.max = 2;
        for round in 0..3 {
            for name in ["version", "uptime", "loadavg", "meminfo"] {
                let path = format!("/proc/{name}");
                assert!(!read(&kept, name, &path, 1 << 20).expect("readable").is_empty(), "{name}, round {round}");
                assert!(kept.count() <= 2);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_missing_is_asked_for_again_later() {
        let clock = Clock::simulated(0);
        let kept = Kept::new(clock.clone());
        let asked = std::cell::Cell::new(0);
        let ask = |code: Option<i32>| {
            let open = || {
                asked.set(asked.get() + 1);
                code.map_or(Ok(7), |code| Err(io::Error::from_raw_os_error(code)))
            };
            kept.unless_absent("class/none", open).map_err(|error| error.kind())
        };
        for _ in 0..3 {
            assert!(ask(Some(MISSING[1])).is_err());
        }
        assert_eq!(asked.get(), 1);
        clock.sleep(ABSENT).await;
        assert_eq!(ask(Some(13)), Err(io::ErrorKind::PermissionDenied));
        assert_eq!((ask(None), asked.get()), (Ok(7), 3));
    }
}
