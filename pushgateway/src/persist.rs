//! Who writes the journal.

use crate::{Environment, gateway::Gateway};
use cli::Parsed;
use runtime::Tasks;
use std::sync::Arc;

/// Writes what changes queue.
#[derive(Debug)]
pub(crate) struct Committer {}

/// Reads the persistence file.
pub(crate) async fn open(
    _gateway: &Arc<Gateway>,
    _parsed: &Parsed,
    _env: &Environment,
) -> anyhow::Result<Option<Committer>> {
    Ok(None)
}

impl Committer {
    pub(crate) fn spawn(&self, _tasks: &Tasks) {}
    pub(crate) async fn finish(self) {}
}
