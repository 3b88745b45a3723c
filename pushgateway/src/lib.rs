//! A cache of pushed series for jobs that do not live long enough to be scraped.
//!
//! Boundaries are upstream's: routes, bodies, refusals, exposition, JSON. Inside, a push is checked against an index of
//! names and series, rendered once, written to a journal, and answered when that is on the disk.

mod api;
mod batch;
mod body;
mod expose;
mod flags;
mod frame;
mod gateway;
mod gob;
mod gzip;
mod http;
mod journal;
mod key;
mod line;
mod lines;
mod log;
mod own;
mod packed;
mod page;
mod persist;
mod record;
mod route;
mod service;
mod store;

pub use flags::command;
pub use key::{Key, PathError};
pub use service::{Bound, Environment, bind, main, run};
pub use store::{Group, Refusal, Store};
