//! An orderly end: one flag that everything watches, and the signals that raise it.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::tasks::Tasks;

/// Whether the process is on its way out; clones share the flag.
#[derive(Clone, Debug)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Shutdown {
        Shutdown::new()
    }
}

impl Shutdown {
    /// A flag that is down.
    pub fn new() -> Shutdown {
        Shutdown(Arc::new(watch::Sender::new(false)))
    }

    /// Raises the flag, for good.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether the flag is up.
    pub fn is_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the flag is up.
    pub async fn wait(&self) {
        // An error would mean that the sender is gone, but it lives in `self`.
        let _ = self.0.subscribe().wait_for(|begun| *begun).await;
    }
}

/// Watches SIGINT and SIGTERM: the first begins the shutdown, the second ends the process with code 1.
pub fn signals(clock: &Clock, shutdown: &Shutdown, tasks: &Tasks) -> io::Result<()> {
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut terminations = signal(SignalKind::terminate())?;
    let (clock, shutdown) = (clock.clone(), shutdown.clone());
    tasks.spawn_watch("signals", async move {
        let name = either(&mut interrupts, &mut terminations).await;
        tracing::warn!(signal = name, "shutting down");
        let begun = clock.now();
        shutdown.begin();
        let name = either(&mut interrupts, &mut terminations).await;
        let waited = clock.now() - begun;
        tracing::error!(signal = name, after = ?waited, "second signal, leaving at once");
        std::process::exit(1);
    });
    Ok(())
}

async fn either(interrupts: &mut Signal, terminations: &mut Signal) -> &'static str {
    tokio::select! {
        biased;
        _ = interrupts.recv() => "interrupt",
        _ = terminations.recv() => "terminated",
    }
}

/// The SIGHUPs sent to this process, which ask for a reload.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Waits for the next one. Several that came while nobody waited count as one.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

/// Starts to watch SIGHUP, which ends the process no more.
pub fn hangups() -> io::Result<Hangups> {
    Ok(Hangups(signal(SignalKind::hangup())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn wait_ends_for_those_before_and_those_after() {
        let clock = Clock::simulated(0);
        let shutdown = Shutdown::new();
        let tasks = Tasks::new(clock.clone());
        let early = shutdown.clone();
        tasks.spawn_once("early", async move { early.wait().await });
        assert!(clock.timeout(Duration::from_secs(9), shutdown.wait()).await.is_err());
        assert!(!shutdown.is_begun());
        shutdown.clone().begin();
        assert!(shutdown.is_begun());
        shutdown.wait().await;
        assert!(tasks.drain(Duration::from_secs(1)).await.is_empty());
    }

    fn send(signal: &str) {
        let script = format!("kill -{signal} {}", std::process::id());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    }

    #[tokio::test]
    async fn signals_begin_the_shutdown_and_hangups_are_told_apart() {
        let clock = Clock::system();
        let (shutdown, tasks) = (Shutdown::new(), Tasks::new(clock.clone()));
        signals(&clock, &shutdown, &tasks).unwrap();
        let mut reloads = hangups().unwrap();
        let limit = Duration::from_secs(30);
        send("HUP");
        clock.timeout(limit, reloads.next()).await.unwrap();
        assert!(!shutdown.is_begun());
        send("TERM");
        clock.timeout(limit, shutdown.wait()).await.unwrap();
        assert!(tasks.drain(limit).await.is_empty(), "nobody waits for the watch itself");
    }
}
