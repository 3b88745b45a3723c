//! A disk in memory that can lose what was not synced, run full, fail and crash, all decided by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runtime::{Backend, Disk, FileBackend, LockGuard, Mapped, Open, Space};

use crate::inode::Inode;
use crate::rng::Rng;
use crate::tree::{Node, Tree, parent};

/// Largest simulated file: a wild length is a bug of the code under test.
const MAX_FILE: u64 = 1 << 30;

/// Something that goes wrong. `at` counts operations from 0 as [`SimDisk::operations`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends during operation `at`; a write leaves a prefix.
    Crash(u64),
    /// Operation `at` fails with EIO and does nothing.
    Io(u64),
    /// A write at operation `at` takes only some of its bytes.
    Short(u64),
    /// A write at operation `at` takes some of its bytes and fails with EIO.
    Torn(u64),
    /// A sync at operation `at` fails, and the kernel forgets what it should have written.
    Sync(u64),
    /// The disk takes this many more bytes, then answers ENOSPC.
    Full(u64),
}

/// A simulated disk; clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    rng: Rng,
    inodes: BTreeMap<u64, Inode>,
    next: u64,
    tree: Tree,
    locks: BTreeSet<String>,
    /// Raised by a kill or cut: handles of an earlier life are dead.
    life: u64,
    crashed: bool,
    operations: u64,
    faults: Vec<Fault>,
    room: Option<u64>,
}

/// What a fault makes of an operation.
#[derive(PartialEq)]
enum Fate {
    Well,
    Crash,
    Short,
    Torn,
    Sync,
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has ended")
}

fn index(at: u64) -> io::Result<usize> {
    if at > MAX_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(at as usize)
}

impl State {
    /// Counts an operation and decides whether a fault meets it.
    fn step(&mut self, life: u64) -> io::Result<Fate> {
        if self.crashed || life != self.life {
            return Err(crashed());
        }
        let now = self.operations;
        self.operations += 1;
        for fault in &self.faults {
            match *fault {
                Fault::Crash(at) if at == now => {
                    self.crashed = true;
                    return Ok(Fate::Crash);
                }
                Fault::Io(at) if at == now => return Err(eio()),
                Fault::Short(at) if at == now => return Ok(Fate::Short),
                Fault::Torn(at) if at == now => return Ok(Fate::Torn),
                Fault::Sync(at) if at == now => return Ok(Fate::Sync),
                _ => {}
            }
        }
        Ok(Fate::Well)
    }

    /// Like `step`, for operations that either happen or do not: a crash may fall on either side.
    fn step_whole(&mut self, life: u64, act: impl FnOnce(&mut State) -> io::Result<()>) -> io::Result<()> {
        match self.step(life)? {
            Fate::Crash => {
                if self.rng.chance(50) {
                    // Nobody is left to see the outcome.
                    let _ = act(self);
                }
                Err(crashed())
            }
            _ => act(self),
        }
    }

    fn inode(&mut self, id: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(crashed)
    }

