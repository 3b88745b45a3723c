//! The mounted file systems: `/proc/1/mountinfo`, see proc_pid_mountinfo(5).
//!
//! The kernel says by `poll` whether the list has changed since it was last asked, so that on most scrapes the list that
//! was taken apart before is used again. What raises no event (a file system that turns itself read-only, another root of
//! process 1) is caught by reading anew every [`AGAIN`]. Where the procfs prefix is not the kernel's, the list is read
//! each time.

use crate::host::{Failure, Host, into_text};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::Monotonic;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// Lines looked at, and bytes read.
const MOUNTS_MAX: usize = 65_536;
const BYTES_MAX: u64 = 64 << 20;
/// How long the list is believed without an event.
const AGAIN: Duration = Duration::from_secs(60);
/// File systems that answer out of memory, or from a local disk at worst.
const PROMPT: &[&str] = &["btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "msdos", "ramfs", "tmpfs", "vfat", "xfs"];
/// Those below which others are found without asking anybody outside the kernel either.
const PASSABLE: &[&str] = &[
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fusectl",
    "hugetlbfs",
    "iso9660",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tracefs",
];
/// With more mounts that may hang than this, none is taken for prompt.
const DOUBTFUL_MAX: usize = 256;

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) device: String,
    pub(crate) point: String,
    pub(crate) kind: String,
    pub(crate) major: String,
    pub(crate) minor: String,
    pub(crate) read_only: bool,
    /// Where it is reached from here.
    pub(crate) path: PathBuf,
    /// Whether asking it, and walking to it, cannot hang at a server or at another program.
    pub(crate) prompt: bool,
}

/// The mounts that are shown.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    list: Vec<Mount>,
    /// The open list, and since when.
    open: Option<(File, Monotonic)>,
}

impl Mounts {
    /// In the kernel's order.
    pub(crate) fn mounts(&self) -> &[Mount] {
        &self.list
    }

    /// Whether the list may be older than this scrape.
    pub(crate) fn is_kept(&self) -> bool {
        self.open.is_some()
    }

    /// Reads the list unless nothing has changed; `ignores` says which mounts are left out, always the same way.
    pub(crate) fn refresh(&mut self, host: &Host, ignores: impl Fn(&Mount) -> bool) -> Result<(), Failure> {
        if !host.is_kernel_proc() {
            let text = match host.read_proc("1/mountinfo") {
                Err(failure) if failure.is_absent() => host.read_proc("self/mountinfo")?,
                other => other?,
            };
            return self.take(host, &text, ignores);
        }
        let now = host.clock().now();
        let mut text = None;
        if let Some((file, since)) = &mut self.open
            && now - *since < AGAIN
        {
            if !has_changed(file) {
                return Ok(());
            }
            text = read(file).ok();
        }
        let text = match text {
            Some(text) => text,
            None => {
                let (file, text) = open(host)?;
                self.open = Some((file, now));
                text
            }
        };
        let taken = self.take(host, &text, ignores);
        if taken.is_err() {
            self.open = None;
        }
        taken
    }

    fn take(&mut self, host: &Host, text: &str, ignores: impl Fn(&Mount) -> bool) -> Result<(), Failure> {
        self.list.clear();
        let mut doubtful: Vec<String> = Vec::new();
        let mut seen = HashSet::new();
        for line in text.lines().take(MOUNTS_MAX) {
            let mount = parse(host, line).ok_or_else(|| Failure::form("mountinfo", format!("line {line:?}")))?;
            if !PROMPT.contains(&mount.kind.as_str()) && !PASSABLE.contains(&mount.kind.as_str()) {
                doubtful.push(mount.point.clone());
            }
            if !ignores(&mount) && seen.insert((mount.device.clone(), mount.point.clone(), mount.kind.clone())) {
                self.list.push(mount);
            }
        }
        for mount in &mut self.list {
            mount.prompt = PROMPT.contains(&mount.kind.as_str())
                && doubtful.len() <= DOUBTFUL_MAX
                && !doubtful.iter().any(|above| is_below(&mount.point, above));
        }
        Ok(())
    }
}

