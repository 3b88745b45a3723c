//! `--security.sandbox` where the kernel is not Linux: not possible.

use cli::Parsed;
use std::path::PathBuf;

/// Why the process was not restricted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SandboxError {
    #[error("landlock and seccomp are Linux's alone")]
    Elsewhere,
}

/// What would stay possible.
#[derive(Debug)]
pub(crate) struct Plan;

impl Plan {
    /// Nothing is asked for.
    pub(crate) fn new(_: &Parsed, _: &[PathBuf], _: &[PathBuf]) -> Plan {
        Plan
    }

    /// `off` does nothing, `on` warns, `strict` fails.
    pub(crate) fn apply(&self, mode: &str) -> Result<(), SandboxError> {
        match mode {
            "off" => Ok(()),
            "strict" => Err(SandboxError::Elsewhere),
            _ => {
                tracing::warn!(err = %SandboxError::Elsewhere, "the process is not restricted");
                Ok(())
            }
        }
    }
}
