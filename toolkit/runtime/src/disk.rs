//! The disk seam: every durable byte goes through [`Disk`], so that a simulation can stand in for the machine.
//!
//! Names are relative to the root of the disk and use `/`; `""` is the root itself.

use std::any::Any;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::mapped::Mapped;
use crate::os::{OsDir, OsFile};

/// How [`Disk::open_file`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// A new empty file, or an existing one emptied, for reading and writing.
    Create,
    /// An existing file with its content, for reading and writing.
    Write,
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Size of the file system.
    pub total: u64,
    /// What this process may still fill.
    pub available: u64,
}

/// Held as long as the lock is.
pub struct LockGuard(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl LockGuard {
    /// A lock that lasts until `held` is dropped.
    pub fn new(held: impl Any + Send + Sync) -> LockGuard {
        LockGuard(Box::new(held))
    }
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LockGuard")
    }
}

/// What a disk must do.
pub trait Backend: Send + Sync {
    /// Opens a file.
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn FileBackend>>;
    /// Makes a folder and those above it; one that is there is fine.
    fn create_dir(&self, name: &str) -> io::Result<()>;
    /// Gives a file or folder another name, replacing a file of that name in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file, or a folder that is empty.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Names in a folder, sorted.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Room left.
    fn space(&self) -> io::Result<Space>;
    /// Takes the lock file `name`, or fails with `WouldBlock` when another holds it.
    fn lock(&self, name: &str) -> io::Result<LockGuard>;
}

/// What an open file must do. There are positions only: appending is the caller's arithmetic.
pub trait FileBackend: Send + Sync {
    /// Writes some of `bytes` at `at`, answering how many.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Reads some bytes from `at`, answering how many; 0 is the end of the file.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or extends it by zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Like `sync`, and drops what is cached, so that the next read tells what the disk has.
    fn sync_and_forget(&self) -> io::Result<()>;
    /// The first `len` bytes of a sealed file.
    fn map(&self, len: u64) -> io::Result<Mapped>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// A folder of durable files; clones share it.
#[derive(Clone)]
pub struct Disk {
    imp: Imp,
    /// One publication at a time, since two of the same name would share a temporary file.
    publishing: Arc<parking_lot::Mutex<()>>,
}

/// A branch for the machine's disk: a virtual call before each system call was measured at 5 to 15 percent.
#[derive(Clone)]
enum Imp {
    Os(Arc<OsDir>),
    Other(Arc<dyn Backend>),
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.imp {
            Imp::Os(dir) => write!(f, "Disk({})", dir.root().display()),
            Imp::Other(_) => f.write_str("Disk(other)"),
        }
    }
}