fn is_below(point: &str, above: &str) -> bool {
    point.strip_prefix(above.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn open(host: &Host) -> Result<(File, String), Failure> {
    let paths = [host.proc("1/mountinfo"), host.proc("self/mountinfo")];
    let (path, file) = match File::open(&paths[0]) {
        Err(error) if error.kind() == ErrorKind::NotFound => (&paths[1], File::open(&paths[1])),
        other => (&paths[0], other),
    };
    let opened = file.and_then(|mut file| {
        // What happens from here on is an event; what happened before is in the text.
        has_changed(&file);
        read(&mut file).map(|text| (file, text))
    });
    opened.map_err(|source| Failure::Read { path: path.clone(), source })
}

fn read(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(into_text(bytes))
}

/// Whether the list is another one than when this was asked before; in doubt it is.
fn has_changed(file: &File) -> bool {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    let events = PollFlags::POLLPRI | PollFlags::POLLERR;
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(_) => asked[0].revents().is_none_or(|found| found.intersects(events)),
        Err(_) => true,
    }
}

fn parse(host: &Host, line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ').skip(2);
    let (numbers, point, options) = (front.next()?, front.nth(1)?, front.next()?);
    let mut back = back.split(' ');
    let (kind, device) = (back.next()?, back.next()?);
    let super_options = back.next().unwrap_or("");
    let (major, minor) = numbers.split_once(':')?;
    let point = point.replace("\\040", " ").replace("\\011", "\t");
    let point = host.strip_root(&point);
    let has = |options: &str, wanted: &str| options.split(',').any(|option| option == wanted);
    Some(Mount {
        device: device.to_owned(),
        path: host.root(point),
        point: point.to_owned(),
        kind: kind.to_owned(),
        major: major.to_owned(),
        minor: minor.to_owned(),
        read_only: has(options, "ro") || has(super_options, "ro") || has(super_options, "emergency_ro"),
        prompt: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::Clock;

    fn host() -> Host {
        Host::new("/proc", "/sys", "/", "/nowhere", Clock::system())
    }

    #[test]
    fn what_lies_below_a_mount_that_may_hang_is_not_prompt() {
        let mut mounts = Mounts::default();
        let text = "1 0 8:1 / / rw - overlay overlay rw\n2 1 8:1 / /var rw - ext4 /dev/sda1 rw\n\
                    3 1 0:9 / /net rw - nfs4 server:/x rw\n4 3 0:10 / /net/scratch rw - tmpfs tmpfs rw\n\
                    5 1 0:11 / /network rw - xfs /dev/sdb rw\n6 1 0:12 / /auto rw - autofs auto rw\n";
        mounts.take(&host(), text, |mount| mount.kind == "autofs").expect("understood");
        let prompt = |mount: &Mount| mount.prompt.then(|| mount.point.clone());
        assert_eq!(mounts.mounts().iter().filter_map(prompt).collect::<Vec<_>>(), ["/var", "/network"]);
        assert_eq!(mounts.mounts().len(), 5);
        let many: String = (0..=DOUBTFUL_MAX).map(|n| format!("9 1 0:9 / /n{n} rw - fuse.x x rw\n")).collect();
        mounts.take(&host(), &(text.to_owned() + &many), |_| false).expect("understood");
        assert!(mounts.mounts().iter().all(|mount| !mount.prompt));
    }

    #[test]
    fn the_list_is_read_once_while_nothing_is_mounted() {
        let (host, mut mounts) = (host(), Mounts::default());
        mounts.refresh(&host, |_| false).expect("readable");
        assert!(mounts.is_kept() && mounts.mounts().iter().any(|mount| mount.point == "/"));
        assert!(mounts.open.as_ref().is_some_and(|(file, _)| !has_changed(file)));
        let place = mounts.mounts().as_ptr();
        mounts.refresh(&host, |_| false).expect("readable");
        assert_eq!(mounts.mounts().as_ptr(), place);
        assert!(mounts.take(&host, "no mount\n", |_| false).is_err());
    }
}
