//! Reading `--config.file` again: on SIGHUP, and on `POST /-/reload` where `--web.enable-lifecycle` allows it.
//!
//! A file with a mistake changes nothing. Otherwise the collectors are started anew with the new flags, and take the
//! place of the old ones when all of them have started; what they remembered (last readings of processors, open files)
//! begins anew as well. Upstream has no such file and dies of SIGHUP, and so does this program without one.

use crate::flags::{CONFIG, FIXED};
use crate::service::{Environment, Present, Service};
use cli::Parsed;
use metrics::Gauge;
use runtime::Clock;
use std::sync::Arc;

/// Where a reload is asked for.
pub(crate) const PATH: &str = "/-/reload";

/// The way to new flags.
#[derive(Clone)]
pub(crate) struct Reload {
    service: Arc<Service>,
    environment: Environment,
    /// One at a time, so that the last file read is the one in force.
    turn: Arc<tokio::sync::Mutex<()>>,
    successful: Gauge,
    at: Gauge,
}

impl Reload {
    /// Listens to SIGHUP if there is a file to read.
    ///
    /// # Errors
    /// When the system lets no signal be watched.
    pub(crate) fn follow(service: &Arc<Service>, environment: &Environment) -> std::io::Result<Option<Reload>> {
        if service.present.load().parsed.str(CONFIG).is_empty() {
            return Ok(None);
        }
        let reload = Reload::new(service, environment);
        let (mut hangups, own) = (runtime::hangups()?, reload.clone());
        let shutdown = environment.shutdown.clone();
        environment.tasks.spawn_once("reload", async move {
            loop {
                tokio::select! {
                    biased;
                    () = shutdown.wait() => return,
                    () = hangups.next() => {}
                }
                // The log has said why it failed.
                let _ = own.now().await;
            }
        });
        Ok(Some(reload))
    }

    pub(crate) fn new(service: &Arc<Service>, environment: &Environment) -> Reload {
        let (own, environment) = (&service.own, environment.clone());
        let help = "Whether the file of flags could be read when that was asked for last.";
        let successful = own.gauge("narthex_exporter_config_last_reload_successful", help);
        let help = "When the file of flags was read last without a mistake, in Unix time.";
        let at = own.gauge("narthex_exporter_config_last_reload_success_timestamp_seconds", help);
        successful.set(1.0);
        at.set(seconds(&environment.clock));
        Reload { service: service.clone(), environment, turn: Arc::default(), successful, at }
    }

    /// Reads the file and puts what it says in force.
    ///
    /// # Errors
    /// What is wrong with it; then everything stays as it was.
    pub(crate) async fn now(&self) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        let before = self.service.present.load_full();
        let clock = self.environment.clock.clone();
        let old = before.parsed.clone();
        let read = self.environment.tasks.blocking("reload", move || present(&old, &clock)).await;
        let result = read.unwrap_or_else(|panicked| Err(panicked.to_string()));
        self.successful.set(f64::from(u8::from(result.is_ok())));
        let path = before.parsed.str(CONFIG);
        match result {
            Err(error) => {
                tracing::error!(err = error, file = path, "flags were not read again, everything stays as it was");
                Err(error)
            }
            Ok(new) => {
                self.at.set(seconds(&self.environment.clock));
                match new {
                    None => tracing::info!(file = path, "flags were read again, nothing has changed"),
                    Some(new) => {
                        tell(&before, &new);
                        self.service.present.store(Arc::new(new));
                    }
                }
                Ok(())
            }
        }
    }
}

fn seconds(clock: &Clock) -> f64 {
    clock.unix_ms() as f64 / 1000.0
}

/// What the file asks for now; none when it is what was asked for before.
fn present(old: &Parsed, clock: &Clock) -> Result<Option<Present>, String> {
    let new = old.again()?;
    if old.differing(&new).next().is_none() {
        return Ok(None);
    }
    Present::new(new, clock).map(Some).map_err(|error| error.to_string())
}

fn tell(before: &Present, new: &Present) {
    let (fixed, changed): (Vec<&str>, Vec<&str>) =
        before.parsed.differing(&new.parsed).partition(|flag| FIXED.contains(flag));
    for flag in fixed {
        tracing::warn!(flag, "this flag has changed and cannot change while the program runs; restart it");
    }
    let stuck = before.collection.stuck();
    if stuck > 0 {
        tracing::warn!(stuck, "threads still wait for collectors of the old flags; they end when those return");
    }
    tracing::info!(changed = changed.join(","), "flags were read again");
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