impl Disk {
    /// The folder `path` of the machine, made when it is missing.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Disk> {
        Self::open_with(path.as_ref(), 0o666)
    }

    /// Like [`Disk::open`]; files made there are for the user of this process alone.
    pub fn open_private(path: impl AsRef<Path>) -> io::Result<Disk> {
        Self::open_with(path.as_ref(), 0o600)
    }

    fn open_with(path: &Path, mode: u32) -> io::Result<Disk> {
        Ok(Disk { imp: Imp::Os(Arc::new(OsDir::open(path, mode)?)), publishing: Arc::default() })
    }

    /// Another disk, such as a simulated one.
    pub fn with_backend(backend: Arc<dyn Backend>) -> Disk {
        Disk { imp: Imp::Other(backend), publishing: Arc::default() }
    }

    fn backend(&self) -> &dyn Backend {
        match &self.imp {
            Imp::Os(dir) => dir.as_ref(),
            Imp::Other(other) => other.as_ref(),
        }
    }

    /// All bytes of a file.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.open_file(name, Open::Read)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut bytes = vec![0; len];
        let mut done = 0;
        while done < len {
            match file.read_at(done as u64, &mut bytes[done..])? {
                0 => break, // cut short while we read
                n => done += n,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    /// Replaces a file by `bytes` so that a crash at any moment leaves either the old content or the new one. After
    /// an error the old content is still there, unless only the last step failed, when either may be.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let _one = self.publishing.lock();
        let temporary = format!("{name}.tmp");
        let written = self.write_whole(&temporary, bytes).and_then(|()| self.rename(&temporary, name));
        if let Err(error) = written {
            // Best effort: the next publication empties a leftover anyway.
            let _ = self.remove(&temporary);
            return Err(error);
        }
        self.sync_dir(name.rsplit_once('/').map_or("", |(dir, _)| dir))
    }

    fn write_whole(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.open_file(name, Open::Create)?;
        file.write_at(0, bytes)?;
        file.sync()
    }

    /// Opens a file.
    pub fn open_file(&self, name: &str, how: Open) -> io::Result<File> {
        let imp = match &self.imp {
            Imp::Os(dir) => FileImp::Os(dir.open_os(name, how)?),
            Imp::Other(other) => FileImp::Other(other.open(name, how)?),
        };
        Ok(File { imp, dead: AtomicBool::new(false) })
    }

    /// Makes a folder and those above it; one that is there is fine. Durable after `sync_dir` of the parents.
    pub fn create_dir(&self, name: &str) -> io::Result<()> {
        self.backend().create_dir(name)
    }

    /// Names in a folder, sorted.
    pub fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.backend().list(dir)
    }

    /// Removes a file, or a folder that is empty.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        self.backend().remove(name)
    }

    /// Gives a file or folder another name, replacing a file of that name in one step.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.backend().rename(from, to)
    }

    /// Makes creations, renames and removals in a folder durable.
    pub fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.backend().sync_dir(dir)
    }

    /// Room left.
    pub fn space(&self) -> io::Result<Space> {
        self.backend().space()
    }

    /// Takes the lock file `name`, or fails with `WouldBlock` when another holds it.
    pub fn lock(&self, name: &str) -> io::Result<LockGuard> {
        self.backend().lock(name)
    }
}

/// An open file.
pub struct File {
    imp: FileImp,
    dead: AtomicBool,
}

enum FileImp {
    Os(OsFile),
    Other(Box<dyn FileBackend>),
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("dead", &self.dead).finish_non_exhaustive()
    }
}

impl File {
    fn alive(&self) -> io::Result<()> {
        if self.dead.load(Ordering::Acquire) {
            return Err(io::Error::other("an earlier sync of this file failed: open a new file and write again"));
        }
        Ok(())
    }

    /// A failed sync is final: the kernel forgets what it could not write and calls the next sync a success.
    fn fatal(&self, done: io::Result<()>) -> io::Result<()> {
        if done.is_err() {
            self.dead.store(true, Ordering::Release);
        }
        done
    }

    /// Writes all of `bytes` at `at`. After an error some of them may be there.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.alive()?;
        let mut done = 0;
        while done < bytes.len() {
            let wrote = match &self.imp {
                FileImp::Os(file) => file.write_at(at + done as u64, &bytes[done..]),
                FileImp::Other(file) => file.write_at(at + done as u64, &bytes[done..]),
            };
            match wrote {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads some bytes from `at`, answering how many; 0 is the end of the file.
    pub fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.alive()?;
        loop {
            let read = match &self.imp {
                FileImp::Os(file) => file.read_at(at, into),
                FileImp::Other(file) => file.read_at(at, into),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn backend(&self) -> &dyn FileBackend {
        match &self.imp {
            FileImp::Os(file) => file,
            FileImp::Other(file) => file.as_ref(),
        }
    }

    /// Bytes in the file.
    #[allow(clippy::len_without_is_empty, reason = "an answer that can fail is no `is_empty`")]
    pub fn len(&self) -> io::Result<u64> {
        self.backend().len()
    }

    /// Cuts the file, or extends it by zeros.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        self.backend().set_len(len)
    }

    /// Makes content and length durable. An error is final: this `File` then refuses all work.
    pub fn sync(&self) -> io::Result<()> {
        self.alive()?;
        self.fatal(self.backend().sync())
    }

    /// Like `sync`, and drops what is cached, so that the next read tells what the disk has. For recovery.
    pub fn sync_and_forget(&self) -> io::Result<()> {
        self.alive()?;
        self.fatal(self.backend().sync_and_forget())
    }

    /// The first `len` bytes of a sealed file: one that nobody writes or cuts any more.
    pub fn map(&self, len: u64) -> io::Result<Mapped> {
        self.alive()?;
        self.backend().map(len)
    }
}
