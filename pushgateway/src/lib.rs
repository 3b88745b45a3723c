//! A cache of pushed series for jobs that do not live long enough to be scraped.
//!
//! Boundaries are upstream's: routes, bodies, refusals, exposition, JSON. Inside, a push is checked against an index of
//! names and series, rendered once, written to a journal, and answered when that is on the disk.

mod aggregate;
mod api;
mod batch;
mod body;
mod change;
mod expose;
mod flags;
mod frame;
mod gateway;
mod gob;
mod graves;
mod gzip;
mod http;
mod intake;
mod journal;
mod key;
mod line;
mod lines;
mod log;
#[cfg(test)]
mod options_tests;
mod own;
mod packed;
mod page;
mod persist;
pub mod push;
mod record;
mod replicate;
mod route;
#[cfg(test)]
mod secure_tests;
#[cfg(test)]
mod served;
mod service;
mod store;
mod tokens;

pub use flags::command;
pub use key::{Key, PathError};
pub use service::{Bound, Environment, bind, main, run};
pub use store::{Group, Refusal, Store};
