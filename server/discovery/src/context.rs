//! What a running mechanism has: time, a client, and where its groups go.

use crate::{Group, manager::Inner};
use client::{BuildError, Client, HttpConfig, Options};
use runtime::{Clock, Tasks};
use std::{future::Future, sync::Arc, time::Duration};

/// What one round of asking found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Everything: sources that are not among these are gone.
    All(Vec<Group>),
    /// What these sources have; of others nothing is known.
    Some(Vec<Group>),
}

/// Handed to [`crate::mechanism::Mechanism::run`].
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) manager: Arc<Inner>,
    /// Which of the manager's providers this is.
    pub(crate) provider: u64,
    /// The mechanism's name in metrics and logs.
    pub(crate) name: &'static str,
}

impl Context {
    pub(crate) fn clock(&self) -> &Clock {
        &self.manager.environment.clock
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.manager.environment.tasks
    }

    /// A client of the section.
    ///
    /// # Errors
    /// When what is written in the section cannot be used.
    pub(crate) fn client(&self, section: &HttpConfig) -> Result<Client, BuildError> {
        let environment = &self.manager.environment;
        let agent = concat!("Prometheus/", env!("CARGO_PKG_VERSION"));
        let options = Options {
            environment: environment.proxies.clone(),
            idle_per_host: 2,
            ..Options::new(environment.clock.clone(), environment.tasks.clone(), agent)
        };
        Client::new(section.clone(), options)
    }

    /// Tells groups: each replaces the one of its source, one without targets removes it.
    pub(crate) fn send(&self, groups: Vec<Group>) {
        self.manager.take(self.provider, |table| table.merge(groups));
    }

    /// Tells all groups there are: sources that are not among them are removed.
    pub(crate) fn replace(&self, groups: Vec<Group>) {
        self.manager.take(self.provider, |table| table.replace(groups));
    }

    /// Asks `find` for groups now and then again, `every` so long, for ever. What fails is counted and logged.
    pub(crate) async fn refresh<F>(&self, every: Duration, mut find: impl FnMut() -> F + Send)
    where
        F: Future<Output = Result<Found, String>> + Send,
    {
        let counters = &self.manager.counters;
        let (failures, seconds) =
            (counters.refresh_failures.with(&[self.name]), counters.refresh_seconds.with(&[self.name]));
        let mut next = self.clock().now();
        loop {
            let began = self.clock().now();
            match find().await {
                Ok(Found::All(groups)) => self.replace(groups),
                Ok(Found::Some(groups)) => self.send(groups),
                Err(error) => {
                    failures.inc();
                    tracing::error!(discovery = self.name, error, "Unable to refresh target groups");
                }
            }
            seconds.observe((self.clock().now() - began).as_secs_f64());
            // A refresh that took longer than its interval is followed by another one an interval later, not at once.
            next = (next + every).max(self.clock().now());
            self.clock().sleep_until(next).await;
        }
    }
}
