//! The queue between changes and the log: records in order, who waits for them, and how to take them back.
//!
//! All that is queued while one write is under way becomes the next write, so that many pushes share one sync.

use crate::{record::Record, store::Undo};
use std::sync::Arc;
use tokio::sync::oneshot;

/// A change could not be made durable and was taken back.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the change could not be written and was not made: {0}")]
pub(crate) struct JournalError(pub(crate) Arc<str>);

/// Records that wait to be written.
#[derive(Debug)]
pub(crate) struct Journal {
    /// Number of the next record.
    next: u64,
    batch: Batch,
}

/// Records written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Framed records.
    pub(crate) bytes: Vec<u8>,
    /// Number of the first one.
    pub(crate) first: u64,
    pub(crate) undo: Vec<Undo>,
    waiters: Vec<oneshot::Sender<Result<(), JournalError>>>,
}

impl Batch {
    pub(crate) fn answer(self, result: &Result<(), JournalError>) {
        for waiter in self.waiters {
            // Who went away does not care.
            let _ = waiter.send(result.clone());
        }
    }
}

impl Journal {
    /// An empty queue whose first record gets number `next`.
    pub(crate) fn new(next: u64) -> Self {
        Self { next, batch: Batch { first: next, ..Batch::default() } }
    }

    /// Queues a change that was made just now.
    pub(crate) fn queue(&mut self, record: &Record, undo: Vec<Undo>) -> Wait {
        crate::frame::put(&mut self.batch.bytes, self.next, |out| record.put(out));
        self.next += 1;
        self.batch.undo.extend(undo);
        let (sender, receiver) = oneshot::channel();
        self.batch.waiters.push(sender);
        Wait(receiver)
    }

    /// A wait for all that was queued so far.
    pub(crate) fn barrier(&mut self) -> Wait {
        let (sender, receiver) = oneshot::channel();
        self.batch.waiters.push(sender);
        Wait(receiver)
    }

    /// Number of the last record queued so far.
    pub(crate) fn last(&self) -> u64 {
        self.next - 1
    }

    /// What is queued, if anything.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        if self.batch.waiters.is_empty() {
            return None;
        }
        Some(std::mem::replace(&mut self.batch, Batch { first: self.next, ..Batch::default() }))
    }

    /// Numbers start again at that of a batch whose changes, and all later ones, are taken back.
    pub(crate) fn rewind(&mut self, batch: &Batch) {
        self.next = batch.first;
        self.batch.first = batch.first;
    }
}

/// The wait for a change to be durable.
#[derive(Debug)]
pub(crate) struct Wait(oneshot::Receiver<Result<(), JournalError>>);

impl Wait {
    /// Waits, or does not when there is nothing to wait for.
    pub(crate) async fn durable(wait: Option<Self>) -> Result<(), JournalError> {
        match wait {
            None => Ok(()),
            Some(Self(receiver)) => {
                receiver.await.unwrap_or_else(|_| Err(JournalError("the gateway is stopping".into())))
            }
        }
    }
}
