//! What a mechanism must say of itself.

use crate::{Context, Group};
use metrics::Registry;
use runtime::Clock;
use serde::Deserialize;
use std::{fmt::Debug, future::Future, path::Path};

/// A way to find targets: the type of one entry of its list in the configuration.
///
/// Deserialized with `deny_unknown_fields`, keys that may be null as `Option`. What can be decided without I/O belongs
/// in functions of its own; `run` is the edge.
pub(crate) trait Mechanism:
    Clone + Debug + PartialEq + for<'de> Deserialize<'de> + Send + Sync + 'static
{
    /// Its key in a scrape configuration. Without `_sd_configs` it is the mechanism's name in metrics.
    const KEY: &'static str;
    /// One sentence for the reference.
    const SUMMARY: &'static str;
    /// Its own keys, for the reference.
    const KEYS: &'static [Key];
    /// The labels it adds to targets, for the reference.
    const LABELS: &'static [MetaLabel];
    /// Whether it takes the keys of the HTTP client section beside its own.
    const CLIENT: bool;
    /// Instruments of its own, made once for a process.
    type Metrics: Clone + Send + Sync + 'static;

    /// Registers the instruments.
    fn metrics(registry: &Registry, clock: &Clock) -> Self::Metrics;

    /// Checks what the types cannot say, and makes relative paths start at the folder of the file.
    ///
    /// # Errors
    /// What is wrong and what to change, in upstream's words where it has some.
    fn check(&mut self, folder: &Path) -> Result<(), String>;

    /// The group of a mechanism that has nothing to find; `place` is the position in the list. Others answer none.
    fn fixed(&self, _place: usize) -> Option<Group> {
        None
    }

    /// Finds targets until it is dropped, and tells changes through `context`. A failure is logged and counted, leaves
    /// the last groups as they are, and is tried again.
    fn run(self, context: Context, metrics: Self::Metrics) -> impl Future<Output = ()> + Send;
}

/// A key of a mechanism's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What holds when it is absent; `required` when it must not be.
    pub default: &'static str,
    /// What it means.
    pub text: &'static str,
}

/// A label that a mechanism adds to its targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaLabel {
    /// Its name; `NAME` in it stands for what the source calls something.
    pub name: &'static str,
    /// What its value is.
    pub text: &'static str,
}

/// What the reference shows of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its key in a scrape configuration.
    pub key: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its own keys.
    pub keys: &'static [Key],
    /// The labels it adds to targets.
    pub labels: &'static [MetaLabel],
    /// Whether it takes the keys of the HTTP client section as well.
    pub client: bool,
}

impl Description {
    pub(crate) const fn of<M: Mechanism>() -> Self {
        Self { key: M::KEY, summary: M::SUMMARY, keys: M::KEYS, labels: M::LABELS, client: M::CLIENT }
    }
}

/// For the tables of keys.
pub(crate) const fn key(name: &'static str, default: &'static str, text: &'static str) -> Key {
    Key { name, default, text }
}

/// For the tables of labels.
pub(crate) const fn label(name: &'static str, text: &'static str) -> MetaLabel {
    MetaLabel { name, text }
}
