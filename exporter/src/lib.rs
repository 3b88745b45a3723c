//! The host exporter: what this machine's kernel says, as metrics.
//!
//! [`command`] is the command line, [`run`] serves until the shutdown begins. A collector is one file in `collectors/`
//! and one line in the list there; [`Collection`] runs them. Where there is no Linux, `elsewhere/` has a few collectors
//! and the parts that they need.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "what only collectors of Linux use"))]

#[cfg(target_os = "linux")]
mod attributes;
#[cfg(target_os = "linux")]
mod buffers;
mod cache;
mod collection;
mod collectors;
mod crew;
#[cfg(all(feature = "systemd", target_os = "linux"))]
mod dbus;
#[cfg(target_os = "linux")]
mod ethtool;
mod families;
mod flags;
#[cfg(target_os = "linux")]
mod generic;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere/host.rs")]
mod host;
#[cfg(target_os = "linux")]
mod kept;
#[cfg(target_os = "linux")]
mod link_files;
#[cfg(target_os = "linux")]
mod links;
#[cfg(target_os = "linux")]
mod mounts;
#[cfg(target_os = "linux")]
mod netlink;
mod page;
#[cfg(target_os = "linux")]
mod processors;
mod program;
#[cfg(all(test, feature = "systemd"))]
mod reference_tests;
mod reload;
#[cfg_attr(not(target_os = "linux"), path = "elsewhere/sandbox.rs")]
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
