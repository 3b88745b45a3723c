//! Clock, disk, shutdown and supervised tasks: all that a simulation replaces.

mod clock;
mod disk;
mod host;
mod log;
mod mapped;
mod os;
mod shutdown;
mod tasks;

pub use clock::{Clock, Elapsed, Monotonic};
pub use disk::{Backend, Disk, File, FileBackend, LockGuard, Open, Space};
pub use host::host_name;
pub use log::{Log, LogOptions, Recovery};
pub use mapped::Mapped;
pub use shutdown::{Hangups, Shutdown, hangups, signals};
pub use tasks::{OnPanic, Panicked, Task, Tasks};
