//! The machine as the collectors see it: four path prefixes and bounded reads.
//!
//! Truth: <https://docs.kernel.org/filesystems/proc.html> and <https://docs.kernel.org/filesystems/sysfs.html>. An
//! attribute of sysfs is read with one `read` of at most 128 bytes and never again, because some drivers answer a
//! second read with EAGAIN for ever.
//!
//! Where a prefix is the kernel's own file system, files and folders stay open and what is missing is not asked for at
//! every scrape, see [`crate::kept`]. A driver that is loaded later shows up within [`crate::kept::ABSENT`].

use crate::buffers::{Pool, Short, Text};
use crate::kept::{Kept, is_kernel};
use crate::links::Links;
use runtime::Clock;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// No file of procfs that a collector reads is longer than this.
const PROC_BYTES_MAX: usize = 16 << 20;
const SYS_BYTES_MAX: usize = Short::BYTES_MAX;
/// More than a line of figures of a process is long.
const PIECE_BYTES: usize = 1024;
/// Where sysfs has names that are never given to another object while the old one is there.
const SYS_KEPT: [&str; 5] =
    ["devices/system/", "class/hwmon/", "class/power_supply/", "class/powercap/", "class/thermal/"];

/// Why a collector did not finish. Samples written before stay in the answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// The machine has nothing of this kind; logged at debug level only.
    #[error("no data: {0}")]
    NoData(String),
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file has another form than the kernel's documentation says.
    #[error("cannot understand {path}: {what}")]
    Form {
        /// The file below its prefix.
        path: String,
        /// What was met.
        what: String,
    },
    /// The system refused a call.
    #[error("{call} failed: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Failure {
    /// A file of unexpected form.
    pub(crate) fn form(path: &str, what: impl Into<String>) -> Failure {
        Failure::Form { path: path.to_owned(), what: what.into() }
    }

    /// Turns "the file does not exist" into "no data".
    pub(crate) fn absent_is_no_data(self) -> Failure {
        match self {
            Failure::Read { path, source } if source.kind() == io::ErrorKind::NotFound => {
                Failure::NoData(format!("{} does not exist", path.display()))
            }
            other => other,
        }
    }

    /// True when a file was missing.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Failure::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Helper threads of collectors that wait for a call that does not return.
#[derive(Debug, Default)]
pub(crate) struct Stuck(AtomicUsize);

impl Stuck {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more is left behind.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One came back.
    pub(crate) fn remove(&self) {
        // The closure declines only when the count is zero already.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
    }
}

/// Path prefixes, the clock, and what stays open.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    proc: PathBuf,
    sys: PathBuf,
    root: PathBuf,
    udev: Option<PathBuf>,
    /// Whether the first two are the kernel's own file systems.
    kernel_proc: bool,
    kernel_sys: bool,
    clock: Clock,
    stuck: Arc<Stuck>,
    kept: Arc<Kept>,
    pool: Arc<Pool>,
    round: Arc<AtomicU64>,
    links: Arc<Links>,
    octets: Arc<Mutex<(u64, [f64; 2])>>,
    stat: Arc<Mutex<Shared>>,
}

/// A text that several collectors look at, and the pass it was read for.
#[derive(Debug, Default)]
struct Shared {
    round: Option<u64>,
    text: Arc<String>,
}

fn is_kernel_at(path: &Path) -> bool {
    nix::sys::statfs::statfs(path).is_ok_and(|answer| is_kernel(answer.filesystem_type()))
}

impl Host {
    /// Prefixes as on the command line; udev data that are not there are not asked for again.
    pub(crate) fn new(proc: &str, sys: &str, root: &str, udev: &str, clock: Clock) -> Host {
        let udev = PathBuf::from(udev);
        let udev = udev.is_dir().then_some(udev);
        Host {
            kernel_proc: is_kernel_at(Path::new(proc)),
            kernel_sys: is_kernel_at(Path::new(sys)),
            proc: proc.into(),
            sys: sys.into(),
            root: root.into(),
            udev,
            stuck: Arc::default(),
            kept: Arc::new(Kept::new(clock.clone())),
            clock,
            pool: Arc::default(),
            round: Arc::default(),
            links: Arc::default(),
            octets: Arc::default(),
            stat: Arc::default(),
        }
    }

