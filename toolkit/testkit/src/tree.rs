//! Simulated folders: names as seen, names as durable, and the operations between the two.

use std::collections::BTreeMap;

use crate::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Folder,
    File(u64),
}

#[derive(Clone, Debug)]
enum Change {
    Link(String, Node),
    Unlink(String),
    Rename(String, String, Node),
}

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

impl Change {
    fn touches(&self, dir: &str) -> bool {
        match self {
            Change::Link(path, _) | Change::Unlink(path) => parent(path) == dir,
            Change::Rename(from, to, _) => parent(from) == dir || parent(to) == dir,
        }
    }
}

type Names = BTreeMap<String, Node>;

/// Applies a change whole: a rename is never half done.
fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Link(path, node) => drop(names.insert(path.clone(), *node)),
        Change::Unlink(path) => drop(names.remove(path)),
        Change::Rename(from, to, node) => {
            let inside = format!("{from}/");
            let moved: Vec<String> = names.keys().filter(|path| path.starts_with(&inside)).cloned().collect();
            for path in moved {
                if let Some(child) = names.remove(&path) {
                    names.insert(format!("{to}/{}", &path[inside.len()..]), child);
                }
            }
            names.remove(from);
            names.insert(to.clone(), *node);
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    seen: Names,
    durable: Names,
    pending: Vec<Change>,
}

impl Tree {
    pub(crate) fn get(&self, path: &str) -> Option<Node> {
        if path.is_empty() { Some(Node::Folder) } else { self.seen.get(path).copied() }
    }

    pub(crate) fn children(&self, dir: &str) -> Vec<String> {
        let names = self.seen.keys().filter(|path| parent(path) == dir);
        names.map(|path| path.rsplit('/').next().unwrap_or(path).to_owned()).collect()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.seen, &change);
        self.pending.push(change);
    }

    pub(crate) fn link(&mut self, path: &str, node: Node) {
        self.change(Change::Link(path.to_owned(), node));
    }

    pub(crate) fn unlink(&mut self, path: &str) {
        self.change(Change::Unlink(path.to_owned()));
    }

    pub(crate) fn rename(&mut self, from: &str, to: &str, node: Node) {
        self.change(Change::Rename(from.to_owned(), to.to_owned(), node));
    }

    pub(crate) fn sync(&mut self, dir: &str) {
        for change in std::mem::take(&mut self.pending) {
            if change.touches(dir) {
                apply(&mut self.durable, &change);
            } else {
                self.pending.push(change);
            }
        }
    }

    /// Keeps a prefix of the pending changes, or any subset of them.
    pub(crate) fn power_cut(&mut self, percent: u64, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let prefix = rng.chance(50).then(|| rng.below(pending.len() + 1));
        for (index, change) in pending.iter().enumerate() {
            if prefix.map_or_else(|| rng.chance(percent), |end| index < end) {
                apply(&mut self.durable, change);
            }
        }
        // What lies in a folder that is not there cannot be reached. Parents sort before their children.
        let mut reachable = Names::new();
        for (path, node) in &self.durable {
            let dir = parent(path);
            if dir.is_empty() || reachable.get(dir) == Some(&Node::Folder) {
                reachable.insert(path.clone(), *node);
            }
        }
        self.durable = reachable;
        self.seen.clone_from(&self.durable);
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = u64> {
        self.seen.values().filter_map(|node| if let Node::File(id) = node { Some(*id) } else { None })
    }
}
