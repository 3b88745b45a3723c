//! Fakes for tests: a simulated disk and seeded numbers.

mod inode;
mod rng;
mod sim_disk;
mod tree;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod log_tests;

pub use rng::Rng;
pub use sim_disk::{Fault, SimDisk};
