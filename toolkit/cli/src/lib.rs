//! Command lines, version texts and log lines as upstream prints them.

mod command;
mod config;
mod duration;
mod flag;
mod help;
pub mod log;
mod text;
mod version;

#[cfg(test)]
mod command_tests;

pub use command::{Command, Outcome, Parsed};
pub use duration::parse_go;
pub use flag::Flag;
pub use version::{BuildInfo, version_text};