    /// A pass begins: what was read for an earlier one is too old for it.
    pub(crate) fn begin_round(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the last pass that began. What was read under this number is as young as any pass needs it.
    pub(crate) fn round(&self) -> u64 {
        self.round.load(Ordering::Relaxed)
    }

    /// Notes the octets that the kernel counts as received and sent in the network of this process.
    pub(crate) fn note_octets(&self, octets: [f64; 2]) {
        // Another prefix may be a copy, and its network another one.
        if self.kernel_proc {
            *self.octets.lock().unwrap_or_else(PoisonError::into_inner) = (self.round(), octets);
        }
    }

    /// What was noted in this pass.
    pub(crate) fn octets(&self) -> Option<[f64; 2]> {
        let (round, octets) = *self.octets.lock().unwrap_or_else(PoisonError::into_inner);
        (round > 0 && round == self.round()).then_some(octets)
    }

    /// The network devices of this process, read once a pass.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Whether the sysfs prefix is the kernel's file system. What it says of the machine's parts, such as how many
    /// processors a package has, need not be read at each scrape then.
    pub(crate) fn is_kernel_sys(&self) -> bool {
        self.kernel_sys
    }

    /// Whether the procfs prefix is the kernel's file system.
    pub(crate) fn is_kernel_proc(&self) -> bool {
        self.kernel_proc
    }

    /// Whether the sysfs prefix is the kernel's file system at its usual place.
    pub(crate) fn is_usual_sys(&self) -> bool {
        self.kernel_sys && self.sys == Path::new("/sys")
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Helper threads that wait for a call that does not return.
    pub(crate) fn stuck(&self) -> &Arc<Stuck> {
        &self.stuck
    }

    /// A path below procfs.
    pub(crate) fn proc(&self, path: &str) -> PathBuf {
        self.proc.join(path)
    }

    /// A path below sysfs.
    pub(crate) fn sys(&self, path: &str) -> PathBuf {
        self.sys.join(path)
    }

    /// A path below the root file system; `path` may start with a slash.
    pub(crate) fn root(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A mount point as seen from below the root prefix. The prefix is cut off as text, as upstream does.
    pub(crate) fn strip_root<'a>(&self, mount_point: &'a str) -> &'a str {
        let prefix = self.root.to_str().unwrap_or("/");
        if prefix == "/" {
            return mount_point;
        }
        match mount_point.strip_prefix(prefix) {
            Some("") => "/",
            Some(rest) => rest,
            None => mount_point,
        }
    }

    /// Where udev keeps what it knows of a device, such as `b8:0`; none when it keeps nothing of any.
    pub(crate) fn udev_path(&self, device: &str) -> Option<PathBuf> {
        self.udev.as_ref().map(|folder| folder.join(device))
    }

    /// A whole file of procfs. Files that do not belong to one process stay open.
    pub(crate) fn read_proc(&self, path: &str) -> Result<Text, Failure> {
        let failure = |source| Failure::Read { path: self.proc(path), source };
        let mut bytes = self.pool.take();
        if path.starts_with(|first: char| first.is_ascii_digit()) || path.starts_with("self/") {
            let one_piece = self.kernel_proc && path.ends_with("/stat");
            let read = if one_piece { read_piece } else { read_into };
            read(&self.proc(path), &mut bytes).map_err(failure)?;
        } else {
            self.probe_proc(path, || self.kept.read(path, || self.proc(path), PROC_BYTES_MAX, &mut bytes))
                .map_err(failure)?;
        }
        Ok(Text::new(bytes, &self.pool))
    }

    /// The file `stat`, read once a pass.
    pub(crate) fn read_stat(&self) -> Result<Arc<String>, Failure> {
        let mut shared = self.stat.lock().unwrap_or_else(PoisonError::into_inner);
        let round = self.round();
        if shared.round != Some(round) {
            shared.round = None;
            let text = self.read_proc("stat")?;
            match Arc::get_mut(&mut shared.text) {
                Some(kept) => {
                    kept.clear();
                    kept.push_str(&text);
                }
                // A collector that is late may still look at the last one.
                None => shared.text = Arc::new((*text).to_owned()),
            }
            shared.round = Some(round);
        }
        Ok(shared.text.clone())
    }

    /// The number a small file of procfs holds.
    pub(crate) fn proc_number(&self, path: &str) -> Result<f64, Failure> {
        let text = self.read_proc(path)?;
        number(path, text.trim())
    }

    /// One attribute of sysfs, trimmed.
    pub(crate) fn sys_value(&self, path: &str) -> io::Result<String> {
        let mut buffer = [0u8; SYS_BYTES_MAX];
        let length = if SYS_KEPT.iter().any(|prefix| path.starts_with(prefix)) {
            self.kept.read_once(path, || self.sys(path), &mut buffer)?
        } else {
            File::open(self.sys(path))?.read(&mut buffer)?
        };
        Ok(text_of(&buffer[..length]).trim().to_owned())
    }

    /// Whether a path of sysfs is a device's folder. Asked before [`Host::device_value`], because what is open below a
    /// folder belongs to the device that had its name before, if that was another one.
    pub(crate) fn is_device(&self, folder: &str) -> bool {
        self.kept.check_folder(folder, &self.sys(folder))
    }

    /// One attribute below a folder that [`Host::is_device`] has looked at, trimmed.
    pub(crate) fn device_value(&self, path: &str) -> io::Result<String> {
        let mut buffer = [0u8; SYS_BYTES_MAX];
        let length = self.kept.read_once(path, || self.sys(path), &mut buffer)?;
        Ok(text_of(&buffer[..length]).trim().to_owned())
    }

    /// Like [`Host::device_value`] without asking the allocator. For a path whose folder somebody watches, who calls
    /// [`Host::forget_below`] when another device has it.
    pub(crate) fn device_short(&self, path: &str) -> io::Result<Short> {
        let mut buffer = [0u8; SYS_BYTES_MAX];
        let length = self.kept.read_once(path, || self.sys(path), &mut buffer)?;
        Short::read(&buffer[..length]).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Closes what is open below a folder of sysfs.
    pub(crate) fn forget_below(&self, folder: &str) {
        self.kept.forget_below(folder);
    }

    /// One attribute of sysfs as a number, decimal or with `0x`.
    pub(crate) fn sys_number(&self, path: &str) -> io::Result<f64> {
        to_number(&self.sys_value(path)?)
    }

    /// Sorted names of a folder of sysfs. Those that are about a kind of objects, not about one, stay open.
    pub(crate) fn sys_list(&self, path: &str) -> Result<Vec<String>, Failure> {
        let full = self.sys(path);
        let lasting = self.kernel_sys && (path.matches('/').count() < 2 || path.starts_with("devices/system/"));
        if !lasting {
            return list(&full);
        }
        let names = self.probe_sys(path, || self.kept.list(path, &full));
        names.map_err(|source| Failure::Read { path: full, source })
    }

    /// Sorted names of a folder of procfs that is there when a driver is.
    pub(crate) fn proc_list(&self, path: &str) -> Result<Vec<String>, Failure> {
        let full = self.proc(path);
        let names = self.probe_proc(path, || names(&full));
        names.map_err(|source| Failure::Read { path: full, source })
    }

    /// Runs `open` for a path of sysfs, unless it was missing not long ago.
    pub(crate) fn probe_sys<T>(&self, path: &str, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.kernel_sys { self.kept.unless_absent(path, open) } else { open() }
    }

    /// Runs `open` for a path of procfs, unless it was missing not long ago.
    pub(crate) fn probe_proc<T>(&self, path: &str, open: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if self.kernel_proc { self.kept.unless_absent(path, open) } else { open() }
    }
}

/// The properties of a file of udev's data.
pub(crate) fn udev_properties(path: &Path) -> Vec<(String, String)> {
    let Ok(text) = read_bounded(path) else { return Vec::new() };
    text.lines()
        .filter_map(|line| line.strip_prefix("E:")?.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Which state of which file: its inode, and when it was written.
pub(crate) type Stamp = (u64, i64, i64);

/// The stamp of an ordinary file, which is another one after it was replaced or written.
pub(crate) fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
}

/// Sorted names of a folder.
pub(crate) fn list(folder: &Path) -> Result<Vec<String>, Failure> {
    names(folder).map_err(|source| Failure::Read { path: folder.to_owned(), source })
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// A whole text file, bounded; bytes that are not UTF-8 are replaced.
pub(crate) fn read_at(path: &Path) -> Result<String, Failure> {
    read_bounded(path).map_err(|source| Failure::Read { path: path.to_owned(), source })
}

/// Like [`read_at`], for those who have the path at hand.
pub(crate) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(4096);
    read_into(path, &mut bytes)?;
    Ok(into_text(bytes))
}

/// A whole file in place of what `into` holds.
fn read_into(path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
    into.clear();
    File::open(path)?.take(PROC_BYTES_MAX as u64).read_to_end(into).map(drop)
}

/// Like [`read_into`] for a file that the kernel makes in one piece: a read that leaves room has brought all.
fn read_piece(path: &Path, into: &mut Vec<u8>) -> io::Result<()> {
    let mut file = File::open(path)?;
    into.resize(PIECE_BYTES, 0);
    let mut length = 0;
    loop {
        match file.read(&mut into[length..]) {
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if length < into.len() || length >= PROC_BYTES_MAX {
            break;
        }
        into.resize(length * 2, 0);
    }
    into.truncate(length);
    Ok(())
}

/// Text out of bytes, without copying where they are good.
pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => text_of(error.as_bytes()),
    }
}

/// A number of sysfs, decimal or with `0x`.
pub(crate) fn to_number(text: &str) -> io::Result<f64> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|value| value as f64),
        None => text.parse::<f64>().ok(),
    };
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{text:?} is not a number")))
}

