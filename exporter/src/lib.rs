//! The host exporter: what this machine's kernel says, as metrics.
//!
//! [`command`] is the command line, [`run`] serves until the shutdown begins. A collector is one file in `collectors/`
//! and one line in the list there; [`Collection`] runs them.

mod attributes;
mod buffers;
mod cache;
mod collection;
mod collectors;
mod crew;
#[cfg(feature = "systemd")]
mod dbus;
mod ethtool;
mod families;
mod flags;
mod generic;
mod host;
mod kept;
mod link_files;
mod links;
mod mounts;
mod netlink;
mod page;
mod processors;
mod program;
#[cfg(all(test, feature = "systemd"))]
mod reference_tests;
mod reload;
mod sandbox;
mod service;
#[cfg(test)]
mod testing;

pub use collection::{Collection, SelectError};
pub use collectors::{StartError, collector_names};
pub use families::Families;
pub use flags::command;
pub use program::main;
pub use service::{Environment, run};
