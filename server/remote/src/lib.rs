//! Series from and for other servers: the receiver of remote write 1.0 and 2.0, remote read, and the
//! import of exposition text.
//!
//! Bytes in, status and text out: nothing here knows HTTP, a socket or a clock. Hostile bytes cost no more memory than
//! [`Limits`] allows. Truth: the remote write specifications and `prompb` of release 3.14, and the answers of a running
//! 3.5. What this crate leaves out: sending, which needs a log to follow.

mod histogram;
mod import;
mod pieces;
mod read;
mod receive;
mod request;
mod xor;

pub use import::{Import, ImportError, Imported};
pub use read::{Kind, Read, ReadFailure};
pub use receive::{Limits, Message, Outcome, Written, accept, receive};

#[cfg(test)]
mod encode;
