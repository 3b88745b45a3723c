//! The machine as the collectors see it where there is no `/proc`: nothing but the clock and what can go wrong.

use runtime::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why a collector did not finish. Samples written before stay in the answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// The machine has nothing of this kind; logged at debug level only.
    #[error("no data: {0}")]
    NoData(String),
    /// The system refused a call.
    #[error("{call} failed: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Helper threads of collectors that wait for a call that does not return; here nobody has any.
#[derive(Debug, Default)]
pub(crate) struct Stuck(AtomicUsize);

impl Stuck {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The clock.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    clock: Clock,
    stuck: Arc<Stuck>,
}

impl Host {
    /// The prefixes of the command line mean nothing here.
    pub(crate) fn new(_proc: &str, _sys: &str, _root: &str, _udev: &str, clock: Clock) -> Host {
        Host { clock, stuck: Arc::default() }
    }

    /// A pass begins; nothing is kept between passes here.
    pub(crate) fn begin_round(&self) {}

    /// Octets of the network are not met in passing here.
    pub(crate) fn octets(&self) -> Option<[f64; 2]> {
        None
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Helper threads that wait for a call that does not return.
    pub(crate) fn stuck(&self) -> &Arc<Stuck> {
        &self.stuck
    }
}