    fn folder(&self, dir: &str) -> io::Result<()> {
        match self.tree.get(dir) {
            Some(Node::Folder) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open(&mut self, name: &str, how: Open) -> io::Result<u64> {
        match (self.tree.get(name), how) {
            (Some(Node::Folder), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(id)), Open::Create) => {
                self.inode(id)?.set_len(0);
                Ok(id)
            }
            (Some(Node::File(id)), _) => Ok(id),
            (None, Open::Create) => {
                self.folder(parent(name))?;
                let id = self.next;
                self.next += 1;
                self.inodes.insert(id, Inode::default());
                self.tree.link(name, Node::File(id));
                Ok(id)
            }
            (None, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let node = self.tree.get(from).filter(|_| !from.is_empty()).ok_or(io::ErrorKind::NotFound)?;
        self.folder(parent(to))?;
        if to.starts_with(&format!("{from}/")) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (node, self.tree.get(to)) {
            (Node::File(_), Some(Node::Folder)) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Folder, Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Folder, Some(Node::Folder)) if from != to && !self.tree.children(to).is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            _ => {}
        }
        if from != to {
            self.tree.rename(from, to, node);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match self.tree.get(name) {
            _ if name.is_empty() => return Err(io::ErrorKind::ResourceBusy.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(Node::Folder) if !self.tree.children(name).is_empty() => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Some(_) => self.tree.unlink(name),
        }
        Ok(())
    }

    fn write(&mut self, life: u64, id: u64, at: u64, bytes: &[u8]) -> io::Result<usize> {
        let fate = self.step(life)?;
        let start = index(at)?;
        index(at + bytes.len() as u64)?;
        let mut take = bytes.len();
        if fate != Fate::Well && fate != Fate::Sync {
            // At least one byte of a short write, as the kernel does; a torn or interrupted one may leave none.
            take = if fate == Fate::Short { 1 + self.rng.below(take) } else { self.rng.below(take + 1) };
            take = take.min(bytes.len());
        }
        if let Some(room) = &mut self.room {
            if *room == 0 && take > 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            take = take.min(usize::try_from(*room).unwrap_or(usize::MAX));
            *room -= take as u64;
        }
        self.inode(id)?.write(start, &bytes[..take]);
        match fate {
            Fate::Crash => Err(crashed()),
            Fate::Torn => Err(eio()),
            _ => Ok(take),
        }
    }

    fn sync(&mut self, life: u64, id: u64, forget: bool) -> io::Result<()> {
        let fate = self.step(life)?;
        let inode = self.inode(id)?;
        match fate {
            // The power cut that may follow decides how much of it had been written.
            Fate::Crash => return Err(crashed()),
            Fate::Sync => {
                inode.forget_dirt();
                return Err(eio());
            }
            _ => inode.sync(),
        }
        if forget {
            inode.drop_cache();
        }
        Ok(())
    }

    fn restart(&mut self) {
        self.life += 1;
        self.crashed = false;
        self.locks.clear();
        self.faults.clear();
        self.room = None;
        for inode in self.inodes.values_mut() {
            inode.sealed = false;
        }
    }
}

impl SimDisk {
    /// An empty disk; `seed` decides what faults leave behind.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            rng: Rng::new(seed),
            inodes: BTreeMap::new(),
            next: 1,
            tree: Tree::default(),
            locks: BTreeSet::new(),
            life: 0,
            crashed: false,
            operations: 0,
            faults: Vec::new(),
            room: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of the code under test must not hide behind a second one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as programs use it, for the current life; after a kill or power cut ask again.
    pub fn disk(&self) -> Disk {
        Disk::with_backend(Arc::new(Life { disk: self.clone(), life: self.state().life }))
    }

    /// Another disk in the same state with the same handles dead, for trying several ends of one run.
    pub fn fork(&self) -> SimDisk {
        let state = self.state();
        let copy = SimDisk::new(0);
        {
            let mut to = copy.state();
            to.rng = state.rng.clone();
            to.inodes.clone_from(&state.inodes);
            to.next = state.next;
            to.tree = state.tree.clone();
            to.operations = state.operations;
        }
        copy
    }

    /// Adds a fault.
    pub fn inject(&self, fault: Fault) {
        let mut state = self.state();
        match fault {
            Fault::Full(bytes) => state.room = Some(bytes),
            other => state.faults.push(other),
        }
    }

    /// Takes all faults away; room is back.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.room = None;
    }

    /// Operations so far: every open, read, write, length change, sync, rename, removal and new folder.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Whether a [`Fault::Crash`] happened and neither kill nor power cut followed.
    pub fn is_crashed(&self) -> bool {
        self.state().crashed
    }

    /// The process ends, the machine runs on: what was written stays, synced or not, and is as dirty as before.
    pub fn kill(&self) {
        self.state().restart();
    }

    /// The machine loses power: of what was not synced, `seed` decides which sectors, lengths and names are kept.
    pub fn power_cut(&self, seed: u64) {
        let mut rng = Rng::new(seed);
        let mut state = self.state();
        let percent = [0, 10, 50, 90, 100][rng.below(5)];
        state.tree.power_cut(percent, &mut rng);
        let live: BTreeSet<u64> = state.tree.files().collect();
        state.inodes.retain(|id, _| live.contains(id));
        for inode in state.inodes.values_mut() {
            inode.power_cut(percent, &mut rng);
        }
        state.restart();
    }

    /// Flips one bit of a file, in the cache and on the disk; false when there is no such file or bit.
    pub fn flip_bit(&self, name: &str, bit: usize) -> bool {
        let mut state = self.state();
        let Some(Node::File(id)) = state.tree.get(name) else { return false };
        match state.inodes.get_mut(&id) {
            Some(inode) if bit / 8 < inode.seen.len() => {
                inode.flip_bit(bit);
                true
            }
            _ => false,
        }
    }
}

/// The disk as one process sees it.
struct Life {
    disk: SimDisk,
    life: u64,
}

fn check(name: &str) -> io::Result<()> {
    let plain = name.is_empty() || name.split('/').all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
    if plain { Ok(()) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

impl Backend for Life {
    fn open(&self, name: &str, how: Open) -> io::Result<Box<dyn FileBackend>> {
        check(name)?;
        let mut id = 0;
        self.disk.state().step_whole(self.life, |state| {
            id = state.open(name, how)?;
            Ok(())
        })?;
        Ok(Box::new(SimFile { disk: self.disk.clone(), life: self.life, id, writable: how != Open::Read }))
    }

    fn create_dir(&self, name: &str) -> io::Result<()> {
        check(name)?;
        self.disk.state().step_whole(self.life, |state| {
            let ends = name.match_indices('/').map(|(at, _)| at).chain([name.len()]);
            for path in ends.map(|end| &name[..end]) {
                match state.tree.get(path) {
                    Some(Node::Folder) => {}
                    Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                    None => state.tree.link(path, Node::Folder),
                }
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        check(from)?;
        check(to)?;
        self.disk.state().step_whole(self.life, |state| state.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check(name)?;
        self.disk.state().step_whole(self.life, |state| state.remove(name))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        check(dir)?;
        let mut state = self.disk.state();
        state.step_whole(self.life, |state| state.folder(dir))?;
        let mut names = state.tree.children(dir);
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        check(dir)?;
        let mut state = self.disk.state();
        match state.step(self.life)? {
            Fate::Crash => Err(crashed()),
            Fate::Sync => Err(eio()),
            _ => {
                state.folder(dir)?;
                state.tree.sync(dir);
                Ok(())
            }
        }
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.disk.state();
        let used: u64 = state.inodes.values().map(|inode| inode.seen.len() as u64).sum();
        let available = state.room.unwrap_or(MAX_FILE);
        Ok(Space { total: used + available, available })
    }

    fn lock(&self, name: &str) -> io::Result<LockGuard> {
        check(name)?;
        let mut state = self.disk.state();
        state.step_whole(self.life, |state| {
            if state.tree.get(name).is_none() {
                state.open(name, Open::Create)?;
            }
            if state.locks.insert(name.to_owned()) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        })?;
        Ok(LockGuard::new(Held { disk: self.disk.clone(), life: self.life, name: name.to_owned() }))
    }
}

/// A lock of one life; a later life has locks of its own.
struct Held {
    disk: SimDisk,
    life: u64,
    name: String,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.name);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    life: u64,
    id: u64,
    writable: bool,
}

impl SimFile {
    fn may_write(&self) -> io::Result<()> {
        // EBADF, as a descriptor opened for reading answers.
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(9)) }
    }
}

impl FileBackend for SimFile {
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<usize> {
        self.may_write()?;
        self.disk.state().write(self.life, self.id, at, bytes)
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.state();
        if state.step(self.life)? == Fate::Crash {
            return Err(crashed());
        }
        let inode = state.inode(self.id)?;
        let start = usize::try_from(at).unwrap_or(usize::MAX).min(inode.seen.len());
        let count = into.len().min(inode.seen.len() - start);
        into[..count].copy_from_slice(&inode.seen[start..start + count]);
        Ok(count)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        if state.crashed || state.life != self.life {
            return Err(crashed());
        }
        Ok(state.inode(self.id)?.seen.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        let len = index(len)?;
        self.disk.state().step_whole(self.life, |state| {
            state.inode(self.id)?.set_len(len);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(self.life, self.id, false)
    }

    fn sync_and_forget(&self) -> io::Result<()> {
        self.disk.state().sync(self.life, self.id, true)
    }

    fn map(&self, len: u64) -> io::Result<Mapped> {
        let mut state = self.disk.state();
        if state.step(self.life)? == Fate::Crash {
            return Err(crashed());
        }
        let inode = state.inode(self.id)?;
        let len = index(len)?;
        let bytes = inode.seen.get(..len).ok_or(io::ErrorKind::UnexpectedEof)?.to_vec();
        inode.sealed = true;
        Ok(Mapped::owned(bytes))
    }
}
