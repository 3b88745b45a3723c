//! Giving up what the exporter does not need: `--security.sandbox`.
//!
//! Landlock (<https://docs.kernel.org/userspace-api/landlock.html>) leaves reading of the folders that the flags name
//! and of the files that are read again, and takes every other file, every change of a file, programs, listening and,
//! where nobody is called, connecting. Seccomp ([`calls`]) takes the system calls that no collector makes. It happens
//! after listening and before the first request, on the one thread there is then; all later ones inherit it.
//!
//! Left out: connecting to sockets in the file system, which D-Bus needs; capabilities, which the program that starts
//! this one gives or does not.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod calls;

use crate::flags::{CONFIG, SANDBOX, switch};
use cli::Parsed;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::path::{Path, PathBuf};

/// The newest rights that are taken, and those without which there is no point in it (6.2 of the kernel).
const NEWEST: ABI = ABI::V6;
const LEAST: ABI = ABI::V3;

/// Where name resolution and certificates of servers lie, for those that call.
const CALLING: [&str; 13] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ssl",
    "/etc/pki",
    "/usr/share/ca-certificates",
];
/// What collectors read beside the folders that flags name; the process's own figures are of the real `/proc`.
const FIXED: [&str; 6] =
    ["/proc", "/sys", "/etc/localtime", "/etc/selinux", "/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"];

/// Why the process was not restricted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SandboxError {
    #[error("landlock: {0}")]
    Landlock(#[from] RulesetError),
    #[error("landlock is not there or too old for all of it; Linux 6.2 or newer has it, when lsm= names it")]
    Incomplete,
    #[error("seccomp: {0}")]
    Calls(String),
    #[error("{0} threads run already and would stay free; run the exporter as a program of its own")]
    Threads(usize),
}

/// What stays possible.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// Files and folders to read.
    read: Vec<PathBuf>,
    /// Folders to open, without the files in them.
    list: Vec<PathBuf>,
    /// Folders of sockets that are removed at the end.
    clear: Vec<PathBuf>,
    /// Somebody is called over TCP.
    connect: bool,
    /// Performance counters are opened.
    perf: bool,
}

impl Plan {
    /// What the flags ask for; `files` are those that serving reads again.
    pub(crate) fn new(parsed: &Parsed, files: &[PathBuf], sockets: &[PathBuf]) -> Plan {
        let mut plan = Plan::default();
        let text = |flag: &str| PathBuf::from(parsed.str(flag));
        plan.read.extend(FIXED.map(PathBuf::from));
        plan.read.extend(["path.procfs", "path.sysfs", "path.udev.data"].map(text));
        let root = text("path.rootfs");
        plan.read.extend(["etc/os-release", "usr/lib/os-release"].map(|file| root.join(file)));
        plan.list.push(root);
        plan.read.extend(parsed.list("collector.textfile.directory").iter().filter_map(|folder| fixed_part(folder)));
        for flag in ["collector.runit.servicedir", "collector.pcidevice.idsfile"] {
            plan.read.extend(Some(text(flag)).filter(|path| !path.as_os_str().is_empty()));
        }
        let config = Some(text(CONFIG)).filter(|path| !path.as_os_str().is_empty());
        for file in files.iter().chain(&config) {
            // A file is replaced by another one of its name, so that its folder has to be open; a link leads elsewhere.
            plan.read.push(folder(file));
            plan.read.extend(std::fs::canonicalize(file).ok().map(|file| folder(&file)));
        }
        plan.clear.extend(sockets.iter().map(|socket| folder(socket)));
        // The web configuration may come to name a cluster while the program runs.
        plan.connect = parsed.bool(&switch("supervisord")) || !files.is_empty();
        if plan.connect {
            plan.read.extend(CALLING.map(PathBuf::from));
        }
        plan.perf = parsed.bool(&switch("perf"));
        plan.read.sort();
        plan.read.dedup();
        plan
    }

    /// Restricts this process, as `mode` (a value of the flag) has it: `off` does nothing, `on` does what the kernel
    /// can, `strict` fails when that is not everything.
    pub(crate) fn apply(&self, mode: &str) -> Result<(), SandboxError> {
        if mode == "off" {
            return Ok(());
        }
        let strict = mode == "strict";
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        let result = if threads > 1 { Err(SandboxError::Threads(threads)) } else { self.restrict(strict) };
        match result {
            Ok(()) => tracing::info!(mode, folders = self.read.len(), "the process is restricted"),
            Err(error) if strict => return Err(error),
            Err(error) => tracing::warn!(err = %error, "--{SANDBOX}: the process is less restricted than it should be"),
        }
        Ok(())
    }

    /// Restricts this thread and all that it starts.
    fn restrict(&self, strict: bool) -> Result<(), SandboxError> {
        let files = self.restrict_files(strict);
        let calls = self.restrict_calls();
        files.and(calls)
    }

    fn restrict_files(&self, strict: bool) -> Result<(), SandboxError> {
        let least = if strict { CompatLevel::HardRequirement } else { CompatLevel::BestEffort };
        let mut rules = Ruleset::default()
            .set_compatibility(least)
            .handle_access(AccessFs::from_all(LEAST))?
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?
            .handle_access(AccessNet::BindTcp)?
            .scope(Scope::Signal)?;
        if !self.connect {
            rules = rules.handle_access(AccessNet::ConnectTcp)?;
        }
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let rules = rules
            .create()?
            .add_rules(paths(&self.read, read))?
            .add_rules(paths(&self.list, AccessFs::ReadDir.into()))?
            .add_rules(paths(&self.clear, AccessFs::RemoveFile.into()))?;
        let status = rules.restrict_self()?;
        let done = match status.ruleset {
            RulesetStatus::FullyEnforced => true,
            // An older kernel: what matters is there.
            RulesetStatus::PartiallyEnforced => strict,
            RulesetStatus::NotEnforced => false,
        };
        if done { Ok(()) } else { Err(SandboxError::Incomplete) }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    fn restrict_calls(&self) -> Result<(), SandboxError> {
        calls::restrict(!self.clear.is_empty(), self.perf).map_err(|error| SandboxError::Calls(error.to_string()))
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    fn restrict_calls(&self) -> Result<(), SandboxError> {
        Err(SandboxError::Calls("not known for this processor".to_owned()))
    }
}

/// Rules for what there is of some paths; what is not there cannot be allowed, and is not by being made later.
fn paths(
    all: &[PathBuf],
    access: BitFlags<AccessFs>,
) -> impl Iterator<Item = Result<PathBeneath<PathFd>, RulesetError>> {
    all.iter().filter_map(move |path| {
        let of_files = AccessFs::from_file(NEWEST);
        let access = if path.is_dir() { access } else { access & of_files };
        match PathFd::new(path) {
            Ok(found) => Some(Ok(PathBeneath::new(found, access))),
            Err(_) => {
                tracing::debug!(path = %path.display(), "not there, and so not readable from now on");
                None
            }
        }
    })
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The folder above the first part of a pattern that can change.
fn fixed_part(pattern: &str) -> Option<PathBuf> {
    if pattern.is_empty() {
        return None;
    }
    let fixed = Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect::<PathBuf>();
    Some(if fixed.as_os_str().is_empty() { PathBuf::from(".") } else { fixed })
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
