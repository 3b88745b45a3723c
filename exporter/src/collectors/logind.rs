//! Sessions by seat and kind: D-Bus `org.freedesktop.login1`, see `org.freedesktop.login1(5)`.
//!
//! Every combination of the known words is shown, so that a session that ends leaves a zero behind.

use super::{Collector, Gather, Settings, StartError, no_flags};
use crate::dbus::{Address, Bus, Service, body};
use crate::families::{Families, Kind};
use crate::host::{Failure, Host};
use std::collections::BTreeMap;
use zbus::OwnedObjectPath;

pub(super) const COLLECTOR: Collector =
    Collector { name: "logind", enabled: false, flags: no_flags, deprecated: &[], build };

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const SESSION: &str = "org.freedesktop.login1.Session";
const REMOTE: [&str; 2] = ["true", "false"];
/// A word that is none of these counts as the first.
const KINDS: [&str; 7] = ["other", "unspecified", "tty", "x11", "wayland", "mir", "web"];
const CLASSES: [&str; 5] = ["other", "user", "greeter", "lock-screen", "background"];

struct Logind {
    bus: Bus,
}

fn build(settings: &Settings<'_>) -> Result<Box<dyn Gather>, StartError> {
    Ok(Box::new(Logind { bus: Bus::new(vec![Address::System], settings.host.clock().clone()) }))
}

/// Seat, remote, type and class of a session.
type Session = (String, &'static str, &'static str, &'static str);

#[derive(Debug, Default)]
struct Sessions {
    seats: Vec<String>,
    counts: BTreeMap<Session, u64>,
}

impl Gather for Logind {
    fn gather(&self, _host: &Host, out: &mut Families) -> Result<(), Failure> {
        show(&self.bus.with(NAME, ask)?, out);
        Ok(())
    }
}

async fn ask(service: Service) -> Result<Sessions, Failure> {
    let seats: Vec<(String, OwnedObjectPath)> = body(&service.call(PATH, MANAGER, "ListSeats", &()).await?)?;
    // Sessions from afar have no seat.
    let seats = seats.into_iter().map(|(seat, _)| seat).chain([String::new()]).collect();
    let mut sessions = Sessions { seats, counts: BTreeMap::new() };
    let rows: Vec<(String, u32, String, String, OwnedObjectPath)> =
        body(&service.call(PATH, MANAGER, "ListSessions", &()).await?)?;
    for (id, _, _, seat, path) in rows {
        match session(&service, seat, path.as_str()).await {
            Ok(session) => *sessions.counts.entry(session).or_default() += 1,
            Err(failure) => tracing::debug!(id, err = %failure, "a session is left out"),
        }
    }
    Ok(sessions)
}

async fn session(service: &Service, seat: String, path: &str) -> Result<Session, Failure> {
    let remote: bool = service.property(path, SESSION, "Remote").await?;
    let kind: String = service.property(path, SESSION, "Type").await?;
    let class: String = service.property(path, SESSION, "Class").await?;
    Ok((seat, REMOTE[usize::from(!remote)], known(&KINDS, &kind), known(&CLASSES, &class)))
}

fn known(words: &[&'static str], word: &str) -> &'static str {
    words.iter().find(|known| **known == word).unwrap_or(&words[0])
}

fn show(sessions: &Sessions, out: &mut Families) {
    for seat in &sessions.seats {
        for (remote, kind, class) in combinations() {
            let count = sessions.counts.get(&(seat.clone(), remote, kind, class)).copied().unwrap_or(0);
            let labels = [("seat", seat.as_str()), ("remote", remote), ("type", kind), ("class", class)];
            out.sample(Kind::Gauge, "node_logind_sessions", "Sessions by seat and kind.", &labels, count as f64);
        }
    }
}

fn combinations() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    REMOTE.into_iter().flat_map(|remote| {
        KINDS.into_iter().flat_map(move |kind| CLASSES.into_iter().map(move |class| (remote, kind, class)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_is_shown() {
        let mut sessions = Sessions { seats: vec!["seat0".to_owned(), String::new()], counts: BTreeMap::new() };
        sessions.counts.insert((String::new(), "true", "tty", "user"), 3);
        let mut out = Families::new();
        show(&sessions, &mut out);
        let text = String::from_utf8(out.finish().0).expect("text");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 2 * 2 * 7 * 5);
        let remote = "node_logind_sessions{class=\"user\",remote=\"true\",seat=\"\",type=\"tty\"} 3\n";
        assert!(text.contains(remote), "{text}");
        assert_eq!((known(&KINDS, "vr"), known(&CLASSES, "greeter")), ("other", "greeter"));
    }
}