/// Text out of bytes; one replacement character stands for any number of broken bytes in a row.
fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut broken = false;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            text.push_str(chunk.valid());
            broken = false;
        }
        if !chunk.invalid().is_empty() && !broken {
            text.push(char::REPLACEMENT_CHARACTER);
            broken = true;
        }
    }
    text
}

/// A number of a file of procfs.
pub(crate) fn number(path: &str, text: &str) -> Result<f64, Failure> {
    text.parse().map_err(|_| Failure::form(path, format!("{text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn an_attribute_is_cut_at_128_bytes() {
        let folder = tempfile::tempdir().expect("folder");
        File::create(folder.path().join("long")).and_then(|mut file| file.write_all(&[b'7'; 200])).expect("write");
        let path = folder.path().to_str().expect("utf-8");
        let host = Host::new(path, path, "/", "/nowhere", Clock::system());
        assert_eq!(host.sys_value("long").expect("value").len(), 128);
        assert!(host.udev_path("b8:0").is_none());
    }

    #[test]
    fn broken_bytes_in_a_row_are_one_character() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"a\xff\xfeb\xc3", "a\u{fffd}b\u{fffd}"),
            (b"\xf0\x9f\x98", "\u{fffd}"),
            (b"", ""),
        ] {
            assert_eq!(text_of(bytes), expected);
        }
    }

    #[test]
    fn the_root_prefix_is_cut_as_text() {
        let host = Host::new("/proc", "/sys", "/host/root", "/nowhere", Clock::system());
        assert_eq!(host.strip_root("/host/root"), "/");
        assert_eq!(host.strip_root("/host/root/boot"), "/boot");
        assert_eq!(host.strip_root("/other"), "/other");
        assert_eq!(host.root("/boot"), PathBuf::from("/host/root/boot"));
    }
}
